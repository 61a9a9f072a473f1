//! What the shop offers at the present: popularity by category, which feeds on its own sales.

use super::catalogue::Catalogue;
use super::draws::{Draws, cumulative};
use super::people::DAY;

/// How strongly new items are put forward: their weight is up to three times as high.
const NOVELTY: f64 = 2.0;

/// Days after which that has faded to a third.
const NOVELTY_DAYS: f64 = 14.0;

/// Exponent of earlier clicks in the weight: the rich get richer, but not without bound.
const FEEDBACK: f64 = 0.3;

/// Popularity of all items, brought up to date once a day.
pub(super) struct Shop {
    clicks: Vec<u32>,
    /// For each category, running sums over the items that are offered, in order of arrival.
    popularity: Vec<Vec<f64>>,
    built_at: i64,
}

impl Shop {
    pub(super) fn new(catalogue: &Catalogue) -> Self {
        let mut shop = Self {
            clicks: vec![0; catalogue.products.len()],
            popularity: Vec::new(),
            built_at: 0,
        };
        shop.rebuild(catalogue, 0);
        shop
    }

    /// Brings popularity up to date if a day has gone.
    pub(super) fn pass_time(&mut self, catalogue: &Catalogue, now: i64) {
        if now - self.built_at >= DAY {
            self.rebuild(catalogue, now);
        }
    }

    fn rebuild(&mut self, catalogue: &Catalogue, now: i64) {
        self.built_at = now;
        self.popularity = catalogue
            .leaves
            .iter()
            .map(|items| {
                cumulative(
                    items
                        .iter()
                        .take_while(|&&item| catalogue.product(item).arrives <= now)
                        .map(|&item| self.weight(catalogue, item)),
                )
            })
            .collect();
    }

    /// Weight of an item in the shop's own ranking.
    pub(super) fn weight(&self, catalogue: &Catalogue, item: u32) -> f64 {
        let product = catalogue.product(item);
        let age = (self.built_at - product.arrives) as f64 / DAY as f64;
        // What was there from the start is not news.
        let novelty = if product.arrives > 0 {
            NOVELTY * libm::exp(-age.max(0.0) / NOVELTY_DAYS)
        } else {
            0.0
        };
        let clicks = 1.0 + f64::from(self.clicks[item as usize]);
        f64::from(product.appeal)
            * libm::exp(0.3 * f64::from(product.quality))
            * (1.0 + novelty)
            * libm::pow(clicks, FEEDBACK)
    }

    /// Whether an item has arrived.
    pub(super) fn offers(&self, catalogue: &Catalogue, item: u32) -> bool {
        catalogue.product(item).arrives <= self.built_at
    }

    /// An item of a category, by popularity.
    pub(super) fn draw(&self, catalogue: &Catalogue, leaf: usize, draws: &mut Draws) -> u32 {
        // Every category has a founder, which is offered from the start.
        catalogue.leaves[leaf][draws.by_cumulative(&self.popularity[leaf])]
    }

    /// Counts a click.
    pub(super) fn click(&mut self, item: u32) {
        self.clicks[item as usize] = self.clicks[item as usize].saturating_add(1);
    }
}
