//! Weighted counts of target items and of transitions, and the smoothed shares that several models
//! rest on.

use rayon::prelude::*;
use tensors::{Csr, CsrError, TensorError, Tensors};

use crate::data::TrainingData;
use crate::recommender::LoadError;

const NAME: &str = "item_counts";
const TRANSITIONS: &str = "transitions";

/// Weighted count of each vocabulary item as a target.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Counts {
    counts: Vec<f64>,
    /// N + V: sum of all weights plus size of the vocabulary.
    denominator: f64,
}

impl Counts {
    /// Counts the targets of samples.
    pub(crate) fn of(data: &TrainingData<'_>) -> Self {
        let mut counts = vec![0.0; data.n_vocabulary()];
        for sample in 0..data.n_samples() {
            counts[data.item(sample) as usize] += data.weight(sample);
        }
        Self::new(counts)
    }

    fn new(counts: Vec<f64>) -> Self {
        let denominator = counts.iter().sum::<f64>() + counts.len() as f64;
        Self {
            counts,
            denominator,
        }
    }

    /// By item, `[n_vocabulary]`.
    pub(crate) fn counts(&self) -> &[f64] {
        &self.counts
    }

    /// p = (c + 1) / (N + V); an item outside the vocabulary has c = 0.
    pub(crate) fn share(&self, item: u32) -> f64 {
        let count = self.counts.get(item as usize).copied().unwrap_or(0.0);
        (count + 1.0) / self.denominator
    }

    /// Whether an item was a target of training.
    pub(crate) fn is_target(&self, item: u32) -> bool {
        self.counts
            .get(item as usize)
            .is_some_and(|count| *count > 0.0)
    }

    /// The shares of items `0..shares.len()`.
    pub(crate) fn write_shares(&self, shares: &mut [f64]) {
        let (known, unknown) = shares.split_at_mut(self.counts.len().min(shares.len()));
        for (share, count) in known.iter_mut().zip(&self.counts) {
            *share = (count + 1.0) / self.denominator;
        }
        unknown.fill(1.0 / self.denominator);
    }

    /// Adds the counts to tensors.
    pub(crate) fn save(&self, tensors: &mut Tensors) -> Result<(), TensorError> {
        tensors.insert_f64(NAME, &[self.counts.len()], self.counts.clone())
    }

    /// Takes the counts from tensors.
    pub(crate) fn load(tensors: &Tensors) -> Result<Self, TensorError> {
        Ok(Self::new(tensors.f64(NAME)?.to_vec()))
    }
}

/// Weighted counts of (last item of the history, target).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transitions {
    /// `[n_vocabulary, n_vocabulary]`, without zeros.
    counts: Csr<f64>,
    /// Sum of each row.
    totals: Vec<f64>,
}

impl Transitions {
    /// Sums weights by (last item of the history, target), in the order of the samples.
    ///
    /// # Errors
    /// If a sum is more than a 64-bit float holds.
    pub(crate) fn of(data: &TrainingData<'_>) -> Result<Self, CsrError> {
        let n = data.n_vocabulary();
        // A counting sort by last item keeps the order of the samples within a row.
        let mut starts = vec![0_usize; n + 1];
        for sample in 0..data.n_samples() {
            if let Some(&from) = data.history(sample).items().last() {
                starts[from as usize + 1] += 1;
            }
        }
        for from in 0..n {
            starts[from + 1] += starts[from];
        }
        let mut next = starts.clone();
        let mut pairs = vec![(0_u32, 0.0_f64); starts[n]];
        for sample in 0..data.n_samples() {
            if let Some(&from) = data.history(sample).items().last() {
                let at = &mut next[from as usize];
                pairs[*at] = (data.item(sample), data.weight(sample));
                *at += 1;
            }
        }
        let rows: Vec<Vec<(u32, f64)>> = (0..n)
            .into_par_iter()
            .map(|from| {
                let mut row = pairs[starts[from]..starts[from + 1]].to_vec();
                row.sort_by_key(|(to, _)| *to);
                row.chunk_by(|a, b| a.0 == b.0)
                    .map(|chunk| (chunk[0].0, chunk.iter().map(|(_, weight)| weight).sum()))
                    .filter(|(_, weight)| *weight > 0.0)
                    .collect()
            })
            .collect();
        Ok(Self::new(Csr::from_rows(n, rows)?))
    }

    fn new(counts: Csr<f64>) -> Self {
        let totals = (0..counts.n_rows())
            .map(|from| counts.row(from).1.iter().sum::<f64>())
            .collect();
        Self { counts, totals }
    }

    /// `[n_vocabulary, n_vocabulary]`.
    pub(crate) fn counts(&self) -> &Csr<f64> {
        &self.counts
    }

    /// What came after an item of the vocabulary, ascending, and how often.
    pub(crate) fn after(&self, from: u32) -> (&[u32], &[f64]) {
        self.counts.row(from as usize)
    }

    /// How often a target came after an item of the vocabulary.
    pub(crate) fn count(&self, from: u32, to: u32) -> f64 {
        let (items, weights) = self.after(from);
        items.binary_search(&to).map_or(0.0, |at| weights[at])
    }

    /// How often anything came after an item; 0 outside the vocabulary.
    pub(crate) fn total(&self, from: u32) -> f64 {
        self.totals.get(from as usize).copied().unwrap_or(0.0)
    }

    /// Adds the counts to tensors.
    pub(crate) fn save(&self, tensors: &mut Tensors) -> Result<(), TensorError> {
        tensors.insert_csr_f64(TRANSITIONS, &self.counts)
    }

    /// Takes the counts of a vocabulary of `n` items from tensors.
    pub(crate) fn load(tensors: &Tensors, n: usize) -> Result<Self, LoadError> {
        let counts = tensors.csr_f64(TRANSITIONS)?;
        if counts.n_rows() != n || counts.n_columns != n {
            return Err(LoadError::Sizes {
                left: NAME,
                right: TRANSITIONS,
            });
        }
        Ok(Self::new(counts))
    }
}
