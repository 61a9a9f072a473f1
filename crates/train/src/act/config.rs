//! What the configuration says of acting on scores, and what removal means.

use serde::{Deserialize, Serialize};
use stage::{Exit, Failure};

/// What to do about scores: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// Drop this share of all samples, at the suspicious end of the scale; at most those with a
    /// score.
    #[serde(default)]
    pub drop_lowest: Option<f64>,
    /// Drop samples whose helpfulness is below this.
    #[serde(default)]
    pub drop_below: Option<f64>,
    /// Keep all samples, and let suspicious ones weigh less.
    #[serde(default)]
    pub reweight: Option<Reweight>,
}

/// Soft weights: from the suspicious end to the other they rise, and their mean is 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Reweight {
    /// Weight at the suspicious end, as a share of that at the other; from 0 to below 1.
    pub to: f64,
    /// How weights rise between the two ends.
    #[serde(default)]
    pub shape: Shape,
}

/// How weights rise from the suspicious end to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// In proportion to the rank of the score; equal scores share a rank. Methods differ in who
    /// gets which weight, not in the weights.
    #[default]
    Rank,
    /// As the logistic function of the score, centred at the median and scaled by the median
    /// absolute deviation: how far a score lies out counts.
    Sigmoid,
}

impl Shape {
    /// The word for it in configurations and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rank => "rank",
            Self::Sigmoid => "sigmoid",
        }
    }
}

/// What removal of a sample means; in both, its event stays visible in other samples' histories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Regime {
    /// The samples are gone; epochs and early stopping as usual.
    #[default]
    Drop,
    /// Weight 0, with the batches and the schedule of the model that is wired, for exactly the
    /// steps that led to it.
    Mask,
}

impl Regime {
    /// The word for it in configurations and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Mask => "mask",
        }
    }
}

fn wrong(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Configuration, message)
}

pub(crate) fn check(act: &Act) -> Result<(), Failure> {
    match (act.drop_lowest, act.drop_below, act.reweight) {
        (Some(share), None, None) if (0.0..1.0).contains(&share) => Ok(()),
        (Some(share), None, None) => Err(wrong(format!(
            "`act.drop_lowest` is {share}, which is no share of the samples"
        ))
        .hint("write a number from 0 to below 1, such as 0.2")),
        (None, Some(bound), None) if bound.is_finite() => Ok(()),
        (None, Some(_), None) => Err(wrong("`act.drop_below` is not a finite number")),
        (None, None, Some(Reweight { to, .. })) if (0.0..1.0).contains(&to) => Ok(()),
        (None, None, Some(Reweight { to, .. })) => Err(wrong(format!(
            "`act.reweight.to` is {to}, which is no weight of a suspicious sample"
        ))
        .hint("write a number from 0 to below 1, such as 0.2")),
        _ => Err(
            wrong("`act` takes exactly one of `drop_lowest`, `drop_below` and `reweight`")
                .hint("write `act: { drop_lowest: 0.2 }` or `act: { reweight: { to: 0.2 } }`"),
        ),
    }
}

/// Acting without scores.
pub(crate) fn needs_scores() -> Failure {
    wrong("`act` needs the input `scores`").hint("wire `scores` of an `estimate` node")
}

/// Scores without acting.
pub(crate) fn scores_unused() -> Failure {
    wrong("the input `scores` is wired, but `act` does not say what to do with it")
        .hint("write `act: { drop_lowest: 0.2 }`, or leave the input out")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_actions_say_what_to_write() {
        for (text, expected) in [
            ("{ drop_lowest: 1.5 }\n", "no share"),
            ("{ drop_lowest: .nan }\n", "no share"),
            ("{ drop_below: .inf }\n", "not a finite number"),
            ("{}\n", "exactly one"),
            ("{ drop_lowest: 0.1, drop_below: 0 }\n", "exactly one"),
            (
                "{ drop_lowest: 0.1, reweight: { to: 0.2 } }\n",
                "exactly one",
            ),
            ("{ reweight: { to: 1 } }\n", "no weight"),
            ("{ reweight: { to: .nan } }\n", "no weight"),
        ] {
            let act: Act = stage::yaml::parse(text, "test.yaml").unwrap();
            let message = check(&act).unwrap_err().to_string();
            assert!(message.contains(expected), "{text:?}: {message}");
        }
        for (text, word) in [
            ("reweight: { to: 0.2, shape: ramp }\n", "ramp"),
            ("reweight: { shape: rank }\n", "to"),
        ] {
            let failure = stage::yaml::parse::<Act>(text, "test.yaml").unwrap_err();
            assert!(failure.to_string().contains(word), "{failure}");
        }
    }
}
