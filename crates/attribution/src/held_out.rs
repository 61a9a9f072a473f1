//! What settings of a method are chosen by, without labels of noise: how well the direction that is
//! computed from the requests of the target holds on requests that it did not see.
//!
//! A method whose score is the product of a sample's gradient with a direction v says: a step along
//! −v lowers the loss of the requests. With g the mean gradient of the requests held out, and the
//! empirical Fisher matrix F of the samples as curvature, the fall of their loss in a step of length η is
//! η g'v − η²/2 v'Fv to second order; the best step gives J²/2 with
//!
//! ```text
//! J = g'v / √(v'Fv),    v'Fv = mean over samples of (∇ℓ'v)²
//! ```
//!
//! J is the criterion: the fall of the held-out loss per unit of root mean square change of the losses
//! of the samples. It does not depend on the length of v, so that settings, methods and projections
//! compare. It does not favour an end of the scale by construction: with all requests in the world, the
//! undamped Newton direction is best; with few, noise in directions of little curvature is what damping
//! has to keep out, and where the optimum of the requests lies an isotropic distance away from the
//! model, the best damping is the ridge of Hoerl and Kennard (1970): variance of the noise over that of
//! the distance. A plain correlation of scores by two halves would be highest for a score that listens to
//! no request at all.
//!
//! For k nearest neighbours the criterion is the utility itself, on the requests held out: values sum to
//! it.

use crate::curvature::{Fitted, row_products};
use crate::estimator::EstimatorError;
use crate::gradients::Gradients;
use crate::inside::{Attention, HiddenStates};
use crate::problem::{Counts, Losses, Problem, Representations, Samples, Target};
use crate::projected::Projected;

/// How well a setting holds on requests that it did not see.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeldOut {
    /// The criterion; the larger, the better.
    pub value: f64,
    /// Its standard error over the requests held out; `None` where it is not known.
    pub std_error: Option<f64>,
    /// Requests held out.
    pub n_requests: u64,
}

/// The criterion of a direction; `None` where no requests are held out or no sample feels it.
///
/// `scores` are products of the samples' gradients with the direction, times `scale`.
pub(crate) fn of_direction(
    problem: &dyn Problem,
    fitted: Fitted<'_>,
    direction: &[f64],
    scores: &[Option<f64>],
    scale: f64,
) -> Result<Option<HeldOut>, EstimatorError> {
    let Some(target) = problem.held_out() else {
        return Ok(None);
    };
    let rows = fitted.held_out()?;
    let n = target.requests.len();
    if rows.numbers.is_empty() || n < rows.numbers.len() {
        return Ok(None);
    }
    let (mut square, mut n_scored) = (0.0, 0_usize);
    for score in scores.iter().flatten() {
        square += (score / scale) * (score / scale);
        n_scored += 1;
    }
    let length = (square / n_scored.max(1) as f64).sqrt();
    if length <= 0.0 {
        return Ok(None);
    }
    let values: Vec<f64> = rows.values.iter().map(|&x| f64::from(x)).collect();
    let products = row_products(&values, direction);
    // Requests without a gradient count as 0, as they do in the target.
    let mean = products.iter().sum::<f64>() / n as f64;
    let around: f64 = products.iter().map(|x| (x - mean) * (x - mean)).sum();
    let around = around + (n - products.len()) as f64 * mean * mean;
    let std_error = (n > 1).then(|| (around / (n - 1) as f64 / n as f64).sqrt() / length);
    Ok(Some(HeldOut {
        value: mean / length,
        std_error,
        n_requests: n as u64,
    }))
}

/// A problem that asks the requests held out.
pub(crate) struct AtHeldOut<'p> {
    problem: &'p dyn Problem,
    target: &'p Target,
}

impl<'p> AtHeldOut<'p> {
    /// `None` where none are.
    pub(crate) fn of(problem: &'p dyn Problem) -> Option<Self> {
        let target = problem.held_out()?;
        Some(Self { problem, target })
    }
}

impl Problem for AtHeldOut<'_> {
    fn samples(&self) -> &Samples {
        self.problem.samples()
    }

    fn target(&self) -> &Target {
        self.target
    }

    fn representations(&self) -> Option<&Representations> {
        self.problem.representations()
    }

    fn losses(&self) -> Option<&Losses> {
        self.problem.losses()
    }

    fn counts(&self) -> Option<&Counts> {
        self.problem.counts()
    }

    fn gradients(&self) -> Option<&Gradients> {
        self.problem.gradients()
    }

    fn projected(&self) -> Option<&dyn Projected> {
        self.problem.projected()
    }

    fn attention(&self) -> Option<&Attention> {
        self.problem.attention()
    }

    fn hidden_states(&self) -> Option<&HiddenStates> {
        self.problem.hidden_states()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::problem::{InMemory, Request};
    use crate::projected::{InMemoryProjected, Layer, ProjectedRows, ProjectedState, Rows};
    use crate::{METHODS, Seed, find, toy};

    const WIDTH: usize = 200;

    fn target(n: u32) -> Target {
        let request = |request| Request {
            request,
            last_item: Some(0),
            history_row: 0,
            relevant: vec![0],
            losses: None,
        };
        Target {
            requests: (0..n).map(request).collect(),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "rows are 32-bit floats")]
    fn rows(of: &[Vec<f64>]) -> Rows {
        Rows {
            numbers: (0..).take(of.len()).collect(),
            values: of.iter().flatten().map(|&x| x as f32).collect(),
        }
    }

    fn problem(samples: &[Vec<f64>], asked: &[Vec<f64>], held_out: &[Vec<f64>]) -> InMemory {
        let width = samples[0].len();
        let layer = Layer {
            name: "only".to_owned(),
            columns: 0..width,
            n_parameters: 10 * width,
            is_exact: false,
        };
        let state = ProjectedState {
            step: 1,
            learning_rate: None,
        };
        let found = ProjectedRows {
            samples: rows(samples),
            requests: rows(asked),
            curvature: None,
        };
        let (n, m) = (samples.len(), asked.len());
        let projected =
            InMemoryProjected::new(vec![layer], 0.0, n, m, vec![(state, found)]).unwrap();
        let pairs: Vec<(u32, u32)> = (0..).zip(0..).take(n).collect();
        let n_held_out = u32::try_from(held_out.len()).unwrap();
        toy::of_pairs(&pairs)
            .with_projected(Arc::new(projected.with_held_out(rows(held_out)).unwrap()))
            .and_then(|problem| problem.with_held_out(target(n_held_out)))
            .and_then(|problem| problem.with_losses(vec![Some(1.0); n]))
            .unwrap()
    }

    /// A curvature with the diagonal h of mean 1, and requests whose optimum lies `H δ` away under
    /// noise of covariance H, with δ isotropic: the ridge that is best on average is the variance of the
    /// noise in the mean of the requests over that of δ.
    fn planted(best: f64, seed: u64) -> InMemory {
        const ASKED: usize = 50;
        const HELD_OUT: usize = 2000;
        let mut draws = Seed::root(seed).sequence();
        // Uniform numbers of variance 1.
        let mut noise = move || (2.0 * draws.uniform() - 1.0) * f64::sqrt(3.0);
        let mut h: Vec<f64> = (0..WIDTH)
            .map(|at| libm::pow(10.0, -3.0 + 4.0 * at as f64 / (WIDTH - 1) as f64))
            .collect();
        let mean = h.iter().sum::<f64>() / WIDTH as f64;
        for h in &mut h {
            *h /= mean;
        }
        let samples: Vec<Vec<f64>> = (0..WIDTH)
            .map(|at| {
                let mut row = vec![0.0; WIDTH];
                row[at] = (h[at] * WIDTH as f64).sqrt();
                row
            })
            .collect();
        let spread = (1.0 / (best * ASKED as f64)).sqrt();
        let signal: Vec<f64> = h.iter().map(|h| h * spread * noise()).collect();
        let mut some = |n: usize| -> Vec<Vec<f64>> {
            let mut row = || {
                let parts = signal.iter().zip(&h);
                parts
                    .map(|(signal, h)| signal + h.sqrt() * noise())
                    .collect()
            };
            (0..n).map(|_| row()).collect()
        };
        let asked = some(ASKED);
        let held_out = some(HELD_OUT);
        problem(&samples, &asked, &held_out)
    }

    fn criterion(problem: &InMemory, method: &str, parameters: &serde_json::Value) -> HeldOut {
        let prepared = find(method).unwrap().prepare(parameters).unwrap();
        let scores = prepared.estimate(problem, Seed::root(0), &|_| {}).unwrap();
        scores.held_out.unwrap()
    }

    #[test]
    fn the_damping_that_is_chosen_is_the_one_that_the_planted_noise_calls_for() {
        let tried = [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4];
        for method in ["influence", "logra"] {
            for best in [0.01, 1.0] {
                for seed in 0..3 {
                    let problem = planted(best, seed);
                    let of = |&damping: &f64| {
                        criterion(&problem, method, &json!({ "damping": damping })).value
                    };
                    let found: Vec<f64> = tried.iter().map(of).collect();
                    let highest = found.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let at = found.iter().position(|&x| x >= highest).unwrap();
                    // The optimum of one draw of the signal: within one step of the mean's.
                    let off = libm::log10(tried[at] / best).abs();
                    assert!(off < 1.5, "{method}, {best}: {} of {found:?}", tried[at]);
                }
            }
        }
    }

    #[test]
    fn the_criterion_is_that_of_its_definition() {
        // Of the plain product the direction is the mean of the requests: (1, 1).
        let samples = [vec![2.0, 0.0], vec![0.0, 1.0]];
        let asked = [vec![2.0, 0.0], vec![0.0, 2.0]];
        let held_out = [vec![1.0, 0.0], vec![2.0, 1.0]];
        let problem = problem(&samples, &asked, &held_out);
        let found = criterion(&problem, "projected_dot", &json!({}));
        // Products with held-out requests 1 and 3, with samples 2 and 1.
        let length = f64::sqrt(2.5);
        assert!((found.value - 2.0 / length).abs() < 1e-15);
        assert!((found.std_error.unwrap() - 1.0 / length).abs() < 1e-15);
        assert_eq!(found.n_requests, 2);
    }

    #[test]
    fn the_utility_of_neighbours_is_the_sum_of_the_values_at_the_requests_held_out() {
        let problem = toy::problem(0);
        let mut other = problem.target().clone();
        other.requests.truncate(20);
        for space in ["features", "hidden"] {
            let parameters = json!({ "k": 3, "space": space });
            let with = problem.clone().with_held_out(other.clone()).unwrap();
            let found = criterion(&with, "knn_shapley", &parameters);
            let there = AtHeldOut::of(&with).unwrap();
            let prepared = find("knn_shapley").unwrap().prepare(&parameters).unwrap();
            let scores = prepared.estimate(&there, Seed::root(0), &|_| {}).unwrap();
            let sum: f64 = scores.score.iter().flatten().sum();
            assert!((found.value - sum).abs() < 1e-15 && sum > 0.0);
            assert_eq!(scores.held_out, None);
        }
    }

    #[test]
    fn what_says_that_it_can_be_tuned_has_a_criterion_and_the_same_scores() {
        for entry in METHODS {
            let problem = toy::problem(1);
            let rows = problem.projected().unwrap();
            let held_out = rows.requests(rows.states().len() - 1).unwrap();
            let all = toy::with_held_out_rows(rows, problem.samples().len(), held_out);
            let with = problem
                .clone()
                .with_projected(all)
                .and_then(|with| with.with_held_out(problem.target().clone()))
                .unwrap();
            let method = entry.prepare(&json!({})).unwrap();
            let scores = method.estimate(&with, Seed::root(0), &|_| {}).unwrap();
            assert_eq!(
                scores.held_out.is_some(),
                entry.is_tunable,
                "{}",
                entry.name
            );
            let without = method.estimate(&problem, Seed::root(0), &|_| {}).unwrap();
            assert_eq!(without.held_out, None);
            assert_eq!(without.score, scores.score);
        }
    }
}
