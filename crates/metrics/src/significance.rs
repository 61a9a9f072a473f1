//! Tests of hypotheses: paired sign flips, Holm's correction, the rank-sum test.
//!
//! Paired differences of ranking metrics are mostly exact zeros with a few large values, so tests
//! that assume a normal mean are off. The sign-flip test assumes only that, without an effect,
//! each request's difference is as likely to have one sign as the other; it is exact for few
//! requests and as sharp as its number of permutations for many.

use seed::Seed;

use crate::failure::{MetricError, check_finite};

/// Differences up to this number are tested over all sign patterns.
const EXHAUSTIVE: usize = 13;

/// Relative tolerance within which two sums count as equal: rounding must not break ties.
const TIE: f64 = 1e-10;

/// Two-sided p-value of the mean of paired differences under random signs.
///
/// Zeros carry no sign and are left out. Up to 13 differences all patterns are counted, and the
/// p-value is exact; beyond, `permutations` random patterns are drawn and the observed one is
/// counted with them, so that p >= 1 / (permutations + 1). Without a difference p is 1.
///
/// # Errors
/// If a difference is not finite.
pub fn sign_flip_p_value(
    differences: &[f64],
    seed: Seed,
    permutations: u64,
) -> Result<f64, MetricError> {
    check_finite(differences)?;
    let differences: Vec<f64> = differences
        .iter()
        .copied()
        .filter(|difference| difference.abs() > 0.0)
        .collect();
    if differences.is_empty() {
        return Ok(1.0);
    }
    let observed = differences.iter().sum::<f64>().abs();
    let scale: f64 = differences.iter().map(|difference| difference.abs()).sum();
    let threshold = observed - TIE * scale;
    let (sums, counted) = if differences.len() <= EXHAUSTIVE {
        let patterns = 1_u64 << differences.len();
        (signed_sums(&differences, patterns, |pattern, _| pattern), 0)
    } else {
        let stream = seed.stream();
        let draw = |permutation, word| stream.bits(permutation, word);
        (signed_sums(&differences, permutations, draw), 1)
    };
    let extreme = sums.iter().filter(|sum| sum.abs() >= threshold).count();
    Ok((extreme + counted) as f64 / (sums.len() + counted) as f64)
}

/// Sums of the values under sign patterns. `word(pattern, i)` gives the signs of values 64 i and on,
/// lowest bit first; a set bit negates.
fn signed_sums(values: &[f64], n_patterns: u64, word: impl Fn(u64, u64) -> u64) -> Vec<f64> {
    let mut sums: Vec<f64> = (0..n_patterns).map(|_| 0.0).collect();
    for (index, chunk) in (0_u64..).zip(values.chunks(64)) {
        // The sum of eight values under each of their 256 patterns is computed once.
        let tables: Vec<[f64; 256]> = chunk.chunks(8).map(signed_table).collect();
        for (pattern, sum) in (0_u64..).zip(&mut sums) {
            let bytes = word(pattern, index).to_le_bytes();
            for (table, byte) in tables.iter().zip(bytes) {
                *sum += table[usize::from(byte)];
            }
        }
    }
    sums
}

fn signed_table(values: &[f64]) -> [f64; 256] {
    std::array::from_fn(|pattern| {
        let signed = values.iter().enumerate();
        signed
            .map(|(bit, value)| {
                if pattern >> bit & 1 == 0 {
                    *value
                } else {
                    -value
                }
            })
            .sum()
    })
}

/// Holm's step-down correction of a family of p-values, in their order.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut corrected = vec![1.0; p_values.len()];
    let mut largest = 0.0_f64;
    for (step, &index) in order.iter().enumerate() {
        let n_left = (p_values.len() - step) as f64;
        largest = largest.max((n_left * p_values[index]).min(1.0));
        corrected[index] = largest;
    }
    corrected
}

/// Two-sided p-value of an AUC against one half: the rank-sum test of Mann and Whitney in its
/// normal approximation with the correction for ties, `tied` = sum over blocks of t^3 - t.
pub fn rank_sum_p_value(auc: f64, n_positive: u64, n_negative: u64, tied: f64) -> f64 {
    let (p, q) = (n_positive as f64, n_negative as f64);
    let n = p + q;
    if p < 1.0 || q < 1.0 || n < 2.0 {
        return 1.0;
    }
    let variance = (n + 1.0 - tied / (n * (n - 1.0))) / (12.0 * p * q);
    if variance <= 0.0 {
        return 1.0;
    }
    libm::erfc((auc - 0.5).abs() / (2.0 * variance).sqrt()).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn few_differences_are_counted_by_hand() {
        // All patterns of (1, 2, 3): |sum| >= 6 for two of eight.
        let p = sign_flip_p_value(&[1.0, 0.0, 2.0, 3.0], Seed::root(0), 10).unwrap();
        assert!((p - 0.25).abs() < 1e-12);
        // (1, 1, -1): |sum| >= 1 always.
        let p = sign_flip_p_value(&[1.0, 1.0, -1.0], Seed::root(0), 10).unwrap();
        assert!((p - 1.0).abs() < 1e-12);
        assert!((sign_flip_p_value(&[0.0; 5], Seed::root(0), 10).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(
            sign_flip_p_value(&[f64::NAN], Seed::root(0), 10),
            Err(MetricError::NotFinite { index: 0 })
        );
    }

    #[test]
    fn rounding_does_not_break_ties() {
        // 0.1 + 0.2 - 0.3 is 5.6e-17 in doubles, and zero in truth: every pattern is as extreme.
        let p = sign_flip_p_value(&[0.1, 0.2, -0.3], Seed::root(0), 10).unwrap();
        assert!((p - 1.0).abs() < 1e-12, "{p}");
    }

    #[test]
    fn sums_follow_their_signs() {
        let values: Vec<f64> = (0..70).map(f64::from).collect();
        // Value 3 and value 64 + 5 are negated: 2415 - 2 * (3 + 69).
        let sums = signed_sums(&values, 1, |_, index| if index == 0 { 8 } else { 32 });
        assert!((sums[0] - 2271.0).abs() < 1e-9, "{sums:?}");
    }

    #[test]
    fn many_differences_agree_with_the_binomial_law() {
        // 20 equal differences, 15 positive: |sum| >= 10, that is at most 5 or at least 15 heads:
        // 2 * (1 + 20 + 190 + 1140 + 4845 + 15504) / 2^20 = .041389.
        let mut differences = vec![1.0; 15];
        differences.extend([-1.0; 5]);
        let p = sign_flip_p_value(&differences, Seed::root(7), 100_000).unwrap();
        assert!((p - 0.041_389).abs() < 0.0032, "{p}");
    }

    #[test]
    fn p_values_without_effect_are_uniform() {
        let mut below = 0;
        for trial in 0..400 {
            let stream = Seed::root(11).index(trial).stream();
            let differences: Vec<f64> = (0..40).map(|row| stream.uniform(row, 0) - 0.5).collect();
            let p = sign_flip_p_value(&differences, Seed::root(12), 500).unwrap();
            below += u32::from(p < 0.2);
        }
        // 400 trials at 0.2: 80 -+ 4 * 8.
        assert!((48..=112).contains(&below), "{below}");
    }

    #[test]
    fn holm_by_hand() {
        let found = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (found, wanted) in found.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
        }
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn rank_sum_by_hand() {
        // 3 above 3 without ties: z = (9 - 4.5) / sqrt(9 * 7 / 12) = 1.9640.
        let p = rank_sum_p_value(1.0, 3, 3, 0.0);
        assert!((p - 0.049_535).abs() < 1e-5, "{p}");
        assert!((rank_sum_p_value(0.5, 10, 10, 0.0) - 1.0).abs() < 1e-12);
        // All values equal: no order, no evidence.
        assert!((rank_sum_p_value(0.5, 2, 2, 60.0) - 1.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn holm_never_lowers_and_keeps_the_order(p in prop::collection::vec(0.0_f64..1.0, 1..12)) {
            let corrected = holm(&p);
            for i in 0..p.len() {
                prop_assert!(corrected[i] >= p[i] && corrected[i] <= 1.0);
                prop_assert!(corrected[i] <= p[i] * p.len() as f64 + 1e-12);
                for j in 0..p.len() {
                    prop_assert!(p[i] > p[j] || corrected[i] <= corrected[j]);
                }
            }
        }

        #[test]
        fn sign_flips_do_not_know_the_direction(d in prop::collection::vec(-1.0_f64..1.0, 1..12)) {
            let negated: Vec<f64> = d.iter().map(|d| -d).collect();
            let seed = Seed::root(1);
            prop_assert_eq!(sign_flip_p_value(&d, seed, 10), sign_flip_p_value(&negated, seed, 10));
        }
    }
}
