//! What is known of the items themselves: text, category, brand, price. Nothing of it comes from the
//! events of training but the mean price and its scale, so nothing is left out for a sample.

use std::collections::BTreeMap;

use tables::ItemFeatures;
use tensors::{Csr, TensorError, Tensors};

use super::features::Evidence;
use crate::data::TrainingData;
use crate::recommender::{FitError, LoadError};
use crate::tf_idf::{Features, Weights, scale};

const TEXT: &str = "item_text";
const CATEGORIES: &str = "item_categories";
const BRANDS: &str = "item_brands";
const PRICES: &str = "item_prices";
const HAS_PRICE: &str = "item_has_price";

/// By catalogue item; empty where items are not read.
#[derive(Clone, Debug)]
pub(super) struct Attributes {
    /// Rows of length 1 or empty, a column per term.
    text: Csr<f64>,
    /// Row t: the items that hold term t.
    holders: Csr<f64>,
    /// Number of the category, from 1 up; 0: none.
    categories: Vec<u32>,
    /// Number of the brand, from 1 up; 0: none.
    brands: Vec<u32>,
    /// Standardised log price.
    prices: Vec<f64>,
    /// 1 if there is a price, else 0.
    has_price: Vec<u32>,
}

/// What the recent items of a history are like.
#[derive(Clone, Debug, Default)]
pub(super) struct Profile {
    /// (term, value), terms ascending, length 1 or empty.
    text: Vec<(u32, f64)>,
    /// Categories of the recent items that have one.
    categories: Vec<u32>,
    /// Brands of the recent items that have one.
    brands: Vec<u32>,
    /// Mean price of the recent items that have one.
    price: Option<f64>,
}

/// Numbers names in alphabetical order, from 1 up.
fn numbered<'a>(names: impl Iterator<Item = Option<&'a str>> + Clone) -> Vec<u32> {
    let mut numbers: BTreeMap<&str, u32> = names.clone().flatten().map(|x| (x, 0)).collect();
    for (number, at) in numbers.values_mut().zip(1..) {
        *number = at;
    }
    names
        .map(|name| {
            name.and_then(|name| numbers.get(name).copied())
                .unwrap_or(0)
        })
        .collect()
}

fn matches(values: &[u32], value: Option<&u32>) -> f64 {
    match value {
        Some(&value) if value > 0 => values.iter().filter(|x| **x == value).count() as f64,
        _ => 0.0,
    }
}

impl Attributes {
    fn new(
        text: Csr<f64>,
        categories: Vec<u32>,
        brands: Vec<u32>,
        prices: Vec<f64>,
        has_price: Vec<u32>,
    ) -> Self {
        let holders = text.transpose();
        Self {
            text,
            holders,
            categories,
            brands,
            prices,
            has_price,
        }
    }

    /// Nothing is known.
    pub(super) fn none() -> Self {
        Self::new(Csr::new(0), Vec::new(), Vec::new(), Vec::new(), Vec::new())
    }

    /// Reads the items of the catalogue.
    pub(super) fn of(items: &[ItemFeatures], data: &TrainingData<'_>) -> Result<Self, FitError> {
        let weights = Weights {
            max_history: 0,
            items: 0.0,
            text: 1.0,
        };
        let text = Features::fit(weights, items, data)?.into_text();
        Ok(Self::new(
            text,
            numbered(items.iter().map(|item| item.category.as_deref())),
            numbered(items.iter().map(|item| item.brand.as_deref())),
            items.iter().map(|item| item.price_z).collect(),
            items
                .iter()
                .map(|item| u32::from(item.price_e4.is_some()))
                .collect(),
        ))
    }

    fn price(&self, item: u32) -> Option<f64> {
        let item = item as usize;
        let is_known = self.has_price.get(item) == Some(&1);
        is_known.then(|| self.prices.get(item).copied()).flatten()
    }

    /// What distinct items are like, latest first.
    pub(super) fn profile(&self, recent: &[u32]) -> Profile {
        if self.categories.is_empty() {
            return Profile::default();
        }
        let mut terms: Vec<(u32, f64)> = Vec::new();
        for &item in recent {
            if (item as usize) < self.text.n_rows() {
                let (columns, values) = self.text.row(item as usize);
                terms.extend(columns.iter().copied().zip(values.iter().copied()));
            }
        }
        // Stable, so that each sum runs in the order of the items.
        terms.sort_by_key(|(term, _)| *term);
        let mut text: Vec<(u32, f64)> = terms
            .chunk_by(|a, b| a.0 == b.0)
            .map(|chunk| (chunk[0].0, chunk.iter().map(|(_, x)| x).sum()))
            .collect();
        scale(&mut text, 1.0);
        let known = |values: &[u32]| -> Vec<u32> {
            let all = recent.iter().filter_map(|item| values.get(*item as usize));
            all.copied().filter(|value| *value > 0).collect()
        };
        let prices: Vec<f64> = recent.iter().filter_map(|item| self.price(*item)).collect();
        Profile {
            text,
            categories: known(&self.categories),
            brands: known(&self.brands),
            price: (!prices.is_empty()).then(|| prices.iter().sum::<f64>() / prices.len() as f64),
        }
    }

    /// Compares a candidate with a profile in all but text.
    pub(super) fn compare(&self, profile: &Profile, item: u32, evidence: &mut Evidence) {
        let at = item as usize;
        evidence.same_category = matches(&profile.categories, self.categories.get(at));
        evidence.same_brand = matches(&profile.brands, self.brands.get(at));
        if let (Some(mean), Some(price)) = (profile.price, self.price(item)) {
            evidence.price_distance = (price - mean).abs();
        }
    }

    /// Cosine of the text of a candidate and that of a profile.
    pub(super) fn text(&self, profile: &Profile, item: u32) -> f64 {
        let mut cosine = 0.0;
        if (item as usize) < self.text.n_rows() {
            let (terms, values) = self.text.row(item as usize);
            // Terms ascend, as in `write_texts`, so that both sums have the same bits.
            for (term, value) in &profile.text {
                if let Ok(at) = terms.binary_search(term) {
                    cosine += value * values[at];
                }
            }
        }
        cosine
    }

    /// [`Attributes::text`] of all candidates.
    pub(super) fn write_texts(&self, profile: &Profile, evidence: &mut [Evidence]) {
        for (term, value) in &profile.text {
            let (items, values) = self.holders.row(*term as usize);
            for (item, held) in items.iter().zip(values) {
                if let Some(evidence) = evidence.get_mut(*item as usize) {
                    evidence.text += value * held;
                }
            }
        }
    }

    /// Adds everything to tensors.
    pub(super) fn save(&self, tensors: &mut Tensors) -> Result<(), TensorError> {
        let n = [self.categories.len()];
        tensors.insert_csr_f64(TEXT, &self.text)?;
        tensors.insert_u32(CATEGORIES, &n, self.categories.clone())?;
        tensors.insert_u32(BRANDS, &n, self.brands.clone())?;
        tensors.insert_f64(PRICES, &n, self.prices.clone())?;
        tensors.insert_u32(HAS_PRICE, &n, self.has_price.clone())
    }

    /// Takes everything from tensors.
    pub(super) fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        let text = tensors.csr_f64(TEXT)?;
        let categories = tensors.u32(CATEGORIES)?.to_vec();
        let brands = tensors.u32(BRANDS)?.to_vec();
        let prices = tensors.f64(PRICES)?.to_vec();
        let has_price = tensors.u32(HAS_PRICE)?.to_vec();
        for (right, n) in [
            (TEXT, text.n_rows()),
            (BRANDS, brands.len()),
            (PRICES, prices.len()),
            (HAS_PRICE, has_price.len()),
        ] {
            if n != categories.len() {
                return Err(LoadError::Sizes {
                    left: CATEGORIES,
                    right,
                });
            }
        }
        Ok(Self::new(text, categories, brands, prices, has_price))
    }
}
