//! Publishing, verifying, quarantine.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use super::*;

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
