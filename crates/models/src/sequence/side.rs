//! Optional inputs of sequence models: what was done, baskets, attributes of items.
//!
//! ```text
//! x_0 = ... + scale A[item] + K[event] + B[place]
//! A[item] = sum of T over the item's category, brand and price step + mean of T over its attributes
//! ```
//!
//! *Events*: a row of K for each type of event that training histories hold. Other types, and events
//! of which the type is not known, add nothing.
//!
//! *Baskets*: a row of B for the place of an event in its basket, the number of events of the same
//! instant before it, all places from the last row on sharing that row. Place 0 says that something
//! new begins, any other that the event before is no earlier: so a model can tell which of its
//! neighbours are in order.
//!
//! *Attributes*: a row of T for each category, brand, price step and attribute that an item of the
//! vocabulary has, and one for items of which nothing is known. Items outside the vocabulary change
//! no row. They join on the side of the input alone: the table of outputs stays a parameter, whose
//! gradient is a product of factors that estimators can capture.
//!
//! A masked event adds nothing: neither what was done nor where it stands is known of an event that
//! is yet to come.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tables::{Event, ItemFeatures};
use tensors::{
    Csr, CsrError, Init, PADDING, ParameterId, Parameters as Weights, Real, Tape, TensorError,
    Tensors, Value,
};

use super::batches::Batch;
use crate::data::TrainingData;
use crate::recommender::{FitError, LoadError, Parameter};

/// Steps of prices.
const PRICES: u32 = 10;
/// Places in a basket that are told apart; the last stands for all beyond.
const PLACES: u32 = 8;

/// Names of the tensors that say what there is.
const KINDS: &str = "input_events";
const BASKETS: &str = "input_baskets";
const ATTRIBUTES: &str = "input_attributes";
/// Name of the table that the matrix of attributes is multiplied with.
const TABLE: &str = "attribute";

/// Declaration of `inputs`.
pub(crate) const INPUTS: Parameter = Parameter {
    name: "inputs",
    default: "[]",
    doc: "What is seen of events beside items, a list: `events` (what was done), `baskets` (which events share an instant), `attributes` (category, brand, price step and further attributes of items).",
};

/// Which optional inputs are on: in a configuration, a list of words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inputs {
    pub(crate) events: bool,
    pub(crate) baskets: bool,
    pub(crate) attributes: bool,
}

/// What the optional inputs know from training.
#[derive(Clone, Debug, Default)]
pub(crate) struct SideShape {
    /// Row of each type of event, as [`Event::ALL`] lists them; padding where training has none.
    kinds: Option<Vec<u32>>,
    has_baskets: bool,
    /// How much of each row of the table is in each item of the vocabulary.
    attributes: Option<Arc<Csr>>,
}

/// The optional inputs of a network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    kinds: Option<(Vec<u32>, ParameterId)>,
    baskets: Option<ParameterId>,
    attributes: Option<(Arc<Csr>, ParameterId)>,
}

impl Inputs {
    const WORDS: [&'static str; 3] = ["events", "baskets", "attributes"];

    fn named(&mut self, word: &str) -> Option<&mut bool> {
        match word {
            "events" => Some(&mut self.events),
            "baskets" => Some(&mut self.baskets),
            "attributes" => Some(&mut self.attributes),
            _ => None,
        }
    }
}

impl Serialize for Inputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let on = [self.events, self.baskets, self.attributes];
        serializer.collect_seq(
            Self::WORDS
                .iter()
                .zip(on)
                .filter_map(|(word, is_on)| is_on.then_some(word)),
        )
    }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Inputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "`inputs`, a list of {}", Inputs::WORDS.join(", "))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Inputs, A::Error> {
                let mut inputs = Inputs::default();
                while let Some(word) = words.next_element::<String>()? {
                    let is_on = inputs
                        .named(&word)
                        .ok_or_else(|| A::Error::custom(unknown(&word)))?;
                    if std::mem::replace(is_on, true) {
                        return Err(A::Error::custom(format!("`inputs` names `{word}` twice")));
                    }
                }
                Ok(inputs)
            }
        }
        deserializer.deserialize_seq(Words)
    }
}

/// What to say of a word that is none of ours: the one that shares most of its pairs of letters.
fn unknown(word: &str) -> String {
    let pairs = |word: &str| -> BTreeSet<(char, char)> {
        let letters: Vec<char> = word.to_lowercase().chars().collect();
        letters.windows(2).map(|pair| (pair[0], pair[1])).collect()
    };
    let own = pairs(word);
    let shared = |known: &&&str| pairs(known).intersection(&own).count();
    let nearest = Inputs::WORDS.iter().rev().max_by_key(shared);
    match nearest.filter(|known| shared(known) > 0) {
        Some(known) => format!("unknown input `{word}` in `inputs`: did you mean `{known}`?"),
        None => format!(
            "unknown input `{word}` in `inputs`: there are {}",
            Inputs::WORDS.join(", ")
        ),
    }
}

/// Place of an event type in [`Event::ALL`].
fn index(event: Event) -> usize {
    let index = Event::ALL.iter().position(|&other| other == event);
    index.unwrap_or(0)
}

/// The step of a price: half a standard deviation each, the ends open.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to small numbers from 0 up"
)]
fn price(item: &ItemFeatures) -> Option<u32> {
    item.price_e4?;
    let step = (item.price_z * 2.0 + f64::from(PRICES) / 2.0).floor();
    Some(step.clamp(0.0, f64::from(PRICES - 1)) as u32)
}

/// What can be known of an item, in the order of rows of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Attribute<'i> {
    /// Nothing is known: row 0.
    Nothing,
    Category(&'i str),
    Brand(&'i str),
    Price(u32),
    Other(&'i str),
}

/// What is known of an item, ascending, and how much each counts.
fn known(item: &ItemFeatures) -> Vec<(Attribute<'_>, f32)> {
    let single = [
        item.category.as_deref().map(Attribute::Category),
        item.brand.as_deref().map(Attribute::Brand),
        price(item).map(Attribute::Price),
    ];
    let others: BTreeSet<&str> = item.attributes.iter().map(String::as_str).collect();
    let share = 1.0 / others.len().max(1) as f32;
    let others = others
        .into_iter()
        .map(|word| (Attribute::Other(word), share));
    let single = single.into_iter().flatten().map(|one| (one, 1.0));
    let mut all: Vec<(Attribute<'_>, f32)> = single.chain(others).collect();
    if all.is_empty() {
        all.push((Attribute::Nothing, 1.0));
    }
    all
}

/// How much of each row of the table is in each item of the vocabulary: [`n_items`, rows].
fn attributes(items: &[ItemFeatures], n_items: usize) -> Result<Csr, CsrError> {
    let nothing = vec![(Attribute::Nothing, 1.0)];
    let known: Vec<Vec<(Attribute<'_>, f32)>> = (0..n_items)
        .map(|at| items.get(at).map_or_else(|| nothing.clone(), known))
        .collect();
    let distinct = known.iter().flatten().map(|(attribute, _)| *attribute);
    let distinct: BTreeSet<Attribute<'_>> = distinct.chain([Attribute::Nothing]).collect();
    let rows: Vec<Attribute<'_>> = distinct.into_iter().collect();
    let mut matrix = Csr::new(rows.len());
    for known in known {
        let of_item = known.iter().filter_map(|(attribute, share)| {
            let row = rows.binary_search(attribute).ok()?;
            Some((u32::try_from(row).ok()?, *share))
        });
        matrix.push_row(of_item)?;
    }
    Ok(matrix)
}

/// Row of each type of event that a training sequence holds before its last sample.
fn kinds(data: &TrainingData<'_>) -> Vec<u32> {
    let mut is_held = vec![false; Event::ALL.len()];
    for samples in data.by_sequence() {
        let (sequence, end) = (
            data.sequence(samples.start),
            data.history_end(samples.end - 1),
        );
        let events = data.events(sequence, end);
        for at in 0..events.len() {
            if let Some(event) = events.event(at) {
                is_held[index(event)] = true;
            }
        }
    }
    let mut next = 0..;
    is_held
        .into_iter()
        .map(|is_held| is_held.then(|| next.next()).flatten().unwrap_or(PADDING))
        .collect()
}

impl SideShape {
    /// What training tells of the inputs that are on.
    ///
    /// # Errors
    /// If `attributes` are on and no items were given.
    pub(crate) fn of(
        inputs: Inputs,
        data: &TrainingData<'_>,
        model: &'static str,
    ) -> Result<Self, FitError> {
        let attributes = if inputs.attributes {
            let items = data.items().ok_or(FitError::NoItems { model })?;
            Some(Arc::new(attributes(items, data.n_vocabulary())?))
        } else {
            None
        };
        Ok(Self {
            kinds: inputs.events.then(|| kinds(data)),
            has_baskets: inputs.baskets,
            attributes,
        })
    }

    /// Restores what [`Side::save`] gave.
    ///
    /// # Errors
    /// If something does not fit.
    pub(crate) fn load(tensors: &Tensors, n_items: usize) -> Result<Self, LoadError> {
        let misfit = |left| LoadError::Sizes {
            left,
            right: "shape",
        };
        let mut shape = Self {
            has_baskets: tensors.contains(BASKETS),
            ..Self::default()
        };
        if tensors.contains(KINDS) {
            let kinds = tensors.u32(KINDS)?.to_vec();
            if kinds.len() != Event::ALL.len() {
                return Err(misfit(KINDS));
            }
            let rows = kinds.iter().filter(|&&row| row != PADDING);
            if rows.zip(0..).any(|(&row, at)| row != at) {
                return Err(misfit(KINDS));
            }
            shape.kinds = Some(kinds);
        }
        if tensors.contains(&format!("{ATTRIBUTES}.indptr")) {
            let matrix = tensors.csr(ATTRIBUTES)?;
            let is_table = tensors.shape(TABLE)?.first() == Some(&matrix.n_columns);
            if matrix.n_rows() != n_items || !is_table {
                return Err(misfit(ATTRIBUTES));
            }
            shape.attributes = Some(Arc::new(matrix));
        }
        Ok(shape)
    }

    /// Whether there are attributes.
    pub(crate) fn has_attributes(&self) -> bool {
        self.attributes.is_some()
    }
}

impl Side {
    /// Adds the parameters of the inputs that are on.
    pub(crate) fn new(
        shape: SideShape,
        weights: &mut Weights<f32>,
        columns: usize,
        init: Init,
    ) -> Self {
        let mut insert = |name: &str, rows: usize| weights.insert(name, [rows, columns], init);
        let kinds = shape.kinds.and_then(|kinds| {
            let n = kinds.iter().filter(|&&row| row != PADDING).count();
            // Where nobody knows what was done there is nothing to learn.
            (n > 0).then(|| (kinds, insert("event", n)))
        });
        let baskets = shape.has_baskets.then(|| insert("basket", PLACES as usize));
        let attributes = shape.attributes.map(|matrix| {
            let table = insert(TABLE, matrix.n_columns);
            (matrix, table)
        });
        Self {
            kinds,
            baskets,
            attributes,
        }
    }

    /// A matrix with what the optional inputs add to it.
    pub(crate) fn add<F: Real>(
        &self,
        tape: &mut Tape<'_, F>,
        mut x: Value,
        batch: &Batch,
        scale: F,
    ) -> Value {
        if let Some(mut attributes) = self.attributes(tape, batch) {
            if scale != F::ONE {
                attributes = tape.scale(attributes, scale);
            }
            x = tape.add(x, attributes);
        }
        if let Some(events) = self.events(tape, batch) {
            x = tape.add(x, events);
        }
        if let Some(table) = self.baskets {
            let rows: Vec<u32> = batch
                .places
                .iter()
                .map(|&place| match place {
                    PADDING => PADDING,
                    place => place.min(PLACES - 1),
                })
                .collect();
            let places = tape.embedding(table, &rows);
            x = tape.add(x, places);
        }
        x
    }

    /// Whether nothing is added.
    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.is_none() && self.baskets.is_none() && self.attributes.is_none()
    }

    /// Vectors of what was done, a row for each of a batch.
    pub(crate) fn events<F: Real>(&self, tape: &mut Tape<'_, F>, batch: &Batch) -> Option<Value> {
        let (kinds, table) = self.kinds.as_ref()?;
        let rows: Vec<u32> = batch
            .events
            .iter()
            .map(|event| event.map_or(PADDING, |event| kinds[index(event)]))
            .collect();
        Some(tape.embedding(*table, &rows))
    }

    /// Vectors of what is known of items, a row for each of a batch.
    pub(crate) fn attributes<F: Real>(
        &self,
        tape: &mut Tape<'_, F>,
        batch: &Batch,
    ) -> Option<Value> {
        let (matrix, table) = self.attributes.as_ref()?;
        Some(tape.sparse_rows(*table, matrix, &batch.items))
    }

    /// Adds what is needed to restore the inputs, beside their parameters; nothing where none is on.
    ///
    /// # Errors
    /// If a name is taken.
    pub(crate) fn save(&self, tensors: &mut Tensors) -> Result<(), TensorError> {
        if let Some((kinds, _)) = &self.kinds {
            tensors.insert_u32(KINDS, &[kinds.len()], kinds.clone())?;
        }
        if self.baskets.is_some() {
            tensors.insert_u32(BASKETS, &[1], vec![PLACES])?;
        }
        if let Some((matrix, _)) = &self.attributes {
            tensors.insert_csr(ATTRIBUTES, matrix)?;
        }
        Ok(())
    }
}
