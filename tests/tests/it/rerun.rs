//! What is computed is never computed again, and what changed is named.

use e2e::{Pipeline, retail};

/// Every stage once or twice, from a raw file to the report.
pub(crate) const SMALL: &str = "\
# A comment.
pipeline: small
seed: 20
nodes:
  raw: { stage: ingest, with: { dataset: online_retail, file: retail.csv } }
  clean: { stage: preprocess, in: { interactions: raw.interactions, items: raw.items }, with: { k_core: { kind: none } } }
  split: { stage: split, in: { events: clean.events, items: clean.items }, with: { plant: { label_noise: 0.2 } } }
  model:
    stage: train
    in: { samples: split.samples, sequences: split.sequences, requests: split.requests, catalogue: split.catalogue, item_features: split.item_features }
    with: { model: markov }
  probe:
    stage: train
    in: { model: model.model, samples: split.samples, sequences: split.sequences, requests: split.requests, catalogue: split.catalogue, item_features: split.item_features }
    with: { mode: probe }
  score:
    stage: estimate
    in: { probe: probe.probe }
    with: { method: { name: knn_shapley, k: 5 } }
  loss:
    stage: estimate
    in: { probe: probe.probe }
    with: { method: loss }
  after:
    stage: train
    in: { scores: score.scores, samples: split.samples, sequences: split.sequences, requests: split.requests, catalogue: split.catalogue, item_features: split.item_features }
    with: { model: markov, act: { drop_lowest: 0.2 } }
  result:
    stage: evaluate
    in: { predictions: model.predictions, requests: split.requests, catalogue: split.catalogue, samples: split.samples, planted: split.planted, scores: [score.scores, loss.scores], acted: [after.predictions] }
  report:
    stage: report
    in: { metrics: result.metrics, conclusions: result.conclusions }
    with: { title: Small }
";

const ALL: &[&str] = &[
    "ingest",
    "preprocess",
    "split",
    "train",
    "train",
    "train",
    "estimate",
    "estimate",
    "evaluate",
    "report",
];

fn small() -> Pipeline {
    Pipeline::new().yaml(SMALL).raw("retail.csv", retail::log())
}

#[test]
fn the_first_run_executes_all_and_the_second_nothing_and_says_so() {
    let pipeline = small();
    pipeline.run().success().executed(ALL);
    let second = pipeline.run();
    second.success().executed(&[]);
    second.says(&["nothing to do"]);
    // A tree of its own with the same content: nothing depends on where it lies or when.
    let again = pipeline.run_with(&["-j", "1"]);
    again.success().executed(&[]);
}

#[test]
fn one_edited_parameter_reruns_its_node_and_what_depends_on_it() {
    let pipeline = small();
    pipeline.run().success();
    pipeline.edit("k: 5", "k: 3");
    let why = pipeline.touchstone("why", &["score", "pipeline.yaml"]);
    why.success().says(&["score", "method.k", "5", "3"]);
    assert!(
        why.stdout.contains("5 -> 3"),
        "old and new value are named\n{why}"
    );
    let run = pipeline.run();
    run.success()
        .executed(&["estimate", "train", "evaluate", "report"]);
    pipeline.run().success().executed(&[]);
    // And back: both are known.
    pipeline.edit("k: 3", "k: 5");
    pipeline.run().success().executed(&[]);
}

#[test]
fn one_edited_byte_of_a_raw_file_reruns_ingest() {
    let pipeline = small();
    pipeline.run().success();
    let log = retail::log().replacen("2.50", "2.51", 1);
    pipeline.folder().write("data/retail.csv", log);
    let run = pipeline.run();
    run.success();
    assert!(
        run.stages().contains(&"ingest".to_owned()),
        "{:?}",
        run.stages()
    );
    let why = pipeline.touchstone("why", &["raw", "pipeline.yaml"]);
    why.success();
    pipeline.run().success().executed(&[]);
}

#[test]
fn an_edit_that_changes_no_output_stops_there() {
    let pipeline = small();
    pipeline.run().success();
    // Another byte, but the same rows: a header and lines that end differently.
    let log = retail::log().replace("\r\n", "\n");
    pipeline.folder().write("data/retail.csv", log);
    // Early cut-off: `ingest` runs, finds the same, and nothing below it runs.
    pipeline.run().success().executed(&["ingest"]);
}

#[test]
fn comments_and_layout_of_the_pipeline_rerun_nothing() {
    let pipeline = small();
    pipeline.run().success();
    pipeline
        .edit("# A comment.\n", "# Another comment.\n\n")
        .edit(
            "    with: { method: { name: knn_shapley, k: 5 } }\n",
            "    with:\n      method: # in long form\n        k: 5\n        name: 'knn_shapley'\n",
        )
        .edit("{ method: loss }", "{ method: { name: loss } }")
        .edit("  loss:\n", "  other_name:\n")
        .edit("loss.scores", "other_name.scores");
    // The name of a node labels its scores, so that only what reads the label runs again.
    pipeline.run().success().executed(&["evaluate", "report"]);
    pipeline
        .edit("  other_name:\n", "  loss:\n")
        .edit("other_name.scores", "loss.scores");
    pipeline.run().success().executed(&[]);
}

#[test]
fn touching_a_raw_file_reruns_nothing() {
    let pipeline = small();
    pipeline.run().success();
    let path = pipeline.folder().join("data/retail.csv");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let future = std::time::UNIX_EPOCH + std::time::Duration::from_hours(24 * 365 * 80);
    file.set_modified(future).unwrap();
    pipeline.run().success().executed(&[]);
    // The same log in another folder: a path is not content.
    std::fs::create_dir(pipeline.folder().join("data/2026")).unwrap();
    let moved = pipeline.folder().join("data/2026/retail.csv");
    std::fs::rename(&path, &moved).unwrap();
    pipeline.edit("retail.csv", "2026/retail.csv");
    pipeline.run().success().executed(&[]);
}

#[test]
fn renaming_a_raw_file_rereads_it_for_the_sake_of_what_quotes_its_name() {
    let pipeline = small();
    pipeline.run().success();
    let path = pipeline.folder().join("data/retail.csv");
    std::fs::rename(&path, pipeline.folder().join("data/renamed.csv")).unwrap();
    pipeline.edit("retail.csv", "renamed.csv");
    // Only rejects quote the name, and nothing reads them here: events stay what they were.
    pipeline.run().success().executed(&["ingest"]);
}

#[test]
fn a_default_that_is_written_out_is_the_same_configuration() {
    let pipeline = small();
    pipeline.run().success();
    pipeline.edit(
        "with: { model: markov }",
        "with: { model: markov, mode: fit, top: 20 }",
    );
    pipeline.run().success().executed(&[]);
}

#[test]
fn another_seed_reruns_what_uses_chance() {
    let pipeline = small();
    pipeline.run().success();
    pipeline.edit("seed: 20", "seed: 21");
    let run = pipeline.run();
    run.success();
    assert!(run.stages().contains(&"split".to_owned()));
    assert!(
        !run.stages().contains(&"preprocess".to_owned()),
        "cleaning uses no chance"
    );
}

#[test]
fn only_and_from_limit_what_is_run() {
    let pipeline = small();
    pipeline
        .run_with(&["--only", "split"])
        .success()
        .executed(&["ingest", "preprocess", "split"]);
    pipeline.run().success();
    pipeline
        .run_with(&["--only", "split"])
        .success()
        .executed(&[]);
}

#[test]
fn the_truth_wired_to_a_model_or_an_estimator_runs_nothing() {
    for (old, new) in [
        ("{ scores: score.scores,", "{ scores: split.planted,"),
        (
            "in: { probe: probe.probe }\n    with: { method: loss }",
            "in: { probe: split.planted }\n    with: { method: loss }",
        ),
        (
            "in: { probe: probe.probe }\n    with: { method: loss }",
            "in: { probe: split.oracle }\n    with: { method: loss }",
        ),
        ("{ scores: score.scores,", "{ scores: raw.truth,"),
    ] {
        let pipeline = small();
        pipeline.edit(old, new);
        for subcommand in ["plan", "run"] {
            pipeline
                .touchstone(subcommand, &["pipeline.yaml"])
                .exits_with(2)
                .says(&["pipeline.yaml", "line "]);
        }
        assert!(pipeline.store().artifacts().unwrap().is_empty());
    }
}

#[test]
fn the_oracle_is_accepted_as_scores_of_an_action() {
    let pipeline = small();
    pipeline
        .edit("{ scores: score.scores,", "{ scores: split.oracle,")
        .edit("act: { drop_lowest: 0.2 }", "act: { drop_below: 0 }");
    pipeline.touchstone("plan", &["pipeline.yaml"]).success();
}

#[test]
fn status_and_show_answer_without_running() {
    let pipeline = small();
    pipeline.touchstone("status", &["pipeline.yaml"]).success();
    assert!(pipeline.store().artifacts().unwrap().is_empty());
    pipeline.run().success();
    pipeline.touchstone("status", &["pipeline.yaml"]).success();
    let store = pipeline.store();
    let id = store.artifacts().unwrap()[0];
    pipeline
        .touchstone("show", &[&id.short()])
        .success()
        .says(&[&id.to_string(), store.manifest(id).unwrap().kind()]);
    pipeline.touchstone("show", &["00000000ffff"]).exits_with(2);
}
