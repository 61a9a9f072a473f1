//! Artifacts and where they live: ids, keys, manifests, durable publishing, verified reading.
//!
//! An artifact is an immutable directory named by the BLAKE3 of its content, an [`ArtifactId`].
//! A [`Key`] is everything that determines the outputs of a node. A [`Store`] holds artifacts and
//! a [`Record`] for each key that was computed.
//!
//! How a node is run:
//!
//! 1. Make its [`Key`] from the executable, the normalised configuration and the ids of its inputs.
//! 2. [`Store::lookup`]: if there is a record and [`Store::contains`] its artifacts, it is done.
//! 3. Else [`Store::lock`] the key and look again: somebody else may have computed it meanwhile.
//! 4. [`Store::open_verified`] each input. One that is missing or was quarantined must be made again.
//! 5. Run the stage in a [`Store::stage_directory`], [`Store::publish`] each output, and
//!    [`Store::record`] them.
//!
//! Two results of one key are a determinism alarm, [`Recorded::Conflict`]. [`difference`] between
//! two keys says why a node runs again.

pub mod canonical;
mod digest;
mod durable;
mod fault;
mod format;
mod key;
mod lock;
mod manifest;
mod publish;
mod record;
mod store;
mod sweep;
mod tree;
mod verify;

pub use digest::{ArtifactId, ContentHash, KeyId, ParseDigestError, Sha256Hash};
pub use durable::remove_tree;
pub use fault::FileError;
pub use format::{FormatError, STORE_FORMAT};
pub use key::{Difference, KEY_FORMAT, Key, KeyInput, Source, difference};
pub use manifest::{MANIFEST, MANIFEST_FORMAT, Manifest, ManifestError, ManifestFile};
pub use publish::PublishError;
pub use record::{Conflict, KeyLock, Produced, Record, RecordError, Recorded};
pub use store::{Attempt, Store, StoreError};
pub use sweep::{Hold, Sole};
pub use tree::{TreeError, hash_path};
pub use verify::{OpenError, VerifyError};

#[cfg(test)]
mod tests;
