//! TF-IDF features of histories and items: the representations that every model can offer.
//!
//! A vector has two blocks. The *item* block has one column per vocabulary item; a history weighs
//! item i by `(1 + ln n_i) idf_i`, `n_i` being its occurrences among the last `max_history` events;
//! an item weighs itself. The *text* block has one column per term of title, category levels,
//! brand and attributes; an item weighs term t by `(1 + ln n_t) idf_t`, normalised; a history is
//! the sum of `1 + ln n_i` times the text of its items. Each block is scaled to length 1, multiplied
//! by the square root of its weight, and the whole scaled to length 1: with both blocks present,
//! the cosine of two vectors is the weighted mean of the cosines of their blocks. Where a block is
//! empty the other stands alone, and where nothing is known the row is empty.
//!
//! `idf = ln((1 + D) / (1 + d)) + 1`, where d of D documents hold the term. Documents of the item
//! block are training sequences, each to the end of its longest training history; documents of
//! the text block are vocabulary items. Items and terms that training never saw have no column.

use std::collections::{BTreeMap, BTreeSet};

use tables::ItemFeatures;
use tensors::{Csr, CsrError};

use crate::data::TrainingData;
use crate::tokens::tokens;

/// How much the blocks count, and how far back histories are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Last events of a history that count; 0: all.
    pub max_history: usize,
    /// Weight of the item block.
    pub items: f64,
    /// Weight of the text block.
    pub text: f64,
}

/// Fitted features.
pub struct Features {
    weights: Weights,
    /// By vocabulary item.
    item_idf: Vec<f64>,
    n_terms: usize,
    /// Text of each catalogue item, rows of length 1 or empty.
    text: Csr<f64>,
}

/// Weight of a term that occurs `n` times, before idf.
pub(crate) fn damped(n: u32) -> f64 {
    1.0 + libm::log(f64::from(n))
}

fn idf(n_documents: usize, n_holding: usize) -> f64 {
    libm::log((1.0 + n_documents as f64) / (1.0 + n_holding as f64)) + 1.0
}

/// Scales a sparse vector to length `length`, if it is not empty.
pub(crate) fn scale(vector: &mut [(u32, f64)], length: f64) {
    let norm = vector.iter().map(|(_, x)| x * x).sum::<f64>().sqrt();
    if norm > 0.0 {
        for (_, x) in vector {
            *x *= length / norm;
        }
    }
}

/// Terms of an item with their occurrences. A letter and a colon keep the fields apart.
fn terms(item: &ItemFeatures) -> BTreeMap<String, u32> {
    let mut terms = BTreeMap::new();
    let mut add = |term: String| *terms.entry(term).or_insert(0) += 1;
    for word in tokens(item.title.as_deref().unwrap_or_default()) {
        add(format!("t:{word}"));
    }
    // Every level counts with its path: shoes for men are not shoes for women, but both are shoes.
    let mut path = String::from("c:");
    for level in item.category.iter().flat_map(|path| path.split(" > ")) {
        path.push_str(level.trim());
        add(path.clone());
        path.push('>');
    }
    if let Some(brand) = &item.brand {
        add(format!("b:{}", brand.trim().to_lowercase()));
    }
    for attribute in &item.attributes {
        add(format!("a:{attribute}"));
    }
    terms
}

/// In how many training sequences each vocabulary item stands, and how many there are.
fn sequences_holding(data: &TrainingData<'_>) -> (Vec<usize>, usize) {
    let mut holding = vec![0; data.n_vocabulary()];
    let mut n_sequences = 0;
    for samples in data.by_sequence() {
        // Samples of a sequence ascend by the end of their history.
        let longest = samples.last().map(|last| data.history(last));
        let longest = longest.unwrap_or_default().items();
        if longest.is_empty() {
            continue;
        }
        n_sequences += 1;
        let distinct: BTreeSet<u32> = longest.iter().copied().collect();
        for item in distinct {
            if let Some(n) = holding.get_mut(item as usize) {
                *n += 1;
            }
        }
    }
    (holding, n_sequences)
}

impl Features {
    /// Fits idf and vocabulary of terms on training data. `items` is the whole catalogue.
    ///
    /// # Errors
    /// If there are more columns than 32 bits number.
    pub fn fit(
        weights: Weights,
        items: &[ItemFeatures],
        data: &TrainingData<'_>,
    ) -> Result<Self, CsrError> {
        let (holding, n_sequences) = sequences_holding(data);
        let item_idf = holding.iter().map(|&n| idf(n_sequences, n)).collect();

        let n_documents = data.n_vocabulary().min(items.len());
        let terms: Vec<BTreeMap<String, u32>> = items.iter().map(terms).collect();
        let mut documents: BTreeMap<&str, usize> = BTreeMap::new();
        for term in terms[..n_documents].iter().flat_map(BTreeMap::keys) {
            *documents.entry(term).or_insert(0) += 1;
        }
        let columns: BTreeMap<&str, (u32, f64)> = documents
            .iter()
            .zip(0_u32..)
            .map(|((term, &holding), column)| (*term, (column, idf(n_documents, holding))))
            .collect();
        let text = terms.iter().map(|terms| {
            // Terms come in the order of their columns.
            let mut row: Vec<(u32, f64)> = terms
                .iter()
                .filter_map(|(term, &n)| {
                    let (column, idf) = columns.get(term.as_str())?;
                    Some((*column, damped(n) * idf))
                })
                .collect();
            scale(&mut row, 1.0);
            row
        });
        Ok(Self {
            weights,
            item_idf,
            n_terms: columns.len(),
            text: Csr::from_rows(columns.len(), text)?,
        })
    }

    /// Text of each catalogue item, rows of length 1 or empty, a column per term.
    pub(crate) fn into_text(self) -> Csr<f64> {
        self.text
    }

    /// Number of columns: vocabulary items, then terms.
    pub fn n_columns(&self) -> usize {
        self.item_idf.len() + self.n_terms
    }

    /// Features of a catalogue item: (column, value), columns ascending, length 1 or empty.
    pub fn item(&self, item: u32) -> Vec<(u32, f32)> {
        let own = ((item as usize) < self.item_idf.len()).then_some((item, 1.0));
        let text = if (item as usize) < self.text.n_rows() {
            let (columns, values) = self.text.row(item as usize);
            columns
                .iter()
                .copied()
                .zip(values.iter().copied())
                .collect()
        } else {
            Vec::new()
        };
        self.join(own.into_iter().collect(), text)
    }

    /// Features of a history, oldest item first: (column, value), columns ascending, length 1 or
    /// empty.
    pub fn history(&self, history: &[u32]) -> Vec<(u32, f32)> {
        let start = match self.weights.max_history {
            0 => 0,
            most => history.len().saturating_sub(most),
        };
        let mut occurrences: BTreeMap<u32, u32> = BTreeMap::new();
        for &item in &history[start..] {
            *occurrences.entry(item).or_insert(0) += 1;
        }
        let mut items = Vec::with_capacity(occurrences.len());
        let mut text: Vec<(u32, f64)> = Vec::new();
        for (item, n) in occurrences {
            let weight = damped(n);
            if let Some(idf) = self.item_idf.get(item as usize) {
                items.push((item, weight * idf));
            }
            if (item as usize) < self.text.n_rows() {
                let (columns, values) = self.text.row(item as usize);
                text.extend(columns.iter().zip(values).map(|(&c, x)| (c, weight * x)));
            }
        }
        // Stable, so that each sum runs in the order of the items.
        text.sort_by_key(|(column, _)| *column);
        let text = text
            .chunk_by(|a, b| a.0 == b.0)
            .map(|chunk| (chunk[0].0, chunk.iter().map(|(_, x)| x).sum()))
            .collect();
        self.join(items, text)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "features are stored as 32-bit floats; `fit` bounds the columns"
    )]
    fn join(&self, mut items: Vec<(u32, f64)>, mut text: Vec<(u32, f64)>) -> Vec<(u32, f32)> {
        scale(&mut items, self.weights.items.sqrt());
        scale(&mut text, self.weights.text.sqrt());
        let first_term = self.item_idf.len() as u32;
        items.extend(text.iter().map(|(column, x)| (first_term + column, *x)));
        scale(&mut items, 1.0);
        items.retain(|(_, x)| *x > 0.0);
        items
            .into_iter()
            .map(|(column, x)| (column, x as f32))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::log;

    fn item(item: u32, title: &str, category: &str) -> ItemFeatures {
        ItemFeatures {
            item,
            title: (!title.is_empty()).then(|| title.to_owned()),
            category: (!category.is_empty()).then(|| category.to_owned()),
            brand: None,
            attributes: Vec::new(),
            price_e4: None,
            price_z: 0.0,
            popularity_z: 0.0,
        }
    }

    const BOTH: Weights = Weights {
        max_history: 50,
        items: 1.0,
        text: 1.0,
    };

    fn fitted(weights: Weights) -> Features {
        let items = [
            item(0, "red mug", "kitchen > mugs"),
            item(1, "blue mug", "kitchen > mugs"),
            item(2, "", ""),
            item(3, "red unheard", "kitchen"),
        ];
        // The last event of each sequence is in no history.
        let (samples, sequences) = log(&[(&[0, 1, 2], &[1.0; 3]), (&[0, 0, 1], &[1.0; 3])]);
        let data = TrainingData::new(&samples, &sequences, 3).unwrap();
        Features::fit(weights, &items, &data).unwrap()
    }

    fn cosine(a: &[(u32, f32)], b: &[(u32, f32)]) -> f64 {
        let mut sum = 0.0;
        for (column, x) in a {
            for (_, y) in b.iter().filter(|(other, _)| other == column) {
                sum += f64::from(*x) * f64::from(*y);
            }
        }
        sum
    }

    #[test]
    fn vectors_have_length_one_and_ascending_columns() {
        let features = fitted(BOTH);
        // Terms: two levels of category, red, mug, blue.
        assert_eq!(features.n_columns(), 3 + 5);
        for vector in [
            features.item(0),
            features.item(2),
            features.item(3),
            features.history(&[0, 1, 0]),
            features.history(&[2]),
        ] {
            assert!((cosine(&vector, &vector) - 1.0).abs() < 1e-6, "{vector:?}");
            assert!(vector.windows(2).all(|pair| pair[0].0 < pair[1].0));
            assert!(vector.iter().all(|(column, _)| *column < 8));
        }
        assert!(features.history(&[]).is_empty());
    }

    #[test]
    fn values_are_those_of_the_formula() {
        let items_alone = fitted(Weights { text: 0.0, ..BOTH });
        // Documents: [0, 1] and [0, 0]; item 0 stands in both, item 1 in one.
        let (x, y) = ((1.0 + libm::log(2.0)) * 1.0, libm::log(1.5) + 1.0);
        let norm = x.hypot(y);
        let vector = items_alone.history(&[0, 1, 0]);
        assert_eq!(vector.len(), 2);
        assert!((f64::from(vector[0].1) - x / norm).abs() < 1e-7);
        assert!((f64::from(vector[1].1) - y / norm).abs() < 1e-7);
        // Text of items 0 and 1: both levels and `mug` in two of three documents, the colour in one.
        let text_alone = fitted(Weights { items: 0.0, ..BOTH });
        let (common, rare) = (libm::log(4.0 / 3.0) + 1.0, libm::log(2.0) + 1.0);
        let shared = 3.0 * common * common;
        let expected = shared / (shared + rare * rare);
        let found = cosine(&text_alone.item(0), &text_alone.item(1));
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        assert!(text_alone.item(2).is_empty());
    }

    #[test]
    fn the_cosine_is_the_weighted_mean_of_the_blocks() {
        let of = |items, text| {
            let features = fitted(Weights {
                max_history: 50,
                items,
                text,
            });
            cosine(&features.history(&[0, 1]), &features.history(&[1]))
        };
        let expected = (3.0 * of(1.0, 0.0) + of(0.0, 1.0)) / 4.0;
        assert!((of(3.0, 1.0) - expected).abs() < 1e-6);
    }

    #[test]
    fn only_the_last_events_count() {
        let features = fitted(Weights {
            max_history: 2,
            ..BOTH
        });
        assert_eq!(features.history(&[2, 2, 0, 1]), features.history(&[0, 1]));
        let all = fitted(Weights {
            max_history: 0,
            ..BOTH
        });
        assert_ne!(all.history(&[2, 2, 0, 1]), all.history(&[0, 1]));
    }

    #[test]
    fn what_training_never_saw_has_no_column() {
        let features = fitted(BOTH);
        // Item 3 is not in the vocabulary, `unheard` in no title of it: red and kitchen remain.
        assert_eq!(features.item(3).len(), 2);
    }
}
