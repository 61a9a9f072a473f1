//! Figures that describe the split data: what a reader must know before believing a ranking.

use std::collections::BTreeSet;

use tables::{Part, ProfileEntry, Request};

use crate::catalogue::Numbers;
use crate::config::{Config, Scheme};
use crate::log::Log;
use crate::parts::{LEAVE_ONE_OUT_EVENTS, Parts};
use crate::plant::Replaced;
use crate::sequences::Sequences;

/// Collects figures in order.
struct Profile(Vec<ProfileEntry>);

impl Profile {
    fn add(&mut self, name: &str, part: &str, value: f64, unit: &str, note: &str) {
        self.0.push(ProfileEntry {
            name: name.to_owned(),
            part: part.to_owned(),
            value,
            unit: unit.to_owned(),
            note: note.to_owned(),
        });
    }

    fn count(&mut self, name: &str, part: &str, n: usize, unit: &str, note: &str) {
        self.add(name, part, n as f64, unit, note);
    }
}

/// Describes the split.
pub(crate) fn profile(
    log: &Log,
    parts: &Parts,
    numbers: &Numbers,
    sequences: &Sequences,
    requests: &[Request],
    config: &Config,
) -> Vec<ProfileEntry> {
    let mut profile = Profile(Vec::new());
    add_log(&mut profile, log, numbers);
    for part in Part::ALL {
        add_part(&mut profile, log, parts, *part);
    }
    if let Some((valuation, test)) = parts.cuts {
        for (part, at) in [("valuation", valuation), ("test", test)] {
            let note = "First instant of the part, in milliseconds since 1970 UTC.";
            profile.add("starts_at", part, at.0 as f64, "ms", note);
        }
    }
    if config.scheme == Scheme::LeaveOneOut {
        let users = 0..log.users.len();
        let short = users.filter(|&user| log.range(user).len() < LEAVE_ONE_OUT_EVENTS);
        let note = "Users with fewer than 3 events: they train and get no request.";
        profile.count("n_short_users", "all", short.count(), "users", note);
        let note = "Leave-one-out trains on events that are later than other users' test events.";
        profile.count("leaks_future", "all", 1, "flag", note);
    }
    for part in [Part::ValuationFit, Part::ValuationTune, Part::Test] {
        let figures = Figures::of(part, requests, numbers, sequences);
        figures.add_to(&mut profile, part.as_str());
    }
    profile.0
}

/// The share of planted targets that their user takes up in a later part; nothing without label
/// noise. Such a sample counts as corrupted, although the future bears it out: a reader must know
/// how many there are. The figure goes to the report alone.
pub(crate) fn planted_later(
    log: &Log,
    parts: &Parts,
    numbers: &Numbers,
    sequences: &Sequences,
    replaced: &[Replaced],
) -> Option<ProfileEntry> {
    if replaced.is_empty() {
        return None;
    }
    let mut n_later = 0_usize;
    // Both are sorted by event.
    let mut left = replaced.iter().peekable();
    for (sequence, &user) in numbers.user_of_sequence.iter().enumerate() {
        let range = sequences.range(sequence);
        let mut later: Option<BTreeSet<u32>> = None;
        while let Some(row) = left.next_if(|row| row.event < range.end) {
            let later = later.get_or_insert_with(|| {
                let events = log.range(user);
                events
                    .filter(|&event| parts.part[event] != Part::Training)
                    .map(|event| numbers.item_of_raw[log.item[event] as usize])
                    .collect()
            });
            n_later += usize::from(later.contains(&row.item));
        }
    }
    let note = "Share of replaced targets that the user touches in a later part: planting looks at the training part alone.";
    Some(ProfileEntry {
        name: "planted_later_frac".to_owned(),
        part: Part::Training.as_str().to_owned(),
        value: n_later as f64 / replaced.len() as f64,
        unit: "frac".to_owned(),
        note: note.to_owned(),
    })
}

fn add_log(profile: &mut Profile, log: &Log, numbers: &Numbers) {
    profile.count(
        "n_events",
        "all",
        log.len(),
        "rows",
        "Cleaned events, all parts.",
    );
    profile.count(
        "n_users",
        "all",
        log.users.len(),
        "users",
        "Users of the cleaned log.",
    );
    profile.count(
        "n_items",
        "all",
        log.items.len(),
        "items",
        "Items of the cleaned log.",
    );
    let note = "Items of the training part: the vocabulary.";
    profile.count(
        "n_vocabulary",
        "training",
        numbers.n_vocabulary,
        "items",
        note,
    );
    if log.has_instants {
        let equal = equal_instants(log) as f64 / log.len() as f64;
        let note = "Share of events that share user and instant with another: the order within them is the log's, and they do not predict each other.";
        profile.add("equal_instant_frac", "all", equal, "frac", note);
    }
}

fn add_part(profile: &mut Profile, log: &Log, parts: &Parts, part: Part) {
    let (mut n_users, mut n) = (0, 0);
    let mut has_item = vec![false; log.items.len()];
    for user in 0..log.users.len() {
        let before = n;
        for event in log.range(user).filter(|&event| parts.part[event] == part) {
            n += 1;
            has_item[log.item[event] as usize] = true;
        }
        n_users += usize::from(n > before);
    }
    let part = part.as_str();
    profile.count(
        "n_events",
        part,
        n,
        "rows",
        "Events of the part, before planting.",
    );
    profile.count(
        "n_users",
        part,
        n_users,
        "users",
        "Users with an event in the part.",
    );
    profile.count(
        "n_items",
        part,
        has_item.iter().filter(|has| **has).count(),
        "items",
        "Items with an event in the part.",
    );
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

    fn add_to(&self, profile: &mut Profile, part: &str) {
        let note = "Users with a relevant item in the part.";
        profile.count("n_requests", part, self.n, "requests", note);
        let note = "Relevant items over all requests.";
        profile.count("n_relevant", part, self.relevant, "items", note);
        let repeats = self.repeats as f64 / self.relevant.max(1) as f64;
        let note = "Share of relevant items that are in the user's history already.";
        profile.add("repeat_frac", part, repeats, "frac", note);
        let note = "Requests without a history: served by popularity.";
        profile.count("n_cold_users", part, self.cold_users, "requests", note);
        let note = "Relevant items first seen after the request's instant: always a miss.";
        profile.count("n_cold_relevant", part, self.cold, "items", note);
        let note = "Relevant items without training events.";
        profile.count("n_untrained_relevant", part, self.untrained, "items", note);
    }
}
