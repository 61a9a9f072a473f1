//! Figures that describe the split data: what a reader must know before believing a ranking.

use std::collections::BTreeSet;

use tables::{Part, ProfileEntry, Request};

use crate::catalogue::Numbers;
use crate::config::{Config, Scheme};
use crate::log::Log;
use crate::parts::{LEAVE_ONE_OUT_EVENTS, Parts};
use crate::sequences::Sequences;

/// Describes the split.
pub(crate) fn profile(
    log: &Log,
    parts: &Parts,
    numbers: &Numbers,
    sequences: &Sequences,
    requests: &[Request],
    config: &Config,
) -> Vec<ProfileEntry> {
    let mut entries = Vec::new();
    let mut add = |name: &str, part: &str, value: f64, unit: &str, note: &str| {
        entries.push(ProfileEntry {
            name: name.to_owned(),
            part: part.to_owned(),
            value,
            unit: unit.to_owned(),
            note: note.to_owned(),
        });
    };
    add(
        "n_events",
        "all",
        log.len() as f64,
        "rows",
        "Cleaned events, all parts.",
    );
    add(
        "n_users",
        "all",
        log.users.len() as f64,
        "users",
        "Users of the cleaned log.",
    );
    add(
        "n_items",
        "all",
        log.items.len() as f64,
        "items",
        "Items of the cleaned log.",
    );
    add(
        "n_vocabulary",
        "training",
        numbers.n_vocabulary as f64,
        "items",
        "Items of the training part: the vocabulary.",
    );
    for part in Part::ALL {
        let (mut users, mut items, mut n) = (0_u64, BTreeSet::new(), 0_u64);
        for user in 0..log.users.len() {
            let before = n;
            for event in log.range(user).filter(|&event| parts.part[event] == *part) {
                n += 1;
                items.insert(log.item[event]);
            }
            users += u64::from(n > before);
        }
        let part = part.as_str();
        add(
            "n_events",
            part,
            n as f64,
            "rows",
            "Events of the part, before planting.",
        );
        add(
            "n_users",
            part,
            users as f64,
            "users",
            "Users with an event in the part.",
        );
        add(
            "n_items",
            part,
            items.len() as f64,
            "items",
            "Items with an event in the part.",
        );
    }
    if let Some((valuation, test)) = parts.cuts {
        add(
            "starts_at",
            "valuation",
            valuation.0 as f64,
            "ms",
            "First instant of the valuation part, milliseconds since 1970 UTC.",
        );
        add(
            "starts_at",
            "test",
            test.0 as f64,
            "ms",
            "First instant of the test part, milliseconds since 1970 UTC.",
        );
    }
    if log.has_instants {
        let equal = equal_instants(log) as f64 / log.len() as f64;
        add(
            "equal_instant_frac",
            "all",
            equal,
            "frac",
            "Share of events that share user and instant with another: the order within them is the log's, and they do not predict each other.",
        );
    }
    if config.scheme == Scheme::LeaveOneOut {
        let short = (0..log.users.len())
            .filter(|&user| log.range(user).len() < LEAVE_ONE_OUT_EVENTS)
            .count();
        add(
            "n_short_users",
            "all",
            short as f64,
            "users",
            "Users with fewer than 3 events: they train and get no request.",
        );
        add(
            "leaks_future",
            "all",
            1.0,
            "flag",
            "Leave-one-out trains on events that are later than other users' test events.",
        );
    }
    for part in [Part::ValuationFit, Part::ValuationTune, Part::Test] {
        let figures = Figures::of(part, requests, numbers, sequences);
        let part = part.as_str();
        add(
            "n_requests",
            part,
            figures.n as f64,
            "requests",
            "Users with a relevant item in the part.",
        );
        add(
            "n_relevant",
            part,
            figures.relevant as f64,
            "items",
            "Relevant items over all requests.",
        );
        add(
            "repeat_frac",
            part,
            figures.repeats as f64 / figures.relevant.max(1) as f64,
            "frac",
            "Share of relevant items that are in the user's history already.",
        );
        add(
            "n_cold_users",
            part,
            figures.cold_users as f64,
            "requests",
            "Requests without a history: served by popularity.",
        );
        add(
            "n_cold_relevant",
            part,
            figures.cold as f64,
            "items",
            "Relevant items first seen after the request's instant: always a miss.",
        );
        add(
            "n_untrained_relevant",
            part,
            figures.untrained as f64,
            "items",
            "Relevant items without training events.",
        );
    }
    entries
}

/// Events with the same user and instant as another event.
fn equal_instants(log: &Log) -> usize {
    (0..log.users.len())
        .map(|user| {
            log.at[log.range(user)]
                .chunk_by(|a, b| a == b)
                .filter(|equal| equal.len() > 1)
                .map(<[i64]>::len)
                .sum::<usize>()
        })
        .sum()
}

#[derive(Default)]
struct Figures {
    n: usize,
    relevant: usize,
    repeats: usize,
    cold_users: usize,
    cold: usize,
    untrained: usize,
}

impl Figures {
    fn of(part: Part, requests: &[Request], numbers: &Numbers, sequences: &Sequences) -> Self {
        let mut figures = Self::default();
        for request in requests.iter().filter(|request| request.part == part) {
            let start = sequences.starts[request.sequence as usize];
            let history = &sequences.item[start..start + request.history_end as usize];
            let seen: BTreeSet<u32> = history.iter().copied().collect();
            figures.n += 1;
            figures.relevant += request.relevant.len();
            figures.cold_users += usize::from(history.is_empty());
            for item in &request.relevant {
                let entry = &numbers.catalogue[*item as usize];
                figures.repeats += usize::from(seen.contains(item));
                figures.untrained += usize::from(!entry.in_vocabulary);
                let is_cold = match (entry.known_at, request.requested_at) {
                    (Some(known), Some(requested)) => known >= requested,
                    _ => false,
                };
                figures.cold += usize::from(is_cold);
            }
        }
        figures
    }
}
