//! What nodes may use, and going on after a failure.

use std::time::Instant;

use crate::fake::{Bench, Script, chain, source, upper};

/// Fails.
fn broken() -> Script {
    Script::new("broken")
        .input("text", &["text"])
        .output("text", "text")
        .body("echo no >&2; exit 5")
}

#[test]
fn what_does_not_depend_on_a_failure_goes_on_where_that_is_asked_for() {
    let pipeline = "  raw: { stage: ./source, with: { word: tea } }
  bad: { stage: ./broken, in: { text: raw } }
  after: { stage: ./upper, in: { text: bad } }
  good: { stage: ./upper, in: { text: raw } }
";
    let bench = Bench::new(&[source(), broken(), upper()], pipeline);
    let said = bench.call(&["run", "p.yaml", "-j", "1"]).exits_with(5);
    assert_eq!(said.named("ran"), ["raw"]);
    let said = bench
        .call(&["run", "p.yaml", "-j", "1", "--keep-going"])
        .exits_with(5)
        .says(&["1 ran, 1 cached, 1 failed, 1 not started"]);
    assert_eq!(said.named("ran"), ["good"]);
    assert_eq!(said.named("failed"), ["bad"]);
}

#[test]
fn a_node_that_takes_too_long_is_stopped_with_its_children() {
    let slow = Script::new("slow")
        .output("text", "text")
        .body("sleep 60 & echo started >&2; sleep 60; echo x > \"$out/text/text\"");
    let bench = Bench::new(&[slow], "  a: { stage: ./slow, timeout: 0.5s }\n");
    let started = Instant::now();
    bench
        .run()
        .exits_with(5)
        .says(&["stopped after 0.5 s, its `timeout`", "started"]);
    assert!(started.elapsed().as_secs() < 30);
    bench.edit("0.5s", "soon");
    bench
        .run()
        .exits_with(2)
        .says(&["`soon` is not a time", "line 4"]);
}

#[test]
fn limits_are_no_part_of_a_result() {
    let bench = chain();
    bench.run().exits_with(0);
    bench.edit(
        "stage: ./upper,",
        "stage: ./upper, timeout: 2h, memory: 1GiB, threads: 1,",
    );
    bench.run().exits_with(0).says(&["nothing to do"]);
}

/// Notes when it starts and ends.
fn noisy() -> Script {
    Script::new("noisy").output("text", "text").body(
        "log=$(dirname \"$0\")/order; echo start >> \"$log\"; sleep 0.3; echo end >> \"$log\"; cat \"$config\" > \"$out/text/text\"",
    )
}

#[test]
fn nodes_that_need_more_memory_than_there_is_wait_for_each_other() {
    let pipeline = "  a: { stage: ./noisy, memory: 3GiB, for: { word: [x, y, z] } }\n";
    let bench = Bench::new(&[noisy()], pipeline);
    bench
        .call(&["run", "p.yaml", "-j", "3", "--memory", "4GiB"])
        .exits_with(0);
    let order = std::fs::read_to_string(bench.path().join("order")).unwrap();
    assert_eq!(order, "start\nend\n".repeat(3));
    // With room for all three they run at once.
    let bench = Bench::new(&[noisy()], pipeline);
    bench
        .call(&["run", "p.yaml", "-j", "3", "--memory", "16GiB"])
        .exits_with(0);
    let order = std::fs::read_to_string(bench.path().join("order")).unwrap();
    assert!(order.starts_with("start\nstart\n"), "{order}");
    bench
        .call(&["run", "p.yaml", "--memory", "much"])
        .exits_with(2)
        .says(&["`much` is not an amount of memory"]);
}

#[test]
fn a_node_is_given_no_more_threads_than_it_says() {
    let script = Script::new("counting")
        .output("text", "text")
        .body("echo $all | sed -n 's/.*--threads \\([0-9]*\\).*/\\1/p' > \"$out/text/text\"");
    let bench = Bench::new(&[script], "  a: { stage: ./counting, threads: 2 }\n");
    bench
        .call(&["run", "p.yaml", "--threads", "7"])
        .exits_with(0);
    assert_eq!(bench.output("counting", "text"), "2\n");
}
