//! What the configuration says of gradients in mode `probe`.

use std::collections::BTreeSet;

use models::{Capability, Damped, Labels, Measure, Preconditioner, Projection};
use serde::{Deserialize, Serialize};
use stage::{Exit, Failure, Offer};
use tables::Part;

/// The capability that mode `probe` passes on only where it is told to take gradients.
pub(crate) const GRADIENTS: &str = Capability::Gradients.as_str();
/// The capability that it passes on, or adds to gradients, where it is told to keep them projected.
pub(crate) const PROJECTED: &str = Capability::GradientRows.as_str();
/// The capability that it passes on with gradients, and that brings them.
pub(crate) const BLOCK_INFLUENCE: &str = Capability::BlockInfluence.as_str();
/// The capability that it passes on where it is told to take the training back.
pub(crate) const UNROLLED: &str = Capability::Unrolled.as_str();
/// What a model that writes its gradients down can say beside them.
const CURVATURE: &str = "curvature";
/// The fact that says which requests gradients are measured against.
pub(crate) const GRADIENTS_PART: &str = "gradients_part";
/// The fact that says which requests are kept beside, to choose settings by.
pub(crate) const HELD_OUT_PART: &str = "held_out_part";

/// Which gradients mode `probe` takes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Gradients {
    /// Part whose requests make the gradient of the target.
    #[serde(default = "fit_part")]
    pub part: Part,
    /// What these requests cost.
    #[serde(default)]
    pub measure: MeasureName,
    /// Difference of scores at which one item stands clearly above another, for `measure: ndcg`.
    #[serde(default = "two")]
    pub temperature: f64,
    /// Part whose requests are kept beside, as no target: what settings of estimators are chosen by.
    #[serde(default)]
    pub held_out: Option<Part>,
    /// Whether the gradients themselves are kept, made short: what curvature is estimated from. Of a
    /// model whose gradients are short they are kept as they are.
    #[serde(default)]
    pub projection: Option<Projection>,
    /// Preconditioners between the gradients of samples and requests; products under each are kept.
    #[serde(default)]
    pub directions: Vec<Preconditioner>,
    /// What is added to the eigenvalues of each parameter's block of a Fisher matrix, as a share of their
    /// mean.
    #[serde(default = "tenth")]
    pub damping: f64,
    /// Whose labels the gradients of a Fisher matrix are of.
    #[serde(default)]
    pub labels: Labels,
    /// Whether the training is taken back: what the weight of each sample did to these requests.
    #[serde(default)]
    pub unrolled: bool,
}

/// What a request costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasureName {
    /// The cross-entropy of its relevant items.
    #[default]
    Loss,
    /// One minus NDCG at smooth ranks.
    Ndcg,
}

impl Gradients {
    /// What requests of the target cost.
    pub(crate) fn measure(&self) -> Measure {
        match self.measure {
            MeasureName::Ndcg => Measure::Ndcg {
                temperature: self.temperature,
            },
            MeasureName::Loss => Measure::Loss,
        }
    }

    /// Whether one of the directions is by the optimiser.
    pub(crate) fn wants_adam(&self) -> bool {
        self.directions.contains(&Preconditioner::Adam)
    }

    /// How the Fisher matrix is made and damped.
    pub(crate) fn damped(&self) -> Damped {
        Damped {
            share: self.damping,
            labels: self.labels,
        }
    }
}

fn tenth() -> f64 {
    0.1
}

fn two() -> f64 {
    2.0
}

fn fit_part() -> Part {
    Part::ValuationFit
}

/// Checks what can be checked without data; `model` is what the wired model offers, if there is one.
pub(crate) fn check(
    gradients: &Gradients,
    model: Option<&Offer>,
    has_states: bool,
) -> Result<(), Failure> {
    let Gradients {
        part,
        measure,
        temperature,
        projection,
        damping,
        ..
    } = gradients;
    check_held_out(gradients.held_out, *part, projection.is_some())?;
    if !(temperature.is_finite() && *temperature > 0.0) {
        return Err(wrong(format!(
            "`gradients.temperature` is {temperature}, wanted a number above 0"
        )));
    }
    if !(damping.is_finite() && *damping > 0.0) {
        return Err(wrong(format!(
            "`gradients.damping` is {damping}, wanted a number above 0"
        ))
        .hint("write a share of the mean eigenvalue, such as 0.1"));
    }
    let has = |word| model.is_some_and(|model| model.capabilities.contains(word));
    if *measure == MeasureName::Ndcg && (has(PROJECTED) || has(BLOCK_INFLUENCE)) && !has(GRADIENTS)
    {
        return Err(
            wrong("this model measures requests by its loss alone, not by `ndcg`")
                .hint("leave `gradients.measure` out"),
        );
    }
    if !matches!(part, Part::ValuationFit | Part::ValuationTune) {
        return Err(wrong(format!(
            "`gradients.part` cannot be `{part}`: importance is measured against a valuation part"
        ))
        .hint("write `gradients: { part: valuation.fit }`"));
    }
    for (name, size) in projection
        .iter()
        .flat_map(|one| [("rank", one.rank), ("table_width", one.table_width)])
    {
        if size == 0 {
            return Err(wrong(format!(
                "`gradients.projection.{name}` is 0: nothing would be left"
            ))
            .hint("write a number from 1 up"));
        }
    }
    let mut distinct = gradients.directions.clone();
    distinct.sort_unstable();
    if let Some(pair) = distinct.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(wrong(format!(
            "`gradients.directions` has `{}` twice",
            pair[0].as_str()
        )));
    }
    if model.is_some() && gradients.wants_adam() && !has_states {
        return Err(no_optimiser());
    }
    Ok(())
}

/// `adam` without the states that keep what it needs.
pub(crate) fn no_optimiser() -> Failure {
    wrong(
        "the direction `adam` needs the input `checkpoints`: they keep the state of the optimiser",
    )
    .hint("write `keep_checkpoints: 4` at the node that fits, and wire its output `checkpoints`")
}

/// What of a model's capabilities its probe has, with what the probe adds to them.
pub(crate) fn probed<'w>(
    gradients: Option<&Gradients>,
    model: &BTreeSet<&'w str>,
) -> BTreeSet<&'w str> {
    let mut words = model.clone();
    if gradients.is_none_or(|gradients| gradients.projection.is_none()) {
        words.remove(PROJECTED);
    } else if model.contains(PROJECTED) {
        words.insert(CURVATURE);
    } else if model.contains(GRADIENTS) {
        words.insert(PROJECTED);
    }
    let Some(gradients) = gradients else {
        for word in [GRADIENTS, BLOCK_INFLUENCE, UNROLLED] {
            words.remove(word);
        }
        return words;
    };
    if !gradients.unrolled {
        words.remove(UNROLLED);
    }
    if model.contains(BLOCK_INFLUENCE) {
        words.insert(GRADIENTS);
    }
    if model.contains(GRADIENTS) {
        words.extend(gradients.directions.iter().map(|one| match one {
            Preconditioner::Adam => "adam_direction",
            Preconditioner::Kfac => "kfac_direction",
            Preconditioner::Ekfac => "ekfac_direction",
        }));
    }
    words
}

/// Requests to choose settings by are of the other half of the valuation requests.
fn check_held_out(held_out: Option<Part>, part: Part, is_kept: bool) -> Result<(), Failure> {
    let Some(held_out) = held_out else {
        return Ok(());
    };
    let is_valuation = matches!(held_out, Part::ValuationFit | Part::ValuationTune);
    if held_out == part || !is_valuation {
        return Err(wrong(format!(
            "`gradients.held_out` cannot be `{held_out}`: settings are chosen by the valuation requests that are no target"
        ))
        .hint("write `held_out: valuation.tune`, beside the target `part: valuation.fit`"));
    }
    if !is_kept {
        return Err(
            wrong("`gradients.held_out` is written, but no gradients are kept")
                .hint("add `projection: {}`, or leave `held_out` out"),
        );
    }
    Ok(())
}

fn wrong(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Configuration, message)
}
