//! The one place that sees the YAML parser.
//!
//! What people write is parsed into plain structs, strictly: unknown and duplicate keys, anchors,
//! aliases, tags, merge keys, several documents and deep nesting are refused, each with its line.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
pub use serde_yaml::{Mapping, Value};

use crate::failure::{Exit, Failure, suggest};

mod strict;

/// Longest YAML that is parsed.
pub const MAX_BYTES: usize = 1 << 20;

/// Parses YAML text strictly. `origin` names it in messages.
///
/// # Errors
/// If the text is too long or too deeply nested, uses what is refused, or does not fit `T`.
pub fn parse<T: DeserializeOwned>(text: &str, origin: &str) -> Result<T, Failure> {
    strict::refuse_exotic(text, origin)?;
    serde_yaml::from_str(text).map_err(|error| failure(&error, origin))
}

/// Turns a parsed value into a typed configuration. `origin` names it in messages.
///
/// # Errors
/// If the value does not fit `T`.
pub fn typed<T: DeserializeOwned>(value: Value, origin: &str) -> Result<T, Failure> {
    serde_yaml::from_value(value).map_err(|error| failure(&error, origin))
}

/// Writes a value as YAML.
///
/// # Errors
/// If the value cannot be written as YAML.
pub fn to_text<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_yaml::to_string(value).map_err(Failure::bug)
}

fn failure(error: &serde_yaml::Error, origin: &str) -> Failure {
    let mut text = error.to_string();
    // The parser leaves out a place at the very start of the text.
    if let Some(place) = error.location()
        && !text.contains(" at line ")
    {
        let (line, column) = (place.line(), place.column());
        text = format!("{text} at line {line} column {column}");
    }
    let failure = Failure::new(Exit::Configuration, format!("failed to read `{origin}`"));
    let hint = unknown_of(&text)
        .map(|(unknown, known)| suggest(&unknown, known.iter().map(String::as_str)));
    let failure = failure.cause(text);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Takes the unknown name and the known ones out of a message of `deny_unknown_fields`.
fn unknown_of(text: &str) -> Option<(String, Vec<String>)> {
    let rest = text
        .split_once("unknown field ")
        .or_else(|| text.split_once("unknown variant "))?
        .1;
    let mut quoted = rest.split('`').skip(1).step_by(2).map(str::to_owned);
    let unknown = quoted.next()?;
    Some((unknown, quoted.collect()))
}

/// A registry name with that entry's parameters, written as `name` or `{ name: name, parameter: value }`.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Name of the entry.
    pub name: String,
    /// Its parameters, still to be read by the entry.
    pub parameters: Mapping,
}

impl Named {
    /// A name without parameters.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            parameters: Mapping::new(),
        }
    }

    /// The parameters as JSON, for libraries that do not know YAML.
    ///
    /// # Errors
    /// If a key is not text or a number is not finite.
    pub fn to_json(&self) -> Result<serde_json::Value, Failure> {
        serde_json::to_value(&self.parameters).map_err(|error| {
            Failure::configuration(error).cause(format!("parameters of `{}`", self.name))
        })
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        match Value::deserialize(deserializer)? {
            Value::String(name) => Ok(Self {
                name,
                parameters: Mapping::new(),
            }),
            Value::Mapping(mut mapping) => match mapping.shift_remove("name") {
                Some(Value::String(name)) => Ok(Self {
                    name,
                    parameters: mapping,
                }),
                _ => Err(D::Error::custom(
                    "a mapping here needs a `name`, which is text",
                )),
            },
            _ => Err(D::Error::custom(
                "expected a name, or a mapping with a `name`",
            )),
        }
    }
}

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut mapping = Mapping::new();
        mapping.insert("name".into(), self.name.clone().into());
        for (key, value) in &self.parameters {
            mapping.insert(key.clone(), value.clone());
        }
        mapping.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[expect(dead_code, reason = "only parsed")]
        dim: Option<u32>,
        model: Option<Named>,
    }

    fn message(text: &str) -> String {
        parse::<Config>(text, "test.yaml").unwrap_err().to_string()
    }

    #[test]
    fn unknown_keys_name_their_line_and_a_suggestion() {
        let message = message("model: a\ndimm: 3\n");
        assert!(message.contains("line 2"), "{message}");
        assert!(message.contains("did you mean `dim`?"), "{message}");
        let first = self::message("dimm: 3\nmodel: a\n");
        assert!(first.contains("line 1"), "{first}");
    }

    #[test]
    fn what_surprises_is_refused_with_its_line() {
        for (text, what) in [
            ("model: &a x\n", "anchor"),
            ("model: *a\n", "anchor"),
            ("model: !!str x\n", "tag"),
            ("dim: 3\nmodel:\n  <<: {}\n", "merge key at line 3"),
            ("dim: 3\n---\ndim: 4\n", "second document at line 2"),
            ("\u{feff}dim: 3\n", "byte-order mark"),
            ("dim: 3\ndim: 4\n", "duplicate"),
            ("dim:\n\t3\n", "tab at line 2"),
        ] {
            let message = message(text);
            assert!(message.contains(what), "{text:?}: {message}");
        }
    }

    #[test]
    fn quoted_and_commented_text_is_left_alone() {
        parse::<Config>("# a & b *c\nmodel: \"*x &y\" # !z\n", "test.yaml").unwrap();
        parse::<Config>("model: |\n  *x &y !z\ndim: 3\n", "test.yaml").unwrap();
    }

    #[test]
    fn names_come_bare_or_with_parameters() {
        let bare: Config = parse("model: sasrec\n", "t").unwrap();
        assert_eq!(bare.model.unwrap(), Named::new("sasrec"));
        let full: Config = parse("model: { name: sasrec, dim: 64 }\n", "t").unwrap();
        let full = full.model.unwrap();
        assert_eq!(full.to_json().unwrap(), serde_json::json!({ "dim": 64 }));
        assert!(message("model: { dim: 64 }\n").contains("needs a `name`"));
    }
}
