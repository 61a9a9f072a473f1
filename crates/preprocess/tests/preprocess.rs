//! Handmade logs through the whole stage: what each step refuses, the order of what is left.

use std::collections::BTreeSet;
use std::path::Path;

use preprocess::{Config, Preprocess};
use stage::{Io, Label, Stage};
use tables::{
    Audit, CleanEvent, Event, Instant, Interaction, Item, Row, SampleId, read_all, write_all,
};

const HOUR: i64 = 3_600_000;

fn row(ordinal: u64, user: Option<&str>, item: &str, event: Event, hour: i64) -> Interaction {
    Interaction {
        sample_id: SampleId::new(0, ordinal, 0).unwrap().0,
        line: ordinal + 2,
        user_id: user.map(str::to_owned),
        item_id: item.to_owned(),
        event,
        occurred_at: Some(Instant(hour * HOUR)),
        value: Some(1.0),
        price_e4: Some(10_000),
        session_id: None,
        query_id: None,
        shown_rank: None,
    }
}

struct Outcome(tempfile::TempDir);

impl Outcome {
    fn rows<R: Row>(&self, role: &str) -> Vec<R> {
        read_all(&self.0.path().join("out").join(role)).unwrap()
    }

    /// Ordinals of the events that are left, in order.
    fn left(&self) -> Vec<u64> {
        let events = self.rows::<CleanEvent>("events");
        events
            .iter()
            .map(|event| SampleId(event.sample_id).ordinal())
            .collect()
    }

    /// (step, rows dropped, uses the future).
    fn audit(&self) -> Vec<(String, u64, bool)> {
        let rows = self.rows::<Audit>("audit");
        rows.windows(2)
            .for_each(|pair| assert_eq!(pair[0].rows_out, pair[1].rows_in));
        rows.into_iter()
            .map(|step| (step.name, step.rows_in - step.rows_out, step.uses_future))
            .collect()
    }
}

fn try_run(interactions: Vec<Interaction>, config: &str) -> Result<Outcome, stage::Failure> {
    let folder = tempfile::tempdir().unwrap();
    let directory = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    write_all(&directory("interactions"), interactions).unwrap();
    let item = Item {
        item_id: "a".to_owned(),
        title: Some("  CREAM &amp; SUGAR\tPOT ".to_owned()),
        description: Some(" ".to_owned()),
        category: None,
        brand: None,
        price_e4: None,
        attributes: vec![],
    };
    write_all(&directory("items"), [item]).unwrap();
    let config: Config = stage::yaml::parse(config, "test")?;
    Preprocess::check(&config, &stage::Offers::new())?;
    let at = |name: &str| folder.path().join(name);
    let io = Io::new(at("out"), Path::new("data"))
        .with_input("interactions", Label::default(), at("interactions"))
        .with_input("items", Label::default(), at("items"));
    Preprocess::run(&config, &io)?;
    Ok(Outcome(folder))
}

fn run(interactions: Vec<Interaction>, config: &str) -> Outcome {
    try_run(interactions, config).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn every_step_refuses_its_own_and_the_audit_adds_up() {
    let mut free = row(4, Some("1"), "a", Event::Purchase, 4);
    free.price_e4 = Some(0);
    let mut returned = row(5, Some("1"), "a", Event::Purchase, 5);
    returned.value = Some(-1.0);
    let log = vec![
        row(0, Some("1"), "a", Event::Purchase, 0),
        row(1, None, "a", Event::Purchase, 1),
        row(2, Some("1"), "a", Event::Cancel, 2),
        row(3, Some("1"), "a", Event::View, 3),
        free,
        returned,
        row(6, Some("1"), "POST", Event::Purchase, 6),
        row(7, Some("1"), "b", Event::Purchase, 7),
        row(8, Some("1"), "b", Event::Purchase, 7),
        row(9, Some("1"), "b", Event::Purchase, 9_000),
    ];
    let config = "\
instants: { from: '1970-01-01T00:00:00Z', to: '1970-01-31T00:00:00Z' }
events: [purchase]
positive: [value, price]
exclude_items: [POST, POST]
";
    let outcome = run(log, config);
    assert_eq!(outcome.left(), [0, 7]);
    let audit = outcome.audit();
    let dropped: Vec<(&str, u64)> = audit
        .iter()
        .map(|(name, n, _)| (name.as_str(), *n))
        .collect();
    assert_eq!(
        dropped,
        [
            ("missing_user", 1),
            ("impossible_instant", 1),
            ("cancellations", 1),
            ("events", 1),
            ("positive_value", 1),
            ("positive_price", 1),
            ("exclude_items", 1),
            ("drop_duplicates", 1),
        ]
    );
    assert!(audit.iter().all(|(.., uses_future)| !uses_future));
}

#[test]
fn a_cancellation_can_take_its_purchase_along_and_the_audit_says_that_this_is_the_future() {
    let mut cancel = row(3, Some("1"), "a", Event::Cancel, 3);
    cancel.value = Some(-1.0);
    let log = vec![
        row(0, Some("1"), "a", Event::Purchase, 0),
        row(1, Some("1"), "a", Event::Purchase, 1),
        row(2, Some("2"), "a", Event::Purchase, 2),
        cancel,
    ];
    assert_eq!(run(log.clone(), "{}").left(), [0, 1, 2]);
    let outcome = run(log, "cancellations: drop_with_purchase");
    assert_eq!(outcome.left(), [1, 2]);
    assert!(
        outcome
            .audit()
            .contains(&("cancellations".to_owned(), 2, true))
    );
}

#[test]
fn a_purchase_after_the_cancellation_stays() {
    let mut cancel = row(0, Some("1"), "a", Event::Cancel, 0);
    cancel.value = Some(-1.0);
    let log = vec![cancel, row(1, Some("1"), "a", Event::Purchase, 1)];
    assert_eq!(run(log, "cancellations: drop_with_purchase").left(), [1]);
}

#[test]
fn events_come_by_user_in_shortlex_order_then_instant_then_as_read() {
    let log = vec![
        row(0, Some("10"), "a", Event::View, 0),
        row(1, Some("9"), "a", Event::View, 2),
        row(2, Some("9"), "b", Event::View, 1),
        row(3, Some("9"), "c", Event::View, 1),
        row(4, Some("b"), "a", Event::View, 0),
    ];
    assert_eq!(run(log, "{}").left(), [2, 3, 1, 4, 0]);
}

#[test]
fn both_k_cores_go_by_name_and_say_that_they_use_the_future() {
    let pairs = [("1", "a"), ("1", "b"), ("2", "a"), ("2", "c")];
    let log: Vec<Interaction> = (0_u64..)
        .zip(pairs)
        .map(|(n, (user, item))| row(n, Some(user), item, Event::View, n.cast_signed()))
        .collect();
    let outcome = run(
        log.clone(),
        "k_core: { kind: single_pass, users: 2, items: 2 }",
    );
    assert_eq!(outcome.left(), [0, 2]);
    assert!(
        outcome
            .audit()
            .contains(&("k_core.single_pass".to_owned(), 2, true))
    );
    let Err(failure) = try_run(log, "k_core: { kind: iterative, users: 2, items: 2 }") else {
        panic!("nothing is left and it was accepted");
    };
    assert_eq!(failure.exit, stage::Exit::Data);
    assert!(
        failure.to_string().contains("k_core.iterative"),
        "{failure}"
    );
}

#[test]
fn sessions_end_at_gaps_or_are_the_logs_own() {
    let mut log: Vec<Interaction> = [0, 0, 1, 2]
        .into_iter()
        .enumerate()
        .map(|(n, hour)| row(n as u64, Some("1"), &format!("i{n}"), Event::View, hour))
        .collect();
    let sessions = |outcome: &Outcome| -> Vec<u32> {
        outcome
            .rows::<CleanEvent>("events")
            .iter()
            .map(|event| event.session)
            .collect()
    };
    assert_eq!(sessions(&run(log.clone(), "{}")), [0, 0, 1, 2]);
    assert_eq!(
        sessions(&run(log.clone(), "session_gap_minutes: 60")),
        [0, 0, 0, 0]
    );
    for (row, session) in log.iter_mut().zip(["q", "p", "q", "r"]) {
        row.session_id = Some(session.to_owned());
    }
    assert_eq!(sessions(&run(log, "session_gap_minutes: 0")), [0, 1, 0, 2]);
}

#[test]
fn text_of_items_is_cleaned() {
    let outcome = run(vec![row(0, Some("1"), "a", Event::View, 0)], "{}");
    let items = outcome.rows::<Item>("items");
    assert_eq!(items[0].title.as_deref(), Some("CREAM & SUGAR POT"));
    assert_eq!(items[0].description, None);
}

#[test]
fn wrong_configurations_say_what_is_wrong() {
    for (config, what) in [
        ("k_core: { kind: iterativ }", "did you mean `iterative`"),
        ("positive: [prise]", "did you mean `price`"),
        ("events: [cancel]", "`events` cannot keep `cancel`"),
        ("k_core: { users: 0 }", "at least 1"),
        ("drop_duplicate: true", "did you mean `drop_duplicates`"),
    ] {
        let Err(failure) = try_run(vec![], config) else {
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
    let described: BTreeSet<String> = Preprocess::description()
        .config
        .iter()
        .map(|field| field.name.to_owned())
        .collect();
    assert_eq!(fields, described);
}
