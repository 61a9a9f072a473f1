//! The model of the source document: a convolution over what a user did, a recurrent network over
//! what the items are, attention between the two, a sigmoid on top.
//!
//! ```text
//! x = dropout(E[item] + K[event])    c = x + relu(conv(relu(conv(x))))   behaviour, causal windows of `width`
//! r = GRU(tanh(W_a dropout(A[item]) + b))   attributes of the same items
//! a_t = sum_s<=t softmax_s(q(c_t) k(r_s) / sqrt(d)) v(r_s)
//! h = W_h [c, a] + b_h    score(i) = h V[i] + b_i    probability = 1 / (1 + e^-score)
//! ```
//!
//! K tells what was done; A[item] sums a row of its table for each of category, brand and price step
//! of an item, and the mean of the rows of its further attributes. Both are those of
//! `sequence/side.rs`, always on.
//!
//! Trained with the logistic loss of each sample and `negatives` items that the same sample is given
//! in every epoch.
//!
//! # Paper
//! "A benchmark of sample-importance estimation with large AI models for optimising e-commerce
//! search and recommendation", sections 4.2 and 4.3, which name these parts and no sizes.
//!
//! # Departures
//! The document names no sizes, no negatives and no way to combine the parts: those are ours. A
//! price is one of ten steps of its standardised logarithm.
//!
//! # Needs
//! Sequences, target items, weights; types of events, and category, brand, price and further
//! attributes of items, each of which may be missing.
//!
//! # Cost
//! Fit: per epoch, positions x dimensions^2 x 150 operations, about. Memory: four times the
//! parameters. Score: one pass over the history and the table.

use serde::{Deserialize, Serialize};
use tensors::{
    Activation, Attention, Init, Loss, Mask, ParameterId, Parameters as Weights, Real, Tape,
    TensorError, Tensors, Value,
};

use crate::Seed;
use crate::data::TrainingData;
use crate::recommender::{Capability, FitError, LoadError, Parameter, Recommender};
use crate::run::Run;
use crate::sequence::{
    Batch, Inputs, Network, Objective, ObjectiveKind, Output, SequenceModel, Side, SideShape, Span,
    Training, shape, train, training,
};

/// The fitted model.
pub(super) struct CaseStudy(SequenceModel<BehaviourAndAttributes>);

/// Parameters.
#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Parameters {
    dimensions: u32,
    width: u32,
    length: u32,
    stride: u32,
    dropout: f64,
    negatives: u32,
    #[serde(flatten)]
    training: Training,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            dimensions: 64,
            width: 3,
            length: 50,
            stride: 50,
            dropout: 0.2,
            negatives: 4,
            training: Training::default(),
        }
    }
}

const OWN: &[Parameter] = &[
    training::DIMENSIONS,
    Parameter {
        name: "width",
        default: "3",
        doc: "Events that a convolution sees at once; from 1 up.",
    },
    training::LENGTH,
    training::STRIDE,
    Parameter {
        name: "dropout",
        default: "0.2",
        doc: "Share dropped of embeddings, attention and the combined state; in [0, 1).",
    },
    Parameter {
        name: "negatives",
        default: "4",
        doc: "Negatives of each sample, the same in every epoch; from 1 up.",
    },
];

/// What the model sees beside items.
const INPUTS: Inputs = Inputs {
    events: true,
    baskets: false,
    attributes: true,
};

/// Everything that the network's parameters depend on.
#[derive(Clone, Copy, Debug)]
struct Shape {
    n_items: usize,
    span: Span,
    dimensions: usize,
    width: usize,
    dropout: f64,
}

#[derive(Clone, Copy, Debug)]
struct Linear {
    weight: ParameterId,
    bias: ParameterId,
}

/// The network.
#[derive(Clone, Debug)]
struct BehaviourAndAttributes {
    shape: Shape,
    objective: Objective,
    /// Where the negatives of samples are drawn from, in every epoch.
    chance: Seed,
    items: ParameterId,
    side: Side,
    convolutions: [Linear; 2],
    mix: Linear,
    recurrent: [ParameterId; 4],
    query: Linear,
    /// Without a bias: a softmax does not see what is added to all keys.
    key: ParameterId,
    content: Linear,
    state: Linear,
    outputs: ParameterId,
    bias: ParameterId,
}

impl BehaviourAndAttributes {
    fn new(
        shape: Shape,
        side: SideShape,
        objective: Objective,
        seed: Seed,
    ) -> (Self, Weights<f32>) {
        let mut weights = Weights::new(seed);
        let columns = shape.dimensions;
        let table = Init::TruncatedNormal { std: 0.05 };
        let items = weights.insert("item", [shape.n_items, columns], table);
        let side = Side::new(side, &mut weights, columns, table);
        let mut linear = |name: &str, n_in: usize, n_out: usize| Linear {
            weight: weights.insert(
                &format!("{name}.weight"),
                [n_out, n_in],
                Init::XavierUniform,
            ),
            bias: weights.insert(&format!("{name}.bias"), [1, n_out], Init::Zeros),
        };
        let wide = shape.width * columns;
        let convolutions = [
            linear("convolution0", wide, columns),
            linear("convolution1", wide, columns),
        ];
        let mix = linear("mix", columns, columns);
        let query = linear("query", columns, columns);
        let content = linear("content", columns, columns);
        let state = linear("state", 2 * columns, columns);
        let key = weights.insert("key.weight", [columns, columns], Init::XavierUniform);
        let uniform = Init::Uniform {
            bound: libm::sqrt(1.0 / columns as f64),
        };
        let recurrent = [
            weights.insert("recurrent.input", [3 * columns, columns], uniform),
            weights.insert("recurrent.hidden", [3 * columns, columns], uniform),
            weights.insert("recurrent.input_bias", [1, 3 * columns], Init::Zeros),
            weights.insert("recurrent.hidden_bias", [1, 3 * columns], Init::Zeros),
        ];
        let outputs = weights.insert("output", [shape.n_items, columns], table);
        let bias = weights.insert("output_bias", [1, shape.n_items], Init::Zeros);
        let network = Self {
            shape,
            objective,
            chance: seed.child("fixed"),
            items,
            side,
            convolutions,
            mix,
            recurrent,
            query,
            key,
            content,
            state,
            outputs,
            bias,
        };
        (network, weights)
    }
}

impl Network for BehaviourAndAttributes {
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
        let (dropout, length) = (self.shape.dropout, batch.length);
        let apply = |tape: &mut Tape<'_, F>, x: Value, layer: Linear, with: Activation| {
            tape.linear(x, layer.weight, Some(layer.bias), with)
        };
        let mut events = tape.embedding(self.items, &batch.items);
        if let Some(kinds) = self.side.events(tape, batch) {
            events = tape.add(events, kinds);
        }
        let events = tape.dropout_add(events, None, dropout, "behaviour");
        let mut behaviour = events;
        for layer in self.convolutions {
            let (width, relu) = (self.shape.width, Activation::Relu);
            let bias = Some(layer.bias);
            behaviour = tape.convolution(behaviour, length, layer.weight, bias, width, true, relu);
        }
        // An event that no filter answers to is still seen.
        let behaviour = tape.add(behaviour, events);
        let attributes = self.side.attributes(tape, batch);
        // A model without attributes is neither made nor loaded.
        let attributes = attributes.unwrap_or(events);
        let attributes = tape.dropout_add(attributes, None, dropout, "attributes");
        let mixed = apply(tape, attributes, self.mix, Activation::Tanh);
        let [input, hidden, input_bias, hidden_bias] = self.recurrent;
        let recurrent = tape.gru(
            mixed,
            length,
            input,
            hidden,
            input_bias,
            hidden_bias,
            &batch.valid,
        );
        let query = apply(tape, behaviour, self.query, Activation::None);
        let key = tape.linear(recurrent, self.key, None, Activation::None);
        let content = apply(tape, recurrent, self.content, Activation::None);
        let packed = tape.concatenate(&[query, key, content]);
        let attended = tape.attention(
            packed,
            Attention {
                heads: 1,
                length,
                mask: Mask::Causal,
                valid: &batch.valid,
                dropout,
                name: "attention",
            },
        );
        let both = tape.concatenate(&[behaviour, attended]);
        let state = apply(tape, both, self.state, Activation::None);
        tape.dropout_add(state, None, dropout, "state")
    }

    fn loss<F: Real>(&self, tape: &mut Tape<'_, F>, batch: &Batch, _: Seed) -> Loss {
        let hidden = self.hidden(tape, batch);
        let rows = tape.gather_rows(hidden, &batch.terms.rows);
        self.objective
            .loss(tape, rows, self.output(), &batch.terms, self.chance)
    }

    fn save(&self, tensors: &mut Tensors) -> Result<(), TensorError> {
        self.side.save(tensors)?;
        let shape = &self.shape;
        let numbers = [
            shape.n_items,
            shape.span.length as usize,
            shape.span.stride as usize,
            shape.dimensions,
            shape.width,
        ];
        shape::save(tensors, &numbers)
    }

    fn load(tensors: &Tensors) -> Result<(Self, Weights<f32>), LoadError> {
        let [n_items, length, stride, dimensions, width] = shape::load(tensors)?;
        let shape = Shape {
            n_items,
            span: shape::span(length, stride)?,
            dimensions,
            width,
            dropout: 0.0,
        };
        let side = SideShape::load(tensors, n_items)?;
        if !side.has_attributes() {
            return Err(LoadError::Sizes {
                left: "input_attributes",
                right: "shape",
            });
        }
        let objective = Objective::softmax(n_items);
        Ok(Self::new(shape, side, objective, Seed::root(0)))
    }
}

impl Recommender for CaseStudy {
    const NAME: &'static str = "case_study";
    const REVISION: u32 = 3;
    const DOC: &'static str =
        "Convolution over behaviour, recurrence over attributes, attention between them.";
    const PAPER: &'static str = "The source document, sections 4.2 and 4.3";
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
        training::at_least_one("dimensions", p.dimensions)?;
        training::at_least_one("width", p.width)?;
        training::at_least_one("negatives", p.negatives)?;
        training::span(p.length, p.stride)?;
        training::share("dropout", p.dropout)?;
        p.training.check()
    }

    fn reads_items(_: &Parameters) -> bool {
        true
    }

    fn features(_: &Parameters) -> Vec<&'static str> {
        INPUTS.features()
    }

    fn fit(
        parameters: &Parameters,
        data: &TrainingData<'_>,
        run: &mut Run<'_>,
    ) -> Result<Self, FitError> {
        let p = parameters;
        let side = SideShape::of(INPUTS, data, Self::NAME)?;
        let shape = Shape {
            n_items: data.n_vocabulary(),
            span: Span {
                length: p.length,
                stride: p.stride,
            },
            dimensions: p.dimensions as usize,
            width: p.width as usize,
            dropout: p.dropout,
        };
        let objective = Objective::new(ObjectiveKind::Bce, p.negatives, 0.0, data);
        let (network, weights) = BehaviourAndAttributes::new(shape, side, objective, run.seed);
        Ok(Self(train(network, weights, &p.training, data, run)?))
    }

    fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        Ok(Self(SequenceModel::load(tensors)?))
    }
}

crate::sequence::delegate_model!(CaseStudy);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::tests::{
        N_ITEMS, causal, linear_in_samples, reaches_every_parameter, side,
    };

    fn network() -> (BehaviourAndAttributes, Weights<f32>) {
        let shape = Shape {
            n_items: N_ITEMS,
            span: Span {
                length: 6,
                stride: 4,
            },
            dimensions: 8,
            width: 3,
            dropout: 0.3,
        };
        let objective = Objective::softmax(N_ITEMS);
        BehaviourAndAttributes::new(shape, side(INPUTS), objective, Seed::root(3))
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

    #[test]
    fn one_pass_over_windows_equals_one_pass_per_sample() {
        let (network, weights) = network();
        causal(&network, &weights);
    }
}
