//! Sentences about what scores find.

use tables::Metric;

use super::{Facts, Rows, Sentences, best, excludes_zero, is_significant, names};
use crate::action::AT_RANDOM;
use crate::detection::TRUTH;
use crate::text::{count, difference, figure, list, percent};

/// All of them.
pub(super) fn detection(rows: Rows<'_>, facts: &Facts, sentences: &mut Sentences) {
    let found = rows.all("detection", "auroc", "training", "all");
    let Some(best) = best(&found) else {
        return;
    };
    let found: Vec<(String, &Metric)> = names(&found)
        .into_iter()
        .zip(found.iter().copied())
        .collect();
    let name = found
        .iter()
        .find(|(_, row)| std::ptr::eq(*row, best))
        .map_or("", |(name, _)| name.as_str());
    let planted = format!(
        "{} of {} samples are planted ({})",
        count(facts.n_planted),
        count(facts.n_samples),
        facts.kinds.join(", ")
    );
    if is_significant(best) && best.value > 0.5 {
        found_best(rows, facts, (name, best), &found, &planted, sentences);
    } else {
        let text = format!(
            "No method finds the planted samples: the best, {name}, has AUROC {}, indistinguishable from a \
             random order. {planted}.",
            figure(best, 3)
        );
        sentences.push("detection", text, &[best]);
    }
    let chosen = |keep: &dyn Fn(&Metric) -> bool| -> (Vec<String>, Vec<&Metric>) {
        found
            .iter()
            .filter(|(_, row)| {
                !std::ptr::eq(*row, best) && row.method.as_deref() != Some(AT_RANDOM) && keep(row)
            })
            .cloned()
            .unzip()
    };
    let (blind, behind) = chosen(&|row| !is_significant(row));
    if !blind.is_empty() {
        let text = format!("Indistinguishable from a random order: {}.", list(&blind));
        sentences.push("detection", text, &behind);
    }
    let (inverted, behind) = chosen(&|row| is_significant(row) && row.value < 0.5);
    if !inverted.is_empty() {
        let verb = if inverted.len() == 1 {
            "points"
        } else {
            "point"
        };
        let text = format!(
            "{} {verb} the wrong way: planted samples look less suspicious than genuine ones.",
            list(&inverted)
        );
        sentences.push("detection", text, &behind);
    }
    if facts.kinds.len() > 1 {
        by_kind(rows, facts, sentences);
    }
}

/// What the best method finds, who keeps up with it, and whether the loss alone would do.
fn found_best(
    rows: Rows<'_>,
    facts: &Facts,
    (name, best): (&str, &Metric),
    found: &[(String, &Metric)],
    planted: &str,
    sentences: &mut Sentences,
) {
    let mut behind = vec![best];
    let mut text = vec![format!(
        "{name} finds the planted samples best: AUROC {}",
        figure(best, 3)
    )];
    if let Some(precision) = rows.beside(best, "precision@1x") {
        behind.push(precision);
        text.push(format!(
            "; of the {} samples that it suspects most, {} are planted, against {} in a random order",
            count(facts.n_planted),
            percent(precision.value),
            percent(facts.n_planted as f64 / facts.n_samples.max(1) as f64)
        ));
    }
    text.push(format!(". {planted}."));
    let (rivals, comparisons): (Vec<String>, Vec<&Metric>) = found
        .iter()
        .filter_map(|(name, row)| {
            let comparison = rows.compared(row, "auroc_vs_best").into_iter().next()?;
            (!excludes_zero(comparison)).then(|| (name.clone(), comparison))
        })
        .unzip();
    if !rivals.is_empty() {
        let verb = if rivals.len() == 1 { "is" } else { "are" };
        text.push(format!(
            " {} {verb} indistinguishable from it.",
            list(&rivals)
        ));
        behind.extend(comparisons);
    }
    sentences.push("detection", text.concat(), &behind);
    if let Some(loss) = rows.compared(best, "auroc_vs_loss").first() {
        let verdict = match (excludes_zero(loss), loss.value > 0.0) {
            (true, true) => "beats",
            (true, false) => "is worse than",
            (false, _) => "is indistinguishable from",
        };
        let text = format!(
            "{name} {verdict} the loss alone: AUROC {}.",
            difference(loss, 3)
        );
        sentences.push("detection", text, &[loss]);
    }
}

/// Which method finds each kind of noise.
fn by_kind(rows: Rows<'_>, facts: &Facts, sentences: &mut Sentences) {
    for kind in &facts.kinds {
        of_kind(rows, kind, &format!("`{kind}`"), sentences);
    }
}

/// Which method finds what the simulator knows of, kind by kind.
pub(super) fn simulated(rows: Rows<'_>, sentences: &mut Sentences) {
    let mut segments: Vec<&str> = rows
        .0
        .iter()
        .filter(|row| row.family == "detection" && row.segment.starts_with(TRUTH))
        .map(|row| row.segment.as_str())
        .collect();
    segments.dedup();
    for segment in segments {
        let kind = segment.strip_prefix(TRUTH).unwrap_or(segment);
        let what = format!("the simulator's own noise `{kind}`");
        of_kind(rows, segment, &what, sentences);
    }
}

/// Which method finds the noise of one segment.
fn of_kind(rows: Rows<'_>, segment: &str, what: &str, sentences: &mut Sentences) {
    let found = rows.all("detection", "auroc", "training", segment);
    if let Some(best) = best(&found) {
        let names = names(&found);
        let name = found
            .iter()
            .zip(&names)
            .find(|(row, _)| std::ptr::eq(**row, best));
        let name = name.map_or("", |(_, name)| name.as_str());
        let text = if is_significant(best) && best.value > 0.5 {
            let what = what.replacen("the ", "The ", 1);
            format!("{what} is found best by {name}: AUROC {}.", figure(best, 3))
        } else {
            format!(
                "No method finds {what}: the best, {name}, has AUROC {}.",
                figure(best, 3)
            )
        };
        sentences.push("detection", text, &[best]);
    }
}
