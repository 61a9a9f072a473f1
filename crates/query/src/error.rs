//! What can go wrong in a query.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

/// A query failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action}")]
pub struct QueryError {
    /// What was being done.
    pub action: String,
    /// Why.
    #[source]
    pub kind: QueryErrorKind,
}

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryErrorKind {
    /// A table could not be opened.
    #[error(transparent)]
    Read(#[from] tables::ReadError),
    /// Refused or failed in the engine.
    #[error(transparent)]
    Engine(#[from] Box<DataFusionError>),
    /// Columns are not of the declared types, or hold nulls where none may be.
    #[error(transparent)]
    Columns(#[from] ArrowError),
    /// Threads, a path or the memory of the machine could not be had.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A statement was given other parameters than it declares.
    #[error("parameters differ: wanted {wanted}; found {found}")]
    Parameters {
        /// What the statement declares.
        wanted: String,
        /// What was given.
        found: String,
    },
}

impl From<DataFusionError> for QueryErrorKind {
    fn from(error: DataFusionError) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl QueryError {
    pub(crate) fn new(action: impl Into<String>, kind: impl Into<QueryErrorKind>) -> Self {
        Self {
            action: action.into(),
            kind: kind.into(),
        }
    }

    /// Whether memory or room for spilling ran out, rather than the data being bad.
    pub fn is_exhausted(&self) -> bool {
        match &self.kind {
            QueryErrorKind::Engine(error) => {
                matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
            }
            _ => false,
        }
    }
}
