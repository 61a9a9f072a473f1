//! Stage executables: where they lie, what they say of themselves, what they say of a configuration.
//!
//! `describe` and passed `check`s are remembered in the store by everything they depend on, so that
//! a run which has nothing to do starts no process.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use artifact::{ContentHash, Store, canonical};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use stage::{Exit, Failure, Offers, suggest};

use crate::description::Description;
use crate::fingerprint::{Fingerprints, write_cache};
use crate::process;

/// The stages that come with the project, for suggestions.
pub(crate) const STAGES: &[&str] = &[
    "ingest",
    "preprocess",
    "split",
    "train",
    "estimate",
    "evaluate",
    "report",
];

/// A stage that can be run.
#[derive(Debug)]
pub struct Executable {
    /// The file.
    pub path: PathBuf,
    /// BLAKE3 of its content.
    pub hash: ContentHash,
    /// What it says of itself.
    pub description: Description,
}

/// What a stage says of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    /// It can run.
    Applicable {
        /// The configuration with defaults filled in.
        config: Json,
        /// What its outputs offer; exactly these outputs are made.
        offers: Offers,
    },
    /// It is sound and cannot apply to what it is wired to.
    NotApplicable {
        /// Why.
        reason: String,
    },
}

/// What a stage prints when a check passes.
#[derive(Deserialize)]
struct Answer {
    config: Json,
    offers: Offers,
}

/// Finds stages and asks them.
#[derive(Debug)]
pub struct Stages<'a> {
    store: &'a Store,
    fingerprints: &'a Fingerprints,
    /// Where the project's own stages lie.
    beside: PathBuf,
    /// Where `./path` starts.
    pipeline_folder: PathBuf,
    known: BTreeMap<String, Arc<Executable>>,
}

impl<'a> Stages<'a> {
    /// For a pipeline file in a folder; `.` where that is the current one.
    ///
    /// # Errors
    /// If this process does not know its own executable.
    pub fn new(
        store: &'a Store,
        fingerprints: &'a Fingerprints,
        pipeline_folder: &Path,
    ) -> Result<Self, Failure> {
        let own = std::env::current_exe().map_err(Failure::environment)?;
        Ok(Self {
            store,
            fingerprints,
            beside: own.parent().unwrap_or(Path::new(".")).to_owned(),
            pipeline_folder: pipeline_folder.to_owned(),
            known: BTreeMap::new(),
        })
    }

    /// The executable that a node names: one beside our own, or a path.
    ///
    /// # Errors
    /// If it is missing or does not describe itself.
    pub fn get(&mut self, stage: &str) -> Result<Arc<Executable>, Failure> {
        if let Some(known) = self.known.get(stage) {
            return Ok(Arc::clone(known));
        }
        let path = self.locate(stage)?;
        let hash = self.fingerprints.content(&path)?;
        let description = self.describe(&path, hash)?;
        let executable = Arc::new(Executable {
            path,
            hash,
            description,
        });
        self.known.insert(stage.to_owned(), Arc::clone(&executable));
        Ok(executable)
    }

    fn locate(&self, stage: &str) -> Result<PathBuf, Failure> {
        if stage.contains('/') {
            let path = self.pipeline_folder.join(stage.trim_start_matches("./"));
            return match fs::canonicalize(&path) {
                Ok(found) if found.is_file() => Ok(found),
                _ => Err(Failure::new(
                    Exit::Configuration,
                    format!("there is no executable at `{}`", path.display()),
                )
                .hint("a path in `stage` is relative to the pipeline file")),
            };
        }
        let path = self.beside.join(stage);
        if path.is_file() {
            return Ok(path);
        }
        let failure = Failure::new(
            Exit::Configuration,
            format!(
                "there is no stage `{stage}` beside `touchstone` in `{}`",
                self.beside.display()
            ),
        );
        Err(if STAGES.contains(&stage) {
            failure.hint("run `just build`")
        } else {
            failure
                .hint(suggest(stage, STAGES.iter().copied()))
                .hint("an executable of your own is written `./path`")
        })
    }

    /// All that one of the project's own stages says of itself, documentation included.
    ///
    /// # Errors
    /// If it is missing or does not describe itself.
    pub fn description_of(&self, stage: &str) -> Result<Json, Failure> {
        said(&self.locate(stage)?)
    }

    fn describe(&self, path: &Path, hash: ContentHash) -> Result<Description, Failure> {
        let cache = self.cache("describe", hash);
        if let Some(description) = read_cache(&cache) {
            return Ok(description);
        }
        let shown = path.display();
        let description: Description = said(path)?;
        if description.protocol != stage::PROTOCOL {
            return Err(Failure::new(
                Exit::Configuration,
                format!(
                    "`{shown}` speaks version {} of the stage protocol, `touchstone` speaks {}",
                    description.protocol,
                    stage::PROTOCOL
                ),
            )
            .hint("run `just build`"));
        }
        remember(&cache, &description);
        Ok(description)
    }

    /// Asks a stage about a configuration and what is wired.
    ///
    /// # Errors
    /// If the stage refuses it: its own message, causes and hints.
    pub fn check(
        &self,
        executable: &Executable,
        config: &Json,
        offers: &Offers,
    ) -> Result<Checked, Failure> {
        let question = canonical::text(&json!({
            "executable": executable.hash,
            "config": config,
            "offers": offers,
        }));
        let cache = self.cache("checks", ContentHash::of(question.as_bytes()));
        if let Some(checked) = read_cache(&cache) {
            return Ok(checked);
        }
        let checked = self.ask(executable, config, offers)?;
        remember(&cache, &checked);
        Ok(checked)
    }

    fn ask(
        &self,
        executable: &Executable,
        config: &Json,
        offers: &Offers,
    ) -> Result<Checked, Failure> {
        let attempt = self.store.stage_directory().map_err(Failure::environment)?;
        let write = |name: &str, value: &Json| {
            let path = attempt.path().join(name);
            fs::write(&path, value.to_string()).map_err(|error| {
                Failure::environment(error).cause(format!("writing `{}`", path.display()))
            })?;
            Ok::<PathBuf, Failure>(path)
        };
        let config = write("config.json", config)?;
        let mut arguments = vec![
            "check".to_owned(),
            "--config".to_owned(),
            config.display().to_string(),
        ];
        for (role, given) in offers {
            for (index, offer) in given.iter().enumerate() {
                let path = write(&format!("offer-{role}-{index}.json"), &json!(offer))?;
                arguments.push("--offers".to_owned());
                arguments.push(format!("{role}={}", path.display()));
            }
        }
        let output = call(&executable.path, &arguments)?;
        let answer: Option<Json> = serde_json::from_slice(&output.stdout).ok();
        if let Some(reason) = answer
            .as_ref()
            .and_then(|answer| answer.get("not_applicable"))
        {
            let reason = reason.as_str().unwrap_or("it does not say why").to_owned();
            return Ok(Checked::NotApplicable { reason });
        }
        if !output.status.success() {
            return Err(spoken(&executable.description.name, &output, &config));
        }
        let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|error| {
            Failure::configuration(error).cause(format!(
                "`{} check` must print `config` and `offers` as JSON",
                executable.path.display()
            ))
        })?;
        Ok(Checked::Applicable {
            config: answer.config,
            offers: answer.offers,
        })
    }

    fn cache(&self, what: &str, name: ContentHash) -> PathBuf {
        self.store
            .root()
            .join("cache")
            .join(what)
            .join(format!("{name}.json"))
    }
}

/// What a stage says of itself.
fn said<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, Failure> {
    let output = call(path, &["describe".to_owned()])?;
    let shown = path.display();
    if !output.status.success() {
        return Err(Failure::new(
            Exit::Configuration,
            format!("`{shown} describe` failed: {}", output.status),
        )
        .cause(text_of(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| {
        Failure::configuration(error).cause(format!(
            "`{shown} describe` must print its description as JSON"
        ))
    })
}

/// Runs a stage to answer a question and collects what it says.
fn call(path: &Path, arguments: &[String]) -> Result<Output, Failure> {
    process::command(path)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Failure::environment(error)
                .cause(format!("starting `{}`", path.display()))
                .hint("is it executable? a script needs `#!` and `chmod +x`")
        })
}

/// What a refusing stage said, as a failure: message, causes and hints are told apart again.
fn spoken(stage: &str, output: &Output, config: &Path) -> Failure {
    // The configuration was written to a file that means nothing to people.
    let text = text_of(&output.stderr).replace(&config.display().to_string(), "with");
    let mut failure = Failure::new(exit_of(output.status.code()), String::new());
    for line in text.lines() {
        let line = line.trim_end();
        if let Some(cause) = line.trim_start().strip_prefix("caused by: ") {
            failure.causes.push(cause.to_owned());
        } else if let Some(hint) = line.strip_prefix("hint: ") {
            failure.hints.push(hint.to_owned());
        } else if let Some(message) = line.strip_prefix("error: ") {
            message.clone_into(&mut failure.message);
        } else if !line.is_empty() {
            failure.causes.push(line.to_owned());
        }
    }
    for cause in &mut failure.causes {
        // A place in our own file means nothing to people: the runner names theirs.
        if let Some((text, _)) = cause.rsplit_once(" at line 1 column ") {
            *cause = text.to_owned();
        }
    }
    if failure.message.is_empty() {
        failure.message = format!("`{stage} check` failed: {}", output.status);
    }
    failure
}

/// The meaning of a stage's exit code; none if a signal ended it.
pub(crate) fn exit_of(code: Option<i32>) -> Exit {
    match code {
        Some(2) => Exit::Configuration,
        Some(3) => Exit::Data,
        Some(4) | None => Exit::Environment,
        Some(5) => Exit::Computation,
        _ => Exit::Bug,
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

fn read_cache<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Remembers an answer; not being able to costs time at the next run, nothing else.
fn remember<T: Serialize>(path: &Path, value: &T) {
    if let Ok(bytes) = serde_json::to_vec(value) {
        let _ = write_cache(path, &bytes);
    }
}
