//! Walking a directory strictly and hashing what lies in it.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::digest::{ContentHash, Sha256Hash};
use crate::fault::FileError;

/// Bytes read at once: large enough for the hash's widest vector code.
const BLOCK_BYTES: usize = 256 * 1024;

/// Deepest nesting of directories that is followed.
const MAX_DEPTH: usize = 64;

/// Why something cannot be hashed or stored.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The file system said no.
    #[error(transparent)]
    File(#[from] FileError),
    /// A symbolic link where only files and directories may be.
    #[error("`{}` is a symbolic link", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// A device, socket or pipe.
    #[error("`{}` is neither a file nor a directory", path.display())]
    FileType {
        /// It.
        path: PathBuf,
    },
    /// A name that does not travel between machines, or that could lead elsewhere.
    #[error("`{}` has a name that cannot be kept: {why}", path.display())]
    Name {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with the name.
        why: &'static str,
    },
    /// A directory with nothing in it, which a list of files cannot hold.
    #[error("directory `{}` is empty", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// A file that can also be written under another name.
    #[error("`{}` has a second name (a hard link)", path.display())]
    HardLink {
        /// The file.
        path: PathBuf,
    },
    /// A file that changed while it was hashed.
    #[error("`{}` changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Directories nested too deeply, or links that lead in a circle.
    #[error("`{}` is nested more than {MAX_DEPTH} directories deep", path.display())]
    Depth {
        /// The directory.
        path: PathBuf,
    },
}

/// What a walk accepts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    /// A stage's output: plain files and non-empty directories.
    Output,
    /// An object of the store: as an output, but an empty directory or second name is damage that
    /// the comparison with the manifest reports or that cannot change bytes.
    Object,
    /// Raw data: links are followed, since model and data folders are often made of them.
    Raw,
}

/// One file of a tree.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// Path from the root, parts separated by `/`.
    pub(crate) name: String,
    /// Where it lies.
    pub(crate) path: PathBuf,
}

/// The files and directories under a root.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Sorted by name as bytes.
    pub(crate) files: Vec<Leaf>,
    /// Children before their parents, the root last.
    pub(crate) directories: Vec<PathBuf>,
}

/// Lists what lies under `root`, in an order that depends on names alone.
pub(crate) fn walk(root: &Path, rules: Rules) -> Result<Tree, TreeError> {
    let mut tree = Tree::default();
    descend(root, "", rules, 0, &mut tree)?;
    tree.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tree)
}

fn descend(
    directory: &Path,
    prefix: &str,
    rules: Rules,
    depth: usize,
    tree: &mut Tree,
) -> Result<(), TreeError> {
    let failed = |action| FileError::of(action, directory);
    if depth > MAX_DEPTH {
        return Err(TreeError::Depth {
            path: directory.to_owned(),
        });
    }
    let mut is_empty = true;
    for entry in fs::read_dir(directory).map_err(failed("list"))? {
        let entry = entry.map_err(failed("list"))?;
        is_empty = false;
        let path = entry.path();
        let file_name = entry.file_name();
        let name = match file_name.to_str().map(|name| (name, unfit(name))) {
            Some((name, None)) => format!("{prefix}{name}"),
            Some((_, Some(why))) => return Err(TreeError::Name { path, why }),
            None => {
                return Err(TreeError::Name {
                    path,
                    why: "it is not UTF-8",
                });
            }
        };
        let metadata = if rules == Rules::Raw {
            fs::metadata(&path)
        } else {
            fs::symlink_metadata(&path)
        }
        .map_err(FileError::of("inspect", &path))?;
        let kind = metadata.file_type();
        if kind.is_symlink() {
            return Err(TreeError::Symlink { path });
        } else if kind.is_dir() {
            descend(&path, &format!("{name}/"), rules, depth + 1, tree)?;
        } else if !kind.is_file() {
            return Err(TreeError::FileType { path });
        } else if rules == Rules::Output && metadata.nlink() > 1 {
            return Err(TreeError::HardLink { path });
        } else {
            tree.files.push(Leaf { name, path });
        }
    }
    if is_empty && rules == Rules::Output {
        return Err(TreeError::Empty {
            path: directory.to_owned(),
        });
    }
    tree.directories.push(directory.to_owned());
    Ok(())
}

/// Why a single part of a path cannot be kept; `None` if it can.
pub(crate) fn unfit(part: &str) -> Option<&'static str> {
    match part {
        "" => Some("it is empty"),
        "." | ".." => Some("it leads elsewhere"),
        _ if part.contains(['/', '\\']) => Some("it holds a separator of paths"),
        _ if part.chars().any(char::is_control) => Some("it holds a control character"),
        _ => None,
    }
}

/// Length and hashes of one file, from one pass over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hashes {
    pub(crate) length: u64,
    pub(crate) blake3: ContentHash,
    /// Only where it was asked for.
    pub(crate) sha256: Option<Sha256Hash>,
}

/// Opens a file for reading; a link is refused unless the rules follow links.
pub(crate) fn open(path: &Path, rules: Rules) -> Result<File, TreeError> {
    let flags = if rules == Rules::Raw {
        rustix::fs::OFlags::empty()
    } else {
        rustix::fs::OFlags::NOFOLLOW
    };
    OpenOptions::new()
        .read(true)
        .custom_flags(i32::from_ne_bytes(flags.bits().to_ne_bytes()))
        .open(path)
        .map_err(|error| FileError::of("open", path)(error).into())
}

/// Hashes an open file in one pass and refuses one that changes meanwhile.
pub(crate) fn hash(mut file: &File, path: &Path, with_sha256: bool) -> Result<Hashes, TreeError> {
    let state = || {
        file.metadata()
            .map(|data| (data.len(), data.mtime(), data.mtime_nsec(), data.is_file()))
            .map_err(FileError::of("inspect", path))
    };
    let before = state()?;
    if !before.3 {
        return Err(TreeError::FileType {
            path: path.to_owned(),
        });
    }
    let mut blake3 = blake3::Hasher::new();
    let mut sha256 = with_sha256.then(Sha256::new);
    let mut block = vec![0; BLOCK_BYTES];
    let mut length = 0;
    loop {
        let n = match file.read(&mut block) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(FileError::of("read", path)(error).into()),
        };
        blake3.update(&block[..n]);
        if let Some(sha256) = &mut sha256 {
            sha256.update(&block[..n]);
        }
        length += n as u64;
    }
    if state()? != before || length != before.0 {
        return Err(TreeError::Changed {
            path: path.to_owned(),
        });
    }
    Ok(Hashes {
        length,
        blake3: ContentHash::from_bytes(*blake3.finalize().as_bytes()),
        sha256: sha256.map(|hasher| Sha256Hash::from_bytes(hasher.finalize().into())),
    })
}

/// Digest of a list of files, each with its length and hash; they must be sorted by name.
pub(crate) fn digest_of_list<'a>(
    files: impl IntoIterator<Item = (&'a str, u64, ContentHash)>,
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (name, length, hash) in files {
        hasher.update(format!("{name}\t{length}\t{hash}\n").as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// Hashes a raw file, or a raw folder, by content alone: streaming, and indifferent to where it
/// lies, to times and to permissions.
///
/// A file gives the BLAKE3 of its bytes. A folder gives the BLAKE3 of a list like that of an
/// [`ArtifactId`](crate::ArtifactId), over all its files; links are followed, empty folders do not
/// count.
///
/// # Errors
/// If something cannot be read, is neither file nor folder, has an unfit name, or changes while
/// it is read.
pub fn hash_path(path: &Path) -> Result<ContentHash, TreeError> {
    let metadata = fs::metadata(path).map_err(FileError::of("inspect", path))?;
    if !metadata.is_dir() {
        if !metadata.is_file() {
            return Err(TreeError::FileType {
                path: path.to_owned(),
            });
        }
        return Ok(hash(&open(path, Rules::Raw)?, path, false)?.blake3);
    }
    let tree = walk(path, Rules::Raw)?;
    let mut hashes = Vec::with_capacity(tree.files.len());
    for leaf in &tree.files {
        hashes.push(hash(&open(&leaf.path, Rules::Raw)?, &leaf.path, false)?);
    }
    let list = tree.files.iter().zip(&hashes);
    Ok(ContentHash::from_bytes(digest_of_list(list.map(
        |(leaf, hashes)| (leaf.name.as_str(), hashes.length, hashes.blake3),
    ))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_file_hashes_to_the_blake3_of_its_bytes() {
        let root = folder(&[("a", "abc")]);
        let hash = hash_path(&root.path().join("a")).unwrap();
        assert_eq!(hash, ContentHash::of(b"abc"));
    }

    #[test]
    fn a_folder_hashes_by_content_and_names_alone() {
        let one = folder(&[("x/b", "2"), ("a", "1")]);
        let two = folder(&[("a", "1"), ("x/b", "2")]);
        let touched = File::options()
            .write(true)
            .open(two.path().join("a"))
            .unwrap();
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
        touched.set_modified(long_ago).unwrap();
        fs::create_dir(two.path().join("empty")).unwrap();
        let hash = hash_path(one.path()).unwrap();
        assert_eq!(hash, hash_path(two.path()).unwrap());
        let list = format!(
            "a\t1\t{}\nx/b\t1\t{}\n",
            ContentHash::of(b"1"),
            ContentHash::of(b"2")
        );
        assert_eq!(hash, ContentHash::of(list.as_bytes()));
        for other in [
            folder(&[("a", "1"), ("x/c", "2")]),
            folder(&[("a", "2"), ("x/b", "1")]),
            folder(&[("a", "1")]),
            folder(&[("a", "1"), ("x/b", "2"), ("y", "")]),
        ] {
            assert_ne!(hash, hash_path(other.path()).unwrap());
        }
    }

    #[test]
    fn links_in_raw_folders_are_followed_but_not_in_circles() {
        let real = folder(&[("a", "1"), ("x/b", "2")]);
        let linked = folder(&[("a", "1")]);
        symlink(real.path().join("x"), linked.path().join("x")).unwrap();
        assert_eq!(
            hash_path(real.path()).unwrap(),
            hash_path(linked.path()).unwrap()
        );
        symlink(linked.path(), linked.path().join("me")).unwrap();
        assert!(hash_path(linked.path()).is_err());
    }

    #[test]
    fn what_is_not_there_is_named() {
        let root = folder(&[]);
        let message = hash_path(&root.path().join("missing"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("missing"), "{message}");
    }

    #[test]
    fn outputs_hold_files_and_directories_only() {
        let root = folder(&[("a", "1")]);
        let at = |name: &str| root.path().join(name);
        assert!(walk(root.path(), Rules::Output).is_ok());
        symlink(at("a"), at("link")).unwrap();
        let error = walk(root.path(), Rules::Output).unwrap_err();
        assert!(matches!(&error, TreeError::Symlink { path } if *path == at("link")));
        fs::remove_file(at("link")).unwrap();

        fs::hard_link(at("a"), at("twin")).unwrap();
        let error = walk(root.path(), Rules::Output).unwrap_err();
        assert!(matches!(error, TreeError::HardLink { .. }));
        fs::remove_file(at("twin")).unwrap();

        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let error = walk(root.path(), Rules::Output).unwrap_err();
        assert!(matches!(error, TreeError::FileType { .. }));
        fs::remove_file(at("socket")).unwrap();

        for name in ["with\nnewline", "with\ttab", "back\\slash"] {
            fs::write(at(name), "").unwrap();
            let error = walk(root.path(), Rules::Output).unwrap_err();
            assert!(matches!(error, TreeError::Name { .. }), "{name:?}");
            fs::remove_file(at(name)).unwrap();
        }

        fs::create_dir(at("empty")).unwrap();
        let error = walk(root.path(), Rules::Output).unwrap_err();
        assert!(matches!(error, TreeError::Empty { .. }));
    }
}
