//! What models train on: samples and sequences in columns.

use tables::{Event, ItemFeatures, Sample};

use crate::features::FeatureWeights;
use crate::history::{History, Sequences};

/// Training samples in columns, sorted by (sequence, history end, sample id): the order of the
/// table `samples`, so that sums do not depend on how samples arrive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    sample_ids: Vec<u64>,
    sequences: Vec<u32>,
    positions: Vec<u32>,
    history_ends: Vec<u32>,
    items: Vec<u32>,
    events: Vec<Option<Event>>,
    weights: Vec<f64>,
}

/// One sample of [`Samples`].
#[derive(Clone, Copy, Debug)]
struct Row {
    sample_id: u64,
    sequence: u32,
    position: u32,
    history_end: u32,
    item: u32,
    event: Option<Event>,
    weight: f64,
}

/// Samples, sequences and the numbers of items, checked against each other; items where a model
/// reads them.
#[derive(Clone, Copy, Debug)]
pub struct TrainingData<'a> {
    samples: &'a Samples,
    sequences: &'a Sequences,
    n_vocabulary: usize,
    items: Option<&'a [ItemFeatures]>,
    features: Option<&'a FeatureWeights>,
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

impl Samples {
    /// Adds a sample whose event comes right after its history, and of which nobody knows what was
    /// done; call [`Samples::sort`] after the last.
    pub fn push(
        &mut self,
        sample_id: u64,
        sequence: u32,
        history_end: u32,
        item: u32,
        weight: f64,
    ) {
        self.push_one(Row {
            sample_id,
            sequence,
            position: history_end,
            history_end,
            item,
            event: None,
            weight,
        });
    }

    /// Adds a row of the table `samples`, its weight times a factor; call [`Samples::sort`] after
    /// the last. The position of its event is not the end of its history where several events share
    /// an instant.
    pub fn push_row(&mut self, row: &Sample, factor: f64) {
        self.push_one(Row {
            sample_id: row.sample_id,
            sequence: row.sequence,
            position: row.position,
            history_end: row.history_end,
            item: row.item,
            event: Some(row.event),
            weight: row.weight * factor,
        });
    }

    fn push_one(&mut self, row: Row) {
        self.sample_ids.push(row.sample_id);
        self.sequences.push(row.sequence);
        self.positions.push(row.position);
        self.history_ends.push(row.history_end);
        self.items.push(row.item);
        self.events.push(row.event);
        self.weights.push(row.weight);
    }

    fn row(&self, at: usize) -> Row {
        Row {
            sample_id: self.sample_ids[at],
            sequence: self.sequences[at],
            position: self.positions[at],
            history_end: self.history_ends[at],
            item: self.items[at],
            event: self.events[at],
            weight: self.weights[at],
        }
    }

    fn of_rows(rows: impl Iterator<Item = Row>) -> Self {
        let mut samples = Self::default();
        for row in rows {
            samples.push_one(row);
        }
        samples
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
        let rows = (0..self.n()).map(|at| self.row(at));
        Self::of_rows(rows.filter(|row| is_kept(row.sequence)))
    }

    /// The samples with other weights: what `factor` gives for an id multiplies the weight, and
    /// `None` leaves the sample out.
    #[must_use]
    pub fn reweighted(&self, factor: impl Fn(u64) -> Option<f64>) -> Self {
        let rows = (0..self.n()).map(|at| self.row(at));
        Self::of_rows(rows.filter_map(|row| {
            factor(row.sample_id).map(|factor| Row {
                weight: row.weight * factor,
                ..row
            })
        }))
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
        *self = Self::of_rows(order.iter().map(|&at| self.row(at)));
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
            let last = history.items().last().copied();
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
            features: None,
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

    /// Adds what features are multiplied with.
    #[must_use]
    pub fn with_features(self, features: &'a FeatureWeights) -> Self {
        Self {
            features: Some(features),
            ..self
        }
    }

    /// What a feature is multiplied with: 1 if nobody said anything, 0 to leave it out.
    pub fn feature_weight(&self, feature: &str) -> f64 {
        self.features.map_or(1.0, |weights| weights.of(feature))
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

    /// What was done by a sample's own event, if it is known.
    pub fn event(&self, sample: usize) -> Option<Event> {
        self.samples.events[sample]
    }

    /// Events of all sequences, those after training among them.
    pub fn n_events(&self) -> usize {
        self.sequences.n_events()
    }

    /// How many events come before those of a sequence.
    pub fn first_event(&self, sequence: u32) -> usize {
        self.sequences.first_event(sequence)
    }

    /// The first `end` events of a sequence; none if it is shorter.
    pub fn events(&self, sequence: u32, end: u32) -> History<'a> {
        self.sequences.history(sequence, end).unwrap_or_default()
    }

    /// All events of a sequence from a position on, those after training among them.
    pub(crate) fn events_from(&self, sequence: u32, start: usize) -> History<'a> {
        self.sequences.all(sequence).skip(start)
    }

    /// Events of the same basket after a position of a sequence.
    pub(crate) fn mates_after(&self, sequence: u32, position: u32) -> u32 {
        self.sequences.mates_after(sequence, position)
    }

    /// History of a sample, oldest event first.
    pub fn history(&self, sample: usize) -> History<'a> {
        let (sequence, end) = (
            self.samples.sequences[sample],
            self.samples.history_ends[sample],
        );
        // `new` saw every history.
        self.events(sequence, end)
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
