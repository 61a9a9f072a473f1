//! For the record: training, figures that no other section shows, claims of the source document.

use tables::Metric;

use super::{Section, missing, show};
use crate::evidence::Evidence;
use crate::format::Shown;
use crate::html::Html;
use crate::table::{Cell, Column, ResultTable, Row};
use crate::view;

/// Families that have a section of their own.
const FAMILIES: [&str; 4] = ["ranking", "detection", "action", "agreement"];

/// What the source document claims, without data set, protocol or code: model, then accuracy,
/// recall and F1.
const CLAIMS: [(&str, [f64; 3]); 3] = [
    ("traditional", [0.78, 0.70, 0.74]),
    ("BERT", [0.85, 0.80, 0.82]),
    ("Transformer", [0.90, 0.85, 0.87]),
];

/// What stands beside them.
const MEASURED: [&str; 3] = ["accuracy", "recall@10", "f1@10"];

pub(super) fn section(evidence: &Evidence) -> Section {
    let mut body = Html::new();
    let mut tables = Vec::new();
    if let Some(table) = claims(evidence) {
        show(&mut body, &mut tables, table);
    }
    if evidence.trained.is_empty() {
        missing(&mut body, evidence, "training", "the course of training");
    } else {
        show(&mut body, &mut tables, training(evidence));
    }
    if let Some(table) = others(evidence) {
        show(&mut body, &mut tables, table);
    }
    tables.push(everything(evidence));
    Section {
        id: "record",
        title: "For the record",
        guide: "Every figure of this report, with its protocol, is a line of `tables/metrics.csv`; the tables \
                shown here are there as Markdown and CSV too, except those about cost."
            .to_owned(),
        body,
        tables,
    }
}

fn training(evidence: &Evidence) -> ResultTable {
    let mut rows = Vec::new();
    for trained in &evidence.trained {
        for epoch in &trained.epochs {
            let figure = |value: Option<f64>, shown| {
                value.map_or(Cell::Empty, |value| Cell::plain(value, shown))
            };
            rows.push(Row::new(vec![
                Cell::Code(view::place(
                    trained.label.get("node").unwrap_or("training"),
                    &trained.label,
                )),
                Cell::Count(u64::from(epoch.epoch)),
                Cell::Count(epoch.n_samples),
                figure(epoch.loss, Shown::Decimals(4)),
                figure(epoch.validation, Shown::Decimals(4)),
                figure(epoch.learning_rate, Shown::Decimals(6)),
            ]));
        }
    }
    ResultTable {
        name: "training".to_owned(),
        is_grouped: false,
        title: "Training".to_owned(),
        note: "Validation is NDCG@10 on valuation.fit; count models have one epoch.".to_owned(),
        columns: vec![
            Column::new("model", "model"),
            Column::new("epoch", "epoch"),
            Column::new("n_samples", "samples"),
            Column::new("loss", "mean loss"),
            Column::new("validation", "validation"),
            Column::new("learning_rate", "learning rate"),
        ],
        rows,
    }
}

/// Which of the claims a model answers to, beyond `traditional`.
fn claimed(model: &str) -> Option<&'static str> {
    if model.starts_with("bert") {
        Some("BERT")
    } else if model == "transformer" {
        Some("Transformer")
    } else {
        None
    }
}

/// Claims beside measurements, once a model of their kind was measured.
fn claims(evidence: &Evidence) -> Option<ResultTable> {
    let rows: Vec<&Metric> = evidence
        .metrics
        .iter()
        .filter(|metric| {
            metric.family == "ranking"
                && metric.part == view::TEST
                && metric.segment == view::ALL
                && MEASURED.contains(&metric.metric.as_str())
        })
        .collect();
    let models = view::distinct(rows.iter().filter_map(|row| row.model.as_deref()));
    if !models.iter().any(|model| claimed(model).is_some()) {
        return None;
    }
    let body = CLAIMS.iter().flat_map(|(claim, figures)| {
        let head = figures.map(|value| Cell::plain(value, Shown::Percent));
        let mut cells = vec![
            Cell::Text((*claim).to_owned()),
            Cell::Note("claimed".to_owned()),
        ];
        cells.extend(head);
        let measured = models
            .iter()
            .filter(|model| claimed(model).unwrap_or("traditional") == *claim)
            .map(|model| {
                let mut cells = vec![
                    Cell::Text((*claim).to_owned()),
                    Cell::Code((*model).to_owned()),
                ];
                cells.extend(MEASURED.map(|name| {
                    rows.iter()
                        .find(|row| row.metric == name && row.model.as_deref() == Some(*model))
                        .map_or(Cell::Empty, |row| view::cell(row))
                }));
                Row::new(cells)
            });
        std::iter::once(Row::new(cells).reference(true))
            .chain(measured)
            .collect::<Vec<_>>()
    });
    Some(ResultTable {
        name: "claims".to_owned(),
        is_grouped: false,
        title: "Claimed and measured".to_owned(),
        note: "The claims come without data set, protocol or code.".to_owned(),
        columns: vec![
            Column::new("kind", "kind"),
            Column::new("model", "model"),
            Column::new("accuracy", "accuracy").with_interval(),
            Column::new("recall", "recall").with_interval(),
            Column::new("f1", "F1").with_interval(),
        ],
        rows: body.collect(),
    })
}

fn columns() -> Vec<Column> {
    let names = [
        "family", "metric", "part", "segment", "node", "model", "method", "action", "label",
        "value", "p_value", "n", "protocol",
    ];
    names
        .into_iter()
        .map(|name| {
            let column = Column::new(name, name.replace('_', " "));
            if name == "value" {
                column.with_interval()
            } else {
                column
            }
        })
        .collect()
}

fn row(metric: &Metric) -> Row {
    let text = |text: &str| {
        if text.is_empty() {
            Cell::Empty
        } else {
            Cell::Code(text.to_owned())
        }
    };
    let optional = |name: &Option<String>| text(name.as_deref().unwrap_or(""));
    let mut value = view::cell(metric);
    if let Cell::Figure(figure) = &mut value {
        // Each row has a column for it.
        figure.protocol = None;
    }
    Row::new(vec![
        text(&metric.family),
        text(&metric.metric),
        text(&metric.part),
        text(&metric.segment),
        text(&metric.node),
        optional(&metric.model),
        optional(&metric.method),
        optional(&metric.action),
        text(&metric.label),
        value,
        metric
            .p_value
            .map_or(Cell::Empty, |p| Cell::plain(p, Shown::Probability)),
        Cell::Count(metric.n),
        Cell::Note(metric.protocol.clone()),
    ])
}

/// Figures of families without a section.
fn others(evidence: &Evidence) -> Option<ResultTable> {
    let rows: Vec<Row> = evidence
        .metrics
        .iter()
        .filter(|metric| !FAMILIES.contains(&metric.family.as_str()))
        .map(row)
        .collect();
    (!rows.is_empty()).then(|| ResultTable {
        name: "others".to_owned(),
        is_grouped: false,
        title: "Further figures".to_owned(),
        note: String::new(),
        columns: columns(),
        rows,
    })
}

/// Every figure.
fn everything(evidence: &Evidence) -> ResultTable {
    ResultTable {
        name: "metrics".to_owned(),
        is_grouped: false,
        title: "Every figure with its protocol".to_owned(),
        note: String::new(),
        columns: columns(),
        rows: evidence.metrics.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(model: &str, metric: &str, value: f64) -> Metric {
        Metric {
            family: "ranking".to_owned(),
            metric: metric.to_owned(),
            part: view::TEST.to_owned(),
            segment: view::ALL.to_owned(),
            node: "model".to_owned(),
            model: Some(model.to_owned()),
            method: None,
            action: None,
            label: String::new(),
            value,
            low: None,
            high: None,
            p_value: None,
            n: 10,
            protocol: "full ranking".to_owned(),
        }
    }

    #[test]
    fn claims_stand_beside_measurements_of_their_kind_alone() {
        let mut evidence = Evidence {
            metrics: vec![measured("markov", "accuracy", 0.15)],
            ..Evidence::default()
        };
        assert!(claims(&evidence).is_none());
        evidence
            .metrics
            .push(measured("bert4rec", "accuracy", 0.21));
        let csv = claims(&evidence).unwrap().csv();
        let lines: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "traditional,claimed,0.78,,,0.7,,,0.74,,",
                "traditional,markov,0.15,,,,,,,,",
                "BERT,claimed,0.85,,,0.8,,,0.82,,",
                "BERT,bert4rec,0.21,,,,,,,,",
                "Transformer,claimed,0.9,,,0.85,,,0.87,,",
            ]
        );
    }
}
