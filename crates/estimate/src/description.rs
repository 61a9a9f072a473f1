//! What the stage says of itself.

use std::collections::BTreeMap;

use attribution::{Entry, METHODS};
use serde_json::{Value, json};
use stage::{Description, Field, FieldKind, Input, Output, PROTOCOL};

const fn field(
    name: &'static str,
    kind: FieldKind,
    default: Option<&'static str>,
    doc: &'static str,
) -> Field {
    Field {
        name,
        kind,
        default,
        doc,
    }
}

pub(crate) fn description() -> Description {
    Description {
        protocol: PROTOCOL,
        name: "estimate",
        revision: 1,
        doc: "Scores every training sample by one method, from the probe of one model.",
        uses_seed: true,
        is_resumable: false,
        uses_floats: true,
        inputs: vec![Input::required(
            "probe",
            &["probe"],
            "what a fitted model says of samples and requests",
        )],
        outputs: vec![Output::new(
            "scores",
            "a score per training sample, and the card of the method",
        )],
        config: vec![
            field(
                "method",
                FieldKind::Named,
                None,
                "the method, with its parameters",
            ),
            field(
                "target.part",
                FieldKind::String,
                Some("valuation.fit"),
                "part whose requests importance is measured against: `valuation.fit` or `valuation.tune`",
            ),
            field(
                "target.reduce",
                FieldKind::String,
                Some("mean"),
                "how requests become one number; `mean`: each weighs the same, and so does each of its relevant items",
            ),
            field(
                "seed",
                FieldKind::Integer,
                Some("0"),
                "seed of methods that draw lots",
            ),
        ],
        registries: BTreeMap::from([("method", METHODS.iter().map(card).collect())]),
    }
}

/// The card of a method, for tools that list them.
fn card(entry: &Entry) -> Value {
    json!({
        "name": entry.name,
        "doc": entry.doc,
        "revision": entry.revision,
        "family": entry.family,
        "estimand": entry.estimand,
        "paper": entry.paper,
        "needs": entry.needs,
        "is_signed": entry.scale.is_signed(),
        "suspect": entry.scale.suspect(),
        "is_deterministic": entry.is_deterministic,
        "parameters": entry.parameters,
    })
}
