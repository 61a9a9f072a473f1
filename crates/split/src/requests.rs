//! Samples and requests.

use tables::{Event, Instant, Origin, Part, Request, Sample};

use crate::catalogue::Numbers;
use crate::config::{Config, Scheme};
use crate::log::Log;
use crate::parts::Parts;
use crate::plant::Replaced;
use crate::sequences::Sequences;

/// Every training event is a sample; `replaced` is sorted by event.
pub(crate) fn samples<'a>(
    sequences: &'a Sequences,
    has_instants: bool,
    replaced: &'a [Replaced],
) -> impl Iterator<Item = Sample> + 'a {
    let mut replaced = replaced.iter().peekable();
    (0..sequences.len()).flat_map(move |sequence| {
        let range = sequences.range(sequence);
        let start = range.start;
        let mut rows = Vec::with_capacity(range.len());
        for event in range {
            if sequences.part[event] != Part::Training {
                continue;
            }
            let planted = replaced.next_if(|row| row.event == event);
            rows.push(Sample {
                sample_id: sequences.sample_id[event],
                sequence: number(sequence),
                position: number(event - start),
                history_end: sequences.history_end[event],
                item: planted.map_or(sequences.item[event], |row| row.item),
                event: sequences.event[event],
                occurred_at: has_instants.then_some(Instant(sequences.at[event])),
                label: 1.0,
                weight: 1.0,
                origin: Origin::Observed,
            });
        }
        rows
    })
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// One request per user of a part, by part, then sequence.
pub(crate) fn requests(
    log: &Log,
    parts: &Parts,
    numbers: &Numbers,
    sequences: &Sequences,
    config: &Config,
) -> Vec<Request> {
    let counts =
        |event: Event| config.request_events.is_empty() || config.request_events.contains(&event);
    let mut requests = Vec::new();
    for part in [Part::ValuationFit, Part::ValuationTune, Part::Test] {
        for (sequence, &user) in numbers.user_of_sequence.iter().enumerate() {
            let mut relevant: Vec<u32> = log
                .range(user)
                .filter(|&event| parts.part[event] == part && counts(log.event[event]))
                .map(|event| numbers.item_of_raw[log.item[event] as usize])
                .collect();
            relevant.sort_unstable();
            relevant.dedup();
            if relevant.is_empty() {
                continue;
            }
            let (history_end, requested_at) = history(parts, sequences, sequence, part, config);
            requests.push(Request {
                request: number(requests.len()),
                part,
                sequence: number(sequence),
                history_end,
                requested_at,
                relevant,
            });
        }
    }
    requests
}

/// The end of a request's history, and its instant.
fn history(
    parts: &Parts,
    sequences: &Sequences,
    sequence: usize,
    part: Part,
    config: &Config,
) -> (u32, Option<Instant>) {
    let range = sequences.range(sequence);
    match (config.scheme, parts.cuts) {
        (Scheme::Temporal, Some((valuation, test))) => {
            let at = if part == Part::Test { test } else { valuation };
            let earlier = sequences.at[range].partition_point(|instant| *instant < at.0);
            (number(earlier), Some(at))
        }
        // All before the event, by position: the part's one event is the last or the one before it.
        (Scheme::LeaveOneOut, _) => {
            let start = range.start;
            let event = range.rev().find(|&event| sequences.part[event] == part);
            (number(event.map_or(0, |event| event - start)), None)
        }
        // Held-out events are in no sequence.
        _ => (number(range.len()), None),
    }
}
