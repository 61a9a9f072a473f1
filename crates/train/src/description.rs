//! What the stage says of itself.

use std::collections::BTreeMap;

use models::REGISTRY;
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

fn config() -> Vec<Field> {
    [fitting(), tuning(), acting(), other_modes(), serving()].concat()
}

/// What is fitted, and what it ranks.
fn fitting() -> Vec<Field> {
    use FieldKind::{Integer, Named, String};
    vec![
        field(
            "mode",
            String,
            Some("fit"),
            "`fit` fits a model and ranks; `probe` lays out what estimators may look at; `respond` retrains without given samples; `serve` measures how fast a model answers; `merge` puts the shards of a probe together",
        ),
        field(
            "model",
            Named,
            Some("null"),
            "the model to fit; left out in the other modes",
        ),
        field(
            "seen",
            String,
            Some("keep"),
            "`keep`: items of the history are candidates; `exclude`: neither candidates nor relevant",
        ),
        field(
            "top",
            Integer,
            Some("20"),
            "length of the lists of best items",
        ),
        field(
            "keep_checkpoints",
            Integer,
            Some("0"),
            "mode `fit`: states along the training that are given as `checkpoints`, spread evenly up to the returned weights, one an epoch at most",
        ),
        field(
            "seed",
            Integer,
            Some("0"),
            "seed of the model's chance; also decides between equal scores when samples are dropped",
        ),
    ]
}

/// How a setting is chosen.
fn tuning() -> Vec<Field> {
    use FieldKind::{Integer, Mapping};
    vec![
        field(
            "tune.grid",
            Mapping,
            Some("null"),
            "lists of values by parameter of the model; every combination is tried",
        ),
        field(
            "tune.reduction",
            Integer,
            Some("3"),
            "one in so many settings goes on to the next rung, on so many times the data",
        ),
        field(
            "tune.rungs",
            Integer,
            Some("1"),
            "rungs; with 1 every setting is fitted on everything",
        ),
        field(
            "tune.folds",
            Integer,
            Some("0"),
            "folds of the training sequences to judge by; 0: judge on `valuation.fit`",
        ),
    ]
}

/// What changes in the training samples.
fn acting() -> Vec<Field> {
    use FieldKind::{Number, String};
    vec![
        field(
            "act.drop_lowest",
            Number,
            Some("null"),
            "share of all samples to drop, at the suspicious end; at most those with a score; from 0 to below 1",
        ),
        field(
            "act.drop_below",
            Number,
            Some("null"),
            "drop samples whose helpfulness is below this",
        ),
        field(
            "act.reweight.to",
            Number,
            Some("null"),
            "keep all samples, and weigh those at the suspicious end with this, as a share of the weight at the other; the weights of scored samples have the mean 1, others keep theirs; from 0 to below 1",
        ),
        field(
            "act.reweight.shape",
            String,
            Some("rank"),
            "`rank`: weights rise with the rank of the score; `sigmoid`: as the logistic function of the score, from its median in median absolute deviations",
        ),
        field(
            "regime",
            String,
            Some("drop"),
            "what removal means; `drop`: the samples are gone; `mask`: weight 0, same batches and steps as the model that is wired; their events stay in other histories in both",
        ),
    ]
}

/// What the modes beside `fit` look at.
fn other_modes() -> Vec<Field> {
    use FieldKind::{Boolean, Integer, Number, String};
    vec![
        field(
            "replicas",
            Integer,
            Some("1"),
            "mode `respond`: models for each subset, which differ in chance alone",
        ),
        field(
            "gradients.part",
            String,
            Some("null"),
            "mode `probe`: take the gradient of every sample, and its product with that of the requests of this part, `valuation.fit` if `gradients: {}`; left out: none",
        ),
        field(
            "gradients.measure",
            String,
            Some("loss"),
            "what these requests cost; `loss`: the cross-entropy of their relevant items; `ndcg`: one minus NDCG at smooth ranks among all items",
        ),
        field(
            "gradients.temperature",
            Number,
            Some("2"),
            "difference of scores at which one item stands clearly above another, for `measure: ndcg`; above 0",
        ),
        field(
            "gradients.held_out",
            String,
            Some("null"),
            "the other valuation part, whose requests are kept beside those of the target: what `tune` of `estimate` chooses by; needs `gradients.projection`",
        ),
        field(
            "gradients.projection.basis",
            String,
            Some("null"),
            "mode `probe`: keep the gradients themselves, made short; `projection: {}` is `gaussian`: whole layers by normal numbers; `sparse`: by few signs; `random`, `pca`: both factors of each layer by normal numbers or principal components (LoGra); `identity`: as they are, for small models; tables are sketched by all but `identity`; a model whose gradients are short keeps them as they are",
        ),
        field(
            "gradients.projection.rank",
            Integer,
            Some("12"),
            "numbers left of each factor: a layer gives at most the square of it, a vector it",
        ),
        field(
            "gradients.projection.table_width",
            Integer,
            Some("1024"),
            "numbers left of each table of items, positions or attributes",
        ),
        field(
            "gradients.projection.tables",
            Boolean,
            Some("true"),
            "whether tables of items, positions and attributes are part of the gradient",
        ),
        field(
            "attention.part",
            String,
            Some("null"),
            "mode `probe`: how much the predictions of this part look at the event of each sample; `training`, those of the samples themselves, if `attention: {}`; left out: nothing",
        ),
        field(
            "hidden_states",
            Boolean,
            Some("false"),
            "mode `probe`: keep the hidden states of samples and requests, with the vectors of items",
        ),
        field(
            "shard",
            String,
            Some("null"),
            "mode `probe`: the part of the samples to probe, such as `\"1/4\"`; mode `merge` makes of all parts the bytes of the whole",
        ),
        field(
            "features.max_history",
            Integer,
            Some("50"),
            "last events of a history that count in its representation; 0: all",
        ),
        field(
            "features.items",
            Number,
            Some("1"),
            "weight of item numbers in cosines of representations",
        ),
        field(
            "features.text",
            Number,
            Some("1"),
            "weight of text terms in cosines of representations",
        ),
    ]
}

/// What is timed.
fn serving() -> Vec<Field> {
    use FieldKind::Integer;
    vec![
        field(
            "serve.requests",
            Integer,
            Some("1000"),
            "mode `serve`: single requests that are timed",
        ),
        field(
            "serve.warm_up",
            Integer,
            Some("100"),
            "mode `serve`: single requests before the clock starts",
        ),
    ]
}

pub(crate) fn description() -> Description {
    Description {
        protocol: PROTOCOL,
        name: "train",
        revision: 3,
        doc: "Fits a model on training samples and ranks all candidates for every request, lays out what estimators may look at, retrains without given samples, or measures how fast a model answers.",
        uses_seed: true,
        is_resumable: true,
        uses_floats: true,
        inputs: vec![
            Input::required("samples", &["samples"], "what to train on"),
            Input::required(
                "sequences",
                &["sequences"],
                "the events that histories are prefixes of",
            ),
            Input::required("requests", &["requests"], "what to rank for"),
            Input::required("catalogue", &["catalogue"], "the items to rank"),
            Input::required(
                "item_features",
                &["item_features"],
                "text of the items, for representations",
            ),
            Input::required(
                "scores",
                &["scores", "oracle"],
                "scores of the training samples, to act on",
            )
            .optional(),
            Input::required(
                "subsets",
                &["subsets"],
                "mode `respond`: samples that each retraining leaves out",
            )
            .optional(),
            Input::required("model", &["model"], "the fitted model, in modes `probe` and `serve`; in mode `fit`, what `regime: mask` repeats").optional(),
            Input::required("checkpoints", &["checkpoints"], "mode `probe` with `gradients`: states along the training that led to the model; gradients are taken at each").optional(),
            Input::required("probes", &["probe"], "mode `merge`: all shards of one probe").optional().many(),
        ],
        outputs: vec![
            Output::new("model", "mode `fit`: the fitted model"),
            Output::new(
                "predictions",
                "mode `fit`: ranks of relevant items, best items",
            ),
            Output::new("training", "mode `fit`: loss and validation figure"),
            Output::new(
                "checkpoints",
                "mode `fit` with `keep_checkpoints`: weights and moments of the optimiser along the training; a table without rows for a model without gradients",
            ),
            Output::new("removals", "mode `fit` with `act`: how many samples were removed or weighted anew"),
            Output::new("trials", "mode `fit` with `tune`: every setting that was tried"),
            Output::new("probe", "modes `probe` and `merge`: what estimators may look at"),
            Output::new(
                "responses",
                "mode `respond`: loss and NDCG@10 of every request under every retrained model",
            ),
            Output::new("latency", "mode `serve`: times of requests, and throughput").measured(),
        ],
        config: config(),
        registries: BTreeMap::from([(
            "model",
            REGISTRY.iter().map(models::Entry::describe).collect(),
        )]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::config::Config;

    fn leaves(prefix: &str, value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    leaves(&format!("{prefix}{name}."), value, found);
                }
            }
            _ => found.push(prefix.trim_end_matches('.').to_owned()),
        }
    }

    #[test]
    fn the_fields_described_are_the_fields_read() {
        let config: Config = stage::yaml::parse(
            "act: { drop_lowest: 0.1, reweight: { to: 0.2 } }\ntune: { grid: {} }\ngradients: { projection: {} }\nattention: {}\nseed: 1\n",
            "t",
        )
        .unwrap();
        let mut found = Vec::new();
        leaves("", &serde_json::to_value(&config).unwrap(), &mut found);
        let mut described: Vec<String> = super::config()
            .iter()
            .map(|field| field.name.to_owned())
            .collect();
        found.sort_unstable();
        described.sort_unstable();
        assert_eq!(found, described);
    }

    #[test]
    fn the_defaults_described_are_the_defaults_taken() {
        let described: String = super::config()
            .iter()
            .filter(|field| !field.name.contains('.'))
            .filter_map(|field| Some(format!("{}: {}\n", field.name, field.default?)))
            .collect();
        let written: Config = stage::yaml::parse(&described, "t").unwrap();
        let silent: Config = stage::yaml::parse("{}\n", "t").unwrap();
        assert_eq!(
            serde_json::to_value(written).unwrap(),
            serde_json::to_value(silent).unwrap()
        );
    }
}
