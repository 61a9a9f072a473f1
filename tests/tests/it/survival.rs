//! Flipped bits, killed runners, two runners at a time: nothing wrong is served, nobody unlocks.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use e2e::{Pipeline, retail};
use tables::TrainingEpoch;

use crate::rerun::SMALL;

fn small() -> Pipeline {
    Pipeline::new().yaml(SMALL).raw("retail.csv", retail::log())
}

/// Flips a bit in the middle of a file; its size and modification time stay.
fn flip(path: &Path) {
    let metadata = fs::metadata(path).unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(metadata.modified().unwrap()).unwrap();
    fs::set_permissions(path, metadata.permissions()).unwrap();
}

#[test]
fn a_flipped_bit_is_found_by_its_first_reader_and_made_again() {
    let pipeline = small();
    pipeline.run().success();
    let artifacts = pipeline.artifacts();
    flip(&pipeline.only("split", "samples").join("samples.parquet"));
    // A new estimator reads a probe, not samples; a new model reads samples.
    pipeline.edit("with: { model: markov }", "with: { model: popularity }");
    let run = pipeline.run();
    run.success();
    assert!(
        run.stages().contains(&"split".to_owned()),
        "{:?}",
        run.stages()
    );
    let store = pipeline.store();
    assert_eq!(store.quarantined().unwrap().len(), 1);
    for (place, id) in &artifacts {
        store.verify(*id).unwrap();
        assert_eq!(pipeline.artifacts().get(place), Some(id), "{place:?}");
    }
    pipeline.run().success().executed(&[]);
}

#[test]
fn a_deleted_artifact_is_made_again() {
    let pipeline = small();
    pipeline.run().success();
    let artifacts = pipeline.artifacts();
    artifact::remove_tree(&pipeline.only("split", "samples")).unwrap();
    pipeline.edit("with: { model: markov }", "with: { model: popularity }");
    pipeline.run().success();
    let store = pipeline.store();
    for id in artifacts.values() {
        store.verify(*id).unwrap();
    }
}

#[test]
fn a_killed_runner_leaves_a_store_that_needs_no_help() {
    let whole = small();
    let started = Instant::now();
    whole.run().success();
    let time = started.elapsed();
    let wanted = whole.artifacts();

    let pipeline = small();
    // At ten moments of the work.
    for tenth in 1..=10 {
        let mut child = pipeline
            .folder()
            .command("touchstone", &["run", "pipeline.yaml"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(time / 12 * tenth / 3);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    pipeline.run().success();
    assert_eq!(pipeline.artifacts(), wanted);
    let left = fs::read_dir(pipeline.folder().join("artifacts/attempts")).unwrap();
    assert_eq!(left.count(), 0, "nothing of the killed ones is left");
    assert!(pipeline.store().quarantined().unwrap().is_empty());
}

/// Last step of a training that was kept in a store, if any.
fn last_kept_step(pipeline: &Pipeline) -> Option<u64> {
    let nodes = fs::read_dir(pipeline.folder().join("artifacts/resume")).ok()?;
    let files = nodes
        .flatten()
        .filter_map(|node| fs::read_dir(node.path()).ok())
        .flat_map(Iterator::flatten);
    files
        .filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let step = name
                .strip_prefix("checkpoint-")?
                .strip_suffix(".safetensors")?;
            step.split_once('-')?.0.parse().ok()
        })
        .max()
}

#[test]
fn a_training_killed_at_any_step_ends_with_the_bytes_of_an_uninterrupted_one() {
    const TRAINED: &str = "\
pipeline: trained
seed: 20
nodes:
  raw: { stage: ingest, with: { dataset: online_retail, file: retail.csv } }
  clean: { stage: preprocess, in: { interactions: raw.interactions, items: raw.items }, with: { k_core: { kind: none } } }
  split: { stage: split, in: { events: clean.events, items: clean.items } }
  model:
    stage: train
    in: { samples: split.samples, sequences: split.sequences, requests: split.requests, catalogue: split.catalogue, item_features: split.item_features }
    with: { model: { name: sasrec, dimensions: 16, length: 12, stride: 6, batch: 96, epochs: 60, patience: 0, checkpoint_steps: 3 }, keep_checkpoints: 4 }
";
    let trained = || {
        Pipeline::new()
            .yaml(TRAINED)
            .raw("retail.csv", retail::log())
    };
    let whole = trained();
    whole.run().success();

    let pipeline = trained();
    let mut killed_at = Vec::new();
    for round in 0..6_u64 {
        let mut child = pipeline
            .folder()
            .command("touchstone", &["run", "pipeline.yaml"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Once it has gone beyond the last kill: somewhere within the next steps.
        let before = killed_at.last().copied();
        while child.try_wait().unwrap().is_none() && last_kept_step(&pipeline) <= before {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(round * 7 % 11));
        child.kill().unwrap();
        child.wait().unwrap();
        killed_at.extend(last_kept_step(&pipeline));
    }
    assert!(killed_at.len() >= 3, "it was too fast: {killed_at:?}");
    pipeline.run().success().executed(&["train"]);
    let epochs = |pipeline: &Pipeline| -> Vec<TrainingEpoch> {
        tables::read_all(&pipeline.only("train", "training")).unwrap()
    };
    assert_eq!(epochs(&pipeline), epochs(&whole), "killed at {killed_at:?}");
    assert_eq!(pipeline.artifacts(), whole.artifacts());
    assert_eq!(last_kept_step(&pipeline), None, "nothing is kept of it");
}

#[test]
fn two_runners_on_one_store_share_the_work() {
    let pipeline = small();
    let children: Vec<_> = (0..2)
        .map(|_| {
            pipeline
                .folder()
                .command("touchstone", &["run", "pipeline.yaml"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert!(pipeline.store().conflicts().unwrap().is_empty());
    pipeline.run().success().executed(&[]);
}

#[test]
fn a_stage_that_fails_records_nothing_and_passes_its_exit_code_on() {
    let pipeline = small();
    pipeline
        .folder()
        .write("data/retail.csv", "not,a,log\r\n1,2,3\r\n");
    let run = pipeline.run();
    run.exits_with(3).executed(&[]);
    assert!(pipeline.store().artifacts().unwrap().is_empty());
    pipeline.folder().write("data/retail.csv", retail::log());
    pipeline.run().success();
}

#[test]
fn doing_nothing_is_quick() {
    let pipeline = small();
    pipeline.run().success();
    let times: Vec<Duration> = (0..5)
        .map(|_| {
            let started = Instant::now();
            pipeline.run().success().executed(&[]);
            started.elapsed()
        })
        .collect();
    let best = times.iter().min().unwrap();
    // Tens of milliseconds on a quiet machine; the bound leaves room for a busy one.
    assert!(*best < Duration::from_millis(500), "{times:?}");
}
