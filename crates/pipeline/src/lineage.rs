//! What `lineage` prints: from an artifact back to raw files, through the records of keys.

use std::collections::{BTreeMap, BTreeSet};

use artifact::{ArtifactId, KeyId, Record, Source, Store};
use serde_json::{Value as Json, json};
use stage::{Exit, Failure};

use crate::console::line;
use crate::grammar::field_of;
use crate::journal;

/// Who made what, as the store's records say.
pub struct Lineage {
    records: BTreeMap<KeyId, Record>,
    /// The keys that gave an artifact, the latest first, with the role.
    makers: BTreeMap<ArtifactId, Vec<(KeyId, String)>>,
    /// What an element was called in the latest run that knew its key.
    names: BTreeMap<KeyId, String>,
}

/// One place of the tree, written on one line.
struct Line {
    depth: usize,
    text: String,
}

impl Lineage {
    /// Reads all records and the journals of past runs.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn of(store: &Store) -> Result<Self, Failure> {
        let mut lineage = Self {
            records: BTreeMap::new(),
            makers: BTreeMap::new(),
            names: names(store)?,
        };
        for stage in store.stages().map_err(Failure::environment)? {
            for record in store.latest_records(&stage).map_err(Failure::environment)? {
                for (role, produced) in &record.outputs {
                    let makers = lineage.makers.entry(produced.id).or_default();
                    makers.push((record.id, role.clone()));
                }
                lineage.records.insert(record.id, record);
            }
        }
        Ok(lineage)
    }

    /// Prints what is behind an artifact. Of inputs that were gathered, only those whose label says
    /// one of the words of `of` are followed; all if none of a role does.
    ///
    /// # Errors
    /// If no record names the artifact.
    pub fn print(&self, id: ArtifactId, of: &[String]) -> Result<(), Failure> {
        let maker = self.maker(id)?;
        let mut lines = Vec::new();
        let mut seen = BTreeSet::new();
        let place = (0, String::new());
        self.follow(maker, Some(id), place, of, &mut seen, &mut lines);
        for one in lines {
            line(format_args!("{}{}", "  ".repeat(one.depth), one.text));
        }
        Ok(())
    }

    /// The same as JSON: every key behind the artifact once, what it read and what it gave.
    ///
    /// # Errors
    /// If no record names the artifact.
    pub fn json(&self, id: ArtifactId, of: &[String]) -> Result<Json, Failure> {
        let mut todo = vec![self.maker(id)?];
        let mut seen = BTreeSet::new();
        let mut keys = Vec::new();
        while let Some(key) = todo.pop() {
            let Some(record) = self.records.get(&key) else {
                continue;
            };
            if !seen.insert(key) {
                continue;
            }
            let inputs: Vec<Json> = chosen(record, of)
                .into_iter()
                .map(|(role, label, source)| {
                    let by = self.behind(source);
                    todo.extend(by);
                    json!({ "role": role, "label": label, "source": source, "key": by })
                })
                .collect();
            keys.push(json!({
                "key": key,
                "name": self.names.get(&key),
                "stage": record.key.stage,
                "executable": record.key.executable,
                "config": record.key.config,
                "files": record.key.files,
                "inputs": inputs,
                "outputs": record.outputs,
            }));
        }
        Ok(json!({ "artifact": id, "keys": keys }))
    }

    fn maker(&self, id: ArtifactId) -> Result<KeyId, Failure> {
        let makers = self.makers.get(&id).and_then(|makers| makers.first());
        makers.map(|(key, _)| *key).ok_or_else(|| {
            Failure::new(
                Exit::Data,
                format!("no record says what made artifact `{}`", id.short()),
            )
            .hint("run the pipeline that makes it: what is there is not computed again")
        })
    }

    /// The key behind an input.
    fn behind(&self, source: Source) -> Option<KeyId> {
        match source {
            Source::Artifact(id) => self.makers.get(&id)?.first().map(|(key, _)| *key),
            Source::Measured(key) => Some(key),
        }
    }

    fn follow(
        &self,
        key: KeyId,
        artifact: Option<ArtifactId>,
        (depth, place): (usize, String),
        of: &[String],
        seen: &mut BTreeSet<KeyId>,
        lines: &mut Vec<Line>,
    ) {
        let place = if place.is_empty() {
            place
        } else {
            format!("{place}: ")
        };
        let Some(record) = self.records.get(&key) else {
            lines.push(Line {
                depth,
                text: format!("{place}key {}, whose record is gone", key.short()),
            });
            return;
        };
        let stage = &record.key.stage;
        let maker = match self.names.get(&key) {
            Some(name) => format!("`{name}` (stage {stage}, key {})", key.short()),
            None => format!("stage {stage}, key {}", key.short()),
        };
        let what = artifact.and_then(|id| {
            let (role, _) = record
                .outputs
                .iter()
                .find(|(_, produced)| produced.id == id)?;
            Some(format!("{role}@{} by ", id.short()))
        });
        let is_new = seen.insert(key);
        let above = if is_new { "" } else { ", see above" };
        lines.push(Line {
            depth,
            text: format!("{place}{}{maker}{above}", what.unwrap_or_default()),
        });
        if !is_new {
            return;
        }
        for (field, content) in &record.key.files {
            let name = record
                .key
                .config
                .as_object()
                .and_then(|config| field_of(config, field))
                .and_then(Json::as_str)
                .unwrap_or("?");
            lines.push(Line {
                depth: depth + 1,
                text: format!("raw {field} `{name}`, BLAKE3 {content}"),
            });
        }
        for (role, label, source) in chosen(record, of) {
            let place = if label.is_empty() {
                role.to_owned()
            } else {
                format!("{role}[{label}]")
            };
            let artifact = match source {
                Source::Artifact(id) => Some(id),
                Source::Measured(_) => None,
            };
            match self.behind(source) {
                Some(behind) => {
                    self.follow(behind, artifact, (depth + 1, place), of, seen, lines);
                }
                None => lines.push(Line {
                    depth: depth + 1,
                    text: format!("{place}: {source}, of which no record says what made it"),
                }),
            }
        }
    }
}

/// The inputs of a record that are followed: role, label, what it is.
fn chosen<'a>(record: &'a Record, of: &[String]) -> Vec<(&'a str, &'a str, Source)> {
    let mut chosen = Vec::new();
    for (role, given) in &record.key.inputs {
        let is_said = |label: &str| {
            label
                .split(',')
                .filter_map(|part| part.split_once('='))
                .any(|(_, value)| of.iter().any(|word| word == value))
        };
        let is_narrowed = given.iter().any(|input| is_said(&input.label));
        for input in given {
            if !is_narrowed || is_said(&input.label) {
                chosen.push((role.as_str(), input.label.as_str(), input.source));
            }
        }
    }
    chosen
}

/// What elements were called, by their keys, in the latest run that knew them.
fn names(store: &Store) -> Result<BTreeMap<KeyId, String>, Failure> {
    let mut names = BTreeMap::new();
    for pipeline in store.pipelines().map_err(Failure::environment)? {
        for path in store.runs(&pipeline).map_err(Failure::environment)? {
            // A journal that cannot be read takes names away, nothing else.
            for node in journal::keys(store, &path).unwrap_or_default() {
                if let Some(key) = node.key_id {
                    names.insert(key, format!("{} of {pipeline}", node.name));
                }
            }
        }
    }
    Ok(names)
}
