//! Laws of training, for every model of the registry that is trained step by step.

use proptest::prelude::*;
use seed::Seed;
use serde_json::{Value, json};

use super::laws::WITHOUT_NETWORK;
use super::{N_ITEMS, described, sequences};
use crate::conformance::log;
use crate::recommender::{Entry, FitError, Model};
use crate::run::{Checkpoint, Epoch, Observer, Run};
use crate::{History, REGISTRY, Samples, Sequences, TrainingData};

pub(super) fn entries() -> impl Iterator<Item = &'static Entry> {
    let is_network =
        |entry: &&Entry| entry.is_trained_by_steps && !WITHOUT_NETWORK.contains(&entry.name);
    REGISTRY.iter().filter(is_network)
}

/// Few columns, short windows that overlap, several batches an epoch.
fn small(more: &Value) -> Value {
    let mut all = json!({
        "dimensions": 8, "length": 6, "stride": 3, "batch": 24, "epochs": 3, "dropout": 0.3,
    });
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    all
}

pub(super) fn fit(
    entry: &Entry,
    data: &(Samples, Sequences),
    more: &Value,
    observer: &mut dyn Observer,
) -> Result<Box<dyn Model>, FitError> {
    fit_on(entry, data, sequences_top(&data.1), more, observer)
}

/// Fits a small model on a log with so many items.
pub(super) fn fit_on(
    entry: &Entry,
    (samples, sequences): &(Samples, Sequences),
    n_items: usize,
    more: &Value,
    observer: &mut dyn Observer,
) -> Result<Box<dyn Model>, FitError> {
    let items = described(64);
    let data = TrainingData::new(samples, sequences, n_items)
        .unwrap()
        .with_items(&items);
    let mut run = Run {
        seed: Seed::root(9),
        observer,
    };
    entry.fit(&small(more), &data, &mut run)
}

fn sequences_top(sequences: &Sequences) -> usize {
    if sequences.n() == 12 { N_ITEMS } else { 64 }
}

/// What is saved, as it lies on disk.
pub(super) fn bytes(model: &dyn Model) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weights.safetensors");
    model.save().unwrap().save(&path).unwrap();
    std::fs::read(path).unwrap()
}

/// Keeps what it is told; is validated by a list of figures; fails after some checkpoints.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) epochs: Vec<Epoch>,
    pub(super) figures: Vec<f64>,
    pub(super) kept: Option<Checkpoint>,
    pub(super) n_kept: usize,
    pub(super) fail_at: Option<usize>,
    pub(super) steps: Vec<u64>,
}

impl Observer for Recorder {
    fn epoch(&mut self, epoch: &Epoch) {
        self.epochs.push(*epoch);
    }

    fn progress(&mut self, _: &str, done: u64, _: u64) {
        self.steps.push(done);
    }

    fn validate(&mut self, _: &dyn Model) -> Result<Option<f64>, FitError> {
        Ok(self.figures.get(self.epochs.len()).copied())
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), FitError> {
        self.kept = Some(checkpoint.clone());
        self.n_kept += 1;
        if self.fail_at == Some(self.n_kept) {
            return Err(FitError::Checkpoint("interrupted".into()));
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<Option<Checkpoint>, FitError> {
        Ok(self.kept.take())
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_with_any_number_of_threads() {
    let data = sequences(|_| 1.0);
    for entry in entries() {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let model = fit(entry, &data, &json!({}), &mut Recorder::default()).unwrap();
                let mut scores = vec![0.0; N_ITEMS * 2];
                let histories = [&[1, 2, 3][..], &[7]].map(|items| (None, History::of(items)));
                model.score_block(&histories, &mut scores);
                let scores: Vec<u64> = scores.iter().map(|score| score.to_bits()).collect();
                (bytes(model.as_ref()), scores)
            })
        };
        let one = on(1);
        assert!(one == on(2), "{}", entry.name);
        assert!(one == on(3), "{}", entry.name);
    }
}

#[test]
fn batches_of_many_blocks_give_the_same_bits_with_any_number_of_threads() {
    let users: Vec<Vec<u32>> = (0..150_u32)
        .map(|user| {
            (0..10 + user % 25)
                .map(|at| (user * 7 + at * at) % 64)
                .collect()
        })
        .collect();
    let weights = vec![1.0; 40];
    let logs: Vec<(&[u32], &[f64])> = users
        .iter()
        .map(|items| (items.as_slice(), &weights[..items.len()]))
        .collect();
    let data = log(&logs);
    let more = json!({
        "dimensions": 24, "length": 30, "stride": 30, "batch": 1500, "epochs": 1,
    });
    for entry in entries() {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let model = fit(entry, &data, &more, &mut Recorder::default()).unwrap();
                bytes(model.as_ref())
            })
        };
        let one = on(1);
        assert!(one == on(2), "{}", entry.name);
        assert!(one == on(4), "{}", entry.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn an_interrupted_run_goes_on_to_the_same_bytes(fail_at in 1_usize..20, every in 1_u64..4) {
        let data = sequences(|_| 1.0);
        // A rate that falls and weights that decay, so that the step counts.
        let more = json!({
            "checkpoint_steps": every, "schedule": "cosine", "warmup": 2, "weight_decay": 0.1,
            "chain": 0.3,
        });
        let figures = vec![0.1, 0.3, 0.2];
        for entry in entries() {
            let mut whole = Recorder { figures: figures.clone(), ..Recorder::default() };
            let expected = fit(entry, &data, &more, &mut whole).unwrap();
            let mut first = Recorder {
                figures: figures.clone(),
                fail_at: Some(1 + fail_at % whole.n_kept),
                ..Recorder::default()
            };
            prop_assert!(fit(entry, &data, &more, &mut first).is_err());
            // The observer keeps what it was told until then.
            let mut second = Recorder {
                figures: figures.clone(),
                epochs: first.epochs,
                kept: first.kept,
                ..Recorder::default()
            };
            let resumed = fit(entry, &data, &more, &mut second).unwrap();
            prop_assert!(bytes(expected.as_ref()) == bytes(resumed.as_ref()), "{}", entry.name);
            prop_assert_eq!(&whole.epochs, &second.epochs);
        }
    }
}

#[test]
fn a_state_of_another_network_is_refused() {
    let data = sequences(|_| 1.0);
    let mut other = Recorder::default();
    let entry = crate::entry("sasrec").unwrap();
    fit(entry, &data, &json!({ "dimensions": 4 }), &mut other).unwrap();
    let foreign = other.kept.unwrap();
    let empty = Checkpoint {
        step: 1,
        epoch: 0,
        tensors: crate::Tensors::new(),
    };
    for kept in [foreign, empty] {
        let mut observer = Recorder {
            kept: Some(kept),
            ..Recorder::default()
        };
        let refused = fit(entry, &data, &json!({}), &mut observer);
        assert!(matches!(refused, Err(FitError::Checkpoint(_))));
    }
}

#[test]
fn the_best_weights_are_returned_and_its_steps_lead_there_again() {
    let data = sequences(|_| 1.0);
    for entry in entries() {
        let mut base = Recorder {
            figures: vec![0.1, 0.3, 0.3, 0.2, 0.9],
            ..Recorder::default()
        };
        let more = json!({ "epochs": 5, "patience": 2 });
        let model = fit(entry, &data, &more, &mut base).unwrap();
        // The fifth epoch, the best, is never reached: the third and fourth were no better.
        assert_eq!(base.epochs.len(), 4);
        let steps = model.steps().unwrap();
        assert_eq!(steps, base.steps[base.steps.len() / 2 - 1]);
        let mut again = Recorder::default();
        let more = json!({ "epochs": 5, "patience": 2, "steps": steps });
        let masked = fit(entry, &data, &more, &mut again).unwrap();
        assert!(
            bytes(model.as_ref()) == bytes(masked.as_ref()),
            "{}",
            entry.name
        );
    }
}

#[test]
fn a_falling_rate_is_that_of_the_base_when_its_steps_are_repeated() {
    let data = sequences(|_| 1.0);
    for entry in entries() {
        for schedule in ["linear", "cosine"] {
            let more = |steps: u64| {
                json!({
                    "epochs": 6, "patience": 1, "schedule": schedule, "warmup": 3, "l1": 0.001,
                    "weight_decay": 0.05, "steps": steps,
                })
            };
            let mut base = Recorder {
                figures: vec![0.1, 0.3, 0.2],
                ..Recorder::default()
            };
            let model = fit(entry, &data, &more(0), &mut base).unwrap();
            assert_eq!(base.epochs.len(), 3);
            let rates: Vec<f64> = base.epochs.iter().filter_map(|e| e.learning_rate).collect();
            assert!(
                rates[0] > rates[1] && rates[1] > rates[2] && rates[2] > 0.0,
                "{rates:?}"
            );
            let mut again = Recorder::default();
            let masked = fit(entry, &data, &more(model.steps().unwrap()), &mut again).unwrap();
            assert!(
                bytes(model.as_ref()) == bytes(masked.as_ref()),
                "{} {schedule}",
                entry.name
            );
        }
    }
}

#[test]
fn a_whole_training_with_a_falling_rate_ends_at_about_zero() {
    let data = sequences(|_| 1.0);
    let entry = crate::entry("sasrec").unwrap();
    for (schedule, most) in [("linear", 0.2), ("cosine", 0.05)] {
        let mut recorder = Recorder::default();
        let more = json!({ "epochs": 8, "schedule": schedule });
        fit(entry, &data, &more, &mut recorder).unwrap();
        let rates: Vec<f64> = recorder
            .epochs
            .iter()
            .filter_map(|e| e.learning_rate)
            .collect();
        assert!(rates[0] > 0.0008 && rates[7] < most * 0.001, "{rates:?}");
    }
}

#[test]
fn penalties_pull_weights_to_zero() {
    let data = sequences(|_| 1.0);
    for entry in entries() {
        let length = |more: &Value| {
            let model = fit(entry, &data, more, &mut Recorder::default()).unwrap();
            let saved = model.save().unwrap();
            let table = saved.f32("item").unwrap();
            table.iter().map(|x| x.abs()).sum::<f32>()
        };
        let free = length(&json!({ "epochs": 10 }));
        for (name, value) in [("weight_decay", 5.0), ("l1", 0.1), ("l2", 1.0)] {
            let mut more = json!({ "epochs": 10 });
            more[name] = json!(value);
            let pulled = length(&more);
            assert!(
                pulled < 0.97 * free,
                "{} {name}: {pulled} {free}",
                entry.name
            );
        }
    }
}

#[test]
fn a_sample_of_weight_zero_keeps_its_place_and_teaches_nothing() {
    for entry in entries() {
        let weigh = |at: usize| if at % 5 == 3 { 0.0 } else { 1.0 };
        let (samples, all) = sequences(weigh);
        let mut other = Samples::default();
        for at in 0..samples.n() {
            let (id, sequence, end, item, weight) = samples.get(at);
            // What weighs nothing may say anything.
            let item = if weight > 0.0 { item } else { (item + 7) % 20 };
            other.push(id, sequence, end, item, weight);
        }
        let (mut a, mut b) = (Recorder::default(), Recorder::default());
        let left = fit(entry, &(samples, all.clone()), &json!({}), &mut a).unwrap();
        let right = fit(entry, &(other, all), &json!({}), &mut b).unwrap();
        let (left, right) = (bytes(left.as_ref()), bytes(right.as_ref()));
        assert!(left == right, "{}", entry.name);
        let mut base = Recorder::default();
        let model = fit(entry, &sequences(|_| 1.0), &json!({}), &mut base).unwrap();
        // The same steps, other weights.
        assert_eq!(base.steps, a.steps);
        assert!(bytes(model.as_ref()) != left);
        let none = fit(
            entry,
            &sequences(|_| 0.0),
            &json!({}),
            &mut Recorder::default(),
        )
        .unwrap();
        assert_eq!(none.steps(), model.steps());
    }
}

#[test]
fn training_that_diverges_says_where_and_why() {
    let data = sequences(|_| 1.0);
    for entry in entries() {
        for rate in [1e30, 1e38] {
            let more = json!({ "learning_rate": rate });
            let error = fit(entry, &data, &more, &mut Recorder::default());
            let Err(FitError::Diverged {
                epoch,
                batch,
                cause,
            }) = error.map(|_| ())
            else {
                panic!("{} with {rate} did not diverge", entry.name);
            };
            assert!(epoch < 3 && batch < 100);
            assert!(cause.contains("learning rate"), "{cause}");
        }
    }
}

#[test]
fn samples_without_histories_leave_popularity() {
    let data = log(&[(&[3], &[1.0]), (&[3], &[1.0]), (&[1], &[1.0])]);
    for entry in entries() {
        let model = fit(entry, &data, &json!({}), &mut Recorder::default()).unwrap();
        assert_eq!(model.steps(), Some(0));
        let mut scores = [0.0; 5];
        model.score(None, History::default(), &mut scores);
        assert!(scores[3] > scores[1] && scores[1] > scores[0]);
        model.score(None, History::of(&[2, 90]), &mut scores);
        assert!(scores.iter().all(|score| score.is_finite()));
    }
}

#[test]
fn thirty_two_samples_are_learned_by_heart() {
    let pairs: Vec<[u32; 2]> = (0..32).map(|at| [at, 63 - at]).collect();
    let logs: Vec<(&[u32], &[f64])> = pairs
        .iter()
        .map(|pair| (&pair[..], &[1.0; 2][..]))
        .collect();
    let data = log(&logs);
    for entry in entries() {
        let mut more = json!({
            "dimensions": 16, "epochs": 150, "dropout": 0.0, "learning_rate": 0.02,
        });
        // Norms after the sums stand no such rate, and a third of the samples is masked at a time.
        if entry.name == "bert4rec" {
            more["learning_rate"] = json!(0.002);
            more["epochs"] = json!(400);
        }
        if entry.name == "case_study" {
            more["negatives"] = json!(30);
        }
        let mut recorder = Recorder::default();
        let model = fit(entry, &data, &more, &mut recorder).unwrap();
        let loss = recorder.epochs.last().and_then(|epoch| epoch.loss);
        assert!(loss < Some(0.1), "{} {loss:?}", entry.name);
        // Logistic loss on a few negatives says nothing of all other items.
        let ranked = pairs.iter().filter(|_| entry.name != "case_study");
        for pair in ranked {
            let mut scores = vec![0.0; 64];
            model.score(None, History::of(&pair[..1]), &mut scores);
            let best = (0..64).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
            assert_eq!(best, Some(pair[1] as usize), "{}", entry.name);
        }
    }
}

#[test]
fn a_history_is_scored_alike_alone_and_in_a_block() {
    let data = sequences(|_| 1.0);
    for entry in entries() {
        let model = fit(entry, &data, &json!({}), &mut Recorder::default()).unwrap();
        let histories: Vec<Vec<u32>> = (0..70)
            .map(|at| (0..at % 9).map(|k| (at * 3 + k) % 23).collect())
            .collect();
        let asked: Vec<(Option<u32>, History<'_>)> = histories
            .iter()
            .map(|history| (None, History::of(history)))
            .collect();
        let mut block = vec![0.0; asked.len() * 22];
        model.score_block(&asked, &mut block);
        for ((_, history), block) in asked.iter().zip(block.chunks(22)) {
            let mut alone = [0.0; 22];
            model.score(None, *history, &mut alone);
            for (a, b) in alone.iter().zip(block) {
                assert!((a - b).abs() < 1e-4, "{} {a} {b}", entry.name);
            }
        }
    }
}

#[test]
fn sampled_losses_are_trained_too() {
    let data = sequences(|_| 1.0);
    for loss in ["bce", "gbce", "sampled_softmax"] {
        for name in ["sasrec", "gru4rec"] {
            let entry = crate::entry(name).unwrap();
            let more = json!({ "loss": loss, "negatives": 5, "epochs": 30, "learning_rate": 0.01 });
            let mut recorder = Recorder::default();
            fit(entry, &data, &more, &mut recorder).unwrap();
            let losses: Vec<f64> = recorder.epochs.iter().filter_map(|e| e.loss).collect();
            let end: f64 = losses[25..].iter().sum::<f64>() / 5.0;
            assert!(end < 0.9 * losses[0], "{name} {loss} {losses:?}");
        }
    }
}
