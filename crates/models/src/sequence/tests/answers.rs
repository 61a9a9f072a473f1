//! Laws of what a trained model answers: losses of samples and of requests, the chain.

use seed::Seed;
use serde_json::{Value, json};

use super::training::{Recorder, bytes, entries, fit};
use super::{N_ITEMS, sequences};
use crate::recommender::{Entry, Losses, Model};
use crate::run::Run;
use crate::{History, Samples, Sequences, TrainingData};

/// Items that are asked for: the vocabulary of the tests and two more.
const N_ASKED: usize = N_ITEMS + 2;
const ASKED: std::ops::Range<u32> = 0..22;

fn fitted(entry: &Entry, data: &(Samples, Sequences), more: &Value) -> Box<dyn Model> {
    fit(entry, data, more, &mut Recorder::default()).unwrap()
}

fn losses(model: &dyn Model) -> &dyn Losses {
    model.losses().unwrap()
}

/// Histories of no to eleven events; windows of the tests have six. Some hold unknown items.
fn histories() -> Vec<Vec<u32>> {
    (0..40_u32)
        .map(|at| (0..at % 12).map(|k| (at * 7 + k * k) % 23).collect())
        .collect()
}

/// -log p of all items from scores of a catalogue: probabilities themselves, or their softmax over
/// the vocabulary.
fn expected(scores: &[f64], are_probabilities: bool) -> Vec<f64> {
    if are_probabilities {
        return scores.iter().map(|&p| -libm::log(p)).collect();
    }
    let sum: f64 = scores[..N_ITEMS].iter().map(|&x| libm::exp(x)).sum();
    scores.iter().map(|&x| libm::log(sum) - x).collect()
}

#[test]
fn losses_of_requests_are_those_of_their_scores_however_long_the_history() {
    let data = sequences(|_| 1.0);
    let items: Vec<u32> = ASKED.collect();
    let histories = histories();
    for entry in entries() {
        for chain in [0.0, 0.4] {
            let model = fitted(entry, &data, &json!({ "chain": chain }));
            let asked: Vec<(History<'_>, &[u32])> = histories
                .iter()
                .map(|history| (History::of(history), items.as_slice()))
                .collect();
            let found = losses(model.as_ref()).request_losses(&asked);
            let mut n_other = 0;
            for (history, found) in histories.iter().zip(&found) {
                let mut scores = [0.0; N_ASKED];
                model.score(None, History::of(history), &mut scores);
                let is_known = history.iter().any(|item| (*item as usize) < N_ITEMS);
                // Without a history scores are shares.
                let expected = expected(&scores, chain > 0.0 || !is_known);
                for (&item, (a, b)) in items.iter().zip(found.iter().zip(&expected)) {
                    assert!((a - b).abs() < 2e-6, "{} {history:?}: {a} {b}", entry.name);
                    let in_training = losses(model.as_ref()).loss(History::of(history), item);
                    n_other += usize::from((a - in_training).abs() > 1e-5);
                }
            }
            // A window starts at a multiple of the stride, a request sees the last events.
            assert!(n_other > 100, "{} {n_other}", entry.name);
            let few = losses(model.as_ref()).request_losses(&asked[7..8]);
            assert_eq!(few.len(), 1);
            for (a, b) in few[0].iter().zip(&found[7]) {
                assert!((a - b).abs() < 2e-6);
            }
        }
    }
}

/// Sequences with baskets, some samples of which weigh nothing.
fn baskets() -> (Samples, Sequences) {
    super::baskets(|at| if at % 5 == 4 { 0.0 } else { 1.0 })
}

#[test]
fn losses_of_all_samples_at_once_are_those_of_one_after_the_other() {
    for (samples, sequences) in [baskets(), sequences(|_| 1.0)] {
        let both = (samples, sequences);
        let data = TrainingData::new(&both.0, &both.1, N_ITEMS).unwrap();
        for entry in entries() {
            for chain in [0.0, 0.4] {
                let model = fitted(entry, &both, &json!({ "chain": chain }));
                let losses = losses(model.as_ref());
                let at_once = losses.sample_losses(&data);
                assert_eq!(at_once.len(), data.n_samples());
                for (sample, loss) in at_once.iter().enumerate() {
                    let alone = losses.loss(data.history(sample), data.item(sample));
                    assert!(
                        (loss - alone).abs() < 2e-6,
                        "{} sample {sample}: {loss} {alone}",
                        entry.name
                    );
                }
            }
        }
    }
}

#[test]
fn a_chain_mixes_in_what_was_counted_and_changes_no_weight() {
    let both = baskets();
    let data = TrainingData::new(&both.0, &both.1, N_ITEMS).unwrap();
    let (chain, strength) = (0.6, 2.5);
    let markov = crate::entry("markov").unwrap();
    for entry in entries() {
        let bare = fitted(entry, &both, &json!({}));
        let more = json!({ "chain": chain, "chain_strength": strength });
        let mixed = fitted(entry, &both, &more);
        let counted = markov
            .fit(&Value::Null, &data, &mut Run::silent(Seed::root(1)))
            .unwrap();
        let transitions = counted.transitions().unwrap();
        let (bare_saved, mixed_saved) = (bare.save().unwrap(), mixed.save().unwrap());
        for name in bare_saved.names() {
            assert_eq!(
                bare_saved.f32(name).ok(),
                mixed_saved.f32(name).ok(),
                "{name}"
            );
        }
        assert!(!bare_saved.contains("chain") && mixed_saved.contains("transitions.values"));
        let mut n_left = 0;
        for last in 0..20_u32 {
            let history = [3, last];
            let (mut scores, mut q, mut of_counts) =
                ([0.0; N_ITEMS], [0.0; N_ITEMS], [0.0; N_ITEMS]);
            mixed.score(None, History::of(&history), &mut scores);
            bare.score(None, History::of(&history), &mut q);
            counted.score(None, History::of(&history), &mut of_counts);
            let sum: f64 = q.iter().map(|&x| libm::exp(x)).sum();
            let total: f64 = transitions.row(last as usize).1.iter().sum();
            let share = if total > 0.0 {
                chain * total / (total + strength)
            } else {
                0.0
            };
            n_left += usize::from(total <= 0.0);
            for item in 0..N_ITEMS {
                // Scores of `markov` are counts and share, which sum to the total and one.
                let p = (1.0 - share) * libm::exp(q[item]) / sum
                    + share * of_counts[item] / (total + 1.0);
                assert!((p - scores[item]).abs() < 1e-6 * p, "{} {last}", entry.name);
            }
            let all: f64 = (0..20)
                .map(|item| libm::exp(-losses(mixed.as_ref()).loss(History::of(&history), item)))
                .sum();
            assert!((all - 1.0).abs() < 1e-12, "{all}");
        }
        assert!(n_left < 20, "some items are followed");
        let back = entry.load(&mixed_saved).unwrap();
        assert!(bytes(back.as_ref()) == bytes(mixed.as_ref()));
        let (mut a, mut b) = ([0.0; N_ASKED], [0.0; N_ASKED]);
        mixed.score(None, History::of(&[3, 4]), &mut a);
        back.score(None, History::of(&[3, 4]), &mut b);
        assert_eq!(a.map(f64::to_bits), b.map(f64::to_bits));
    }
}

#[test]
fn a_table_of_outputs_is_saved_where_there_is_one() {
    let data = sequences(|_| 1.0);
    for name in ["sasrec", "gru4rec"] {
        let entry = crate::entry(name).unwrap();
        for tied in [true, false] {
            let model = fitted(entry, &data, &json!({ "tied": tied }));
            let saved = model.save().unwrap();
            assert_eq!(saved.contains("output"), !tied);
            let back = entry.load(&saved).unwrap();
            let (mut a, mut b) = ([0.0; N_ASKED], [0.0; N_ASKED]);
            model.score(None, History::of(&[3, 4]), &mut a);
            back.score(None, History::of(&[3, 4]), &mut b);
            assert_eq!(a.map(f64::to_bits), b.map(f64::to_bits), "{name}");
        }
    }
}
