//! Loops over numbers: matrix products, elementary functions, rows, dropout.
//!
//! Nothing here knows of tapes. Sums run in a fixed order that depends on lengths alone; where
//! work is spread over threads it is cut into blocks that depend on lengths alone.

mod columns;
mod dropout;
mod product;
mod real;
mod rows;

pub(crate) use columns::Running;
pub(crate) use dropout::{Dropout, Keep, PIECE};
pub use product::{Matrix, multiply};
pub use real::Real;
pub use rows::exponentiate;
pub(crate) use rows::*;
