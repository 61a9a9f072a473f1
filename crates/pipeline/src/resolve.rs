//! From a plan to keys: what determines the outputs of a step, and what is known of it already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use artifact::{
    ArtifactId, ContentHash, KEY_FORMAT, Key, KeyId, KeyInput, Produced, Record, RecordError,
    Source, Store,
};
use serde_json::Value as Json;
use stage::{Exit, Failure};

use crate::description::MEASURED;
use crate::fingerprint::Fingerprints;
use crate::grammar::field_of;
use crate::plan::{Plan, Step};

/// What a step produced.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// Its key.
    pub key: KeyId,
    /// Artifacts by output, the runner's own among them.
    pub produced: BTreeMap<String, Produced>,
}

/// What is known of a step without running anything.
#[derive(Debug)]
pub enum State {
    /// It was computed and its artifacts are there.
    UpToDate(Box<Record>),
    /// It must be computed. The record is what this key gave before; its artifacts are gone.
    Stale(Box<Key>, Option<Box<Record>>),
    /// Something that it reads must be computed first.
    Waiting,
    /// A raw file or folder that its configuration names cannot be read.
    Unreadable(Box<Failure>),
    /// It cannot apply.
    NotApplicable,
}

/// Makes keys and looks them up.
#[derive(Debug)]
pub struct Resolver<'a> {
    /// Where artifacts and records lie.
    pub store: &'a Store,
    /// Hashes of what lies outside.
    pub fingerprints: &'a Fingerprints,
    /// Where raw files lie.
    pub data_root: PathBuf,
}

impl Resolver<'_> {
    /// The key of a step whose producers are done; `None` if one is not.
    ///
    /// # Errors
    /// If a raw file cannot be read.
    pub fn key(
        &self,
        plan: &Plan,
        index: usize,
        done: &[Option<Outputs>],
    ) -> Result<Option<Key>, Failure> {
        let step = &plan.steps[index];
        let description = &step.executable.description;
        let mut inputs: BTreeMap<String, Vec<KeyInput>> = BTreeMap::new();
        for input in &step.inputs {
            let Some(outputs) = &done[input.producer] else {
                return Ok(None);
            };
            let source = if input.is_measured {
                Source::Measured(outputs.key)
            } else {
                Source::Artifact(self.output(plan, input.producer, outputs, &input.output)?)
            };
            let label = if input.is_many {
                input.label.to_string()
            } else {
                String::new()
            };
            let given = inputs.entry(input.role.clone()).or_default();
            given.push(KeyInput { label, source });
        }
        for given in inputs.values_mut() {
            given.sort();
        }
        let mut absent: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for missing in &step.absent {
            let given = absent.entry(missing.role.clone()).or_default();
            given.insert(missing.label.to_string(), missing.reason.clone());
        }
        let mut config = step.config().clone();
        let files = self.files(step)?;
        for field in files.keys() {
            keep_name(&mut config, field);
        }
        Ok(Some(Key {
            format: KEY_FORMAT,
            protocol: description.protocol,
            stage: description.name.clone(),
            executable: step.executable.hash,
            config,
            inputs,
            absent,
            files,
            isa: description
                .uses_floats
                .then(|| instruction_set().to_owned()),
        }))
    }

    /// The artifact of one output of a step that is done.
    ///
    /// # Errors
    /// If the step's record does not have it: the record was made by hand or by another protocol.
    pub fn output(
        &self,
        plan: &Plan,
        producer: usize,
        outputs: &Outputs,
        output: &str,
    ) -> Result<ArtifactId, Failure> {
        let produced = outputs.produced.get(output).ok_or_else(|| {
            Failure::new(
                Exit::Bug,
                format!(
                    "the record of `{}` lacks output `{output}`",
                    plan.steps[producer].name()
                ),
            )
        })?;
        Ok(produced.id)
    }

    /// Content of the raw files and folders that a configuration names, by field.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn files(&self, step: &Step) -> Result<BTreeMap<String, ContentHash>, Failure> {
        let mut files = BTreeMap::new();
        let Json::Object(config) = step.config() else {
            return Ok(files);
        };
        for field in step.executable.description.content_fields() {
            if let Some(Json::String(path)) = field_of(config, field) {
                let full = self.data_root.join(path);
                let content = self.content(&full).map_err(|failure| {
                    missing(failure, step.name(), field, path, &self.data_root)
                })?;
                files.insert(field.to_owned(), content);
            }
        }
        Ok(files)
    }

    fn content(&self, path: &Path) -> Result<ContentHash, Failure> {
        self.fingerprints.content(path)
    }

    /// What is known of a step, given what its producers gave.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn state(
        &self,
        plan: &Plan,
        index: usize,
        done: &[Option<Outputs>],
    ) -> Result<State, Failure> {
        let step = &plan.steps[index];
        if step.not_applicable().is_some() {
            return Ok(State::NotApplicable);
        }
        let key = match self.key(plan, index, done) {
            Ok(Some(key)) => key,
            Ok(None) => return Ok(State::Waiting),
            Err(failure) => return Ok(State::Unreadable(Box::new(failure))),
        };
        Ok(match self.lookup(&key)? {
            Some(record) if self.is_whole(step, &record) => State::UpToDate(Box::new(record)),
            other => State::Stale(Box::new(key), other.map(Box::new)),
        })
    }

    /// What a key gave; a damaged record counts as none.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn lookup(&self, key: &Key) -> Result<Option<Record>, Failure> {
        match self.store.lookup(key) {
            Ok(record) => Ok(record),
            Err(error @ RecordError::Quarantined { .. }) => {
                crate::console::warn(&error);
                Ok(None)
            }
            Err(error) => Err(Failure::environment(error)),
        }
    }

    /// Whether a record has every output that the step has now, and all its artifacts are there.
    pub fn is_whole(&self, step: &Step, record: &Record) -> bool {
        let has = |output: &str| record.outputs.contains_key(output);
        has(MEASURED)
            && step.outputs().keys().all(|output| has(output))
            && record
                .outputs
                .values()
                .all(|produced| self.store.contains(produced.id))
    }

    /// What is known of every step without running anything.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn survey(&self, plan: &Plan) -> Result<(Vec<State>, Vec<Option<Outputs>>), Failure> {
        let mut states = Vec::with_capacity(plan.steps.len());
        let mut done: Vec<Option<Outputs>> = vec![None; plan.steps.len()];
        for index in 0..plan.steps.len() {
            let state = self.state(plan, index, &done)?;
            if let State::UpToDate(record) = &state {
                done[index] = Some(Outputs::of(record));
            }
            states.push(state);
        }
        Ok((states, done))
    }
}

impl Outputs {
    /// What a record holds.
    pub fn of(record: &Record) -> Self {
        Self {
            key: record.id,
            produced: record.outputs.clone(),
        }
    }
}

fn missing(failure: Failure, step: &str, field: &str, path: &str, data_root: &Path) -> Failure {
    if data_root.join(path).exists() {
        return failure;
    }
    Failure::new(
        Exit::Data,
        format!(
            "`{path}`, the `{field}` of `{step}`, is not under the data root `{}`",
            data_root.display()
        ),
    )
    .hint("name the folder that holds it with `--data DIR`")
    .hint("`data/SOURCES.yaml` says where each supported data set can be had")
}

/// Of a path to raw content only the name counts: stages quote it where they refuse a line, and the
/// same log in another folder is the same log.
fn keep_name(config: &mut Json, field: &str) {
    match field.split_once('.') {
        None => {
            if let Some(Json::String(path)) = config.get_mut(field) {
                let name = Path::new(path.as_str()).file_name();
                *path = name.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            }
        }
        Some((first, rest)) => {
            if let Some(inner) = config.get_mut(first) {
                keep_name(inner, rest);
            }
        }
    }
}

/// The instruction-set level of this processor.
fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vl")
        {
            return "x86-64-v4";
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            return "x86-64-v3";
        }
        if std::arch::is_x86_feature_detected!("sse4.2") {
            return "x86-64-v2";
        }
        "x86-64"
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH
    }
}
