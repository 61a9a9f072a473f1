//! The numbers that a network's parameters depend on, as a tensor.

use tensors::{TensorError, Tensors};

use super::windows::Span;
use crate::recommender::LoadError;

const NAME: &str = "shape";

/// Adds the numbers.
///
/// # Errors
/// If the name is taken.
pub(crate) fn save(tensors: &mut Tensors, numbers: &[usize]) -> Result<(), TensorError> {
    let numbers = numbers.iter().map(|&x| x as u64).collect::<Vec<u64>>();
    tensors.insert_u64(NAME, &[numbers.len()], numbers)
}

/// Takes the numbers.
///
/// # Errors
/// If they are missing, or as many as another version has, or larger than any table.
pub(crate) fn load<const N: usize>(tensors: &Tensors) -> Result<[usize; N], LoadError> {
    let numbers = tensors.u64(NAME)?;
    let narrow = numbers
        .iter()
        .map(|&x| u32::try_from(x).ok().map(|x| x as usize))
        .collect::<Option<Vec<usize>>>();
    narrow
        .and_then(|numbers| <[usize; N]>::try_from(numbers).ok())
        .ok_or_else(misfit)
}

/// A span of the numbers.
///
/// # Errors
/// If they are none.
pub(crate) fn span(length: usize, stride: usize) -> Result<Span, LoadError> {
    match (u32::try_from(length), u32::try_from(stride)) {
        (Ok(length), Ok(stride)) if 0 < stride && stride <= length => Ok(Span { length, stride }),
        _ => Err(misfit()),
    }
}

/// Checks that heads share columns.
///
/// # Errors
/// If they do not.
pub(crate) fn heads(columns: usize, heads: usize) -> Result<(), LoadError> {
    if heads > 0 && columns.is_multiple_of(heads) {
        Ok(())
    } else {
        Err(misfit())
    }
}

fn misfit() -> LoadError {
    LoadError::Sizes {
        left: NAME,
        right: "weights",
    }
}
