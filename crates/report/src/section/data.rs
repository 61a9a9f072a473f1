//! What happened to the data, and how everything was judged.

use super::{Section, capital, figure, missing, show};
use crate::chart::{self, Step};
use crate::evidence::{Evidence, Profile};
use crate::format::{self, Shown};
use crate::html::Html;
use crate::protocol::Clauses;
use crate::table::{Cell, Column, ResultTable, Row};
use crate::view;

/// Shares of the profile that deserve a bar.
const SHARES: [(&str, &str); 2] = [
    (
        "equal_instant_frac",
        "of the events share their instant with another event of the same user",
    ),
    (
        "repeat_frac",
        "of the relevant items at the test are repeats: they were in the history already",
    ),
];

pub(super) fn section(evidence: &Evidence) -> Section {
    let mut body = Html::new();
    let mut tables = Vec::new();
    audit(&mut body, &mut tables, evidence);
    rejects(&mut body, &mut tables, evidence);
    profiles(&mut body, &mut tables, evidence);
    protocols(&mut body, evidence);
    Section {
        id: "data",
        title: "The data, and how it was judged",
        guide: "Every record that was read is accounted for: bars show the rows that a step passed on, \
                and in the second colour the rows it took away."
            .to_owned(),
        body,
        tables,
    }
}

fn audit(html: &mut Html, tables: &mut Vec<ResultTable>, evidence: &Evidence) {
    html.leaf("h3", &[], "From the raw log to clean events");
    if evidence.audit.is_empty() {
        missing(html, evidence, "audit", "the cleaning steps");
        return;
    }
    let steps: Vec<Step> = evidence
        .audit
        .iter()
        .map(|step| Step {
            name: format!("{} · {}", step.stage, step.name.replace('_', " ")),
            note: step.note.clone(),
            rows_in: step.rows_in,
            rows_out: step.rows_out,
            uses_future: step.uses_future,
        })
        .collect();
    let mut caption = String::from("Rows left after each step, in the order of execution.");
    if steps.iter().any(|step| step.uses_future) {
        caption.push_str(
            " A step that uses the future decides about a row by looking at later rows, which a \
             running system could not do.",
        );
    }
    figure(html, &chart::steps(&steps), &caption);
    let rows = evidence.audit.iter().map(|step| {
        Row::new(vec![
            Cell::Text(step.stage.clone()),
            Cell::Text(step.name.clone()),
            Cell::Count(step.rows_in),
            Cell::Count(step.rows_out),
            Cell::Text(if step.uses_future { "yes" } else { "no" }.to_owned()),
            Cell::Note(step.note.clone()),
        ])
    });
    tables.push(ResultTable {
        name: "audit".to_owned(),
        is_grouped: false,
        title: "Cleaning steps".to_owned(),
        note: "Rows in and out of each step, in the order of execution.".to_owned(),
        columns: vec![
            Column::new("stage", "stage"),
            Column::new("step", "step"),
            Column::new("rows_in", "rows in"),
            Column::new("rows_out", "rows out"),
            Column::new("uses_future", "uses the future"),
            Column::new("note", "why"),
        ],
        rows: rows.collect(),
    });
}

fn rejects(html: &mut Html, tables: &mut Vec<ResultTable>, evidence: &Evidence) {
    html.leaf("h3", &[], "Refused records");
    if evidence.refused.is_empty() {
        if evidence.given.contains("rejects") {
            html.leaf("p", &[], "No record was refused.");
        } else {
            missing(html, evidence, "rejects", "refused records");
        }
        return;
    }
    let mut classes: Vec<_> = evidence.refused.iter().collect();
    classes.sort_by_key(|(_, refused)| std::cmp::Reverse(refused.n));
    let rows = classes.into_iter().map(|((file, reason), refused)| {
        let mut lines = ranges(&refused.lines);
        if refused.n > refused.lines.len() as u64 {
            lines.push_str(" …");
        }
        Row::new(vec![
            Cell::Text(reason.clone()),
            Cell::Count(refused.n),
            Cell::Note(lines),
            Cell::Code(refused.example.clone()),
            Cell::Code(file.clone()),
            Cell::Note(refused.hint.clone()),
        ])
    });
    let files = view::distinct(evidence.refused.keys().map(|(file, _)| file.as_str()));
    let file = Column::new("file", "file");
    let (title, file) = match files[..] {
        [one] => (
            format!("Refused records by reason, in {one}"),
            file.for_files(),
        ),
        _ => ("Refused records by reason".to_owned(), file),
    };
    let table = ResultTable {
        name: "rejects".to_owned(),
        is_grouped: false,
        title,
        note: "Accepted and refused records add up to those read.".to_owned(),
        columns: vec![
            Column::new("reason", "reason"),
            Column::new("n", "records"),
            Column::new("lines", "lines"),
            Column::new("example", "first one"),
            file,
            Column::new("hint", "what to do"),
        ],
        rows: rows.collect(),
    };
    show(html, tables, table);
}

/// Line numbers, runs of them as ranges.
fn ranges(lines: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for line in lines {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == *line => *end = *line,
            _ => runs.push((*line, *line)),
        }
    }
    let texts = runs.iter().map(|(start, end)| {
        if start == end {
            start.to_string()
        } else {
            format!("{start}–{end}")
        }
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn profiles(html: &mut Html, tables: &mut Vec<ResultTable>, evidence: &Evidence) {
    html.leaf("h3", &[], "The split");
    if evidence.profiles.is_empty() {
        missing(html, evidence, "profile", "parts, instants and shares");
        return;
    }
    for profile in &evidence.profiles {
        shares(html, profile);
        html.piece(&by_part(profile).html());
    }
    let is_several = evidence.profiles.len() > 1;
    let rows = evidence.profiles.iter().flat_map(|profile| {
        profile.entries.iter().map(move |entry| {
            let mut cells = vec![
                Cell::Text(entry.name.clone()),
                Cell::Text(entry.part.clone()),
                value(entry.value, &entry.unit),
                Cell::Text(entry.unit.clone()),
                Cell::Note(entry.note.clone()),
            ];
            if is_several {
                cells.insert(0, Cell::Text(profile.label.to_string()));
            }
            Row::new(cells)
        })
    });
    let mut columns = vec![
        Column::new("name", "figure"),
        Column::new("part", "part"),
        Column::new("value", "value"),
        Column::new("unit", "unit"),
        Column::new("note", "meaning"),
    ];
    if is_several {
        columns.insert(0, Column::new("split", "split"));
    }
    tables.push(ResultTable {
        name: "profile".to_owned(),
        is_grouped: false,
        title: "The split data in figures".to_owned(),
        note: String::new(),
        columns,
        rows: rows.collect(),
    });
}

/// A figure of the profile by its unit.
fn value(value: f64, unit: &str) -> Cell {
    match unit {
        "frac" => Cell::plain(value, Shown::Percent),
        "ms" => Cell::plain(value, Shown::Instant),
        "flag" => Cell::Text(if value > 0.0 { "yes" } else { "no" }.to_owned()),
        "rows" | "count" | "users" | "items" | "events" | "requests" | "samples" => {
            Cell::plain(value, Shown::Count)
        }
        _ if value.abs() < 1e15 && libm::trunc(value).total_cmp(&value).is_eq() => {
            Cell::plain(value, Shown::Count)
        }
        _ => Cell::plain(value, Shown::Decimals(3)),
    }
}

fn shares(html: &mut Html, profile: &Profile) {
    let found: Vec<(f64, &str)> = SHARES
        .iter()
        .filter_map(|(name, text)| {
            let entries = profile.entries.iter().filter(|entry| entry.name == *name);
            let entry = entries
                .clone()
                .find(|entry| matches!(entry.part.as_str(), "all" | "test"))
                .or_else(|| entries.clone().next())?;
            Some((entry.value, *text))
        })
        .collect();
    if found.is_empty() {
        return;
    }
    html.element("div", &[("class", &"shares")], |html| {
        for (share, text) in found {
            html.element("div", &[], |html| {
                html.leaf("div", &[("class", &"big")], format::percent(share));
                html.piece(&chart::share_bar(text, share));
                html.leaf("div", &[("class", &"what")], text);
            });
        }
    });
}

/// Figures by part, in the order of making.
fn by_part(profile: &Profile) -> ResultTable {
    let mut parts = view::distinct(profile.entries.iter().map(|entry| entry.part.as_str()));
    // What is said of the valuation part holds for both of its halves.
    let halves: Vec<&str> = parts
        .iter()
        .copied()
        .filter(|part| part.starts_with("valuation."))
        .collect();
    if !halves.is_empty() {
        parts.retain(|part| *part != "valuation");
    }
    parts.sort_by_key(|part| {
        let order = ["all", "training", "valuation.fit", "valuation.tune", "test"];
        order
            .iter()
            .position(|known| known == part)
            .unwrap_or(order.len())
    });
    let find = |name: &str, part: &str| {
        profile.entries.iter().find(|entry| {
            entry.name == name
                && (entry.part == part || (entry.part == "valuation" && halves.contains(&part)))
        })
    };
    let names = view::distinct(profile.entries.iter().map(|entry| entry.name.as_str()));
    let rows = names.iter().map(|name| {
        let mut cells = vec![Cell::Text(title(name))];
        cells.extend(parts.iter().map(|part| {
            find(name, part).map_or(Cell::Empty, |entry| value(entry.value, &entry.unit))
        }));
        // What is said of a part says more than what is said of all.
        let note = profile.entries.iter().rfind(|entry| entry.name == *name);
        cells.push(note.map_or(Cell::Empty, |entry| Cell::Note(entry.note.clone())));
        Row::new(cells)
    });
    let mut columns = vec![Column::new("name", "figure")];
    columns.extend(parts.iter().map(|part| Column::new(*part, *part)));
    columns.push(Column::new("note", "meaning"));
    ResultTable {
        name: "profile".to_owned(),
        is_grouped: false,
        title: format!("Figures of the split by part{}", of_node(profile)),
        note: String::new(),
        columns,
        rows: rows.collect(),
    }
}

fn of_node(profile: &Profile) -> String {
    let axes = profile.label.without("node").to_string();
    if axes.is_empty() {
        String::new()
    } else {
        format!(" ({axes})")
    }
}

/// A name of the profile in words.
fn title(name: &str) -> String {
    let words = name
        .strip_prefix("n_")
        .or_else(|| name.strip_suffix("_frac"))
        .unwrap_or(name);
    words.replace('_', " ")
}

/// The conventions behind every family of figures, once.
fn protocols(html: &mut Html, evidence: &Evidence) {
    html.leaf("h3", &[("id", &"protocol")], "The convention");
    if evidence.metrics.is_empty() {
        missing(html, evidence, "metrics", "the protocol");
        return;
    }
    html.element("dl", &[("class", &"card protocol-card")], |html| {
        for family in view::distinct(evidence.metrics.iter().map(|metric| metric.family.as_str())) {
            let rows: Vec<_> = evidence
                .metrics
                .iter()
                .filter(|metric| {
                    metric.family == family
                        && metric.segment == view::ALL
                        && !metric.metric.contains("_vs_")
                        && !metric.metric.ends_with("_seed_std")
                        && !metric.metric.ends_with("_frac")
                        && !metric.metric.starts_with("coverage@")
                })
                .collect();
            let protocols = view::distinct(rows.iter().map(|row| row.protocol.as_str()));
            let mut shared = Clauses::of(&protocols).shared;
            if shared.is_empty() {
                shared = protocols
                    .first()
                    .map_or_else(String::new, |first| (*first).to_owned());
            }
            if shared.is_empty() {
                continue;
            }
            let mut counts: Vec<u64> = rows.iter().map(|row| row.n).collect();
            counts.sort_unstable();
            html.leaf("dt", &[], capital(family));
            html.element("dd", &[], |html| {
                html.text(capital(&shared)).text(". ");
                if let (Some(low), Some(high)) = (counts.first(), counts.last()) {
                    let n = if low == high {
                        format::count(*low)
                    } else {
                        format!("{} to {}", format::count(*low), format::count(*high))
                    };
                    html.leaf("span", &[("class", &"ci")], format!("n = {n}."));
                }
            });
        }
        html.leaf("dt", &[], "Sign");
        html.leaf(
            "dd",
            &[],
            "A positive score means helpful: training on the sample lowers the target loss.",
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_lines_are_written_as_ranges() {
        assert_eq!(ranges(&[3, 4, 5, 9, 11, 12]), "3–5, 9, 11–12");
        assert_eq!(ranges(&[]), "");
    }
}
