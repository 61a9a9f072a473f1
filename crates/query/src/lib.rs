//! The only crate that sees DataFusion: SQL over the project's tables, streamed in a total order.
//!
//! Statements live in `sql/<stage>/`, one file each, and are declared in [`sql`] with what they read
//! and give. Nothing that could differ between machines reaches a result: the number of partitions
//! is fixed, every statement whose rows reach disk ends in a total order, and sums are over integers.
//! Callers see iterators: the asynchronous runtime stays inside.

mod engine;
mod error;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod same_bytes;
pub mod sql;
mod statement;

pub use engine::{Engine, Settings, Stream};
pub use error::{QueryError, QueryErrorKind};
pub use statement::{Joins, Parameter, Relation, Statement};
