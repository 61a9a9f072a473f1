//! Laws that every model of the registry obeys.

use std::path::Path;

use proptest::prelude::*;
use seed::Seed;
use serde_json::{Value, json};
use tables::ItemFeatures;

use crate::card::{Card, load, save};
use crate::data::{Samples, TrainingData};
use crate::history::{History, Sequences};
use crate::recommender::{Capability, Entry, Model};
use crate::recommenders::REGISTRY;
use crate::run::Run;

const N_ITEMS: usize = 8;
const ITEMS: std::ops::Range<u32> = 0..8;

/// Sequences of items without instants, each event a sample with a weight.
pub(crate) fn log(sequences: &[(&[u32], &[f64])]) -> (Samples, Sequences) {
    let mut samples = Samples::default();
    let mut all = Sequences::default();
    let mut id = 0;
    for (sequence, (items, weights)) in (0_u32..).zip(sequences) {
        assert_eq!(items.len(), weights.len());
        for (position, (&item, &weight)) in (0_u32..).zip(items.iter().zip(*weights)) {
            all.push(sequence, position, item).unwrap();
            samples.push(id, sequence, position, item, weight);
            id += 1;
        }
    }
    (samples, all)
}

/// What is known of the items of the tests, two more than the vocabulary holds.
pub(crate) fn items() -> Vec<ItemFeatures> {
    let titles = [
        "red mug",
        "blue mug",
        "red lamp",
        "",
        "tea",
        "tea pot",
        "blue lamp",
        "pot",
        "red pot",
        "unheard",
    ];
    (0..)
        .zip(titles)
        .map(|(item, title)| ItemFeatures {
            item,
            title: (!title.is_empty()).then(|| title.to_owned()),
            category: None,
            brand: None,
            attributes: Vec::new(),
            price_e4: None,
            price_z: 0.0,
            popularity_z: 0.0,
        })
        .collect()
}

/// Runs work on so many threads.
pub(crate) fn in_pool<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build().unwrap().install(work)
}

/// Fits 32 samples of 8 users, each with 4 items of a group of its own, and requires that every item
/// is ranked above all items of others when the history is the rest of its group: NDCG@4 near 1.
pub(crate) fn overfits(entry: &Entry, parameters: &Value) {
    let users: Vec<Vec<u32>> = (0..8)
        .map(|user| (user * 4..user * 4 + 4).collect())
        .collect();
    let logs: Vec<(&[u32], &[f64])> = users
        .iter()
        .map(|items| (&items[..], &[1.0; 4][..]))
        .collect();
    let (samples, sequences) = log(&logs);
    let data = TrainingData::new(&samples, &sequences, 32).unwrap();
    let mut run = Run::silent(Seed::root(3));
    let model = entry.fit(parameters, &data, &mut run).unwrap();
    let mut sum = 0.0;
    for (user, items) in (0_u32..).zip(&users) {
        for target in items {
            let history: Vec<u32> = items
                .iter()
                .copied()
                .filter(|item| item != target)
                .collect();
            let mut scores = vec![0.0; 32];
            model.score(Some(user), History::of(&history), &mut scores);
            let score = scores[*target as usize];
            let better = (0_u32..32)
                .filter(|item| !history.contains(item) && scores[*item as usize] > score)
                .count();
            sum += 1.0 / libm::log2(better as f64 + 2.0);
        }
    }
    let ndcg = sum / 32.0;
    assert!(ndcg > 0.99, "NDCG {ndcg}");
}

type Logs = Vec<Vec<(u32, f64)>>;

fn logs() -> impl Strategy<Value = Logs> {
    let weight = prop::sample::select(vec![1.0, 1.0, 1.0, 0.3, 2.0, 0.7]);
    let event = (ITEMS, weight);
    prop::collection::vec(prop::collection::vec(event, 1..9), 1..8)
}

fn build(logs: &Logs) -> (Samples, Sequences) {
    let columns: Vec<(Vec<u32>, Vec<f64>)> =
        logs.iter().map(|log| log.iter().copied().unzip()).collect();
    let borrowed: Vec<(&[u32], &[f64])> = columns
        .iter()
        .map(|(items, weights)| (items.as_slice(), weights.as_slice()))
        .collect();
    log(&borrowed)
}

/// Defaults, but few dimensions and epochs: the laws hold for any number.
fn small(entry: &Entry) -> Value {
    let mut parameters = serde_json::Map::new();
    for parameter in entry.parameters {
        if matches!(parameter.name, "dimensions" | "epochs") {
            parameters.insert(parameter.name.to_owned(), json!(3));
        }
    }
    Value::Object(parameters)
}

/// Models of a sampled loss over features. A weight scales the loss of a sample, whose event features
/// count whatever its weight; negatives belong to a sample's id; exp(-loss) is no distribution; and
/// features leave out what a sample's own user does later, so that nothing is learned by heart. Their
/// own tests hold what they promise instead.
const SAMPLED: &[&str] = &["logistic_regression"];

fn is_sampled(entry: &Entry) -> bool {
    SAMPLED.contains(&entry.name)
}

/// Models that sum over samples. Those that are trained step by step obey other laws of weights: a
/// sample of weight 0 still has its place in a batch.
fn sums() -> impl Iterator<Item = &'static Entry> {
    let all = REGISTRY.iter();
    all.filter(|entry| !entry.is_trained_by_steps && !is_sampled(entry))
}

fn fit(entry: &Entry, samples: &Samples, sequences: &Sequences) -> Box<dyn Model> {
    let items = items();
    let data = TrainingData::new(samples, sequences, N_ITEMS)
        .unwrap()
        .with_items(&items);
    entry
        .fit(&small(entry), &data, &mut Run::silent(Seed::root(1)))
        .unwrap()
}

/// Everything that can be asked of a model, as bits.
fn answers(model: &dyn Model) -> Vec<u64> {
    let histories: [&[u32]; 6] = [&[], &[0], &[3, 3, 1], &[7, 2], &[9], &[5, 9]];
    let mut bits = Vec::new();
    for history in histories {
        // Two items beyond the vocabulary.
        let mut scores = vec![f64::NAN; N_ITEMS + 2];
        for user in [None, Some(0), Some(99)] {
            scores.fill(f64::NAN);
            model.score(user, History::of(history), &mut scores);
            assert!(scores.iter().all(|score| score.is_finite()));
            bits.extend(scores.iter().map(|score| score.to_bits()));
        }
        if let Some(losses) = model.losses() {
            for item in 0..ITEMS.end + 2 {
                let loss = losses.loss(History::of(history), item);
                assert!(loss.is_finite());
                bits.push(loss.to_bits());
            }
        }
    }
    bits.extend(
        model
            .item_counts()
            .into_iter()
            .flatten()
            .map(|x| x.to_bits()),
    );
    if let Some(transitions) = model.transitions() {
        bits.extend(transitions.indptr.iter().copied());
        bits.extend(transitions.indices.iter().map(|&x| u64::from(x)));
        bits.extend(transitions.values.iter().map(|x| x.to_bits()));
    }
    bits
}

#[test]
fn names_are_unique_and_files_have_their_headings() {
    for (index, entry) in REGISTRY.iter().enumerate() {
        assert!(
            REGISTRY[..index]
                .iter()
                .all(|other| other.name != entry.name)
        );
        assert!(!entry.doc.is_empty() && !entry.paper.is_empty());
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/recommenders");
    let mut n_files = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        // Folders hold tests.
        if path.ends_with("mod.rs") || path.is_dir() {
            continue;
        }
        n_files += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        for heading in ["# Paper", "# Departures", "# Needs", "# Cost"] {
            assert!(
                text.lines().any(|line| line == format!("//! {heading}")),
                "`{}` lacks `{heading}`",
                path.display()
            );
        }
    }
    assert_eq!(n_files, REGISTRY.len());
}

#[test]
fn parameters_are_those_declared_and_unknown_ones_are_refused() {
    for entry in REGISTRY {
        let Value::Object(defaults) = entry.check(&Value::Null).unwrap() else {
            panic!("parameters of `{}` are not a mapping", entry.name);
        };
        let mut declared: Vec<&str> = entry.parameters.iter().map(|p| p.name).collect();
        let mut found: Vec<&str> = defaults.keys().map(String::as_str).collect();
        declared.sort_unstable();
        found.sort_unstable();
        assert_eq!(declared, found);
        for parameter in entry.parameters {
            assert_eq!(defaults[parameter.name].to_string(), parameter.default);
        }
        let error = entry.check(&json!({ "neighbors_": 3 })).unwrap_err();
        assert!(error.to_string().contains(entry.name));
        assert!(error.source.to_string().contains("neighbors_"));
    }
}

#[test]
fn capabilities_are_what_the_model_gives() {
    let (samples, sequences) = log(&[(&[0, 1, 2], &[1.0; 3])]);
    for entry in REGISTRY {
        let model = fit(entry, &samples, &sequences);
        let given = [
            (Capability::Attention, model.attention().is_some()),
            (
                Capability::BlockInfluence,
                model.factor_gradients().is_some(),
            ),
            (Capability::Counts, model.item_counts().is_some()),
            (Capability::GradientRows, model.gradient_rows().is_some()),
            (Capability::Gradients, model.gradients().is_some()),
            (Capability::HiddenStates, model.hidden_states().is_some()),
            (
                Capability::InputGradients,
                model.input_gradients().is_some(),
            ),
            (Capability::Losses, model.losses().is_some()),
            (Capability::Transitions, model.transitions().is_some()),
            (Capability::Unrolled, model.unrolled_training().is_some()),
        ];
        for (capability, is_given) in given {
            let is_declared = entry.capabilities.contains(&capability);
            assert_eq!(is_declared, is_given, "{} {capability:?}", entry.name);
        }
    }
}

#[test]
fn models_that_read_items_say_so_where_there_are_none() {
    let (samples, sequences) = log(&[(&[0, 1, 2], &[1.0; 3])]);
    let data = TrainingData::new(&samples, &sequences, N_ITEMS).unwrap();
    for entry in REGISTRY {
        let fitted = entry.fit(&Value::Null, &data, &mut Run::silent(Seed::root(1)));
        assert_eq!(
            fitted.is_err(),
            entry.reads_items(&Value::Null).unwrap(),
            "{}",
            entry.name
        );
    }
}

#[test]
fn only_what_is_trained_step_by_step_tells_its_steps_and_they_lead_there_again() {
    let (samples, sequences) = log(&[(&[0, 1, 2, 5], &[1.0; 4]), (&[3, 1, 2], &[1.0; 3])]);
    let items = items();
    let data = TrainingData::new(&samples, &sequences, N_ITEMS)
        .unwrap()
        .with_items(&items);
    for entry in REGISTRY {
        let model = fit(entry, &samples, &sequences);
        assert_eq!(
            model.steps().is_some(),
            entry.is_trained_by_steps,
            "{}",
            entry.name
        );
        let Some(steps) = model.steps() else { continue };
        let mut parameters = small(entry);
        // Steps decide, whatever else is written.
        parameters["epochs"] = json!(50);
        parameters["steps"] = json!(steps);
        let again = entry
            .fit(&parameters, &data, &mut Run::silent(Seed::root(1)))
            .unwrap();
        assert_eq!(again.steps(), Some(steps), "{}", entry.name);
        assert_eq!(
            answers(again.as_ref()),
            answers(model.as_ref()),
            "{}",
            entry.name
        );
    }
}

#[test]
fn models_that_count_learn_by_heart_what_belongs_together() {
    for entry in sums() {
        let parameters = match entry.name {
            // One counts nothing but items, one learns from what items are, and the last looks at the
            // last item alone: see below.
            "popularity" | "content" | "markov" => continue,
            "ials" => json!({ "epochs": 30, "unobserved_weight": 0.1, "regularisation": 1e-4 }),
            "ease" => json!({ "regularisation": 0.1 }),
            _ => json!({}),
        };
        overfits(entry, &parameters);
    }
    // What comes next, where order is what is counted.
    let users: Vec<[u32; 4]> = (0..8)
        .map(|user| [0, 1, 2, 3].map(|at| user * 4 + at))
        .collect();
    let logs: Vec<(&[u32], &[f64])> = users
        .iter()
        .map(|items| (&items[..], &[1.0; 4][..]))
        .collect();
    let (samples, sequences) = log(&logs);
    let data = TrainingData::new(&samples, &sequences, 32).unwrap();
    for (name, parameters) in [
        ("markov", json!({})),
        ("association_rules", json!({ "order": "after" })),
    ] {
        let entry = crate::entry(name).unwrap();
        let mut run = Run::silent(Seed::root(3));
        let model = entry.fit(&parameters, &data, &mut run).unwrap();
        for items in &users {
            for at in 1..4 {
                let mut scores = vec![0.0; 32];
                model.score(None, History::of(&items[..at]), &mut scores);
                let unseen = (0..32_u32).filter(|item| !items[..at].contains(item));
                let best =
                    unseen.max_by(|a, b| scores[*a as usize].total_cmp(&scores[*b as usize]));
                assert_eq!(best, Some(items[at]), "{name}");
            }
        }
    }
}

#[test]
fn an_empty_history_is_served_by_popularity() {
    let (samples, sequences) = log(&[(&[4, 1, 1, 4, 1, 6], &[1.0; 6])]);
    for entry in REGISTRY {
        let mut scores = vec![0.0; N_ITEMS];
        fit(entry, &samples, &sequences).score(None, History::default(), &mut scores);
        let mut order: Vec<usize> = (0..N_ITEMS).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        assert_eq!(order, [1, 4, 6, 0, 2, 3, 5, 7], "{}", entry.name);
    }
}

proptest! {
    #[test]
    fn a_model_comes_back_from_disk_bit_by_bit(logs in logs()) {
        let (samples, sequences) = build(&logs);
        for entry in REGISTRY {
            let model = fit(entry, &samples, &sequences);
            let card = Card {
                name: entry.name.to_owned(),
                revision: entry.revision,
                parameters: entry.check(&Value::Null).unwrap(),
                n_vocabulary: N_ITEMS,
                n_samples: samples.n(),
            };
            let directory = tempfile::tempdir().unwrap();
            save(directory.path(), &card, model.as_ref()).unwrap();
            let (loaded_card, loaded) = load(directory.path()).unwrap();
            prop_assert_eq!(loaded_card, card);
            prop_assert_eq!(answers(loaded.as_ref()), answers(model.as_ref()));
        }
    }

    #[test]
    fn the_order_of_samples_changes_nothing(logs in logs(), shift in 1_usize..50) {
        let (samples, sequences) = build(&logs);
        let mut permuted = Samples::default();
        for turn in 0..samples.n() {
            let at = (turn * 7919 + shift) % samples.n();
            // 7919 is prime and larger than any number of samples here.
            let (id, sequence, end, item, weight) = samples.get(at);
            permuted.push(id, sequence, end, item, weight);
        }
        permuted.sort();
        for entry in REGISTRY {
            let (a, b) = (fit(entry, &samples, &sequences), fit(entry, &permuted, &sequences));
            prop_assert_eq!(answers(a.as_ref()), answers(b.as_ref()), "{}", entry.name);
        }
    }

    #[test]
    fn weight_zero_means_absent(logs in logs(), every in 2_usize..5) {
        let (samples, sequences) = build(&logs);
        let (mut zeroed, mut dropped) = (Samples::default(), Samples::default());
        for at in 0..samples.n() {
            let (id, sequence, end, item, weight) = samples.get(at);
            if at % every == 0 {
                zeroed.push(id, sequence, end, item, 0.0);
            } else {
                zeroed.push(id, sequence, end, item, weight);
                dropped.push(id, sequence, end, item, weight);
            }
        }
        for entry in sums() {
            let (a, b) = (fit(entry, &zeroed, &sequences), fit(entry, &dropped, &sequences));
            prop_assert_eq!(answers(a.as_ref()), answers(b.as_ref()), "{}", entry.name);
        }
    }

    #[test]
    fn weight_two_means_twice(logs in logs(), every in 2_usize..5) {
        let (samples, sequences) = build(&logs);
        let (mut doubled, mut repeated) = (Samples::default(), Samples::default());
        for at in 0..samples.n() {
            let (id, sequence, end, item, _) = samples.get(at);
            doubled.push(id, sequence, end, item, if at % every == 0 { 2.0 } else { 1.0 });
            for copy in 0..=u64::from(at % every == 0) {
                repeated.push(id * 2 + copy, sequence, end, item, 1.0);
            }
        }
        for entry in sums() {
            let (a, b) = (fit(entry, &doubled, &sequences), fit(entry, &repeated, &sequences));
            prop_assert_eq!(answers(a.as_ref()), answers(b.as_ref()), "{}", entry.name);
        }
    }

    #[test]
    fn probabilities_sum_to_one_over_the_vocabulary(logs in logs(), history in prop::collection::vec(0_u32..9, 0..4)) {
        let (samples, sequences) = build(&logs);
        for entry in REGISTRY.iter().filter(|entry| !is_sampled(entry)) {
            let model = fit(entry, &samples, &sequences);
            if let Some(losses) = model.losses() {
                let sum: f64 = ITEMS
                    .map(|item| libm::exp(-losses.loss(History::of(&history), item)))
                    .sum();
                prop_assert!((sum - 1.0).abs() < 1e-12, "{} sums to {sum}", entry.name);
            }
        }
    }
}
