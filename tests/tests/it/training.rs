//! Networks through the executables: the same bytes under any name and on any number of threads,
//! and an end that says where training left the numbers that mean anything.

use std::collections::BTreeMap;

use artifact::ArtifactId;
use e2e::{Pipeline, retail};

/// From a raw file to a trained network; `NODE` names the node that trains.
const NETWORK: &str = "\
pipeline: network
seed: 20
nodes:
  raw: { stage: ingest, with: { dataset: online_retail, file: retail.csv } }
  clean: { stage: preprocess, in: { interactions: raw.interactions, items: raw.items }, with: { k_core: { kind: none } } }
  split: { stage: split, in: { events: clean.events, items: clean.items } }
  NODE:
    stage: train
    in: { samples: split.samples, sequences: split.sequences, requests: split.requests, catalogue: split.catalogue, item_features: split.item_features }
    with: { model: { name: sasrec, dimensions: 24, length: 12, stride: 6, batch: 256, epochs: 3, learning_rate: 0.01 } }
";

fn network(node: &str) -> Pipeline {
    Pipeline::new()
        .yaml(&NETWORK.replace("NODE", node))
        .raw("retail.csv", retail::log())
}

/// What training published, by role.
fn trained(pipeline: &Pipeline) -> BTreeMap<String, ArtifactId> {
    pipeline
        .artifacts()
        .into_iter()
        .filter(|((stage, ..), _)| stage == "train")
        .map(|((_, _, role), id)| (role, id))
        .collect()
}

#[test]
fn a_network_has_the_same_bytes_in_any_folder_under_any_name_with_any_number_of_threads() {
    let run = |node: &str, threads: &str| {
        let pipeline = network(node).option("--threads").option(threads);
        pipeline.run().success();
        trained(&pipeline)
    };
    let one = run("model", "1");
    assert!(one.contains_key("model") && one.contains_key("predictions"));
    assert_eq!(one, run("model", "2"));
    assert_eq!(one, run("a_name_that_is_longer", "1"));
    assert_eq!(one, run("zebra", "2"));
}

#[test]
fn a_network_that_diverges_ends_with_where_and_why() {
    let pipeline = network("model");
    pipeline.edit("learning_rate: 0.01", "learning_rate: 1.0e+30");
    let run = pipeline.run();
    run.exits_with(5)
        .says(&["diverged in epoch 0, batch ", "learning rate"]);
    // Nothing of it was published.
    assert!(trained(&pipeline).is_empty());
}
