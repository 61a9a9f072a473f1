//! Dropout that is a function of (seed, operation, row key, column).

use seed::{Seed, Stream};

use super::{Real, vectorised};

/// Dropout of one operation in one pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropout {
    stream: Stream,
    threshold: u32,
    scale: f64,
}

impl Dropout {
    /// Dropout with a probability below 1; `None` if nothing is dropped.
    pub(crate) fn new(seed: Option<Seed>, name: &str, probability: f64) -> Option<Self> {
        let seed = seed?;
        let probability = probability.clamp(0.0, 0.999_999);
        // A draw of 32 bits below the threshold is dropped; the probability is right to 2^-32.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "below 2^32 and not negative"
        )]
        let threshold = (probability * 4_294_967_296.0) as u32;
        (threshold > 0).then(|| Self {
            stream: seed.child(name).stream(),
            threshold,
            scale: 1.0 / (1.0 - probability),
        })
    }

    /// The draws of one row.
    pub(crate) fn row<F: Real>(&self, key: u64) -> Keep<F> {
        let [a, b, c, d, e, f, g, h] = self.stream.bits(key, 0).to_le_bytes();
        Keep {
            first: u32::from_le_bytes([a, b, c, d]),
            second: u32::from_le_bytes([e, f, g, h]),
            threshold: self.threshold,
            scale: F::of(self.scale),
        }
    }

    /// Multiplies a row by 0 or 1 / (1 - p), column by column.
    pub(crate) fn apply<F: Real>(&self, key: u64, row: &mut [F]) {
        let keep = self.row::<F>(key);
        vectorised(
            #[inline(always)]
            || {
                for (column, x) in (0_u32..).zip(row) {
                    *x *= keep.factor(column);
                }
            },
        );
    }
}

/// What is kept of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep<F> {
    first: u32,
    second: u32,
    threshold: u32,
    scale: F,
}

impl<F: Real> Keep<F> {
    /// 0, or what keeps the mean of a column. A row has 64 bits of state from a counter-based
    /// generator; columns are told apart by two rounds of multiplication and shifting (the
    /// constants are those of Wellons' `lowbias32`), which vectorise.
    #[inline(always)]
    pub(crate) fn factor(&self, column: u32) -> F {
        let mut x = column.wrapping_mul(0x9e37_79b9) ^ self.first;
        x ^= x >> 16;
        x = x.wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_add(self.second);
        x = x.wrapping_mul(0x846c_a68b);
        x ^= x >> 16;
        if x < self.threshold {
            F::ZERO
        } else {
            self.scale
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_is_dropped_is_the_probability() {
        for probability in [0.1, 0.5, 0.9] {
            let dropout = Dropout::new(Some(Seed::root(1)), "x", probability).unwrap();
            let mut row = vec![1.0_f64; 200];
            let n = 1000_u32;
            let (mut dropped, mut sum) = (0_usize, 0.0);
            let mut by_column = vec![0_u32; 200];
            for key in 0..u64::from(n) {
                row.fill(1.0);
                dropout.apply(key, &mut row);
                dropped += row.iter().filter(|x| **x == 0.0).count();
                sum += row.iter().sum::<f64>();
                for (count, x) in by_column.iter_mut().zip(&row) {
                    *count += u32::from(*x == 0.0);
                }
            }
            let total = f64::from(n) * 200.0;
            // Five standard errors.
            let error = 5.0 * (probability * (1.0 - probability) / total).sqrt();
            assert!((dropped as f64 / total - probability).abs() < error);
            assert!((sum / total - 1.0).abs() < error / (1.0 - probability));
            // No column is dropped in step with its neighbours' rows.
            let error = 5.0 * (probability * (1.0 - probability) / f64::from(n)).sqrt();
            for count in by_column {
                assert!((f64::from(count) / f64::from(n) - probability).abs() < error);
            }
        }
    }

    #[test]
    fn nothing_is_dropped_without_a_seed_or_a_probability() {
        assert!(Dropout::new(None, "x", 0.5).is_none());
        assert!(Dropout::new(Some(Seed::root(1)), "x", 0.0).is_none());
    }
}
