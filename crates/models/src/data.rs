//! What models train on: samples and sequences in columns.

use tables::ItemFeatures;

/// Items of all sequences, one after the other; a history is a prefix of one sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequences {
    /// End of each sequence in `items`.
    ends: Vec<u64>,
    items: Vec<u32>,
}

/// Training samples in columns, sorted by (sequence, history end, sample id): the order of the
/// table `samples`, so that sums do not depend on how samples arrive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    sample_ids: Vec<u64>,
    sequences: Vec<u32>,
    positions: Vec<u32>,
    history_ends: Vec<u32>,
    items: Vec<u32>,
    weights: Vec<f64>,
}

/// Samples, sequences and the numbers of items, checked against each other; items where a model
/// reads them.
#[derive(Clone, Copy, Debug)]
pub struct TrainingData<'a> {
    samples: &'a Samples,
    sequences: &'a Sequences,
    n_vocabulary: usize,
    items: Option<&'a [ItemFeatures]>,
}

/// What is wrong with training data.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DataError {
    /// No item was seen in training.
    #[error("the vocabulary is empty: no item has a training event")]
    EmptyVocabulary,
    /// Events of sequences are not in order or one is missing.
    #[error("event at position {position} of sequence {sequence} is out of order")]
    Order {
        /// The sequence.
        sequence: u32,
        /// The position.
        position: u32,
    },
    /// A history does not exist.
    #[error(
        "sample {sample_id} has a history of {end} events in sequence {sequence}, which is shorter"
    )]
    History {
        /// The sample.
        sample_id: u64,
        /// Its sequence.
        sequence: u32,
        /// End of its history.
        end: u32,
    },
    /// A target or the item before it is outside the vocabulary.
    #[error(
        "sample {sample_id} speaks of item {item}, but the vocabulary has {n_vocabulary} items"
    )]
    Item {
        /// The sample.
        sample_id: u64,
        /// The item.
        item: u32,
        /// Size of the vocabulary.
        n_vocabulary: usize,
    },
    /// A weight is negative or not finite.
    #[error("sample {sample_id} has weight {weight}, which is not a number from 0 up")]
    Weight {
        /// The sample.
        sample_id: u64,
        /// The weight.
        weight: f64,
    },
}

impl Sequences {
    /// Adds the next event.
    ///
    /// # Errors
    /// If events do not come by (sequence, position), or a position is left out.
    pub fn push(&mut self, sequence: u32, position: u32, item: u32) -> Result<(), DataError> {
        let sequence_at = sequence as usize;
        // Sequences without events are allowed and empty.
        while self.ends.len() <= sequence_at {
            self.ends.push(self.items.len() as u64);
        }
        let is_last = self.ends.len() == sequence_at + 1;
        if !is_last || self.len(sequence) != Some(position as usize) {
            return Err(DataError::Order { sequence, position });
        }
        self.items.push(item);
        self.ends[sequence_at] += 1;
        Ok(())
    }

    /// Number of sequences.
    pub fn n(&self) -> usize {
        self.ends.len()
    }

    fn len(&self, sequence: u32) -> Option<usize> {
        self.items_of(sequence).map(<[u32]>::len)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "ends are lengths of a vector"
    )]
    fn items_of(&self, sequence: u32) -> Option<&[u32]> {
        let sequence = sequence as usize;
        let end = *self.ends.get(sequence)?;
        let start = sequence
            .checked_sub(1)
            .map_or(0, |before| self.ends[before]);
        self.items.get(start as usize..end as usize)
    }

    /// Items of the first `end` events of a sequence; `None` if it is shorter. The empty history
    /// exists for every number, also of a sequence without events.
    pub fn history(&self, sequence: u32, end: u32) -> Option<&[u32]> {
        if end == 0 {
            return Some(&[]);
        }
        self.items_of(sequence)?.get(..end as usize)
    }
}

impl Samples {
    /// Adds a sample whose event comes right after its history; call [`Samples::sort`] after the
    /// last.
    pub fn push(
        &mut self,
        sample_id: u64,
        sequence: u32,
        history_end: u32,
        item: u32,
        weight: f64,
    ) {
        self.push_at(sample_id, sequence, history_end, history_end, item, weight);
    }

    /// Adds a sample with the position of its event in its sequence: not the end of its history
    /// where several events share an instant.
    pub fn push_at(
        &mut self,
        sample_id: u64,
        sequence: u32,
        position: u32,
        history_end: u32,
        item: u32,
        weight: f64,
    ) {
        self.sample_ids.push(sample_id);
        self.sequences.push(sequence);
        self.positions.push(position);
        self.history_ends.push(history_end);
        self.items.push(item);
        self.weights.push(weight);
    }

    /// Number of samples.
    pub fn n(&self) -> usize {
        self.items.len()
    }

    /// Sample id, sequence, history end, item and weight of a sample.
    #[cfg(test)]
    pub(crate) fn get(&self, at: usize) -> (u64, u32, u32, u32, f64) {
        (
            self.sample_ids[at],
            self.sequences[at],
            self.history_ends[at],
            self.items[at],
            self.weights[at],
        )
    }

    /// The samples of some sequences, in their order.
    #[must_use]
    pub fn of_sequences(&self, is_kept: impl Fn(u32) -> bool) -> Self {
        let kept: Vec<usize> = (0..self.n())
            .filter(|&at| is_kept(self.sequences[at]))
            .collect();
        Self {
            sample_ids: kept.iter().map(|&at| self.sample_ids[at]).collect(),
            sequences: kept.iter().map(|&at| self.sequences[at]).collect(),
            positions: kept.iter().map(|&at| self.positions[at]).collect(),
            history_ends: kept.iter().map(|&at| self.history_ends[at]).collect(),
            items: kept.iter().map(|&at| self.items[at]).collect(),
            weights: kept.iter().map(|&at| self.weights[at]).collect(),
        }
    }

    /// The samples with other weights: what `factor` gives for an id multiplies the weight, and
    /// `None` leaves the sample out.
    #[must_use]
    pub fn reweighted(&self, factor: impl Fn(u64) -> Option<f64>) -> Self {
        let mut samples = Self::default();
        for at in 0..self.n() {
            if let Some(factor) = factor(self.sample_ids[at]) {
                samples.push_at(
                    self.sample_ids[at],
                    self.sequences[at],
                    self.positions[at],
                    self.history_ends[at],
                    self.items[at],
                    self.weights[at] * factor,
                );
            }
        }
        samples
    }

    /// Ids in the order of the samples.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.sample_ids.iter().copied()
    }

    /// Sequence, end of the history and target item of each sample that counts for anything.
    pub fn targets(&self) -> impl Iterator<Item = (u32, u32, u32)> {
        (0..self.n())
            .filter(|&at| self.weights[at] > 0.0)
            .map(|at| (self.sequences[at], self.history_ends[at], self.items[at]))
    }

    /// Puts the samples into their order; free where they came in it.
    pub fn sort(&mut self) {
        let key = |at: usize| {
            (
                self.sequences[at],
                self.history_ends[at],
                self.sample_ids[at],
            )
        };
        if (1..self.n()).all(|at| key(at - 1) <= key(at)) {
            return;
        }
        let mut order: Vec<usize> = (0..self.n()).collect();
        order.sort_by_key(|&at| key(at));
        *self = Self {
            sample_ids: order.iter().map(|&at| self.sample_ids[at]).collect(),
            sequences: order.iter().map(|&at| self.sequences[at]).collect(),
            positions: order.iter().map(|&at| self.positions[at]).collect(),
            history_ends: order.iter().map(|&at| self.history_ends[at]).collect(),
            items: order.iter().map(|&at| self.items[at]).collect(),
            weights: order.iter().map(|&at| self.weights[at]).collect(),
        };
    }
}

impl<'a> TrainingData<'a> {
    /// Checks samples, sequences and the vocabulary against each other.
    ///
    /// # Errors
    /// If the vocabulary is empty, a history does not exist, an item is outside the vocabulary or
    /// a weight is not a number from 0 up.
    pub fn new(
        samples: &'a Samples,
        sequences: &'a Sequences,
        n_vocabulary: usize,
    ) -> Result<Self, DataError> {
        if n_vocabulary == 0 {
            return Err(DataError::EmptyVocabulary);
        }
        for at in 0..samples.n() {
            let sample_id = samples.sample_ids[at];
            let (sequence, end) = (samples.sequences[at], samples.history_ends[at]);
            let history = sequences.history(sequence, end).ok_or(DataError::History {
                sample_id,
                sequence,
                end,
            })?;
            let last = history.last().copied();
            for item in last.into_iter().chain([samples.items[at]]) {
                if item as usize >= n_vocabulary {
                    return Err(DataError::Item {
                        sample_id,
                        item,
                        n_vocabulary,
                    });
                }
            }
            let weight = samples.weights[at];
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(DataError::Weight { sample_id, weight });
            }
        }
        Ok(Self {
            samples,
            sequences,
            n_vocabulary,
            items: None,
        })
    }

    /// Adds what is known of the items: a row for each item of the catalogue, in their order.
    #[must_use]
    pub fn with_items(self, items: &'a [ItemFeatures]) -> Self {
        Self {
            items: Some(items),
            ..self
        }
    }

    /// What is known of the items, a row for each item of the catalogue, if it was given.
    pub fn items(&self) -> Option<&'a [ItemFeatures]> {
        self.items
    }

    /// Number of samples.
    pub fn n_samples(&self) -> usize {
        self.samples.n()
    }

    /// Number of items that occur in training: they are `0..n_vocabulary`.
    pub fn n_vocabulary(&self) -> usize {
        self.n_vocabulary
    }

    /// Number of sequences; every sample's is below it.
    pub fn n_sequences(&self) -> usize {
        let last = self.samples.sequences.last();
        let after = last.map_or(0, |last| *last as usize + 1);
        self.sequences.n().max(after)
    }

    /// Id of a sample.
    pub fn sample_id(&self, sample: usize) -> u64 {
        self.samples.sample_ids[sample]
    }

    /// Target item of a sample.
    pub fn item(&self, sample: usize) -> u32 {
        self.samples.items[sample]
    }

    /// Weight of a sample.
    pub fn weight(&self, sample: usize) -> f64 {
        self.samples.weights[sample]
    }

    /// Number of samples that count for anything: those with a weight above 0.
    pub fn n_weighted(&self) -> u64 {
        let weighted = self.samples.weights.iter().filter(|weight| **weight > 0.0);
        weighted.count() as u64
    }

    /// Sequence of a sample.
    pub fn sequence(&self, sample: usize) -> u32 {
        self.samples.sequences[sample]
    }

    /// Position of a sample's own event in its sequence.
    pub fn position(&self, sample: usize) -> u32 {
        self.samples.positions[sample]
    }

    /// Length of the history of a sample.
    pub fn history_end(&self, sample: usize) -> u32 {
        self.samples.history_ends[sample]
    }

    /// Items of the first `end` events of a sequence; none if it is shorter.
    pub fn events(&self, sequence: u32, end: u32) -> &'a [u32] {
        self.sequences.history(sequence, end).unwrap_or(&[])
    }

    /// History of a sample, oldest item first.
    pub fn history(&self, sample: usize) -> &'a [u32] {
        let (sequence, end) = (
            self.samples.sequences[sample],
            self.samples.history_ends[sample],
        );
        // `new` saw every history.
        self.sequences.history(sequence, end).unwrap_or(&[])
    }

    /// Ranges of samples that share a sequence.
    pub fn by_sequence(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let mut start = 0;
        self.samples
            .sequences
            .chunk_by(|a, b| a == b)
            .map(move |chunk| {
                let range = start..start + chunk.len();
                start = range.end;
                range
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences() -> Sequences {
        let mut sequences = Sequences::default();
        for (sequence, position, item) in [(0, 0, 5), (0, 1, 6), (2, 0, 7)] {
            sequences.push(sequence, position, item).unwrap();
        }
        sequences
    }

    #[test]
    fn histories_are_prefixes() {
        let sequences = sequences();
        assert_eq!(sequences.n(), 3);
        assert_eq!(sequences.history(0, 2), Some(&[5, 6][..]));
        assert_eq!(sequences.history(0, 1), Some(&[5][..]));
        assert_eq!(sequences.history(1, 0), Some(&[][..]));
        assert_eq!(sequences.history(1, 1), None);
        assert_eq!(sequences.history(2, 1), Some(&[7][..]));
        assert_eq!(sequences.history(9, 0), Some(&[][..]));
        assert_eq!(sequences.history(9, 1), None);
    }

    #[test]
    fn events_out_of_order_are_refused() {
        for (sequence, position) in [(1, 0), (2, 0), (2, 2), (3, 1)] {
            assert_eq!(
                sequences().push(sequence, position, 1),
                Err(DataError::Order { sequence, position })
            );
        }
    }

    #[test]
    fn impossible_samples_are_refused_by_name() {
        let sequences = sequences();
        for (sequence, end, item, weight, text) in [
            (0, 3, 0, 1.0, "history of 3 events in sequence 0"),
            (0, 0, 9, 1.0, "item 9"),
            (0, 2, 0, 1.0, "item 6"),
            (0, 0, 0, -1.0, "weight -1"),
            (0, 0, 0, f64::NAN, "weight NaN"),
        ] {
            let mut samples = Samples::default();
            samples.push(77, sequence, end, item, weight);
            let error = TrainingData::new(&samples, &sequences, 6).unwrap_err();
            let message = error.to_string();
            assert!(
                message.contains("sample 77") && message.contains(text),
                "{message}"
            );
        }
        let none = Samples::default();
        let empty = TrainingData::new(&none, &sequences, 0);
        assert_eq!(empty.unwrap_err(), DataError::EmptyVocabulary);
    }
}
