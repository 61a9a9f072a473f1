//! Tests of sequence files.

use std::path::Path;

use seed::Seed;
use serde_json::{Value, json};
use tables::{Event, SampleId};

use super::Sequences;
use crate::collector::Collector;
use crate::dataset::{DatasetError, Raw, Source, Summary, Takes, find};
use crate::raw::{RawError, RawErrorKind};

fn read(raw: &Raw, parameters: Value) -> Result<(Summary, Collector), RawError> {
    let Ok(dataset) = find(Sequences::NAME).unwrap().build(parameters) else {
        panic!("parameters");
    };
    let mut rows = Collector::default();
    match dataset.read(raw, Seed::root(0), &mut rows) {
        Ok(summary) => Ok((summary, rows)),
        Err(DatasetError::Raw(error)) => Err(error),
        Err(DatasetError::Write(error)) => panic!("{error}"),
    }
}

fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Raw) {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    let raw = Raw {
        file: None,
        folder: Some(directory.path().to_owned()),
    };
    (directory, raw)
}

#[test]
fn lines_become_events_in_their_order() {
    let attributes = r#"{"10": [3, 1], "9": ["red"], "77": []}"#;
    let (_directory, raw) = folder(&[
        ("S.txt", "b 10 9 10\r\na 9\n"),
        ("S_item2attributes.json", attributes),
    ]);
    let parameters = json!({ "item_attributes": true, "event": "view" });
    let (summary, rows) = read(&raw, parameters).unwrap();
    assert_eq!((summary.n_records(), summary.n_rejected()), (2, 0));
    let events: Vec<_> = rows
        .interactions
        .iter()
        .map(|row| {
            (
                SampleId(row.sample_id).ordinal(),
                row.line,
                row.user_id.as_deref().unwrap(),
                row.item_id.as_str(),
            )
        })
        .collect();
    assert_eq!(
        events,
        [
            (0, 1, "b", "10"),
            (1, 1, "b", "9"),
            (2, 1, "b", "10"),
            (3, 2, "a", "9")
        ]
    );
    assert!(
        rows.interactions
            .iter()
            .all(|row| row.event == Event::View && row.occurred_at.is_none())
    );
    let items: Vec<_> = rows
        .items
        .iter()
        .map(|row| (row.item_id.as_str(), row.attributes.join(" ")))
        .collect();
    assert_eq!(
        items,
        [
            ("9", "ared".to_owned()),
            ("10", "a3 a1".to_owned()),
            ("77", String::new())
        ]
    );
    assert_eq!(rows.users.len(), 2);
}

#[test]
fn bad_lines_are_refused_with_their_line() {
    let long = "x".repeat(10_000);
    let text = format!("a 1\n\nb\nc {long}\n{long} 1\na 2\nd 3\n");
    let (_directory, raw) = folder(&[("S.txt", &text)]);
    let (summary, rows) = read(&raw, json!({})).unwrap();
    assert_eq!((summary.n_records(), summary.n_rejected()), (7, 5));
    let rejects: Vec<_> = rows
        .rejects
        .iter()
        .map(|(class, row)| (*class, row.line))
        .collect();
    assert_eq!(
        rejects,
        [
            ("missing value", 2),
            ("missing value", 3),
            ("identity too long", 4),
            ("identity too long", 5),
            ("repeated user", 6),
        ]
    );
    assert!(rows.rejects[4].1.reason.contains("line 1"));
    assert_eq!(rows.interactions.len(), 2);
}

#[test]
fn damage_names_the_file_and_what_to_do() {
    let (_directory, raw) = folder(&[("A.txt", "a 1\n"), ("B.txt", "b 2\n")]);
    let error = read(&raw, json!({})).unwrap_err();
    assert!(error.kind.hint().contains("stem: A"), "{error:?}");
    assert_eq!(
        read(&raw, json!({ "stem": "B" })).unwrap().1.interactions[0].item_id,
        "2"
    );
    let error = read(&raw, json!({ "stem": "B", "item_attributes": true })).unwrap_err();
    assert!(
        error.to_string().contains("B_item2attributes.json"),
        "{error}"
    );
    let (_directory, raw) = folder(&[("A.txt", "a 1\n"), ("A_item2attributes.json", "{\"1\": 5}")]);
    let error = read(&raw, json!({ "item_attributes": true })).unwrap_err();
    assert!(matches!(error.kind, RawErrorKind::Json(_)), "{error:?}");
    let (_directory, raw) = folder(&[]);
    assert!(read(&raw, json!({})).is_err());
}

#[test]
fn a_second_file_needs_a_folder() {
    let entry = find(Sequences::NAME).unwrap();
    for parameters in [json!({ "item_attributes": true }), json!({ "stem": "A" })] {
        let dataset = entry.build(parameters).ok().unwrap();
        assert!(dataset.check(Some(Takes::File)).is_err());
        assert!(dataset.check(Some(Takes::Folder)).is_ok());
    }
    for parameters in [
        json!({ "stem": "../A" }),
        json!({ "event": "cancel" }),
        json!({ "event": "buy" }),
    ] {
        assert!(entry.build(parameters).is_err());
    }
}

#[test]
fn amazon_beauty_gives_its_known_totals() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/amazon_beauty");
    if !path.exists() {
        skipped(&path);
        return;
    }
    let raw = Raw {
        file: None,
        folder: Some(path),
    };
    let (summary, rows) = read(&raw, json!({ "item_attributes": true })).unwrap();
    assert_eq!((summary.n_records(), summary.n_rejected()), (22_363, 0));
    assert_eq!(rows.interactions.len(), 198_502);
    assert_eq!((rows.users.len(), rows.items.len()), (22_363, 12_101));
    assert!(
        rows.items
            .iter()
            .filter(|row| !row.attributes.is_empty())
            .count()
            > 12_000
    );
}

#[expect(clippy::print_stderr, reason = "a test that does not run says so")]
fn skipped(path: &Path) {
    eprintln!("skipped: `{}` is absent", path.display());
}
