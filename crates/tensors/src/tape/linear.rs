//! Linear layers with bias and activation.

use rayon::prelude::*;

use super::{Operation, Reverse, Tape, Value};
use crate::kernels::{
    Matrix, add_in_order, block_rows, multiply, split_rows, sum_blocks, vectorised,
};
use crate::require::require;
use crate::{ParameterId, Real};

/// What a linear layer or convolution ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// max(0, x).
    Relu,
    /// x Phi(x) with the normal distribution function itself (Hendrycks and Gimpel 2016).
    Gelu,
    /// tanh(x).
    Tanh,
    /// 1 / (1 + e^-x).
    Sigmoid,
}

impl Activation {
    #[inline(always)]
    fn apply<F: Real>(self, row: &mut [F]) {
        match self {
            Self::None => {}
            Self::Relu => {
                for x in row {
                    *x = if *x < F::ZERO { F::ZERO } else { *x };
                }
            }
            Self::Gelu => {
                for x in row {
                    *x *= normal_distribution(*x);
                }
            }
            Self::Tanh => {
                for x in row {
                    *x = x.hyperbolic_tangent();
                }
            }
            Self::Sigmoid => {
                for x in row {
                    *x = x.logistic();
                }
            }
        }
    }

    /// Multiplies a gradient by the derivative. `kept` is the output, or for Gelu the input.
    #[inline(always)]
    fn reverse<F: Real>(self, gradient: &mut [F], kept: &[F]) {
        let pairs = gradient.iter_mut().zip(kept);
        match self {
            Self::None => {}
            Self::Relu => {
                for (g, &y) in pairs {
                    *g = if y > F::ZERO { *g } else { F::ZERO };
                }
            }
            Self::Gelu => {
                for (g, &x) in pairs {
                    let power = (-(x * x) * F::of(0.5)).exponential();
                    let density = power * F::of(0.398_942_280_401_432_7);
                    *g *= x.fma(density, normal_distribution(x));
                }
            }
            Self::Tanh => {
                for (g, &y) in pairs {
                    *g *= F::ONE - y * y;
                }
            }
            Self::Sigmoid => {
                for (g, &y) in pairs {
                    *g *= y * (F::ONE - y);
                }
            }
        }
    }
}

#[inline(always)]
fn normal_distribution<F: Real>(x: F) -> F {
    let half = F::of(0.5);
    (x * F::of(std::f64::consts::FRAC_1_SQRT_2))
        .error_function()
        .fma(half, half)
}

struct Linear<F> {
    x: Value,
    weight: ParameterId,
    bias: Option<ParameterId>,
    activation: Activation,
    /// The sum before a Gelu; empty for other activations.
    before: Vec<F>,
}

impl<F: Real> Tape<'_, F> {
    /// `activation(x W' + b)`: x [rows, in], W [out, in], b [1, out], result [rows, out].
    pub fn linear(
        &mut self,
        x: Value,
        weight: ParameterId,
        bias: Option<ParameterId>,
        activation: Activation,
    ) -> Value {
        let [rows, n_in] = self.shape(x);
        let [n_out, columns] = self.parameters.shape(weight);
        require(columns == n_in, || {
            let name = self.parameters.name(weight);
            format!("`{name}` has {columns} columns and its input {n_in}")
        });
        let bias_values = bias.map(|id| self.parameters.get(id));
        require(bias_values.is_none_or(|b| b.len() == n_out), || {
            format!("a bias of another size than {n_out}")
        });
        let mut out = self.workspace.take(rows * n_out);
        let keeps = activation == Activation::Gelu && self.context.backward;
        let mut before = self.workspace.take(if keeps { rows * n_out } else { 0 });
        let input = &self.nodes[x.0].value;
        let weights = self.parameters.get(weight);
        let block = block_rows(rows).max(1);
        let blocks: Vec<_> = (0..rows)
            .step_by(block)
            .map(|start| start..(start + block).min(rows))
            .collect();
        let before_blocks = split_rows(&mut before, &blocks, if keeps { n_out } else { 0 });
        blocks
            .par_iter()
            .zip(split_rows(&mut out, &blocks, n_out))
            .zip(before_blocks)
            .for_each(|((block, out), before)| {
                let n = block.len();
                multiply(
                    Matrix::new(&input[block.start * n_in..block.end * n_in], n, n_in),
                    Matrix::new(weights, n_out, n_in).transposed(),
                    out,
                    n_out,
                    false,
                    F::ONE,
                );
                vectorised(
                    #[inline(always)]
                    || {
                        if let Some(bias) = bias_values {
                            for row in out.chunks_exact_mut(n_out.max(1)) {
                                for (x, &b) in row.iter_mut().zip(bias) {
                                    *x += b;
                                }
                            }
                        }
                        before.copy_from_slice(&out[..before.len()]);
                        activation.apply(out);
                    },
                );
            });
        let operation = Linear {
            x,
            weight,
            bias,
            activation,
            before,
        };
        self.push(out, rows, n_out, true, Some(Box::new(operation)))
    }
}

impl<F: Real> Operation<F> for Linear<F> {
    fn backward(self: Box<Self>, output: &[F], mut gradient: Vec<F>, reverse: &mut Reverse<'_, F>) {
        let [n_out, n_in] = reverse.parameters.shape(self.weight);
        let input = reverse.value(self.x);
        let rows = gradient.len() / n_out.max(1);
        let weights = reverse.parameters.get(self.weight);
        let needs_input = reverse.needs(self.x);
        let needs_weights = reverse.weights.is_some();
        let width = if needs_input { n_in } else { 0 };
        let mut input_gradient = reverse.workspace.take(rows * width);
        let kept = if self.before.is_empty() {
            output
        } else {
            &self.before
        };
        let blocks = sum_blocks(rows);
        // One pass over each block while it is in the cache: activation, input, weight and bias.
        let parts: Vec<(Vec<F>, Vec<F>)> = blocks
            .par_iter()
            .zip(split_rows(&mut gradient, &blocks, n_out))
            .zip(split_rows(&mut input_gradient, &blocks, width))
            .map(|((block, gradient), input_gradient)| {
                let n = block.len();
                let mut bias = Vec::new();
                vectorised(
                    #[inline(always)]
                    || {
                        self.activation
                            .reverse(gradient, &kept[block.start * n_out..block.end * n_out]);
                        if needs_weights && self.bias.is_some() {
                            bias.resize(n_out, F::ZERO);
                            for row in gradient.chunks_exact(n_out.max(1)) {
                                for (sum, &x) in bias.iter_mut().zip(row) {
                                    *sum += x;
                                }
                            }
                        }
                    },
                );
                let output_gradient = Matrix::new(gradient, n, n_out);
                if needs_input {
                    let weights = Matrix::new(weights, n_out, n_in);
                    multiply(
                        output_gradient,
                        weights,
                        input_gradient,
                        n_in,
                        false,
                        F::ONE,
                    );
                }
                let mut weight = Vec::new();
                if needs_weights {
                    weight.resize(n_out * n_in, F::ZERO);
                    let input = &input[block.start * n_in..block.end * n_in];
                    let input = Matrix::new(input, n, n_in);
                    let left = output_gradient.transposed();
                    multiply(left, input, &mut weight, n_in, false, F::ONE);
                }
                (weight, bias)
            })
            .collect();
        let (weight_parts, bias_parts): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        if let Some(sum) = reverse.weight(self.weight) {
            add_in_order(sum, &weight_parts);
        }
        if let Some(bias) = self.bias
            && let Some(sum) = reverse.weight(bias)
        {
            add_in_order(sum, &bias_parts);
        }
        if let Some(capture) = &mut reverse.capture {
            let name = reverse.parameters.name(self.weight);
            capture.linear(name, input, &gradient, rows);
            if let Some(bias) = self.bias {
                capture.bias(reverse.parameters.name(bias), &gradient, rows);
            }
        }
        reverse.workspace.give(gradient);
        reverse.workspace.give(self.before);
        if needs_input {
            reverse.give(self.x, input_gradient);
        }
    }
}
