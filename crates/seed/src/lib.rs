//! Random numbers as a function of (seed, purpose, counter): independent of call order, threads,
//! batches and node names.
//!
//! A [`Seed`] is a node of a tree whose edges are names; a [`Stream`] gives, for any counter, the
//! same draw whoever asks and in whatever order. Adding a draw in one place moves no other.

mod philox;

/// A node of the seed tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// The root for a number that a user chose.
    pub fn root(seed: u64) -> Self {
        Self(blake3::derive_key(
            "touchstone 2026 seed root",
            &seed.to_le_bytes(),
        ))
    }

    /// The child for a purpose, such as `"label_noise"`.
    #[must_use]
    pub fn child(self, purpose: &str) -> Self {
        Self(*blake3::keyed_hash(&self.0, purpose.as_bytes()).as_bytes())
    }

    /// The child for a number, such as an epoch.
    #[must_use]
    pub fn index(self, index: u64) -> Self {
        Self(*blake3::keyed_hash(&self.0, &index.to_le_bytes()).as_bytes())
    }

    /// Draws addressed by a counter.
    pub fn stream(self) -> Stream {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        Stream {
            key: [
                u32::from_le_bytes([a, b, c, d]),
                u32::from_le_bytes([e, f, g, h]),
            ],
        }
    }

    /// Draws one after the other, for code that is sequential by nature.
    pub fn sequence(self) -> Sequence {
        Sequence {
            stream: self.stream(),
            next: 0,
        }
    }
}

/// Draws addressed by (counter, lane): the counter is usually a sample id, the lane a draw of it.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    key: [u32; 2],
}

impl Stream {
    /// 64 random bits.
    pub fn bits(&self, counter: u64, lane: u64) -> u64 {
        let [a, b] = philox::split(counter);
        let [c, d] = philox::split(lane);
        let [x, y, _, _] = philox::philox4x32(self.key, [a, b, c, d]);
        u64::from(x) | (u64::from(y) << 32)
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-53.
    pub fn uniform(&self, counter: u64, lane: u64) -> f64 {
        unit(self.bits(counter, lane))
    }

    /// Uniform in `0..bound`; 0 if `bound` is 0. The bias is below `bound` / 2^64.
    pub fn below(&self, bound: u64, counter: u64, lane: u64) -> u64 {
        multiply_high(self.bits(counter, lane), bound)
    }
}

/// Draws one after the other.
#[derive(Clone, Debug)]
pub struct Sequence {
    stream: Stream,
    next: u64,
}

impl Sequence {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let bits = self.stream.bits(self.next, 0);
        self.next += 1;
        bits
    }

    /// Uniform in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        unit(self.bits())
    }

    /// Uniform in `0..bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        multiply_high(self.bits(), bound)
    }

    /// Puts a slice into uniformly random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let other = self.below(end as u64 + 1);
            // `other` is at most `end`, which is an index.
            items.swap(end, usize::try_from(other).unwrap_or(end));
        }
    }
}

fn unit(bits: u64) -> f64 {
    // 2^-53: the spacing of doubles below 1.
    (bits >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

fn multiply_high(bits: u64, bound: u64) -> u64 {
    // The high half of a 64 x 64 product is below `bound`.
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_differ_by_name_and_not_by_order() {
        let root = Seed::root(20);
        let first = root.child("order").stream().bits(7, 0);
        let _ = root.child("noise").stream().bits(7, 0);
        assert_eq!(first, Seed::root(20).child("order").stream().bits(7, 0));
        assert_ne!(first, root.child("noise").stream().bits(7, 0));
        assert_ne!(first, Seed::root(21).child("order").stream().bits(7, 0));
        assert_ne!(root.index(1), root.index(2));
    }

    #[test]
    fn uniform_draws_fill_the_interval() {
        let stream = Seed::root(1).child("uniform").stream();
        let n = 100_000;
        let draws: Vec<f64> = (0..n).map(|counter| stream.uniform(counter, 0)).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        // Five standard errors of the mean of 100,000 uniforms: 5 * 0.2887 / sqrt(n).
        assert!((mean - 0.5).abs() < 0.0046, "mean {mean}");
    }

    #[test]
    fn bounded_draws_are_even() {
        let mut sequence = Seed::root(2).sequence();
        let mut counts = [0_u32; 7];
        for _ in 0..70_000 {
            counts[usize::try_from(sequence.below(7)).unwrap()] += 1;
        }
        // Chi-square with 6 degrees of freedom: 30 is beyond the 0.9999 quantile.
        let chi: f64 = counts
            .iter()
            .map(|&count| (f64::from(count) - 10_000.0).powi(2) / 10_000.0)
            .sum();
        assert!(chi < 30.0, "chi-square {chi}, counts {counts:?}");
    }

    #[test]
    fn shuffle_is_a_permutation() {
        let mut items: Vec<u32> = (0..1000).collect();
        Seed::root(3).sequence().shuffle(&mut items);
        assert_ne!(items, (0..1000).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }
}
