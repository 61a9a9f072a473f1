//! What planting promises: exact shares, the training part alone, clean histories under label noise.

use std::collections::{BTreeMap, BTreeSet};

use tables::{
    CleanEvent, Event, INSERTED_FILE, Instant, Part, Planted, ProfileEntry, Request, Sample,
    SampleId, Score, SequenceEvent, SubsetMember, VocabularyEntry,
};

use crate::fixture::{DAY, event, run, try_run};

fn log(n: u64) -> Vec<CleanEvent> {
    (0..n)
        .map(|n| {
            let user = n * 7 % 23;
            event(
                n,
                &format!("u{user}"),
                &format!("i{}", (n * n + user) % 31),
                Some((n / 10).cast_signed()),
            )
        })
        .collect()
}

/// Whether `found` is a share of `n`, rounded to the nearest whole.
fn is_share(found: usize, rate: f64, n: usize) -> bool {
    (found as f64 - rate * n as f64).abs() <= 0.5
}

#[test]
fn label_noise_hits_exactly_its_share_with_items_never_touched() {
    let clean = run(log(600), "seed: 5\n");
    let noisy = run(log(600), "seed: 5\nplant: { label_noise: 0.3 }\n");
    let planted = noisy.rows::<Planted>("planted");
    let before = clean.rows::<Sample>("samples");
    let after = noisy.rows::<Sample>("samples");
    assert!(is_share(planted.len(), 0.3, before.len()));
    let by_id: BTreeMap<u64, &Planted> = planted.iter().map(|row| (row.sample_id, row)).collect();
    let mut touched: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for row in &before {
        touched.entry(row.sequence).or_default().insert(row.item);
    }
    for (old, new) in before.iter().zip(&after) {
        match by_id.get(&old.sample_id) {
            None => assert_eq!(old, new),
            Some(row) => {
                assert_eq!(row.clean_item, Some(old.item));
                assert!(!touched[&old.sequence].contains(&new.item));
                assert_eq!(
                    Sample {
                        item: old.item,
                        ..new.clone()
                    },
                    *old
                );
            }
        }
    }
    // Event stream, requests and features stay clean.
    let (clean, noisy) = (clean.bytes(), noisy.bytes());
    for role in ["sequences", "requests", "vocabulary", "item_features"] {
        assert_eq!(clean[role], noisy[role], "{role}");
    }
}

#[test]
fn the_profile_tells_how_many_planted_targets_the_user_takes_up_later() {
    let clean = run(log(600), "seed: 5\n").rows::<ProfileEntry>("profile");
    let outcome = run(log(600), "seed: 5\nplant: { label_noise: 0.3 }\n");
    let mut noisy = outcome.rows::<ProfileEntry>("profile");
    let entry = noisy.pop().unwrap();
    assert_eq!(clean, noisy, "nothing else changes");
    assert_eq!(entry.name, "planted_later_frac");
    let later: BTreeSet<(u32, u32)> = outcome
        .rows::<SequenceEvent>("sequences")
        .iter()
        .filter(|row| row.part != Part::Training)
        .map(|row| (row.sequence, row.item))
        .collect();
    let planted: BTreeSet<u64> = outcome
        .rows::<Planted>("planted")
        .iter()
        .map(|row| row.sample_id)
        .collect();
    let samples = outcome.rows::<Sample>("samples");
    let n_later = samples
        .iter()
        .filter(|row| planted.contains(&row.sample_id))
        .filter(|row| later.contains(&(row.sequence, row.item)))
        .count();
    assert!(
        n_later > 0,
        "a log on which nothing is taken up tests nothing"
    );
    let wanted = n_later as f64 / planted.len() as f64;
    assert!((entry.value - wanted).abs() < 1e-12, "{}", entry.value);
}

#[test]
fn inserted_events_are_clicks_where_the_training_part_has_clicks() {
    let inserted = |events: Vec<CleanEvent>| -> BTreeSet<(String, String)> {
        let outcome = run(events, NOISE);
        let kinds: BTreeMap<u64, String> = outcome
            .rows::<Planted>("planted")
            .into_iter()
            .map(|row| (row.sample_id, row.kind))
            .collect();
        let of_samples = outcome.rows::<Sample>("samples");
        let of_samples = of_samples.iter().map(|row| (row.sample_id, row.event));
        let of_sequences = outcome.rows::<SequenceEvent>("sequences");
        let of_sequences = of_sequences.iter().map(|row| (row.sample_id, row.event));
        of_samples
            .chain(of_sequences)
            .filter_map(|(id, event)| Some((kinds.get(&id)?.clone(), event.to_string())))
            .collect()
    };
    let all = |event: &str| -> BTreeSet<(String, String)> {
        ["accident", "bot", "burst"]
            .map(|kind| (format!("event_noise.{kind}"), event.to_owned()))
            .into()
    };
    // One click among purchases, in the training part.
    let mut events = log(600);
    events[0].event = Event::Click;
    assert_eq!(inserted(events), all("click"));
    // Without clicks an inserted event is what its host is.
    assert_eq!(inserted(log(600)), all("purchase"));
    // A click after the cuts is none that could be known.
    let mut events = log(600);
    events[599].event = Event::Click;
    assert_eq!(inserted(events), all("purchase"));
}

#[test]
fn event_noise_inserts_exactly_its_share_into_training_alone() {
    let config = "seed: 5\nplant: { event_noise: { bots: 0.1, bursts: 0.05, accidents: 0.02 } }\n";
    let clean = run(log(600), "seed: 5\n");
    let noisy = run(log(600), config);
    let n = clean.rows::<Sample>("samples").len();
    let planted = noisy.rows::<Planted>("planted");
    for (kind, rate) in [("bot", 0.1), ("burst", 0.05), ("accident", 0.02)] {
        let found = planted
            .iter()
            .filter(|row| row.kind == format!("event_noise.{kind}"));
        assert!(is_share(found.count(), rate, n), "{kind}");
    }
    let sequences = noisy.rows::<SequenceEvent>("sequences");
    for row in &sequences {
        if SampleId(row.sample_id).file() == INSERTED_FILE {
            assert_eq!(row.part, Part::Training);
        }
    }
    let n_samples = noisy.rows::<Sample>("samples").len();
    assert_eq!(n_samples, n + planted.len(), "each insertion is a sample");
    // Sequences stay sorted, and genuine events keep their order.
    for pair in sequences
        .windows(2)
        .filter(|pair| pair[0].sequence == pair[1].sequence)
    {
        assert!(pair[0].occurred_at <= pair[1].occurred_at);
    }
}

#[test]
fn the_oracle_knows_exactly_the_planted() {
    let outcome = run(log(300), "plant: { label_noise: 0.2 }\n");
    let scores = outcome.rows::<Score>("oracle");
    let low: Vec<u64> = scores
        .iter()
        .filter(|row| row.score.is_some_and(|score| score < 0.0))
        .map(|row| row.sample_id)
        .collect();
    let planted: Vec<u64> = outcome
        .rows::<Planted>("planted")
        .iter()
        .map(|row| row.sample_id)
        .collect();
    assert_eq!(low, planted);
    assert_eq!(scores.len(), outcome.rows::<Sample>("samples").len());
}

#[test]
fn same_seed_gives_same_bytes_and_another_seed_other_noise() {
    let config = "seed: 1\nplant: { label_noise: 0.2, event_noise: { bots: 0.05 } }\n";
    let other = config.replace("seed: 1", "seed: 2");
    let first = run(log(300), config).bytes();
    assert_eq!(first, run(log(300), config).bytes());
    assert_ne!(first["planted"], run(log(300), &other).bytes()["planted"]);
}

const NOISE: &str =
    "plant: { event_noise: { bots: 0.1, bursts: 0.05, accidents: 0.02 } }\nseed: 5\n";

/// The log with other instants: every event in the same minute, just before the cuts; or none.
fn crowded() -> Vec<CleanEvent> {
    let mut events = log(600);
    for event in &mut events {
        let before = event.occurred_at.unwrap().0 / DAY;
        // Days 0 to 47 become the last millisecond of days 5 and 8.
        let day = if before < 40 { 6 } else { 9 };
        event.occurred_at = Some(Instant(day * DAY - 1));
    }
    events.push(event(1_000, "u1", "i1", Some(10)));
    events
}

fn orderly() -> Vec<CleanEvent> {
    let mut events = log(600);
    for event in &mut events {
        event.occurred_at = None;
    }
    events
}

#[test]
fn inserted_events_never_reach_what_is_held_out() {
    let cuts = "instants: { valuation: '1970-01-07T00:00:00Z', test: '1970-01-10T00:00:00Z' }\n";
    for (name, events, scheme) in [
        ("temporal", log(600), ""),
        ("temporal, at the cut", crowded(), cuts),
        ("leave one out", log(600), "scheme: leave_one_out\n"),
        ("leave one out, ties", crowded(), "scheme: leave_one_out\n"),
        (
            "leave one out, no instants",
            orderly(),
            "scheme: leave_one_out\n",
        ),
        ("random", log(600), "scheme: random\n"),
        ("random, no instants", orderly(), "scheme: random\n"),
    ] {
        let clean = run(events.clone(), &format!("seed: 5\n{scheme}"));
        let noisy = run(events, &format!("{NOISE}{scheme}"));
        let n_planted = noisy.rows::<Planted>("planted").len();
        let is_inserted = |id: u64| SampleId(id).file() == INSERTED_FILE;

        // Without the inserted events the sequences are the clean ones.
        let genuine: Vec<(u32, u64, Part)> = noisy
            .rows::<SequenceEvent>("sequences")
            .iter()
            .filter(|row| !is_inserted(row.sample_id))
            .map(|row| (row.sequence, row.sample_id, row.part))
            .collect();
        let before: Vec<(u32, u64, Part)> = clean
            .rows::<SequenceEvent>("sequences")
            .iter()
            .map(|row| (row.sequence, row.sample_id, row.part))
            .collect();
        assert!(genuine == before, "{name}");

        // Every inserted event is a sample and comes before all that its user has held out.
        let samples = noisy.rows::<Sample>("samples");
        let inserted = samples.iter().filter(|row| is_inserted(row.sample_id));
        assert_eq!(inserted.count(), n_planted, "{name}");
        let mut last_held_out = None;
        for row in noisy.rows::<SequenceEvent>("sequences").iter().rev() {
            if row.part == Part::Training {
                if let Some((sequence, at)) = last_held_out
                    && sequence == row.sequence
                    && is_inserted(row.sample_id)
                    && row.occurred_at.is_some()
                {
                    assert!(row.occurred_at < at, "{name}");
                }
            } else {
                last_held_out = Some((row.sequence, row.occurred_at));
            }
        }

        // What is relevant does not change, nor do counts of the vocabulary.
        let relevant = |outcome: &crate::fixture::Outcome| -> Vec<(Part, u32, Vec<u32>)> {
            let requests = outcome.rows::<Request>("requests");
            let relevant = requests.into_iter();
            relevant
                .map(|row| (row.part, row.sequence, row.relevant))
                .collect()
        };
        assert_eq!(relevant(&clean), relevant(&noisy), "{name}");
        assert_eq!(
            clean.rows::<VocabularyEntry>("vocabulary"),
            noisy.rows::<VocabularyEntry>("vocabulary"),
            "{name}"
        );
    }
}

#[test]
fn each_kind_of_event_noise_looks_like_its_name() {
    let noisy = run(log(600), NOISE);
    let sequences = noisy.rows::<SequenceEvent>("sequences");
    let by_id: BTreeMap<u64, &SequenceEvent> =
        sequences.iter().map(|row| (row.sample_id, row)).collect();
    let planted = noisy.rows::<Planted>("planted");
    let of_kind = |kind: &str| -> Vec<&SequenceEvent> {
        let rows = planted.iter().filter(|row| row.kind.ends_with(kind));
        rows.map(|row| by_id[&row.sample_id]).collect()
    };
    let vocabulary = noisy.rows::<VocabularyEntry>("vocabulary");
    let mut counts: Vec<u64> = vocabulary.iter().map(|row| row.n_events).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let least_popular = counts[vocabulary.len() / 10 - 1];
    // Runs are numbered one after the other.
    for (kind, run, step_ms) in [("bot", 20, 2_000), ("burst", 10, 1_000)] {
        let rows = of_kind(kind);
        assert!(rows.len() > run, "{kind}");
        for run in rows.chunks(run) {
            for pair in run.windows(2) {
                assert_eq!(pair[0].sequence, pair[1].sequence, "{kind}");
                let step = pair[1].occurred_at.unwrap().0 - pair[0].occurred_at.unwrap().0;
                assert_eq!(step, step_ms, "{kind}");
                if kind == "burst" {
                    assert_eq!(pair[0].item, pair[1].item);
                } else {
                    let n_events = vocabulary[pair[0].item as usize].n_events;
                    assert!(n_events >= least_popular);
                }
            }
        }
    }
    for row in of_kind("accident") {
        let genuine = sequences.iter().filter(|other| {
            other.sequence == row.sequence && SampleId(other.sample_id).file() != INSERTED_FILE
        });
        let nearest = genuine
            .map(|other| (other.occurred_at.unwrap().0 - row.occurred_at.unwrap().0).abs())
            .min();
        assert_eq!(nearest, Some(3_000));
    }
}

#[test]
fn both_kinds_of_noise_together_keep_their_shares_and_apart() {
    let both = run(
        log(600),
        "plant: { label_noise: 0.25, event_noise: { bots: 0.1 } }\nseed: 5\n",
    );
    let alone = run(log(600), "plant: { label_noise: 0.25 }\nseed: 5\n");
    let labels = |outcome: &crate::fixture::Outcome| -> BTreeSet<u64> {
        let planted = outcome.rows::<Planted>("planted");
        let planted = planted.iter().filter(|row| row.kind == "label_noise");
        planted.map(|row| row.sample_id).collect()
    };
    // The same genuine samples are hit, and no inserted one is.
    assert_eq!(labels(&both), labels(&alone));
    // A new target is new to the user after the insertion, too.
    let sequences = both.rows::<SequenceEvent>("sequences");
    let touched: BTreeSet<(u32, u32)> = sequences
        .iter()
        .filter(|row| row.part == Part::Training)
        .map(|row| (row.sequence, row.item))
        .collect();
    let hit = labels(&both);
    let samples = both.rows::<Sample>("samples");
    let hit = samples.iter().filter(|row| hit.contains(&row.sample_id));
    assert!(hit.clone().count() > 0);
    for row in hit {
        assert!(!touched.contains(&(row.sequence, row.item)));
    }
}

#[test]
fn new_targets_are_uniform_over_what_the_user_never_touched() {
    // One user who touched i0 to i9, and a hundred users who touched one of twenty items each.
    let mut events: Vec<CleanEvent> = (0..10)
        .map(|n| event(n, "u", &format!("i{n}"), Some(n.cast_signed())))
        .collect();
    let others = (10..4_010).map(|n| {
        let item = format!("i{}", 10 + n % 20);
        event(n, &format!("v{}", n % 100), &item, Some(5))
    });
    events.extend(others);
    events.push(event(9_000, "u", "i0", Some(20)));
    events.push(event(9_001, "u", "i0", Some(30)));
    let config = "instants: { valuation: '1970-01-20T00:00:00Z', test: '1970-01-30T00:00:00Z' }\n\
        plant: { label_noise: 0.99 }\n";
    let samples = run(events, config).rows::<Sample>("samples");
    // Twenty items of the others: 19 are new to each, and the ten of `u`.
    let mut counts = BTreeMap::new();
    for row in samples.iter().filter(|row| row.sequence > 0) {
        *counts.entry(row.item).or_insert(0_u32) += 1;
    }
    assert_eq!(counts.len(), 30);
    // About 4000 draws over 29 items each: 137 expected, 11.5 standard deviation, 5 of them.
    assert!(
        counts.values().all(|n| (80..=195).contains(n)),
        "{counts:?}"
    );
}

#[test]
fn noise_that_cannot_be_planted_is_refused() {
    // Everybody touched everything.
    let mut events: Vec<CleanEvent> = (0..20)
        .map(|n| event(n, &format!("u{}", n % 5), &format!("i{}", n / 5), Some(1)))
        .collect();
    events.push(event(90, "u1", "i0", Some(20)));
    events.push(event(91, "u1", "i0", Some(30)));
    let config = "instants: { valuation: '1970-01-20T00:00:00Z', test: '1970-01-30T00:00:00Z' }\n\
        plant: { label_noise: 0.2 }\n";
    let Err(failure) = try_run(events, config) else {
        panic!("it was not refused");
    };
    assert_eq!(failure.exit, stage::Exit::Data);
    let text = failure.to_string();
    assert!(
        text.contains("4 samples") && text.contains("only 0 can"),
        "{text}"
    );
}

#[test]
fn subsets_leave_out_exactly_their_share_each_by_its_own_draw() {
    let outcome = run(log(600), "seed: 5\nsubsets: { count: 40, keep: 0.7 }\n");
    let samples: BTreeSet<u64> = outcome
        .rows::<Sample>("samples")
        .iter()
        .map(|sample| sample.sample_id)
        .collect();
    let rows = outcome.rows::<SubsetMember>("subsets");
    assert!(rows.is_sorted_by_key(|row| (row.subset, row.left_out)));
    let mut subsets: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    let mut times: BTreeMap<u64, usize> = samples.iter().map(|id| (*id, 0)).collect();
    for row in &rows {
        assert!(subsets.entry(row.subset).or_default().insert(row.left_out));
        *times.get_mut(&row.left_out).unwrap() += 1;
    }
    assert_eq!(subsets.len(), 40);
    assert!(
        subsets
            .values()
            .all(|left_out| is_share(left_out.len(), 0.3, samples.len()))
    );
    let different: BTreeSet<&BTreeSet<u64>> = subsets.values().collect();
    assert_eq!(different.len(), 40);
    // 40 draws at 0.3: mean 12, standard deviation 2.9; five of them on either side.
    assert!(times.values().all(|times| *times <= 26));

    // More subsets do not change the first ones, and another seed changes all.
    let more = run(log(600), "seed: 5\nsubsets: { count: 41, keep: 0.7 }\n");
    assert_eq!(more.rows::<SubsetMember>("subsets")[..rows.len()], rows);
    let other = run(log(600), "seed: 6\nsubsets: { count: 40, keep: 0.7 }\n");
    assert_ne!(other.rows::<SubsetMember>("subsets"), rows);
    assert!(
        run(log(600), "seed: 5\n")
            .rows::<SubsetMember>("subsets")
            .is_empty()
    );
}
