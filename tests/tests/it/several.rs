//! Trainings of one model under several seeds, gathered by one node: means with standard errors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use e2e::{Pipeline, retail};
use tables::{MethodCard, Score, read_all};

/// `INPUT` names what the scores are made of.
const SEEDS: &str = "\
pipeline: seeds
seed: 20
nodes:
  raw: { stage: ingest, with: { dataset: online_retail, file: retail.csv } }
  clean: { stage: preprocess, in: { interactions: raw.interactions, items: raw.items }, with: { k_core: { kind: none } } }
  split: { stage: split, in: { events: clean.events, items: clean.items } }
  model:
    stage: train
    in: { samples: split.samples, sequences: split.sequences, requests: split.requests, catalogue: split.catalogue, item_features: split.item_features }
    with: { model: { name: sasrec, dimensions: 8, length: 12, stride: 6, epochs: 2 } }
    for: { seed: [1, 2, 3] }
  probe:
    stage: train
    in: { model: model.model, samples: split.samples, sequences: split.sequences, requests: split.requests, catalogue: split.catalogue, item_features: split.item_features }
    with: { mode: probe }
  score:
    stage: estimate
    in: { INPUT: probe.probe }
    with: { method: loss, seed: 20 }
";

/// Where each node put its scores.
fn scores(input: &str) -> Vec<(Vec<Score>, MethodCard)> {
    let pipeline = Pipeline::new()
        .yaml(&SEEDS.replace("INPUT", input))
        .raw("retail.csv", retail::log());
    pipeline.run().success();
    let store = pipeline.store();
    let artifacts = pipeline.artifacts();
    let of_scores = artifacts
        .iter()
        .filter(|((stage, _, role), _)| stage == "estimate" && role == "scores");
    let directories: Vec<PathBuf> = of_scores
        .map(|(_, id)| store.open_verified(*id).unwrap())
        .collect();
    directories
        .iter()
        .map(|path| {
            let card: MethodCard = read_all(path).unwrap().remove(0);
            (read_all::<Score>(path).unwrap(), card)
        })
        .collect()
}

#[test]
fn one_node_gathers_the_seeds_that_others_follow_one_by_one() {
    let single = scores("probe");
    assert_eq!(single.len(), 3);
    let gathered = scores("probes");
    let [(rows, card)] = &gathered[..] else {
        panic!("{} nodes", gathered.len());
    };
    assert_eq!(card.n_members, 3);
    let stability = card.stability.unwrap();
    assert!(stability > 0.0 && stability < 1.0, "{stability}");
    let mut of_sample: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for row in single.iter().flat_map(|(rows, _)| rows) {
        of_sample
            .entry(row.sample_id)
            .or_default()
            .extend(row.score);
    }
    let mut n_scored = 0;
    for row in rows {
        let of = &of_sample[&row.sample_id];
        assert_eq!(row.score.is_some(), !of.is_empty());
        if let Some(score) = row.score {
            let n = of.len() as f64;
            let mean = of.iter().sum::<f64>() / n;
            let square: f64 = of.iter().map(|x| (x - mean) * (x - mean)).sum();
            let std_error = (square / (n - 1.0) / n).sqrt();
            // Losses of a few nats.
            assert!((score - mean).abs() < 1e-13);
            assert!((row.std_error.unwrap() - std_error).abs() < 1e-13);
            n_scored += 1;
        }
    }
    assert!(n_scored > 0);
}
