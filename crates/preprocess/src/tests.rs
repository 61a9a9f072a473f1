//! The whole stage on logs made by hand.

use std::collections::{BTreeMap, BTreeSet};

use query::Settings;
use stage::{Exit, Failure, Io, Label, Stage};
use tables::{Audit, CleanEvent, Event, Instant, Interaction, Item, SampleId};

use crate::register::Scratch;
use crate::{Config, Preprocess, clean};

const MINUTE: i64 = 60_000;

/// A purchase of one thing for 1.0 at a minute of the log.
fn purchase(ordinal: u64, user: &str, item: &str, minute: i64) -> Interaction {
    Interaction {
        sample_id: SampleId::new(0, ordinal, 0).unwrap().0,
        line: ordinal + 2,
        user_id: Some(user.to_owned()),
        item_id: item.to_owned(),
        event: Event::Purchase,
        occurred_at: Some(Instant(minute * MINUTE)),
        value: Some(1.0),
        price_e4: Some(10_000),
        session_id: None,
        query_id: None,
        shown_rank: None,
    }
}

fn item(item_id: &str, title: &str) -> Item {
    Item {
        item_id: item_id.to_owned(),
        title: Some(title.to_owned()),
        description: None,
        category: None,
        brand: None,
        price_e4: None,
        attributes: Vec::new(),
    }
}

struct Outcome(tempfile::TempDir);

impl Outcome {
    fn events(&self) -> Vec<CleanEvent> {
        tables::read_all(&self.0.path().join("out/events")).unwrap()
    }

    /// Ordinals of the events in order.
    fn ordinals(&self) -> Vec<u64> {
        let events = self.events();
        let ids = events.iter().map(|event| SampleId(event.sample_id));
        ids.map(SampleId::ordinal).collect()
    }

    fn audit(&self) -> Vec<Audit> {
        tables::read_all(&self.0.path().join("out/audit")).unwrap()
    }

    /// Rows that each step dropped; steps that dropped none are left out.
    fn dropped(&self) -> BTreeMap<String, u64> {
        let steps = self.audit().into_iter();
        steps
            .map(|step| (step.name, step.rows_in - step.rows_out))
            .filter(|(_, dropped)| *dropped > 0)
            .collect()
    }

    fn bytes(&self) -> Vec<Vec<u8>> {
        ["events", "items", "audit"]
            .iter()
            .map(|role| self.0.path().join(format!("out/{role}/{role}.parquet")))
            .map(|path| std::fs::read(path).unwrap())
            .collect()
    }
}

fn try_run(log: Vec<Interaction>, config: &str) -> Result<Outcome, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let directory = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (interactions, items) = (directory("interactions"), directory("items"));
    tables::write_all(&interactions, log).unwrap();
    tables::write_all(&items, [item("a", " A &amp;  B\n"), item("b", "  ")]).unwrap();
    let config: Config = stage::yaml::parse(config, "test.yaml")?;
    Preprocess::check(&config, &stage::Offers::new())?;
    let io = Io::new(folder.path().join("out"), folder.path())
        .with_input("interactions", Label::default(), interactions)
        .with_input("items", Label::default(), items);
    Preprocess::run(&config, &io)?;
    Ok(Outcome(folder))
}

fn run(log: Vec<Interaction>, config: &str) -> Outcome {
    try_run(log, config).unwrap_or_else(|failure| panic!("{failure}"))
}

/// Every step refuses something of this log.
fn dirty() -> Vec<Interaction> {
    let log = vec![
        // 0: without a user.
        Interaction {
            user_id: None,
            ..purchase(0, "", "a", 5)
        },
        // 1: without an instant.
        Interaction {
            occurred_at: None,
            ..purchase(1, "u1", "a", 0)
        },
        // 2: before the log can have begun.
        purchase(2, "u1", "a", -9),
        purchase(3, "u10", "a", 7),
        purchase(4, "u2", "b", 7),
        // 5: takes 4 back.
        Interaction {
            event: Event::Cancel,
            value: Some(-1.0),
            ..purchase(5, "u2", "b", 9)
        },
        // 6: not of interest.
        Interaction {
            event: Event::View,
            ..purchase(6, "u2", "a", 8)
        },
        // 7, 8: nothing bought, nothing paid.
        Interaction {
            value: Some(0.0),
            ..purchase(7, "u2", "a", 8)
        },
        Interaction {
            price_e4: Some(0),
            ..purchase(8, "u2", "a", 8)
        },
        // 9: no goods.
        purchase(9, "u2", "POST", 8),
        // 10 and 11 are equal; 12 differs by price, 13 by session.
        purchase(10, "u2", "a", 3),
        purchase(11, "u2", "a", 3),
        Interaction {
            price_e4: None,
            ..purchase(12, "u2", "a", 3)
        },
        Interaction {
            session_id: Some("s".to_owned()),
            ..purchase(13, "u2", "a", 3)
        },
        // 14: earlier, though read later.
        purchase(14, "u10", "b", 1),
    ];
    assert!((0..).zip(&log).all(|(n, row)| row.line == n + 2));
    log
}

const STRICT: &str = "\
instants: { from: '1970-01-01', to: '2100-01-01' }
cancellations: drop_with_purchase
events: [purchase]
positive: [value, price]
exclude_items: [POST, POST]
";

#[test]
fn every_step_drops_its_rows_and_says_so() {
    let outcome = run(dirty(), STRICT);
    // By user in shortlex order, then instant, then as read.
    assert_eq!(outcome.ordinals(), [10, 12, 13, 14, 3]);
    let audit = outcome.audit();
    let steps: Vec<(&str, u64, bool)> = audit
        .iter()
        .map(|step| {
            (
                step.name.as_str(),
                step.rows_in - step.rows_out,
                step.uses_future,
            )
        })
        .collect();
    assert_eq!(
        steps,
        [
            ("missing_user", 1, false),
            ("impossible_instant", 2, false),
            ("cancellations", 2, true),
            ("events", 1, false),
            ("positive_value", 1, false),
            ("positive_price", 1, false),
            ("exclude_items", 1, false),
            ("drop_duplicates", 1, false),
            ("k_core", 0, false),
            ("sessions", 0, false),
        ]
    );
    // Nothing is lost between steps.
    assert_eq!(audit[0].rows_in, 15);
    assert!(
        audit
            .windows(2)
            .all(|pair| pair[0].rows_out == pair[1].rows_in)
    );
    assert_eq!(audit.last().unwrap().rows_out, 5);
    assert!((0..).zip(&audit).all(|(n, step)| step.step == n));
}

#[test]
fn by_default_only_what_cannot_be_an_event_is_dropped() {
    let outcome = run(dirty(), "{}\n");
    assert_eq!(
        outcome.dropped(),
        BTreeMap::from([
            ("missing_user".to_owned(), 1),
            ("impossible_instant".to_owned(), 1),
            ("cancellations".to_owned(), 1),
            ("drop_duplicates".to_owned(), 1),
        ])
    );
    let kept: BTreeSet<u64> = outcome.ordinals().into_iter().collect();
    assert_eq!(kept, BTreeSet::from([2, 3, 4, 6, 7, 8, 9, 10, 12, 13, 14]));
    assert!(outcome.audit().iter().all(|step| !step.uses_future));
}

#[test]
fn duplicates_stay_when_asked_and_columns_come_through() {
    let outcome = run(dirty(), &format!("{STRICT}drop_duplicates: false\n"));
    assert_eq!(outcome.ordinals(), [10, 11, 12, 13, 14, 3]);
    let last = outcome.events().pop().unwrap();
    assert_eq!(
        last,
        CleanEvent {
            sample_id: SampleId::new(0, 3, 0).unwrap().0,
            user_id: "u10".to_owned(),
            item_id: "a".to_owned(),
            event: Event::Purchase,
            occurred_at: Some(Instant(7 * MINUTE)),
            session: 0,
            value: Some(1.0),
            price_e4: Some(10_000),
            query_id: None,
            shown_rank: None,
        }
    );
    let items: Vec<Item> = tables::read_all(&outcome.0.path().join("out/items")).unwrap();
    assert_eq!(items[0].title.as_deref(), Some("A & B"));
    assert_eq!(items[1].title, None);
    // What did not fit into memory leaves no trace.
    assert!(!outcome.0.path().join("out/.scratch").exists());
}

/// u1 and u2 buy a and b; u3 buys a and c, and nobody else c; u4 buys a once.
fn sparse() -> Vec<Interaction> {
    [
        ("u1", "a"),
        ("u1", "b"),
        ("u2", "a"),
        ("u2", "b"),
        ("u3", "a"),
        ("u3", "c"),
        ("u4", "a"),
    ]
    .into_iter()
    .zip(0..)
    .map(|((user, item), n)| {
        let minute = i64::try_from(n).unwrap();
        purchase(n, user, item, 100 - minute)
    })
    .collect()
}

#[test]
fn both_k_cores_are_what_their_names_say() {
    let kind = |kind: &str| format!("k_core: {{ kind: {kind}, users: 2, items: 2 }}\n");
    // Once: u4 and c go; u3 keeps one event.
    let once = run(sparse(), &kind("single_pass"));
    assert_eq!(once.ordinals(), [1, 0, 3, 2, 4]);
    assert_eq!(once.dropped()["k_core.single_pass"], 2);
    // Until nothing changes: u3 goes, too.
    let core = run(sparse(), &kind("iterative"));
    assert_eq!(core.ordinals(), [1, 0, 3, 2]);
    let audit = core.audit();
    let step = audit.iter().find(|step| step.name == "k_core.iterative");
    assert!(step.unwrap().uses_future);
    assert_eq!(run(sparse(), &kind("none")).ordinals().len(), 7);
}

#[test]
fn a_log_without_instants_keeps_its_order_and_its_repeats() {
    let log: Vec<Interaction> = ["a", "b", "a", "a"]
        .into_iter()
        .zip(0..)
        .map(|(item, n)| Interaction {
            occurred_at: None,
            ..purchase(n, "u", item, 0)
        })
        .collect();
    let outcome = run(log, "{}\n");
    assert_eq!(outcome.ordinals(), [0, 1, 2, 3]);
    assert!(outcome.dropped().is_empty());
}

#[test]
fn sessions_end_at_gaps_or_are_the_logs_own() {
    let log = || -> Vec<Interaction> {
        [(0, "x"), (30, "y"), (61, "x"), (61, "y")]
            .into_iter()
            .zip(0..)
            .map(|((minute, session), n)| Interaction {
                session_id: Some(session.to_owned()),
                ..purchase(n, "u", "a", minute)
            })
            .collect()
    };
    let sessions = |outcome: Outcome| -> Vec<u32> {
        let events = outcome.events();
        events.iter().map(|event| event.session).collect()
    };
    let by_gap = run(log(), "session_gap_minutes: 30\n");
    let note = by_gap.audit().pop().unwrap().note;
    assert!(note.starts_with("2 sessions"), "{note}");
    assert_eq!(sessions(by_gap), [0, 0, 1, 1]);
    let own = run(log(), "session_gap_minutes: 0\n");
    assert_eq!(sessions(own), [0, 1, 0, 1]);
}

#[test]
fn a_log_of_which_nothing_is_left_names_the_step() {
    let failure = try_run(sparse(), "events: [view]\n").err().unwrap();
    assert_eq!(failure.exit, Exit::Data);
    assert!(failure.message.contains("`events`"), "{failure}");
}

#[test]
fn wrong_configurations_say_what_is_wrong() {
    for (config, what) in [
        ("events: [cancel]\n", "`events` cannot keep `cancel`"),
        ("events: [veiw]\n", "expected one of `view`"),
        ("positive: [prise]\n", "did you mean `price`?"),
        ("k_core: { kind: iterativ }\n", "did you mean `iterative`?"),
        (
            "instants: { from: '2020-01-02', to: '2020-01-01' }\n",
            "instants.from",
        ),
        (
            "instants: { from: tuesday, to: '2020-01-01' }\n",
            "not an instant",
        ),
        ("k_core: { kind: iterative, users: 0 }\n", "at least 1"),
        ("drop_duplicate: true\n", "did you mean `drop_duplicates`?"),
    ] {
        let failure = try_run(sparse(), config).err().unwrap();
        assert_eq!(failure.exit, Exit::Configuration, "{config}");
        assert!(failure.to_string().contains(what), "{config}: {failure}");
    }
}

#[test]
fn the_description_lists_the_fields_of_the_configuration() {
    let config = serde_json::to_value(Config::default()).unwrap();
    let fields: BTreeSet<String> = config.as_object().unwrap().keys().cloned().collect();
    let described = Preprocess::description().config;
    let described: BTreeSet<String> = described
        .iter()
        .map(|field| field.name.to_owned())
        .collect();
    assert_eq!(described, fields);
}

/// A log of many users in an order unlike that of the output.
fn large(n: u64) -> Vec<Interaction> {
    (0..n)
        .map(|ordinal| {
            let mixed = (ordinal + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
            let user = format!("{}", mixed % 97);
            let item = format!("{}", (mixed >> 12) % 501);
            let minute = i64::try_from((mixed >> 22) % 300).unwrap();
            purchase(ordinal, &user, &item, minute)
        })
        .collect()
}

/// What the stage promises of [`large`], worked out without a database.
fn large_by_hand(n: u64) -> Vec<u64> {
    let mut rows: Vec<(usize, String, i64, u64, String)> = large(n)
        .into_iter()
        .map(|row| {
            let user = row.user_id.unwrap();
            (
                user.len(),
                user,
                row.occurred_at.unwrap().0,
                SampleId(row.sample_id).ordinal(),
                row.item_id,
            )
        })
        .collect();
    rows.sort();
    let mut seen = BTreeSet::new();
    rows.retain(|(_, user, at, _, item)| seen.insert((user.clone(), *at, item.clone())));
    rows.into_iter().map(|(.., ordinal, _)| ordinal).collect()
}

#[test]
fn threads_batches_and_partitions_do_not_change_bytes_and_the_order_is_total() {
    let n = 60_000;
    let outcome = run(large(n), "{}\n");
    assert_eq!(outcome.ordinals(), large_by_hand(n));
    let reference = outcome.bytes();
    let config: Config = stage::yaml::parse("k_core: { kind: iterative }\n", "t").unwrap();
    let mut cores = Vec::new();
    for (threads, partitions, batch_rows) in [(1, 1, 8_192), (2, 4, 100), (5, 3, 70_000)] {
        for (config, wanted) in [(&Config::default(), Some(&reference)), (&config, None)] {
            let out = tempfile::tempdir().unwrap();
            let mut io = Io::new(out.path().join("out"), out.path());
            for role in ["interactions", "items"] {
                io = io.with_input(role, Label::default(), outcome.0.path().join(role));
            }
            let scratch = Scratch::beside_outputs(&io).unwrap();
            let settings = Settings {
                threads,
                partitions,
                batch_rows,
                ..Settings::new(1, scratch.path())
            };
            clean(config, &io, &scratch, &settings).unwrap();
            let bytes = Outcome(out).bytes();
            match wanted {
                Some(wanted) => assert!(*wanted == bytes, "{settings:?}"),
                None => cores.push(bytes),
            }
        }
    }
    assert!(cores.windows(2).all(|pair| pair[0] == pair[1]));
    assert!(cores[0] != reference);
}
