//! Soft weights from scores: `act: { reweight: ... }`.
//!
//! A weight multiplies that of the sample in training. The weights of the scored samples have the
//! mean 1, because the objective is divided by the number of loss terms, not by their weights: a
//! smaller mean would be a smaller learning rate and a stronger penalty, and arms would differ in
//! more than whom they trust.

use metrics::MetricError;

use super::config::{Reweight, Shape};

/// The standard deviation of a normal distribution, as a multiple of its median absolute deviation.
const DEVIATION: f64 = 1.4826;

/// The weight of each sample, from scores of which low ones are suspicious.
///
/// Equal scores get equal weights, and weights never fall as scores rise. If all scores are equal,
/// all weights are exactly 1.
///
/// # Errors
/// If a score is not finite.
pub(crate) fn weights(helpfulness: &[f64], reweight: Reweight) -> Result<Vec<f64>, MetricError> {
    let Reweight { to, shape } = reweight;
    match shape {
        Shape::Rank => by_rank(helpfulness, to),
        Shape::Sigmoid => Ok(by_score(helpfulness, to)),
    }
}

/// With q the place of a score from 0, the lowest, to 1, the weight is (to + (1 - to) q) divided by
/// its mean (1 + to) / 2, which mid-ranks keep whatever ties there are.
fn by_rank(helpfulness: &[f64], to: f64) -> Result<Vec<f64>, MetricError> {
    let slope = (1.0 - to) / (1.0 + to);
    let n = helpfulness.len() as f64;
    let ranks = metrics::mid_ranks(helpfulness)?;
    // 2 q - 1, which is exactly 0 in the middle; one sample alone is the middle.
    let place = |rank: f64| (2.0 * rank - n - 1.0) / (n - 1.0).max(1.0);
    Ok(ranks
        .into_iter()
        .map(|rank| 1.0 + slope * place(rank))
        .collect())
}

/// With z = (score - median) / (1.4826 x median absolute deviation), the weight is
/// (to + (1 - to) / (1 + exp(-z))) divided by the mean of these. Where more than half of the scores
/// are equal, the deviation is 0, and z infinite for all others.
fn by_score(helpfulness: &[f64], to: f64) -> Vec<f64> {
    let Some(centre) = median(helpfulness.to_vec()) else {
        return Vec::new();
    };
    let distances = helpfulness.iter().map(|score| (score - centre).abs());
    let scale = DEVIATION * median(distances.collect()).unwrap_or(0.0);
    let raw: Vec<f64> = helpfulness
        .iter()
        .map(|score| {
            let distance = score - centre;
            // Not 0 / 0.
            let z = if distance.abs() > 0.0 {
                distance / scale
            } else {
                0.0
            };
            to + (1.0 - to) / (1.0 + libm::exp(-z))
        })
        .collect();
    // Around the first one, so that the mean of equal numbers is that number.
    let first = raw[0];
    let beyond: f64 = raw.iter().map(|weight| weight - first).sum();
    let mean = first + beyond / raw.len() as f64;
    raw.into_iter().map(|weight| weight / mean).collect()
}

/// The middle value, or the mean of the two in the middle; `None` without values.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    metrics::quantile(&values, 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(helpfulness: &[f64], to: f64, shape: Shape) -> Vec<f64> {
        weights(helpfulness, Reweight { to, shape }).unwrap()
    }

    /// Each number is made by a few operations on numbers of about 1.
    fn assert_close(found: &[f64], wanted: &[f64]) {
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-14, "{found} {wanted}");
        }
    }

    #[test]
    fn ranks_make_a_ramp_of_mean_one() {
        // The ramp 0.2, 0.4, 0.6, 0.8, 1 has the mean 0.6.
        let wanted = [1.0 / 3.0, 2.0 / 3.0, 1.0, 4.0 / 3.0, 5.0 / 3.0];
        assert_close(
            &of(&[-9.0, -1.0, 0.0, 0.1, 50.0], 0.2, Shape::Rank),
            &wanted,
        );
        assert_close(&of(&[2.0, 1.0], 0.0, Shape::Rank), &[2.0, 0.0]);
        // Ties share the mean of their places: 0, 1/2, 1/2, 1.
        let tied = of(&[3.0, 7.0, 7.0, 8.0], 0.5, Shape::Rank);
        assert_close(&tied, &[2.0 / 3.0, 1.0, 1.0, 4.0 / 3.0]);
    }

    #[test]
    fn distance_counts_for_the_logistic_function() {
        // Median 0, deviations 1, 0, 1: z = -1/1.4826, 0, 1/1.4826, whose values have the mean 1/2.
        let step = 1.0 / (1.0 + libm::exp(1.0 / 1.4826));
        let found = of(&[-1.0, 0.0, 1.0], 0.0, Shape::Sigmoid);
        assert_close(&found, &[2.0 * step, 1.0, 2.0 - 2.0 * step]);
        // Most scores are equal: what lies outside is at the very end. 0.2, 0.6, 0.6, 0.6.
        let found = of(&[-1e-9, 4.0, 4.0, 4.0], 0.2, Shape::Sigmoid);
        assert_close(&found, &[0.4, 1.2, 1.2, 1.2]);
    }

    #[test]
    fn equal_scores_leave_all_weights_at_exactly_one() {
        for shape in [Shape::Rank, Shape::Sigmoid] {
            for (n, to) in [(1, 0.0), (2, 0.3), (7, 0.2), (1000, 0.7)] {
                let found = of(&vec![-3.7; n], to, shape);
                assert!(
                    found
                        .iter()
                        .all(|weight| weight.to_bits() == 1.0_f64.to_bits())
                );
            }
            assert!(of(&[], 0.2, shape).is_empty());
        }
    }

    #[test]
    fn weights_follow_scores_and_have_the_mean_one() {
        let mut draws = stage::Seed::root(11).sequence();
        for shape in [Shape::Rank, Shape::Sigmoid] {
            for n in [2, 3, 10, 101] {
                // Few values, so that some are equal.
                let scores: Vec<f64> = (0..n).map(|_| draws.below(7) as f64 - 2.5).collect();
                let found = of(&scores, 0.25, shape);
                let mean = found.iter().sum::<f64>() / f64::from(n);
                // n roundings of numbers up to 2.
                assert!((mean - 1.0).abs() < 1e-13, "{mean}");
                for (a, x) in scores.iter().zip(&found) {
                    for (b, y) in scores.iter().zip(&found) {
                        assert!(a.total_cmp(b).is_ne() || x.to_bits() == y.to_bits());
                        assert!(a >= b || x <= y, "{a} {b} {x} {y}");
                    }
                }
                let reversed: Vec<f64> = scores.iter().rev().copied().collect();
                let mut again = of(&reversed, 0.25, shape);
                again.reverse();
                assert_close(&again, &found);
            }
        }
    }

    #[test]
    fn the_ends_stand_in_the_ratio_that_was_asked_for() {
        let scores: Vec<f64> = (0..50).map(f64::from).collect();
        let found = of(&scores, 0.1, Shape::Rank);
        assert!((found[0] / found[49] - 0.1).abs() < 1e-14);
    }
}
