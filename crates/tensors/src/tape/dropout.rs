//! Dropout with a residual connection.

use rayon::prelude::*;

use super::{Operation, Reverse, Tape, Value, row_key};
use crate::Real;
use crate::kernels::{Dropout, Keep, PIECE, block_rows, vectorised};
use crate::require::require;

struct DropoutAdd {
    x: Value,
    residual: Option<Value>,
    dropout: Option<Dropout>,
    columns: usize,
}

impl<F: Real> Tape<'_, F> {
    /// `residual + dropout(x)`; `name` tells this dropout from others of the model.
    pub fn dropout_add(
        &mut self,
        x: Value,
        residual: Option<Value>,
        probability: f64,
        name: &str,
    ) -> Value {
        let dropout = Dropout::new(self.context.dropout, name, probability);
        let Some(residual) = residual else {
            if dropout.is_none() {
                return x;
            }
            return self.drop_and_add(x, None, dropout);
        };
        require(self.shape(x) == self.shape(residual), || {
            format!(
                "`{name}` adds {:?} to {:?}",
                self.shape(x),
                self.shape(residual)
            )
        });
        self.drop_and_add(x, Some(residual), dropout)
    }

    fn drop_and_add(
        &mut self,
        x: Value,
        residual: Option<Value>,
        dropout: Option<Dropout>,
    ) -> Value {
        let [rows, columns] = self.shape(x);
        let mut out = self.workspace.take(rows * columns);
        let input = &self.nodes[x.0].value;
        let residual_values = residual.map(|value| self.nodes[value.0].value.as_slice());
        let keys = self.context.row_keys;
        let block = block_rows(rows).max(1);
        out.par_chunks_mut((block * columns).max(1))
            .enumerate()
            .for_each(|(index, out)| {
                vectorised(
                    #[inline(always)]
                    || {
                        let first = index * block;
                        for (row, out) in (first..).zip(out.chunks_exact_mut(columns)) {
                            let range = row * columns..(row + 1) * columns;
                            let keep = dropout.map(|dropout| dropout.row(row_key(keys, row)));
                            let residual = residual_values.map(|values| &values[range.clone()]);
                            add_row(&input[range], residual, keep, out);
                        }
                    },
                );
            });
        let needs = self.needs(x) || residual.is_some_and(|value| self.needs(value));
        let operation = DropoutAdd {
            x,
            residual,
            dropout,
            columns,
        };
        self.push(out, rows, columns, needs, Some(Box::new(operation)))
    }
}

impl<F: Real> Operation<F> for DropoutAdd {
    fn backward(self: Box<Self>, _output: &[F], gradient: Vec<F>, reverse: &mut Reverse<'_, F>) {
        if reverse.needs(self.x) {
            let mut inner = reverse.workspace.take(gradient.len());
            let keys = reverse.row_keys;
            let columns = self.columns;
            let block = block_rows(gradient.len() / columns.max(1)).max(1);
            inner
                .par_chunks_mut((block * columns).max(1))
                .enumerate()
                .for_each(|(index, inner)| {
                    vectorised(
                        #[inline(always)]
                        || {
                            let first = index * block;
                            for (row, inner) in (first..).zip(inner.chunks_exact_mut(columns)) {
                                let gradient = &gradient[row * columns..(row + 1) * columns];
                                let keep = self.dropout;
                                let keep = keep.map(|dropout| dropout.row(row_key(keys, row)));
                                add_row(gradient, None, keep, inner);
                            }
                        },
                    );
                });
            reverse.give(self.x, inner);
        }
        match self.residual {
            Some(residual) => reverse.give(residual, gradient),
            None => reverse.workspace.give(gradient),
        }
    }
}

/// `out = residual + keep * x`, one row.
#[inline(always)]
fn add_row<F: Real>(x: &[F], residual: Option<&[F]>, keep: Option<Keep<F>>, out: &mut [F]) {
    let mut factors = [F::ONE; PIECE];
    for (at, out) in out.chunks_mut(PIECE).enumerate() {
        let range = at * PIECE..at * PIECE + out.len();
        if let Some(keep) = keep {
            keep.factors(at * PIECE, &mut factors);
        }
        let x = &x[range.clone()];
        match residual {
            Some(residual) => {
                let residual = &residual[range];
                for (((out, &x), &residual), &factor) in
                    out.iter_mut().zip(x).zip(residual).zip(&factors)
                {
                    *out = x.fma(factor, residual);
                }
            }
            None => {
                for ((out, &x), &factor) in out.iter_mut().zip(x).zip(&factors) {
                    *out = x * factor;
                }
            }
        }
    }
}
