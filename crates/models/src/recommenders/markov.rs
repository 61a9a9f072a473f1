//! First-order Markov chain: what followed the last item of the history, backed by popularity.
//!
//! With `a` the last item of the history, `M_ai` the weighted count of targets i after `a`, `M_a`
//! the sum of `M_ai` over i, and `p_i` the smoothed share of the model `popularity`:
//! `score(i) = M_ai + p_i`, and the loss of a target is `-ln((M_ai + p_i) / (M_a + 1))`, whose
//! probabilities sum to one over the vocabulary. An empty history leaves `p_i`.
//!
//! # Paper
//! Rendle, Freudenthaler, Schmidt-Thieme, "Factorizing personalized Markov chains", WWW 2010, for
//! the chain; the back-off is one pseudo-count shared out by popularity, as in Dirichlet smoothing.
//!
//! # Departures
//! The chain is counted, not factorised, and the same for all users. It follows the *sample's*
//! history, so the items of one basket follow the basket before, not each other.
//!
//! # Needs
//! Target items, weights, and the last item of each history.
//!
//! # Cost
//! Fit: one sort of the samples, in parallel by last item. Score: one pass over the catalogue.
//! Memory: one number per item and per distinct transition.

use serde::{Deserialize, Serialize};
use tensors::{Csr, TensorError, Tensors};

use crate::counts::{Counts, Transitions};
use crate::data::TrainingData;
use crate::history::History;
use crate::recommender::{Capability, FitError, LoadError, Losses, Model, Parameter, Recommender};
use crate::run::Run;

/// The fitted model.
pub(super) struct Markov {
    counts: Counts,
    transitions: Transitions,
}

/// It has none.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {}

impl Markov {
    /// The last item of a history, if it is in the vocabulary.
    fn last(&self, history: &[u32]) -> Option<u32> {
        let last = *history.last()?;
        ((last as usize) < self.transitions.counts().n_rows()).then_some(last)
    }
}

impl Recommender for Markov {
    const NAME: &'static str = "markov";
    const REVISION: u32 = 1;
    const DOC: &'static str = "What followed the last item of the history, backed by popularity.";
    const PAPER: &'static str = "Rendle et al., WWW 2010 (the chain alone, unfactorised)";
    const CAPABILITIES: &'static [Capability] = &[
        Capability::Counts,
        Capability::Losses,
        Capability::Transitions,
    ];
    const PARAMETERS: &'static [Parameter] = &[];
    type Parameters = Parameters;

    fn fit(_: &Parameters, data: &TrainingData<'_>, _: &mut Run<'_>) -> Result<Self, FitError> {
        Ok(Self {
            counts: Counts::of(data),
            transitions: Transitions::of(data)?,
        })
    }

    fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        let counts = Counts::load(tensors)?;
        let transitions = Transitions::load(tensors, counts.counts().len())?;
        Ok(Self {
            counts,
            transitions,
        })
    }
}

impl Model for Markov {
    fn score(&self, _: Option<u32>, history: History<'_>, scores: &mut [f64]) {
        self.counts.write_shares(scores);
        if let Some(last) = self.last(history.items()) {
            let (items, weights) = self.transitions.after(last);
            for (&item, weight) in items.iter().zip(weights) {
                if let Some(score) = scores.get_mut(item as usize) {
                    *score += weight;
                }
            }
        }
    }

    fn losses(&self) -> Option<&dyn Losses> {
        Some(self)
    }

    fn item_counts(&self) -> Option<&[f64]> {
        Some(self.counts.counts())
    }

    fn transitions(&self) -> Option<&Csr<f64>> {
        Some(self.transitions.counts())
    }

    fn save(&self) -> Result<Tensors, TensorError> {
        let mut tensors = Tensors::new();
        self.counts.save(&mut tensors)?;
        self.transitions.save(&mut tensors)?;
        Ok(tensors)
    }
}

impl Losses for Markov {
    fn loss(&self, history: History<'_>, item: u32) -> f64 {
        let share = self.counts.share(item);
        let Some(last) = self.last(history.items()) else {
            return -libm::log(share);
        };
        let count = self.transitions.count(last, item);
        -libm::log((count + share) / (self.transitions.total(last) + 1.0))
    }
}

#[cfg(test)]
mod tests {
    use seed::Seed;

    use super::*;
    use crate::conformance::log;

    #[test]
    fn scores_and_losses_are_those_of_the_formula() {
        let (samples, sequences) = log(&[
            (&[0, 1, 2, 1], &[1.0, 1.0, 1.0, 1.0]),
            (&[0, 1, 0], &[1.0, 2.0, 1.0]),
        ]);
        let data = TrainingData::new(&samples, &sequences, 4).unwrap();
        let model = Markov::fit(&Parameters {}, &data, &mut Run::silent(Seed::root(1))).unwrap();
        // c = [3, 4, 1, 0], N + V = 12; after 0: 1 with weight 1 + 2; after 1: 2 and 0; after 2: 1.
        let share = [4.0, 5.0, 2.0, 1.0].map(|n| n / 12.0);
        let after_0 = [0.0, 3.0, 0.0, 0.0];
        let mut scores = [0.0; 4];
        model.score(None, History::of(&[2, 0]), &mut scores);
        for item in 0..4_u32 {
            let at = item as usize;
            let expected = after_0[at] + share[at];
            assert!((scores[at] - expected).abs() < 1e-15);
            let loss = model.loss(History::of(&[2, 0]), item);
            assert!((loss + libm::log(expected / 4.0)).abs() < 1e-15);
        }
        let transitions = model.transitions().unwrap();
        assert_eq!(transitions.row(1), (&[0, 2][..], &[1.0, 1.0][..]));
        assert_eq!(transitions.row(3).0.len(), 0);
    }

    #[test]
    fn nothing_before_leaves_popularity() {
        let (samples, sequences) = log(&[(&[0, 1, 1], &[1.0; 3])]);
        let data = TrainingData::new(&samples, &sequences, 3).unwrap();
        let model = Markov::fit(&Parameters {}, &data, &mut Run::silent(Seed::root(1))).unwrap();
        // Item 2 is known and was never followed; item 7 is not known.
        for history in [&[][..], &[2], &[7]] {
            let mut scores = [0.0; 3];
            let history = History::of(history);
            model.score(None, history, &mut scores);
            for (score, count) in scores.iter().zip([2.0, 3.0, 1.0]) {
                assert!((score - count / 6.0).abs() < 1e-15);
            }
            assert!((model.loss(history, 1) + libm::log(0.5)).abs() < 1e-15);
        }
    }

    #[test]
    fn items_of_one_basket_follow_the_basket_before() {
        let mut sequences = crate::Sequences::default();
        let mut samples = crate::Samples::default();
        // Item 0, then the basket {1, 2} at one instant.
        for (position, item, history_end) in [(0, 0, 0), (1, 1, 1), (2, 2, 1)] {
            sequences.push(0, position, item).unwrap();
            samples.push(u64::from(position), 0, history_end, item, 1.0);
        }
        let data = TrainingData::new(&samples, &sequences, 3).unwrap();
        let model = Markov::fit(&Parameters {}, &data, &mut Run::silent(Seed::root(1))).unwrap();
        let transitions = model.transitions().unwrap();
        assert_eq!(transitions.row(0), (&[1, 2][..], &[1.0, 1.0][..]));
        assert_eq!(transitions.row(1).0.len(), 0);
    }
}
