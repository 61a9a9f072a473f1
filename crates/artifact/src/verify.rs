//! Nothing is used before it was read and found whole; what is damaged is put aside, never lost.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use crate::digest::ArtifactId;
use crate::durable::{
    READ_ONLY_DIRECTORY, READ_ONLY_FILE, WRITABLE_DIRECTORY, rename_directory, set_mode,
    sync_directory, write_new,
};
use crate::fault::FileError;
use crate::lock::Lock;
use crate::manifest::{MANIFEST, Manifest, ManifestError};
use crate::store::Store;
use crate::tree::{Rules, TreeError, hash, open, walk};

/// Why an artifact cannot be believed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is not in the store.
    #[error("artifact `{}` is not in the store", id.short())]
    Missing {
        /// The artifact.
        id: ArtifactId,
    },
    /// It is not what its name says.
    #[error("artifact `{}` is damaged: {}", id.short(), damage.join("; "))]
    Damaged {
        /// The artifact.
        id: ArtifactId,
        /// Where it lies.
        path: PathBuf,
        /// What is wrong, one entry for each fault.
        damage: Vec<String>,
    },
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why an artifact cannot be used. After `Missing` and `Quarantined` its producer must run again.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not in the store.
    #[error("artifact `{}` is not in the store", id.short())]
    Missing {
        /// The artifact.
        id: ArtifactId,
    },
    /// It was damaged and has been put aside.
    #[error(
        "artifact `{}` is damaged and was moved to `{}`: {}",
        id.short(), moved_to.display(), damage.join("; ")
    )]
    Quarantined {
        /// The artifact.
        id: ArtifactId,
        /// Where it lies now; beside it, a text says why.
        moved_to: PathBuf,
        /// What is wrong, one entry for each fault.
        damage: Vec<String>,
    },
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Hashes every file of an artifact and compares with its manifest and its name. Always reads;
    /// changes nothing.
    ///
    /// # Errors
    /// If it is missing, differs in a single bit, holds more or less than it should, or cannot be
    /// read.
    pub fn verify(&self, id: ArtifactId) -> Result<(), VerifyError> {
        let path = self.object_path(id);
        let damage = match inspect(id, &path) {
            Ok(damage) => damage,
            // Gone from the start, or put aside by another process meanwhile.
            Err(_) if !path.is_dir() => return Err(VerifyError::Missing { id }),
            Err(error) => return Err(error.into()),
        };
        if damage.is_empty() {
            return Ok(());
        }
        Err(VerifyError::Damaged { id, path, damage })
    }

    /// The directory of an artifact, verified when this process first asks for it. A damaged one is
    /// moved to quarantine: it is never served and never deleted.
    ///
    /// # Errors
    /// If it is missing, was damaged, or cannot be read.
    pub fn open_verified(&self, id: ArtifactId) -> Result<PathBuf, OpenError> {
        let is_known = {
            let verified = self.verified.lock();
            verified
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&id)
        };
        let path = self.object_path(id);
        if !is_known {
            self.verify_or_quarantine(id)?;
            self.mark_verified(id);
        } else if !path.is_dir() {
            return Err(OpenError::Missing { id });
        }
        Ok(path)
    }

    /// The manifest of an artifact, which agrees with itself; the files are not read.
    ///
    /// # Errors
    /// If it cannot be read or contradicts itself.
    pub fn manifest(&self, id: ArtifactId) -> Result<Manifest, ManifestError> {
        Manifest::read(&self.object_path(id))
    }

    pub(crate) fn mark_verified(&self, id: ArtifactId) {
        let verified = self.verified.lock();
        verified.unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// Reads an artifact again, whatever was found before, and puts it aside if it is damaged.
    pub(crate) fn verify_or_quarantine(&self, id: ArtifactId) -> Result<(), OpenError> {
        match self.verify(id) {
            Ok(()) => return Ok(()),
            Err(VerifyError::Missing { id }) => return Err(OpenError::Missing { id }),
            Err(VerifyError::File(error)) => return Err(error.into()),
            Err(VerifyError::Damaged { .. }) => {}
        }
        // Another process may have put it aside and published a good one since: look again, alone.
        let lock_path = self.area("quarantine").join(format!("{id}.lock"));
        let _lock = Lock::wait(&lock_path)?;
        match self.verify(id) {
            Ok(()) => Ok(()),
            Err(VerifyError::Missing { id }) => Err(OpenError::Missing { id }),
            Err(VerifyError::File(error)) => Err(error.into()),
            Err(VerifyError::Damaged { path, damage, .. }) => {
                let moved_to = self.put_aside(id, &path, &damage)?;
                Err(OpenError::Quarantined {
                    id,
                    moved_to,
                    damage,
                })
            }
        }
    }

    fn put_aside(
        &self,
        id: ArtifactId,
        path: &Path,
        damage: &[String],
    ) -> Result<PathBuf, FileError> {
        {
            let verified = self.verified.lock();
            verified.unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
        let moved_to = self.quarantine_path(&id.to_string());
        // A directory can only be moved while it can be written to.
        set_mode(path, WRITABLE_DIRECTORY)?;
        rename_directory(path, &moved_to)?;
        set_mode(&moved_to, READ_ONLY_DIRECTORY)?;
        let mut reason = format!("artifact {id} was found damaged:\n");
        for fault in damage {
            // Writing to a `String` cannot fail.
            let _ = writeln!(reason, "- {fault}");
        }
        write_new(&beside(&moved_to), reason.as_bytes(), READ_ONLY_FILE)?;
        sync_directory(&self.area("quarantine"))?;
        path.parent().map_or(Ok(()), sync_directory)?;
        Ok(moved_to)
    }
}

/// What the name of a reason ends with.
const REASON: &str = ".reason.txt";

/// Where the reason for a quarantine is written.
pub(crate) fn beside(moved_to: &Path) -> PathBuf {
    let mut name = moved_to.as_os_str().to_owned();
    name.push(REASON);
    PathBuf::from(name)
}

/// What is wrong with an artifact; nothing if it is whole.
fn inspect(id: ArtifactId, path: &Path) -> Result<Vec<String>, FileError> {
    let manifest = match Manifest::read(path) {
        Ok(manifest) => manifest,
        Err(ManifestError::File(error)) => match error.source.kind() {
            io::ErrorKind::NotFound if path.is_dir() => {
                return Ok(vec![format!("`{MANIFEST}` is missing")]);
            }
            io::ErrorKind::InvalidData => {
                return Ok(vec![format!("`{MANIFEST}` is not UTF-8")]);
            }
            _ => return Err(error),
        },
        Err(error) => return Ok(vec![format!("`{MANIFEST}`: {error}")]),
    };
    let mut damage = Vec::new();
    if manifest.id() != id {
        damage.push(format!("it is artifact `{}`", manifest.id().short()));
    }
    let tree = match walk(path, Rules::Object) {
        Ok(tree) => tree,
        Err(TreeError::File(error)) => return Err(error),
        Err(error) => return Ok(vec![error.to_string()]),
    };
    let mut present: BTreeMap<&str, &Path> = tree
        .files
        .iter()
        .map(|leaf| (leaf.name.as_str(), leaf.path.as_path()))
        .collect();
    present.remove(MANIFEST);
    for file in manifest.files() {
        let Some(path) = present.remove(file.path.as_str()) else {
            damage.push(format!("`{}` is missing", file.path));
            continue;
        };
        let hashes = match open(path, Rules::Object).and_then(|open| hash(&open, path, false)) {
            Ok(hashes) => hashes,
            Err(TreeError::File(error)) => return Err(error),
            Err(error) => {
                damage.push(error.to_string());
                continue;
            }
        };
        if hashes.length != file.length {
            damage.push(format!(
                "`{}` has {} bytes instead of {}",
                file.path, hashes.length, file.length
            ));
        } else if hashes.blake3 != file.blake3 {
            damage.push(format!("`{}` has other content", file.path));
        }
    }
    for name in present.into_keys() {
        damage.push(format!("`{name}` does not belong to it"));
    }
    Ok(damage)
}

impl Store {
    /// What was put aside because it was damaged.
    ///
    /// # Errors
    /// If the quarantine cannot be listed.
    pub fn quarantined(&self) -> Result<Vec<PathBuf>, FileError> {
        let quarantine = self.area("quarantine");
        let names = crate::store::list(&quarantine)?;
        Ok(names
            .into_iter()
            .filter(|name| {
                [".lock", REASON]
                    .iter()
                    .all(|ending| name.strip_suffix(ending).is_none())
            })
            .map(|name| quarantine.join(name))
            .collect())
    }

    /// Why something was put aside.
    ///
    /// # Errors
    /// If the reason cannot be read.
    pub fn reason(&self, quarantined: &Path) -> Result<String, FileError> {
        let path = beside(quarantined);
        fs::read_to_string(&path).map_err(FileError::of("read", &path))
    }
}
