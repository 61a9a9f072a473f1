//! Parts, histories, requests and numbers of logs that fit on a page.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use split::{Config, Split};
use stage::Stage;
use tables::{
    CatalogueEntry, CleanEvent, Instant, ItemFeatures, Part, Request, SampleId, SequenceEvent,
    UserFeatures, VocabularyEntry,
};

use crate::fixture::{DAY, event, run, try_run};

/// User a: a basket of two, one more item, then valuation and test; user b: test alone.
fn baskets() -> Vec<CleanEvent> {
    vec![
        event(0, "a", "x", Some(1)),
        event(1, "a", "y", Some(1)),
        event(2, "a", "x", Some(2)),
        event(3, "a", "z", Some(5)),
        event(4, "a", "y", Some(8)),
        event(5, "a", "x", Some(8)),
        event(6, "b", "x", Some(9)),
        event(7, "b", "w", Some(9)),
    ]
}

const CUTS: &str =
    "instants: { valuation: '1970-01-06T00:00:00Z', test: '1970-01-09T00:00:00Z' }\n";

#[test]
fn the_items_of_a_basket_share_a_history_and_do_not_predict_each_other() {
    let outcome = run(baskets(), CUTS);
    let wanted = [
        (0, ("x".to_owned(), 0)),
        (1, ("y".to_owned(), 0)),
        (2, ("x".to_owned(), 2)),
    ];
    assert_eq!(outcome.samples(), BTreeMap::from(wanted));
    assert!((outcome.figure("equal_instant_frac", "all") - 6.0 / 8.0).abs() < 1e-12);
}

#[test]
fn requests_stand_at_the_start_of_their_part() {
    let outcome = run(baskets(), CUTS);
    let requests = outcome.requests();
    assert_eq!(requests.len(), 3);
    assert!(matches!(
        requests[0].0,
        Part::ValuationFit | Part::ValuationTune
    ));
    // Valuation: only z; history is the training events.
    assert_eq!((requests[0].1, requests[0].2), (0, 3));
    assert_eq!(requests[0].3, ["z"]);
    // Test of a: history includes the valuation event; distinct items.
    assert_eq!(
        requests[1],
        (Part::Test, 0, 4, vec!["x".into(), "y".into()])
    );
    // b has no history; w was never seen before the test instant and x was.
    assert_eq!(
        requests[2],
        (Part::Test, 1, 0, vec!["x".into(), "w".into()])
    );
    let (cold, n_cold_users) = (
        outcome.figure("n_cold_relevant", "test"),
        outcome.figure("n_cold_users", "test"),
    );
    assert!((cold - 1.0).abs() < 1e-12 && (n_cold_users - 1.0).abs() < 1e-12);
    assert!((outcome.figure("repeat_frac", "test") - 0.5).abs() < 1e-12);
}

#[test]
fn the_vocabulary_is_of_training_and_the_catalogue_appends() {
    let outcome = run(baskets(), CUTS);
    let names = |rows: Vec<String>| rows.join(" ");
    let vocabulary = outcome.rows::<VocabularyEntry>("vocabulary");
    assert_eq!(
        names(vocabulary.iter().map(|row| row.item_id.clone()).collect()),
        "x y"
    );
    assert_eq!(vocabulary[0].n_events, 2);
    let catalogue = outcome.rows::<CatalogueEntry>("catalogue");
    assert_eq!(
        names(catalogue.iter().map(|row| row.item_id.clone()).collect()),
        "x y z w"
    );
    assert_eq!(catalogue[2].known_at, Some(Instant(5 * DAY)));
    assert!(!catalogue[2].in_vocabulary && catalogue[1].in_vocabulary);
}

#[test]
fn events_at_the_cut_belong_to_the_later_part() {
    let events = (0..10)
        .map(|n| event(n, "a", "x", Some(n.cast_signed() / 2)))
        .collect();
    // Instants 0 0 1 1 2 2 3 3 4 4: the quantile .5 falls on instant 2, .8 on instant 4.
    let outcome = run(events, "parts: [0.5, 0.3, 0.2]\n");
    let parts: Vec<Part> = outcome
        .rows::<SequenceEvent>("sequences")
        .iter()
        .map(|row| row.part)
        .collect();
    assert_eq!(
        parts.iter().filter(|part| **part == Part::Training).count(),
        4
    );
    assert_eq!(parts.iter().filter(|part| **part == Part::Test).count(), 2);
}

#[test]
fn leave_one_out_keeps_the_last_two_and_leaves_short_users_to_training() {
    let events = vec![
        event(0, "1", "a", None),
        event(1, "1", "b", None),
        event(2, "1", "c", None),
        event(3, "1", "d", None),
        event(4, "2", "a", None),
        event(5, "2", "b", None),
    ];
    let outcome = run(events, "scheme: leave_one_out\n");
    let wanted = [
        (0, ("a".to_owned(), 0)),
        (1, ("b".to_owned(), 1)),
        (4, ("a".to_owned(), 0)),
        (5, ("b".to_owned(), 1)),
    ];
    assert_eq!(outcome.samples(), BTreeMap::from(wanted));
    let requests = outcome.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(
        (requests[0].2, requests[0].3.clone()),
        (2, vec!["c".to_owned()])
    );
    assert_eq!(requests[1], (Part::Test, 0, 3, vec!["d".to_owned()]));
    assert!((outcome.figure("n_short_users", "all") - 1.0).abs() < 1e-12);
    // All items of the file can be ranked.
    let catalogue = outcome.rows::<CatalogueEntry>("catalogue");
    assert!(catalogue.iter().all(|entry| entry.known_at.is_none()));
}

#[test]
fn a_random_split_keeps_held_out_events_out_of_every_history() {
    let events: Vec<CleanEvent> = (0..400)
        .map(|n| {
            event(
                n,
                &format!("u{}", n % 20),
                &format!("i{}", n % 13),
                Some((n / 20).cast_signed()),
            )
        })
        .collect();
    let outcome = run(events, "scheme: random\nseed: 3\n");
    let sequences = outcome.rows::<SequenceEvent>("sequences");
    assert!(sequences.iter().all(|row| row.part == Part::Training));
    let share = sequences.len() as f64 / 400.0;
    // Four standard deviations of 400 lots of 0.8.
    assert!((share - 0.8).abs() < 0.08, "share {share}");
    for request in outcome.rows::<Request>("requests") {
        let length = sequences
            .iter()
            .filter(|row| row.sequence == request.sequence)
            .count();
        assert_eq!(request.history_end as usize, length);
    }
}

#[test]
fn a_temporal_split_without_instants_is_refused_with_a_remedy() {
    let Err(failure) = try_run(vec![event(0, "a", "x", None)], "{}") else {
        panic!("it was not refused");
    };
    assert_eq!(failure.exit, stage::Exit::Data);
    assert!(
        failure.to_string().contains("scheme: leave_one_out"),
        "{failure}"
    );
}

#[test]
fn wrong_configurations_say_what_is_wrong() {
    for (config, what) in [
        ("parts: [0.8, 0.1, 0.2]", "sum to 1"),
        ("plant: { label_noise: 1.5 }", "plant.label_noise"),
        ("plant: { label_nois: 0.5 }", "label_nois"),
        ("subsets: { count: 3, keep: 1 }", "subsets.keep"),
        ("scheme: tempral", "did you mean `temporal`"),
        (
            "scheme: random\ninstants: { valuation: '2020-01-01T00:00:00Z', test: '2020-01-02T00:00:00Z' }",
            "scheme: temporal",
        ),
    ] {
        let Err(failure) = try_run(baskets(), config) else {
            panic!("`{config}` was accepted");
        };
        assert_eq!(failure.exit, stage::Exit::Configuration, "{failure}");
        assert!(failure.to_string().contains(what), "{failure}");
    }
}

#[test]
fn the_description_lists_the_fields_of_the_configuration() {
    let config = stage::yaml::to_text(&Config::default()).unwrap();
    let config: stage::yaml::Mapping = stage::yaml::parse(&config, "default").unwrap();
    let fields: BTreeSet<String> = config
        .keys()
        .map(|key| key.as_str().unwrap().to_owned())
        .collect();
    let described: BTreeSet<String> = Split::description()
        .config
        .iter()
        .map(|field| field.name.to_owned())
        .collect();
    assert_eq!(fields, described);
}

/// Events of one instant share a history, however many they are.
#[test]
fn a_log_of_days_costs_no_more_than_its_events() {
    let n = 100_000_u64;
    let days = (0..n).map(|n| {
        event(
            n,
            "a",
            &format!("i{}", n % 97),
            Some((n / 50_000).cast_signed()),
        )
    });
    let mut events: Vec<CleanEvent> = days.collect();
    events.push(event(n, "a", "x", Some(5)));
    events.push(event(n + 1, "a", "x", Some(8)));
    let samples = run(events, CUTS).samples();
    assert_eq!(samples[&49_999].1, 0);
    assert_eq!(samples[&50_000].1, 50_000);
    assert_eq!(samples[&(n - 1)].1, 50_000);
}

#[test]
fn features_are_standardised_over_training_and_prices_are_means() {
    let mut events = baskets();
    for (event, price) in events.iter_mut().zip([10_000, 30_000, 20_000, 7]) {
        event.price_e4 = Some(price);
    }
    let outcome = run(events, CUTS);
    let items = outcome.rows::<ItemFeatures>("item_features");
    // x: 1.0 and 2.0; y: 3.0. The price of z was paid after training.
    let prices: Vec<Option<i64>> = items.iter().map(|item| item.price_e4).collect();
    assert_eq!(prices, [Some(15_000), Some(30_000), None, None]);
    // Two items: one standard deviation on either side of the mean.
    for (item, (price_z, popularity_z)) in items.iter().zip([(-1.0, 1.0), (1.0, -1.0)]) {
        assert!((item.price_z - price_z).abs() < 1e-12, "{item:?}");
        assert!((item.popularity_z - popularity_z).abs() < 1e-12, "{item:?}");
    }
    assert!(items[2].price_z.abs() < 1e-12);
    // ln 1 against the mean and deviation of ln 3 and ln 2.
    let (high, low) = (libm::log(3.0), libm::log(2.0));
    let never = -(high + low) / (high - low);
    assert!((items[2].popularity_z - never).abs() < 1e-12);

    let users = outcome.rows::<UserFeatures>("user_features");
    assert_eq!((users[0].n_events, users[0].n_items), (3, 2));
    assert!(users[0].in_training && !users[1].in_training);
    assert!(users[0].price_z.abs() < 1e-12, "the mean of -1 and 1");
    assert_eq!(users[1].n_events, 0);
}

#[test]
fn unsorted_events_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let directory = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let unsorted = [
        [event(0, "b", "x", Some(1)), event(1, "a", "x", Some(1))],
        [event(0, "a", "x", Some(2)), event(1, "a", "x", Some(1))],
        [event(1, "a", "x", Some(1)), event(0, "a", "x", Some(1))],
        [event(1, "a", "x", None), event(0, "a", "x", None)],
    ];
    let items = directory("items");
    tables::write_all::<tables::Item>(&items, []).unwrap();
    for (number, events) in unsorted.into_iter().enumerate() {
        let path = directory(&number.to_string());
        tables::write_all(&path, events).unwrap();
        let io = stage::Io::new(folder.path().join("out"), folder.path())
            .with_input("events", stage::Label::default(), path)
            .with_input("items", stage::Label::default(), &items);
        let failure = Split::run(&Config::default(), &io).unwrap_err();
        assert_eq!(failure.exit, stage::Exit::Data);
        assert!(
            failure.to_string().contains("not sorted"),
            "{number}: {failure}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn histories_are_the_strictly_earlier_events(
        days in proptest::collection::vec((0_i64..6, 0_u64..4, 0_u64..5), 12..60),
    ) {
        let mut events: Vec<CleanEvent> = (0_u64..)
            .zip(&days)
            .map(|(n, (day, user, item))| event(n, &format!("u{user}"), &format!("i{item}"), Some(*day)))
            .collect();
        // Both later parts are never empty.
        events.push(event(1_000, "u0", "i0", Some(6)));
        events.push(event(1_001, "u0", "i0", Some(8)));
        events.push(event(1_002, "u0", "i0", Some(0)));
        let cuts = "instants: { valuation: '1970-01-07T00:00:00Z', test: '1970-01-09T00:00:00Z' }\n";
        let samples = run(events.clone(), cuts).samples();
        let training: Vec<&CleanEvent> =
            events.iter().filter(|e| e.occurred_at < Some(Instant(6 * DAY))).collect();
        prop_assert_eq!(samples.len(), training.len());
        for event in training {
            let earlier = events
                .iter()
                .filter(|other| other.user_id == event.user_id && other.occurred_at < event.occurred_at)
                .count();
            let (item, history) = &samples[&SampleId(event.sample_id).ordinal()];
            prop_assert_eq!((item.as_str(), *history as usize), (event.item_id.as_str(), earlier));
        }
    }
}
