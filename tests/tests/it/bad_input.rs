//! Bad input: each fault gives an error or a reject row that names file, line and remedy.

use std::io::Write;

use e2e::retail::{HEADER, line};
use e2e::{Folder, Outcome, Pipeline};
use flate2::Compression;
use flate2::write::GzEncoder;
use tables::{Audit, Interaction, Reject, read_all};

/// Good lines of an Online Retail file, without the header.
fn good_lines(n: usize) -> String {
    let lines: Vec<String> = (0..n)
        .map(|number| {
            line(
                1_000 + number,
                number % 7,
                number % 11,
                number % 300,
                "1.25",
            )
        })
        .collect();
    lines.concat()
}

/// A pipeline of one node that reads `retail.csv`.
const INGEST: &str = "\
pipeline: bad
nodes:
  raw: { stage: ingest, with: { dataset: online_retail, file: retail.csv } }
";

/// Runs `ingest` by hand on a file; the outputs are in `raw`.
fn ingest(folder: &Folder, file: &str) -> Outcome {
    let config = format!("dataset: online_retail\nfile: {file}\n");
    folder.run_stage("ingest", &config, &[], "raw")
}

/// Ingests a good file with one bad line in the middle and returns the only reject.
fn only_reject(bad_line: &str) -> Reject {
    let folder = Folder::new();
    let log = format!("{HEADER}{}{bad_line}\r\n{}", good_lines(3), good_lines(5));
    folder.write("data/retail.csv", log);
    ingest(&folder, "retail.csv").success();
    let mut rejects: Vec<Reject> = read_all(&folder.join("raw/rejects")).unwrap();
    assert_eq!(rejects.len(), 1, "{rejects:?}");
    let interactions: Vec<Interaction> = read_all(&folder.join("raw/interactions")).unwrap();
    assert_eq!(interactions.len(), 8, "the lines around it are read");
    // Accepted and rejected are all that was read, and the audit says so.
    let audit: Vec<Audit> = read_all(&folder.join("raw/audit")).unwrap();
    let read = audit.iter().find(|step| step.name == "read").unwrap();
    assert_eq!(read.rows_in, 9);
    let rejected = audit.iter().find(|step| step.name.starts_with("reject"));
    let rejected = rejected.unwrap();
    assert_eq!((rejected.rows_in, rejected.rows_out), (9, 8));
    let reject = rejects.remove(0);
    assert_eq!((reject.file.as_str(), reject.line), ("retail.csv", 5));
    assert!(!reject.reason.is_empty() && !reject.hint.is_empty());
    reject
}

#[test]
fn an_unknown_key_names_file_line_and_what_was_meant() {
    let pipeline = Pipeline::new()
        .yaml(&INGEST.replace("dataset:", "datasett:"))
        .raw("retail.csv", format!("{HEADER}{}", good_lines(3)));
    pipeline.run().exits_with(2).says(&[
        "pipeline.yaml",
        "line 3",
        "datasett",
        "did you mean `dataset`",
    ]);
    let top = Pipeline::new().yaml(&INGEST.replace("nodes:", "node:"));
    top.run()
        .exits_with(2)
        .says(&["pipeline.yaml", "line 2", "did you mean `nodes`"]);
    let inner = Pipeline::new().yaml(&INGEST.replace("stage:", "stagee:"));
    inner
        .run()
        .exits_with(2)
        .says(&["pipeline.yaml", "line 3", "did you mean `stage`"]);
}

#[test]
fn a_misspelled_method_names_file_line_and_what_was_meant() {
    let pipeline = Pipeline::new().named("tiny");
    pipeline.edit("        - leave_one_out\n", "        - leave_one_uot\n");
    let run = pipeline.run();
    run.exits_with(2).says(&[
        "pipeline.yaml",
        "line ",
        "leave_one_uot",
        "did you mean `leave_one_out`",
        "knn_shapley",
    ]);
    run.executed(&[]);
    // By hand, too.
    let folder = Folder::new();
    folder.write("score.yaml", "method: knn_shaply\n");
    folder
        .call("estimate", &["check", "--config", "score.yaml"])
        .exits_with(2)
        .says(&["knn_shaply", "did you mean `knn_shapley`"]);
    folder.write("score.yaml", "method: { name: knn_shapley, kk: 5 }\n");
    folder
        .call("estimate", &["check", "--config", "score.yaml"])
        .exits_with(2)
        .says(&["kk", "`k`"]);
}

#[test]
fn a_misspelled_stage_node_or_output_is_named() {
    let pipeline = Pipeline::new().yaml(&INGEST.replace("ingest", "ingset"));
    pipeline
        .run()
        .exits_with(2)
        .says(&["ingset", "line 3", "did you mean `ingest`"]);
    let reader = "  clean: { stage: preprocess, in: { interactions: rwa.interactions, items: raw.items } }\n";
    let pipeline = Pipeline::new().yaml(&format!("{INGEST}{reader}"));
    pipeline
        .run()
        .exits_with(2)
        .says(&["rwa", "line 4", "did you mean `raw`"]);
    let reader = reader.replace("rwa.interactions", "raw.interaction");
    let pipeline = Pipeline::new().yaml(&format!("{INGEST}{reader}"));
    pipeline
        .run()
        .exits_with(2)
        .says(&["line 4", "did you mean `interactions`"]);
}

#[test]
fn a_missing_raw_file_names_itself_the_data_root_and_the_remedy() {
    let pipeline = Pipeline::new().named("online-retail");
    let run = pipeline.run();
    run.exits_with(3).says(&[
        "OnlineRetail.csv.gz",
        "data/SOURCES.yaml",
        "online_retail",
        "--data",
        "https://",
    ]);
    run.executed(&[]);
    let folder = Folder::new();
    ingest(&folder, "nowhere.csv")
        .exits_with(3)
        .says(&["nowhere.csv", "hint: ", "--data"]);
}

#[test]
fn a_raw_file_outside_the_data_root_is_refused() {
    let pipeline = Pipeline::new()
        .yaml(&INGEST.replace("retail.csv", "../secret.csv"))
        .raw("../secret.csv", format!("{HEADER}{}", good_lines(3)));
    pipeline.run().exits_with(2).says(&["../secret.csv"]);
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_truncated_gzip_names_file_line_and_remedy() {
    let log = format!("{HEADER}{}", good_lines(5_000));
    let whole = gzip(&log);
    let pipeline = Pipeline::new()
        .yaml(&INGEST.replace("retail.csv", "retail.csv.gz"))
        .raw("retail.csv.gz", &whole[..whole.len() * 2 / 3]);
    let run = pipeline.run();
    run.exits_with(3)
        .says(&["retail.csv.gz", "at line ", "gzip", "fetch the file again"]);
    run.executed(&[]);
    // Nothing half-read is kept; the whole file is read.
    assert!(pipeline.store().artifacts().unwrap().is_empty());
    pipeline.folder().write("data/retail.csv.gz", &whole);
    pipeline.run().success();
    let interactions = pipeline.only("ingest", "interactions");
    assert_eq!(read_all::<Interaction>(&interactions).unwrap().len(), 5_000);
}

#[test]
fn a_wrong_header_names_file_line_and_both_headers() {
    let pipeline = Pipeline::new().yaml(INGEST).raw(
        "retail.csv",
        format!("Invoice;Stock;Customer\r\n{}", good_lines(3)),
    );
    let run = pipeline.run();
    run.exits_with(3).says(&[
        "retail.csv",
        "line 1",
        "Invoice;Stock;Customer",
        "InvoiceNo,StockCode",
        "hint: ",
    ]);
    run.executed(&[]);
}

#[test]
fn an_empty_file_is_no_log() {
    let folder = Folder::new();
    folder.write("data/retail.csv", "");
    ingest(&folder, "retail.csv")
        .exits_with(3)
        .says(&["retail.csv", "hint: "]);
}

#[test]
fn a_broken_quote_refuses_one_record_and_no_more() {
    let reject = only_reject("1003,S1,\"A THING,2,1/4/2011 9:30,1.25,7,France");
    assert!(reject.reason.contains("quote"), "{reject:?}");
    assert!(
        reject.raw.starts_with(b"1003,S1,\"A THING"),
        "the raw line is kept"
    );
}

#[test]
fn a_negative_price_is_a_reject() {
    let reject = only_reject("1003,S1,A THING,2,1/4/2011 9:30,-1.25,7,France");
    assert!(reject.reason.contains("UnitPrice"), "{reject:?}");
    assert!(reject.reason.contains("negative"), "{reject:?}");
}

#[test]
fn a_user_id_of_ten_kilobytes_is_a_reject() {
    let user = "9".repeat(10_000);
    let reject = only_reject(&format!(
        "1003,S1,A THING,2,1/4/2011 9:30,1.25,{user},France"
    ));
    assert!(reject.reason.contains("CustomerID"), "{reject:?}");
    assert!(reject.raw.len() > 10_000, "the raw line is kept");
}

#[test]
fn other_bad_records_are_rejects_too() {
    for (line, column) in [
        (
            "1003,S1,A THING,two,1/4/2011 9:30,1.25,7,France",
            "Quantity",
        ),
        (
            "1003,S1,A THING,2,31/31/2011 9:30,1.25,7,France",
            "InvoiceDate",
        ),
        ("1003,S1,A THING,2,1/4/2011 9:30,NaN,7,France", "UnitPrice"),
        (
            "1003,S1,A THING,2,1/4/2011 9:30,1e400,7,France",
            "UnitPrice",
        ),
        ("1003,,A THING,2,1/4/2011 9:30,1.25,7,France", "StockCode"),
        ("1003,S1,A THING,2,1/4/2011 9:30", "fields"),
    ] {
        let reject = only_reject(line);
        assert!(reject.reason.contains(column), "{line}: {reject:?}");
    }
}

#[test]
fn a_file_of_mostly_bad_records_is_the_wrong_file() {
    let folder = Folder::new();
    let bad = "1003,S1,A THING,two,1/4/2011 9:30,1.25,7,France\r\n".repeat(20);
    folder.write("data/retail.csv", format!("{HEADER}{}{bad}", good_lines(5)));
    ingest(&folder, "retail.csv")
        .exits_with(3)
        .says(&["retail.csv", "20 of 25", "hint: "]);
}

#[test]
fn yaml_that_surprises_is_refused_with_its_line() {
    for (text, what) in [
        ("pipeline: x\nnodes: &n {}\n", "anchor"),
        ("pipeline: x\nnodes: {}\nnodes: {}\n", "duplicate"),
        ("pipeline: x\nnodes:\n\traw: {}\n", "tab"),
        ("pipeline: x\n---\nnodes: {}\n", "document"),
    ] {
        Pipeline::new()
            .yaml(text)
            .run()
            .exits_with(2)
            .says(&["pipeline.yaml", "line ", what]);
    }
    Pipeline::new().run().exits_with(2).says(&["pipeline.yaml"]);
}
