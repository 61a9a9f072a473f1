//! What `schema` prints: a JSON Schema (draft 2020-12) of pipeline files, so that an editor completes
//! and checks stages, roles, parameters, methods, models and data sets while they are typed.

use serde_json::{Map, Value as Json, json};
use stage::{Failure, FieldKind};

use crate::executable::{STAGES, Stages};

/// The schema of a pipeline file that uses the stages that lie beside this executable.
///
/// # Errors
/// If a stage is missing or does not describe itself.
pub fn schema(stages: &Stages<'_>) -> Result<Json, Failure> {
    let mut cases = Vec::new();
    let mut definitions = Map::new();
    for &name in STAGES {
        let described = stages.description_of(name)?;
        definitions.insert(format!("{name}.with"), config(&described));
        definitions.insert(format!("{name}.in"), inputs(&described));
        cases.push(json!({
            "if": { "properties": { "stage": { "const": name } } },
            "then": { "properties": {
                "with": { "$ref": format!("#/$defs/{name}.with") },
                "in": { "$ref": format!("#/$defs/{name}.in") },
            } },
        }));
    }
    let word = json!({ "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]*$" });
    Ok(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Touchstone pipeline",
        "type": "object",
        "required": ["pipeline", "nodes"],
        "additionalProperties": false,
        "properties": {
            "pipeline": word,
            "about": { "type": "string", "description": "What it answers." },
            "seed": { "type": "integer", "minimum": 0, "default": 0 },
            "nodes": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": word,
                "additionalProperties": {
                    "type": "object",
                    "required": ["stage"],
                    "additionalProperties": false,
                    "properties": {
                        "stage": {
                            "description": "A stage, or the path of an executable beside this file.",
                            "anyOf": [
                                { "enum": STAGES },
                                { "type": "string", "pattern": "/" },
                            ],
                        },
                        "in": { "type": "object" },
                        "with": { "type": "object" },
                        "for": {
                            "description": "Axes: one element of the node for each combination.",
                            "type": "object",
                            "additionalProperties": { "type": "array", "minItems": 1 },
                        },
                        "timeout": {
                            "description": "After this long the node is stopped: `90s`, `30m`, `2h`.",
                            "type": "string",
                        },
                        "memory": {
                            "description": "What it needs at most, shared with what runs beside it: `4GiB`.",
                            "type": "string",
                        },
                        "threads": {
                            "description": "Most threads that it is given.",
                            "type": "integer",
                            "minimum": 1,
                        },
                    },
                    "allOf": cases,
                },
            },
        },
        "$defs": definitions,
    }))
}

/// A node's `in` for a stage.
fn inputs(described: &Json) -> Json {
    let reference = json!({ "type": "string" });
    let mut roles = Map::new();
    for input in described["inputs"].as_array().into_iter().flatten() {
        let kinds: Vec<&str> = input["kinds"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        let mut role = if input["is_many"] == true {
            json!({ "anyOf": [reference, { "type": "array", "items": reference, "minItems": 1 }] })
        } else {
            reference.clone()
        };
        role["description"] = json!(format!(
            "{} (takes {})",
            input["doc"].as_str().unwrap_or_default(),
            kinds.join(", ")
        ));
        if let Some(name) = input["role"].as_str() {
            roles.insert(name.to_owned(), role);
        }
    }
    json!({ "type": "object", "additionalProperties": false, "properties": roles })
}

/// A node's `with` for a stage: dotted names become mappings.
fn config(described: &Json) -> Json {
    let mut fields: Vec<&Json> = described["config"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    // Parents come before what lies in them.
    fields.sort_by_key(|field| {
        field["name"]
            .as_str()
            .unwrap_or_default()
            .matches('.')
            .count()
    });
    let mut root = json!({ "type": "object", "additionalProperties": false, "properties": {} });
    for field in fields {
        let Some(name) = field["name"].as_str() else {
            continue;
        };
        let registry = described["registries"].get(name);
        let mut place = &mut root;
        let mut parts = name.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_some() {
                place = &mut place["properties"][part];
                if place["properties"].is_null() {
                    place["properties"] = json!({});
                }
            } else {
                place["properties"][part] = value(field, registry);
            }
        }
    }
    root
}

/// The values of one field.
fn value(field: &Json, registry: Option<&Json>) -> Json {
    let kind: Option<FieldKind> = serde_json::from_value(field["kind"].clone()).ok();
    let mut schema = match kind {
        Some(FieldKind::Boolean) => json!({ "type": "boolean" }),
        Some(FieldKind::Integer) => json!({ "type": "integer" }),
        Some(FieldKind::Number) => json!({ "type": "number" }),
        Some(FieldKind::String | FieldKind::File | FieldKind::Folder) => {
            json!({ "type": "string" })
        }
        Some(FieldKind::List) => json!({ "type": "array" }),
        Some(FieldKind::Mapping) => json!({ "type": ["object", "null"], "properties": {} }),
        Some(FieldKind::Named) => named(registry),
        None => json!({}),
    };
    if let Some(doc) = field["doc"].as_str() {
        schema["description"] = json!(doc);
    }
    if let Some(default) = field["default"].as_str() {
        // As it is written in a file; for people, so it need not be the value itself.
        schema["default"] = json!(default);
    }
    schema
}

/// A registry's entries: a name, or a mapping with `name` and that entry's parameters.
fn named(registry: Option<&Json>) -> Json {
    let entries: Vec<&Json> = registry
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
        .collect();
    if entries.is_empty() {
        return json!({ "type": ["string", "object"] });
    }
    let names: Vec<&str> = entries
        .iter()
        .filter_map(|entry| entry["name"].as_str())
        .collect();
    let mappings: Vec<Json> = entries
        .iter()
        .map(|entry| {
            let mut parameters = Map::new();
            parameters.insert("name".to_owned(), json!({ "const": entry["name"] }));
            for parameter in entry["parameters"].as_array().into_iter().flatten() {
                if let Some(name) = parameter["name"].as_str() {
                    let described = json!({ "description": parameter["doc"] });
                    parameters.insert(name.to_owned(), described);
                }
            }
            json!({
                "type": "object",
                "description": entry["doc"],
                "required": ["name"],
                "properties": parameters,
            })
        })
        .collect();
    json!({ "anyOf": [{ "enum": names }, { "anyOf": mappings }] })
}
