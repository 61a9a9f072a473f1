//! Noise whose truth is known, planted in the training part alone.
//!
//! *Event noise* inserts events before histories are built, so that each is a sample and an input.
//! Bots, bursts and accidents click: a purchase that nobody meant would be another kind of noise.
//! *Label noise* replaces the target of a sample by an item that the user never touched in the
//! training part; event stream and histories stay clean. Never touched at all would ask the future:
//! an item that the user takes up later could not be drawn, and its absence would tell. Who is hit
//! is a function of the seed and the sample's identity, so that adding events elsewhere moves
//! nothing.

use seed::{Seed, Stream};
use stage::{Exit, Failure};
use tables::{Event, INSERTED_FILE, Part, Planted, SampleId};

use crate::catalogue::Numbers;
use crate::config::EventNoise;
use crate::log::Log;
use crate::parts::Parts;
use crate::sequences::{Inserted, Sequences};

/// A kind of event noise: runs of events beside a genuine one, the host.
struct Kind {
    name: &'static str,
    rate: f64,
    /// Events of a run; the last one may be cut short, so that the share is exact.
    run: usize,
    /// Milliseconds between the events of a run.
    step_ms: i64,
}

/// A bot walks down the list of popular items, one item every two seconds. A burst is one item again
/// and again. An accident is one event, seconds from a genuine one.
fn kinds(noise: EventNoise) -> [Kind; 3] {
    let kind = |name, rate, run, step_ms| Kind {
        name,
        rate,
        run,
        step_ms,
    };
    [
        kind(BOT, noise.bots, 20, 2_000),
        kind("event_noise.burst", noise.bursts, 10, 1_000),
        kind("event_noise.accident", noise.accidents, 1, 3_000),
    ]
}

const BOT: &str = "event_noise.bot";

/// Bots know one item in so many: the most frequent ones.
const BOT_ITEMS: usize = 10;

/// A share of a number, rounded to the nearest whole.
pub(crate) fn share(rate: f64, n: usize) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate in [0, 1] of a length"
    )]
    let share = (rate * n as f64).round() as usize;
    share
}

/// The first `n` in the order of their draws, ties by identity; each is (identity, event, sequence).
fn drawn(
    n: usize,
    stream: Stream,
    candidates: impl Iterator<Item = (u64, usize, u32)>,
) -> Vec<(u64, usize, u32)> {
    if n == 0 {
        return Vec::new();
    }
    let mut ranked: Vec<(u64, (u64, usize, u32))> = candidates
        .map(|candidate| (stream.bits(candidate.0, 0), candidate))
        .collect();
    if n < ranked.len() {
        ranked.select_nth_unstable(n - 1);
        ranked.truncate(n);
    }
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Makes the inserted events, sorted by sequence, and their rows of `planted`.
pub(crate) fn event_noise(
    log: &Log,
    parts: &Parts,
    numbers: &Numbers,
    noise: EventNoise,
    seed: Seed,
) -> Result<(Vec<Inserted>, Vec<Planted>), Failure> {
    let hosts = || {
        (0_u32..)
            .zip(&numbers.user_of_sequence)
            .flat_map(|(sequence, &user)| log.range(user).map(move |event| (event, sequence)))
            .filter(|(event, _)| parts.part[*event] == Part::Training)
    };
    let n_hosts = hosts().count();
    let popular = popular_items(log, numbers, hosts());
    // Asked of the training part alone: a later click must not change what is planted.
    let has_clicks = hosts().any(|(event, _)| log.event[event] == Event::Click);
    let mut inserted = Vec::new();
    let mut planted = Vec::new();
    for kind in kinds(noise) {
        let stream = seed.child(kind.name).stream();
        let mut left = share(kind.rate, n_hosts);
        let candidates = hosts().map(|(event, sequence)| (log.sample_id[event], event, sequence));
        for (id, host, sequence) in drawn(left.div_ceil(kind.run), stream, candidates) {
            let n = left.min(kind.run);
            left -= n;
            let latest = latest(log, parts, numbers, host, sequence);
            for (step, at) in instants(log, host, n, kind.step_ms, latest).enumerate() {
                let item = if kind.name == BOT {
                    let start = stream.below(popular.len() as u64, id, 1);
                    let start = usize::try_from(start).map_err(Failure::bug)?;
                    popular[(start + step) % popular.len()]
                } else {
                    // One item for the whole run.
                    let item = stream.below(numbers.n_vocabulary as u64, id, 1);
                    u32::try_from(item).map_err(Failure::bug)?
                };
                let sample_id = SampleId::new(INSERTED_FILE, inserted.len() as u64, 0)
                    .ok_or_else(|| Failure::new(Exit::Data, "more events to insert than 2^40"))?;
                inserted.push(Inserted {
                    host,
                    sequence,
                    item,
                    event: if has_clicks {
                        Event::Click
                    } else {
                        log.event[host]
                    },
                    at,
                    sample_id: sample_id.0,
                });
                planted.push(Planted {
                    sample_id: sample_id.0,
                    kind: kind.name.to_owned(),
                    clean_item: None,
                });
            }
        }
    }
    inserted.sort_by_key(|row| (row.sequence, row.sample_id));
    Ok((inserted, planted))
}

/// The instant that an inserted event must stay before: the end of the training part, or the first
/// event of the user that is held out. A random split holds events out from every instant.
fn latest(log: &Log, parts: &Parts, numbers: &Numbers, host: usize, sequence: u32) -> i64 {
    if let Some((valuation, _)) = parts.cuts {
        return valuation.0;
    }
    let range = log.range(numbers.user_of_sequence[sequence as usize]);
    let trails = |event: usize| parts.part[event] != Part::Training;
    // Under leave-one-out what is held out comes last; the random scheme keeps it in no sequence.
    let held_out = range
        .clone()
        .rev()
        .take_while(|&event| trails(event))
        .last();
    match held_out {
        Some(event) if event > host => log.at[event],
        _ => i64::MAX,
    }
}

/// Instants of a run: steps after the host, or before it where those would reach `latest`.
fn instants(
    log: &Log,
    host: usize,
    n: usize,
    step_ms: i64,
    latest: i64,
) -> impl Iterator<Item = i64> {
    let at = log.at[host];
    // Without instants an inserted event stands right after its host.
    let step_ms = if log.has_instants { step_ms } else { 0 };
    let n = i64::try_from(n).unwrap_or(i64::MAX);
    let is_after = step_ms == 0 || at.saturating_add(step_ms.saturating_mul(n)) < latest;
    let first = if is_after { 1 } else { -n };
    (0..n).map(move |step| at.saturating_add(step_ms * (first + step)))
}

/// The most frequent items of the training part, most frequent first, ties by number.
fn popular_items(
    log: &Log,
    numbers: &Numbers,
    hosts: impl Iterator<Item = (usize, u32)>,
) -> Vec<u32> {
    let mut counts = vec![0_u64; numbers.n_vocabulary];
    for (event, _) in hosts {
        counts[numbers.item_of_raw[log.item[event] as usize] as usize] += 1;
    }
    let mut items: Vec<u32> = (0_u32..).take(numbers.n_vocabulary).collect();
    items.sort_by_key(|&item| (std::cmp::Reverse(counts[item as usize]), item));
    items.truncate((numbers.n_vocabulary / BOT_ITEMS).max(1));
    items
}

/// A replaced target: index into the columns of the sequences, and the new item.
#[derive(Debug)]
pub(crate) struct Replaced {
    /// Index of the event.
    pub(crate) event: usize,
    /// The item that is planted.
    pub(crate) item: u32,
}

/// Distinct items of the training events of a sequence, ascending.
fn touched(sequences: &Sequences, sequence: u32) -> Vec<u32> {
    let mut touched: Vec<u32> = sequences
        .range(sequence as usize)
        .filter(|&event| sequences.part[event] == Part::Training)
        .map(|event| sequences.item[event])
        .collect();
    touched.sort_unstable();
    touched.dedup();
    touched
}

/// Chooses exactly the share of genuine training events, and a new target for each, sorted by event.
///
/// A sample whose user touched the whole vocabulary cannot be corrupted: another one is.
///
/// # Errors
/// If too few samples can be corrupted.
pub(crate) fn label_noise(
    sequences: &Sequences,
    n_vocabulary: usize,
    rate: f64,
    seed: Seed,
) -> Result<(Vec<Replaced>, Vec<Planted>), Failure> {
    let is_genuine = |event: usize| {
        sequences.part[event] == Part::Training
            && SampleId(sequences.sample_id[event]).file() != INSERTED_FILE
    };
    let n_genuine = (0..sequences.item.len())
        .filter(|&event| is_genuine(event))
        .count();
    let n_wanted = share(rate, n_genuine);
    if n_wanted == 0 {
        return Ok((Vec::new(), Vec::new()));
    }
    let stream = seed.child("label_noise").stream();
    let candidates = (0_u32..)
        .take(sequences.len())
        .filter(|&sequence| touched(sequences, sequence).len() < n_vocabulary)
        .flat_map(|sequence| {
            let events = sequences.range(sequence as usize);
            events.map(move |event| (sequences.sample_id[event], event, sequence))
        })
        .filter(|(_, event, _)| is_genuine(*event));
    let mut chosen = drawn(n_wanted, stream, candidates);
    if chosen.len() < n_wanted {
        return Err(Failure::new(
            Exit::Data,
            format!(
                "{n_wanted} samples are to be given an item that their user never touched, but only {} can",
                chosen.len()
            ),
        )
        .hint("lower `plant.label_noise`, or keep more items in `preprocess`"));
    }
    chosen.sort_unstable_by_key(|(_, event, _)| *event);
    let mut replaced = Vec::with_capacity(n_wanted);
    let mut planted = Vec::with_capacity(n_wanted);
    for of_sequence in chosen.chunk_by(|a, b| a.2 == b.2) {
        let touched = touched(sequences, of_sequence[0].2);
        for &(id, event, _) in of_sequence {
            let n_untouched = (n_vocabulary - touched.len()) as u64;
            let mut item = u32::try_from(stream.below(n_untouched, id, 1)).map_err(Failure::bug)?;
            // The n-th number that is not touched.
            for &skip in &touched {
                if skip > item {
                    break;
                }
                item += 1;
            }
            replaced.push(Replaced { event, item });
            planted.push(Planted {
                sample_id: id,
                kind: "label_noise".to_owned(),
                clean_item: Some(sequences.item[event]),
            });
        }
    }
    Ok((replaced, planted))
}
