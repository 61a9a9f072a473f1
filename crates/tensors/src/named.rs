//! Named tensors and their safetensors files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView, View};
use safetensors::{SafeTensorError, SafeTensors};

use crate::csr::{Csr, CsrError, Float};

/// Tensors by name, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensors(BTreeMap<String, Tensor>);

#[derive(Clone, Debug, PartialEq)]
struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

#[derive(Clone, Debug, PartialEq)]
enum Data {
    F32(Vec<f32>),
    F64(Vec<f64>),
    U32(Vec<u32>),
    U64(Vec<u64>),
}

/// A tensor that could not be stored or found, and why.
#[derive(Debug, thiserror::Error)]
#[error("failed to use `{name}`")]
pub struct TensorError {
    /// Name of the tensor, or path of the file.
    pub name: String,
    /// Why.
    #[source]
    pub kind: TensorErrorKind,
}

/// Why a tensor could not be stored or found.
#[derive(Debug, thiserror::Error)]
pub enum TensorErrorKind {
    /// There is no tensor of this name.
    #[error("no such tensor; there are: {}", list(.known))]
    Missing {
        /// Names that exist.
        known: Vec<String>,
    },
    /// The name is taken.
    #[error("the name is taken")]
    Taken,
    /// The tensor has another type.
    #[error("wanted elements of type {wanted}, found {found}")]
    Type {
        /// Type that was asked for.
        wanted: &'static str,
        /// Type in the file.
        found: String,
    },
    /// The number of elements is not the product of the shape.
    #[error("shape {shape:?} does not hold {n} elements")]
    Shape {
        /// The shape.
        shape: Vec<usize>,
        /// Elements given.
        n: usize,
    },
    /// An element is NaN or infinite.
    #[error("element {at} is not finite")]
    NotFinite {
        /// Its flat position.
        at: usize,
    },
    /// The parts of a sparse matrix do not fit together.
    #[error("not a sparse matrix")]
    Csr(#[from] CsrError),
    /// The file could not be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file is not safetensors, or damaged.
    #[error("damaged safetensors file")]
    Format(#[from] SafeTensorError),
}

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::U64(values) => values.len(),
        }
    }

    fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F64(_) => Dtype::F64,
            Self::U32(_) => Dtype::U32,
            Self::U64(_) => Dtype::U64,
        }
    }

    fn first_not_finite(&self) -> Option<usize> {
        match self {
            Self::F32(values) => values.iter().position(|value| !value.is_finite()),
            Self::F64(values) => values.iter().position(|value| !value.is_finite()),
            Self::U32(_) | Self::U64(_) => None,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(values) => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
            Self::F64(values) => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
            Self::U32(values) => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
            Self::U64(values) => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        }
    }

    fn from_view(view: &TensorView<'_>) -> Result<Self, TensorErrorKind> {
        let bytes = view.data();
        Ok(match view.dtype() {
            Dtype::F32 => Self::F32(elements(bytes, f32::from_le_bytes)),
            Dtype::F64 => Self::F64(elements(bytes, f64::from_le_bytes)),
            Dtype::U32 => Self::U32(elements(bytes, u32::from_le_bytes)),
            Dtype::U64 => Self::U64(elements(bytes, u64::from_le_bytes)),
            other => {
                return Err(TensorErrorKind::Type {
                    wanted: "F32, F64, U32 or U64",
                    found: format!("{other:?}"),
                });
            }
        })
    }
}

fn elements<T, const N: usize>(bytes: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|chunk| read(*chunk)).collect()
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.data.dtype()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        // One tensor at a time while the file is written.
        Cow::Owned(self.data.to_bytes())
    }

    fn data_len(&self) -> usize {
        let width = match self.data {
            Data::F32(_) | Data::U32(_) => 4,
            Data::F64(_) | Data::U64(_) => 8,
        };
        self.data.len() * width
    }
}

impl Tensors {
    /// No tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Shape of a tensor.
    ///
    /// # Errors
    /// If there is no such tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize], TensorError> {
        Ok(&self.tensor(name)?.shape)
    }

    fn insert(&mut self, name: &str, shape: Vec<usize>, data: Data) -> Result<(), TensorError> {
        let n = data.len();
        let holds = shape
            .iter()
            .try_fold(1_usize, |product, &size| product.checked_mul(size));
        let kind = if holds != Some(n) {
            TensorErrorKind::Shape { shape, n }
        } else if let Some(at) = data.first_not_finite() {
            TensorErrorKind::NotFinite { at }
        } else if self.0.contains_key(name) {
            TensorErrorKind::Taken
        } else {
            self.0.insert(name.to_owned(), Tensor { shape, data });
            return Ok(());
        };
        Err(error(name, kind))
    }

    fn tensor(&self, name: &str) -> Result<&Tensor, TensorError> {
        self.0.get(name).ok_or_else(|| {
            let known = self.0.keys().cloned().collect();
            error(name, TensorErrorKind::Missing { known })
        })
    }

    /// Adds a tensor of 32-bit floats.
    ///
    /// # Errors
    /// If the shape does not hold the elements, one is not finite, or the name is taken.
    pub fn insert_f32(
        &mut self,
        name: &str,
        shape: &[usize],
        values: Vec<f32>,
    ) -> Result<(), TensorError> {
        self.insert(name, shape.to_vec(), Data::F32(values))
    }

    /// Adds a tensor of 64-bit floats.
    ///
    /// # Errors
    /// If the shape does not hold the elements, one is not finite, or the name is taken.
    pub fn insert_f64(
        &mut self,
        name: &str,
        shape: &[usize],
        values: Vec<f64>,
    ) -> Result<(), TensorError> {
        self.insert(name, shape.to_vec(), Data::F64(values))
    }

    /// Adds a tensor of 32-bit numbers.
    ///
    /// # Errors
    /// If the shape does not hold the elements or the name is taken.
    pub fn insert_u32(
        &mut self,
        name: &str,
        shape: &[usize],
        values: Vec<u32>,
    ) -> Result<(), TensorError> {
        self.insert(name, shape.to_vec(), Data::U32(values))
    }

    /// Adds a tensor of 64-bit numbers.
    ///
    /// # Errors
    /// If the shape does not hold the elements or the name is taken.
    pub fn insert_u64(
        &mut self,
        name: &str,
        shape: &[usize],
        values: Vec<u64>,
    ) -> Result<(), TensorError> {
        self.insert(name, shape.to_vec(), Data::U64(values))
    }

    /// Elements of a tensor of 32-bit floats, row by row.
    ///
    /// # Errors
    /// If there is no such tensor or it has another type.
    pub fn f32(&self, name: &str) -> Result<&[f32], TensorError> {
        match &self.tensor(name)?.data {
            Data::F32(values) => Ok(values),
            other => Err(wrong_type(name, "F32", other)),
        }
    }

    /// Elements of a tensor of 64-bit floats, row by row.
    ///
    /// # Errors
    /// If there is no such tensor or it has another type.
    pub fn f64(&self, name: &str) -> Result<&[f64], TensorError> {
        match &self.tensor(name)?.data {
            Data::F64(values) => Ok(values),
            other => Err(wrong_type(name, "F64", other)),
        }
    }

    /// Elements of a tensor of 32-bit numbers, row by row.
    ///
    /// # Errors
    /// If there is no such tensor or it has another type.
    pub fn u32(&self, name: &str) -> Result<&[u32], TensorError> {
        match &self.tensor(name)?.data {
            Data::U32(values) => Ok(values),
            other => Err(wrong_type(name, "U32", other)),
        }
    }

    /// Elements of a tensor of 64-bit numbers, row by row.
    ///
    /// # Errors
    /// If there is no such tensor or it has another type.
    pub fn u64(&self, name: &str) -> Result<&[u64], TensorError> {
        match &self.tensor(name)?.data {
            Data::U64(values) => Ok(values),
            other => Err(wrong_type(name, "U64", other)),
        }
    }

    /// Adds a sparse matrix as the tensors `<name>.n_columns`, `.indptr`, `.indices`, `.values`.
    ///
    /// # Errors
    /// If the matrix is damaged or a name is taken.
    pub fn insert_csr(&mut self, name: &str, matrix: &Csr) -> Result<(), TensorError> {
        self.move_csr(name, matrix.clone())
    }

    /// As [`Tensors::insert_csr`], without a copy.
    ///
    /// # Errors
    /// If the matrix is damaged or a name is taken.
    pub fn move_csr(&mut self, name: &str, matrix: Csr) -> Result<(), TensorError> {
        let values = self.insert_structure(name, matrix)?;
        self.insert_f32(&format!("{name}.values"), &[values.len()], values)
    }

    /// As [`Tensors::insert_csr`], for 64-bit floats.
    ///
    /// # Errors
    /// If the matrix is damaged or a name is taken.
    pub fn insert_csr_f64(&mut self, name: &str, matrix: &Csr<f64>) -> Result<(), TensorError> {
        let values = self.insert_structure(name, matrix.clone())?;
        self.insert_f64(&format!("{name}.values"), &[values.len()], values)
    }

    /// A sparse matrix that [`Tensors::insert_csr`] added.
    ///
    /// # Errors
    /// If a part is missing or of another type, or the parts do not fit together.
    pub fn csr(&self, name: &str) -> Result<Csr, TensorError> {
        let values = self.f32(&format!("{name}.values"))?.to_vec();
        self.assemble(name, values)
    }

    /// A sparse matrix that [`Tensors::insert_csr_f64`] added.
    ///
    /// # Errors
    /// If a part is missing or of another type, or the parts do not fit together.
    pub fn csr_f64(&self, name: &str) -> Result<Csr<f64>, TensorError> {
        let values = self.f64(&format!("{name}.values"))?.to_vec();
        self.assemble(name, values)
    }

    /// Adds everything but the values, and returns those.
    fn insert_structure<T: Float>(
        &mut self,
        name: &str,
        matrix: Csr<T>,
    ) -> Result<Vec<T>, TensorError> {
        matrix.check().map_err(|kind| error(name, kind.into()))?;
        let Csr {
            n_columns,
            indptr,
            indices,
            values,
        } = matrix;
        self.insert_u64(&format!("{name}.n_columns"), &[1], vec![n_columns as u64])?;
        self.insert_u64(&format!("{name}.indptr"), &[indptr.len()], indptr)?;
        self.insert_u32(&format!("{name}.indices"), &[indices.len()], indices)?;
        Ok(values)
    }

    fn assemble<T: Float>(&self, name: &str, values: Vec<T>) -> Result<Csr<T>, TensorError> {
        let n_columns = match self.u64(&format!("{name}.n_columns"))? {
            [n] => usize::try_from(*n).unwrap_or(usize::MAX),
            other => {
                let n = other.len();
                let shape = vec![1];
                return Err(error(name, TensorErrorKind::Shape { shape, n }));
            }
        };
        let matrix = Csr {
            n_columns,
            indptr: self.u64(&format!("{name}.indptr"))?.to_vec(),
            indices: self.u32(&format!("{name}.indices"))?.to_vec(),
            values,
        };
        matrix.check().map_err(|kind| error(name, kind.into()))?;
        Ok(matrix)
    }

    /// Writes a safetensors file without metadata; equal tensors give equal bytes.
    ///
    /// # Errors
    /// If the file exists or cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TensorError> {
        let write = || -> Result<(), TensorErrorKind> {
            // The library overwrites, and with a file that its owner alone can read: what is
            // published is never overwritten, and has the permissions of every new file.
            let permissions = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path)?
                .metadata()?
                .permissions();
            let tensors = self.0.iter().map(|(name, tensor)| (name.as_str(), tensor));
            safetensors::serialize_to_file(tensors, None, path)?;
            Ok(std::fs::set_permissions(path, permissions)?)
        };
        write().map_err(|kind| file_error(path, kind))
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    /// If the file is missing, damaged, or holds a type that is not supported or a number that is
    /// not finite.
    pub fn load(path: &Path) -> Result<Self, TensorError> {
        let bytes = std::fs::read(path).map_err(|kind| file_error(path, kind.into()))?;
        let file =
            SafeTensors::deserialize(&bytes).map_err(|kind| file_error(path, kind.into()))?;
        let mut tensors = Self::new();
        for (name, view) in file.iter() {
            let data = Data::from_view(&view).map_err(|kind| error(name, kind))?;
            tensors.insert(name, view.shape().to_vec(), data)?;
        }
        Ok(tensors)
    }
}

impl TensorError {
    /// A tensor that has not the shape that was wanted.
    pub(crate) fn shape(name: &str, wanted: &[usize], n: usize) -> Self {
        let shape = wanted.to_vec();
        error(name, TensorErrorKind::Shape { shape, n })
    }
}

fn error(name: &str, kind: TensorErrorKind) -> TensorError {
    TensorError {
        name: name.to_owned(),
        kind,
    }
}

fn file_error(path: &Path, kind: TensorErrorKind) -> TensorError {
    TensorError {
        name: PathBuf::from(path).display().to_string(),
        kind,
    }
}

fn wrong_type(name: &str, wanted: &'static str, found: &Data) -> TensorError {
    let found = format!("{:?}", found.dtype());
    error(name, TensorErrorKind::Type { wanted, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Tensors {
        let mut tensors = Tensors::new();
        tensors
            .insert_f64("b", &[2, 2], vec![1.0, -2.5, 1e-300, 4.0])
            .unwrap();
        tensors.insert_u32("a", &[3], vec![1, 2, u32::MAX]).unwrap();
        tensors.insert_u64("c.d", &[1], vec![u64::MAX]).unwrap();
        tensors.insert_f32("empty", &[0], Vec::new()).unwrap();
        let matrix = Csr::from_rows(5, [vec![(0, 0.5), (4, 1.5)], vec![]]).unwrap();
        tensors.insert_csr("matrix", &matrix).unwrap();
        let wide = Csr::from_rows(3, [vec![(2, 0.1_f64)]]).unwrap();
        tensors.insert_csr_f64("wide", &wide).unwrap();
        tensors
    }

    #[test]
    fn a_file_gives_back_what_was_saved() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.safetensors");
        example().save(&path).unwrap();
        let loaded = Tensors::load(&path).unwrap();
        assert_eq!(loaded, example());
        assert_eq!(loaded.csr("matrix").unwrap().row(0).0, [0, 4]);
        assert_eq!(loaded.csr_f64("wide").unwrap().values, [0.1]);
        assert_eq!(loaded.shape("b").unwrap(), [2, 2]);
    }

    #[test]
    fn equal_tensors_give_equal_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let bytes: Vec<Vec<u8>> = (0..4)
            .map(|copy| {
                let path = directory.path().join(format!("{copy}.safetensors"));
                example().save(&path).unwrap();
                std::fs::read(path).unwrap()
            })
            .collect();
        assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn wrong_use_is_refused_with_the_name() {
        let mut tensors = example();
        for (result, text) in [
            (tensors.f32("b").map(|_| ()), "found F64"),
            (tensors.f64("nope").map(|_| ()), "there are: `a`"),
            (tensors.csr("b").map(|_| ()), "there are"),
            (tensors.insert_u32("a", &[1], vec![1]), "taken"),
            (tensors.insert_u32("x", &[2], vec![1]), "does not hold 1"),
            (
                tensors.insert_f64("x", &[1], vec![f64::NAN]),
                "element 0 is not finite",
            ),
        ] {
            let kind = result.unwrap_err().kind.to_string();
            assert!(kind.contains(text), "{kind}");
        }
    }

    #[test]
    fn damaged_files_are_refused_and_existing_ones_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.safetensors");
        example().save(&path).unwrap();
        assert!(example().save(&path).is_err());
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(directory.path().join("new"), "").unwrap();
        let new = std::fs::metadata(directory.path().join("new")).unwrap();
        let saved = std::fs::metadata(&path).unwrap();
        assert_eq!(saved.permissions(), new.permissions());
        for cut in [0, 7, 40, bytes.len() - 1] {
            let path = directory.path().join(format!("{cut}.safetensors"));
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(Tensors::load(&path).is_err(), "cut at {cut}");
        }
    }
}
