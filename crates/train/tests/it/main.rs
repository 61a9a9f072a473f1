//! The stage from its tables to its outputs.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its data fails"
)]

mod factored;
mod features;
mod modes;
mod regimes;
mod responses;
mod shards;
mod shop;
mod trained;
