//! Looking at a store and taking care of it: verify, gc, lineage, diff, graph, schema.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value as Json;

use crate::fake::{Bench, Script, chain, source, upper};

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

/// The file of an output of a stage in the store.
fn stored(bench: &Bench, stage: &str) -> PathBuf {
    let store = bench.store();
    let record = store.latest_records(stage).unwrap().remove(0);
    store.object_path(record.outputs["text"].id).join("text")
}

/// Changes one byte and gives the file its old permissions and time back.
fn damage(path: &PathBuf) {
    let metadata = fs::metadata(path).unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(metadata.modified().unwrap()).unwrap();
    fs::set_permissions(path, metadata.permissions()).unwrap();
}

#[test]
fn a_whole_store_is_verified_and_a_damaged_one_is_reported_and_healed() {
    let bench = chain();
    bench.run().exits_with(0);
    bench
        .call(&["verify"])
        .exits_with(0)
        .says(&["read 6 artifacts and 3 records", "all whole"]);
    let text = bench.output("upper", "text");
    damage(&stored(&bench, "upper"));
    bench.call(&["verify"]).exits_with(3).says(&[
        "damaged",
        "`text` has other content",
        "the store was damaged in 1 place",
        "quarantine",
    ]);
    // It was put aside, so that nothing damaged is left.
    bench
        .call(&["verify"])
        .exits_with(0)
        .says(&["read 5 artifacts"]);
    let said = bench.run().exits_with(0);
    assert_eq!(said.named("ran"), ["loud"]);
    assert_eq!(bench.output("upper", "text"), text);
}

#[test]
fn one_artifact_is_verified_by_its_id() {
    let bench = chain();
    bench.run().exits_with(0);
    let id = bench.store().artifacts().unwrap()[0].to_string();
    let said = bench.call(&["verify", &id[..12], "--json"]).exits_with(0);
    assert_eq!(json(&said.out)["artifacts"], 1);
    bench
        .call(&["verify", "ffffffffffff"])
        .exits_with(2)
        .says(&["the store has no artifact `ffffffffffff`"]);
}

#[test]
fn a_damaged_record_is_reported() {
    let bench = chain();
    bench.run().exits_with(0);
    let store = bench.store();
    let id = store.record_ids("upper").unwrap()[0];
    damage(&store.root().join(format!("keys/upper/{id}.json")));
    bench
        .call(&["verify"])
        .exits_with(3)
        .says(&["the record of key", "is damaged"]);
    bench.run().exits_with(0);
}

#[test]
fn running_again_tells_a_stage_that_is_deterministic_from_one_that_is_not() {
    let bench = chain();
    bench.run().exits_with(0);
    bench
        .call(&["verify", "--rerun", "loud", "--pipeline", "p.yaml"])
        .exits_with(0)
        .says(&["same     loud"]);
    let moody = Script::new("moody")
        .output("text", "text")
        .body("date +%s%N > \"$out/text/text\"");
    let bench = Bench::new(&[moody], "  a: { stage: ./moody }\n");
    bench
        .call(&["verify", "--rerun", "a", "--pipeline", "p.yaml"])
        .exits_with(2)
        .says(&["`a` is not up to date", "touchstone run p.yaml --only 'a'"]);
    bench.run().exits_with(0);
    let before = bench.output("moody", "text");
    bench
        .call(&["verify", "--rerun", "a", "--pipeline", "p.yaml"])
        .exits_with(5)
        .says(&["DIFFERS", "not deterministic", "1 node gave other bytes"]);
    // The first result is still the one that is served.
    assert_eq!(bench.output("moody", "text"), before);
    bench.call(&["verify"]).says(&["two results of one key"]);
}

#[test]
fn gc_says_what_it_would_remove_and_removes_what_old_runs_alone_need() {
    let bench = chain();
    bench.run().exits_with(0);
    bench.edit("word: tea", "word: mate");
    bench.run().exits_with(0);
    let all = bench.store().artifacts().unwrap();
    bench
        .call(&["gc", "--keep-runs", "2"])
        .exits_with(0)
        .says(&["would remove 0 artifacts and 0 records"]);
    // Three outputs and three measurements of the first run.
    bench
        .call(&["gc", "--keep-runs", "1"])
        .exits_with(0)
        .says(&["would remove 6 artifacts and 3 records", "--delete"]);
    assert_eq!(bench.store().artifacts().unwrap(), all);
    bench
        .call(&["gc", "--keep-runs", "1", "--delete"])
        .exits_with(0)
        .says(&["removed 6 artifacts and 3 records"]);
    assert_eq!(bench.store().artifacts().unwrap().len(), all.len() - 6);
    bench.run().exits_with(0).says(&["nothing to do"]);
    bench.call(&["verify"]).exits_with(0);
    // What was removed is made again where it is asked for.
    bench.edit("word: mate", "word: tea");
    let said = bench.run().exits_with(0);
    assert_eq!(said.named("ran"), ["raw", "loud", "all"]);
}

#[test]
fn gc_keeps_what_partial_runs_did_not_look_at() {
    let bench = chain();
    bench.run().exits_with(0);
    bench.edit("stage: ./join,", "stage: ./join, timeout: 1h,");
    bench
        .call(&["run", "p.yaml", "--only", "raw", "--from", "raw"])
        .exits_with(0);
    bench
        .call(&["gc", "--keep-runs", "1", "--delete"])
        .exits_with(0);
    let said = bench.run().exits_with(0);
    assert_eq!(
        said.named("ran"),
        ["all"; 0],
        "its inputs' measurements apart"
    );
}

#[test]
fn gc_removes_nothing_while_a_pipeline_runs() {
    let bench = chain();
    bench.run().exits_with(0);
    let store = bench.store();
    let _hold = store.hold().unwrap();
    bench
        .call(&["gc", "--keep-runs", "1", "--delete"])
        .exits_with(4)
        .says(&["somebody runs a pipeline on this store"]);
}

#[test]
fn lineage_leads_back_to_raw_files() {
    let bench = chain();
    bench.run().exits_with(0);
    let said = bench.call(&["lineage", "all.text", "p.yaml"]).exits_with(0);
    let raw = blake3::hash(&fs::read(bench.path().join("data/raw.txt")).unwrap());
    let said = said.says(&[
        "by `all of p` (stage join",
        "texts[node=loud]: text@",
        "by `loud of p` (stage upper",
        "raw file `raw.txt`, BLAKE3 ",
        &raw.to_hex(),
        "see above",
    ]);
    // A tree: what is read stands deeper than what reads it.
    let depth = |needle: &str| {
        let line = said.out.lines().find(|line| line.contains(needle)).unwrap();
        line.len() - line.trim_start().len()
    };
    assert!(depth("stage join") < depth("stage upper"));
    assert!(depth("stage upper") < depth("stage source"));
}

#[test]
fn lineage_follows_what_a_row_is_about() {
    let bench = Bench::new(
        &[source(), upper(), crate::fake::join()],
        "  raw: { stage: ./source, for: { word: [tea, mate] } }
  loud: { stage: ./upper, in: { text: raw } }
  all: { stage: ./join, in: { texts: loud } }
",
    );
    bench.run().exits_with(0);
    let said = bench
        .call(&["lineage", "all.text", "p.yaml", "--of", "mate"])
        .exits_with(0);
    assert!(said.out.contains("loud[mate]"), "{}", said.out);
    assert!(!said.out.contains("tea"), "{}", said.out);
    let said = bench
        .call(&["lineage", "all.text", "p.yaml", "--json"])
        .exits_with(0);
    let keys = json(&said.out)["keys"].as_array().unwrap().len();
    assert_eq!(keys, 5, "each key once");
}

#[test]
fn two_runs_are_compared() {
    let bench = chain();
    bench.run().exits_with(0);
    bench
        .call(&["diff", "p"])
        .exits_with(2)
        .says(&["pipeline `p` has 1 run"]);
    bench.edit("word: tea", "word: mate");
    bench.run().exits_with(0);
    bench.call(&["diff", "p"]).exits_with(0).says(&[
        "config.word: tea -> mate",
        "text@",
        "3 nodes changed",
    ]);
    let said = bench.call(&["diff", "p", "latest", "latest"]).exits_with(0);
    assert!(said.out.contains("0 nodes changed"), "{}", said.out);
    let said = bench.call(&["diff", "p", "--json"]).exits_with(0);
    let changed = json(&said.out)["changed"].clone();
    assert_eq!(changed.as_array().unwrap().len(), 3);
    bench
        .call(&["diff", "q"])
        .exits_with(2)
        .says(&["did you mean `p`?"]);
}

#[test]
fn a_pipeline_is_drawn_in_three_ways() {
    let bench = chain();
    let svg = bench.call(&["graph", "p.yaml"]).exits_with(0).out;
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    for name in ["raw", "loud", "all"] {
        assert!(svg.contains(&format!(">{name}</text>")), "{svg}");
    }
    let dot = bench
        .call(&["graph", "p.yaml", "--format", "dot"])
        .exits_with(0)
        .out;
    assert!(dot.contains("n0 -> n1 [label=\"text\"]"), "{dot}");
    let mermaid = bench
        .call(&["graph", "p.yaml", "--format", "mermaid"])
        .exits_with(0)
        .out;
    insta::assert_snapshot!(mermaid, @r#"
    flowchart LR
      n0["raw<br/><small>./source</small>"]
      n1["loud<br/><small>./upper</small>"]
      n2["all<br/><small>./join</small>"]
      n0 -- "text" --> n1
      n0 -- "measured, text" --> n2
      n1 -- "measured, text" --> n2
    "#);
}

#[test]
fn shells_are_told_how_to_complete() {
    let bench = chain();
    bench
        .call(&["completions", "bash"])
        .exits_with(0)
        .says(&["_touchstone", "lineage"]);
}
