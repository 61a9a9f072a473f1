//! Tests of the stage: what it says of itself, what it refuses, what it writes.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use stage::{Exit, Failure, Io, Offers, Stage, yaml};
use tables::{Audit, Interaction, Item, Reject, Truth, read_all};

use crate::provenance;
use crate::{Config, Ingest};

const HEADER: &str =
    "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\r\n";
const GOOD: &str = "1003,S1,A THING,2,1/4/2011 9:30,1.25,7,France\r\n";
const BAD: &str = "1003,S1,A THING,2,1/4/2011 9:30,-1,7,France\r\n";

fn config(text: &str) -> Config {
    yaml::parse(text, "test.yaml").unwrap()
}

fn refused(text: &str) -> Failure {
    let failure = Ingest::check(&config(text), &Offers::new()).unwrap_err();
    assert_eq!(failure.exit, Exit::Configuration, "{failure}");
    assert!(!failure.hints.is_empty(), "{failure}");
    failure
}

fn run(text: &str, data: &Path) -> Result<tempfile::TempDir, Failure> {
    let out = tempfile::tempdir().unwrap();
    Ingest::run(&config(text), &Io::new(out.path(), data))?;
    Ok(out)
}

/// Runs on a file `retail.csv` of this content.
fn retail(content: &str) -> Result<tempfile::TempDir, Failure> {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("retail.csv"), content).unwrap();
    run("{ dataset: online_retail, file: retail.csv }", data.path())
}

#[test]
fn the_description_lists_every_field_of_the_configuration() {
    let value = serde_json::to_value(config("dataset: simulator")).unwrap();
    let Value::Object(fields) = value else {
        panic!("{value}");
    };
    let mut listed: Vec<&str> = Ingest::description()
        .config
        .iter()
        .map(|field| field.name)
        .collect();
    listed.sort_unstable();
    assert_eq!(fields.keys().collect::<Vec<_>>(), listed);
}

#[test]
fn defaults_enter_the_normalised_configuration() {
    let value = serde_json::to_value(config("dataset: { name: simulator, days: 7 }")).unwrap();
    assert_eq!(value["dataset"]["days"], 7);
    assert_eq!(value["dataset"]["n_events"], 100_000);
    let other = config("dataset: { days: 7, n_events: 100000, name: simulator }");
    assert_eq!(value, serde_json::to_value(other).unwrap());
}

#[test]
fn a_wrong_configuration_names_what_was_meant() {
    for (text, message) in [
        ("dataset: simulater", "did you mean `simulator`"),
        (
            "dataset: { name: simulator, n_event: 20000 }",
            "did you mean `n_events`",
        ),
        (
            "dataset: { name: simulator, n_events: 5 }",
            "10000 to 100000000",
        ),
        ("dataset: { name: simulator, language: de }", "`en` or `zh`"),
        ("{ dataset: simulator, file: a.csv }", "leave `file` out"),
        ("dataset: online_retail", "write `file: PATH`"),
        ("{ dataset: online_retail, folder: a }", "needs `file`"),
        (
            "{ dataset: sequences, folder: a, file: b }",
            "both `file` and `folder`",
        ),
        (
            "{ dataset: { name: sequences, stem: x }, file: b }",
            "`folder` beside it",
        ),
        ("{ dataset: online_retail, file: ../a.csv }", "`../a.csv`"),
        ("{ dataset: online_retail, file: /a.csv }", "`/a.csv`"),
    ] {
        let failure = refused(text).to_string();
        assert!(failure.contains(message), "{text}: {failure}");
    }
}

#[test]
fn a_missing_file_names_itself_the_data_root_and_where_to_get_it() {
    let data = tempfile::tempdir().unwrap();
    let retail = "{ dataset: online_retail, file: online_retail/OnlineRetail.csv.gz }";
    let beauty = "{ dataset: sequences, folder: amazon_beauty }";
    for (text, entry, path) in [
        (retail, "`online_retail`", "OnlineRetail.csv.gz"),
        (beauty, "`amazon_beauty`", "amazon_beauty"),
    ] {
        let failure = run(text, data.path()).unwrap_err();
        assert_eq!(failure.exit, Exit::Data);
        let text = failure.to_string();
        let root = data.path().display().to_string();
        for needle in [
            entry,
            path,
            "data/SOURCES.yaml",
            "https://",
            "--data",
            &root,
        ] {
            assert!(text.contains(needle), "{needle}: {text}");
        }
    }
}

#[test]
fn damage_of_a_whole_file_is_an_error_with_line_and_remedy() {
    for (content, needles) in [
        ("", &["retail.csv", "empty"][..]),
        (
            "a;b;c\r\n1;2;3\r\n",
            &["retail.csv", "line 1", "a;b;c", "InvoiceNo,StockCode"],
        ),
    ] {
        let failure = retail(content).unwrap_err();
        assert_eq!(failure.exit, Exit::Data);
        assert!(!failure.hints.is_empty());
        for needle in needles {
            assert!(failure.to_string().contains(needle), "{failure}");
        }
    }
}

#[test]
fn more_than_half_refused_is_the_wrong_file() {
    // Exactly half is still accepted.
    let out = retail(&format!("{HEADER}{}{}", GOOD.repeat(10), BAD.repeat(10))).unwrap();
    assert_eq!(
        read_all::<Interaction>(&out.path().join("interactions"))
            .unwrap()
            .len(),
        10
    );
    let failure = retail(&format!("{HEADER}{}{}", GOOD.repeat(10), BAD.repeat(11))).unwrap_err();
    assert_eq!(failure.exit, Exit::Data);
    let text = failure.to_string();
    for needle in ["11 of 21", "retail.csv", "line 12", "negative", "hint: "] {
        assert!(text.contains(needle), "{needle}: {text}");
    }
}

#[test]
fn the_audit_accounts_for_every_record() {
    let short = "1003,S1\r\n";
    let out = retail(&format!("{HEADER}{}{BAD}{short}{BAD}", GOOD.repeat(5))).unwrap();
    let audit: Vec<Audit> = read_all(&out.path().join("audit")).unwrap();
    let steps: Vec<_> = audit
        .iter()
        .map(|row| (row.step, row.name.as_str(), row.rows_in, row.rows_out))
        .collect();
    assert_eq!(
        steps,
        [
            (0, "read", 8, 8),
            (1, "reject: negative price", 8, 6),
            (2, "reject: wrong number of fields", 6, 5),
        ]
    );
    let rejects: Vec<Reject> = read_all(&out.path().join("rejects")).unwrap();
    assert_eq!(
        rejects.iter().map(|row| row.line).collect::<Vec<_>>(),
        [7, 8, 9]
    );
    // A line of a sequence file holds several events.
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("s.txt"), "a 1 2 3\nb\n").unwrap();
    let out = run("{ dataset: sequences, file: s.txt }", data.path()).unwrap();
    let audit: Vec<Audit> = read_all(&out.path().join("audit")).unwrap();
    let last = audit.last().unwrap();
    assert_eq!(
        (last.name.as_str(), last.rows_in, last.rows_out),
        ("expand", 1, 3)
    );
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn the_real_log_is_accounted_for_to_the_last_record() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let file = "online_retail/OnlineRetail.csv.gz";
    if !data.join(file).exists() {
        eprintln!("skipped: `{}` is absent", data.join(file).display());
        return;
    }
    let text = format!("{{ dataset: online_retail, file: {file} }}");
    let out = run(&text, &data).unwrap();
    let n_rows = |role: &str| -> u64 {
        match role {
            "interactions" => tables::rows::<Interaction>(&out.path().join(role))
                .unwrap()
                .n_rows(),
            _ => tables::rows::<Reject>(&out.path().join(role))
                .unwrap()
                .n_rows(),
        }
    };
    let (accepted, rejected) = (n_rows("interactions"), n_rows("rejects"));
    assert_eq!((accepted + rejected, rejected), (541_909, 2));
    let audit: Vec<Audit> = read_all(&out.path().join("audit")).unwrap();
    let steps: Vec<_> = audit
        .iter()
        .map(|row| (row.name.as_str(), row.rows_in, row.rows_out))
        .collect();
    assert_eq!(
        steps,
        [
            ("read", 541_909, 541_909),
            ("reject: negative price", 541_909, accepted),
        ]
    );
}

/// All bytes of all outputs.
fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let outputs = Ingest::description().outputs;
    outputs
        .iter()
        .map(|output| {
            let path = folder
                .join(output.role)
                .join(format!("{}.parquet", output.role));
            (output.role.to_owned(), std::fs::read(path).unwrap())
        })
        .collect()
}

#[test]
fn the_seed_decides_the_bytes_of_every_output() {
    let nowhere = Path::new("no/data/root");
    let simulate = |seed: u64| {
        let text = format!("{{ dataset: {{ name: simulator, n_events: 20000 }}, seed: {seed} }}");
        run(&text, nowhere).unwrap()
    };
    let (first, again, other) = (simulate(1), simulate(1), simulate(2));
    assert_eq!(bytes(first.path()), bytes(again.path()));
    assert_ne!(
        bytes(first.path())["interactions"],
        bytes(other.path())["interactions"]
    );
    let truth: Vec<Truth> = read_all(&first.path().join("truth")).unwrap();
    assert_eq!(truth.len(), 20_000);
    assert!(
        !read_all::<Item>(&first.path().join("items"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn every_data_set_that_reads_files_says_where_to_get_one() {
    let sources = provenance::all().unwrap();
    for entry in datasets::REGISTRY {
        let known: Vec<_> = sources
            .values()
            .filter(|source| source.dataset == entry.name)
            .collect();
        assert_eq!(known.is_empty(), entry.takes.is_empty(), "{}", entry.name);
    }
    for source in sources.values() {
        assert!(source.page.starts_with("https://"));
        assert!(!source.licence.is_empty() && !source.citation.is_empty() && source.rows > 0);
        assert!(!source.title.is_empty() && !source.layout.is_empty());
        for file in &source.files {
            assert_eq!(file.sha256.len(), 64);
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../../shared/data")
                .join(&file.path);
            if let Ok(metadata) = std::fs::metadata(path) {
                assert_eq!(metadata.len(), file.bytes, "{}", file.path);
            }
        }
    }
}
