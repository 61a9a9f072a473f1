//! Bidirectional self-attention trained to fill in masked events of a sequence.
//!
//! ```text
//! x_0 = norm(E[item or mask] + P[position])    x' = norm(x + attention(x))
//! x = norm(x' + W_2 gelu(W_1 x' + b_1) + b_2)   score(i) = norm(gelu(W x + b)) E[i] + b_i
//! ```
//!
//! A sequence is scored with a mask at its end. In training a sample is masked by a draw of its own,
//! a function of (seed, epoch, sample id); in some windows only the last sample is, as in scoring.
//! A sample of weight 0 is never masked: its event stays visible.
//!
//! # Paper
//! Sun et al., "`BERT4Rec`: sequential recommendation with bidirectional encoder representations from
//! Transformer", CIKM 2019.
//!
//! # Departures
//! Masks are drawn anew in each epoch instead of ten times beforehand, a mask is always a mask
//! (never a random item), and a window is masked at its end alone with probability `last_share`
//! instead of once for each user. An event whose window ends before it has no loss term: that
//! happens in baskets that cross the end of a window. The table of the masked item is a row of its
//! own. There is no separate pre-training.
//!
//! # Needs
//! Sequences, positions of samples in them, target items, weights.
//!
//! # Cost
//! As `sasrec`, but only `mask_share` of the positions give a loss term, so it needs more epochs.

use serde::{Deserialize, Serialize};
use tensors::{
    Activation, Init, Mask, PADDING, ParameterId, Parameters as Weights, Real, Tape, TensorError,
    Tensors, Value,
};

use crate::Seed;
use crate::data::TrainingData;
use crate::recommender::{Capability, FitError, LoadError, Parameter, Recommender};
use crate::run::Run;
use crate::sequence::{
    Batch, Network, Objective, Output, SequenceModel, Span, Training, Transformer,
    TransformerSettings, Window, Windows, shape, train, training,
};

/// The fitted model.
pub(super) struct Bert4Rec(SequenceModel<Bidirectional>);

/// Parameters.
#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Parameters {
    dimensions: u32,
    layers: u32,
    heads: u32,
    inner: u32,
    length: u32,
    stride: u32,
    dropout: f64,
    mask_share: f64,
    last_share: f64,
    #[serde(flatten)]
    training: Training,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            dimensions: 64,
            layers: 2,
            heads: 1,
            inner: 256,
            length: 50,
            stride: 50,
            dropout: 0.3,
            mask_share: 0.3,
            last_share: 0.2,
            training: Training::default(),
        }
    }
}

const OWN: &[Parameter] = &[
    training::DIMENSIONS,
    Parameter {
        name: "layers",
        default: "2",
        doc: "Blocks of attention and perceptron; from 1 up.",
    },
    Parameter {
        name: "heads",
        default: "1",
        doc: "Heads of attention; a divisor of `dimensions`.",
    },
    Parameter {
        name: "inner",
        default: "256",
        doc: "Columns within the perceptron; from 1 up.",
    },
    Parameter {
        name: "length",
        default: "50",
        doc: "The most events that are seen, the mask at the end not counted; from 1 up.",
    },
    training::STRIDE,
    Parameter {
        name: "dropout",
        default: "0.3",
        doc: "Share dropped of embeddings, attention and what layers add; in [0, 1).",
    },
    Parameter {
        name: "mask_share",
        default: "0.3",
        doc: "Probability with which a sample is masked in an epoch; above 0, at most 1.",
    },
    Parameter {
        name: "last_share",
        default: "0.2",
        doc: "Probability with which a window is masked at its last sample alone; in [0, 1].",
    },
];

/// Everything that the network's parameters depend on.
#[derive(Clone, Copy, Debug)]
struct Shape {
    n_items: usize,
    span: Span,
    dimensions: usize,
    layers: usize,
    heads: usize,
    inner: usize,
    dropout: f64,
    mask_share: f64,
    last_share: f64,
}

/// The network.
#[derive(Clone, Debug)]
struct Bidirectional {
    shape: Shape,
    objective: Objective,
    items: ParameterId,
    bias: ParameterId,
    mask: ParameterId,
    positions: ParameterId,
    blocks: Transformer,
    head: [ParameterId; 4],
}

impl Bidirectional {
    fn new(shape: Shape, seed: Seed) -> (Self, Weights<f32>) {
        let mut weights = Weights::new(seed);
        let columns = shape.dimensions;
        let table = Init::TruncatedNormal { std: 0.02 };
        let items = weights.insert("item", [shape.n_items, columns], table);
        let bias = weights.insert("item_bias", [1, shape.n_items], Init::Zeros);
        let mask = weights.insert("mask", [1, columns], table);
        // The mask at the end of a full window is one more.
        let length = shape.span.length as usize + 1;
        let positions = weights.insert("position", [length, columns], table);
        let settings = TransformerSettings {
            dimensions: columns,
            layers: shape.layers,
            heads: shape.heads,
            inner: shape.inner,
            activation: Activation::Gelu,
            mask: Mask::Bidirectional,
            post_norm: true,
            dropout: shape.dropout,
        };
        let blocks = Transformer::new(&mut weights, settings);
        let head = [
            weights.insert("head.weight", [columns, columns], Init::XavierUniform),
            weights.insert("head.bias", [1, columns], Init::Zeros),
            weights.insert("head_norm.gain", [1, columns], Init::Ones),
            weights.insert("head_norm.bias", [1, columns], Init::Zeros),
        ];
        let network = Self {
            objective: Objective::softmax(shape.n_items),
            shape,
            items,
            bias,
            mask,
            positions,
            blocks,
            head,
        };
        (network, weights)
    }

    /// Whether each term of a window is drawn to be masked; weights play no part.
    fn draws(
        &self,
        data: &TrainingData<'_>,
        window: &Window,
        windows: &Windows,
        chance: Seed,
    ) -> Vec<bool> {
        let terms = windows.terms(window);
        let last = chance.child("last").stream();
        if last.uniform(window.key(), 0) < self.shape.last_share {
            return (1..=terms.len()).map(|at| at == terms.len()).collect();
        }
        let masks = chance.child("masks").stream();
        terms
            .iter()
            .map(|term| {
                let id = data.sample_id(term.sample as usize);
                masks.uniform(id, 0) < self.shape.mask_share
            })
            .collect()
    }
}

impl Network for Bidirectional {
    const IS_CAUSAL: bool = false;

    fn span(&self) -> Span {
        self.shape.span
    }

    fn n_items(&self) -> usize {
        self.shape.n_items
    }

    fn output(&self) -> Output {
        Output {
            table: self.items,
            bias: Some(self.bias),
        }
    }

    fn objective(&self) -> &Objective {
        &self.objective
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a batch has far fewer rows than 2^32"
    )]
    fn training_batch(
        &self,
        data: &TrainingData<'_>,
        windows: &Windows,
        chosen: &[&Window],
        chance: Seed,
    ) -> Batch {
        let most = self.shape.span.length + 1;
        // A window ends with the event of its last sample, not with the history of that.
        let ends = chosen.iter().map(|window| {
            let own = windows.terms(window).iter();
            let own = own.map(|term| data.position(term.sample as usize) + 1);
            own.max().unwrap_or(window.end).min(window.start + most)
        });
        let events: Vec<&[u32]> = ends
            .zip(chosen)
            .map(|(end, window)| {
                let events = data.events(window.sequence, end);
                events.get(window.start as usize..).unwrap_or(&[])
            })
            .collect();
        let mut batch = Batch::of(&events, data.n_vocabulary());
        batch.masked = vec![false; batch.items.len()];
        for (index, window) in chosen.iter().enumerate() {
            let first = index * batch.length;
            for position in 0..batch.length as u32 {
                batch.row_keys.push(window.row_key(position));
            }
            let draws = self.draws(data, window, windows, chance);
            for (term, is_drawn) in windows.terms(window).iter().zip(draws) {
                let sample = term.sample as usize;
                let position = (data.position(sample).wrapping_sub(window.start)) as usize;
                if !is_drawn || position >= events[index].len() {
                    continue;
                }
                let row = first + position;
                // What weighs nothing is counted, stays visible, and is not learned.
                if data.weight(sample) > 0.0 {
                    batch.items[row] = PADDING;
                    batch.masked[row] = true;
                    batch.valid[row] = true;
                }
                batch.terms.rows.push(row as u32);
                batch.terms.targets.push(data.item(sample));
                batch.terms.weights.push(data.weight(sample));
                batch.terms.sample_ids.push(data.sample_id(sample));
            }
        }
        batch
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a batch has far fewer rows than 2^32"
    )]
    fn request_batch(&self, histories: &[&[u32]]) -> (Batch, Vec<u32>) {
        let longer: Vec<Vec<u32>> = histories
            .iter()
            .map(|history| [history, &[PADDING][..]].concat())
            .collect();
        let longer: Vec<&[u32]> = longer.iter().map(Vec::as_slice).collect();
        let mut batch = Batch::of(&longer, self.shape.n_items);
        batch.masked = vec![false; batch.items.len()];
        let rows: Vec<u32> = (0..)
            .zip(histories)
            .map(|(at, history)| (at * batch.length + history.len()) as u32)
            .collect();
        for &row in &rows {
            batch.masked[row as usize] = true;
            batch.valid[row as usize] = true;
        }
        (batch, rows)
    }

    fn hidden<F: Real>(&self, tape: &mut Tape<'_, F>, batch: &Batch) -> Value {
        let one = F::ONE;
        let at = &batch.positions;
        let (items, positions) = (self.items, self.positions);
        let mut x =
            tape.embedding_with_positions(items, positions, &batch.items, at, one, 0.0, "items");
        let masks: Vec<u32> = batch
            .masked
            .iter()
            .map(|&masked| if masked { 0 } else { PADDING })
            .collect();
        if !masks.is_empty() {
            let masks =
                tape.embedding_with_positions(self.mask, positions, &masks, at, one, 0.0, "masks");
            x = tape.add(x, masks);
        }
        let x = self.blocks.forward(tape, x, batch);
        let [weight, bias, gain, norm_bias] = self.head;
        let x = tape.linear(x, weight, Some(bias), Activation::Gelu);
        tape.layer_norm(x, gain, norm_bias, 1e-8)
    }

    fn save(&self, tensors: &mut Tensors) -> Result<(), TensorError> {
        let shape = &self.shape;
        let numbers = [
            shape.n_items,
            shape.span.length as usize,
            shape.span.stride as usize,
            shape.dimensions,
            shape.layers,
            shape.heads,
            shape.inner,
        ];
        shape::save(tensors, &numbers)
    }

    fn load(tensors: &Tensors) -> Result<(Self, Weights<f32>), LoadError> {
        let [n_items, length, stride, dimensions, layers, heads, inner] = shape::load(tensors)?;
        let shape = Shape {
            n_items,
            span: shape::span(length, stride)?,
            dimensions,
            layers,
            heads,
            inner,
            dropout: 0.0,
            mask_share: 0.0,
            last_share: 0.0,
        };
        shape::heads(dimensions, heads)?;
        Ok(Self::new(shape, Seed::root(0)))
    }
}

impl Recommender for Bert4Rec {
    const NAME: &'static str = "bert4rec";
    const REVISION: u32 = 2;
    const DOC: &'static str =
        "Bidirectional self-attention that fills in masked events (BERT4Rec).";
    const PAPER: &'static str = "Sun et al., CIKM 2019";
    const CAPABILITIES: &'static [Capability] = &[Capability::Gradients, Capability::Losses];
    const PARAMETERS: &'static [Parameter] = &training::join::<{ training::n_with(OWN) }>(OWN);
    type Parameters = Parameters;

    fn check(parameters: &Parameters) -> Result<(), String> {
        let p = parameters;
        training::at_least_one("layers", p.layers)?;
        training::at_least_one("inner", p.inner)?;
        training::heads(p.dimensions, p.heads)?;
        training::span(p.length, p.stride)?;
        training::share("dropout", p.dropout)?;
        if !(p.mask_share > 0.0 && p.mask_share <= 1.0) {
            return Err("`mask_share` must be above 0 and at most 1".to_owned());
        }
        if !(0.0..=1.0).contains(&p.last_share) {
            return Err("`last_share` must be in [0, 1]".to_owned());
        }
        p.training.check()
    }

    fn fit(
        parameters: &Parameters,
        data: &TrainingData<'_>,
        run: &mut Run<'_>,
    ) -> Result<Self, FitError> {
        let p = parameters;
        let shape = Shape {
            n_items: data.n_vocabulary(),
            span: Span {
                length: p.length,
                stride: p.stride,
            },
            dimensions: p.dimensions as usize,
            layers: p.layers as usize,
            heads: p.heads as usize,
            inner: p.inner as usize,
            dropout: p.dropout,
            mask_share: p.mask_share,
            last_share: p.last_share,
        };
        let (network, weights) = Bidirectional::new(shape, run.seed);
        Ok(Self(train(network, weights, &p.training, data, run)?))
    }

    fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        Ok(Self(SequenceModel::load(tensors)?))
    }
}

crate::sequence::delegate_model!(Bert4Rec);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::tests::{N_ITEMS, linear_in_samples, reaches_every_parameter};

    fn network() -> (Bidirectional, Weights<f32>) {
        let shape = Shape {
            n_items: N_ITEMS,
            span: Span {
                length: 6,
                stride: 4,
            },
            dimensions: 8,
            layers: 2,
            heads: 2,
            inner: 12,
            dropout: 0.3,
            mask_share: 0.5,
            last_share: 0.3,
        };
        Bidirectional::new(shape, Seed::root(3))
    }

    #[test]
    fn every_parameter_receives_a_gradient() {
        let (network, weights) = network();
        reaches_every_parameter(&network, &weights);
    }

    #[test]
    fn the_gradient_of_a_batch_is_the_weighted_sum_of_those_of_samples() {
        let (network, weights) = network();
        linear_in_samples(&network, &weights);
    }
}
