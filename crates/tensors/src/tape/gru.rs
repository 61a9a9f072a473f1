//! Gated recurrent unit (Cho et al. 2014, with the reset gate after the product, as in cuDNN and
//! `PyTorch`).
//!
//! Sequences are independent: a fixed number of them is one unit of parallel work, which runs
//! through all steps on one thread.

use rayon::prelude::*;

use super::{Activation, Operation, Reverse, Tape, Value};
use crate::kernels::{Matrix, add_column_sums, add_product_over_rows, multiply, vectorised};
use crate::require::require;
use crate::{ParameterId, Real};

/// Sequences that run through the steps together.
const GROUP: usize = 32;

struct Gru<F> {
    /// W x + b for the three gates, [rows, 3 * columns].
    gates: Value,
    weight: ParameterId,
    bias: ParameterId,
    length: usize,
    columns: usize,
    valid: Vec<bool>,
    /// r, z, n and the hidden half of n before r, [rows, 4 * columns].
    kept: Vec<F>,
}

impl<F: Real> Tape<'_, F> {
    /// States of a GRU over sequences of `length` rows, from a state of zeros:
    /// x [batch * length, in], `w_input` [3 * columns, in], `w_hidden` [3 * columns, columns],
    /// biases [1, 3 * columns], result [batch * length, columns]. Gates in the order r, z, n:
    ///
    /// ```text
    /// r = s(W_r x + b_r + U_r h + c_r)    z = s(W_z x + b_z + U_z h + c_z)
    /// n = tanh(W_n x + b_n + r (U_n h + c_n))    h' = (1 - z) n + z h
    /// ```
    ///
    /// A row that is not valid keeps the state of the row before.
    #[expect(clippy::too_many_arguments, reason = "what a GRU is")]
    pub fn gru(
        &mut self,
        x: Value,
        length: usize,
        w_input: ParameterId,
        w_hidden: ParameterId,
        b_input: ParameterId,
        b_hidden: ParameterId,
        valid: &[bool],
    ) -> Value {
        let rows = self.shape(x)[0];
        let [packed, columns] = self.parameters.shape(w_hidden);
        require(
            length > 0
                && rows.is_multiple_of(length)
                && valid.len() == rows
                && packed == 3 * columns
                && self.parameters.shape(w_input)[0] == packed
                && self.parameters.get(b_hidden).len() == packed,
            || format!("a GRU of {packed} x {columns} over {length} in {rows} rows"),
        );
        let gates = self.linear(x, w_input, Some(b_input), Activation::None);
        let mut out = self.workspace.take(rows * columns);
        let mut kept = self.workspace.take(rows * 4 * columns);
        let weights = self.parameters.get(w_hidden);
        let biases = self.parameters.get(b_hidden);
        let group = GROUP * length;
        out.par_chunks_mut((group * columns).max(1))
            .zip(kept.par_chunks_mut((group * 4 * columns).max(1)))
            .zip(
                self.nodes[gates.0]
                    .value
                    .par_chunks((group * packed).max(1)),
            )
            .zip(valid.par_chunks(group))
            .for_each(|(((out, kept), gates), valid)| {
                let n = valid.len() / length;
                let mut state = vec![F::ZERO; n * columns];
                let mut hidden = vec![F::ZERO; n * packed];
                for step in 0..length {
                    multiply(
                        Matrix::new(&state, n, columns),
                        Matrix::new(weights, packed, columns).transposed(),
                        &mut hidden,
                        packed,
                        false,
                        F::ONE,
                    );
                    vectorised(
                        #[inline(always)]
                        || {
                            for sequence in 0..n {
                                let row = sequence * length + step;
                                let state = &mut state[sequence * columns..][..columns];
                                let out = &mut out[row * columns..][..columns];
                                let kept = &mut kept[row * 4 * columns..][..4 * columns];
                                if valid[row] {
                                    let hidden = &mut hidden[sequence * packed..][..packed];
                                    for (x, &b) in hidden.iter_mut().zip(biases) {
                                        *x += b;
                                    }
                                    advance(&gates[row * packed..][..packed], hidden, state, kept);
                                } else {
                                    kept.fill(F::ZERO);
                                }
                                out.copy_from_slice(state);
                            }
                        },
                    );
                }
            });
        let operation = Gru {
            gates,
            weight: w_hidden,
            bias: b_hidden,
            length,
            columns,
            valid: valid.to_vec(),
            kept,
        };
        self.push(out, rows, columns, true, Some(Box::new(operation)))
    }
}

/// One step of one sequence.
#[inline(always)]
fn advance<F: Real>(gates: &[F], hidden: &[F], state: &mut [F], kept: &mut [F]) {
    let columns = state.len();
    let (x_r, x_rest) = gates.split_at(columns);
    let (x_z, x_n) = x_rest.split_at(columns);
    let (h_r, h_rest) = hidden.split_at(columns);
    let (h_z, h_n) = h_rest.split_at(columns);
    let (kept_r, rest) = kept.split_at_mut(columns);
    let (kept_z, rest) = rest.split_at_mut(columns);
    let (kept_n, kept_h) = rest.split_at_mut(columns);
    kept_h.copy_from_slice(h_n);
    for ((kept, &x), &h) in kept_r.iter_mut().zip(x_r).zip(h_r) {
        *kept = (x + h).logistic();
    }
    for ((kept, &x), &h) in kept_z.iter_mut().zip(x_z).zip(h_z) {
        *kept = (x + h).logistic();
    }
    for (((kept, &x), &h), &r) in kept_n.iter_mut().zip(x_n).zip(h_n).zip(&*kept_r) {
        *kept = r.fma(h, x).hyperbolic_tangent();
    }
    for ((state, &z), &n) in state.iter_mut().zip(&*kept_z).zip(&*kept_n) {
        *state = z.fma(*state - n, n);
    }
}

/// One step back: `carried` is the gradient of the new state, and becomes what passes it by.
#[inline(always)]
fn retreat<F: Real>(
    kept: &[F],
    before: &[F],
    carried: &mut [F],
    to_gates: &mut [F],
    to_hidden: &mut [F],
) {
    let columns = before.len();
    let (r, rest) = kept.split_at(columns);
    let (z, rest) = rest.split_at(columns);
    let (n, h) = rest.split_at(columns);
    let (gate_r, rest) = to_gates.split_at_mut(columns);
    let (gate_z, gate_n) = rest.split_at_mut(columns);
    let hidden_n = &mut to_hidden[2 * columns..];
    for k in 0..columns {
        let to_state = carried[k];
        let (r, z, n) = (r[k], z[k], n[k]);
        let to_n = to_state * (F::ONE - z) * (F::ONE - n * n);
        gate_n[k] = to_n;
        hidden_n[k] = to_n * r;
        gate_r[k] = to_n * h[k] * r * (F::ONE - r);
        gate_z[k] = to_state * (before[k] - n) * z * (F::ONE - z);
        carried[k] = to_state * z;
    }
    to_hidden[..2 * columns].copy_from_slice(&to_gates[..2 * columns]);
}

impl<F: Real> Operation<F> for Gru<F> {
    fn backward(self: Box<Self>, output: &[F], gradient: Vec<F>, reverse: &mut Reverse<'_, F>) {
        let (columns, length) = (self.columns, self.length);
        let packed = 3 * columns;
        let rows = self.valid.len();
        let weights = reverse.parameters.get(self.weight);
        let mut to_gates = reverse.workspace.take(rows * packed);
        let mut to_hidden = reverse.workspace.take(rows * packed);
        // The state that each step started from.
        let mut before = reverse.workspace.zeros(rows * columns);
        for (before, states) in before
            .chunks_exact_mut((length * columns).max(1))
            .zip(output.chunks_exact((length * columns).max(1)))
        {
            before[columns..].copy_from_slice(&states[..states.len() - columns]);
        }
        let group = GROUP * length;
        to_gates
            .par_chunks_mut((group * packed).max(1))
            .zip(to_hidden.par_chunks_mut((group * packed).max(1)))
            .zip(gradient.par_chunks((group * columns).max(1)))
            .zip(before.par_chunks((group * columns).max(1)))
            .zip(self.kept.par_chunks((group * 4 * columns).max(1)))
            .zip(self.valid.par_chunks(group))
            .for_each(
                |(((((to_gates, to_hidden), gradient), before), kept), valid)| {
                    let n = valid.len() / length;
                    let mut carried = vec![F::ZERO; n * columns];
                    for step in (0..length).rev() {
                        vectorised(
                            #[inline(always)]
                            || {
                                for sequence in 0..n {
                                    let row = sequence * length + step;
                                    let carried = &mut carried[sequence * columns..][..columns];
                                    for (sum, &g) in
                                        carried.iter_mut().zip(&gradient[row * columns..])
                                    {
                                        *sum += g;
                                    }
                                    let to_gates = &mut to_gates[row * packed..][..packed];
                                    let to_hidden = &mut to_hidden[row * packed..][..packed];
                                    if valid[row] {
                                        let kept = &kept[row * 4 * columns..][..4 * columns];
                                        let before = &before[row * columns..][..columns];
                                        retreat(kept, before, carried, to_gates, to_hidden);
                                    } else {
                                        to_gates.fill(F::ZERO);
                                        to_hidden.fill(F::ZERO);
                                    }
                                }
                            },
                        );
                        let start = step * packed;
                        multiply(
                            Matrix::strided(&to_hidden[start..], n, packed, length * packed),
                            Matrix::new(weights, packed, columns),
                            &mut carried,
                            columns,
                            true,
                            F::ONE,
                        );
                    }
                },
            );
        if let Some(sum) = reverse.weight(self.weight) {
            add_product_over_rows(&to_hidden, packed, &before, columns, rows, sum);
        }
        if let Some(sum) = reverse.weight(self.bias) {
            add_column_sums(&to_hidden, packed, sum);
        }
        if let Some(capture) = &mut reverse.capture {
            let name = reverse.parameters.name(self.weight);
            capture.linear(name, &before, &to_hidden, rows);
            capture.bias(reverse.parameters.name(self.bias), &to_hidden, rows);
        }
        for buffer in [gradient, to_hidden, before, self.kept] {
            reverse.workspace.give(buffer);
        }
        reverse.give(self.gates, to_gates);
    }
}
