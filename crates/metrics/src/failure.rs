//! Why a figure is not defined for its arguments.

use std::fmt;

/// Arguments for which a figure has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricError {
    /// A value that is not finite; ranks and means over it would be arbitrary.
    NotFinite {
        /// 0-based position of the value.
        index: usize,
    },
    /// A value outside the range that the figure is defined on.
    OutOfRange {
        /// 0-based position of the value.
        index: usize,
    },
    /// Arguments that should run parallel and do not.
    Length {
        /// Length of the first argument.
        wanted: usize,
        /// Length of the other.
        found: usize,
    },
    /// Both classes are needed and one is empty.
    OneClass,
    /// Nothing to compute a figure from.
    Empty,
}

impl fmt::Display for MetricError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite { index } => write!(f, "value {index} is not finite"),
            Self::OutOfRange { index } => write!(f, "value {index} is out of range"),
            Self::Length { wanted, found } => {
                write!(f, "arguments differ in length: {wanted} and {found}")
            }
            Self::OneClass => write!(f, "one of the two classes is empty"),
            Self::Empty => write!(f, "no values"),
        }
    }
}

impl std::error::Error for MetricError {}

/// Refuses values that are not finite.
pub(crate) fn check_finite(values: &[f64]) -> Result<(), MetricError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(MetricError::NotFinite { index }),
        None => Ok(()),
    }
}

/// Refuses arguments of different lengths.
pub(crate) fn check_length(wanted: usize, found: usize) -> Result<(), MetricError> {
    if wanted == found {
        Ok(())
    } else {
        Err(MetricError::Length { wanted, found })
    }
}
