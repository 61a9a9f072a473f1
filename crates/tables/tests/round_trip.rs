//! What is written is what is read, and nothing else can be read.

use arrow::array::RecordBatch;
use proptest::prelude::*;
use tables::{
    Event, Instant, Interaction, Item, Part, Prediction, ReadErrorKind, Row, SAMPLES, SampleId,
    TABLES, Writer, batches, read_all, shortlex, write_all,
};

#[expect(
    clippy::unwrap_used,
    reason = "a fixture; the ordinals of the tests fit"
)]
fn interaction(ordinal: u64) -> Interaction {
    Interaction {
        sample_id: SampleId::new(0, ordinal, 0).unwrap().0,
        line: ordinal + 2,
        user_id: (!ordinal.is_multiple_of(3)).then(|| format!("用户{ordinal}")),
        item_id: format!("item {}", ordinal % 7),
        event: Event::ALL[usize::try_from(ordinal).unwrap() % Event::ALL.len()],
        occurred_at: (!ordinal.is_multiple_of(5))
            .then(|| Instant(1_291_191_960_000 + ordinal.cast_signed())),
        value: ordinal.is_multiple_of(2).then_some(ordinal as f64 / 3.0),
        price_e4: Some(-(ordinal.cast_signed())),
        session_id: None,
        query_id: Some(String::new()),
        shown_rank: Some(u32::MAX),
    }
}

#[test]
fn rows_come_back_as_they_went() {
    let directory = tempfile::tempdir().unwrap();
    let rows: Vec<Interaction> = (0..1000).map(interaction).collect();
    assert_eq!(write_all(directory.path(), rows.clone()).unwrap(), 1000);
    assert_eq!(read_all::<Interaction>(directory.path()).unwrap(), rows);
}

#[test]
fn lists_come_back_as_they_went() {
    let directory = tempfile::tempdir().unwrap();
    let rows = vec![
        Prediction {
            request: 0,
            part: Part::Test,
            history_length: 3,
            n_candidates: 9,
            relevant: vec![1, 4],
            better: vec![0, tables::NOT_RANKED],
            tied: vec![2, 0],
            is_repeat: vec![true, false],
            better_new: vec![],
            tied_new: vec![],
            top_items: vec![7, 8],
            top_scores: vec![0.5, -0.25],
        },
        Prediction {
            request: 1,
            part: Part::ValuationFit,
            history_length: 0,
            n_candidates: 0,
            relevant: vec![],
            better: vec![],
            tied: vec![],
            is_repeat: vec![],
            better_new: vec![],
            tied_new: vec![],
            top_items: vec![],
            top_scores: vec![],
        },
    ];
    write_all(directory.path(), rows.clone()).unwrap();
    assert_eq!(read_all::<Prediction>(directory.path()).unwrap(), rows);

    let directory = tempfile::tempdir().unwrap();
    let items = vec![Item {
        item_id: "a".into(),
        title: None,
        description: Some("<b>".into()),
        category: None,
        brand: None,
        price_e4: None,
        attributes: vec!["a1".into(), String::new()],
    }];
    write_all(directory.path(), items.clone()).unwrap();
    assert_eq!(read_all::<Item>(directory.path()).unwrap(), items);
}

#[test]
fn an_empty_table_is_a_table() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(write_all::<Item>(directory.path(), []).unwrap(), 0);
    assert_eq!(read_all::<Item>(directory.path()).unwrap(), vec![]);
}

#[test]
fn other_columns_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    write_all(directory.path(), [interaction(1)]).unwrap();
    std::fs::rename(
        directory.path().join("interactions.parquet"),
        directory.path().join(SAMPLES.file_name()),
    )
    .unwrap();
    let Err(error) = batches(directory.path(), &SAMPLES) else {
        panic!("the columns of another table were accepted");
    };
    assert!(matches!(error.kind, ReadErrorKind::Schema { .. }));
    let text = format!("{error}: {}", error.kind);
    assert!(
        text.contains("samples.parquet") && text.contains("`history_end`"),
        "{text}"
    );
}

#[test]
fn a_damaged_file_is_an_error_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    write_all(directory.path(), (0..5000).map(interaction)).unwrap();
    let path = directory.path().join("interactions.parquet");
    let whole = std::fs::read(&path).unwrap();
    for cut in [0, 3, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert!(
            read_all::<Interaction>(directory.path()).is_err(),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_file_is_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    write_all(directory.path(), [interaction(1)]).unwrap();
    assert!(write_all(directory.path(), [interaction(2)]).is_err());
    assert_eq!(
        read_all::<Interaction>(directory.path()).unwrap(),
        vec![interaction(1)]
    );
}

#[test]
fn batch_sizes_do_not_reach_the_bytes() {
    let rows: Vec<Interaction> = (0..200_000).map(interaction).collect();
    let mut builders = <Interaction as Row>::Builders::default();
    for row in rows {
        row.append(&mut builders);
    }
    let columns = <Interaction as Row>::finish(&mut builders);
    let whole = RecordBatch::try_new(Interaction::table().schema(), columns).unwrap();
    let mut files = Vec::new();
    for size in [1_000, 8_192, 65_536, 77_777, 200_000] {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(directory.path(), Interaction::table()).unwrap();
        let mut start = 0;
        while start < whole.num_rows() {
            let take = size.min(whole.num_rows() - start);
            writer.write(&whole.slice(start, take)).unwrap();
            start += take;
        }
        assert_eq!(writer.finish().unwrap(), 200_000);
        files.push(std::fs::read(directory.path().join("interactions.parquet")).unwrap());
    }
    assert!(files.iter().all(|bytes| *bytes == files[0]));
}

#[test]
fn tables_are_documented_and_unique() {
    let mut names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TABLES.len());
    for table in TABLES {
        assert!(!table.doc.trim().is_empty(), "{}", table.name);
        for column in table.columns {
            assert!(
                column.doc.trim().ends_with('.'),
                "{}.{}",
                table.name,
                column.name
            );
        }
    }
}

proptest! {
    #[test]
    fn sample_ids_unpack_to_what_was_packed(file: u8, ordinal in 0..=SampleId::MAX_ORDINAL, copy: u16) {
        let id = SampleId::new(file, ordinal, copy).unwrap();
        prop_assert_eq!((id.file(), id.ordinal(), id.copy()), (file, ordinal, copy));
    }

    #[test]
    fn shortlex_is_numeric_for_numbers(a: u32, b: u32) {
        prop_assert_eq!(shortlex(&a.to_string(), &b.to_string()), a.cmp(&b));
    }
}

#[test]
fn an_ordinal_that_does_not_fit_is_refused() {
    assert_eq!(SampleId::new(0, SampleId::MAX_ORDINAL + 1, 0), None);
}
