//! Sentences that hold, drawn from the rows of `metrics` alone: what is said can be looked up.

use std::collections::BTreeMap;

use tables::{Conclusion, Metric, Part};

use crate::action::AT_RANDOM;
use crate::answers::{Answered, Requests};
use crate::scored::{Scored, Universe};
use crate::text::{count, difference, evidence, figure, list, p_value, percent};

/// Level below which a corrected p-value counts as evidence.
const LEVEL: f64 = 0.05;

/// Requests below which intervals are wide for most purposes.
const FEW_REQUESTS: u64 = 500;

/// What sentences need beside the figures.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Requests have instants, so that the split can be temporal.
    has_instants: bool,
    /// Planted samples were wired.
    knows_planting: bool,
    n_planted: u64,
    n_samples: u64,
    kinds: Vec<String>,
    has_scores: bool,
    /// Requests that inputs left unanswered, by input.
    missing: Vec<(String, u64)>,
    /// Nodes that drop exactly the planted samples.
    oracle: Vec<String>,
}

impl Facts {
    pub(crate) fn new(
        requests: &Requests,
        answered: [&Answered; 2],
        universe: &Universe,
        scores: &Scored,
        oracle: Vec<String>,
    ) -> Self {
        let inputs = answered.into_iter().flat_map(|answered| &answered.inputs);
        Self {
            has_instants: requests.rows.iter().any(|row| row.requested_at.is_some()),
            knows_planting: universe.node.is_some(),
            n_planted: universe.n_planted() as u64,
            n_samples: universe.samples.len() as u64,
            kinds: universe.kinds.clone(),
            has_scores: !scores.groups.is_empty(),
            missing: inputs
                .filter(|input| input.n_missing > 0)
                .map(|input| (input.label.to_string(), input.n_missing))
                .collect(),
            oracle,
        }
    }
}

/// Sentences on their way to the table.
#[derive(Default)]
struct Sentences(Vec<Conclusion>);

impl Sentences {
    fn push(&mut self, topic: &str, text: String, behind: &[&Metric]) {
        self.0.push(Conclusion {
            rank: u32::try_from(self.0.len()).unwrap_or(u32::MAX),
            topic: topic.to_owned(),
            text,
            evidence: evidence(behind),
        });
    }
}

/// Draws all sentences, most important first.
pub(crate) fn draw(rows: &[Metric], facts: &Facts) -> Vec<Conclusion> {
    let rows = Rows(rows);
    let mut sentences = Sentences::default();
    detection(rows, facts, &mut sentences);
    let part = rows.judging_part();
    if let Some(part) = part {
        action(rows, part, facts, &mut sentences);
        ranking(rows, part, &mut sentences);
    }
    cautions(rows, part, facts, &mut sentences);
    sentences.0
}

/// All figures.
#[derive(Clone, Copy)]
struct Rows<'a>(&'a [Metric]);

impl<'a> Rows<'a> {
    fn all(self, family: &str, metric: &str, part: &str, segment: &str) -> Vec<&'a Metric> {
        let is_one = |row: &&Metric| {
            row.family == family
                && row.metric == metric
                && row.part == part
                && row.segment == segment
        };
        self.0.iter().filter(is_one).collect()
    }

    /// Another figure of the thing that a row speaks of.
    fn beside(self, row: &Metric, metric: &str) -> Option<&'a Metric> {
        self.0.iter().find(|other| {
            other.metric == metric && is_same_thing(row, other) && other.label == row.label
        })
    }

    /// Comparisons of the thing that a row speaks of; their labels also name the other thing.
    fn compared(self, row: &Metric, metric: &str) -> Vec<&'a Metric> {
        let own = |other: &Metric| {
            let mut label = stage::Label::parse(&other.label).unwrap_or_default();
            label.0.retain(|axis, _| !axis.starts_with("other_"));
            label.to_string() == row.label
        };
        let is_one =
            |other: &&Metric| other.metric == metric && is_same_thing(row, other) && own(other);
        self.0.iter().filter(is_one).collect()
    }

    /// The part that judges: test, else the best that there is.
    fn judging_part(self) -> Option<&'static str> {
        [Part::Test, Part::ValuationTune, Part::ValuationFit]
            .map(Part::as_str)
            .into_iter()
            .find(|part| {
                self.0
                    .iter()
                    .any(|row| row.family == "ranking" && row.part == *part)
            })
    }
}

/// Whether two rows speak of the same inputs in the same circumstances.
fn is_same_thing(row: &Metric, other: &Metric) -> bool {
    row.family == other.family
        && row.part == other.part
        && row.segment == other.segment
        && row.node == other.node
        && row.model == other.model
        && row.method == other.method
        && row.action == other.action
}

/// Highest value; the first of several.
fn best<'a>(rows: &[&'a Metric]) -> Option<&'a Metric> {
    rows.iter()
        .copied()
        .reduce(|best, row| if row.value > best.value { row } else { best })
}

/// Names that tell the rows apart: the method (or model, or node), with more where it is shared.
fn names(rows: &[&Metric]) -> Vec<String> {
    let short = |row: &Metric| {
        row.method
            .as_ref()
            .or(row.model.as_ref())
            .unwrap_or(&row.node)
            .clone()
    };
    let mut shared: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows {
        *shared.entry(short(row)).or_default() += 1;
    }
    rows.iter()
        .map(|row| {
            let name = short(row);
            if shared[&name] == 1 {
                return format!("`{name}`");
            }
            let mut more = Vec::new();
            if let Some(model) = row.model.as_ref().filter(|model| **model != name) {
                more.push(format!("on `{model}`"));
            }
            let is_one_node = rows.iter().all(|other| other.node == row.node);
            if !is_one_node || more.is_empty() {
                more.push(format!("by node `{}`", row.node));
            }
            if !row.label.is_empty() {
                more.push(format!("with {}", row.label));
            }
            format!("`{name}` {}", more.join(" "))
        })
        .collect()
}

fn is_significant(row: &Metric) -> bool {
    row.p_value.is_some_and(|p| p < LEVEL)
}

/// Whether an interval lies beyond zero.
fn excludes_zero(row: &Metric) -> bool {
    row.low.is_some_and(|low| low > 0.0) || row.high.is_some_and(|high| high < 0.0)
}

fn detection(rows: Rows<'_>, facts: &Facts, sentences: &mut Sentences) {
    let found = rows.all("detection", "auroc", "training", "all");
    let Some(best) = best(&found) else {
        return;
    };
    let names = names(&found);
    let name_of = |row: &Metric| -> String {
        let at = found.iter().position(|other| std::ptr::eq(*other, row));
        at.map_or_else(String::new, |at| names[at].clone())
    };
    let planted = format!(
        "{} of {} samples are planted ({})",
        count(facts.n_planted),
        count(facts.n_samples),
        facts.kinds.join(", ")
    );
    let chance = percent(facts.n_planted as f64 / facts.n_samples.max(1) as f64);
    if is_significant(best) && best.value > 0.5 {
        let mut behind = vec![best];
        let mut text = format!(
            "{} finds the planted samples best: AUROC {}",
            name_of(best),
            figure(best, 3)
        );
        if let Some(precision) = rows.beside(best, "precision@1x") {
            behind.push(precision);
            text += &format!(
                "; of the {} samples that it suspects most, {} are planted, against {chance} in a random order",
                count(facts.n_planted),
                percent(precision.value)
            );
        }
        text += &format!(". {planted}.");
        let (mut rivals, mut comparisons) = (Vec::new(), Vec::new());
        for row in &found {
            for other in rows.compared(row, "auroc_vs_best") {
                if !excludes_zero(other) && !rivals.contains(&name_of(row)) {
                    rivals.push(name_of(row));
                    comparisons.push(other);
                }
            }
        }
        if !rivals.is_empty() {
            let verb = if rivals.len() == 1 { "is" } else { "are" };
            text += &format!(" {} {verb} indistinguishable from it.", list(&rivals));
            behind.extend(comparisons);
        }
        sentences.push("detection", text, &behind);
        if let Some(loss) = rows.compared(best, "auroc_vs_loss").first() {
            let verdict = match (excludes_zero(loss), loss.value > 0.0) {
                (true, true) => "beats",
                (true, false) => "is worse than",
                (false, _) => "is indistinguishable from",
            };
            let text = format!(
                "{} {verdict} the loss alone: AUROC {}.",
                name_of(best),
                difference(loss, 3)
            );
            sentences.push("detection", text, &[loss]);
        }
    } else {
        let text = format!(
            "No method finds the planted samples: the best, {}, has AUROC {}, indistinguishable from a random order. {planted}.",
            name_of(best),
            figure(best, 3)
        );
        sentences.push("detection", text, &[best]);
    }
    let chosen = |keep: &dyn Fn(&Metric) -> bool| -> (Vec<String>, Vec<&Metric>) {
        found
            .iter()
            .copied()
            .filter(|row| {
                !std::ptr::eq(*row, best) && row.method.as_deref() != Some(AT_RANDOM) && keep(row)
            })
            .map(|row| (name_of(row), row))
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

fn by_kind(rows: Rows<'_>, facts: &Facts, sentences: &mut Sentences) {
    for kind in &facts.kinds {
        let found = rows.all("detection", "auroc", "training", kind);
        let Some(best) = best(&found) else { continue };
        let names = names(&found);
        let name = found
            .iter()
            .zip(&names)
            .find(|(row, _)| std::ptr::eq(**row, best));
        let name = name.map_or("", |(_, name)| name.as_str());
        let text = if is_significant(best) && best.value > 0.5 {
            format!(
                "`{kind}` is found best by {name}: AUROC {}.",
                figure(best, 3)
            )
        } else {
            format!(
                "No method finds `{kind}`: the best, {name}, has AUROC {}.",
                figure(best, 3)
            )
        };
        sentences.push("detection", text, &[best]);
    }
}

/// What to call the model of a row.
fn model_of(row: &Metric) -> String {
    format!("`{}`", row.model.as_ref().unwrap_or(&row.node))
}

/// What to call an arm.
fn arm_of(row: &Metric) -> String {
    match (&row.method, &row.action) {
        (Some(method), Some(action)) if *action != row.node => format!("`{method}` ({action})"),
        (Some(method), _) => format!("`{method}`"),
        (None, Some(action)) => format!("`{action}`"),
        (None, None) => format!("`{}`", row.node),
    }
}

fn action(rows: Rows<'_>, part: &str, facts: &Facts, sentences: &mut Sentences) {
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
    let mut text = format!(
        "Acting on {} ({chosen}) {verdict} {} on {part}: NDCG@10 from {:.4} to {:.4}, {} ({} after Holm)",
        arm_of(lead),
        model_of(base),
        base.value,
        lead.value,
        difference(change, 4),
        p_value(change.p_value.unwrap_or(1.0))
    );
    let of = |keep: &dyn Fn(&Metric) -> bool| {
        let arm = arms.iter().copied().find(|row| keep(row))?;
        rows.beside(arm, "ndcg@10_vs_base")
    };
    let is_random =
        |row: &Metric| row.method.as_deref() == Some(AT_RANDOM) && row.node == lead.node;
    if let Some(random) = of(&is_random) {
        text += &format!("; acting at random {}", difference(random, 4));
        behind.push(random);
    }
    if let Some(bound) = of(&|row| facts.oracle.contains(&row.node))
        && facts.n_planted > 0
    {
        text += &format!("; dropping exactly the planted {}", difference(bound, 4));
        behind.push(bound);
    }
    text.push('.');
    if let Some(random) = rows.beside(lead, "ndcg@10_vs_random") {
        let verdict = match (is_significant(random), random.value > 0.0) {
            (true, true) => "It is better than acting at random",
            (true, false) => "It is worse than acting at random",
            (false, _) => "It is indistinguishable from acting at random",
        };
        text += &format!(
            " {verdict}: {} ({}).",
            difference(random, 4),
            p_value(random.p_value.unwrap_or(1.0))
        );
        behind.push(random);
    }
    sentences.push("action", text, &behind);
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

fn ranking(rows: Rows<'_>, part: &str, sentences: &mut Sentences) {
    let found = rows.all("ranking", "ndcg@10", part, "all");
    let Some(leader) = best(&found) else { return };
    let names = names(&found);
    let name_of = |row: &Metric| -> String {
        let at = found.iter().position(|other| std::ptr::eq(*other, row));
        at.map_or_else(String::new, |at| names[at].clone())
    };
    let mut behind = vec![leader];
    let mut text = if found.len() == 1 {
        format!(
            "{} ranks with NDCG@10 {}",
            name_of(leader),
            figure(leader, 4)
        )
    } else {
        format!(
            "{} ranks best: NDCG@10 {}",
            name_of(leader),
            figure(leader, 4)
        )
    };
    if let Some(hit_rate) = rows.beside(leader, "hit_rate@10") {
        text += &format!(", HR@10 {}", figure(hit_rate, 4));
        behind.push(hit_rate);
    }
    text += &format!(" on {} {part} requests (full ranking).", count(leader.n));
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
        text += &format!(
            " It {verdict} {}: {} ({} after Holm).",
            name_of(second),
            difference(&signed, 4),
            p_value(row.p_value.unwrap_or(1.0))
        );
        behind.push(row);
    }
    sentences.push("ranking", text, &behind);
    let new = rows.all("ranking", "ndcg@10", part, "new");
    let repeats = rows.beside(leader, "repeat_frac");
    if let (Some(leader_new), Some(repeats)) = (best(&new), repeats)
        && repeats.value > 0.01
    {
        let new_names = self::names(&new);
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

fn cautions(rows: Rows<'_>, part: Option<&str>, facts: &Facts, sentences: &mut Sentences) {
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
