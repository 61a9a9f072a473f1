//! Raw logs as typed rows: one file per source, a registry, and the simulator among them.
//!
//! A [`Dataset`] reads its raw files once, in order, and streams rows into a [`Sink`]. Nothing is
//! lost on the way: a record becomes at least one row or a reject with line, reason and hint.
//! What no record can repair (a truncated archive, another header) is a [`DatasetError`].
//!
//! Adding a source is one file in `sources/` and two lines in `sources/mod.rs`.

#[cfg(test)]
mod collector;
mod dataset;
mod fields;
mod raw;
mod records;
mod sources;

pub use dataset::{
    Dataset, DatasetError, Entry, FileSummary, Parameter, ParameterError, Raw, Sink, Summary,
    Takes, find,
};
pub use fields::MAX_ID_BYTES;
pub use raw::{RawError, RawErrorKind};
pub use sources::REGISTRY;

/// The text of `data/SOURCES.yaml`: official address, size, checksum and licence of each supported
/// data set, for messages about a missing or damaged file.
pub const SOURCES: &str = include_str!("../../../data/SOURCES.yaml");
