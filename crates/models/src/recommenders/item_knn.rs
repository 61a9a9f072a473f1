//! Item neighbourhoods: items that the same users chose, by cosine.
//!
//! A cell of the user by item matrix is min(1, sum of the weights of the samples with this user
//! and item); with `x_i` the column of item i, `c_ij = x_i . x_j` and
//! `n_i = c_ii`, `similarity(i, j) = c_ij / (sqrt(n_i) sqrt(n_j) + shrink)`, in 64-bit floats; without
//! `shrink` it is computed as `((1 / sqrt n_i) c_ij) (1 / sqrt n_j)`.
//! `score(i)` is the sum of `similarity(i, h)` over the distinct items h of the history that are among the
//! `neighbours` nearest of candidate i; of equally near items the one with the smaller number is
//! nearer. A history without any item of the vocabulary, an empty one among them, tells nothing and
//! is served by popularity.
//!
//! # Paper
//! Sarwar, Karypis, Konstan, Riedl, "Item-based collaborative filtering recommendation
//! algorithms", WWW 2001; neighbourhoods of the candidate as in Deshpande and Karypis, "Item-based
//! top-N recommendation algorithms", TOIS 22(1), 2004. The shrink term is that of Bell and Koren,
//! "Improved neighborhood-based collaborative filtering", KDD Cup Workshop 2007, as applied to
//! cosines by Ferrari Dacrema, Cremonesi, Jannach, ACM Conference on Recommender Systems 2019.
//!
//! # Departures
//! Cells are binary at weight 1, not ratings; scores are sums, not means.
//!
//! # Needs
//! Target items, weights and the sequence of each sample. Histories are looked at as sets.
//!
//! # Cost
//! Fit: sum over users of (distinct items)^2 products, in parallel by item. Score: sum over the
//! history of the candidates that count the item among their neighbours. Memory: `neighbours`
//! numbers per item; with 0, every pair of items that share a user.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tensors::{Csr, TensorError, Tensors};

use crate::cells::{Accumulator, cells};
use crate::counts::Counts;
use crate::data::TrainingData;
use crate::history::History;
use crate::recommender::{Capability, FitError, LoadError, Model, Parameter, Recommender};
use crate::run::Run;

const NEIGHBOURS: &str = "neighbours";

/// The fitted model.
pub(super) struct ItemKnn {
    counts: Counts,
    /// Row i: the nearest items of candidate i and their similarities.
    neighbours: Csr<f64>,
    /// Row h: the candidates that count h among their nearest.
    admirers: Csr<f64>,
}

/// How many neighbours, and how much support their similarity needs.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    #[serde(default = "default_neighbours")]
    neighbours: u32,
    #[serde(default)]
    shrink: f64,
}

fn default_neighbours() -> u32 {
    20
}

impl ItemKnn {
    fn new(counts: Counts, neighbours: Csr<f64>) -> Self {
        let admirers = neighbours.transpose();
        Self {
            counts,
            neighbours,
            admirers,
        }
    }
}

/// The nearest items of every item, columns ascending.
fn nearest(cells: &Csr<f64>, k: usize, shrink: f64) -> Result<Csr<f64>, FitError> {
    let by_item = cells.transpose();
    let n = by_item.n_rows();
    let norms: Vec<f64> = (0..n)
        .map(|item| {
            let squares: f64 = by_item.row(item).1.iter().map(|cell| cell * cell).sum();
            squares.sqrt()
        })
        .collect();
    let scales: Vec<f64> = norms
        .iter()
        .map(|&norm| if norm > 0.0 { 1.0 / norm } else { 0.0 })
        .collect();
    let items = u32::try_from(n).unwrap_or(u32::MAX);
    let rows: Vec<Vec<(u32, f64)>> = (0..items)
        .into_par_iter()
        .map_init(
            || Accumulator::new(n),
            |accumulator, item| {
                let mut row = accumulator.row(item, &by_item, cells);
                for (other, value) in &mut row {
                    let (item, other) = (item as usize, *other as usize);
                    *value = if shrink > 0.0 {
                        *value / (norms[item] * norms[other] + shrink)
                    } else {
                        (scales[item] * *value) * scales[other]
                    };
                }
                if k > 0 && row.len() > k {
                    row.select_nth_unstable_by(k - 1, |a, b| {
                        b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
                    });
                    row.truncate(k);
                }
                // All rows wait here for the last one: none may keep the room of its candidates.
                row.shrink_to_fit();
                row.sort_unstable_by_key(|(other, _)| *other);
                row
            },
        )
        .collect();
    Ok(Csr::from_rows(n, rows)?)
}

impl Recommender for ItemKnn {
    const NAME: &'static str = "itemknn";
    const REVISION: u32 = 2;
    const DOC: &'static str = "Items that the same users chose, by cosine.";
    const PAPER: &'static str = "Sarwar et al., WWW 2001; Deshpande and Karypis, TOIS 2004";
    const CAPABILITIES: &'static [Capability] = &[];
    const PARAMETERS: &'static [Parameter] = &[
        Parameter {
            name: "neighbours",
            default: "20",
            doc: "neighbours of each candidate; 0: all",
        },
        Parameter {
            name: "shrink",
            default: "0.0",
            doc: "added to the denominator of each cosine, from 0 up: pairs with few common users count less",
        },
    ];
    type Parameters = Parameters;

    fn check(parameters: &Parameters) -> Result<(), String> {
        if parameters.shrink.is_finite() && parameters.shrink >= 0.0 {
            Ok(())
        } else {
            Err("`shrink` must be a number from 0 up".to_owned())
        }
    }

    fn fit(
        parameters: &Parameters,
        data: &TrainingData<'_>,
        _: &mut Run<'_>,
    ) -> Result<Self, FitError> {
        let neighbours = nearest(
            &cells(data)?,
            parameters.neighbours as usize,
            parameters.shrink,
        )?;
        Ok(Self::new(Counts::of(data), neighbours))
    }

    fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        let counts = Counts::load(tensors)?;
        let neighbours = tensors.csr_f64(NEIGHBOURS)?;
        let n = counts.counts().len();
        if neighbours.n_rows() != n || neighbours.n_columns != n {
            return Err(LoadError::Sizes {
                left: "item_counts",
                right: NEIGHBOURS,
            });
        }
        Ok(Self::new(counts, neighbours))
    }
}

impl Model for ItemKnn {
    fn score(&self, _: Option<u32>, history: History<'_>, scores: &mut [f64]) {
        let n = self.admirers.n_rows();
        let known = history.items().iter().filter(|item| (**item as usize) < n);
        let mut distinct: Vec<u32> = known.copied().collect();
        if distinct.is_empty() {
            self.counts.write_shares(scores);
            return;
        }
        scores.fill(0.0);
        distinct.sort_unstable();
        distinct.dedup();
        // Ascending numbers fix the order of each sum.
        for item in distinct {
            let (candidates, similarities) = self.admirers.row(item as usize);
            for (&candidate, similarity) in candidates.iter().zip(similarities) {
                if let Some(score) = scores.get_mut(candidate as usize) {
                    *score += similarity;
                }
            }
        }
    }

    fn save(&self) -> Result<Tensors, TensorError> {
        let mut tensors = Tensors::new();
        self.counts.save(&mut tensors)?;
        tensors.insert_csr_f64(NEIGHBOURS, &self.neighbours)?;
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seed::Seed;

    use super::*;
    use crate::conformance::log;
    use crate::{Samples, Sequences};

    fn fit(logs: &[(&[u32], &[f64])], n: usize, neighbours: u32) -> ItemKnn {
        let (samples, sequences) = log(logs);
        let data = TrainingData::new(&samples, &sequences, n).unwrap();
        ItemKnn::fit(
            &Parameters {
                neighbours,
                shrink: 0.0,
            },
            &data,
            &mut Run::silent(Seed::root(1)),
        )
        .unwrap()
    }

    fn scores(model: &ItemKnn, history: &[u32], n: usize) -> Vec<f64> {
        let mut scores = vec![0.0; n];
        model.score(None, History::of(history), &mut scores);
        scores
    }

    fn assert_close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15, "{found} {expected}");
        }
    }

    const LOGS: [(&[u32], &[f64]); 3] = [
        (&[0, 1, 1, 0], &[1.0; 4]),
        (&[0, 1, 2], &[1.0; 3]),
        (&[0, 3], &[1.0; 2]),
    ];

    #[test]
    fn similarities_are_cosines_and_scores_their_sums() {
        let model = fit(&LOGS, 4, 0);
        // n = [3, 2, 1, 1]; c_01 = 2, c_02 = 1, c_03 = 1, c_12 = 1.
        let s01 = 2.0 / 6_f64.sqrt();
        let s02 = 1.0 / 3_f64.sqrt();
        let s12 = 1.0 / 2_f64.sqrt();
        assert_close(&scores(&model, &[0], 5), &[0.0, s01, s02, s02, 0.0]);
        // Items count once, however often the history holds them; item 9 is not known.
        let expected = [s01, s01, s02 + s12, s02, 0.0];
        assert_close(&scores(&model, &[1, 0, 9, 1], 5), &expected);
    }

    #[test]
    fn a_history_of_unknown_items_is_served_by_popularity() {
        let model = fit(&LOGS, 4, 0);
        let popular = scores(&model, &[], 6);
        assert!(popular[0] > popular[1] && popular[1] > popular[2]);
        assert_eq!(scores(&model, &[4], 6), popular);
        assert_eq!(scores(&model, &[9, 5, 9], 6), popular);
        // One known item is enough to be asked.
        assert_eq!(scores(&model, &[9, 0], 6), scores(&model, &[0], 6));
        assert_ne!(scores(&model, &[0], 6), popular);
    }

    #[test]
    fn only_the_nearest_count_and_ties_go_to_smaller_numbers() {
        let model = fit(&LOGS, 4, 1);
        // Nearest: 0 -> 1, 1 -> 0 (.816 against .707), 2 -> 1 (.707 against .577), 3 -> 0.
        let s01 = 2.0 / 6_f64.sqrt();
        let expected = [0.0, s01, 0.0, 1.0 / 3_f64.sqrt()];
        assert_close(&scores(&model, &[0], 4), &expected);
        // Items 1, 2, 3 are equally near to 0.
        let tied = fit(&[(&[0, 1, 2, 3], &[1.0; 4])], 4, 2);
        assert_eq!(tied.neighbours.row(0).0, [1, 2]);
        assert_eq!(tied.neighbours.row(2).0, [0, 1]);
    }

    #[test]
    fn shrinking_favours_pairs_with_many_users() {
        let (samples, sequences) = log(&LOGS);
        let data = TrainingData::new(&samples, &sequences, 4).unwrap();
        let found = nearest(&cells(&data).unwrap(), 0, 2.0).unwrap();
        // n = [3, 2, 1, 1]; c_01 = 2, c_02 = 1, c_03 = 1.
        assert_eq!(found.row(0).0, [1, 2, 3]);
        let single = 1.0 / (3_f64.sqrt() + 2.0);
        assert_close(
            found.row(0).1,
            &[2.0 / (6_f64.sqrt() + 2.0), single, single],
        );
        let entry = crate::recommender::entry("itemknn").unwrap();
        let error = entry.check(&serde_json::json!({ "shrink": -1.0 }));
        assert!(error.unwrap_err().source.to_string().contains("`shrink`"));
    }

    #[test]
    fn cells_never_exceed_one() {
        let once = fit(&[(&[0, 1], &[1.0, 1.0]), (&[0, 2], &[1.0, 0.5])], 3, 0);
        let twice = fit(
            &[(&[0, 1, 1], &[3.0, 0.75, 0.75]), (&[0, 2], &[1.0, 0.5])],
            3,
            0,
        );
        assert_eq!(once.neighbours, twice.neighbours);
        // A cell of one half: c_02 = 0.5, n_2 = 0.25, n_0 = 2.
        let expected = 0.5 / 2_f64.sqrt() / 0.5;
        assert_close(&scores(&once, &[2], 3), &[expected, 0.0, 0.0]);
    }

    proptest! {
        #[test]
        fn a_dense_product_gives_the_same_neighbours(
            users in prop::collection::vec(prop::collection::vec((0_u32..7, 0_u32..4), 1..8), 1..7),
            k in 0_usize..5,
        ) {
            let mut samples = Samples::default();
            let mut sequences = Sequences::default();
            let mut dense = vec![[0.0_f64; 7]; users.len()];
            let mut id = 0;
            for (user, events) in (0_u32..).zip(&users) {
                for (position, &(item, quarters)) in (0_u32..).zip(events) {
                    let weight = f64::from(quarters) / 4.0;
                    sequences.push(user, position, item).unwrap();
                    samples.push(id, user, position, item, weight);
                    dense[user as usize][item as usize] += weight;
                    id += 1;
                }
            }
            for cell in dense.iter_mut().flatten() {
                *cell = cell.min(1.0);
            }
            let data = TrainingData::new(&samples, &sequences, 7).unwrap();
            let found = nearest(&cells(&data).unwrap(), k, 0.0).unwrap();
            let product = |i: usize, j: usize| dense.iter().map(|row| row[i] * row[j]).sum::<f64>();
            for i in 0..7 {
                let mut row: Vec<(u32, f64)> = (0_u32..7)
                    .filter(|&j| j as usize != i && product(i, j as usize) > 0.0)
                    .map(|j| {
                        let at = j as usize;
                        let scale = |n: usize| 1.0 / product(n, n).sqrt();
                        (j, (scale(i) * product(i, at)) * scale(at))
                    })
                    .collect();
                row.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                row.truncate(if k == 0 { 7 } else { k });
                row.sort_by_key(|(j, _)| *j);
                let (columns, values) = found.row(i);
                let found: Vec<(u32, f64)> = columns.iter().copied().zip(values.iter().copied()).collect();
                prop_assert_eq!(found, row);
            }
        }
    }
}
