//! How much what a network sees of events adds to its predictions, and the same network where items
//! have attributes of each other.
//!
//! The output is the mean log-probability of the relevant items that the vocabulary has, without a
//! chain. What is seen of an event is a sum of rows of tables: of its item, its place in the window, its
//! type, its basket, its item's attributes. The baseline is nothing: all rows are zero, and the way to
//! the input scales them all alike. The gradient by a row comes from the pass back that also gives
//! factors of gradients; its product with the row is what that row adds.
//!
//! # Paper
//! Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", ICML 2017, equation 1; the
//! integral by `features::path`. Gradient x input: Shrikumar, Greenside and Kundaje, "Learning important
//! features through propagating activation differences", ICML 2017, section 3.

use std::collections::BTreeMap;

use rayon::prelude::*;
use seed::Seed;
use tables::Event;
use tensors::{Capture, Context, Gradients, PADDING, Parameters};

use super::gradients::{Asked, BLOCK};
use super::model::SequenceModel;
use super::network::Network;
use super::side::Side;
use crate::exchange::place_name;
use crate::features::{
    Attributed, Attribution, ExchangedItems, FeatureGroup, InputGradients, path,
};
use crate::gradient_rows::Measure;
use crate::history::History;
use crate::recommender::Model;

/// Places from the end that are told apart; all before them are one.
const PLACES: usize = 10;
/// The name of that one.
const OLDER: &str = "place_older";

/// Products of rows and their gradients, by feature and row of a batch.
struct Products<'p> {
    parameters: &'p Parameters<f32>,
    side: &'p Side,
    found: BTreeMap<&'static str, Vec<f64>>,
}

/// The feature of a table that networks share; others have none.
fn feature_of(table: &str) -> Option<&'static str> {
    ["item", "position", "event", "basket", "mask"]
        .into_iter()
        .find(|name| *name == table)
}

impl Capture<f32> for Products<'_> {
    fn embedding(&mut self, name: &str, ids: &[u32], gradient: &[f32]) {
        let Some(table) = self.parameters.id(name) else {
            return;
        };
        let columns = self.parameters.shape(table)[1].max(1);
        let values = self.parameters.get(table);
        for (row, (&id, gradient)) in ids.iter().zip(gradient.chunks_exact(columns)).enumerate() {
            if id == PADDING {
                continue;
            }
            let feature = feature_of(name).unwrap_or_else(|| self.side.attribute_kind(id));
            let value = &values[id as usize * columns..][..columns];
            let pairs = value.iter().zip(gradient);
            let product: f64 = pairs.map(|(&x, &g)| f64::from(x) * f64::from(g)).sum();
            let all = self.found.entry(feature);
            // The gradient is that of a loss, the output its negative.
            all.or_insert_with(|| vec![0.0; ids.len()])[row] -= product;
        }
    }
}

/// What rows add, at the input and along the way to it.
#[derive(Clone, Copy, Default)]
struct Sum {
    at_input: f64,
    along: f64,
}

impl<N: Network> SequenceModel<N> {
    /// Products of the rows of some requests at a point of the way.
    fn products(&self, asked: &[&Asked], at: f64) -> BTreeMap<&'static str, Vec<f64>> {
        let mut products = Products {
            parameters: &self.parameters,
            side: self.network.side(),
            found: BTreeMap::new(),
        };
        let mut nothing = Gradients::new(&self.parameters);
        let context = Context::attribution(&mut products).with_inputs_scaled(at);
        let (mut tape, loss) = self.record(asked, Measure::Loss, context);
        tape.backward(&[loss], &mut nothing);
        drop(tape);
        products.found
    }

    /// Mean log-probabilities of what some requests ask for, at a point of the way.
    fn outputs(&self, asked: &[&Asked], at: f64) -> Vec<f64> {
        let context = Context::inference().with_inputs_scaled(at);
        let (tape, loss) = self.record(asked, Measure::Loss, context);
        let mut rows = tape.loss_rows(loss).iter();
        asked
            .iter()
            .map(|asked| {
                let n = asked.targets.len();
                let sum: f64 = rows.by_ref().take(n).map(|&loss| f64::from(loss)).sum();
                -sum / n.max(1) as f64
            })
            .collect()
    }

    /// What makes the outputs of some requests.
    fn explained(&self, asked: &[&Asked], way: &[(f64, f64)]) -> Vec<Attribution> {
        let mut sums: BTreeMap<&'static str, Vec<Sum>> = BTreeMap::new();
        let mut add = |at: f64, to: &dyn Fn(&mut Sum, f64)| {
            for (feature, products) in self.products(asked, at) {
                let sums = sums.entry(feature);
                let sums = sums.or_insert_with(|| vec![Sum::default(); products.len()]);
                for (sum, product) in sums.iter_mut().zip(products) {
                    to(sum, product);
                }
            }
        };
        add(1.0, &|sum, product| sum.at_input += product);
        for &(at, weight) in way {
            add(at, &|sum, product| sum.along += weight * product);
        }
        let outputs = self.outputs(asked, 1.0);
        let baselines = self.outputs(asked, 0.0);
        let length = sums
            .values()
            .next()
            .map_or(1, |rows| rows.len() / asked.len().max(1));
        asked
            .iter()
            .enumerate()
            .map(|(at, asked)| {
                let rows = at * length..(at + 1) * length;
                let own = sums.iter().map(|(name, all)| (*name, &all[rows.clone()]));
                let (features, sum) = shared_out(own, asked.history.history());
                Attribution {
                    features,
                    sum,
                    output: outputs[at],
                    baseline: baselines[at],
                }
            })
            .collect()
    }
}

/// Sums by input, place and type of event of what the rows of one history add, and the sum of all that
/// is integrated.
fn shared_out<'s>(
    rows: impl Iterator<Item = (&'static str, &'s [Sum])>,
    history: History<'_>,
) -> (Vec<Attributed>, f64) {
    let mut all: BTreeMap<(FeatureGroup, String), Sum> = BTreeMap::new();
    let mut whole = 0.0;
    for (feature, sums) in rows {
        for (at, sum) in sums.iter().enumerate() {
            let mut add = |group, name: &str| {
                let to = all.entry((group, name.to_owned())).or_default();
                to.at_input += sum.at_input;
                to.along += sum.along;
            };
            add(FeatureGroup::Input, feature);
            whole += sum.along;
            // A mask at the end is no event.
            if at >= history.len() {
                continue;
            }
            let place = history.len() - at;
            if place <= PLACES {
                add(FeatureGroup::Place, &place_name(place));
            } else {
                add(FeatureGroup::Place, OLDER);
            }
            if let Some(event) = history.event(at) {
                add(FeatureGroup::EventType, Event::as_str(event));
            }
        }
    }
    let features = all
        .into_iter()
        .map(|((group, feature), sum)| Attributed {
            group,
            feature,
            gradient_x_input: sum.at_input,
            integrated: sum.along,
        })
        .collect();
    (features, whole)
}

impl<N: Network> InputGradients for SequenceModel<N> {
    fn attribute(
        &self,
        requests: &[(History<'_>, &[u32])],
        steps: u32,
    ) -> Vec<Option<Attribution>> {
        let way = path(steps);
        let n_items = self.network.n_items();
        let known: Vec<Vec<u32>> = requests
            .iter()
            .map(|(_, relevant)| {
                let items = relevant.iter().copied();
                items.filter(|item| (*item as usize) < n_items).collect()
            })
            .collect();
        let lists: Vec<(History<'_>, &[u32])> = requests
            .iter()
            .zip(&known)
            .map(|((history, _), known)| (*history, known.as_slice()))
            .collect();
        let mut asked = self.asked_of(&lists, 1.0, Measure::Loss);
        // Histories of one length need no padding.
        asked.sort_by_key(|(_, asked)| asked.history.history().len());
        let blocks: Vec<Vec<Attribution>> = asked
            .par_chunks(BLOCK)
            .map(|block| {
                let block: Vec<&Asked> = block.iter().map(|(_, asked)| asked).collect();
                self.explained(&block, &way)
            })
            .collect();
        let mut all = vec![None; requests.len()];
        for ((at, _), found) in asked.iter().zip(blocks.into_iter().flatten()) {
            all[*at] = Some(found);
        }
        all
    }
}

impl<N: Network> ExchangedItems for SequenceModel<N> {
    fn names(&self) -> Vec<&'static str> {
        self.network.side().attribute_kinds()
    }

    fn exchanged(&self, feature: &str, seed: Seed) -> Option<Box<dyn Model>> {
        let side = self.network.side().exchanged(feature, seed)?;
        let mut other = self.clone();
        *other.network.side_mut() = side;
        Some(Box::new(other))
    }
}
