//! Stages that are shell scripts, and a folder in which `touchstone` runs them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use artifact::{ArtifactId, Store};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// A stage to be written as a script.
pub(crate) struct Script {
    name: String,
    description: Json,
    offers: Json,
    /// Runs instead of a plain answer to `check`.
    check: String,
    body: String,
}

impl Script {
    /// A stage that does nothing yet.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            description: json!({
                "protocol": 1, "name": name, "inputs": [], "outputs": [], "config": [],
            }),
            offers: json!({}),
            check: String::new(),
            body: String::new(),
        }
    }

    fn push(mut self, list: &str, value: Json) -> Self {
        self.description[list].as_array_mut().unwrap().push(value);
        self
    }

    /// Adds a required input.
    pub(crate) fn input(self, role: &str, kinds: &[&str]) -> Self {
        self.push("inputs", json!({ "role": role, "kinds": kinds }))
    }

    /// Adds an optional input that takes several.
    pub(crate) fn many(self, role: &str, kinds: &[&str]) -> Self {
        let input = json!({ "role": role, "kinds": kinds, "is_optional": true, "is_many": true });
        self.push("inputs", input)
    }

    /// Asks, for the input added last, what of it is not applicable.
    pub(crate) fn naming_absent(mut self) -> Self {
        let inputs = self.description["inputs"].as_array_mut().unwrap();
        inputs.last_mut().unwrap()["names_absent"] = json!(true);
        self
    }

    /// Adds an output and offers it.
    pub(crate) fn output(mut self, role: &str, kind: &str) -> Self {
        self.offers[role] = json!([{ "kind": kind }]);
        self.push("outputs", json!({ "role": role, "kind": kind }))
    }

    /// Adds an output that only some configurations make: not offered.
    pub(crate) fn unoffered(self, role: &str) -> Self {
        self.push("outputs", json!({ "role": role, "kind": role }))
    }

    /// Says that an output holds measured things.
    pub(crate) fn measured(mut self, role: &str) -> Self {
        for output in self.description["outputs"].as_array_mut().unwrap() {
            if output["role"] == role {
                output["is_measured"] = json!(true);
            }
        }
        self
    }

    /// Adds a configuration field that names a file.
    pub(crate) fn file(self, name: &str) -> Self {
        self.push("config", json!({ "name": name, "kind": "file" }))
    }

    /// Says that a killed run goes on where it was; `$resume` is its directory.
    pub(crate) fn resumable(mut self) -> Self {
        self.description["is_resumable"] = json!(true);
        self
    }

    /// Says that chance is used.
    pub(crate) fn uses_seed(mut self) -> Self {
        self.description["uses_seed"] = json!(true);
        self
    }

    /// Shell code that may answer `check` itself and exit; `$config` is the configuration's file.
    pub(crate) fn check(mut self, code: &str) -> Self {
        code.clone_into(&mut self.check);
        self
    }

    /// Shell code of `run`: `$config`, `$out`, `$data`, and `$in_ROLE`, a list of directories.
    pub(crate) fn body(mut self, code: &str) -> Self {
        code.clone_into(&mut self.body);
        self
    }

    fn text(&self) -> String {
        let mut text = String::from("#!/bin/sh\nset -eu\ncommand=$1\nshift\nall=\"$*\"\n");
        text.push_str("config= out= data= offers= resume=\n");
        for input in self.description["inputs"].as_array().unwrap() {
            writeln!(text, "in_{}=", input["role"].as_str().unwrap()).unwrap();
        }
        text.push_str(
            "while [ $# -gt 0 ]; do\n  case $1 in\n    --config) config=$2 ;;\n    --out) out=$2 ;;\n    --data) data=$2 ;;\n    --resume) resume=$2 ;;\n    --offers) offers=\"$offers $2\" ;;\n    --in)\n      role=${2%%=/*}\n      role=${role%%\\[*}\n      eval \"in_$role=\\\"\\$in_$role /${2#*=/}\\\"\" ;;\n  esac\n  shift\n  [ $# -eq 0 ] || case $1 in --*) ;; *) shift ;; esac\ndone\n",
        );
        writeln!(
            text,
            "case $command in\ndescribe)\ncat <<'END'\n{:#}\nEND\n;;",
            self.description
        )
        .unwrap();
        writeln!(
            text,
            "check)\n{}\nprintf '{{\"config\": %s, \"offers\": %s}}\\n' \"$(cat \"$config\")\" '{}'\n;;",
            self.check, self.offers
        )
        .unwrap();
        text.push_str("run)\n");
        for role in self.offers.as_object().unwrap().keys() {
            writeln!(text, "mkdir -p \"$out/{role}\"").unwrap();
        }
        writeln!(text, "{}\n;;\nesac", self.body).unwrap();
        text
    }
}

/// A folder with scripts, a pipeline file, raw data and a store.
pub(crate) struct Bench(TempDir);

/// What `touchstone` said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Both streams.
    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Checks the exit code.
    pub(crate) fn exits_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.all());
        self
    }

    /// Checks that all texts are said.
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(
                self.all().contains(text),
                "`{text}` is missing in\n{}",
                self.all()
            );
        }
        self
    }

    /// Elements on lines that start with a word, such as `ran`.
    pub(crate) fn named(&self, word: &str) -> Vec<String> {
        self.out
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                (words.next() == Some(word)).then(|| words.next().unwrap_or_default().to_owned())
            })
            .collect()
    }
}

impl Bench {
    pub(crate) fn new(scripts: &[Script], pipeline: &str) -> Self {
        let bench = Self(TempDir::with_prefix("touchstone-").unwrap());
        for script in scripts {
            bench.script(script);
        }
        bench.write(
            "p.yaml",
            &format!("pipeline: p\nseed: 3\nnodes:\n{pipeline}"),
        );
        bench
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a stage's script anew.
    pub(crate) fn script(&self, script: &Script) {
        let path = self.write(&script.name, &script.text());
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }

    /// Replaces a text in the pipeline file.
    pub(crate) fn edit(&self, old: &str, new: &str) {
        let text = fs::read_to_string(self.path().join("p.yaml")).unwrap();
        assert_eq!(text.matches(old).count(), 1, "{old}");
        self.write("p.yaml", &text.replace(old, new));
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_touchstone"));
        command
            .args(arguments)
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().unwrap();
        Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn run(&self) -> Said {
        self.call(&["run", "p.yaml"])
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(self.path().join("artifacts")).unwrap()
    }

    /// Artifacts without measured things by (stage, key, role): what two runs must agree on.
    pub(crate) fn artifacts(&self) -> Artifacts {
        artifacts(&self.store())
    }

    /// Checks that nothing is left of what was disturbed: everything that is stored is whole,
    /// read-only and needs no help.
    pub(crate) fn is_intact(&self) {
        is_intact(&self.path().join("artifacts"));
    }

    /// The only file of an output of a stage, by its latest record.
    pub(crate) fn output(&self, stage: &str, role: &str) -> String {
        let store = self.store();
        let record = store.latest_records(stage).unwrap().remove(0);
        let path = store.open_verified(record.outputs[role].id).unwrap();
        fs::read_to_string(path.join("text")).unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Published directories are read-only, which stops `TempDir` unless tests run as root.
        let _ = artifact::remove_tree(self.path());
    }
}

/// Artifacts by (stage, key, role).
pub(crate) type Artifacts = BTreeMap<(String, String, String), ArtifactId>;

/// Artifacts of a store without measured things.
pub(crate) fn artifacts(store: &Store) -> Artifacts {
    let mut artifacts = BTreeMap::new();
    for stage in store.stages().unwrap() {
        for record in store.latest_records(&stage).unwrap() {
            for (role, produced) in record.outputs {
                if !produced.measured && role != "measured" {
                    let place = (stage.clone(), record.id.to_string(), role);
                    artifacts.insert(place, produced.id);
                }
            }
        }
    }
    artifacts
}

/// Checks that a store has nothing unfinished or damaged in it, and that every record can be served.
pub(crate) fn is_intact(root: &Path) {
    let store = Store::open(root).unwrap();
    let names = |area: &str| fs::read_dir(root.join(area)).unwrap().count();
    assert_eq!(names("attempts"), 0, "unfinished work is left");
    assert!(store.conflicts().unwrap().is_empty());
    for id in store.artifacts().unwrap() {
        store.verify(id).unwrap();
    }
    for stage in store.stages().unwrap() {
        let n_files = fs::read_dir(root.join("keys").join(&stage))
            .unwrap()
            .filter(|file| {
                let name = file.as_ref().unwrap().file_name();
                Path::new(&name)
                    .extension()
                    .is_some_and(|ending| ending == "json")
            })
            .count();
        let records = store.latest_records(&stage).unwrap();
        assert_eq!(records.len(), n_files, "a record cannot be read");
        for produced in records.iter().flat_map(|record| record.outputs.values()) {
            assert!(
                store.contains(produced.id),
                "a record promises what is not there"
            );
            let path = store.object_path(produced.id);
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o222, 0, "an artifact can be written to");
        }
    }
}

/// Flips one bit of a file; its size, permissions and modification time stay.
pub(crate) fn flip(path: &Path, at: u64, bit: u8) {
    let metadata = fs::metadata(path).unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 1 << bit;
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    // In place: the inode stays too.
    fs::write(path, bytes).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(metadata.modified().unwrap()).unwrap();
    fs::set_permissions(path, metadata.permissions()).unwrap();
}

/// Numbers that look like chance and are the same in every run.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end` (Steele, Lea, Flood 2014: `SplitMix64`).
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        usize::try_from(z % u64::try_from(end).unwrap()).unwrap()
    }
}

/// Writes the word that is its `word`, and the lines of a raw file where `file` names one.
pub(crate) fn source() -> Script {
    Script::new("source").file("file").output("text", "text").body(
        "echo $(sed -n 's/.*\"word\":\"\\([^\"]*\\)\".*/\\1/p' \"$config\") > \"$out/text/text\"\nfile=$(sed -n 's/.*\"file\":\"\\([^\"]*\\)\".*/\\1/p' \"$config\")\n[ -z \"$file\" ] || grep -v '^#' \"$data/$file\" >> \"$out/text/text\"",
    )
}

/// Writes its input in capitals.
pub(crate) fn upper() -> Script {
    Script::new("upper")
        .input("text", &["text"])
        .output("text", "text")
        .body("tr a-z A-Z < ${in_text# }/text > \"$out/text/text\"")
}

/// Writes all its inputs one after the other, and the labels that they came with.
pub(crate) fn join() -> Script {
    Script::new("join")
        .many("texts", &["text"])
        .many("costs", &["measured"])
        .output("text", "text")
        .body("for one in $in_texts; do cat $one/text; done > \"$out/text/text\"\nprintf '%s\\n' $all | sed -n 's/^\\(texts.*\\)=.*/\\1/p' | sort >> \"$out/text/text\"")
}

/// Three stages in a row, the middle one for two words.
pub(crate) const CHAIN: &str = "  raw: { stage: ./source, with: { word: tea, file: raw.txt } }
  loud: { stage: ./upper, in: { text: raw } }
  all: { stage: ./join, in: { texts: [raw, loud], costs: [raw, loud] } }
";

/// [`CHAIN`] with its stages and raw data.
pub(crate) fn chain() -> Bench {
    let bench = Bench::new(&[source(), upper(), join()], CHAIN);
    bench.write("data/raw.txt", "# a comment\nblack\n");
    bench
}
