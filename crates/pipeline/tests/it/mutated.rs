//! Pipeline files that were damaged at random, or written to do harm: refused or taken, quickly, and
//! never a panic.

use std::fmt::Write;
use std::fs;
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use pipeline::grammar::Pipeline;

use crate::fake::Chance;

/// Damaged files.
const N_MUTATED: usize = 10_000;

/// Longest that one of them may take on a busy machine. Files of some kilobytes take a millisecond.
const LONGEST: Duration = Duration::from_secs(2);

/// What means something in YAML.
const FRAGMENTS: &[&str] = &[
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "! ",
    "[",
    "]",
    "{",
    "}",
    ": ",
    ":",
    "- ",
    "? ",
    "\"",
    "'",
    "|\n",
    ">\n",
    "# ",
    "\n",
    "\n\n",
    "\t",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "\u{feff}",
    "\u{2028}",
    "\r",
    "\0",
    "  ",
    "        ",
    ".nan",
    "-.inf",
    "1e999",
    "99999999999999999999",
    "-1",
    "null",
    "~",
    "é",
    "试金石",
    "\u{1f980}",
    "nodes:",
    "pipeline:",
    "stage: ",
    "for: ",
    "in: ",
    "with: ",
    "x[y=z].w",
];

/// The project's own pipelines.
fn files() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipelines");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

/// One random change.
fn mutate(text: &str, files: &[String], chance: &mut Chance) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = chance.below(chars.len() + 1);
    let until = (at + chance.below(40)).min(chars.len());
    let join = |parts: &[&[char]]| parts.iter().copied().flatten().collect::<String>();
    let fragment: Vec<char> = FRAGMENTS[chance.below(FRAGMENTS.len())].chars().collect();
    match chance.below(7) {
        0 => join(&[&chars[..at], &chars[until..]]),
        1 => join(&[&chars[..until], &chars[at..]]),
        2 => join(&[&chars[..at], &fragment, &chars[at..]]),
        3 => join(&[&chars[..at], &fragment, &chars[until..]]),
        4 => join(&[
            &chars[..at],
            &fragment.repeat(1 + chance.below(200)),
            &chars[at..],
        ]),
        5 => {
            let other: Vec<char> = files[chance.below(files.len())].chars().collect();
            let from = chance.below(other.len());
            let to = (from + chance.below(400)).min(other.len());
            join(&[&chars[..at], &other[from..to], &chars[at..]])
        }
        _ => {
            let mut lines: Vec<&str> = text.lines().collect();
            let (a, b) = (chance.below(lines.len()), chance.below(lines.len()));
            lines.swap(a, b);
            lines.join("\n")
        }
    }
}

/// Parses; says what is wrong with how that went, if anything is.
fn parse(text: &str) -> Result<bool, String> {
    let started = Instant::now();
    let parsed = catch_unwind(|| Pipeline::parse(text, "p.yaml"));
    let time = started.elapsed();
    let parsed = parsed.map_err(|_| format!("a panic on\n{text}"))?;
    if time > LONGEST {
        return Err(format!("{time:?} on {} bytes", text.len()));
    }
    match parsed {
        Ok(_) => Ok(true),
        Err(failure) => {
            let said = failure.to_string();
            let is_placed = said.contains("`p.yaml`") && failure.exit as u8 == 2;
            if is_placed {
                Ok(false)
            } else {
                Err(format!("{said}\non\n{text}"))
            }
        }
    }
}

#[test]
fn ten_thousand_damaged_pipelines_are_refused_or_taken_without_a_panic() {
    let files = files();
    for file in &files {
        assert_eq!(
            parse(file),
            Ok(true),
            "the project's own pipelines are sound"
        );
    }
    let mut chance = Chance::new(20);
    let mut n_taken = 0;
    for number in 0..N_MUTATED {
        let mut text = files[chance.below(files.len())].clone();
        for _ in 0..=chance.below(3) {
            if !text.is_empty() {
                text = mutate(&text, &files, &mut chance);
            }
        }
        match parse(&text) {
            Ok(is_taken) => n_taken += usize::from(is_taken),
            Err(what) => panic!("damaged file {number}: {what}"),
        }
    }
    // Both happen: a comment or a value changes, a key or a bracket breaks.
    assert!(
        n_taken > 100 && n_taken < N_MUTATED - 1_000,
        "{n_taken} were taken"
    );
}

/// More nodes than a pipeline may have.
fn many_nodes() -> String {
    let mut text = String::from("pipeline: p\nnodes:\n");
    for index in 0..25_000 {
        writeln!(text, "  n{index}: {{ stage: b, in: {{ a: n }} }}").unwrap();
    }
    text
}

/// One input with more references than an input may have.
fn many_references() -> String {
    let mut text = String::from("pipeline: p\nnodes:\n  a:\n    stage: b\n    in:\n      c:\n");
    for index in 0..70_000 {
        writeln!(text, "      - n{index}").unwrap();
    }
    text
}

#[test]
fn a_megabyte_of_anything_is_dealt_with_quickly() {
    let head = "pipeline: p\nnodes:\n  a:\n    stage: b\n    with:\n";
    let room = (1 << 20) - head.len() - 64;
    let filled = |unit: &str| {
        let body = unit.repeat(room / unit.len());
        format!("{head}      k: {body}\n")
    };
    let lines = |unit: &dyn Fn(usize) -> String| {
        let mut text = head.to_owned();
        let mut index = 0;
        while text.len() < room {
            text.push_str(&unit(index));
            index += 1;
        }
        text
    };
    let nested = |unit: &str| {
        let mut text = head.to_owned();
        let mut indent = 6;
        while text.len() + indent < room {
            text.push_str(&" ".repeat(indent));
            text.push_str(unit);
            text.push('\n');
            indent += 1;
        }
        text
    };
    let texts = [
        filled("["),
        filled("[]"),
        filled("{a: "),
        filled("- "),
        filled("? "),
        filled("'"),
        filled("\""),
        filled("x "),
        filled("\"x\\\n\" "),
        filled("a: "),
        filled("[1, "),
        filled("&a *a "),
        filled("é"),
        filled("\n"),
        nested("a:"),
        nested("-"),
        nested("?"),
        lines(&|index| format!("      k{index}: {index}\n")),
        lines(&|index| format!("      k{index}: [a, b, {{ c: {index} }}]\n")),
        lines(&|_| "      k: 1\n".to_owned()),
        lines(&|index| format!("      - {index}\n")),
        lines(&|_| "      # a comment\n".to_owned()),
        many_nodes(),
        many_references(),
    ];
    for (index, text) in texts.iter().enumerate() {
        if let Err(what) = parse(text) {
            let start: String = text.chars().skip(head.len()).take(60).collect();
            panic!("text {index}, {start:?}: {what:.200}");
        }
    }
}
