//! Everything is checked before the first stage starts; what cannot be is refused or skipped.

use std::fmt::Write;

use serde_json::Value as Json;

use crate::fake::{Bench, CHAIN, Script, chain, join, upper};

/// A method that needs something which the model `bare` does not have.
fn picky() -> Script {
    Script::new("picky")
        .input("text", &["text"])
        .output("text", "text")
        .check("if grep -q bare $(printf '%s' \"$offers\" | sed 's/ *text=//') && grep -q hard \"$config\"; then echo '{\"not_applicable\": \"method `hard` needs more than `bare` offers\"}'; exit 2; fi")
        .body("cp ${in_text# }/text \"$out/text/text\"")
}

/// Says in its offer what it was made from.
fn model() -> Script {
    Script::new("model").output("text", "text").check(
        "kind=rich; if grep -q bare \"$config\"; then kind=bare; fi\nprintf '{\"config\": %s, \"offers\": {\"text\": [{\"kind\": \"text\", \"facts\": {\"model\": \"%s\"}}]}}' \"$(cat \"$config\")\" $kind; exit 0",
    ).body("cp \"$config\" \"$out/text/text\"")
}

const PAIRS: &str = "  model: { stage: ./model, for: { model: [rich, bare] } }
  score: { stage: ./picky, in: { text: model }, for: { method: [easy, hard] } }
  after: { stage: ./upper, in: { text: score } }
  all: { stage: ./join, in: { texts: [model, after] } }
";

fn pairs() -> Bench {
    Bench::new(&[model(), picky(), upper(), join()], PAIRS)
}

#[test]
fn plan_lists_what_would_run_and_what_cannot_and_runs_nothing() {
    let bench = pairs();
    let said = bench.call(&["plan", "p.yaml"]).exits_with(0);
    insta::assert_snapshot!(said.out);
    assert!(bench.store().artifacts().unwrap().is_empty());
}

#[test]
fn a_pair_that_cannot_work_is_skipped_with_what_only_reads_it() {
    let bench = pairs();
    let said = bench
        .run()
        .exits_with(0)
        .says(&["8 ran, 1 cached, 2 not applicable"]);
    assert!(!said.out.contains("score[hard,model=bare]"));
    assert!(!said.out.contains("after[hard,model=bare]"));
    // The reader that gathers gets the rest: two models and three scores.
    let labels = bench.output("join", "text");
    assert_eq!(labels.matches("node=after").count(), 3, "{labels}");
    assert!(!labels.contains("method=hard,model=bare"), "{labels}");
    let run = bench.store().runs("p").unwrap().remove(0);
    let run = bench.store().read_run(&run).unwrap();
    let skipped: Vec<&str> = run["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|node| node["fate"] == "not_applicable")
        .map(|node| node["not_applicable"].as_str().unwrap())
        .collect();
    assert_eq!(skipped.len(), 2);
    assert_eq!(skipped[0], "method `hard` needs more than `bare` offers");
    assert!(skipped[1].contains("`score[hard,model=bare]`, which is not applicable"));
}

#[test]
fn a_reader_that_asks_is_told_what_it_gathers_in_vain_and_why() {
    let asking = Script::new("join")
        .many("texts", &["text"])
        .naming_absent()
        .output("text", "text")
        .body(
            "printf '%s\\n' \"$all\" | sed 's/--/\\n--/g' | grep '^--absent' > \"$out/text/text\"",
        );
    let bench = Bench::new(&[model(), picky(), upper(), asking], PAIRS);
    bench.run().exits_with(0);
    let told = bench.output("join", "text");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(
        told.starts_with("--absent texts[method=hard,model=bare,node=after]=its input `text` comes from `score[hard,model=bare]`"),
        "{told}"
    );
    // It is part of the key: what is told decides what is written.
    let store = bench.store();
    let record = store.latest_records("join").unwrap().remove(0);
    let reasons = &record.key.absent["texts"];
    assert!(reasons["method=hard,model=bare,node=after"].contains("not applicable"));
    let mut silent = record.key.clone();
    silent.absent.clear();
    assert_ne!(silent.id(), record.key.id());
    assert!(!silent.to_json().to_string().contains("absent"));
}

#[test]
fn a_pair_that_cannot_work_is_an_error_where_it_is_written_out() {
    let bench = pairs();
    bench.edit(
        "in: { text: model }, for: { method: [easy, hard] }",
        "in: { text: 'model[bare]' }, with: { method: hard }",
    );
    bench.run().exits_with(2).says(&[
        "`score` is not applicable: method `hard` needs",
        "`p.yaml` line 5",
        "hint: ",
    ]);
    // Also where only an element that is not applicable is selected.
    let bench = pairs();
    bench.edit(
        "in: { text: score }",
        "in: { text: 'score[hard,model=bare]' }",
    );
    bench
        .run()
        .exits_with(2)
        .says(&["`after` is not applicable", "`score[hard,model=bare]`"]);
    assert!(bench.store().artifacts().unwrap().is_empty());
}

#[test]
fn wires_that_do_not_fit_are_refused_with_their_line_and_a_remedy() {
    let both = || {
        Script::new("both")
            .output("left", "text")
            .output("right", "text")
            .unoffered("rest")
    };
    let cases = [
        (
            "an output that is not there",
            "{ stage: ./upper, in: { text: two.lefty } }",
        ),
        (
            "an output that this configuration does not make",
            "{ stage: ./upper, in: { text: two.rest } }",
        ),
        (
            "an output left open",
            "{ stage: ./upper, in: { text: two } }",
        ),
        (
            "another kind",
            "{ stage: ./upper, in: { text: two.measured } }",
        ),
        ("a missing input", "{ stage: ./upper }"),
        (
            "the same twice",
            "{ stage: ./join, in: { texts: [two.left, two.right, 'many[a=1]', many] } }",
        ),
        ("an unknown stage", "{ stage: uper }"),
        ("a stage that was not built", "{ stage: ./nothing }"),
        (
            "a stage that does not describe itself",
            "{ stage: ./p.yaml }",
        ),
    ];
    let mut report = String::new();
    for (what, node) in cases {
        let bench = Bench::new(
            &[
                both(),
                upper(),
                join(),
                Script::new("many").output("text", "text"),
            ],
            &format!(
                "  two: {{ stage: ./both }}\n  many: {{ stage: ./many, for: {{ a: [1, 2] }} }}\n  x: {node}\n"
            ),
        );
        let said = bench.call(&["plan", "p.yaml"]);
        let code = if what == "a stage that does not describe itself" {
            4
        } else {
            2
        };
        assert_eq!(said.code, Some(code), "{what}: {}", said.all());
        let beside = std::path::Path::new(env!("CARGO_BIN_EXE_touchstone"))
            .parent()
            .unwrap();
        let message = said
            .err
            .replace(&beside.display().to_string(), "BESIDE")
            .replace(
                &bench.path().canonicalize().unwrap().display().to_string(),
                "FOLDER",
            )
            .replace(&bench.path().display().to_string(), "FOLDER");
        assert!(message.contains("`p.yaml` line 6"), "{what}: {message}");
        writeln!(report, "# {what}\n{message}").unwrap();
    }
    insta::assert_snapshot!(report);
}

#[test]
fn a_stage_that_refuses_is_quoted_and_placed() {
    let strict = Script::new("strict").output("text", "text").check(
        "echo 'error: failed to read `'$config'`' >&2; echo '  caused by: unknown field `dimm`, expected `dim` at line 1 column 5' >&2; echo >&2; echo 'hint: did you mean `dim`?' >&2; exit 2",
    );
    let bench = Bench::new(
        &[strict],
        "  a: { stage: ./strict }\n  b:\n    stage: ./strict\n    with:\n      dimm: 3\n",
    );
    bench.edit("  a: { stage: ./strict }\n", "");
    let said = bench.run().exits_with(2);
    insta::assert_snapshot!(said.err, @r"
    error: failed to check `b`, at `p.yaml` line 7
      caused by: failed to read `with`
      caused by: unknown field `dimm`, expected `dim`

    hint: did you mean `dim`?
    ");
}

#[test]
fn the_seed_of_the_pipeline_reaches_stages_that_use_chance() {
    let chance = Script::new("chance")
        .uses_seed()
        .output("text", "text")
        .body("cp \"$config\" \"$out/text/text\"");
    let bench = Bench::new(&[chance, upper()], "  a: { stage: ./chance }\n");
    bench.run().exits_with(0);
    assert_eq!(bench.output("chance", "text"), "{\"seed\":3}");
    bench.edit("stage: ./chance", "stage: ./chance, with: { seed: 9 }");
    bench.run().exits_with(0);
    assert_eq!(bench.output("chance", "text"), "{\"seed\":9}");
}

#[test]
fn plan_speaks_json() {
    let bench = pairs();
    let said = bench.call(&["plan", "p.yaml", "--json"]).exits_with(0);
    let plan: Json = serde_json::from_str(&said.out).unwrap();
    let nodes = plan["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 11);
    let node = |name: &str| nodes.iter().find(|node| node["name"] == name).unwrap();
    assert_eq!(
        node("after[easy,model=bare]")["inputs"][0]["node"],
        "score[easy,model=bare]"
    );
    assert_eq!(node("score[hard,model=bare]")["state"], "not applicable");
    assert_eq!(node("model[rich]")["config"]["model"], "rich");
}

#[test]
fn a_pipeline_is_found_by_name() {
    let bench = chain();
    bench.write(
        "pipelines/small.yaml",
        &format!("pipeline: small\nnodes:\n{}", CHAIN.replace("./", "../")),
    );
    bench.call(&["run", "small"]).exits_with(0);
    bench
        .call(&["run", "smal"])
        .exits_with(2)
        .says(&["did you mean `small`?"]);
    bench.call(&["run"]).exits_with(2);
}
