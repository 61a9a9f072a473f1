//! Reads safetensors files as anybody could: without our own code.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// A sparse row: columns, and the bits of their values.
pub type SparseRow = Vec<(u32, u32)>;

/// A file of named tensors.
#[derive(Debug)]
pub struct Safetensors {
    header: Value,
    data: Vec<u8>,
}

impl Safetensors {
    /// Reads a file.
    ///
    /// # Panics
    /// If it cannot be read or is damaged.
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).expect("file of tensors can be read");
        let (length, rest) = bytes.split_at(8);
        let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
        let length = usize::try_from(length).expect("a header that fits into memory");
        let (header, data) = rest.split_at(length);
        Self {
            header: serde_json::from_slice(header).expect("a header in JSON"),
            data: data.to_vec(),
        }
    }

    /// The bytes of a tensor of a type, such as `F32`.
    fn bytes(&self, name: &str, kind: &str) -> &[u8] {
        let tensor = &self.header[name];
        assert_eq!(tensor["dtype"], kind, "`{name}` in {:#}", self.header);
        let end = |index: usize| {
            let offset = tensor["data_offsets"][index].as_u64();
            usize::try_from(offset.expect("an offset")).expect("an offset in memory")
        };
        &self.data[end(0)..end(1)]
    }

    /// The rows of a sparse matrix of 32-bit floats: `NAME.indptr`, `NAME.indices`, `NAME.values`.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn rows(&self, name: &str) -> Vec<SparseRow> {
        let four = |name: &str, kind: &str| -> Vec<u32> {
            let (words, _) = self.bytes(name, kind).as_chunks::<4>();
            words.iter().copied().map(u32::from_le_bytes).collect()
        };
        let columns = four(&format!("{name}.indices"), "U32");
        let values = four(&format!("{name}.values"), "F32");
        let (ends, _) = self
            .bytes(&format!("{name}.indptr"), "U64")
            .as_chunks::<8>();
        let ends: Vec<usize> = ends
            .iter()
            .map(|end| usize::try_from(u64::from_le_bytes(*end)).expect("an end in memory"))
            .collect();
        ends.windows(2)
            .map(|pair| {
                let range = pair[0]..pair[1];
                let columns = columns[range.clone()].iter().copied();
                columns.zip(values[range].iter().copied()).collect()
            })
            .collect()
    }
}
