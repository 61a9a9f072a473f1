//! kNN-Shapley: the exact Shapley value of a sample in a game of nearest histories.
//!
//! Players are samples with features x = their history and label y = their target item. A request
//! with history features q and relevant items R asks one query per j in R: the utility of a
//! coalition is the share of the label j among its K samples nearest to q. With samples ranked by
//! (1 − cos(q, x), sample id), nearest first, and m(i) = \[y(i) = j\], Theorem 1 of the paper reads
//!
//! s(N) = m(N) min(K, N) / (N K),   s(i) = s(i+1) + (m(i) − m(i+1)) / K · min(K, i) / i
//!
//! score(z) = Σ over requests and j in R of s(z) / (|requests| |R|)
//!
//! # Paper
//! Jia et al., "Efficient Task-Specific Data Valuation for Nearest Neighbor Algorithms", PVLDB 12(11), 2019; arXiv:1908.08619, Theorem 1.
//!
//! # Departures
//! The farthest sample gets min(K, N) / (N K) instead of 1 / N, which is wrong for N < K.
//! Samples are ranked by cosine, which orders unit vectors as their Euclidean distance does.
//! Queries of one request share a ranking, and s is linear in m: one pass with m(i) = \[y(i) in R\] gives their sum.
//! Samples and requests whose history has no features are no players and no queries; these samples are unscored.
//! Ties are ranked by sample id, so that of two copies the one with the smaller id gets more or less than the other.
//! Sample weights are not used: a sample is a player or not.
//!
//! # Needs
//! Representations of histories; with `space: hidden`, hidden states.
//!
//! # Cost
//! Time O(requests · (products of the inverted index + histories · log matches + samples at a
//! matching distance · log matches)), where histories are the distinct ones and matches the samples
//! with a relevant target; memory O(16 · (samples + histories)).

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores, Work,
};
use crate::held_out::{AtHeldOut, HeldOut};
use crate::histories::{Histories, has_features};
use crate::nearest::{Grouping, Scratch, Values, add_shapley};
use crate::problem::{Problem, Request};
use crate::space::{Space, in_hidden_space};

/// Requests whose values are summed one after the other; fixed, so that sums do not depend on threads.
const BLOCK_REQUESTS: usize = 32;

/// Blocks that run side by side before their sums are added in order; bounds memory.
const WAVE_BLOCKS: usize = 16;

pub(super) struct KnnShapley {
    neighbours: usize,
    space: Space,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Params {
    k: usize,
    space: Space,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            k: 10,
            space: Space::Features,
        }
    }
}

impl Method for KnnShapley {
    const NAME: &'static str = "knn_shapley";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Similarity;
    const DOC: &'static str = "Exact Shapley value of a sample for a nearest-neighbour prediction of the relevant items from histories.";
    const ESTIMAND: &'static str = "Shapley value in the share of relevant items among the K samples with the nearest histories, mean over requests and their relevant items.";
    const PAPER: &'static str = "Jia et al., \"Efficient Task-Specific Data Valuation for Nearest Neighbor Algorithms\", PVLDB 12(11), 2019; arXiv:1908.08619, Theorem 1.";
    const NEEDS: &'static [Need] = &[Need::Representations];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = false;
    const TUNABLE: bool = true;
    const PARAMETERS: &'static [Parameter] = &[
        Parameter {
            name: "k",
            default: "10",
            doc: "Neighbours K that a prediction looks at; >= 1.",
        },
        Space::PARAMETER,
    ];
    type Params = Params;

    fn new(params: Params) -> Result<Self, ParameterErrorKind> {
        if params.k == 0 {
            return Err(ParameterErrorKind::Range {
                name: "k",
                found: params.k.to_string(),
                wanted: ">= 1",
            });
        }
        Ok(Self {
            neighbours: params.k,
            space: params.space,
        })
    }
}

impl Estimator for KnnShapley {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let mut scores = self.values(problem, on_progress)?;
        if let Some(there) = AtHeldOut::of(problem) {
            // Values add up to the utility of all samples.
            let values = self.values(&there, &|_| {})?;
            scores.held_out = Some(HeldOut {
                value: values.score.iter().flatten().sum(),
                std_error: None,
                n_requests: there.target().requests.len() as u64,
            });
        }
        Ok(scores)
    }

    fn chosen_needs(&self) -> &'static [Need] {
        self.space.needs()
    }
}

impl KnnShapley {
    /// The value of every sample.
    fn values(
        &self,
        problem: &dyn Problem,
        on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let method = Self::NAME;
        if self.space == Space::Hidden {
            let moved = in_hidden_space(problem, method)?;
            let there = Self {
                neighbours: self.neighbours,
                space: Space::Features,
            };
            return there.values(&moved, on_progress);
        }
        let representations = problem.representations().ok_or(EstimatorError::Missing {
            method,
            need: Need::Representations,
        })?;
        let samples = problem.samples();
        let histories = Histories::new(samples, &representations.histories);
        let requests: Vec<&Request> = problem
            .target()
            .requests
            .iter()
            .filter(|request| has_features(&representations.histories, request.history_row))
            .collect();
        if requests.is_empty() {
            return Err(EstimatorError::NoRequest {
                method,
                why: "none has a history with features",
            });
        }
        let labels = PointsByLabel::new(&histories.sample, &samples.item);
        let total = self.sum(
            &histories,
            &representations.histories,
            &labels,
            &requests,
            on_progress,
        );
        let mut score = vec![None; samples.len()];
        for (point, &sample) in (0..).zip(&histories.sample) {
            score[sample as usize] = Some(total.of(&histories.grouping, point));
        }
        let n_queries: usize = requests.iter().map(|request| request.relevant.len()).sum();
        Ok(Scores::exact(score, n_queries as u64))
    }

    /// Values summed over all queries.
    fn sum(
        &self,
        histories: &Histories<'_>,
        matrix: &tensors::Csr,
        labels: &PointsByLabel,
        requests: &[&Request],
        on_progress: OnProgress<'_>,
    ) -> Values {
        let grouping = &histories.grouping;
        let mut total = Values::new(grouping);
        let n_workers = requests.len().div_ceil(BLOCK_REQUESTS).min(WAVE_BLOCKS);
        let mut workers: Vec<Worker> = (0..n_workers).map(|_| Worker::new(grouping)).collect();
        for wave in requests.chunks(BLOCK_REQUESTS * WAVE_BLOCKS) {
            let blocks = wave.par_chunks(BLOCK_REQUESTS);
            workers
                .par_iter_mut()
                .zip(blocks)
                .for_each(|(worker, block)| {
                    worker.values.clear();
                    for request in block {
                        if request
                            .relevant
                            .iter()
                            .all(|&item| labels.of(item).is_empty())
                        {
                            // No sample has a relevant target: all values are zero.
                            continue;
                        }
                        histories.cosines(
                            matrix.row(request.history_row as usize),
                            &mut worker.cosines,
                        );
                        let matches = request
                            .relevant
                            .iter()
                            .flat_map(|&item| labels.of(item))
                            .copied();
                        let weight = 1.0 / (requests.len() as f64 * request.relevant.len() as f64);
                        add_shapley(
                            grouping,
                            &worker.cosines,
                            matches,
                            self.neighbours,
                            weight,
                            &mut worker.scratch,
                            &mut worker.values,
                        );
                    }
                    on_progress(Work {
                        done: block.len() as u64,
                        total: requests.len() as u64,
                    });
                });
            for worker in &workers[..wave.len().div_ceil(BLOCK_REQUESTS)] {
                total.add(&worker.values);
            }
        }
        total
    }
}

struct Worker {
    cosines: Vec<f64>,
    scratch: Scratch,
    values: Values,
}

impl Worker {
    fn new(grouping: &Grouping) -> Self {
        Self {
            cosines: Vec::new(),
            scratch: Scratch::default(),
            values: Values::new(grouping),
        }
    }
}

/// Points by target item.
struct PointsByLabel(Grouping);

impl PointsByLabel {
    fn new(sample_of_point: &[u32], item_of_sample: &[u32]) -> Self {
        let label = |&sample: &u32| item_of_sample[sample as usize];
        let labels: Vec<u32> = sample_of_point.iter().map(label).collect();
        let n_labels = labels.iter().max().map_or(0, |&label| label as usize + 1);
        Self(Grouping::new(labels, n_labels))
    }

    /// Points with this target; none for an item that is nobody's.
    fn of(&self, label: u32) -> &[u32] {
        if (label as usize) < self.0.n_groups() {
            self.0.members(label as usize)
        } else {
            &[]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histories::cosine;
    use crate::toy;

    /// One query per relevant item, each with a ranking of its own: O(queries · samples log samples).
    fn one_query_after_the_other(problem: &dyn Problem, k: usize) -> Vec<Option<f64>> {
        let samples = problem.samples();
        let matrix = &problem.representations().unwrap().histories;
        let mut players: Vec<usize> = (0..samples.len())
            .filter(|&i| has_features(matrix, samples.history_row[i]))
            .collect();
        players.sort_by_key(|&i| samples.id[i]);
        let requests = problem.target().requests.iter();
        let requests: Vec<_> = requests
            .filter(|request| has_features(matrix, request.history_row))
            .collect();
        let n = players.len();
        let mut score = vec![None; samples.len()];
        for request in &requests {
            let mut dense = vec![0.0; matrix.n_columns];
            let (features, values) = matrix.row(request.history_row as usize);
            for (&feature, &value) in features.iter().zip(values) {
                dense[feature as usize] = f64::from(value);
            }
            let closeness = |i: usize| cosine(&dense, matrix.row(samples.history_row[i] as usize));
            for &label in &request.relevant {
                let mut ranking = players.clone();
                ranking.sort_by(|&a, &b| closeness(b).total_cmp(&closeness(a)));
                let m = |rank: usize| f64::from(u8::from(samples.item[ranking[rank - 1]] == label));
                let weight = 1.0 / (requests.len() * request.relevant.len()) as f64;
                let mut s = m(n) * k.min(n) as f64 / (n * k) as f64;
                *score[ranking[n - 1]].get_or_insert(0.0) += weight * s;
                for i in (1..n).rev() {
                    s += (m(i) - m(i + 1)) / k as f64 * k.min(i) as f64 / i as f64;
                    *score[ranking[i - 1]].get_or_insert(0.0) += weight * s;
                }
            }
        }
        score
    }

    #[test]
    fn sharing_rankings_changes_nothing() {
        for seed in 0..20 {
            let problem = toy::problem(seed);
            for k in [1, 5, 10, 500] {
                let method = KnnShapley {
                    neighbours: k,
                    space: Space::Features,
                };
                let found = method
                    .estimate(&problem, Seed::root(0), &|_| {})
                    .unwrap()
                    .score;
                let wanted = one_query_after_the_other(&problem, k);
                assert!(wanted.iter().any(Option::is_some));
                for (found, wanted) in found.iter().zip(&wanted) {
                    match (found, wanted) {
                        (Some(found), Some(wanted)) => {
                            assert!((found - wanted).abs() < 1e-14, "{found} {wanted}");
                        }
                        _ => assert_eq!(found, wanted),
                    }
                }
            }
        }
    }

    #[test]
    fn a_target_without_histories_is_an_error() {
        let problem = toy::without_request_features();
        let method = KnnShapley::new(Params::default()).unwrap();
        let found = method.estimate(&problem, Seed::root(0), &|_| {});
        assert!(matches!(found, Err(EstimatorError::NoRequest { .. })));
    }
}
