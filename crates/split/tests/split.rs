//! Small logs with every sample, history and request worked out by hand, and what planting promises.

#![expect(
    clippy::unwrap_used,
    reason = "a fixture that fails is a test that fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;
use split::{Config, Split};
use stage::{Io, Label, Stage};
use tables::{
    CatalogueEntry, CleanEvent, Event, INSERTED_FILE, Instant, Item, Part, Planted, ProfileEntry,
    Request, Row, Sample, SampleId, Score, SequenceEvent, VocabularyEntry, read_all, shortlex,
    write_all,
};

const DAY: i64 = 86_400_000;

fn event(ordinal: u64, user: &str, item: &str, day: Option<i64>) -> CleanEvent {
    CleanEvent {
        sample_id: SampleId::new(0, ordinal, 0).unwrap().0,
        user_id: user.to_owned(),
        item_id: item.to_owned(),
        event: Event::Purchase,
        occurred_at: day.map(|day| Instant(day * DAY)),
        session: 0,
        value: None,
        price_e4: None,
        query_id: None,
        shown_rank: None,
    }
}

struct Outcome(tempfile::TempDir);

impl Outcome {
    fn rows<R: Row>(&self, role: &str) -> Vec<R> {
        read_all(&self.0.path().join("out").join(role)).unwrap()
    }

    fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        let roles = Split::description().outputs;
        let file = |role: &str| if role == "oracle" { "scores" } else { role }.to_owned();
        let roles = roles.iter().map(|output| output.role);
        roles
            .map(|role| {
                let path = format!("out/{role}/{}.parquet", file(role));
                (
                    role.to_owned(),
                    std::fs::read(self.0.path().join(path)).unwrap(),
                )
            })
            .collect()
    }

    /// (item of the sample, length of its history) by ordinal.
    fn samples(&self) -> BTreeMap<u64, (String, u32)> {
        let names: Vec<String> = self
            .rows::<CatalogueEntry>("catalogue")
            .into_iter()
            .map(|entry| entry.item_id)
            .collect();
        self.rows::<Sample>("samples")
            .into_iter()
            .map(|row| {
                let ordinal = SampleId(row.sample_id).ordinal();
                (ordinal, (names[row.item as usize].clone(), row.history_end))
            })
            .collect()
    }

    /// (part, user number, length of history, relevant items) in order.
    fn requests(&self) -> Vec<(Part, u32, u32, Vec<String>)> {
        let catalogue = self.rows::<CatalogueEntry>("catalogue");
        self.rows::<Request>("requests")
            .into_iter()
            .map(|row| {
                let relevant = row.relevant.iter();
                let relevant = relevant.map(|item| catalogue[*item as usize].item_id.clone());
                (row.part, row.sequence, row.history_end, relevant.collect())
            })
            .collect()
    }

    fn figure(&self, name: &str, part: &str) -> f64 {
        let rows = self.rows::<ProfileEntry>("profile");
        let row = rows.iter().find(|row| row.name == name && row.part == part);
        row.unwrap().value
    }
}

fn try_run(mut events: Vec<CleanEvent>, config: &str) -> Result<Outcome, stage::Failure> {
    let folder = tempfile::tempdir().unwrap();
    let directory = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    events.sort_by(|a, b| {
        shortlex(&a.user_id, &b.user_id)
            .then(a.occurred_at.cmp(&b.occurred_at))
            .then(a.sample_id.cmp(&b.sample_id))
    });
    write_all(&directory("events"), events).unwrap();
    write_all::<Item>(&directory("items"), []).unwrap();
    let config: Config = stage::yaml::parse(config, "test")?;
    Split::check(&config, &stage::Offers::new())?;
    let at = |name: &str| folder.path().join(name);
    let io = Io::new(at("out"), Path::new("data"))
        .with_input("events", Label::default(), at("events"))
        .with_input("items", Label::default(), at("items"));
    Split::run(&config, &io)?;
    Ok(Outcome(folder))
}

fn run(events: Vec<CleanEvent>, config: &str) -> Outcome {
    try_run(events, config).unwrap_or_else(|failure| panic!("{failure}"))
}

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

fn log(n: u64) -> Vec<CleanEvent> {
    (0..n)
        .map(|n| {
            let user = n * 7 % 23;
            event(
                n,
                &format!("u{user}"),
                &format!("i{}", (n * n + user) % 31),
                Some((n / 10).cast_signed()),
            )
        })
        .collect()
}

/// Whether `found` is a share of `n`, rounded to the nearest whole.
fn is_share(found: usize, rate: f64, n: usize) -> bool {
    (found as f64 - rate * n as f64).abs() <= 0.5
}

#[test]
fn label_noise_hits_exactly_its_share_with_items_never_touched() {
    let clean = run(log(600), "seed: 5\n");
    let noisy = run(log(600), "seed: 5\nplant: { label_noise: 0.3 }\n");
    let planted = noisy.rows::<Planted>("planted");
    let before = clean.rows::<Sample>("samples");
    let after = noisy.rows::<Sample>("samples");
    assert!(is_share(planted.len(), 0.3, before.len()));
    let by_id: BTreeMap<u64, &Planted> = planted.iter().map(|row| (row.sample_id, row)).collect();
    let mut touched: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for row in &before {
        touched.entry(row.sequence).or_default().insert(row.item);
    }
    for (old, new) in before.iter().zip(&after) {
        match by_id.get(&old.sample_id) {
            None => assert_eq!(old, new),
            Some(row) => {
                assert_eq!(row.clean_item, Some(old.item));
                assert!(!touched[&old.sequence].contains(&new.item));
                assert_eq!(
                    Sample {
                        item: old.item,
                        ..new.clone()
                    },
                    *old
                );
            }
        }
    }
    // Event stream, requests and features stay clean.
    let (clean, noisy) = (clean.bytes(), noisy.bytes());
    for role in [
        "sequences",
        "requests",
        "vocabulary",
        "item_features",
        "profile",
    ] {
        assert_eq!(clean[role], noisy[role], "{role}");
    }
}

#[test]
fn event_noise_inserts_exactly_its_share_into_training_alone() {
    let config = "seed: 5\nplant: { event_noise: { bots: 0.1, bursts: 0.05, accidents: 0.02 } }\n";
    let clean = run(log(600), "seed: 5\n");
    let noisy = run(log(600), config);
    let n = clean.rows::<Sample>("samples").len();
    let planted = noisy.rows::<Planted>("planted");
    for (kind, rate) in [("bot", 0.1), ("burst", 0.05), ("accident", 0.02)] {
        let found = planted
            .iter()
            .filter(|row| row.kind == format!("event_noise.{kind}"));
        assert!(is_share(found.count(), rate, n), "{kind}");
    }
    let sequences = noisy.rows::<SequenceEvent>("sequences");
    for row in &sequences {
        if SampleId(row.sample_id).file() == INSERTED_FILE {
            assert_eq!(row.part, Part::Training);
        }
    }
    let n_samples = noisy.rows::<Sample>("samples").len();
    assert_eq!(n_samples, n + planted.len(), "each insertion is a sample");
    // Sequences stay sorted, and genuine events keep their order.
    for pair in sequences
        .windows(2)
        .filter(|pair| pair[0].sequence == pair[1].sequence)
    {
        assert!(pair[0].occurred_at <= pair[1].occurred_at);
    }
}

#[test]
fn the_oracle_knows_exactly_the_planted() {
    let outcome = run(log(300), "plant: { label_noise: 0.2 }\n");
    let scores = outcome.rows::<Score>("oracle");
    let low: Vec<u64> = scores
        .iter()
        .filter(|row| row.score.is_some_and(|score| score < 0.0))
        .map(|row| row.sample_id)
        .collect();
    let planted: Vec<u64> = outcome
        .rows::<Planted>("planted")
        .iter()
        .map(|row| row.sample_id)
        .collect();
    assert_eq!(low, planted);
    assert_eq!(scores.len(), outcome.rows::<Sample>("samples").len());
}

#[test]
fn same_seed_gives_same_bytes_and_another_seed_other_noise() {
    let config = "seed: 1\nplant: { label_noise: 0.2, event_noise: { bots: 0.05 } }\n";
    let other = config.replace("seed: 1", "seed: 2");
    let first = run(log(300), config).bytes();
    assert_eq!(first, run(log(300), config).bytes());
    assert_ne!(first["planted"], run(log(300), &other).bytes()["planted"]);
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
