//! Fused operations against the composite in float64, finite differences, and each other.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on fails; its numbers are small"
)]

mod across;
mod attended;
mod check;
mod dropout;
mod dropped;
mod factors;
mod layers;
mod losses;
mod sequences;
mod training;
mod workspaces;
