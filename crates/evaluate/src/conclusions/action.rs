//! Sentences about what acting changed.

use tables::{Metric, Part};

use super::{Facts, Rows, Sentences, best, is_significant, model_of};
use crate::action::AT_RANDOM;
use crate::text::{difference, list, p_value};

/// What to call an arm.
pub(super) fn arm_of(row: &Metric) -> String {
    match (&row.method, &row.action) {
        (Some(method), Some(action)) if *action != row.node => format!("`{method}` ({action})"),
        (Some(method), _) => format!("`{method}`"),
        (None, Some(action)) => format!("`{action}`"),
        (None, None) => format!("`{}`", row.node),
    }
}

pub(super) fn action(rows: Rows<'_>, part: &str, facts: &Facts, sentences: &mut Sentences) {
    let own = rows.all("action", "ndcg@10", part, "all");
    let tuned = rows.all("action", "ndcg@10", Part::ValuationTune.as_str(), "all");
    let mut models: Vec<Option<String>> = Vec::new();
    let mut hopeless: Vec<&Metric> = Vec::new();
    // The best model comes first.
    let mut bases: Vec<&Metric> = own
        .iter()
        .copied()
        .filter(|row| row.action.is_none())
        .collect();
    bases.sort_by(|a, b| b.value.total_cmp(&a.value));
    for base in bases {
        if models.contains(&base.model) {
            continue;
        }
        models.push(base.model.clone());
        let arms: Vec<&Metric> = own
            .iter()
            .copied()
            .filter(|row| row.action.is_some() && row.model == base.model)
            .collect();
        let is_bound = |row: &Metric| facts.oracle.contains(&row.node);
        let is_random = |row: &Metric| row.method.as_deref() == Some(AT_RANDOM);
        let methods: Vec<&Metric> = arms
            .iter()
            .copied()
            .filter(|row| !is_bound(row) && !is_random(row))
            .collect();
        // What is reported must not choose: the arm is chosen where the test part is not looked at.
        let tuned_of = |row: &Metric| {
            tuned.iter().copied().find(|other| {
                other.node == row.node
                    && other.model == row.model
                    && other.method == row.method
                    && other.label == row.label
                    && other.action == row.action
            })
        };
        let on_tune: Vec<&Metric> = methods.iter().filter_map(|row| tuned_of(row)).collect();
        let is_tuned = part != Part::ValuationTune.as_str() && on_tune.len() == methods.len();
        let lead = if is_tuned {
            best(&on_tune).and_then(|chosen| {
                methods
                    .iter()
                    .copied()
                    .find(|row| tuned_of(row).is_some_and(|tuned| std::ptr::eq(tuned, chosen)))
            })
        } else {
            best(&methods)
        };
        if let Some(lead) = lead {
            lead_sentence(rows, base, lead, &arms, (part, is_tuned), facts, sentences);
        }
        count_sentence(rows, base, &methods, part, sentences);
        let bound = arms.iter().copied().find(|row| is_bound(row));
        let change = bound.and_then(|row| rows.beside(row, "ndcg@10_vs_base"));
        hopeless.extend(change.filter(|change| !(is_significant(change) && change.value > 0.0)));
    }
    if !hopeless.is_empty() && facts.n_planted > 0 {
        let models: Vec<String> = hopeless
            .iter()
            .map(|change| format!("{} ({})", model_of(change), difference(change, 4)))
            .collect();
        let text = format!(
            "Even dropping exactly the planted samples does not measurably improve NDCG@10 of {} on {part}: \
             little can be gained there by dropping.",
            list(&models)
        );
        sentences.push("caution", text, &hopeless);
    }
}

fn lead_sentence(
    rows: Rows<'_>,
    base: &Metric,
    lead: &Metric,
    arms: &[&Metric],
    (part, is_tuned): (&str, bool),
    facts: &Facts,
    sentences: &mut Sentences,
) {
    let Some(change) = rows.beside(lead, "ndcg@10_vs_base") else {
        return;
    };
    let mut behind = vec![base, lead, change];
    let chosen = if is_tuned {
        "best on valuation.tune"
    } else {
        "best of the arms, chosen on the same requests and so optimistic"
    };
    let verdict = match (is_significant(change), change.value > 0.0) {
        (true, true) => "improves",
        (true, false) => "worsens",
        (false, _) => "does not measurably change",
    };
    let mut text = vec![format!(
        "Acting on {} ({chosen}) {verdict} {} on {part}: NDCG@10 from {:.4} to {:.4}, {} ({} after Holm)",
        arm_of(lead),
        model_of(base),
        base.value,
        lead.value,
        difference(change, 4),
        p_value(change.p_value.unwrap_or(1.0))
    )];
    let of = |keep: &dyn Fn(&Metric) -> bool| {
        let arm = arms.iter().copied().find(|row| keep(row))?;
        rows.beside(arm, "ndcg@10_vs_base")
    };
    // The random arm of the same node, else that of another one: estimators that ask the model
    // itself act in a node of their own.
    let is_random = |row: &Metric| row.method.as_deref() == Some(AT_RANDOM);
    let random = of(&|row| is_random(row) && row.node == lead.node).or_else(|| of(&is_random));
    if let Some(random) = random {
        text.push(format!("; acting at random {}", difference(random, 4)));
        behind.push(random);
    }
    if let Some(bound) = of(&|row| facts.oracle.contains(&row.node))
        && facts.n_planted > 0
    {
        text.push(format!(
            "; dropping exactly the planted {}",
            difference(bound, 4)
        ));
        behind.push(bound);
    }
    text.push(".".to_owned());
    if let Some(random) = rows.beside(lead, "ndcg@10_vs_random") {
        let verdict = match (is_significant(random), random.value > 0.0) {
            (true, true) => "It is better than acting at random",
            (true, false) => "It is worse than acting at random",
            (false, _) => "It is indistinguishable from acting at random",
        };
        text.push(format!(
            " {verdict}: {} ({}).",
            difference(random, 4),
            p_value(random.p_value.unwrap_or(1.0))
        ));
        behind.push(random);
    }
    sentences.push("action", text.concat(), &behind);
}

/// How many arms helped and how many hurt.
fn count_sentence(
    rows: Rows<'_>,
    base: &Metric,
    methods: &[&Metric],
    part: &str,
    sentences: &mut Sentences,
) {
    let changes: Vec<(&Metric, &Metric)> = methods
        .iter()
        .filter_map(|row| Some((*row, rows.beside(row, "ndcg@10_vs_base")?)))
        .collect();
    if changes.len() < 2 {
        return;
    }
    let of = |sign: f64| -> Vec<&(&Metric, &Metric)> {
        changes
            .iter()
            .filter(|(_, change)| is_significant(change) && change.value * sign > 0.0)
            .collect()
    };
    let named = |list_of: &[&(&Metric, &Metric)]| {
        let names: Vec<String> = list_of.iter().map(|(row, _)| arm_of(row)).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            list(&names)
        }
    };
    let (better, worse) = (of(1.0), of(-1.0));
    let text = format!(
        "Of {} methods acted on, NDCG@10 of {} on {part} after Holm: better with {}; worse with {}; no measurable change with the other {}.",
        changes.len(),
        model_of(base),
        named(&better),
        named(&worse),
        changes.len() - better.len() - worse.len()
    );
    let behind: Vec<&Metric> = changes.iter().map(|(_, change)| *change).collect();
    sentences.push("action", text, &behind);
    if better.is_empty() && changes.iter().all(|(_, change)| change.value <= 0.0) {
        let text = format!(
            "{} trained on all samples is at least as good as after acting on any method's scores.",
            model_of(base)
        );
        sentences.push("caution", text, &behind);
    }
}
