//! Weighted counts of target items, and the smoothed shares that several models rest on.

use tensors::{TensorError, Tensors};

use crate::data::TrainingData;

const NAME: &str = "item_counts";

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
