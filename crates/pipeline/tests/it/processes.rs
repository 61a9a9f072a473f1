//! Nothing of a stage outlives its runner, and nothing late reaches what was published.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fake::{Bench, Script};

/// Writes its own process number and that of a child, then sleeps; both write late.
fn sleeper() -> Script {
    Script::new("sleeper").file("file").output("text", "text").body(
        "echo x > \"$out/text/text\"\n(sleep 300; echo late >> \"$out/text/text\") &\necho $$ $! > \"$data/pids.tmp\"; mv \"$data/pids.tmp\" \"$data/pids\"\nsleep 300; echo late >> \"$out/text/text\"",
    )
}

fn bench() -> Bench {
    let bench = Bench::new(&[sleeper()], "  a: { stage: ./sleeper }\n");
    bench.write("data/keep", "");
    bench
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The processes that the stage named, once it did.
fn pids(bench: &Bench) -> Vec<String> {
    let path = bench.path().join("data/pids");
    wait_until("the stage starts", || path.exists());
    let text = fs::read_to_string(path).unwrap();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Whether a process lives; a zombie does not.
fn lives(pid: &str) -> bool {
    fs::read_to_string(Path::new("/proc").join(pid).join("stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .trim_start()
            .starts_with('Z')
    })
}

fn signal(name: &str, pid: u32) {
    let done = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status()
        .unwrap();
    assert!(done.success());
}

#[test]
fn a_killed_runner_takes_its_stages_and_their_children_along() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let bench = bench();
    let mut runner = bench
        .command(&["run", "p.yaml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pids = pids(&bench);
    assert!(pids.len() == 2 && pids.iter().all(|pid| lives(pid)));
    runner.kill().unwrap();
    runner.wait().unwrap();
    wait_until("stage and child end with their runner", || {
        !pids.iter().any(|pid| lives(pid))
    });
    // Nothing to unlock, nothing left: the next runner does the work.
    bench.script(&sleeper().body("echo y > \"$out/text/text\""));
    bench.run().exits_with(0).says(&["1 ran"]);
    assert_eq!(
        fs::read_dir(bench.path().join("artifacts/attempts"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn an_interrupted_runner_ends_its_stages_and_says_so() {
    if !cfg!(target_os = "linux") {
        return;
    }
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let bench = bench();
        let runner = bench
            .command(&["run", "p.yaml"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pids = pids(&bench);
        signal(name, runner.id());
        let output = runner.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(
            said.contains("interrupted: 0 nodes had ended and are kept; run again to go on"),
            "{said}"
        );
        wait_until("stage and child end", || !pids.iter().any(|pid| lives(pid)));
        assert_eq!(
            fs::read_dir(bench.path().join("artifacts/attempts"))
                .unwrap()
                .count(),
            0
        );
        assert!(bench.store().artifacts().unwrap().is_empty());
    }
}

#[test]
fn what_a_stage_leaves_behind_cannot_touch_what_was_published() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let script = Script::new("leaver").output("text", "text").body(
        "echo x > \"$out/text/text\"\n(exec 3>> \"$out/text/text\"; sleep 0.4; echo late >&3) > /dev/null 2>&1 &\necho $! > \"$data/pid\"",
    );
    let bench = Bench::new(&[script], "  a: { stage: ./leaver }\n");
    bench.write("data/keep", "");
    bench.run().exits_with(0);
    let pid = fs::read_to_string(bench.path().join("data/pid")).unwrap();
    assert!(
        !lives(pid.trim()),
        "it was killed before its outputs were looked at"
    );
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(bench.output("leaver", "text"), "x\n");
    for id in bench.store().artifacts().unwrap() {
        bench.store().verify(id).unwrap();
    }
}

#[test]
fn a_stage_that_is_killed_is_told_apart_from_one_that_fails() {
    let script = Script::new("victim")
        .output("text", "text")
        .body("kill -9 $$");
    let bench = Bench::new(&[script], "  a: { stage: ./victim }\n");
    bench.run().exits_with(4).says(&["killed (signal 9)"]);
}

#[test]
fn a_killed_stage_goes_on_from_what_it_kept() {
    // Does one step of three and is killed, as often as it takes.
    let steps = Script::new("steps").resumable().output("text", "text").body(
        "echo step >> \"$resume/done\"\nif [ $(wc -l < \"$resume/done\") -lt 3 ]; then kill -9 $$; fi\ncp \"$resume/done\" \"$out/text/text\"",
    );
    let bench = Bench::new(&[steps], "  long: { stage: ./steps }\n");
    bench.run().exits_with(4);
    bench.run().exits_with(4);
    bench.run().exits_with(0).says(&["1 ran"]);
    assert_eq!(bench.output("steps", "text"), "step\nstep\nstep\n");
    // What is computed needs no memory of how, and what is forced starts anew.
    let kept = || {
        std::fs::read_dir(bench.path().join("artifacts/resume"))
            .unwrap()
            .count()
    };
    assert_eq!(kept(), 0);
    bench
        .call(&["run", "p.yaml", "--from", "long"])
        .exits_with(4);
    assert_eq!(kept(), 1);
}

#[test]
fn what_a_stage_costs_is_measured() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let script = Script::new("eater").output("text", "text").body(
        "head -c 60000000 /dev/zero | tail -c 60000000 | md5sum > \"$out/text/text\"\nsleep 0.3",
    );
    let bench = Bench::new(&[script], "  a: { stage: ./eater }\n");
    bench
        .call(&["run", "p.yaml", "--threads", "3"])
        .exits_with(0);
    let store = bench.store();
    let id = store.latest_records("eater").unwrap()[0].outputs["measured"].id;
    let rows: Vec<tables::Measured> = tables::read_all(&store.open_verified(id).unwrap()).unwrap();
    let [row] = rows.as_slice() else {
        panic!("one row, not {rows:?}")
    };
    assert_eq!(
        (row.node.as_str(), row.stage.as_str(), row.threads),
        ("a", "eater", 3)
    );
    assert!(row.wall_ms >= 300, "{row:?}");
    assert!(row.cpu_ms >= 10 && row.cpu_ms < row.wall_ms * 8, "{row:?}");
    // `tail` keeps all that it may have to print.
    assert!(
        row.peak_bytes > 50_000_000 && row.peak_bytes < 200_000_000,
        "{row:?}"
    );
    assert!(!row.processor.is_empty());
}

#[test]
fn two_runners_share_the_work_of_one_key() {
    let script = Script::new("slow")
        .output("text", "text")
        .body("sleep 0.5; date +%N > \"$out/text/text\"");
    let bench = Bench::new(&[script], "  a: { stage: ./slow }\n");
    let runners: Vec<_> = (0..3)
        .map(|_| {
            bench
                .command(&["run", "p.yaml"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let said: Vec<String> = runners
        .into_iter()
        .map(|runner| String::from_utf8(runner.wait_with_output().unwrap().stdout).unwrap())
        .collect();
    let n_ran = said.iter().filter(|said| said.contains("1 ran")).count();
    assert_eq!(n_ran, 1, "{said:?}");
    assert!(bench.store().conflicts().unwrap().is_empty());
}
