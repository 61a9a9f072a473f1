//! The house holds: who may use whom, what a crate is called, how small a `main` is.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test fail as the test does"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Every arrow that may exist, from user to used. ARCHITECTURE.md draws the same picture.
const ARROWS: &[(&str, &[&str])] = &[
    ("artifact", &[]),
    ("seed", &[]),
    ("tables", &[]),
    ("metrics", &["seed"]),
    ("stage", &["artifact", "seed"]),
    ("query", &["tables"]),
    ("tensors", &["seed"]),
    ("datasets", &["tables", "seed"]),
    ("models", &["tensors", "tables", "seed"]),
    ("attribution", &["tensors", "seed"]),
    ("ingest", &["stage", "datasets", "tables"]),
    ("preprocess", &["stage", "query", "tables", "seed"]),
    ("split", &["stage", "tables", "seed"]),
    // Probes are matrices in files: who writes and who reads them knows their layout.
    (
        "train",
        &["stage", "models", "metrics", "tables", "seed", "tensors"],
    ),
    (
        "estimate",
        &[
            "stage",
            "attribution",
            "metrics",
            "tables",
            "seed",
            "tensors",
        ],
    ),
    ("evaluate", &["stage", "metrics", "tables", "seed"]),
    ("report", &["stage", "tables"]),
    ("pipeline", &["stage", "artifact", "tables"]),
    ("e2e", &["artifact", "tables"]),
];

/// The stages, in the order of a pipeline.
const STAGES: &[&str] = &[
    "ingest",
    "preprocess",
    "split",
    "train",
    "estimate",
    "evaluate",
    "report",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// What cargo says of the workspace.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

/// Names of what a package depends on, for building, running and testing alike.
fn dependencies(package: &Value) -> BTreeSet<&str> {
    package["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .map(name)
        .collect()
}

#[test]
fn no_arrow_points_where_it_may_not() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let packages = packages();
    let ours: BTreeSet<&str> = packages.iter().map(name).collect();
    for package in &packages {
        let user = name(package);
        let Some(allowed) = allowed.get(user) else {
            panic!("crate `{user}` has no place in the house: add it to ARCHITECTURE.md and here");
        };
        for used in dependencies(package).intersection(&ours) {
            assert!(
                allowed.contains(used) || *used == user,
                "`{user}` may not use `{used}`"
            );
        }
    }
}

#[test]
fn the_allowed_arrows_form_no_cycle() {
    let mut settled: BTreeSet<&str> = BTreeSet::new();
    while settled.len() < ARROWS.len() {
        let before = settled.len();
        for (user, used) in ARROWS {
            if used.iter().all(|used| settled.contains(used)) {
                settled.insert(user);
            }
        }
        assert!(settled.len() > before, "a cycle outside of {settled:?}");
    }
}

#[test]
fn the_picture_in_the_architecture_is_this_one() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut drawn: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let is_crate = |name: &str| ARROWS.iter().any(|(known, _)| *known == name);
    // Two arrows may share a line, far apart.
    for arrow in text.lines().flat_map(|line| line.split("   ")) {
        let Some((users, used)) = arrow.split_once("->") else {
            continue;
        };
        let users: Vec<&str> = users.split(',').map(str::trim).collect();
        if !users.iter().all(|user| is_crate(user)) {
            continue;
        }
        for user in users {
            let used = used.split(',').map(str::trim).filter(|used| is_crate(used));
            drawn
                .entry(user.to_owned())
                .or_default()
                .extend(used.map(str::to_owned));
        }
    }
    let known: BTreeMap<String, BTreeSet<String>> = ARROWS
        .iter()
        .map(|(user, used)| {
            let used = used.iter().map(|used| (*used).to_owned()).collect();
            ((*user).to_owned(), used)
        })
        .collect();
    assert_eq!(drawn, known);
}

#[test]
fn a_crate_lies_in_the_folder_of_its_name() {
    for package in packages() {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap()).to_owned();
        let folder = manifest.parent().unwrap();
        let wanted = match name(&package) {
            "e2e" => root().join("tests"),
            name => root().join("crates").join(name),
        };
        assert_eq!(
            folder.canonicalize().unwrap(),
            wanted.canonicalize().unwrap()
        );
    }
}

#[test]
fn heavy_and_doubtful_dependencies_have_one_door_each() {
    for (dependency, door) in [
        ("datafusion", "query"),
        ("candle", "tensors"),
        ("serde_yaml", "stage"),
        ("parquet", "tables"),
    ] {
        for package in packages() {
            let uses = dependencies(&package)
                .iter()
                .any(|name| name.starts_with(dependency));
            assert!(
                !uses || name(&package) == door,
                "only `{door}` may use `{dependency}`, not `{}`",
                name(&package)
            );
        }
    }
}

#[test]
fn every_stage_is_an_executable_with_a_tiny_main() {
    let packages = packages();
    for stage in STAGES {
        let package = packages.iter().find(|package| name(package) == *stage);
        let targets = package.unwrap()["targets"].as_array().unwrap();
        let kinds: BTreeSet<String> = targets
            .iter()
            .filter(|target| name(target) == *stage)
            .map(|target| target["kind"][0].as_str().unwrap().to_owned())
            .collect();
        assert!(
            kinds.contains("bin") && kinds.contains("lib"),
            "{stage}: {kinds:?}"
        );
        let main = root().join("crates").join(stage).join("src/main.rs");
        let main = std::fs::read_to_string(main).unwrap();
        let code = main
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with("//"));
        assert!(code.count() <= 5, "the `main` of `{stage}` has logic in it");
        assert!(main.contains("stage::main::<"), "{stage}");
    }
}

#[test]
fn only_one_name_belongs_on_a_path() {
    let packages = packages();
    let executables: BTreeSet<&str> = packages
        .iter()
        .flat_map(|package| package["targets"].as_array().unwrap())
        .filter(|target| target["kind"][0] == "bin")
        .map(name)
        .collect();
    let mut wanted: BTreeSet<&str> = STAGES.iter().copied().collect();
    wanted.insert("touchstone");
    assert_eq!(executables, wanted);
}

/// A table or block of code in a Markdown file, as far as translation leaves it alone.
#[derive(Debug, PartialEq, Eq)]
enum Shape {
    /// Cells of each row, the rule among them.
    Table(Vec<usize>),
    /// Language and lines, without comments: those are translated.
    Code(String, Vec<String>),
}

/// Tables and blocks of code, in order.
fn shapes(text: &str) -> Vec<Shape> {
    let mut shapes = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let code = lines.by_ref().take_while(|line| !line.starts_with("```"));
            let code = code.map(|line| {
                // What is said beside a command, and comments within it.
                let command = line.split("  ").find(|part| !part.is_empty());
                let command = if language == "text" {
                    command
                } else {
                    Some(line)
                };
                let command = command.unwrap_or_default();
                command
                    .split('#')
                    .next()
                    .unwrap_or_default()
                    .trim_end()
                    .to_owned()
            });
            shapes.push(Shape::Code(language.to_owned(), code.collect()));
        } else if line.starts_with('|') {
            let cells = |line: &str| line.matches('|').count() - 1;
            let mut rows = vec![cells(line)];
            while let Some(line) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(cells(line));
            }
            shapes.push(Shape::Table(rows));
        }
    }
    shapes
}

#[test]
fn both_readmes_have_the_same_tables_and_the_same_code() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let (english, chinese) = (shapes(&read("README.md")), shapes(&read("README.zh-CN.md")));
    assert!(english.len() > 8, "{english:#?}");
    for (english, chinese) in english.iter().zip(&chinese) {
        assert_eq!(english, chinese);
        if let Shape::Table(rows) = english {
            assert!(
                rows.iter().all(|cells| *cells == rows[0]),
                "a row with other cells than its header: {rows:?}"
            );
        }
    }
    assert_eq!(english.len(), chinese.len());
}

/// Tests apart, and tables of words, which are data.
#[test]
fn no_file_of_code_is_longer_than_a_reader_bears() {
    let mut folders = vec![root().join("crates"), root().join("tests/src")];
    let mut too_long = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.lines().take_while(|line| *line != "#[cfg(test)]");
                let n_lines = code.count();
                if n_lines > 750 {
                    too_long.push(format!("{} ({n_lines} lines)", path.display()));
                }
            }
        }
    }
    assert!(
        too_long.is_empty(),
        "split by meaning: {}",
        too_long.join(", ")
    );
}
