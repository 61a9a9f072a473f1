//! Binary classification: AUC, grouped AUC, logarithmic loss.

use std::collections::BTreeMap;

use crate::correlation::mid_ranks;
use crate::failure::{MetricError, check_finite, check_length};

/// Area under the ROC curve under two rules for equal scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Auc {
    /// A pair of equal scores counts one half.
    pub half_credit: f64,
    /// A pair of equal scores counts nothing.
    pub strict: f64,
}

/// Area under the ROC curve: the share of (positive, negative) pairs in the right order.
///
/// # Errors
/// If a score is not finite, the lengths differ, or a class is empty.
pub fn auc(is_positive: &[bool], scores: &[f64]) -> Result<Auc, MetricError> {
    check_length(is_positive.len(), scores.len())?;
    check_finite(scores)?;
    let n_positive = is_positive.iter().filter(|&&positive| positive).count();
    let n_negative = is_positive.len() - n_positive;
    if n_positive == 0 || n_negative == 0 {
        return Err(MetricError::OneClass);
    }
    let pairs = n_positive as f64 * n_negative as f64;
    let ranks = mid_ranks(scores)?;
    let rank_sum: f64 = ranks
        .iter()
        .zip(is_positive)
        .filter(|(_, positive)| **positive)
        .map(|(rank, _)| rank)
        .sum();
    let half = rank_sum - n_positive as f64 * (n_positive as f64 + 1.0) / 2.0;
    // Samples of one block of ties have one mid-rank, so its bits name the block.
    let mut blocks: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for (rank, &positive) in ranks.iter().zip(is_positive) {
        let block = blocks.entry(rank.to_bits()).or_default();
        if positive {
            block.0 += 1;
        } else {
            block.1 += 1;
        }
    }
    let tied_pairs: u64 = blocks.values().map(|(p, n)| p * n).sum();
    Ok(Auc {
        half_credit: half / pairs,
        strict: (half - tied_pairs as f64 / 2.0) / pairs,
    })
}

/// AUC within groups (users, queries), averaged with three weightings.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauc {
    /// Weighted by rows of the group, as DIN does.
    pub by_impressions: f64,
    /// Weighted by positives of the group.
    pub by_positives: f64,
    /// Every group alike.
    pub unweighted: f64,
    /// AUC of every group with both classes, ties counting one half.
    pub per_group: BTreeMap<u64, f64>,
    /// Groups with a single class; they have no AUC and no weight.
    pub dropped: Vec<u64>,
}

/// AUC within groups; pairs of equal scores count one half.
///
/// # Errors
/// If a score is not finite, the lengths differ, or no group has both classes.
pub fn gauc(is_positive: &[bool], scores: &[f64], groups: &[u64]) -> Result<Gauc, MetricError> {
    check_length(is_positive.len(), scores.len())?;
    check_length(is_positive.len(), groups.len())?;
    check_finite(scores)?;
    let mut rows: BTreeMap<u64, (Vec<bool>, Vec<f64>)> = BTreeMap::new();
    for ((&group, &positive), &score) in groups.iter().zip(is_positive).zip(scores) {
        let row = rows.entry(group).or_default();
        row.0.push(positive);
        row.1.push(score);
    }
    let mut per_group = BTreeMap::new();
    let mut dropped = Vec::new();
    let (mut impressions, mut positives, mut plain) = ((0.0, 0.0), (0.0, 0.0), 0.0);
    for (group, (is_positive, scores)) in rows {
        let Ok(Auc { half_credit, .. }) = auc(&is_positive, &scores) else {
            dropped.push(group);
            continue;
        };
        let n = is_positive.len() as f64;
        let p = is_positive.iter().filter(|&&positive| positive).count() as f64;
        impressions = (impressions.0 + n * half_credit, impressions.1 + n);
        positives = (positives.0 + p * half_credit, positives.1 + p);
        plain += half_credit;
        per_group.insert(group, half_credit);
    }
    if per_group.is_empty() {
        return Err(MetricError::OneClass);
    }
    Ok(Gauc {
        by_impressions: impressions.0 / impressions.1,
        by_positives: positives.0 / positives.1,
        unweighted: plain / per_group.len() as f64,
        per_group,
        dropped,
    })
}

/// Mean of -ln(probability given to the true class); infinite if a certain prediction is wrong.
///
/// # Errors
/// If a probability is outside `[0, 1]`, the lengths differ, or there are no rows.
pub fn log_loss(is_positive: &[bool], probabilities: &[f64]) -> Result<f64, MetricError> {
    check_length(is_positive.len(), probabilities.len())?;
    check_finite(probabilities)?;
    if probabilities.is_empty() {
        return Err(MetricError::Empty);
    }
    if let Some(index) = probabilities.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(MetricError::OutOfRange { index });
    }
    let sum: f64 = is_positive
        .iter()
        .zip(probabilities)
        .map(|(&positive, &p)| -libm::log(if positive { p } else { 1.0 - p }))
        .sum();
    Ok(sum / probabilities.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn three_pairs_by_hand() {
        // Positive .5 beats .2, ties .5, loses to .9.
        let found = auc(&[true, false, false, false], &[0.5, 0.2, 0.5, 0.9]).unwrap();
        assert!((found.half_credit - 0.5).abs() < 1e-12);
        assert!((found.strict - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn one_class_has_no_auc() {
        assert_eq!(auc(&[true, true], &[0.1, 0.2]), Err(MetricError::OneClass));
        assert_eq!(
            auc(&[true, false], &[0.1, f64::INFINITY]),
            Err(MetricError::NotFinite { index: 1 })
        );
    }

    #[test]
    fn weightings_differ_where_groups_do() {
        // Group 0: AUC 1 with 3 rows and 1 positive; group 1: AUC 0 with 2 rows and 1 positive.
        let found = gauc(
            &[true, false, false, true, false, true],
            &[0.9, 0.1, 0.2, 0.1, 0.9, 0.4],
            &[0, 0, 0, 1, 1, 7],
        )
        .unwrap();
        assert!((found.by_impressions - 0.6).abs() < 1e-12);
        assert!((found.by_positives - 0.5).abs() < 1e-12);
        assert!((found.unweighted - 0.5).abs() < 1e-12);
        assert_eq!(found.dropped, [7]);
    }

    #[test]
    fn log_loss_of_even_odds_is_the_logarithm_of_two() {
        let found = log_loss(&[true, false], &[0.5, 0.5]).unwrap();
        assert!((found - std::f64::consts::LN_2).abs() < 1e-15);
        assert_eq!(
            log_loss(&[true], &[1.5]),
            Err(MetricError::OutOfRange { index: 0 })
        );
        assert!(log_loss(&[true], &[0.0]).unwrap().is_infinite());
    }

    proptest! {
        #[test]
        fn auc_is_what_counting_pairs_says(
            rows in prop::collection::vec((any::<bool>(), 0_i32..8), 2..40)
        ) {
            let positive: Vec<bool> = rows.iter().map(|row| row.0).collect();
            let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.1)).collect();
            let (mut pairs, mut above, mut tied) = (0.0, 0.0, 0.0);
            for a in rows.iter().filter(|row| row.0) {
                for b in rows.iter().filter(|row| !row.0) {
                    pairs += 1.0;
                    if a.1 > b.1 { above += 1.0; }
                    if a.1 == b.1 { tied += 1.0; }
                }
            }
            match auc(&positive, &scores) {
                Ok(found) => {
                    prop_assert!((found.half_credit - (above + tied / 2.0) / pairs).abs() < 1e-12);
                    prop_assert!((found.strict - above / pairs).abs() < 1e-12);
                }
                Err(error) => {
                    prop_assert_eq!(error, MetricError::OneClass);
                    prop_assert!(pairs < 0.5);
                }
            }
        }
    }
}
