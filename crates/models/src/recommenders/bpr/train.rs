//! Steps of BPR in blocks that do not touch each other.
//!
//! Users lie in fixed blocks, items in random ones that change with the epoch. In round r of an epoch,
//! user block b meets item block b + r; no two meetings of a round share a vector, so they run in
//! parallel, and within one, steps follow each other in a random but fixed order. Nothing depends on
//! how many threads there are.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined into a kernel is compiled for the oldest machines"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "draws lie below numbers of items, which are 32-bit numbers; training is in 32 bits"
)]

use std::ops::Range;

use rayon::prelude::*;
use seed::{Seed, Stream};

use super::state::State;
use crate::data::TrainingData;
use crate::recommender::FitError;
use tensors::dense::{dot, kernels, prefetch};

/// Most blocks of either side.
const MOST_BLOCKS: usize = 16;

/// Items that a block has at least, so that there is something to draw from.
const LEAST_ITEMS: usize = 64;

/// Draws before a user is given up who chose (nearly) everything in a block.
const MOST_DRAWS: u64 = 16;

/// How many steps before its own the vectors of a step are asked for: long enough for memory, and
/// few enough that they are still there.
const AHEAD: usize = 6;

/// No place.
const NONE: u32 = u32::MAX;

/// Passes over a history of nobody known.
const FOLD_IN_PASSES: u64 = 30;

/// How far and how strongly a step goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    learning_rate: f64,
    regularisation: f64,
    step: f32,
    shrink: f32,
}

impl Rates {
    pub(super) fn new(learning_rate: f64, regularisation: f64) -> Self {
        Self {
            learning_rate,
            regularisation,
            step: learning_rate as f32,
            // What a step leaves of a vector.
            shrink: (1.0 - learning_rate * regularisation) as f32,
        }
    }

    /// Learning rate and regularisation.
    pub(super) fn as_written(self) -> (f64, f64) {
        (self.learning_rate, self.regularisation)
    }

    /// Learning rate, and what a step leaves of a vector, as steps take them.
    pub(super) fn of_steps(self) -> (f64, f64) {
        (f64::from(self.step), f64::from(self.shrink))
    }
}

/// A sample. One of weight 0 keeps its place in every draw.
struct Example {
    sample_id: u64,
    user: u32,
    item: u32,
    weight: f32,
}

/// What stays the same from epoch to epoch.
pub(super) struct Trainer {
    seed: Seed,
    rates: Rates,
    examples: Vec<Example>,
    n_weighted: u64,
    /// Whether each user has an example of weight above 0.
    is_known: Vec<bool>,
    /// Ranges of examples by user block.
    by_block: Vec<Range<usize>>,
    /// Ranges of users by block.
    user_blocks: Vec<Range<usize>>,
    n_items: usize,
    /// End of each user in `chosen`.
    ends: Vec<usize>,
    /// Distinct items of each user, ascending.
    chosen: Vec<u32>,
}

/// About equal ranges.
fn ranges(n: usize, n_blocks: usize) -> Vec<Range<usize>> {
    (0..n_blocks)
        .map(|block| block * n / n_blocks..(block + 1) * n / n_blocks)
        .collect()
}

/// Cuts rows into blocks.
fn split<'a, T>(mut rows: &'a mut [T], blocks: &[Range<usize>], width: usize) -> Vec<&'a mut [T]> {
    let mut parts = Vec::with_capacity(blocks.len());
    for block in blocks {
        let (part, rest) = rows.split_at_mut(block.len() * width);
        parts.push(part);
        rows = rest;
    }
    parts
}

/// Where items lie in one epoch.
struct Layout {
    /// Item at each place.
    order: Vec<u32>,
    /// Place of each item.
    places: Vec<u32>,
    blocks: Vec<Range<usize>>,
    /// Block of each place.
    block_of: Vec<u8>,
}

impl Layout {
    fn new(n_items: usize, n_blocks: usize, seed: Seed) -> Self {
        let mut order: Vec<u32> = (0..n_items as u32).collect();
        seed.sequence().shuffle(&mut order);
        let mut places = vec![0; n_items];
        for (place, item) in order.iter().enumerate() {
            places[*item as usize] = place as u32;
        }
        let blocks = ranges(n_items, n_blocks);
        let mut block_of = vec![0; n_items];
        for (block, range) in blocks.iter().enumerate() {
            block_of[range.clone()].fill(block as u8);
        }
        Self {
            order,
            places,
            blocks,
            block_of,
        }
    }

    /// Rows in the order of the layout.
    fn gather(&self, rows: &[f32], width: usize) -> Vec<f32> {
        let rows = self.order.iter().flat_map(|&item| {
            let start = item as usize * width;
            &rows[start..start + width]
        });
        rows.copied().collect()
    }

    /// Puts rows back into the order of items.
    fn scatter(&self, from: &[f32], to: &mut [f32], width: usize) {
        for (row, &item) in from.chunks_exact(width).zip(&self.order) {
            let start = item as usize * width;
            to[start..start + width].copy_from_slice(row);
        }
    }
}

/// The step of an example in one epoch, with all it needs but its negative: a meeting reads its
/// visits one after the other.
#[derive(Clone, Copy)]
struct Visit {
    /// Steps are taken in this order.
    draw: u64,
    sample_id: u64,
    user: u32,
    /// Place of the item.
    positive: u32,
    weight: f32,
    /// Place among the examples.
    example: u32,
}

/// One step of training, as a list of all of them has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    user: u32,
    chosen: u32,
    other: u32,
    /// Position of the sample in the data.
    pub(super) sample: u32,
}

impl Step {
    /// Rows of the user, the item that was chosen, and the one that was drawn.
    pub(super) fn rows(&self) -> [usize; 3] {
        [self.user, self.chosen, self.other].map(|row| row as usize)
    }
}

/// A sum of logarithms of numbers from 1 to 2, of which few are taken.
struct Logarithms {
    product: f64,
    sum: f64,
}

impl Logarithms {
    /// A factor of at most 2 on top of this is far from what a number can hold.
    const MOST: f64 = 1e200;

    fn new() -> Self {
        Self {
            product: 1.0,
            sum: 0.0,
        }
    }

    #[inline(always)]
    fn add(&mut self, factor: f64) {
        self.product *= factor;
        if self.product > Self::MOST {
            self.sum += libm::log(self.product);
            self.product = 1.0;
        }
    }

    fn sum(&self) -> f64 {
        self.sum + libm::log(self.product)
    }
}

/// One user block meeting one item block.
struct Meeting<'a> {
    users: &'a mut [f32],
    items: &'a mut [f32],
    biases: &'a mut [f32],
    /// First user and first place.
    first_user: usize,
    first_place: usize,
    visits: &'a [Visit],
    loss: f64,
}

/// How far a pair is from being ranked.
struct Surprise {
    /// `sigma(-x)`.
    share: f32,
    /// `-ln sigma(x) = ln more + rest`; `more` is from 1 to 2.
    more: f64,
    rest: f64,
}

#[inline(always)]
fn surprise(x: f32) -> Surprise {
    let x = f64::from(x);
    let small = libm::exp(-x.abs());
    let more = 1.0 + small;
    let (share, rest) = if x > 0.0 {
        (small / more, 0.0)
    } else {
        (1.0 / more, -x)
    };
    Surprise {
        share: share as f32,
        more,
        rest,
    }
}

/// Whether an ascending list holds an item.
#[inline(always)]
fn holds(chosen: &[u32], item: u32) -> bool {
    // Most lists are short, and a search in halves guesses wrong at every turn.
    if chosen.len() <= 32 {
        return chosen.contains(&item);
    }
    chosen.binary_search(&item).is_ok()
}

/// Two different rows, writable.
#[inline(always)]
fn two_rows(rows: &mut [f32], a: usize, b: usize, d: usize) -> (&mut [f32], &mut [f32]) {
    if a < b {
        let (low, high) = rows.split_at_mut(b * d);
        (&mut low[a * d..(a + 1) * d], &mut high[..d])
    } else {
        let (low, high) = rows.split_at_mut(a * d);
        (&mut high[..d], &mut low[b * d..(b + 1) * d])
    }
}

impl Trainer {
    pub(super) fn new(data: &TrainingData<'_>, seed: Seed, rates: Rates) -> Self {
        let n_users = data.n_sequences();
        let mut examples = Vec::with_capacity(data.n_samples());
        let mut chosen: Vec<u32> = Vec::with_capacity(data.n_samples());
        let mut ends = vec![0; n_users];
        let mut is_known = vec![false; n_users];
        for samples in data.by_sequence() {
            let user = data.sequence(samples.start);
            let start = chosen.len();
            for sample in samples {
                let item = data.item(sample);
                let weight = data.weight(sample) as f32;
                is_known[user as usize] |= weight > 0.0;
                chosen.push(item);
                examples.push(Example {
                    sample_id: data.sample_id(sample),
                    user,
                    item,
                    weight,
                });
            }
            chosen[start..].sort_unstable();
            let mut kept = start;
            for at in start..chosen.len() {
                if at == start || chosen[at] != chosen[kept - 1] {
                    chosen[kept] = chosen[at];
                    kept += 1;
                }
            }
            chosen.truncate(kept);
            ends[user as usize] = kept;
        }
        // Users without samples end where the one before does.
        let mut end = 0;
        for at in &mut ends {
            end = end.max(*at);
            *at = end;
        }
        let n_items = data.n_vocabulary();
        let n_blocks = (n_items / LEAST_ITEMS).min(n_users).clamp(1, MOST_BLOCKS);
        let user_blocks = ranges(n_users, n_blocks);
        let by_block = user_blocks
            .iter()
            .map(|users| {
                let before =
                    |user: usize| examples.partition_point(|one| (one.user as usize) < user);
                before(users.start)..before(users.end)
            })
            .collect();
        Self {
            seed: seed.child("bpr"),
            rates,
            n_weighted: data.n_weighted(),
            is_known,
            examples,
            by_block,
            user_blocks,
            n_items,
            ends,
            chosen,
        }
    }

    pub(super) fn n_users(&self) -> usize {
        self.ends.len()
    }

    /// Steps of an epoch: samples, whatever their weight.
    pub(super) fn n_steps(&self) -> u64 {
        self.examples.len() as u64
    }

    /// Samples of weight above 0.
    pub(super) fn n_weighted(&self) -> u64 {
        self.n_weighted
    }

    /// Distinct items of a user, ascending.
    fn chosen_by(&self, user: usize) -> &[u32] {
        let start = user.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.chosen[start..self.ends[user]]
    }

    /// Whether each user has an example of weight above 0.
    pub(super) fn known_users(&self) -> Vec<bool> {
        self.is_known.clone()
    }

    /// One step for every example; returns the weighted mean loss before each step.
    pub(super) fn epoch(&self, epoch: u32, state: &mut State) -> Result<f64, FitError> {
        let d = state.dimensions();
        let seed = self.seed.index(u64::from(epoch));
        let n_blocks = self.user_blocks.len();
        let layout = Layout::new(self.n_items, n_blocks, seed.child("blocks"));
        let meetings = self.meetings(&layout, seed.child("order").stream());
        let negatives = seed.child("negatives").stream();
        let mut items = layout.gather(&state.items, d);
        let mut biases = layout.gather(&state.biases, 1);
        let mut total = 0.0;
        for round in 0..n_blocks {
            let users = split(&mut state.users, &self.user_blocks, d);
            let mut items = split(&mut items, &layout.blocks, d);
            let mut biases = split(&mut biases, &layout.blocks, 1);
            items.rotate_left(round);
            biases.rotate_left(round);
            let mut round: Vec<Meeting<'_>> = users
                .into_iter()
                .zip(items.into_iter().zip(biases))
                .enumerate()
                .map(|(block, (users, (items, biases)))| {
                    let other = (block + round) % n_blocks;
                    Meeting {
                        users,
                        items,
                        biases,
                        first_user: self.user_blocks[block].start,
                        first_place: layout.blocks[other].start,
                        visits: &meetings[block][other],
                        loss: 0.0,
                    }
                })
                .collect();
            round.par_iter_mut().for_each(|meeting| {
                let places = meeting.first_place..meeting.first_place + meeting.biases.len();
                let drawn = self.negatives(meeting.visits, &layout, places, negatives);
                meet(self, meeting, &drawn, d);
            });
            total += round.iter().map(|meeting| meeting.loss).sum::<f64>();
        }
        layout.scatter(&items, &mut state.items, d);
        layout.scatter(&biases, &mut state.biases, 1);
        let weight: f64 = self.examples.iter().map(|one| f64::from(one.weight)).sum();
        let loss = if weight > 0.0 { total / weight } else { 0.0 };
        let is_finite = |numbers: &[f32]| numbers.iter().all(|x| x.is_finite());
        if loss.is_finite() && is_finite(&state.users) && is_finite(&state.items) {
            Ok(loss)
        } else {
            Err(FitError::NotFinite {
                epoch: Some(epoch),
                cause: format!(
                    "vectors grew beyond all bounds; lower `learning_rate` ({}) or look for enormous weights",
                    self.rates.learning_rate
                ),
            })
        }
    }

    /// The weight of each sample, as steps take it.
    pub(super) fn weights(&self) -> Vec<f64> {
        let weights = self.examples.iter().map(|one| f64::from(one.weight));
        weights.collect()
    }

    /// The steps of an epoch, in an order that leads where [`Trainer::epoch`] does: meetings of one
    /// round share no vector, so it does not matter that they follow each other here. A sample whose
    /// user leaves nothing to draw takes none.
    pub(super) fn steps(&self, epoch: u32) -> Vec<Step> {
        let seed = self.seed.index(u64::from(epoch));
        let n_blocks = self.user_blocks.len();
        let layout = Layout::new(self.n_items, n_blocks, seed.child("blocks"));
        let meetings = self.meetings(&layout, seed.child("order").stream());
        let negatives = seed.child("negatives").stream();
        let mut steps = Vec::with_capacity(self.examples.len());
        for round in 0..n_blocks {
            for (block, meetings) in meetings.iter().enumerate() {
                let other = (block + round) % n_blocks;
                let places = layout.blocks[other].clone();
                let items = &layout.order[places.clone()];
                let visits = &meetings[other];
                let drawn = self.negatives(visits, &layout, places, negatives);
                let visits = visits.iter().zip(drawn);
                let taken = visits.filter(|(_, negative)| *negative != NONE);
                steps.extend(taken.map(|(visit, negative)| Step {
                    user: visit.user,
                    chosen: layout.order[visit.positive as usize],
                    other: items[negative as usize],
                    sample: visit.example,
                }));
            }
        }
        steps
    }

    /// Visits by user block and item block, each in random order.
    fn meetings(&self, layout: &Layout, order: Stream) -> Vec<Vec<Vec<Visit>>> {
        self.by_block
            .par_iter()
            .map(|examples| {
                let mut lists = vec![Vec::new(); layout.blocks.len()];
                let places = examples.start as u32..;
                for (place, example) in places.zip(&self.examples[examples.clone()]) {
                    let positive = layout.places[example.item as usize];
                    let block = layout.block_of[positive as usize];
                    lists[usize::from(block)].push(Visit {
                        draw: order.bits(example.sample_id, 0),
                        sample_id: example.sample_id,
                        user: example.user,
                        positive,
                        weight: example.weight,
                        example: place,
                    });
                }
                for list in &mut lists {
                    list.sort_unstable_by_key(|visit| (visit.draw, visit.sample_id));
                }
                lists
            })
            .collect()
    }

    /// The place of the negative of each visit, in its block; [`NONE`] where nothing is found. They
    /// are drawn before anything moves: no step waits for a draw.
    fn negatives(
        &self,
        visits: &[Visit],
        layout: &Layout,
        places: Range<usize>,
        negatives: Stream,
    ) -> Vec<u32> {
        let n_places = places.len() as u64;
        let items = &layout.order[places];
        let of_visit = |visit: &Visit| {
            let chosen = self.chosen_by(visit.user as usize);
            (0..MOST_DRAWS)
                .map(|lane| negatives.below(n_places, visit.sample_id, lane))
                .find(|&place| !holds(chosen, items[place as usize]))
                .map_or(NONE, |place| place as u32)
        };
        visits.iter().map(of_visit).collect()
    }

    #[inline(always)]
    fn meet(&self, meeting: &mut Meeting<'_>, drawn: &[u32], d: usize) {
        let mut logarithms = Logarithms::new();
        for (at, (visit, &negative)) in meeting.visits.iter().zip(drawn).enumerate() {
            if let Some((next, &other)) = meeting.visits.get(at + AHEAD).zip(drawn.get(at + AHEAD))
            {
                prefetch(
                    meeting.users,
                    (next.user as usize - meeting.first_user) * d,
                    d,
                );
                let positive = next.positive as usize - meeting.first_place;
                prefetch(meeting.items, positive * d, d);
                if other != NONE {
                    prefetch(meeting.items, other as usize * d, d);
                }
            }
            if negative == NONE {
                continue;
            }
            let negative = negative as usize;
            let positive = visit.positive as usize - meeting.first_place;
            let user = (visit.user as usize - meeting.first_user) * d;
            let p = &mut meeting.users[user..user + d];
            let (q, r) = two_rows(meeting.items, positive, negative, d);
            let x = (meeting.biases[positive] - meeting.biases[negative]) + (dot(p, q) - dot(p, r));
            let Surprise { share, more, rest } = surprise(x);
            if visit.weight.to_bits() == 1.0_f32.to_bits() {
                logarithms.add(more);
                meeting.loss += rest;
            } else {
                meeting.loss += f64::from(visit.weight) * (libm::log(more) + rest);
            }
            let step = self.rates.step * visit.weight * share;
            let shrink = self.rates.shrink;
            for ((p, q), r) in p.iter_mut().zip(q).zip(r) {
                let old = *p;
                *p = step.mul_add(*q - *r, shrink * old);
                *q = step.mul_add(old, shrink * *q);
                *r = (-step).mul_add(old, shrink * *r);
            }
            meeting.biases[positive] = step + shrink * meeting.biases[positive];
            meeting.biases[negative] = -step + shrink * meeting.biases[negative];
        }
        meeting.loss += logarithms.sum();
    }
}

kernels! {
    /// One step for each example of a meeting.
    fn meet<'a, 'b>(
        trainer: &'a Trainer,
        meeting: &'a mut Meeting<'b>,
        drawn: &'a [u32],
        d: usize,
    ) -> () {
        trainer.meet(meeting, drawn, d);
    }

    /// Trains `p` on a history with items held fixed.
    fn train_alone<'a>(
        state: &'a State,
        history: &'a [u32],
        rates: Rates,
        draws: Stream,
        p: &'a mut [f32],
    ) -> () {
        let d = p.len();
        let n_items = state.biases.len() as u64;
        let row = |item: usize| &state.items[item * d..(item + 1) * d];
        for pass in 0..FOLD_IN_PASSES {
            for (position, &item) in (0_u64..).zip(history) {
                let draw = (0..MOST_DRAWS)
                    .map(|lane| draws.below(n_items, position, pass * MOST_DRAWS + lane))
                    .find(|negative| !history.iter().any(|one| u64::from(*one) == *negative));
                let Some(negative) = draw else { continue };
                let (positive, negative) = (item as usize, negative as usize);
                let (q, r) = (row(positive), row(negative));
                let x = (state.biases[positive] - state.biases[negative])
                    + (dot(p, q) - dot(p, r));
                let step = rates.step * surprise(x).share;
                for ((p, q), r) in p.iter_mut().zip(q).zip(r) {
                    *p = step.mul_add(*q - *r, rates.shrink * *p);
                }
            }
        }
    }
}

/// The vector of a history, trained from 0 with items held fixed. Negatives are a function of the
/// place in the history and the pass.
pub(super) fn fold_in(state: &State, history: &[u32], rates: Rates) -> Vec<f32> {
    let d = state.dimensions();
    let draws = Seed::root(0).child("bpr").child("fold_in").stream();
    let mut p = vec![0.0_f32; d];
    train_alone(state, history, rates, draws, &mut p);
    p
}
