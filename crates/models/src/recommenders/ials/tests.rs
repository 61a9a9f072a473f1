//! Against a dense solver, and what training promises.

use seed::Seed;

use super::*;
use crate::conformance::{in_pool, log, overfits};
use crate::run::Observer;
use crate::{Samples, Sequences};

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
    ] {
        let error = entry.check(&serde_json::json!({ name: 0 })).unwrap_err();
        assert!(error.source.to_string().contains(name), "{}", error.source);
    }
}
