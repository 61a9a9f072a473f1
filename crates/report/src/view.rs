//! What the sections share: detectors, arms and models as the metrics name them.

use std::collections::{BTreeMap, BTreeSet};

use stage::Label;
use tables::{Measured, Metric};

use crate::evidence::{Evidence, Scored};
use crate::table::{Cell, Figure};

/// The metric that ranks detectors.
pub(crate) const DETECTION: &str = "auroc";

/// The metric whose change tells whether acting helped.
pub(crate) const RANKING: &str = "ndcg@10";

/// That change.
pub(crate) const CHANGE: &str = "ndcg@10_vs_base";

/// How many training samples an arm removed.
pub(crate) const REMOVED: &str = "n_removed";

/// The method that knows nothing.
pub(crate) const RANDOM: &str = "random";

/// Part that judges.
pub(crate) const TEST: &str = "test";

/// Part that chooses.
pub(crate) const TUNE: &str = "valuation.tune";

/// Segments of noise that the simulator knows of start with this.
pub(crate) const TRUTH: &str = "truth.";

/// Everything.
pub(crate) const ALL: &str = "all";

/// Items outside the history of a request.
pub(crate) const NEW: &str = "new";

/// What one run of a node cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cost {
    /// Wall time in ms.
    pub(crate) wall_ms: f64,
    /// CPU time in ms.
    pub(crate) cpu_ms: f64,
    /// Peak resident memory in bytes.
    pub(crate) peak_bytes: f64,
}

/// One method's detection of planted samples.
#[derive(Clone, Debug)]
pub(crate) struct Detector<'a> {
    /// Its name, unlike those of all others.
    pub(crate) name: String,
    /// Its AUROC over the noise that is asked for.
    pub(crate) auroc: &'a Metric,
    /// Its card, where it was wired.
    pub(crate) card: Option<&'a Scored>,
    /// What its estimate cost, where it was measured.
    pub(crate) cost: Option<Cost>,
}

impl Detector<'_> {
    /// Whether it is a baseline rather than an estimator.
    pub(crate) fn is_baseline(&self) -> bool {
        self.card.map_or(self.method() == RANDOM, |scored| {
            scored.card.family == "baseline"
        })
    }

    /// Name of its method.
    pub(crate) fn method(&self) -> &str {
        self.auroc.method.as_deref().unwrap_or(&self.auroc.node)
    }
}

/// Detectors of everything planted, best first.
pub(crate) fn detectors(evidence: &Evidence) -> Vec<Detector<'_>> {
    detectors_of(evidence, ALL)
}

/// Detectors of the noise of one segment, best first.
pub(crate) fn detectors_of<'a>(evidence: &'a Evidence, segment: &str) -> Vec<Detector<'a>> {
    let mut rows: Vec<&Metric> = evidence
        .metrics
        .iter()
        .filter(|metric| {
            metric.family == "detection" && metric.metric == DETECTION && metric.segment == segment
        })
        .collect();
    rows.sort_by(|a, b| b.value.total_cmp(&a.value));
    let names = names(&rows, method_of);
    rows.into_iter()
        .zip(names)
        .map(|(auroc, name)| Detector {
            name,
            auroc,
            card: card_of(evidence, auroc),
            cost: cost_of(evidence, auroc),
        })
        .collect()
}

fn method_of(metric: &Metric) -> &str {
    metric.method.as_deref().unwrap_or(&metric.node)
}

/// The card of the method behind a metric.
fn card_of<'a>(evidence: &'a Evidence, metric: &Metric) -> Option<&'a Scored> {
    let is_its = |scored: &&Scored| {
        Some(scored.card.method.as_str()) == metric.method.as_deref()
            && scored
                .label
                .get("node")
                .is_none_or(|node| node == metric.node)
            && agrees(&scored.label, "model", metric.model.as_deref())
    };
    evidence.methods.iter().find(is_its)
}

/// Whether a label says nothing else on an axis.
fn agrees(label: &Label, axis: &str, value: Option<&str>) -> bool {
    match (label.get(axis), value) {
        (Some(found), Some(wanted)) => found == wanted,
        _ => true,
    }
}

/// Mean cost of the runs of the node behind a detector: of all its replicates.
fn cost_of(evidence: &Evidence, metric: &Metric) -> Option<Cost> {
    let runs: Vec<&Measured> = evidence
        .costs
        .iter()
        .filter(|run| run.stage == "estimate" && base_of(&run.node) == metric.node)
        .filter(|run| {
            let label = Label::parse(&run.label).unwrap_or_default();
            agrees(&label, "method", metric.method.as_deref())
                && agrees(&label, "model", metric.model.as_deref())
        })
        .collect();
    if runs.is_empty() {
        return None;
    }
    let n = runs.len() as f64;
    let mean =
        |value: fn(&Measured) -> u64| runs.iter().map(|run| value(run) as f64).sum::<f64>() / n;
    Some(Cost {
        wall_ms: mean(|run| run.wall_ms),
        cpu_ms: mean(|run| run.cpu_ms),
        peak_bytes: mean(|run| run.peak_bytes),
    })
}

/// The name of a node without its axes: `score` of `score[knn_shapley]`.
pub(crate) fn base_of(node: &str) -> &str {
    node.split('[').next().unwrap_or(node)
}

/// A node with its axes, such as `model[markov]`: the one axis of most nodes goes without its name.
pub(crate) fn place(node: &str, label: &Label) -> String {
    let axes = label.without("node");
    let mut values = axes.0.values();
    match (values.next(), values.next()) {
        (None, _) => node.to_owned(),
        (Some(value), None) => format!("{node}[{value}]"),
        _ => format!("{node}[{axes}]"),
    }
}

/// The node that made scores, with its axes but the method.
pub(crate) fn place_of(label: &Label) -> String {
    place(
        label.get("node").unwrap_or("scores"),
        &label.without("method"),
    )
}

/// What an arm does to the training samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ArmKind {
    /// Drops exactly the planted samples: an upper bound.
    Bound,
    /// Drops what a method suspects.
    Method,
    /// Drops at random.
    Random,
}

/// One way of acting, and what it changed.
#[derive(Clone, Debug)]
pub(crate) struct Arm<'a> {
    /// Its name, unlike those of the other arms on its model.
    pub(crate) name: String,
    /// What it does.
    pub(crate) kind: ArmKind,
    /// Change of NDCG@10 against the model trained on everything.
    pub(crate) change: &'a Metric,
}

/// Arms by model, the best model first; within one model the bound first, then by change.
pub(crate) fn arms(evidence: &Evidence) -> Vec<(&str, Vec<Arm<'_>>)> {
    let bounds = bounds(evidence);
    let mut by_model: Vec<(&str, Vec<&Metric>)> = Vec::new();
    for metric in &evidence.metrics {
        let is_change = metric.family == "action"
            && metric.metric == CHANGE
            && metric.segment == ALL
            && metric.part == TEST;
        if !is_change {
            continue;
        }
        let model = metric.model.as_deref().unwrap_or("");
        match by_model.iter_mut().find(|(name, _)| *name == model) {
            Some((_, rows)) => rows.push(metric),
            None => by_model.push((model, vec![metric])),
        }
    }
    // The model that ranks best comes first.
    let quality =
        |model: &str| base(evidence, model).map_or(f64::NEG_INFINITY, |metric| metric.value);
    by_model.sort_by(|(a, _), (b, _)| quality(b).total_cmp(&quality(a)));
    by_model
        .into_iter()
        .map(|(model, rows)| {
            let names = names(&rows, arm_name);
            let mut arms: Vec<Arm<'_>> = rows
                .into_iter()
                .zip(names)
                .map(|(change, name)| Arm {
                    name,
                    kind: kind_of(change, &bounds),
                    change,
                })
                .collect();
            arms.sort_by(|a, b| {
                (a.kind != ArmKind::Bound)
                    .cmp(&(b.kind != ArmKind::Bound))
                    .then_with(|| b.change.value.total_cmp(&a.change.value))
            });
            (model, arms)
        })
        .collect()
}

/// Nodes without a method to which the arms of others are compared as the upper bound.
fn bounds(evidence: &Evidence) -> BTreeSet<&str> {
    let arms = || {
        evidence
            .metrics
            .iter()
            .filter(|metric| metric.family == "action" && metric.action.is_some())
    };
    let compared: BTreeSet<&str> = arms()
        .filter(|metric| metric.metric.ends_with("_vs_oracle"))
        .map(|metric| metric.node.as_str())
        .collect();
    arms()
        .filter(|metric| metric.method.is_none())
        .map(|metric| metric.node.as_str())
        .filter(|node| {
            if compared.is_empty() {
                // With no other arm nothing is compared with the bound, and its name must tell.
                ["planted", "oracle"].iter().any(|word| node.contains(word))
            } else {
                !compared.contains(node)
            }
        })
        .collect()
}

fn kind_of(metric: &Metric, bounds: &BTreeSet<&str>) -> ArmKind {
    match metric.method.as_deref() {
        None if bounds.contains(metric.node.as_str()) => ArmKind::Bound,
        Some(RANDOM) => ArmKind::Random,
        _ => ArmKind::Method,
    }
}

/// The figure of an arm under another name, such as `ndcg@10` or `ndcg@10_vs_random`.
pub(crate) fn of_arm<'a>(evidence: &'a Evidence, arm: &Metric, name: &str) -> Option<&'a Metric> {
    evidence
        .metrics
        .iter()
        .find(|metric| metric.metric == name && metric.part == arm.part && is_of_arm(metric, arm))
}

/// How many training samples an arm removed, where it was counted.
pub(crate) fn removed_by<'a>(evidence: &'a Evidence, arm: &Metric) -> Option<&'a Metric> {
    evidence
        .metrics
        .iter()
        .find(|metric| metric.metric == REMOVED && is_of_arm(metric, arm))
}

/// Whether a figure speaks of the same arm and segment as another one.
fn is_of_arm(metric: &Metric, arm: &Metric) -> bool {
    metric.family == "action"
        && metric.node == arm.node
        && metric.segment == arm.segment
        && metric.model == arm.model
        && metric.method == arm.method
        && metric.action == arm.action
        && metric.label == arm.label
}

/// The arm of a method that ranks best on `valuation.tune`, as an index: what is reported on the test
/// must not choose. `None` unless every such arm was judged there.
pub(crate) fn chosen(evidence: &Evidence, arms: &[Arm<'_>]) -> Option<usize> {
    let mut chosen: Option<(usize, f64)> = None;
    for (index, arm) in arms.iter().enumerate() {
        if arm.kind != ArmKind::Method {
            continue;
        }
        let tuned = evidence.metrics.iter().find(|metric| {
            metric.metric == RANKING && metric.part == TUNE && is_of_arm(metric, arm.change)
        })?;
        if chosen.is_none_or(|(_, best)| tuned.value > best) {
            chosen = Some((index, tuned.value));
        }
    }
    chosen.map(|(index, _)| index)
}

/// NDCG@10 of a model before acting.
pub(crate) fn base<'a>(evidence: &'a Evidence, model: &str) -> Option<&'a Metric> {
    evidence.metrics.iter().find(|metric| {
        metric.family == "action"
            && metric.action.is_none()
            && metric.metric == RANKING
            && metric.segment == ALL
            && metric.part == TEST
            && metric.model.as_deref().unwrap_or("") == model
    })
}

fn arm_name(metric: &Metric) -> &str {
    metric
        .method
        .as_deref()
        .or(metric.action.as_deref())
        .unwrap_or(&metric.node)
}

/// Names for rows that must be told apart: the primary name, and where several rows share it the
/// model, the node, the action and the further axes, as far as these differ. The node that made
/// most rows goes without saying.
pub(crate) fn names(rows: &[&Metric], primary: fn(&Metric) -> &str) -> Vec<String> {
    let usual = usual_node(rows);
    let on_model = |row: &Metric| match &row.model {
        Some(model) => format!(" on {model}"),
        None => String::new(),
    };
    let of_node = |row: &Metric| {
        if Some(row.node.as_str()) == usual {
            String::new()
        } else {
            format!(" · {}", row.node)
        }
    };
    let after_action = |row: &Metric| match &row.action {
        Some(action) => format!(" · {action}"),
        None => String::new(),
    };
    let with_label = |row: &Metric| match row.label.as_str() {
        "" => String::new(),
        label => format!(" · {label}"),
    };
    let additions: [&dyn Fn(&Metric) -> String; 4] =
        [&on_model, &of_node, &after_action, &with_label];
    let mut names: Vec<String> = rows.iter().map(|row| primary(row).to_owned()).collect();
    for addition in additions {
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, name) in names.iter().enumerate() {
            groups.entry(name).or_default().push(index);
        }
        let texts: Vec<(usize, String)> = groups
            .into_values()
            .filter(|members| {
                let first = addition(rows[members[0]]);
                members
                    .iter()
                    .any(|member| addition(rows[*member]) != first)
            })
            .flatten()
            .map(|member| (member, addition(rows[member])))
            .collect();
        for (member, text) in texts {
            names[member].push_str(&text);
        }
    }
    names
}

/// The node that made more rows than any other.
fn usual_node<'a>(rows: &[&'a Metric]) -> Option<&'a str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *counts.entry(&row.node).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    let mut usual = counts.into_iter().filter(|(_, n)| *n == most);
    let (node, _) = usual.next()?;
    usual.next().is_none().then_some(node)
}

/// A metric as a cell.
pub(crate) fn cell(metric: &Metric) -> Cell {
    Cell::Figure(Figure {
        value: metric.value,
        interval: interval(metric),
        shown: crate::measure::measure(&metric.family, &metric.metric).shown,
        protocol: Some(metric.protocol.clone()),
    })
}

/// The interval of a metric.
pub(crate) fn interval(metric: &Metric) -> Option<(f64, f64)> {
    metric.low.zip(metric.high)
}

/// Distinct texts in order of first use.
pub(crate) fn distinct<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for text in texts {
        if !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(node: &str, model: Option<&str>, method: &str) -> Metric {
        Metric {
            family: "detection".to_owned(),
            metric: "auroc".to_owned(),
            part: "training".to_owned(),
            segment: "all".to_owned(),
            node: node.to_owned(),
            model: model.map(str::to_owned),
            method: Some(method.to_owned()),
            action: None,
            label: String::new(),
            value: 0.5,
            low: None,
            high: None,
            p_value: None,
            n: 1,
            protocol: String::new(),
        }
    }

    #[test]
    fn names_say_no_more_than_tells_rows_apart() {
        let rows = [
            metric("score", None, "random"),
            metric("score", None, "leave_one_out"),
            metric("score_popularity", None, "leave_one_out"),
        ];
        let rows: Vec<&Metric> = rows.iter().collect();
        assert_eq!(
            names(&rows, method_of),
            [
                "random",
                "leave_one_out",
                "leave_one_out · score_popularity"
            ]
        );
        let rows = [
            metric("score", Some("markov"), "loss"),
            metric("score", Some("popularity"), "loss"),
        ];
        let rows: Vec<&Metric> = rows.iter().collect();
        assert_eq!(
            names(&rows, method_of),
            ["loss on markov", "loss on popularity"]
        );
    }
}
