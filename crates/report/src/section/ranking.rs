//! How well the models rank, before anything was acted upon.

use stage::Label;
use tables::Metric;

use super::{Section, figure, fold, missing, show};
use crate::chart::{DotRow, Dots, Mark};
use crate::evidence::Evidence;
use crate::format::{self, Shown};
use crate::html::Html;
use crate::measure::{cut_off, measure};
use crate::protocol::Clauses;
use crate::table::{Best, Cell, Column, ResultTable, Row};
use crate::view::{self, ALL, TEST};

/// Cut-off of the lead table.
const LEAD: u32 = 10;

pub(super) fn section(evidence: &Evidence) -> Section {
    let mut body = Html::new();
    let mut tables = Vec::new();
    let rows = test_rows(evidence);
    let models = models(&rows);
    if models.is_empty() {
        missing(&mut body, evidence, "metrics", "ranking quality");
    } else {
        figure(&mut body, &plot(&models).draw(), &caption(&models));
        show(&mut body, &mut tables, lead(&rows, &models));
        fold(&mut body, &mut tables, cut_offs(&rows, &models));
        if let Some(table) = segments(&rows, &models) {
            show(&mut body, &mut tables, table);
        }
        if let Some(table) = shares(&rows, &models) {
            show(&mut body, &mut tables, table);
        }
        if let Some(table) = compared(&rows) {
            show(&mut body, &mut tables, table);
        }
        if let Some(table) = spreads(evidence, &rows) {
            fold(&mut body, &mut tables, table);
        }
    }
    let n = models.first().map_or_else(String::new, |model| {
        format!(
            " on {}",
            format::counted(model.row.n, "test request", "test requests")
        )
    });
    Section {
        id: "ranking",
        title: "How well the models rank",
        guide: format!(
            "Each model answers every request with a ranking of all candidates{n}; NDCG@10 is 1 when the \
             relevant items lead the list and 0 when none is among the first ten."
        ),
        body,
        tables,
    }
}

/// A model with its NDCG@10.
struct Model<'a> {
    name: String,
    row: &'a Metric,
}

/// Rows about base models at the test.
fn test_rows(evidence: &Evidence) -> Vec<&Metric> {
    evidence
        .metrics
        .iter()
        .filter(|metric| {
            metric.family == "ranking" && metric.part == TEST && metric.action.is_none()
        })
        .collect()
}

fn models<'a>(rows: &[&'a Metric]) -> Vec<Model<'a>> {
    let found: Vec<&Metric> = rows
        .iter()
        .copied()
        .filter(|row| row.metric == view::RANKING && row.segment == ALL)
        .collect();
    let names = view::names(&found, |row| row.model.as_deref().unwrap_or(&row.node));
    found
        .into_iter()
        .zip(names)
        .map(|(row, name)| Model { name, row })
        .collect()
}

fn find<'a>(
    rows: &[&'a Metric],
    model: &Model<'_>,
    name: &str,
    segment: &str,
) -> Option<&'a Metric> {
    rows.iter().copied().find(|row| {
        row.metric == name
            && row.segment == segment
            && row.node == model.row.node
            && row.model == model.row.model
            && row.label == model.row.label
    })
}

fn plot(models: &[Model<'_>]) -> Dots {
    let best = models
        .iter()
        .map(|model| model.row.value)
        .fold(f64::NEG_INFINITY, f64::max);
    let mut order: Vec<&Model<'_>> = models.iter().collect();
    order.sort_by(|a, b| b.row.value.total_cmp(&a.row.value));
    let rows = order.into_iter().map(|model| DotRow {
        label: model.name.clone(),
        note: String::new(),
        value: model.row.value,
        interval: view::interval(model.row),
        mark: if models.len() > 1 && model.row.value.total_cmp(&best).is_eq() {
            Mark::Best
        } else {
            Mark::Plain
        },
        is_baseline: false,
    });
    Dots {
        title: "NDCG@10".to_owned(),
        rows: rows.collect(),
        reference: None,
        band: None,
        has_stems: false,
        shown: Shown::Decimals(4),
    }
}

fn caption(models: &[Model<'_>]) -> String {
    let what = if models.len() == 1 {
        "the model"
    } else {
        "each model, best first"
    };
    format!("NDCG@10 of {what}, all requests of the test; bars are 95 % intervals.")
}

fn is_plain(name: &str) -> bool {
    !name.contains("_vs_") && !name.ends_with("_seed_std")
}

fn column(name: &str) -> Column {
    let measure = measure("ranking", name);
    let column = Column::new(name, measure.title).best(measure.best);
    if is_share(name) {
        column
    } else {
        column.with_interval()
    }
}

/// Whether a metric describes lists and relevant items rather than the quality of a ranking.
fn is_share(name: &str) -> bool {
    name.ends_with("_frac") || name.starts_with("coverage@")
}

/// All metrics at the lead's cut-off, and those without one.
fn lead(rows: &[&Metric], models: &[Model<'_>]) -> ResultTable {
    let names: Vec<&str> = view::distinct(
        rows.iter()
            .filter(|row| row.segment == ALL && is_plain(&row.metric))
            .map(|row| row.metric.as_str()),
    )
    .into_iter()
    .filter(|name| !is_share(name) && cut_off(name).is_none_or(|k| k == LEAD))
    .collect();
    let (columns, body) = by_model(rows, models, &names);
    ResultTable {
        name: "ranking".to_owned(),
        is_grouped: false,
        title: format!("Ranking quality in lists of {LEAD}"),
        note: "Test requests, all segments; higher is better.".to_owned(),
        columns,
        rows: body,
    }
}

/// One row for each model, one column for each metric.
fn by_model(rows: &[&Metric], models: &[Model<'_>], names: &[&str]) -> (Vec<Column>, Vec<Row>) {
    let mut columns = vec![Column::new("model", "model")];
    columns.extend(names.iter().map(|name| column(name)));
    let body = models.iter().map(|model| {
        let mut cells = vec![Cell::Code(model.name.clone())];
        let figures = names.iter().map(|name| find(rows, model, name, ALL));
        cells.extend(figures.map(|metric| metric.map_or(Cell::Empty, view::cell)));
        Row::new(cells)
    });
    (columns, body.collect())
}

/// What the lists cover, and what the relevant items are like.
fn shares(rows: &[&Metric], models: &[Model<'_>]) -> Option<ResultTable> {
    let names: Vec<&str> = view::distinct(
        rows.iter()
            .filter(|row| row.segment == ALL && is_plain(&row.metric) && is_share(&row.metric))
            .map(|row| row.metric.as_str()),
    );
    if names.is_empty() {
        return None;
    }
    let (columns, body) = by_model(rows, models, &names);
    Some(ResultTable {
        name: "ranking_shares".to_owned(),
        is_grouped: false,
        title: "What the lists cover, and what was relevant".to_owned(),
        note: String::new(),
        columns,
        rows: body,
    })
}

/// Every metric with a cut-off, at all of them.
fn cut_offs(rows: &[&Metric], models: &[Model<'_>]) -> ResultTable {
    let names = view::distinct(
        rows.iter()
            .filter(|row| row.segment == ALL && is_plain(&row.metric) && !is_share(&row.metric))
            .map(|row| row.metric.as_str()),
    );
    let mut cuts: Vec<u32> = names.iter().filter_map(|name| cut_off(name)).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let stems = view::distinct(names.iter().filter_map(|name| {
        cut_off(name)?;
        name.split('@').next()
    }));
    let mut columns = vec![
        Column::new("metric", "metric"),
        Column::new("model", "model"),
    ];
    columns.extend(cuts.iter().map(|cut| {
        Column::new(format!("at_{cut}"), format!("@{cut}"))
            .best(Best::Highest)
            .with_interval()
    }));
    let mut body = Vec::new();
    for stem in stems {
        for model in models {
            let mut cells = vec![
                Cell::Text(measure("ranking", stem).title),
                Cell::Code(model.name.clone()),
            ];
            cells.extend(cuts.iter().map(|cut| {
                find(rows, model, &format!("{stem}@{cut}"), ALL)
                    .map_or(Cell::Empty, |metric| without_protocol(view::cell(metric)))
            }));
            body.push(Row::new(cells).group(stem));
        }
    }
    ResultTable {
        name: "ranking_cut_offs".to_owned(),
        is_grouped: true,
        title: "Every metric at every cut-off".to_owned(),
        note: "Test requests, all segments; protocol as for lists of ten.".to_owned(),
        columns,
        rows: body,
    }
}

/// For tables whose protocol stands under the table before.
fn without_protocol(cell: Cell) -> Cell {
    match cell {
        Cell::Figure(mut figure) => {
            figure.protocol = None;
            Cell::Figure(figure)
        }
        other => other,
    }
}

/// Segments of the requests.
fn segments(rows: &[&Metric], models: &[Model<'_>]) -> Option<ResultTable> {
    const NAMES: [&str; 4] = ["hit_rate@10", "recall@10", "ndcg@10", "mrr@10"];
    let segments: Vec<&str> = view::distinct(rows.iter().map(|row| row.segment.as_str()));
    if segments.len() < 2 {
        return None;
    }
    let names: Vec<&str> = NAMES
        .into_iter()
        .filter(|name| rows.iter().any(|row| row.metric == *name))
        .collect();
    let mut columns = vec![
        Column::new("segment", "segment"),
        Column::new("model", "model"),
        Column::new("n", "requests"),
    ];
    columns.extend(names.iter().map(|name| column(name)));
    let mut body = Vec::new();
    for segment in segments {
        for model in models {
            let found: Vec<Option<&Metric>> = names
                .iter()
                .map(|name| find(rows, model, name, segment))
                .collect();
            let Some(n) = found.iter().flatten().map(|metric| metric.n).next() else {
                continue;
            };
            let mut cells = vec![
                Cell::Text(segment.to_owned()),
                Cell::Code(model.name.clone()),
                Cell::Count(n),
            ];
            cells.extend(found.into_iter().map(|metric| {
                metric.map_or(Cell::Empty, |metric| without_protocol(view::cell(metric)))
            }));
            body.push(Row::new(cells).group(segment));
        }
    }
    Some(ResultTable {
        name: "ranking_segments".to_owned(),
        is_grouped: true,
        title: "By segment".to_owned(),
        note: format!(
            "{}. Protocol otherwise as for lists of {LEAD}.",
            meanings(rows)
        ),
        columns,
        rows: body,
    })
}

/// What each segment counts: the clause of its protocol that other segments do not have.
fn meanings(rows: &[&Metric]) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut protocols: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|row| row.metric == view::RANKING) {
        if !names.contains(&row.segment.as_str()) {
            names.push(&row.segment);
            protocols.push(&row.protocol);
        }
    }
    let own = Clauses::of(&protocols).own;
    let texts = names
        .iter()
        .zip(own)
        .map(|(name, own)| format!("{name}: {own}"));
    texts.collect::<Vec<_>>().join("; ")
}

/// Paired differences between models.
fn compared(rows: &[&Metric]) -> Option<ResultTable> {
    let body: Vec<Row> = rows
        .iter()
        .filter(|row| row.metric.contains("_vs_") && row.segment == ALL)
        .map(|row| {
            let other = Label::parse(&row.label).unwrap_or_default();
            let other = other
                .get("other_model")
                .or(other.get("other_node"))
                .unwrap_or("");
            let name = row.model.as_deref().unwrap_or(&row.node);
            Row::new(vec![
                Cell::Code(name.to_owned()),
                Cell::Code(other.to_owned()),
                view::cell(row),
                row.p_value
                    .map_or(Cell::Empty, |p| Cell::plain(p, Shown::Probability)),
            ])
        })
        .collect();
    if body.is_empty() {
        return None;
    }
    Some(ResultTable {
        name: "ranking_compared".to_owned(),
        is_grouped: false,
        title: "NDCG@10 of one model minus that of another".to_owned(),
        note: "An interval off zero is a difference. p: after Holm correction.".to_owned(),
        columns: vec![
            Column::new("model", "model"),
            Column::new("other", "other"),
            Column::new("difference", "difference").with_interval(),
            Column::new("p", "p"),
        ],
        rows: body,
    })
}

/// How requests fared one by one.
fn spreads(evidence: &Evidence, rows: &[&Metric]) -> Option<ResultTable> {
    let nodes = view::distinct(rows.iter().map(|row| row.node.as_str()));
    let body: Vec<Row> = evidence
        .spreads
        .iter()
        .filter(|((node, _), spread)| nodes.contains(&node.as_str()) && spread.n() > 0)
        .map(|((node, label), spread)| {
            let n = spread.n() as f64;
            let bins = spread.by_ndcg();
            let mut cells = vec![
                Cell::Code(view::place(node, &Label::parse(label).unwrap_or_default())),
                Cell::Count(spread.n()),
            ];
            cells.extend(bins.map(|count| Cell::plain(count as f64 / n, Shown::Percent)));
            Row::new(cells)
        })
        .collect();
    if body.is_empty() {
        return None;
    }
    let mut columns = vec![
        Column::new("node", "predictions"),
        Column::new("n", "requests"),
    ];
    columns.extend(
        [
            ("zero", "0"),
            ("to_quarter", "to ¼"),
            ("to_half", "to ½"),
            ("to_three_quarters", "to ¾"),
            ("to_one", "to 1"),
        ]
        .map(|(name, title)| Column::new(name, title)),
    );
    Some(ResultTable {
        name: "ranking_spread".to_owned(),
        is_grouped: false,
        title: "Share of the test requests by their own NDCG@10".to_owned(),
        note: "A mean hides whether every request fares alike.".to_owned(),
        columns,
        rows: body,
    })
}
