//! Ranking quality of the base models, by part and segment.

use std::collections::BTreeSet;

use metrics::{Ranks, holm};
use stage::{Failure, Seed};
use tables::{Metric, Part, PerRequest};

use crate::Config;
use crate::answers::{Answer, Answered, COVERED, Kind, MetricAt, Requests, Segment};
use crate::figures::{Figures, intervals, spread};
use crate::group::Group;

/// Cut-offs of every metric.
const CUT_OFFS: [usize; 3] = [5, 10, 20];

/// The metric that models are compared by.
pub(crate) const PRIMARY: MetricAt = MetricAt(Kind::Ndcg, 10);

/// All metrics of one request, in the order of the table.
fn all_metrics() -> Vec<MetricAt> {
    let mut all = vec![MetricAt(Kind::HitRate, 1)];
    for k in CUT_OFFS {
        for kind in [
            Kind::HitRate,
            Kind::Precision,
            Kind::Recall,
            Kind::F1,
            Kind::Ndcg,
            Kind::Mrr,
            Kind::Map,
        ] {
            all.push(MetricAt(kind, k));
        }
    }
    all
}

/// What every ranking figure has in common.
pub(crate) fn protocol(metric: MetricAt, segment: Segment, resamples: u64) -> String {
    format!(
        "{}; {}; full ranking, mid-rank ties, a missing prediction and a cold item are misses; \
         mean over requests with a relevant item, 95 % percentile bootstrap over them ({resamples} resamples)",
        metric.meaning(),
        segment.meaning()
    )
}

/// The rows of the family `ranking`.
pub(crate) fn evaluate(
    requests: &Requests,
    base: &Answered,
    seed: Seed,
    config: &Config,
) -> Result<Vec<Metric>, Failure> {
    let metrics = all_metrics();
    let mut rows = Vec::new();
    for part in requests.parts(base) {
        for segment in Segment::ALL {
            let mut averages = Vec::new();
            let mut replicates = Vec::new();
            for group in &base.groups {
                let (average, each) = base.figures(requests, group, part, segment, &metrics)?;
                averages.push(average);
                replicates.push(each);
            }
            let found = intervals(&averages.iter().collect::<Vec<_>>(), seed, config.resamples)?;
            for (index, group) in base.groups.iter().enumerate() {
                let figures = &averages[index];
                if figures.n() == 0 {
                    continue;
                }
                for (column, (&metric, value)) in
                    metrics.iter().zip(figures.columns.means()).enumerate()
                {
                    let interval = found[index][column];
                    rows.push(Metric {
                        value,
                        low: interval.map(|interval| interval.low),
                        high: interval.map(|interval| interval.high),
                        n: figures.n(),
                        protocol: protocol(metric, segment, config.resamples),
                        ..group.row("ranking", metric.name(), part.as_str(), segment.name())
                    });
                }
                rows.extend(over_seeds(
                    group,
                    &metrics,
                    &replicates[index],
                    part,
                    segment,
                ));
            }
            if segment == Segment::All {
                rows.extend(against_each_other(
                    &base.groups,
                    &averages,
                    part,
                    seed,
                    config,
                )?);
            }
        }
        for group in &base.groups {
            // Replicates answer the same requests: the first one speaks for all.
            let answers: Vec<&Answer> = requests
                .rows
                .iter()
                .zip(&base.inputs[group.members[0]].by_request)
                .filter(|(row, _)| row.part == part)
                .filter_map(|(_, answer)| answer.as_ref())
                .filter(|answer| !answer.is_missing)
                .collect();
            rows.extend(shares(group, &answers, part));
            rows.extend(coverage(group, &answers, part, requests.n_vocabulary));
        }
    }
    Ok(rows)
}

/// Spread over seeds, where there are several.
pub(crate) fn over_seeds(
    group: &Group,
    metrics: &[MetricAt],
    replicates: &[Figures],
    part: Part,
    segment: Segment,
) -> Vec<Metric> {
    let means: Vec<Vec<f64>> = replicates
        .iter()
        .map(|figures| figures.columns.means())
        .collect();
    metrics
        .iter()
        .enumerate()
        .filter_map(|(column, metric)| {
            let values: Vec<f64> = means.iter().map(|means| means[column]).collect();
            Some(Metric {
                value: spread(&values)?,
                n: values.len() as u64,
                protocol: "standard deviation over seeds; n counts seeds".to_owned(),
                ..group.row(
                    "ranking",
                    format!("{}_seed_std", metric.name()),
                    part.as_str(),
                    segment.name(),
                )
            })
        })
        .collect()
}

/// Paired differences of the primary metric between every two models.
fn against_each_other(
    groups: &[Group],
    averages: &[Figures],
    part: Part,
    seed: Seed,
    config: &Config,
) -> Result<Vec<Metric>, Failure> {
    let column = all_metrics()
        .iter()
        .position(|&metric| metric == PRIMARY)
        .unwrap_or(0);
    let mut pairs = Vec::new();
    let mut differences = Vec::new();
    for first in 0..groups.len() {
        for second in first + 1..groups.len() {
            let difference =
                only(&averages[first], column)?.minus(&only(&averages[second], column)?)?;
            if difference.n() > 0 {
                pairs.push((first, second));
                differences.push(difference);
            }
        }
    }
    let found = intervals(
        &differences.iter().collect::<Vec<_>>(),
        seed,
        config.resamples,
    )?;
    let mut p_values = Vec::new();
    for difference in &differences {
        p_values.extend(difference.p_values(seed, config.permutations)?);
    }
    let corrected = holm(&p_values);
    let rows = pairs.iter().enumerate().map(|(index, &(first, second))| {
        let name = format!("{}_vs_other", PRIMARY.name());
        Metric {
            value: differences[index].columns.means()[0],
            low: found[index][0].map(|interval| interval.low),
            high: found[index][0].map(|interval| interval.high),
            p_value: Some(corrected[index]),
            n: differences[index].n(),
            label: groups[first].versus(&groups[second]),
            protocol: format!(
                "this model minus the other, paired by request; 95 % percentile bootstrap; \
                 two-sided sign-flip test ({} permutations), Holm over {} pairs",
                config.permutations,
                pairs.len()
            ),
            ..groups[first].row("ranking", name, part.as_str(), Segment::All.name())
        }
    });
    Ok(rows.collect())
}

/// One column alone.
fn only(figures: &Figures, column: usize) -> Result<Figures, Failure> {
    let mut columns = metrics::Columns::new(1);
    for row in 0..figures.columns.n_rows() {
        columns
            .push(&[figures.columns.row(row)[column]])
            .map_err(Failure::bug)?;
    }
    Ok(Figures {
        members: figures.members.clone(),
        columns,
    })
}

/// Shares of repeats and of cold items among the relevant items.
fn shares(group: &Group, answers: &[&Answer], part: Part) -> Vec<Metric> {
    let n_relevant: usize = answers.iter().map(|answer| answer.relevant.len()).sum();
    if n_relevant == 0 {
        return Vec::new();
    }
    let n_repeats: usize = answers
        .iter()
        .map(|answer| answer.is_repeat.iter().filter(|&&repeat| repeat).count())
        .sum();
    let n_cold: usize = answers.iter().map(|answer| answer.n_cold()).sum();
    let row = |name: &str, count: usize, protocol: &str| Metric {
        value: count as f64 / n_relevant as f64,
        n: n_relevant as u64,
        protocol: protocol.to_owned(),
        ..group.row(
            "ranking",
            name.to_owned(),
            part.as_str(),
            Segment::All.name(),
        )
    };
    vec![
        row(
            "repeat_frac",
            n_repeats,
            "share of the relevant items that are in the history; n counts relevant items",
        ),
        row(
            "cold_frac",
            n_cold,
            "share of the relevant items that are no candidates and so always misses; n counts relevant items",
        ),
    ]
}

/// Share of the training items that occur in some list of ten.
fn coverage(
    group: &Group,
    answers: &[&Answer],
    part: Part,
    n_vocabulary: Option<usize>,
) -> Option<Metric> {
    let n_vocabulary = n_vocabulary.filter(|&n| n > 0)?;
    let is_cut = |answer: &&Answer| answer.top.len() < COVERED.min(answer.n_candidates as usize);
    if answers.iter().any(is_cut) {
        return None;
    }
    let items: BTreeSet<u32> = answers
        .iter()
        .flat_map(|answer| answer.top.iter().copied())
        .collect();
    Some(Metric {
        value: items.len() as f64 / n_vocabulary as f64,
        n: answers.len() as u64,
        protocol: "distinct items in the lists of ten / items of the training part".to_owned(),
        ..group.row(
            "ranking",
            format!("coverage@{COVERED}"),
            part.as_str(),
            Segment::All.name(),
        )
    })
}

/// Figures of single requests of all predictions, in the order of the table.
pub(crate) fn per_request(
    requests: &Requests,
    base: &Answered,
    acted: &Answered,
) -> Vec<PerRequest> {
    let mut rows = Vec::new();
    for (role, answered) in [("predictions", base), ("acted", acted)] {
        for input in &answered.inputs {
            let node = input.label.get("node").unwrap_or(role);
            let label = input.label.without("node").to_string();
            for (request, answer) in requests.rows.iter().zip(&input.by_request) {
                let Some(ranks) = answer
                    .as_ref()
                    .and_then(|answer| answer.ranks(Segment::All))
                else {
                    continue;
                };
                rows.push(per_request_row(node, &label, request, &ranks));
            }
        }
    }
    rows.sort_by(|a, b| (&a.node, &a.label, a.request).cmp(&(&b.node, &b.label, b.request)));
    rows
}

fn per_request_row(
    node: &str,
    label: &str,
    request: &tables::Request,
    ranks: &Ranks,
) -> PerRequest {
    PerRequest {
        node: node.to_owned(),
        label: label.to_owned(),
        request: request.request,
        part: request.part,
        n_relevant: u32::try_from(ranks.n_relevant()).unwrap_or(u32::MAX),
        hit_rate_10: ranks.hit_rate(10),
        ndcg_10: ranks.ndcg(10),
        mrr_10: ranks.reciprocal_rank(10),
        recall_10: ranks.recall(10),
    }
}
