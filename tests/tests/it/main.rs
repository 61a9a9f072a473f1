//! The executables from end to end, as a person drives them.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test fail as the test does"
)]

mod bad_input;
mod features;
mod foreign;
mod leakage;
mod own_stage;
mod published;
mod rerun;
mod retraining;
mod same_bytes;
mod several;
mod stages;
mod survival;
mod training;
