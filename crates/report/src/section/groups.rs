//! What scores of samples add up to: tiers of value, and groups that stand out.

use tables::ScoreGroup;

use super::{Section, fold};
use crate::evidence::Evidence;
use crate::format::Shown;
use crate::html::Html;
use crate::results::{OfUnit, Tiered};
use crate::table::{Cell, Column, ResultTable, Row};
use crate::view;

/// `None` where nothing of the kind was wired: only some pipelines ask for it.
pub(super) fn section(evidence: &Evidence) -> Option<Section> {
    let results = &evidence.results;
    if results.tiers.is_empty() && results.groups.is_empty() {
        return None;
    }
    let mut body = Html::new();
    let mut tables = Vec::new();
    if !results.tiers.is_empty() {
        fold(&mut body, &mut tables, tiers(&results.tiers));
    }
    if !results.groups.is_empty() {
        fold(&mut body, &mut tables, units(&results.groups));
        fold(&mut body, &mut tables, outermost(&results.groups));
    }
    Some(Section {
        id: "groups",
        title: "Who stands out",
        guide: "Scores of single samples, sorted into tiers and added up by user, item, category, brand \
                and type of event. A group stands out where its mean lies further from that of all samples \
                than chance and its size explain; negative z is the suspicious side."
            .to_owned(),
        body,
        tables,
    })
}

fn tiers(all: &[Tiered]) -> ResultTable {
    let end = |value: Option<f64>| value.map_or(Cell::Empty, |x| Cell::plain(x, Shown::Signed(6)));
    let rows = all.iter().flat_map(|tiered| {
        tiered.counts.iter().map(move |count| {
            Row::new(vec![
                Cell::Code(tiered.method.clone()),
                Cell::Code(view::place_of(&tiered.label)),
                Cell::Text(count.tier.to_string()),
                Cell::Count(count.n),
                end(count.lowest),
                end(count.highest),
            ])
        })
    });
    ResultTable {
        name: "tiers".to_owned(),
        is_grouped: false,
        title: "Tiers of value".to_owned(),
        note: "`low` is the suspicious end of the scale; equal scores share a tier.".to_owned(),
        columns: [
            ("method", "method"),
            ("node", "node"),
            ("tier", "tier"),
            ("n_samples", "samples"),
            ("lowest", "lowest score"),
            ("highest", "highest score"),
        ]
        .map(|(name, title)| Column::new(name, title))
        .to_vec(),
        rows: rows.collect(),
    }
}

fn units(all: &[OfUnit]) -> ResultTable {
    let rows = all.iter().map(|of| {
        Row::new(vec![
            Cell::Code(of.method.clone()),
            Cell::Code(view::place_of(&of.label)),
            Cell::Text(of.unit.clone()),
            Cell::Count(of.n),
            Cell::Count(of.n_judged),
            Cell::Count(of.n_suspicious),
            Cell::Count(of.n_helpful),
        ])
    });
    ResultTable {
        name: "groups".to_owned(),
        is_grouped: false,
        title: "Groups that stand out".to_owned(),
        note: "Judged are groups with enough scored samples.".to_owned(),
        columns: [
            ("method", "method"),
            ("node", "node"),
            ("unit", "unit"),
            ("n_groups", "groups"),
            ("n_judged", "judged"),
            ("n_suspicious", "suspicious"),
            ("n_helpful", "on the other side"),
        ]
        .map(|(name, title)| Column::new(name, title))
        .to_vec(),
        rows: rows.collect(),
    }
}

fn outermost(all: &[OfUnit]) -> ResultTable {
    let rows = all
        .iter()
        .flat_map(|of| of.outermost.iter().map(move |group| row(of, group)));
    ResultTable {
        name: "outermost_groups".to_owned(),
        is_grouped: false,
        title: "The outermost groups".to_owned(),
        note: "The sum is that of the scores; for methods of the first order it is the score of \
               leaving the whole group out."
            .to_owned(),
        columns: [
            ("method", "method"),
            ("node", "node"),
            ("unit", "unit"),
            ("group", "group"),
            ("n_scored", "scored samples"),
            ("sum", "sum"),
            ("mean", "mean"),
            ("low_frac", "in the suspicious tier"),
            ("z", "robust z"),
            ("is_anomalous", "stands out"),
        ]
        .map(|(name, title)| Column::new(name, title))
        .to_vec(),
        rows: rows.collect(),
    }
}

fn row(of: &OfUnit, group: &ScoreGroup) -> Row {
    let figure =
        |value: Option<f64>, shown| value.map_or(Cell::Empty, |value| Cell::plain(value, shown));
    let name = group.name.as_ref().unwrap_or(&group.key);
    Row::new(vec![
        Cell::Code(of.method.clone()),
        Cell::Code(view::place_of(&of.label)),
        Cell::Text(of.unit.clone()),
        Cell::Text(name.clone()),
        Cell::Count(group.n_scored),
        figure(group.sum, Shown::Signed(6)),
        figure(group.mean, Shown::Signed(6)),
        figure(group.low_frac, Shown::Percent),
        figure(group.z, Shown::Signed(1)),
        Cell::Text(if group.is_anomalous { "yes" } else { "no" }.to_owned()),
    ])
}
