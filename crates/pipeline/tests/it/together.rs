//! Several runners on one store: each node is computed once, and all of them end well.

use std::fs;
use std::process::Stdio;

use crate::fake::{Bench, Script, join, source, upper};

/// Notes that it ran, then does what another script does.
fn noting(script: Script, code: &str) -> Script {
    script.body(&format!("echo ran >> \"$data/executions\"\n{code}"))
}

fn bench() -> Bench {
    let nodes = "  raw: { stage: ./source, for: { word: [a, b, c, d, e, f] } }
  loud: { stage: ./upper, in: { text: raw } }
  all: { stage: ./join, in: { texts: [raw, loud] } }
";
    let source = noting(
        source(),
        "sed -n 's/.*\"word\":\"\\([^\"]*\\)\".*/\\1/p' \"$config\" > \"$out/text/text\"",
    );
    let upper = noting(
        upper(),
        "tr a-z A-Z < ${in_text# }/text > \"$out/text/text\"",
    );
    let join = noting(
        join(),
        "for one in $in_texts; do cat $one/text; done > \"$out/text/text\"",
    );
    let bench = Bench::new(&[source, upper, join], nodes);
    bench.write("data/executions", "");
    bench
}

#[test]
fn runners_that_start_together_execute_each_node_once_and_all_end_well() {
    let alone = bench();
    alone.run().exits_with(0).says(&["13 ran"]);
    let wanted = alone.artifacts();
    for n_runners in [2, 8] {
        let bench = bench();
        let runners: Vec<_> = (0..n_runners)
            .map(|_| {
                bench
                    .command(&["run", "p.yaml"])
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let mut n_ran = 0;
        for runner in runners {
            let output = runner.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(0), "{said}{complaint}");
            assert_eq!(complaint, "");
            n_ran += said
                .lines()
                .filter(|line| line.starts_with("  ran "))
                .count();
        }
        let executions = fs::read_to_string(bench.path().join("data/executions")).unwrap();
        assert_eq!(executions.lines().count(), 13, "{n_runners} runners");
        assert_eq!(n_ran, 13, "each is told of by who did it");
        assert_eq!(bench.artifacts(), wanted);
        bench.is_intact();
        bench.run().exits_with(0).says(&["nothing to do"]);
    }
}

#[test]
fn a_runner_takes_over_when_another_is_killed() {
    let slow = Script::new("slow").output("text", "text").body(
        "echo ran >> \"$data/executions\"\n[ -e \"$data/go\" ] || sleep 300\necho x > \"$out/text/text\"",
    );
    let bench = Bench::new(&[slow], "  a: { stage: ./slow }\n");
    let executions = bench.write("data/executions", "");
    let n_executions = || fs::read_to_string(&executions).unwrap().lines().count();
    let spawn = || {
        bench
            .command(&["run", "p.yaml"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut first = spawn();
    while n_executions() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut second = spawn();
    // Long enough to reach the lock; shorter, and it finds the key free.
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(n_executions(), 1, "the second one waits");
    bench.write("data/go", "");
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(second.wait().unwrap().success());
    assert_eq!(n_executions(), 2);
    bench.is_intact();
}
