//! Making changes survive a power cut, and moving directories without replacing any.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::fault::FileError;

/// Permissions of published files.
pub(crate) const READ_ONLY_FILE: u32 = 0o444;
/// Permissions of published directories.
pub(crate) const READ_ONLY_DIRECTORY: u32 = 0o555;
/// Permissions of directories that are still worked on.
pub(crate) const WRITABLE_DIRECTORY: u32 = 0o755;

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), FileError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(FileError::of("sync", path))
}

/// Creates a directory and makes its name durable; fine if it exists.
pub(crate) fn create_directory(path: &Path) -> Result<(), FileError> {
    match fs::create_dir(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_directory),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(FileError::of("create directory", path)(error)),
    }
}

/// Sets the permission bits of a path.
pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), FileError> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(FileError::of("set permissions of", path))
}

/// Writes a new file and makes its content durable, though not yet its name.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    };
    write().map_err(FileError::of("write", path))
}

/// Renames a directory; `false` if something stands at the destination. The caller syncs parents.
pub(crate) fn rename_directory(from: &Path, to: &Path) -> Result<bool, FileError> {
    let taken = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
        )
    };
    let renamed = match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system does not know the flag. A plain rename of a directory replaces an empty
        // directory at most, and nothing here is ever published empty.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::rename(from, to),
        other => other.map_err(io::Error::from),
    };
    match renamed {
        Ok(()) => Ok(true),
        Err(error) if taken(&error) => Ok(false),
        Err(error) => Err(FileError::of("move into the store", from)(error)),
    }
}

/// Removes a directory and all in it, read-only parts too; fine if it does not exist.
///
/// # Errors
/// If something cannot be removed.
pub fn remove_tree(path: &Path) -> Result<(), FileError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::of("inspect", path)(error)),
        Ok(metadata) if !metadata.is_dir() => {
            return fs::remove_file(path).map_err(FileError::of("remove", path));
        }
        Ok(_) => {}
    }
    set_mode(path, WRITABLE_DIRECTORY)?;
    for entry in fs::read_dir(path).map_err(FileError::of("list", path))? {
        let entry = entry.map_err(FileError::of("list", path))?;
        remove_tree(&entry.path())?;
    }
    fs::remove_dir(path).map_err(FileError::of("remove", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_never_replaced() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for name in ["a", "b"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("file"), name).unwrap();
        }
        assert!(!rename_directory(&at("a"), &at("b")).unwrap());
        assert_eq!(fs::read_to_string(at("b/file")).unwrap(), "b");
        assert!(rename_directory(&at("a"), &at("c")).unwrap());
        assert_eq!(fs::read_to_string(at("c/file")).unwrap(), "a");
    }

    #[test]
    fn read_only_trees_can_be_removed() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        fs::create_dir_all(tree.join("inner")).unwrap();
        fs::write(tree.join("inner/file"), "x").unwrap();
        set_mode(&tree.join("inner"), READ_ONLY_DIRECTORY).unwrap();
        set_mode(&tree, READ_ONLY_DIRECTORY).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        remove_tree(&tree).unwrap();
    }
}
