//! Ranks items by how often they were a target in training, for everybody alike.
//!
//! `score(i) = p_i = (c_i + 1) / (N + V)`, where `c_i` is the weighted count of target i, N the sum
//! of all weights and V the size of the vocabulary. An item outside the vocabulary has `c_i = 0`.
//! Loss of a target: `-ln p_i`. The shares sum to one over the vocabulary.
//!
//! # Paper
//! Add-one smoothing is Laplace's rule of succession; as a baseline see Ferrari Dacrema,
//! Cremonesi, Jannach, "Are we really making much progress?", ACM Conference on Recommender
//! Systems 2019.
//!
//! # Departures
//! None.
//!
//! # Needs
//! Target items and weights; histories are not looked at.
//!
//! # Cost
//! Fit: one pass over the samples. Score: one pass over the catalogue. Memory: one number per item.

use serde::{Deserialize, Serialize};
use tensors::{TensorError, Tensors};

use crate::counts::Counts;
use crate::data::TrainingData;
use crate::history::History;
use crate::recommender::{Capability, FitError, LoadError, Losses, Model, Parameter, Recommender};
use crate::run::Run;

/// The fitted model.
pub(super) struct Popularity {
    counts: Counts,
}

/// It has none.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {}

impl Recommender for Popularity {
    const NAME: &'static str = "popularity";
    const REVISION: u32 = 1;
    const DOC: &'static str = "The most frequent targets of training, for everybody alike.";
    const PAPER: &'static str = "Laplace's rule of succession";
    const CAPABILITIES: &'static [Capability] = &[Capability::Counts, Capability::Losses];
    const PARAMETERS: &'static [Parameter] = &[];
    type Parameters = Parameters;

    fn fit(_: &Parameters, data: &TrainingData<'_>, _: &mut Run<'_>) -> Result<Self, FitError> {
        Ok(Self {
            counts: Counts::of(data),
        })
    }

    fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        Ok(Self {
            counts: Counts::load(tensors)?,
        })
    }
}

impl Model for Popularity {
    fn score(&self, _: Option<u32>, _: History<'_>, scores: &mut [f64]) {
        self.counts.write_shares(scores);
    }

    fn losses(&self) -> Option<&dyn Losses> {
        Some(self)
    }

    fn item_counts(&self) -> Option<&[f64]> {
        Some(self.counts.counts())
    }

    fn save(&self) -> Result<Tensors, TensorError> {
        let mut tensors = Tensors::new();
        self.counts.save(&mut tensors)?;
        Ok(tensors)
    }
}

impl Losses for Popularity {
    fn loss(&self, _: History<'_>, item: u32) -> f64 {
        -libm::log(self.counts.share(item))
    }
}

#[cfg(test)]
mod tests {
    use seed::Seed;

    use super::*;
    use crate::conformance::log;

    #[test]
    fn shares_and_losses_are_those_of_the_formula() {
        // Targets 0, 1, 1, 2 and 1 with weight 0.5; four items, the last never a target.
        let (samples, sequences) = log(&[(&[0, 1, 1], &[1.0, 1.0, 1.0]), (&[2, 1], &[1.0, 0.5])]);
        let data = TrainingData::new(&samples, &sequences, 4).unwrap();
        let model =
            Popularity::fit(&Parameters {}, &data, &mut Run::silent(Seed::root(1))).unwrap();
        assert_eq!(model.item_counts().unwrap(), [1.0, 2.5, 1.0, 0.0]);
        let mut scores = [0.0; 6];
        model.score(None, History::of(&[3]), &mut scores);
        // N + V = 4.5 + 4.
        let expected = [2.0, 3.5, 2.0, 1.0, 1.0, 1.0].map(|n| n / 8.5);
        for (item, (score, expected)) in (0_u32..).zip(scores.iter().zip(expected)) {
            assert!((score - expected).abs() < 1e-15);
            assert!((model.loss(History::of(&[]), item) + libm::log(expected)).abs() < 1e-15);
        }
    }
}
