//! A recurrent network over the events of a user: its state predicts what comes next.
//!
//! ```text
//! x = dropout(E[item] + side)    h_t = GRU(x_t, h_(t-1)), layer by layer, dropout between
//! score(i) = h E[i] + b_i
//! ```
//!
//! `side` is what `inputs` add, nothing by default: see `sequence/side.rs`.
//!
//! # Paper
//! Hidasi, Karatzoglou, Baltrunas, Tikk, "Session-based recommendations with recurrent neural
//! networks", ICLR 2016; Hidasi and Karatzoglou, "Recurrent neural networks with top-k gains for
//! session-based recommendations", CIKM 2018, for the cross-entropy and shared embeddings.
//!
//! # Departures
//! Windows start from a state of zeros and are trained in batches of whole windows, instead of
//! sessions side by side whose states are carried on. The loss is the full softmax by default;
//! BPR-max is not offered. Negatives are those of each sample, not the other targets of a batch.
//! Items and outputs share one table unless `tied: false`. `AdamW` instead of Adagrad.
//!
//! # Needs
//! Sequences, target items, weights; with `inputs`, types of events, instants, items.
//!
//! # Cost
//! As `sasrec`, with layers x dimensions^2 x 36 operations per position besides the loss. Positions
//! of a window follow each other, so the products are smaller.

use serde::{Deserialize, Serialize};
use tensors::{Init, ParameterId, Parameters as Weights, Real, Tape, TensorError, Tensors, Value};

use crate::Seed;
use crate::data::TrainingData;
use crate::recommender::{Capability, FitError, LoadError, Parameter, Recommender};
use crate::run::Run;
use crate::sequence::{
    Batch, INPUTS, Inputs, Network, Objective, ObjectiveKind, Output, SequenceModel, Side,
    SideShape, Span, Training, shape, train, training,
};

/// Name of the table of outputs, where it is not that of inputs.
const OUTPUT: &str = "output";

/// The fitted model.
pub(super) struct Gru4Rec(SequenceModel<Recurrent>);

/// Parameters.
#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Parameters {
    dimensions: u32,
    layers: u32,
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

impl Default for Parameters {
    fn default() -> Self {
        Self {
            dimensions: 64,
            layers: 1,
            length: 50,
            stride: 50,
            dropout: 0.3,
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
        default: "1",
        doc: "Recurrent layers; from 1 up.",
    },
    training::LENGTH,
    training::STRIDE,
    Parameter {
        name: "dropout",
        default: "0.3",
        doc: "Share dropped of embeddings and of the states of each layer; in [0, 1).",
    },
    training::LOSS,
    training::NEGATIVES,
    training::TEMPERATURE,
    training::TIED,
    INPUTS,
];

/// Everything that the network's parameters depend on.
#[derive(Clone, Copy, Debug)]
struct Shape {
    n_items: usize,
    span: Span,
    dimensions: usize,
    layers: usize,
    dropout: f64,
    /// Whether outputs share the table of inputs.
    tied: bool,
}

#[derive(Clone, Debug)]
struct Layer {
    w_input: ParameterId,
    w_hidden: ParameterId,
    b_input: ParameterId,
    b_hidden: ParameterId,
    /// Name of what is dropped of its states.
    name: String,
}

/// The network.
#[derive(Clone, Debug)]
struct Recurrent {
    shape: Shape,
    objective: Objective,
    items: ParameterId,
    /// The table of inputs, or one of its own.
    outputs: ParameterId,
    bias: ParameterId,
    layers: Vec<Layer>,
    side: Side,
}

impl Recurrent {
    fn new(
        shape: Shape,
        side: SideShape,
        objective: Objective,
        seed: Seed,
    ) -> (Self, Weights<f32>) {
        let mut weights = Weights::new(seed);
        let columns = shape.dimensions;
        let bound = libm::sqrt(1.0 / columns as f64);
        let uniform = Init::Uniform { bound };
        let table = Init::TruncatedNormal { std: 0.05 };
        let items = weights.insert("item", [shape.n_items, columns], table);
        let outputs = if shape.tied {
            items
        } else {
            weights.insert(OUTPUT, [shape.n_items, columns], table)
        };
        let bias = weights.insert("item_bias", [1, shape.n_items], Init::Zeros);
        let layers = (0..shape.layers)
            .map(|layer| {
                let mut insert = |part: &str, columns: usize, init: Init| {
                    let rows = if columns == 0 {
                        1
                    } else {
                        3 * shape.dimensions
                    };
                    let columns = if columns == 0 {
                        3 * shape.dimensions
                    } else {
                        columns
                    };
                    weights.insert(&format!("layer{layer}.{part}"), [rows, columns], init)
                };
                Layer {
                    w_input: insert("input", columns, uniform),
                    w_hidden: insert("hidden", columns, uniform),
                    b_input: insert("input_bias", 0, Init::Zeros),
                    b_hidden: insert("hidden_bias", 0, Init::Zeros),
                    name: format!("layer{layer}.drop"),
                }
            })
            .collect();
        let side = Side::new(side, &mut weights, columns, table);
        let network = Self {
            shape,
            objective,
            items,
            outputs,
            bias,
            layers,
            side,
        };
        (network, weights)
    }
}

impl Network for Recurrent {
    fn span(&self) -> Span {
        self.shape.span
    }

    fn n_items(&self) -> usize {
        self.shape.n_items
    }

    fn output(&self) -> Output {
        Output {
            table: self.outputs,
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

    fn hidden<F: Real>(&self, tape: &mut Tape<'_, F>, batch: &Batch) -> Value {
        let dropout = self.shape.dropout;
        let mut x = tape.embedding(self.items, &batch.items);
        x = self.side.add(tape, x, batch, F::ONE);
        x = tape.dropout_add(x, None, dropout, "embedding");
        for layer in &self.layers {
            x = tape.gru(
                x,
                batch.length,
                layer.w_input,
                layer.w_hidden,
                layer.b_input,
                layer.b_hidden,
                &batch.valid,
            );
            x = tape.dropout_add(x, None, dropout, &layer.name);
        }
        x
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
        ];
        shape::save(tensors, &numbers)
    }

    fn load(tensors: &Tensors) -> Result<(Self, Weights<f32>), LoadError> {
        let [n_items, length, stride, dimensions, layers] = shape::load(tensors)?;
        let shape = Shape {
            n_items,
            span: shape::span(length, stride)?,
            dimensions,
            layers,
            dropout: 0.0,
            tied: !tensors.contains(OUTPUT),
        };
        let side = SideShape::load(tensors, n_items)?;
        let objective = Objective::softmax(n_items);
        Ok(Self::new(shape, side, objective, Seed::root(0)))
    }
}

impl Recommender for Gru4Rec {
    const NAME: &'static str = "gru4rec";
    const REVISION: u32 = 3;
    const DOC: &'static str = "A recurrent network over the events of a user (GRU4Rec).";
    const PAPER: &'static str = "Hidasi et al., ICLR 2016; Hidasi and Karatzoglou, CIKM 2018";
    const CAPABILITIES: &'static [Capability] = &[
        Capability::Gradients,
        Capability::HiddenStates,
        Capability::InputGradients,
        Capability::Losses,
    ];
    const PARAMETERS: &'static [Parameter] = &training::join::<{ training::n_with(OWN) }>(OWN);
    type Parameters = Parameters;

    fn check(parameters: &Parameters) -> Result<(), String> {
        let p = parameters;
        training::at_least_one("dimensions", p.dimensions)?;
        training::at_least_one("layers", p.layers)?;
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
            dropout: p.dropout,
            tied: p.tied,
        };
        let objective = Objective::new(p.loss, p.negatives, p.temperature, data);
        let side = SideShape::of(p.inputs, data, Self::NAME)?;
        let (network, weights) = Recurrent::new(shape, side, objective, run.seed);
        Ok(Self(train(network, weights, &p.training, data, run)?))
    }

    fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        Ok(Self(SequenceModel::load(tensors)?))
    }
}

crate::sequence::delegate_model!(Gru4Rec);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::tests::{
        ALL_INPUTS, N_ITEMS, causal, linear_in_samples, reaches_every_parameter, side,
    };

    fn network(inputs: Inputs) -> (Recurrent, Weights<f32>) {
        let shape = Shape {
            n_items: N_ITEMS,
            span: Span {
                length: 6,
                stride: 4,
            },
            dimensions: 8,
            layers: 2,
            dropout: 0.3,
            tied: true,
        };
        let objective = Objective::softmax(N_ITEMS);
        Recurrent::new(shape, side(inputs), objective, Seed::root(3))
    }

    #[test]
    fn a_table_of_outputs_of_its_own_obeys_the_same_laws() {
        let (network, _) = network(Inputs::default());
        let shape = Shape {
            tied: false,
            ..network.shape
        };
        let side = SideShape::default();
        let (network, weights) = Recurrent::new(shape, side, network.objective, Seed::root(4));
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
