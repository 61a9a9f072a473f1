//! What the stage says of itself.

use std::collections::BTreeMap;

use datasets::{Entry, REGISTRY};
use serde_json::{Value, json};
use stage::{Description, Field, FieldKind, Output, PROTOCOL};

use crate::provenance;

pub(crate) fn description() -> Description {
    Description {
        protocol: PROTOCOL,
        name: "ingest",
        revision: 1,
        doc: "Reads a raw log or simulates a shop; every record becomes a row or a reject with line, reason and hint.",
        uses_seed: true,
        is_resumable: false,
        uses_floats: true,
        inputs: Vec::new(),
        outputs: vec![
            Output::new("interactions", "one event a row, as read"),
            Output::new("items", "the catalogue"),
            Output::new("users", "users with their segment"),
            Output::new("queries", "texts of queries"),
            Output::new("judgments", "graded (query, item) pairs"),
            Output::new("truth", "what the simulator knows of each event"),
            Output::new("rejects", "refused records with line, reason and hint"),
            Output::new("audit", "records read and refused"),
        ],
        config: config(),
        registries: BTreeMap::from([("dataset", REGISTRY.iter().map(entry).collect())]),
    }
}

fn config() -> Vec<Field> {
    let field = |name, kind, default, doc| Field {
        name,
        kind,
        default,
        doc,
    };
    vec![
        field(
            "dataset",
            FieldKind::Named,
            None,
            "the data set, with its parameters",
        ),
        field(
            "file",
            FieldKind::File,
            Some("null"),
            "raw file under the data root, plain or gzip",
        ),
        field(
            "folder",
            FieldKind::Folder,
            Some("null"),
            "folder of raw files under the data root",
        ),
        field(
            "seed",
            FieldKind::Integer,
            Some("0"),
            "decides everything that the simulator draws",
        ),
    ]
}

/// One data set, with where its known raw files come from.
fn entry(entry: &Entry) -> Value {
    let defaults = entry.defaults();
    let parameters: Vec<Value> = entry
        .parameters
        .iter()
        .map(|parameter| {
            json!({
                "name": parameter.name,
                "default": defaults[parameter.name],
                "doc": parameter.doc,
            })
        })
        .collect();
    let sources: Vec<Value> = provenance::all()
        .unwrap_or_default()
        .into_iter()
        .filter(|(_, source)| source.dataset == entry.name)
        .map(|(name, source)| {
            let files: Vec<Value> = source
                .files
                .iter()
                .map(
                    |file| json!({ "path": file.path, "bytes": file.bytes, "sha256": file.sha256 }),
                )
                .collect();
            json!({
                "entry": name,
                "title": source.title,
                "page": source.page,
                "citation": source.citation,
                "licence": source.licence,
                "layout": source.layout,
                "rows": source.rows,
                "files": files,
            })
        })
        .collect();
    json!({
        "name": entry.name,
        "revision": entry.revision,
        "doc": entry.doc,
        "takes": entry.takes,
        "parameters": parameters,
        "sources": sources,
    })
}
