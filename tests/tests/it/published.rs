//! Published figures, through the executables: the pipeline that the project ships, on the real file.

use std::collections::BTreeMap;
use std::path::Path;

use e2e::Pipeline;
use tables::{Metric, read_all};

/// HR@10, NDCG@10 and MRR@10 on test, to four decimals.
const FIGURES: [(&str, [&str; 3]); 4] = [
    ("popularity", ["0.0110", "0.0053", "0.0035"]),
    ("markov", ["0.0666", "0.0439", "0.0369"]),
    ("itemknn", ["0.0563", "0.0325", "0.0252"]),
    ("itemknn_all", ["0.0568", "0.0325", "0.0251"]),
];

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn amazon_beauty_gives_the_published_figures_through_the_executables() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if !data.join("amazon_beauty/Beauty.txt").exists() {
        eprintln!("skipped: `{}` holds no `amazon_beauty`", data.display());
        return;
    }
    let pipeline = Pipeline::new().named("amazon-beauty");
    let data = data.display().to_string();
    pipeline
        .run_with(&["--data", &data, "--only", "exact"])
        .success();
    let metrics: Vec<Metric> = read_all(&pipeline.only("evaluate", "metrics")).unwrap();
    let found: BTreeMap<(&str, &str), String> = metrics
        .iter()
        .filter(|row| row.family == "ranking" && row.part == "test" && row.segment == "all")
        .filter_map(|row| {
            let model = row.model.as_deref()?;
            Some(((model, row.metric.as_str()), format!("{:.4}", row.value)))
        })
        .collect();
    for (model, figures) in FIGURES {
        for (metric, figure) in ["hit_rate@10", "ndcg@10", "mrr@10"]
            .into_iter()
            .zip(figures)
        {
            assert_eq!(found[&(model, metric)], figure, "{metric} of {model}");
        }
    }
    // What the report holds them against is the same.
    let text = std::fs::read_to_string(pipeline.folder().join("pipeline.yaml")).unwrap();
    for (model, figures) in FIGURES {
        for (metric, figure) in ["hit_rate@10", "ndcg@10", "mrr@10"]
            .into_iter()
            .zip(figures)
        {
            let line = format!("{{ model: {model}, metric: {metric}, value: {figure},");
            assert!(text.contains(&line), "`{line}` is missing");
        }
    }
}
