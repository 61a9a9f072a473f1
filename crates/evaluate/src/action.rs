//! What acting on scores changed: models trained after acting, beside their bases.

use metrics::{Interval, holm};
use rayon::prelude::*;
use stage::{Exit, Failure, Seed};
use tables::{Metric, Part};

use crate::Config;
use crate::answers::{Answered, Kind, MetricAt, Requests, Segment};
use crate::figures::{Figures, intervals};
use crate::group::Group;
use crate::ranking::{PRIMARY, over_seeds, protocol};

/// Metrics of an action.
const METRICS: [MetricAt; 5] = [
    PRIMARY,
    MetricAt(Kind::HitRate, 10),
    MetricAt(Kind::Mrr, 10),
    MetricAt(Kind::Recall, 10),
    MetricAt(Kind::HitRate, 1),
];

/// Method whose arm acts at random.
pub(crate) const AT_RANDOM: &str = "random";

/// What an arm is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Against {
    Base,
    Random,
    Oracle,
}

impl Against {
    fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Random => "random",
            Self::Oracle => "oracle",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Base => "the same model trained on all samples",
            Self::Random => "the same model after the same action at random",
            Self::Oracle => "the same model after dropping exactly the planted samples",
        }
    }
}

/// One arm: a group of acted predictions and what it is compared with.
struct Arm {
    group: usize,
    base: usize,
    random: Option<usize>,
    oracle: Option<usize>,
}

/// The rows of the family `action`.
pub(crate) fn evaluate(
    requests: &Requests,
    base: &Answered,
    acted: &Answered,
    seed: Seed,
    config: &Config,
) -> Result<Vec<Metric>, Failure> {
    if acted.groups.is_empty() {
        return Ok(Vec::new());
    }
    let arms = arms(base, acted, config)?;
    let mut rows = Vec::new();
    for part in requests.parts(acted) {
        for segment in [Segment::All, Segment::New] {
            rows.extend(compare(
                requests,
                base,
                acted,
                &arms,
                (part, segment),
                seed,
                config,
            )?);
        }
    }
    Ok(rows)
}

/// Nodes that drop exactly the planted samples: the one that the configuration names, else those
/// without a method whose names say so.
pub(crate) fn oracles(acted: &Answered, config: &Config) -> Vec<String> {
    if let Some(node) = &config.oracle {
        return vec![node.clone()];
    }
    let says_so = |group: &&Group| {
        group.method.is_none()
            && ["planted", "oracle"]
                .iter()
                .any(|word| group.node.contains(word))
    };
    acted
        .groups
        .iter()
        .filter(says_so)
        .map(|group| group.node.clone())
        .collect()
}

fn is_at_random(group: &Group) -> bool {
    group.method.as_deref() == Some(AT_RANDOM)
}

/// Finds for every arm its base, its random arm and its oracle arm.
fn arms(base: &Answered, acted: &Answered, config: &Config) -> Result<Vec<Arm>, Failure> {
    let groups = &acted.groups;
    let oracles = oracles(acted, config);
    let is_oracle = |group: &Group| oracles.contains(&group.node);
    groups
        .iter()
        .enumerate()
        .map(|(index, group)| {
            let same = |other: &Group| group.shares_axes(other, &["method"]);
            let random = |other: &&usize| is_at_random(&groups[**other]) && same(&groups[**other]);
            let all: Vec<usize> = (0..groups.len()).filter(|&other| other != index).collect();
            // Two actions (drop a tenth, drop a fifth) are two nodes, each with a random arm.
            let of_node = all
                .iter()
                .find(|other| groups[**other].node == group.node && random(other));
            Ok(Arm {
                group: index,
                base: base_of(base, group)?,
                random: of_node.or_else(|| all.iter().find(random)).copied(),
                oracle: all
                    .iter()
                    .find(|&&other| is_oracle(&groups[other]) && same(&groups[other]))
                    .copied(),
            })
        })
        .collect()
}

/// The base group of the same model and other shared axes.
fn base_of(base: &Answered, group: &Group) -> Result<usize, Failure> {
    let fitting: Vec<usize> = (0..base.groups.len())
        .filter(|&index| group.shares_axes(&base.groups[index], &["method"]))
        .collect();
    match fitting.as_slice() {
        [one] => Ok(*one),
        found => {
            let names: Vec<String> = found
                .iter()
                .map(|&index| {
                    format!(
                        "`{}` [{}]",
                        base.groups[index].node, base.groups[index].axes
                    )
                })
                .collect();
            let found = if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            };
            Err(Failure::new(
                Exit::Configuration,
                format!(
                    "no single base of `{}` [{}] among `predictions`: {found}",
                    group.node, group.axes
                ),
            )
            .hint("give the acting node the same axis `model` as the base, such as `for: { model: [markov] }`"))
        }
    }
}

/// One comparison of an arm with something.
struct Comparison {
    arm: usize,
    against: Against,
    difference: Figures,
}

fn compare(
    requests: &Requests,
    base: &Answered,
    acted: &Answered,
    arms: &[Arm],
    (part, segment): (Part, Segment),
    seed: Seed,
    config: &Config,
) -> Result<Vec<Metric>, Failure> {
    let of = |answered: &Answered| {
        let groups = answered.groups.iter();
        groups
            .map(|group| answered.figures(requests, group, part, segment, &METRICS))
            .collect::<Result<Vec<_>, _>>()
    };
    let (bases, acts) = (of(base)?, of(acted)?);
    let mut comparisons = Vec::new();
    for (index, arm) in arms.iter().enumerate() {
        let others = [
            (Against::Base, Some(&bases[arm.base].0)),
            (Against::Random, arm.random.map(|other| &acts[other].0)),
            (
                Against::Oracle,
                arm.oracle
                    .filter(|_| !is_at_random(&acted.groups[arm.group]))
                    .map(|other| &acts[other].0),
            ),
        ];
        for (against, other) in others {
            if let Some(other) = other {
                let difference = acts[arm.group].0.minus(other)?;
                if difference.n() > 0 {
                    comparisons.push(Comparison {
                        arm: index,
                        against,
                        difference,
                    });
                }
            }
        }
    }
    let mut tables: Vec<&Figures> = bases.iter().chain(&acts).map(|pair| &pair.0).collect();
    tables.extend(comparisons.iter().map(|comparison| &comparison.difference));
    let found = intervals(&tables, seed, config.resamples)?;
    let (found_bases, found) = found.split_at(bases.len());
    let (found_acts, found_comparisons) = found.split_at(acts.len());
    let corrected = corrected(&comparisons, seed, config)?;

    let mut rows = Vec::new();
    for (index, group) in base.groups.iter().enumerate() {
        if arms.iter().any(|arm| arm.base == index) {
            rows.extend(own(
                group,
                None,
                &bases[index].0,
                &found_bases[index],
                (part, segment),
                config,
            ));
        }
    }
    for (index, arm) in arms.iter().enumerate() {
        let group = &acted.groups[arm.group];
        let action = config.arms.get(&group.node).unwrap_or(&group.node).clone();
        let (figures, replicates) = &acts[arm.group];
        rows.extend(own(
            group,
            Some(&action),
            figures,
            &found_acts[arm.group],
            (part, segment),
            config,
        ));
        let mut spread = over_seeds(group, &METRICS, replicates, part, segment);
        for row in &mut spread {
            "action".clone_into(&mut row.family);
            row.action = Some(action.clone());
        }
        rows.extend(spread);
        for (at, comparison) in comparisons
            .iter()
            .enumerate()
            .filter(|(_, c)| c.arm == index)
        {
            let row = |name| Metric {
                action: Some(action.clone()),
                ..group.row("action", name, part.as_str(), segment.name())
            };
            rows.extend(compared(
                comparison,
                &found_comparisons[at],
                &corrected[at],
                row,
                segment,
                config,
            ));
        }
    }
    Ok(rows)
}

/// The rows of one comparison. `row` makes an empty row of a name.
fn compared(
    comparison: &Comparison,
    intervals: &[Option<Interval>],
    (p_values, n_family): &(Vec<f64>, usize),
    row: impl Fn(String) -> Metric,
    segment: Segment,
    config: &Config,
) -> Vec<Metric> {
    let means = comparison.difference.columns.means();
    let rows = METRICS.iter().enumerate().map(|(column, metric)| Metric {
        value: means[column],
        low: intervals[column].map(|interval| interval.low),
        high: intervals[column].map(|interval| interval.high),
        p_value: Some(p_values[column]),
        n: comparison.difference.n(),
        protocol: format!(
            "this arm minus {}, paired by request; {}; 95 % percentile bootstrap; two-sided sign-flip test \
             ({} permutations), Holm over {n_family} such comparisons",
            comparison.against.meaning(),
            segment.meaning(),
            config.permutations,
        ),
        ..row(format!("{}_vs_{}", metric.name(), comparison.against.name()))
    });
    rows.collect()
}

/// P-values after Holm's correction by comparison and metric, and the size of its family: the
/// comparisons with the same thing, for every arm, model and action.
fn corrected(
    comparisons: &[Comparison],
    seed: Seed,
    config: &Config,
) -> Result<Vec<(Vec<f64>, usize)>, Failure> {
    let raw: Vec<Vec<f64>> = comparisons
        .par_iter()
        .map(|comparison| comparison.difference.p_values(seed, config.permutations))
        .collect::<Result<_, _>>()?;
    let mut corrected = vec![(Vec::new(), 0); comparisons.len()];
    for against in [Against::Base, Against::Random, Against::Oracle] {
        let family: Vec<usize> = (0..comparisons.len())
            .filter(|&index| comparisons[index].against == against)
            .collect();
        for (column, _) in METRICS.iter().enumerate() {
            let p_values: Vec<f64> = family.iter().map(|&index| raw[index][column]).collect();
            for (&index, p_value) in family.iter().zip(holm(&p_values)) {
                corrected[index].0.push(p_value);
                corrected[index].1 = family.len();
            }
        }
    }
    Ok(corrected)
}

/// The figures of one model, not compared with anything.
fn own(
    group: &Group,
    action: Option<&str>,
    figures: &Figures,
    intervals: &[Option<Interval>],
    (part, segment): (Part, Segment),
    config: &Config,
) -> Vec<Metric> {
    if figures.n() == 0 {
        return Vec::new();
    }
    let means = figures.columns.means();
    let rows = METRICS.iter().enumerate().map(|(column, &metric)| Metric {
        action: action.map(str::to_owned),
        value: means[column],
        low: intervals[column].map(|interval| interval.low),
        high: intervals[column].map(|interval| interval.high),
        n: figures.n(),
        protocol: protocol(metric, segment, config.resamples),
        ..group.row("action", metric.name(), part.as_str(), segment.name())
    });
    rows.collect()
}
