//! Percentile bootstrap over rows, with resamples that all figures share.
//!
//! Resample `r` of `n` rows is a function of (seed, r, n): figures of different columns, tables and
//! threads meet the same rows, so that their resampled differences are paired.

use seed::{Seed, Stream};

use crate::failure::{MetricError, check_length};

/// Resamples that are summed side by side: their weights of one row fill a cache line.
const LANES: usize = 8;

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end, the 0.025 quantile.
    pub low: f64,
    /// Upper end, the 0.975 quantile.
    pub high: f64,
}

impl Interval {
    /// Whether a value lies in it, ends included.
    pub fn holds(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// Draws rows with replacement.
#[derive(Clone, Copy, Debug)]
pub struct Resampler {
    stream: Stream,
    n_rows: usize,
}

impl Resampler {
    /// Resamples of `n_rows` rows. At most 2^32 rows can be told apart.
    pub fn new(seed: Seed, n_rows: usize) -> Self {
        Self {
            stream: seed.stream(),
            n_rows,
        }
    }

    /// Calls `draw` with the row of each of the draws of one resample, in order.
    ///
    /// A draw takes 32 bits; its bias is below `n_rows` / 2^32.
    pub fn each(&self, resample: u64, mut draw: impl FnMut(usize)) {
        let n = self.n_rows as u64;
        let row = |bits: u64| usize::try_from((bits * n) >> 32).unwrap_or(0);
        let mut left = self.n_rows;
        let mut lane = 0;
        while left > 0 {
            let bits = self.stream.bits(resample, lane);
            draw(row(bits & 0xffff_ffff));
            if left > 1 {
                draw(row(bits >> 32));
            }
            left -= left.min(2);
            lane += 1;
        }
    }
}

/// Figures of rows (requests): one row each, one column a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    n_columns: usize,
    values: Vec<f64>,
}

impl Columns {
    /// No rows yet.
    pub fn new(n_columns: usize) -> Self {
        Self {
            n_columns,
            values: Vec::new(),
        }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If it has another number of columns.
    pub fn push(&mut self, row: &[f64]) -> Result<(), MetricError> {
        check_length(self.n_columns, row.len())?;
        self.values.extend_from_slice(row);
        Ok(())
    }

    /// Number of columns.
    pub fn n_columns(&self) -> usize {
        self.n_columns
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.values.len().checked_div(self.n_columns).unwrap_or(0)
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.n_columns..(row + 1) * self.n_columns]
    }

    /// All values of one column.
    pub fn column(&self, column: usize) -> Vec<f64> {
        self.values
            .iter()
            .skip(column)
            .step_by(self.n_columns.max(1))
            .copied()
            .collect()
    }

    /// Rows and values of each column that are not zero, ascending by row.
    fn nonzero(&self) -> Vec<Vec<(usize, f64)>> {
        let mut columns = vec![Vec::new(); self.n_columns];
        for (row, values) in self.values.chunks_exact(self.n_columns.max(1)).enumerate() {
            for (column, &value) in columns.iter_mut().zip(values) {
                if value.abs() > 0.0 || value.is_nan() {
                    column.push((row, value));
                }
            }
        }
        columns
    }

    /// Mean of each column; 0 without rows.
    pub fn means(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.n_columns];
        for row in self.values.chunks_exact(self.n_columns.max(1)) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
        let n = (self.n_rows() as f64).max(1.0);
        sums.iter().map(|sum| sum / n).collect()
    }
}

/// Column means of each of the resamples `resamples`, one row a resample, the columns of all tables
/// one after the other. The tables must be of the same rows; each resample is drawn once for all.
///
/// # Errors
/// If the tables differ in their number of rows.
pub fn resampled_means(
    tables: &[&Columns],
    seed: Seed,
    resamples: std::ops::Range<u64>,
) -> Result<Vec<Vec<f64>>, MetricError> {
    let n_rows = tables.first().map_or(0, |columns| columns.n_rows());
    for columns in tables {
        check_length(n_rows, columns.n_rows())?;
    }
    // Figures of requests are mostly zeros, which no weight changes.
    let columns: Vec<Vec<(usize, f64)>> = tables.iter().flat_map(|table| table.nonzero()).collect();
    let resampler = Resampler::new(seed, n_rows);
    let n = (n_rows as f64).max(1.0);
    let mut means = Vec::new();
    let mut weights = vec![[0.0; LANES]; n_rows];
    let mut first = resamples.start;
    while first < resamples.end {
        weights.fill([0.0; LANES]);
        let batch: Vec<u64> = (first..resamples.end).take(LANES).collect();
        for (lane, &resample) in batch.iter().enumerate() {
            resampler.each(resample, |row| weights[row][lane] += 1.0);
        }
        let sums: Vec<[f64; LANES]> = columns
            .iter()
            .map(|column| weighted_sums(column, &weights))
            .collect();
        for (lane, _) in batch.iter().enumerate() {
            means.push(sums.iter().map(|sum| sum[lane] / n).collect());
        }
        first += LANES as u64;
    }
    Ok(means)
}

fn weighted_sums(column: &[(usize, f64)], weights: &[[f64; LANES]]) -> [f64; LANES] {
    let mut sums = [0.0; LANES];
    for &(row, value) in column {
        for (sum, weight) in sums.iter_mut().zip(&weights[row]) {
            *sum += weight * value;
        }
    }
    sums
}

/// 95 % percentile bootstrap interval of each column's mean; `None` without rows or resamples.
pub fn mean_intervals(columns: &Columns, seed: Seed, resamples: u64) -> Vec<Option<Interval>> {
    let n_resamples = if columns.n_rows() == 0 { 0 } else { resamples };
    // One table has one number of rows.
    let means = resampled_means(&[columns], seed, 0..n_resamples).unwrap_or_default();
    (0..columns.n_columns)
        .map(|column| interval(means.iter().map(|row| row[column]).collect()))
        .collect()
}

/// The 0.025 and 0.975 quantiles of resampled figures; `None` if there are none.
pub fn interval(mut resampled: Vec<f64>) -> Option<Interval> {
    resampled.sort_by(f64::total_cmp);
    Some(Interval {
        low: quantile(&resampled, 25)?,
        high: quantile(&resampled, 975)?,
    })
}

/// Quantile of ascending values at a probability in thousandths, linear between neighbours; `None`
/// without values.
pub fn quantile(ascending: &[f64], per_mille: usize) -> Option<f64> {
    let last = ascending.len().checked_sub(1)?;
    let place = per_mille.min(1000) * last;
    let value = ascending[place / 1000];
    let next = ascending[(place / 1000 + 1).min(last)];
    Some(value + (place % 1000) as f64 / 1000.0 * (next - value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn columns(rows: &[Vec<f64>]) -> Columns {
        let mut columns = Columns::new(rows[0].len());
        for row in rows {
            columns.push(row).unwrap();
        }
        columns
    }

    #[test]
    fn quantiles_by_hand() {
        let values = [0.0, 10.0, 20.0, 30.0, 40.0];
        for (per_mille, wanted) in [(0, 0.0), (500, 20.0), (625, 25.0), (1000, 40.0)] {
            assert!((quantile(&values, per_mille).unwrap() - wanted).abs() < 1e-12);
        }
        assert_eq!(quantile(&[], 500), None);
    }

    #[test]
    fn every_row_is_drawn_equally_often() {
        for n in [1, 2, 3, 8] {
            let resampler = Resampler::new(Seed::root(5).child("bootstrap"), n);
            let mut counts = vec![0_u32; n];
            for resample in 0..20_000 {
                let mut drawn = 0;
                resampler.each(resample, |row| {
                    counts[row] += 1;
                    drawn += 1;
                });
                assert_eq!(drawn, n);
            }
            for count in counts {
                // Five standard deviations of a binomial count with mean 20,000.
                assert!(
                    (f64::from(count) - 20_000.0).abs() < 710.0,
                    "{count} of {n}"
                );
            }
        }
    }

    #[test]
    fn interval_of_a_mean_has_the_width_that_theory_gives() {
        // 2,000 rows of a fair coin: standard error of the mean 0.5 / sqrt(2000) = .01118.
        let rows: Vec<Vec<f64>> = (0..2000_u32).map(|row| vec![f64::from(row % 2)]).collect();
        let found = mean_intervals(&columns(&rows), Seed::root(1), 2000)[0].unwrap();
        let half = (found.high - found.low) / 2.0;
        assert!((half / (1.96 * 0.011_18) - 1.0).abs() < 0.06, "{found:?}");
        assert!(found.holds(0.5));
    }

    #[test]
    fn columns_share_their_resamples() {
        let rows: Vec<Vec<f64>> = (0..50_u32)
            .map(|row| vec![f64::from(row), f64::from(row) + 3.0])
            .collect();
        let other = columns(
            &(0..50_u32)
                .map(|row| vec![2.0 * f64::from(row)])
                .collect::<Vec<_>>(),
        );
        let tables = [&columns(&rows), &other];
        for means in resampled_means(&tables, Seed::root(2), 0..50).unwrap() {
            assert!((means[1] - means[0] - 3.0).abs() < 1e-9);
            assert!((means[2] - 2.0 * means[0]).abs() < 1e-9);
        }
        assert_eq!(
            resampled_means(&[&other, &Columns::new(1)], Seed::root(2), 0..1),
            Err(MetricError::Length {
                wanted: 50,
                found: 0
            })
        );
    }

    #[test]
    fn nothing_has_no_interval() {
        assert_eq!(
            mean_intervals(&Columns::new(2), Seed::root(0), 10),
            [None, None]
        );
        assert_eq!(interval(Vec::new()), None);
        assert_eq!(
            Columns::new(2).push(&[1.0]),
            Err(MetricError::Length {
                wanted: 2,
                found: 1
            })
        );
    }

    proptest! {
        #[test]
        fn resamples_do_not_depend_on_their_range(
            values in prop::collection::vec(-1.0_f64..1.0, 1..20), cut in 0_u64..10
        ) {
            let rows: Vec<Vec<f64>> = values.iter().map(|&value| vec![value]).collect();
            let columns = columns(&rows);
            let means = |range| resampled_means(&[&columns], Seed::root(3), range).unwrap();
            let whole = means(0..10);
            let mut parts = means(0..cut);
            parts.extend(means(cut..10));
            prop_assert_eq!(whole, parts);
        }

        #[test]
        fn an_interval_lies_within_the_data(values in prop::collection::vec(-1.0_f64..1.0, 1..20)) {
            let rows: Vec<Vec<f64>> = values.iter().map(|&value| vec![value]).collect();
            let found = mean_intervals(&columns(&rows), Seed::root(4), 100)[0].unwrap();
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(low - 1e-12 <= found.low && found.low <= found.high && found.high <= high + 1e-12);
        }
    }
}
