//! Weighted sums of rows of a table.

use rayon::prelude::*;

use super::embedding::RANGES;
use super::{Operation, PADDING, Reverse, Tape, Value};
use crate::csr::Csr;
use crate::kernels::{add_scaled, block_rows, ranges, split_rows, vectorised};
use crate::require::require;
use crate::{ParameterId, Real};

struct SparseRows<F> {
    table: ParameterId,
    /// Where the rows of the table begin that each row sums, and where the last row's end.
    starts: Vec<usize>,
    ids: Vec<u32>,
    weights: Vec<F>,
    columns: usize,
}

impl<F: Real> Tape<'_, F> {
    /// For each of some rows of a sparse matrix, the sum of the rows of a table that it weighs:
    /// `matrix[rows] table`, [rows, columns of the table]. [`PADDING`] gives zeros.
    pub fn sparse_rows(&mut self, table: ParameterId, matrix: &Csr, rows: &[u32]) -> Value {
        let [n, columns] = self.parameters.shape(table);
        let outside = rows
            .iter()
            .find(|&&row| row != PADDING && row as usize >= matrix.n_rows());
        require(matrix.n_columns == n && outside.is_none(), || {
            let (n_rows, n_columns) = (matrix.n_rows(), matrix.n_columns);
            format!("{n_rows} x {n_columns} do not fit {n} rows, or have no row {outside:?}")
        });
        let mut operation = SparseRows {
            table,
            starts: vec![0],
            ids: Vec::new(),
            weights: Vec::new(),
            columns,
        };
        for &row in rows {
            if row != PADDING {
                let (ids, weights) = matrix.row(row as usize);
                operation.ids.extend(ids);
                let weights = weights.iter().map(|&weight| F::of(f64::from(weight)));
                operation.weights.extend(weights);
            }
            operation.starts.push(operation.ids.len());
        }
        let mut out = self.workspace.zeros(rows.len() * columns);
        let values = self.parameters.get(table);
        let block = block_rows(rows.len()).max(1);
        out.par_chunks_mut((block * columns).max(1))
            .enumerate()
            .for_each(|(index, out)| {
                vectorised(
                    #[inline(always)]
                    || {
                        let rows = (index * block..).zip(out.chunks_exact_mut(columns.max(1)));
                        for (row, out) in rows {
                            for (id, weight) in operation.summands(row) {
                                let value = &values[id * columns..][..columns];
                                add_scaled(out, weight, value);
                            }
                        }
                    },
                );
            });
        self.scale_input(&mut out);
        self.push(out, rows.len(), columns, true, Some(Box::new(operation)))
    }
}

impl<F: Real> SparseRows<F> {
    fn n_rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Rows of the table that a row sums, with their weights.
    fn summands(&self, row: usize) -> impl Iterator<Item = (usize, F)> {
        let range = self.starts[row]..self.starts[row + 1];
        let ids = self.ids[range.clone()].iter().map(|&id| id as usize);
        ids.zip(self.weights[range].iter().copied())
    }

    /// The summand of each row at one place, [`PADDING`] where it has fewer, and its weight times
    /// the row of the gradient.
    fn place(&self, place: usize, gradient: &[F]) -> (Vec<u32>, Vec<F>) {
        let mut ids = vec![PADDING; self.n_rows()];
        let mut scaled = vec![F::ZERO; gradient.len()];
        for (row, (id, scaled)) in ids
            .iter_mut()
            .zip(scaled.chunks_exact_mut(self.columns.max(1)))
            .enumerate()
        {
            let at = self.starts[row] + place;
            if at < self.starts[row + 1] {
                *id = self.ids[at];
                let gradient = &gradient[row * self.columns..][..self.columns];
                add_scaled(scaled, self.weights[at], gradient);
            }
        }
        (ids, scaled)
    }
}

impl<F: Real> Operation<F> for SparseRows<F> {
    fn backward(self: Box<Self>, _output: &[F], gradient: Vec<F>, reverse: &mut Reverse<'_, F>) {
        let columns = self.columns;
        if let Some(capture) = &mut reverse.capture {
            // A table that is used several times is reported several times.
            let pairs = self.starts.iter().zip(self.starts.iter().skip(1));
            let most = pairs.map(|(start, end)| end - start).max().unwrap_or(0);
            for place in 0..most {
                let (ids, scaled) = self.place(place, &gradient);
                capture.embedding(reverse.parameters.name(self.table), &ids, &scaled);
            }
        }
        if columns > 0
            && let Some(sum) = reverse.weight(self.table)
        {
            // A row of the table belongs to one range, so its sum has one order.
            let blocks = ranges(sum.len() / columns, RANGES);
            split_rows(sum, &blocks, columns)
                .into_par_iter()
                .zip(&blocks)
                .for_each(|(table, block)| {
                    vectorised(
                        #[inline(always)]
                        || {
                            for (row, gradient) in gradient.chunks_exact(columns).enumerate() {
                                for (id, weight) in self.summands(row) {
                                    if block.contains(&id) {
                                        let start = (id - block.start) * columns;
                                        let to = &mut table[start..start + columns];
                                        add_scaled(to, weight, gradient);
                                    }
                                }
                            }
                        },
                    );
                });
        }
        reverse.workspace.give(gradient);
    }
}
