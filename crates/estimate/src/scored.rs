//! Scores by sample, as results are made from them.

use attribution::Scores;
use tables::Suspect;

/// Scores in ascending order of sample identities.
pub(crate) struct Scored {
    /// The method.
    pub(crate) method: &'static str,
    /// The suspicious end of its scale.
    pub(crate) suspect: Suspect,
    /// Position of each sample in the problem.
    pub(crate) position: Vec<usize>,
    /// Identities, ascending.
    pub(crate) sample_ids: Vec<u64>,
    /// The scores.
    pub(crate) score: Vec<Option<f64>>,
}

impl Scored {
    pub(crate) fn new(
        method: &'static str,
        suspect: Suspect,
        ids: &[u64],
        scores: &Scores,
    ) -> Self {
        let mut position: Vec<usize> = (0..ids.len()).collect();
        position.sort_unstable_by_key(|&at| ids[at]);
        Self {
            method,
            suspect,
            sample_ids: position.iter().map(|&at| ids[at]).collect(),
            score: position.iter().map(|&at| scores.score[at]).collect(),
            position,
        }
    }

    /// Number of samples.
    pub(crate) fn len(&self) -> usize {
        self.score.len()
    }

    /// Rows with a score, ascending.
    pub(crate) fn rows(&self) -> impl Iterator<Item = usize> {
        (0..self.len()).filter(|&row| self.score[row].is_some())
    }

    /// A score, turned so that the suspicious end is low; 0 without one.
    pub(crate) fn helpfulness(&self, row: usize) -> f64 {
        let score = self.score[row].unwrap_or(0.0);
        match self.suspect {
            Suspect::Low => score,
            Suspect::High => -score,
        }
    }
}

#[cfg(test)]
impl Scored {
    /// Scores of samples 0, 1, ...
    pub(crate) fn of(scores: &[Option<f64>], suspect: Suspect) -> Self {
        Self {
            method: "test",
            suspect,
            position: (0..scores.len()).collect(),
            sample_ids: (0..scores.len() as u64).collect(),
            score: scores.to_vec(),
        }
    }
}
