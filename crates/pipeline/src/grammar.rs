//! The grammar of a pipeline file: what people write, parsed strictly and nothing more.
//!
//! ```yaml
//! pipeline: online-retail          # name; letters, digits, `-`, `_`
//! about: what it answers           # optional, for people
//! seed: 20                         # optional, default 0
//! nodes:                           # in any order; printed in this order
//!   NODE:
//!     stage: train                 # an executable beside `touchstone`, or `./path` beside this file
//!     in: { ROLE: REFERENCE }      # or a list of references where a role takes several
//!     with: { ... }                # the stage's configuration
//!     for: { AXIS: [VALUE, ...] }  # one element of the node for each combination
//!     timeout: 2h                  # optional: after this long an element is stopped
//!     memory: 4GiB                 # optional: what an element needs at most, shared between those that run
//!     threads: 1                   # optional: most threads of an element
//! ```
//!
//! A *reference* is `node`, `node.output`, `node[selection]` or `node[selection].output`. A
//! *selection* lists `axis=value` pairs; its first entry may be a bare value, which is then the
//! value on the node's first axis. An *axis* is a field of the configuration, dotted for nested
//! fields; its values are scalars, or mappings with a `name` (or a label of their own, `as`).

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value as Json};
use stage::yaml::{self, Mapping, Value};
use stage::{Exit, Failure};

use crate::limits::{Limits, parse_memory, parse_time};
use crate::reference::{is_axis, is_label, is_name};

pub use crate::reference::Reference;

/// Most nodes that one file may write.
pub const MAX_NODES: usize = 1_000;
/// Most values on one axis.
pub const MAX_VALUES: usize = 1_000;
/// Most references of one input.
pub const MAX_REFERENCES: usize = 1_000;
/// Most axes of one node.
pub const MAX_AXES: usize = 8;

/// A parsed pipeline file.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Name.
    pub name: String,
    /// What it is for.
    pub about: Option<String>,
    /// Seed of every stage that uses chance and is not given one.
    pub seed: u64,
    /// Nodes in the order of the file.
    pub nodes: Vec<Node>,
    /// The file, as named on the command line.
    pub origin: String,
    /// Its text, for line numbers in messages.
    text: String,
}

/// One use of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Stage as written: a name, or a path that starts with `.` or `/`.
    pub stage: String,
    /// Inputs by role, in order.
    pub inputs: Vec<(String, Vec<Reference>)>,
    /// Configuration as written.
    pub with: Map<String, Json>,
    /// Axes in order.
    pub axes: Vec<Axis>,
    /// What each of its elements may use.
    pub limits: Limits,
}

/// One axis of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Name: the field that it sets.
    pub name: String,
    /// Values in order; their labels differ.
    pub values: Vec<AxisValue>,
}

/// One value on an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct AxisValue {
    /// How it is written in names and labels.
    pub label: String,
    /// Whether the label is a word rather than a number or a truth value.
    pub is_word: bool,
    /// What the field becomes.
    pub value: Json,
}

impl Pipeline {
    /// Parses a pipeline file. `origin` names it in messages.
    ///
    /// # Errors
    /// If the text is not a pipeline: says what, where, and what was probably meant.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Failure> {
        let document: Document = yaml::parse(text, origin)?;
        let mut pipeline = Self {
            name: document.pipeline,
            about: document.about,
            seed: document.seed,
            nodes: Vec::new(),
            origin: origin.to_owned(),
            text: text.to_owned(),
        };
        if !is_name(&pipeline.name) {
            return Err(pipeline.error(
                "",
                &pipeline.name,
                format!("`{}` is not a name", pipeline.name),
            ));
        }
        if document.nodes.0.is_empty() || document.nodes.0.len() > MAX_NODES {
            let n = document.nodes.0.len();
            return Err(pipeline.error(
                "",
                "nodes",
                format!("a pipeline has 1 to {MAX_NODES} nodes, not {n}"),
            ));
        }
        for (name, body) in document.nodes.0 {
            if !is_name(&name) {
                return Err(pipeline
                    .error(&name, &name, format!("`{name}` is not a name"))
                    .hint(
                        "a name is made of letters, digits, `_` and `-`, and starts with a letter",
                    ));
            }
            let node = body
                .node(name.clone())
                .map_err(|(needle, message)| pipeline.error(&name, &needle, message))?;
            pipeline.nodes.push(node);
        }
        Ok(pipeline)
    }

    /// A failure at the line of a node where `needle` first stands.
    pub fn error(&self, node: &str, needle: &str, message: impl fmt::Display) -> Failure {
        let line = self.line_of(node, needle);
        Failure::new(
            Exit::Configuration,
            format!("{message}, at `{}` line {line}", self.origin),
        )
    }

    /// 1-based line of a node where `needle` first stands; the node's own line if it does not.
    fn line_of(&self, node: &str, needle: &str) -> usize {
        let is_key = |line: &str| {
            let line = line.trim_start();
            let line = line.strip_prefix(['"', '\'']).unwrap_or(line);
            line.strip_prefix(node).is_some_and(|rest| {
                rest.trim_start_matches(['"', '\''])
                    .trim_start()
                    .starts_with(':')
            })
        };
        let lines: Vec<&str> = self.text.lines().collect();
        let nodes = lines
            .iter()
            .position(|line| line.starts_with("nodes"))
            .unwrap_or(0);
        let start = if node.is_empty() {
            0
        } else {
            (nodes..lines.len())
                .find(|index| is_key(lines[*index]))
                .unwrap_or(nodes)
        };
        let found = (start..lines.len()).find(|index| {
            let code = lines[*index].split(" #").next().unwrap_or_default();
            code.contains(needle)
        });
        found.unwrap_or(start) + 1
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    pipeline: String,
    #[serde(default)]
    about: Option<String>,
    #[serde(default)]
    seed: u64,
    nodes: Ordered<Body>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    stage: String,
    #[serde(default, rename = "in")]
    inputs: Ordered<References>,
    #[serde(default)]
    with: Mapping,
    #[serde(default, rename = "for")]
    axes: Ordered<Vec<Value>>,
    #[serde(default)]
    timeout: Option<String>,
    #[serde(default)]
    memory: Option<String>,
    #[serde(default)]
    threads: Option<usize>,
}

impl Body {
    /// Gives it its meaning; an error is (what to look for in the file, what is wrong).
    fn node(self, name: String) -> Result<Node, (String, String)> {
        if self.stage.is_empty() {
            return Err(("stage".to_owned(), "a stage needs a name".to_owned()));
        }
        for (role, references) in &self.inputs.0 {
            if !is_name(role) {
                return Err((
                    role.clone(),
                    format!("`{role}` is not the name of an input"),
                ));
            }
            if references.0.is_empty() {
                return Err((role.clone(), format!("input `{role}` is an empty list")));
            }
        }
        let Json::Object(with) = json(&Value::Mapping(self.with))
            .map_err(|message| ("with".to_owned(), format!("`{name}.with`: {message}")))?
        else {
            return Err(("with".to_owned(), "`with` takes a mapping".to_owned()));
        };
        if self.axes.0.len() > MAX_AXES {
            return Err((
                "for".to_owned(),
                format!("a node has at most {MAX_AXES} axes"),
            ));
        }
        let mut axes = Vec::new();
        for (axis, values) in self.axes.0 {
            let axis =
                parse_axis(axis.clone(), values, &with).map_err(|message| (axis, message))?;
            axes.push(axis);
        }
        let at = |needle: &'static str| move |message: String| (needle.to_owned(), message);
        let timeout = self.timeout.as_deref().map(parse_time).transpose();
        let memory = self.memory.as_deref().map(parse_memory).transpose();
        if self.threads == Some(0) {
            return Err(("threads".to_owned(), "`threads` is at least 1".to_owned()));
        }
        let limits = Limits {
            timeout: timeout.map_err(at("timeout"))?,
            memory: memory.map_err(at("memory"))?,
            threads: self.threads,
        };
        Ok(Node {
            name,
            limits,
            stage: self.stage,
            inputs: self
                .inputs
                .0
                .into_iter()
                .map(|(role, references)| (role, references.0))
                .collect(),
            with,
            axes,
        })
    }
}

fn parse_axis(name: String, values: Vec<Value>, with: &Map<String, Json>) -> Result<Axis, String> {
    if !is_axis(&name) || name == "node" {
        return Err(format!("`{name}` cannot name an axis"));
    }
    if values.is_empty() || values.len() > MAX_VALUES {
        let n = values.len();
        return Err(format!(
            "axis `{name}` has 1 to {MAX_VALUES} values, not {n}"
        ));
    }
    if field_of(with, &name).is_some() {
        return Err(format!("`{name}` is an axis and stands in `with` too"));
    }
    let mut parsed: Vec<AxisValue> = Vec::new();
    for value in values {
        let value = axis_value(value).map_err(|message| format!("axis `{name}`: {message}"))?;
        if parsed.iter().any(|other| other.label == value.label) {
            return Err(format!(
                "axis `{name}` has two values called `{}`; tell them apart with `as: another-label`",
                value.label
            ));
        }
        parsed.push(value);
    }
    Ok(Axis {
        name,
        values: parsed,
    })
}

fn axis_value(value: Value) -> Result<AxisValue, String> {
    const SHAPE: &str =
        "a value is a number, a word, a truth value, or a mapping with a `name` or an `as`";
    let (label, is_word, value) = match value {
        Value::Null | Value::Tagged(_) | Value::Sequence(_) => return Err(SHAPE.to_owned()),
        Value::Bool(truth) => (truth.to_string(), false, Json::Bool(truth)),
        Value::Number(_) => {
            let number = json(&value)?;
            (number.to_string(), false, number)
        }
        Value::String(word) => (word.clone(), true, Json::String(word)),
        Value::Mapping(mut mapping) => {
            let label = mapping
                .shift_remove("as")
                .or_else(|| mapping.get("name").cloned());
            let Some(Value::String(label)) = label else {
                return Err(SHAPE.to_owned());
            };
            (label, true, json(&Value::Mapping(mapping))?)
        }
    };
    if !is_label(&label) {
        return Err(format!(
            "`{label}` cannot stand in a name; give it a short label with `as`"
        ));
    }
    Ok(AxisValue {
        label,
        is_word,
        value,
    })
}

/// A field of a configuration, by its dotted name.
pub(crate) fn field_of<'a>(with: &'a Map<String, Json>, path: &str) -> Option<&'a Json> {
    let mut parts = path.split('.');
    let mut value = with.get(parts.next()?)?;
    for part in parts {
        value = value.get(part)?;
    }
    Some(value)
}

/// The same value as JSON, which is what stages are handed and what keys hold.
fn json(value: &Value) -> Result<Json, String> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::String(text) => Json::String(text.clone()),
        Value::Number(number) => {
            if let Some(whole) = number.as_u64() {
                Json::from(whole)
            } else if let Some(whole) = number.as_i64() {
                Json::from(whole)
            } else {
                number
                    .as_f64()
                    .and_then(serde_json::Number::from_f64)
                    .map(Json::Number)
                    .ok_or_else(|| format!("`{number}` is not a finite number"))?
            }
        }
        Value::Sequence(list) => Json::Array(list.iter().map(json).collect::<Result<_, _>>()?),
        Value::Mapping(mapping) => {
            let mut object = Map::new();
            for (key, value) in mapping {
                let Value::String(key) = key else {
                    return Err("a key must be text; quote it".to_owned());
                };
                object.insert(key.clone(), json(value)?);
            }
            Json::Object(object)
        }
        Value::Tagged(_) => return Err("a tag; write the value out".to_owned()),
    })
}

/// A mapping that keeps the order of the file and refuses to name anything twice.
struct Ordered<T>(Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Ordered<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Ordered::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries: Vec<(String, T)> = Vec::new();
                let mut known = BTreeSet::new();
                while let Some(key) = map.next_key::<String>()? {
                    if !known.insert(key.clone()) {
                        return Err(A::Error::custom(format_args!("duplicate entry `{key}`")));
                    }
                    entries.push((key, map.next_value()?));
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(Entries(std::marker::PhantomData))
    }
}

/// One reference, or a list of them.
struct References(Vec<Reference>);

impl<'de> Deserialize<'de> for References {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = References;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`node.output`, or a list of such")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let reference = Reference::parse(text).map_err(E::custom)?;
                Ok(References(vec![reference]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut references = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    let reference = Reference::parse(&text).map_err(A::Error::custom)?;
                    if references.len() == MAX_REFERENCES {
                        return Err(A::Error::custom(format_args!(
                            "an input has at most {MAX_REFERENCES} references"
                        )));
                    }
                    if references.contains(&reference) {
                        return Err(A::Error::custom(format_args!("`{text}` is listed twice")));
                    }
                    references.push(reference);
                }
                Ok(References(references))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}
