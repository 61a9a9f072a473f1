//! What the stage says of itself.

use std::collections::BTreeMap;

use stage::{Description, Field, FieldKind, Input, Output, PROTOCOL};

/// What the stage says of itself.
pub(crate) fn description() -> Description {
    Description {
        protocol: PROTOCOL,
        name: "evaluate",
        revision: 2,
        doc: "Judges predictions, scores and actions, and says in sentences what holds.",
        uses_seed: true,
        is_resumable: false,
        uses_floats: true,
        inputs: inputs(),
        outputs: vec![
            Output::new("metrics", "Every figure with its interval and protocol."),
            Output::new("per_request", "Figures of single requests."),
            Output::new("conclusions", "Sentences that hold, with their evidence."),
            Output::new("costs", "Measured costs, and sentences about them.").measured(),
        ],
        config: config(),
        registries: BTreeMap::new(),
    }
}

fn inputs() -> Vec<Input> {
    vec![
        Input::required(
            "predictions",
            &["predictions"],
            "Predictions of the base models.",
        )
        .many(),
        Input::required(
            "requests",
            &["requests"],
            "The requests that were to be answered.",
        ),
        Input::required("catalogue", &["catalogue"], "The catalogue, for coverage.").optional(),
        Input::required(
            "samples",
            &["samples"],
            "The training samples, to check scores against.",
        )
        .optional(),
        Input::required("scores", &["scores"], "Scores of the samples by method.")
            .optional()
            .many(),
        Input::required(
            "planted",
            &["planted"],
            "The corrupted samples; without it nothing planted is detected.",
        )
        .optional(),
        Input::required(
            "truth",
            &["truth"],
            "What the simulator knows of its events: bots and accidents are detected, too.",
        )
        .optional(),
        Input::required(
            "acted",
            &["predictions"],
            "Predictions after acting on scores.",
        )
        .optional()
        .many(),
        Input::required(
            "removals",
            &["removals"],
            "How many samples the nodes wired to `acted` removed.",
        )
        .optional()
        .many(),
        Input::required("measured", &["measured"], "What nodes cost when they ran.")
            .optional()
            .many(),
    ]
}

fn config() -> Vec<Field> {
    let field = |name, kind, default, doc| Field {
        name,
        kind,
        default: Some(default),
        doc,
    };
    vec![
        field(
            "seed",
            FieldKind::Integer,
            "0",
            "Seed of resampling and permutations.",
        ),
        field(
            "resamples",
            FieldKind::Integer,
            "1000",
            "Bootstrap resamples behind an interval, 20 to 100000.",
        ),
        field(
            "permutations",
            FieldKind::Integer,
            "10000",
            "Random sign patterns behind a p-value, 100 to 10000000.",
        ),
        field(
            "top_frac",
            FieldKind::Number,
            "0.2",
            "Share of the samples that counts as a method's top when methods are compared, in (0, 1].",
        ),
        field(
            "arms",
            FieldKind::Mapping,
            "{}",
            "Words for what the nodes wired to `acted` did, by node name.",
        ),
        field(
            "oracle",
            FieldKind::String,
            "null",
            "The node wired to `acted` that drops exactly the planted samples; by default the one without axis `method` whose name holds `planted` or `oracle`.",
        ),
    ]
}
