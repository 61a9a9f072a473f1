//! What predictions rest on: importance of features, and what acting on it left out.

use stage::Label;
use tables::FeatureImportance;

use super::{Section, figure, fold};
use crate::chart::{DotRow, Dots, Mark, Reference};
use crate::evidence::Evidence;
use crate::format::Shown;
use crate::html::Html;
use crate::table::{Cell, Column, Figure, ResultTable, Row};
use crate::view;

/// Features shown in a chart.
const MOST: u32 = 12;

/// Half the width of a 95 % interval, in standard errors.
const WIDTH: f64 = 1.96;

/// Method whose importance is drawn by lot.
const AT_RANDOM: &str = "random";

type Placed = (Label, FeatureImportance);

/// `None` where nothing of the kind was wired: only some pipelines ask for it.
pub(super) fn section(evidence: &Evidence) -> Option<Section> {
    let results = &evidence.results;
    if results.features.is_empty() {
        return None;
    }
    let mut body = Html::new();
    let mut tables = Vec::new();
    let told = |row: &&Placed| row.1.method != AT_RANDOM;
    let told: Vec<&Placed> = results.features.iter().filter(told).collect();
    for of_group in told.chunk_by(|a, b| a.0 == b.0 && a.1.group == b.1.group) {
        let Some((label, first)) = of_group.first() else {
            continue;
        };
        let caption = format!(
            "{}: importance by {} of each {}; bars are 95 % intervals over {} requests.",
            view::place_of(label),
            first.method,
            first.group.replace('_', " "),
            first.n_requests
        );
        figure(&mut body, &plot(of_group).draw(), &caption);
    }
    fold(&mut body, &mut tables, table(&results.features));
    if !results.feature_weights.is_empty() {
        fold(&mut body, &mut tables, weights(evidence));
    }
    Some(Section {
        id: "features",
        title: "What predictions rest on",
        guide: "How much worse requests are served when the values of a feature are exchanged \
                (permutation), and how much the feature itself adds to what the relevant items are given \
                (gradients). The groups are different views of the same predictions and do not add up; \
                features that tell the same may each seem dispensable."
            .to_owned(),
        body,
        tables,
    })
}

fn interval(row: &FeatureImportance) -> Option<(f64, f64)> {
    let half = WIDTH * row.std_error?;
    Some((row.importance - half, row.importance + half))
}

fn plot(rows: &[&Placed]) -> Dots {
    let shown = rows.iter().filter(|(_, row)| row.rank <= MOST);
    let rows = shown.map(|(_, row)| DotRow {
        label: row.feature.clone(),
        note: String::new(),
        value: row.importance,
        interval: interval(row),
        mark: if row.rank == 1 {
            Mark::Best
        } else {
            Mark::Plain
        },
        is_baseline: false,
    });
    Dots {
        title: "importance".to_owned(),
        rows: rows.collect(),
        reference: Some(Reference {
            value: 0.0,
            label: "not looked at",
        }),
        band: None,
        has_stems: true,
        shown: Shown::Decimals(4),
    }
}

fn table(all: &[Placed]) -> ResultTable {
    let plain =
        |value: Option<f64>, shown| value.map_or(Cell::Empty, |value| Cell::plain(value, shown));
    let rows = all.iter().map(|(label, row)| {
        Row::new(vec![
            Cell::Code(view::place_of(label)),
            Cell::Code(row.method.clone()),
            Cell::Text(row.group.replace('_', " ")),
            Cell::Count(u64::from(row.rank)),
            Cell::Code(row.feature.clone()),
            Cell::Figure(Figure {
                value: row.importance,
                interval: interval(row),
                shown: Shown::Decimals(5),
                protocol: None,
            }),
            plain(row.std_error, Shown::Decimals(5)),
            plain(row.mean, Shown::Signed(5)),
            Cell::Count(row.n_requests),
            Cell::Count(u64::from(row.n_repeats)),
            plain(row.gap, Shown::Decimals(5)),
        ])
    });
    ResultTable {
        name: "feature_importance".to_owned(),
        is_grouped: false,
        title: "Importance of features".to_owned(),
        note: "Permutation: drop of NDCG@10, or rise of the loss in nats. Gradients: mean size of what the \
               feature adds; their mean with its sign stands beside it. The gap is what integrated \
               gradients leave unexplained, on average."
            .to_owned(),
        columns: [
            ("node", "node"),
            ("method", "method"),
            ("group", "group"),
            ("rank", "rank"),
            ("feature", "feature"),
        ]
        .map(|(name, title)| Column::new(name, title))
        .into_iter()
        .chain([Column::new("importance", "importance").with_interval()])
        .chain(
            [
                ("std_error", "standard error"),
                ("mean", "mean"),
                ("n_requests", "requests"),
                ("n_repeats", "repeats"),
                ("gap", "gap"),
            ]
            .map(|(name, title)| Column::new(name, title)),
        )
        .collect(),
        rows: rows.collect(),
    }
}

fn weights(evidence: &Evidence) -> ResultTable {
    let rows = evidence.results.feature_weights.iter().map(|(label, row)| {
        Row::new(vec![
            Cell::Code(view::place_of(label)),
            Cell::Code(row.method.clone()),
            Cell::Code(row.feature.clone()),
            Cell::plain(row.importance, Shown::Decimals(5)),
            Cell::plain(row.weight, Shown::Decimals(3)),
        ])
    });
    ResultTable {
        name: "feature_weights".to_owned(),
        is_grouped: false,
        title: "What acting multiplied features with".to_owned(),
        note:
            "0: left out; 1: as it was. Only features that the model can do without are acted on."
                .to_owned(),
        columns: vec![
            Column::new("node", "node"),
            Column::new("method", "method"),
            Column::new("feature", "feature"),
            Column::new("importance", "importance"),
            Column::new("weight", "weight"),
        ],
        rows: rows.collect(),
    }
}
