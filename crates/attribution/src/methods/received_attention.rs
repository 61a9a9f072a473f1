//! Received attention: how much later predictions look at the event of the sample.
//!
//! score(z) = Σ over predictions that can see the event of z of what they give it / Σ over them of 1 / what they can see
//!
//! so that 1 is what even attention would give. What a prediction gives is, by `reading`,
//!
//! `raw`: the attention of the position that predicts, the mean over layers and heads
//! `rollout`: the row of that position in the product over layers of A/2 + I/2, A the mean over heads
//! `gradient`: |A × ∂L/∂A| summed over layers, heads and all positions that look at the event
//!
//! # Paper
//! Abnar, Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020; arXiv:2005.00928, section 3.
//!
//! # Departures
//! It explains inputs of predictions, not training samples: it can tell an event that should not have happened (a bot, an accident), and nothing of a wrong label.
//! The paper rolls out the attention of one prediction; here those of many are summed, and divided by what even attention would have given, as early events are seen by more predictions.
//! For `gradient`, L is the sum of the losses of the predictions that go through the network together, so that what they want of one position may cancel; it is in nats per share, not a share.
//! A model with one layer of attention beside other layers (`case_study`) is rolled out as if the rest passed each event on.
//!
//! # Needs
//! Attention; a sample whose event is no input of any prediction is unscored.
//!
//! # Cost
//! Time and memory O(samples).

use serde::{Deserialize, Serialize};

use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores, Suspect,
};
use crate::problem::Problem;

pub(super) struct ReceivedAttention {
    reading: Reading,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Params {
    reading: Reading,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reading {
    #[default]
    Raw,
    Rollout,
    Gradient,
}

impl Method for ReceivedAttention {
    const NAME: &'static str = "received_attention";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Attention;
    const DOC: &'static str =
        "How much later predictions look at the event of the sample; it explains inputs.";
    const ESTIMAND: &'static str = "What later predictions give the event of the sample, as a multiple of what even attention would.";
    const PAPER: &'static str = "Abnar, Zuidema, \"Quantifying Attention Flow in Transformers\", ACL 2020; arXiv:2005.00928, section 3.";
    const NEEDS: &'static [Need] = &[Need::Attention];
    const SCALE: Scale = Scale::Magnitude(Suspect::Low);
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const PARAMETERS: &'static [Parameter] = &[Parameter {
        name: "reading",
        default: "\"raw\"",
        doc: "What a prediction gives: `raw`, `rollout` or `gradient`.",
    }];
    type Params = Params;

    fn new(params: Params) -> Result<Self, ParameterErrorKind> {
        Ok(Self {
            reading: params.reading,
        })
    }
}

impl Estimator for ReceivedAttention {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let (method, need) = (Self::NAME, Need::Attention);
        let attention = problem
            .attention()
            .ok_or(EstimatorError::Missing { method, need })?;
        let given = match self.reading {
            Reading::Raw => &attention.raw,
            Reading::Rollout => &attention.rollout,
            Reading::Gradient => &attention.gradient,
        };
        let pairs = given.iter().zip(&attention.even);
        let score: Vec<Option<f64>> = pairs
            .map(|(&given, &even)| (even > 0.0).then(|| given / even))
            .collect();
        Ok(Scores {
            std_error: vec![None; score.len()],
            n_updates: attention.n_predictions.clone(),
            score,
            ..Scores::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside::Attention;
    use crate::toy;

    #[test]
    fn one_is_what_even_attention_gives() {
        let attention = Attention {
            n_predictions: vec![0, 3, 1],
            even: vec![0.0, 1.5, 0.5],
            raw: vec![0.0, 1.5, 0.125],
            rollout: vec![0.0, 0.75, 0.5],
            gradient: vec![0.0, 6.0, 0.0],
        };
        let problem = toy::of_pairs(&[(0, 1), (0, 2), (1, 2)])
            .with_attention(attention)
            .unwrap();
        for (reading, wanted) in [
            (Reading::Raw, [None, Some(1.0), Some(0.25)]),
            (Reading::Rollout, [None, Some(0.5), Some(1.0)]),
            (Reading::Gradient, [None, Some(4.0), Some(0.0)]),
        ] {
            let method = ReceivedAttention { reading };
            let found = method.estimate(&problem, Seed::root(0), &|_| {}).unwrap();
            assert_eq!(
                (found.score.as_slice(), found.n_updates),
                (&wanted[..], vec![0, 3, 1])
            );
        }
    }
}
