//! Bidirectional self-attention trained to fill in masked events of a sequence.
//!
//! ```text
//! x_0 = norm(E[item or mask] + P[position] + side)   x' = norm(x + attention(x))
//! x = norm(x' + W_2 gelu(W_1 x' + b_1) + b_2)   score(i) = norm(gelu(W x + b)) E[i] + b_i
//! ```
//!
//! A sequence is scored with a mask at its end. In training baskets are masked, the events of one
//! instant: their samples share a history and are not predicted from each other. One mask stands
//! where the basket begins, its other events are hidden, and the losses of all its samples are read
//! at the mask. Whether a basket is masked is a draw of its own, a function of (seed, epoch, id of
//! its first sample). In some windows everything from the last basket on is cut off and a mask
//! stands at the end, exactly as in scoring. Where a log has no instants each event is a basket.
//!
//! A basket whose samples weigh nothing is never masked: its events stay visible. Where some weigh
//! something, it is masked with all it holds.
//!
//! With `pretrain_epochs` and `target` it is first trained to fill in all events, then those of one
//! type, all others visible. `side` is what `inputs` add, nothing by default: see `sequence/side.rs`.
//!
//! The loss of a sample, as of a request, is that of a mask after its history, with nothing that came
//! later visible. Training also sees what comes later; a loss that did would say how well a gap is
//! filled, not how well the sample is predicted, and could not be set beside the loss of a request
//! or of another model.
//!
//! # Paper
//! Sun et al., "`BERT4Rec`: sequential recommendation with bidirectional encoder representations from
//! Transformer", CIKM 2019.
//!
//! # Departures
//! Masks are drawn anew in each epoch instead of ten times beforehand, a mask is always a mask
//! (never a random item), and a window is masked at its end alone with probability `last_share`
//! instead of once for each user. Baskets are masked as wholes. The table of the masked item is a
//! row of its own.
//!
//! # Needs
//! Sequences, positions of samples in them, instants, target items, weights; with `target`, types of
//! events of samples; with `inputs`, those of all events, items.
//!
//! # Cost
//! As `sasrec`, but only `mask_share` of the positions give a loss term, so it needs more epochs.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use tensors::{
    Activation, Init, Mask, PADDING, ParameterId, Parameters as Weights, Real, Tape, TensorError,
    Tensors, Value,
};

use crate::Seed;
use crate::data::TrainingData;
use crate::history::{Columns, History};
use crate::recommender::{Capability, FitError, LoadError, Parameter, Recommender};
use crate::run::Run;
use crate::sequence::{
    Batch, INPUTS, Inputs, Network, Objective, Output, SequenceModel, Side, SideShape, Span, Term,
    Training, Transformer, TransformerSettings, Window, Windows, shape, train, training,
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
    inputs: Inputs,
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
            inputs: Inputs::default(),
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
        doc: "Probability with which a basket is masked in an epoch; above 0, at most 1.",
    },
    Parameter {
        name: "last_share",
        default: "0.2",
        doc: "Probability with which a window is cut before its last basket and masked at its end alone; in [0, 1].",
    },
    INPUTS,
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
    side: Side,
}

/// A window as it is seen in one epoch.
struct View {
    events: Columns,
    masked: Vec<Masked>,
}

/// A basket behind a mask: what lies at `place.start` is masked, what follows in `place` hidden.
struct Masked {
    place: Range<usize>,
    /// Terms of its samples, all that the window has of it.
    terms: Range<usize>,
    /// Whether a sample of it weighs anything; if not, its events are seen.
    weighs: bool,
}

impl Bidirectional {
    fn new(shape: Shape, side: SideShape, seed: Seed) -> (Self, Weights<f32>) {
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
        let side = Side::new(side, &mut weights, columns, table);
        let network = Self {
            objective: Objective::softmax(shape.n_items),
            shape,
            items,
            bias,
            mask,
            positions,
            blocks,
            head,
            side,
        };
        (network, weights)
    }

    /// How a window is seen; weights play no part in what is drawn.
    fn view(
        &self,
        data: &TrainingData<'_>,
        windows: &Windows,
        window: &Window,
        chance: Seed,
    ) -> View {
        let most = self.shape.span.length as usize + 1;
        let last = chance.child("last").stream();
        let is_last_alone = last.uniform(window.key(), 0) < self.shape.last_share;
        let masks = chance.child("masks").stream();
        let mut masked = Vec::new();
        let mut end = 0;
        let mut first_term = 0;
        // Samples of one basket have a history, and so a position, in common.
        for basket in windows
            .terms(window)
            .chunk_by(|a, b| a.position == b.position)
        {
            let terms = first_term..first_term + basket.len();
            first_term = terms.end;
            let start = basket[0].position as usize + 1;
            if is_last_alone && first_term < window.terms.len() {
                continue;
            }
            let length = if is_last_alone {
                1
            } else {
                basket_length(data, window, basket).min(most - start)
            };
            end = end.max(start + length);
            let id = data.sample_id(basket[0].sample as usize);
            if is_last_alone || masks.uniform(id, 0) < self.shape.mask_share {
                let weights = basket.iter().map(|term| data.weight(term.sample as usize));
                masked.push(Masked {
                    place: start..start + length,
                    terms,
                    weighs: weights.fold(0.0, f64::max) > 0.0,
                });
            }
        }
        let start = window.start as usize;
        let seen = if is_last_alone { end - 1 } else { end };
        let history = data.events_from(window.sequence, start).take(seen);
        let mut events = Columns::of(history, |_| true);
        // A mask at the end, in place of whatever comes there.
        while events.history().len() < end {
            events.push(PADDING, None, 0);
        }
        View { events, masked }
    }

    /// Items, masks and positions, with what the configuration adds.
    fn embedded<F: Real>(&self, tape: &mut Tape<'_, F>, batch: &Batch) -> Value {
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
        self.side.add(tape, x, batch, one)
    }

    /// What stands between the last block and the table.
    fn head<F: Real>(&self, tape: &mut Tape<'_, F>, x: Value) -> Value {
        let [weight, bias, gain, norm_bias] = self.head;
        let x = tape.linear(x, weight, Some(bias), Activation::Gelu);
        tape.layer_norm(x, gain, norm_bias, 1e-8)
    }
}

/// How many events of a window are in a basket of which it has terms.
fn basket_length(data: &TrainingData<'_>, window: &Window, basket: &[Term]) -> usize {
    let start = window.start + basket[0].position + 1;
    let positions = basket
        .iter()
        .map(|term| data.position(term.sample as usize));
    let last = positions.max().unwrap_or(start).max(start);
    let end = last + 1 + data.mates_after(window.sequence, last);
    (end - start) as usize
}

impl Network for Bidirectional {
    const IS_CAUSAL: bool = false;
    const HAS_ATTENTION: bool = true;

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

    fn side(&self) -> &Side {
        &self.side
    }

    fn side_mut(&mut self) -> &mut Side {
        &mut self.side
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
        let views: Vec<View> = chosen
            .iter()
            .map(|window| self.view(data, windows, window, chance))
            .collect();
        let events: Vec<History<'_>> = views.iter().map(|view| view.events.history()).collect();
        let mut batch = Batch::of(&events, data.n_vocabulary());
        batch.masked = vec![false; batch.items.len()];
        for (index, (window, view)) in chosen.iter().zip(&views).enumerate() {
            let first = index * batch.length;
            for position in 0..batch.length as u32 {
                batch.row_keys.push(window.row_key(position));
            }
            for Masked {
                place,
                terms,
                weighs,
            } in &view.masked
            {
                let row = first + place.start;
                // What weighs nothing is counted, stays visible, and is not learned.
                if *weighs {
                    for hidden in place.clone() {
                        batch.hide(first + hidden);
                    }
                    batch.mask(row);
                }
                for term in &windows.terms(window)[terms.clone()] {
                    let sample = term.sample as usize;
                    batch.terms.rows.push(row as u32);
                    batch.terms.targets.push(data.item(sample));
                    batch.terms.weights.push(data.weight(sample));
                    batch.terms.sample_ids.push(data.sample_id(sample));
                }
            }
        }
        batch
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a batch has far fewer rows than 2^32"
    )]
    fn request_batch(&self, histories: &[History<'_>]) -> (Batch, Vec<u32>) {
        let longer: Vec<Columns> = histories
            .iter()
            .map(|history| {
                let mut longer = Columns::of(*history, |_| true);
                longer.push(PADDING, None, 0);
                longer
            })
            .collect();
        let longer: Vec<History<'_>> = longer.iter().map(Columns::history).collect();
        let mut batch = Batch::of(&longer, self.shape.n_items);
        let rows: Vec<u32> = (0..)
            .zip(histories)
            .map(|(at, history)| (at * batch.length + history.len()) as u32)
            .collect();
        for &row in &rows {
            batch.mask(row as usize);
        }
        (batch, rows)
    }

    fn hidden<F: Real>(&self, tape: &mut Tape<'_, F>, batch: &Batch) -> Value {
        let x = self.embedded(tape, batch);
        let x = self.blocks.forward(tape, x, batch, None);
        self.head(tape, x)
    }

    /// Only masked rows give a loss: where a row's last block looks at no other row, from the
    /// attention's output on, others are left out.
    fn hidden_at<F: Real>(&self, tape: &mut Tape<'_, F>, batch: &Batch, rows: &[u32]) -> Value {
        let x = self.embedded(tape, batch);
        let x = self.blocks.forward(tape, x, batch, Some(rows));
        self.head(tape, x)
    }

    fn save(&self, tensors: &mut Tensors) -> Result<(), TensorError> {
        self.side.save(tensors)?;
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
        let side = SideShape::load(tensors, n_items)?;
        Ok(Self::new(shape, side, Seed::root(0)))
    }
}

impl Recommender for Bert4Rec {
    const NAME: &'static str = "bert4rec";
    const REVISION: u32 = 3;
    const DOC: &'static str =
        "Bidirectional self-attention that fills in masked events (BERT4Rec).";
    const PAPER: &'static str = "Sun et al., CIKM 2019";
    const CAPABILITIES: &'static [Capability] = &[
        Capability::Attention,
        Capability::Gradients,
        Capability::HiddenStates,
        Capability::InputGradients,
        Capability::Losses,
    ];
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

    fn reads_items(parameters: &Parameters) -> bool {
        parameters.inputs.attributes
    }

    fn features(parameters: &Parameters) -> Vec<&'static str> {
        parameters.inputs.features()
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
        let side = SideShape::of(p.inputs, data, Self::NAME)?;
        let (network, weights) = Bidirectional::new(shape, side, run.seed);
        Ok(Self(train(network, weights, &p.training, data, run)?))
    }

    fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        Ok(Self(SequenceModel::load(tensors)?))
    }
}

crate::sequence::delegate_model!(Bert4Rec);

#[cfg(test)]
mod tests;
