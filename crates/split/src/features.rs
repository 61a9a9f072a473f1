//! Features of items and sequences; every fitted number comes from the training part.
//!
//! Inserted events are events: features count them, as any model would. The vocabulary counts the
//! genuine ones.

use std::collections::BTreeMap;

use tables::{
    INSERTED_FILE, Instant, Item, ItemFeatures, Part, SampleId, UserFeatures, VocabularyEntry,
};

use crate::catalogue::Numbers;
use crate::log::Log;
use crate::sequences::Sequences;

/// 1 in units of a price.
const PRICE_UNIT: f64 = 10_000.0;

/// Counts over the training events of the sequences.
#[derive(Clone)]
struct Counts {
    n_events: u64,
    n_genuine: u64,
    price_sum: i128,
    n_prices: i64,
    first_genuine_at: i64,
}

/// Mean and standard deviation of a sample; a deviation of 0 leaves nothing to scale.
struct Standard {
    mean: f64,
    deviation: f64,
}

impl Standard {
    fn of(values: &[f64]) -> Self {
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        Self {
            mean,
            deviation: variance.sqrt(),
        }
    }

    fn score(&self, value: f64) -> f64 {
        if self.deviation > 0.0 {
            (value - self.mean) / self.deviation
        } else {
            0.0
        }
    }
}

fn log_price(price_e4: i64) -> f64 {
    libm::log1p(price_e4.max(0) as f64 / PRICE_UNIT)
}

/// What `split` fits.
pub(crate) struct Features {
    /// The vocabulary.
    pub(crate) vocabulary: Vec<VocabularyEntry>,
    /// Of every catalogue item.
    pub(crate) items: Vec<ItemFeatures>,
    /// Of every sequence.
    pub(crate) users: Vec<UserFeatures>,
}

impl Features {
    /// Fits all of them.
    pub(crate) fn of(
        log: &Log,
        sequences: &Sequences,
        numbers: &Numbers,
        described: &BTreeMap<String, Item>,
    ) -> Self {
        let counts = count(sequences, numbers.n_vocabulary);
        let vocabulary: Vec<VocabularyEntry> = numbers.catalogue[..numbers.n_vocabulary]
            .iter()
            .zip(&counts)
            .map(|(entry, count)| VocabularyEntry {
                item: entry.item,
                item_id: entry.item_id.clone(),
                n_events: count.n_genuine,
                first_at: log.has_instants.then_some(Instant(count.first_genuine_at)),
            })
            .collect();
        let items = items(numbers, &counts, described);
        let users = users(log, sequences, numbers, &items);
        Self {
            vocabulary,
            items,
            users,
        }
    }
}

fn count(sequences: &Sequences, n_vocabulary: usize) -> Vec<Counts> {
    let none = Counts {
        n_events: 0,
        n_genuine: 0,
        price_sum: 0,
        n_prices: 0,
        first_genuine_at: i64::MAX,
    };
    let mut counts = vec![none; n_vocabulary];
    for event in 0..sequences.item.len() {
        if sequences.part[event] != Part::Training {
            continue;
        }
        if let Some(count) = counts.get_mut(sequences.item[event] as usize) {
            count.n_events += 1;
            if SampleId(sequences.sample_id[event]).file() != INSERTED_FILE {
                count.n_genuine += 1;
                count.first_genuine_at = count.first_genuine_at.min(sequences.at[event]);
            }
            if let Some(price) = sequences.price_e4[event] {
                count.price_sum += i128::from(price);
                count.n_prices += 1;
            }
        }
    }
    counts
}

fn items(
    numbers: &Numbers,
    counts: &[Counts],
    described: &BTreeMap<String, Item>,
) -> Vec<ItemFeatures> {
    let price = |number: usize, described: Option<&Item>| {
        counts
            .get(number)
            .filter(|count| count.n_prices > 0)
            .and_then(|count| i64::try_from(count.price_sum / i128::from(count.n_prices)).ok())
            .or_else(|| described.and_then(|item| item.price_e4))
    };
    let popularity =
        |number: usize| libm::log1p(counts.get(number).map_or(0, |count| count.n_events) as f64);
    let of_training = 0..numbers.n_vocabulary;
    let describe = |number: usize| described.get(&numbers.catalogue[number].item_id);
    let prices: Vec<f64> = of_training
        .clone()
        .filter_map(|number| price(number, describe(number)).map(log_price))
        .collect();
    let prices = Standard::of(&prices);
    let popularities: Vec<f64> = of_training.map(popularity).collect();
    let popularities = Standard::of(&popularities);
    (0..numbers.catalogue.len())
        .map(|number| {
            let item = describe(number);
            let price_e4 = price(number, item);
            ItemFeatures {
                item: numbers.catalogue[number].item,
                title: item.and_then(|item| item.title.clone()),
                category: item.and_then(|item| item.category.clone()),
                brand: item.and_then(|item| item.brand.clone()),
                attributes: item.map_or_else(Vec::new, |item| item.attributes.clone()),
                price_e4,
                price_z: price_e4.map_or(0.0, |price| prices.score(log_price(price))),
                popularity_z: popularities.score(popularity(number)),
            }
        })
        .collect()
}

fn users(
    log: &Log,
    sequences: &Sequences,
    numbers: &Numbers,
    items: &[ItemFeatures],
) -> Vec<UserFeatures> {
    let mut users = Vec::with_capacity(sequences.len());
    for (sequence, &user) in numbers.user_of_sequence.iter().enumerate() {
        let mut touched = Vec::new();
        let mut sessions = Vec::new();
        for event in sequences.range(sequence) {
            if sequences.part[event] == Part::Training {
                touched.push(sequences.item[event]);
                sessions.push(sequences.session[event]);
            }
        }
        let n_events = touched.len() as u64;
        touched.sort_unstable();
        touched.dedup();
        sessions.sort_unstable();
        sessions.dedup();
        let prices: f64 = touched
            .iter()
            .map(|&item| items[item as usize].price_z)
            .sum();
        users.push(UserFeatures {
            sequence: u32::try_from(sequence).unwrap_or(u32::MAX),
            user_id: log.users[user].clone(),
            n_events,
            n_items: touched.len() as u64,
            n_sessions: sessions.len() as u64,
            activity_z: libm::log1p(n_events as f64),
            price_z: prices / touched.len().max(1) as f64,
            in_training: n_events > 0,
        });
    }
    let activities: Vec<f64> = users
        .iter()
        .filter(|user| user.in_training)
        .map(|user| user.activity_z)
        .collect();
    let standard = Standard::of(&activities);
    for user in &mut users {
        user.activity_z = standard.score(user.activity_z);
    }
    users
}
