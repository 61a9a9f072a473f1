//! What the configuration says of feature importance.

use serde::{Deserialize, Serialize};
use stage::{Exit, Failure};
use tables::Part;

use crate::config::{Config, Seen};

/// Whose predictions are looked into, and how closely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeatureImportance {
    /// Part whose requests are asked.
    pub part: Part,
    /// Requests, drawn by lot from those with a history and something relevant.
    pub requests: u32,
    /// How often each feature is exchanged, each time by another permutation.
    pub repeats: u32,
    /// Places from the end of histories that are exchanged one by one.
    pub places: u32,
    /// Points of the integral of integrated gradients.
    pub steps: u32,
}

impl Default for FeatureImportance {
    fn default() -> Self {
        Self {
            part: Part::ValuationFit,
            requests: 500,
            repeats: 3,
            places: 5,
            steps: 32,
        }
    }
}

/// Checks what can be checked without data.
pub(crate) fn check(config: &Config) -> Result<(), Failure> {
    let Some(asked) = config.feature_importance else {
        return Ok(());
    };
    let wrong = |message: String| Failure::new(Exit::Configuration, message);
    if !matches!(asked.part, Part::ValuationFit | Part::ValuationTune) {
        return Err(wrong(format!(
            "`feature_importance.part` cannot be `{}`: importance is measured against a valuation part",
            asked.part
        ))
        .hint("write `feature_importance: { part: valuation.fit }`"));
    }
    for (name, value) in [
        ("requests", asked.requests),
        ("repeats", asked.repeats),
        ("steps", asked.steps),
    ] {
        if value == 0 {
            return Err(wrong(format!(
                "`feature_importance.{name}` is 0: nothing would be known"
            ))
            .hint("write a number from 1 up"));
        }
    }
    if config.seen == Seen::Exclude {
        return Err(wrong(
            "`feature_importance` needs `seen: keep`: what is excluded would change with the exchanged history".to_owned(),
        )
        .hint("leave `seen` out at the node that probes"));
    }
    Ok(())
}
