//! The items of the shop: categories, brands, prices, titles, arrivals, and what goes with what.

use seed::Seed;
use serde::{Deserialize, Serialize};
use tables::Item;

use super::draws::{Draws, cumulative, single, whole};
use super::words::{
    BRAND_ENDS, BRAND_STARTS, DEPARTMENTS, FEATURES, N_LEAVES, STYLES, TIERS, leaf_words,
};

/// Brands of each department.
pub(super) const BRANDS_PER_DEPARTMENT: usize = 6;

/// Items that a shop shows beside an item: half of them similar, half complementary.
pub(super) const N_RELATED: usize = 6;

/// Fewest items that make a category.
const ITEMS_PER_LEAF: usize = 6;

/// Share of items that are there from the start.
const FROM_THE_START: f64 = 0.7;

/// Language of titles, categories and queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Language {
    #[default]
    En,
    Zh,
}

impl Language {
    pub(super) fn of(self, word: super::words::Word) -> &'static str {
        match self {
            Self::En => word[0],
            Self::Zh => word[1],
        }
    }
}

/// What the simulation must know of an item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub(super) leaf: u8,
    pub(super) noun: u8,
    pub(super) brand: u8,
    pub(super) style: u8,
    /// 0 budget, 1 middle, 2 premium.
    pub(super) tier: u8,
    pub(super) feature: u8,
    /// Standard normal; what all users agree on.
    pub(super) quality: f32,
    /// Weight in the shop's popularity before its own sales.
    pub(super) appeal: f32,
    /// Price in 1/10,000.
    pub(super) price_e4: i64,
    /// Milliseconds after the start at which it is first offered.
    pub(super) arrives: i64,
    /// Similar items first, then complementary ones; the item itself where there are none.
    pub(super) related: [u32; N_RELATED],
}

/// All items, and the items of each category in order of arrival.
pub(super) struct Catalogue {
    pub(super) products: Vec<Product>,
    pub(super) leaves: Vec<Vec<u32>>,
    language: Language,
}

impl Catalogue {
    /// Makes `n_items` items that arrive over `span` milliseconds.
    pub(super) fn new(n_items: u32, span: i64, language: Language, seed: Seed) -> Self {
        let mut draws = Draws::new(seed.child("items"));
        let n_leaves = (n_items as usize / ITEMS_PER_LEAF).clamp(1, N_LEAVES);
        let sizes = cumulative((0..n_leaves).map(|_| 0.4 + draws.uniform()));
        let mut leaves = vec![Vec::new(); n_leaves];
        let products: Vec<Product> = (0..n_items)
            .map(|item| {
                // The first items make sure that no category is ever empty.
                let is_founder = (item as usize) < n_leaves;
                let leaf = if is_founder {
                    item as usize
                } else {
                    draws.by_cumulative(&sizes)
                };
                leaves[leaf].push(item);
                let mut product = product(leaf, &mut draws);
                if !is_founder && !draws.chance(FROM_THE_START) {
                    // Late enough for the last ones to be noticed.
                    product.arrives = whole(draws.uniform() * 0.95 * span as f64);
                }
                product
            })
            .collect();
        for items in &mut leaves {
            items.sort_by_key(|&item| (products[item as usize].arrives, item));
        }
        let mut catalogue = Self {
            products,
            leaves,
            language,
        };
        catalogue.relate(&mut Draws::new(seed.child("related")));
        catalogue
    }

    pub(super) fn product(&self, item: u32) -> &Product {
        &self.products[item as usize]
    }

    pub(super) fn language(&self) -> Language {
        self.language
    }

    /// The category that goes with a category: its neighbour in the department.
    pub(super) fn complement(&self, leaf: usize) -> usize {
        let next = leaf / 5 * 5 + (leaf + 1) % 5;
        if next < self.leaves.len() { next } else { leaf }
    }

    /// Gives every item its neighbours: similar ones share category and, if possible, style or
    /// brand; complementary ones come from the category that goes with it.
    fn relate(&mut self, draws: &mut Draws) {
        for item in 0..self.products.len() {
            let product = self.products[item];
            let leaf = usize::from(product.leaf);
            let mut related = [u32::try_from(item).unwrap_or(0); N_RELATED];
            for (slot, related) in related.iter_mut().enumerate() {
                let pool = if slot < N_RELATED / 2 {
                    &self.leaves[leaf]
                } else {
                    &self.leaves[self.complement(leaf)]
                };
                let mut best = f64::MIN;
                for _ in 0..12 {
                    let other = *draws.pick(pool);
                    let candidate = &self.products[other as usize];
                    let match_ = f64::from(u8::from(candidate.style == product.style)) * 2.0
                        + f64::from(u8::from(candidate.brand == product.brand))
                        + f64::from(u8::from(candidate.tier == product.tier));
                    let score = match_ + draws.uniform();
                    if other as usize != item && score > best {
                        best = score;
                        *related = other;
                    }
                }
            }
            self.products[item].related = related;
        }
    }

    /// The row of an item.
    pub(super) fn row(&self, item: u32) -> Item {
        let product = self.product(item);
        let language = self.language;
        let word = |word| language.of(word);
        let leaf = usize::from(product.leaf);
        let words = leaf_words(leaf);
        let (style, colours) = STYLES[usize::from(product.style)];
        let colour = word(colours[item as usize % colours.len()]);
        let (style, noun) = (word(style), word(words.nouns[usize::from(product.noun)]));
        let feature = word(FEATURES[usize::from(product.feature)]);
        let tier = word(TIERS[usize::from(product.tier)]);
        let brand = brand(usize::from(product.brand), language);
        let (department, category) = (word(DEPARTMENTS[leaf / 5].name), word(words.name));
        let (title, description) = match language {
            Language::En => (
                format!("{brand} {style} {noun}, {feature}, {colour}"),
                format!(
                    "{brand} {noun} in {style} style, {tier} line. Colour: {colour}; {feature}."
                ),
            ),
            Language::Zh => (
                format!("{brand} {style}{noun} {feature} {colour}"),
                format!("{brand}出品的{style}{noun}，{tier}之选。颜色：{colour}。{feature}。"),
            ),
        };
        Item {
            item_id: format!("i{}", item + 1),
            title: Some(title),
            description: Some(description),
            category: Some(format!("{department} > {category}")),
            brand: Some(brand),
            price_e4: Some(product.price_e4),
            attributes: vec![
                style.to_owned(),
                colour.to_owned(),
                feature.to_owned(),
                tier.to_owned(),
            ],
        }
    }
}

fn product(leaf: usize, draws: &mut Draws) -> Product {
    let department = leaf / 5;
    // Few brands have most of a department.
    let place = draws.uniform() * draws.uniform();
    let place = usize::try_from(whole(place * BRANDS_PER_DEPARTMENT as f64)).unwrap_or(0);
    let brand = department * BRANDS_PER_DEPARTMENT + place;
    // A brand keeps to its tier, mostly.
    let tier = if draws.chance(0.8) {
        brand % TIERS.len()
    } else {
        draws.below(TIERS.len())
    };
    let shift = [-0.35, 0.0, 0.55][tier];
    let price = leaf_words(leaf).price * libm::exp(shift + 0.3 * draws.normal());
    // Prices end in 9: 0.09 is the lowest.
    let price_e4 = whole((price * 10.0).round().max(1.0)) * 1000 - 100;
    Product {
        leaf: index(leaf),
        noun: index(draws.below(3)),
        brand: index(brand),
        style: index(draws.below(STYLES.len())),
        tier: index(tier),
        feature: index(draws.below(FEATURES.len())),
        quality: single(draws.normal()),
        appeal: single(libm::exp(0.9 * draws.normal())),
        price_e4,
        arrives: 0,
        related: [0; N_RELATED],
    }
}

/// Numbers of words and categories, all below 256.
fn index(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Name of a brand.
pub(super) fn brand(brand: usize, language: Language) -> String {
    let start = BRAND_STARTS[brand % BRAND_STARTS.len()];
    let end = BRAND_ENDS[(brand / BRAND_STARTS.len() + brand) % BRAND_ENDS.len()];
    format!("{}{}", language.of(start), language.of(end))
}
