//! Which method found the planted noise, and what the simulator knows of its own.

use std::collections::BTreeMap;

use tables::Metric;

use super::{Section, figure, missing, show};
use crate::chart::{DotRow, Dots, Mark, Reference};
use crate::evidence::Evidence;
use crate::format::{self, Shown};
use crate::html::Html;
use crate::measure::measure;
use crate::table::{Best, Cell, Column, ResultTable, Row};
use crate::view::{self, ALL, Detector, RANDOM};

/// Columns of the table, in order, as far as they were measured; then whatever else was.
const COLUMNS: [&str; 9] = [
    "auroc",
    "average_precision",
    "f1_2means",
    "precision@1x",
    "recall@1x",
    "precision@2x",
    "recall@2x",
    "planted_frac",
    "unscored_frac",
];

pub(super) fn section(evidence: &Evidence) -> Section {
    let mut body = Html::new();
    let mut tables = Vec::new();
    let detectors = view::detectors(evidence);
    if detectors.is_empty() {
        missing(&mut body, evidence, "metrics", "detection of planted noise");
    } else {
        figure(&mut body, &plot(&detectors).draw(), &caption(&detectors));
        show(&mut body, &mut tables, all_kinds(evidence, &detectors));
        if let Some(table) = by_kind(evidence, &detectors) {
            show(&mut body, &mut tables, table);
        }
        if let Some(table) = compared(evidence, &detectors) {
            show(&mut body, &mut tables, table);
        }
    }
    if let Some(table) = simulated(evidence) {
        show(&mut body, &mut tables, table);
    }
    Section {
        id: "detection",
        title: "Who found the planted noise",
        guide: guide(&detectors),
        body,
        tables,
    }
}

fn guide(detectors: &[Detector<'_>]) -> String {
    let n = detectors.first().map_or_else(String::new, |best| {
        format!(
            " among {}",
            format::counted(best.auroc.n, "training sample", "training samples")
        )
    });
    format!(
        "AUROC is the probability that a method suspects a randomly chosen planted sample more \
         than a genuine one{n}: 0.5 is chance, 1 is perfect, and below 0.5 a method suspects the wrong end."
    )
}

fn caption(detectors: &[Detector<'_>]) -> String {
    let mut text = String::from("AUROC of each method, best first; bars are 95 % intervals.");
    if detectors.iter().any(Detector::is_baseline) {
        text.push_str(" Open dots are baselines: cheap scores that an estimator has to beat.");
    }
    text
}

fn plot(detectors: &[Detector<'_>]) -> Dots {
    let rows = detectors
        .iter()
        .enumerate()
        .map(|(index, detector)| DotRow {
            label: detector.name.clone(),
            note: detector
                .card
                .map_or_else(String::new, |scored| scored.card.family.clone()),
            value: detector.auroc.value,
            interval: view::interval(detector.auroc),
            mark: if index == 0 && detector.method() != RANDOM {
                Mark::Best
            } else {
                Mark::Plain
            },
            is_baseline: detector.is_baseline(),
        });
    Dots {
        title: "AUROC".to_owned(),
        rows: rows.collect(),
        reference: Some(Reference {
            value: 0.5,
            label: "chance",
        }),
        band: None,
        has_stems: false,
        shown: Shown::Decimals(3),
    }
}

/// Key of a detector among metrics.
fn key(metric: &Metric) -> (&str, Option<&str>, Option<&str>, &str) {
    (
        &metric.node,
        metric.model.as_deref(),
        metric.method.as_deref(),
        &metric.label,
    )
}

fn all_kinds(evidence: &Evidence, detectors: &[Detector<'_>]) -> ResultTable {
    let rows: Vec<&Metric> = evidence
        .metrics
        .iter()
        .filter(|metric| {
            metric.family == "detection"
                && metric.segment == ALL
                && !metric.metric.contains("_vs_")
                && !metric.metric.ends_with("_seed_std")
        })
        .collect();
    let present = view::distinct(rows.iter().map(|row| row.metric.as_str()));
    let known = COLUMNS.into_iter().filter(|name| present.contains(name));
    let unknown = present
        .iter()
        .copied()
        .filter(|name| !COLUMNS.contains(name));
    let names: Vec<&str> = known.chain(unknown).collect();
    let mut columns = vec![Column::new("method", "method")];
    columns.extend(names.iter().map(|name| {
        let measure = measure("detection", name);
        let column = Column::new(*name, measure.title).best(measure.best);
        let has_interval = rows
            .iter()
            .any(|row| row.metric == *name && view::interval(row).is_some());
        if has_interval {
            column.with_interval()
        } else {
            column
        }
    }));
    let cells: BTreeMap<_, &Metric> = rows
        .iter()
        .map(|row| ((key(row), row.metric.as_str()), *row))
        .collect();
    let rows = detectors.iter().map(|detector| {
        let mut row = vec![Cell::Code(detector.name.clone())];
        row.extend(names.iter().map(|name| {
            cells
                .get(&(key(detector.auroc), *name))
                .map_or(Cell::Empty, |metric| view::cell(metric))
        }));
        Row::new(row).reference(detector.method() == RANDOM)
    });
    ResultTable {
        name: "detection".to_owned(),
        is_grouped: false,
        title: "Detection of planted samples, all kinds together".to_owned(),
        note: "Positive class: planted samples. 1× and 2× are budgets: as many samples as were \
               planted, and twice as many."
            .to_owned(),
        columns,
        rows: rows.collect(),
    }
}

/// AUROC by kind of noise, where there is more than one kind.
fn by_kind(evidence: &Evidence, detectors: &[Detector<'_>]) -> Option<ResultTable> {
    let rows: Vec<&Metric> = evidence
        .metrics
        .iter()
        .filter(|metric| {
            metric.family == "detection"
                && metric.metric == view::DETECTION
                && metric.segment != ALL
                && !metric.segment.starts_with(view::TRUTH)
        })
        .collect();
    let kinds = view::distinct(rows.iter().map(|row| row.segment.as_str()));
    if kinds.len() < 2 {
        return None;
    }
    let mut columns = vec![Column::new("method", "method")];
    columns.extend(kinds.iter().map(|kind| {
        Column::new(*kind, kind.replace(['_', '.'], " "))
            .best(Best::Highest)
            .with_interval()
    }));
    let body = detectors.iter().map(|detector| {
        let mut row = vec![Cell::Code(detector.name.clone())];
        row.extend(kinds.iter().map(|kind| {
            rows.iter()
                .find(|metric| metric.segment == *kind && key(metric) == key(detector.auroc))
                .map_or(Cell::Empty, |metric| view::cell(metric))
        }));
        Row::new(row).reference(detector.method() == RANDOM)
    });
    Some(ResultTable {
        name: "detection_by_kind".to_owned(),
        is_grouped: false,
        title: "AUROC by kind of planted noise".to_owned(),
        note: "Each kind against the genuine samples.".to_owned(),
        columns,
        rows: body.collect(),
    })
}

/// Detection of bots and accidents of the simulator, where it was asked for.
fn simulated(evidence: &Evidence) -> Option<ResultTable> {
    const FIGURES: [&str; 3] = ["auroc", "average_precision", "precision@1x"];
    let of_truth =
        |metric: &&Metric| metric.family == "detection" && metric.segment.starts_with(view::TRUTH);
    let rows: Vec<&Metric> = evidence.metrics.iter().filter(of_truth).collect();
    let segments = view::distinct(rows.iter().map(|row| row.segment.as_str()));
    let mut columns = vec![Column::new("kind", "kind"), Column::new("method", "method")];
    columns.extend(FIGURES.iter().map(|name| {
        let measure = measure("detection", name);
        Column::new(*name, measure.title)
            .best(measure.best)
            .with_interval()
    }));
    let mut body = Vec::new();
    let mut shares = Vec::new();
    for segment in segments {
        let kind = segment.strip_prefix(view::TRUTH).unwrap_or(segment);
        let of_segment = || rows.iter().filter(|row| row.segment == segment);
        if let Some(share) = of_segment().find(|row| row.metric == "truth_frac") {
            let share = Shown::Percent.of(share.value);
            shares.push(format!("{share} of the samples are of kind {kind}"));
        }
        for detector in view::detectors_of(evidence, segment) {
            let mut row = vec![
                Cell::Code(kind.to_owned()),
                Cell::Code(detector.name.clone()),
            ];
            row.extend(FIGURES.iter().map(|name| {
                of_segment()
                    .find(|row| row.metric == *name && key(row) == key(detector.auroc))
                    .map_or(Cell::Empty, |metric| view::cell(metric))
            }));
            let is_reference = detector.method() == RANDOM;
            body.push(Row::new(row).group(kind).reference(is_reference));
        }
    }
    if body.is_empty() {
        return None;
    }
    Some(ResultTable {
        name: "detection_simulated".to_owned(),
        is_grouped: true,
        title: "Detection of bots and accidents of the simulator".to_owned(),
        note: format!(
            "Nobody planted them: the simulator made these events and knows of them. Each kind against \
             the genuine samples, planted ones set aside; {}.",
            shares.join(", ")
        ),
        columns,
        rows: body,
    })
}

/// Paired differences of AUROC.
fn compared(evidence: &Evidence, detectors: &[Detector<'_>]) -> Option<ResultTable> {
    let rows: Vec<&Metric> = evidence
        .metrics
        .iter()
        .filter(|metric| {
            metric.family == "detection"
                && metric.segment == ALL
                && metric.metric.starts_with("auroc_vs_")
        })
        .collect();
    let names = view::distinct(rows.iter().map(|row| row.metric.as_str()));
    if names.is_empty() {
        return None;
    }
    let mut columns = vec![Column::new("method", "method")];
    for name in &names {
        columns.push(Column::new(*name, measure("detection", name).title).with_interval());
        columns.push(Column::new(format!("{name}_p"), "p"));
    }
    let body = detectors.iter().map(|detector| {
        let mut row = vec![Cell::Code(detector.name.clone())];
        for name in &names {
            let found = rows.iter().find(|metric| {
                metric.metric == *name
                    && metric.node == detector.auroc.node
                    && metric.model == detector.auroc.model
                    && metric.method == detector.auroc.method
            });
            row.push(found.map_or(Cell::Empty, |metric| view::cell(metric)));
            row.push(
                found
                    .and_then(|metric| metric.p_value)
                    .map_or(Cell::Empty, |p| Cell::plain(p, Shown::Probability)),
            );
        }
        Row::new(row)
    });
    Some(ResultTable {
        name: "detection_compared".to_owned(),
        is_grouped: false,
        title: "Is the difference real?".to_owned(),
        note:
            "Paired differences of AUROC on the same samples; an interval off zero is a difference."
                .to_owned(),
        columns,
        rows: body.collect(),
    })
}
