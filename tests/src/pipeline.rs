//! A pipeline in a folder of its own: written, edited, run, and looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

use artifact::{ArtifactId, Store};

use crate::folder::Folder;
use crate::outcome::Outcome;

/// A pipeline file, raw data and a store.
#[derive(Debug, Default)]
pub struct Pipeline {
    folder: Folder,
    options: Vec<String>,
}

/// What one run of `touchstone run` did.
#[derive(Clone, Debug)]
pub struct Run {
    outcome: Outcome,
    executed: Vec<String>,
}

impl Deref for Run {
    type Target = Outcome;

    fn deref(&self) -> &Outcome {
        &self.outcome
    }
}

const FILE: &str = "pipeline.yaml";

impl Pipeline {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the pipeline file.
    #[must_use]
    pub fn yaml(self, text: &str) -> Self {
        self.folder.write(FILE, text);
        self
    }

    /// Takes one of the project's own pipelines.
    ///
    /// # Panics
    /// If there is none of that name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        let path = format!("{}/../pipelines/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(&path).expect("the project has this pipeline");
        self.yaml(&text)
    }

    /// Writes a raw file under the data root.
    #[must_use]
    pub fn raw(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.folder.write(&format!("data/{name}"), content);
        self
    }

    /// Adds an option to every `touchstone run`.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// The folder that it lives in.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Replaces a text that stands in the pipeline file exactly once.
    ///
    /// # Panics
    /// If it does not stand there exactly once.
    pub fn edit(&self, old: &str, new: &str) -> &Self {
        let path = self.folder.join(FILE);
        let text = fs::read_to_string(&path).expect("pipeline file can be read");
        assert_eq!(text.matches(old).count(), 1, "`{old}` in\n{text}");
        self.folder.write(FILE, text.replace(old, new));
        self
    }

    /// `touchstone SUBCOMMAND pipeline.yaml ARGUMENTS`.
    pub fn touchstone(&self, subcommand: &str, arguments: &[&str]) -> Outcome {
        let mut all = vec![subcommand];
        all.extend(arguments);
        self.folder.call("touchstone", &all)
    }

    /// `touchstone run` to its end.
    pub fn run(&self) -> Run {
        self.run_with(&[])
    }

    /// `touchstone run` with further arguments.
    pub fn run_with(&self, arguments: &[&str]) -> Run {
        let before = self.records();
        let mut all = vec![FILE];
        all.extend(self.options.iter().map(String::as_str));
        all.extend(arguments);
        let outcome = self.touchstone("run", &all);
        let after = self.records();
        let mut executed: Vec<String> = after
            .difference(&before)
            .map(|(stage, ..)| stage.clone())
            .collect();
        executed.sort();
        Run { outcome, executed }
    }

    /// All records with the time they were written: (stage, key, seconds, nanoseconds).
    fn records(&self) -> BTreeSet<(String, String, i64, i64)> {
        use std::os::unix::fs::MetadataExt;
        let mut records = BTreeSet::new();
        let keys = self.folder.join("artifacts/keys");
        for stage in fs::read_dir(keys).into_iter().flatten().flatten() {
            for record in fs::read_dir(stage.path()).into_iter().flatten().flatten() {
                let name = record.file_name().to_string_lossy().into_owned();
                let stage = stage.file_name().to_string_lossy().into_owned();
                if let (Some(key), Ok(metadata)) = (name.strip_suffix(".json"), record.metadata()) {
                    let key = key.to_owned();
                    records.insert((stage, key, metadata.mtime(), metadata.mtime_nsec()));
                }
            }
        }
        records
    }

    /// Its store.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub fn store(&self) -> Store {
        Store::open(self.folder.join("artifacts")).expect("store can be opened")
    }

    /// Unmeasured artifacts by (stage, key, role) as the store's records name them.
    ///
    /// # Panics
    /// If the store cannot be read.
    pub fn artifacts(&self) -> BTreeMap<(String, String, String), ArtifactId> {
        let store = self.store();
        let mut artifacts = BTreeMap::new();
        for stage in store.stages().expect("store can be listed") {
            for record in store.latest_records(&stage).expect("records can be read") {
                for (role, produced) in record.outputs {
                    if !produced.measured {
                        let place = (stage.clone(), record.id.to_string(), role);
                        artifacts.insert(place, produced.id);
                    }
                }
            }
        }
        artifacts
    }

    /// The directory of the only artifact that a stage produced in a role.
    ///
    /// # Panics
    /// If there is none or more than one.
    pub fn only(&self, stage: &str, role: &str) -> PathBuf {
        let ids: BTreeSet<ArtifactId> = self
            .artifacts()
            .into_iter()
            .filter(|((found, _, in_role), _)| found == stage && in_role == role)
            .map(|(_, id)| id)
            .collect();
        assert_eq!(ids.len(), 1, "artifacts in role `{role}` of `{stage}`");
        let store = self.store();
        let id = ids.into_iter().next().expect("there is one");
        store.open_verified(id).expect("artifact is whole")
    }
}

impl Run {
    /// Checks that it did what it was asked to.
    ///
    /// # Panics
    /// If it did not.
    pub fn success(&self) -> &Self {
        self.exits_with(0)
    }

    /// Checks the exit code.
    ///
    /// # Panics
    /// If it is another.
    pub fn exits_with(&self, code: i32) -> &Self {
        assert_eq!(self.outcome.code, Some(code), "{}", self.outcome);
        self
    }

    /// The stages whose nodes were executed, once for each key that was computed, sorted.
    pub fn stages(&self) -> &[String] {
        &self.executed
    }

    /// Checks which stages were executed, in any order, each as often as its nodes were.
    ///
    /// # Panics
    /// If others were.
    pub fn executed(&self, stages: &[&str]) -> &Self {
        let mut wanted: Vec<&str> = stages.to_vec();
        wanted.sort_unstable();
        assert_eq!(self.executed, wanted, "{}", self.outcome);
        self
    }
}
