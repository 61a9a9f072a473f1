//! What the configuration says of attention in mode `probe`.

use models::Capability;
use serde::{Deserialize, Serialize};
use stage::{Exit, Failure};
use tables::Part;

/// The capability that mode `probe` passes on where it is told to take attention.
pub(crate) const ATTENTION: &str = Capability::Attention.as_str();

/// Whose attention mode `probe` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Part whose predictions look at events.
    #[serde(default = "training_part")]
    pub part: Part,
}

fn training_part() -> Part {
    Part::Training
}

/// Checks what can be checked without data.
pub(crate) fn check(attention: Attention) -> Result<(), Failure> {
    if attention.part == Part::Test {
        return Err(Failure::new(
            Exit::Configuration,
            "`attention.part` cannot be `test`: the test part only judges",
        )
        .hint("write `attention: {}` for the predictions of the samples themselves"));
    }
    Ok(())
}
