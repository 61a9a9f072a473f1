//! The only crate that sees DataFusion: SQL over the project's tables, streamed in a total order.
//!
//! Statements live in `sql/<stage>/`. Nothing that could differ between machines reaches a result:
//! the number of partitions is fixed, every statement whose rows reach disk ends in a total order,
//! and sums are over integers.

mod engine;
mod error;
pub mod sql;

pub use engine::{Engine, Parameter, Stream};
pub use error::QueryError;
