//! Windows over training sequences, and which window each sample belongs to.
//!
//! Windows of `length` events start at multiples of `stride`. A sample belongs to the first window
//! that contains the last event of its history, and its loss is read at that event: so each sample
//! has exactly one loss term per epoch, and always sees the same events. Samples of one basket share
//! a history, hence a position. Samples without a history belong to no window.

use crate::data::TrainingData;
use crate::history::History;

/// Length and stride of windows, in events. `1 <= stride <= length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The most events of a window.
    pub(crate) length: u32,
    /// Windows start at multiples of it.
    pub(crate) stride: u32,
}

/// The loss term of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// The sample, as [`TrainingData`] numbers them.
    pub(crate) sample: u32,
    /// Where its history ends: an event of the window, from 0 up.
    pub(crate) position: u32,
}

/// Some events of a sequence and the samples whose losses are read there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) sequence: u32,
    /// First event.
    pub(crate) start: u32,
    /// One past the last event that a term of this window looks at.
    pub(crate) end: u32,
    /// Its terms, in [`Windows::terms`].
    pub(crate) terms: std::ops::Range<usize>,
}

/// All windows of a training set, by (sequence, start).
#[derive(Clone, Debug, Default)]
pub(crate) struct Windows {
    pub(crate) windows: Vec<Window>,
    pub(crate) terms: Vec<Term>,
}

impl Span {
    /// Start of the first window that contains an event.
    pub(crate) fn start(self, event: u32) -> u32 {
        let beyond = (event + 1).saturating_sub(self.length);
        beyond.div_ceil(self.stride.max(1)) * self.stride
    }

    /// What a sample with this history sees of it.
    pub(crate) fn seen(self, history: History<'_>) -> History<'_> {
        let last = u32::try_from(history.len()).unwrap_or(u32::MAX);
        let start = last.checked_sub(1).map_or(0, |last| self.start(last));
        history.skip(start as usize)
    }
}

impl Window {
    /// A name that no other window has and that does not depend on which windows there are.
    pub(crate) fn key(&self) -> u64 {
        (u64::from(self.sequence) << 32) | u64::from(self.start)
    }

    /// How many events it has.
    pub(crate) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// A name for an event of the window.
    pub(crate) fn row_key(&self, position: u32) -> u64 {
        // The finaliser of SplitMix64 spreads keys, so that positions of one window do not run
        // into the next.
        let mut key = self.key().wrapping_add(0x9e37_79b9_7f4a_7c15);
        key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (key ^ (key >> 31)).wrapping_add(u64::from(position))
    }
}

impl Windows {
    /// Cuts the sequences of training data into windows, with the terms of the samples that are
    /// kept.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "samples are numbered by 32 bits where they are read"
    )]
    pub(crate) fn new(
        data: &TrainingData<'_>,
        span: Span,
        is_kept: impl Fn(usize) -> bool,
    ) -> Self {
        let mut windows = Self::default();
        for samples in data.by_sequence() {
            let first = windows.windows.len();
            // Samples come by the end of their history, so windows come by their start.
            for sample in samples.filter(|&sample| is_kept(sample)) {
                let end = data.history_end(sample);
                let Some(event) = end.checked_sub(1) else {
                    continue;
                };
                let start = span.start(event);
                let term = windows.terms.len();
                windows.terms.push(Term {
                    sample: sample as u32,
                    position: event - start,
                });
                match windows.windows[first..].last_mut() {
                    Some(window) if window.start == start => {
                        window.end = end;
                        window.terms.end = term + 1;
                    }
                    _ => windows.windows.push(Window {
                        sequence: data.sequence(sample),
                        start,
                        end,
                        terms: term..term + 1,
                    }),
                }
            }
        }
        windows
    }

    /// The terms of a window.
    pub(crate) fn terms(&self, window: &Window) -> &[Term] {
        &self.terms[window.terms.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Samples, Sequences};

    #[test]
    fn a_sample_belongs_to_the_first_window_that_holds_its_last_event() {
        let span = Span {
            length: 4,
            stride: 2,
        };
        let starts: Vec<u32> = (0..9).map(|event| span.start(event)).collect();
        assert_eq!(starts, [0, 0, 0, 0, 2, 2, 4, 4, 6]);
        for length in 1..7 {
            for stride in 1..=length {
                let span = Span { length, stride };
                for event in 0..40 {
                    let first = (0..=event)
                        .map(|k| k * stride)
                        .find(|start| event < start + length);
                    assert_eq!(Some(span.start(event)), first);
                    assert!(span.start(event) <= event);
                }
            }
        }
    }

    #[test]
    fn samples_of_one_basket_share_a_position_and_first_events_have_none() {
        let mut sequences = Sequences::default();
        let mut samples = Samples::default();
        // Baskets {0}, {1, 2}, {3}, {4}.
        for (position, history_end) in [(0, 0), (1, 1), (2, 1), (3, 3), (4, 4)] {
            sequences.push(0, position, position).unwrap();
            samples.push(u64::from(position), 0, history_end, position, 1.0);
        }
        let data = TrainingData::new(&samples, &sequences, 5).unwrap();
        let span = Span {
            length: 3,
            stride: 3,
        };
        let windows = Windows::new(&data, span, |_| true);
        let at: Vec<(u32, u32)> = windows
            .terms
            .iter()
            .map(|term| (term.sample, term.position))
            .collect();
        assert_eq!(at, [(1, 0), (2, 0), (3, 2), (4, 0)]);
        let shapes: Vec<(u32, u32, usize)> = windows
            .windows
            .iter()
            .map(|window| (window.start, window.end, windows.terms(window).len()))
            .collect();
        assert_eq!(shapes, [(0, 3, 3), (3, 4, 1)]);
        assert_eq!(span.seen(History::of(&[0, 1, 2, 3])).items(), [3]);
        assert_eq!(span.seen(History::of(&[0, 1, 2])).items(), [0, 1, 2]);
    }
}
