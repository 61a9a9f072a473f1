//! What can go wrong in a query.

use datafusion::error::DataFusionError;

/// A statement failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action}")]
pub struct QueryError {
    /// What was being done.
    pub action: String,
    /// Why.
    #[source]
    pub source: Box<DataFusionError>,
}

impl QueryError {
    pub(crate) fn new(action: impl Into<String>, source: DataFusionError) -> Self {
        Self {
            action: action.into(),
            source: Box::new(source),
        }
    }
}
