//! Content hashes of what lies outside the store (executables, raw files), remembered by what the
//! file system says of them.
//!
//! A remembered hash is believed while device, inode, size, modification and change time of every
//! file are the same, and only if all those times lie well before the moment of hashing: an edit
//! within the same tick of the clock would leave them as they are.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use artifact::{ContentHash, Store, hash_path};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stage::{Exit, Failure};

/// Times closer than this to the moment of hashing are not trusted.
const RACY_NANOSECONDS: i128 = 2_000_000_000;

/// Remembers hashes between runs.
#[derive(Debug)]
pub struct Fingerprints {
    path: PathBuf,
    known: Mutex<Known>,
    is_paranoid: bool,
}

#[derive(Debug, Default)]
struct Known {
    entries: BTreeMap<PathBuf, Entry>,
    is_changed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// BLAKE3 of what the file system said of every file.
    signature: ContentHash,
    /// BLAKE3 of the content.
    content: ContentHash,
}

impl Fingerprints {
    /// Opens the memory of a store. A paranoid one forgets everything first.
    pub fn open(store: &Store, is_paranoid: bool) -> Self {
        let path = store.root().join("cache").join("fingerprints.json");
        // A damaged memory is no memory.
        let entries = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Self {
            path,
            known: Mutex::new(Known {
                entries,
                is_changed: false,
            }),
            is_paranoid,
        }
    }

    /// Content hash of a file or folder.
    ///
    /// # Errors
    /// If it cannot be read, or changes while it is read.
    pub fn content(&self, path: &Path) -> Result<ContentHash, Failure> {
        self.look(path, !self.is_paranoid)
    }

    fn look(&self, path: &Path, may_believe: bool) -> Result<ContentHash, Failure> {
        let failed =
            |error: io::Error| Failure::data(error).cause(format!("reading `{}`", path.display()));
        let path = fs::canonicalize(path).map_err(failed)?;
        let (signature, _) = signature(&path).map_err(failed)?;
        if may_believe {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = known.entries.get(&path)
                && entry.signature == signature
            {
                return Ok(entry.content);
            }
        }
        let started = Timestamp::now().as_nanosecond();
        let content = hash_path(&path).map_err(Failure::data)?;
        let (after, newest) = self::signature(&path).map_err(failed)?;
        if after != signature {
            return Err(Failure::new(
                Exit::Data,
                format!("`{}` changed while it was read", path.display()),
            )
            .hint("wait until whoever writes it has ended, then run again"));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if newest + RACY_NANOSECONDS < started {
            let entry = Entry { signature, content };
            known.is_changed |= known.entries.get(&path) != Some(&entry);
            known.entries.insert(path, entry);
        } else {
            known.is_changed |= known.entries.remove(&path).is_some();
        }
        Ok(content)
    }

    /// Writes the memory down. That it cannot be written costs time at the next run, nothing else.
    pub fn save(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_changed
            && let Ok(bytes) = serde_json::to_vec(&known.entries)
        {
            known.is_changed = write_cache(&self.path, &bytes).is_err();
        }
    }
}

/// Replaces a file of a cache at once; it need not survive a power cut.
pub(crate) fn write_cache(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

/// What the file system says of a file, or of all files of a folder, and the latest time in it in
/// nanoseconds since 1970.
fn signature(path: &Path) -> io::Result<(ContentHash, i128)> {
    let mut text = String::new();
    let mut newest = i128::MIN;
    walk(path, 0, &mut text, &mut newest)?;
    Ok((ContentHash::of(text.as_bytes()), newest))
}

fn walk(path: &Path, depth: usize, text: &mut String, newest: &mut i128) -> io::Result<()> {
    use std::fmt::Write;
    const MAX_DEPTH: usize = 64;
    let metadata = fs::metadata(path)?;
    for time in times(&metadata) {
        *newest = time.max(*newest);
    }
    let [modified, changed] = times(&metadata);
    // Writing to a text cannot fail.
    let _ = writeln!(
        text,
        "{} {} {} {} {modified} {changed} {}",
        metadata.dev(),
        metadata.ino(),
        metadata.mode(),
        if metadata.is_dir() { 0 } else { metadata.len() },
        // Escaped, so that no name can look like another line.
        path.to_string_lossy().escape_debug()
    );
    if metadata.is_dir() && depth < MAX_DEPTH {
        let mut entries: Vec<PathBuf> = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()?;
        entries.sort();
        for entry in entries {
            walk(&entry, depth + 1, text, newest)?;
        }
    }
    Ok(())
}

/// Modification and change time in nanoseconds.
fn times(metadata: &Metadata) -> [i128; 2] {
    let nanoseconds =
        |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    [
        nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting() -> (tempfile::TempDir, Store, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().join("store")).unwrap();
        let file = root.path().join("raw.csv");
        fs::write(&file, "a").unwrap();
        (root, store, file)
    }

    fn n_known(fingerprints: &Fingerprints) -> usize {
        fingerprints.known.lock().unwrap().entries.len()
    }

    #[test]
    fn a_file_written_just_now_is_not_remembered() {
        let (_root, store, file) = setting();
        let fingerprints = Fingerprints::open(&store, false);
        let one = fingerprints.content(&file).unwrap();
        assert_eq!(n_known(&fingerprints), 0);
        // The same size within the same tick.
        fs::write(&file, "b").unwrap();
        assert_ne!(fingerprints.content(&file).unwrap(), one);
    }

    #[test]
    fn what_is_remembered_survives_and_is_not_read_again() {
        let (_root, store, file) = setting();
        std::thread::sleep(std::time::Duration::from_millis(2_100));
        let fingerprints = Fingerprints::open(&store, false);
        let content = fingerprints.content(&file).unwrap();
        assert_eq!(n_known(&fingerprints), 1);
        fingerprints.save();
        let again = Fingerprints::open(&store, false);
        // Proof that the file is not read: a false memory is believed, except by the paranoid.
        let path = fs::canonicalize(&file).unwrap();
        let wrong = ContentHash::of(b"wrong");
        again
            .known
            .lock()
            .unwrap()
            .entries
            .get_mut(&path)
            .unwrap()
            .content = wrong;
        assert_eq!(again.content(&file).unwrap(), wrong);
        again.known.lock().unwrap().is_changed = true;
        again.save();
        let paranoid = Fingerprints::open(&store, true);
        assert_eq!(paranoid.content(&file).unwrap(), content);
        // An edit that keeps size and modification time still changes the change time.
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "b").unwrap();
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(modified)
            .unwrap();
        assert_eq!(again.content(&file).unwrap(), ContentHash::of(b"b"));
    }

    #[test]
    fn a_folder_changes_with_any_of_its_files() {
        let (root, store, _file) = setting();
        let folder = root.path().join("folder");
        fs::create_dir_all(folder.join("inner")).unwrap();
        fs::write(folder.join("inner/x"), "1").unwrap();
        let fingerprints = Fingerprints::open(&store, false);
        let one = fingerprints.content(&folder).unwrap();
        fs::write(folder.join("inner/x"), "2").unwrap();
        assert_ne!(fingerprints.content(&folder).unwrap(), one);
    }

    #[test]
    fn a_missing_file_is_bad_data() {
        let (root, store, _file) = setting();
        let fingerprints = Fingerprints::open(&store, false);
        let failure = fingerprints.content(&root.path().join("none")).unwrap_err();
        assert_eq!(failure.exit, Exit::Data);
    }
}
