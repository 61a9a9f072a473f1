//! Which samples matter most to single requests, and why.

use super::{Section, fold};
use crate::evidence::Evidence;
use crate::format::Shown;
use crate::html::Html;
use crate::table::{Cell, Column, ResultTable, Row};
use crate::view;

/// `None` where nothing of the kind was wired, or no method could say.
pub(super) fn section(evidence: &Evidence) -> Option<Section> {
    let all = &evidence.results.influences;
    if all.is_empty() {
        return None;
    }
    let rows = all.iter().map(|(label, row)| {
        let side = if row.is_helpful { "helpful" } else { "harmful" };
        let item = row.item_name.clone();
        Row::new(vec![
            Cell::Code(row.method.clone()),
            Cell::Code(view::place_of(label)),
            Cell::Count(u64::from(row.request)),
            Cell::Text(side.to_owned()),
            Cell::Count(u64::from(row.rank) + 1),
            Cell::Code(row.sample_id.to_string()),
            Cell::Text(item.unwrap_or_else(|| format!("item {}", row.item))),
            Cell::plain(row.score, Shown::Signed(6)),
            Cell::Note(row.reason.clone()),
        ])
    });
    let table = ResultTable {
        name: "influences".to_owned(),
        is_grouped: false,
        title: "Samples behind single requests".to_owned(),
        note: "The first requests of each method. Scores are for the request alone.".to_owned(),
        columns: [
            ("method", "method"),
            ("node", "node"),
            ("request", "request"),
            ("side", "side"),
            ("rank", "rank"),
            ("sample_id", "sample"),
            ("item", "trains on"),
            ("score", "score"),
            ("reason", "in common"),
        ]
        .map(|(name, title)| Column::new(name, title))
        .to_vec(),
        rows: rows.collect(),
    };
    let mut body = Html::new();
    let mut tables = Vec::new();
    fold(&mut body, &mut tables, table);
    Some(Section {
        id: "influences",
        title: "Why a request fares as it does",
        guide: "For single requests, the training samples that lower their loss most, and those that \
                raise it most: with what they share, and the layer of the model that most of it is in."
            .to_owned(),
        body,
        tables,
    })
}
