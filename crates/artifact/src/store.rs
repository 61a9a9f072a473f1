//! The store: where it keeps what, staging directories, and listing.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::digest::ArtifactId;
use crate::durable::{READ_ONLY_FILE, create_directory, remove_tree, sync_directory, write_new};
use crate::fault::FileError;
use crate::format::{self, FormatError};
use crate::lock::Lock;
use crate::record::KeyLock;
use crate::tree::unfit;

/// A store of artifacts and of the keys that produced them.
///
/// ```text
/// format.json                         version of this layout
/// objects/<2 hex>/<id>/               artifacts, immutable
/// keys/<stage>/<key>.json             what a key produced
/// runs/<pipeline>/<instant>.json      what was run
/// attempts/                           unfinished work of living processes
/// resume/<key>/                       what a long computation goes on from after it was killed
/// quarantine/                         what turned out to be damaged, and why
/// ```
///
/// A store that cannot be written to can be opened and read.
///
/// Several processes and threads may use one store at a time. Nothing half-written is ever
/// visible, no lock outlives its process, and what a killed process left behind is removed by the
/// next one that opens the store.
///
/// ```
/// use artifact::Store;
///
/// let folder = tempfile::tempdir()?;
/// let store = Store::open(folder.path().join("artifacts"))?;
/// let attempt = store.stage_directory()?;
/// let output = attempt.path().join("samples");
/// std::fs::create_dir(&output)?;
/// std::fs::write(output.join("samples.parquet"), b"rows")?;
/// let id = store.publish(&output, "samples")?;
/// let path = store.open_verified(id)?;
/// assert_eq!(std::fs::read(path.join("samples.parquet"))?, b"rows");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// What this process has published or verified: checked once, not at every use.
    pub(crate) verified: Mutex<BTreeSet<ArtifactId>>,
}

/// Why the store cannot be opened, listed or written to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system said no.
    #[error(transparent)]
    File(#[from] FileError),
    /// It has another layout.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A name that cannot be part of a path.
    #[error("{what} `{name}` cannot name a file: {why}")]
    Name {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A stored text that is not JSON.
    #[error("`{}` is not valid JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense.
        #[source]
        source: serde_json::Error,
    },
}

/// A private directory for one attempt at running a node; removed when dropped.
///
/// While it is held no other process removes it; once its process is gone, however it went, the
/// next [`Store::open`] does.
#[derive(Debug)]
pub struct Attempt {
    path: PathBuf,
    _lock: Lock,
}

impl Attempt {
    /// The directory: empty at first, on the same file system as the store.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // What cannot be removed now is removed by whoever opens the store next.
        let _ = remove_tree(&self.path);
    }
}

/// Numbers the attempts of this process.
static NEXT_ATTEMPT: AtomicU64 = AtomicU64::new(0);

impl Store {
    /// Opens a store, creates it if it does not exist, and removes what dead processes left. One that
    /// cannot be written to is opened as it is.
    ///
    /// # Errors
    /// If it has another layout, or its directories cannot be created or listed.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, StoreError> {
        let root = root.as_ref();
        let root = std::path::absolute(root).map_err(FileError::of("resolve", root))?;
        // Before anything is made of a directory that may not be ours to change.
        let says_format = format::check(&root)?;
        let store = Self {
            root,
            verified: Mutex::default(),
        };
        match store.prepare(says_format) {
            // There is something to read, or nothing yet and whoever wants to write is told.
            Err(StoreError::File(error)) if store.root.is_dir() && error.is_read_only() => {}
            prepared => prepared?,
        }
        Ok(store)
    }

    /// Makes what an open store has.
    fn prepare(&self, says_format: bool) -> Result<(), StoreError> {
        let root = &self.root;
        fs::create_dir_all(root).map_err(FileError::of("create directory", root))?;
        for name in [
            "objects",
            "keys",
            "runs",
            "attempts",
            "resume",
            "quarantine",
        ] {
            create_directory(&root.join(name))?;
        }
        self.remove_dead_attempts()?;
        if !says_format {
            self.write_format()?;
        }
        Ok(())
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn area(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where an artifact lies or would lie; says nothing about whether it is there or whole.
    pub fn object_path(&self, id: ArtifactId) -> PathBuf {
        let name = id.to_string();
        self.area("objects").join(&name[..2]).join(name)
    }

    /// Whether an artifact is there; it may be damaged.
    pub fn contains(&self, id: ArtifactId) -> bool {
        self.object_path(id).is_dir()
    }

    /// Creates a private directory for one attempt.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn stage_directory(&self) -> Result<Attempt, StoreError> {
        let attempts = self.area("attempts");
        loop {
            let number = NEXT_ATTEMPT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}", std::process::id());
            // The lock comes first: a directory without a living lock is rubbish.
            let Some(lock) = Lock::attempt(&attempts.join(format!("{name}.lock")))? else {
                continue;
            };
            let path = attempts.join(name);
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Attempt { path, _lock: lock }),
                // Left by a dead process that had our number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => remove_tree(&path)?,
                Err(error) => return Err(FileError::of("create directory", &path)(error).into()),
            }
        }
    }

    /// Creates the directory in which the computation of a key keeps what it goes on from when it
    /// is killed. It outlives the process; whoever holds the lock of the key has it alone.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn resume_directory(&self, lock: &KeyLock) -> Result<PathBuf, StoreError> {
        let path = self.area("resume").join(lock.id().to_string());
        create_directory(&path)?;
        Ok(path)
    }

    /// Removes what [`Store::resume_directory`] holds: the key is computed, or starts anew.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn forget_progress(&self, lock: &KeyLock) -> Result<(), StoreError> {
        let path = self.area("resume").join(lock.id().to_string());
        if path.exists() {
            remove_tree(&path)?;
        }
        Ok(())
    }

    fn remove_dead_attempts(&self) -> Result<(), StoreError> {
        let attempts = self.area("attempts");
        let mut names = BTreeSet::new();
        for name in list(&attempts)? {
            names.insert(name.strip_suffix(".lock").unwrap_or(&name).to_owned());
        }
        for name in names {
            if let Some(_lock) = Lock::attempt(&attempts.join(format!("{name}.lock")))? {
                remove_tree(&attempts.join(name))?;
            }
        }
        Ok(())
    }

    /// Puts a file in place at once and durably: readers see the old one or the new one.
    pub(crate) fn replace_file(&self, path: &Path, text: &str) -> Result<(), StoreError> {
        let attempt = self.stage_directory()?;
        let temporary = attempt.path().join("file");
        write_new(&temporary, text.as_bytes(), READ_ONLY_FILE)?;
        if let Some(parent) = path.parent() {
            create_directory(parent)?;
            fs::rename(&temporary, path).map_err(FileError::of("write", path))?;
            sync_directory(parent)?;
        }
        Ok(())
    }

    /// All artifacts in the order of their ids.
    ///
    /// # Errors
    /// If the store cannot be listed.
    pub fn artifacts(&self) -> Result<Vec<ArtifactId>, StoreError> {
        let objects = self.area("objects");
        let mut ids = Vec::new();
        for group in list(&objects)? {
            for name in list(&objects.join(group))? {
                ids.extend(name.parse::<ArtifactId>().ok());
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// The artifacts that a person may mean by `3fa91c2d`, `samples@3fa91c2d` or a longer prefix.
    ///
    /// # Errors
    /// If the store cannot be listed.
    pub fn find(&self, text: &str) -> Result<Vec<ArtifactId>, StoreError> {
        let prefix = text.rsplit_once('@').map_or(text, |(_, prefix)| prefix);
        let mut ids = self.artifacts()?;
        ids.retain(|id| id.to_string().starts_with(prefix));
        Ok(ids)
    }

    /// Writes down a run: the resolved pipeline, versions, hardware. `instant` names it and sorts
    /// as text; a taken name gets a number. Returns where it was written.
    ///
    /// # Errors
    /// If a name is unfit or the file cannot be written.
    pub fn write_run(
        &self,
        pipeline: &str,
        instant: &str,
        run: &Value,
    ) -> Result<PathBuf, StoreError> {
        check_name("pipeline", pipeline)?;
        check_name("instant", instant)?;
        let folder = self.area("runs").join(pipeline);
        create_directory(&folder)?;
        let _lock = Lock::wait(&folder.join("write.lock"))?;
        let mut path = folder.join(format!("{instant}.json"));
        let mut number = 1;
        while path.exists() {
            number += 1;
            path = folder.join(format!("{instant}-{number}.json"));
        }
        self.replace_file(&path, &format!("{run:#}\n"))?;
        Ok(path)
    }

    /// The runs of a pipeline, oldest first.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn runs(&self, pipeline: &str) -> Result<Vec<PathBuf>, StoreError> {
        check_name("pipeline", pipeline)?;
        let folder = self.area("runs").join(pipeline);
        let names = list(&folder)?;
        let mut stems: Vec<&str> = names
            .iter()
            .filter_map(|name| name.strip_suffix(".json"))
            .collect();
        // Without the ending, a numbered name follows the one that it repeats.
        stems.sort_unstable();
        Ok(stems
            .into_iter()
            .map(|stem| folder.join(format!("{stem}.json")))
            .collect())
    }

    /// Reads one run.
    ///
    /// # Errors
    /// If it cannot be read or is not JSON.
    pub fn read_run(&self, path: &Path) -> Result<Value, StoreError> {
        let text = fs::read_to_string(path).map_err(FileError::of("read", path))?;
        serde_json::from_str(&text).map_err(|source| StoreError::Json {
            path: path.to_owned(),
            source,
        })
    }

    /// A free path in quarantine for something called `name`. The caller holds a lock on the name.
    pub(crate) fn quarantine_path(&self, name: &str) -> PathBuf {
        let quarantine = self.area("quarantine");
        let mut number = 1;
        loop {
            let path = quarantine.join(format!("{name}.{number}"));
            if fs::symlink_metadata(&path).is_err() {
                return path;
            }
            number += 1;
        }
    }
}

/// Names in a directory, sorted; none if it does not exist. Names that are not text are not ours.
pub(crate) fn list(directory: &Path) -> Result<Vec<String>, FileError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(FileError::of("list", directory)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(FileError::of("list", directory))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Refuses names that would lead elsewhere or hide a file.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), StoreError> {
    let why = unfit(name).or_else(|| name.starts_with('.').then_some("it starts with a dot"));
    match why {
        None => Ok(()),
        Some(why) => Err(StoreError::Name {
            what,
            name: name.to_owned(),
            why,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn attempts_are_private_and_leave_nothing() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let one = store.stage_directory().unwrap();
        let two = store.stage_directory().unwrap();
        assert_ne!(one.path(), two.path());
        fs::write(one.path().join("file"), "x").unwrap();
        // A second store on the same directory must not take what is alive.
        let _other = Store::open(root.path()).unwrap();
        assert!(one.path().join("file").exists());
        drop((one, two));
        assert_eq!(list(&root.path().join("attempts")).unwrap(), [""; 0]);
    }

    #[test]
    fn what_a_dead_process_left_is_removed_at_the_next_opening() {
        let root = tempfile::tempdir().unwrap();
        drop(Store::open(root.path()).unwrap());
        let attempts = root.path().join("attempts");
        fs::create_dir_all(attempts.join("1-0/samples")).unwrap();
        fs::write(attempts.join("1-0/samples/half"), "x").unwrap();
        fs::write(attempts.join("1-0.lock"), "").unwrap();
        fs::create_dir(attempts.join("2-7")).unwrap();
        fs::write(attempts.join("3-1.lock"), "").unwrap();
        let store = Store::open(root.path()).unwrap();
        assert_eq!(list(&attempts).unwrap(), [""; 0]);
        assert_eq!(store.artifacts().unwrap(), []);
    }

    #[test]
    fn runs_are_kept_apart_even_within_one_instant() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let first = store
            .write_run("quick", "2026-01-02T03:04:05Z", &json!({ "n": 1 }))
            .unwrap();
        let second = store
            .write_run("quick", "2026-01-02T03:04:05Z", &json!({ "n": 2 }))
            .unwrap();
        let later = store
            .write_run("quick", "2026-01-03T03:04:05Z", &json!({ "n": 3 }))
            .unwrap();
        assert_ne!(first, second);
        let runs = store.runs("quick").unwrap();
        assert_eq!(runs, [first, second.clone(), later]);
        assert_eq!(store.read_run(&second).unwrap(), json!({ "n": 2 }));
        assert!(store.runs("other").unwrap().is_empty());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        for name in ["..", "a/b", "", ".hidden", "a\nb"] {
            assert!(
                store.write_run(name, "now", &json!({})).is_err(),
                "{name:?}"
            );
            assert!(store.write_run("p", name, &json!({})).is_err(), "{name:?}");
            assert!(store.runs(name).is_err(), "{name:?}");
        }
    }
}
