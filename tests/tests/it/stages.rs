//! Every stage by itself: what it says of itself, what it refuses, and a whole path by hand.

use std::collections::{BTreeMap, BTreeSet};

use e2e::Folder;
use serde_json::{Value, json};

const STAGES: &[&str] = &[
    "ingest",
    "preprocess",
    "split",
    "train",
    "estimate",
    "evaluate",
    "report",
];

/// What a stage says of itself.
fn describe(stage: &str) -> Value {
    Folder::new().call(stage, &["describe"]).success().json()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    let text = value[field].as_str();
    text.unwrap_or_else(|| panic!("`{field}` is not text in {value:#}"))
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    let list = value[field].as_array();
    list.unwrap_or_else(|| panic!("`{field}` is not a list in {value:#}"))
}

#[test]
fn every_stage_describes_itself_completely() {
    let kinds_of_fields = [
        "boolean", "integer", "number", "string", "list", "mapping", "named", "file", "folder",
    ];
    for stage in STAGES {
        let description = describe(stage);
        assert_eq!(description["protocol"], json!(1), "{stage}");
        assert_eq!(text(&description, "name"), *stage);
        assert!(description["revision"].as_u64().unwrap() >= 1, "{stage}");
        assert!(text(&description, "doc").len() > 10, "{stage}");
        for flag in ["uses_seed", "uses_floats"] {
            assert!(description[flag].is_boolean(), "{stage} `{flag}`");
        }
        let mut roles = BTreeSet::new();
        for input in list(&description, "inputs") {
            assert!(roles.insert(text(input, "role")), "{stage}: {input:#}");
            assert!(!list(input, "kinds").is_empty(), "{stage}: {input:#}");
            assert!(input["is_optional"].is_boolean() && input["is_many"].is_boolean());
            assert!(!text(input, "doc").is_empty(), "{stage}: {input:#}");
        }
        let mut roles = BTreeSet::new();
        assert!(!list(&description, "outputs").is_empty(), "{stage}");
        for output in list(&description, "outputs") {
            assert!(roles.insert(text(output, "role")), "{stage}: {output:#}");
            assert!(!text(output, "kind").is_empty(), "{stage}: {output:#}");
            assert!(output["is_measured"].is_boolean(), "{stage}: {output:#}");
            assert!(!text(output, "doc").is_empty(), "{stage}: {output:#}");
        }
        let mut fields = BTreeSet::new();
        for field in list(&description, "config") {
            assert!(fields.insert(text(field, "name")), "{stage}: {field:#}");
            assert!(
                kinds_of_fields.contains(&text(field, "kind")),
                "{stage}: {field:#}"
            );
            assert!(field["default"].is_null() || field["default"].is_string());
            assert!(!text(field, "doc").is_empty(), "{stage}: {field:#}");
        }
        if description["uses_seed"] == json!(true) {
            assert!(
                fields.contains("seed"),
                "{stage} uses a seed that nobody can give"
            );
        }
        for (registry, entries) in description["registries"].as_object().unwrap() {
            assert!(
                fields.contains(registry.as_str()),
                "{stage}: registry of `{registry}`"
            );
            for entry in entries.as_array().unwrap() {
                assert!(!text(entry, "name").is_empty() && !text(entry, "doc").is_empty());
            }
        }
    }
}

#[test]
fn the_registries_hold_what_the_pipelines_use() {
    for (stage, field, names) in [
        (
            "ingest",
            "dataset",
            &["simulator", "online_retail", "sequences"][..],
        ),
        ("train", "model", &["popularity", "markov", "itemknn"]),
        (
            "estimate",
            "method",
            &[
                "random",
                "popularity",
                "recency",
                "history_length",
                "duplicates",
                "loss",
                "knn_shapley",
                "knn_density",
                "leave_one_out",
            ],
        ),
    ] {
        let description = describe(stage);
        let entries = description["registries"][field].as_array().unwrap();
        let found: BTreeSet<&str> = entries.iter().map(|entry| text(entry, "name")).collect();
        for name in names {
            assert!(found.contains(name), "`{name}` is missing in {found:?}");
        }
    }
}

#[test]
fn every_input_has_a_producer_and_the_truth_has_few_readers() {
    let descriptions: BTreeMap<&str, Value> = STAGES
        .iter()
        .map(|stage| (*stage, describe(stage)))
        .collect();
    let mut made: BTreeSet<&str> = descriptions
        .values()
        .flat_map(|description| list(description, "outputs"))
        .map(|output| text(output, "kind"))
        .collect();
    // The runner makes this one.
    made.insert("measured");
    let mut readers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (stage, description) in &descriptions {
        for input in list(description, "inputs") {
            for kind in list(input, "kinds") {
                let kind = kind.as_str().unwrap();
                assert!(
                    made.contains(kind),
                    "nobody makes `{kind}`, which `{stage}` reads"
                );
                readers.entry(kind).or_default().insert(stage);
            }
        }
    }
    // `report` may, and has no need.
    for kind in ["planted", "truth"] {
        assert_eq!(readers[kind], BTreeSet::from(["evaluate"]), "`{kind}`");
    }
    assert_eq!(readers["oracle"], BTreeSet::from(["train"]));
}

#[test]
fn a_stage_refuses_what_it_does_not_know() {
    let folder = Folder::new();
    folder.write("unknown.yaml", "no_such_field: 1\n");
    folder.write("empty.yaml", "{}\n");
    for stage in STAGES {
        folder
            .call(stage, &["check", "--config", "unknown.yaml"])
            .exits_with(2)
            .says(&["error: ", "no_such_field", "unknown.yaml", "line 1"]);
        folder
            .call(stage, &["check", "--config", "missing.yaml"])
            .exits_with(2)
            .says(&["missing.yaml"]);
        let directory = folder.directory("some_artifact");
        let input = format!("no_such_role={}", directory.display());
        folder
            .call(
                stage,
                &[
                    "run",
                    "--config",
                    "empty.yaml",
                    "--out",
                    "out",
                    "--in",
                    &input,
                ],
            )
            .exits_with(2);
        folder.call(stage, &["dance"]).exits_with(2);
        folder
            .call(stage, &["--help"])
            .success()
            .says(&["describe", "check", "run"]);
    }
}

/// Runs every stage by hand, from nothing to the report, and returns the folder.
fn by_hand() -> Folder {
    let folder = Folder::new();
    let run = |stage: &str, config: &str, inputs: &[&str], out: &str| {
        folder.run_stage(stage, config, inputs, out).success();
    };
    run(
        "ingest",
        "dataset: { name: simulator, n_events: 10000 }\nseed: 3\n",
        &[],
        "raw",
    );
    run(
        "preprocess",
        "k_core: { kind: iterative, users: 3, items: 3 }\n",
        &["interactions=raw/interactions", "items=raw/items"],
        "clean",
    );
    run(
        "split",
        "plant: { label_noise: 0.2 }\nseed: 3\n",
        &["events=clean/events", "items=clean/items"],
        "split",
    );
    let data = [
        "samples=split/samples",
        "sequences=split/sequences",
        "requests=split/requests",
        "catalogue=split/catalogue",
        "item_features=split/item_features",
    ];
    run("train", "model: markov\nseed: 3\n", &data, "model");
    let with = |more: &'static str| [&data[..], &[more]].concat();
    run(
        "train",
        "mode: probe\nseed: 3\n",
        &with("model=model/model"),
        "probe",
    );
    run(
        "estimate",
        "method: leave_one_out\nseed: 3\n",
        &["probe=probe/probe"],
        "score",
    );
    run(
        "train",
        "model: markov\nact: { drop_lowest: 0.2 }\nseed: 3\n",
        &with("scores=score/scores"),
        "after",
    );
    run(
        "evaluate",
        "seed: 3\n",
        &[
            "predictions[node=model,model=markov]=model/predictions",
            "requests=split/requests",
            "catalogue=split/catalogue",
            "samples=split/samples",
            "planted=split/planted",
            "truth[node=raw]=raw/truth",
            "scores[node=score,method=leave_one_out,model=markov]=score/scores",
            "acted[node=after,method=leave_one_out,model=markov]=after/predictions",
            "removals[node=after,method=leave_one_out,model=markov]=after/removals",
        ],
        "result",
    );
    run(
        "report",
        "title: By hand\n",
        &[
            "metrics[node=result]=result/metrics",
            "conclusions[node=result]=result/conclusions",
            "per_request[node=result]=result/per_request",
            "audit[node=clean]=clean/audit",
            "profile[node=split]=split/profile",
            "scores[node=score]=score/scores",
            "rejects[node=raw]=raw/rejects",
        ],
        "report",
    );
    folder
}

#[test]
fn a_whole_path_works_by_hand() {
    let folder = by_hand();
    let interactions = tables::read_all::<tables::Interaction>(&folder.join("raw/interactions"));
    assert_eq!(interactions.unwrap().len(), 10_000);
    let metrics = tables::read_all::<tables::Metric>(&folder.join("result/metrics")).unwrap();
    for wanted in ["ndcg@10", "hit_rate@10", "auroc"] {
        assert!(
            metrics.iter().any(|row| row.metric == wanted),
            "`{wanted}` is missing"
        );
    }
    assert!(metrics.iter().all(|row| row.value.is_finite()));
    // What the simulator knows of is looked for, kind by kind, and each arm says what it removed.
    let segments: BTreeSet<&str> = metrics
        .iter()
        .filter(|row| row.metric == "average_precision")
        .map(|row| row.segment.as_str())
        .collect();
    assert_eq!(
        segments,
        BTreeSet::from(["all", "truth.accident", "truth.bot"])
    );
    let removed: Vec<&tables::Metric> = metrics
        .iter()
        .filter(|row| row.metric == "n_removed")
        .collect();
    assert_eq!(removed.len(), 1);
    let samples = tables::read_all::<tables::Sample>(&folder.join("split/samples")).unwrap();
    let fifth = (0.2 * samples.len() as f64).round();
    assert!((removed[0].value - fifth).abs() < 0.5, "{removed:?}");
    let html = std::fs::read_to_string(folder.join("report/html/index.html")).unwrap();
    assert!(html.contains("By hand"));
    let tables = std::fs::read_dir(folder.join("report/tables")).unwrap();
    assert!(tables.count() > 0);
}

#[test]
fn a_stage_does_not_write_over_what_is_there() {
    let folder = Folder::new();
    let config = "dataset: { name: simulator, n_events: 10000 }\n";
    folder.run_stage("ingest", config, &[], "raw").success();
    folder
        .run_stage("ingest", config, &[], "raw")
        .exits_with(4)
        .says(&["is not empty", "--out"]);
}

/// Kinds that would tell an estimator or a model which samples are corrupted.
#[test]
fn train_and_estimate_refuse_the_truth_in_every_role() {
    let folder = Folder::new();
    folder.write("train.yaml", "model: markov\n");
    folder.write("estimate.yaml", "method: random\n");
    for kind in ["planted", "truth"] {
        folder.write("offer.json", json!({ "kind": kind }).to_string());
        for stage in ["train", "estimate"] {
            let description = describe(stage);
            assert!(!list(&description, "inputs").is_empty());
            for input in list(&description, "inputs") {
                let role = text(input, "role");
                folder
                    .call(
                        stage,
                        &[
                            "check",
                            "--config",
                            &format!("{stage}.yaml"),
                            "--offers",
                            &format!("{role}=offer.json"),
                        ],
                    )
                    .exits_with(2)
                    .says(&[role, kind, "`evaluate` and `report` alone"]);
            }
        }
    }
}

#[test]
fn estimate_refuses_the_oracle_and_train_takes_it_as_scores_alone() {
    let folder = Folder::new();
    folder.write("train.yaml", "model: markov\nact: { drop_below: 0 }\n");
    folder.write("estimate.yaml", "method: random\n");
    folder.write("offer.json", json!({ "kind": "oracle" }).to_string());
    let check = |stage: &str, role: &str| {
        let config = format!("{stage}.yaml");
        let offers = format!("{role}=offer.json");
        folder.call(stage, &["check", "--config", &config, "--offers", &offers])
    };
    check("train", "scores").success();
    check("train", "samples").exits_with(2).says(&["oracle"]);
    check("estimate", "probe").exits_with(2).says(&["oracle"]);
}

#[test]
fn a_method_that_the_probe_cannot_serve_is_not_applicable() {
    let folder = Folder::new();
    folder.write("config.yaml", "method: leave_one_out\n");
    let offer = |capabilities: &[&str]| {
        json!({ "kind": "probe", "capabilities": capabilities }).to_string()
    };
    folder.write("poor.json", offer(&["representations"]));
    folder.write(
        "rich.json",
        offer(&["representations", "counts", "losses", "transitions"]),
    );
    let check = |offers: &str| {
        folder.call(
            "estimate",
            &["check", "--config", "config.yaml", "--offers", offers],
        )
    };
    check("probe=rich.json").success();
    let refused = check("probe=poor.json");
    refused.exits_with(2).says(&["leave_one_out", "counts"]);
    assert!(refused.json()["not_applicable"].is_string());
}
