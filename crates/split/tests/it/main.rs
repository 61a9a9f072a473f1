//! Small logs with every sample, history and request worked out by hand, and what planting promises.

#![expect(
    clippy::unwrap_used,
    reason = "a fixture that fails is a test that fails"
)]

mod by_hand;
mod fixture;
mod planting;
