//! Representer points: what the sample adds to the scores of relevant items.
//!
//! A linear softmax head Θ is fitted to the hidden states f of the samples and their targets, with penalty `λ |Θ|²`, to its stationary point. There the score of item j at a state `f_q` is a sum over samples,
//!
//! `Θ_j · f_q = Σ α_ij <f_i, f_q>,   α_ij = −(p_ij − [y_i = j]) / (2 λ n)`
//!
//! score(z) = mean over requests of the mean over relevant items j of `α_zj <f_z, f_q>`
//!
//! so that scores sum to the mean score of relevant items.
//!
//! # Paper
//! Yeh, Kim, Yen, Ravikumar, "Representer Point Selection for Explaining Deep Neural Networks", NeurIPS 2018; arXiv:1811.09720, theorem 3.1.
//!
//! # Departures
//! It explains the fitted head, not the model's own: theirs is not at a stationary point of a penalised loss, and without one the sum does not hold.
//! The states are divided by the root of their mean square length, so that λ means the same for every model.
//! The paper explains one score; here those of the relevant items of requests, the mean of them. It is a part of scores, not of the loss: a sample that raises all items alike is helpful.
//! Sample weights are not used. Relevant items outside the vocabulary are left out; requests without a state or without a known relevant item are not asked.
//! Copies of a sample score the same up to rounding.
//!
//! # Needs
//! Hidden states; a sample without a history is unscored.
//!
//! # Cost
//! Time O(steps · samples · items · columns), some tens of steps; memory O(samples · columns + 30 · items · columns). Vocabularies above 16,384 items are refused: all items take part in the sum.

use serde::{Deserialize, Serialize};

use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores,
};
use crate::inside::HiddenStates;
use crate::problem::Problem;
use crate::softmax_head::Examples;

/// The largest vocabulary.
const MOST_ITEMS: usize = 1 << 14;
/// Steps after which the fit is given up.
const MOST_STEPS: usize = 2000;

pub(super) struct RepresenterPoints {
    penalty: f64,
    tolerance: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Params {
    penalty: f64,
    tolerance: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            penalty: 1e-4,
            tolerance: 1e-6,
        }
    }
}

impl Method for RepresenterPoints {
    const NAME: &'static str = "representer_points";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Gradient;
    const DOC: &'static str =
        "Part of the sample in the scores of relevant items, under a head fitted to hidden states.";
    const ESTIMAND: &'static str = "Part of the sample in the score of relevant items under a penalised softmax head on hidden states, mean over requests and their relevant items; parts sum to the score.";
    const PAPER: &'static str = "Yeh, Kim, Yen, Ravikumar, \"Representer Point Selection for Explaining Deep Neural Networks\", NeurIPS 2018; arXiv:1811.09720, theorem 3.1.";
    const NEEDS: &'static [Need] = &[Need::HiddenStates];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = false;
    const PARAMETERS: &'static [Parameter] = &[
        Parameter {
            name: "penalty",
            default: "0.0001",
            doc: "λ of the fitted head, for states of mean square length 1; > 0.",
        },
        Parameter {
            name: "tolerance",
            default: "1e-6",
            doc: "Length of the gradient at which the fit is stationary, as a share of that at the start; > 0.",
        },
    ];
    type Params = Params;

    fn new(params: Params) -> Result<Self, ParameterErrorKind> {
        let Params { penalty, tolerance } = params;
        for (name, value) in [("penalty", penalty), ("tolerance", tolerance)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(ParameterErrorKind::Range {
                    name,
                    found: value.to_string(),
                    wanted: "a number > 0",
                });
            }
        }
        Ok(Self { penalty, tolerance })
    }
}

/// Samples as examples, and what is asked of the head.
struct Asked {
    /// Position of each example.
    samples: Vec<u32>,
    examples: Examples,
    /// Sum over requests and relevant items of share x state, by item: [items, columns].
    wanted: Vec<f64>,
    n_requests: u64,
}

impl Estimator for RepresenterPoints {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let (method, need) = (Self::NAME, Need::HiddenStates);
        let hidden = problem
            .hidden_states()
            .ok_or(EstimatorError::Missing { method, need })?;
        if hidden.n_items() > MOST_ITEMS {
            return Err(EstimatorError::Unsolved {
                method,
                what: format!(
                    "the vocabulary has {} items, the largest that is fitted {MOST_ITEMS}",
                    hidden.n_items()
                ),
                hint: "raise `k_core` of `preprocess`, or take `retrieval_attention`, which asks for relevant items alone",
            });
        }
        let asked = self.ask(problem, hidden)?;
        let weights = asked
            .examples
            .fit(self.tolerance, MOST_STEPS, || {})
            .map_err(|found| EstimatorError::Unsolved {
                method,
                what: format!(
                    "after {} steps the gradient of the head is {:e} of what it was, wanted {:e}",
                    found.steps, found.relative, self.tolerance
                ),
                hint: "raise `penalty` or `tolerance`",
            })?;
        let mut score = vec![None; problem.samples().len()];
        for (&sample, part) in asked.samples.iter().zip(asked.parts(&weights)) {
            score[sample as usize] = Some(part);
        }
        Ok(Scores::exact(score, asked.n_requests))
    }
}

impl RepresenterPoints {
    fn ask(&self, problem: &dyn Problem, hidden: &HiddenStates) -> Result<Asked, EstimatorError> {
        let (samples, rows) = (problem.samples(), hidden.samples());
        let (columns, n_items) = (hidden.n_columns(), hidden.n_items());
        let is_known = |item: u32| (item as usize) < n_items;
        let item = |at: usize| samples.item[rows.numbers[at] as usize];
        // By identity, so that sums do not depend on the order of samples.
        let mut order: Vec<usize> = (0..rows.numbers.len())
            .filter(|&at| is_known(item(at)))
            .collect();
        order.sort_unstable_by_key(|&at| samples.id[rows.numbers[at] as usize]);
        let state = |at: usize| &rows.values[at * columns..(at + 1) * columns];
        let states = order.iter().flat_map(|&at| state(at));
        let square: f64 = states.clone().map(|&x| f64::from(x) * f64::from(x)).sum();
        let scale = if square > 0.0 {
            (order.len() as f64 / square).sqrt()
        } else {
            1.0
        };
        let mut requests: Vec<_> = problem
            .target()
            .requests
            .iter()
            .filter_map(|request| {
                let known = request.relevant.iter().copied();
                let known: Vec<u32> = known.filter(|&item| is_known(item)).collect();
                let state = hidden.request(request.request)?;
                (!known.is_empty()).then_some((request.request, state, known))
            })
            .collect();
        if requests.is_empty() {
            return Err(EstimatorError::NoRequest {
                method: Self::NAME,
                why: "none has a hidden state and a relevant item of the vocabulary",
            });
        }
        requests.sort_by_key(|(request, _, _)| *request);
        let mut wanted = vec![0.0; n_items * columns];
        for (_, state, known) in &requests {
            let share = scale / (requests.len() * known.len()) as f64;
            for &item in known {
                let sum = &mut wanted[item as usize * columns..][..columns];
                for (sum, &x) in sum.iter_mut().zip(*state) {
                    *sum += share * f64::from(x);
                }
            }
        }
        Ok(Asked {
            examples: Examples {
                columns,
                rows: states.map(|&x| scale * f64::from(x)).collect(),
                classes: order.iter().map(|&at| item(at)).collect(),
                n_classes: n_items,
                penalty: self.penalty,
            },
            samples: order.iter().map(|&at| rows.numbers[at]).collect(),
            wanted,
            n_requests: requests.len() as u64,
        })
    }
}

impl Asked {
    /// The part of each sample: Σ over items of α <f, wanted>.
    fn parts(&self, weights: &[f64]) -> Vec<f64> {
        let examples = &self.examples;
        let scale = -1.0 / (2.0 * examples.penalty * examples.n().max(1) as f64);
        let mut parts = Vec::with_capacity(examples.n());
        examples.errors(weights, 0..examples.n(), |rows, errors, _| {
            let products = examples.products(&self.wanted, &rows);
            let n = examples.n_classes.max(1);
            for (errors, products) in errors.chunks_exact(n).zip(products.chunks_exact(n)) {
                let pairs = errors.iter().zip(products);
                let sum = pairs.fold(0.0, |sum, (error, product)| sum + error * product);
                parts.push(scale * sum);
            }
        });
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    #[test]
    fn parts_sum_to_the_score_of_relevant_items() {
        for seed in 0..3 {
            let problem = toy::problem(seed);
            for penalty in [1e-4, 0.1] {
                let method = RepresenterPoints {
                    penalty,
                    tolerance: 1e-10,
                };
                let hidden = problem.hidden_states().unwrap();
                let asked = method.ask(&problem, hidden).unwrap();
                let weights = asked.examples.fit(1e-10, MOST_STEPS, || {}).unwrap();
                let score: f64 = weights.iter().zip(&asked.wanted).map(|(a, b)| a * b).sum();
                let found = method.estimate(&problem, Seed::root(0), &|_| {}).unwrap();
                let sum: f64 = found.score.iter().flatten().sum();
                // What is left of the gradient, 1e-10 of about 0.1, over 2 λ.
                assert!((sum - score).abs() < 1e-11 / penalty, "{sum} {score}");
                assert!(score.abs() > 1e-4, "{score}");
            }
        }
    }

    #[test]
    fn a_part_is_alpha_times_the_product_of_states() {
        let problem = toy::problem(1);
        let method = RepresenterPoints::new(Params::default()).unwrap();
        let hidden = problem.hidden_states().unwrap();
        let asked = method.ask(&problem, hidden).unwrap();
        let Examples {
            columns,
            ref rows,
            ref classes,
            n_classes,
            penalty,
        } = asked.examples;
        let weights = asked.examples.fit(1e-6, MOST_STEPS, || {}).unwrap();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let found = asked.parts(&weights);
        for (at, found) in found.iter().enumerate() {
            let f = &rows[at * columns..(at + 1) * columns];
            let logits: Vec<f64> = weights.chunks(columns).map(|w| dot(w, f)).collect();
            let total: f64 = logits.iter().map(|&x| libm::exp(x)).sum();
            let wanted: f64 = (0..n_classes)
                .map(|item| {
                    let is_target = f64::from(u8::from(classes[at] as usize == item));
                    let p = libm::exp(logits[item]) / total;
                    let alpha = -(p - is_target) / (2.0 * penalty * classes.len() as f64);
                    alpha * dot(f, &asked.wanted[item * columns..(item + 1) * columns])
                })
                .sum();
            // Numbers of about 10 in another order.
            assert!((found - wanted).abs() < 1e-11, "{found} {wanted}");
        }
    }

    #[test]
    fn a_target_without_states_is_an_error() {
        let problem = toy::without_request_features();
        let method = RepresenterPoints::new(Params::default()).unwrap();
        let found = method.estimate(&problem, Seed::root(0), &|_| {});
        assert!(matches!(found, Err(EstimatorError::NoRequest { .. })));
    }
}
