//! What `data/SOURCES.yaml` says of a raw file: where it comes from and how to know it is whole.

use std::collections::BTreeMap;
use std::path::Path;

use datasets::SOURCES;
use serde::Deserialize;
use stage::Failure;

/// One entry of `data/SOURCES.yaml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provenance {
    /// What it is.
    pub(crate) title: String,
    /// Data set of the registry that reads it.
    pub(crate) dataset: String,
    /// Official page.
    pub(crate) page: String,
    /// Whom to cite.
    pub(crate) citation: String,
    /// Terms.
    pub(crate) licence: String,
    /// How the files look.
    pub(crate) layout: String,
    /// Records.
    pub(crate) rows: u64,
    /// Files.
    pub(crate) files: Vec<File>,
}

/// One file of an entry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// Path under the data root.
    pub(crate) path: String,
    /// Size.
    pub(crate) bytes: u64,
    /// SHA-256 in hexadecimal digits.
    pub(crate) sha256: String,
}

/// All entries by name.
pub(crate) fn all() -> Result<BTreeMap<String, Provenance>, Failure> {
    stage::yaml::parse(SOURCES, "data/SOURCES.yaml")
}

/// Entry for a data set, preferring one that knows the configured path.
pub(crate) fn find(dataset: &str, path: &str) -> Option<(String, Provenance)> {
    let mut candidates: Vec<(String, Provenance)> = all()
        .ok()?
        .into_iter()
        .filter(|(_, entry)| entry.dataset == dataset)
        .collect();
    let known = candidates.iter().position(|(_, entry)| {
        entry
            .files
            .iter()
            .any(|file| Path::new(&file.path).starts_with(path))
    });
    (!candidates.is_empty()).then(|| candidates.swap_remove(known.unwrap_or(0)))
}

/// The known file at a configured path, or of the name that was missing in a configured folder.
pub(crate) fn file<'a>(entry: &'a Provenance, name: &str) -> Option<&'a File> {
    entry.files.iter().find(|file| {
        Path::new(&file.path)
            .file_name()
            .is_some_and(|known| known == name)
    })
}
