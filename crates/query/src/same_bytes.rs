//! The same rows give the same bytes, whatever the threads, partitions, batches and memory.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::UInt64Type;
use tables::{Event, INTERACTIONS, Instant, Interaction, RowWriter, SampleId, Writer};

use crate::sql::preprocess::{
    EXCLUDED_ITEMS, INTERACTIONS as LOG, KEPT_EVENTS, LABEL, SORT_SURVIVORS, TAKEN_BACK,
};
use crate::{Engine, Joins, Parameter, QueryErrorKind, Relation, Settings, Statement};

/// Half as random as it looks, which is enough for a log.
fn mixed(ordinal: u64, lane: u64) -> u64 {
    let product = (ordinal * 8 + lane + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (product ^ (product >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 33
}

/// A log whose order is nothing like the order of any statement, with ties everywhere.
fn write_log(directory: &Path, n: u64) {
    let mut writer = RowWriter::create(directory).unwrap();
    for ordinal in 0..n {
        let user = mixed(ordinal, 0) % (n / 20 + 1);
        let minute = i64::try_from(mixed(ordinal, 3) % 100).unwrap();
        writer
            .push(Interaction {
                sample_id: SampleId::new(0, ordinal, 0).unwrap().0,
                line: ordinal + 1,
                user_id: (user > 0).then(|| format!("user {user}")),
                item_id: format!("{}", mixed(ordinal, 1) % 1_000),
                event: Event::ALL[usize::try_from(mixed(ordinal, 2) % 5).unwrap()],
                occurred_at: Some(Instant(minute * 60_000)),
                value: Some(1.0),
                price_e4: None,
                session_id: None,
                query_id: None,
                shown_rank: None,
            })
            .unwrap();
    }
    writer.finish().unwrap();
}

static SORT_LOG: Statement = Statement {
    name: "test/sorted",
    action: "sort the log",
    text: "SELECT * FROM interactions ORDER BY item_id, occurred_at DESC, sample_id",
    reads: &[&LOG],
    parameters: &[],
    gives: &LOG,
    joins: Joins::Hash,
};

/// Sorts the whole log and writes it through the canonical writer.
fn sorted(log: &Path, settings: &Settings) -> Vec<u8> {
    let engine = Engine::new(settings).unwrap();
    engine.register(log, &INTERACTIONS).unwrap();
    let out = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(out.path(), &INTERACTIONS).unwrap();
    for batch in engine.stream(&SORT_LOG, &[]).unwrap() {
        writer.write(&batch.unwrap()).unwrap();
    }
    writer.finish().unwrap();
    std::fs::read(out.path().join("interactions.parquet")).unwrap()
}

#[test]
fn two_million_rows_give_the_same_bytes_for_all_batches_and_partitions() {
    let (log, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_log(log.path(), 2_000_000);
    let usual = Settings::new(2, scratch.path());
    let reference = sorted(log.path(), &usual);
    for (threads, partitions, batch_rows) in [(1, 1, 8_192), (2, 3, 1_000), (2, 7, 70_001)] {
        let settings = Settings {
            threads,
            partitions,
            batch_rows,
            ..usual.clone()
        };
        assert!(reference == sorted(log.path(), &settings), "{settings:?}");
    }
}

fn words(relation: &Relation, words: &[&str]) -> RecordBatch {
    let column = StringArray::from_iter_values(words);
    RecordBatch::try_new((relation.schema)(), vec![Arc::new(column)]).unwrap()
}

/// Identities of the events that `preprocess` would stream.
fn survivors(log: &Path, settings: &Settings) -> Vec<u64> {
    let engine = Engine::new(settings).unwrap();
    engine.register(log, &INTERACTIONS).unwrap();
    let lists = [
        (&KEPT_EVENTS, &["view", "click", "purchase"][..]),
        (&EXCLUDED_ITEMS, &["7", "70"][..]),
    ];
    for (relation, list) in lists {
        let batch = words(relation, list);
        engine.register_batches(relation, vec![batch]).unwrap();
    }
    engine.register_batches(&TAKEN_BACK, vec![]).unwrap();
    let parameters = [
        ("needs_instants", Parameter::Boolean(true)),
        ("earliest", Parameter::Instant(60_000)),
        ("latest", Parameter::Instant(i64::MAX)),
        ("positive_value", Parameter::Boolean(true)),
        ("positive_price", Parameter::Boolean(true)),
    ];
    engine.register_view(&LABEL, &parameters).unwrap();
    let stream = engine.stream(&SORT_SURVIVORS, &[]).unwrap();
    stream
        .flat_map(|batch| {
            let batch = batch.unwrap();
            let ids = batch.column(0).as_primitive::<UInt64Type>();
            ids.values().to_vec()
        })
        .collect()
}

/// The same in plain Rust.
fn survivors_by_hand(n: u64) -> Vec<u64> {
    let user = |ordinal| mixed(ordinal, 0) % (n / 20 + 1);
    let minute = |ordinal| mixed(ordinal, 3) % 100;
    let mut kept: Vec<u64> = (0..n)
        .filter(|&ordinal| user(ordinal) > 0 && minute(ordinal) > 0)
        .filter(|&ordinal| ![7, 70].contains(&(mixed(ordinal, 1) % 1_000)))
        .filter(|&ordinal| [0, 1, 4].contains(&(mixed(ordinal, 2) % 5)))
        .collect();
    // Numbers in shortlex order are in numeric order.
    kept.sort_by_key(|&ordinal| (user(ordinal), minute(ordinal), ordinal));
    kept.into_iter()
        .map(|ordinal| SampleId::new(0, ordinal, 0).unwrap().0)
        .collect()
}

#[test]
fn cleaning_streams_the_same_rows_for_all_settings() {
    let (log, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let n = 20_000;
    write_log(log.path(), n);
    let usual = Settings::new(2, scratch.path());
    let reference = survivors_by_hand(n);
    for (threads, partitions, batch_rows) in [(2, 4, 8_192), (1, 1, 8_192), (2, 5, 333)] {
        let settings = Settings {
            threads,
            partitions,
            batch_rows,
            ..usual.clone()
        };
        assert!(
            reference == survivors(log.path(), &settings),
            "{settings:?}"
        );
    }
}

/// Files below a directory.
fn n_files(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| match entry.unwrap().path() {
            path if path.is_dir() => n_files(&path),
            _ => 1,
        })
        .sum()
}

#[test]
fn sorts_spill_to_the_scratch_directory_and_leave_nothing_behind() {
    let (log, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_log(log.path(), 400_000);
    let spill = scratch.path().join("to be created");
    let roomy = Settings::new(2, &spill);
    // Too little for 400,000 rows, and enough for the merge of what was spilled.
    let tight = Settings {
        memory_bytes: 64 << 20,
        ..roomy.clone()
    };
    {
        let engine = Engine::new(&tight).unwrap();
        engine.register(log.path(), &INTERACTIONS).unwrap();
        let mut stream = engine.stream(&SORT_LOG, &[]).unwrap();
        stream.next().unwrap().unwrap();
        assert!(n_files(&spill) > 0);
    }
    assert!(sorted(log.path(), &roomy) == sorted(log.path(), &tight));
    assert_eq!(std::fs::read_dir(&spill).unwrap().count(), 0);
}

#[test]
fn too_little_memory_to_spill_is_told_from_bad_data() {
    let (log, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_log(log.path(), 50_000);
    let settings = Settings {
        memory_bytes: 1 << 16,
        ..Settings::new(1, scratch.path())
    };
    let engine = Engine::new(&settings).unwrap();
    engine.register(log.path(), &INTERACTIONS).unwrap();
    let error = engine
        .stream(&SORT_LOG, &[])
        .and_then(|mut stream| {
            stream
                .find(Result::is_err)
                .unwrap_or_else(|| panic!("fits"))
        })
        .unwrap_err();
    assert!(error.is_exhausted(), "{error:?}");
    assert_eq!(error.to_string(), "failed to sort the log");
}

#[test]
fn paths_with_patterns_and_percent_signs_are_paths() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("a b[1]*?%20 日志");
    std::fs::create_dir(&log).unwrap();
    write_log(&log, 10);
    let settings = Settings::new(1, folder.path().join("spill"));
    assert!(!sorted(&log, &settings).is_empty());
}

#[test]
fn another_table_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    write_log(folder.path(), 10);
    let engine = Engine::new(&Settings::new(1, folder.path().join("spill"))).unwrap();
    let file = |table: &tables::Table| folder.path().join(table.file_name());
    std::fs::copy(file(&INTERACTIONS), file(&tables::ITEMS)).unwrap();
    for table in [&tables::ITEMS, &tables::USERS] {
        let error = engine.register(folder.path(), table).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("failed to open table `{}`", table.name)
        );
        assert!(matches!(error.kind, QueryErrorKind::Read(_)));
    }
}
