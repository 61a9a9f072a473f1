//! Whether the methods agree with each other.

use std::fmt::Write as _;

use stage::Label;
use tables::Metric;

use super::{Section, fold, missing};
use crate::chart::Heat;
use crate::evidence::Evidence;
use crate::html::Html;
use crate::measure::measure;
use crate::table::{Cell, Column, ResultTable, Row};
use crate::view;

pub(super) fn section(evidence: &Evidence) -> Section {
    let mut body = Html::new();
    let mut tables = Vec::new();
    let pairs = pairs(evidence);
    if pairs.is_empty() {
        missing(&mut body, evidence, "metrics", "agreement between methods");
    } else {
        let sides: Vec<&Metric> = pairs
            .iter()
            .flat_map(|pair| [&pair.one, &pair.other])
            .collect();
        let names = view::names(&sides, |row| row.method.as_deref().unwrap_or(&row.node));
        let order = view::distinct(names.iter().map(String::as_str));
        for metric in view::distinct(pairs.iter().map(|pair| pair.one.metric.as_str())) {
            body.piece(&heat(&pairs, &names, &order, metric).draw());
        }
        fold(&mut body, &mut tables, table(&pairs, &names));
    }
    Section {
        id: "agreement",
        title: "Do the methods agree",
        guide: "Each cell compares two methods on the same samples; both are turned to the same \
                end. 1 is the same order, 0 none in common, and a negative value the opposite order."
            .to_owned(),
        body,
        tables,
    }
}

/// Both sides of one comparison.
struct Pair {
    one: Metric,
    other: Metric,
}

fn pairs(evidence: &Evidence) -> Vec<Pair> {
    let rows = evidence
        .metrics
        .iter()
        .filter(|metric| metric.family == "agreement" && !metric.metric.ends_with("_seed_std"));
    rows.filter_map(|metric| {
        let label = Label::parse(&metric.label)?;
        let node = label.get("other_node")?;
        let mut one = metric.clone();
        let mut other = metric.clone();
        node.clone_into(&mut other.node);
        other.model = label.get("other_model").map(str::to_owned);
        other.method = label.get("other_method").map(str::to_owned);
        one.label.clear();
        other.label.clear();
        for (axis, value) in &label.0 {
            let (side, axis) = match axis.strip_prefix("other_") {
                Some("node" | "model" | "method") => continue,
                Some(axis) => (&mut other, axis),
                None => (&mut one, axis.as_str()),
            };
            if !side.label.is_empty() {
                side.label.push(',');
            }
            let _ = write!(side.label, "{axis}={value}");
        }
        Some(Pair { one, other })
    })
    .collect()
}

fn heat(pairs: &[Pair], names: &[String], order: &[&str], metric: &str) -> Heat {
    let at = |name: &str| order.iter().position(|known| *known == name);
    let mut values = vec![vec![None; order.len()]; order.len()];
    for (index, pair) in pairs.iter().enumerate() {
        if pair.one.metric != metric {
            continue;
        }
        if let (Some(row), Some(column)) = (at(&names[2 * index]), at(&names[2 * index + 1])) {
            values[row][column] = Some(pair.one.value);
            values[column][row] = Some(pair.one.value);
        }
    }
    Heat {
        title: title(metric),
        names: order.iter().map(|name| (*name).to_owned()).collect(),
        values,
    }
}

fn title(metric: &str) -> String {
    match metric {
        "spearman" => "Spearman rank correlation of the scores".to_owned(),
        "jaccard_top" => "Overlap of the most suspicious samples (Jaccard)".to_owned(),
        other => measure("agreement", other).title,
    }
}

fn table(pairs: &[Pair], names: &[String]) -> ResultTable {
    let metrics = view::distinct(pairs.iter().map(|pair| pair.one.metric.as_str()));
    let mut columns = vec![
        Column::new("method", "method"),
        Column::new("other", "other"),
    ];
    columns.extend(
        metrics
            .iter()
            .map(|metric| Column::new(*metric, measure("agreement", metric).title).with_interval()),
    );
    let mut rows: Vec<((&str, &str), Vec<Cell>)> = Vec::new();
    for (index, pair) in pairs.iter().enumerate() {
        let key = (names[2 * index].as_str(), names[2 * index + 1].as_str());
        let column = metrics.iter().position(|metric| *metric == pair.one.metric);
        let known = rows.iter().position(|(known, _)| *known == key);
        let row = known.unwrap_or_else(|| {
            rows.push((key, vec![Cell::Empty; metrics.len()]));
            rows.len() - 1
        });
        if let Some(column) = column {
            rows[row].1[column] = view::cell(&pair.one);
        }
    }
    let body = rows.into_iter().map(|((one, other), figures)| {
        let mut cells = vec![Cell::Code(one.to_owned()), Cell::Code(other.to_owned())];
        cells.extend(figures);
        Row::new(cells)
    });
    ResultTable {
        name: "agreement".to_owned(),
        is_grouped: false,
        title: "Agreement of every two methods".to_owned(),
        note: String::new(),
        columns,
        rows: body.collect(),
    }
}
