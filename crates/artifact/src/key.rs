//! What determines the outputs of a node, as a struct that can be printed and compared.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::canonical;
use crate::digest::{ArtifactId, ContentHash, KeyId, ParseDigestError};

/// Version of the layout of keys and records; part of every key.
pub const KEY_FORMAT: u32 = 1;

/// Everything that determines the outputs of a node, and nothing else: no path, time, host, node
/// name or thread count.
///
/// ```
/// use std::collections::BTreeMap;
/// use artifact::{ContentHash, Key, difference};
///
/// let key = Key {
///     format: artifact::KEY_FORMAT,
///     protocol: 1,
///     stage: "estimate".to_owned(),
///     executable: ContentHash::of(b"the bytes of the executable"),
///     config: serde_json::json!({ "method": { "name": "knn_shapley", "k": 5 }, "seed": 20 }),
///     inputs: BTreeMap::new(),
///     absent: BTreeMap::new(),
///     files: BTreeMap::new(),
///     isa: None,
/// };
/// let mut edited = key.clone();
/// edited.config["method"]["k"] = 10.into();
/// assert_ne!(key.id(), edited.id());
/// let differences = difference(&key, &edited);
/// assert_eq!(differences[0].to_string(), "config.method.k: 5 -> 10");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// [`KEY_FORMAT`].
    pub format: u32,
    /// Version of the stage protocol.
    pub protocol: u32,
    /// Name of the stage as its `describe` gives it.
    pub stage: String,
    /// BLAKE3 of its executable.
    pub executable: ContentHash,
    /// The normalised configuration: defaults filled in, seed included if the stage uses one; of
    /// the fields that are in `files` only the name of the file or folder, without where it lies.
    /// The order of keys does not matter.
    pub config: Value,
    /// Inputs by role; those of a role in the order of their labels.
    pub inputs: BTreeMap<String, Vec<KeyInput>>,
    /// What a role was told is not applicable, and why: reasons by label by role. Left out of the
    /// printed key where it is empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub absent: BTreeMap<String, BTreeMap<String, String>>,
    /// Content of raw files and folders by configuration field.
    pub files: BTreeMap<String, ContentHash>,
    /// Instruction-set level of the kernels, for stages that compute with floats.
    pub isa: Option<String>,
}

/// One input of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyInput {
    /// Its place on the axes, such as `method=random,node=score`; empty where a role takes one.
    pub label: String,
    /// What it is.
    pub source: Source,
}

/// What an input is to a key. Written as `ID` or `measured:KEY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// An artifact, by its content.
    Artifact(ArtifactId),
    /// Something measured (times, memory): by the key of what produced it, since its content
    /// differs from run to run.
    Measured(KeyId),
}

const MEASURED: &str = "measured:";

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Artifact(id) => id.fmt(f),
            Self::Measured(key) => write!(f, "{MEASURED}{key}"),
        }
    }
}

impl FromStr for Source {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        match text.strip_prefix(MEASURED) {
            Some(key) => key.parse().map(Self::Measured),
            None => text.parse().map(Self::Artifact),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Key {
    /// The key as JSON, with sorted keys at every depth.
    pub fn to_json(&self) -> Value {
        let mut key = serde_json::json!({
            "format": self.format,
            "protocol": self.protocol,
            "stage": self.stage,
            "executable": self.executable,
            "config": self.config,
            "inputs": self.inputs,
            "files": self.files,
            "isa": self.isa,
        });
        if !self.absent.is_empty() {
            key["absent"] = serde_json::json!(self.absent);
        }
        canonical::sorted(&key)
    }

    /// Its name: BLAKE3 of its canonical JSON.
    pub fn id(&self) -> KeyId {
        let text = canonical::text(&self.to_json());
        KeyId::from_bytes(*ContentHash::of(text.as_bytes()).as_bytes())
    }
}

/// One leaf in which two keys differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Where, such as `config.method.k` or `inputs.scores[method=random]`.
    pub path: String,
    /// What the old key has there; `None` if nothing.
    pub old: Option<Value>,
    /// What the new key has there; `None` if nothing.
    pub new: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<Value>| match value {
            None => "(absent)".to_owned(),
            Some(value) => value.to_string(),
        };
        write!(
            f,
            "{}: {} -> {}",
            self.path,
            show(&self.old),
            show(&self.new)
        )
    }
}

/// The leaves in which two keys differ, sorted by path; empty if the keys are the same.
pub fn difference(old: &Key, new: &Key) -> Vec<Difference> {
    let (old, new) = (leaves_of(old), leaves_of(new));
    let mut differences = Vec::new();
    for (path, value) in &old {
        match new.get(path) {
            Some(other) if is_same(value, other) => {}
            other => differences.push(Difference {
                path: path.clone(),
                old: Some(value.clone()),
                new: other.cloned(),
            }),
        }
    }
    for (path, value) in &new {
        if !old.contains_key(path) {
            differences.push(Difference {
                path: path.clone(),
                old: None,
                new: Some(value.clone()),
            });
        }
    }
    differences.sort_by(|a, b| a.path.cmp(&b.path));
    differences
}

/// Whether two leaves are the same. A key read back from its record may hold a float that is one
/// unit in the last place off, because the JSON reader rounds long decimals carelessly; that is no
/// difference worth telling.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) if x.is_f64() && y.is_f64() => {
            match (x.as_f64(), y.as_f64()) {
                (Some(x), Some(y)) => {
                    x.to_bits() == y.to_bits()
                        || x.next_up().to_bits() == y.to_bits()
                        || x.next_down().to_bits() == y.to_bits()
                }
                _ => false,
            }
        }
        _ => a == b,
    }
}

/// All leaves by path. Inputs go by role and label, not by position, so that one more input is one
/// difference.
fn leaves_of(key: &Key) -> BTreeMap<String, Value> {
    let mut leaves = BTreeMap::new();
    for (name, value) in [
        ("format", Value::from(key.format)),
        ("protocol", Value::from(key.protocol)),
        ("stage", Value::from(key.stage.as_str())),
        ("executable", Value::from(key.executable.to_string())),
    ] {
        leaves.insert(name.to_owned(), value);
    }
    if let Some(isa) = &key.isa {
        leaves.insert("isa".to_owned(), Value::from(isa.as_str()));
    }
    for (field, hash) in &key.files {
        leaves.insert(format!("files.{field}"), Value::from(hash.to_string()));
    }
    for (role, inputs) in &key.inputs {
        for input in inputs {
            let path = if input.label.is_empty() {
                format!("inputs.{role}")
            } else {
                format!("inputs.{role}[{}]", input.label)
            };
            // Labels are distinct within a role; if a caller breaks that, no input is hidden.
            let mut free = path.clone();
            let mut n = 1;
            while leaves.contains_key(&free) {
                n += 1;
                free = format!("{path}#{n}");
            }
            leaves.insert(free, Value::from(input.source.to_string()));
        }
    }
    for (role, reasons) in &key.absent {
        for (label, reason) in reasons {
            leaves.insert(
                format!("absent.{role}[{label}]"),
                Value::from(reason.as_str()),
            );
        }
    }
    collect_leaves("config", &key.config, &mut leaves);
    leaves
}

fn collect_leaves(path: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                collect_leaves(&format!("{path}.{key}"), value, leaves);
            }
        }
        Value::Array(array) if !array.is_empty() => {
            for (index, value) in array.iter().enumerate() {
                collect_leaves(&format!("{path}[{index}]"), value, leaves);
            }
        }
        leaf => {
            leaves.insert(path.to_owned(), leaf.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn artifact(byte: u8) -> Source {
        Source::Artifact(ArtifactId::from_bytes([byte; 32]))
    }

    fn input(label: &str, source: Source) -> KeyInput {
        KeyInput {
            label: label.to_owned(),
            source,
        }
    }

    fn key() -> Key {
        Key {
            format: KEY_FORMAT,
            protocol: 1,
            stage: "estimate".to_owned(),
            executable: ContentHash::of(b"executable"),
            config: json!({ "method": { "name": "knn", "k": 5 }, "parts": [0.8, 0.1, 0.1], "seed": 1 }),
            inputs: BTreeMap::from([
                ("probe".to_owned(), vec![input("", artifact(1))]),
                (
                    "scores".to_owned(),
                    vec![
                        input("method=a", artifact(2)),
                        input("method=b", Source::Measured(KeyId::from_bytes([3; 32]))),
                    ],
                ),
            ]),
            absent: BTreeMap::new(),
            files: BTreeMap::from([("file".to_owned(), ContentHash::of(b"raw"))]),
            isa: Some("x86-64-v3".to_owned()),
        }
    }

    fn paths(differences: &[Difference]) -> Vec<String> {
        differences.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_id_of_a_key_is_pinned() {
        // A change here makes every stored result unreachable: bump `KEY_FORMAT` and say so.
        assert_eq!(
            key().id().to_string(),
            "f2ce2aba75ff0260e059117fcc98a9292726a43c4681419cc4f32088f94f9690"
        );
    }

    #[test]
    fn a_key_survives_json() {
        let text = key().to_json().to_string();
        let back: Key = serde_json::from_str(&text).unwrap();
        assert_eq!(back, key());
        assert_eq!(back.id(), key().id());
    }

    #[test]
    fn equal_keys_have_no_differences() {
        assert_eq!(difference(&key(), &key()), []);
    }

    #[test]
    fn every_field_is_in_the_id_and_in_the_differences() {
        type Edit = (&'static str, fn(&mut Key));
        let edits: [Edit; 10] = [
            ("format", |key| key.format += 1),
            ("protocol", |key| key.protocol += 1),
            ("stage", |key| key.stage.push('x')),
            ("executable", |key| {
                key.executable = ContentHash::of(b"other");
            }),
            ("config.seed", |key| key.config["seed"] = json!(2)),
            ("config.parts[1]", |key| key.config["parts"][1] = json!(0.2)),
            ("inputs.probe", |key| {
                key.inputs.get_mut("probe").unwrap()[0].source = artifact(9);
            }),
            ("inputs.scores[method=b]", |key| {
                key.inputs.get_mut("scores").unwrap()[1].source = artifact(9);
            }),
            ("files.file", |key| {
                key.files.insert("file".to_owned(), ContentHash::of(b"rax"));
            }),
            ("isa", |key| key.isa = None),
        ];
        for (path, edit) in edits {
            let mut edited = key();
            edit(&mut edited);
            assert_ne!(edited.id(), key().id(), "{path}");
            let differences = difference(&key(), &edited);
            assert_eq!(differences.len(), 1, "{path}: {differences:?}");
            assert_eq!(differences[0].path, path);
        }
    }

    #[test]
    fn differences_name_old_and_new_and_what_is_absent() {
        let mut edited = key();
        edited.config["method"] = json!({ "name": "loo" });
        edited.config["extra"] = json!([]);
        let scores = edited.inputs.get_mut("scores").unwrap();
        scores.insert(0, input("method=0", artifact(7)));
        assert_eq!(
            paths(&difference(&key(), &edited)),
            [
                "config.extra: (absent) -> []".to_owned(),
                "config.method.k: 5 -> (absent)".to_owned(),
                "config.method.name: \"knn\" -> \"loo\"".to_owned(),
                format!(
                    "inputs.scores[method=0]: (absent) -> \"{}\"",
                    "07".repeat(32)
                ),
            ]
        );
    }

    #[test]
    fn inputs_that_share_a_label_are_all_compared() {
        let mut old = key();
        old.inputs.insert(
            "x".to_owned(),
            vec![input("", artifact(1)), input("", artifact(2))],
        );
        let mut new = old.clone();
        new.inputs.get_mut("x").unwrap()[1].source = artifact(3);
        assert_eq!(difference(&old, &new)[0].path, "inputs.x#2");
    }

    #[test]
    fn whole_numbers_and_floats_are_not_the_same() {
        let mut edited = key();
        edited.config["seed"] = json!(1.0);
        assert_ne!(edited.id(), key().id());
        assert_eq!(
            paths(&difference(&key(), &edited)),
            ["config.seed: 1 -> 1.0"]
        );
    }

    proptest! {
        #[test]
        fn the_id_does_not_depend_on_the_order_of_configuration(
            pairs in prop::collection::btree_map("[a-z]{1,8}", any::<i64>(), 0..8)
        ) {
            let forward: serde_json::Map<String, Value> =
                pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            let backward: serde_json::Map<String, Value> =
                pairs.iter().rev().map(|(name, value)| (name.clone(), json!(value))).collect();
            let with = |config| Key { config: Value::Object(config), ..key() };
            prop_assert_eq!(with(forward).id(), with(backward).id());
        }

        #[test]
        fn keys_differ_exactly_if_their_ids_do(a in 0..3_i64, b in 0..3_i64, x in 0..3_u8, y in 0..3_u8) {
            let with = |number: i64, byte: u8| {
                let mut key = key();
                key.config["method"]["k"] = json!(number);
                key.inputs.insert("probe".to_owned(), vec![input("", artifact(byte))]);
                key
            };
            let (old, new) = (with(a, x), with(b, y));
            let n = usize::from(a != b) + usize::from(x != y);
            prop_assert_eq!(difference(&old, &new).len(), n);
            prop_assert_eq!(old.id() == new.id(), n == 0);
        }
    }
}
