//! What the configuration says of acting on scores of samples or on the importance of features, and
//! what removal means.

use serde::{Deserialize, Serialize};
use stage::{Exit, Failure};

/// What to do about scores or importance: exactly one of these.
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
    /// Leave out unimportant features.
    #[serde(default)]
    pub select_features: Option<SelectFeatures>,
    /// Keep all features, and let unimportant ones weigh less.
    #[serde(default)]
    pub weigh_features: Option<WeighFeatures>,
}

/// Which features stay: exactly one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SelectFeatures {
    /// So many of the most important ones.
    #[serde(default)]
    pub keep: Option<u32>,
    /// All but this share, at the unimportant end.
    #[serde(default)]
    pub drop_lowest: Option<f64>,
}

/// Weights of features: they rise in proportion to the rank of importance, and their mean is 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WeighFeatures {
    /// Weight of the least important feature, as a share of that of the most important one; from 0 to
    /// below 1.
    pub to: f64,
}

impl Act {
    /// Whether it acts on features, not on samples.
    pub(crate) const fn is_on_features(&self) -> bool {
        self.select_features.is_some() || self.weigh_features.is_some()
    }
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
    let n = [
        act.drop_lowest.is_some(),
        act.drop_below.is_some(),
        act.reweight.is_some(),
        act.select_features.is_some(),
        act.weigh_features.is_some(),
    ];
    if n.into_iter().filter(|is_there| *is_there).count() != 1 {
        return Err(
            wrong("`act` takes exactly one of `drop_lowest`, `drop_below`, `reweight`, `select_features` and `weigh_features`")
                .hint("write `act: { drop_lowest: 0.2 }` or `act: { reweight: { to: 0.2 } }`"),
        );
    }
    let is_share = |share: f64| (0.0..1.0).contains(&share);
    if let Some(share) = act.drop_lowest.filter(|share| !is_share(*share)) {
        return Err(wrong(format!(
            "`act.drop_lowest` is {share}, which is no share of the samples"
        ))
        .hint("write a number from 0 to below 1, such as 0.2"));
    }
    if act.drop_below.is_some_and(|bound| !bound.is_finite()) {
        return Err(wrong("`act.drop_below` is not a finite number"));
    }
    if let Some(Reweight { to, .. }) = act.reweight.filter(|one| !is_share(one.to)) {
        return Err(wrong(format!(
            "`act.reweight.to` is {to}, which is no weight of a suspicious sample"
        ))
        .hint("write a number from 0 to below 1, such as 0.2"));
    }
    if let Some(WeighFeatures { to }) = act.weigh_features.filter(|one| !is_share(one.to)) {
        return Err(wrong(format!(
            "`act.weigh_features.to` is {to}, which is no weight of an unimportant feature"
        ))
        .hint("write a number from 0 to below 1, such as 0.2"));
    }
    match act.select_features.map(|one| (one.keep, one.drop_lowest)) {
        None => Ok(()),
        Some((Some(keep), None)) if keep > 0 => Ok(()),
        Some((Some(_), None)) => Err(wrong(
            "`act.select_features.keep` is 0: nothing would be left",
        )
        .hint("write a number from 1 up")),
        Some((None, Some(share))) if is_share(share) => Ok(()),
        Some((None, Some(share))) => Err(wrong(format!(
            "`act.select_features.drop_lowest` is {share}, which is no share of the features"
        ))
        .hint("write a number from 0 to below 1, such as 0.5")),
        Some(_) => Err(wrong(
            "`act.select_features` takes exactly one of `keep` and `drop_lowest`",
        )
        .hint("write `act: { select_features: { keep: 8 } }`")),
    }
}

/// Refuses to act on features of a model that has none to do without.
pub(crate) fn check_features(model: &str, features: &[&str]) -> Result<(), Failure> {
    if features.is_empty() {
        return Err(Failure::not_applicable(format!(
            "model `{model}` has no features that training could leave out or weigh"
        ))
        .hint("take `logistic_regression` or `case_study`, or give a network `inputs: [events, baskets, attributes]`"));
    }
    Ok(())
}

/// Checks that what is acted on is wired, and nothing else.
pub(crate) fn check_inputs(
    act: Option<&Act>,
    has_scores: bool,
    has_importance: bool,
) -> Result<(), Failure> {
    match act {
        None if has_scores => Err(wrong(
            "the input `scores` is wired, but `act` does not say what to do with it",
        )
        .hint("write `act: { drop_lowest: 0.2 }`, or leave the input out")),
        None if has_importance => Err(wrong(
            "the input `feature_importance` is wired, but `act` does not say what to do with it",
        )
        .hint("write `act: { select_features: { keep: 8 } }`, or leave the input out")),
        Some(act) if act.is_on_features() => match (has_scores, has_importance) {
            (false, true) => Ok(()),
            (true, _) => Err(wrong(
                "`act` is about features, and the input `scores` is about samples",
            )
            .hint("leave the input `scores` out")),
            (false, false) => Err(wrong("`act` needs the input `feature_importance`")
                .hint("wire `feature_importance` of an `estimate` node with `of: features`")),
        },
        Some(_) if !has_scores => {
            Err(wrong("`act` needs the input `scores`").hint("wire `scores` of an `estimate` node"))
        }
        Some(_) if has_importance => Err(wrong(
            "`act` is about samples, and the input `feature_importance` is about features",
        )
        .hint("leave the input `feature_importance` out")),
        None | Some(_) => Ok(()),
    }
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
            ("{ select_features: {} }\n", "exactly one of `keep`"),
            (
                "{ select_features: { keep: 0 } }\n",
                "nothing would be left",
            ),
            (
                "{ select_features: { drop_lowest: 1 } }\n",
                "no share of the features",
            ),
            ("{ weigh_features: { to: 2 } }\n", "no weight"),
            (
                "{ drop_lowest: 0.1, weigh_features: { to: 0 } }\n",
                "exactly one of `drop_lowest`",
            ),
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
