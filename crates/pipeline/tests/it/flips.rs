//! Bits that flip in stored objects at random: none is served, all are reported, a run heals them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use artifact::{ArtifactId, OpenError, Store, VerifyError};

use crate::fake::{Bench, Chance, flip, join, source, upper};

/// Flips in each round, in as many objects.
const A_ROUND: usize = 10;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Flips one random bit in each of some objects, and returns them.
fn flip_some(store: &Store, objects: &[ArtifactId], chance: &mut Chance) -> BTreeSet<ArtifactId> {
    let mut hit = BTreeSet::new();
    while hit.len() < A_ROUND {
        let id = objects[chance.below(objects.len())];
        if hit.insert(id) {
            let files = files(&store.object_path(id));
            let file = &files[chance.below(files.len())];
            let length = usize::try_from(fs::metadata(file).unwrap().len()).unwrap();
            let at = u64::try_from(chance.below(length)).unwrap();
            flip(file, at, u8::try_from(chance.below(8)).unwrap());
        }
    }
    hit
}

fn bench() -> Bench {
    let nodes = "  raw: { stage: ./source, for: { word: [a, b, c, d, e, f] } }
  loud: { stage: ./upper, in: { text: raw } }
  all: { stage: ./join, in: { texts: [raw, loud], costs: [raw, loud] } }
";
    Bench::new(&[source(), upper(), join()], nodes)
}

#[test]
fn a_hundred_flipped_bits_are_all_reported_and_healed_by_a_plain_run() {
    let bench = bench();
    bench.run().exits_with(0).says(&["13 ran"]);
    let wanted = bench.artifacts();
    let mut chance = Chance::new(5);
    for round in 0..10 {
        let store = bench.store();
        let hit = flip_some(&store, &store.artifacts().unwrap(), &mut chance);
        for id in store.artifacts().unwrap() {
            match store.verify(id) {
                Ok(()) => assert!(!hit.contains(&id), "{id} was not reported"),
                Err(VerifyError::Damaged { .. }) => assert!(hit.contains(&id), "{id} is whole"),
                Err(error) => panic!("{error}"),
            }
        }
        if round % 2 == 0 {
            for id in &hit {
                let opened = store.open_verified(*id);
                assert!(
                    matches!(opened, Err(OpenError::Quarantined { .. })),
                    "{id} was served"
                );
            }
        } else {
            let said = bench.call(&["verify"]).exits_with(3);
            for id in &hit {
                let reported = format!("artifact `{}` is damaged and was moved to", id.short());
                assert!(said.out.contains(&reported), "{reported}: {}", said.all());
            }
            assert_eq!(said.named("damaged").len(), hit.len());
        }
        bench.run().exits_with(0);
        assert_eq!(bench.artifacts(), wanted);
        bench.is_intact();
        bench.run().exits_with(0).says(&["nothing to do"]);
    }
    assert_eq!(bench.store().quarantined().unwrap().len(), 100);
}

#[test]
fn a_hundred_flipped_bits_are_found_by_the_reader_and_made_again_before_it_runs() {
    let bench = bench();
    bench.run().exits_with(0);
    let wanted = bench.artifacts();
    let text = bench.output("join", "text");
    let mut chance = Chance::new(6);
    for _round in 0..10 {
        let store = bench.store();
        // What `all` reads, directly or not.
        let mut read = BTreeSet::new();
        for stage in ["source", "upper"] {
            for record in store.latest_records(stage).unwrap() {
                read.extend(record.outputs.values().map(|produced| produced.id));
            }
        }
        let read: Vec<ArtifactId> = read.into_iter().collect();
        let hit = flip_some(&store, &read, &mut chance);
        let said = bench
            .call(&["run", "p.yaml", "--from", "all"])
            .exits_with(0);
        for id in &hit {
            let reported = format!("artifact `{}` is damaged and was moved to", id.short());
            assert!(
                said.err.contains(&reported),
                "{reported} is missing in {}",
                said.err
            );
        }
        assert_eq!(
            bench.output("join", "text"),
            text,
            "damaged bytes were read"
        );
        assert_eq!(bench.artifacts(), wanted);
        bench.is_intact();
    }
    assert_eq!(bench.store().quarantined().unwrap().len(), 100);
}
