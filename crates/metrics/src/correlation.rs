//! Agreement of two orders: mid-ranks, Spearman, Kendall, the LDS, overlap of the top.

use crate::bootstrap::Interval;
use crate::failure::{MetricError, check_finite, check_length};

/// 1-based ranks in ascending order; equal values share the mean of their ranks.
///
/// # Errors
/// If a value is not finite.
pub fn mid_ranks(values: &[f64]) -> Result<Vec<f64>, MetricError> {
    check_finite(values)?;
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| plain(values[a]).total_cmp(&plain(values[b])));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for block in order.chunk_by(|&a, &b| plain(values[a]).total_cmp(&plain(values[b])).is_eq()) {
        let rank = start as f64 + f64::midpoint(block.len() as f64, 1.0);
        for &index in block {
            ranks[index] = rank;
        }
        start += block.len();
    }
    Ok(ranks)
}

/// The value with -0.0 made 0.0: the two are equal and must tie.
pub(crate) fn plain(value: f64) -> f64 {
    value + 0.0
}

/// Correlation of two series; `None` if one of them is constant or shorter than 2.
///
/// # Errors
/// If a value is not finite or the lengths differ.
pub fn pearson(x: &[f64], y: &[f64]) -> Result<Option<f64>, MetricError> {
    check_length(x.len(), y.len())?;
    check_finite(x)?;
    check_finite(y)?;
    let n = x.len() as f64;
    if x.len() < 2 {
        return Ok(None);
    }
    let mean_x = x.iter().sum::<f64>() / n;
    let mean_y = y.iter().sum::<f64>() / n;
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (dx, dy) = (x - mean_x, y - mean_y);
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    if xx > 0.0 && yy > 0.0 {
        Ok(Some((xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0)))
    } else {
        Ok(None)
    }
}

/// Spearman's rank correlation with mid-ranks; `None` if one series is constant or shorter than 2.
///
/// # Errors
/// If a value is not finite or the lengths differ.
pub fn spearman(x: &[f64], y: &[f64]) -> Result<Option<f64>, MetricError> {
    check_length(x.len(), y.len())?;
    pearson(&mid_ranks(x)?, &mid_ranks(y)?)
}

/// 95 % interval of a rank correlation of `n` pairs by Fisher's transform with the standard error
/// of Bonett and Wright, sqrt((1 + r^2 / 2) / (n - 3)); `None` below 4 pairs.
pub fn spearman_interval(correlation: f64, n: usize) -> Option<Interval> {
    if n < 4 {
        return None;
    }
    if correlation.abs() >= 1.0 {
        return Some(Interval {
            low: correlation,
            high: correlation,
        });
    }
    let center = libm::atanh(correlation);
    let half = NORMAL_975 * ((1.0 + correlation * correlation / 2.0) / (n as f64 - 3.0)).sqrt();
    Some(Interval {
        low: libm::tanh(center - half),
        high: libm::tanh(center + half),
    })
}

/// 0.975 quantile of the standard normal distribution.
const NORMAL_975: f64 = 1.959_963_984_540_054;

/// Kendall's tau-b in O(n log n); `None` if one series is constant or shorter than 2.
///
/// # Errors
/// If a value is not finite or the lengths differ.
pub fn kendall(x: &[f64], y: &[f64]) -> Result<Option<f64>, MetricError> {
    check_length(x.len(), y.len())?;
    let x = mid_ranks(x)?;
    let y = mid_ranks(y)?;
    if x.len() < 2 {
        return Ok(None);
    }
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]).then_with(|| y[a].total_cmp(&y[b])));
    let tied_x = tied_pairs(order.chunk_by(|&a, &b| x[a].total_cmp(&x[b]).is_eq()));
    let tied_both = tied_pairs(
        order.chunk_by(|&a, &b| x[a].total_cmp(&x[b]).is_eq() && y[a].total_cmp(&y[b]).is_eq()),
    );
    let mut by_y: Vec<f64> = order.iter().map(|&index| y[index]).collect();
    let discordant = inversions(&mut by_y);
    // Sorted by now.
    let tied_y = tied_pairs(by_y.chunk_by(|a, b| a.total_cmp(b).is_eq()));
    let n = x.len() as u64;
    let pairs = n * (n - 1) / 2;
    let concordant = pairs + tied_both - tied_x - tied_y - discordant;
    let denominator = ((pairs - tied_x) as f64).sqrt() * ((pairs - tied_y) as f64).sqrt();
    if denominator > 0.0 {
        let tau = (concordant as f64 - discordant as f64) / denominator;
        Ok(Some(tau.clamp(-1.0, 1.0)))
    } else {
        Ok(None)
    }
}

fn tied_pairs<'a, T: 'a>(blocks: impl Iterator<Item = &'a [T]>) -> u64 {
    blocks
        .map(|block| {
            let n = block.len() as u64;
            n * (n - 1) / 2
        })
        .sum()
}

/// Sorts by merging and counts the pairs that stood in the wrong order.
fn inversions(values: &mut [f64]) -> u64 {
    let n = values.len();
    let mut count = 0;
    let mut merged = Vec::with_capacity(n);
    let mut width = 1;
    while width < n {
        merged.clear();
        for start in (0..n).step_by(2 * width) {
            let middle = (start + width).min(n);
            let end = (start + 2 * width).min(n);
            let (mut left, mut right) = (start, middle);
            while left < middle && right < end {
                if values[right] < values[left] {
                    count += (middle - left) as u64;
                    merged.push(values[right]);
                    right += 1;
                } else {
                    merged.push(values[left]);
                    left += 1;
                }
            }
            merged.extend_from_slice(&values[left..middle]);
            merged.extend_from_slice(&values[right..end]);
        }
        values.copy_from_slice(&merged);
        width *= 2;
    }
    count
}

/// Linear datamodeling score of each query: Spearman between the responses to retraining on
/// subsets and the sums of the scores over these subsets.
///
/// # Shapes
/// - `scores[query][sample]`, positive = helpful
/// - `subsets[subset]`: the samples that were trained on
/// - `responses[subset][query]`: larger is better (a utility, or minus a loss)
/// - returns one value a query, `None` where the responses or the sums are constant
///
/// # Errors
/// If a value is not finite, lengths differ, or a subset names a sample without score.
pub fn linear_datamodeling_score(
    scores: &[Vec<f64>],
    subsets: &[Vec<usize>],
    responses: &[Vec<f64>],
) -> Result<Vec<Option<f64>>, MetricError> {
    check_length(subsets.len(), responses.len())?;
    for response in responses {
        check_length(scores.len(), response.len())?;
    }
    scores
        .iter()
        .enumerate()
        .map(|(query, scores)| {
            let mut sums = Vec::with_capacity(subsets.len());
            for subset in subsets {
                let mut sum = 0.0;
                for &sample in subset {
                    sum += scores
                        .get(sample)
                        .ok_or(MetricError::OutOfRange { index: sample })?;
                }
                sums.push(sum);
            }
            let truth: Vec<f64> = responses.iter().map(|response| response[query]).collect();
            spearman(&truth, &sums)
        })
        .collect()
}

/// Probability of each value to be among the `k` highest, ties broken at random.
///
/// # Errors
/// If a value is not finite.
pub fn top_membership(values: &[f64], k: usize) -> Result<Vec<f64>, MetricError> {
    check_finite(values)?;
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| plain(values[b]).total_cmp(&plain(values[a])));
    let mut membership = vec![0.0; values.len()];
    let mut n_free = k;
    for block in order.chunk_by(|&a, &b| plain(values[a]).total_cmp(&plain(values[b])).is_eq()) {
        let n_taken = n_free.min(block.len());
        for &index in block {
            membership[index] = n_taken as f64 / block.len() as f64;
        }
        n_free -= n_taken;
        if n_free == 0 {
            break;
        }
    }
    Ok(membership)
}

/// Jaccard index of the two sets of the `k` highest values: expected intersection over what is
/// then the union, where each side breaks its ties at random on its own. Two constant series
/// overlap as two random sets do. `None` if `k` is 0 or nothing is given.
///
/// # Errors
/// If a value is not finite or the lengths differ.
pub fn top_jaccard(x: &[f64], y: &[f64], k: usize) -> Result<Option<f64>, MetricError> {
    check_length(x.len(), y.len())?;
    let size = k.min(x.len());
    if size == 0 {
        return Ok(None);
    }
    let (x, y) = (top_membership(x, k)?, top_membership(y, k)?);
    let both: f64 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
    Ok(Some(both / (2.0 * size as f64 - both)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(found: Option<f64>, wanted: f64) {
        let found = found.unwrap();
        assert!((found - wanted).abs() < 1e-12, "{found} is not {wanted}");
    }

    #[test]
    fn ranks_of_ties_are_their_mean() {
        assert_eq!(
            mid_ranks(&[3.0, 1.0, 3.0, -0.0, 0.0]).unwrap(),
            [4.5, 3.0, 4.5, 1.5, 1.5]
        );
    }

    #[test]
    fn spearman_by_hand() {
        close(
            spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 15.0]).unwrap(),
            0.5,
        );
        close(spearman(&[1.0, 2.0, 3.0], &[9.0, 4.0, 1.0]).unwrap(), -1.0);
        // Ranks 1.5, 1.5, 3 against 1, 2, 3: sqrt(3) / 2.
        close(
            spearman(&[0.0, 0.0, 1.0], &[1.0, 2.0, 3.0]).unwrap(),
            3.0_f64.sqrt() / 2.0,
        );
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]).unwrap(), None);
        assert_eq!(spearman(&[1.0], &[1.0]).unwrap(), None);
    }

    #[test]
    fn interval_of_a_correlation_holds_it_and_shrinks() {
        let small = spearman_interval(0.5, 20).unwrap();
        let large = spearman_interval(0.5, 2000).unwrap();
        assert!(small.low < large.low && large.low < 0.5);
        assert!(0.5 < large.high && large.high < small.high && small.high < 1.0);
        assert_eq!(spearman_interval(0.5, 3), None);
        // atanh(.5) -+ 1.96 * sqrt(1.125 / 17) by hand.
        assert!((small.low - 0.045_06).abs() < 1e-4, "{small:?}");
    }

    #[test]
    fn kendall_by_hand() {
        // Pairs of (1,2,3,4) against (1,3,2,4): 5 concordant, 1 discordant.
        close(
            kendall(&[1.0, 2.0, 3.0, 4.0], &[1.0, 3.0, 2.0, 4.0]).unwrap(),
            4.0 / 6.0,
        );
        assert_eq!(kendall(&[1.0, 1.0], &[1.0, 2.0]).unwrap(), None);
    }

    #[test]
    fn tops_overlap_as_counted() {
        // Tops {0, 1} and {1, 2}: one of three.
        close(
            top_jaccard(&[9.0, 8.0, 1.0, 0.0], &[0.0, 9.0, 8.0, 1.0], 2).unwrap(),
            1.0 / 3.0,
        );
        // Two constant series of 4, tops of 2: expected intersection 4 * 1/4 = 1.
        close(top_jaccard(&[1.0; 4], &[2.0; 4], 2).unwrap(), 1.0 / 3.0);
        assert_eq!(top_jaccard(&[], &[], 2).unwrap(), None);
        assert_eq!(
            top_membership(&[1.0, 5.0, 1.0], 2).unwrap(),
            [0.5, 1.0, 0.5]
        );
    }

    #[test]
    fn lds_refuses_what_does_not_fit() {
        let scores = vec![vec![1.0, 2.0]];
        assert_eq!(
            linear_datamodeling_score(&scores, &[vec![0, 2]], &[vec![0.5]]),
            Err(MetricError::OutOfRange { index: 2 })
        );
        assert_eq!(
            linear_datamodeling_score(&scores, &[vec![0]], &[vec![0.5, 0.1]]),
            Err(MetricError::Length {
                wanted: 1,
                found: 2
            })
        );
        // A constant response has no rank correlation.
        assert_eq!(
            linear_datamodeling_score(&scores, &[vec![0], vec![1]], &[vec![0.5], vec![0.5]]),
            Ok(vec![None])
        );
    }

    proptest! {
        #[test]
        fn kendall_is_what_counting_pairs_says(
            pairs in prop::collection::vec((0_i32..6, 0_i32..6), 2..30)
        ) {
            let x: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.0)).collect();
            let y: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.1)).collect();
            let (mut balance, mut untied_x, mut untied_y) = (0.0, 0.0, 0.0);
            for (index, a) in pairs.iter().enumerate() {
                for b in &pairs[index + 1..] {
                    balance += f64::from((a.0 - b.0).signum() * (a.1 - b.1).signum());
                    untied_x += f64::from((a.0 - b.0).signum().abs());
                    untied_y += f64::from((a.1 - b.1).signum().abs());
                }
            }
            match kendall(&x, &y).unwrap() {
                Some(tau) => prop_assert!((tau - balance / f64::sqrt(untied_x * untied_y)).abs() < 1e-12),
                None => prop_assert!(untied_x * untied_y < 0.5),
            }
        }

        #[test]
        fn spearman_ignores_monotone_transforms(x in prop::collection::vec(-20_i32..20, 3..30)) {
            let x: Vec<f64> = x.into_iter().map(f64::from).collect();
            let y: Vec<f64> = x.iter().enumerate().map(|(i, x)| x * 0.5 + (i % 3) as f64).collect();
            let cubed: Vec<f64> = x.iter().map(|x| x * x * x).collect();
            prop_assert_eq!(spearman(&x, &y).unwrap(), spearman(&cubed, &y).unwrap());
            prop_assert_eq!(spearman(&x, &y).unwrap(), spearman(&y, &x).unwrap());
        }
    }
}
