//! A linear model of items by items, fitted in closed form (EASE).
//!
//! With X the user by item matrix of cells min(1, sum of the weights of the samples with this user and
//! item), B minimises |X - X B|^2 + `regularisation` |B|^2 with a diagonal of zeros:
//! `B_ij = -P_ij / P_jj` for i != j, with `P = (X'X + regularisation 1)^-1`. `score(j)` is the sum of
//! `B_ij` over the distinct items i of the history. An empty history is served by popularity.
//!
//! # Paper
//! Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019, equations 6 to 8.
//!
//! # Departures
//! B is stored in 32 bits; it is computed in 64.
//!
//! # Needs
//! Target items, weights and the sequence of each sample. Histories are looked at as sets.
//!
//! # Cost
//! Fit: items^3 operations, in parallel, and 12 bytes per pair of items while fitting; 4 bytes per pair
//! to keep. Catalogues above `max_items` are refused. Score: one pass over the catalogue for each
//! distinct item of the history.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tensors::{Csr, TensorError, Tensors};

use crate::cells::cells;
use crate::counts::Counts;
use crate::data::TrainingData;
use crate::history::History;
use crate::recommender::{FitError, LoadError, Model, Parameter, Recommender};
use crate::run::Run;
use tensors::dense::invert;

const WEIGHTS: &str = "item_weights";

/// The fitted model.
pub(super) struct Ease {
    counts: Counts,
    /// B, `[n_vocabulary, n_vocabulary]`; row i: what item i says of all others.
    weights: Vec<f32>,
}

/// How strong, and how large at most.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Parameters {
    regularisation: f64,
    max_items: u32,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            regularisation: 100.0,
            max_items: 20_000,
        }
    }
}

/// X'X + `regularisation` 1.
fn products(cells: &Csr<f64>, regularisation: f64) -> Vec<f64> {
    let n = cells.n_columns;
    let by_item = cells.transpose();
    let mut products = vec![0.0; n * n];
    products
        .par_chunks_mut(n)
        .enumerate()
        .for_each(|(item, row)| {
            let (users, values) = by_item.row(item);
            for (&user, cell) in users.iter().zip(values) {
                let (others, other_cells) = cells.row(user as usize);
                for (&other, other_cell) in others.iter().zip(other_cells) {
                    row[other as usize] += cell * other_cell;
                }
            }
            row[item] += regularisation;
        });
    products
}

/// B from the lower triangle of P.
#[expect(
    clippy::cast_possible_truncation,
    reason = "weights are stored in 32 bits"
)]
fn weights(inverse: &[f64], n: usize) -> Vec<f32> {
    let scales: Vec<f64> = (0..n).map(|item| -1.0 / inverse[item * n + item]).collect();
    let mut weights = vec![0.0; n * n];
    weights.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
        for (j, weight) in row.iter_mut().enumerate() {
            if i != j {
                *weight = (inverse[i.max(j) * n + i.min(j)] * scales[j]) as f32;
            }
        }
    });
    weights
}

impl Recommender for Ease {
    const NAME: &'static str = "ease";
    const REVISION: u32 = 1;
    const DOC: &'static str = "A linear model of items by items, fitted in closed form.";
    const PAPER: &'static str = "Steck, WWW 2019";
    const CAPABILITIES: &'static [crate::Capability] = &[];
    const PARAMETERS: &'static [Parameter] = &[
        Parameter {
            name: "regularisation",
            default: "100.0",
            doc: "weight of squared entries; above 0",
        },
        Parameter {
            name: "max_items",
            default: "20000",
            doc: "largest vocabulary that is accepted; fitting takes 12 bytes per pair of items",
        },
    ];
    type Parameters = Parameters;

    fn check(parameters: &Parameters) -> Result<(), String> {
        if parameters.regularisation.is_finite() && parameters.regularisation > 0.0 {
            Ok(())
        } else {
            Err("`regularisation` must be a number above 0".to_owned())
        }
    }

    fn fit(
        parameters: &Parameters,
        data: &TrainingData<'_>,
        run: &mut Run<'_>,
    ) -> Result<Self, FitError> {
        let n = data.n_vocabulary();
        let most = parameters.max_items as usize;
        if n > most {
            return Err(FitError::TooManyItems {
                model: Self::NAME,
                parameter: "max_items",
                most,
                n,
            });
        }
        let mut matrix = products(&cells(data)?, parameters.regularisation);
        let is_inverted = invert(&mut matrix, n, |done| {
            let (done, total) = (done as u64, n as u64);
            run.observer.progress("inverting", done, total);
        });
        if !is_inverted {
            return Err(FitError::NotFinite {
                epoch: None,
                cause: "items are so alike that their products cannot be inverted; raise `regularisation`".to_owned(),
            });
        }
        Ok(Self {
            counts: Counts::of(data),
            weights: weights(&matrix, n),
        })
    }

    fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        let counts = Counts::load(tensors)?;
        let weights = tensors.f32(WEIGHTS)?.to_vec();
        if weights.len() != counts.counts().len().pow(2) {
            return Err(LoadError::Sizes {
                left: "item_counts",
                right: WEIGHTS,
            });
        }
        Ok(Self { counts, weights })
    }
}

impl Model for Ease {
    fn score(&self, _: Option<u32>, history: History<'_>, scores: &mut [f64]) {
        let history = history.items();
        if history.is_empty() {
            self.counts.write_shares(scores);
            return;
        }
        scores.fill(0.0);
        let n = self.counts.counts().len();
        let mut distinct = history.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        // Ascending numbers fix the order of each sum.
        for item in distinct {
            let item = item as usize;
            if item >= n {
                break;
            }
            let row = &self.weights[item * n..(item + 1) * n];
            for (score, weight) in scores.iter_mut().zip(row) {
                *score += f64::from(*weight);
            }
        }
    }

    fn save(&self) -> Result<Tensors, TensorError> {
        let mut tensors = Tensors::new();
        self.counts.save(&mut tensors)?;
        let n = self.counts.counts().len();
        tensors.insert_f32(WEIGHTS, &[n, n], self.weights.clone())?;
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use seed::Seed;
    use serde_json::json;

    use super::*;
    use crate::conformance::{in_pool, log, overfits};

    const LOGS: [(&[u32], &[f64]); 4] = [
        (&[0, 1, 2], &[1.0, 1.0, 0.5]),
        (&[0, 1, 0], &[1.0, 1.0, 1.0]),
        (&[3, 1], &[1.0, 1.0]),
        (&[2, 3, 4], &[1.0, 1.0, 3.0]),
    ];

    fn fit(parameters: &Parameters) -> Result<Ease, FitError> {
        let (samples, sequences) = log(&LOGS);
        let data = TrainingData::new(&samples, &sequences, 5).unwrap();
        Ease::fit(parameters, &data, &mut Run::silent(Seed::root(1)))
    }

    #[test]
    fn each_column_is_the_best_ridge_regression_on_the_others() {
        let regularisation = 0.7;
        let model = fit(&Parameters {
            regularisation,
            ..Parameters::default()
        })
        .unwrap();
        let x = [
            [1.0, 1.0, 0.5, 0.0, 0.0],
            [1.0, 1.0, 0.0, 0.0, 0.0],
            [0.0, 1.0, 0.0, 1.0, 0.0],
            [0.0, 0.0, 1.0, 1.0, 1.0],
        ];
        let weight = |i: usize, j: usize| f64::from(model.weights[i * 5 + j]);
        for j in 0..5 {
            assert!(weight(j, j).abs() < 1e-12);
            // The gradient with respect to every other entry of the column vanishes.
            for i in (0..5).filter(|i| *i != j) {
                let gradient: f64 = x
                    .iter()
                    .map(|row| {
                        let found: f64 = (0..5).map(|k| row[k] * weight(k, j)).sum();
                        row[i] * (found - row[j])
                    })
                    .sum();
                assert!((gradient + regularisation * weight(i, j)).abs() < 1e-6);
            }
        }
        let mut scores = [0.0; 6];
        model.score(None, History::of(&[2, 0, 9, 2]), &mut scores);
        for (j, score) in scores.iter().enumerate() {
            let expected = if j < 5 {
                weight(0, j) + weight(2, j)
            } else {
                0.0
            };
            assert!((score - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn large_catalogues_are_refused() {
        let parameters = Parameters {
            max_items: 4,
            ..Parameters::default()
        };
        let Err(error) = fit(&parameters) else {
            panic!("five items passed for four");
        };
        let message = error.to_string();
        assert!(
            message.contains("at most 4 items (`max_items`)"),
            "{message}"
        );
        let entry = crate::recommender::entry("ease").unwrap();
        assert!(entry.check(&json!({ "regularisation": 0.0 })).is_err());
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let fitted = |threads| in_pool(threads, || fit(&Parameters::default()).unwrap().weights);
        let one = fitted(1);
        for threads in [2, 3] {
            assert_eq!(fitted(threads), one);
        }
    }

    #[test]
    fn a_few_samples_are_learnt_by_heart() {
        let entry = crate::recommender::entry("ease").unwrap();
        overfits(entry, &json!({ "regularisation": 0.1 }));
    }
}
