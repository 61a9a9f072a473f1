//! A stage of one's own, in another language, and what the runner does when it misbehaves.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use e2e::Pipeline;

/// A stage in shell that copies a raw file; `HERE` is replaced by what else it does before it ends.
const STAGE: &str = r#"#!/bin/sh
case "$1" in
describe)
    cat <<'END'
{ "protocol": 1, "name": "mine", "revision": 1, "doc": "copies a raw file",
  "uses_seed": false, "uses_floats": false, "inputs": [],
  "outputs": [{ "role": "copy", "kind": "copy", "is_measured": false, "doc": "the copy" }],
  "config": [{ "name": "file", "kind": "file", "default": null, "doc": "what to copy" }],
  "registries": {} }
END
    ;;
check)
    echo '{ "config": { "file": "words.txt" }, "offers": { "copy": [{ "kind": "copy" }] } }'
    ;;
run)
    data=data
    while [ $# -gt 0 ]; do
        case "$1" in
        --out) out=$2 ;;
        --data) data=$2 ;;
        esac
        shift
    done
    mkdir -p "$out/copy"
    cat "$data/words.txt" > "$out/copy/words.txt"
    HERE
    ;;
esac
"#;

const YAML: &str = "\
pipeline: mine
nodes:
  copy: { stage: ./mine, with: { file: words.txt } }
";

fn pipeline(then: &str) -> Pipeline {
    let pipeline = Pipeline::new().yaml(YAML).raw("words.txt", "some words\n");
    write_stage(&pipeline, then);
    pipeline
}

fn write_stage(pipeline: &Pipeline, then: &str) {
    let path = pipeline.folder().write("mine", STAGE.replace("HERE", then));
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_stage_in_another_language_is_a_stage() {
    let pipeline = pipeline(":");
    pipeline.run().success().executed(&["mine"]);
    let copy = pipeline.only("mine", "copy");
    assert_eq!(fs::read(copy.join("words.txt")).unwrap(), b"some words\n");
    pipeline.run().success().executed(&[]);
    // Its code is in the key like that of any other.
    write_stage(&pipeline, "true");
    pipeline.run().success().executed(&["mine"]);
    pipeline.folder().write("data/words.txt", "other words\n");
    pipeline.run().success().executed(&["mine"]);
}

#[test]
fn a_write_after_the_end_cannot_reach_an_artifact() {
    let pipeline = pipeline(r#"(sleep 1; echo late >> "$out/copy/words.txt") > /dev/null 2>&1 &"#);
    pipeline.run().success();
    std::thread::sleep(Duration::from_millis(1_500));
    let copy = pipeline.only("mine", "copy");
    assert_eq!(fs::read(copy.join("words.txt")).unwrap(), b"some words\n");
}

#[test]
fn a_stage_dies_with_its_runner() {
    let pipeline = pipeline(r#"echo $$ > "$data/pid"; sleep 600"#);
    let mut runner = pipeline
        .folder()
        .command("touchstone", &["run", "pipeline.yaml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid_file = pipeline.folder().join("data/pid");
    let read_pid = || fs::read_to_string(&pid_file).unwrap_or_default();
    assert!(
        soon(|| read_pid().ends_with('\n')),
        "the stage never started"
    );
    let process = format!("/proc/{}", read_pid().trim());
    assert!(fs::exists(&process).unwrap());
    runner.kill().unwrap();
    runner.wait().unwrap();
    assert!(soon(|| is_gone(&process)), "the stage outlives its runner");
    write_stage(&pipeline, ":");
    pipeline.run().success().executed(&["mine"]);
}

/// Whether something becomes true within ten seconds.
fn soon(is_true: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(10) {
        if is_true() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Whether a process has ended, though nobody may have asked for its exit code yet.
fn is_gone(process: &str) -> bool {
    match fs::read_to_string(format!("{process}/stat")) {
        Ok(stat) => stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z')),
        Err(_) => true,
    }
}

#[test]
fn a_raw_file_that_changes_meanwhile_spoils_the_result() {
    let pipeline = pipeline(r#"echo more >> "$data/words.txt""#);
    let run = pipeline.run();
    run.exits_with(3).says(&["`copy`", "changed", "run again"]);
    run.executed(&[]);
    write_stage(&pipeline, ":");
    pipeline.run().success().executed(&["mine"]);
}

#[test]
fn a_missing_output_is_no_success() {
    let pipeline = pipeline(r#"rm -r "$out/copy""#);
    let run = pipeline.run();
    run.exits_with(1).says(&["copy"]);
    run.executed(&[]);
    assert!(pipeline.store().artifacts().unwrap().is_empty());
}

#[test]
fn an_output_that_leads_elsewhere_is_refused() {
    let pipeline = pipeline(r#"ln -s /etc/passwd "$out/copy/link""#);
    let run = pipeline.run();
    assert_ne!(run.code, Some(0));
    run.says(&["symbolic link"]);
    run.executed(&[]);
}

#[test]
fn what_a_failing_stage_said_is_passed_on_with_its_exit_code() {
    for code in [1, 2, 3, 4, 5] {
        let pipeline = pipeline(&format!(
            "echo 'error: the {code}th trouble' >&2; exit {code}"
        ));
        let run = pipeline.run();
        run.exits_with(code)
            .says(&[&format!("the {code}th trouble")]);
        run.executed(&[]);
    }
    let pipeline = pipeline("kill -9 $$");
    let run = pipeline.run();
    assert_ne!(run.code, Some(0));
    run.says(&["copy", "signal"]);
}
