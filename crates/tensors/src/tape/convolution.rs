//! Convolution along a sequence: windows side by side, then a linear layer.

use rayon::prelude::*;

use super::{Activation, Operation, Reverse, Tape, Value};
use crate::kernels::vectorised;
use crate::require::require;
use crate::{ParameterId, Real};

/// Windows of `width` rows around each row of sequences of `length` rows.
#[derive(Clone, Copy)]
struct Window {
    x: Value,
    length: usize,
    width: usize,
    columns: usize,
    /// Rows of a window that lie before its own row.
    before: usize,
}

impl Window {
    /// Calls `f(at, tap, from)` for each row `at` and tap whose row `from` is in the sequence.
    fn each(&self, mut f: impl FnMut(usize, usize, usize)) {
        for at in 0..self.length {
            for tap in 0..self.width {
                let from = (at + tap).wrapping_sub(self.before);
                if from < self.length {
                    f(at, tap, from);
                }
            }
        }
    }
}

impl<F: Real> Tape<'_, F> {
    /// `activation(W [x_(t-before), ..] + b)` for each position t of sequences of `length` rows:
    /// x [batch * length, in], weight [out, width * in] with the taps in order of time, bias
    /// [1, out], result [batch * length, out]. `causal`: a position sees itself and the
    /// `width - 1` before; otherwise the window is centred, with the larger half after an even
    /// one. Beyond the ends of a sequence there are zeros.
    #[expect(clippy::too_many_arguments, reason = "what a convolution is")]
    pub fn convolution(
        &mut self,
        x: Value,
        length: usize,
        weight: ParameterId,
        bias: Option<ParameterId>,
        width: usize,
        causal: bool,
        activation: Activation,
    ) -> Value {
        let windows = self.windows(x, length, width, causal);
        self.linear(windows, weight, bias, activation)
    }

    /// The rows that a convolution sees, side by side: [batch * length, width * columns].
    pub fn windows(&mut self, x: Value, length: usize, width: usize, causal: bool) -> Value {
        let [rows, columns] = self.shape(x);
        require(width > 0 && length > 0 && rows % length == 0, || {
            format!("windows of {width} in sequences of {length} in {rows} rows")
        });
        let window = Window {
            x,
            length,
            width,
            columns,
            before: if causal { width - 1 } else { (width - 1) / 2 },
        };
        let mut out = self.workspace.zeros(rows * width * columns);
        out.par_chunks_mut((length * width * columns).max(1))
            .zip(self.nodes[x.0].value.par_chunks((length * columns).max(1)))
            .for_each(|(out, x)| {
                window.each(|at, tap, from| {
                    let start = (at * width + tap) * columns;
                    out[start..start + columns].copy_from_slice(&x[from * columns..][..columns]);
                });
            });
        let needs = self.needs(x);
        self.push(out, rows, width * columns, needs, Some(Box::new(window)))
    }
}

impl<F: Real> Operation<F> for Window {
    fn backward(self: Box<Self>, _output: &[F], gradient: Vec<F>, reverse: &mut Reverse<'_, F>) {
        let Self {
            length,
            width,
            columns,
            ..
        } = *self;
        let mut sum = reverse.workspace.zeros(gradient.len() / width);
        sum.par_chunks_mut((length * columns).max(1))
            .zip(gradient.par_chunks((length * width * columns).max(1)))
            .for_each(|(sum, gradient)| {
                vectorised(
                    #[inline(always)]
                    || {
                        self.each(|at, tap, from| {
                            let start = (at * width + tap) * columns;
                            let gradient = &gradient[start..start + columns];
                            for (sum, &g) in
                                sum[from * columns..][..columns].iter_mut().zip(gradient)
                            {
                                *sum += g;
                            }
                        });
                    },
                );
            });
        reverse.workspace.give(gradient);
        reverse.give(self.x, sum);
    }
}
