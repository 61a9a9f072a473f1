//! One forward pass, recorded so that it can be walked backwards.
//!
//! A model calls operations on a [`Tape`]; each gives a [`Value`], a matrix with one row per
//! position. Operations are few and large: each has a backward of its own, written by hand,
//! which knows what it must keep and in which order it sums. `backward` walks the tape once,
//! frees each value when the last operation that needs it is done, and hands buffers to the
//! [`Workspace`], from which the next step takes them again.
//!
//! Operations panic on shapes that do not fit: that is a bug of the model that calls them.

mod attention;
mod convolution;
mod dropout;
mod embedding;
mod gru;
mod linear;
mod logistic_loss;
mod norm;
mod rank_loss;
mod sampled_loss;
mod shape;
mod softmax_loss;
mod sparse;

pub use attention::{Attention, CrossAttention, Mask};
pub use linear::Activation;
pub use sampled_loss::Negatives;

use self::sampled_loss::ToRows;
use crate::context::{Capture, Context};
use crate::kernels::add_to;
use crate::parameters::{Gradients, Parameters};
use crate::require::require;
use crate::workspace::Workspace;
use crate::{ParameterId, Real};

/// An id that stands for nothing: gives zeros, and no gradient.
pub const PADDING: u32 = u32::MAX;

/// A matrix on a tape, [rows, columns].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(usize);

/// A loss on a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss(usize);

/// What an operation does on the way back.
trait Operation<F: Real>: Send {
    /// Takes the gradient of the output and gives gradients to inputs and parameters. `output` is
    /// the value that forward gave.
    fn backward(self: Box<Self>, output: &[F], gradient: Vec<F>, reverse: &mut Reverse<'_, F>);
}

/// One value and how it was made.
struct Node<F> {
    value: Vec<F>,
    rows: usize,
    columns: usize,
    needs_gradient: bool,
    /// Whether the workspace lent it: what it did not lend would pile up in it.
    lent: bool,
    operation: Option<Box<dyn Operation<F>>>,
}

/// A loss and the gradients that its forward made.
struct LossNode<F> {
    /// Unweighted, one per row; 0 for rows that do not count.
    rows: Vec<F>,
    /// Sum of weight x loss over rows, over the divisor.
    value: f64,
    to_values: Vec<(Value, Vec<F>)>,
    to_parameters: Vec<(ParameterId, Vec<F>)>,
    to_rows: Vec<ToRows<F>>,
}

/// What operations see on the way back.
struct Reverse<'r, F: Real> {
    parameters: &'r Parameters<F>,
    nodes: &'r [Node<F>],
    gradients: &'r mut [Option<Vec<F>>],
    weights: Option<&'r mut Gradients<F>>,
    workspace: &'r mut Workspace<F>,
    capture: Option<&'r mut dyn Capture<F>>,
    row_keys: &'r [u64],
}

impl<'r, F: Real> Reverse<'r, F> {
    fn value(&self, value: Value) -> &'r [F] {
        &self.nodes[value.0].value
    }

    fn needs(&self, value: Value) -> bool {
        self.nodes[value.0].needs_gradient
    }

    /// Adds to the gradient of an input. The first to give one gives its buffer away.
    fn give(&mut self, value: Value, gradient: Vec<F>) {
        if !self.needs(value) {
            self.workspace.give(gradient);
            return;
        }
        match &mut self.gradients[value.0] {
            Some(sum) => {
                add_to(sum, &gradient);
                self.workspace.give(gradient);
            }
            none => *none = Some(gradient),
        }
    }

    /// The gradient of a parameter, if it is wanted.
    fn weight(&mut self, id: ParameterId) -> Option<&mut [F]> {
        self.weights.as_deref_mut().map(|all| all.get_mut(id))
    }
}

/// The key of a row; rows beyond those with keys have their index.
fn row_key(keys: &[u64], row: usize) -> u64 {
    keys.get(row).copied().unwrap_or(row as u64)
}

/// One forward pass.
pub struct Tape<'a, F: Real> {
    parameters: &'a Parameters<F>,
    context: Context<'a, F>,
    workspace: Workspace<F>,
    home: Option<&'a mut Workspace<F>>,
    nodes: Vec<Node<F>>,
    losses: Vec<LossNode<F>>,
}

impl<'a, F: Real> Tape<'a, F> {
    /// A tape with buffers of its own.
    pub fn new(parameters: &'a Parameters<F>, context: Context<'a, F>) -> Self {
        Self {
            parameters,
            context,
            workspace: Workspace::new(),
            home: None,
            nodes: Vec::new(),
            losses: Vec::new(),
        }
    }

    /// A tape with the buffers of earlier ones, which it gives back when it is dropped.
    pub fn with_workspace(
        parameters: &'a Parameters<F>,
        context: Context<'a, F>,
        workspace: &'a mut Workspace<F>,
    ) -> Self {
        let mut tape = Self::new(parameters, context);
        tape.workspace = std::mem::take(workspace);
        tape.home = Some(workspace);
        tape
    }

    /// A matrix that nothing is learned from.
    pub fn constant(&mut self, rows: usize, columns: usize, data: Vec<F>) -> Value {
        require(data.len() == rows * columns, || {
            format!("{} numbers are no {rows} x {columns}", data.len())
        });
        let value = self.push(data, rows, columns, false, None);
        self.nodes[value.0].lent = false;
        value
    }

    /// A parameter as a matrix of its shape.
    pub fn parameter(&mut self, id: ParameterId) -> Value {
        struct Copied(ParameterId);
        impl<F: Real> Operation<F> for Copied {
            fn backward(
                self: Box<Self>,
                _output: &[F],
                gradient: Vec<F>,
                reverse: &mut Reverse<'_, F>,
            ) {
                if let Some(sum) = reverse.weight(self.0) {
                    add_to(sum, &gradient);
                }
                reverse.workspace.give(gradient);
            }
        }
        let [rows, columns] = self.parameters.shape(id);
        let value = self.workspace.copy(self.parameters.get(id));
        self.push(value, rows, columns, true, Some(Box::new(Copied(id))))
    }

    /// The numbers of a value, row after row; empty after `backward`.
    pub fn value(&self, value: Value) -> &[F] {
        &self.nodes[value.0].value
    }

    /// [rows, columns].
    pub fn shape(&self, value: Value) -> [usize; 2] {
        let node = &self.nodes[value.0];
        [node.rows, node.columns]
    }

    /// The loss of each row, before weights and divisor; 0 for rows that do not count.
    pub fn loss_rows(&self, loss: Loss) -> &[F] {
        &self.losses[loss.0].rows
    }

    /// Sum over rows of weight x loss, over the divisor; summed in double precision, in order.
    pub fn loss_value(&self, loss: Loss) -> f64 {
        self.losses[loss.0].value
    }

    /// Adds the gradient of the sum of some losses to `gradients`, and ends the tape: values are
    /// gone afterwards, losses stay.
    pub fn backward(&mut self, losses: &[Loss], gradients: &mut Gradients<F>) {
        self.backward_from(losses, Vec::new(), gradients);
    }

    /// As [`Tape::backward`], with further gradients of values, each of the value's shape: those
    /// of a function that the tape does not know.
    pub fn backward_from(
        &mut self,
        losses: &[Loss],
        seeds: Vec<(Value, Vec<F>)>,
        gradients: &mut Gradients<F>,
    ) {
        let mut node_gradients: Vec<Option<Vec<F>>> = self.nodes.iter().map(|_| None).collect();
        let mut nodes = std::mem::take(&mut self.nodes);
        let mut weights = self.context.weight_gradients.then_some(gradients);
        let start = |reverse: &mut Reverse<'_, F>, value: Value, gradient: Vec<F>| {
            require(gradient.len() == reverse.value(value).len(), || {
                "a gradient of another shape than its value".to_owned()
            });
            reverse.give(value, gradient);
        };
        let mut reverse = Reverse {
            parameters: self.parameters,
            nodes: &nodes,
            gradients: &mut node_gradients,
            weights: weights.as_deref_mut(),
            workspace: &mut self.workspace,
            capture: None,
            row_keys: self.context.row_keys,
        };
        for (value, gradient) in seeds {
            let gradient = reverse.workspace.copy(&gradient);
            start(&mut reverse, value, gradient);
        }
        for loss in losses {
            let node = &mut self.losses[loss.0];
            for (value, gradient) in std::mem::take(&mut node.to_values) {
                start(&mut reverse, value, gradient);
            }
            for (id, gradient) in std::mem::take(&mut node.to_parameters) {
                if let Some(sum) = reverse.weight(id) {
                    add_to(sum, &gradient);
                }
                reverse.workspace.give(gradient);
            }
            for gradient in std::mem::take(&mut node.to_rows) {
                gradient.give(&mut reverse);
            }
        }
        let row_keys = self.context.row_keys;
        for index in (0..nodes.len()).rev() {
            let (earlier, rest) = nodes.split_at_mut(index);
            let node = &mut rest[0];
            let value = std::mem::take(&mut node.value);
            if let (Some(gradient), Some(operation)) =
                (node_gradients[index].take(), node.operation.take())
            {
                let mut reverse = Reverse {
                    parameters: self.parameters,
                    nodes: earlier,
                    gradients: &mut node_gradients,
                    weights: weights.as_deref_mut(),
                    workspace: &mut self.workspace,
                    capture: self.context.listener(),
                    row_keys,
                };
                operation.backward(&value, gradient, &mut reverse);
            }
            if node.lent {
                self.workspace.give(value);
            }
        }
        self.nodes = nodes;
    }

    fn push(
        &mut self,
        value: Vec<F>,
        rows: usize,
        columns: usize,
        needs_gradient: bool,
        operation: Option<Box<dyn Operation<F>>>,
    ) -> Value {
        let needs_gradient = needs_gradient && self.context.backward;
        self.nodes.push(Node {
            value,
            rows,
            columns,
            needs_gradient,
            lent: true,
            operation: operation.filter(|_| needs_gradient),
        });
        Value(self.nodes.len() - 1)
    }

    fn push_loss(&mut self, rows: Vec<F>, weights: &[F], divisor: f64) -> Loss {
        let value: f64 = rows
            .iter()
            .zip(weights)
            .map(|(loss, weight)| loss.to_f64() * weight.to_f64())
            .sum();
        self.losses.push(LossNode {
            rows,
            value: value / divisor,
            to_values: Vec::new(),
            to_parameters: Vec::new(),
            to_rows: Vec::new(),
        });
        Loss(self.losses.len() - 1)
    }

    fn needs(&self, value: Value) -> bool {
        self.nodes[value.0].needs_gradient
    }
}

impl<F: Real> Drop for Tape<'_, F> {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            for node in std::mem::take(&mut self.nodes) {
                if node.lent {
                    self.workspace.give(node.value);
                }
            }
            for loss in std::mem::take(&mut self.losses) {
                self.workspace.give(loss.rows);
                let to_values = loss.to_values.into_iter().map(|(_, buffer)| buffer);
                let to_parameters = loss.to_parameters.into_iter().map(|(_, buffer)| buffer);
                for buffer in to_values.chain(to_parameters) {
                    self.workspace.give(buffer);
                }
            }
            *home = std::mem::take(&mut self.workspace);
        }
    }
}
