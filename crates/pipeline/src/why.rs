//! Why a step runs: the leaves in which its key differs from the one it had before, followed through
//! its inputs to the cause.

use std::collections::BTreeSet;

use artifact::{Difference, Key, difference};
use serde::Serialize;
use serde_json::Value as Json;
use stage::Failure;

use crate::journal::{Journal, PastRun, PastRuns};
use crate::plan::{Input, Plan};
use crate::resolve::{Outputs, Resolver, State};

/// A reason, and what is behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// One sentence.
    pub text: String,
    /// Its causes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<Reason>,
}

/// What `why` says of one step.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// Index of the step.
    #[serde(skip)]
    pub index: usize,
    /// Stable name.
    pub name: String,
    /// `up to date`, `stale`, `waiting`, `never ran`, `unreadable` or `not applicable`.
    pub state: &'static str,
    /// Why; for a step that is up to date, why it last ran.
    pub reasons: Vec<Reason>,
}

impl Reason {
    fn leaf(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            because: Vec::new(),
        }
    }

    /// Lines for people, indented by depth.
    pub fn lines(&self, depth: usize, lines: &mut Vec<String>) {
        lines.push(format!("{}{}", "  ".repeat(depth), self.text));
        for cause in &self.because {
            cause.lines(depth + 1, lines);
        }
    }
}

/// Answers about steps of one plan without running anything.
pub struct Oracle<'a> {
    plan: &'a Plan,
    resolver: &'a Resolver<'a>,
    states: Vec<State>,
    done: Vec<Option<Outputs>>,
    past: PastRuns,
}

impl<'a> Oracle<'a> {
    /// Surveys a plan.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn new(plan: &'a Plan, resolver: &'a Resolver<'a>) -> Result<Self, Failure> {
        let (states, done) = resolver.survey(plan)?;
        Ok(Self {
            plan,
            resolver,
            states,
            done,
            past: PastRuns::of(resolver.store, &plan.pipeline.name),
        })
    }

    /// The states of all steps.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// What is known of the outputs of all steps.
    pub fn done(&self) -> &[Option<Outputs>] {
        &self.done
    }

    /// The state of one step in a word or two.
    pub fn state(&self, index: usize) -> &'static str {
        let is_known = || {
            let name = self.plan.steps[index].name();
            self.past.knowing(name).is_some()
        };
        match &self.states[index] {
            State::UpToDate(_) => "up to date",
            State::NotApplicable => "not applicable",
            State::Unreadable(_) => "unreadable",
            State::Stale(_, Some(_)) => "stale",
            State::Stale(_, None) if is_known() => "stale",
            State::Waiting if is_known() => "waiting",
            State::Stale(_, None) | State::Waiting => "never ran",
        }
    }

    /// Whether something that a step reads must be computed first.
    pub fn waits(&self, index: usize) -> bool {
        matches!(self.states[index], State::Waiting)
    }

    /// What is to be said of one step.
    pub fn answer(&self, index: usize) -> Answer {
        let name = self.plan.steps[index].name();
        let reasons = match &self.states[index] {
            State::UpToDate(_) => {
                let because = self.past.last_because(name).unwrap_or_default();
                because.iter().map(Reason::leaf).collect()
            }
            State::NotApplicable => {
                let why = self.plan.steps[index].not_applicable().unwrap_or_default();
                vec![Reason::leaf(why)]
            }
            State::Unreadable(failure) => vec![Reason::leaf(failure.message.clone())],
            State::Waiting => self.waiting(index),
            State::Stale(..) => self.stale(index, &mut BTreeSet::new()),
        };
        Answer {
            index,
            name: name.to_owned(),
            state: self.state(index),
            reasons,
        }
    }

    /// A few words for a line of `status`.
    pub fn word(&self, index: usize) -> String {
        match (self.state(index), &self.states[index]) {
            ("stale", State::Stale(_, Some(_))) => "stale: artifact gone".to_owned(),
            ("stale", State::Stale(key, None)) => {
                format!("stale: {}", self.kinds_of_change(index, key))
            }
            ("waiting", _) => "stale: input".to_owned(),
            ("unreadable", _) => "stale: raw file".to_owned(),
            (state, _) => state.to_owned(),
        }
    }

    fn kinds_of_change(&self, index: usize, key: &Key) -> String {
        let Some((differences, _)) = self.differences(index, key) else {
            return "record gone".to_owned();
        };
        if differences.is_empty() {
            return "record gone".to_owned();
        }
        let mut kinds: Vec<&str> = Vec::new();
        for one in &differences {
            let kind = match one.path.split(['.', '[']).next() {
                Some("config") => "parameter",
                Some("inputs") => "input",
                Some("files") => "raw file",
                Some("executable") => "executable",
                _ => "machine",
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds.join(", ")
    }

    /// Where a key differs from the one that the element had, or from the nearest of its stage, and
    /// the run that knew it.
    fn differences(&self, index: usize, key: &Key) -> Option<(Vec<Difference>, Option<&PastRun>)> {
        let name = self.plan.steps[index].name();
        if let Some(run) = self.past.knowing(name)
            && let Some(past) = run.get(name)
        {
            return Some((difference(&past.key, key), Some(run)));
        }
        let nearest = self.resolver.store.nearest(key).ok().flatten();
        nearest.map(|(_, differences)| (differences, None))
    }

    fn stale(&self, index: usize, seen: &mut BTreeSet<usize>) -> Vec<Reason> {
        let State::Stale(key, gone) = &self.states[index] else {
            return Vec::new();
        };
        if let Some(record) = gone {
            let gone: Vec<String> = record
                .outputs
                .iter()
                .filter(|(_, produced)| !self.resolver.store.contains(produced.id))
                .map(|(role, produced)| format!("`{role}@{}`", produced.id.short()))
                .collect();
            return vec![Reason::leaf(if gone.is_empty() {
                "its record lacks an output that it gives now".to_owned()
            } else {
                format!("artifact {} is gone from the store", gone.join(", "))
            })];
        }
        let Some((differences, run)) = self.differences(index, key) else {
            return Vec::new();
        };
        if run.is_some() && differences.is_empty() {
            return vec![Reason::leaf("its record is gone from the store")];
        }
        differences
            .iter()
            .map(|one| self.reason(index, one, run, seen))
            .collect()
    }

    /// The roots of what a step waits for: everything behind it that is stale by itself. Steps that
    /// are stale for the same reasons are named together.
    fn waiting(&self, index: usize) -> Vec<Reason> {
        let behind = self.plan.with_producers(&BTreeSet::from([index]));
        let mut groups: Vec<(Vec<&str>, Vec<Reason>)> = Vec::new();
        for producer in behind {
            let because = match &self.states[producer] {
                State::Unreadable(failure) => vec![Reason::leaf(failure.message.clone())],
                State::Stale(..) => self.stale(producer, &mut BTreeSet::new()),
                _ => continue,
            };
            let name = self.plan.steps[producer].name();
            match groups.iter_mut().find(|(_, known)| *known == because) {
                Some((names, _)) => names.push(name),
                None => groups.push((vec![name], because)),
            }
        }
        groups
            .into_iter()
            .map(|(names, because)| {
                let subject = match names.as_slice() {
                    [one] => format!("`{one}`"),
                    [one, other] => format!("`{one}` and `{other}`"),
                    [one, rest @ ..] => format!("`{one}` and {} more", rest.len()),
                    [] => String::new(),
                };
                let text = if because.is_empty() {
                    format!("{subject} never ran")
                } else {
                    format!("{subject} must run")
                };
                Reason { text, because }
            })
            .collect()
    }

    /// One difference in words; an input is followed to what changed its producer.
    fn reason(
        &self,
        index: usize,
        one: &Difference,
        run: Option<&PastRun>,
        seen: &mut BTreeSet<usize>,
    ) -> Reason {
        let mut reason = Reason::leaf(text_of(one));
        let input = self.plan.steps[index]
            .inputs
            .iter()
            .find(|input| one.path == key_path(input));
        let (Some(input), Some(run)) = (input, run) else {
            return reason;
        };
        let producer = &self.plan.steps[input.producer];
        reason.text = format!("{}, made by `{}`", reason.text, producer.name());
        let now = match &self.states[input.producer] {
            State::UpToDate(record) => &record.key,
            State::Stale(key, _) => key.as_ref(),
            _ => return reason,
        };
        if !seen.insert(input.producer) {
            return reason;
        }
        if let Some(past) = run.get(producer.name()) {
            let differences = difference(&past.key, now);
            reason.because = differences
                .iter()
                .map(|one| self.reason(input.producer, one, Some(run), seen))
                .collect();
            if differences.is_empty() && !input.is_measured {
                reason.because.push(Reason::leaf(format!(
                    "`{}` gave other bytes under the same key: it is not deterministic",
                    producer.name()
                )));
            }
        }
        reason
    }
}

/// Why a step is about to run, for the line that says so; empty if it never ran in this pipeline.
pub fn short(
    journal: &Journal,
    resolver: &Resolver<'_>,
    plan: &Plan,
    index: usize,
    key: &Key,
) -> Vec<String> {
    let name = plan.steps[index].name();
    let past = journal.past().knowing(name).and_then(|run| run.get(name));
    let Some(past) = past else {
        return Vec::new();
    };
    let differences = difference(&past.key, key);
    if differences.is_empty() {
        let is_known = matches!(resolver.lookup(key), Ok(Some(_)));
        return vec![if is_known {
            "made again".to_owned()
        } else {
            "its record is gone".to_owned()
        }];
    }
    differences.iter().map(text_of).collect()
}

/// Where an input stands in the differences between keys.
fn key_path(input: &Input) -> String {
    if input.is_many {
        format!("inputs.{}[{}]", input.role, input.label)
    } else {
        format!("inputs.{}", input.role)
    }
}

/// A difference in words.
pub(crate) fn text_of(one: &Difference) -> String {
    let change = format!(
        "{} -> {}",
        value_of(one.old.as_ref()),
        value_of(one.new.as_ref())
    );
    match one.path.split_once('.') {
        Some(("inputs", input)) => format!("input `{input}`: {change}"),
        Some(("files", field)) => format!("content of `{field}` changed: {change}"),
        None if one.path == "executable" => format!("executable changed: {change}"),
        _ => format!("{}: {change}", one.path),
    }
}

/// A leaf for people: ids are shortened.
fn value_of(value: Option<&Json>) -> String {
    let is_id = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match value {
        None => "(absent)".to_owned(),
        Some(Json::String(text)) if is_id(text) => text[..8].to_owned(),
        Some(Json::String(text)) => match text.strip_prefix("measured:") {
            Some(key) if is_id(key) => format!("measured {}", &key[..8]),
            _ => text.clone(),
        },
        Some(value) => value.to_string(),
    }
}
