//! Which windows are trained together, in which order: a function of (seed, epoch) alone.
//!
//! Windows are shuffled, cut into groups, sorted by length inside a group, and taken into batches
//! of so many rows; the batches are shuffled again. So a batch holds windows of like length, little
//! of it is padding, and all batches have about as many loss terms. Weights change no batch.

use seed::Seed;
use tables::Event;
use tensors::PADDING;

use super::windows::{Window, Windows};
use crate::data::TrainingData;
use crate::history::History;

/// Batches whose windows are sorted by length together.
const GROUP: usize = 32;

/// Loss terms of a batch, in columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// The row of the batch where the loss is read.
    pub(crate) rows: Vec<u32>,
    /// The item that should have been predicted.
    pub(crate) targets: Vec<u32>,
    /// What the loss is multiplied by.
    pub(crate) weights: Vec<f64>,
    /// Ids of the samples: chance that belongs to a sample is drawn by them.
    pub(crate) sample_ids: Vec<u64>,
}

/// Windows side by side, padded behind to the longest: `n * length` rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    /// Rows of a window.
    pub(crate) length: usize,
    /// Items by row; [`PADDING`] where there is none.
    pub(crate) items: Vec<u32>,
    /// Position in its window by row.
    pub(crate) positions: Vec<u32>,
    /// What was done by row, where there is an event and it is known.
    pub(crate) events: Vec<Option<Event>>,
    /// Events before it in its basket by row; [`PADDING`] where there is no event.
    pub(crate) places: Vec<u32>,
    /// Whether a row holds an item.
    pub(crate) valid: Vec<bool>,
    /// Whether a row holds an item that is hidden: its item is [`PADDING`] and it is valid. Empty
    /// where nothing is.
    pub(crate) masked: Vec<bool>,
    /// Names of rows, by which dropout is drawn.
    pub(crate) row_keys: Vec<u64>,
    /// Where losses are read.
    pub(crate) terms: Terms,
}

impl Batch {
    /// Events side by side, without terms. Items from `n_items` up are padding.
    pub(crate) fn of(sequences: &[History<'_>], n_items: usize) -> Self {
        let length = sequences.iter().map(|events| events.len());
        let length = length.max().unwrap_or(0);
        let mut batch = Self {
            length: length.max(1),
            ..Self::default()
        };
        for events in sequences {
            for (position, at) in (0_u32..).zip(0..batch.length) {
                let item = events.items().get(at).copied();
                let item = item.filter(|item| (*item as usize) < n_items);
                let place = item.map(|_| events.place(at));
                batch.items.push(item.unwrap_or(PADDING));
                batch.events.push(item.and_then(|_| events.event(at)));
                batch.places.push(place.unwrap_or(PADDING));
                batch.valid.push(item.is_some());
                batch.positions.push(position);
            }
        }
        batch
    }

    /// Takes away what a row holds: nobody sees it.
    pub(crate) fn hide(&mut self, row: usize) {
        self.items[row] = PADDING;
        self.events[row] = None;
        self.places[row] = PADDING;
        self.valid[row] = false;
    }

    /// Hides a row behind a mask: all see that there is something.
    pub(crate) fn mask(&mut self, row: usize) {
        self.hide(row);
        self.valid[row] = true;
        self.masked.resize(self.items.len(), false);
        self.masked[row] = true;
    }

    /// Some windows and the terms of their samples.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a batch has far fewer rows than 2^32"
    )]
    pub(crate) fn of_windows(
        data: &TrainingData<'_>,
        windows: &Windows,
        chosen: &[&Window],
    ) -> Self {
        let events: Vec<History<'_>> = chosen
            .iter()
            .map(|window| {
                let history = data.events(window.sequence, window.end);
                history.skip(window.start as usize)
            })
            .collect();
        let mut batch = Self::of(&events, data.n_vocabulary());
        for (index, window) in chosen.iter().enumerate() {
            let first = (index * batch.length) as u32;
            for position in 0..batch.length as u32 {
                batch.row_keys.push(window.row_key(position));
            }
            for term in windows.terms(window) {
                let sample = term.sample as usize;
                batch.terms.rows.push(first + term.position);
                batch.terms.targets.push(data.item(sample));
                batch.terms.weights.push(data.weight(sample));
                batch.terms.sample_ids.push(data.sample_id(sample));
            }
        }
        batch
    }
}

/// The batches of an epoch, each a list of windows by number.
pub(crate) fn batches(windows: &Windows, rows: usize, seed: Seed, epoch: u64) -> Vec<Vec<u32>> {
    let stream = seed.child("order").index(epoch).stream();
    let all = &windows.windows;
    let mut order: Vec<(u64, u64, u32)> = (0_u32..)
        .zip(all)
        .map(|(at, window)| (stream.bits(window.key(), 0), window.key(), at))
        .collect();
    order.sort_unstable();
    let length = |at: u32| all[at as usize].len();
    let mut batches = Vec::new();
    let n_rows: usize = all.iter().map(Window::len).sum();
    // As many windows as have about GROUP batches of rows.
    let mean = n_rows.div_ceil(all.len().max(1)).max(1);
    let group = (GROUP * rows).div_ceil(mean).max(1);
    for group in order.chunks_mut(group) {
        // Stable: windows of one length stay shuffled.
        group.sort_by_key(|(_, _, at)| length(*at));
        let mut batch: Vec<u32> = Vec::new();
        for &(_, _, at) in &*group {
            if !batch.is_empty() && (batch.len() + 1) * length(at) > rows {
                batches.push(std::mem::take(&mut batch));
            }
            batch.push(at);
        }
        batches.push(batch);
    }
    batches.retain(|batch| !batch.is_empty());
    let stream = seed.child("batches").index(epoch).stream();
    let mut keyed: Vec<(u64, usize)> = (0..batches.len())
        .map(|at| (stream.bits(at as u64, 0), at))
        .collect();
    keyed.sort_unstable();
    keyed
        .into_iter()
        .map(|(_, at)| std::mem::take(&mut batches[at]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::log;
    use crate::sequence::windows::Span;

    fn windows_of(lengths: &[usize]) -> Windows {
        let items: Vec<Vec<u32>> = lengths.iter().map(|&n| vec![0; n]).collect();
        let weights: Vec<Vec<f64>> = lengths.iter().map(|&n| vec![1.0; n]).collect();
        let logs: Vec<(&[u32], &[f64])> = items
            .iter()
            .zip(&weights)
            .map(|(items, weights)| (items.as_slice(), weights.as_slice()))
            .collect();
        let (samples, sequences) = log(&logs);
        let data = TrainingData::new(&samples, &sequences, 1).unwrap();
        Windows::new(
            &data,
            Span {
                length: 8,
                stride: 8,
            },
            |_| true,
        )
    }

    #[test]
    fn every_window_is_in_one_batch_of_an_epoch_and_epochs_differ() {
        let lengths: Vec<usize> = (0..200).map(|at| 2 + at * 7 % 12).collect();
        let windows = windows_of(&lengths);
        let seed = Seed::root(4);
        let first = batches(&windows, 24, seed, 0);
        let mut seen: Vec<u32> = first.iter().flatten().copied().collect();
        seen.sort_unstable();
        let all: Vec<u32> = (0..u32::try_from(windows.windows.len()).unwrap()).collect();
        assert_eq!(seen, all);
        for batch in &first {
            let longest = batch.iter().map(|at| windows.windows[*at as usize].len());
            assert!(longest.max().unwrap() * batch.len() <= 24);
        }
        assert_eq!(first, batches(&windows, 24, seed, 0));
        assert_ne!(first, batches(&windows, 24, seed, 1));
        assert_ne!(first, batches(&windows, 24, Seed::root(5), 0));
    }

    #[test]
    fn a_window_that_is_longer_than_a_batch_is_a_batch() {
        let windows = windows_of(&[9, 9]);
        assert_eq!(batches(&windows, 1, Seed::root(4), 0).len(), 2);
        assert!(batches(&windows_of(&[1]), 1, Seed::root(4), 0).is_empty());
    }
}
