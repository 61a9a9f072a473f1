//! Sentences about what limits all others.

use tables::{Metric, Part};

use super::action::arm_of;
use super::{Facts, Rows, Sentences, best, is_significant, model_of, names};
use crate::action::AT_RANDOM;
use crate::removals::N_REMOVED;
use crate::text::{count, figure, list, percent};

/// Requests below which intervals are wide for most purposes.
const FEW_REQUESTS: u64 = 500;

pub(super) fn cautions(
    rows: Rows<'_>,
    part: Option<&str>,
    facts: &Facts,
    sentences: &mut Sentences,
) {
    if let Some(part) = part {
        let found = rows.all("ranking", "ndcg@10", part, "all");
        if part != Part::Test.as_str() {
            let text = format!(
                "No test requests were answered: everything is said of `{part}`, which also chooses."
            );
            sentences.push("caution", text, &found);
        }
        if let Some(row) = found.iter().find(|row| row.n < FEW_REQUESTS) {
            let text = format!(
                "Only {} {part} requests: small differences cannot be told from chance.",
                count(row.n)
            );
            sentences.push("caution", text, &[row]);
        }
        for (metric, limit, text) in [
            (
                "repeat_frac",
                0.3,
                "of the relevant items are repeats: read the figures on new items beside all others",
            ),
            (
                "cold_frac",
                0.1,
                "of the relevant items are no candidates (never seen before the request): no model can reach a recall of 1",
            ),
        ] {
            let shares = rows.all("ranking", metric, part, "all");
            if let Some(row) = best(&shares).filter(|row| row.value > limit) {
                sentences.push("caution", format!("{} {text}.", percent(row.value)), &[row]);
            }
        }
    }
    for (label, n) in &facts.missing {
        let text = format!(
            "[{label}] left {} requests unanswered; they count 0.",
            count(*n)
        );
        sentences.push("caution", text, &[]);
    }
    if !facts.has_instants {
        let text = "Requests carry no instants: the split is by position (leave-one-out) or random, training \
                    saw later events of other users, and figures are higher than they would be in use."
            .to_owned();
        sentences.push("caution", text, &[]);
    }
    if facts.has_scores && !facts.knows_planting {
        let text = "`planted` is not wired: nothing is said of detection.".to_owned();
        sentences.push("caution", text, &[]);
    } else if facts.has_scores && facts.n_planted == 0 {
        let text = "Nothing was planted in this split: which method finds harmful samples cannot be judged here, \
                    and dropping exactly the planted drops nothing."
            .to_owned();
        sentences.push("caution", text, &[]);
    }
    unequal_arms(rows, facts, sentences);
    let by_rarity = rows
        .all("detection", "auroc", "training", "all")
        .into_iter()
        .find(|row| {
            row.method.as_deref() == Some("popularity") && is_significant(row) && row.value > 0.6
        });
    if let Some(row) = by_rarity.filter(|_| facts.kinds.iter().any(|kind| kind == "label_noise")) {
        let text = format!(
            "Planted targets are drawn evenly from all items and so are rarer than genuine ones: counting alone \
             (`popularity`) reaches AUROC {}. Real noise need not be rare; prefer methods that do better than this.",
            figure(row, 3)
        );
        sentences.push("caution", text, &[row]);
    }
    let unscored = rows.all("detection", "unscored_frac", "training", "all");
    let names = names(&unscored);
    let (partial, behind): (Vec<String>, Vec<&Metric>) = unscored
        .iter()
        .zip(&names)
        .filter(|(row, _)| row.value > 0.1)
        .map(|(row, name)| (format!("{name} {}", percent(row.value)), *row))
        .unzip();
    if !partial.is_empty() {
        let text = format!(
            "Samples that a method cannot score take its median suspicion, which draws its figures towards chance: {}.",
            list(&partial)
        );
        sentences.push("caution", text, &behind);
    }
}

/// Arms that removed other numbers of samples than the random arm they are compared with.
fn unequal_arms(rows: Rows<'_>, facts: &Facts, sentences: &mut Sentences) {
    let removed = rows.all("action", N_REMOVED, Part::Training.as_str(), "all");
    let is_random = |row: &Metric| row.method.as_deref() == Some(AT_RANDOM);
    let mut texts = Vec::new();
    let mut behind: Vec<&Metric> = Vec::new();
    for row in removed.iter().copied() {
        if is_random(row) || facts.oracle.contains(&row.node) {
            continue;
        }
        let of_model = || {
            let randoms = removed.iter().copied().filter(|other| is_random(other));
            randoms.filter(|other| other.model == row.model)
        };
        let random = of_model()
            .find(|other| other.node == row.node)
            .or_else(|| of_model().next());
        if let Some(random) = random.filter(|random| whole(random.value) != whole(row.value)) {
            texts.push(format!(
                "{} on {} removed {} (at random {})",
                arm_of(row),
                model_of(row),
                count(whole(row.value)),
                count(whole(random.value))
            ));
            behind.extend([row, random]);
        }
    }
    if !texts.is_empty() {
        let text = format!(
            "Arms that did not remove as many samples as acting at random, since they score too few: {}. \
             Their difference from random is not that of the choice alone.",
            list(&texts)
        );
        sentences.push("caution", text, &behind);
    }
}

/// A number of samples, a mean over seeds, to the nearest whole.
fn whole(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a mean of numbers of samples"
    )]
    let whole = value.round() as u64;
    whole
}
