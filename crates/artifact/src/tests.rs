//! The store as a whole: publishing, damage, records, processes that die.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::*;

struct Fixture {
    root: TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        Self { root, store }
    }

    /// The same store as another process sees it.
    fn reopened(&self) -> Store {
        Store::open(self.root.path()).unwrap()
    }

    fn publish(&self, files: &[(&str, &str)]) -> Result<ArtifactId, PublishError> {
        publish_into(&self.store, files)
    }

    fn names(&self, area: &str) -> Vec<String> {
        store::list(&self.root.path().join(area)).unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Read-only directories stop `TempDir` unless the tests run as root.
        let _ = remove_tree(self.root.path());
    }
}

fn write_files(directory: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn publish_into(store: &Store, files: &[(&str, &str)]) -> Result<ArtifactId, PublishError> {
    let attempt = store.stage_directory().unwrap();
    let output = attempt.path().join("output");
    fs::create_dir(&output).unwrap();
    write_files(&output, files);
    store.publish(&output, "samples")
}

fn key(number: u64) -> Key {
    Key {
        format: KEY_FORMAT,
        protocol: 1,
        stage: "estimate".to_owned(),
        executable: ContentHash::of(b"executable"),
        config: json!({ "number": number, "share": 0.1 }),
        inputs: BTreeMap::new(),
        files: BTreeMap::new(),
        isa: None,
    }
}

fn produced(id: ArtifactId, measured: bool) -> Produced {
    Produced {
        id,
        kind: "samples".to_owned(),
        measured,
    }
}

/// Flips one bit of a file and gives it its old permissions, size and modification time back.
fn flip_in_place(path: &Path, at: u64, bit: u8) {
    let metadata = fs::metadata(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ (1 << bit)]).unwrap();
    file.set_modified(metadata.modified().unwrap()).unwrap();
    drop(file);
    fs::set_permissions(path, metadata.permissions()).unwrap();
    let after = fs::metadata(path).unwrap();
    assert_eq!(
        (after.len(), after.modified().unwrap()),
        (metadata.len(), metadata.modified().unwrap())
    );
}

const FILES: &[(&str, &str)] = &[("samples.parquet", "rows"), ("parts/one.json", "{}")];

#[test]
fn a_published_artifact_is_whole_read_only_and_leaves_no_trace_elsewhere() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    let path = fixture.reopened().open_verified(id).unwrap();
    assert_eq!(fs::read(path.join("samples.parquet")).unwrap(), b"rows");
    for (name, mode) in [
        ("", 0o555),
        ("parts", 0o555),
        ("samples.parquet", 0o444),
        ("parts/one.json", 0o444),
        (MANIFEST, 0o444),
    ] {
        let metadata = fs::metadata(path.join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
    }
    let manifest = fixture.store.manifest(id).unwrap();
    assert_eq!((manifest.id(), manifest.kind()), (id, "samples"));
    let rows = &manifest.files()[1];
    assert_eq!((rows.path.as_str(), rows.length), ("samples.parquet", 4));
    assert_eq!(rows.blake3, ContentHash::of(b"rows"));
    // `printf rows | sha256sum`
    assert_eq!(
        rows.sha256.to_string(),
        "bc51e9e65d79e1c90ba544ab2eae1044ccdf8c1af7a559ba375cba4276f7d99e"
    );
    assert_eq!(fixture.names("attempts"), [""; 0]);
    assert_eq!(fixture.store.artifacts().unwrap(), [id]);
}

#[test]
fn the_id_is_the_hash_of_a_list_that_anyone_can_make() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    let list = format!(
        "parts/one.json\t2\t{}\nsamples.parquet\t4\t{}\n",
        ContentHash::of(b"{}"),
        ContentHash::of(b"rows")
    );
    assert_eq!(id.as_bytes(), ContentHash::of(list.as_bytes()).as_bytes());
}

#[test]
fn the_id_does_not_depend_on_time_or_order_of_creation() {
    let (one, two) = (Fixture::new(), Fixture::new());
    let id = one.publish(FILES).unwrap();
    let attempt = two.store.stage_directory().unwrap();
    let output = attempt.path().join("another name");
    fs::create_dir(&output).unwrap();
    for (name, text) in FILES.iter().rev() {
        write_files(&output, &[(name, text)]);
        let file = File::options().write(true).open(output.join(name)).unwrap();
        let past = std::time::UNIX_EPOCH + Duration::from_hours(24);
        file.set_modified(past).unwrap();
    }
    assert_eq!(two.store.publish(&output, "samples").unwrap(), id);
    let text = |fixture: &Fixture| fs::read(fixture.store.object_path(id).join(MANIFEST)).unwrap();
    assert_eq!(text(&one), text(&two));
}

#[test]
fn publishing_twice_is_publishing_once() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    assert_eq!(fixture.publish(FILES).unwrap(), id);
    assert_eq!(publish_into(&fixture.reopened(), FILES).unwrap(), id);
    assert_eq!(fixture.store.artifacts().unwrap(), [id]);
    fixture.reopened().verify(id).unwrap();
}

#[test]
fn many_threads_publish_the_same_artifact() {
    let fixture = Fixture::new();
    let ids: Vec<ArtifactId> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| fixture.publish(FILES).unwrap()))
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(fixture.store.artifacts().unwrap(), [ids[0]]);
    assert_eq!(fixture.names("quarantine"), [""; 0]);
}

#[test]
fn what_cannot_be_an_artifact_is_refused_and_never_visible() {
    type Spoil = (&'static str, fn(&Path));
    let spoils: [Spoil; 6] = [
        ("symbolic link", |output| {
            symlink("samples.parquet", output.join("link")).unwrap();
        }),
        ("hard link", |output| {
            fs::hard_link(output.join("samples.parquet"), output.join("twin")).unwrap();
        }),
        ("neither a file", |output| {
            drop(std::os::unix::net::UnixListener::bind(output.join("socket")).unwrap());
        }),
        ("is empty", |output| {
            fs::create_dir(output.join("nothing")).unwrap();
        }),
        ("hide the manifest", |output| {
            fs::write(output.join(MANIFEST), "{}").unwrap();
        }),
        ("control character", |output| {
            fs::write(output.join("a\nb"), "").unwrap();
        }),
    ];
    let fixture = Fixture::new();
    for (what, spoil) in spoils {
        let attempt = fixture.store.stage_directory().unwrap();
        let output = attempt.path().join("output");
        fs::create_dir(&output).unwrap();
        write_files(&output, FILES);
        spoil(&output);
        let error = fixture.store.publish(&output, "samples").unwrap_err();
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        assert!(message.contains(what), "{what}: {message}");
    }
    let nothing = fixture.publish(&[]).unwrap_err();
    assert!(matches!(
        nothing,
        PublishError::Tree {
            source: TreeError::Empty { .. },
            ..
        }
    ));
    assert_eq!(fixture.store.artifacts().unwrap(), []);
    assert_eq!(fixture.names("attempts"), [""; 0]);
}

#[test]
fn a_flipped_bit_is_found_although_size_and_time_are_restored() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    let path = fixture.store.object_path(id);
    flip_in_place(&path.join("samples.parquet"), 2, 0);

    // `verify` always reads, also in the process that published.
    let error = fixture.store.verify(id).unwrap_err();
    assert!(matches!(error, VerifyError::Damaged { .. }), "{error}");
    assert!(path.is_dir(), "verifying changes nothing");

    let store = fixture.reopened();
    let Err(OpenError::Quarantined {
        moved_to, damage, ..
    }) = store.open_verified(id)
    else {
        panic!("the artifact was served");
    };
    assert_eq!(damage, ["`samples.parquet` has other content"]);
    assert!(!path.exists());
    assert_eq!(fs::read(moved_to.join("samples.parquet")).unwrap(), b"rovs");
    assert_eq!(
        store.quarantined().unwrap(),
        std::slice::from_ref(&moved_to)
    );
    let reason = store.reason(&moved_to).unwrap();
    assert!(reason.contains("other content"), "{reason}");
    assert!(matches!(
        store.open_verified(id),
        Err(OpenError::Missing { .. })
    ));
    assert!(!store.contains(id));

    // Made again, it is whole; the damaged one stays where it is.
    assert_eq!(publish_into(&store, FILES).unwrap(), id);
    fixture.reopened().open_verified(id).unwrap();
    assert!(moved_to.is_dir());
}

#[test]
fn every_bit_of_every_file_counts() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    let path = fixture.store.object_path(id);
    for name in ["samples.parquet", "parts/one.json", MANIFEST] {
        let file = path.join(name);
        // A prime step visits every region of the file and every bit of a byte.
        for position in (0..fs::metadata(&file).unwrap().len() * 8).step_by(5) {
            let (at, bit) = (position / 8, u8::try_from(position % 8).unwrap());
            flip_in_place(&file, at, bit);
            assert!(
                fixture.store.verify(id).is_err(),
                "{name}, byte {at}, bit {bit}"
            );
            flip_in_place(&file, at, bit);
        }
    }
    fixture.store.verify(id).unwrap();
}

#[test]
fn other_damage_is_found_too() {
    type Harm = (&'static str, fn(&Path));
    let harms: [Harm; 6] = [
        ("`samples.parquet` is missing", |path| {
            fs::remove_file(path.join("samples.parquet")).unwrap();
        }),
        ("`manifest.json` is missing", |path| {
            fs::remove_file(path.join(MANIFEST)).unwrap();
        }),
        ("`more` does not belong to it", |path| {
            fs::write(path.join("more"), "x").unwrap();
        }),
        ("`samples.parquet` has 5 bytes instead of 4", |path| {
            fs::remove_file(path.join("samples.parquet")).unwrap();
            fs::write(path.join("samples.parquet"), "rowsx").unwrap();
        }),
        ("symbolic link", |path| {
            fs::rename(path.join("samples.parquet"), path.join("../elsewhere")).unwrap();
            symlink("../elsewhere", path.join("samples.parquet")).unwrap();
        }),
        ("it is artifact", |path| {
            let other = Manifest::new("samples", Vec::new()).to_text();
            fs::remove_file(path.join(MANIFEST)).unwrap();
            fs::write(path.join(MANIFEST), other).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let fixture = Fixture::new();
        let id = fixture.publish(FILES).unwrap();
        let path = fixture.store.object_path(id);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        harm(&path);
        let error = fixture.reopened().open_verified(id).unwrap_err();
        assert!(
            matches!(error, OpenError::Quarantined { .. }),
            "{what}: {error}"
        );
        assert!(error.to_string().contains(what), "{what}: {error}");
    }
}

#[test]
fn publishing_over_a_damaged_artifact_replaces_it() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    flip_in_place(&fixture.store.object_path(id).join("parts/one.json"), 0, 3);
    assert_eq!(publish_into(&fixture.reopened(), FILES).unwrap(), id);
    fixture.reopened().open_verified(id).unwrap();
    assert_eq!(fixture.store.quarantined().unwrap().len(), 1);
}

#[test]
fn an_artifact_is_read_once_for_each_opening_of_the_store() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    let store = fixture.reopened();
    store.open_verified(id).unwrap();
    flip_in_place(&store.object_path(id).join("samples.parquet"), 0, 0);
    store.open_verified(id).unwrap();
    assert!(fixture.reopened().open_verified(id).is_err());
}

#[test]
fn artifacts_are_found_by_the_start_of_their_names() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    let other = fixture.publish(&[("a", "b")]).unwrap();
    assert_eq!(fixture.store.find(&id.short()).unwrap(), [id]);
    let written = format!("samples@{}", other.short());
    assert_eq!(fixture.store.find(&written).unwrap(), [other]);
    assert_eq!(fixture.store.find(&id.to_string()).unwrap(), [id]);
    assert_eq!(fixture.store.find("").unwrap().len(), 2);
    assert_eq!(fixture.store.find("nothing").unwrap(), []);
}

#[test]
fn a_recorded_key_is_found_again_with_its_outputs() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    assert_eq!(fixture.store.lookup(&key(1)).unwrap(), None);
    let outputs = BTreeMap::from([("samples".to_owned(), produced(id, false))]);
    let lock = fixture.store.lock(&key(1)).unwrap();
    assert_eq!((lock.key(), lock.id()), (&key(1), key(1).id()));
    assert_eq!(
        fixture.store.record(&lock, outputs.clone()).unwrap(),
        Recorded::New
    );
    assert_eq!(
        fixture.store.record(&lock, outputs.clone()).unwrap(),
        Recorded::Same
    );
    drop(lock);
    let record = fixture.reopened().lookup(&key(1)).unwrap().unwrap();
    assert_eq!(
        (record.id, record.key, record.outputs),
        (key(1).id(), key(1), outputs)
    );
    assert_eq!(fixture.store.lookup(&key(2)).unwrap(), None);
    assert_eq!(fixture.store.stages().unwrap(), ["estimate"]);
    let producers = fixture.store.producers(id).unwrap();
    assert_eq!(producers.len(), 1);
    assert_eq!(producers[0].1, "samples");
    assert_eq!(
        fixture.names("keys/estimate"),
        [format!("{}.json", key(1).id())]
    );
}

#[test]
fn another_result_of_the_same_key_raises_an_alarm_and_both_are_kept() {
    let fixture = Fixture::new();
    let first = fixture.publish(FILES).unwrap();
    let second = fixture.publish(&[("samples.parquet", "other")]).unwrap();
    let outputs = |id| BTreeMap::from([("samples".to_owned(), produced(id, false))]);
    let lock = fixture.store.lock(&key(1)).unwrap();
    fixture.store.record(&lock, outputs(first)).unwrap();
    let recorded = fixture.store.record(&lock, outputs(second)).unwrap();
    let Recorded::Conflict(conflict) = recorded else {
        panic!("no alarm: {recorded:?}");
    };
    assert_eq!(conflict.roles(), ["samples"]);
    assert_eq!(conflict.earlier.outputs, outputs(first));
    assert_eq!(conflict.now.outputs, outputs(second));
    let served = fixture.store.lookup(&key(1)).unwrap().unwrap();
    assert_eq!(served.outputs, outputs(first));
    assert_eq!(
        fixture.store.conflicts().unwrap(),
        std::slice::from_ref(&conflict.kept_at)
    );
    let kept = fs::read_to_string(&conflict.kept_at).unwrap();
    assert!(kept.contains(&second.to_string()));
    assert!(fixture.store.contains(first) && fixture.store.contains(second));
    // The one that is kept apart is not an answer to anything.
    assert_eq!(fixture.store.latest_records("estimate").unwrap().len(), 1);
}

#[test]
fn a_result_whose_artifacts_are_gone_gives_way() {
    let fixture = Fixture::new();
    let first = fixture.publish(FILES).unwrap();
    let second = fixture.publish(&[("samples.parquet", "other")]).unwrap();
    let outputs = |id| BTreeMap::from([("samples".to_owned(), produced(id, false))]);
    let lock = fixture.store.lock(&key(1)).unwrap();
    fixture.store.record(&lock, outputs(first)).unwrap();
    remove_tree(&fixture.store.object_path(first)).unwrap();
    let recorded = fixture.store.record(&lock, outputs(second)).unwrap();
    assert!(matches!(recorded, Recorded::Conflict(_)));
    let served = fixture.store.lookup(&key(1)).unwrap().unwrap();
    assert_eq!(served.outputs, outputs(second));
    assert_eq!(fixture.store.conflicts().unwrap().len(), 1);
}

#[test]
fn measured_outputs_may_differ_and_the_latest_is_served() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    let slow = fixture.publish(&[("measured.json", "slow")]).unwrap();
    let fast = fixture.publish(&[("measured.json", "fast")]).unwrap();
    let outputs = |measured| {
        BTreeMap::from([
            ("measured".to_owned(), produced(measured, true)),
            ("samples".to_owned(), produced(id, false)),
        ])
    };
    let lock = fixture.store.lock(&key(1)).unwrap();
    fixture.store.record(&lock, outputs(slow)).unwrap();
    assert_eq!(
        fixture.store.record(&lock, outputs(fast)).unwrap(),
        Recorded::Same
    );
    let served = fixture.store.lookup(&key(1)).unwrap().unwrap();
    assert_eq!(served.outputs["measured"].id, fast);
    assert_eq!(
        fixture.store.conflicts().unwrap(),
        [""; 0].map(PathBuf::from)
    );
}

#[test]
fn a_damaged_record_is_put_aside_and_can_be_written_again() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    let outputs = BTreeMap::from([("samples".to_owned(), produced(id, false))]);
    let path = fixture
        .root
        .path()
        .join(format!("keys/estimate/{}.json", key(1).id()));
    let length = {
        let lock = fixture.store.lock(&key(1)).unwrap();
        fixture.store.record(&lock, outputs.clone()).unwrap();
        fs::metadata(&path).unwrap().len()
    };
    for position in (0..length * 8).step_by(41) {
        let (at, bit) = (position / 8, u8::try_from(position % 8).unwrap());
        flip_in_place(&path, at, bit);
        let error = fixture.store.lookup(&key(1)).unwrap_err();
        let RecordError::Quarantined { moved_to, .. } = &error else {
            panic!("byte {at}, bit {bit}: {error}");
        };
        assert!(moved_to.exists() && !path.exists());
        assert!(fixture.store.reason(moved_to).is_ok());
        assert_eq!(fixture.store.lookup(&key(1)).unwrap(), None);
        let lock = fixture.store.lock(&key(1)).unwrap();
        assert_eq!(
            fixture.store.record(&lock, outputs.clone()).unwrap(),
            Recorded::New
        );
    }
    assert!(fixture.store.lookup(&key(1)).unwrap().is_some());
}

#[test]
fn a_record_under_another_name_is_not_believed() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    let lock = fixture.store.lock(&key(1)).unwrap();
    let outputs = BTreeMap::from([("samples".to_owned(), produced(id, false))]);
    fixture.store.record(&lock, outputs).unwrap();
    let folder = fixture.root.path().join("keys/estimate");
    let name = |key: &Key| folder.join(format!("{}.json", key.id()));
    fs::copy(name(&key(1)), name(&key(2))).unwrap();
    assert!(matches!(
        fixture.store.lookup(&key(2)),
        Err(RecordError::Quarantined { .. })
    ));
}

#[test]
fn the_nearest_past_key_has_the_fewest_differences_and_is_the_latest() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    assert!(fixture.store.nearest(&key(1)).unwrap().is_none());
    let far = Key {
        executable: ContentHash::of(b"older executable"),
        ..key(7)
    };
    for key in [&key(5), &key(6), &far] {
        let lock = fixture.store.lock(key).unwrap();
        let outputs = BTreeMap::from([("samples".to_owned(), produced(id, false))]);
        fixture.store.record(&lock, outputs).unwrap();
        // Far apart compared with the resolution of file times.
        std::thread::sleep(Duration::from_millis(20));
    }
    let order: Vec<KeyId> = fixture
        .store
        .latest_records("estimate")
        .unwrap()
        .into_iter()
        .map(|record| record.id)
        .collect();
    assert_eq!(order, [far.id(), key(6).id(), key(5).id()]);
    let (nearest, differences) = fixture.store.nearest(&key(8)).unwrap().unwrap();
    assert_eq!(nearest.id, key(6).id());
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].to_string(), "config.number: 6 -> 8");
    // A key is not its own past.
    assert_ne!(fixture.store.nearest(&far).unwrap().unwrap().0.id, far.id());
}

#[test]
fn one_of_many_computes_a_key_and_the_others_find_it() {
    let fixture = Fixture::new();
    let computed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // Each with a store of its own, as separate processes would have.
                let store = fixture.reopened();
                let lock = store.lock(&key(1)).unwrap();
                if store.lookup(&key(1)).unwrap().is_none() {
                    computed.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(10));
                    let id = publish_into(&store, FILES).unwrap();
                    let outputs = BTreeMap::from([("samples".to_owned(), produced(id, false))]);
                    store.record(&lock, outputs).unwrap();
                }
            });
        }
    });
    assert_eq!(computed.into_inner(), 1);
    let lock = fixture.store.lock(&key(1)).unwrap();
    assert!(fixture.reopened().try_lock(&key(1)).unwrap().is_none());
    drop(lock);
    assert!(fixture.reopened().try_lock(&key(1)).unwrap().is_some());
}

/// Runs one of the ignored tests below as a process of its own in a directory.
fn child(name: &str, directory: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("tests::{name}"),
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
fn wait_for(child: &mut std::process::Child, word: &str) {
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
