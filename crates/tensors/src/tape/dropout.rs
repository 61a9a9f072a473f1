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
    /// Rows of the batch that the rows of `x` are; `None` if they are all of it.
    rows: Option<Vec<u32>>,
}

/// The key of a row of `x`, which holds the given rows of the batch or all of it.
fn key(keys: &[u64], rows: Option<&[u32]>, row: usize) -> u64 {
    row_key(keys, rows.map_or(row, |rows| rows[row] as usize))
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
        self.dropout_add_at(x, residual, probability, name, None)
    }

    /// As [`Tape::dropout_add`], where `x` holds some rows of the batch, one for each of `rows`, as
    /// [`Tape::gather_rows`] gives them: each is dropped as it would be among all.
    pub fn dropout_add_at(
        &mut self,
        x: Value,
        residual: Option<Value>,
        probability: f64,
        name: &str,
        rows: Option<&[u32]>,
    ) -> Value {
        require(
            rows.is_none_or(|rows| rows.len() == self.shape(x)[0]),
            || format!("`{name}` drops other rows than it is given"),
        );
        let dropout = Dropout::new(self.context.dropout, name, probability);
        let Some(residual) = residual else {
            if dropout.is_none() {
                return x;
            }
            return self.drop_and_add(x, None, dropout, rows);
        };
        require(self.shape(x) == self.shape(residual), || {
            format!(
                "`{name}` adds {:?} to {:?}",
                self.shape(x),
                self.shape(residual)
            )
        });
        self.drop_and_add(x, Some(residual), dropout, rows)
    }

    fn drop_and_add(
        &mut self,
        x: Value,
        residual: Option<Value>,
        dropout: Option<Dropout>,
        of_batch: Option<&[u32]>,
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
                            let keep = dropout.map(|dropout| dropout.row(key(keys, of_batch, row)));
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
            rows: of_batch.map(<[u32]>::to_vec),
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
            let rows = self.rows.as_deref();
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
                                let keep = keep.map(|dropout| dropout.row(key(keys, rows, row)));
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
