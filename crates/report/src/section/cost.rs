//! What it cost. Measured: this section has no table in the folder `tables`.

use super::{Section, figure, missing};
use crate::chart::{Point, Scatter};
use crate::evidence::Evidence;
use crate::format::{self, Shown};
use crate::html::Html;
use crate::table::{Cell, Column, ResultTable, Row};
use crate::view::{self, Detector};

/// Most runs that are listed without being asked for.
const MOST_RUNS: usize = 24;

pub(super) fn section(evidence: &Evidence) -> Section {
    let mut body = Html::new();
    let detectors = view::detectors(evidence);
    if evidence.costs.is_empty() {
        missing(&mut body, evidence, "costs", "time and memory");
    } else {
        let scatter = plot(&detectors);
        if scatter.points.is_empty() {
            body.element("p", &[("class", &"missing")], |html| {
                html.leaf("span", &[("class", &"lead")], "Not shown");
                html.text(" quality against cost: no estimate has both a measured cost and a detection figure.");
            });
        }
        figure(
            &mut body,
            &scatter.draw(),
            "Each point is one method: wall time to score every sample (logarithmic) against AUROC. \
             The line is the front: the best to be had for that time. Vertical bars are 95 % intervals.",
        );
        body.piece(&table_of_stages(evidence).html());
        let runs = table_of_runs(evidence).html();
        if evidence.costs.len() > MOST_RUNS {
            body.element("details", &[], |html| {
                let n = format::counted(evidence.costs.len() as u64, "run", "runs");
                html.leaf("summary", &[], format!("Every one of the {n}"));
                html.piece(&runs);
            });
        } else {
            body.piece(&runs);
        }
    }
    if !evidence.latency.is_empty() {
        body.piece(&table_of_latency(evidence).html());
    }
    Section {
        id: "cost",
        title: "What it cost",
        guide: guide(evidence),
        body,
        tables: Vec::new(),
    }
}

/// What users of a service would wait for, and how many requests a machine ranks.
fn table_of_latency(evidence: &Evidence) -> ResultTable {
    let rows = evidence.latency.iter().map(|(label, row)| {
        let is_single = row.what == "single_request";
        let time = |ms: f64| {
            // Of a request in a block there is no time of its own.
            if is_single {
                Cell::plain(ms, Shown::Decimals(3))
            } else {
                Cell::Empty
            }
        };
        Row::new(vec![
            Cell::Code(view::place(label.get("node").unwrap_or_default(), label)),
            Cell::Text(
                if is_single {
                    "one request at a time"
                } else {
                    "all test requests"
                }
                .to_owned(),
            ),
            Cell::Count(row.n),
            Cell::Count(u64::from(row.threads)),
            time(row.p50_ms),
            time(row.p99_ms),
            Cell::plain(row.per_second.round(), Shown::Count),
        ])
    });
    let columns = [
        ("node", "node"),
        ("what", "asked"),
        ("n", "requests"),
        ("threads", "threads"),
        ("p50_ms", "p50, ms"),
        ("p99_ms", "p99, ms"),
        ("per_second", "requests a second"),
    ];
    ResultTable {
        name: "latency".to_owned(),
        is_grouped: true,
        title: "How fast models answer".to_owned(),
        note: "From a history to the list of best items among all candidates.".to_owned(),
        columns: columns
            .map(|(name, title)| Column::new(name, title))
            .to_vec(),
        rows: rows.collect(),
    }
}

fn guide(evidence: &Evidence) -> String {
    let mut text = String::from(
        "Measured on one run of each node, so differences of a few percent mean nothing; the cost of \
         a method is that of its estimate alone, since all methods on a model share its probe.",
    );
    let processors = view::distinct(
        evidence
            .costs
            .iter()
            .map(|run| run.processor.as_str())
            .filter(|name| !name.is_empty()),
    );
    if !processors.is_empty() {
        text.push_str(" Hardware: ");
        text.push_str(&processors.join("; "));
        text.push('.');
    }
    text
}

fn plot(detectors: &[Detector<'_>]) -> Scatter {
    let points = detectors.iter().filter_map(|detector| {
        Some(Point {
            label: detector.name.clone(),
            // A clock of milliseconds cannot tell less.
            cost: detector.cost?.wall_ms.max(1.0),
            quality: detector.auroc.value,
            interval: view::interval(detector.auroc),
        })
    });
    Scatter {
        cost_title: "wall time of the estimate".to_owned(),
        quality_title: "AUROC".to_owned(),
        cost_shown: Shown::Duration,
        quality_shown: Shown::Decimals(3),
        reference: Some(0.5),
        points: points.collect(),
    }
}

fn columns(first: [Column; 2]) -> Vec<Column> {
    let mut columns = Vec::from(first);
    columns.extend([
        Column::new("wall", "wall"),
        Column::new("cpu", "CPU"),
        Column::new("peak", "peak memory"),
    ]);
    columns
}

/// Sums over the runs of one node, in the order of the pipeline.
fn table_of_stages(evidence: &Evidence) -> ResultTable {
    const STAGES: [&str; 7] = [
        "ingest",
        "preprocess",
        "split",
        "train",
        "estimate",
        "evaluate",
        "report",
    ];
    let order = |stage: &str| STAGES.iter().position(|known| *known == stage).unwrap_or(7);
    let mut nodes: Vec<(&str, &str)> = evidence
        .costs
        .iter()
        .map(|run| (run.stage.as_str(), view::base_of(&run.node)))
        .collect();
    nodes.sort_by_key(|(stage, node)| (order(stage), *node));
    nodes.dedup();
    let rows = nodes.iter().map(|(stage, node)| {
        let runs: Vec<_> = evidence
            .costs
            .iter()
            .filter(|run| run.stage == *stage && view::base_of(&run.node) == *node)
            .collect();
        let wall: u64 = runs.iter().map(|run| run.wall_ms).sum();
        let cpu: u64 = runs.iter().map(|run| run.cpu_ms).sum();
        let peak = runs.iter().map(|run| run.peak_bytes).max().unwrap_or(0);
        Row::new(vec![
            Cell::Code((*node).to_owned()),
            Cell::Text((*stage).to_owned()),
            Cell::plain(wall as f64, Shown::Duration),
            Cell::plain(cpu as f64, Shown::Duration),
            Cell::plain(peak as f64, Shown::Bytes),
            Cell::Count(runs.len() as u64),
        ])
    });
    let mut columns = columns([Column::new("node", "node"), Column::new("stage", "stage")]);
    columns.push(Column::new("runs", "runs"));
    ResultTable {
        name: "costs".to_owned(),
        is_grouped: false,
        title: "Cost by node: times summed over its runs, the highest peak".to_owned(),
        note: String::new(),
        columns,
        rows: rows.collect(),
    }
}

fn table_of_runs(evidence: &Evidence) -> ResultTable {
    let rows = evidence.costs.iter().map(|run| {
        Row::new(vec![
            Cell::Code(run.node.clone()),
            Cell::Text(run.stage.clone()),
            Cell::plain(run.wall_ms as f64, Shown::Duration),
            Cell::plain(run.cpu_ms as f64, Shown::Duration),
            Cell::plain(run.peak_bytes as f64, Shown::Bytes),
            Cell::Count(u64::from(run.threads)),
        ])
    });
    let mut columns = columns([Column::new("node", "run"), Column::new("stage", "stage")]);
    columns.push(Column::new("threads", "threads"));
    ResultTable {
        name: "runs".to_owned(),
        is_grouped: false,
        title: "Cost of every run".to_owned(),
        note: String::new(),
        columns,
        rows: rows.collect(),
    }
}
