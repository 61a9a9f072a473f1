//! Fused operations against the composite in float64, finite differences, and each other.

mod check;
mod dropout;
mod factors;
mod layers;
mod losses;
mod sequences;
mod training;
