//! Against a sequential version, and what training promises.

use seed::Seed;
use serde_json::json;

use super::*;
use crate::conformance::{in_pool, log, overfits};
use crate::run::Observer;
use crate::{Samples, Sequences};

/// Users who choose items of their own half of the catalogue, many enough for several blocks.
fn shop(n_users: u32, n_items: u32) -> (Samples, Sequences) {
    let mut draws = Seed::root(9).sequence();
    let users: Vec<Vec<u32>> = (0..n_users)
        .map(|user| {
            let half = user % 2 * (n_items / 2);
            (0..8)
                .map(|_| half + u32::try_from(draws.below(u64::from(n_items / 2))).unwrap())
                .collect()
        })
        .collect();
    let logs: Vec<(&[u32], &[f64])> = users
        .iter()
        .map(|items| (&items[..], &[1.0; 8][..]))
        .collect();
    log(&logs)
}

fn parameters(epochs: u32) -> Parameters {
    Parameters {
        dimensions: 5,
        epochs,
        regularisation: 0.01,
        ..Parameters::default()
    }
}

fn fit(shape: (u32, u32), parameters: &Parameters, run: &mut Run<'_>) -> Bpr {
    let (samples, sequences) = shop(shape.0, shape.1);
    let data = TrainingData::new(&samples, &sequences, shape.1 as usize).unwrap();
    Bpr::fit(parameters, &data, run).unwrap()
}

/// Answers with figures given before, and keeps all that it is told.
#[derive(Default)]
struct Recorder {
    epochs: Vec<Epoch>,
    figures: Vec<f64>,
    n_validations: usize,
    checkpoints: Vec<(usize, Checkpoint)>,
    start: Option<Checkpoint>,
}

impl Observer for Recorder {
    fn epoch(&mut self, epoch: &Epoch) {
        self.epochs.push(*epoch);
    }

    fn validate(&mut self, _: &dyn Model) -> Result<Option<f64>, FitError> {
        self.n_validations += 1;
        Ok(self.figures.get(self.n_validations - 1).copied())
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), FitError> {
        self.checkpoints
            .push((self.n_validations, checkpoint.clone()));
        Ok(())
    }

    fn resume(&mut self) -> Result<Option<Checkpoint>, FitError> {
        Ok(self.start.clone())
    }
}

fn recorded(parameters: &Parameters, recorder: &mut Recorder) -> Bpr {
    let mut run = Run {
        seed: Seed::root(1),
        observer: recorder,
    };
    fit((40, 200), parameters, &mut run)
}

#[test]
fn one_step_is_that_of_the_formula() {
    // One user, one sample, two items: the only negative is item 1.
    let (samples, sequences) = log(&[(&[0], &[2.0])]);
    let data = TrainingData::new(&samples, &sequences, 2).unwrap();
    let parameters = Parameters {
        dimensions: 3,
        epochs: 1,
        learning_rate: 0.5,
        regularisation: 0.2,
        initial_deviation: 2.0,
        ..Parameters::default()
    };
    let seed = Seed::root(6);
    let before = State::initial(seed, [1, 2, 3], 2.0);
    let mut recorder = Recorder::default();
    let mut run = Run {
        seed,
        observer: &mut recorder,
    };
    let after = Bpr::fit(&parameters, &data, &mut run).unwrap().state;
    let (q, r) = before.items.split_at(3);
    let product: f32 = (0..3).map(|k| before.users[k] * (q[k] - r[k])).sum();
    let x = f64::from(product);
    let step = 0.5 * 2.0 / (1.0 + libm::exp(x));
    let close = |found: f32, expected: f64| (f64::from(found) - expected).abs() < 1e-6;
    for k in 0..3 {
        let (p, q, r) = (before.users[k], q[k], r[k]);
        let (p, q, r) = (f64::from(p), f64::from(q), f64::from(r));
        assert!(close(after.users[k], p + step * (q - r) - 0.5 * 0.2 * p));
        assert!(close(after.items[k], q + step * p - 0.5 * 0.2 * q));
        assert!(close(after.items[3 + k], r - step * p - 0.5 * 0.2 * r));
    }
    assert!(close(after.biases[0], step) && close(after.biases[1], -step));
    let loss = recorder.epochs[0].loss.unwrap();
    assert!((loss - libm::log1p(libm::exp(-x))).abs() < 1e-6);
}

#[test]
fn training_lowers_the_loss_and_tells_halves_apart() {
    let mut recorder = Recorder::default();
    let mut run = Run {
        seed: Seed::root(1),
        observer: &mut recorder,
    };
    let model = fit((400, 200), &parameters(60), &mut run);
    let loss = |at: usize| recorder.epochs[at].loss.unwrap();
    assert!(loss(0) > 0.6 && loss(59) < 0.4, "{} {}", loss(0), loss(59));
    // For a known user, and for a history of nobody known.
    for (user, history) in [(Some(2), vec![1]), (None, vec![3, 50, 77])] {
        let mut scores = vec![0.0; 200];
        model.score(user, History::of(&history), &mut scores);
        let mean = |half: std::ops::Range<usize>| scores[half].iter().sum::<f64>() / 100.0;
        assert!(
            mean(0..100) > mean(100..200) + 0.5,
            "{user:?} {} {}",
            mean(0..100),
            mean(100..200)
        );
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    // 2000 items make 16 blocks.
    let fitted = |threads| {
        in_pool(threads, || {
            let mut run = Run::silent(Seed::root(5));
            fit((100, 2000), &parameters(3), &mut run).state
        })
    };
    let one = fitted(1);
    for threads in [2, 3] {
        assert_eq!(fitted(threads), one);
    }
}

#[test]
fn a_resumed_training_ends_with_the_same_bits() {
    let figures = vec![0.1, 0.3, 0.2, 0.25, 0.1, 0.2];
    let parameters = Parameters {
        validate_every: 2,
        patience: 3,
        ..parameters(12)
    };
    let mut whole = Recorder {
        figures: figures.clone(),
        ..Recorder::default()
    };
    let expected = recorded(&parameters, &mut whole);
    assert_eq!(whole.checkpoints.len(), 5);
    for (n_validations, checkpoint) in whole.checkpoints {
        let mut recorder = Recorder {
            figures: figures.clone(),
            n_validations,
            start: Some(checkpoint),
            ..Recorder::default()
        };
        let resumed = recorded(&parameters, &mut recorder);
        assert_eq!(resumed.state, expected.state);
        assert_eq!(resumed.steps, expected.steps);
    }
}

#[test]
fn the_best_figure_decides_and_patience_ends() {
    let mut recorder = Recorder {
        figures: vec![0.1, 0.3, 0.2, 0.3],
        ..Recorder::default()
    };
    let patient = Parameters {
        validate_every: 2,
        patience: 2,
        ..parameters(20)
    };
    let stopped = recorded(&patient, &mut recorder);
    // Figures after epochs 2, 4, 6, 8: an equal one is not better.
    assert_eq!(recorder.epochs.len(), 8);
    let four = recorded(&parameters(4), &mut Recorder::default());
    assert_eq!(stopped.state, four.state);
    // 40 users with 8 samples each.
    assert_eq!(stopped.steps, 4 * 320);
    // Nobody can tell: the last state is returned.
    let unanswered = recorded(&patient, &mut Recorder::default());
    assert_eq!(
        unanswered.state,
        recorded(&parameters(20), &mut Recorder::default()).state
    );
}

#[test]
fn steps_are_taken_in_whole_passes_whatever_validation_says() {
    let by_steps = |steps| Parameters {
        steps,
        validate_every: 1,
        patience: 1,
        ..parameters(20)
    };
    let four = recorded(&parameters(4), &mut Recorder::default());
    for steps in [4 * 320, 3 * 320 + 1] {
        // Figures that fall would end training after the second epoch and return the first.
        let mut recorder = Recorder {
            figures: vec![0.9, 0.8, 0.7, 0.6],
            ..Recorder::default()
        };
        let found = recorded(&by_steps(steps), &mut recorder);
        assert_eq!((found.steps, found.state), (four.steps, four.state.clone()));
        assert_eq!(recorder.n_validations, 0);
        assert_eq!(recorder.epochs.len(), 4);
    }
}

/// Trains on a shop in which every fifth sample has another weight.
fn weighted(weight: f64) -> (Bpr, Recorder) {
    let (samples, sequences) = shop(60, 200);
    let samples = samples.reweighted(|id| Some(if id % 5 == 2 { weight } else { 1.0 }));
    let data = TrainingData::new(&samples, &sequences, 200).unwrap();
    let mut recorder = Recorder::default();
    let mut run = Run {
        seed: Seed::root(1),
        observer: &mut recorder,
    };
    let model = Bpr::fit(&parameters(5), &data, &mut run).unwrap();
    (model, recorder)
}

#[test]
fn a_sample_of_weight_zero_keeps_its_order_and_its_negative() {
    let (none, told) = weighted(0.0);
    assert_eq!(told.epochs[0].n_samples, 60 * 8 * 4 / 5);
    assert_eq!(none.steps, 5 * 480);
    // A weight that moves nothing by more than rounding draws what any weight draws.
    let (tiny, _) = weighted(1e-30);
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-20);
    assert!(close(&none.state.users, &tiny.state.users));
    assert!(close(&none.state.items, &tiny.state.items));
    assert!(close(&none.state.biases, &tiny.state.biases));
    let (all, _) = weighted(1.0);
    assert_eq!(all.steps, none.steps);
    assert!(!close(&all.state.items, &none.state.items));
}

#[test]
fn what_a_user_chose_is_no_negative_even_if_its_weight_is_zero() {
    // Both items are chosen: nothing is left to be drawn, so nothing is learned.
    let (samples, sequences) = log(&[(&[0, 1], &[1.0, 0.0])]);
    let data = TrainingData::new(&samples, &sequences, 2).unwrap();
    let seed = Seed::root(6);
    let model = Bpr::fit(&parameters(3), &data, &mut Run::silent(seed)).unwrap();
    let untouched = State::initial(seed, [1, 2, 5], parameters(3).initial_deviation);
    assert_eq!(model.state, untouched);
}

#[test]
fn a_user_whose_samples_weigh_nothing_is_served_as_nobody_known() {
    let (samples, sequences) = log(&[(&[0, 1], &[0.0; 2]), (&[2, 3], &[1.0; 2])]);
    let data = TrainingData::new(&samples, &sequences, 6).unwrap();
    let model = Bpr::fit(&parameters(3), &data, &mut Run::silent(Seed::root(6))).unwrap();
    let asked = |user| {
        let mut scores = [0.0; 6];
        model.score(user, History::of(&[2]), &mut scores);
        scores.map(f64::to_bits)
    };
    assert_eq!(asked(Some(0)), asked(None));
    assert_ne!(asked(Some(1)), asked(None));
}

#[test]
fn divergence_is_named() {
    let (samples, sequences) = shop(40, 200);
    let data = TrainingData::new(&samples, &sequences, 200).unwrap();
    let parameters = Parameters {
        learning_rate: 1e20,
        ..parameters(50)
    };
    let Err(error) = Bpr::fit(&parameters, &data, &mut Run::silent(Seed::root(1))) else {
        panic!("steps of 1e20 converged");
    };
    let message = error.to_string();
    assert!(
        message.contains("in epoch 0: ") && message.contains("learning_rate"),
        "{message}"
    );
}

#[test]
fn a_few_samples_are_learnt_by_heart() {
    let entry = crate::recommender::entry("bpr").unwrap();
    let parameters = json!({ "dimensions": 16, "epochs": 500, "regularisation": 1e-4 });
    overfits(entry, &parameters);
}

#[test]
fn impossible_parameters_are_refused() {
    let entry = crate::recommender::entry("bpr").unwrap();
    for (name, value) in [
        ("dimensions", 0.into()),
        ("epochs", 0.into()),
        ("learning_rate", json!(0.0)),
        ("regularisation", json!(-1.0)),
        ("initial_deviation", json!(0.0)),
        ("patience", 3.into()),
    ] {
        let error = entry.check(&json!({ name: value })).unwrap_err();
        assert!(error.source.to_string().contains(name), "{}", error.source);
    }
}
