//! Laws of pre-training and fine-tuning.

use proptest::prelude::*;
use serde_json::{Value, json};
use tables::Event;

use super::training::{Recorder, bytes, entries, fit_on};
use super::{Act, N_ITEMS, baskets, shop};
use crate::recommender::FitError;
use crate::{History, Samples, Sequences};

/// Two epochs of all events, two of purchases.
fn phases(more: &Value) -> Value {
    let mut all = json!({ "pretrain_epochs": 2, "epochs": 4, "target": "purchase" });
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    all
}

/// How many samples of a type have a history.
fn n_of(data: &(Samples, Sequences), event: Option<Event>) -> u64 {
    let all = crate::TrainingData::new(&data.0, &data.1, N_ITEMS).unwrap();
    let counted = (0..all.n_samples())
        .filter(|&at| all.history_end(at) > 0 && (event.is_none() || all.event(at) == event));
    counted.count() as u64
}

#[test]
fn all_events_are_learned_from_and_then_those_of_the_target_alone() {
    let data = baskets(|_| 1.0);
    for entry in entries() {
        let mut recorder = Recorder {
            figures: vec![0.9, 0.8, 0.1, 0.3],
            ..Recorder::default()
        };
        let model = fit_on(entry, &data, N_ITEMS, &phases(&json!({})), &mut recorder).unwrap();
        let counted: Vec<u64> = recorder
            .epochs
            .iter()
            .map(|epoch| epoch.n_samples)
            .collect();
        let [all, bought] = [None, Some(Event::Purchase)].map(|event| n_of(&data, event));
        assert!(bought < all);
        assert_eq!(counted, [all, all, bought, bought], "{}", entry.name);
        // The better figures of pre-training are not even asked for.
        let figures: Vec<Option<f64>> = recorder.epochs.iter().map(|e| e.validation).collect();
        assert_eq!(figures, [None, None, Some(0.1), Some(0.3)]);
        assert_eq!(model.steps(), recorder.steps.last().copied());
    }
}

#[test]
fn patience_begins_with_fine_tuning() {
    let data = baskets(|_| 1.0);
    for entry in entries() {
        let mut recorder = Recorder {
            figures: vec![0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
            ..Recorder::default()
        };
        let more = phases(&json!({ "epochs": 6, "patience": 2 }));
        let model = fit_on(entry, &data, N_ITEMS, &more, &mut recorder).unwrap();
        assert_eq!(recorder.epochs.len(), 5, "{}", entry.name);
        let more = phases(&json!({ "epochs": 6, "steps": model.steps().unwrap() }));
        let mut again = Recorder::default();
        let masked = fit_on(entry, &data, N_ITEMS, &more, &mut again).unwrap();
        // So many steps lead to the same weights, in the third epoch.
        assert!(
            bytes(model.as_ref()) == bytes(masked.as_ref()),
            "{}",
            entry.name
        );
        assert_eq!(again.epochs.len(), 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]
    #[test]
    fn a_run_interrupted_in_either_phase_goes_on_to_the_same_bytes(
        fail_at in 1_usize..40, every in 1_u64..3,
    ) {
        let data = baskets(|_| 1.0);
        let mut more = phases(&json!({ "checkpoint_steps": every }));
        let figures = vec![0.1, 0.3, 0.2, 0.1];
        for entry in entries() {
            if entry.name == "case_study" {
                more.as_object_mut().unwrap().remove("inputs");
            } else {
                more["inputs"] = json!(["events", "baskets", "attributes"]);
            }
            let mut whole = Recorder { figures: figures.clone(), ..Recorder::default() };
            let expected = fit_on(entry, &data, N_ITEMS, &more, &mut whole).unwrap();
            let mut first = Recorder {
                figures: figures.clone(),
                fail_at: Some(1 + fail_at % whole.n_kept),
                ..Recorder::default()
            };
            prop_assert!(fit_on(entry, &data, N_ITEMS, &more, &mut first).is_err());
            let mut second = Recorder {
                figures: figures.clone(),
                epochs: first.epochs,
                kept: first.kept,
                ..Recorder::default()
            };
            let resumed = fit_on(entry, &data, N_ITEMS, &more, &mut second).unwrap();
            prop_assert!(bytes(expected.as_ref()) == bytes(resumed.as_ref()), "{}", entry.name);
            prop_assert_eq!(&whole.epochs, &second.epochs);
        }
    }
}

#[test]
fn a_target_that_training_does_not_hold_is_refused_by_name() {
    let data = baskets(|_| 1.0);
    for entry in entries() {
        let more = json!({ "target": "cart" });
        let error = fit_on(entry, &data, N_ITEMS, &more, &mut Recorder::default());
        let Err(error @ FitError::NoTarget { .. }) = error.map(|_| ()) else {
            panic!("{} trained on nothing", entry.name);
        };
        let message = error.to_string();
        assert!(
            message.contains("`cart`") && message.contains("view, purchase"),
            "{message}"
        );
        for (wrong, text) in [
            (json!({ "pretrain_epochs": 2 }), "needs `target`"),
            (
                json!({ "pretrain_epochs": 5, "epochs": 5, "target": "purchase" }),
                "must be below `epochs`",
            ),
            (json!({ "target": "buy" }), "expected one of"),
        ] {
            let error = entry.check(&wrong).unwrap_err();
            let message = error.source.to_string();
            assert!(message.contains(text), "{message}");
        }
    }
}

/// Users who look at items 0 to 3, and sometimes buy: what is bought after item i is 4 + i, what is
/// looked at is i + 1, three times as often.
fn views_and_purchases() -> (Samples, Sequences) {
    let users: Vec<Vec<Act>> = (0..64_u32)
        .map(|user| {
            let first = user % 4;
            let next = if (user / 4).is_multiple_of(4) {
                (4 + first, Event::Purchase, 1)
            } else {
                ((first + 1) % 4, Event::View, 1)
            };
            vec![(first, Event::View, 0), next]
        })
        .collect();
    shop(&users, |_| 1.0)
}

#[test]
fn fine_tuning_turns_the_answer_from_what_is_seen_to_what_is_bought() {
    let data = views_and_purchases();
    for entry in entries() {
        let slow = entry.name == "bert4rec";
        let mut more = json!({
            "dimensions": 16, "dropout": 0.0,
            "learning_rate": if slow { 0.003 } else { 0.02 },
            "epochs": if slow { 300 } else { 120 },
        });
        if entry.name == "case_study" {
            // Logistic loss on a few negatives says nothing of all other items.
            more["negatives"] = json!(30);
        }
        let pretrained = json!(if slow { 200 } else { 80 });
        let best = |more: &Value, item: u32| {
            let model = fit_on(entry, &data, 8, more, &mut Recorder::default()).unwrap();
            let mut scores = [0.0; 8];
            model.score(None, History::of(&[item]), &mut scores);
            (0_u32..8).max_by(|&a, &b| scores[a as usize].total_cmp(&scores[b as usize]))
        };
        assert_eq!(best(&more, 2), Some(3), "{}", entry.name);
        more["target"] = json!("purchase");
        assert_eq!(best(&more, 2), Some(6), "{}", entry.name);
        more["pretrain_epochs"] = pretrained;
        assert_eq!(best(&more, 2), Some(6), "{}", entry.name);
    }
}
