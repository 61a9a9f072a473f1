//! What a pipeline file may say, and what is said of one that may not.

use std::fmt::Write;

use pipeline::grammar::{Pipeline, Reference};

fn parse(text: &str) -> Result<Pipeline, String> {
    Pipeline::parse(text, "shop.yaml").map_err(|failure| failure.to_string())
}

fn with_node(node: &str) -> String {
    format!("pipeline: shop\nnodes:\n  raw: {{ stage: ingest }}\n  x: {node}\n")
}

#[test]
fn a_pipeline_keeps_the_order_of_its_file() {
    let pipeline = parse(
        "pipeline: shop\nabout: A shop.\nseed: 20\nnodes:\n  zebra: { stage: ingest, with: { dataset: { name: simulator, n_events: 1e3 } } }\n  apple:\n    stage: ./mine\n    in: { events: zebra, scores: ['yak[random,seed=2].scores', yak] }\n    for: { model: [popularity, { name: sasrec, dim: 64 }], seed: [1, 2], act.drop: [0.1, { as: lowest, x: 1 }] }\n  yak: { stage: estimate }\n",
    )
    .unwrap();
    insta::assert_debug_snapshot!(pipeline);
}

#[test]
fn references_are_written_as_they_are_read() {
    for text in [
        "split",
        "split.samples",
        "model[markov]",
        "model[seed=2].predictions",
        "score[knn_shapley,model=markov].scores",
        "x[act.drop=0.1]",
        "x[file=a/b.csv]",
    ] {
        assert_eq!(Reference::parse(text).unwrap().to_string(), text);
    }
    for text in [
        "",
        ".samples",
        "split.",
        "a b",
        "model[",
        "model[]",
        "model[a",
        "model[a]x",
        "model[a,b]",
        "model[=a]",
        "model[a=]",
        "split.samples.more",
        "1st",
        "model[a=b=c]",
    ] {
        assert!(Reference::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn what_may_not_be_written_is_refused_with_its_line_and_a_remedy() {
    let cases = [
        ("unknown key", with_node("{ stage: train, int: {} }")),
        (
            "unknown key at the top",
            "pipeline: shop\nnode: {}\n".to_owned(),
        ),
        ("no stage", with_node("{ with: {} }")),
        ("a node twice", with_node("{ stage: a }\n  x: { stage: b }")),
        (
            "a role twice",
            with_node("{ stage: a, in: { p: raw, p: raw } }"),
        ),
        (
            "a key twice in `with`",
            with_node("{ stage: a, with: { k: 1, k: 2 } }"),
        ),
        (
            "a reference that is none",
            with_node("{ stage: a, in: { p: 'raw[x' } }"),
        ),
        (
            "a reference twice",
            with_node("{ stage: a, in: { p: [raw, raw] } }"),
        ),
        ("an empty list", with_node("{ stage: a, in: { p: [] } }")),
        (
            "an input that is a number",
            with_node("{ stage: a, in: { p: 3 } }"),
        ),
        (
            "an axis in `with`",
            with_node("{ stage: a, with: { k: 1 }, for: { k: [1, 2] } }"),
        ),
        (
            "an axis without values",
            with_node("{ stage: a, for: { k: [] } }"),
        ),
        (
            "two values of one name",
            with_node("{ stage: a, for: { k: [{ name: m, x: 1 }, { name: m, x: 2 }] } }"),
        ),
        (
            "a value without a name",
            with_node("{ stage: a, for: { k: [{ x: 1 }] } }"),
        ),
        (
            "a value that cannot be a label",
            with_node("{ stage: a, for: { k: ['a b'] } }"),
        ),
        (
            "a list as a value",
            with_node("{ stage: a, for: { k: [[1]] } }"),
        ),
        (
            "a number that is none",
            with_node("{ stage: a, with: { k: .nan } }"),
        ),
        (
            "a key that is not text",
            with_node("{ stage: a, with: { 1: a } }"),
        ),
        (
            "a name that is none",
            with_node("{ stage: a }\n  2nd: { stage: b }"),
        ),
        ("an anchor", with_node("&x { stage: a }")),
        ("a merge key", with_node("\n    <<: {}\n    stage: a")),
        (
            "a seed that is negative",
            "pipeline: shop\nseed: -1\nnodes: { x: { stage: a } }\n".to_owned(),
        ),
        ("no nodes", "pipeline: shop\nnodes: {}\n".to_owned()),
        (
            "nesting",
            with_node(&format!(
                "{{ stage: a, with: {{ k: {}{} }} }}",
                "[".repeat(5_000),
                "]".repeat(5_000)
            )),
        ),
        ("not YAML", "pipeline: shop\nnodes: {\n".to_owned()),
    ];
    let mut report = String::new();
    for (what, text) in cases {
        let message = parse(&text).unwrap_err();
        assert!(message.contains("shop.yaml"), "{what}: {message}");
        assert!(message.contains("line "), "{what}: {message}");
        writeln!(report, "# {what}\n{message}\n").unwrap();
    }
    insta::assert_snapshot!(report);
}

#[test]
fn a_megabyte_is_too_much() {
    let text = format!(
        "pipeline: shop # {}\nnodes: {{ x: {{ stage: a }} }}\n",
        "x".repeat(1 << 20)
    );
    assert!(parse(&text).unwrap_err().contains("1 MiB"));
}
