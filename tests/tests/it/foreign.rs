//! A stage in another language takes part like any other.

use std::fs;
use std::process::{Command, Stdio};

use e2e::{Folder, Outcome};

/// Whether there is a `python3` that can read Parquet.
fn has_pyarrow() -> bool {
    Command::new("python3")
        .args(["-c", "import pyarrow.parquet"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn an_estimator_in_python_is_judged_beside_ours() {
    if !has_pyarrow() {
        eprintln!("skipped: no `python3` with pyarrow");
        return;
    }
    let folder = Folder::new();
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/foreign-stage/example.yaml"
    );
    let run = |arguments: &[&str]| -> Outcome { folder.call("touchstone", arguments) };
    run(&["run", example]).success();
    let detection = fs::read_to_string(
        folder.join("artifacts/latest/foreign-stage/report/tables/detection.csv"),
    )
    .unwrap();
    let auroc = |method: &str| -> f64 {
        let row = detection.lines().find(|line| line.starts_with(method));
        row.unwrap().split(',').nth(1).unwrap().parse().unwrap()
    };
    // Losses of the Markov chain find planted targets; so do those of a user beside each other.
    assert!(auroc("user_agreement") > 0.7, "{detection}");
    assert!((auroc("random") - 0.5).abs() < 0.05, "{detection}");
    run(&["verify", "--rerun", "theirs", "--pipeline", example]).success();
}
