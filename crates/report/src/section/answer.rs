//! The answer: a few sentences and a few figures.

use tables::Conclusion;

use super::{Section, missing};
use crate::evidence::Evidence;
use crate::format::Shown;
use crate::html::Html;
use crate::table::{Cell, Column, ResultTable, Row};
use crate::view::{self, Arm, ArmKind, Detector};

/// Sentences that lead.
const N_LEADING: usize = 3;

pub(super) fn section(evidence: &Evidence) -> Section {
    let mut body = Html::new();
    if evidence.conclusions.is_empty() {
        missing(&mut body, evidence, "conclusions", "the answer in words");
    } else {
        sentences(&mut body, evidence);
    }
    strip(&mut body, evidence);
    rest(&mut body, evidence);
    Section {
        id: "answer",
        title: "The answer",
        guide: String::new(),
        body,
        tables: vec![table(evidence)],
    }
}

/// Leading sentences: the most important ones, at most two of a topic.
fn leading(evidence: &Evidence) -> Vec<&Conclusion> {
    let mut chosen: Vec<&Conclusion> = Vec::new();
    for conclusion in &evidence.conclusions {
        let same = chosen
            .iter()
            .filter(|other| other.topic == conclusion.topic);
        if conclusion.topic != "caution" && same.count() < 2 && chosen.len() < N_LEADING {
            chosen.push(conclusion);
        }
    }
    chosen
}

fn sentences(html: &mut Html, evidence: &Evidence) {
    html.element("div", &[("class", &"answer")], |html| {
        for (index, conclusion) in leading(evidence).into_iter().enumerate() {
            let class = if index == 0 { "first" } else { "" };
            html.element("p", &[("class", &class)], |html| {
                html.prose(&conclusion.text);
            });
        }
        if let Some(conclusion) = evidence.cost_conclusions.first() {
            html.element("p", &[], |html| {
                html.prose(&conclusion.text);
            });
        }
    });
}

/// The figures that an answer rests on.
fn strip(html: &mut Html, evidence: &Evidence) {
    let detectors = view::detectors(evidence);
    let best = detectors.first();
    let arms = view::arms(evidence);
    let (model, arms): (&str, &[Arm<'_>]) = best
        .and_then(|best| arms_of_interest(&arms, best))
        .or_else(|| arms.first())
        .map_or(("", &[]), |(model, arms)| (model, arms.as_slice()));
    if best.is_none() && arms.is_empty() {
        return;
    }
    let on_model = if model.is_empty() {
        String::new()
    } else {
        format!(" of {model}")
    };
    html.element("div", &[("class", &"strip")], |html| {
        detection_figure(html, best);
        let method = best.map(Detector::method);
        let acted = arms
            .iter()
            .find(|arm| arm.kind != ArmKind::Bound && arm.change.method.as_deref() == method)
            .or_else(|| arms.iter().find(|arm| arm.kind == ArmKind::Method));
        change_figure(html, acted, |arm| {
            format!("change in NDCG@10{on_model} after acting on {}", arm.name)
        });
        let bound = arms.iter().find(|arm| arm.kind == ArmKind::Bound);
        if bound.is_some() {
            change_figure(html, bound, |_| {
                format!("the most to be had{on_model}: exactly the planted samples dropped")
            });
        }
        cost_figure(html, best);
    });
}

/// The arms of the model that the best detector speaks of, else of the best model that was trained
/// again after acting on its scores.
fn arms_of_interest<'a, 'b>(
    arms: &'b [(&'a str, Vec<Arm<'a>>)],
    best: &Detector<'_>,
) -> Option<&'b (&'a str, Vec<Arm<'a>>)> {
    let has_method = |(_, arms): &&(&str, Vec<Arm<'_>>)| {
        arms.iter()
            .any(|arm| arm.change.method.as_deref() == Some(best.method()))
    };
    arms.iter()
        .filter(has_method)
        .find(|(model, _)| best.auroc.model.as_deref() == Some(*model))
        .or_else(|| arms.iter().find(has_method))
}

fn hero(html: &mut Html, value: &str, label: &str, detail: &str, title: &str) {
    html.element("div", &[("class", &"hero"), ("title", &title)], |html| {
        html.leaf("div", &[("class", &"big")], value);
        html.leaf("div", &[("class", &"ci")], detail);
        html.leaf("div", &[("class", &"what")], label);
    });
}

fn detection_figure(html: &mut Html, best: Option<&Detector<'_>>) {
    let Some(best) = best else {
        hero(html, "–", "detection of planted noise", "not measured", "");
        return;
    };
    let shown = Shown::Decimals(3);
    let interval = view::interval(best.auroc);
    let detail = interval.map_or_else(String::new, |(low, high)| shown.interval(low, high));
    let label = format!("AUROC of {}; chance is 0.5", best.name);
    hero(
        html,
        &shown.of(best.auroc.value),
        &label,
        &detail,
        &best.auroc.protocol,
    );
}

fn change_figure(html: &mut Html, arm: Option<&Arm<'_>>, label: impl Fn(&Arm<'_>) -> String) {
    let Some(arm) = arm else {
        hero(html, "–", "change after acting", "not measured", "");
        return;
    };
    let shown = Shown::Signed(4);
    let interval = view::interval(arm.change);
    let detail = interval.map_or_else(String::new, |(low, high)| shown.interval(low, high));
    hero(
        html,
        &shown.of(arm.change.value),
        &label(arm),
        &detail,
        &arm.change.protocol,
    );
}

fn cost_figure(html: &mut Html, best: Option<&Detector<'_>>) {
    let cost = best.and_then(|best| best.cost.map(|cost| (best, cost)));
    let Some((best, cost)) = cost else {
        hero(html, "–", "cost of the estimate", "not measured", "");
        return;
    };
    hero(
        html,
        &Shown::Duration.of(cost.wall_ms),
        &format!("to score every sample with {}", best.name),
        &format!(
            "{} CPU, {} peak",
            Shown::Duration.of(cost.cpu_ms),
            Shown::Bytes.of(cost.peak_bytes)
        ),
        "wall time of the estimate alone, without its probe; one run",
    );
}

/// What does not lead: further sentences, cautions, evidence.
fn rest(html: &mut Html, evidence: &Evidence) {
    let leading: Vec<u32> = leading(evidence)
        .iter()
        .map(|conclusion| conclusion.rank)
        .collect();
    let (cautions, others): (Vec<&Conclusion>, Vec<&Conclusion>) = evidence
        .conclusions
        .iter()
        .filter(|conclusion| !leading.contains(&conclusion.rank))
        .partition(|conclusion| conclusion.topic == "caution");
    let others: Vec<&Conclusion> = others
        .into_iter()
        .chain(evidence.cost_conclusions.iter().skip(1))
        .collect();
    list(html, "also", "What else holds", &others);
    list(html, "also cautions", "Read with care", &cautions);
    if evidence
        .conclusions
        .iter()
        .any(|it| !it.evidence.is_empty())
    {
        html.element("details", &[], |html| {
            html.leaf("summary", &[], "Figures behind each sentence");
            html.element("ol", &[("class", &"evidence")], |html| {
                for conclusion in &evidence.conclusions {
                    html.element("li", &[], |html| {
                        html.prose(&conclusion.text);
                        html.text(" ");
                        html.leaf("code", &[], &conclusion.evidence);
                    });
                }
            });
        });
    }
}

fn list(html: &mut Html, class: &str, title: &str, conclusions: &[&Conclusion]) {
    if conclusions.is_empty() {
        return;
    }
    html.element("div", &[("class", &class)], |html| {
        html.leaf("h3", &[], title);
        html.element("ul", &[], |html| {
            for conclusion in conclusions {
                html.element("li", &[], |html| {
                    html.prose(&conclusion.text);
                });
            }
        });
    });
}

/// The sentences for the folder `tables`; those about cost are measured and stay out.
fn table(evidence: &Evidence) -> ResultTable {
    let rows = evidence
        .conclusions
        .iter()
        .filter(|conclusion| conclusion.topic != "cost")
        .map(|conclusion| {
            Row::new(vec![
                Cell::Text(conclusion.topic.clone()),
                Cell::Text(conclusion.text.clone()),
                Cell::Code(conclusion.evidence.clone()),
            ])
        });
    ResultTable {
        name: "conclusions".to_owned(),
        is_grouped: false,
        title: "Conclusions".to_owned(),
        note: "Sentences that hold, most important first, with the figures behind them.".to_owned(),
        columns: vec![
            Column::new("topic", "topic"),
            Column::new("text", "sentence"),
            Column::new("evidence", "evidence"),
        ],
        rows: rows.collect(),
    }
}
