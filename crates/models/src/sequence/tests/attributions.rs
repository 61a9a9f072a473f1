//! Laws of attributions to inputs, and of exchanging and leaving them out.

use serde_json::{Value, json};

use super::training::{Recorder, bytes, entries, fit_on};
use super::{N_ITEMS, baskets, described};
use crate::conformance::in_pool;
use crate::features::{Attribution, FeatureGroup, FeatureWeights};
use crate::recommender::{Entry, Model};
use crate::run::Run;
use crate::{Exchange, Exchanged, History, Samples, Seed, Sequences, TrainingData};

/// All inputs, for models that take them.
fn more(entry: &Entry) -> Value {
    let takes = entry.parameters.iter().any(|one| one.name == "inputs");
    if takes {
        json!({ "inputs": ["events", "baskets", "attributes"] })
    } else {
        json!({})
    }
}

fn fitted(entry: &Entry, log: &(Samples, Sequences)) -> Box<dyn Model> {
    fit_on(entry, log, N_ITEMS, &more(entry), &mut Recorder::default()).unwrap()
}

/// Requests of several lengths, with items that the vocabulary has.
fn requests(sequences: &Sequences) -> Vec<(History<'_>, &'static [u32])> {
    let relevant: [&[u32]; 3] = [&[3], &[7, 11], &[0, 5, 19]];
    (0..12_u32)
        .map(|sequence| {
            let end = 1 + sequence % 5 * 2 % (2 + sequence);
            let history = sequences.history(sequence, end).unwrap();
            (history, relevant[sequence as usize % 3])
        })
        .collect()
}

fn attributed(model: &dyn Model, sequences: &Sequences, steps: u32) -> Vec<Attribution> {
    let all = model
        .input_gradients()
        .unwrap()
        .attribute(&requests(sequences), steps);
    all.into_iter().flatten().collect()
}

#[test]
fn integrated_gradients_share_out_the_difference_from_the_baseline() {
    let log = baskets(|_| 1.0);
    for entry in entries() {
        let model = fitted(entry, &log);
        let losses = model.losses().unwrap().request_losses(&requests(&log.1));
        // Where a network rectifies, its gradient jumps along the way, and the integral comes nearer with
        // the number of steps alone.
        let (steps, bound) = match entry.name {
            "sasrec" => (8192, 2e-3),
            _ => (512, 1e-4),
        };
        let all = attributed(model.as_ref(), &log.1, steps);
        assert_eq!(all.len(), 12);
        for (found, losses) in all.iter().zip(losses) {
            // Gradients in single precision have a rounding of about 1e-7 of log probabilities of about 3.
            assert!(found.gap() < bound, "{} {}", entry.name, found.gap());
            let mean = losses.iter().sum::<f64>() / losses.len() as f64;
            assert!((found.output + mean).abs() < 1e-5, "{}", entry.name);
            // A place and a type hold all that is added but for a mask at the end.
            let sum = |group| -> f64 {
                let of = found.features.iter().filter(|one| one.group == group);
                of.map(|one| one.integrated).sum()
            };
            let inputs = sum(FeatureGroup::Input);
            assert!((inputs - found.sum).abs() < 1e-12);
            let places = sum(FeatureGroup::Place);
            assert!((places - sum(FeatureGroup::EventType)).abs() < 1e-12);
            if entry.name != "bert4rec" {
                assert!((places - inputs).abs() < 1e-12, "{}", entry.name);
            }
        }
        let names: std::collections::BTreeSet<&str> = all
            .iter()
            .flat_map(|found| &found.features)
            .filter(|one| one.group == FeatureGroup::Input)
            .map(|one| one.feature.as_str())
            .collect();
        for name in entry.features(&more(entry)).unwrap() {
            assert!(names.contains(name), "{} {name}", entry.name);
        }
        assert!(names.contains("item"));
    }
}

#[test]
fn more_steps_come_nearer_to_the_difference() {
    let log = baskets(|_| 1.0);
    let model = fitted(crate::entry("sasrec").unwrap(), &log);
    let gap = |steps| -> f64 {
        let all = attributed(model.as_ref(), &log.1, steps);
        all.iter().map(Attribution::gap).sum()
    };
    let gaps = [gap(2), gap(32), gap(1024)];
    assert!(
        gaps[0] > 2.0 * gaps[1] && gaps[1] > 2.0 * gaps[2],
        "{gaps:?}"
    );
}

#[test]
fn attributions_have_the_same_bits_on_any_number_of_threads() {
    let log = baskets(|_| 1.0);
    let model = fitted(crate::entry("bert4rec").unwrap(), &log);
    let on = |threads| in_pool(threads, || attributed(model.as_ref(), &log.1, 4));
    assert_eq!(on(1), on(2));
}

fn scores(model: &dyn Model, histories: &[History<'_>]) -> Vec<u64> {
    let asked: Vec<(Option<u32>, History<'_>)> = histories.iter().map(|h| (None, *h)).collect();
    let mut scores = vec![0.0; asked.len() * N_ITEMS];
    model.score_block(&asked, &mut scores);
    scores.into_iter().map(f64::to_bits).collect()
}

#[test]
fn exchanging_what_a_model_does_not_look_at_changes_no_bit() {
    let log = baskets(|_| 1.0);
    let histories: Vec<History<'_>> = requests(&log.1).into_iter().map(|(h, _)| h).collect();
    let exchanged = |what| Exchanged::new(&histories, what, Seed::root(5));
    for entry in entries() {
        let plain = match entry.name {
            "case_study" => fitted(entry, &log),
            _ => fit_on(entry, &log, N_ITEMS, &json!({}), &mut Recorder::default()).unwrap(),
        };
        let before = scores(plain.as_ref(), &histories);
        for (what, is_seen) in [
            (Exchange::Baskets, false),
            (Exchange::Events, entry.name == "case_study"),
            (Exchange::Items, true),
        ] {
            let other = exchanged(what);
            let others: Vec<History<'_>> =
                (0..histories.len()).map(|at| other.history(at)).collect();
            let after = scores(plain.as_ref(), &others);
            assert_eq!(after != before, is_seen, "{} {what:?}", entry.name);
        }
    }
}

#[test]
fn items_hand_over_one_kind_of_attribute_and_keep_the_others() {
    let log = baskets(|_| 1.0);
    let histories: Vec<History<'_>> = requests(&log.1).into_iter().map(|(h, _)| h).collect();
    for entry in entries() {
        let model = fitted(entry, &log);
        let items = model.exchanged_items().unwrap();
        assert_eq!(items.names(), ["category", "brand", "price", "attributes"]);
        let before = scores(model.as_ref(), &histories);
        for name in items.names() {
            let other = items.exchanged(name, Seed::root(8)).unwrap();
            let again = items.exchanged(name, Seed::root(8)).unwrap();
            let after = scores(other.as_ref(), &histories);
            assert!(after != before, "{} {name}", entry.name);
            assert!(after == scores(again.as_ref(), &histories));
        }
        assert!(items.exchanged("colour", Seed::root(8)).is_none());
    }
}

fn fit_with(entry: &Entry, log: &(Samples, Sequences), weights: &FeatureWeights) -> Box<dyn Model> {
    let items = described(22);
    let data = TrainingData::new(&log.0, &log.1, N_ITEMS).unwrap();
    let data = data.with_items(&items).with_features(weights);
    let mut parameters = more(entry);
    parameters["dimensions"] = json!(4);
    parameters["epochs"] = json!(2);
    let mut run = Run::silent(Seed::root(4));
    entry.fit(&parameters, &data, &mut run).unwrap()
}

#[test]
fn inputs_are_left_out_or_scaled_and_factors_of_1_change_no_bit() {
    let log = baskets(|_| 1.0);
    let histories: Vec<History<'_>> = requests(&log.1).into_iter().map(|(h, _)| h).collect();
    for entry in entries() {
        let names = entry.features(&more(entry)).unwrap();
        let weights = |of: &dyn Fn(&str) -> f64| {
            FeatureWeights::new(names.iter().map(|name| ((*name).to_owned(), of(name))))
        };
        let whole = fit_with(entry, &log, &FeatureWeights::default());
        let ones = fit_with(entry, &log, &weights(&|_| 1.0));
        assert!(
            bytes(whole.as_ref()) == bytes(ones.as_ref()),
            "{}",
            entry.name
        );
        for name in &names {
            let of = |factor: f64| {
                let of = weights(&|other| if other == *name { factor } else { 1.0 });
                let model = fit_with(entry, &log, &of);
                let loaded = entry.load(&model.save().unwrap()).unwrap();
                let scored = scores(model.as_ref(), &histories);
                assert!(
                    scored == scores(loaded.as_ref(), &histories),
                    "{}",
                    entry.name
                );
                (model, scored)
            };
            let (without, scored) = of(0.0);
            assert!(
                scored != scores(whole.as_ref(), &histories),
                "{} {name}",
                entry.name
            );
            let (_, half) = of(0.5);
            assert!(half != scored, "{} {name}", entry.name);
            // What was left out adds nothing any more.
            let found = without.input_gradients().unwrap();
            let found = found.attribute(&requests(&log.1), 1);
            let mut features = found.iter().flatten().flat_map(|one| &one.features);
            let is_nothing = *name == "attributes";
            let is_there =
                features.any(|one| one.group == FeatureGroup::Input && one.feature == *name);
            // Items of which nothing is known still say so.
            assert!(!is_there || is_nothing, "{} {name}", entry.name);
        }
    }
}
