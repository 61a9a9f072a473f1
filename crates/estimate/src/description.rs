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
        revision: 2,
        doc: "Scores every training sample, or every feature of the model, by one method, from the probe of one model or of several trainings of it.",
        uses_seed: true,
        is_resumable: false,
        uses_floats: true,
        inputs: inputs(),
        outputs: vec![
            Output::new(
                "scores",
                "a score per training sample, and the card of the method",
            ),
            Output::new(
                "sensitivity",
                "with `tune`: every setting that was tried, and what the choice matters",
            ),
            Output::new(
                "tiers",
                "with `tiers`: samples of high, middle and low value",
            ),
            Output::new(
                "groups",
                "with `groups`: scores by user, item, category, brand and type of event",
            ),
            Output::new(
                "influences",
                "with `influences`: the samples that matter most to single requests; a table without rows for a method that knows the mean over requests alone",
            ),
            Output::new(
                "feature_importance",
                "with `of: features`, instead of all others: importance of the features that the probe knows",
            ),
        ],
        config: config(),
        registries: BTreeMap::from([("method", METHODS.iter().map(card).collect())]),
    }
}

fn inputs() -> Vec<Input> {
    vec![
        Input::required(
            "probe",
            &["probe"],
            "what a fitted model says of samples and requests",
        )
        .optional(),
        Input::required(
            "probes",
            &["probe"],
            "instead of `probe`: trainings of one model with other seeds; scores are means, with standard errors",
        )
        .optional()
        .many(),
        Input::required("samples", &["samples"], "types of events, for `groups`").optional(),
        Input::required(
            "sequences",
            &["sequences"],
            "histories, for reasons of `influences`",
        )
        .optional(),
        Input::required(
            "requests",
            &["requests"],
            "users of requests, for reasons of `influences`",
        )
        .optional(),
        Input::required("catalogue", &["catalogue"], "identities of items").optional(),
        Input::required(
            "item_features",
            &["item_features"],
            "titles, categories and brands of items",
        )
        .optional(),
        Input::required("user_features", &["user_features"], "identities of users").optional(),
    ]
}

fn config() -> Vec<Field> {
    vec![
        field(
            "of",
            FieldKind::String,
            Some("samples"),
            "what is scored; `samples`; `features`: features of the model, by `permutation` (with `measure: loss`, of the loss instead of NDCG@10), `gradient_x_input`, `integrated_gradients` or `random`",
        ),
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
            "seed of methods that draw lots, and of the choice of requests for `influences`",
        ),
        field(
            "tune.grid",
            FieldKind::Mapping,
            Some("null"),
            "lists of values by parameter of the method; every combination is tried, and the one is kept that holds best on requests that no score is measured against",
        ),
        field(
            "tune.on",
            FieldKind::String,
            Some("valuation.tune"),
            "part of these requests; for methods on projected gradients it is what the probe kept as `gradients.held_out`",
        ),
        field(
            "tiers.share",
            FieldKind::Number,
            Some("null"),
            "share of the scored samples in each of the tiers `low` (the suspicious end) and `high`; equal scores share a tier; above 0, at most 0.5; left out with the two bounds: no output `tiers`",
        ),
        field(
            "tiers.low_below",
            FieldKind::Number,
            Some("null"),
            "instead of a share: scores below are of the tier `low`; for helpfulness alone",
        ),
        field(
            "tiers.high_above",
            FieldKind::Number,
            Some("null"),
            "scores above are of the tier `high`",
        ),
        field(
            "groups.units",
            FieldKind::List,
            Some("null"),
            "`groups: {}` adds up scores by `user`, `item`, `category`, `brand` and `event`, as far as the wired inputs know of them; a list asks for these alone",
        ),
        field(
            "groups.at_least",
            FieldKind::Integer,
            Some("5"),
            "fewest scored samples of a group that can stand out",
        ),
        field(
            "groups.threshold",
            FieldKind::Number,
            Some("3.5"),
            "robust z-score of a group's mean beyond which it stands out",
        ),
        field(
            "influences.requests",
            FieldKind::Integer,
            Some("20"),
            "`influences: {}` lists the most helpful and most harmful samples of so many requests, drawn by lot",
        ),
        field(
            "influences.top",
            FieldKind::Integer,
            Some("10"),
            "most helpful and most harmful samples of each request",
        ),
    ]
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
        "answers_requests": entry.answers_requests,
        "is_tunable": entry.is_tunable,
        "is_deterministic": entry.is_deterministic,
        "parameters": entry.parameters,
    })
}
