//! The users of the shop: latent tastes that drift, habits, and what they are about to buy again.

use seed::{Seed, Stream};
use tables::User;

use super::catalogue::{Catalogue, Product};
use super::draws::{Draws, cumulative, sigmoid, single, whole};
use super::words::{DEPARTMENTS, SEGMENTS, STYLES, TIERS};

/// Categories that a user cares for at a time.
pub(super) const N_TASTES: usize = 4;

/// Things that a user buys again and again.
const N_STAPLES: usize = 3;

/// Mean time after which a taste gives way to another.
const DRIFT_DAYS: f64 = 40.0;

/// Share of brands that a user likes.
const LIKED_BRANDS: f64 = 0.25;

/// Share of users that come in the course of time.
const NEWCOMERS: f64 = 0.3;

/// No item.
pub(super) const NONE: u32 = u32::MAX;

pub(super) const DAY: i64 = 86_400_000;

/// Something that is used up and bought again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Staple {
    pub(super) item: u32,
    pub(super) due: i64,
}

/// One user at the present instant.
#[derive(Clone, Debug)]
pub(super) struct Person {
    /// Categories, dearest first.
    pub(super) tastes: [u8; N_TASTES],
    style: u8,
    second_style: u8,
    segment: u8,
    is_bot: bool,
    tier: f32,
    /// Item to go on from: the last one clicked or bought.
    pub(super) anchor: u32,
    /// Item that was wanted and not bought.
    pub(super) wanted: u32,
    pub(super) staples: [Staple; N_STAPLES],
    /// First instant at which the user visits.
    pub(super) joins: i64,
    /// End of the present session.
    pub(super) busy_until: i64,
    drifts: i64,
}

/// How much a taste counts by its place.
const TASTE_WEIGHTS: [f64; N_TASTES] = [1.0, 0.75, 0.55, 0.4];

/// All users.
pub(super) struct People {
    pub(super) persons: Vec<Person>,
    /// Running sums of how often users visit; bots never come this way.
    activity: Vec<f64>,
    bots: Vec<u32>,
    /// For each segment, running sums of how much it cares for each category.
    fashions: Vec<Vec<f64>>,
    brands: Stream,
}

impl People {
    /// Makes `n_users` people and `n_bots` bots among them.
    pub(super) fn new(
        n_users: u32,
        n_bots: u32,
        span: i64,
        catalogue: &Catalogue,
        seed: Seed,
    ) -> Self {
        let mut draws = Draws::new(seed.child("users"));
        let n_leaves = catalogue.leaves.len();
        let fashions: Vec<Vec<f64>> = (0..SEGMENTS.len())
            .map(|_| {
                let departments: Vec<f64> = (0..DEPARTMENTS.len())
                    .map(|_| libm::exp(0.8 * draws.normal()))
                    .collect();
                cumulative(
                    (0..n_leaves)
                        .map(|leaf| departments[leaf / 5] * libm::exp(0.4 * draws.normal())),
                )
            })
            .collect();
        let n_all = n_users + n_bots;
        let persons: Vec<Person> = (0..n_all)
            .map(|_| person(span, &fashions, &mut draws))
            .collect();
        let mut people = Self {
            persons,
            activity: Vec::new(),
            bots: Vec::new(),
            fashions,
            brands: seed.child("brands").stream(),
        };
        // Bots are spread over the numbers: an identity must not give them away.
        for bot in 0..n_bots {
            let place = (u64::from(bot) * 2 + 1) * u64::from(n_all) / (u64::from(n_bots) * 2);
            let place = u32::try_from(place).unwrap_or(0);
            people.persons[place as usize].is_bot = true;
            people.bots.push(place);
        }
        people.activity = cumulative(people.persons.iter().map(|person| {
            // How often people come is spread log-normally.
            let weight = libm::exp(0.8 * draws.normal());
            if person.is_bot { 0.0 } else { weight }
        }));
        people
    }

    pub(super) fn bots(&self) -> &[u32] {
        &self.bots
    }

    /// A user who visits at an instant; `None` where the draws find nobody who is free.
    pub(super) fn visitor(&self, now: i64, draws: &mut Draws) -> Option<u32> {
        (0..64).find_map(|_| {
            let user = draws.by_cumulative(&self.activity);
            let person = &self.persons[user];
            (person.joins <= now && person.busy_until < now)
                .then(|| u32::try_from(user).unwrap_or(0))
        })
    }

    /// True affinity of a user for an item, in `[0, 1]`.
    pub(super) fn affinity(&self, user: u32, product: &Product) -> f64 {
        let person = &self.persons[user as usize];
        let taste = person
            .tastes
            .iter()
            .zip(TASTE_WEIGHTS)
            .find(|(leaf, _)| **leaf == product.leaf)
            .map_or(0.0, |(_, weight)| weight);
        let style = if product.style == person.style {
            1.0
        } else if product.style == person.second_style {
            0.5
        } else {
            0.0
        };
        let likes_brand = self
            .brands
            .uniform(u64::from(user), u64::from(product.brand))
            < LIKED_BRANDS;
        let brand = if likes_brand { 1.0 } else { 0.0 };
        let distance = (f64::from(person.tier) - f64::from(product.tier)).abs();
        sigmoid(
            -2.6 + 2.2 * taste + 1.6 * style + 1.3 * brand + 0.4 * f64::from(product.quality)
                - 0.8 * distance,
        )
    }

    /// The style that a user likes best.
    pub(super) fn style(&self, user: u32) -> u8 {
        self.persons[user as usize].style
    }

    /// Whether a user likes a brand.
    pub(super) fn likes(&self, user: u32, brand: u8) -> bool {
        self.brands.uniform(u64::from(user), u64::from(brand)) < LIKED_BRANDS
    }

    /// Lets the tastes of a user drift up to an instant.
    pub(super) fn drift(&mut self, user: u32, now: i64, draws: &mut Draws) {
        let person = &mut self.persons[user as usize];
        while person.drifts <= now {
            person.drifts += days(DRIFT_DAYS * draws.exponential()).max(DAY);
            let fashion = &self.fashions[usize::from(person.segment)];
            let fresh = u8::try_from(draws.by_cumulative(fashion)).unwrap_or(0);
            if !person.tastes.contains(&fresh) {
                // The dearest fades, the others move up, and the new one comes second.
                let [first, second, third, _] = person.tastes;
                person.tastes = [second, fresh, first, third];
            }
        }
    }

    /// Remembers a purchase: what is used up will be due again.
    pub(super) fn buys(
        &mut self,
        user: u32,
        item: u32,
        now: i64,
        lasts_days: f64,
        draws: &mut Draws,
    ) {
        let person = &mut self.persons[user as usize];
        person.anchor = item;
        if person.wanted == item {
            person.wanted = NONE;
        }
        if lasts_days > 0.0 {
            let due = now + days(lasts_days * (0.8 + 0.4 * draws.uniform()));
            let slot = person
                .staples
                .iter()
                .position(|staple| staple.item == item)
                .or_else(|| person.staples.iter().position(|staple| staple.item == NONE))
                .unwrap_or_else(|| draws.below(N_STAPLES));
            person.staples[slot] = Staple { item, due };
        }
    }

    /// The row of a user.
    pub(super) fn row(&self, user: u32) -> User {
        let segment = usize::from(self.persons[user as usize].segment);
        User {
            user_id: format!("u{}", user + 1),
            segment: Some(SEGMENTS[segment].to_owned()),
        }
    }
}

/// Days in milliseconds.
pub(super) fn days(days: f64) -> i64 {
    whole(days * DAY as f64)
}

fn person(span: i64, fashions: &[Vec<f64>], draws: &mut Draws) -> Person {
    let small = |number: usize| u8::try_from(number).unwrap_or(0);
    let segment = draws.below(SEGMENTS.len());
    let mut tastes = [0; N_TASTES];
    for place in 0..N_TASTES {
        // A few tries for distinct categories; a tiny shop may not have enough.
        for _ in 0..8 {
            tastes[place] = small(draws.by_cumulative(&fashions[segment]));
            if !tastes[..place].contains(&tastes[place]) {
                break;
            }
        }
    }
    let joins = if draws.chance(NEWCOMERS) {
        whole(draws.uniform() * 0.7 * span as f64)
    } else {
        0
    };
    Person {
        tastes,
        style: small(draws.below(STYLES.len())),
        second_style: small(draws.below(STYLES.len())),
        segment: small(segment),
        is_bot: false,
        tier: single(draws.uniform() * (TIERS.len() - 1) as f64),
        anchor: NONE,
        wanted: NONE,
        staples: [Staple { item: NONE, due: 0 }; N_STAPLES],
        joins,
        busy_until: -1,
        drifts: joins + days(DRIFT_DAYS * draws.exponential()),
    }
}
