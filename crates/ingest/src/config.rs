//! The configuration, and everything about it that can be checked without data.

use std::path::{Component, Path};

use datasets::{Dataset, Entry, ParameterError, REGISTRY, Takes};
use serde::{Deserialize, Deserializer, Serialize};
use stage::yaml::{Mapping, Named};
use stage::{Exit, Failure, suggest};

/// Which raw log to read, and where it lies.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The data set, with its parameters; defaults are filled in.
    #[serde(deserialize_with = "with_defaults")]
    pub dataset: Named,
    /// The raw file, under the data root.
    #[serde(default)]
    pub file: Option<String>,
    /// The folder of raw files, under the data root.
    #[serde(default)]
    pub folder: Option<String>,
    /// Seed of the simulator.
    #[serde(default)]
    pub seed: u64,
}

/// Reads a data set and fills in defaults, so that they enter the key. What is wrong with it is
/// left for [`prepare`], which knows better what to say.
fn with_defaults<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Named, D::Error> {
    let mut named = Named::deserialize(deserializer)?;
    let filled = datasets::find(&named.name)
        .and_then(|entry| serde_json::from_value::<Mapping>(entry.defaults()).ok());
    if let Some(mut filled) = filled {
        filled.extend(std::mem::take(&mut named.parameters));
        named.parameters = filled;
    }
    Ok(named)
}

/// A data set that is ready to be read.
pub(crate) struct Prepared {
    /// Its entry in the registry.
    pub(crate) entry: &'static Entry,
    /// The data set.
    pub(crate) dataset: Box<dyn Dataset>,
}

/// Checks all that can be checked without data.
pub(crate) fn prepare(config: &Config) -> Result<Prepared, Failure> {
    let name = &config.dataset.name;
    let entry = datasets::find(name).ok_or_else(|| {
        Failure::new(Exit::Configuration, format!("unknown data set `{name}`"))
            .hint(suggest(name, REGISTRY.iter().map(|entry| entry.name)))
    })?;
    let dataset = entry
        .build(config.dataset.to_json()?)
        .map_err(|error| parameter(entry, error))?;
    let takes = takes(config, entry)?;
    dataset
        .check(takes)
        .map_err(|error| parameter(entry, error))?;
    for path in [&config.file, &config.folder].into_iter().flatten() {
        let stays_inside = Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if path.is_empty() || !stays_inside {
            return Err(Failure::new(
                Exit::Configuration,
                format!("`{path}` is not a path under the data root"),
            )
            .hint("write a relative path without `..`, and name the data root with `--data`"));
        }
    }
    Ok(Prepared { entry, dataset })
}

/// How the configuration names raw files, if the data set takes them in that way.
fn takes(config: &Config, entry: &Entry) -> Result<Option<Takes>, Failure> {
    let given = match (&config.file, &config.folder) {
        (None, None) => None,
        (Some(_), None) => Some(Takes::File),
        (None, Some(_)) => Some(Takes::Folder),
        (Some(_), Some(_)) => {
            return Err(
                Failure::new(Exit::Configuration, "both `file` and `folder` are given")
                    .hint("keep one of them"),
            );
        }
    };
    let is_right = match given {
        Some(given) => entry.takes.contains(&given),
        None => entry.takes.is_empty(),
    };
    if is_right {
        return Ok(given);
    }
    let wanted: Vec<&str> = entry.takes.iter().copied().map(field).collect();
    let (message, hint) = match (given, wanted.is_empty()) {
        (Some(given), true) => (
            format!("data set `{}` reads no raw file", entry.name),
            format!("leave `{}` out", field(given)),
        ),
        (_, _) => (
            format!(
                "data set `{}` needs `{}`",
                entry.name,
                wanted.join("` or `")
            ),
            format!(
                "write `{}: PATH`, a path under the data root",
                wanted.join("` or `")
            ),
        ),
    };
    Err(Failure::new(Exit::Configuration, message).hint(hint))
}

fn field(takes: Takes) -> &'static str {
    match takes {
        Takes::File => "file",
        Takes::Folder => "folder",
    }
}

fn parameter(entry: &Entry, error: ParameterError) -> Failure {
    let hint = match &error {
        ParameterError::Unknown { name, known, .. } if known.is_empty() => {
            format!("`{}` takes no parameters; leave `{name}` out", entry.name)
        }
        ParameterError::Unknown { name, known, .. } => suggest(name, known.iter().copied()),
        ParameterError::Value { name, .. } => documented(entry, name),
        ParameterError::Range { name, .. } => documented(entry, name),
    };
    Failure::configuration(error).hint(hint)
}

fn documented(entry: &Entry, name: &str) -> String {
    let default = entry.defaults()[name].clone();
    match entry
        .parameters
        .iter()
        .find(|parameter| parameter.name == name)
    {
        Some(parameter) => format!("`{name}: {default}` is the default; {}", parameter.doc),
        None => format!("parameters of `{}` are a mapping", entry.name),
    }
}
