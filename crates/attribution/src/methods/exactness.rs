//! Methods that invert a curvature, against closed forms, retraining and each other.

use std::sync::Arc;

use serde_json::{Value, json};
use tensors::dense::{Eigen, cholesky, solve, symmetric};

use super::influence::Influence;
use crate::curvature::{Dense, Fitted, Operator, Settings, Solver, Streamed};
use crate::estimator::{Estimator, EstimatorError};
use crate::problem::{InMemory, Problem};
use crate::projected::{InMemoryProjected, Layer, Projected, ProjectedRows, ProjectedState, Rows};
use crate::{METHODS, Need, Seed, find, toy};

/// What a problem is made of; rows are rounded to 32 bits.
#[derive(Clone, Default)]
pub(super) struct Parts {
    /// Columns of each layer, and whether they are parameters.
    pub(super) layers: Vec<(usize, bool)>,
    pub(super) gradients: Vec<Vec<f64>>,
    pub(super) requests: Vec<Vec<f64>>,
    pub(super) roots: Option<Vec<Vec<f64>>>,
    pub(super) penalty: f64,
    pub(super) losses: Option<Vec<f64>>,
}

#[expect(clippy::cast_possible_truncation, reason = "rows are 32-bit floats")]
fn narrow(rows: &[Vec<f64>]) -> Vec<f32> {
    rows.iter().flatten().map(|&x| x as f32).collect()
}

impl Parts {
    fn numbered(rows: &[Vec<f64>]) -> Rows {
        Rows {
            numbers: (0..).take(rows.len()).collect(),
            values: narrow(rows),
        }
    }

    fn projected(&self) -> InMemoryProjected {
        let mut layers: Vec<Layer> = Vec::new();
        for &(width, is_exact) in &self.layers {
            let start = layers.last().map_or(0, |layer| layer.columns.end);
            layers.push(Layer {
                name: start.to_string(),
                columns: start..start + width,
                n_parameters: width,
                is_exact,
            });
        }
        let state = ProjectedState {
            step: 12,
            learning_rate: None,
        };
        let rows = ProjectedRows {
            samples: Self::numbered(&self.gradients),
            requests: Self::numbered(&self.requests),
            curvature: self.roots.as_deref().map(narrow),
        };
        let (n, m) = (self.gradients.len(), self.requests.len());
        InMemoryProjected::new(layers, self.penalty, n, m, vec![(state, rows)]).unwrap()
    }

    pub(super) fn problem(&self) -> InMemory {
        self.problem_with(Arc::new(self.projected()))
    }

    fn problem_with(&self, projected: Arc<dyn Projected>) -> InMemory {
        let pairs: Vec<(u32, u32)> = (0..).zip(0..).take(self.gradients.len()).collect();
        let problem = toy::of_pairs(&pairs).with_projected(projected).unwrap();
        match &self.losses {
            Some(losses) => problem
                .with_losses(losses.iter().copied().map(Some).collect())
                .unwrap(),
            None => problem,
        }
    }
}

/// Numbers between -1 and 1 of which no two rows are alike.
pub(super) fn draw(seed: u64, n: usize, width: usize) -> Vec<Vec<f64>> {
    let mut draws = Seed::root(seed).sequence();
    let mut row = || (0..width).map(|_| 2.0 * draws.uniform() - 1.0).collect();
    (0..n).map(|_| row()).collect()
}

/// Gradients of some size in two layers, with everything that a method may ask for.
pub(super) fn some(n: usize, widths: [usize; 2]) -> Parts {
    let width = widths[0] + widths[1];
    Parts {
        layers: vec![(widths[0], true), (widths[1], false)],
        gradients: draw(1, n, width),
        requests: draw(2, 3, width),
        roots: Some(draw(3, n + 5, width)),
        penalty: 0.02,
        losses: Some(draw(4, n, 1).concat().iter().map(|x| x.abs()).collect()),
    }
}

pub(super) fn scores(problem: &dyn Problem, method: &str, parameters: &Value) -> Vec<f64> {
    let prepared = find(method).unwrap().prepare(parameters).unwrap();
    let scores = prepared.estimate(problem, Seed::root(5), &|_| {}).unwrap();
    scores.score.into_iter().map(Option::unwrap).collect()
}

/// The influence without damping, which nobody can ask for in a configuration.
fn undamped(problem: &dyn Problem, operator: Operator) -> Vec<f64> {
    let settings = Settings {
        solver: Solver::Exact,
        operator,
        damping: 0.0,
        tolerance: 1e-10,
        iterations: 1,
        rank: 1,
    };
    let scores = Influence { settings }
        .estimate(problem, Seed::root(0), &|_| {})
        .unwrap();
    scores.score.into_iter().map(Option::unwrap).collect()
}

pub(super) fn assert_close(found: &[f64], wanted: &[f64], relative: f64) {
    assert_eq!(found.len(), wanted.len());
    let scale = wanted.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    assert!(scale > 0.0);
    for (found, wanted) in found.iter().zip(wanted) {
        let error = (found - wanted).abs() / scale;
        assert!(error <= relative, "{found} instead of {wanted}: {error:e}");
    }
}

pub(super) fn inner(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// The minimum of the mean loss, with weights, plus penalty/2 |parameters|^2, by Newton's method;
/// `derivatives` gives the first and second derivative of a sample's loss by its logit.
fn fit(
    x: &[Vec<f64>],
    weight: &[f64],
    penalty: f64,
    derivatives: impl Fn(usize, f64) -> (f64, f64),
) -> Vec<f64> {
    let (n, width) = (x.len() as f64, x[0].len());
    let mut parameters = vec![0.0; width];
    for _ in 0..50 {
        let mut gradient: Vec<f64> = parameters.iter().map(|x| penalty * x).collect();
        let mut hessian = vec![0.0; width * width];
        for k in 0..width {
            hessian[k * width + k] = penalty;
        }
        for (sample, (x, weight)) in x.iter().zip(weight).enumerate() {
            let (first, second) = derivatives(sample, inner(x, &parameters));
            for k in 0..width {
                gradient[k] += weight * first * x[k] / n;
                for j in 0..width {
                    hessian[k * width + j] += weight * second * x[k] * x[j] / n;
                }
            }
        }
        assert!(cholesky(&mut hessian, width));
        solve(&hessian, width, &mut gradient);
        for (parameter, step) in parameters.iter_mut().zip(&gradient) {
            *parameter -= step;
        }
        if gradient.iter().all(|step| step.abs() < 1e-13) {
            return parameters;
        }
    }
    panic!("Newton's method does not arrive");
}

/// Ridge regression on n samples: its influence on a linear function of the parameters, what exact
/// retraining without each sample changes, and the leverage of each.
fn ridge_regression(n: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (width, penalty) = (4, 0.05);
    let x = draw(7, n, width);
    let noise = draw(8, n, 1).concat();
    let y: Vec<f64> = x
        .iter()
        .zip(&noise)
        .map(|(x, e)| x[0] - 2.0 * x[1] + e)
        .collect();
    let question = vec![0.5, -1.0, 0.25, 2.0];
    let derivatives = |sample: usize, logit: f64| (logit - y[sample], 1.0);
    let parameters = fit(&x, &vec![1.0; n], penalty, derivatives);
    let gradients = x.iter().zip(&y).map(|(x, y)| {
        let residual = inner(x, &parameters) - y;
        x.iter().map(|x| residual * x).collect()
    });
    let parts = Parts {
        layers: vec![(width, true)],
        gradients: gradients.collect(),
        requests: vec![question.clone()],
        roots: Some(x.clone()),
        penalty,
        losses: None,
    };
    let influence = undamped(&parts.problem(), Operator::GaussNewton);
    let mut changes = Vec::new();
    let mut leverages = Vec::new();
    let mut matrix = vec![0.0; width * width];
    for k in 0..width {
        for j in 0..width {
            matrix[k * width + j] = x.iter().map(|x| x[k] * x[j]).sum::<f64>()
                + f64::from(u8::from(k == j)) * n as f64 * penalty;
        }
    }
    assert!(cholesky(&mut matrix, width));
    for sample in 0..n {
        let mut solved = x[sample].clone();
        solve(&matrix, width, &mut solved);
        leverages.push(inner(&x[sample], &solved));
        let mut weight = vec![1.0; n];
        weight[sample] = 0.0;
        let without = fit(&x, &weight, penalty, derivatives);
        changes.push(inner(&question, &without) - inner(&question, &parameters));
    }
    (influence, changes, leverages)
}

#[test]
fn on_ridge_regression_it_is_retraining_but_for_the_leverage() {
    let (influence, changes, leverages) = ridge_regression(60);
    // Removal changes a linear function by influence / (1 - leverage), exactly (PRESS).
    let wanted: Vec<f64> = changes
        .iter()
        .zip(&leverages)
        .map(|(change, leverage)| change * (1.0 - leverage))
        .collect();
    // Rows are rounded to 32 bits: 6e-8 of each number, and the curvature is well conditioned.
    assert_close(&influence, &wanted, 1e-6);
}

#[test]
fn on_ridge_regression_the_difference_from_retraining_falls_as_samples_are_added() {
    let error = |n| {
        let (influence, changes, _) = ridge_regression(n);
        let pairs = influence.iter().zip(&changes);
        let off = pairs
            .clone()
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        off / pairs.map(|(_, b)| b.abs()).fold(0.0, f64::max)
    };
    let errors = [20, 80, 320].map(error);
    // The largest leverage falls like 1/n; a factor of 2 is left for which sample is the largest.
    assert!(
        errors[1] < errors[0] / 2.0 && errors[2] < errors[1] / 2.0,
        "{errors:?}"
    );
    assert!(errors[2] < 0.05, "{errors:?}");
}

/// Logistic regression on 120 samples of which some have the wrong label: its problem, and the rise of
/// the mean loss over requests when each sample is left out and the model fitted anew.
fn logistic_regression() -> (Parts, Vec<f64>) {
    let (n, width, penalty) = (120, 5, 0.02);
    let sigmoid = |logit: f64| 1.0 / (1.0 + libm::exp(-logit));
    let label =
        |x: &[f64], flip: bool| f64::from(u8::from((x[0] - x[1] + 0.3 * x[4] > 0.0) ^ flip));
    let x = draw(11, n, width);
    let y: Vec<f64> = (0..n).map(|k| label(&x[k], k % 9 == 4)).collect();
    let asked = draw(12, 25, width);
    let loss = |x: &[f64], y: f64, parameters: &[f64]| {
        let logit = inner(x, parameters);
        libm::log1p(libm::exp(-logit)) + (1.0 - y) * logit
    };
    let derivatives = |sample: usize, logit: f64| {
        let p = sigmoid(logit);
        (p - y[sample], p * (1.0 - p))
    };
    let parameters = fit(&x, &vec![1.0; n], penalty, derivatives);
    let gradient = |x: &[f64], y: f64| -> Vec<f64> {
        let error = sigmoid(inner(x, &parameters)) - y;
        x.iter().map(|x| error * x).collect()
    };
    let roots = x.iter().map(|x| {
        let p = sigmoid(inner(x, &parameters));
        let root = (p * (1.0 - p)).sqrt();
        x.iter().map(|x| root * x).collect()
    });
    let parts = Parts {
        layers: vec![(width, true)],
        gradients: (0..n).map(|k| gradient(&x[k], y[k])).collect(),
        requests: asked.iter().map(|x| gradient(x, label(x, false))).collect(),
        roots: Some(roots.collect()),
        penalty,
        losses: Some((0..n).map(|k| loss(&x[k], y[k], &parameters)).collect()),
    };
    let target = |parameters: &[f64]| {
        let losses = asked.iter().map(|x| loss(x, label(x, false), parameters));
        losses.sum::<f64>() / asked.len() as f64
    };
    let base = target(&parameters);
    let changes = (0..n).map(|sample| {
        let mut weight = vec![1.0; n];
        weight[sample] = 0.0;
        target(&fit(&x, &weight, penalty, derivatives)) - base
    });
    let changes = changes.collect();
    (parts, changes)
}

fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let centred = |x: &[f64]| -> Vec<f64> { x.iter().map(|value| value - mean(x)).collect() };
    let (x, y) = (centred(x), centred(y));
    inner(&x, &y) / (inner(&x, &x) * inner(&y, &y)).sqrt()
}

#[test]
fn on_logistic_regression_it_ranks_as_retraining_does() {
    let (parts, changes) = logistic_regression();
    let problem = parts.problem();
    let influence = undamped(&problem, Operator::GaussNewton);
    let agreement = pearson(&influence, &changes);
    assert!(agreement > 0.99, "{agreement}");
    // The sign and the size too: to first order, and leverages are about 5/120.
    let slope = inner(&influence, &changes) / inner(&influence, &influence);
    assert!((slope - 1.0).abs() < 0.1, "{slope}");
}

#[test]
fn on_logistic_regression_approximations_agree_with_retraining() {
    let (parts, changes) = logistic_regression();
    let problem = parts.problem();
    // No theorem: the empirical Fisher matrix is another matrix. A wrong sign or a wrong pairing of
    // samples would be far below.
    for method in ["influence", "datainf", "logra", "trak"] {
        let agreement = pearson(&scores(&problem, method, &json!({})), &changes);
        assert!(agreement > 0.8, "{method}: {agreement}");
    }
}

#[test]
fn all_solvers_give_the_exact_solution() {
    for operator in ["empirical_fisher", "gauss_newton"] {
        let problem = some(40, [5, 7]).problem();
        let with = |solver: &str| {
            let parameters = json!({
                "solver": solver, "operator": operator,
                "tolerance": 1e-12, "iterations": 5000, "rank": 12,
            });
            scores(&problem, "influence", &parameters)
        };
        let exact = with("exact");
        // The condition number is below 100: a residual of 1e-12 is an error of at most 1e-10.
        assert_close(&with("conjugate_gradient"), &exact, 1e-10);
        assert_close(&with("lissa"), &exact, 1e-10);
        // All Ritz pairs are all eigenpairs, to rounding.
        assert_close(&with("arnoldi"), &exact, 1e-11);
    }
}

#[test]
fn a_truncated_series_comes_closer_with_every_term() {
    let problem = some(40, [5, 7]).problem();
    let exact = scores(&problem, "influence", &json!({}));
    let error = |iterations: usize| {
        let parameters = json!({ "solver": "lissa", "iterations": iterations });
        let found = scores(&problem, "influence", &parameters);
        let off = found.iter().zip(&exact).map(|(a, b)| (a - b) * (a - b));
        off.sum::<f64>()
    };
    let errors = [1, 4, 16, 64].map(error);
    assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
}

#[test]
fn a_few_ritz_pairs_are_the_leading_eigenpairs() {
    let problem = some(40, [5, 7]).problem();
    let fitted = Fitted::new(&problem, "test").unwrap();
    let system = Streamed::new(fitted, Operator::EmpiricalFisher, 0.1).unwrap();
    let unit: Vec<f64> = (0..144)
        .map(|at| f64::from(u8::from(at / 12 == at % 12)))
        .collect();
    let Eigen { values, vectors } = symmetric(system.multiply(&unit).unwrap(), 12);
    let mut order: Vec<usize> = (0..12).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let target = fitted.target().unwrap();
    let mut direction = vec![0.0; 12];
    for &pair in &order[..3] {
        let vector = &vectors[pair * 12..(pair + 1) * 12];
        let along = inner(vector, &target) / values[pair];
        for (direction, x) in direction.iter_mut().zip(vector) {
            *direction += along * x;
        }
    }
    let wanted = fitted.scores(&direction, 1.0 / 40.0).unwrap();
    let wanted: Vec<f64> = wanted.into_iter().map(Option::unwrap).collect();
    // 4 x 3 = 12 steps of Lanczos see the whole space.
    let parameters = json!({ "solver": "arnoldi", "rank": 3 });
    assert_close(&scores(&problem, "influence", &parameters), &wanted, 1e-11);
}

#[test]
fn directions_without_any_gradient_do_not_stop_lanczos() {
    // Two gradients span a plane of the six dimensions; the rest of the curvature is damping.
    let mut parts = some(2, [3, 3]);
    parts.penalty = 0.0;
    let problem = parts.problem();
    let exact = scores(&problem, "influence", &json!({}));
    let arnoldi = json!({ "solver": "arnoldi", "rank": 6 });
    assert_close(&scores(&problem, "influence", &arnoldi), &exact, 1e-11);
}

#[test]
fn too_few_iterations_and_too_wide_a_matrix_are_errors_with_a_way_out() {
    let run = |parts: &Parts, method: &str, parameters: Value| {
        let prepared = find(method).unwrap().prepare(&parameters).unwrap();
        prepared.estimate(&parts.problem(), Seed::root(1), &|_| {})
    };
    let parameters = json!({ "solver": "conjugate_gradient", "iterations": 2 });
    let found = run(&some(40, [5, 7]), "influence", parameters);
    assert!(
        matches!(&found, Err(EstimatorError::Unsolved { hint, .. }) if hint.contains("iterations"))
    );
    let wide = some(6, [2049, 2048]);
    for method in ["influence", "trak", "relat_if", "leverage"] {
        let found = run(&wide, method, json!({}));
        assert!(matches!(
            found,
            Err(EstimatorError::TooWide { width: 4097, .. })
        ));
    }
    let free = json!({ "solver": "conjugate_gradient" });
    assert!(run(&wide, "influence", free).is_ok());
    // Each layer by itself is narrow enough.
    assert!(run(&wide, "logra", json!({})).is_ok());
}

#[test]
fn one_layer_is_no_block_structure() {
    let mut parts = some(40, [5, 7]);
    for is_exact in [true, false] {
        parts.layers = vec![(12, is_exact)];
        let problem = parts.problem();
        for operator in ["empirical_fisher", "gauss_newton"] {
            let parameters = json!({ "operator": operator, "damping": 0.2 });
            let exact = scores(&problem, "influence", &parameters);
            // The same operations in the same order.
            assert_close(&scores(&problem, "logra", &parameters), &exact, 1e-15);
        }
    }
}

#[test]
fn layers_add_up() {
    let parts = some(40, [5, 7]);
    let both = scores(&parts.problem(), "logra", &json!({}));
    let only = |columns: std::ops::Range<usize>, is_exact: bool| {
        let cut = |rows: &[Vec<f64>]| {
            rows.iter()
                .map(|row| row[columns.clone()].to_vec())
                .collect()
        };
        let part = Parts {
            layers: vec![(columns.len(), is_exact)],
            gradients: cut(&parts.gradients),
            requests: cut(&parts.requests),
            roots: None,
            ..parts.clone()
        };
        scores(&part.problem(), "influence", &json!({}))
    };
    let (first, second) = (only(0..5, true), only(5..12, false));
    let sum: Vec<f64> = first.iter().zip(&second).map(|(a, b)| a + b).collect();
    assert_close(&both, &sum, 1e-14);
}

#[test]
fn datainf_is_exact_for_one_sample() {
    // Sherman and Morrison: with one sample mean and inverse may be swapped.
    let problem = some(1, [5, 7]).problem();
    let exact = scores(&problem, "logra", &json!({}));
    assert_close(&scores(&problem, "datainf", &json!({})), &exact, 1e-12);
}

#[test]
fn datainf_is_the_mean_of_inverses() {
    let mut parts = some(9, [3, 0]);
    parts.layers = vec![(3, true)];
    let damping = 0.3;
    let found = scores(&parts.problem(), "datainf", &json!({ "damping": damping }));
    let rounded = |rows: &[Vec<f64>]| -> Vec<Vec<f64>> {
        let rows = rows.iter().map(|row| narrow(std::slice::from_ref(row)));
        rows.map(|row| row.into_iter().map(f64::from).collect())
            .collect()
    };
    let (gradients, requests) = (rounded(&parts.gradients), rounded(&parts.requests));
    let n = gradients.len() as f64;
    let mean = gradients.iter().map(|g| inner(g, g)).sum::<f64>() / n / 3.0;
    let ridge = damping * mean + parts.penalty;
    let target: Vec<f64> = (0..3)
        .map(|k| requests.iter().map(|row| row[k]).sum::<f64>() / 3.0)
        .collect();
    let mut direction = vec![0.0; 3];
    for g in &gradients {
        let mut matrix: Vec<f64> = (0..9).map(|at| g[at / 3] * g[at % 3]).collect();
        for k in 0..3 {
            matrix[k * 3 + k] += ridge;
        }
        assert!(cholesky(&mut matrix, 3));
        let mut part = target.clone();
        solve(&matrix, 3, &mut part);
        for (direction, part) in direction.iter_mut().zip(part) {
            *direction += part / n;
        }
    }
    let wanted: Vec<f64> = gradients.iter().map(|g| inner(g, &direction) / n).collect();
    assert_close(&found, &wanted, 1e-13);
}

#[test]
fn trak_with_one_probability_is_the_influence_times_its_documented_factor() {
    let mut parts = some(40, [5, 7]);
    // p = 1/4 for all samples.
    parts.losses = Some(vec![libm::log(4.0); 40]);
    parts.penalty = 0.0;
    let problem = parts.problem();
    let influence = scores(&problem, "influence", &json!({}));
    let wanted: Vec<f64> = influence.iter().map(|score| score * 9.0 / 16.0).collect();
    assert_close(&scores(&problem, "trak", &json!({})), &wanted, 1e-13);
}

#[test]
fn trak_by_hand() {
    // One column: the direction is target / (1.5 sum of (g / (1 - p))^2).
    let parts = Parts {
        layers: vec![(1, false)],
        gradients: vec![vec![0.5], vec![-0.25]],
        requests: vec![vec![2.0]],
        losses: Some(vec![libm::log(2.0), libm::log(4.0)]),
        ..Parts::default()
    };
    let found = scores(&parts.problem(), "trak", &json!({ "damping": 0.5 }));
    let direction = 2.0 / (1.5 * (1.0 + 1.0 / 9.0));
    assert_close(&found, &[0.5 * direction, -0.25 * direction], 1e-14);
}

#[test]
fn leverages_are_shares_that_sum_to_the_effective_dimension() {
    let mut parts = some(40, [5, 7]);
    parts.penalty = 0.0;
    let found = scores(&parts.problem(), "leverage", &json!({}));
    assert!(found.iter().all(|leverage| (0.0..1.0).contains(leverage)));
    // trace of H (H + r)^-1 = width - r trace of (H + r)^-1, column by column of the inverse.
    let problem = parts.problem();
    let fitted = Fitted::new(&problem, "test").unwrap();
    let (matrix, _) = Dense::curvature(fitted, Operator::EmpiricalFisher).unwrap();
    let ridge = 0.1 * matrix.mean_diagonal();
    let trace: f64 = (0..12)
        .map(|k| {
            let mut unit = vec![0.0; 12];
            unit[k] = 1.0;
            matrix.clone().solve(&[ridge; 12], &unit).unwrap()[k]
        })
        .sum();
    let sum: f64 = found.iter().sum();
    assert!((sum - (12.0 - ridge * trace)).abs() < 1e-12, "{sum}");
    // One sample: its square over itself and the ridge, which is a tenth of it.
    let mut alone = some(1, [1, 0]);
    alone.layers = vec![(1, false)];
    assert_close(
        &scores(&alone.problem(), "leverage", &json!({})),
        &[1.0 / 1.1],
        1e-14,
    );
}

#[test]
fn relat_if_in_one_dimension_knows_only_signs() {
    let parts = Parts {
        layers: vec![(1, false)],
        gradients: vec![vec![0.5], vec![-2.0], vec![0.0], vec![1.5]],
        requests: vec![vec![3.0]],
        ..Parts::default()
    };
    let problem = parts.problem();
    let found = scores(&problem, "relat_if", &json!({ "normaliser": "norm" }));
    assert_close(&found, &[3.0, -3.0, 0.0, 3.0], 1e-14);
    // 3 / sqrt of the damped curvature.
    let curvature: f64 = 1.1 * (0.25 + 4.0 + 2.25) / 4.0;
    let one = 3.0 / curvature.sqrt();
    let found = scores(&problem, "relat_if", &json!({}));
    assert_close(&found, &[one, -one, 0.0, one], 1e-14);
}

#[test]
fn relat_if_is_influence_over_leverage() {
    let problem = some(40, [5, 7]).problem();
    let influence = scores(&problem, "influence", &json!({}));
    let leverage = scores(&problem, "leverage", &json!({}));
    let pairs = influence.iter().zip(&leverage);
    let wanted: Vec<f64> = pairs
        .map(|(influence, leverage)| 40.0 * influence / (40.0 * leverage).sqrt())
        .collect();
    assert_close(&scores(&problem, "relat_if", &json!({})), &wanted, 1e-12);
}

#[test]
fn products_without_the_matrix_are_those_of_the_matrix() {
    let problem = some(700, [5, 7]).problem();
    let fitted = Fitted::new(&problem, "test").unwrap();
    for operator in [Operator::EmpiricalFisher, Operator::GaussNewton] {
        let system = Streamed::new(fitted, operator, 0.1).unwrap();
        let vectors = draw(21, 3, 12).concat();
        let images = system.multiply(&vectors).unwrap();
        let (matrix, n) = Dense::curvature(fitted, operator).unwrap();
        assert!((n - system.n_scored()).abs() < 0.5);
        let ridge = fitted.ridge(0.1 * matrix.mean_diagonal());
        for (vector, image) in vectors.chunks(12).zip(images.chunks(12)) {
            let back = matrix.clone().solve(&ridge, image).unwrap();
            assert_close(&back, vector, 1e-12);
        }
    }
}

#[test]
fn blocks_that_rows_are_kept_in_change_no_bit() {
    let parts = some(1300, [5, 7]);
    for entry in METHODS
        .iter()
        .filter(|entry| entry.needs.contains(&Need::Projected))
    {
        let found = [1, 7, 512, 5000].map(|rows| {
            let projected = Arc::new(parts.projected().with_block(rows));
            scores(&parts.problem_with(projected), entry.name, &json!({}))
        });
        assert!(
            found.windows(2).all(|pair| pair[0] == pair[1]),
            "{}",
            entry.name
        );
    }
}
