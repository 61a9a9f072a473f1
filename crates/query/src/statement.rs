//! Statements and the relations that they read and give, declared so that one test can plan all.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// A bound value of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// True or false.
    Boolean(bool),
    /// A number.
    Integer(i64),
    /// An instant in milliseconds UTC.
    Instant(i64),
}

impl Parameter {
    /// Whether another value is of the same kind.
    pub(crate) fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

/// Rows with a name: a table, a list of the configuration, or what a statement gives.
pub struct Relation {
    /// Name in SQL.
    pub name: &'static str,
    /// Columns.
    pub schema: fn() -> SchemaRef,
}

impl fmt::Debug for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A schema of so many columns: name, type, whether it may hold nulls.
pub(crate) fn columns(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|(name, kind, is_nullable)| Field::new(*name, kind.clone(), *is_nullable))
            .collect::<Vec<_>>(),
    ))
}

/// How joins of a statement run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joins {
    /// By hash: one side is small, such as a list of the configuration. That side does not spill.
    Hash,
    /// By sorting both sides, which spills.
    Sort,
}

/// One statement of `sql/<stage>/<what>.sql`.
#[derive(Debug)]
pub struct Statement {
    /// `<stage>/<what>`.
    pub name: &'static str,
    /// What it is for, to complete "failed to ...".
    pub action: &'static str,
    /// SQL.
    pub text: &'static str,
    /// What it reads.
    pub reads: &'static [&'static Relation],
    /// Its parameters, each with a value of its kind.
    pub parameters: &'static [(&'static str, Parameter)],
    /// What it gives.
    pub gives: &'static Relation,
    /// How its joins run.
    pub joins: Joins,
}
