//! The executable, as a person or the runner calls it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Output};

fn report(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_report"))
        .args(arguments)
        .output()
        .unwrap()
}

fn config(root: &Path, text: &str) -> String {
    let path = root.join("config.yaml");
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn describe_is_json_that_names_roles_and_outputs() {
    let output = report(&["describe"]);
    assert!(output.status.success());
    let description: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(description["name"], "report");
    assert_eq!(description["outputs"][1]["kind"], "html");
    assert_eq!(description["outputs"][1]["is_measured"], true);
}

#[test]
fn a_misspelled_key_names_its_line_and_the_right_one() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), "title: A study\nsuorce: nowhere\n");
    let output = report(&["check", "--config", &config]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("line 2"), "{text}");
    assert!(text.contains("did you mean `source`?"), "{text}");
}

#[test]
fn a_run_by_hand_writes_both_outputs() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), "title: 试金石\n");
    let out = root.path().join("out");
    let output = report(&["run", "--config", &config, "--out", &out.to_string_lossy()]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let page = std::fs::read_to_string(out.join("html/index.html")).unwrap();
    assert!(page.contains("<h1>试金石</h1>"));
    assert!(out.join("tables/index.md").is_file());
}

#[test]
fn a_damaged_table_is_named_with_its_path() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), "{}\n");
    let metrics = root.path().join("metrics");
    std::fs::create_dir(&metrics).unwrap();
    std::fs::write(metrics.join("metrics.parquet"), b"PAR1 nothing").unwrap();
    let out = root.path().join("out");
    let input = format!("metrics[node=result]={}", metrics.to_string_lossy());
    let output = report(&[
        "run",
        "--config",
        &config,
        "--in",
        &input,
        "--out",
        &out.to_string_lossy(),
    ]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("`metrics`") && text.contains("metrics.parquet"),
        "{text}"
    );
}
