//! Sequences with inserted events merged in, and the histories of samples.

use std::ops::Range;

use tables::{Event, Part};

use crate::catalogue::Numbers;
use crate::config::Scheme;
use crate::log::Log;
use crate::parts::Parts;

/// An event made up by planting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Inserted {
    /// Event of the log that it follows.
    pub(crate) host: usize,
    /// Sequence of the host.
    pub(crate) sequence: u32,
    /// Dense number of its item.
    pub(crate) item: u32,
    /// Milliseconds UTC; that of the host where the log has no instants.
    pub(crate) at: i64,
    /// Its identity: file 255.
    pub(crate) sample_id: u64,
}

/// All events of all sequences, in columns; positions count from the start of a sequence.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    /// Bounds: sequence `s` has `starts[s]..starts[s + 1]`.
    pub(crate) starts: Vec<usize>,
    /// Dense number of the item.
    pub(crate) item: Vec<u32>,
    /// Milliseconds UTC, or the order where the log has no instants.
    pub(crate) at: Vec<i64>,
    /// What was done.
    pub(crate) event: Vec<Event>,
    /// Identity.
    pub(crate) sample_id: Vec<u64>,
    /// Part.
    pub(crate) part: Vec<Part>,
    /// Session of the event or its host.
    pub(crate) session: Vec<u32>,
    /// Price in 1/10,000.
    pub(crate) price_e4: Vec<Option<i64>>,
    /// Events strictly earlier than this one, per event.
    pub(crate) history_end: Vec<u32>,
}

impl Sequences {
    /// Range of a sequence.
    pub(crate) fn range(&self, sequence: usize) -> Range<usize> {
        self.starts[sequence]..self.starts[sequence + 1]
    }

    /// Number of sequences.
    pub(crate) fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Merges the log with inserted events, which are sorted by host. A random split keeps
    /// training events only: an event that was held out is never in a history.
    pub(crate) fn of(
        log: &Log,
        parts: &Parts,
        numbers: &Numbers,
        inserted: &[Inserted],
        scheme: Scheme,
    ) -> Self {
        let mut sequences = Self::default();
        // (sort key, sample id, host event, item, instant)
        let mut rows: Vec<(i64, u64, usize, u32, i64)> = Vec::new();
        for (sequence, &user) in numbers.user_of_sequence.iter().enumerate() {
            rows.clear();
            for event in log.range(user) {
                if scheme == Scheme::Random && parts.part[event] != Part::Training {
                    continue;
                }
                let key = order(log, scheme, user, event);
                let item = numbers.item_of_raw[log.item[event] as usize];
                rows.push((key, log.sample_id[event], event, item, log.at[event]));
            }
            let from = inserted.partition_point(|row| (row.sequence as usize) < sequence);
            for row in inserted[from..]
                .iter()
                .take_while(|row| row.sequence as usize == sequence)
            {
                let key = if is_by_position(log, scheme) {
                    order(log, scheme, user, row.host)
                } else {
                    row.at
                };
                rows.push((key, row.sample_id, row.host, row.item, row.at));
            }
            rows.sort_unstable_by_key(|row| (row.0, row.1));
            sequences.starts.push(sequences.item.len());
            sequences.append(log, parts, &rows);
        }
        sequences.starts.push(sequences.item.len());
        sequences
    }

    fn append(&mut self, log: &Log, parts: &Parts, rows: &[(i64, u64, usize, u32, i64)]) {
        let start = self.item.len();
        for (position, &(_, sample_id, host, item, at)) in rows.iter().enumerate() {
            let earlier = if log.has_instants {
                // Instants do not fall along a sequence, so the equal ones are neighbours.
                let mut earlier = position;
                while earlier > 0 && self.at[start + earlier - 1] >= at {
                    earlier -= 1;
                }
                earlier
            } else {
                position
            };
            self.item.push(item);
            self.at.push(at);
            self.event.push(log.event[host]);
            self.sample_id.push(sample_id);
            self.part.push(parts.part[host]);
            self.session.push(log.session[host]);
            self.price_e4.push(if log.sample_id[host] == sample_id {
                log.price_e4[host]
            } else {
                None
            });
            self.history_end
                .push(u32::try_from(earlier).unwrap_or(u32::MAX));
        }
    }
}

/// Whether events are ordered by their position in the log rather than by instant: without instants,
/// and under leave-one-out, whose last two events must stay the last.
fn is_by_position(log: &Log, scheme: Scheme) -> bool {
    !log.has_instants || scheme == Scheme::LeaveOneOut
}

fn order(log: &Log, scheme: Scheme, user: usize, event: usize) -> i64 {
    if is_by_position(log, scheme) {
        i64::try_from(event - log.starts[user]).unwrap_or(i64::MAX)
    } else {
        log.at[event]
    }
}
