//! Visits of all users on one clock, and their events in the order of time.
//!
//! Visits are drawn one after the other; the events of those under way wait in a heap and leave it
//! once no later visit can come before them. Memory grows with users and items, not with events.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use seed::Seed;
use tables::Event;

use super::draws::{Draws, whole};
use super::people::{DAY, NONE};
use super::session::{Happening, Kind, Visit, World};

const HOUR: i64 = DAY / 24;

/// How busy each hour of the day is, UTC.
const HOURS: [f64; 24] = [
    0.4, 0.2, 0.1, 0.1, 0.1, 0.2, 0.4, 0.7, 0.9, 1.0, 1.1, 1.2, 1.4, 1.2, 1.1, 1.1, 1.2, 1.4, 1.6,
    1.9, 2.2, 2.1, 1.5, 0.9,
];

/// How busy each day of the week is, from Monday.
const WEEKDAYS: [f64; 7] = [0.95, 0.9, 0.9, 0.95, 1.0, 1.15, 1.15];

/// Events that a visit is thought to have before there is experience.
const EXPECTED_EVENTS: f64 = 15.0;

/// Visits that this guess weighs as much as.
const EXPECTED_WEIGHT: f64 = 20.0;

/// Probability that a visit is followed by another within two days.
const RETURN: f64 = 0.3;

/// Fewest and additional items of one scan of a bot.
const SCAN: [usize; 2] = [30, 30];

/// A visit whose events have not all left.
struct Pending {
    at: i64,
    visit: u64,
    rest: VecDeque<Happening>,
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pending {}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Earliest first on a max-heap; at one instant, the earlier visit first.
impl Ord for Pending {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.visit).cmp(&(self.at, self.visit))
    }
}

/// All events of the shop in the order of time, without end.
pub(super) struct Stream {
    world: World,
    draws: Draws,
    span: i64,
    n_wanted: u64,
    bot_frac: f64,
    pending: BinaryHeap<Pending>,
    returns: BinaryHeap<Reverse<(i64, u32)>>,
    next_arrival: i64,
    n_visits: u64,
    /// Visits by people who came by chance, not back.
    n_arrivals: u64,
    n_events: u64,
    n_bot_events: u64,
    next_bot: usize,
    /// Where each bot goes on scanning.
    scans: Vec<u32>,
    scratch: Vec<Happening>,
}

impl Stream {
    /// Spreads `n_wanted` events over `span` milliseconds, a share of them by bots.
    pub(super) fn new(world: World, n_wanted: u64, span: i64, bot_frac: f64, seed: Seed) -> Self {
        let n_bots = world.people.bots().len();
        let mut stream = Self {
            draws: Draws::new(seed.child("visits")),
            span,
            n_wanted,
            bot_frac,
            pending: BinaryHeap::new(),
            returns: BinaryHeap::new(),
            next_arrival: 0,
            n_visits: 0,
            n_arrivals: 0,
            n_events: 0,
            n_bot_events: 0,
            next_bot: 0,
            scans: vec![0; n_bots],
            scratch: Vec::new(),
            world,
        };
        stream.next_arrival = stream.arrival_after(0);
        stream
    }

    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// The next event and the number of its visit.
    pub(super) fn next(&mut self) -> (Happening, u64) {
        loop {
            let next_return = self.returns.peek().map_or(i64::MAX, |next| next.0.0);
            let next_visit = self.next_arrival.min(next_return);
            if let Some(mut first) = self.pending.peek_mut()
                && first.at <= next_visit
            {
                let visit = first.visit;
                if let Some(happening) = first.rest.pop_front() {
                    if let Some(next) = first.rest.front() {
                        first.at = next.at;
                    } else {
                        std::collections::binary_heap::PeekMut::pop(first);
                    }
                    return (happening, visit);
                }
            }
            self.visit(next_visit, next_return < self.next_arrival);
        }
    }

    /// Simulates the visit that starts next.
    fn visit(&mut self, now: i64, is_return: bool) {
        self.world.shop.pass_time(&self.world.catalogue, now);
        let user = if is_return {
            let user = self.returns.pop().map(|Reverse((_, user))| user);
            user.filter(|&user| self.world.people.persons[user as usize].busy_until < now)
        } else {
            self.next_arrival = self.arrival_after(now);
            self.n_arrivals += 1;
            self.world.people.visitor(now, &mut self.draws)
        };
        if let Some(user) = user {
            let end = Visit::play(
                &mut self.world,
                user,
                now,
                &mut self.scratch,
                &mut self.draws,
            );
            if self.draws.chance(RETURN) {
                let hours = 1.0 + 47.0 * self.draws.uniform();
                let at = end + whole(hours * HOUR as f64);
                self.returns.push(Reverse((at, user)));
            }
            self.enqueue();
        }
        let is_behind = (self.n_bot_events as f64) < self.bot_frac * self.n_events as f64;
        if is_behind && !self.scans.is_empty() {
            self.scan(now);
            self.n_bot_events += self.scratch.len() as u64;
            self.enqueue();
        }
    }

    /// Puts the scratch into the heap as one visit.
    fn enqueue(&mut self) {
        let rest: VecDeque<Happening> = self.scratch.drain(..).collect();
        if let Some(first) = rest.front() {
            self.n_events += rest.len() as u64;
            self.pending.push(Pending {
                at: first.at,
                visit: self.n_visits,
                rest,
            });
            self.n_visits += 1;
        }
    }

    /// A bot goes on through the catalogue, item by item, at a steady pace, and buys nothing.
    fn scan(&mut self, now: i64) {
        let bot = self.next_bot;
        self.next_bot = (bot + 1) % self.scans.len();
        let user = self.world.people.bots()[bot];
        let n_items = u32::try_from(self.world.catalogue.products.len()).unwrap_or(u32::MAX);
        // A bot that is still busy goes on where it would have ended: its pace stays steady.
        let mut at = now.max(self.world.people.persons[user as usize].busy_until) + 2000;
        for _ in 0..SCAN[0] + self.draws.below(SCAN[1]) {
            let item = self.scans[bot];
            self.scans[bot] = (item + 1) % n_items;
            if !self.world.shop.offers(&self.world.catalogue, item) {
                continue;
            }
            let happening = |event, at| Happening {
                at,
                user,
                item,
                event,
                query: NONE,
                rank: 0,
                value: 1.0,
                kind: Kind::Bot,
                affinity: f64::NAN,
            };
            self.scratch.push(happening(Event::View, at));
            self.scratch.push(happening(Event::Click, at + 1000));
            at += 2000;
        }
        self.world.people.persons[user as usize].busy_until = at;
    }

    /// Instant of the next visit by chance: a Poisson process whose rate follows the hour and the
    /// weekday, and what is still wanted in the time that is left.
    fn arrival_after(&mut self, now: i64) -> i64 {
        let n_left = self.n_wanted.saturating_sub(self.n_events).max(1) as f64;
        let days_left = ((self.span - now) as f64 / DAY as f64).max(0.25);
        let per_visit = (EXPECTED_EVENTS * EXPECTED_WEIGHT + self.n_events as f64)
            / (EXPECTED_WEIGHT + self.n_arrivals as f64);
        let per_hour = n_left / per_visit / days_left / 24.0;
        let mut left = self.draws.exponential();
        let mut at = now;
        loop {
            let hour = usize::try_from(at / HOUR).unwrap_or(0);
            let busy = HOURS[hour % 24] * WEEKDAYS[hour / 24 % 7];
            let hour_end = (at / HOUR + 1) * HOUR;
            let in_hour = per_hour * busy * ((hour_end - at) as f64 / HOUR as f64);
            if left < in_hour {
                return at + whole((hour_end - at) as f64 * (left / in_hour));
            }
            left -= in_hour;
            at = hour_end;
        }
    }
}
