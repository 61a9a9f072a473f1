//! Figures of requests: members, columns, shared bootstrap intervals, paired differences.

use metrics::{Columns, Interval, MetricError, interval, resampled_means, sign_flip_p_value};
use rayon::prelude::*;
use stage::{Failure, Seed};

/// Resamples that one task computes; a bound on memory, without effect on results.
const CHUNK: u64 = 64;

/// Figures of some requests: one row a request, ascending by request.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Requests, as indices.
    pub(crate) members: Vec<usize>,
    /// Their figures.
    pub(crate) columns: Columns,
}

impl Figures {
    /// Number of requests.
    pub(crate) fn n(&self) -> u64 {
        self.members.len() as u64
    }

    /// Figures averaged over replicates, over the requests that all of them have.
    pub(crate) fn average(replicates: &[Self]) -> Result<Self, Failure> {
        let Some((first, others)) = replicates.split_first() else {
            return Ok(Self {
                members: Vec::new(),
                columns: Columns::new(0),
            });
        };
        let mut sum = first.clone();
        for other in others {
            sum = sum.combine(other, |a, b| a + b)?;
        }
        let n = replicates.len() as f64;
        sum.map(|value| value / n)
    }

    /// Differences from another set of figures, over the requests that both have.
    pub(crate) fn minus(&self, other: &Self) -> Result<Self, Failure> {
        self.combine(other, |a, b| a - b)
    }

    fn map(&self, change: impl Fn(f64) -> f64) -> Result<Self, Failure> {
        let mut columns = Columns::new(self.columns.n_columns());
        for row in 0..self.members.len() {
            let values: Vec<f64> = self
                .columns
                .row(row)
                .iter()
                .map(|&value| change(value))
                .collect();
            columns.push(&values).map_err(Failure::bug)?;
        }
        Ok(Self {
            members: self.members.clone(),
            columns,
        })
    }

    fn combine(&self, other: &Self, combine: impl Fn(f64, f64) -> f64) -> Result<Self, Failure> {
        let mut members = Vec::with_capacity(self.members.len());
        let mut columns = Columns::new(self.columns.n_columns());
        let mut there = 0;
        for (here, &member) in self.members.iter().enumerate() {
            while other
                .members
                .get(there)
                .is_some_and(|&other| other < member)
            {
                there += 1;
            }
            if other.members.get(there) == Some(&member) {
                let pairs = self.columns.row(here).iter().zip(other.columns.row(there));
                let values: Vec<f64> = pairs.map(|(&a, &b)| combine(a, b)).collect();
                columns.push(&values).map_err(Failure::bug)?;
                members.push(member);
            }
        }
        Ok(Self { members, columns })
    }

    /// Two-sided p-value of each column's mean, by sign flips that all comparisons share.
    pub(crate) fn p_values(&self, seed: Seed, permutations: u64) -> Result<Vec<f64>, Failure> {
        (0..self.columns.n_columns())
            .map(|column| {
                let seed = seed.child("sign_flips");
                sign_flip_p_value(&self.columns.column(column), seed, permutations)
                    .map_err(Failure::bug)
            })
            .collect()
    }
}

/// Percentile bootstrap intervals of the column means of many tables. Tables of equally many
/// requests share their resamples.
pub(crate) fn intervals(
    tables: &[&Figures],
    seed: Seed,
    resamples: u64,
) -> Result<Vec<Vec<Option<Interval>>>, Failure> {
    let seed = seed.child("bootstrap_requests");
    let mut found: Vec<Vec<Option<Interval>>> = tables
        .iter()
        .map(|table| vec![None; table.columns.n_columns()])
        .collect();
    let mut sizes: Vec<usize> = tables.iter().map(|table| table.columns.n_rows()).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes.into_iter().filter(|&size| size > 0) {
        let same: Vec<usize> = (0..tables.len())
            .filter(|&index| tables[index].columns.n_rows() == size)
            .collect();
        let columns: Vec<&Columns> = same.iter().map(|&index| &tables[index].columns).collect();
        let starts: Vec<u64> = (0..resamples.div_ceil(CHUNK))
            .map(|chunk| chunk * CHUNK)
            .collect();
        let chunks: Vec<Vec<Vec<f64>>> = starts
            .par_iter()
            .map(|&start| resampled_means(&columns, seed, start..(start + CHUNK).min(resamples)))
            .collect::<Result<_, MetricError>>()
            .map_err(Failure::bug)?;
        let means: Vec<Vec<f64>> = chunks.into_iter().flatten().collect();
        let mut column = 0;
        for index in same {
            for slot in &mut found[index] {
                *slot = interval(means.iter().map(|row| row[column]).collect());
                column += 1;
            }
        }
    }
    Ok(found)
}

/// Standard deviation (n - 1) of values over seeds; `None` below two.
pub(crate) fn spread(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values
        .iter()
        .map(|value| (value - mean) * (value - mean))
        .sum();
    Some((squares / (n - 1.0)).sqrt())
}
