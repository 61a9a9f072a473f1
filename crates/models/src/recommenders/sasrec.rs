//! Self-attention over the events of a user: each event predicts what comes after it.
//!
//! ```text
//! x_0 = dropout(sqrt(d) E[item] + P[position] + side)
//! x' = x + dropout(attention(norm(x)))    x = x' + dropout(W_2 relu(W_1 norm(x') + b_1) + b_2)
//! score(i) = norm(x_layers) E[i]
//! ```
//!
//! Attention is causal; items and outputs share the table E, or with `tied: false` each has its own:
//! then `score(i) = norm(x_layers) O[i]`. Positions count from the start of a window, so that a
//! window of a sequence and the history of a request look alike. `side` is what `inputs` add,
//! nothing by default: see `sequence/side.rs`; attributes are scaled as items are.
//!
//! # Paper
//! Kang and `McAuley`, "Self-attentive sequential recommendation", ICDM 2018. Losses: Petrov and
//! Macdonald, "`gSASRec`: reducing overconfidence in sequential recommendation trained with negative
//! sampling", `RecSys` 2023 (`gbce`); Klenitskiy and Vasilev, "Turning dross into gold loss: is
//! `BERT4Rec` really better than `SASRec`?", `RecSys` 2023, for the softmax over all items.
//!
//! # Departures
//! The loss is the full softmax by default, with `bce` as in the paper. Keys and values are normed
//! like queries (the authors' code norms queries alone). `norm: post` puts norms after the residual
//! sums and one after the embeddings, as in BERT and most later implementations. Positions count
//! from the front. Negatives are uniform over the vocabulary; the target itself does not count as
//! one.
//!
//! # Needs
//! Sequences, target items, weights; with `inputs`, types of events, instants, items.
//!
//! # Cost
//! Fit: per epoch, positions x (items x dimensions x 6 + layers x dimensions^2 x 72) floating-point
//! operations for the softmax; the first term is positions x negatives for sampled losses. Memory:
//! four times the parameters, and up to eight tables for gradients. Score: one pass over the history
//! and the table.

use serde::{Deserialize, Serialize};
use tensors::{
    Activation, Init, Mask, ParameterId, Parameters as Weights, Real, Tape, TensorError, Tensors,
    Value,
};

use crate::Seed;
use crate::data::TrainingData;
use crate::recommender::{Capability, FitError, LoadError, Parameter, Recommender};
use crate::run::Run;
use crate::sequence::{
    Batch, INPUTS, Inputs, Network, Objective, ObjectiveKind, Output, SequenceModel, Side,
    SideShape, Span, Training, Transformer, TransformerSettings, shape, train, training,
};

/// Name of the table of outputs, where it is not that of inputs.
const OUTPUT: &str = "output";

/// The fitted model.
pub(super) struct Sasrec(SequenceModel<Causal>);

/// Parameters.
#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Parameters {
    dimensions: u32,
    layers: u32,
    heads: u32,
    inner: u32,
    norm: NormPlace,
    length: u32,
    stride: u32,
    dropout: f64,
    loss: ObjectiveKind,
    negatives: u32,
    temperature: f64,
    tied: bool,
    inputs: Inputs,
    #[serde(flatten)]
    training: Training,
}

/// Where layer norms stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum NormPlace {
    Pre,
    Post,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            dimensions: 64,
            layers: 2,
            heads: 1,
            inner: 64,
            norm: NormPlace::Pre,
            length: 50,
            stride: 50,
            dropout: 0.5,
            loss: ObjectiveKind::Softmax,
            negatives: training::N_NEGATIVES,
            temperature: training::DEFAULT_TEMPERATURE,
            tied: true,
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
        default: "64",
        doc: "Columns within the perceptron; from 1 up.",
    },
    Parameter {
        name: "norm",
        default: "\"pre\"",
        doc: "Layer norms before each layer (`pre`) or after each residual sum (`post`).",
    },
    training::LENGTH,
    training::STRIDE,
    Parameter {
        name: "dropout",
        default: "0.5",
        doc: "Share dropped of embeddings, attention and what layers add; in [0, 1).",
    },
    training::LOSS,
    training::NEGATIVES,
    training::TEMPERATURE,
    training::TIED,
    INPUTS,
];

/// The network.
#[derive(Clone, Debug)]
struct Causal {
    shape: Shape,
    objective: Objective,
    items: ParameterId,
    /// The table of inputs, or one of its own.
    outputs: ParameterId,
    positions: ParameterId,
    blocks: Transformer,
    side: Side,
}

/// Everything that the network's parameters depend on.
#[derive(Clone, Copy, Debug)]
struct Shape {
    n_items: usize,
    span: Span,
    dimensions: usize,
    layers: usize,
    heads: usize,
    inner: usize,
    post_norm: bool,
    dropout: f64,
    /// Whether outputs share the table of inputs.
    tied: bool,
}

impl Causal {
    fn new(
        shape: Shape,
        side: SideShape,
        objective: Objective,
        seed: Seed,
    ) -> (Self, Weights<f32>) {
        let mut weights = Weights::new(seed);
        let columns = shape.dimensions;
        let table = Init::TruncatedNormal { std: 0.02 };
        let items = weights.insert("item", [shape.n_items, columns], table);
        let outputs = if shape.tied {
            items
        } else {
            weights.insert(OUTPUT, [shape.n_items, columns], table)
        };
        let length = shape.span.length as usize;
        let positions = weights.insert("position", [length, columns], table);
        let settings = TransformerSettings {
            dimensions: columns,
            layers: shape.layers,
            heads: shape.heads,
            inner: shape.inner,
            activation: if shape.post_norm {
                Activation::Gelu
            } else {
                Activation::Relu
            },
            mask: Mask::Causal,
            post_norm: shape.post_norm,
            dropout: shape.dropout,
        };
        let blocks = Transformer::new(&mut weights, settings);
        let side = Side::new(side, &mut weights, columns, table);
        let network = Self {
            shape,
            objective,
            items,
            outputs,
            positions,
            blocks,
            side,
        };
        (network, weights)
    }
}

impl Network for Causal {
    const HAS_ATTENTION: bool = true;

    fn span(&self) -> Span {
        self.shape.span
    }

    fn n_items(&self) -> usize {
        self.shape.n_items
    }

    fn output(&self) -> Output {
        Output {
            table: self.outputs,
            bias: None,
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

    fn hidden<F: Real>(&self, tape: &mut Tape<'_, F>, batch: &Batch) -> Value {
        let (scale, dropout) = if self.shape.post_norm {
            // The norm that follows sets the scale, and dropout comes after it.
            (F::ONE, 0.0)
        } else {
            let scale = libm::sqrt(self.shape.dimensions as f64);
            (F::of(scale), self.shape.dropout)
        };
        // What is dropped is the sum, so dropout waits for all of it.
        let within = if self.side.is_empty() { dropout } else { 0.0 };
        let mut x = tape.embedding_with_positions(
            self.items,
            self.positions,
            &batch.items,
            &batch.positions,
            scale,
            within,
            "embedding",
        );
        if !self.side.is_empty() {
            x = self.side.add(tape, x, batch, scale);
            x = tape.dropout_add(x, None, dropout, "embedding");
        }
        self.blocks.forward(tape, x, batch, None)
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
            usize::from(shape.post_norm),
        ];
        shape::save(tensors, &numbers)
    }

    fn load(tensors: &Tensors) -> Result<(Self, Weights<f32>), LoadError> {
        let [
            n_items,
            length,
            stride,
            dimensions,
            layers,
            heads,
            inner,
            post_norm,
        ] = shape::load(tensors)?;
        let shape = Shape {
            n_items,
            span: shape::span(length, stride)?,
            dimensions,
            layers,
            heads,
            inner,
            post_norm: post_norm == 1,
            dropout: 0.0,
            tied: !tensors.contains(OUTPUT),
        };
        shape::heads(dimensions, heads)?;
        let side = SideShape::load(tensors, n_items)?;
        let objective = Objective::softmax(n_items);
        Ok(Self::new(shape, side, objective, Seed::root(0)))
    }
}

impl Recommender for Sasrec {
    const NAME: &'static str = "sasrec";
    const REVISION: u32 = 3;
    const DOC: &'static str = "Self-attention over the events of a user (SASRec).";
    const PAPER: &'static str =
        "Kang and `McAuley`, ICDM 2018; losses of Petrov and Macdonald, 2023";
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
        for (name, value) in [("layers", p.layers), ("inner", p.inner)] {
            training::at_least_one(name, value)?;
        }
        training::heads(p.dimensions, p.heads)?;
        training::span(p.length, p.stride)?;
        training::sampling(p.loss, p.negatives, p.temperature)?;
        training::share("dropout", p.dropout)?;
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
            post_norm: p.norm == NormPlace::Post,
            dropout: p.dropout,
            tied: p.tied,
        };
        let objective = Objective::new(p.loss, p.negatives, p.temperature, data);
        let side = SideShape::of(p.inputs, data, Self::NAME)?;
        let (network, weights) = Causal::new(shape, side, objective, run.seed);
        Ok(Self(train(network, weights, &p.training, data, run)?))
    }

    fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        Ok(Self(SequenceModel::load(tensors)?))
    }
}

crate::sequence::delegate_model!(Sasrec);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::tests::{
        ALL_INPUTS, N_ITEMS, causal, linear_in_samples, reaches_every_parameter, side,
    };

    fn network(inputs: Inputs) -> (Causal, Weights<f32>) {
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
            post_norm: false,
            dropout: 0.3,
            tied: true,
        };
        let objective = Objective::softmax(N_ITEMS);
        Causal::new(shape, side(inputs), objective, Seed::root(3))
    }

    #[test]
    fn norms_after_the_sums_obey_the_same_laws() {
        let (network, _) = network(Inputs::default());
        let shape = Shape {
            post_norm: true,
            ..network.shape
        };
        let side = SideShape::default();
        let (network, weights) = Causal::new(shape, side, network.objective, Seed::root(4));
        reaches_every_parameter(&network, &weights);
        linear_in_samples(&network, &weights);
        causal(&network, &weights);
    }

    #[test]
    fn a_table_of_outputs_of_its_own_obeys_the_same_laws() {
        let (network, _) = network(Inputs::default());
        let shape = Shape {
            tied: false,
            ..network.shape
        };
        let side = SideShape::default();
        let (network, weights) = Causal::new(shape, side, network.objective, Seed::root(4));
        assert_ne!(network.items, network.outputs);
        reaches_every_parameter(&network, &weights);
        linear_in_samples(&network, &weights);
        causal(&network, &weights);
    }

    #[test]
    fn every_parameter_receives_a_gradient() {
        let (network, weights) = network(Inputs::default());
        reaches_every_parameter(&network, &weights);
    }

    #[test]
    fn the_gradient_of_a_batch_is_the_weighted_sum_of_those_of_samples() {
        let (network, weights) = network(Inputs::default());
        linear_in_samples(&network, &weights);
    }

    #[test]
    fn one_pass_over_windows_equals_one_pass_per_sample() {
        let (network, weights) = network(Inputs::default());
        causal(&network, &weights);
    }

    #[test]
    fn optional_inputs_obey_the_same_laws() {
        let (network, weights) = network(ALL_INPUTS);
        reaches_every_parameter(&network, &weights);
        linear_in_samples(&network, &weights);
        causal(&network, &weights);
    }
}
