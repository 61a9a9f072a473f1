//! The answer: a few sentences and a few figures.

use tables::Conclusion;

use super::{Section, capital, missing};
use crate::evidence::Evidence;
use crate::format::{self, Shown};
use crate::html::Html;
use crate::table::{Cell, Column, ResultTable, Row};
use crate::view::{self, Arm, ArmKind, Detector};

/// Topics that lead, one sentence of each; the others step in where one is missing.
const LEADING: [&str; 3] = ["detection", "action", "ranking"];

/// Further sentences up to which they are shown unasked.
const MOST_OTHERS: usize = 4;

/// Sentences that lead, those about cost apart.
const N_LEADING: usize = 2;

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

/// The most important sentence of each leading topic.
fn leading(evidence: &Evidence) -> Vec<&Conclusion> {
    LEADING
        .iter()
        .filter_map(|topic| evidence.conclusions.iter().find(|it| it.topic == *topic))
        .take(N_LEADING)
        .collect()
}

fn sentences(html: &mut Html, evidence: &Evidence) {
    let cost = evidence.cost_conclusions.first();
    html.element("div", &[("class", &"answer")], |html| {
        for (index, conclusion) in leading(evidence).into_iter().chain(cost).enumerate() {
            let class = if index == 0 { "first" } else { "" };
            html.element("p", &[("class", &class)], |html| {
                let (head, rest) = head_and_rest(&conclusion.text);
                // The first one's rest stands on a line of its own, as a sentence of its own.
                let is_apart = index == 0 && !rest.is_empty();
                sentence(
                    html,
                    if is_apart {
                        head.trim_end_matches(';')
                    } else {
                        head
                    },
                );
                if !rest.is_empty() {
                    html.text(" ");
                    let rest = if is_apart {
                        capital(rest)
                    } else {
                        rest.to_owned()
                    };
                    html.element("span", &[("class", &"rest")], |html| sentence(html, &rest));
                }
            });
        }
    });
}

/// Splits off the first clause, which is set larger.
fn head_and_rest(text: &str) -> (&str, &str) {
    let end = ["; ", ". "]
        .iter()
        .filter_map(|end| text.find(end))
        .min()
        .map_or(text.len(), |at| at + 1);
    let (head, rest) = text.split_at(end);
    (head, rest.trim_start())
}

/// A sentence with its intervals muted, names as names, and typographic signs.
fn sentence(html: &mut Html, text: &str) {
    let mut rest = text;
    while let Some((before, inside, after)) = interval(rest) {
        html.prose(&signs(before));
        html.leaf("span", &[("class", &"ci")], signs(inside));
        rest = after;
    }
    html.prose(&signs(rest));
}

/// The first interval in brackets, such as `[-0.1, +0.2]`, with what stands before and after.
fn interval(text: &str) -> Option<(&str, &str, &str)> {
    for (start, _) in text.match_indices('[') {
        let end = start + text[start..].find(']')? + 1;
        let inside = &text[start..end];
        let is_numeric = inside.contains(", ")
            && inside
                .chars()
                .all(|c| c.is_ascii_digit() || "[]-+., ".contains(c));
        if is_numeric {
            return Some((&text[..start], inside, &text[end..]));
        }
    }
    None
}

/// True minus signs, and spaces that keep a number with its unit.
fn signs(text: &str) -> String {
    let mut signs = String::with_capacity(text.len());
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied().unwrap_or(' ');
        signs.push(match c {
            '-' if matches!(before, ' ' | '[' | '(') && next.is_ascii_digit() => '−',
            ' ' if before.is_ascii_digit() && next == '%' => '\u{202f}',
            ' ' if matches!(before, '=' | '<') || (matches!(next, '=' | '<') && before == 'p') => {
                '\u{a0}'
            }
            c => c,
        });
        before = c;
    }
    signs
}

/// The figures that an answer rests on.
fn strip(html: &mut Html, evidence: &Evidence) {
    let detectors = view::detectors(evidence);
    let best = detectors.first();
    let arms = view::arms(evidence);
    // The best ranker, as in the sentences above.
    let (model, arms): (&str, &[Arm<'_>]) = arms
        .first()
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
        let of_best =
            |arm: &&Arm<'_>| arm.kind == ArmKind::Method && arm.change.method.as_deref() == method;
        let acted = view::chosen(evidence, arms)
            .and_then(|index| arms.get(index))
            .or_else(|| arms.iter().find(of_best))
            .or_else(|| arms.iter().find(|arm| arm.kind == ArmKind::Method));
        change_figure(html, acted, |arm| {
            format!("change in NDCG@10{on_model} after acting on {}", arm.name)
        });
        let bound = arms.iter().find(|arm| arm.kind == ArmKind::Bound);
        if bound.is_some() {
            change_figure(html, bound, |_| {
                format!("the same{on_model} after dropping exactly the planted samples")
            });
        }
        cost_figure(html, best);
    });
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
    list(html, "also cautions", "Read with care", &cautions);
    let others: Vec<&Conclusion> = others
        .into_iter()
        .chain(evidence.cost_conclusions.iter().skip(1))
        .collect();
    if others.len() > MOST_OTHERS {
        html.element("details", &[], |html| {
            let n = format::counted(others.len() as u64, "sentence", "sentences");
            html.leaf("summary", &[], format!("What else holds, in {n}"));
            list(html, "also", "What else holds", &others);
        });
    } else {
        list(html, "also", "What else holds", &others);
    }
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
                        sentence(html, &conclusion.text);
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
                html.element("li", &[], |html| sentence(html, &conclusion.text));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_split_after_their_first_clause() {
        assert_eq!(
            head_and_rest("A holds: 0.5; and B. C."),
            ("A holds: 0.5;", "and B. C.")
        );
        assert_eq!(head_and_rest("Only this."), ("Only this.", ""));
    }

    #[test]
    fn intervals_are_muted_and_other_brackets_are_not() {
        let mut html = Html::new();
        sentence(
            &mut html,
            "`a` at -0.1 [-0.3, +0.1] of 20 % (p = 0.5) [x, y]",
        );
        assert_eq!(
            html.into_string(),
            "<code>a</code> at −0.1 <span class=\"ci\">[−0.3, +0.1]</span> of 20\u{202f}% \
             (p\u{a0}=\u{a0}0.5) [x, y]"
        );
    }
}
