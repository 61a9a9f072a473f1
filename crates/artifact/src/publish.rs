//! From a private directory to an artifact: durable, atomic, read-only.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::digest::ArtifactId;
use crate::durable::{
    READ_ONLY_DIRECTORY, READ_ONLY_FILE, create_directory, remove_tree, rename_directory, set_mode,
    sync_directory, write_new,
};
use crate::fault::FileError;
use crate::manifest::{MANIFEST, Manifest, ManifestFile};
use crate::store::Store;
use crate::tree::{Rules, TreeError, hash, open, walk};
use crate::verify::OpenError;

/// Why a directory cannot become an artifact.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The file system said no.
    #[error(transparent)]
    File(#[from] FileError),
    /// It holds something that an artifact cannot hold.
    #[error("failed to publish an artifact of kind `{kind}`")]
    Tree {
        /// Kind of the artifact.
        kind: String,
        /// What it holds.
        #[source]
        source: TreeError,
    },
    /// It holds a file with the manifest's name.
    #[error("`{}` would hide the manifest", path.display())]
    Reserved {
        /// The file.
        path: PathBuf,
    },
    /// The artifact exists and cannot be compared.
    #[error("failed to compare with the artifact that exists")]
    Existing(#[source] OpenError),
}

impl PublishError {
    /// Whether the fault lies in what was to be published, that is, with whoever wrote it. Else it
    /// is that of the disk.
    pub fn is_unfit(&self) -> bool {
        match self {
            Self::File(_) | Self::Existing(_) => false,
            Self::Tree { source, .. } => !matches!(source, TreeError::File(_)),
            Self::Reserved { .. } => true,
        }
    }
}

impl Store {
    /// Makes an artifact of a directory, which must lie on the store's file system and is gone
    /// afterwards. An identical artifact that exists is fine; if it turns out to be damaged, it is
    /// quarantined and replaced.
    ///
    /// Whoever wrote the directory must have ended: the caller owns the process group and has made
    /// sure. Every file is made read-only and durable and is hashed through one descriptor; the
    /// manifest is written last; then the directory is moved into place without replacing anything.
    ///
    /// # Errors
    /// If it is empty, holds anything but files and non-empty directories, or cannot be written.
    pub fn publish(&self, directory: &Path, kind: &str) -> Result<ArtifactId, PublishError> {
        let in_kind = |source| PublishError::Tree {
            kind: kind.to_owned(),
            source,
        };
        let reserved = directory.join(MANIFEST);
        if fs::symlink_metadata(&reserved).is_ok() {
            return Err(PublishError::Reserved { path: reserved });
        }
        let tree = walk(directory, Rules::Output).map_err(in_kind)?;
        let mut files = Vec::with_capacity(tree.files.len());
        for leaf in tree.files {
            let file = open(&leaf.path, Rules::Output).map_err(in_kind)?;
            file.set_permissions(Permissions::from_mode(READ_ONLY_FILE))
                .map_err(FileError::of("set permissions of", &leaf.path))?;
            file.sync_all().map_err(FileError::of("sync", &leaf.path))?;
            let hashes = hash(&file, &leaf.path, true).map_err(in_kind)?;
            // Always there: it was asked for.
            let Some(sha256) = hashes.sha256 else {
                continue;
            };
            files.push(ManifestFile {
                path: leaf.name,
                length: hashes.length,
                blake3: hashes.blake3,
                sha256,
            });
        }
        let manifest = Manifest::new(kind, files);
        write_new(&reserved, manifest.to_text().as_bytes(), READ_ONLY_FILE)?;
        for path in &tree.directories {
            if path != directory {
                set_mode(path, READ_ONLY_DIRECTORY)?;
            }
            sync_directory(path)?;
        }
        self.install(directory, manifest.id())?;
        self.mark_verified(manifest.id());
        Ok(manifest.id())
    }

    fn install(&self, directory: &Path, id: ArtifactId) -> Result<(), PublishError> {
        let object = self.object_path(id);
        let group = object.parent().unwrap_or(&object);
        create_directory(group)?;
        while !rename_directory(directory, &object)? {
            match self.verify_or_quarantine(id) {
                Ok(()) => {
                    // Whoever published it may have been killed before this.
                    protect(&object)?;
                    return Ok(remove_tree(directory)?);
                }
                // Out of the way, by us or by another process.
                Err(OpenError::Quarantined { .. } | OpenError::Missing { .. }) => {}
                Err(error) => return Err(PublishError::Existing(error)),
            }
        }
        // A directory can only be moved while it can be written to.
        protect(&object)?;
        Ok(sync_directory(group)?)
    }
}

/// Makes an artifact's directory read-only; fine if another process has put it aside meanwhile.
fn protect(object: &Path) -> Result<(), FileError> {
    match set_mode(object, READ_ONLY_DIRECTORY) {
        Err(error) if error.source.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
