//! The store as a whole: publishing, damage, records, processes that die.

mod killed;
mod publishing;
mod records;
mod sweeping;

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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
        absent: BTreeMap::new(),
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
