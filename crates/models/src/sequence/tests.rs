//! Laws of every sequence model. All go over the registry, so that no model can be left out; those
//! of networks are also called by the tests of each model's file, in shapes of its own.

mod answers;
mod attributions;
mod directions;
mod factors;
mod gradients;
mod inputs;
mod inside;
mod laws;
mod networks;
mod phases;
mod projection;
mod training;

pub(crate) use laws::examine;
pub(crate) use networks::{causal, linear_in_samples, reaches_every_parameter};

use tables::{Event, Instant, ItemFeatures, Origin, Part, Sample, SequenceEvent};

use super::{Inputs, SideShape};
use crate::conformance::log;
use crate::{Samples, Sequences, TrainingData};

/// Sequences with repeated items and of several lengths, some longer than a window of 6.
pub(crate) fn sequences(weight: impl Fn(usize) -> f64) -> (Samples, Sequences) {
    let items: Vec<Vec<u32>> = (0..12_u32)
        .map(|user| {
            (0..2 + user)
                .map(|at| (user * 5 + at * (at + 3)) % 20)
                .collect()
        })
        .collect();
    let mut n = 0;
    let weights: Vec<Vec<f64>> = items
        .iter()
        .map(|items| {
            items
                .iter()
                .map(|_| {
                    n += 1;
                    weight(n - 1)
                })
                .collect()
        })
        .collect();
    let logs: Vec<(&[u32], &[f64])> = items
        .iter()
        .zip(&weights)
        .map(|(items, weights)| (items.as_slice(), weights.as_slice()))
        .collect();
    log(&logs)
}

/// Size of the vocabulary of [`sequences`].
pub(crate) const N_ITEMS: usize = 20;

/// All optional inputs.
pub(crate) const ALL_INPUTS: Inputs = Inputs {
    events: true,
    baskets: true,
    attributes: true,
};

/// One event of [`shop`]: item, what was done, instant.
pub(crate) type Act = (u32, Event, i64);

/// Users' events in order, each of them a sample of a weight.
pub(crate) fn shop(users: &[Vec<Act>], weight: impl Fn(usize) -> f64) -> (Samples, Sequences) {
    let (mut samples, mut sequences) = (Samples::default(), Sequences::default());
    let mut n = 0;
    for (sequence, acts) in (0..).zip(users) {
        let mut history_end = 0;
        for (position, &(item, event, at)) in (0..).zip(acts) {
            if position > 0 && acts[position as usize - 1].2 < at {
                history_end = position;
            }
            let (sample_id, occurred_at) = (n as u64, Some(Instant(at)));
            let row = SequenceEvent {
                sequence,
                position,
                item,
                event,
                occurred_at,
                sample_id,
                part: Part::Training,
            };
            sequences.push_row(&row).unwrap();
            let row = Sample {
                sample_id,
                sequence,
                position,
                history_end,
                item,
                event,
                occurred_at,
                label: 1.0,
                weight: weight(n),
                origin: Origin::Observed,
            };
            samples.push_row(&row, 1.0);
            n += 1;
        }
    }
    (samples, sequences)
}

/// As [`sequences`], with baskets of one to three events, some of them across the end of a window,
/// and two types of events.
pub(crate) fn baskets(weight: impl Fn(usize) -> f64) -> (Samples, Sequences) {
    let users: Vec<Vec<Act>> = (0..12_u32)
        .map(|user| {
            (0..2 + user)
                .map(|at| {
                    let item = (user * 5 + at * (at + 3)) % 20;
                    let event = [Event::View, Event::Purchase][((user + at) % 3 / 2) as usize];
                    // Instants 0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 5, ...
                    let instant = [0, 0, 0, 1, 2, 2, 3, 4][(at % 8) as usize] + 4 * (at / 8);
                    (item, event, i64::from(instant))
                })
                .collect()
        })
        .collect();
    shop(&users, weight)
}

/// Items of which something else is known of each, and nothing of one in five.
pub(crate) fn described(n: u32) -> Vec<ItemFeatures> {
    (0..n)
        .map(|item| {
            let is_known = item % 5 != 4;
            let word = |kind: &str, of: u32| is_known.then(|| format!("{kind} {}", item % of));
            ItemFeatures {
                item,
                title: None,
                category: word("category", 3),
                brand: word("brand", 4),
                attributes: (0..item % 4)
                    .filter_map(|at| word("word", 2 + at))
                    .collect(),
                price_e4: is_known.then_some(10_000),
                price_z: f64::from(item % 7) / 2.0 - 1.5,
                popularity_z: 0.0,
            }
        })
        .collect()
}

/// What the tests' training tells of some inputs.
pub(crate) fn side(inputs: Inputs) -> SideShape {
    let (samples, sequences) = baskets(|_| 1.0);
    let items = described(22);
    let data = TrainingData::new(&samples, &sequences, N_ITEMS).unwrap();
    SideShape::of(inputs, &data.with_items(&items), "test").unwrap()
}
