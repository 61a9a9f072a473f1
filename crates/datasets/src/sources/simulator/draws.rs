//! Draws of the distributions that the simulator needs, one after the other.

use seed::{Seed, Sequence};

/// Draws one after the other.
pub(super) struct Draws(Sequence);

impl Draws {
    pub(super) fn new(seed: Seed) -> Self {
        Self(seed.sequence())
    }

    /// Uniform in `[0, 1)`.
    pub(super) fn uniform(&mut self) -> f64 {
        self.0.uniform()
    }

    /// Uniform in `0..bound`; 0 if `bound` is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // The draw is below `bound`, which is a `usize`.
        usize::try_from(self.0.below(bound as u64)).unwrap_or(0)
    }

    /// Uniform in `0..bound` for the 32-bit numbers of items, users and queries.
    pub(super) fn number(&mut self, bound: u32) -> u32 {
        u32::try_from(self.0.below(u64::from(bound))).unwrap_or(0)
    }

    /// True with a probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Standard normal (Box and Muller).
    pub(super) fn normal(&mut self) -> f64 {
        // 1 - u is in (0, 1]: its logarithm is finite.
        let radius = (-2.0 * libm::log(1.0 - self.uniform())).sqrt();
        radius * libm::cos(std::f64::consts::TAU * self.uniform())
    }

    /// Exponential with mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - self.uniform())
    }

    /// Index drawn by ascending cumulative weights; 0 if there are none.
    pub(super) fn by_cumulative(&mut self, cumulative: &[f64]) -> usize {
        let total = cumulative.last().copied().unwrap_or(0.0);
        let point = self.uniform() * total;
        let index = cumulative.partition_point(|&end| end <= point);
        index.min(cumulative.len().saturating_sub(1))
    }

    /// One of a slice that is not empty.
    pub(super) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Running sums of weights.
pub(super) fn cumulative(weights: impl IntoIterator<Item = f64>) -> Vec<f64> {
    weights
        .into_iter()
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect()
}

/// Cuts a number to a whole one: durations in milliseconds, prices; all far below 2^53.
#[expect(
    clippy::cast_possible_truncation,
    reason = "cutting is the purpose, and the conversion saturates"
)]
pub(super) fn whole(number: f64) -> i64 {
    number as i64
}

/// Rounds to single precision, for numbers that are kept for each user or item.
#[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
pub(super) fn single(number: f64) -> f32 {
    number as f32
}

/// Logistic function.
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_and_exponential_have_their_moments() {
        let mut draws = Draws::new(Seed::root(5));
        let n = 100_000;
        let normals: Vec<f64> = (0..n).map(|_| draws.normal()).collect();
        let mean = normals.iter().sum::<f64>() / f64::from(n);
        let square = normals.iter().map(|x| x * x).sum::<f64>() / f64::from(n);
        // Five standard errors: 5 / sqrt(n) for the mean, 5 * sqrt(2 / n) for the variance.
        assert!(mean.abs() < 0.016, "{mean}");
        assert!((square - 1.0).abs() < 0.023, "{square}");
        let mean = (0..n).map(|_| draws.exponential()).sum::<f64>() / f64::from(n);
        assert!((mean - 1.0).abs() < 0.016, "{mean}");
    }

    #[test]
    fn weighted_draws_follow_their_weights_and_never_take_weight_zero() {
        let mut draws = Draws::new(Seed::root(6));
        let sums = cumulative([1.0, 0.0, 3.0]);
        let mut counts = [0_u32; 3];
        for _ in 0..40_000 {
            counts[draws.by_cumulative(&sums)] += 1;
        }
        assert_eq!(counts[1], 0);
        // Five standard errors of a binomial with p = 1/4.
        assert!(
            (f64::from(counts[0]) - 10_000.0).abs() < 434.0,
            "{counts:?}"
        );
    }
}
