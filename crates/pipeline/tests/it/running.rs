//! What is computed is never computed again; what changed, and only that, is.

use std::fs;

use crate::fake::{Bench, Script, chain, join, source, upper};

#[test]
fn the_first_run_computes_all_and_the_second_nothing() {
    let bench = chain();
    let said = bench.run().exits_with(0).says(&["3 ran, 0 cached in "]);
    assert_eq!(said.named("ran"), ["raw", "loud", "all"]);
    assert_eq!(
        bench.output("join", "text"),
        "tea\nblack\nTEA\nBLACK\ntexts[node=loud]\ntexts[node=raw]\n"
    );
    let runs = bench.store().runs("p").unwrap().len();
    let said = bench.run().exits_with(0);
    assert_eq!(said.out, "nothing to do: all 3 nodes are up to date\n");
    assert_eq!(
        bench.store().runs("p").unwrap().len(),
        runs,
        "a run without news leaves no file"
    );
}

#[test]
fn one_edited_parameter_reruns_what_depends_on_it() {
    let bench = chain();
    bench.run().exits_with(0);
    bench.edit("word: tea", "word: mate");
    let said = bench
        .run()
        .exits_with(0)
        .says(&["(config.word: tea -> mate)"]);
    assert_eq!(said.named("ran"), ["raw", "loud", "all"]);
    bench.edit("word: mate", "word: tea");
    bench
        .run()
        .exits_with(0)
        .says(&["all 3 nodes are up to date"]);
}

#[test]
fn an_output_that_did_not_change_stops_the_rebuild() {
    let bench = chain();
    bench.run().exits_with(0);
    // Another byte in the raw file, the same text out of it.
    bench.write("data/raw.txt", "# another comment\nblack\n");
    let said = bench
        .run()
        .exits_with(0)
        .says(&["content of `file` changed"]);
    // What was measured is new, so that what reads it is too; `loud` is not touched.
    assert_eq!(said.named("ran"), ["raw", "all"]);
    assert_eq!(said.named("cached"), ["loud"]);
}

#[test]
fn a_stage_that_changed_runs_again_and_nothing_else_if_its_output_did_not() {
    let bench = chain();
    bench.edit("costs: [raw, loud]", "costs: [raw]");
    bench.run().exits_with(0);
    bench.script(
        &upper().body("tr '[:lower:]' '[:upper:]' < ${in_text# }/text > \"$out/text/text\""),
    );
    let said = bench.run().exits_with(0).says(&["executable changed"]);
    assert_eq!(said.named("ran"), ["loud"]);
}

#[test]
fn times_and_places_are_not_content() {
    let bench = chain();
    bench.run().exits_with(0);
    let raw = bench.path().join("data/raw.txt");
    fs::create_dir(bench.path().join("data/2026")).unwrap();
    fs::rename(&raw, bench.path().join("data/2026/raw.txt")).unwrap();
    bench.edit("raw.txt", "2026/raw.txt");
    bench
        .run()
        .exits_with(0)
        .says(&["all 3 nodes are up to date"]);
    fs::rename(bench.path().join("data"), bench.path().join("elsewhere")).unwrap();
    bench
        .call(&["run", "p.yaml", "--data", "elsewhere"])
        .exits_with(0)
        .says(&["nothing to do"]);
}

#[test]
fn only_limits_a_run_to_a_node_and_what_it_reads() {
    let bench = chain();
    let said = bench
        .call(&["run", "p.yaml", "--only", "loud"])
        .exits_with(0);
    assert_eq!(said.named("ran"), ["raw", "loud"]);
    bench
        .call(&["run", "p.yaml", "--only", "loud"])
        .says(&["nothing to do: 2 nodes are up to date"]);
    bench
        .call(&["run", "p.yaml", "--only", "lout"])
        .exits_with(2)
        .says(&["did you mean `loud`?"]);
}

#[test]
fn from_runs_a_node_and_its_readers_again_and_finds_the_same() {
    let bench = chain();
    bench.run().exits_with(0);
    let before = bench.store().artifacts().unwrap();
    let said = bench
        .call(&["run", "p.yaml", "--from", "loud"])
        .exits_with(0);
    assert_eq!(said.named("ran"), ["loud", "all"]);
    assert_eq!(said.err, "", "no determinism alarm");
    // Only what was measured is new.
    assert_eq!(bench.store().artifacts().unwrap().len(), before.len() + 2);
}

#[test]
fn two_results_of_one_key_raise_an_alarm() {
    let random = Script::new("random")
        .output("text", "text")
        .body("date +%N > \"$out/text/text\"");
    let bench = Bench::new(&[random], "  a: { stage: ./random }\n");
    bench.run().exits_with(0);
    let first = bench.output("random", "text");
    bench
        .call(&["run", "p.yaml", "--from", "a"])
        .exits_with(0)
        .says(&["warning: `a` is not deterministic", "`text`"]);
    assert_eq!(
        bench.output("random", "text"),
        first,
        "the first result is served"
    );
    assert_eq!(bench.store().conflicts().unwrap().len(), 1);
}

#[test]
fn a_failing_stage_passes_its_exit_code_on_and_shows_what_it_said() {
    for code in [1, 2, 3, 4, 5] {
        let bad = upper().body(&format!("echo 'error: no `sugar`' >&2; exit {code}"));
        let bench = Bench::new(&[source(), bad, join()], crate::fake::CHAIN);
        bench.write("data/raw.txt", "black\n");
        let said = bench.run().exits_with(code).says(&[
            "`loud` (stage `upper`) failed: exit code",
            "  | error: no `sugar`",
            "artifacts/logs/p/loud.log",
            "1 ran, 0 cached, 1 failed",
        ]);
        assert_eq!(said.named("ran"), ["raw"]);
        assert!(bench.store().latest_records("upper").unwrap().is_empty());
        // Mended, it goes on where it stopped.
        bench.script(&upper());
        assert_eq!(bench.run().exits_with(0).named("cached"), ["raw"]);
    }
}

#[test]
fn a_failure_lets_what_runs_end_and_starts_nothing_more() {
    let slow = Script::new("slow")
        .output("text", "text")
        .body("sleep 0.5; echo x > \"$out/text/text\"");
    let bad = Script::new("bad").output("text", "text").body("exit 5");
    let bench = Bench::new(
        &[slow, bad, upper()],
        "  a: { stage: ./slow }\n  b: { stage: ./bad }\n  c: { stage: ./upper, in: { text: a } }\n",
    );
    let said = bench.call(&["run", "p.yaml", "-j", "2"]).exits_with(5);
    assert_eq!(said.named("ran"), ["a"]);
}

#[test]
fn an_output_that_was_promised_and_not_written_is_an_error() {
    let bench = Bench::new(
        &[Script::new("lazy").output("text", "text")],
        "  a: { stage: ./lazy }\n",
    );
    bench
        .run()
        .exits_with(1)
        .says(&["`a` (stage `lazy`)", "wrote nothing to its output `text`"]);
    assert!(bench.store().artifacts().unwrap().is_empty());
}

#[test]
fn a_missing_raw_file_is_told_by_its_stage_in_detail() {
    let bench = chain();
    fs::remove_file(bench.path().join("data/raw.txt")).unwrap();
    bench
        .run()
        .exits_with(2)
        .says(&["`raw` (stage `source`) failed", "raw.txt"]);
    // A stage that does not mind is not recorded either: its result would have no key.
    bench.script(&source().body("echo x > \"$out/text/text\""));
    bench.run().exits_with(3).says(&[
        "`raw.txt`, the `file` of `raw`, is not under the data root `data`",
        "--data DIR",
    ]);
    assert!(bench.store().artifacts().unwrap().is_empty());
    bench
        .call(&["status", "p.yaml"])
        .exits_with(0)
        .says(&["raw   stale: raw file"]);
    bench
        .call(&["why", "raw", "p.yaml"])
        .exits_with(0)
        .says(&["raw.txt"]);
}

#[test]
fn a_raw_file_that_changes_while_it_is_read_is_not_recorded() {
    let bench = chain();
    bench.script(&source().body("echo more >> \"$data/raw.txt\"; echo x > \"$out/text/text\""));
    bench
        .run()
        .exits_with(3)
        .says(&["a raw file changed while `raw` ran"]);
    assert!(bench.store().latest_records("source").unwrap().is_empty());
}

#[test]
fn damaged_and_deleted_artifacts_are_made_again() {
    for is_deleted in [false, true] {
        let bench = chain();
        bench.run().exits_with(0);
        let store = bench.store();
        let id = store.latest_records("source").unwrap()[0].outputs["text"].id;
        let path = store.object_path(id);
        if is_deleted {
            artifact::remove_tree(&path).unwrap();
        } else {
            let file = path.join("text");
            let mut permissions = fs::metadata(&file).unwrap().permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
            fs::set_permissions(&file, permissions).unwrap();
            fs::write(&file, "cup\nblack\n").unwrap();
        }
        // A reader that has not run yet asks for it.
        bench.script(
            &upper().body("tr '[:lower:]' '[:upper:]' < ${in_text# }/text > \"$out/text/text\""),
        );
        let said = bench.run().exits_with(0);
        assert!(
            said.named("ran").contains(&"raw".to_owned()),
            "{}",
            said.all()
        );
        if !is_deleted {
            assert!(
                said.err.contains("is damaged and was moved to"),
                "{}",
                said.err
            );
        }
        bench.store().verify(id).unwrap();
        assert_eq!(bench.output("upper", "text"), "TEA\nBLACK\n");
        bench.run().exits_with(0).says(&["nothing to do"]);
    }
}

#[test]
fn results_do_not_depend_on_how_many_steps_run_at_once() {
    let nodes = "  raw: { stage: ./source, for: { word: [a, b, c, d, e, f] } }
  loud: { stage: ./upper, in: { text: raw } }
  all: { stage: ./join, in: { texts: [raw, loud] } }
";
    let mut seen = Vec::new();
    for jobs in ["1", "2", "7"] {
        let bench = Bench::new(&[source(), upper(), join()], nodes);
        bench
            .call(&["run", "p.yaml", "-j", jobs])
            .exits_with(0)
            .says(&["13 ran"]);
        seen.push((
            bench.output("join", "text"),
            bench.store().latest_records("join").unwrap()[0].id,
        ));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
}

#[test]
fn what_was_measured_enters_keys_by_its_producer_and_spreads() {
    let page = Script::new("page")
        .input("text", &["text"])
        .output("html", "html")
        .measured("html")
        .body("cp ${in_text# }/text \"$out/html/index.html\"");
    let cost = join().measured("text");
    let bench = Bench::new(
        &[source(), upper(), Script::new("unused"), page],
        "  raw: { stage: ./source, with: { word: tea } }\n  sum: { stage: ./join, in: { costs: raw } }\n  page: { stage: ./page, in: { text: sum } }\n",
    );
    bench.script(&cost);
    bench
        .run()
        .exits_with(0)
        .says(&["artifacts/latest/p/page/html/index.html"]);
    let page = bench.store().latest_records("page").unwrap().remove(0);
    let input = page.key.inputs["text"][0].source;
    assert!(input.to_string().starts_with("measured:"), "{input}");
    assert!(page.outputs["html"].measured);
    let link = bench.path().join("artifacts/latest/p/page/html");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(link.join("index.html").is_file());
    bench.run().exits_with(0).says(&["nothing to do"]);
}

#[test]
fn the_environment_of_the_runner_does_not_reach_stages() {
    let nosy = Script::new("nosy")
        .output("text", "text")
        .body("env | cut -d= -f1 | sort > \"$out/text/text\"");
    let bench = Bench::new(&[nosy], "  a: { stage: ./nosy }\n");
    let output = bench
        .command(&["run", "p.yaml"])
        .env("SECRET_TOKEN", "x")
        .env("LC_ALL", "tr_TR")
        .output()
        .unwrap();
    assert!(output.status.success());
    let seen = bench.output("nosy", "text");
    assert!(
        !seen.contains("SECRET") && seen.contains("PATH") && seen.contains("TZ"),
        "{seen}"
    );
}
