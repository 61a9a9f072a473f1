//! What a stage says of itself: roles, outputs, configuration. The runner needs nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// How a configuration field is written, and how it enters a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// Text.
    String,
    /// A list.
    List,
    /// A mapping with a fixed set of keys.
    Mapping,
    /// A registry name, or a mapping with `name` and that entry's parameters.
    Named,
    /// A file under the data root; enters a key by its content.
    File,
    /// A folder under the data root; enters a key by its content.
    Folder,
}

/// One configuration field.
#[derive(Clone, Debug, Serialize)]
pub struct Field {
    /// Name; dots for nested fields.
    pub name: &'static str,
    /// How it is written.
    pub kind: FieldKind,
    /// Default as YAML; `None` if the field is required.
    pub default: Option<&'static str>,
    /// Meaning, unit, range.
    pub doc: &'static str,
}

/// One input of a stage.
#[derive(Clone, Debug, Serialize)]
pub struct Input {
    /// Name.
    pub role: &'static str,
    /// Kinds of artifact it takes; a kind is the name of an output's main table or file.
    pub kinds: &'static [&'static str],
    /// Whether it can be left out.
    pub is_optional: bool,
    /// Whether it takes several, labelled.
    pub is_many: bool,
    /// Whether it is told which of several could not be made, and why (`run --absent`).
    pub names_absent: bool,
    /// Meaning.
    pub doc: &'static str,
}

impl Input {
    /// A required single input of one kind with the same name as its role.
    pub const fn required(
        role: &'static str,
        kinds: &'static [&'static str],
        doc: &'static str,
    ) -> Self {
        Self {
            role,
            kinds,
            is_optional: false,
            is_many: false,
            names_absent: false,
            doc,
        }
    }

    /// The same input, optional.
    #[must_use]
    pub const fn optional(self) -> Self {
        Self {
            is_optional: true,
            ..self
        }
    }

    /// The same input, taking several.
    #[must_use]
    pub const fn many(self) -> Self {
        Self {
            is_many: true,
            ..self
        }
    }

    /// The same input, told which of several are not applicable.
    #[must_use]
    pub const fn naming_absent(self) -> Self {
        Self {
            names_absent: true,
            ..self
        }
    }
}

/// One output of a stage.
#[derive(Clone, Debug, Serialize)]
pub struct Output {
    /// Name.
    pub role: &'static str,
    /// Kind: what inputs match on.
    pub kind: &'static str,
    /// Whether it holds measured things, which never enter a key by content.
    pub is_measured: bool,
    /// Meaning.
    pub doc: &'static str,
}

impl Output {
    /// An output whose kind is its name.
    pub const fn new(role: &'static str, doc: &'static str) -> Self {
        Self {
            role,
            kind: role,
            is_measured: false,
            doc,
        }
    }

    /// The same output, holding measured things.
    #[must_use]
    pub const fn measured(self) -> Self {
        Self {
            is_measured: true,
            ..self
        }
    }
}

/// Everything static about a stage.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// Version of this protocol.
    pub protocol: u32,
    /// Name.
    pub name: &'static str,
    /// Bumped when the same inputs would give different bytes.
    pub revision: u32,
    /// One sentence.
    pub doc: &'static str,
    /// Whether results depend on a seed: the runner then fills in `seed`.
    pub uses_seed: bool,
    /// Whether a killed run goes on where it was: the runner then gives it a directory that
    /// outlives it (`run --resume`).
    pub is_resumable: bool,
    /// Whether it computes with floats: the instruction-set level then enters the key.
    pub uses_floats: bool,
    /// Inputs.
    pub inputs: Vec<Input>,
    /// Outputs.
    pub outputs: Vec<Output>,
    /// Configuration.
    pub config: Vec<Field>,
    /// Registries by field name: each entry is a mapping with at least `name` and `doc`.
    pub registries: BTreeMap<&'static str, Vec<serde_json::Value>>,
}

/// What one output of a checked node offers to those that read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Kind of artifact.
    pub kind: String,
    /// Capabilities, such as `counts`.
    #[serde(default)]
    pub capabilities: BTreeSet<String>,
    /// Facts that a reader may want without data, such as `model`.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
}

/// Offers by role: of inputs when given to `check`, of outputs when returned.
pub type Offers = BTreeMap<String, Vec<Offer>>;
