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
//! Training may leave out or scale an input, or a kind of attributes ([`TrainingData::feature_weight`]):
//! a factor then stands before K, B or the rows of T that belong to the kind. An item of which only
//! what is left out is known counts as one of which nothing is known.
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

use seed::Seed;

use super::batches::Batch;
use crate::data::TrainingData;
use crate::exchange::{BASKET, EVENT};
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
/// How many rows of the table there are of each kind of attribute.
const ATTRIBUTE_KINDS: &str = "input_attribute_kinds";
/// What events and baskets are multiplied with, where that is not 1.
const SCALES: &str = "input_scales";

/// Names of what each kind of attribute is one of, in the order of rows of the table.
const KIND_NAMES: [&str; 5] = ["attributes", "category", "brand", "price", "attributes"];

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
    attributes: Option<Attributes>,
    /// What events and baskets are multiplied with.
    scales: Scales,
}

/// Attributes of the items of the vocabulary.
#[derive(Clone, Debug)]
struct Attributes {
    /// How much of each row of the table is in each item.
    matrix: Arc<Csr>,
    /// Where the rows of each kind end.
    ends: [u32; KIND_NAMES.len()],
}

/// What events and baskets are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scales {
    events: f32,
    baskets: f32,
}

impl Default for Scales {
    fn default() -> Self {
        Self {
            events: 1.0,
            baskets: 1.0,
        }
    }
}

/// The optional inputs of a network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    kinds: Option<(Vec<u32>, ParameterId)>,
    baskets: Option<ParameterId>,
    attributes: Option<(Attributes, ParameterId)>,
    scales: Scales,
}

impl Inputs {
    const WORDS: [&'static str; 3] = ["events", "baskets", "attributes"];

    /// Features that training can leave out or scale.
    pub(crate) fn features(self) -> Vec<&'static str> {
        let kinds = if self.attributes {
            &KIND_NAMES[1..]
        } else {
            &[]
        };
        let events = self.events.then_some(EVENT);
        let baskets = self.baskets.then_some(BASKET);
        let own = events.into_iter().chain(baskets);
        own.chain(kinds.iter().copied()).collect()
    }

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

impl Attribute<'_> {
    /// Place of its kind in [`KIND_NAMES`].
    const fn kind(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Category(_) => 1,
            Self::Brand(_) => 2,
            Self::Price(_) => 3,
            Self::Other(_) => 4,
        }
    }
}

/// What is known of an item, ascending, and how much each counts, times the factor of its kind.
fn known(item: &ItemFeatures, factors: [f32; KIND_NAMES.len()]) -> Vec<(Attribute<'_>, f32)> {
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
    let mut all: Vec<(Attribute<'_>, f32)> = single
        .chain(others)
        .map(|(attribute, share)| (attribute, share * factors[attribute.kind()]))
        .filter(|(_, share)| *share > 0.0)
        .collect();
    if all.is_empty() {
        all.push((Attribute::Nothing, 1.0));
    }
    all
}

/// What is known of the items of the vocabulary, kinds multiplied by factors.
fn attributes(
    items: &[ItemFeatures],
    n_items: usize,
    factors: [f32; KIND_NAMES.len()],
) -> Result<Attributes, CsrError> {
    let nothing = vec![(Attribute::Nothing, 1.0)];
    let known: Vec<Vec<(Attribute<'_>, f32)>> = (0..n_items)
        .map(|at| {
            let item = items.get(at);
            item.map_or_else(|| nothing.clone(), |item| known(item, factors))
        })
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
    let end = |kind: usize| rows.partition_point(|attribute| attribute.kind() <= kind);
    Ok(Attributes {
        matrix: Arc::new(matrix),
        ends: std::array::from_fn(|kind| u32::try_from(end(kind)).unwrap_or(u32::MAX)),
    })
}

impl Attributes {
    /// What a row of the table tells of.
    fn kind(&self, row: u32) -> &'static str {
        let kind = self.ends.partition_point(|end| *end <= row);
        KIND_NAMES[kind.min(KIND_NAMES.len() - 1)]
    }

    /// Rows that tell of one kind of thing handed from item to item.
    fn exchanged(&self, feature: &str, seed: Seed) -> Result<Self, CsrError> {
        let mut order: Vec<usize> = (0..self.matrix.n_rows()).collect();
        seed.sequence().shuffle(&mut order);
        let mut matrix = Csr::new(self.matrix.n_columns);
        for (item, from) in order.into_iter().enumerate() {
            let of = |item: usize, is_feature: bool| {
                let (rows, shares) = self.matrix.row(item);
                let pairs = rows.iter().copied().zip(shares.iter().copied());
                pairs.filter(move |(row, _)| (self.kind(*row) == feature) == is_feature)
            };
            let mut row: Vec<(u32, f32)> = of(item, false).chain(of(from, true)).collect();
            row.sort_by_key(|(row, _)| *row);
            matrix.push_row(row)?;
        }
        Ok(Self {
            matrix: Arc::new(matrix),
            ends: self.ends,
        })
    }
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
        #[expect(
            clippy::cast_possible_truncation,
            reason = "factors of about 1 in the precision of the network"
        )]
        let factor = |feature: &str| data.feature_weight(feature) as f32;
        let attributes = if inputs.attributes {
            let items = data.items().ok_or(FitError::NoItems { model })?;
            Some(attributes(
                items,
                data.n_vocabulary(),
                KIND_NAMES.map(factor),
            )?)
        } else {
            None
        };
        let scales = Scales {
            events: factor(EVENT),
            baskets: factor(BASKET),
        };
        let has_events = inputs.events && scales.events > 0.0;
        Ok(Self {
            kinds: has_events.then(|| kinds(data)),
            has_baskets: inputs.baskets && scales.baskets > 0.0,
            attributes,
            scales,
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
            let ends = tensors.u32(ATTRIBUTE_KINDS)?;
            let ends = <[u32; KIND_NAMES.len()]>::try_from(ends);
            let ends = ends.map_err(|_| misfit(ATTRIBUTE_KINDS))?;
            let is_whole = ends.last().map(|end| *end as usize) == Some(matrix.n_columns);
            if !(is_whole && ends.is_sorted()) {
                return Err(misfit(ATTRIBUTE_KINDS));
            }
            let matrix = Arc::new(matrix);
            shape.attributes = Some(Attributes { matrix, ends });
        }
        if tensors.contains(SCALES) {
            let &[events, baskets] = tensors.f32(SCALES)? else {
                return Err(misfit(SCALES));
            };
            shape.scales = Scales { events, baskets };
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
        let attributes = shape.attributes.map(|attributes| {
            let table = insert(TABLE, attributes.matrix.n_columns);
            (attributes, table)
        });
        Self {
            kinds,
            baskets,
            attributes,
            scales: shape.scales,
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
            let places = scaled(tape, places, self.scales.baskets);
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
        let kinds = tape.embedding(*table, &rows);
        Some(scaled(tape, kinds, self.scales.events))
    }

    /// Vectors of what is known of items, a row for each of a batch.
    pub(crate) fn attributes<F: Real>(
        &self,
        tape: &mut Tape<'_, F>,
        batch: &Batch,
    ) -> Option<Value> {
        let (attributes, table) = self.attributes.as_ref()?;
        Some(tape.sparse_rows(*table, &attributes.matrix, &batch.items))
    }

    /// What a row of the table of attributes tells of.
    pub(crate) fn attribute_kind(&self, row: u32) -> &'static str {
        match &self.attributes {
            Some((attributes, _)) => attributes.kind(row),
            None => KIND_NAMES[0],
        }
    }

    /// What is known of items, by name; nothing where attributes are not seen.
    pub(crate) fn attribute_kinds(&self) -> Vec<&'static str> {
        let Some((attributes, _)) = &self.attributes else {
            return Vec::new();
        };
        let has = |name: &&&str| {
            let rows = 0..attributes.matrix.n_columns;
            let mut rows = rows.filter_map(|row| u32::try_from(row).ok());
            rows.any(|row| attributes.kind(row) == **name)
        };
        KIND_NAMES[1..].iter().filter(has).copied().collect()
    }

    /// The same inputs where items have one kind of attribute of each other; `None` if there is no
    /// such kind.
    pub(crate) fn exchanged(&self, feature: &str, seed: Seed) -> Option<Self> {
        let (attributes, table) = self.attributes.as_ref()?;
        if !self.attribute_kinds().contains(&feature) {
            return None;
        }
        // The same entries in other rows fit as they did.
        let attributes = attributes.exchanged(feature, seed).ok()?;
        Some(Self {
            attributes: Some((attributes, *table)),
            ..self.clone()
        })
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
        if let Some((attributes, _)) = &self.attributes {
            tensors.insert_csr(ATTRIBUTES, &attributes.matrix)?;
            let ends = attributes.ends;
            tensors.insert_u32(ATTRIBUTE_KINDS, &[ends.len()], ends.to_vec())?;
        }
        let Scales { events, baskets } = self.scales;
        if [events, baskets].into_iter().any(is_other) {
            tensors.insert_f32(SCALES, &[2], vec![events, baskets])?;
        }
        Ok(())
    }
}

/// Whether a factor changes anything.
fn is_other(factor: f32) -> bool {
    factor.total_cmp(&1.0).is_ne()
}

/// A value times a factor; itself where that is 1.
fn scaled<F: Real>(tape: &mut Tape<'_, F>, value: Value, factor: f32) -> Value {
    if is_other(factor) {
        tape.scale(value, F::of(f64::from(factor)))
    } else {
        value
    }
}
