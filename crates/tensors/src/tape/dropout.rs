//! Dropout with a residual connection.

use rayon::prelude::*;

use super::{Operation, Reverse, Tape, Value, row_key};
use crate::Real;
use crate::kernels::{Dropout, block_rows, vectorised};
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
        let mut out = match residual {
            Some(residual) => self.workspace.copy(&self.nodes[residual.0].value),
            None => self.workspace.zeros(rows * columns),
        };
        let input = &self.nodes[x.0].value;
        let keys = self.context.row_keys;
        let block = block_rows(rows).max(1);
        out.par_chunks_mut((block * columns).max(1))
            .zip(input.par_chunks((block * columns).max(1)))
            .enumerate()
            .for_each(|(index, (out, input))| {
                vectorised(
                    #[inline(always)]
                    || {
                        let rows = out
                            .chunks_exact_mut(columns)
                            .zip(input.chunks_exact(columns));
                        for (row, (out, input)) in (index * block..).zip(rows) {
                            match dropout {
                                Some(dropout) => {
                                    let keep = dropout.row::<F>(row_key(keys, row));
                                    let pairs = out.iter_mut().zip(input);
                                    for (column, (out, &x)) in (0_u32..).zip(pairs) {
                                        *out = x.fma(keep.factor(column), *out);
                                    }
                                }
                                None => {
                                    for (out, &x) in out.iter_mut().zip(input) {
                                        *out += x;
                                    }
                                }
                            }
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
            let mut inner = reverse.workspace.copy(&gradient);
            if let Some(dropout) = self.dropout {
                let keys = reverse.row_keys;
                inner
                    .par_chunks_mut(self.columns.max(1))
                    .enumerate()
                    .with_min_len(64)
                    .for_each(|(row, inner)| dropout.apply(row_key(keys, row), inner));
            }
            reverse.give(self.x, inner);
        }
        match self.residual {
            Some(residual) => reverse.give(residual, gradient),
            None => reverse.workspace.give(gradient),
        }
    }
}
