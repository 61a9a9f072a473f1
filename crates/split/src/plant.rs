//! Noise whose truth is known, planted in the training part alone.
//!
//! *Event noise* inserts events before histories are built, so that each is a sample and an input.
//! *Label noise* replaces the target of a sample by an item that the user never touched in the
//! training part; event stream and histories stay clean. Who is hit is a function of the seed and
//! the sample's identity, so that adding events elsewhere moves nothing.

use std::collections::BTreeSet;

use seed::Seed;
use tables::{INSERTED_FILE, Part, Planted, SampleId};

use crate::catalogue::Numbers;
use crate::config::{Plant, Scheme};
use crate::log::Log;
use crate::parts::Parts;
use crate::sequences::{Inserted, Sequences};

/// Events of one run of a bot, and milliseconds between them.
const BOT_RUN: (usize, i64) = (20, 2_000);
/// Events of one burst, and milliseconds between them.
const BURST_RUN: (usize, i64) = (10, 1_000);
/// An accident is one event, a few seconds after a genuine one.
const ACCIDENT_RUN: (usize, i64) = (1, 3_000);
/// Bots walk through this share of the vocabulary, the most frequent items.
const BOT_ITEMS: usize = 10;

/// A share of a number, rounded to the nearest whole.
pub(crate) fn share(rate: f64, n: usize) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate in [0, 1) of a length"
    )]
    let share = (rate * n as f64).round() as usize;
    share
}

/// Makes the inserted events, sorted by sequence, and their rows of `planted`.
pub(crate) fn event_noise(
    log: &Log,
    parts: &Parts,
    numbers: &Numbers,
    plant: &Plant,
    scheme: Scheme,
    seed: Seed,
) -> (Vec<Inserted>, Vec<Planted>) {
    let hosts: Vec<(usize, u32)> = (0_u32..)
        .zip(&numbers.user_of_sequence)
        .flat_map(|(sequence, &user)| log.range(user).map(move |event| (event, sequence)))
        .filter(|(event, _)| parts.part[*event] == Part::Training)
        .collect();
    let popular = popular_items(log, parts, numbers, &hosts);
    let n_vocabulary = numbers.n_vocabulary as u64;
    let noise = plant.event_noise;
    let mut inserted = Vec::new();
    let mut planted = Vec::new();
    for (kind, rate, (run, step)) in [
        ("event_noise.bot", noise.bots, BOT_RUN),
        ("event_noise.burst", noise.bursts, BURST_RUN),
        ("event_noise.accident", noise.accidents, ACCIDENT_RUN),
    ] {
        let stream = seed.child(kind).stream();
        let mut ranked: Vec<(u64, u64, usize, u32)> = hosts
            .iter()
            .map(|&(event, sequence)| {
                let id = log.sample_id[event];
                (stream.bits(id, 0), id, event, sequence)
            })
            .collect();
        ranked.sort_unstable();
        let n = share(rate, hosts.len());
        for (index, number) in (0..n).enumerate() {
            let Some(&(_, id, host, sequence)) = ranked.get(number / run) else {
                break;
            };
            let step_in_run = index % run;
            let item = match kind {
                "event_noise.bot" => {
                    let from = stream.below(popular.len() as u64, id, 1);
                    let at = usize::try_from(from).unwrap_or(0) + step_in_run;
                    popular[at % popular.len()]
                }
                // One item for the whole run.
                _ => u32::try_from(stream.below(n_vocabulary, id, 1)).unwrap_or(0),
            };
            let ordinal = inserted.len() as u64;
            // Forty bits hold more events than fit into memory here.
            let Some(sample_id) = SampleId::new(INSERTED_FILE, ordinal, 0) else {
                break;
            };
            let delay = step * i64::try_from(step_in_run + 1).unwrap_or(1);
            inserted.push(Inserted {
                host,
                sequence,
                item,
                at: instant(log, parts, scheme, host, delay),
                sample_id: sample_id.0,
            });
            planted.push(Planted {
                sample_id: sample_id.0,
                kind: kind.to_owned(),
                clean_item: None,
            });
        }
    }
    inserted.sort_by_key(|row| (row.sequence, row.sample_id));
    (inserted, planted)
}

/// Some time after the host, never beyond the training part.
fn instant(log: &Log, parts: &Parts, scheme: Scheme, host: usize, delay: i64) -> i64 {
    if !log.has_instants || scheme == Scheme::LeaveOneOut {
        return log.at[host];
    }
    let at = log.at[host].saturating_add(delay);
    match parts.cuts {
        Some((valuation, _)) => at.min(valuation.0 - 1).max(log.at[host]),
        None => at,
    }
}

/// The most frequent tenth of the vocabulary, most frequent first, ties by number.
fn popular_items(log: &Log, parts: &Parts, numbers: &Numbers, hosts: &[(usize, u32)]) -> Vec<u32> {
    debug_assert_eq!(parts.part.len(), log.len());
    let mut counts = vec![0_u64; numbers.n_vocabulary];
    for (event, _) in hosts {
        let item = numbers.item_of_raw[log.item[*event] as usize];
        if let Some(count) = counts.get_mut(item as usize) {
            *count += 1;
        }
    }
    let mut items: Vec<u32> = (0_u32..).take(numbers.n_vocabulary).collect();
    items.sort_by_key(|&item| (std::cmp::Reverse(counts[item as usize]), item));
    items.truncate((numbers.n_vocabulary / BOT_ITEMS).max(1));
    items
}

/// A replaced target: index into the columns of the sequences, and the new item.
pub(crate) struct Replaced {
    /// Index of the event.
    pub(crate) event: usize,
    /// The item that is planted.
    pub(crate) item: u32,
}

/// Chooses exactly the share of genuine training events, and a new target for each, sorted by event.
///
/// A sample whose user touched the whole vocabulary cannot be corrupted and is passed over.
pub(crate) fn label_noise(
    sequences: &Sequences,
    n_vocabulary: usize,
    rate: f64,
    seed: Seed,
) -> (Vec<Replaced>, Vec<Planted>) {
    let stream = seed.child("label_noise").stream();
    let mut ranked: Vec<(u64, u64, usize, usize)> = Vec::new();
    for sequence in 0..sequences.len() {
        for event in sequences.range(sequence) {
            let id = sequences.sample_id[event];
            if sequences.part[event] == Part::Training && SampleId(id).file() != INSERTED_FILE {
                ranked.push((stream.bits(id, 0), id, event, sequence));
            }
        }
    }
    ranked.sort_unstable();
    let wanted = share(rate, ranked.len());
    let mut replaced = Vec::with_capacity(wanted);
    let mut planted = Vec::with_capacity(wanted);
    for (_, id, event, sequence) in ranked {
        if replaced.len() == wanted {
            break;
        }
        let touched: BTreeSet<u32> = sequences
            .range(sequence)
            .filter(|&other| sequences.part[other] == Part::Training)
            .map(|other| sequences.item[other])
            .collect();
        let n_untouched = n_vocabulary.saturating_sub(touched.len());
        if n_untouched == 0 {
            continue;
        }
        // The k-th number that is not touched.
        let mut item = u32::try_from(stream.below(n_untouched as u64, id, 1)).unwrap_or(0);
        for &skip in &touched {
            if skip <= item {
                item += 1;
            } else {
                break;
            }
        }
        replaced.push(Replaced { event, item });
        planted.push(Planted {
            sample_id: id,
            kind: "label_noise".to_owned(),
            clean_item: Some(sequences.item[event]),
        });
    }
    replaced.sort_by_key(|row| row.event);
    (replaced, planted)
}
