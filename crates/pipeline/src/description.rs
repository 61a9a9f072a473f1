//! What a stage says of itself, as read from its `describe`: stages may be written in any language,
//! so nothing here is borrowed from a stage's code.

use serde::{Deserialize, Serialize};
use stage::{FieldKind, suggest};

/// Name and kind of the artifact that the runner makes of every node it executes.
pub const MEASURED: &str = "measured";

/// One input of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Name.
    pub role: String,
    /// Kinds of artifact it takes.
    pub kinds: Vec<String>,
    /// Whether it can be left out.
    #[serde(default)]
    pub is_optional: bool,
    /// Whether it takes several, labelled.
    #[serde(default)]
    pub is_many: bool,
    /// Whether it is told which of several are not applicable, and why.
    #[serde(default)]
    pub names_absent: bool,
}

/// One output of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Name.
    pub role: String,
    /// Kind.
    pub kind: String,
    /// Whether it holds measured things.
    #[serde(default)]
    pub is_measured: bool,
}

/// One configuration field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Name; dots for nested fields.
    pub name: String,
    /// How it is written and how it enters a key.
    pub kind: FieldKind,
}

/// What the runner needs to know of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Version of the stage protocol.
    pub protocol: u32,
    /// Name of the stage.
    pub name: String,
    /// Revision of its results.
    #[serde(default)]
    pub revision: u32,
    /// Whether results depend on a seed.
    #[serde(default)]
    pub uses_seed: bool,
    /// Whether a killed run goes on where it was.
    #[serde(default)]
    pub is_resumable: bool,
    /// Whether it computes with floats.
    #[serde(default)]
    pub uses_floats: bool,
    /// Inputs.
    #[serde(default)]
    pub inputs: Vec<Input>,
    /// Outputs.
    #[serde(default)]
    pub outputs: Vec<Output>,
    /// Configuration.
    #[serde(default)]
    pub config: Vec<Field>,
}

impl Description {
    /// The input of a role; else what was probably meant.
    ///
    /// # Errors
    /// A hint that lists the roles.
    pub fn input(&self, role: &str) -> Result<&Input, String> {
        let found = self.inputs.iter().find(|input| input.role == role);
        found.ok_or_else(|| {
            if self.inputs.is_empty() {
                format!("`{}` takes no inputs", self.name)
            } else {
                suggest(role, self.inputs.iter().map(|input| input.role.as_str()))
            }
        })
    }

    /// Whether an output holds measured things; the runner's own always does.
    pub fn is_measured(&self, output: &str) -> bool {
        output == MEASURED
            || self
                .outputs
                .iter()
                .any(|declared| declared.role == output && declared.is_measured)
    }

    /// Names of the configuration fields that stand for content under the data root.
    pub fn content_fields(&self) -> impl Iterator<Item = &str> {
        self.config
            .iter()
            .filter(|field| matches!(field.kind, FieldKind::File | FieldKind::Folder))
            .map(|field| field.name.as_str())
    }
}
