//! Same seed, same bytes: in another folder, at another time, with other threads, under another
//! locale and time zone.

use std::collections::BTreeMap;
use std::path::Path;

use e2e::{Folder, Pipeline, retail};

use crate::rerun::SMALL;

#[test]
fn every_unmeasured_artifact_of_quick_is_the_same_with_one_and_two_threads() {
    let quick = |n: &str| {
        let pipeline = Pipeline::new().named("quick");
        pipeline
            .option("--threads")
            .option(n)
            .option("--jobs")
            .option(n)
    };
    let (one, two) = (quick("1"), quick("2"));
    one.run().success();
    two.run().success();
    let (one, two) = (one.artifacts(), two.artifacts());
    assert!(
        one.len() > 40,
        "quick has many artifacts, not {}",
        one.len()
    );
    // Keys hold the ids of inputs, so that equal keys already mean equal bytes upstream.
    assert_eq!(one, two);
}

/// Runs one stage by hand with a number of threads, in a foreign place.
fn by_hand(
    folder: &Folder,
    threads: &str,
    stage: &str,
    config: &str,
    inputs: &[String],
    out: &str,
) {
    let file = format!("{}.yaml", out.replace('/', "-"));
    folder.write(&file, config);
    let mut arguments = vec!["run", "--config", &file, "--out", out, "--threads", threads];
    for input in inputs {
        arguments.extend(["--in", input]);
    }
    let output = folder
        .command(stage, &arguments)
        .env("TZ", "Asia/Shanghai")
        .env("LC_ALL", "tr_TR.UTF-8")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{stage}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs every stage that computes in parallel, from cleaned events on, and returns what each
/// output holds by `node/role`.
fn computed_by_hand(pipeline: &Pipeline, threads: &str) -> BTreeMap<String, artifact::ContentHash> {
    let folder = pipeline.folder();
    let place = format!("by-hand-{threads}");
    let run = |stage: &str, config: &str, inputs: &[String], node: &str| {
        let config = format!("{config}seed: 20\n");
        let out = format!("{place}/{node}");
        by_hand(folder, threads, stage, &config, inputs, &out);
    };
    let stored = |role: &str, stage: &str, output: &str| {
        format!("{role}={}", pipeline.only(stage, output).display())
    };
    let from = |role: &str, node: &str, output: &str| format!("{role}={place}/{node}/{output}");
    let labelled = |role: &str, node: &str, output: &str| {
        let producer = node.split('-').next().unwrap();
        format!("{role}[node={producer}]={place}/{node}/{output}")
    };
    run(
        "split",
        "plant: { label_noise: 0.2 }\n",
        &[
            stored("events", "preprocess", "events"),
            stored("items", "preprocess", "items"),
        ],
        "split",
    );
    let data: Vec<String> = [
        "samples",
        "sequences",
        "requests",
        "catalogue",
        "item_features",
    ]
    .map(|role| from(role, "split", role))
    .into();
    let with = |more: String| [data.clone(), vec![more]].concat();
    run("train", "model: markov\n", &data, "model");
    // A closed form, factors and a network: each sums in parallel in its own way.
    for (node, model) in [
        ("model-ease", "ease"),
        ("model-ials", "{ name: ials, dimensions: 8, epochs: 2 }"),
        (
            "model-sasrec",
            "{ name: sasrec, dimensions: 16, length: 12, stride: 6, epochs: 2 }",
        ),
    ] {
        run("train", &format!("model: {model}\n"), &data, node);
    }
    let model = from("model", "model", "model");
    run("train", "mode: probe\n", &with(model), "probe");
    let probe = [from("probe", "probe", "probe")];
    for (node, method) in [
        ("score", "{ name: knn_shapley, k: 5 }"),
        ("score-density", "{ name: knn_density, k: 5 }"),
        ("score-influence", "leave_one_out"),
    ] {
        run("estimate", &format!("method: {method}\n"), &probe, node);
    }
    let scores = from("scores", "score", "scores");
    let act = "model: markov\nact: { drop_lowest: 0.2 }\n";
    run("train", act, &with(scores), "after");
    let judged = [
        labelled("predictions", "model", "predictions"),
        from("requests", "split", "requests"),
        from("catalogue", "split", "catalogue"),
        from("samples", "split", "samples"),
        labelled("planted", "split", "planted"),
        labelled("scores", "score", "scores"),
        labelled("acted", "after", "predictions"),
        labelled("removals", "after", "removals"),
    ];
    run("evaluate", "", &judged, "result");

    let mut found = BTreeMap::new();
    for node in std::fs::read_dir(folder.join(&place)).unwrap() {
        let node = node.unwrap();
        for role in std::fs::read_dir(node.path()).unwrap() {
            let role = role.unwrap();
            let names =
                [node.file_name(), role.file_name()].map(|name| name.into_string().unwrap());
            // Measured; empty here.
            if names[1] != "costs" {
                let hash = artifact::hash_path(&role.path()).unwrap();
                found.insert(names.join("/"), hash);
            }
        }
    }
    found
}

#[test]
fn stages_by_hand_give_the_same_bytes_with_any_number_of_threads() {
    let pipeline = Pipeline::new().yaml(SMALL).raw("retail.csv", retail::log());
    pipeline.run().success();
    let one = computed_by_hand(&pipeline, "1");
    for node in ["split", "model-sasrec", "score", "after", "result"] {
        let start = format!("{node}/");
        assert!(one.keys().any(|place| place.starts_with(&start)), "{node}");
    }
    assert!(one.len() > 30, "{one:?}");
    for threads in ["2", "5"] {
        assert_eq!(
            one,
            computed_by_hand(&pipeline, threads),
            "{threads} threads"
        );
    }
    // And the same as the runner gives.
    for (stage, role, place) in [
        ("split", "samples", "split/samples"),
        ("split", "sequences", "split/sequences"),
        ("split", "requests", "split/requests"),
        ("split", "planted", "split/planted"),
        ("split", "item_features", "split/item_features"),
        ("train", "probe", "probe/probe"),
        ("train", "removals", "after/removals"),
        ("evaluate", "per_request", "result/per_request"),
    ] {
        let by_runner = without_manifest(&pipeline.only(stage, role));
        assert_eq!(one[place], by_runner, "`{place}`");
    }
}

/// The content of an artifact as a stage wrote it.
fn without_manifest(directory: &Path) -> artifact::ContentHash {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != artifact::MANIFEST {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    artifact::hash_path(copy.path()).unwrap()
}

#[test]
fn another_seed_gives_other_bytes() {
    let run = |seed: &str| {
        let pipeline = Pipeline::new().yaml(SMALL).raw("retail.csv", retail::log());
        pipeline.edit("seed: 20", seed);
        pipeline.run().success();
        let by_role: BTreeMap<String, _> = pipeline
            .artifacts()
            .into_iter()
            .filter(|((stage, ..), _)| stage == "split")
            .map(|((_, _, role), id)| (role, id))
            .collect();
        by_role
    };
    let (one, other) = (run("seed: 20"), run("seed: 21"));
    assert_ne!(one["planted"], other["planted"]);
    assert_eq!(
        one["vocabulary"], other["vocabulary"],
        "fitted before planting"
    );
}
