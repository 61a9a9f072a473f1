//! Two ways to one number: retraining without a sample, which `train` does, and the closed form of
//! leave-one-out, which `estimate` does.

use std::collections::BTreeMap;

use e2e::{Folder, retail};
use tables::{Part, Request, Response, Sample, Score, SubsetMember, read_all, write_all};

/// Samples that are left out, one at a time.
const N_LEFT_OUT: usize = 24;

/// Both sides round in f64, and losses are of the order of 10.
const TOLERANCE: f64 = 1e-12;

/// A log from the raw file to the split.
fn split() -> Folder {
    let folder = Folder::new();
    folder.write("data/retail.csv", retail::log());
    let run = |stage: &str, config: &str, inputs: &[&str], out: &str| {
        folder.run_stage(stage, config, inputs, out).success();
    };
    let ingest = "dataset: online_retail\nfile: retail.csv\n";
    run("ingest", ingest, &[], "raw");
    run(
        "preprocess",
        "k_core: { kind: none }\n",
        &["interactions=raw/interactions", "items=raw/items"],
        "clean",
    );
    run(
        "split",
        "plant: { label_noise: 0.2 }\nseed: 20\n",
        &["events=clean/events", "items=clean/items"],
        "split",
    );
    folder
}

const DATA: [&str; 5] = [
    "samples=split/samples",
    "sequences=split/sequences",
    "requests=split/requests",
    "catalogue=split/catalogue",
    "item_features=split/item_features",
];

/// Mean loss over the requests of `valuation.fit`, by subset; no number: nothing is left out.
fn losses(folder: &Folder, out: &str) -> BTreeMap<Option<u32>, f64> {
    let requests: Vec<Request> = read_all(&folder.join("split/requests")).unwrap();
    let is_target: BTreeMap<u32, bool> = requests
        .iter()
        .map(|row| (row.request, row.part == Part::ValuationFit))
        .collect();
    let mut sums: BTreeMap<Option<u32>, (f64, f64)> = BTreeMap::new();
    for row in read_all::<Response>(&folder.join(out).join("responses")).unwrap() {
        if is_target[&row.request] {
            let (sum, n) = sums.entry(row.subset).or_default();
            *sum += row.loss.unwrap();
            *n += 1.0;
        }
    }
    sums.into_iter()
        .map(|(subset, (sum, n))| (subset, sum / n))
        .collect()
}

#[test]
fn retraining_without_a_sample_gives_the_leave_one_out_score_in_both_regimes() {
    let folder = split();
    let mut samples: Vec<Sample> = read_all(&folder.join("split/samples")).unwrap();
    samples.sort_by_key(|row| row.sample_id);
    let step = samples.len() / N_LEFT_OUT;
    let left_out: Vec<u64> = samples
        .iter()
        .step_by(step)
        .take(N_LEFT_OUT)
        .map(|row| row.sample_id)
        .collect();
    let members = (0..)
        .zip(&left_out)
        .map(|(subset, &left_out)| SubsetMember { subset, left_out });
    write_all(&folder.directory("subsets"), members).unwrap();

    for model in ["popularity", "markov"] {
        let (fitted, probe, score) = (
            format!("{model}-fit"),
            format!("{model}-probe"),
            format!("{model}-score"),
        );
        let config = format!("model: {model}\n");
        folder.run_stage("train", &config, &DATA, &fitted).success();
        let base = format!("model={fitted}/model");
        let with_base = [&DATA[..], &[&base]].concat();
        folder
            .run_stage("train", "mode: probe\n", &with_base, &probe)
            .success();
        let input = format!("probe={probe}/probe");
        folder
            .run_stage("estimate", "method: leave_one_out\n", &[&input], &score)
            .success();
        let scores: Vec<Score> = read_all(&folder.join(&score).join("scores")).unwrap();
        let scores: BTreeMap<u64, f64> = scores
            .iter()
            .map(|row| (row.sample_id, row.score.unwrap()))
            .collect();
        let is_large = |id: &&u64| scores[*id].abs() > 1e6 * TOLERANCE;
        assert!(
            left_out.iter().filter(is_large).count() > N_LEFT_OUT / 2,
            "scores too small to be told from rounding"
        );

        for regime in ["drop", "mask"] {
            let config = format!("mode: respond\nmodel: {model}\nregime: {regime}\n");
            let mut inputs = match regime {
                "mask" => with_base.clone(),
                _ => DATA.to_vec(),
            };
            inputs.push("subsets=subsets");
            let out = format!("{model}-{regime}");
            folder.run_stage("train", &config, &inputs, &out).success();
            let losses = losses(&folder, &out);
            assert_eq!(losses.len(), N_LEFT_OUT + 1);
            for (subset, id) in (0..).zip(&left_out) {
                let change = losses[&Some(subset)] - losses[&None];
                let score = scores[id];
                assert!(
                    (change - score).abs() < TOLERANCE,
                    "{model}, {regime}, sample {id}: retraining gives {change}, the closed form {score}"
                );
            }
        }
    }
}
