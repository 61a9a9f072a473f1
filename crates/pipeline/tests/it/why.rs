//! The exact leaf that changed, followed through inputs to its cause.

use serde_json::Value as Json;

use crate::fake::{chain, upper};

fn why(bench: &crate::fake::Bench, node: &str) -> String {
    let said = bench.call(&["why", node, "p.yaml"]).exits_with(0);
    // Ids differ with the shell's script only in what is hashed: keep the words.
    let mut text = String::new();
    for line in said.out.lines() {
        let words: Vec<String> = line
            .split(' ')
            .map(|word| {
                let bare = word.trim_end_matches(',');
                let is_id = bare.len() == 8 && bare.bytes().all(|b| b.is_ascii_hexdigit());
                if is_id {
                    word.replace(bare, "ID")
                } else {
                    word.to_owned()
                }
            })
            .collect();
        text.push_str(&words.join(" "));
        text.push('\n');
    }
    text
}

#[test]
fn a_node_that_never_ran_says_so() {
    let bench = chain();
    assert_eq!(why(&bench, "raw"), "raw never ran\n");
    insta::assert_snapshot!(why(&bench, "all"), @r"
    all never ran, and waits for what it reads
      `raw` never ran
    ");
    insta::assert_snapshot!(bench.call(&["status", "p.yaml"]).out, @r"
      raw   never ran
      loud  never ran
      all   never ran
    0 of 3 elements up to date
    ");
}

#[test]
fn a_node_that_never_ran_is_compared_with_the_nearest_of_its_stage() {
    let bench = chain();
    bench.run().exits_with(0);
    bench.edit(
        "  loud:",
        "  new: { stage: ./source, with: { word: mate, file: raw.txt } }\n  loud:",
    );
    insta::assert_snapshot!(why(&bench, "new"), @r"
    new never ran; the nearest past run of its stage differs in
      config.word: tea -> mate
    ");
    bench.call(&["status", "p.yaml"]).says(&["new   never ran"]);
}

#[test]
fn an_edited_parameter_is_named_with_old_and_new_value() {
    let bench = chain();
    bench.run().exits_with(0);
    assert_eq!(why(&bench, "raw"), "raw is up to date\n");
    bench.edit("word: tea", "word: mate");
    insta::assert_snapshot!(why(&bench, "raw"), @r"
    raw would run because
      config.word: tea -> mate
    ");
    insta::assert_snapshot!(why(&bench, "all"), @r"
    all waits for what it reads
      `raw` must run
        config.word: tea -> mate
    ");
    insta::assert_snapshot!(bench.call(&["status", "p.yaml"]).out, @r"
      raw   stale: parameter
      loud  stale: input
      all   stale: input
    0 of 3 elements up to date
    ");
    bench.run().exits_with(0);
    insta::assert_snapshot!(why(&bench, "raw"), @r"
    raw is up to date; it last ran because
      config.word: tea -> mate
    ");
}

#[test]
fn a_changed_input_is_followed_to_its_cause() {
    let bench = chain();
    bench.run().exits_with(0);
    bench.edit("word: tea", "word: mate");
    bench
        .call(&["run", "p.yaml", "--only", "raw"])
        .exits_with(0);
    insta::assert_snapshot!(why(&bench, "loud"), @r"
    loud would run because
      input `text`: ID -> ID, made by `raw`
        config.word: tea -> mate
    ");
}

#[test]
fn changed_files_and_executables_are_named() {
    let bench = chain();
    bench.run().exits_with(0);
    bench.write("data/raw.txt", "green\n");
    insta::assert_snapshot!(why(&bench, "raw"), @r"
    raw would run because
      content of `file` changed: ID -> ID
    ");
    bench.script(&upper().body("cat ${in_text# }/text > \"$out/text/text\""));
    bench
        .call(&["run", "p.yaml", "--only", "raw"])
        .exits_with(0);
    insta::assert_snapshot!(why(&bench, "loud"), @r"
    loud would run because
      executable changed: ID -> ID
      input `text`: ID -> ID, made by `raw`
        content of `file` changed: ID -> ID
    ");
}

#[test]
fn a_missing_artifact_is_named() {
    let bench = chain();
    bench.run().exits_with(0);
    let store = bench.store();
    let id = store.latest_records("upper").unwrap()[0].outputs["text"].id;
    artifact::remove_tree(&store.object_path(id)).unwrap();
    let said = bench.call(&["why", "loud", "p.yaml"]);
    said.says(&[&format!(
        "artifact `text@{}` is gone from the store",
        id.short()
    )]);
    bench
        .call(&["status", "p.yaml"])
        .says(&["loud  stale: artifact gone"]);
    bench.run().exits_with(0);
    assert_eq!(
        why(&bench, "loud"),
        "loud is up to date; it last ran because\n  made again\n"
    );
}

#[test]
fn why_speaks_json() {
    let bench = chain();
    bench.run().exits_with(0);
    bench.edit("word: tea", "word: mate");
    bench
        .call(&["run", "p.yaml", "--only", "raw"])
        .exits_with(0);
    let said = bench
        .call(&["why", "loud", "p.yaml", "--json"])
        .exits_with(0);
    let answer: Json = serde_json::from_str(&said.out).unwrap();
    assert_eq!(answer[0]["name"], "loud");
    assert_eq!(answer[0]["state"], "stale");
    assert_eq!(
        answer[0]["reasons"][0]["because"][0]["text"],
        "config.word: tea -> mate"
    );
}
