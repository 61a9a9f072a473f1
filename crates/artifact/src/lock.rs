//! Locks that end with their process: `flock` on a file that its holder removes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::fault::FileError;

/// An exclusive lock, let go when dropped or when the process ends in any way.
///
/// Two locks on one path exclude each other between processes and within one.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    // Closing it lets go.
    _file: File,
}

impl Lock {
    /// Waits until the lock is free and takes it.
    pub(crate) fn wait(path: &Path) -> Result<Self, FileError> {
        loop {
            let file = open(path)?;
            file.lock().map_err(FileError::of("lock", path))?;
            if let Some(lock) = Self::if_named(path, file)? {
                return Ok(lock);
            }
        }
    }

    /// Takes the lock if it is free.
    pub(crate) fn attempt(path: &Path) -> Result<Option<Self>, FileError> {
        loop {
            let file = open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(FileError::of("lock", path)(error)),
            }
            if let Some(lock) = Self::if_named(path, file)? {
                return Ok(Some(lock));
            }
        }
    }

    /// The holder before us may have removed the file between our opening and our locking it: a
    /// lock on a file without a name excludes nobody.
    fn if_named(path: &Path, file: File) -> Result<Option<Self>, FileError> {
        let failed = || FileError::of("inspect", path);
        let ours = file.metadata().map_err(failed())?;
        match fs::metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => Ok(Some(Self {
                path: path.to_owned(),
                _file: file,
            })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed()(error)),
        }
    }
}

fn open(path: &Path) -> Result<File, FileError> {
    // The descriptor is closed in child processes, so none of them keeps the lock.
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(FileError::of("open", path))
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still held; whoever waits on it finds it nameless and starts anew.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_held_lock_excludes_and_a_dropped_one_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let held = Lock::wait(&path).unwrap();
        assert!(Lock::attempt(&path).unwrap().is_none());
        drop(held);
        assert!(!path.exists());
        assert!(Lock::attempt(&path).unwrap().is_some());
    }

    #[test]
    fn many_threads_take_turns() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let inside = AtomicU32::new(0);
        let turns = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _lock = Lock::wait(&path).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        turns.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(turns.into_inner(), 400);
    }
}
