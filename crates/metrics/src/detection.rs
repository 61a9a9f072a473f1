//! Detection of planted noise: how well a suspicion separates noisy samples from clean ones.
//!
//! Suspicion is higher = more suspicious, whatever the end of the scale that a method reports.
//! **Ties** are never broken: the AUROC uses mid-ranks, average precision only distinct thresholds,
//! and a budget that ends inside a block of equal suspicion takes its share of the block (the
//! expectation over random orders). **Unscored** samples are counted and mid-ranked: they take
//! the median suspicion of the scored ones in every figure that ranks, and are never flagged by
//! the 2-means rule.

use seed::Seed;

use crate::bootstrap::Resampler;
use crate::correlation::plain;
use crate::failure::{MetricError, check_length};
use crate::significance::rank_sum_p_value;

/// Resamples that are computed side by side.
pub const LANES: usize = 16;

/// The figures of one method on one set of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Area under the ROC curve with mid-ranks.
    pub auroc: f64,
    /// Average precision over distinct thresholds.
    pub average_precision: f64,
    /// F1 of the lower cluster of the exact 1-D 2-means split, predicted noisy.
    pub f1: f64,
    /// Precision after inspecting 1x and 2x as many samples as are noisy.
    pub precision: [f64; 2],
    /// Recall after inspecting 1x and 2x as many samples as are noisy.
    pub recall: [f64; 2],
}

impl Figures {
    /// Names of the figures, in the order of [`Figures::values`].
    pub const NAMES: [&'static str; 7] = [
        "auroc",
        "average_precision",
        "f1_2means",
        "precision@1x",
        "recall@1x",
        "precision@2x",
        "recall@2x",
    ];

    /// The figures as a list.
    pub fn values(&self) -> [f64; 7] {
        [
            self.auroc,
            self.average_precision,
            self.f1,
            self.precision[0],
            self.recall[0],
            self.precision[1],
            self.recall[1],
        ]
    }
}

/// Samples in order of suspicion, ready to be judged under any weights.
#[derive(Clone, Debug)]
pub struct Suspects {
    /// Samples, most suspicious first.
    order: Vec<usize>,
    /// Whether each sample is noisy, in the same order.
    is_noisy: Vec<bool>,
    /// Whether the 2-means rule flags it, in the same order.
    is_flagged: Vec<bool>,
    /// End of each block of equal suspicion, in the same order.
    block_ends: Vec<usize>,
    n_noisy: u64,
    n_unscored: u64,
}

impl Suspects {
    /// Ranks samples by suspicion; `None` where a method has no score.
    ///
    /// # Errors
    /// If a suspicion is not finite, the lengths differ, or all samples are of one class.
    pub fn new(suspicion: &[Option<f64>], is_noisy: &[bool]) -> Result<Self, MetricError> {
        check_length(suspicion.len(), is_noisy.len())?;
        let not_finite = |value: &Option<f64>| value.is_some_and(|value| !value.is_finite());
        if let Some(index) = suspicion.iter().position(not_finite) {
            return Err(MetricError::NotFinite { index });
        }
        let n_noisy = is_noisy.iter().filter(|&&noisy| noisy).count();
        if n_noisy == 0 || n_noisy == is_noisy.len() {
            return Err(MetricError::OneClass);
        }
        let mut scored: Vec<f64> = suspicion
            .iter()
            .flatten()
            .map(|&value| plain(value))
            .collect();
        scored.sort_by(f64::total_cmp);
        let threshold = two_means_suspicious(&scored);
        let median = median(&scored);
        let filled: Vec<f64> = suspicion
            .iter()
            .map(|value| plain(value.unwrap_or(median)))
            .collect();
        let mut order: Vec<usize> = (0..filled.len()).collect();
        order.sort_by(|&a, &b| filled[b].total_cmp(&filled[a]));
        let mut block_ends = Vec::new();
        for block in order.chunk_by(|&a, &b| filled[a].total_cmp(&filled[b]).is_eq()) {
            block_ends.push(block_ends.last().unwrap_or(&0) + block.len());
        }
        let is_flagged = |&sample: &usize| {
            suspicion[sample].is_some_and(|value| threshold.is_some_and(|t| plain(value) >= t))
        };
        Ok(Self {
            is_noisy: order.iter().map(|&sample| is_noisy[sample]).collect(),
            is_flagged: order.iter().map(is_flagged).collect(),
            n_unscored: suspicion.iter().filter(|value| value.is_none()).count() as u64,
            n_noisy: n_noisy as u64,
            order,
            block_ends,
        })
    }

    /// Samples, noisy and clean.
    pub fn n_samples(&self) -> u64 {
        self.order.len() as u64
    }

    /// Noisy samples.
    pub fn n_noisy(&self) -> u64 {
        self.n_noisy
    }

    /// Samples without a score.
    pub fn n_unscored(&self) -> u64 {
        self.n_unscored
    }

    /// Two-sided p-value of an AUROC of these samples (their own, or a mean over seeds) against that
    /// of a random order.
    pub fn p_value(&self, auroc: f64) -> f64 {
        let mut start = 0;
        let mut tied = 0.0;
        for &end in &self.block_ends {
            let t = (end - start) as f64;
            tied += t * t * t - t;
            start = end;
        }
        rank_sum_p_value(auroc, self.n_noisy, self.n_samples() - self.n_noisy, tied)
    }

    /// The figures of the samples as they are.
    pub fn figures(&self) -> Figures {
        let [first, ..] = self.weighted(|_| &[1; LANES]);
        first
    }

    /// The figures of [`LANES`] stratified resamples; `weights` are their counts by sample.
    ///
    /// The threshold of the 2-means rule stays that of the samples as they are.
    ///
    /// # Errors
    /// If the weights are not those of the samples.
    pub fn resampled(&self, weights: &[[u8; LANES]]) -> Result<[Figures; LANES], MetricError> {
        check_length(self.order.len(), weights.len())?;
        Ok(self.weighted(|sample| &weights[sample]))
    }

    fn weighted<'a>(&self, weight: impl Fn(usize) -> &'a [u8; LANES]) -> [Figures; LANES] {
        let n_noisy = self.n_noisy;
        let n_clean = self.n_samples() - n_noisy;
        let budgets = [n_noisy, (2 * n_noisy).min(self.n_samples())];
        // Twice the pairs in order, so that half a pair is whole.
        let mut ordered_pairs = [0_u64; LANES];
        let mut precision_sum = [0.0; LANES];
        let mut seen_noisy = [0_u64; LANES];
        let mut seen_clean = [0_u64; LANES];
        let mut flagged_noisy = [0_u64; LANES];
        let mut flagged_clean = [0_u64; LANES];
        let mut found = [[0.0; LANES]; 2];
        let mut start = 0;
        for &end in &self.block_ends {
            let mut noisy = [0_u32; LANES];
            let mut clean = [0_u32; LANES];
            for at in start..end {
                let weights = weight(self.order[at]);
                let into = if self.is_noisy[at] {
                    &mut noisy
                } else {
                    &mut clean
                };
                for (sum, &weight) in into.iter_mut().zip(weights) {
                    *sum += u32::from(weight);
                }
            }
            // Equal values are flagged together, except where unscored samples joined the block.
            let n_flagged = self.is_flagged[start..end]
                .iter()
                .filter(|&&flag| flag)
                .count();
            if n_flagged > 0 {
                for at in (start..end).filter(|&at| self.is_flagged[at]) {
                    let weights = weight(self.order[at]);
                    let into = if self.is_noisy[at] {
                        &mut flagged_noisy
                    } else {
                        &mut flagged_clean
                    };
                    for (sum, &weight) in into.iter_mut().zip(weights) {
                        *sum += u64::from(weight);
                    }
                }
            }
            // Most blocks are one clean sample, which only counts as seen.
            if noisy == [0; LANES] {
                for (seen, weight) in seen_clean.iter_mut().zip(clean) {
                    *seen += u64::from(weight);
                }
                start = end;
                continue;
            }
            for lane in 0..LANES {
                let (p, q) = (u64::from(noisy[lane]), u64::from(clean[lane]));
                let inspected = seen_noisy[lane] + seen_clean[lane];
                if inspected < budgets[1] && p > 0 {
                    for (found, budget) in found.iter_mut().zip(budgets) {
                        let free = budget.saturating_sub(inspected);
                        found[lane] += free.min(p + q) as f64 * p as f64 / (p + q) as f64;
                    }
                }
                ordered_pairs[lane] += p * (2 * (n_clean - seen_clean[lane]) - q);
                seen_noisy[lane] += p;
                seen_clean[lane] += q;
                let seen = (inspected + p + q).max(1) as f64;
                precision_sum[lane] += p as f64 * seen_noisy[lane] as f64 / seen;
            }
            start = end;
        }
        std::array::from_fn(|lane| {
            let missed = n_noisy - flagged_noisy[lane];
            let agreed = 2.0 * flagged_noisy[lane] as f64;
            Figures {
                auroc: ordered_pairs[lane] as f64 / (2.0 * n_noisy as f64 * n_clean as f64),
                average_precision: precision_sum[lane] / n_noisy as f64,
                f1: agreed / (agreed + (missed + flagged_clean[lane]) as f64),
                precision: [0, 1].map(|i| found[i][lane] / budgets[i] as f64),
                recall: [0, 1].map(|i| found[i][lane] / n_noisy as f64),
            }
        })
    }
}

/// Median of ascending values; 0 if there are none.
fn median(ascending: &[f64]) -> f64 {
    let n = ascending.len();
    match n {
        0 => 0.0,
        _ if n % 2 == 1 => ascending[n / 2],
        _ => f64::midpoint(ascending[n / 2 - 1], ascending[n / 2]),
    }
}

/// Smallest suspicion that the 2-means rule flags, from ascending suspicion.
fn two_means_suspicious(ascending: &[f64]) -> Option<f64> {
    let negated: Vec<f64> = ascending.iter().rev().map(|value| -value).collect();
    two_means(&negated).map(|last| -last)
}

/// Largest value of the lower cluster of the exact 1-D 2-means split of ascending values: the
/// split with the least sum of squares within clusters, the first one if several have it.
///
/// Splits lie between distinct values only, so that equal values share a cluster. `None` if all
/// values are equal: there are no two clusters.
pub fn two_means(ascending: &[f64]) -> Option<f64> {
    let n = ascending.len() as f64;
    let mean = ascending.iter().sum::<f64>() / n;
    // With centred values, the sum of squares between clusters is left^2 / n_left + left^2 / n_right.
    let mut left = 0.0;
    let mut best: Option<(f64, f64)> = None;
    for (index, pair) in ascending.windows(2).enumerate() {
        left += pair[0] - mean;
        if pair[0] < pair[1] {
            let n_left = index as f64 + 1.0;
            let between = left * left * (1.0 / n_left + 1.0 / (n - n_left));
            if best.is_none_or(|(most, _)| between > most) {
                best = Some((between, pair[0]));
            }
        }
    }
    best.map(|(_, last)| last)
}

/// The noisy and the clean samples, resampled apart, so that every resample has as many of each.
#[derive(Clone, Debug)]
pub struct Strata {
    noisy: Vec<usize>,
    clean: Vec<usize>,
    seed: Seed,
}

impl Strata {
    /// Strata of a set of samples.
    pub fn new(is_noisy: &[bool], seed: Seed) -> Self {
        let of = |wanted: bool| -> Vec<usize> {
            let pairs = is_noisy.iter().enumerate();
            pairs
                .filter(|(_, noisy)| **noisy == wanted)
                .map(|(index, _)| index)
                .collect()
        };
        Self {
            noisy: of(true),
            clean: of(false),
            seed,
        }
    }

    /// How often each sample occurs in resamples `first..first + LANES`.
    pub fn weights(&self, first: u64) -> Vec<[u8; LANES]> {
        let mut weights = vec![[0_u8; LANES]; self.noisy.len() + self.clean.len()];
        for (name, members) in [("noisy", &self.noisy), ("clean", &self.clean)] {
            let resampler = Resampler::new(self.seed.child(name), members.len());
            // Drawn rows are scattered: one lane at a time stays in the cache.
            let mut counts = vec![0_u8; members.len()];
            for (resample, lane) in (first..).zip(0..LANES) {
                counts.fill(0);
                // A count beyond 255 has a probability below 1e-500.
                resampler.each(resample, |row| counts[row] = counts[row].saturating_add(1));
                for (&member, &count) in members.iter().zip(&counts) {
                    weights[member][lane] = count;
                }
            }
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scored(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    fn close(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 1e-12, "{found} is not {wanted}");
    }

    #[test]
    fn five_samples_by_hand() {
        // Most suspicious first: noisy, clean, noisy, clean, clean.
        let suspects = Suspects::new(
            &scored(&[9.0, 8.0, 7.0, 2.0, 1.0]),
            &[true, false, true, false, false],
        )
        .unwrap();
        let found = suspects.figures();
        close(found.auroc, 5.0 / 6.0);
        close(found.average_precision, 5.0 / 6.0);
        // Clusters {1, 2} and {7, 8, 9}: two of three flagged are noisy, none missed.
        close(found.f1, 4.0 / 5.0);
        close(found.precision[0], 0.5);
        close(found.recall[0], 0.5);
        close(found.precision[1], 0.5);
        close(found.recall[1], 1.0);
    }

    #[test]
    fn a_constant_suspicion_knows_nothing() {
        let suspects = Suspects::new(
            &[Some(1.0); 10],
            &[
                true, true, false, false, false, false, false, false, false, false,
            ],
        )
        .unwrap();
        let found = suspects.figures();
        close(found.auroc, 0.5);
        close(found.average_precision, 0.2);
        close(found.f1, 0.0);
        close(found.precision[0], 0.2);
        close(found.recall[0], 0.2);
        close(found.recall[1], 0.4);
        close(suspects.p_value(found.auroc), 1.0);
    }

    #[test]
    fn a_budget_takes_its_share_of_a_tied_block() {
        // One sure clean sample, then a block of one noisy and two clean, then a noisy one; budget 2
        // takes one of the block's three.
        let suspects = Suspects::new(
            &scored(&[5.0, 3.0, 3.0, 3.0, 1.0]),
            &[false, true, false, false, true],
        )
        .unwrap();
        let found = suspects.figures();
        close(found.recall[0], (1.0 / 3.0) / 2.0);
        close(found.precision[0], (1.0 / 3.0) / 2.0);
        close(found.recall[1], 0.5);
    }

    #[test]
    fn unscored_samples_take_the_middle() {
        let noisy = [true, false, false, true, false];
        let with = [Some(5.0), Some(4.0), Some(2.0), None, Some(1.0)];
        let suspects = Suspects::new(&with, &noisy).unwrap();
        assert_eq!(suspects.n_unscored(), 1);
        let filled = Suspects::new(&scored(&[5.0, 4.0, 2.0, 3.0, 1.0]), &noisy).unwrap();
        close(suspects.figures().auroc, filled.figures().auroc);
        close(suspects.figures().recall[1], filled.figures().recall[1]);
        // But nobody flags them: {5, 4} flagged, so one hit, one miss, one false alarm.
        close(suspects.figures().f1, 0.5);
        let none = Suspects::new(&[None; 5], &noisy).unwrap();
        close(none.figures().auroc, 0.5);
        close(none.figures().f1, 0.0);
    }

    #[test]
    fn clusters_split_where_the_squares_say() {
        assert_eq!(two_means(&[0.0, 1.0, 10.0, 11.0]), Some(1.0));
        assert_eq!(two_means(&[0.0, 0.0, 0.0, 5.0]), Some(0.0));
        // Splits after 0 and after 1 are equally good; the first one wins.
        assert_eq!(two_means(&[0.0, 1.0, 2.0]), Some(0.0));
        assert_eq!(two_means(&[4.0, 4.0]), None);
        assert_eq!(two_means(&[]), None);
    }

    #[test]
    fn one_class_is_refused() {
        assert_eq!(
            Suspects::new(&[Some(1.0)], &[true]).unwrap_err(),
            MetricError::OneClass
        );
        assert_eq!(
            Suspects::new(&[Some(f64::NAN), None], &[true, false]).unwrap_err(),
            MetricError::NotFinite { index: 0 }
        );
    }

    #[test]
    fn strata_keep_their_sizes() {
        let is_noisy: Vec<bool> = (0..100).map(|sample| sample % 5 == 0).collect();
        let weights = Strata::new(&is_noisy, Seed::root(3)).weights(32);
        for lane in 0..LANES {
            let count = |wanted: bool| -> u32 {
                let pairs = weights.iter().zip(&is_noisy);
                pairs
                    .filter(|(_, noisy)| **noisy == wanted)
                    .map(|(w, _)| u32::from(w[lane]))
                    .sum()
            };
            assert_eq!((count(true), count(false)), (20, 80));
        }
        let other = Strata::new(&is_noisy, Seed::root(3)).weights(33);
        assert!((0..100).all(|sample| weights[sample][1] == other[sample][0]));
    }

    /// Repeats every sample as often as it was drawn and judges the list without weights.
    fn expanded(
        suspicion: &[f64],
        is_noisy: &[bool],
        weights: &[[u8; LANES]],
        lane: usize,
    ) -> Figures {
        let mut values = Vec::new();
        let mut noisy = Vec::new();
        for sample in 0..suspicion.len() {
            for _ in 0..weights[sample][lane] {
                values.push(Some(suspicion[sample]));
                noisy.push(is_noisy[sample]);
            }
        }
        Suspects::new(&values, &noisy).unwrap().figures()
    }

    proptest! {
        #[test]
        fn weights_are_repetitions(
            rows in prop::collection::vec((0_i32..8, any::<bool>()), 4..40)
        ) {
            let suspicion: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
            let mut is_noisy: Vec<bool> = rows.iter().map(|row| row.1).collect();
            is_noisy[0] = true;
            is_noisy[1] = false;
            let suspects = Suspects::new(&scored(&suspicion), &is_noisy).unwrap();
            let weights = Strata::new(&is_noisy, Seed::root(9)).weights(0);
            let found = suspects.resampled(&weights).unwrap();
            for (lane, found) in found.iter().enumerate() {
                let wanted = expanded(&suspicion, &is_noisy, &weights, lane);
                // The 2-means threshold is kept, not repeated.
                for index in [0, 1, 3, 4, 5, 6] {
                    prop_assert!((found.values()[index] - wanted.values()[index]).abs() < 1e-12);
                }
            }
        }

        #[test]
        fn figures_do_not_depend_on_the_order_or_the_scale(
            rows in prop::collection::vec((0_i32..8, any::<bool>()), 4..40)
        ) {
            let mut rows = rows;
            rows[0].1 = true;
            rows[1].1 = false;
            let of = |rows: &[(i32, bool)], scale: f64| {
                let values: Vec<Option<f64>> = rows.iter().map(|row| Some(f64::from(row.0) * scale)).collect();
                let noisy: Vec<bool> = rows.iter().map(|row| row.1).collect();
                Suspects::new(&values, &noisy).unwrap().figures()
            };
            let there = of(&rows, 1.0);
            let scaled = of(&rows, 4.0);
            rows.reverse();
            let back = of(&rows, 1.0);
            for index in 0..7 {
                prop_assert!((there.values()[index] - back.values()[index]).abs() < 1e-12);
                prop_assert!((there.values()[index] - scaled.values()[index]).abs() < 1e-12);
                prop_assert!((0.0..=1.0).contains(&there.values()[index]));
            }
        }

        #[test]
        fn auroc_is_the_auc_of_the_suspicion(
            rows in prop::collection::vec((0_i32..8, any::<bool>()), 4..40)
        ) {
            let mut noisy: Vec<bool> = rows.iter().map(|row| row.1).collect();
            noisy[0] = true;
            noisy[1] = false;
            let values: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
            let suspects = Suspects::new(&scored(&values), &noisy).unwrap();
            let auc = crate::auc(&noisy, &values).unwrap();
            prop_assert!((suspects.figures().auroc - auc.half_credit).abs() < 1e-12);
        }

        #[test]
        fn two_means_is_the_best_of_all_splits(values in prop::collection::vec(-9_i32..9, 2..20)) {
            let mut values: Vec<f64> = values.into_iter().map(f64::from).collect();
            values.sort_by(f64::total_cmp);
            let within = |part: &[f64]| {
                let mean = part.iter().sum::<f64>() / part.len() as f64;
                part.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>()
            };
            let cost = |split: usize| within(&values[..split]) + within(&values[split..]);
            let best = (1..values.len()).map(cost).fold(f64::INFINITY, f64::min);
            match two_means(&values) {
                Some(last) => {
                    let split = values.partition_point(|&value| value <= last);
                    prop_assert!((cost(split) - best).abs() < 1e-9);
                }
                None => prop_assert!((values[0] - values[values.len() - 1]).abs() < 0.5),
            }
        }
    }
}
