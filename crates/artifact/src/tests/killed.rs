//! Processes that die at any moment.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;

/// Runs one of the ignored tests below as a process of its own in a directory.
fn child(name: &str, directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("tests::killed::{name}"),
            "--ignored",
            "--nocapture",
        ])
        .current_dir(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until a child says that it has come so far.
fn wait_for(child: &mut Child, word: &str) {
    let output = BufReader::new(child.stdout.as_mut().unwrap());
    let said = output.lines().any(|line| line.unwrap().contains(word));
    assert!(said, "the child ended before it said `{word}`");
}

#[test]
#[ignore = "a part of `nobody_has_to_unlock_after_a_kill`"]
#[expect(clippy::print_stdout, reason = "this is how it tells its parent")]
fn child_holds_a_lock_and_an_attempt() {
    let store = Store::open(".").unwrap();
    let _lock = store.lock(&key(1)).unwrap();
    let attempt = store.stage_directory().unwrap();
    fs::write(attempt.path().join("half"), "written").unwrap();
    println!("holding");
    std::thread::sleep(Duration::from_mins(1));
}

#[test]
fn nobody_has_to_unlock_after_a_kill() {
    let fixture = Fixture::new();
    let mut child = child("child_holds_a_lock_and_an_attempt", fixture.root.path());
    wait_for(&mut child, "holding");
    let store = fixture.reopened();
    assert!(store.try_lock(&key(1)).unwrap().is_none());
    assert_eq!(
        fixture.names("attempts").len(),
        2,
        "a living attempt is left alone"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let store = fixture.reopened();
    assert_eq!(fixture.names("attempts"), [""; 0]);
    assert!(store.try_lock(&key(1)).unwrap().is_some());
}

#[test]
#[ignore = "a part of `a_kill_at_any_moment_leaves_a_whole_store`"]
#[expect(clippy::print_stdout, reason = "this is how it tells its parent")]
fn child_publishes_until_killed() {
    let store = Store::open(".").unwrap();
    println!("started");
    for number in 0.. {
        let key = key(number);
        let lock = store.lock(&key).unwrap();
        if store.lookup(&key).unwrap().is_some() {
            continue;
        }
        let mut outputs = BTreeMap::new();
        for role in ["samples", "requests"] {
            let text = format!("{role} {number} ").repeat(5_000);
            let id = publish_into(&store, &[("rows", &text), ("parts/meta", role)]).unwrap();
            outputs.insert(role.to_owned(), produced(id, false));
        }
        store.record(&lock, outputs).unwrap();
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_store() {
    let fixture = Fixture::new();
    let mut recorded = 0;
    for round in 0..25 {
        let mut child = child("child_publishes_until_killed", fixture.root.path());
        wait_for(&mut child, "started");
        // Different moments of the work: 0 to 36 ms after the start, in steps of 1.5 ms.
        std::thread::sleep(Duration::from_micros(1_500 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = fixture.reopened();
        assert_eq!(fixture.names("attempts"), [""; 0]);
        for id in store.artifacts().unwrap() {
            store.verify(id).unwrap();
        }
        let records = store.latest_records("estimate").unwrap();
        for record in &records {
            assert_eq!(record.outputs.len(), 2);
            for produced in record.outputs.values() {
                store.open_verified(produced.id).unwrap();
            }
        }
        assert!(records.len() >= recorded, "a record was lost");
        recorded = records.len();
        let n_files = fixture
            .names("keys/estimate")
            .iter()
            .filter(|name| name.strip_suffix(".lock").is_none())
            .count();
        assert_eq!(n_files, recorded, "every record can be read");
    }
    assert!(recorded > 0, "the children never finished anything");
    assert_eq!(fixture.names("quarantine"), [""; 0]);
    assert_eq!(fixture.store.conflicts().unwrap().len(), 0);
}
