//! Nothing after the split instants reaches a sample, a vocabulary or a fitted number.

use std::collections::BTreeSet;
use std::path::Path;

use e2e::{Folder, Safetensors, SparseRow, retail};
use tables::{
    CatalogueEntry, CleanEvent, Event, Instant, Item, ItemFeatures, Planted, ProbeSample, Sample,
    SampleId, SequenceEvent, UserFeatures, VocabularyEntry, read_all, shortlex, write_all,
};

const DAY: i64 = 86_400_000;
/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000;
const CONFIG: &str = "\
instants: { valuation: '2026-01-21T00:00:00Z', test: '2026-01-26T00:00:00Z' }
plant: { label_noise: 0.2, event_noise: { bots: 0.1, bursts: 0.1, accidents: 0.05 } }
seed: 7
";

const EVENT_NOISE: &str = ", event_noise: { bots: 0.1, bursts: 0.1, accidents: 0.05 }";

/// An event on a day of the log.
fn event(ordinal: u64, user: &str, item: &str, day: i64, price_e4: i64) -> CleanEvent {
    CleanEvent {
        sample_id: SampleId::new(0, ordinal, 0).unwrap().0,
        user_id: user.to_owned(),
        item_id: item.to_owned(),
        event: Event::Purchase,
        occurred_at: Some(Instant(START + day * DAY)),
        session: u32::try_from(day).unwrap(),
        value: Some(1.0),
        price_e4: Some(price_e4),
        query_id: None,
        shown_rank: None,
    }
}

/// A log of 30 days: 30 users, each with an event every other day or so.
fn log() -> Vec<CleanEvent> {
    let mut events = Vec::new();
    for day in 0..30_u64 {
        for user in 0..30_u64 {
            if (day + user) % 3 != 0 {
                continue;
            }
            let item = (user * 7 + day * 5) % 23;
            let price = i64::try_from(10_000 + 500 * item).unwrap();
            let ordinal = events.len() as u64;
            let day = i64::try_from(day).unwrap();
            events.push(event(
                ordinal,
                &format!("u{user}"),
                &format!("i{item}"),
                day,
                price,
            ));
        }
    }
    events
}

/// Runs `split` on a log and returns its folder; the outputs are in `split`.
fn split(mut events: Vec<CleanEvent>, config: &str) -> Folder {
    let folder = Folder::new();
    events.sort_by(|a, b| {
        shortlex(&a.user_id, &b.user_id)
            .then(a.occurred_at.cmp(&b.occurred_at))
            .then(a.sample_id.cmp(&b.sample_id))
    });
    let mut names: Vec<String> = events.iter().map(|event| event.item_id.clone()).collect();
    names.sort_by(|a, b| shortlex(a, b));
    names.dedup();
    let items = names.into_iter().map(|item_id| Item {
        title: Some(format!("title of {item_id}")),
        description: None,
        category: Some("all > some".to_owned()),
        brand: None,
        price_e4: Some(20_000),
        attributes: Vec::new(),
        item_id,
    });
    write_all(&folder.directory("items"), items).unwrap();
    write_all(&folder.directory("events"), events).unwrap();
    let inputs = ["events=events", "items=items"];
    folder
        .run_stage("split", config, &inputs, "split")
        .success();
    folder
}

fn bytes(folder: &Folder, table: &str) -> Vec<u8> {
    std::fs::read(folder.join(format!("split/{table}/{table}.parquet"))).unwrap()
}

fn rows<R: tables::Row>(folder: &Folder, table: &str) -> Vec<R> {
    read_all(&folder.join(Path::new("split").join(table))).unwrap()
}

/// Events after the split instants of every kind that could leak: more of what is known, new users
/// and items, extreme prices, all in the valuation and test parts.
fn later_events() -> Vec<CleanEvent> {
    let mut events = Vec::new();
    for (number, day) in [20, 21, 24, 25, 26, 29, 40, 400].into_iter().enumerate() {
        let base = 10_000 + 10 * number as u64;
        events.push(event(base, "u1", "i1", day, 99_000_000));
        events.push(event(base + 1, "u2", &format!("a-new-{number}"), day, 1));
        events.push(event(base + 2, &format!("newcomer-{number}"), "i2", day, 5));
        events.push(event(base + 3, &format!("a{number}"), "0", day, 123));
        for _ in 0..3 {
            events.push(event(base + 4, "u3", "i22", day, 77));
        }
    }
    events
}

/// Features of the items of the vocabulary.
fn fitted_items(folder: &Folder) -> Vec<ItemFeatures> {
    let mut features = rows::<ItemFeatures>(folder, "item_features");
    features.truncate(rows::<VocabularyEntry>(folder, "vocabulary").len());
    features
}

/// Checks that nothing of the training part is another.
fn unchanged(before: &Folder, after: &Folder) {
    for table in ["samples", "vocabulary", "planted"] {
        assert_eq!(
            bytes(before, table),
            bytes(after, table),
            "`{table}` changed"
        );
    }
    assert_eq!(fitted_items(before), fitted_items(after));
    let fitted_users = |folder: &Folder| {
        let mut rows = rows::<UserFeatures>(folder, "user_features");
        rows.retain(|row| row.in_training);
        rows
    };
    assert_eq!(fitted_users(before), fitted_users(after));
    let training = |folder: &Folder| {
        let mut rows = rows::<SequenceEvent>(folder, "sequences");
        rows.retain(|row| row.part == tables::Part::Training);
        rows
    };
    assert_eq!(training(before), training(after));
    let known = |folder: &Folder| {
        let mut rows = rows::<CatalogueEntry>(folder, "catalogue");
        rows.retain(|row| row.in_vocabulary);
        rows
    };
    assert_eq!(known(before), known(after));
    same_fits(before, after);
}

#[test]
fn later_events_change_no_sample_no_vocabulary_and_no_fitted_number() {
    let before = split(log(), CONFIG);
    let after = split([log(), later_events()].concat(), CONFIG);
    unchanged(&before, &after);

    // The test would notice: there is noise of every kind, there are new items, and the requests
    // did change.
    let kinds: BTreeSet<String> = rows::<Planted>(&before, "planted")
        .into_iter()
        .map(|row| row.kind)
        .collect();
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    let n_items = rows::<VocabularyEntry>(&before, "vocabulary").len();
    assert!(rows::<CatalogueEntry>(&after, "catalogue").len() > n_items);
    assert_ne!(bytes(&before, "requests"), bytes(&after, "requests"));
}

/// Checks that models fitted on the two splits have the same weights, and that samples and items of
/// the vocabulary have the same representations.
fn same_fits(before: &Folder, after: &Folder) {
    let data = [
        "samples=split/samples",
        "sequences=split/sequences",
        "requests=split/requests",
        "catalogue=split/catalogue",
        "item_features=split/item_features",
    ];
    let models = ["popularity", "markov", "{ name: itemknn, neighbours: 5 }"];
    for (index, model) in models.into_iter().enumerate() {
        let out = format!("model{index}");
        let weights = |folder: &Folder| {
            let config = format!("model: {model}\n");
            folder.run_stage("train", &config, &data, &out).success();
            let path = folder.join(&out).join("model/weights.safetensors");
            std::fs::read(path).unwrap()
        };
        assert!(
            weights(before) == weights(after),
            "the weights of {model} changed"
        );
    }
    let represented = |folder: &Folder| {
        let inputs = [&data[..], &["model=model1/model"]].concat();
        folder
            .run_stage("train", "mode: probe\n", &inputs, "probe")
            .success();
        Represented::read(folder)
    };
    let (before, after) = (represented(before), represented(after));
    assert!(before.samples.iter().any(|(_, row)| row.len() > 1));
    assert_eq!(before.samples, after.samples);
    let n_items = before.items.len();
    assert!(n_items > 0 && before.items.iter().all(|row| !row.is_empty()));
    assert_eq!(before.items, after.items[..n_items]);
}

/// What a probe says of training samples and of the items of the vocabulary.
struct Represented {
    /// Identity of each sample, and the row of its history.
    samples: Vec<(u64, SparseRow)>,
    /// Rows of the items of the vocabulary.
    items: Vec<SparseRow>,
}

impl Represented {
    fn read(folder: &Folder) -> Self {
        let path = folder.join("probe/probe/representations.safetensors");
        let tensors = Safetensors::read(&path);
        let histories = tensors.rows("histories");
        let samples: Vec<ProbeSample> = read_all(&folder.join("probe/probe")).unwrap();
        let mut items = tensors.rows("items");
        items.truncate(rows::<VocabularyEntry>(folder, "vocabulary").len());
        Self {
            samples: samples
                .iter()
                .map(|row| (row.sample_id, histories[row.history_row as usize].clone()))
                .collect(),
            items,
        }
    }
}

#[test]
fn earlier_events_do_change_them() {
    let before = split(log(), CONFIG);
    let after = split(
        [log(), vec![event(10_000, "u1", "i1", 3, 10_000)]].concat(),
        CONFIG,
    );
    for table in ["samples", "vocabulary", "user_features"] {
        assert_ne!(
            bytes(&before, table),
            bytes(&after, table),
            "`{table}` did not change"
        );
    }
}

#[test]
fn noise_is_planted_in_training_alone_and_its_labels_were_never_touched() {
    let folder = split(log(), &CONFIG.replace(EVENT_NOISE, ""));
    let samples = rows::<Sample>(&folder, "samples");
    let sequences = rows::<SequenceEvent>(&folder, "sequences");
    let planted: BTreeSet<u64> = rows::<Planted>(&folder, "planted")
        .iter()
        .map(|row| row.sample_id)
        .collect();
    let n_training = samples.len();
    // Exactly round(rate * n).
    assert_eq!(planted.len(), (n_training * 2 + 5) / 10);
    for sample in &samples {
        let own = sequences
            .iter()
            .find(|event| event.sample_id == sample.sample_id)
            .unwrap();
        assert_eq!(own.part, tables::Part::Training);
        if planted.contains(&sample.sample_id) {
            let touched = sequences.iter().any(|event| {
                event.sequence == sample.sequence
                    && event.part == tables::Part::Training
                    && event.item == sample.item
            });
            assert!(!touched, "the planted target was touched by its user");
        } else {
            assert_eq!(own.item, sample.item);
        }
    }
}

#[test]
fn histories_hold_strictly_earlier_events() {
    let folder = split(log(), CONFIG);
    let sequences = rows::<SequenceEvent>(&folder, "sequences");
    for sample in rows::<Sample>(&folder, "samples") {
        let own: Vec<&SequenceEvent> = sequences
            .iter()
            .filter(|event| event.sequence == sample.sequence)
            .collect();
        let n_earlier = own
            .iter()
            .filter(|event| event.occurred_at < sample.occurred_at)
            .count();
        assert_eq!(sample.history_end as usize, n_earlier);
    }
    for request in rows::<tables::Request>(&folder, "requests") {
        let n_earlier = sequences
            .iter()
            .filter(|event| event.sequence == request.sequence)
            .filter(|event| event.occurred_at < request.requested_at)
            .count();
        assert_eq!(request.history_end as usize, n_earlier);
    }
}

/// The same promise from the raw file on: lines appended to a log after the split instants.
#[test]
fn lines_appended_to_a_raw_log_change_nothing_in_training() {
    let mut log = vec![retail::HEADER.to_owned()];
    // The warehouse names the first of two items, and neither has a title when a customer buys it.
    let untitled = |invoice: usize, item: &str, title: &str, date: &str, user: &str| {
        format!("{invoice},{item},{title},1,{date} 9:00,2.50,{user},France\r\n")
    };
    log.push(untitled(1, "B1", "found", "1/1/2011", ""));
    log.push(untitled(2, "B1", "", "1/2/2011", "3"));
    log.push(untitled(3, "B2", "", "1/2/2011", "3"));
    for number in 0..300 {
        log.push(retail::line(
            1_000 + number,
            number % 17,
            number % 29,
            number / 11,
            "2.50",
        ));
    }
    let mut longer = log.clone();
    for number in 0..40 {
        let (invoice, day) = (9_000 + number, 28 + number % 9);
        longer.push(retail::line(
            invoice,
            number % 25,
            number % 35,
            day,
            "999.00",
        ));
    }
    longer.push(untitled(4, "B1", "A LATE NAME", "1/28/2011", "3"));
    longer.push(untitled(5, "B2", "A LATE NAME", "1/28/2011", "3"));
    longer.push(untitled(6, "S1", "ANOTHER NAME", "1/28/2011", "3"));
    let config = "\
instants: { valuation: '2011-01-21T00:00:00Z', test: '2011-01-26T00:00:00Z' }
plant: { label_noise: 0.2, event_noise: { bots: 0.1, bursts: 0.1, accidents: 0.05 } }
";
    let run = |log: &[String]| {
        let folder = Folder::new();
        folder.write("data/log.csv", log.concat());
        let ingest = "dataset: online_retail\nfile: log.csv\n";
        folder.run_stage("ingest", ingest, &[], "raw").success();
        let inputs = ["interactions=raw/interactions", "items=raw/items"];
        folder
            .run_stage("preprocess", "k_core: { kind: none }\n", &inputs, "clean")
            .success();
        let inputs = ["events=clean/events", "items=clean/items"];
        folder
            .run_stage("split", config, &inputs, "split")
            .success();
        folder
    };
    let (before, after) = (run(&log), run(&longer));
    unchanged(&before, &after);
    let untitled: Vec<bool> = fitted_items(&before)
        .iter()
        .map(|row| row.title.is_none())
        .collect();
    assert_eq!(untitled.iter().filter(|untitled| **untitled).count(), 2);
    assert_ne!(bytes(&before, "requests"), bytes(&after, "requests"));
}
