//! One visit: pages are shown, items looked at, clicked, marked, put into the cart, bought.

use tables::Event;

use super::catalogue::{Catalogue, Product};
use super::draws::{Draws, whole};
use super::people::{N_TASTES, NONE, People};
use super::search::Search;
use super::shop::Shop;
use super::words::leaf_words;

/// Probabilities of the funnel, each given the step before; affinity moves between the two ends.
pub(super) struct Funnel {
    click: [f64; 2],
    favorite: [f64; 2],
    cart: [f64; 2],
    purchase: [f64; 2],
}

/// The funnel of this shop.
pub(super) const FUNNEL: Funnel = Funnel {
    click: [0.05, 0.80],
    favorite: [0.02, 0.16],
    cart: [0.05, 0.45],
    purchase: [0.30, 0.65],
};

fn between(ends: [f64; 2], affinity: f64) -> f64 {
    ends[0] + (ends[1] - ends[0]) * affinity
}

/// Items on a page.
const PAGE: usize = 8;

/// Most pages of a visit.
const MOST_PAGES: usize = 12;

/// Probability of another page after each.
const NEXT_PAGE: f64 = 0.66;

/// Exponent of position bias: the item at rank r is looked at with probability r^-0.5.
const POSITION_BIAS: f64 = 0.5;

/// Probability that a staple that is due is bought first.
const REPLENISH: f64 = 0.7;

/// Probability that a visit goes back to what was wanted last time.
const RESUME: f64 = 0.5;

/// Probability that a page shows what goes with the last item clicked or bought.
const FOLLOW: f64 = 0.55;

/// Probability that a page comes from a query.
const SEARCH: f64 = 0.35;

/// Probability that people look outside their tastes.
const EXPLORE: f64 = 0.1;

/// What made an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Genuine,
    Bot,
    Accident,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Genuine => "genuine",
            Self::Bot => "bot",
            Self::Accident => "accident",
        }
    }
}

/// One event before it gets its place in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Happening {
    pub(super) at: i64,
    pub(super) user: u32,
    pub(super) item: u32,
    pub(super) event: Event,
    /// Query that led here, or [`NONE`].
    pub(super) query: u32,
    /// 1-based rank on the page; 0 where there was no page.
    pub(super) rank: u32,
    /// Seconds of dwell time or pieces; 0: none.
    pub(super) value: f64,
    pub(super) kind: Kind,
    pub(super) affinity: f64,
}

/// The shop with everything in it.
pub(super) struct World {
    pub(super) catalogue: Catalogue,
    pub(super) people: People,
    pub(super) search: Search,
    pub(super) shop: Shop,
    /// Accidental events for each genuine one.
    pub(super) accident_rate: f64,
}

/// One visit under way.
pub(super) struct Visit<'a> {
    world: &'a mut World,
    draws: &'a mut Draws,
    user: u32,
    now: i64,
    happenings: &'a mut Vec<Happening>,
    /// Items in the cart with query and rank.
    cart: Vec<(u32, u32, u32)>,
}

impl<'a> Visit<'a> {
    /// Simulates a whole visit of a user and returns its end; what happens is appended in the
    /// order of time.
    pub(super) fn play(
        world: &'a mut World,
        user: u32,
        now: i64,
        happenings: &'a mut Vec<Happening>,
        draws: &'a mut Draws,
    ) -> i64 {
        world.people.drift(user, now, draws);
        let mut visit = Self {
            world,
            draws,
            user,
            now,
            happenings,
            cart: Vec::new(),
        };
        visit.start();
        for _ in 0..MOST_PAGES {
            visit.page();
            if !visit.draws.chance(NEXT_PAGE) {
                break;
            }
        }
        visit.check_out();
        let end = visit.now;
        visit.world.people.persons[user as usize].busy_until = end;
        end
    }

    /// What the user came for: a staple that is due, or what was wanted last time.
    fn start(&mut self) {
        let person = &self.world.people.persons[self.user as usize];
        let due = person
            .staples
            .iter()
            .find(|staple| staple.item != NONE && staple.due <= self.now)
            .map(|staple| staple.item);
        let wanted = person.wanted;
        if let Some(item) = due
            && self.draws.chance(REPLENISH)
        {
            self.happens(item, Event::Click, NONE, 0);
            self.happens(item, Event::Cart, NONE, 0);
            self.cart.push((item, NONE, 0));
        } else if wanted != NONE && self.draws.chance(RESUME) {
            self.world.people.persons[self.user as usize].wanted = NONE;
            self.click(wanted, NONE, 0);
        }
    }

    /// Shows one page and goes down its ranks.
    fn page(&mut self) {
        let anchor = self.world.people.persons[self.user as usize].anchor;
        let (items, query) = if anchor != NONE && self.draws.chance(FOLLOW) {
            (self.related(anchor), NONE)
        } else {
            let leaf = self.leaf();
            if self.draws.chance(SEARCH) {
                let query = self
                    .world
                    .search
                    .ask(self.user, leaf, &self.world.people, self.draws);
                (self.results(query), query)
            } else {
                (self.shelf(leaf), NONE)
            }
        };
        let mut rank = 0;
        for &item in &items {
            rank += 1;
            if !self
                .draws
                .chance(libm::pow(f64::from(rank), -POSITION_BIAS))
            {
                continue;
            }
            let affinity = self.happens(item, Event::View, query, rank);
            // Whoever types a query means what it says.
            let bonus = if query == NONE { 0.0 } else { 0.1 };
            if self.draws.chance(between(FUNNEL.click, affinity) + bonus) {
                self.click(item, query, rank);
            }
        }
    }

    /// The category that the user has in mind.
    fn leaf(&mut self) -> usize {
        if self.draws.chance(EXPLORE) {
            return self.draws.below(self.world.catalogue.leaves.len());
        }
        // The dearest taste comes first most often: 0.4, 0.3, 0.2, 0.1.
        let place = self.draws.by_cumulative(&[0.4, 0.7, 0.9, 1.0]);
        let person = &self.world.people.persons[self.user as usize];
        usize::from(person.tastes[place.min(N_TASTES - 1)])
    }

    /// A shelf of a category: popular items, half of the slots chosen with the user in mind, the
    /// more popular ones higher.
    fn shelf(&mut self, leaf: usize) -> Vec<u32> {
        let world = &*self.world;
        let mut shelf: Vec<(f64, u32)> = Vec::with_capacity(PAGE);
        for slot in 0..PAGE {
            let mut item = world.shop.draw(&world.catalogue, leaf, self.draws);
            if slot % 2 == 0 {
                let other = world.shop.draw(&world.catalogue, leaf, self.draws);
                let affinity = |item| {
                    world
                        .people
                        .affinity(self.user, world.catalogue.product(item))
                };
                if affinity(other) > affinity(item) {
                    item = other;
                }
            }
            if !shelf.iter().any(|&(_, shown)| shown == item) {
                let weight = world.shop.weight(&world.catalogue, item);
                let noise = libm::exp(0.7 * self.draws.normal());
                shelf.push((weight * noise, item));
            }
        }
        ranked(shelf)
    }

    /// Results of a query: by grade and popularity, both seen through noise.
    fn results(&mut self, query: u32) -> Vec<u32> {
        let world = &*self.world;
        let mut results: Vec<(f64, u32)> = Vec::new();
        for &(item, grade) in &world.search.asks[query as usize].judged {
            if grade > 0 && world.shop.offers(&world.catalogue, item) {
                let appeal = f64::from(world.catalogue.product(item).appeal);
                let score = f64::from(grade) + 0.3 * appeal + self.draws.uniform();
                results.push((score, item));
            }
        }
        ranked(results)
    }

    /// What goes with an item.
    fn related(&mut self, anchor: u32) -> Vec<u32> {
        let world = &*self.world;
        let mut shown: Vec<u32> = Vec::with_capacity(PAGE);
        for &item in &world.catalogue.product(anchor).related {
            let is_new = item != anchor && !shown.contains(&item);
            if is_new && world.shop.offers(&world.catalogue, item) {
                shown.push(item);
            }
        }
        // Similar and complementary items take turns at the top.
        if self.draws.chance(0.5) {
            shown.reverse();
        }
        shown
    }

    /// A click and what follows from it.
    fn click(&mut self, item: u32, query: u32, rank: u32) {
        let affinity = self.happens(item, Event::Click, query, rank);
        self.world.shop.click(item);
        let person = &mut self.world.people.persons[self.user as usize];
        person.anchor = item;
        if self.draws.chance(between(FUNNEL.favorite, affinity)) {
            self.happens(item, Event::Favorite, query, rank);
            self.world.people.persons[self.user as usize].wanted = item;
        }
        if self.draws.chance(between(FUNNEL.cart, affinity)) {
            self.happens(item, Event::Cart, query, rank);
            if !self.cart.iter().any(|&(other, ..)| other == item) {
                self.cart.push((item, query, rank));
            }
        }
    }

    /// Buys what is in the cart, all at one instant; what is left is wanted next time.
    fn check_out(&mut self) {
        self.pause(40.0);
        let mut n_bought = 0;
        for (item, query, rank) in std::mem::take(&mut self.cart) {
            let affinity = self.affinity(item);
            if !self.draws.chance(between(FUNNEL.purchase, affinity)) {
                self.world.people.persons[self.user as usize].wanted = item;
                continue;
            }
            let product = *self.world.catalogue.product(item);
            let value = pieces(&product, self.draws);
            self.push(item, Event::Purchase, query, rank, value, Kind::Genuine);
            let lasts_days = leaf_words(usize::from(product.leaf)).lasts_days;
            self.world
                .people
                .buys(self.user, item, self.now, lasts_days, self.draws);
            n_bought += 1;
        }
        // Not in between: all items of a basket share one instant.
        for _ in 0..n_bought {
            self.accident();
        }
    }

    fn affinity(&self, item: u32) -> f64 {
        self.world
            .people
            .affinity(self.user, self.world.catalogue.product(item))
    }

    fn pause(&mut self, mean_seconds: f64) {
        self.now += 1000 + whole(mean_seconds * 1000.0 * self.draws.exponential());
    }

    /// Something happens a little later; returns the affinity.
    fn happens(&mut self, item: u32, event: Event, query: u32, rank: u32) -> f64 {
        let mean_seconds = if event == Event::View { 3.0 } else { 12.0 };
        self.pause(mean_seconds);
        let value = match event {
            Event::View => 0.5 + 2.0 * self.draws.exponential(),
            Event::Click => 5.0 + 40.0 * self.affinity(item) * self.draws.exponential(),
            _ => 0.0,
        };
        let affinity = self.push(item, event, query, rank, value, Kind::Genuine);
        self.accident();
        affinity
    }

    /// A slip of the finger, now and then: a click on anything of any category, left at once.
    fn accident(&mut self) {
        if !self.draws.chance(self.world.accident_rate) {
            return;
        }
        self.pause(2.0);
        let leaf = self.draws.below(self.world.catalogue.leaves.len());
        let item = self
            .world
            .shop
            .draw(&self.world.catalogue, leaf, self.draws);
        let dwell = 0.2 + self.draws.uniform();
        self.push(item, Event::Click, NONE, 0, dwell, Kind::Accident);
    }

    fn push(
        &mut self,
        item: u32,
        event: Event,
        query: u32,
        rank: u32,
        value: f64,
        kind: Kind,
    ) -> f64 {
        let affinity = self.affinity(item);
        self.happenings.push(Happening {
            at: self.now,
            user: self.user,
            item,
            event,
            query,
            rank,
            // Hundredths of a second are all that a log knows.
            value: (value * 100.0).round() / 100.0,
            kind,
            affinity,
        });
        affinity
    }
}

/// The first page, best first; equal scores by item.
fn ranked(mut scored: Vec<(f64, u32)>) -> Vec<u32> {
    scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.truncate(PAGE);
    scored.into_iter().map(|(_, item)| item).collect()
}

/// Pieces of a purchase: mostly one, cheap things more.
fn pieces(product: &Product, draws: &mut Draws) -> f64 {
    let more = if product.price_e4 < 150_000 {
        0.35
    } else {
        0.08
    };
    let mut pieces = 1.0;
    while pieces < 12.0 && draws.chance(more) {
        pieces += 1.0;
    }
    pieces
}
