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

/// A pipeline that trains a network for a number of epochs and keeps what it has every few steps.
fn trained(epochs: u32) -> Pipeline {
    let yaml = format!("\
pipeline: trained
seed: 20
nodes:
  raw: {{ stage: ingest, with: {{ dataset: online_retail, file: retail.csv }} }}
  clean: {{ stage: preprocess, in: {{ interactions: raw.interactions, items: raw.items }}, with: {{ k_core: {{ kind: none }} }} }}
  split: {{ stage: split, in: {{ events: clean.events, items: clean.items }} }}
  model:
    stage: train
    in: {{ samples: split.samples, sequences: split.sequences, requests: split.requests, catalogue: split.catalogue, item_features: split.item_features }}
    with: {{ model: {{ name: sasrec, dimensions: 16, length: 12, stride: 6, batch: 96, epochs: {epochs}, patience: 0, checkpoint_steps: 3 }}, keep_checkpoints: 4 }}
");
    Pipeline::new().yaml(&yaml).raw("retail.csv", retail::log())
}

/// Kills a training again and again, each time beyond the last, and returns the steps that were
/// kept at each kill that hit it.
fn kill_again_and_again(pipeline: &Pipeline) -> Vec<u64> {
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
        while child.try_wait().unwrap().is_none() && last_kept_step(pipeline) <= before {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(round * 7 % 11));
        child.kill().unwrap();
        child.wait().unwrap();
        killed_at.extend(last_kept_step(pipeline));
    }
    killed_at
}

#[test]
fn a_training_killed_at_any_step_ends_with_the_bytes_of_an_uninterrupted_one() {
    // A machine on which a training ends before it can be killed three times trains longer.
    let killed = [60, 240, 960, 3840].into_iter().find_map(|epochs| {
        let pipeline = trained(epochs);
        let killed_at = kill_again_and_again(&pipeline);
        (killed_at.len() >= 3).then_some((epochs, pipeline, killed_at))
    });
    let Some((epochs, pipeline, killed_at)) = killed else {
        panic!("no training could be killed three times");
    };
    let whole = trained(epochs);
    whole.run().success();
    pipeline.run().success().executed(&["train"]);
    let rows = |pipeline: &Pipeline| -> Vec<TrainingEpoch> {
        tables::read_all(&pipeline.only("train", "training")).unwrap()
    };
    assert_eq!(rows(&pipeline), rows(&whole), "killed at {killed_at:?}");
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
fn doing_nothing_takes_a_fraction_of_doing_it() {
    let pipeline = small();
    let timed = |executes: bool| {
        let started = Instant::now();
        let run = pipeline.run();
        let time = started.elapsed();
        assert_eq!(!run.success().stages().is_empty(), executes);
        time
    };
    let everything = timed(true);
    let times: Vec<Duration> = (0..5).map(|_| timed(false)).collect();
    let nothing = times.iter().min().unwrap();
    // A tenth or less on a quiet machine. Both are timed in one run, so that a slow or busy machine
    // slows both.
    assert!(
        *nothing * 3 < everything,
        "{times:?} against {everything:?}"
    );
}
