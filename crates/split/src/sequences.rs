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
    /// What was done: a click, or what the host is where the training part has no clicks.
    pub(crate) event: Event,
    /// Milliseconds UTC; the position of the host where the log has no instants.
    pub(crate) at: i64,
    /// Its identity: file 255.
    pub(crate) sample_id: u64,
}

/// An event on its way into a sequence, sorted by key and identity.
struct Placed {
    key: i64,
    sample_id: u64,
    /// The event itself, or the one that an inserted event follows.
    host: usize,
    item: u32,
    event: Event,
    at: i64,
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
        let mut rows: Vec<Placed> = Vec::new();
        for (sequence, &user) in numbers.user_of_sequence.iter().enumerate() {
            rows.clear();
            for event in log.range(user) {
                if scheme == Scheme::Random && parts.part[event] != Part::Training {
                    continue;
                }
                let key = order(log, user, event);
                let item = numbers.item_of_raw[log.item[event] as usize];
                rows.push(Placed {
                    key,
                    sample_id: log.sample_id[event],
                    host: event,
                    item,
                    event: log.event[event],
                    at: log.at[event],
                });
            }
            let from = inserted.partition_point(|row| (row.sequence as usize) < sequence);
            for row in inserted[from..]
                .iter()
                .take_while(|row| row.sequence as usize == sequence)
            {
                // Without instants it stands right after its host: its identity is the larger one.
                rows.push(Placed {
                    key: row.at,
                    sample_id: row.sample_id,
                    host: row.host,
                    item: row.item,
                    event: row.event,
                    at: row.at,
                });
            }
            rows.sort_unstable_by_key(|row| (row.key, row.sample_id));
            sequences.starts.push(sequences.item.len());
            sequences.append(log, parts, &rows);
        }
        sequences.starts.push(sequences.item.len());
        sequences
    }

    fn append(&mut self, log: &Log, parts: &Parts, rows: &[Placed]) {
        let start = self.item.len();
        for (position, row) in rows.iter().enumerate() {
            let &Placed {
                sample_id,
                host,
                item,
                event,
                at,
                ..
            } = row;
            // Instants do not fall along a sequence, so equal ones are neighbours and share a history.
            let is_tied = log.has_instants && position > 0 && self.at[start + position - 1] == at;
            let earlier = match self.history_end.last() {
                Some(shared) if is_tied => *shared,
                _ => u32::try_from(position).unwrap_or(u32::MAX),
            };
            self.item.push(item);
            self.at.push(at);
            self.event.push(event);
            self.sample_id.push(sample_id);
            self.part.push(parts.part[host]);
            self.session.push(log.session[host]);
            self.price_e4.push(if log.sample_id[host] == sample_id {
                log.price_e4[host]
            } else {
                None
            });
            self.history_end.push(earlier);
        }
    }
}

/// What events of a user are ordered by, before their identity: the instant, or the position in the
/// log where it has no instants. Planting keeps inserted events before what is held out.
fn order(log: &Log, user: usize, event: usize) -> i64 {
    if log.has_instants {
        log.at[event]
    } else {
        i64::try_from(event - log.starts[user]).unwrap_or(i64::MAX)
    }
}
