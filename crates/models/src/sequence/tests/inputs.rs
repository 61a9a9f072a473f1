//! Laws of the optional inputs.

use serde_json::{Value, json};
use tables::{Event, ItemFeatures};

use super::training::{Recorder, bytes, entries, fit_on};
use super::{Act, N_ITEMS, baskets, described, shop};
use crate::conformance::in_pool;
use crate::recommender::{Entry, Model};
use crate::run::Run;
use crate::{History, Samples, Seed, Sequences, TrainingData};

/// All inputs, for models that take them.
fn all_inputs(entry: &Entry) -> Value {
    let takes = entry.parameters.iter().any(|one| one.name == "inputs");
    if takes {
        json!({ "inputs": ["events", "baskets", "attributes"] })
    } else {
        json!({})
    }
}

fn entry(name: &str) -> &'static Entry {
    crate::entry(name).unwrap()
}

/// Scores of every training history, as bits.
fn scores(model: &dyn Model, (samples, sequences): &(Samples, Sequences)) -> Vec<u64> {
    let data = TrainingData::new(samples, sequences, N_ITEMS).unwrap();
    let asked: Vec<(Option<u32>, History<'_>)> = (0..data.n_samples())
        .map(|sample| (None, data.history(sample)))
        .collect();
    let mut scores = vec![0.0; asked.len() * N_ITEMS];
    model.score_block(&asked, &mut scores);
    let losses = model.losses().unwrap();
    let losses = asked.iter().map(|(_, history)| losses.loss(*history, 3));
    let all = scores.into_iter().chain(losses);
    all.map(f64::to_bits).collect()
}

#[test]
fn inputs_change_no_bit_with_the_number_of_threads_and_come_back_from_disk() {
    let data = baskets(|at| [1.0, 0.0, 0.5][at % 3]);
    for entry in entries() {
        let on = |threads| {
            in_pool(threads, || {
                let mut recorder = Recorder::default();
                let more = all_inputs(entry);
                let model = fit_on(entry, &data, N_ITEMS, &more, &mut recorder).unwrap();
                let scored = scores(model.as_ref(), &data);
                let loaded = entry.load(&model.save().unwrap()).unwrap();
                assert!(scores(loaded.as_ref(), &data) == scored, "{}", entry.name);
                (bytes(model.as_ref()), scored)
            })
        };
        let one = on(1);
        assert!(one == on(3), "{}", entry.name);
    }
}

#[test]
fn each_input_changes_what_is_fitted_and_none_leaves_no_trace() {
    let data = baskets(|_| 1.0);
    for name in ["sasrec", "gru4rec", "bert4rec"] {
        let fitted = |inputs: Value| {
            let more = json!({ "inputs": inputs });
            let mut recorder = Recorder::default();
            fit_on(entry(name), &data, N_ITEMS, &more, &mut recorder).unwrap()
        };
        let plain = fitted(json!([]));
        let names: Vec<String> = plain.save().unwrap().names().map(str::to_owned).collect();
        assert!(names.iter().all(|name| !name.starts_with("input_")));
        for word in ["events", "baskets", "attributes"] {
            let model = fitted(json!([word]));
            assert!(scores(model.as_ref(), &data) != scores(plain.as_ref(), &data));
            let tensors = model.save().unwrap();
            let is_told = tensors.names().any(|name| name.starts_with("input_"));
            assert!(is_told, "{name} {word}");
        }
    }
}

#[test]
fn words_that_are_no_inputs_are_refused_with_a_suggestion() {
    for name in ["sasrec", "gru4rec", "bert4rec"] {
        for (inputs, text) in [
            (json!(["event"]), "did you mean `events`?"),
            (json!(["atributes"]), "did you mean `attributes`?"),
            (json!(["Basket"]), "did you mean `baskets`?"),
            (json!(["xyz"]), "there are events, baskets, attributes"),
            (json!(["events", "events"]), "names `events` twice"),
            (json!("events"), "a list of events, baskets, attributes"),
        ] {
            let error = entry(name).check(&json!({ "inputs": inputs })).unwrap_err();
            let message = error.source.to_string();
            assert!(message.contains(text), "{message}");
        }
        // One set has one spelling, so it has one key.
        let inputs = json!({ "inputs": ["attributes", "events"] });
        let normal = entry(name).check(&inputs).unwrap();
        assert_eq!(normal["inputs"], json!(["events", "attributes"]));
    }
}

/// Users who act twice on item 0 or 1: what comes next is told by what was done the first time
/// alone, 2 after a view and 3 after a purchase.
fn told_by_events() -> (Samples, Sequences) {
    let users: Vec<Vec<Act>> = (0..32_u32)
        .map(|user| {
            let (event, next) = if user.is_multiple_of(2) {
                (Event::View, 2)
            } else {
                (Event::Purchase, 3)
            };
            vec![(user / 2 % 2, event, 0), (next, Event::View, 1)]
        })
        .collect();
    shop(&users, |_| 1.0)
}

/// How many of the last events of a log rank first.
fn n_right(
    model: &dyn Model,
    (samples, sequences): &(Samples, Sequences),
    n_items: usize,
) -> usize {
    let data = TrainingData::new(samples, sequences, n_items).unwrap();
    let last = data.by_sequence().map(|samples| samples.end - 1);
    let is_right = |&sample: &usize| {
        let mut scores = vec![0.0; n_items];
        model.score(None, data.history(sample), &mut scores);
        let best = (0..n_items).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        best == Some(data.item(sample) as usize)
    };
    last.filter(is_right).count()
}

/// Parameters that learn a small log by heart.
fn by_heart(name: &str, inputs: &Value) -> Value {
    let slow = name == "bert4rec";
    let mut more = json!({
        "dimensions": 16, "dropout": 0.0,
        "epochs": if slow { 300 } else { 150 },
        "learning_rate": if slow { 0.003 } else { 0.02 },
    });
    if name == "case_study" {
        // Logistic loss on a few negatives says nothing of all other items.
        more["negatives"] = json!(30);
    } else {
        more["inputs"] = inputs.clone();
    }
    more
}

#[test]
fn what_was_done_is_learned_where_it_tells_the_answer() {
    let data = told_by_events();
    for entry in entries() {
        let fitted = |inputs: Value| {
            let more = by_heart(entry.name, &inputs);
            fit_on(entry, &data, 4, &more, &mut Recorder::default()).unwrap()
        };
        let told = fitted(json!(["events"]));
        assert_eq!(n_right(told.as_ref(), &data, 4), 32, "{}", entry.name);
        // The case-study model always sees what was done.
        if entry.name != "case_study" {
            let silent = fitted(json!([]));
            assert_eq!(n_right(silent.as_ref(), &data, 4), 16, "{}", entry.name);
        }
        // A type of event that training does not hold is as if nobody knew it.
        let (_, unheard) = shop(&[vec![(0, Event::Cart, 0)]], |_| 1.0);
        let (mut a, mut b) = ([0.0; 4], [0.0; 4]);
        told.score(None, unheard.history(0, 1).unwrap(), &mut a);
        told.score(None, History::of(&[0]), &mut b);
        assert_eq!(a.map(f64::to_bits), b.map(f64::to_bits), "{}", entry.name);
    }
}

#[test]
fn baskets_tell_what_order_cannot() {
    // Items 0 and 1 follow each other; 2 comes after a basket of both, 3 after one and the other.
    let users: Vec<Vec<Act>> = (0..32)
        .map(|user| {
            let apart = i64::from(user % 2 == 0);
            let next = 2 + u32::from(user % 2 == 0);
            let act = |item, at| (item, Event::View, at);
            vec![act(0, 0), act(1, apart), act(next, 2)]
        })
        .collect();
    let data = shop(&users, |_| 1.0);
    for name in ["sasrec", "gru4rec", "bert4rec"] {
        let right = |inputs: Value| {
            let more = by_heart(name, &inputs);
            let model = fit_on(entry(name), &data, 4, &more, &mut Recorder::default()).unwrap();
            n_right(model.as_ref(), &data, 4)
        };
        assert_eq!(right(json!(["baskets"])), 32, "{name}");
        assert_eq!(right(json!([])), 16, "{name}");
    }
}

#[test]
fn items_beyond_the_vocabulary_change_no_bit() {
    let (samples, sequences) = baskets(|_| 1.0);
    let on = |entry: &Entry, items: &[ItemFeatures]| {
        let data = TrainingData::new(&samples, &sequences, N_ITEMS).unwrap();
        let mut more = all_inputs(entry);
        more["dimensions"] = json!(8);
        more["epochs"] = json!(1);
        let mut run = Run::silent(Seed::root(4));
        let model = entry.fit(&more, &data.with_items(items), &mut run).unwrap();
        bytes(model.as_ref())
    };
    let known = described(20);
    let mut later = described(26);
    for item in &mut later[20..] {
        item.brand = Some("a brand of tomorrow".to_owned());
        item.attributes = vec!["a word of tomorrow".to_owned()];
    }
    let mut other = described(20);
    other[3].brand = Some("another brand".to_owned());
    for entry in entries() {
        assert!(on(entry, &known) == on(entry, &later), "{}", entry.name);
        assert!(on(entry, &known) != on(entry, &other), "{}", entry.name);
    }
}

#[test]
fn an_item_that_training_hardly_saw_is_placed_by_its_attributes() {
    // Group a holds items 0 to 5, group b items 6 to 11; a 12 follows group a, a 13 group b. Items 5
    // and 11 are in no history, so only their attribute tells what follows them.
    let users: Vec<Vec<Act>> = (0..60_u32)
        .map(|user| {
            let group = user % 2;
            let item = group * 6 + user / 2 % 5;
            vec![(item, Event::View, 0), (12 + group, Event::View, 1)]
        })
        .chain([vec![(5, Event::View, 0)], vec![(11, Event::View, 0)]])
        .collect();
    let (samples, sequences) = shop(&users, |_| 1.0);
    let mut items = described(14);
    for item in &mut items {
        item.category = None;
        item.brand = None;
        item.price_e4 = None;
        let word = ["group a", "group b", "neither"][item.item as usize / 6];
        item.attributes = vec![word.to_owned()];
    }
    let data = TrainingData::new(&samples, &sequences, 14).unwrap();
    let data = data.with_items(&items);
    for name in ["sasrec", "gru4rec", "bert4rec"] {
        let more = by_heart(name, &json!(["attributes"]));
        let mut run = Run::silent(Seed::root(4));
        let model = entry(name).fit(&more, &data, &mut run).unwrap();
        for (item, follows, other) in [(5, 12, 13), (11, 13, 12)] {
            let mut scores = [0.0; 14];
            model.score(None, History::of(&[item]), &mut scores);
            assert!(scores[follows] > scores[other], "{name} {item} {scores:?}");
        }
    }
}
