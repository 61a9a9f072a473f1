//! Numbers in bulk: sparse matrices, named tensors and their files.
//!
//! Files are safetensors without metadata, so that equal tensors give equal bytes.

mod csr;
mod named;

pub use csr::{Csr, CsrError, Float};
pub use named::{TensorError, TensorErrorKind, Tensors};
