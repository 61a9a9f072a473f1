//! The stage on tables small enough to check by hand.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod action;
mod bench;
mod detection;
mod outputs;
mod ranking;
mod refusals;
