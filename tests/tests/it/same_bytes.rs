//! Same seed, same bytes: in another folder, with other threads, under another locale and clock.

use std::collections::BTreeMap;
use std::path::Path;

use e2e::{Pipeline, retail};

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

#[test]
fn a_stage_by_hand_gives_the_same_bytes_with_any_number_of_threads() {
    let pipeline = Pipeline::new().yaml(SMALL).raw("retail.csv", retail::log());
    pipeline.run().success();
    let events = pipeline.only("preprocess", "events");
    let items = pipeline.only("preprocess", "items");
    let inputs = [
        format!("events={}", events.display()),
        format!("items={}", items.display()),
    ];
    let folder = pipeline.folder();
    folder.write("split.yaml", "plant: { label_noise: 0.2 }\nseed: 20\n");
    for threads in ["1", "2", "5"] {
        let out = format!("by-hand-{threads}");
        let arguments = [
            "run",
            "--config",
            "split.yaml",
            "--out",
            &out,
            "--threads",
            threads,
            "--in",
            &inputs[0],
            "--in",
            &inputs[1],
        ];
        let output = folder
            .command("split", &arguments)
            .env("TZ", "Asia/Shanghai")
            .env("LC_ALL", "tr_TR.UTF-8")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for role in [
            "samples",
            "sequences",
            "requests",
            "planted",
            "item_features",
        ] {
            let by_hand = artifact::hash_path(&folder.join(&out).join(role)).unwrap();
            let by_runner = without_manifest(&pipeline.only("split", role));
            assert_eq!(by_hand, by_runner, "`{role}` with {threads} threads");
        }
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
