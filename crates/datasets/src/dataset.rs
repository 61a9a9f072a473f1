//! What a source of raw events is, where its rows go, and how the registry describes it.

use std::path::PathBuf;

use seed::Seed;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tables::{Interaction, Item, Judgment, Query, Reject, Truth, User, WriteError};

use crate::raw::RawError;
use crate::sources::REGISTRY;

/// Where the rows of a data set go, a row at a time.
///
/// Every table arrives in the sort order that its declaration in `tables` promises.
pub trait Sink {
    /// Takes one event.
    ///
    /// # Errors
    /// If the table cannot be written; so for all methods.
    fn interaction(&mut self, row: Interaction) -> Result<(), WriteError>;
    /// Takes one item.
    ///
    /// # Errors
    /// If the table cannot be written.
    fn item(&mut self, row: Item) -> Result<(), WriteError>;
    /// Takes one user.
    ///
    /// # Errors
    /// If the table cannot be written.
    fn user(&mut self, row: User) -> Result<(), WriteError>;
    /// Takes one query.
    ///
    /// # Errors
    /// If the table cannot be written.
    fn query(&mut self, row: Query) -> Result<(), WriteError>;
    /// Takes one graded (query, item) pair.
    ///
    /// # Errors
    /// If the table cannot be written.
    fn judgment(&mut self, row: Judgment) -> Result<(), WriteError>;
    /// Takes what is known of one event; for the simulator.
    ///
    /// # Errors
    /// If the table cannot be written.
    fn truth(&mut self, row: Truth) -> Result<(), WriteError>;
    /// Takes one refused record. `class` groups rejects in the audit, such as `negative price`.
    ///
    /// # Errors
    /// If the table cannot be written.
    fn reject(&mut self, class: &'static str, row: Reject) -> Result<(), WriteError>;
    /// Hears how far reading has come, out of the total that was announced: bytes of raw files,
    /// or events of the simulator.
    fn progress(&mut self, done: u64, total: u64);
}

/// Raw files that the configuration names, resolved under the data root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raw {
    /// A single file.
    pub file: Option<PathBuf>,
    /// A folder of files.
    pub folder: Option<PathBuf>,
}

/// What became of the records of one raw file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSummary {
    /// Name of the file, as in `rejects`.
    pub name: String,
    /// Records read; a record may hold several events.
    pub n_records: u64,
    /// Records refused.
    pub n_rejected: u64,
    /// Line and reason of the first refused record.
    pub first_reject: Option<(u64, String)>,
}

/// What became of all records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// One entry for each raw file that holds records.
    pub files: Vec<FileSummary>,
}

impl Summary {
    /// Records read.
    pub fn n_records(&self) -> u64 {
        self.files.iter().map(|file| file.n_records).sum()
    }

    /// Records refused.
    pub fn n_rejected(&self) -> u64 {
        self.files.iter().map(|file| file.n_rejected).sum()
    }
}

/// A source of raw events, ready to be read.
pub trait Dataset {
    /// Checks the parameters against how raw files are named.
    ///
    /// # Errors
    /// If a parameter needs them to be named in another way.
    fn check(&self, _takes: Option<Takes>) -> Result<(), ParameterError> {
        Ok(())
    }

    /// Streams all rows into `sink`. Memory grows with users and items, never with events.
    ///
    /// # Errors
    /// If a raw file is missing or damaged as a whole, or a table cannot be written. A bad record
    /// is a reject, not an error.
    fn read(&self, raw: &Raw, seed: Seed, sink: &mut dyn Sink) -> Result<Summary, DatasetError>;
}

/// A data set could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A raw file is missing or damaged as a whole.
    #[error(transparent)]
    Raw(#[from] RawError),
    /// The sink failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A way to name raw files in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Takes {
    /// `file: <path under the data root>`.
    File,
    /// `folder: <path under the data root>`.
    Folder,
}

/// One parameter of a data set.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Parameter {
    /// Name.
    pub name: &'static str,
    /// Meaning, unit, range.
    pub doc: &'static str,
}

/// What a file in `sources/` implements beside [`Dataset`].
pub(crate) trait Source: Dataset + Sized + 'static {
    /// Name in a configuration.
    const NAME: &'static str;
    /// Raised when the same raw bytes would give other rows.
    const REVISION: u32;
    /// One sentence.
    const DOC: &'static str;
    /// How raw files can be named; empty if there are none.
    const TAKES: &'static [Takes];
    /// All parameters; a test holds them equal to the fields of `Parameters`.
    const PARAMETERS: &'static [Parameter];
    /// Parameters as written: plain structs that deny unknown fields, with a default for each.
    type Parameters: DeserializeOwned + Serialize + Default;
    /// Checks the parameters.
    fn new(parameters: Self::Parameters) -> Result<Self, ParameterError>;
}

/// One data set of the registry.
pub struct Entry {
    /// Name in a configuration.
    pub name: &'static str,
    /// Raised when the same raw bytes would give other rows.
    pub revision: u32,
    /// One sentence.
    pub doc: &'static str,
    /// How raw files can be named: one of these; empty if there are none.
    pub takes: &'static [Takes],
    /// All parameters.
    pub parameters: &'static [Parameter],
    defaults: fn() -> serde_json::Value,
    build: fn(serde_json::Value) -> Result<Box<dyn Dataset>, ParameterError>,
}

impl Entry {
    pub(crate) const fn of<S: Source>() -> Self {
        Self {
            name: S::NAME,
            revision: S::REVISION,
            doc: S::DOC,
            takes: S::TAKES,
            parameters: S::PARAMETERS,
            defaults: defaults::<S>,
            build: build::<S>,
        }
    }

    /// The parameters with their defaults, as a JSON object.
    pub fn defaults(&self) -> serde_json::Value {
        (self.defaults)()
    }

    /// Reads parameters, given as a JSON object, and makes the data set.
    ///
    /// # Errors
    /// If a parameter is unknown, of another type or out of range.
    pub fn build(&self, parameters: serde_json::Value) -> Result<Box<dyn Dataset>, ParameterError> {
        (self.build)(parameters)
    }
}

fn defaults<S: Source>() -> serde_json::Value {
    // Plain structs of numbers, texts and options always have a JSON form.
    serde_json::to_value(S::Parameters::default()).unwrap_or_default()
}

fn build<S: Source>(parameters: serde_json::Value) -> Result<Box<dyn Dataset>, ParameterError> {
    if let serde_json::Value::Object(object) = &parameters {
        for name in object.keys() {
            if !S::PARAMETERS.iter().any(|known| known.name == name) {
                return Err(ParameterError::Unknown {
                    dataset: S::NAME,
                    name: name.clone(),
                    known: S::PARAMETERS.iter().map(|known| known.name).collect(),
                });
            }
        }
        // Every parameter has a default, so one alone shows whether it is the culprit: the
        // message of a type error does not name its field.
        for (name, value) in object {
            let alone = serde_json::json!({ name: value });
            if let Err(source) = serde_json::from_value::<S::Parameters>(alone) {
                return Err(ParameterError::Value {
                    dataset: S::NAME,
                    name: name.clone(),
                    source,
                });
            }
        }
    }
    let parameters =
        serde_json::from_value(parameters).map_err(|source| ParameterError::Value {
            dataset: S::NAME,
            name: "parameters".to_owned(),
            source,
        })?;
    Ok(Box::new(S::new(parameters)?))
}

/// A parameter of a data set is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ParameterError {
    /// No parameter has this name.
    #[error("data set `{dataset}` has no parameter `{name}`")]
    Unknown {
        /// The data set.
        dataset: &'static str,
        /// The unknown name.
        name: String,
        /// All names.
        known: Vec<&'static str>,
    },
    /// A value of another type.
    #[error("parameter `{name}` of data set `{dataset}` cannot be read")]
    Value {
        /// The data set.
        dataset: &'static str,
        /// The parameter.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A value that makes no sense.
    #[error("parameter `{name}` of data set `{dataset}` is {found}, expected {expected}")]
    Range {
        /// The data set.
        dataset: &'static str,
        /// The parameter.
        name: &'static str,
        /// What was given.
        found: String,
        /// What is allowed.
        expected: String,
    },
}

/// The data set of this name.
pub fn find(name: &str) -> Option<&'static Entry> {
    REGISTRY.iter().find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_lists_every_parameter_of_every_data_set() {
        for entry in REGISTRY {
            let defaults = entry.defaults();
            let mut fields: Vec<&str> = defaults
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect();
            let mut listed: Vec<&str> = entry
                .parameters
                .iter()
                .map(|parameter| parameter.name)
                .collect();
            fields.sort_unstable();
            listed.sort_unstable();
            assert_eq!(fields, listed, "{}", entry.name);
            assert!(!entry.doc.is_empty());
            // What is printed as default is accepted as written.
            if let Err(error) = entry.build(defaults) {
                panic!("{}: {error}", entry.name);
            }
        }
    }

    #[test]
    fn names_are_unique_and_found() {
        let mut names: Vec<&str> = REGISTRY.iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), REGISTRY.len());
        assert!(find("simulator").is_some());
        assert!(find("simulater").is_none());
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        let entry = find("simulator").unwrap();
        let build = |json: serde_json::Value| entry.build(json).err().unwrap().to_string();
        assert!(build(serde_json::json!({ "n_event": 3 })).contains("no parameter `n_event`"));
        assert!(build(serde_json::json!({ "n_events": "many" })).contains("`n_events`"));
        assert!(build(serde_json::json!({ "n_events": 5 })).contains("10000"));
    }
}
