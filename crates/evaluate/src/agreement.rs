//! Whether methods agree on what is suspicious.

use metrics::{MetricError, mid_ranks, pearson, spearman, spearman_interval, top_jaccard};
use rayon::prelude::*;
use stage::{Failure, Seed};
use tables::{Metric, Part};

use crate::Config;
use crate::group::Group;
use crate::scored::{Scored, Universe};

/// Samples that a correlation is computed on; beyond, a seeded draw of so many.
const MAX_SAMPLES: usize = 200_000;

/// The rows of the family `agreement`.
pub(crate) fn evaluate(
    universe: &Universe,
    scores: &Scored,
    seed: Seed,
    config: &Config,
) -> Result<Vec<Metric>, Failure> {
    let mut pairs = Vec::new();
    for first in 0..scores.groups.len() {
        for second in first + 1..scores.groups.len() {
            if is_compared(&scores.groups[first], &scores.groups[second]) {
                pairs.push((first, second));
            }
        }
    }
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let kept = draw(universe, seed);
    // The first replicate of each group: averaging scores over seeds would be another method.
    let suspicion: Vec<Vec<Option<f64>>> = scores
        .groups
        .iter()
        .map(|group| {
            let all = &scores.suspicion[group.members[0]];
            kept.iter().map(|&sample| all[sample]).collect()
        })
        .collect();
    let ranks: Vec<Option<Vec<f64>>> = suspicion
        .par_iter()
        .map(|suspicion| suspicion.iter().copied().collect::<Option<Vec<f64>>>())
        .map(|complete| complete.map(|values| mid_ranks(&values)).transpose())
        .collect::<Result<_, MetricError>>()
        .map_err(Failure::bug)?;
    let rows: Vec<Vec<Metric>> = pairs
        .par_iter()
        .map(|&(first, second)| {
            let ranks = ranks[first].as_deref().zip(ranks[second].as_deref());
            compare(
                (&scores.groups[first], &scores.groups[second]),
                (&suspicion[first], &suspicion[second]),
                ranks,
                config.top_frac,
            )
        })
        .collect::<Result<_, MetricError>>()
        .map_err(Failure::bug)?;
    Ok(rows.into_iter().flatten().collect())
}

/// Two methods on one model, or one method on two models.
fn is_compared(first: &Group, second: &Group) -> bool {
    first.shares_axes(second, &["method"])
        || (first.method == second.method && first.shares_axes(second, &["model"]))
}

/// The samples that are compared, ascending.
fn draw(universe: &Universe, seed: Seed) -> Vec<usize> {
    let n = universe.samples.len();
    let mut kept: Vec<usize> = (0..n).collect();
    if n > MAX_SAMPLES {
        let stream = seed.child("agreement").stream();
        kept.sort_by_key(|&index| (stream.bits(universe.samples[index], 0), index));
        kept.truncate(MAX_SAMPLES);
        kept.sort_unstable();
    }
    kept
}

fn compare(
    groups: (&Group, &Group),
    suspicion: (&[Option<f64>], &[Option<f64>]),
    ranks: Option<(&[f64], &[f64])>,
    top_frac: f64,
) -> Result<Vec<Metric>, MetricError> {
    let pairs = suspicion.0.iter().zip(suspicion.1);
    let (first, second): (Vec<f64>, Vec<f64>) = pairs
        .filter_map(|(first, second)| first.zip(*second))
        .unzip();
    let n = first.len();
    let row = |metric: &str, value: f64, protocol: String| Metric {
        value,
        n: n as u64,
        label: groups.0.versus(groups.1),
        protocol,
        ..groups.0.row(
            "agreement",
            metric.to_owned(),
            Part::Training.as_str(),
            "all",
        )
    };
    let correlation = match ranks {
        Some((first, second)) => pearson(first, second)?,
        None => spearman(&first, &second)?,
    };
    let mut rows = Vec::new();
    if let Some(value) = correlation {
        let interval = spearman_interval(value, n);
        rows.push(Metric {
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
            ..row(
                "spearman",
                value,
                format!(
                    "rank correlation of suspicion with mid-ranks over the samples that both score (at most \
                     {MAX_SAMPLES}, drawn by seed); 95 % interval by Fisher's transform"
                ),
            )
        });
    }
    let size = share_of(n, top_frac);
    if let Some(value) = top_jaccard(&first, &second, size)? {
        let chance = size as f64 / (2.0 * n as f64 - size as f64);
        rows.push(row(
            "jaccard_top",
            value,
            format!(
                "Jaccard index of the {size} most suspicious samples of both, ties broken at random in \
                 expectation; two random orders give {chance:.3}"
            ),
        ));
    }
    Ok(rows)
}

/// A share of `n`, rounded up; at most `n`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the share is in (0, 1], so the product is between 0 and n"
)]
fn share_of(n: usize, share: f64) -> usize {
    ((share * n as f64).ceil() as usize).min(n)
}
