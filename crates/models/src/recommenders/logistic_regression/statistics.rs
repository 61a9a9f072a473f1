//! What training counts of items: events, transitions, sequences that hold two items.
//!
//! Every sample that is given counts once, whatever its weight: statistics are what a sample is seen
//! with, as its history is, and a weight multiplies its loss alone. A masked sample stays visible in
//! them; a dropped one is gone.

use std::collections::BTreeSet;

use rayon::prelude::*;
use tensors::{Csr, TensorError, Tensors};

use super::attributes::{Attributes, Profile};
use super::features::Evidence;
use super::leave_out::{LeftOut, last_two, pair};
use crate::cells::Accumulator;
use crate::data::TrainingData;
use crate::recommender::{FitError, LoadError};

const EVENTS: &str = "events";
const AFTER_LAST: &str = "after_last";
const AFTER_BEFORE: &str = "after_before";
const HELD: &str = "sequences_holding";
const TOGETHER: &str = "sequences_holding_both";
const SETTINGS: &str = "statistics";

/// Counts over training.
#[derive(Clone, Debug)]
pub(super) struct Statistics {
    /// Samples with each vocabulary item as target.
    events: Vec<f64>,
    /// Samples by (last item, target), `[n_vocabulary, n_vocabulary]`.
    after_last: Csr,
    /// Samples by (item before the last, target), `[n_vocabulary, n_vocabulary]`.
    after_before: Csr,
    /// Sequences with each vocabulary item as a target.
    held: Vec<f64>,
    /// Sequences with both of two different items as targets, `[n_vocabulary, n_vocabulary]`, none
    /// below `minimum_support`.
    together: Csr,
    /// Distinct last items of a history that are looked at.
    window: u32,
    /// Sequences that a pair needs.
    minimum_support: u32,
    /// Samples.
    n_samples: f64,
    /// Samples by last item.
    lasts: Vec<f64>,
    /// ln(1 + events).
    log_events: Vec<f64>,
}

/// What is asked of a history for every candidate.
pub(super) struct Context<'a> {
    history: &'a [u32],
    last: Option<u32>,
    before: Option<u32>,
    /// Distinct items, latest first.
    recent: Vec<u32>,
    profile: Profile,
    /// What is the same for all candidates.
    shared: Evidence,
}

fn at(values: &[f64], item: u32) -> f64 {
    values.get(item as usize).copied().unwrap_or(0.0)
}

/// A number of a sparse row; 0 where there is none.
fn entry(matrix: &Csr, row: u32, column: u32) -> f64 {
    if row as usize >= matrix.n_rows() {
        return 0.0;
    }
    let (columns, values) = matrix.row(row as usize);
    columns
        .binary_search(&column)
        .map_or(0.0, |at| f64::from(values[at]))
}

/// Counts of equal pairs. They are exact in 32 bits up to 2^24 of one pair.
fn counted(mut pairs: Vec<u64>, n: usize) -> Result<Csr, FitError> {
    pairs.par_sort_unstable();
    let mut matrix = Csr::new(n);
    let mut rest = pairs.as_slice();
    for from in 0..n as u64 {
        let (row, later) = rest.split_at(rest.partition_point(|pair| pair >> 32 == from));
        rest = later;
        let counts = row.chunk_by(|a, b| a == b).map(|equal| {
            let to = u32::try_from(equal[0] & u64::from(u32::MAX)).unwrap_or(u32::MAX);
            (to, equal.len() as f32)
        });
        matrix.push_row(counts)?;
    }
    Ok(matrix)
}

/// Distinct targets of each sequence.
fn holdings(data: &TrainingData<'_>) -> Result<Csr<f64>, FitError> {
    let mut held = Csr::new(data.n_vocabulary());
    for samples in data.by_sequence() {
        let items: BTreeSet<u32> = samples.map(|sample| data.item(sample)).collect();
        held.push_row(items.into_iter().map(|item| (item, 1.0)))?;
    }
    Ok(held)
}

/// Pairs of items that enough sequences hold.
#[expect(
    clippy::cast_possible_truncation,
    reason = "whole numbers of sequences, exact in 32 bits up to 2^24"
)]
fn pairs(by_sequence: &Csr<f64>, by_item: &Csr<f64>, least: u32) -> Result<Csr, FitError> {
    let n = by_item.n_rows();
    let items = u32::try_from(n).unwrap_or(u32::MAX);
    let rows: Vec<Vec<(u32, f32)>> = (0..items)
        .into_par_iter()
        .map_init(
            || Accumulator::new(n),
            |accumulator, item| {
                let products = accumulator.row(item, by_item, by_sequence).into_iter();
                let mut row: Vec<(u32, f32)> = products
                    .filter(|(_, product)| *product >= f64::from(least))
                    .map(|(other, product)| (other, product as f32))
                    .collect();
                // All rows wait here for the last one: none may keep the room of its candidates.
                row.shrink_to_fit();
                row.sort_unstable_by_key(|(other, _)| *other);
                row
            },
        )
        .collect();
    Ok(Csr::from_rows(n, rows)?)
}

impl Statistics {
    /// Counts all samples.
    pub(super) fn of(
        data: &TrainingData<'_>,
        window: u32,
        minimum_support: u32,
    ) -> Result<Self, FitError> {
        let n = data.n_vocabulary();
        let mut events = vec![0.0; n];
        let (mut lasts, mut befores) = (Vec::new(), Vec::new());
        for sample in 0..data.n_samples() {
            let item = data.item(sample);
            events[item as usize] += 1.0;
            let (last, before) = last_two(data.history(sample).items());
            lasts.extend(last.map(|last| pair(last, item)));
            // Items that training never saw lie in no vocabulary.
            let before = before.filter(|before| (*before as usize) < n);
            befores.extend(before.map(|before| pair(before, item)));
        }
        let by_sequence = holdings(data)?;
        let by_item = by_sequence.transpose();
        Ok(Self::new(
            events,
            [counted(lasts, n)?, counted(befores, n)?],
            (0..n)
                .map(|item| by_item.row(item).0.len() as f64)
                .collect(),
            pairs(&by_sequence, &by_item, minimum_support)?,
            [window, minimum_support],
        ))
    }

    fn new(
        events: Vec<f64>,
        [after_last, after_before]: [Csr; 2],
        held: Vec<f64>,
        together: Csr,
        [window, minimum_support]: [u32; 2],
    ) -> Self {
        let lasts = (0..after_last.n_rows())
            .map(|from| after_last.row(from).1.iter().map(|x| f64::from(*x)).sum())
            .collect();
        Self {
            n_samples: events.iter().sum(),
            lasts,
            log_events: events.iter().map(|x| libm::log1p(*x)).collect(),
            events,
            after_last,
            after_before,
            held,
            together,
            window,
            minimum_support,
        }
    }

    /// Size of the vocabulary.
    pub(super) fn n_vocabulary(&self) -> usize {
        self.events.len()
    }

    /// What is asked of a history.
    pub(super) fn context<'a>(
        &self,
        attributes: &Attributes,
        history: &'a [u32],
        left_out: LeftOut<'_>,
    ) -> Context<'a> {
        let mut recent: Vec<u32> = Vec::new();
        for &item in history.iter().rev() {
            if recent.len() == self.window as usize {
                break;
            }
            if !recent.contains(&item) {
                recent.push(item);
            }
        }
        let (last, before) = last_two(history);
        let after = last.map_or(0.0, |last| at(&self.lasts, last) - left_out.lasts(last));
        Context {
            history,
            last,
            before,
            profile: attributes.profile(&recent),
            shared: Evidence {
                log_length: libm::log1p(history.len() as f64),
                log_after_last: libm::log1p(after.max(0.0)),
                n_recent: recent.len() as f64,
                ..Evidence::default()
            },
            recent,
        }
    }

    /// (c + 1) / (N + V).
    fn share(&self, events: f64, left_out: f64) -> f64 {
        (events + 1.0) / ((self.n_samples - left_out).max(0.0) + self.events.len() as f64)
    }

    /// Cosine of two items that so many sequences hold both, and each.
    fn cosine(&self, both: f64, a: f64, b: f64) -> f64 {
        if both < f64::from(self.minimum_support) || both <= 0.0 {
            return 0.0;
        }
        both / (a * b).sqrt()
    }

    /// What is known of one candidate, some samples left out.
    pub(super) fn evidence(
        &self,
        attributes: &Attributes,
        context: &Context<'_>,
        left_out: LeftOut<'_>,
        item: u32,
    ) -> Evidence {
        let mut found = context.shared;
        // Clamped: data that the model was not fitted on may leave out what it never counted.
        let events = (at(&self.events, item) - left_out.targets(item)).max(0.0);
        found.log_count = libm::log1p(events);
        found.share = self.share(events, left_out.samples());
        if let Some(last) = context.last {
            let n = entry(&self.after_last, last, item) - left_out.after_last(last, item);
            found.after_last = n.max(0.0);
        }
        if let Some(before) = context.before {
            let n = entry(&self.after_before, before, item) - left_out.after_before(before, item);
            found.after_before = n.max(0.0);
        }
        let held = at(&self.held, item) - left_out.held(item);
        for (place, &other) in context.recent.iter().enumerate() {
            let both = entry(&self.together, other, item);
            // Most pairs share nothing.
            if both > 0.0 {
                let both = both - left_out.held_together(other, item);
                let other_held = at(&self.held, other) - left_out.held(other);
                let cosine = self.cosine(both, other_held, held);
                add_similarity(&mut found, place, cosine);
            }
        }
        for (&event, distance) in context.history.iter().rev().zip(1_u32..) {
            if event == item {
                add_occurrence(&mut found, distance);
            }
        }
        attributes.compare(&context.profile, item, &mut found);
        found.text = attributes.text(&context.profile, item);
        found
    }

    /// [`Statistics::evidence`] of items `0..found.len()`, nothing left out, to the same bits.
    pub(super) fn write_evidence(
        &self,
        attributes: &Attributes,
        context: &Context<'_>,
        found: &mut [Evidence],
    ) {
        for (found, item) in found.iter_mut().zip(0_u32..) {
            *found = context.shared;
            found.log_count = at(&self.log_events, item);
            found.share = self.share(at(&self.events, item), 0.0);
            attributes.compare(&context.profile, item, found);
        }
        attributes.write_texts(&context.profile, found);
        let row = |matrix: &'_ Csr, from: Option<u32>, write: &mut dyn FnMut(usize, f64)| {
            let known = from.filter(|from| (*from as usize) < matrix.n_rows());
            if let Some(from) = known {
                let (items, values) = matrix.row(from as usize);
                for (item, value) in items.iter().zip(values) {
                    write(*item as usize, f64::from(*value));
                }
            }
        };
        row(&self.after_last, context.last, &mut |item, n| {
            if let Some(found) = found.get_mut(item) {
                found.after_last = n;
            }
        });
        row(&self.after_before, context.before, &mut |item, n| {
            if let Some(found) = found.get_mut(item) {
                found.after_before = n;
            }
        });
        for (place, &other) in context.recent.iter().enumerate() {
            let other_held = at(&self.held, other);
            row(&self.together, Some(other), &mut |item, both| {
                if let Some(found) = found.get_mut(item) {
                    let cosine = self.cosine(both, other_held, self.held[item]);
                    add_similarity(found, place, cosine);
                }
            });
        }
        for (&event, distance) in context.history.iter().rev().zip(1_u32..) {
            if let Some(found) = found.get_mut(event as usize) {
                add_occurrence(found, distance);
            }
        }
    }

    /// Adds everything to tensors.
    pub(super) fn save(&self, tensors: &mut Tensors) -> Result<(), TensorError> {
        let n = [self.events.len()];
        tensors.insert_f64(EVENTS, &n, self.events.clone())?;
        tensors.insert_f64(HELD, &n, self.held.clone())?;
        tensors.insert_csr(AFTER_LAST, &self.after_last)?;
        tensors.insert_csr(AFTER_BEFORE, &self.after_before)?;
        tensors.insert_csr(TOGETHER, &self.together)?;
        tensors.insert_u32(SETTINGS, &[2], vec![self.window, self.minimum_support])
    }

    /// Takes everything from tensors.
    pub(super) fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        let events = tensors.f64(EVENTS)?.to_vec();
        let held = tensors.f64(HELD)?.to_vec();
        let n = events.len();
        let square = |right: &'static str| {
            let matrix = tensors.csr(right)?;
            if matrix.n_rows() == n && matrix.n_columns == n {
                Ok(matrix)
            } else {
                let left = EVENTS;
                Err(LoadError::Sizes { left, right })
            }
        };
        let after = [square(AFTER_LAST)?, square(AFTER_BEFORE)?];
        let together = square(TOGETHER)?;
        if held.len() != n {
            return Err(LoadError::Sizes {
                left: EVENTS,
                right: HELD,
            });
        }
        let &[window, minimum_support] = tensors.u32(SETTINGS)? else {
            return Err(LoadError::Sizes {
                left: SETTINGS,
                right: "two numbers",
            });
        };
        let settings = [window, minimum_support];
        Ok(Self::new(events, after, held, together, settings))
    }
}

/// Adds the cosine of a candidate and the recent item at a place, 0 for the last.
fn add_similarity(found: &mut Evidence, place: usize, cosine: f64) {
    if place == 0 {
        found.similarity_last = cosine;
    }
    found.similarity_max = found.similarity_max.max(cosine);
    found.similarity_sum += cosine;
}

/// Adds an event of the history that is the candidate, latest first.
fn add_occurrence(found: &mut Evidence, distance: u32) {
    if found.occurrences <= 0.0 {
        found.distance = f64::from(distance);
    }
    found.occurrences += 1.0;
}
