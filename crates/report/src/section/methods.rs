//! What each method says of itself, and how its scores are distributed.

use super::{Section, fold, missing, sensitivity};
use crate::chart;
use crate::evidence::{Evidence, Scored};
use crate::format;
use crate::html::Html;
use crate::table::{Cell, Column, ResultTable, Row};
use crate::view;

pub(super) fn section(evidence: &Evidence) -> Section {
    let mut body = Html::new();
    let mut tables = Vec::new();
    if evidence.methods.is_empty() {
        missing(&mut body, evidence, "scores", "the cards of the methods");
    } else {
        body.element("div", &[("class", &"cards")], |html| {
            for scored in &evidence.methods {
                card(html, scored);
            }
        });
        tables.push(table(evidence));
    }
    if let Some(table) = sensitivity::table(evidence) {
        fold(&mut body, &mut tables, table);
    }
    if !evidence.absent.is_empty() {
        fold(&mut body, &mut tables, not_applicable(evidence));
    }
    Section {
        id: "methods",
        title: "The methods",
        guide: "A card says what a method estimates and which end of its scale is suspicious; the small \
                chart shows how its scores are distributed, with a line at zero where it lies inside."
            .to_owned(),
        body,
        tables,
    }
}

fn card(html: &mut Html, scored: &Scored) {
    let card = &scored.card;
    html.element("article", &[("class", &"card")], |html| {
        html.element("h3", &[], |html| {
            html.leaf("code", &[], &card.method);
            html.leaf("span", &[("class", &"tag")], &card.family);
        });
        let node = scored.label.get("node").unwrap_or("scores");
        let place = view::place(node, &scored.label.without("method"));
        html.leaf("p", &[("class", &"axes")], place);
        if let Some(distribution) = &scored.distribution {
            html.piece(&chart::histogram(
                &format!("the scores of {}", card.method),
                distribution,
            ));
            if scored.stride > 1 {
                let text = format!("one of {} scores", format::count(scored.stride as u64));
                html.leaf("p", &[("class", &"axes")], text);
            }
        } else {
            html.leaf("p", &[("class", &"missing")], "It scored no sample.");
        }
        html.element("p", &[], |html| {
            html.prose(&card.estimand);
        });
        html.element("dl", &[], |html| {
            let end = if card.suspect == tables::Suspect::Low {
                "low"
            } else {
                "high"
            };
            let scale = if card.is_signed {
                "signed helpfulness"
            } else {
                "magnitude"
            };
            entry(html, "scale", &format!("{scale}; {end} is suspicious"));
            let n = card.n_scored + card.n_unscored;
            let share = if n == 0 {
                0.0
            } else {
                card.n_scored as f64 / n as f64
            };
            entry(
                html,
                "scored",
                &format!(
                    "{} of {} samples ({})",
                    format::count(card.n_scored),
                    format::count(n),
                    format::percent(share)
                ),
            );
            if !matches!(card.parameters.as_str(), "" | "{}" | "null") {
                html.leaf("dt", &[], "parameters");
                html.element("dd", &[], |html| {
                    html.leaf("code", &[], &card.parameters);
                });
            }
            if card.n_members > 1 {
                entry(html, "trainings", &of_members(scored));
            }
            entry(html, "revision", &card.revision.to_string());
        });
        // Baselines say that they have none.
        if !matches!(card.paper.as_str(), "" | "None" | "None.") {
            html.element("p", &[("class", &"paper")], |html| {
                html.prose(&card.paper);
            });
        }
    });
}

/// How much the scores of single trainings have in common.
fn of_members(scored: &Scored) -> String {
    let mut text = format!("mean over {}", scored.card.n_members);
    if let Some(stability) = scored.card.stability {
        let stability = format::decimals(stability, 3);
        text = format!("{text}; rank correlation of every two {stability}");
    }
    if let Some(error) = scored.std_error {
        text = format!("{text}; median standard error {error:.1e}");
    }
    text
}

fn entry(html: &mut Html, name: &str, text: &str) {
    html.leaf("dt", &[], name);
    html.leaf("dd", &[], text);
}

fn table(evidence: &Evidence) -> ResultTable {
    let rows = evidence.methods.iter().map(|scored| {
        let card = &scored.card;
        Row::new(vec![
            Cell::Code(card.method.clone()),
            Cell::Code(view::place(
                scored.label.get("node").unwrap_or("scores"),
                &scored.label.without("method"),
            )),
            Cell::Text(card.family.clone()),
            Cell::Text(
                if card.is_signed {
                    "signed"
                } else {
                    "magnitude"
                }
                .to_owned(),
            ),
            Cell::Text(card.suspect.to_string()),
            Cell::Count(card.n_scored),
            Cell::Count(card.n_unscored),
            Cell::Text(card.estimand.clone()),
            Cell::Code(card.parameters.clone()),
            Cell::Count(u64::from(card.revision)),
            Cell::Note(card.paper.clone()),
        ])
    });
    let columns = [
        ("method", "method"),
        ("node", "node"),
        ("family", "family"),
        ("scale", "scale"),
        ("suspect", "suspicious end"),
        ("n_scored", "scored"),
        ("n_unscored", "unscored"),
        ("estimand", "estimand"),
        ("parameters", "parameters"),
        ("revision", "revision"),
        ("paper", "source"),
    ];
    ResultTable {
        name: "methods".to_owned(),
        is_grouped: false,
        title: "Methods".to_owned(),
        note: String::new(),
        columns: columns
            .map(|(name, title)| Column::new(name, title))
            .to_vec(),
        rows: rows.collect(),
    }
}

/// What was asked for and cannot apply: a row each, so that an empty place is not taken for a zero.
fn not_applicable(evidence: &Evidence) -> ResultTable {
    let rows = evidence.absent.iter().map(|absent| {
        let node = absent.label.get("node").unwrap_or_default();
        Row::new(vec![
            Cell::Code(view::place(node, &absent.label)),
            Cell::Text(absent.reason.clone()),
        ])
    });
    ResultTable {
        name: "not_applicable".to_owned(),
        is_grouped: false,
        title: "Not applicable".to_owned(),
        note: "Asked for in an axis product, and not possible: nothing was run.".to_owned(),
        columns: vec![Column::new("node", "node"), Column::new("why", "why")],
        rows: rows.collect(),
    }
}
