//! The file of representations that estimators read.

use std::path::Path;

use tensors::{Csr, CsrError, TensorError, Tensors};

/// Rows of length 1, or empty, in two sparse matrices with the same columns: `histories` and
/// `items`, a row per catalogue item.
pub struct Representations {
    histories: Csr,
    items: Csr,
}

impl Representations {
    /// Without rows.
    pub fn new(n_columns: usize) -> Self {
        Self {
            histories: Csr::new(n_columns),
            items: Csr::new(n_columns),
        }
    }

    /// Adds the next history: (column, value), columns ascending.
    ///
    /// # Errors
    /// If columns do not ascend, are out of range, or a value is not finite.
    pub fn push_history(&mut self, row: Vec<(u32, f32)>) -> Result<(), CsrError> {
        self.histories.push_row(row)
    }

    /// Adds the next item: (column, value), columns ascending.
    ///
    /// # Errors
    /// If columns do not ascend, are out of range, or a value is not finite.
    pub fn push_item(&mut self, row: Vec<(u32, f32)>) -> Result<(), CsrError> {
        self.items.push_row(row)
    }

    /// Writes `representations.safetensors` into a directory.
    ///
    /// # Errors
    /// If the file exists or cannot be written.
    pub fn save(self, directory: &Path) -> Result<(), TensorError> {
        let mut tensors = Tensors::new();
        tensors.move_csr("histories", self.histories)?;
        tensors.move_csr("items", self.items)?;
        tensors.save(&directory.join("representations.safetensors"))
    }
}
