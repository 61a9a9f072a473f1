//! Faults that were reproduced with other tools, done to this one: a chain of ten stages, something
//! mean, and a plain `run`.
//!
//! | test | tool, and what it does |
//! |---|---|
//! | A1, A4 | DVC, Snakemake: a flipped byte with restored size and time is "up to date" |
//! | A2 | DVC: a flipped byte in the cache is checked out |
//! | A3 | DVC: what a killed run left running writes into what the next run committed |
//! | A5 | Snakemake: a touched input makes the whole chain stale |
//! | A6 | Snakemake: a space in a command runs the whole chain |
//! | A7 | Snakemake: after a kill nothing runs until a flag is given |

use std::fmt::Write;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use artifact::{Record, VerifyError};

use crate::fake::{Bench, Script, flip, source};

/// Appends a line to what it reads.
fn link() -> Script {
    Script::new("link").input("text", &["text"]).output("text", "text").body(
        "cat ${in_text# }/text > \"$out/text/text\"\nwc -l < ${in_text# }/text >> \"$out/text/text\"",
    )
}

/// `n0` reads a raw file, `n1` to `n9` each the one before.
fn ten() -> Bench {
    let mut nodes = String::from("  n0: { stage: ./source, with: { word: tea, file: raw.txt } }\n");
    for index in 1..10 {
        let before = index - 1;
        writeln!(
            nodes,
            "  n{index}: {{ stage: ./link, in: {{ text: n{before} }} }}"
        )
        .unwrap();
    }
    let bench = Bench::new(&[source(), link()], &nodes);
    let mut raw = String::new();
    for line in 0..20_000 {
        writeln!(raw, "line {line}").unwrap();
    }
    bench.write("data/raw.txt", &raw);
    bench
}

/// The record of one of the links: `n1` has one line more than `n0`, and so on.
fn record(bench: &Bench, index: usize) -> Record {
    let store = bench.store();
    let mut records = store.latest_records("link").unwrap();
    records.retain(|record| {
        let id = record.outputs["text"].id;
        let text = fs::read_to_string(store.object_path(id).join("text")).unwrap();
        text.lines().count() == 20_001 + index
    });
    assert_eq!(records.len(), 1);
    records.remove(0)
}

fn flip_output(bench: &Bench, index: usize) -> artifact::ArtifactId {
    let id = record(bench, index).outputs["text"].id;
    let file = bench.store().object_path(id).join("text");
    let middle = fs::metadata(&file).unwrap().len() / 2;
    flip(&file, middle, 0);
    id
}

#[test]
fn a1_and_a4_a_flipped_byte_with_size_and_time_restored_is_found_by_verify_and_the_first_reader() {
    let bench = ten();
    bench.run().exits_with(0).says(&["10 ran"]);
    let wanted = bench.artifacts();
    // By `verify`, which puts it aside, so that a plain run makes it again.
    flip_output(&bench, 5);
    bench
        .call(&["verify"])
        .exits_with(3)
        .says(&["is damaged and was moved to", "1 damaged"]);
    assert_eq!(bench.run().exits_with(0).named("ran"), ["n5"]);
    assert_eq!(bench.artifacts(), wanted, "the same hashes as before");
    // By its first reader.
    let id = flip_output(&bench, 5);
    assert!(matches!(
        bench.store().verify(id),
        Err(VerifyError::Damaged { .. })
    ));
    let said = bench
        .call(&["run", "p.yaml", "--from", "n6"])
        .exits_with(0)
        .says(&["is damaged and was moved to", "`n5` is made again"]);
    assert_eq!(said.named("ran"), ["n5", "n6", "n7", "n8", "n9"]);
    assert_eq!(bench.artifacts(), wanted, "the same hashes as before");
    let quarantined = bench.store().quarantined().unwrap();
    assert_eq!(quarantined.len(), 2, "kept for whoever asks what happened");
    bench.is_intact();
}

#[test]
fn a2_wrong_bytes_of_the_store_are_never_handed_out() {
    let bench = ten();
    bench.run().exits_with(0);
    let wanted = bench.artifacts();
    // What was made of it is gone, so that it has to be handed out again.
    let made = record(&bench, 6).outputs["text"].id;
    flip_output(&bench, 5);
    artifact::remove_tree(&bench.store().object_path(made)).unwrap();
    let said = bench.run().exits_with(0).says(&["`n5` is made again"]);
    assert_eq!(
        said.named("ran"),
        ["n5", "n6"],
        "what follows did not change"
    );
    assert_eq!(bench.artifacts(), wanted);
    bench.is_intact();
}

#[test]
fn a3_what_a_killed_run_left_running_cannot_write_into_what_the_next_one_commits() {
    if !cfg!(target_os = "linux") {
        return;
    }
    // In a session of its own where there is `setsid`, so that no process group reaches it; and it
    // holds the file open, so that no permission stops it.
    let writer = Script::new("writer").output("text", "text").body(
        "echo whole > \"$out/text/text\"\n[ -e \"$data/calm\" ] && exit 0\nalone=$(command -v setsid || true)\n$alone sh -c 'exec 3>> \"$1\"; echo > \"$2/started\"; sleep 1; echo late >&3; echo > \"$2/wrote\"' sh \"$out/text/text\" \"$data\" > /dev/null 2>&1 &\nsleep 300",
    );
    let bench = Bench::new(&[writer], "  a: { stage: ./writer }\n");
    bench.write("data/keep", "");
    let mut runner = bench
        .command(&["run", "p.yaml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !bench.path().join("data/started").exists() {
        assert!(started.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    runner.kill().unwrap();
    runner.wait().unwrap();
    bench.write("data/calm", "");
    bench.run().exits_with(0).says(&["1 ran"]);
    let wanted = bench.artifacts();
    // Beyond the late write. Without `setsid` there is none: the writer died with its group.
    let escapes = Command::new("setsid").arg("true").status().is_ok();
    while escapes && !bench.path().join("data/wrote").exists() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "it never wrote"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(bench.output("writer", "text"), "whole\n");
    assert_eq!(bench.artifacts(), wanted);
    bench.is_intact();
}

#[test]
fn a5_touching_an_input_or_everything_that_is_stored_runs_nothing() {
    let bench = ten();
    bench.run().exits_with(0);
    for year in [1_u64, 80] {
        let then = UNIX_EPOCH + Duration::from_hours(24 * 365 * year);
        let touch = |path: &std::path::Path| {
            let file = fs::File::open(path).unwrap();
            file.set_modified(then).unwrap();
        };
        touch(&bench.path().join("data/raw.txt"));
        touch(&bench.path().join("source"));
        touch(&bench.path().join("p.yaml"));
        let store = bench.store();
        for id in store.artifacts().unwrap() {
            touch(&store.object_path(id));
            touch(&store.object_path(id).join("manifest.json"));
        }
        bench
            .run()
            .exits_with(0)
            .says(&["nothing to do: all 10 nodes are up to date"]);
    }
}

#[test]
fn a6_comments_and_layout_run_nothing_and_a_comment_in_a_stage_stops_at_its_unchanged_output() {
    let bench = ten();
    bench.run().exits_with(0);
    bench.edit(
        "{ stage: ./source, with: { word: tea, file: raw.txt } }",
        "\n    # What it starts with.\n    with:\n      file:   'raw.txt'\n\n      word: \"tea\"   # as ever\n    stage: ./source",
    );
    bench
        .run()
        .exits_with(0)
        .says(&["nothing to do: all 10 nodes are up to date"]);
    // Another executable with the same outputs: it runs, and nothing that reads it does.
    let path = bench.path().join("source");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen('\n', "\n# A comment.\n", 1)).unwrap();
    let said = bench.run().exits_with(0).says(&["executable changed"]);
    assert_eq!(said.named("ran"), ["n0"]);
    assert_eq!(said.named("cached").len(), 9);
    bench.run().exits_with(0).says(&["nothing to do"]);
}

#[test]
fn a7_after_a_kill_a_plain_run_goes_on_where_it_was() {
    let whole = ten();
    whole.run().exits_with(0);
    let bench = ten();
    let mut runner = bench
        .command(&["run", "p.yaml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Somewhere in the middle.
    let keys = bench.path().join("artifacts/keys/link");
    let n_records = || {
        let files = fs::read_dir(&keys).into_iter().flatten().flatten();
        files
            .filter(|file| {
                file.path()
                    .extension()
                    .is_some_and(|ending| ending == "json")
            })
            .count()
    };
    while n_records() < 4 && runner.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    runner.kill().unwrap();
    runner.wait().unwrap();
    let kept = n_records();
    let said = bench.run().exits_with(0);
    assert!(kept >= 4, "{kept} were recorded before the kill");
    assert_eq!(said.named("ran").len(), 9 - kept, "{}", said.all());
    assert_eq!(bench.artifacts(), whole.artifacts());
    bench.is_intact();
}
