//! Contracts between a model and the tape: a breach is a bug in the model, never bad data.

/// Panics with a message unless a contract holds.
#[track_caller]
pub(crate) fn require(holds: bool, message: impl FnOnce() -> String) {
    assert!(holds, "{}", message());
}
