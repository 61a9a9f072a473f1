//! What `diff` prints: how two runs of a pipeline differ in configuration, artifacts and figures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use artifact::{Difference, Key, Produced, Store, difference};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use stage::{Exit, Failure, suggest};
use tables::Metric;

use crate::cli::print_json;
use crate::console::{count, line};
use crate::why::text_of;

/// Kind of artifact whose figures are compared.
const METRICS: &str = "metrics";
/// Figures that are printed, those that moved most first.
const MOST_FIGURES: usize = 40;

/// What the journal of a run says.
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
    outputs: BTreeMap<String, Produced>,
}

/// One figure in both runs.
struct Figure {
    name: String,
    old: f64,
    new: f64,
    interval: Option<(f64, f64)>,
}

/// How an element differs.
struct Changed {
    name: String,
    leaves: Vec<Difference>,
    outputs: Vec<String>,
}

/// The run that a text means: a path, the start of an instant, `latest`, or `latest~N`, the N-th
/// before it.
///
/// # Errors
/// If there is none, or several.
pub fn find(store: &Store, pipeline: &str, text: &str) -> Result<PathBuf, Failure> {
    let written = Path::new(text);
    if written.is_file() {
        return Ok(written.to_owned());
    }
    let runs = store.runs(pipeline).map_err(Failure::configuration)?;
    if runs.is_empty() {
        let known = store.pipelines().map_err(Failure::environment)?;
        return Err(Failure::new(
            Exit::Configuration,
            format!("the store knows no run of pipeline `{pipeline}`"),
        )
        .hint(suggest(pipeline, known.iter().map(String::as_str))));
    }
    let back = match text.strip_prefix("latest") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix('~').and_then(|n| n.parse().ok()),
        None => None,
    };
    if let Some(back) = back {
        return runs.iter().rev().nth(back).cloned().ok_or_else(|| {
            Failure::new(
                Exit::Configuration,
                format!("pipeline `{pipeline}` has {}", count(runs.len(), "run")),
            )
            .hint("a run that found everything as the last one left it leaves no file")
        });
    }
    let instant = |path: &PathBuf| {
        path.file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let mut fitting: Vec<&PathBuf> = runs
        .iter()
        .filter(|path| instant(path).starts_with(text))
        .collect();
    match (fitting.pop(), fitting.is_empty()) {
        (Some(path), true) => Ok(path.clone()),
        (found, _) => {
            let word = if found.is_some() { "several" } else { "no" };
            let known: Vec<String> = runs.iter().rev().take(5).map(instant).collect();
            Err(Failure::new(
                Exit::Configuration,
                format!("`{text}` fits {word} runs of pipeline `{pipeline}`"),
            )
            .hint(format!("the latest are `{}`", known.join("`, `"))))
        }
    }
}

fn read(store: &Store, path: &Path) -> Result<BTreeMap<String, Node>, Failure> {
    let run = store.read_run(path).map_err(Failure::data)?;
    let run: Run = serde_json::from_value(run)
        .map_err(|error| Failure::data(error).cause(format!("reading `{}`", path.display())))?;
    Ok(run
        .nodes
        .into_iter()
        .filter(|node| node.key.is_some())
        .map(|node| (node.name.clone(), node))
        .collect())
}

/// Prints how two runs differ.
///
/// # Errors
/// If one cannot be read.
pub fn print(store: &Store, old: &Path, new: &Path, is_json: bool) -> Result<(), Failure> {
    let (before, after) = (read(store, old)?, read(store, new)?);
    let only = |one: &BTreeMap<String, Node>, other: &BTreeMap<String, Node>| -> Vec<String> {
        let names = one.keys().filter(|name| !other.contains_key(*name));
        names.cloned().collect()
    };
    let (removed, added) = (only(&before, &after), only(&after, &before));
    let mut changed = Vec::new();
    let mut figures = Vec::new();
    for (name, was) in &before {
        let Some(is) = after.get(name) else { continue };
        let leaves = match (&was.key, &is.key) {
            (Some(was), Some(is)) => difference(was, is),
            _ => Vec::new(),
        };
        let outputs: Vec<String> = was
            .outputs
            .iter()
            .filter(|(role, was)| {
                let is = is.outputs.get(*role);
                !was.measured && is.is_some_and(|is| is.id != was.id)
            })
            .map(|(role, was)| {
                let is = is.outputs.get(role).map(|is| is.id.short());
                format!("{role}@{} -> {}", was.id.short(), is.unwrap_or_default())
            })
            .collect();
        for (role, was) in &was.outputs {
            if let (METRICS, Some(is)) = (was.kind.as_str(), is.outputs.get(role))
                && was.id != is.id
            {
                figures.extend(compare(store, name, was, is)?);
            }
        }
        if !leaves.is_empty() || !outputs.is_empty() {
            changed.push(Changed {
                name: name.clone(),
                leaves,
                outputs,
            });
        }
    }
    // What moved most, as a share of its interval where there is one, comes first.
    figures.sort_by(|a, b| b.weight().total_cmp(&a.weight()).then(a.name.cmp(&b.name)));
    if is_json {
        print_json(&as_json(old, new, &removed, &added, &changed, &figures));
        return Ok(());
    }
    line(format_args!(
        "from {}\nto   {}",
        old.display(),
        new.display()
    ));
    for name in &removed {
        line(format_args!("  - {name}"));
    }
    for name in &added {
        line(format_args!("  + {name}"));
    }
    for one in &changed {
        // A node whose inputs alone changed is told by its outputs.
        let own: Vec<String> = one
            .leaves
            .iter()
            .filter(|leaf| !leaf.path.starts_with("inputs"))
            .map(text_of)
            .collect();
        if own.is_empty() && one.outputs.is_empty() {
            continue;
        }
        line(format_args!("  {}", one.name));
        for text in own.iter().chain(&one.outputs) {
            line(format_args!("      {text}"));
        }
    }
    if !figures.is_empty() {
        line("figures that changed, those that moved most within their interval first:");
        for figure in figures.iter().take(MOST_FIGURES) {
            line(format_args!(
                "  {:>10.5} -> {:>10.5}  {:>+10.5}  {}",
                figure.old,
                figure.new,
                figure.new - figure.old,
                figure.name
            ));
        }
        if figures.len() > MOST_FIGURES {
            line(format_args!("  and {} more", figures.len() - MOST_FIGURES));
        }
    }
    line(format_args!(
        "{} removed, {} added, {} changed, {} changed",
        removed.len(),
        added.len(),
        count(changed.len(), "node"),
        count(figures.len(), "figure")
    ));
    Ok(())
}

impl Figure {
    /// How far it moved, in half widths of its interval; as it is where there is none.
    fn weight(&self) -> f64 {
        let moved = (self.new - self.old).abs();
        match self.interval {
            Some((low, high)) if high > low => moved / (0.5 * (high - low)),
            _ => moved,
        }
    }
}

/// Figures of one table that differ between two artifacts.
fn compare(
    store: &Store,
    node: &str,
    was: &Produced,
    is: &Produced,
) -> Result<Vec<Figure>, Failure> {
    let rows = |produced: &Produced| -> Result<Option<Vec<Metric>>, Failure> {
        // Removed since: what is left of the run is its journal.
        if !store.contains(produced.id) {
            return Ok(None);
        }
        let path = store.open_verified(produced.id).map_err(Failure::data)?;
        tables::read_all::<Metric>(&path)
            .map(Some)
            .map_err(Failure::data)
    };
    let (Some(was), Some(is)) = (rows(was)?, rows(is)?) else {
        return Ok(Vec::new());
    };
    let name = |row: &Metric| {
        let mut parts = vec![node.to_owned(), row.metric.clone(), row.node.clone()];
        parts.extend(row.model.clone());
        parts.extend(row.method.clone());
        parts.extend(row.action.clone());
        for text in [&row.label, &row.part, &row.segment] {
            if !text.is_empty() {
                parts.push(text.clone());
            }
        }
        parts.join(" ")
    };
    let before: BTreeMap<String, Metric> = was.into_iter().map(|row| (name(&row), row)).collect();
    Ok(is
        .into_iter()
        .filter_map(|row| {
            let name = name(&row);
            let was = before.get(&name)?;
            let is_moved = was.value.to_bits() != row.value.to_bits();
            is_moved.then(|| Figure {
                name,
                old: was.value,
                new: row.value,
                interval: row.low.zip(row.high),
            })
        })
        .collect())
}

fn as_json(
    old: &Path,
    new: &Path,
    removed: &[String],
    added: &[String],
    changed: &[Changed],
    figures: &[Figure],
) -> Json {
    let changed: Vec<Json> = changed
        .iter()
        .map(|one| json!({ "name": one.name, "key": one.leaves, "outputs": one.outputs }))
        .collect();
    let figures: Vec<Json> = figures
        .iter()
        .map(|figure| json!({ "name": figure.name, "old": figure.old, "new": figure.new }))
        .collect();
    json!({
        "old": old,
        "new": new,
        "removed": removed,
        "added": added,
        "changed": changed,
        "figures": figures,
    })
}
