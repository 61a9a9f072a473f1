//! What a run did, as a file: the resolved pipeline with keys, outputs, versions and hardware.
//!
//! It is also the memory that `why` compares with: which key each element had when it last ran.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use artifact::{Key, KeyId, Record, Store, StoreError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use stage::Failure;

use crate::measure::{processor, processors};
use crate::plan::Plan;
use crate::resolve::Resolver;

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was computed.
    Ran,
    /// It was known.
    Cached,
    /// It cannot apply.
    NotApplicable,
    /// It failed.
    Failed,
    /// It was killed.
    Interrupted,
    /// Something that it reads failed, or the run was stopped before it.
    NotStarted,
    /// It was not asked for.
    NotAsked,
}

/// The journal of one run.
#[derive(Debug)]
pub struct Journal {
    started_at: Timestamp,
    seed: u64,
    origin: String,
    pipeline: String,
    entries: Vec<Entry>,
    past: PastRuns,
}

#[derive(Debug)]
struct Entry {
    about: Json,
    name: String,
    fate: Fate,
    record: Option<Record>,
    because: Vec<String>,
    reason: Option<String>,
}

/// What a past run knew of one element.
#[derive(Clone, Debug)]
pub struct Past {
    /// Its key then.
    pub key: Key,
    /// Why it ran then; empty if it was cached or had never run before.
    pub because: Vec<String>,
}

/// What one past run knew, by name of the element.
pub type PastRun = BTreeMap<String, Past>;

/// Past runs of one pipeline, latest first, each read when it is first asked for.
#[derive(Debug, Default)]
pub struct PastRuns {
    runs: Vec<(PathBuf, OnceCell<PastRun>)>,
}

/// Most past runs that are looked at.
const MOST_RUNS: usize = 20;

impl PastRuns {
    /// Lists the latest runs of a pipeline.
    pub fn of(store: &Store, pipeline: &str) -> Self {
        let paths = store.runs(pipeline).unwrap_or_default();
        let latest = paths.into_iter().rev().take(MOST_RUNS);
        Self {
            runs: latest.map(|path| (path, OnceCell::new())).collect(),
        }
    }

    fn run(&self, index: usize) -> Option<&PastRun> {
        let (path, run) = self.runs.get(index)?;
        Some(run.get_or_init(|| read_run(path).unwrap_or_default()))
    }

    /// What the latest run that knew an element knew of all elements.
    pub fn knowing(&self, name: &str) -> Option<&PastRun> {
        (0..self.runs.len())
            .filter_map(|index| self.run(index))
            .find(|run| run.contains_key(name))
    }

    /// Why an element last ran, as far as is known.
    pub fn last_because(&self, name: &str) -> Option<&[String]> {
        (0..self.runs.len())
            .filter_map(|index| self.run(index)?.get(name))
            .find(|past| !past.because.is_empty())
            .map(|past| past.because.as_slice())
    }
}

/// What a run says of the key of one element.
#[derive(Debug, Deserialize)]
pub struct Keyed {
    /// Stable name.
    pub name: String,
    /// Its stage.
    #[serde(default)]
    pub stage: String,
    /// Its key, if it was computed or known.
    #[serde(default)]
    pub key_id: Option<KeyId>,
}

/// The keys of a run.
///
/// # Errors
/// If the journal cannot be read.
pub fn keys(store: &Store, path: &Path) -> Result<Vec<Keyed>, Failure> {
    #[derive(Deserialize)]
    struct Run {
        nodes: Vec<Keyed>,
    }
    let run = store.read_run(path).map_err(Failure::environment)?;
    let run: Run = serde_json::from_value(run).map_err(|error| {
        Failure::environment(error).cause(format!("reading the run `{}`", path.display()))
    })?;
    Ok(run.nodes)
}

/// Reads one run; one that cannot be read is as if it were not there.
fn read_run(path: &Path) -> Option<PastRun> {
    #[derive(Deserialize)]
    struct Run {
        nodes: Vec<Node>,
    }
    #[derive(Deserialize)]
    struct Node {
        name: String,
        #[serde(default)]
        key: Option<Key>,
        #[serde(default)]
        because: Vec<String>,
    }
    let run: Run = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let known = run.nodes.into_iter().filter_map(|node| {
        let past = Past {
            key: node.key?,
            because: node.because,
        };
        Some((node.name, past))
    });
    Some(known.collect())
}

impl Journal {
    /// For a run of a plan that starts now.
    pub fn new(
        plan: &Plan,
        resolver: &Resolver<'_>,
        wanted: &BTreeSet<usize>,
        started_at: Timestamp,
    ) -> Self {
        let entries = plan.steps.iter().enumerate().map(|(index, step)| {
            let inputs: Vec<Json> = step
                .inputs
                .iter()
                .map(|input| {
                    json!({
                        "role": input.role,
                        "label": input.label.to_string(),
                        "from": format!("{}.{}", plan.steps[input.producer].name(), input.output),
                    })
                })
                .collect();
            let fate = if step.not_applicable().is_some() {
                Fate::NotApplicable
            } else if wanted.contains(&index) {
                Fate::NotStarted
            } else {
                Fate::NotAsked
            };
            Entry {
                about: json!({
                    "node": plan.pipeline.nodes[step.element.node].name,
                    "label": step.element.label().to_string(),
                    "stage": step.executable.description.name,
                    "revision": step.executable.description.revision,
                    "executable": step.executable.hash,
                    "config": step.config(),
                    "inputs": inputs,
                    "not_applicable": step.not_applicable(),
                }),
                name: step.name().to_owned(),
                fate,
                record: None,
                because: Vec::new(),
                reason: None,
            }
        });
        Self {
            started_at,
            seed: plan.pipeline.seed,
            origin: plan.pipeline.origin.clone(),
            pipeline: plan.pipeline.name.clone(),
            entries: entries.collect(),
            past: PastRuns::of(resolver.store, &plan.pipeline.name),
        }
    }

    /// Past runs of the same pipeline.
    pub fn past(&self) -> &PastRuns {
        &self.past
    }

    /// Notes what became of a step.
    pub fn fate(&mut self, index: usize, fate: Fate, record: Option<&Record>) {
        self.entries[index].fate = fate;
        self.entries[index].record = record.cloned();
    }

    /// Notes why a step runs.
    pub fn because(&mut self, index: usize, because: Vec<String>) {
        self.entries[index].reason = because.first().map(|first| match because.len() {
            1 => first.clone(),
            n => format!("{first}, and {} more", n - 1),
        });
        self.entries[index].because = because;
    }

    /// Why a step runs, in one line.
    pub fn reason(&self, index: usize) -> Option<&str> {
        self.entries[index].reason.as_deref()
    }

    /// Steps of one fate.
    pub fn count(&self, fate: Fate) -> usize {
        self.entries
            .iter()
            .filter(|entry| entry.fate == fate)
            .count()
    }

    /// Writes the journal to `runs/<pipeline>/<instant>.json`. A run that found everything as the
    /// last one left it is not worth a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, store: &Store, wall_ms: u64) -> Result<Option<PathBuf>, Failure> {
        let is_known = self.entries.iter().all(|entry| match entry.fate {
            Fate::NotApplicable | Fate::NotAsked => true,
            Fate::Cached => self.past.run(0).is_some_and(|last| {
                let past = last.get(&entry.name).map(|past| past.key.id());
                past == entry.record.as_ref().map(|record| record.id)
            }),
            _ => false,
        });
        if is_known {
            return Ok(None);
        }
        let nodes: Vec<Json> = self
            .entries
            .iter()
            .map(|entry| {
                let mut node = entry.about.clone();
                node["name"] = json!(entry.name);
                node["fate"] = json!(entry.fate);
                if let Some(record) = &entry.record {
                    node["key_id"] = json!(record.id);
                    node["key"] = record.key.to_json();
                    node["outputs"] = json!(record.outputs);
                }
                if !entry.because.is_empty() {
                    node["because"] = json!(entry.because);
                }
                node
            })
            .collect();
        // To the millisecond: it names the file and sorts as text.
        let started_at = self
            .started_at
            .strftime("%Y-%m-%dT%H-%M-%S%.3fZ")
            .to_string();
        let run = json!({
            "pipeline": self.pipeline,
            "file": self.origin,
            "seed": self.seed,
            "touchstone": env!("CARGO_PKG_VERSION"),
            "started_at": self.started_at.to_string(),
            "wall_ms": wall_ms,
            "hardware": {
                "processor": processor(),
                "threads": processors(),
                "system": std::env::consts::OS,
                "architecture": std::env::consts::ARCH,
            },
            "nodes": nodes,
        });
        let has_news = |entry: &Entry| {
            !matches!(
                entry.fate,
                Fate::Cached | Fate::NotApplicable | Fate::NotAsked
            )
        };
        match store.write_run(&self.pipeline, &started_at, &run) {
            Ok(path) => Ok(Some(path)),
            // A store that can only be read serves what it has; that it was asked is no news.
            Err(StoreError::File(error))
                if error.is_read_only() && !self.entries.iter().any(has_news) =>
            {
                Ok(None)
            }
            Err(error) => Err(Failure::environment(error)),
        }
    }
}
