//! Opening a store on behalf of a person: what stands in the way, and what to do about it.

use std::path::Path;

use artifact::{Store, StoreError};
use stage::Failure;

/// Opens a store.
///
/// # Errors
/// If it has another layout, or cannot be created or read.
pub fn store(path: &Path) -> Result<Store, Failure> {
    Store::open(path).map_err(|error| {
        let hint = match &error {
            StoreError::Format(error) => error.hint(),
            StoreError::File(_) => Some("name another store with `--store DIR`".to_owned()),
            StoreError::Name { .. } | StoreError::Json { .. } => None,
        };
        let failure = Failure::environment(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}
