//! The executables from end to end, as a person drives them.

mod bad_input;
mod leakage;
mod rerun;
mod same_bytes;
mod stages;
mod survival;
