//! A runner that is killed at any point of its work: the next plain `run` ends with the artifacts of
//! an undisturbed one.
//!
//! Points are chosen in three ways. Where `strace` may be used, the runner is killed as it enters
//! the n-th call of each kind that changes something on disk or starts something, so that every
//! state in which it can leave the disk is visited or has a neighbour that is. Everywhere, it is
//! killed at the n-th change of the store that can be seen from outside, and after times spread
//! over a whole run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::fake::{Artifacts, Bench, chain};

/// Calls that change something on disk, start or end something.
const CALLS: &[&str] = &[
    "fsync",
    "rename",
    "renameat2",
    "chmod",
    "fchmod",
    "mkdir",
    "rmdir",
    "unlink",
    "unlinkat",
    "flock",
    "write",
    "clone3",
    "waitid",
    "exit_group",
];

/// Most points for each kind of call.
const POINTS_OF_A_CALL: usize = 12;

/// What an undisturbed run makes.
fn undisturbed() -> Artifacts {
    let bench = chain();
    bench.run().exits_with(0).says(&["3 ran"]);
    bench.artifacts()
}

/// A plain run after a disturbance, without flag or repair.
fn goes_on(bench: &Bench, wanted: &Artifacts, point: &str) {
    let said = bench.run();
    assert_eq!(said.code, Some(0), "{point}: {}", said.all());
    assert_eq!(said.err, "", "{point}");
    assert_eq!(&bench.artifacts(), wanted, "{point}");
    assert!(bench.store().quarantined().unwrap().is_empty(), "{point}");
    bench.is_intact();
    assert_eq!(
        bench.run().out,
        "nothing to do: all 3 nodes are up to date\n",
        "{point}"
    );
}

/// `touchstone run` under `strace` with options.
fn traced(bench: &Bench, options: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-e", "signal=none"])
        .args(options)
        .arg(env!("CARGO_BIN_EXE_touchstone"))
        .args(["run", "p.yaml"])
        .current_dir(bench.path())
        .stdin(Stdio::null());
    command
}

/// How often the busiest thread of an undisturbed run makes each call; `None`, with a message,
/// where nothing can be traced.
#[expect(clippy::print_stderr, reason = "a test that skips says so")]
fn counted() -> Option<BTreeMap<&'static str, usize>> {
    let bench = chain();
    let calls = format!("trace={}", CALLS.join(","));
    let traced = traced(&bench, &["-o", "trace", "-e", &calls]).output();
    if !traced.is_ok_and(|traced| traced.status.success()) {
        eprintln!("skipped: nothing can be traced here; is `strace` installed and allowed?");
        return None;
    }
    let trace = fs::read_to_string(bench.path().join("trace")).unwrap();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.trim_start().split_once(' ') else {
            continue;
        };
        if let Some((call, _)) = rest.trim_start().split_once('(') {
            *counts.entry((call, thread)).or_default() += 1;
        }
    }
    let busiest = CALLS.iter().map(|call| {
        let of_call = counts.iter().filter(|((other, _), _)| other == call);
        (*call, of_call.map(|(_, count)| *count).max().unwrap_or(0))
    });
    Some(busiest.collect())
}

/// At most so many of `1..=n`, evenly, the first and the last among them.
fn spread(n: usize, most: usize) -> Vec<usize> {
    if n <= most {
        return (1..=n).collect();
    }
    (0..most).map(|i| 1 + i * (n - 1) / (most - 1)).collect()
}

#[test]
fn a_kill_at_any_call_that_changes_something_needs_no_help() {
    let Some(counts) = counted() else { return };
    let wanted = undisturbed();
    let mut n_killed = 0;
    for (call, count) in counts {
        for n in spread(count, POINTS_OF_A_CALL) {
            let bench = chain();
            let inject = format!("inject={call}:signal=KILL:when={n}");
            let only = format!("trace={call}");
            let output = traced(&bench, &["-o", "/dev/null", "-e", &only, "-e", &inject])
                .output()
                .unwrap();
            n_killed += usize::from(output.status.code() != Some(0));
            goes_on(&bench, &wanted, &format!("killed at {call} {n}"));
        }
    }
    assert!(n_killed >= 50, "only {n_killed} runs were hit");
}

#[test]
fn a_disk_that_fails_at_any_call_is_the_environments_fault_and_leaves_a_whole_store() {
    let Some(counts) = counted() else { return };
    let wanted = undisturbed();
    let mut n_refused = 0;
    // Stages, which are scripts, make none of these.
    for call in ["fsync", "rename", "renameat2", "chmod", "fchmod", "flock"] {
        for n in spread(counts[call], 4) {
            for error in ["EIO", "ENOSPC"] {
                let bench = chain();
                let inject = format!("inject={call}:error={error}:when={n}");
                let only = format!("trace={call}");
                let output = traced(&bench, &["-o", "/dev/null", "-e", &only, "-e", &inject])
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                let point = format!("{error} at {call} {n}");
                match output.status.code() {
                    // What only remembers may fail.
                    Some(0) => {}
                    Some(4) => {
                        n_refused += 1;
                        let why = if error == "EIO" {
                            "Input/output error"
                        } else {
                            "No space left on device"
                        };
                        assert!(said.contains("error: failed to "), "{point}: {said}");
                        assert!(said.contains(why), "{point}: {said}");
                    }
                    code => panic!("{point}: exit code {code:?}: {said}"),
                }
                goes_on(&bench, &wanted, &point);
            }
        }
    }
    assert!(n_refused >= 20, "only {n_refused} runs were hit");
}

/// What can be seen of a tree from outside.
fn seen(folder: &Path, into: &mut BTreeMap<String, (u64, u32)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        let size = if metadata.is_dir() { 0 } else { metadata.len() };
        into.insert(path.display().to_string(), (size, metadata.mode()));
        if metadata.is_dir() {
            seen(&path, into);
        }
    }
}

/// Runs and kills as soon as so many changes of the store were seen; `false` if it ended before.
fn kill_after_changes(bench: &Bench, changes: usize) -> bool {
    let mut runner = bench
        .command(&["run", "p.yaml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let root = bench.path().join("artifacts");
    let mut before: BTreeMap<String, (u64, u32)> = BTreeMap::new();
    let mut n_changes = 0;
    while n_changes < changes {
        if runner.try_wait().unwrap().is_some() {
            return false;
        }
        let mut now = BTreeMap::new();
        seen(&root, &mut now);
        n_changes += now
            .iter()
            .filter(|(path, state)| before.get(*path) != Some(state))
            .count();
        n_changes += before
            .keys()
            .filter(|path| !now.contains_key(*path))
            .count();
        before = now;
    }
    runner.kill().unwrap();
    runner.wait().unwrap();
    true
}

#[test]
fn a_kill_at_any_change_that_can_be_seen_needs_no_help() {
    let wanted = undisturbed();
    let mut n_killed = 0;
    for point in 0..30 {
        let bench = chain();
        // The store has eight entries or so before the first stage starts.
        let hit = kill_after_changes(&bench, 1 + 5 * point);
        goes_on(
            &bench,
            &wanted,
            &format!("killed at change {}", 1 + 5 * point),
        );
        n_killed += usize::from(hit);
        if !hit {
            break;
        }
    }
    assert!(n_killed >= 10, "only {n_killed} runs were hit");
}

#[test]
fn a_kill_at_any_time_needs_no_help_even_twenty_times_in_a_row() {
    let started = Instant::now();
    let wanted = undisturbed();
    let whole = started.elapsed();
    let in_a_row = chain();
    for point in 0..20 {
        let fresh = chain();
        for bench in [&in_a_row, &fresh] {
            let mut runner = bench
                .command(&["run", "p.yaml"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(whole * point / 20);
            runner.kill().unwrap();
            runner.wait().unwrap();
        }
        goes_on(&fresh, &wanted, &format!("killed at {point} twentieths"));
    }
    goes_on(&in_a_row, &wanted, "killed twenty times");
}
