//! Sentences about which model ranks best.

use tables::Metric;

use super::{Rows, Sentences, best, is_significant, names};
use crate::text::{count, difference, figure, p_value, percent};

pub(super) fn ranking(rows: Rows<'_>, part: &str, sentences: &mut Sentences) {
    let found = rows.all("ranking", "ndcg@10", part, "all");
    let Some(leader) = best(&found) else { return };
    let found_names = names(&found);
    let name_of = |row: &Metric| -> String {
        let at = found.iter().position(|other| std::ptr::eq(*other, row));
        at.map_or_else(String::new, |at| found_names[at].clone())
    };
    let mut behind = vec![leader];
    let verb = if found.len() == 1 {
        "ranks with"
    } else {
        "ranks best:"
    };
    let mut text = vec![format!(
        "{} {verb} NDCG@10 {}",
        name_of(leader),
        figure(leader, 4)
    )];
    if let Some(hit_rate) = rows.beside(leader, "hit_rate@10") {
        text.push(format!(", HR@10 {}", figure(hit_rate, 4)));
        behind.push(hit_rate);
    }
    text.push(format!(
        " on {} {part} requests (full ranking).",
        count(leader.n)
    ));
    let rest: Vec<&Metric> = found
        .iter()
        .copied()
        .filter(|row| !std::ptr::eq(*row, leader))
        .collect();
    if let Some(second) = best(&rest)
        && let Some((row, sign)) = between(rows, leader, second)
    {
        let (value, low, high) = (
            sign * row.value,
            row.low.map(|x| sign * x),
            row.high.map(|x| sign * x),
        );
        let (low, high) = if sign < 0.0 { (high, low) } else { (low, high) };
        let signed = Metric {
            value,
            low,
            high,
            ..row.clone()
        };
        let verdict = if is_significant(row) {
            "is ahead of"
        } else {
            "is indistinguishable from"
        };
        text.push(format!(
            " It {verdict} {}: {} ({} after Holm).",
            name_of(second),
            difference(&signed, 4),
            p_value(row.p_value.unwrap_or(1.0))
        ));
        behind.push(row);
    }
    sentences.push("ranking", text.concat(), &behind);
    let new = rows.all("ranking", "ndcg@10", part, "new");
    let repeats = rows.beside(leader, "repeat_frac");
    if let (Some(leader_new), Some(repeats)) = (best(&new), repeats)
        && repeats.value > 0.01
    {
        let new_names = names(&new);
        let at = new.iter().position(|row| std::ptr::eq(*row, leader_new));
        let text = format!(
            "On items outside the history alone ({} of the relevant items are repeats), {} ranks best: NDCG@10 {} on {} requests.",
            percent(repeats.value),
            at.map_or("", |at| new_names[at].as_str()),
            figure(leader_new, 4),
            count(leader_new.n)
        );
        sentences.push("ranking", text, &[leader_new, repeats]);
    }
}

/// The row that compares two models, and the sign that makes it the first minus the second.
fn between<'a>(rows: Rows<'a>, first: &Metric, second: &Metric) -> Option<(&'a Metric, f64)> {
    let names_it = |row: &&Metric, other: &Metric| {
        let label = stage::Label::parse(&row.label).unwrap_or_default();
        label.get("other_node") == Some(&other.node)
            && label.get("other_model") == other.model.as_deref()
    };
    let find = |from: &Metric, to: &Metric| {
        rows.compared(from, "ndcg@10_vs_other")
            .into_iter()
            .find(|row| names_it(row, to))
    };
    find(first, second)
        .map(|row| (row, 1.0))
        .or_else(|| find(second, first).map(|row| (row, -1.0)))
}
