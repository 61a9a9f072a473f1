//! Against a dense solver, and what training promises.

use seed::Seed;

use super::conjugate::{Directions, improve};
use super::*;
use crate::conformance::{in_pool, log, overfits};
use crate::run::Observer;
use crate::{Samples, Sequences};
use tensors::dense::{cholesky, solve};

const LOGS: [(&[u32], &[f64]); 4] = [
    (&[0, 1, 2, 1], &[1.0, 1.0, 0.5, 2.0]),
    (&[0, 1], &[1.0, 1.0]),
    (&[3, 4, 5, 0, 2], &[1.0; 5]),
    (&[4, 3], &[0.25, 1.0]),
];

fn data() -> (Samples, Sequences) {
    log(&LOGS)
}

fn parameters(dimensions: u32, epochs: u32) -> Parameters {
    Parameters {
        dimensions,
        epochs,
        unobserved_weight: 0.3,
        regularisation: 0.05,
        frequency_scaling: 0.7,
        ..Parameters::default()
    }
}

fn fit(parameters: &Parameters, run: &mut Run<'_>) -> Ials {
    let (samples, sequences) = data();
    let data = TrainingData::new(&samples, &sequences, 6).unwrap();
    Ials::fit(parameters, &data, run).unwrap()
}

/// The row that the objective asks for, from the normal equations with all pairs written out.
fn brute_force(cells: &[(u32, f64)], others: &[f64], d: usize, settings: Settings) -> Vec<f64> {
    let n = others.len() / d;
    let mut matrix = vec![0.0; d * d];
    let mut right = vec![0.0; d];
    for (other, y) in others.chunks(d).enumerate() {
        let observed = cells.iter().find(|cell| cell.0 as usize == other);
        let weight = settings.unobserved_weight + observed.map_or(0.0, |cell| cell.1);
        for i in 0..d {
            for j in 0..d {
                matrix[i * d + j] += weight * y[i] * y[j];
            }
            right[i] += observed.map_or(0.0, |cell| cell.1) * y[i];
        }
    }
    for i in 0..d {
        matrix[i * d + i] += settings.penalty(cells.len(), n);
    }
    assert!(cholesky(&mut matrix, d));
    solve(&matrix, d, &mut right);
    right
}

#[test]
fn rows_solve_the_normal_equations_of_all_pairs() {
    let settings = Settings {
        unobserved_weight: 0.2,
        regularisation: 0.03,
        frequency_scaling: 0.5,
    };
    // Fewer cells than dimensions, as many, and more.
    for d in [1, 2, 4, 9] {
        let mut others = initial(Seed::root(8), 12, d, 1.0);
        let spectrum = diagonalise(&mut others, d);
        let cells = [(1, 0.5), (3, 1.0), (4, 7.0), (11, 1.0)];
        let mut x = vec![0.0; d];
        let mut scratch = Scratch::default();
        solve_row(
            cells.iter().copied(),
            &others,
            &spectrum,
            settings,
            &mut x,
            &mut scratch,
        );
        for (x, expected) in x.iter().zip(brute_force(&cells, &others, d, settings)) {
            assert!((x - expected).abs() < 1e-12, "{x} {expected}");
        }
    }
}

/// The system of a row with eleven cells in nine dimensions.
struct System {
    columns: Vec<u32>,
    weights: Vec<f64>,
    others: Vec<f64>,
    diagonal: Vec<f64>,
    /// The solution.
    exact: Vec<f64>,
}

impl System {
    fn improve(&self, x: &mut [f64], steps: u32) {
        let mut directions = Directions::default();
        improve(
            x,
            &self.others,
            &self.columns,
            &self.weights,
            &self.diagonal,
            steps,
            &mut directions,
        );
    }
}

fn system() -> System {
    let (d, n) = (9, 20);
    let settings = Settings {
        unobserved_weight: 0.2,
        regularisation: 0.03,
        frequency_scaling: 0.5,
    };
    let mut others = initial(Seed::root(8), n, d, 1.0);
    let spectrum = diagonalise(&mut others, d);
    let columns: Vec<u32> = (0..11).map(|at| at * 19 / 11).collect();
    let weights: Vec<f64> = (1..12).map(|at| f64::from(at) / 4.0).collect();
    let cells: Vec<(u32, f64)> = columns
        .iter()
        .copied()
        .zip(weights.iter().copied())
        .collect();
    let exact = brute_force(&cells, &others, d, settings);
    let penalty = settings.penalty(cells.len(), n);
    let diagonal = spectrum
        .iter()
        .map(|value| settings.unobserved_weight * value + penalty)
        .collect();
    System {
        columns,
        weights,
        others,
        diagonal,
        exact,
    }
}

#[test]
fn steps_of_conjugate_gradients_come_ever_closer_to_the_exact_solution() {
    let system = system();
    let start = initial(Seed::root(3), 1, 9, 0.5);
    // The error in the norm of the system, which each step makes smaller.
    let error = |steps: u32| {
        let mut x = start.clone();
        system.improve(&mut x, steps);
        let pairs = x.iter().zip(&system.exact);
        let off: Vec<f64> = pairs.map(|(x, exact)| x - exact).collect();
        let pairs = off.iter().zip(&system.diagonal);
        let mut sum: f64 = pairs.map(|(x, scale)| scale * x * x).sum();
        for (&column, weight) in system.columns.iter().zip(&system.weights) {
            let product = dot(&off, &system.others[column as usize * 9..][..9]);
            sum += weight * product * product;
        }
        sum
    };
    let errors: Vec<f64> = (0..10).map(error).collect();
    for pair in errors.windows(2) {
        assert!(pair[1] < pair[0], "{errors:?}");
    }
    // Nine steps solve nine equations but for rounding.
    assert!(errors[9] < 1e-20 * errors[0], "{errors:?}");
    // More steps than there is anything to do change nothing.
    assert!(error(40) < 1e-20 * errors[0]);
}

#[test]
fn the_exact_solution_is_where_conjugate_gradients_stay() {
    let system = system();
    let mut x = system.exact.clone();
    system.improve(&mut x, 3);
    for (x, exact) in x.iter().zip(&system.exact) {
        assert!((x - exact).abs() < 1e-13);
    }
}

#[test]
fn what_is_not_a_number_reaches_the_solution() {
    let system = System {
        columns: vec![0],
        weights: vec![1.0],
        others: vec![f64::NAN, 1.0],
        diagonal: vec![1.0; 2],
        exact: Vec::new(),
    };
    let mut x = [0.0, 0.0];
    system.improve(&mut x, 2);
    assert!(x.iter().all(|x| x.is_nan()));
}

/// A log whose rows have more cells than three steps can be spared for.
fn wide() -> (Samples, Sequences) {
    let items: Vec<Vec<u32>> = (0..40_u32)
        .map(|user| {
            let liked = |item: &u32| (item * 7 + user * 13) % 5 < 2 || item % 4 == user % 4;
            (0..30).filter(liked).collect()
        })
        .collect();
    let weights = vec![1.0; 30];
    let logs: Vec<(&[u32], &[f64])> = items
        .iter()
        .map(|items| (items.as_slice(), &weights[..items.len()]))
        .collect();
    log(&logs)
}

fn fit_wide(solver: SolverKind, steps: u32, recorder: &mut Recorder) -> Ials {
    let (samples, sequences) = wide();
    let data = TrainingData::new(&samples, &sequences, 30).unwrap();
    let parameters = Parameters {
        solver,
        conjugate_gradient_steps: steps,
        ..parameters(8, 12)
    };
    let mut run = Run {
        seed: Seed::root(1),
        observer: recorder,
    };
    Ials::fit(&parameters, &data, &mut run).unwrap()
}

#[test]
fn trainings_by_conjugate_gradients_end_where_exact_ones_do() {
    let last = |solver, steps| {
        let mut recorder = Recorder::default();
        fit_wide(solver, steps, &mut recorder);
        recorder.losses[11]
    };
    let exact = last(SolverKind::Cholesky, 3);
    let distance = |steps| (last(SolverKind::ConjugateGradient, steps) / exact - 1.0).abs();
    // Found: 2e-5, 1e-5 and 2e-7. Rows of up to three cells per step are solved exactly, so with
    // five steps some of these are and others are not.
    assert!(distance(1) < 1e-3);
    assert!(distance(3) < 1e-4);
    assert!(distance(5) < 1e-6);
}

#[test]
fn conjugate_gradients_go_on_with_the_same_bits() {
    let solver = SolverKind::ConjugateGradient;
    let mut whole = Recorder::default();
    let expected = fit_wide(solver, 2, &mut whole);
    for checkpoint in whole.checkpoints {
        let mut recorder = Recorder {
            start: Some(checkpoint),
            ..Recorder::default()
        };
        assert_eq!(fit_wide(solver, 2, &mut recorder).items, expected.items);
    }
    let threaded = in_pool(3, || fit_wide(solver, 2, &mut Recorder::default()));
    assert_eq!(threaded.items, expected.items);
}

#[test]
fn turning_changes_no_product() {
    let d = 5;
    let before = initial(Seed::root(2), 9, d, 1.0);
    let mut after = before.clone();
    let spectrum = diagonalise(&mut after, d);
    for i in 0..9 {
        for j in 0..9 {
            let row = |factors: &[f64], i: usize| factors[i * d..(i + 1) * d].to_vec();
            let difference =
                dot(&row(&before, i), &row(&before, j)) - dot(&row(&after, i), &row(&after, j));
            assert!(difference.abs() < 1e-12);
        }
    }
    let products = gram(&after, d);
    for i in 0..d {
        for j in 0..d {
            let expected = if i == j { spectrum[i] } else { 0.0 };
            assert!((products[i * d + j] - expected).abs() < 1e-12);
        }
    }
}

/// Keeps all that a run tells, and can stop it or go on from what another kept.
#[derive(Default)]
struct Recorder {
    losses: Vec<f64>,
    checkpoints: Vec<Checkpoint>,
    start: Option<Checkpoint>,
}

impl Observer for Recorder {
    fn epoch(&mut self, epoch: &Epoch) {
        self.losses.extend(epoch.loss);
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), FitError> {
        self.checkpoints.push(checkpoint.clone());
        Ok(())
    }

    fn resume(&mut self) -> Result<Option<Checkpoint>, FitError> {
        Ok(self.start.clone())
    }
}

fn recorded(parameters: &Parameters, recorder: &mut Recorder) -> Ials {
    let mut run = Run {
        seed: Seed::root(1),
        observer: recorder,
    };
    fit(parameters, &mut run)
}

#[test]
fn the_objective_never_rises() {
    let mut recorder = Recorder::default();
    recorded(&parameters(3, 12), &mut recorder);
    assert_eq!(recorder.losses.len(), 12);
    for pair in recorder.losses.windows(2) {
        assert!(pair[1] <= pair[0] + 1e-12, "{pair:?}");
    }
}

#[test]
fn the_reported_objective_is_that_of_the_formula() {
    let d = 2;
    let (samples, sequences) = data();
    let data = TrainingData::new(&samples, &sequences, 6).unwrap();
    let cells = sums(&data).unwrap();
    let settings = Settings {
        unobserved_weight: 0.3,
        regularisation: 0.05,
        frequency_scaling: 0.7,
    };
    let mut users = initial(Seed::root(1), 4, d, 1.0);
    let spectrum = diagonalise(&mut users, d);
    let items = initial(Seed::root(2), 6, d, 1.0);
    let found = objective(&cells, &users, &items, &spectrum, settings);
    let mut expected = 0.0;
    let mut held_by = [0; 6];
    for (u, x) in users.chunks(d).enumerate() {
        let (columns, weights) = cells.row(u);
        for (i, y) in items.chunks(d).enumerate() {
            let product = dot(x, y);
            expected += 0.3 * product * product;
            if let Ok(at) = columns.binary_search(&u32::try_from(i).unwrap()) {
                expected += weights[at] * (product - 1.0) * (product - 1.0);
                held_by[i] += 1;
            }
        }
        expected += settings.penalty(columns.len(), 6) * dot(x, x);
    }
    for (y, n) in items.chunks(d).zip(held_by) {
        expected += settings.penalty(n, 4) * dot(y, y);
    }
    assert!((found - expected / cells.n_values() as f64).abs() < 1e-12);
}

#[test]
fn a_resumed_training_ends_with_the_same_bits() {
    let parameters = parameters(4, 6);
    let mut whole = Recorder::default();
    let expected = recorded(&parameters, &mut whole);
    for checkpoint in whole.checkpoints {
        let mut recorder = Recorder {
            start: Some(checkpoint),
            ..Recorder::default()
        };
        assert_eq!(recorded(&parameters, &mut recorder).items, expected.items);
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let parameters = parameters(7, 3);
    let fitted = |threads| {
        in_pool(threads, || {
            fit(&parameters, &mut Run::silent(Seed::root(5)))
        })
    };
    let one = fitted(1);
    for threads in [2, 3] {
        assert_eq!(fitted(threads).items, one.items);
    }
}

#[test]
fn a_few_samples_are_learnt_by_heart() {
    let entry = crate::recommender::entry("ials").unwrap();
    let parameters = serde_json::json!({
        "dimensions": 32, "epochs": 30, "unobserved_weight": 0.1, "regularisation": 1e-4
    });
    overfits(entry, &parameters);
}

#[test]
fn impossible_parameters_are_refused() {
    let entry = crate::recommender::entry("ials").unwrap();
    for name in [
        "dimensions",
        "epochs",
        "unobserved_weight",
        "regularisation",
        "initial_deviation",
        "conjugate_gradient_steps",
    ] {
        let error = entry.check(&serde_json::json!({ name: 0 })).unwrap_err();
        assert!(error.source.to_string().contains(name), "{}", error.source);
    }
}
