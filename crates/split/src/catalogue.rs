//! Dense numbers for items and sequences: the vocabulary comes from training alone, and later
//! events only ever append.

use tables::{CatalogueEntry, Instant, Part, shortlex};

use crate::log::Log;
use crate::parts::Parts;

/// Dense numbers.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// Catalogue, by number.
    pub(crate) catalogue: Vec<CatalogueEntry>,
    /// Items of the training part: the first numbers.
    pub(crate) n_vocabulary: usize,
    /// Number of each raw item of the log.
    pub(crate) item_of_raw: Vec<u32>,
    /// User of each sequence: those with training events first, each group in shortlex order.
    pub(crate) user_of_sequence: Vec<usize>,
    /// Sequences with training events: the first numbers.
    pub(crate) n_trained_sequences: usize,
}

impl Numbers {
    /// Numbers items and users.
    pub(crate) fn of(log: &Log, parts: &Parts) -> Self {
        let mut is_trained = vec![false; log.items.len()];
        let mut first = vec![i64::MAX; log.items.len()];
        let mut user_of_sequence = Vec::with_capacity(log.users.len());
        let mut untrained_users = Vec::new();
        for user in 0..log.users.len() {
            let mut has_training = false;
            for event in log.range(user) {
                let item = log.item[event] as usize;
                first[item] = first[item].min(log.at[event]);
                if parts.part[event] == Part::Training {
                    is_trained[item] = true;
                    has_training = true;
                }
            }
            if has_training {
                user_of_sequence.push(user);
            } else {
                untrained_users.push(user);
            }
        }
        let n_trained_sequences = user_of_sequence.len();
        user_of_sequence.append(&mut untrained_users);

        // Only a split in time makes an item unknown at a request.
        let known_at = |raw: usize| (parts.cuts.is_some()).then(|| Instant(first[raw]));
        let mut raw_of_item: Vec<usize> = (0..log.items.len()).collect();
        raw_of_item.sort_by(|&a, &b| {
            let later = |raw: usize| (!is_trained[raw]).then(|| known_at(raw)).flatten();
            is_trained[b]
                .cmp(&is_trained[a])
                .then_with(|| later(a).cmp(&later(b)))
                .then_with(|| shortlex(&log.items[a], &log.items[b]))
        });
        let mut item_of_raw = vec![0_u32; log.items.len()];
        let mut catalogue = Vec::with_capacity(raw_of_item.len());
        for (item, &raw) in (0_u32..).zip(&raw_of_item) {
            item_of_raw[raw] = item;
            catalogue.push(CatalogueEntry {
                item,
                item_id: log.items[raw].clone(),
                known_at: known_at(raw),
                in_vocabulary: is_trained[raw],
            });
        }
        Self {
            n_vocabulary: is_trained.iter().filter(|trained| **trained).count(),
            catalogue,
            item_of_raw,
            user_of_sequence,
            n_trained_sequences,
        }
    }
}
