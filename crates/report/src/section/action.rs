//! What acting on the scores changed.

use std::fmt::Write as _;

use stage::Label;
use tables::Metric;

use super::{Section, figure, fold, missing};
use crate::chart::{Band, DotRow, Dots, Mark, Reference};
use crate::evidence::{Evidence, Spread};
use crate::format::Shown;
use crate::html::Html;
use crate::measure::measure;
use crate::table::{Best, Cell, Column, ResultTable, Row};
use crate::view::{self, Arm, ArmKind};

/// Other metrics whose change is shown, as far as they were measured.
const OTHERS: [&str; 7] = [
    "accuracy",
    "hit_rate@10",
    "precision@10",
    "recall@10",
    "f1@10",
    "ndcg@10",
    "mrr@10",
];

pub(super) fn section(evidence: &Evidence) -> Section {
    let mut body = Html::new();
    let mut tables = Vec::new();
    let by_model = view::arms(evidence);
    if by_model.is_empty() {
        missing(
            &mut body,
            evidence,
            "metrics",
            "training again after acting on scores",
        );
    } else {
        for (index, (model, arms)) in by_model.iter().enumerate() {
            let title = if model.is_empty() { "the model" } else { model };
            if by_model.len() > 1 {
                body.leaf("h3", &[], title);
            }
            // What holds for all plots is said under the first.
            let caption = if index == 0 {
                caption(evidence, title, arms)
            } else {
                format!("Change of NDCG@10 of {title}, read as above.")
            };
            figure(&mut body, &plot(evidence, arms).draw(), &caption);
        }
        fold(&mut body, &mut tables, table(evidence, &by_model));
        let further = [others(evidence, &by_model), requests(evidence, &by_model)];
        for table in further.into_iter().flatten() {
            fold(&mut body, &mut tables, table);
        }
    }
    Section {
        id: "action",
        title: "What acting on it changed",
        guide: "Each arm drops training samples or features, or changes their weights, trains the model again and is judged on the same test \
                requests: right of zero the ranking got better. An arm earns its keep where it \
                beats dropping as many samples at random."
            .to_owned(),
        body,
        tables,
    }
}

/// The name of an arm: that of its method, or what it did in words.
fn name(arm: &Arm<'_>) -> Cell {
    if arm.change.method.is_some() {
        Cell::Code(arm.name.clone())
    } else {
        Cell::Text(arm.name.clone())
    }
}

/// What an arm did, where the pipeline says it in words; evaluate falls back on the node's name.
fn words<'a>(arm: &Arm<'a>) -> Option<&'a str> {
    arm.change
        .action
        .as_deref()
        .filter(|action| *action != arm.change.node)
}

fn caption(evidence: &Evidence, model: &str, arms: &[Arm<'_>]) -> String {
    let actions = view::distinct(
        arms.iter()
            .filter(|arm| arm.kind != ArmKind::Bound)
            .filter_map(words),
    );
    let mut text = format!("Change of NDCG@10 of {model} on the test requests");
    if let [action] = actions[..] {
        let _ = write!(text, " ({action})");
    }
    text.push_str("; bars are 95 % intervals of the paired difference.");
    if arms.iter().any(|arm| arm.kind == ArmKind::Random) {
        text.push_str(" The shade is the interval of dropping at random.");
    }
    if view::chosen(evidence, arms).is_some() {
        text.push_str(
            " The chosen arm was the best on valuation.tune, without a look at the test.",
        );
    }
    if arms.iter().any(|arm| arm.kind == ArmKind::Bound) {
        text.push_str(" The diamond drops exactly the planted samples, which nobody could know.");
    }
    text
}

fn plot(evidence: &Evidence, arms: &[Arm<'_>]) -> Dots {
    let chosen = view::chosen(evidence, arms);
    let best = best(arms).filter(|_| chosen.is_none());
    let rows = arms.iter().enumerate().map(|(index, arm)| DotRow {
        label: arm.name.clone(),
        note: match arm.kind {
            ArmKind::Bound => "what perfect detection gives".to_owned(),
            ArmKind::Random => "drops at random".to_owned(),
            ArmKind::Method => String::new(),
        },
        value: arm.change.value,
        interval: view::interval(arm.change),
        mark: match arm.kind {
            ArmKind::Bound => Mark::Bound,
            ArmKind::Method if chosen == Some(index) => Mark::Chosen,
            ArmKind::Method if best == Some(index) => Mark::Best,
            ArmKind::Method | ArmKind::Random => Mark::Plain,
        },
        is_baseline: arm.kind == ArmKind::Random,
    });
    let band = arms
        .iter()
        .find(|arm| arm.kind == ArmKind::Random)
        .and_then(|arm| view::interval(arm.change))
        .map(|(low, high)| Band { low, high });
    Dots {
        title: "change".to_owned(),
        rows: rows.collect(),
        reference: Some(Reference {
            value: 0.0,
            label: "as trained on everything",
        }),
        band,
        has_stems: true,
        shown: Shown::Signed(4),
    }
}

/// The arm of a method that changed most for the better, if any did.
fn best(arms: &[Arm<'_>]) -> Option<usize> {
    (0..arms.len())
        .filter(|index| arms[*index].kind == ArmKind::Method && arms[*index].change.value > 0.0)
        .max_by(|a, b| {
            let (a, b) = (&arms[*a], &arms[*b]);
            a.change.value.total_cmp(&b.change.value)
        })
}

fn p_value(metric: Option<&Metric>) -> Cell {
    metric
        .and_then(|metric| metric.p_value)
        .map_or(Cell::Empty, |p| Cell::plain(p, Shown::Probability))
}

fn table(evidence: &Evidence, by_model: &[(&str, Vec<Arm<'_>>)]) -> ResultTable {
    let is_counted = evidence
        .metrics
        .iter()
        .any(|metric| metric.metric == view::REMOVED);
    let mut columns = vec![
        Column::new("model", "model"),
        Column::new("arm", "dropped by"),
        Column::new("action", "action").for_files(),
    ];
    if is_counted {
        columns.push(Column::new("n_removed", "samples dropped"));
    }
    columns.extend([
        Column::new("ndcg_10", "NDCG@10")
            .best(Best::Highest)
            .with_interval(),
        Column::new("change", "change").with_interval(),
        Column::new("change_p", "p"),
        Column::new("against_random", "against random").with_interval(),
        Column::new("against_random_p", "p"),
        Column::new("against_oracle", "against the planted dropped").with_interval(),
        Column::new("against_oracle_p", "p"),
    ]);
    let mut rows = Vec::new();
    for (model, arms) in by_model {
        if let Some(base) = view::base(evidence, model) {
            let mut cells = vec![
                Cell::Code((*model).to_owned()),
                Cell::Text("nothing dropped".to_owned()),
                Cell::Empty,
            ];
            cells.extend(is_counted.then_some(Cell::Count(0)));
            cells.push(view::cell(base));
            cells.resize(columns.len(), Cell::Empty);
            rows.push(Row::new(cells).group(*model).reference(true));
        }
        for arm in arms {
            let of = |name: &str| view::of_arm(evidence, arm.change, name);
            let figure = |name: &str| of(name).map_or(Cell::Empty, view::cell);
            let action = words(arm).map_or(Cell::Empty, |text| Cell::Note(text.to_owned()));
            let mut cells = vec![Cell::Code((*model).to_owned()), name(arm), action];
            if is_counted {
                let removed = view::removed_by(evidence, arm.change);
                cells.push(removed.map_or(Cell::Empty, view::cell));
            }
            cells.extend([
                figure(view::RANKING),
                figure(view::CHANGE),
                p_value(of(view::CHANGE)),
                figure("ndcg@10_vs_random"),
                p_value(of("ndcg@10_vs_random")),
                figure("ndcg@10_vs_oracle"),
                p_value(of("ndcg@10_vs_oracle")),
            ]);
            rows.push(
                Row::new(cells)
                    .group(*model)
                    .reference(arm.kind != ArmKind::Method),
            );
        }
    }
    ResultTable {
        name: "action".to_owned(),
        is_grouped: true,
        title: "NDCG@10 after acting, and its paired differences".to_owned(),
        note:
            "p: two-sided, after Holm correction over the arms. A share is one of all samples; a \
               method that cannot score as many drops fewer than the random arm, and a caution \
               says so."
                .to_owned(),
        columns,
        rows,
    }
}

/// Changes of the other metrics.
fn others(evidence: &Evidence, by_model: &[(&str, Vec<Arm<'_>>)]) -> Option<ResultTable> {
    let changes: Vec<(&str, String)> = OTHERS
        .iter()
        .map(|name| (*name, format!("{name}_vs_base")))
        .filter(|(_, change)| {
            evidence
                .metrics
                .iter()
                .any(|metric| metric.family == "action" && metric.metric == *change)
        })
        .collect();
    if changes.len() < 2 {
        return None;
    }
    let mut columns = vec![
        Column::new("model", "model"),
        Column::new("arm", "dropped by"),
    ];
    columns.extend(changes.iter().map(|(name, change)| {
        Column::new(change.as_str(), measure("action", name).title)
            .best(Best::Highest)
            .with_interval()
    }));
    let mut rows = Vec::new();
    for (model, arms) in by_model {
        for arm in arms {
            let mut cells = vec![Cell::Code((*model).to_owned()), name(arm)];
            cells.extend(changes.iter().map(|(_, change)| {
                view::of_arm(evidence, arm.change, change).map_or(Cell::Empty, view::cell)
            }));
            rows.push(
                Row::new(cells)
                    .group(*model)
                    .reference(arm.kind != ArmKind::Method),
            );
        }
    }
    Some(ResultTable {
        name: "action_changes".to_owned(),
        is_grouped: true,
        title: "Change of every metric after acting".to_owned(),
        note: "Paired differences from the model trained on everything.".to_owned(),
        columns,
        rows,
    })
}

/// For how many requests acting made the ranking better or worse.
fn requests(evidence: &Evidence, by_model: &[(&str, Vec<Arm<'_>>)]) -> Option<ResultTable> {
    let mut rows = Vec::new();
    for (model, arms) in by_model {
        let Some(base) = base_spread(evidence, model) else {
            continue;
        };
        for arm in arms {
            let Some(spread) = arm_spread(evidence, arm) else {
                continue;
            };
            let counts = spread.against(base);
            let n: u64 = counts.iter().sum();
            if n == 0 {
                continue;
            }
            let mut cells = vec![Cell::Code((*model).to_owned()), name(arm)];
            cells.extend(counts.map(|count| Cell::plain(count as f64 / n as f64, Shown::Percent)));
            cells.push(Cell::Count(n));
            rows.push(Row::new(cells));
        }
    }
    (!rows.is_empty()).then(|| ResultTable {
        name: "action_requests".to_owned(),
        is_grouped: true,
        title: "Test requests by what acting did to their NDCG@10".to_owned(),
        note: "A mean hides how many requests gain and how many lose.".to_owned(),
        columns: vec![
            Column::new("model", "model"),
            Column::new("arm", "dropped by"),
            Column::new("better", "better"),
            Column::new("same", "same"),
            Column::new("worse", "worse"),
            Column::new("n", "requests"),
        ],
        rows,
    })
}

/// The requests of the one base with this model, if there is just one.
fn base_spread<'a>(evidence: &'a Evidence, model: &str) -> Option<&'a Spread> {
    let bases = view::distinct(
        evidence
            .metrics
            .iter()
            .filter(|metric| metric.family == "ranking")
            .map(|metric| metric.node.as_str()),
    );
    one(evidence.spreads.iter().filter(|((node, label), _)| {
        bases.contains(&node.as_str())
            && Label::parse(label).is_some_and(|label| label.get("model").unwrap_or("") == model)
    }))
}

/// The requests of an arm, if there is just one such.
fn arm_spread<'a>(evidence: &'a Evidence, arm: &Arm<'_>) -> Option<&'a Spread> {
    one(evidence.spreads.iter().filter(|((node, label), _)| {
        let label = Label::parse(label).unwrap_or_default();
        *node == arm.change.node
            && label.get("model") == arm.change.model.as_deref()
            && label.get("method") == arm.change.method.as_deref()
    }))
}

fn one<'a>(
    mut found: impl Iterator<Item = (&'a (String, String), &'a Spread)>,
) -> Option<&'a Spread> {
    let (_, first) = found.next()?;
    found.next().is_none().then_some(first)
}
