//! Disks that are full, too small or read-only, and stores of another version.
//!
//! Small and read-only disks are mounted in a user namespace of the test's own, which needs no
//! rights; where even that is forbidden the test says that it was skipped. A limit on the length of
//! files needs nothing.

use std::fs;
use std::process::Command;

use crate::fake::{Bench, Said, Script, artifacts, chain, is_intact};

/// Runs a shell script in a mount namespace of its own; `None`, with a message, where that is
/// forbidden. `$touchstone` is the command.
#[expect(clippy::print_stderr, reason = "a test that skips says so")]
fn mounted(bench: &Bench, script: &str) -> Option<Said> {
    const FORBIDDEN: i32 = 99;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-eu", "-c"])
        .arg(script)
        .current_dir(bench.path())
        .env("touchstone", env!("CARGO_BIN_EXE_touchstone"))
        .output();
    let said = output.ok().map(|output| Said {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    });
    let is_forbidden = |said: &Said| {
        said.code == Some(FORBIDDEN) || said.err.contains("unshare: ") && said.out.is_empty()
    };
    match said {
        Some(said) if !is_forbidden(&said) => Some(said),
        said => {
            eprintln!("skipped: nothing can be mounted here: {said:?}");
            None
        }
    }
}

/// Writes its output and then fills the disk that the store lies on, but for `data/left` blocks and
/// `data/names` new names.
fn glutton() -> Script {
    Script::new("glutton")
        .output("text", "text")
        .output("more", "text")
        .body(
            "echo tea > \"$out/text/text\"; echo time > \"$out/more/text\"
root=$out/../../..
if [ -e \"$data/left\" ]; then
  head -c 100000000 /dev/zero > \"$root/filler\" 2> /dev/null || true
  size=$(wc -c < \"$root/filler\")
  truncate -s $((size - $(cat \"$data/left\") * 4096)) \"$root/filler\"
fi
if [ -e \"$data/names\" ]; then
  mkdir \"$root/names\"
  i=0
  while true 2> /dev/null > \"$root/names/$i\"; do i=$((i + 1)); done
  for j in $(seq $(cat \"$data/names\")); do rm -f \"$root/names/$((i - j))\"; done
fi",
        )
}

/// Mounts a small disk, runs until it is full, makes room, and runs again.
const FILL: &str = "
mkdir store after healed
mount -t tmpfs -o \"$options\" none store 2> /dev/null || exit 99
code=0; \"$touchstone\" run p.yaml --store store 2>&1 || code=$?
rm -rf store/filler store/names data/left data/names
cp -a store/. after
\"$touchstone\" run p.yaml --store store
cp -a store/. healed
exit $code
";

#[test]
fn a_full_disk_is_named_and_leaves_a_whole_store_wherever_publishing_runs_into_it() {
    let nodes = "  a: { stage: ./glutton }\n";
    let plain = Bench::new(&[glutton()], nodes);
    plain.run().exits_with(0);
    let wanted = plain.artifacts();
    for (what, options) in [("left", "size=1m"), ("names", "size=4m,nr_inodes=120")] {
        let mut codes = Vec::new();
        for room in 0..20 {
            let bench = Bench::new(&[glutton()], nodes);
            bench.write(&format!("data/{what}"), &room.to_string());
            let script = format!("options={options}\n{FILL}");
            let Some(said) = mounted(&bench, &script) else {
                return;
            };
            let is_full = said.code == Some(4);
            assert!(
                is_full || said.code == Some(0),
                "{what} {room}: {}",
                said.all()
            );
            if is_full {
                let is_named = ["error: failed to ", "No space left on device"]
                    .iter()
                    .all(|text| said.out.contains(text));
                assert!(is_named, "{what} {room}: {}", said.all());
            }
            is_intact(&bench.path().join("after"));
            is_intact(&bench.path().join("healed"));
            let healed = artifact::Store::open(bench.path().join("healed")).unwrap();
            assert_eq!(artifacts(&healed), wanted, "{what} {room}");
            codes.push(said.code);
        }
        let n_full = codes.iter().filter(|code| **code == Some(4)).count();
        assert!(n_full >= 3, "{what}: {codes:?}");
        assert_eq!(
            codes.last(),
            Some(&Some(0)),
            "{what}: there is room at last"
        );
    }
}

#[test]
fn a_file_that_may_not_grow_is_the_environments_fault() {
    // Many files, so that the manifest is longer than what was measured; the limit is not the
    // stage's, which lifts it.
    let many = || {
        Script::new("many").output("text", "text").body(
            "ulimit -S -f unlimited\nfor i in $(seq 100); do echo $i > \"$out/text/$i\"; done",
        )
    };
    for kilobytes in [1, 8] {
        let bench = Bench::new(&[many()], "  a: { stage: ./many }\n");
        // What stages say of themselves is remembered from here on.
        bench.call(&["plan", "p.yaml"]).exits_with(0);
        let limited = format!(
            "trap '' XFSZ; ulimit -S -f {}; exec \"$touchstone\" run p.yaml",
            kilobytes * 2
        );
        let output = Command::new("sh")
            .args(["-c", &limited])
            .current_dir(bench.path())
            .env("touchstone", env!("CARGO_BIN_EXE_touchstone"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains("File too large"), "{said}");
        assert!(bench.store().latest_records("many").unwrap().is_empty());
        bench.is_intact();
        bench.run().exits_with(0).says(&["1 ran"]);
        bench.is_intact();
    }
}

#[test]
fn a_store_that_can_only_be_read_serves_what_it_has_and_says_so_of_the_rest() {
    let bench = chain();
    bench.run().exits_with(0);
    // What was asked last differs from what is asked next, which would be written down elsewhere.
    bench.edit("word: tea", "word: mate");
    bench.run().exits_with(0);
    bench.edit("word: mate", "word: tea");
    let id = bench.store().latest_records("upper").unwrap()[0].outputs["text"].id;
    let script = format!(
        "mount --bind artifacts artifacts 2> /dev/null || exit 99
mount -o remount,bind,ro artifacts 2> /dev/null || exit 99
if mkdir artifacts/more 2> /dev/null; then echo writable; fi
\"$touchstone\" run p.yaml
\"$touchstone\" status p.yaml
\"$touchstone\" show {}
sed -i s/tea/cocoa/ p.yaml
\"$touchstone\" run p.yaml",
        id.short()
    );
    let Some(said) = mounted(&bench, &script) else {
        return;
    };
    let said = said.exits_with(4).says(&[
        "nothing to do: all 3 nodes are up to date\n",
        "3 of 3 elements up to date",
        &id.to_string(),
        "Read-only file system",
    ]);
    assert!(!said.out.contains("writable"), "{}", said.out);
    bench.is_intact();
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_alone() {
    let bench = chain();
    bench.run().exits_with(0);
    let path = bench.path().join("artifacts/format.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, text.replace("\"format\": 1", "\"format\": 7")).unwrap();
    for command in ["run", "status", "plan"] {
        bench.call(&[command, "p.yaml"]).exits_with(4).says(&[
            "error: the store `",
            "has format 7, this version knows 1",
            "hint: use the `touchstone` that made it, or name another store with `--store DIR`",
        ]);
    }
    bench
        .call(&["run", "p.yaml", "--store", "another"])
        .exits_with(0)
        .says(&["3 ran"]);
    // One without a version was made before there was one.
    fs::remove_file(&path).unwrap();
    bench.run().exits_with(0).says(&["nothing to do"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}
