//! Tests of UCI Online Retail: every kind of bad record, damage, and the totals of the real log.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use seed::Seed;
use serde_json::json;
use tables::{Event, Reject};

use super::{COLUMNS, OnlineRetail};
use crate::collector::Collector;
use crate::dataset::{DatasetError, Raw, Source, Summary, find};
use crate::raw::{RawError, RawErrorKind, RawFile};
use crate::records::{Record, Records};

const GOOD: &str = "1003,S1,A THING,2,1/4/2011 9:30,1.25,7,France\r\n";

fn read_file(path: &Path, parameters: serde_json::Value) -> Result<(Summary, Collector), RawError> {
    let Ok(dataset) = find(OnlineRetail::NAME).unwrap().build(parameters) else {
        panic!("parameters");
    };
    let mut rows = Collector::default();
    let raw = Raw {
        file: Some(path.to_owned()),
        folder: None,
    };
    match dataset.read(&raw, Seed::root(0), &mut rows) {
        Ok(summary) => Ok((summary, rows)),
        Err(DatasetError::Raw(error)) => Err(error),
        Err(DatasetError::Write(error)) => panic!("{error}"),
    }
}

fn read(content: &[u8]) -> Result<(Summary, Collector), RawError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("retail.csv");
    std::fs::write(&path, content).unwrap();
    read_file(&path, json!({}))
}

fn log(lines: &[&str]) -> Vec<u8> {
    format!("{}\r\n{}", COLUMNS.join(","), lines.concat()).into_bytes()
}

/// Reads good lines around a bad one and returns its refusal.
fn only_reject(bad: &str) -> Reject {
    let bad_line = format!("{bad}\r\n");
    let (summary, mut rows) = read(&log(&[GOOD, GOOD, &bad_line, GOOD])).unwrap();
    assert_eq!((summary.n_records(), summary.n_rejected()), (4, 1));
    // Reading resumes at the very next line.
    let lines: Vec<u64> = rows.interactions.iter().map(|row| row.line).collect();
    assert_eq!(lines, [2, 3, 5]);
    assert_eq!(rows.rejects.len(), 1);
    let (_, reject) = rows.rejects.remove(0);
    assert_eq!((reject.file.as_str(), reject.line), ("retail.csv", 4));
    assert_eq!(reject.raw, bad.as_bytes());
    assert!(!reject.hint.is_empty());
    reject
}

#[test]
fn bad_records_are_refused_at_their_line_and_name_their_column() {
    let long = "9".repeat(10_000);
    for (bad, needles) in [
        (
            "1003,S1,\"A THING,2,1/4/2011 9:30,1.25,7,France",
            &["quote"][..],
        ),
        (
            "1003,S1,\"A\" THING,2,1/4/2011 9:30,1.25,7,France",
            &["quote"],
        ),
        (
            "1003,S1,A THING,2,1/4/2011 9:30,-1.25,7,France",
            &["UnitPrice", "negative"],
        ),
        (
            "1003,S1,A THING,2,1/4/2011 9:30,cheap,7,France",
            &["UnitPrice", "`cheap`"],
        ),
        (
            "1003,S1,A THING,two,1/4/2011 9:30,1.25,7,France",
            &["Quantity", "`two`"],
        ),
        (
            "1003,S1,A THING,2,13/13/2011 9:30,1.25,7,France",
            &["InvoiceDate"],
        ),
        (
            ",S1,A THING,2,1/4/2011 9:30,1.25,7,France",
            &["InvoiceNo", "empty"],
        ),
        (
            "1003,,A THING,2,1/4/2011 9:30,1.25,7,France",
            &["StockCode", "empty"],
        ),
        ("1003,S1,A THING,2", &["4 fields", "expected 8"]),
        ("", &["1 fields"]),
        (
            &format!("1003,S1,A,2,1/4/2011 9:30,1.25,{long},France"),
            &["CustomerID", "10000", "4096"],
        ),
    ] {
        let reject = only_reject(bad);
        for needle in needles {
            assert!(
                reject.reason.contains(needle),
                "{bad:.60}: {}",
                reject.reason
            );
        }
        assert!(reject.reason.len() < 200);
    }
}

#[test]
fn what_is_odd_but_possible_is_kept() {
    let (_, rows) = read(&log(&[
        "C1003,S1,A THING,-2,1/4/2011 9:30,1.25,7,France\r\n",
        "1004,S1,,-2,1/4/2011 9:30,0,,France\r\n",
        "1005,s1,\"A \"\"NICE\"\",\r\nTHING\",3,1/4/2011 9:30,2.5,7.0,Spain\r\n",
        "1006,S1,SECOND NAME,3,1/4/2011 9:30,2.5,8,Spain",
    ]))
    .unwrap();
    assert_eq!(rows.rejects, []);
    let events: Vec<Event> = rows.interactions.iter().map(|row| row.event).collect();
    let (cancel, purchase) = (Event::Cancel, Event::Purchase);
    assert_eq!(events, [cancel, cancel, purchase, purchase]);
    assert_eq!(rows.interactions[1].user_id, None);
    assert_eq!(rows.interactions[1].price_e4, Some(0));
    assert_eq!(rows.interactions[2].user_id.as_deref(), Some("7.0"));
    assert_eq!(
        (rows.interactions[2].line, rows.interactions[3].line),
        (4, 6)
    );
    // Identities are verbatim, titles those of the earliest record with a customer.
    let items: Vec<_> = rows
        .items
        .iter()
        .map(|row| (row.item_id.as_str(), row.title.as_deref()))
        .collect();
    assert_eq!(
        items,
        [
            ("S1", Some("A THING")),
            ("s1", Some("A \"NICE\",\r\nTHING"))
        ]
    );
    let users: Vec<_> = rows.users.iter().map(|row| row.user_id.as_str()).collect();
    assert_eq!(users, ["7", "8", "7.0"]);
}

#[test]
fn a_title_is_settled_by_the_earliest_record_with_a_customer() {
    let (_, rows) = read(&log(&[
        // Notes of the warehouse are no titles while there is a customer.
        "1003,S1,damaged,-2,1/4/2011 9:30,0,,France\r\n",
        "1004,S1,A THING,2,1/6/2011 9:30,1.25,7,Spain\r\n",
        // The file need not be in the order of time.
        "1005,S1,ITS FIRST NAME,2,1/5/2011 9:30,1.25,7,France\r\n",
        "1006,S1,OF THE SAME MINUTE,2,1/5/2011 9:30,1.25,8,Italy\r\n",
        // Blank, then titled: later records do not speak.
        "1007,S2,,2,1/4/2011 9:30,1.25,8,Italy\r\n",
        "1008,S2,TOO LATE,2,1/5/2011 9:30,1.25,8,Italy\r\n",
        // No customer at all.
        "1009,S3,LATER,2,1/7/2011 9:30,1.25,,Italy\r\n",
        "1010,S3,found,2,1/6/2011 9:30,1.25,,Italy\r\n",
    ]))
    .unwrap();
    let titles: Vec<_> = rows
        .items
        .iter()
        .map(|row| (row.item_id.as_str(), row.title.as_deref()))
        .collect();
    assert_eq!(
        titles,
        [
            ("S1", Some("ITS FIRST NAME")),
            ("S2", None),
            ("S3", Some("found"))
        ]
    );
    let countries: Vec<_> = rows
        .users
        .iter()
        .map(|row| (row.user_id.as_str(), row.segment.as_deref()))
        .collect();
    assert_eq!(countries, [("7", Some("France")), ("8", Some("Italy"))]);
}

#[test]
fn another_header_is_damage_at_line_one() {
    for header in [
        "Invoice;Stock;Customer",
        "InvoiceNo,StockCode",
        "\"InvoiceNo",
        "a,b,c,d,e,f,g,h",
    ] {
        let error = read(format!("{header}\r\n{GOOD}").as_bytes()).unwrap_err();
        assert_eq!(error.line, Some(1));
        let RawErrorKind::Header { found, expected } = &error.kind else {
            panic!("{error:?}");
        };
        assert_eq!(found, &header.replace('"', "\\\""));
        assert!(expected.starts_with("InvoiceNo,StockCode"));
    }
    // A byte-order mark is no part of a name.
    let marked = [b"\xef\xbb\xbf", log(&[GOOD]).as_slice()].concat();
    assert_eq!(read(&marked).unwrap().1.interactions.len(), 1);
}

#[test]
fn an_empty_a_missing_and_a_truncated_file_are_damage() {
    assert!(matches!(read(b"").unwrap_err().kind, RawErrorKind::Empty));
    let missing = read_file(Path::new("no/such/file.csv"), json!({})).unwrap_err();
    assert!(matches!(missing.kind, RawErrorKind::Missing));
    assert!(missing.to_string().contains("no/such/file.csv"));
    let lines: Vec<String> = (0..5000)
        .map(|n| GOOD.replace("S1", &format!("S{}", n * 7919 % 4001)))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&log(&lines)).unwrap();
    let whole = encoder.finish().unwrap();
    assert_eq!(read(&whole).unwrap().1.interactions.len(), 5000);
    let error = read(&whole[..whole.len() * 2 / 3]).unwrap_err();
    assert!(matches!(error.kind, RawErrorKind::Gzip(_)), "{error:?}");
    assert!(error.line.unwrap() > 1000);
}

#[test]
fn other_encodings_are_declared_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("retail.csv");
    let content = [
        log(&[GOOD]),
        b"1004,S2,\xa32 NOTE,1,1/4/2011 9:30,2,7,France\r\n".to_vec(),
    ]
    .concat();
    std::fs::write(&path, content).unwrap();
    let error = read_file(&path, json!({})).unwrap_err();
    assert_eq!(error.line, Some(3));
    assert!(error.kind.hint().contains("encoding: latin1"));
    let (_, rows) = read_file(&path, json!({ "encoding": "latin1" })).unwrap();
    assert_eq!(rows.items[1].title.as_deref(), Some("£2 NOTE"));
}

#[test]
fn the_real_log_gives_its_known_totals() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/online_retail/OnlineRetail.csv.gz");
    if !path.exists() {
        skipped(&path);
        return;
    }
    let (summary, rows) = read_file(&path, json!({})).unwrap();
    assert_eq!(summary.n_records(), 541_909);
    // Of the raw records, since the tables hold neither the countries of lines without customer
    // nor blank descriptions.
    let mut records = Records::new(RawFile::open(&path).unwrap(), COLUMNS.len());
    let mut record = Record::default();
    super::check_header(&mut records, &mut record).unwrap();
    let mut countries = BTreeSet::new();
    let (mut n_raw, mut n_blank) = (0, 0);
    while records.next(&mut record, super::is_record).unwrap() {
        n_raw += 1;
        n_blank += u32::from(record.field(super::DESCRIPTION).is_empty());
        countries.insert(record.field(super::COUNTRY).to_vec());
    }
    assert_eq!((n_raw, countries.len(), n_blank), (541_909, 38, 1454));
    // Every item that a customer ever bought has a title.
    let untitled = rows.items.iter().filter(|row| row.title.is_none());
    let untitled: BTreeSet<&str> = untitled.map(|row| row.item_id.as_str()).collect();
    assert!(
        rows.interactions
            .iter()
            .all(|row| { row.user_id.is_none() || !untitled.contains(row.item_id.as_str()) })
    );
    assert_eq!(
        rows.interactions.len() as u64 + summary.n_rejected(),
        541_909
    );
    // The two refused records are adjustments of bad debt at a negative price.
    let rejects: Vec<_> = rows
        .rejects
        .iter()
        .map(|(class, row)| (*class, row.line))
        .collect();
    assert_eq!(
        rejects,
        [("negative price", 299_985), ("negative price", 299_986)]
    );
    let log = &rows.interactions;
    let distinct = |field: fn(&tables::Interaction) -> Option<&str>| {
        log.iter().filter_map(field).collect::<BTreeSet<_>>().len()
    };
    // Known totals are of all records; each refused one is an invoice of its own, without
    // customer, of quantity 1, on a stock code that occurs elsewhere.
    assert_eq!(distinct(|row| row.session_id.as_deref()) + 2, 25_900);
    assert_eq!(distinct(|row| Some(&row.item_id)), 4070);
    assert_eq!(rows.items.len(), 4070);
    assert_eq!(distinct(|row| row.user_id.as_deref()), 4372);
    assert_eq!(rows.users.len(), 4372);
    assert_eq!(
        log.iter().filter(|row| row.user_id.is_none()).count() + 2,
        135_080
    );
    let quantity = |row: &tables::Interaction| row.value.unwrap();
    assert_eq!(log.iter().filter(|row| quantity(row) < 0.0).count(), 10_624);
    let sum: f64 = log.iter().map(quantity).sum();
    assert!((sum + 2.0 - 5_176_450.0).abs() < 0.5, "{sum}");
    let cancelled: BTreeSet<&str> = log
        .iter()
        .filter_map(|row| {
            row.session_id
                .as_deref()
                .filter(|invoice| invoice.starts_with('C'))
        })
        .collect();
    assert_eq!(cancelled.len(), 3836);
    let clean: Vec<_> = log
        .iter()
        .filter(|row| row.user_id.is_some() && quantity(row) > 0.0 && row.price_e4 > Some(0))
        .collect();
    assert_eq!(clean.len(), 397_884);
    let count = |field: fn(&tables::Interaction) -> Option<&str>| {
        clean
            .iter()
            .filter_map(|row| field(row))
            .collect::<BTreeSet<_>>()
            .len()
    };
    assert_eq!(count(|row| row.user_id.as_deref()), 4338);
    assert_eq!(count(|row| Some(&row.item_id)), 3665);
    assert_eq!(count(|row| row.session_id.as_deref()), 18_532);
}

#[expect(clippy::print_stderr, reason = "a test that does not run says so")]
fn skipped(path: &Path) {
    eprintln!("skipped: `{}` is absent", path.display());
}
