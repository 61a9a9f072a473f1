//! Retrieval attention: what happens to a prediction that looks training samples up if it looks more
//! at this one.
//!
//! A request with hidden state q attends to all samples by their states k, a(s) = softmax of q·k(s) / (T √d) over samples s. It predicts the mean over samples of how well their targets agree with its relevant items R,
//!
//! u = Σ a(s) m(s),   m(s) = mean over j in R of cos(v(target of s), v(j))
//!
//! where v are the item vectors of the model, or m(s) is the share of R that is the target (`agreement: item`). The score is the derivative of the mean of u over requests by the logarithm of the weight of a sample:
//!
//! score(z) = mean over requests of a(z) (m(z) − u)
//!
//! A sample that requests look at and that agrees with them better than what they find on average is helpful, one that agrees worse is harmful, one that nobody looks at is neither; the scores of each request sum to 0.
//!
//! # Paper
//! Vaswani et al., "Attention Is All You Need", NeurIPS 2017; arXiv:1706.03762, equation 1.
//!
//! # Departures
//! The paper attends between positions of one input; here keys are hidden states of training samples, as in nearest-neighbour language models (Khandelwal et al. 2020, arXiv:1911.00172), and values are agreements of targets.
//! The model was not trained to look samples up: the score is that of a retriever built on its states.
//! Relevant items outside the vocabulary have no vector and are left out; requests without a state or without a known relevant item are no queries.
//! Products are taken in 32 bits. Copies of a sample score the same up to their rounding.
//!
//! # Needs
//! Hidden states; a sample without a history is unscored.
//!
//! # Cost
//! Time O(requests · (samples + items) · columns); memory O(samples · columns) and 8 threads' worth of 48 bytes for each sample.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tensors::{Matrix, exponentiate, multiply};

use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores, Work,
};
use crate::inside::HiddenStates;
use crate::problem::{Problem, Request};

/// Parts into which requests are cut; each sums its own scores. Fixes the order of the sum.
const PARTS: usize = 8;
/// Requests whose products with all samples exist at once.
const BLOCK: usize = 8;

pub(super) struct RetrievalAttention {
    agreement: Agreement,
    temperature: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Params {
    agreement: Agreement,
    temperature: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            agreement: Agreement::Vector,
            temperature: 1.0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Agreement {
    Vector,
    Item,
}

impl Method for RetrievalAttention {
    const NAME: &'static str = "retrieval_attention";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Attention;
    const DOC: &'static str = "How much requests look the sample up by hidden states, and how well its target agrees with what they want.";
    const ESTIMAND: &'static str = "Change of the agreement that requests find by attention to samples, per unit of the logarithm of the weight of the sample; mean over requests.";
    const PAPER: &'static str = "Vaswani et al., \"Attention Is All You Need\", NeurIPS 2017; arXiv:1706.03762, equation 1.";
    const NEEDS: &'static [Need] = &[Need::HiddenStates];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = false;
    const PARAMETERS: &'static [Parameter] = &[
        Parameter {
            name: "agreement",
            default: "\"vector\"",
            doc: "How a target agrees with relevant items: `vector`, by the cosine of item vectors, or `item`, by being one.",
        },
        Parameter {
            name: "temperature",
            default: "1.0",
            doc: "T, divides products of states; > 0. The lower, the fewer samples a request looks at.",
        },
    ];
    type Params = Params;

    fn new(params: Params) -> Result<Self, ParameterErrorKind> {
        let temperature = params.temperature;
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(ParameterErrorKind::Range {
                name: "temperature",
                found: temperature.to_string(),
                wanted: "a number > 0",
            });
        }
        Ok(Self {
            agreement: params.agreement,
            temperature,
        })
    }
}

/// What is looked up.
struct Keys<'p> {
    hidden: &'p HiddenStates,
    /// Positions of the samples, by identity.
    samples: Vec<u32>,
    /// Their states, one after the other.
    states: Vec<f32>,
    /// Their targets.
    targets: Vec<u32>,
    /// Vectors of items of length 1.
    items: Vec<f32>,
}

impl Estimator for RetrievalAttention {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let (method, need) = (Self::NAME, Need::HiddenStates);
        let hidden = problem
            .hidden_states()
            .ok_or(EstimatorError::Missing { method, need })?;
        let n_items = hidden.n_items();
        let is_known = |item: u32| (item as usize) < n_items;
        let mut requests: Vec<(&[f32], &Request)> = problem
            .target()
            .requests
            .iter()
            .filter(|request| request.relevant.iter().any(|&item| is_known(item)))
            .filter_map(|request| Some((hidden.request(request.request)?, request)))
            .collect();
        if requests.is_empty() {
            return Err(EstimatorError::NoRequest {
                method,
                why: "none has a hidden state and a relevant item of the vocabulary",
            });
        }
        // Sums do not depend on the order in which requests and samples come.
        requests.sort_by_key(|(_, request)| request.request);
        let keys = Keys::new(problem, hidden);
        let sum = self.sum(&keys, &requests, on_progress);
        let mut score = vec![None; problem.samples().len()];
        for (&sample, &sum) in keys.samples.iter().zip(&sum) {
            score[sample as usize] = Some(sum / requests.len() as f64);
        }
        Ok(Scores::exact(score, requests.len() as u64))
    }
}

impl<'p> Keys<'p> {
    fn new(problem: &dyn Problem, hidden: &'p HiddenStates) -> Self {
        let samples = problem.samples();
        let (rows, columns) = (hidden.samples(), hidden.n_columns());
        let is_known = |at: usize| {
            let item = samples.item[rows.numbers[at] as usize];
            (item as usize) < hidden.n_items()
        };
        let mut order: Vec<usize> = (0..rows.numbers.len()).filter(|&at| is_known(at)).collect();
        order.sort_unstable_by_key(|&at| samples.id[rows.numbers[at] as usize]);
        let positions: Vec<u32> = order.iter().map(|&at| rows.numbers[at]).collect();
        Self {
            hidden,
            targets: positions
                .iter()
                .map(|&at| samples.item[at as usize])
                .collect(),
            samples: positions,
            states: order
                .iter()
                .flat_map(|&at| &rows.values[at * columns..(at + 1) * columns])
                .copied()
                .collect(),
            items: hidden.unit_items(),
        }
    }
}

impl RetrievalAttention {
    /// Sum over requests of attention x (agreement - mean agreement), by key.
    fn sum(
        &self,
        keys: &Keys<'_>,
        requests: &[(&[f32], &Request)],
        on_progress: OnProgress<'_>,
    ) -> Vec<f64> {
        let n = keys.samples.len();
        let total = requests.len() as u64;
        let part = requests.len().div_ceil(PARTS);
        let parts: Vec<Vec<f64>> = requests
            .par_chunks(part)
            .map(|part| {
                let mut sum = vec![0.0; n];
                let mut attention = vec![0.0_f32; BLOCK * n];
                for block in part.chunks(BLOCK) {
                    let attention = &mut attention[..block.len() * n];
                    self.attend(keys, block, attention);
                    for ((_, request), row) in
                        block.iter().zip(attention.chunks_exact_mut(n.max(1)))
                    {
                        let agreement = self.agreements(keys, &request.relevant);
                        let (_, share) = exponentiate(row);
                        let pairs = || row.iter().zip(&keys.targets);
                        let found = pairs().fold(0.0, |found, (&a, &target)| {
                            found + f64::from(a) * agreement[target as usize]
                        });
                        let mean = found / share;
                        for (sum, (&a, &target)) in sum.iter_mut().zip(pairs()) {
                            *sum += f64::from(a) / share * (agreement[target as usize] - mean);
                        }
                    }
                    on_progress(Work {
                        done: block.len() as u64,
                        total,
                    });
                }
                sum
            })
            .collect();
        let mut all = vec![0.0; n];
        for part in parts {
            for (all, part) in all.iter_mut().zip(part) {
                *all += part;
            }
        }
        all
    }

    /// Products of the states of some requests with those of all samples, over T √d.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "products are taken in 32 bits, and so is what they are scaled by"
    )]
    fn attend(&self, keys: &Keys<'_>, block: &[(&[f32], &Request)], products: &mut [f32]) {
        let (n, columns) = (keys.samples.len(), keys.hidden.n_columns());
        let queries: Vec<f32> = block
            .iter()
            .flat_map(|(state, _)| *state)
            .copied()
            .collect();
        let scale = 1.0 / (self.temperature * (columns as f64).sqrt());
        multiply(
            Matrix::new(&queries, block.len(), columns),
            Matrix::new(&keys.states, n, columns).transposed(),
            products,
            n,
            false,
            scale as f32,
        );
    }

    /// How well each item, as a target, agrees with some relevant items; those outside the vocabulary
    /// are left out.
    fn agreements(&self, keys: &Keys<'_>, relevant: &[u32]) -> Vec<f64> {
        let (n_items, columns) = (keys.hidden.n_items(), keys.hidden.n_columns());
        let known = || {
            relevant
                .iter()
                .map(|&item| item as usize)
                .filter(|&item| item < n_items)
        };
        let share = 1.0 / known().count().max(1) as f64;
        let mut agreement = vec![0.0; n_items];
        if self.agreement == Agreement::Item {
            for item in known() {
                agreement[item] = share;
            }
            return agreement;
        }
        let mut mean = vec![0.0; columns];
        for item in known() {
            let vector = &keys.items[item * columns..(item + 1) * columns];
            for (mean, &x) in mean.iter_mut().zip(vector) {
                *mean += share * f64::from(x);
            }
        }
        for (agreement, vector) in agreement.iter_mut().zip(keys.items.chunks_exact(columns)) {
            let pairs = vector.iter().zip(&mean);
            *agreement = pairs.fold(0.0, |sum, (&x, mean)| sum + f64::from(x) * mean);
        }
        agreement
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    fn estimate(problem: &dyn Problem, agreement: Agreement, temperature: f64) -> Scores {
        let method = RetrievalAttention {
            agreement,
            temperature,
        };
        method.estimate(problem, Seed::root(0), &|_| {}).unwrap()
    }

    /// Mean over requests of the agreement that they find where samples have weights.
    fn found(
        problem: &dyn Problem,
        (agreement, temperature): (Agreement, f64),
        weight: impl Fn(usize) -> f64,
    ) -> f64 {
        let hidden = problem.hidden_states().unwrap();
        let (n_items, columns) = (hidden.n_items(), hidden.n_columns());
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            let pairs = a.iter().zip(b);
            pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        let vector = |item: usize| &hidden.items()[item * columns..(item + 1) * columns];
        let cosine = |i: usize, j: usize| {
            let (a, b) = (vector(i), vector(j));
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let (mut sum, mut n) = (0.0, 0.0);
        for request in &problem.target().requests {
            let known: Vec<usize> = request
                .relevant
                .iter()
                .map(|&item| item as usize)
                .filter(|&item| item < n_items)
                .collect();
            let Some(query) = hidden
                .request(request.request)
                .filter(|_| !known.is_empty())
            else {
                continue;
            };
            let (mut total, mut utility) = (0.0, 0.0);
            let rows = hidden.samples();
            for (&at, key) in rows.numbers.iter().zip(rows.values.chunks_exact(columns)) {
                let target = problem.samples().item[at as usize] as usize;
                let scale = temperature * (columns as f64).sqrt();
                let a = weight(at as usize) * libm::exp(dot(query, key) / scale);
                let agrees = known.iter().map(|&item| match agreement {
                    Agreement::Vector => cosine(item, target),
                    Agreement::Item => f64::from(u8::from(item == target)),
                });
                total += a;
                utility += a * agrees.sum::<f64>() / known.len() as f64;
            }
            sum += utility / total;
            n += 1.0;
        }
        sum / n
    }

    #[test]
    fn scores_are_derivatives_by_weights_of_samples() {
        for seed in 0..3 {
            let problem = toy::problem(seed);
            for setting in [
                (Agreement::Vector, 1.0),
                (Agreement::Item, 1.0),
                (Agreement::Vector, 0.3),
            ] {
                let scores = estimate(&problem, setting.0, setting.1);
                let mut n = 0;
                for (sample, score) in scores.score.iter().enumerate() {
                    let Some(score) = score else {
                        assert_eq!(problem.samples().history_row[sample], 0);
                        continue;
                    };
                    let step = 1e-4;
                    let at = |log: f64| {
                        let weight = |at| if at == sample { libm::exp(log) } else { 1.0 };
                        found(&problem, setting, weight)
                    };
                    let wanted = (at(step) - at(-step)) / (2.0 * step);
                    // Products are rounded to 32 bits; the step itself costs 1e-8.
                    assert!((score - wanted).abs() < 1e-6, "{score} {wanted}");
                    n += usize::from(score.abs() > 1e-4);
                }
                assert!(n > 20, "{n}");
            }
        }
    }

    #[test]
    fn what_is_taken_from_one_sample_is_given_to_others() {
        let problem = toy::problem(1);
        let scores = estimate(&problem, Agreement::Vector, 1.0).score;
        let sum: f64 = scores.iter().flatten().sum();
        // Sums of some thousand terms below 1.
        assert!(sum.abs() < 1e-12, "{sum}");
        assert!(scores.iter().flatten().any(|&score| score < -1e-4));
    }

    #[test]
    fn a_target_without_states_is_an_error() {
        let problem = toy::without_request_features();
        let params = Params::default();
        let method = RetrievalAttention::new(params).unwrap();
        let found = method.estimate(&problem, Seed::root(0), &|_| {});
        assert!(matches!(found, Err(EstimatorError::NoRequest { .. })));
    }
}
