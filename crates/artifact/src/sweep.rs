//! Taking things out of a store: who uses it, what it holds, and removing what nobody needs.
//!
//! Whoever runs a pipeline *holds* the store, together with others; whoever removes from it holds it
//! alone. So nothing disappears between its publication and the record that names it. Both are
//! kernel locks: they end with their process, and nobody has to unlock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;

use crate::digest::{ArtifactId, KeyId};
use crate::durable::{WRITABLE_DIRECTORY, set_mode, sync_directory};
use crate::fault::FileError;
use crate::record::{Record, RecordError};
use crate::store::{Store, StoreError, list};

/// A share in the use of a store, given up when dropped or when the process ends in any way.
#[derive(Debug)]
pub struct Hold {
    // Closing it lets go. `None` where nothing can be written, and so nothing removed.
    _file: Option<File>,
}

/// The right to remove: nobody else uses the store. Given up as [`Hold`] is.
#[derive(Debug)]
pub struct Sole {
    _file: File,
}

/// Name of the file whose locks say who uses the store.
const IN_USE: &str = "in-use.lock";

impl Store {
    /// Uses the store beside others; waits while somebody removes from it.
    ///
    /// # Errors
    /// If the lock cannot be taken.
    pub fn hold(&self) -> Result<Hold, FileError> {
        let path = self.area(IN_USE);
        let file = match open(&path) {
            Ok(file) => file,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
                ) =>
            {
                return Ok(Hold { _file: None });
            }
            Err(error) => return Err(FileError::of("open", &path)(error)),
        };
        file.lock_shared().map_err(FileError::of("lock", &path))?;
        Ok(Hold { _file: Some(file) })
    }

    /// Uses the store alone; `None` if somebody uses it.
    ///
    /// # Errors
    /// If the lock cannot be taken.
    pub fn hold_alone(&self) -> Result<Option<Sole>, FileError> {
        let path = self.area(IN_USE);
        let file = open(&path).map_err(FileError::of("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Sole { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(FileError::of("lock", &path)(error)),
        }
    }

    /// The names of all records of a stage, in their order.
    ///
    /// # Errors
    /// If the store cannot be listed.
    pub fn record_ids(&self, stage: &str) -> Result<Vec<KeyId>, FileError> {
        let names = list(&self.area("keys").join(stage))?;
        Ok(names
            .iter()
            .filter_map(|name| name.strip_suffix(".json")?.parse().ok())
            .collect())
    }

    /// The record of one key by its name; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read or was damaged; a damaged one is put aside first.
    pub fn record_of(&self, stage: &str, id: KeyId) -> Result<Option<Record>, RecordError> {
        self.read_record(stage, id)
    }

    /// Removes an artifact: it disappears at once, whole.
    ///
    /// # Errors
    /// If it cannot be moved or removed.
    pub fn remove_artifact(&self, id: ArtifactId, _sole: &Sole) -> Result<(), StoreError> {
        let path = self.object_path(id);
        if !path.is_dir() {
            return Ok(());
        }
        let attempt = self.stage_directory()?;
        // A directory can only be moved while it can be written to.
        set_mode(&path, WRITABLE_DIRECTORY)?;
        let to = attempt.path().join("removed");
        fs::rename(&path, &to).map_err(FileError::of("remove", &path))?;
        if let Some(group) = path.parent() {
            sync_directory(group)?;
        }
        Ok(())
    }

    /// Removes the record of a key, and other results of the same key that were kept beside it.
    ///
    /// # Errors
    /// If they cannot be removed.
    pub fn remove_record(&self, stage: &str, id: KeyId, _sole: &Sole) -> Result<(), FileError> {
        let folder = self.area("keys").join(stage);
        let name = id.to_string();
        for file in list(&folder)? {
            let rest = file
                .strip_prefix(&name)
                .and_then(|rest| rest.strip_suffix(".json"));
            if rest.is_some() {
                let path = folder.join(file);
                fs::remove_file(&path).map_err(FileError::of("remove", &path))?;
            }
        }
        sync_directory(&folder)
    }

    /// Keys whose killed computations left something to go on from, with its size in bytes.
    ///
    /// # Errors
    /// If the store cannot be listed.
    pub fn progress(&self) -> Result<Vec<(KeyId, u64)>, FileError> {
        let folder = self.area("resume");
        let mut found = Vec::new();
        for name in list(&folder)? {
            if let Ok(id) = name.parse() {
                found.push((id, size_of(&folder.join(name))?));
            }
        }
        Ok(found)
    }

    /// Removes what a killed computation left to go on from: it will start anew.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove_progress(&self, id: KeyId, _sole: &Sole) -> Result<(), FileError> {
        crate::durable::remove_tree(&self.area("resume").join(id.to_string()))
    }

    /// Names of the pipelines that were run.
    ///
    /// # Errors
    /// If the store cannot be listed.
    pub fn pipelines(&self) -> Result<Vec<String>, FileError> {
        list(&self.area("runs"))
    }

    /// Bytes that the files of an artifact take, its manifest among them.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub fn size(&self, id: ArtifactId) -> Result<u64, FileError> {
        size_of(&self.object_path(id))
    }
}

fn open(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

fn size_of(path: &std::path::Path) -> Result<u64, FileError> {
    let metadata = fs::symlink_metadata(path).map_err(FileError::of("inspect", path))?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut n_bytes = 0;
    for name in list(path)? {
        n_bytes += size_of(&path.join(name))?;
    }
    Ok(n_bytes)
}
