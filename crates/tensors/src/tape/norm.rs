//! Layer norm.

use rayon::prelude::*;

use super::{Operation, Reverse, Tape, Value};
use crate::kernels::{add_in_order, block_rows, dot, split_rows, sum_blocks, sum_by, vectorised};
use crate::require::require;
use crate::{ParameterId, Real};

struct LayerNorm<F> {
    x: Value,
    gain: ParameterId,
    bias: ParameterId,
    /// Mean and inverse standard deviation of each row.
    moments: Vec<F>,
}

impl<F: Real> Tape<'_, F> {
    /// `(x - mean) / sqrt(variance + epsilon) * gain + bias` by row; gain and bias [1, columns]
    /// (Ba, Kiros and Hinton 2016).
    pub fn layer_norm(
        &mut self,
        x: Value,
        gain: ParameterId,
        bias: ParameterId,
        epsilon: f64,
    ) -> Value {
        let [rows, columns] = self.shape(x);
        let gains = self.parameters.get(gain);
        let biases = self.parameters.get(bias);
        require(gains.len() == columns && biases.len() == columns, || {
            let name = self.parameters.name(gain);
            format!("`{name}` has not {columns} columns")
        });
        let mut out = self.workspace.take(rows * columns);
        let mut moments = self.workspace.take(rows * 2);
        let input = &self.nodes[x.0].value;
        let block = block_rows(rows).max(1);
        let share = F::ONE / F::of(columns.max(1) as f64);
        out.par_chunks_mut((block * columns).max(1))
            .zip(input.par_chunks((block * columns).max(1)))
            .zip(moments.par_chunks_mut(block * 2))
            .for_each(|((out, input), moments)| {
                vectorised(
                    #[inline(always)]
                    || {
                        let rows = out
                            .chunks_exact_mut(columns)
                            .zip(input.chunks_exact(columns));
                        for ((out, x), moments) in rows.zip(moments.chunks_exact_mut(2)) {
                            let mean = sum_by(x, |x| x) * share;
                            let variance = sum_by(x, |x| (x - mean) * (x - mean)) * share;
                            let inverse = F::ONE / (variance + F::of(epsilon)).root();
                            moments[0] = mean;
                            moments[1] = inverse;
                            for (((out, &x), &gain), &bias) in
                                out.iter_mut().zip(x).zip(gains).zip(biases)
                            {
                                *out = ((x - mean) * inverse).fma(gain, bias);
                            }
                        }
                    },
                );
            });
        let operation = LayerNorm {
            x,
            gain,
            bias,
            moments,
        };
        self.push(out, rows, columns, true, Some(Box::new(operation)))
    }
}

impl<F: Real> Operation<F> for LayerNorm<F> {
    fn backward(
        self: Box<Self>,
        _output: &[F],
        mut gradient: Vec<F>,
        reverse: &mut Reverse<'_, F>,
    ) {
        let gains = reverse.parameters.get(self.gain);
        let columns = gains.len();
        let rows = gradient.len() / columns.max(1);
        let input = reverse.value(self.x);
        if let Some(capture) = &mut reverse.capture {
            let mut normalised = input.to_vec();
            let moments = self.moments.chunks_exact(2);
            for (row, moments) in normalised.chunks_exact_mut(columns).zip(moments) {
                for x in row {
                    *x = (*x - moments[0]) * moments[1];
                }
            }
            capture.norm(reverse.parameters.name(self.gain), &normalised, &gradient);
            capture.bias(reverse.parameters.name(self.bias), &gradient, rows);
        }
        let share = F::ONE / F::of(columns.max(1) as f64);
        let blocks = sum_blocks(rows);
        let parts: Vec<(Vec<F>, Vec<F>)> = blocks
            .par_iter()
            .zip(split_rows(&mut gradient, &blocks, columns))
            .map(|(block, gradient)| {
                let mut gain_sum = vec![F::ZERO; columns];
                let mut bias_sum = vec![F::ZERO; columns];
                let mut normalised = vec![F::ZERO; columns];
                vectorised(
                    #[inline(always)]
                    || {
                        let input = &input[block.start * columns..block.end * columns];
                        let moments = &self.moments[block.start * 2..block.end * 2];
                        for ((gradient, x), moments) in gradient
                            .chunks_exact_mut(columns)
                            .zip(input.chunks_exact(columns))
                            .zip(moments.chunks_exact(2))
                        {
                            let (mean, inverse) = (moments[0], moments[1]);
                            for (n, &x) in normalised.iter_mut().zip(x) {
                                *n = (x - mean) * inverse;
                            }
                            for (sum, &g) in bias_sum.iter_mut().zip(&*gradient) {
                                *sum += g;
                            }
                            for ((sum, g), (&n, &gain)) in gain_sum
                                .iter_mut()
                                .zip(gradient.iter_mut())
                                .zip(normalised.iter().zip(gains))
                            {
                                *sum = g.fma(n, *sum);
                                *g *= gain;
                            }
                            let mean_gradient = sum_by(gradient, |g| g) * share;
                            let along = dot(gradient, &normalised) * share;
                            for (g, &n) in gradient.iter_mut().zip(&normalised) {
                                *g = (*g - mean_gradient - n * along) * inverse;
                            }
                        }
                    },
                );
                (gain_sum, bias_sum)
            })
            .collect();
        let (gain_parts, bias_parts): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        if let Some(sum) = reverse.weight(self.gain) {
            add_in_order(sum, &gain_parts);
        }
        if let Some(sum) = reverse.weight(self.bias) {
            add_in_order(sum, &bias_parts);
        }
        reverse.workspace.give(self.moments);
        reverse.give(self.x, gradient);
    }
}
