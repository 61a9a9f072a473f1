//! Items whose text is like that of the history: a TF-IDF profile and its cosines.
//!
//! The text of an item (title, category levels, brand, attributes) is a vector of length 1 in the
//! text block of `tf_idf.rs`. The profile of a history is the sum over its distinct items, within
//! the last `max_history` events, of `1 + ln n` times the text of the item, n being how often it
//! occurs there, scaled to length 1. `score(i)` is the cosine of profile and item. A history
//! without any text, the empty one included, is served by popularity. Items that training never
//! saw are scored like all others: this is the one model here that knows something of them.
//!
//! # Paper
//! Lops, de Gemmis, Semeraro, "Content-based recommender systems: state of the art and trends",
//! Recommender Systems Handbook, 2011, section 3.3.1; TF-IDF as in Salton, Buckley, "Term-weighting
//! approaches in automatic text retrieval", Information Processing and Management 24(5), 1988.
//!
//! # Departures
//! There is no negative feedback in a profile.
//!
//! # Needs
//! Text of the items. Of the samples, target items and weights for popularity alone.
//!
//! # Cost
//! Fit: one pass over the texts. Score: the items that share a term with the history. Memory: one
//! number per item and distinct term of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tensors::{Csr, TensorError, Tensors};

use crate::counts::Counts;
use crate::data::TrainingData;
use crate::history::History;
use crate::recommender::{FitError, LoadError, Model, Parameter, Recommender};
use crate::run::Run;
use crate::tf_idf::{Features, Weights, damped, scale};

const TEXT: &str = "text";
const MAX_HISTORY: &str = "max_history";

/// The fitted model.
pub(super) struct Content {
    counts: Counts,
    max_history: u32,
    /// Text of each catalogue item, rows of length 1 or empty.
    text: Csr<f64>,
    /// Row t: the items that hold term t.
    holders: Csr<f64>,
}

/// How far back profiles look.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    #[serde(default = "default_max_history")]
    max_history: u32,
}

fn default_max_history() -> u32 {
    50
}

impl Content {
    fn new(counts: Counts, max_history: u32, text: Csr<f64>) -> Self {
        let holders = text.transpose();
        Self {
            counts,
            max_history,
            text,
            holders,
        }
    }

    /// (term, value), terms ascending, length 1 or empty.
    fn profile(&self, history: &[u32]) -> Vec<(u32, f64)> {
        let start = match self.max_history {
            0 => 0,
            most => history.len().saturating_sub(most as usize),
        };
        let mut occurrences: BTreeMap<u32, u32> = BTreeMap::new();
        for &item in &history[start..] {
            *occurrences.entry(item).or_insert(0) += 1;
        }
        let mut terms: Vec<(u32, f64)> = Vec::new();
        for (item, n) in occurrences {
            if (item as usize) < self.text.n_rows() {
                let (columns, values) = self.text.row(item as usize);
                let weight = damped(n);
                terms.extend(columns.iter().zip(values).map(|(&t, x)| (t, weight * x)));
            }
        }
        // Stable, so that each sum runs in the order of the items.
        terms.sort_by_key(|(term, _)| *term);
        let mut profile: Vec<(u32, f64)> = terms
            .chunk_by(|a, b| a.0 == b.0)
            .map(|chunk| (chunk[0].0, chunk.iter().map(|(_, x)| x).sum()))
            .collect();
        scale(&mut profile, 1.0);
        profile
    }
}

impl Recommender for Content {
    const NAME: &'static str = "content";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Items whose text is like that of the history, by TF-IDF.";
    const PAPER: &'static str = "Lops, de Gemmis, Semeraro, Recommender Systems Handbook 2011";
    const CAPABILITIES: &'static [crate::Capability] = &[];
    const PARAMETERS: &'static [Parameter] = &[Parameter {
        name: "max_history",
        default: "50",
        doc: "last events of a history that make its profile; 0: all",
    }];
    type Parameters = Parameters;

    fn reads_items(_: &Parameters) -> bool {
        true
    }

    fn fit(
        parameters: &Parameters,
        data: &TrainingData<'_>,
        _: &mut Run<'_>,
    ) -> Result<Self, FitError> {
        let items = data
            .items()
            .ok_or(FitError::NoItems { model: Self::NAME })?;
        let weights = Weights {
            max_history: 0,
            items: 0.0,
            text: 1.0,
        };
        let text = Features::fit(weights, items, data)?.into_text();
        Ok(Self::new(Counts::of(data), parameters.max_history, text))
    }

    fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        let counts = Counts::load(tensors)?;
        let text = tensors.csr_f64(TEXT)?;
        match tensors.u32(MAX_HISTORY)? {
            &[max_history] => Ok(Self::new(counts, max_history, text)),
            _ => Err(LoadError::Sizes {
                left: MAX_HISTORY,
                right: "one number",
            }),
        }
    }
}

impl Model for Content {
    fn score(&self, _: Option<u32>, history: History<'_>, scores: &mut [f64]) {
        let history = history.items();
        let profile = self.profile(history);
        if profile.is_empty() {
            self.counts.write_shares(scores);
            return;
        }
        scores.fill(0.0);
        // Ascending terms fix the order of each sum.
        for (term, weight) in profile {
            let (items, values) = self.holders.row(term as usize);
            for (&item, value) in items.iter().zip(values) {
                if let Some(score) = scores.get_mut(item as usize) {
                    *score += weight * value;
                }
            }
        }
    }

    fn save(&self) -> Result<Tensors, TensorError> {
        let mut tensors = Tensors::new();
        self.counts.save(&mut tensors)?;
        tensors.insert_u32(MAX_HISTORY, &[1], vec![self.max_history])?;
        tensors.insert_csr_f64(TEXT, &self.text)?;
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use seed::Seed;

    use super::*;
    use crate::conformance::{items, log};

    fn fit(max_history: u32) -> Content {
        let (samples, sequences) = log(&[(&[0, 1, 1], &[1.0, 1.0, 1.0])]);
        let items = items();
        let data = TrainingData::new(&samples, &sequences, 8)
            .unwrap()
            .with_items(&items);
        let mut run = Run::silent(Seed::root(1));
        Content::fit(&Parameters { max_history }, &data, &mut run).unwrap()
    }

    fn scores(model: &Content, history: &[u32]) -> Vec<f64> {
        let mut scores = vec![f64::NAN; 10];
        model.score(None, History::of(history), &mut scores);
        scores
    }

    #[test]
    fn scores_are_cosines_of_texts() {
        // Items: red mug, blue mug, red lamp, (none), tea, tea pot, blue lamp, pot; and red pot,
        // unheard beyond the vocabulary. Every term but `unheard` stands in 2 of 8 documents.
        let model = fit(50);
        let expected = [1.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0];
        for (score, expected) in scores(&model, &[0]).iter().zip(expected) {
            assert!((score - expected).abs() < 1e-12, "{score} {expected}");
        }
        // Brute force: red mug once, tea pot twice.
        let weight = 1.0 + libm::log(2.0);
        let norm = (1.0 + weight * weight).sqrt();
        let found = scores(&model, &[5, 0, 5]);
        assert!((found[8] - (0.5 + 0.5 * weight) / norm).abs() < 1e-12);
        assert!((found[4] - weight / 2_f64.sqrt() / norm).abs() < 1e-12);
    }

    #[test]
    fn only_the_last_events_make_the_profile() {
        assert_eq!(scores(&fit(1), &[5, 0]), scores(&fit(50), &[0]));
        assert_ne!(scores(&fit(0), &[5, 0]), scores(&fit(50), &[0]));
    }

    #[test]
    fn a_history_without_text_is_served_by_popularity() {
        let model = fit(50);
        for history in [&[][..], &[3], &[9], &[77]] {
            assert!(scores(&model, history)[1] > scores(&model, history)[0]);
        }
    }
}
