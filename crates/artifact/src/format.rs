//! The version of the store's layout: `format.json` at its root.
//!
//! ```json
//! {
//!   "format": 1,
//!   "store": "touchstone"
//! }
//! ```
//!
//! It is read before anything else and written, once, when a store is created; a store without it
//! was made before there was one and is given it. Fields that a later version may add are ignored:
//! the number alone says whether the rest can be understood.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::fault::FileError;
use crate::store::Store;

/// Version of the store's layout that this version reads and writes.
pub const STORE_FORMAT: u32 = 1;

/// Name of the file that says which layout a store has.
pub(crate) const FORMAT_FILE: &str = "format.json";

/// What the file calls a store of ours.
const NAME: &str = "touchstone";

/// Why a directory is not a store that can be opened.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The file system said no.
    #[error(transparent)]
    File(#[from] FileError),
    /// A newer version made it.
    #[error(
        "the store `{}` has format {found}, this version knows {STORE_FORMAT}",
        root.display()
    )]
    Newer {
        /// The store.
        root: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Its format cannot be made out.
    #[error("`{}` does not say which format the store has: {why}", path.display())]
    Unclear {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl FormatError {
    /// What can be done about it; `None` if the error says all.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(_) => None,
            Self::Newer { .. } => Some(
                "use the `touchstone` that made it, or name another store with `--store DIR`"
                    .to_owned(),
            ),
            Self::Unclear { path, .. } => Some(format!(
                "if a store lies there, remove `{}`: it is written anew; else name another store with `--store DIR`",
                path.display()
            )),
        }
    }
}

#[derive(Deserialize)]
struct Written {
    format: u32,
    store: String,
}

/// Checks that a directory is no store of another version. `false` if it does not say.
pub(crate) fn check(root: &Path) -> Result<bool, FormatError> {
    let path = root.join(FORMAT_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(FileError::of("read", &path)(error).into()),
    };
    let unclear = |why: String| FormatError::Unclear {
        path: path.clone(),
        why,
    };
    let written: Written =
        serde_json::from_slice(&bytes).map_err(|error| unclear(error.to_string()))?;
    if written.store != NAME {
        return Err(unclear(format!(
            "it is a store of `{}`",
            written.store.escape_default()
        )));
    }
    match written.format {
        STORE_FORMAT => Ok(true),
        0 => Err(unclear("there is no format 0".to_owned())),
        found => Err(FormatError::Newer {
            root: root.to_owned(),
            found,
        }),
    }
}

impl Store {
    /// Writes down which layout this store has.
    pub(crate) fn write_format(&self) -> Result<(), crate::StoreError> {
        let text = serde_json::json!({ "format": STORE_FORMAT, "store": NAME });
        self.replace_file(&self.area(FORMAT_FILE), &format!("{text:#}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreError;

    fn refusal(text: &str) -> FormatError {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(FORMAT_FILE), text).unwrap();
        let Err(StoreError::Format(error)) = Store::open(root.path()) else {
            panic!("{text:?} was opened");
        };
        let names: Vec<_> = fs::read_dir(root.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is made of what is not understood");
        error
    }

    #[test]
    fn a_new_store_says_its_format_and_an_old_one_is_given_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store");
        let file = path.join(FORMAT_FILE);
        let store = Store::open(&path).unwrap();
        let text = "{\n  \"format\": 1,\n  \"store\": \"touchstone\"\n}\n";
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        fs::remove_file(&file).unwrap();
        store
            .write_run("quick", "now", &serde_json::json!({}))
            .unwrap();
        let again = Store::open(&path).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        assert_eq!(again.runs("quick").unwrap().len(), 1);
    }

    #[test]
    fn a_newer_store_is_refused_and_left_as_it_is() {
        let error = refusal("{ \"format\": 2, \"store\": \"touchstone\", \"also\": [] }");
        assert!(matches!(error, FormatError::Newer { found: 2, .. }));
        assert!(error.to_string().contains("has format 2"), "{error}");
        assert!(error.hint().unwrap().contains("--store DIR"));
    }

    #[test]
    fn a_format_that_cannot_be_made_out_is_not_guessed() {
        for text in [
            "",
            "{ \"form",
            "{ \"format\": 0, \"store\": \"touchstone\" }",
            "{ \"format\": -1, \"store\": \"touchstone\" }",
            "{ \"format\": 1, \"store\": \"another\" }",
            "{ \"format\": 1 }",
            "\u{1}",
        ] {
            let error = refusal(text);
            assert!(matches!(error, FormatError::Unclear { .. }), "{text:?}");
            assert!(error.hint().unwrap().contains(FORMAT_FILE));
        }
    }
}
