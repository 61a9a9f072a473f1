//! What a table is, and what can be wrong with a file that claims to hold one.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// One column: the only place where its name and type are written.
#[derive(Debug)]
pub struct Column {
    /// Name on disk.
    pub name: &'static str,
    /// Arrow type.
    pub data_type: fn() -> DataType,
    /// Whether it may hold nulls.
    pub is_nullable: bool,
    /// Meaning, unit, range.
    pub doc: &'static str,
}

/// One table.
#[derive(Debug)]
pub struct Table {
    /// Name; the file is `<name>.parquet`.
    pub name: &'static str,
    /// What a row is, and the sort order.
    pub doc: &'static str,
    /// Columns in order.
    pub columns: &'static [Column],
}

impl Table {
    /// Name of the file inside an artifact.
    pub fn file_name(&self) -> String {
        format!("{}.parquet", self.name)
    }

    /// Arrow schema of the table.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(
            self.columns
                .iter()
                .map(|column| Field::new(column.name, (column.data_type)(), column.is_nullable))
                .collect::<Vec<_>>(),
        ))
    }
}

/// A table could not be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to read table `{table}` at `{}`", path.display())]
pub struct ReadError {
    /// The table.
    pub table: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub kind: ReadErrorKind,
}

/// Why a table could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadErrorKind {
    /// The file could not be opened or read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Not Parquet, or damaged.
    #[error(transparent)]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Damaged inside a page.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// A Parquet file of another table or version.
    #[error("columns differ: wanted {wanted}; found {found}")]
    Schema {
        /// Declared columns.
        wanted: String,
        /// Columns in the file.
        found: String,
    },
    /// A column whose values are not of the declared type.
    #[error("column `{0}` does not hold values of its declared type")]
    Column(&'static str),
    /// A dictionary word outside the enumeration.
    #[error("column `{column}` holds the unknown word `{word}`")]
    Word {
        /// The column.
        column: String,
        /// The word.
        word: String,
    },
}

/// A table could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write table `{table}` at `{}`", path.display())]
pub struct WriteError {
    /// The table.
    pub table: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub kind: WriteErrorKind,
}

/// Why a table could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteErrorKind {
    /// The file could not be created or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Refused by the encoder.
    #[error(transparent)]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Columns of unequal length, or nulls where none may be.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// A batch of another schema.
    #[error("columns differ: wanted {wanted}; found {found}")]
    Schema {
        /// Declared columns.
        wanted: String,
        /// Columns of the batch.
        found: String,
    },
}
