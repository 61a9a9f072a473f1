//! Rows of tables.

use rayon::prelude::*;

use super::{Operation, PADDING, Reverse, Tape, Value, row_key};
use crate::kernels::{Dropout, add_scaled, block_rows, ranges, split_rows, vectorised};
use crate::require::require;
use crate::{ParameterId, Real};

/// Into how many ranges of rows a table is cut when gradients are added to it: a row belongs to
/// one range, so its sum has one order.
pub(super) const RANGES: usize = 16;

struct Embedding<F> {
    items: ParameterId,
    ids: Vec<u32>,
    positions: Option<(ParameterId, Vec<u32>)>,
    scale: F,
    dropout: Option<Dropout>,
    columns: usize,
}

impl<F: Real> Tape<'_, F> {
    /// Rows of a table, [ids, columns of the table]; [`PADDING`] gives zeros.
    pub fn embedding(&mut self, table: ParameterId, ids: &[u32]) -> Value {
        self.embed(table, ids, None, F::ONE, None)
    }

    /// `dropout(items[id] * scale + positions[position])`; a row whose id is [`PADDING`] is zero,
    /// and gives no gradient to either table.
    #[expect(clippy::too_many_arguments, reason = "one fused operation")]
    pub fn embedding_with_positions(
        &mut self,
        items: ParameterId,
        positions: ParameterId,
        ids: &[u32],
        position_ids: &[u32],
        scale: F,
        dropout: f64,
        name: &str,
    ) -> Value {
        let dropout = Dropout::new(self.context.dropout, name, dropout);
        self.embed(items, ids, Some((positions, position_ids)), scale, dropout)
    }

    fn embed(
        &mut self,
        items: ParameterId,
        ids: &[u32],
        positions: Option<(ParameterId, &[u32])>,
        scale: F,
        dropout: Option<Dropout>,
    ) -> Value {
        let columns = self.parameters.shape(items)[1];
        self.require_rows(items, ids);
        if let Some((table, position_ids)) = positions {
            require(
                self.parameters.shape(table)[1] == columns && position_ids.len() == ids.len(),
                || "positions of another shape than items".to_owned(),
            );
            let used = position_ids.iter().zip(ids);
            let used: Vec<u32> = used
                .map(|(&at, &id)| if id == PADDING { PADDING } else { at })
                .collect();
            self.require_rows(table, &used);
        }
        let mut out = self.workspace.take(ids.len() * columns);
        let table = self.parameters.get(items);
        let position_table = positions.map(|(table, at)| (self.parameters.get(table), at));
        let keys = self.context.row_keys;
        let block = block_rows(ids.len()).max(1);
        out.par_chunks_mut((block * columns).max(1))
            .enumerate()
            .for_each(|(index, out)| {
                vectorised(
                    #[inline(always)]
                    || {
                        let rows = (index * block..).zip(out.chunks_exact_mut(columns));
                        for (row, out) in rows {
                            let id = ids[row];
                            if id == PADDING {
                                out.fill(F::ZERO);
                                continue;
                            }
                            let item = &table[id as usize * columns..][..columns];
                            for (out, &x) in out.iter_mut().zip(item) {
                                *out = x * scale;
                            }
                            if let Some((table, at)) = position_table {
                                let position = &table[at[row] as usize * columns..][..columns];
                                for (out, &x) in out.iter_mut().zip(position) {
                                    *out += x;
                                }
                            }
                            if let Some(dropout) = dropout {
                                dropout.row::<F>(row_key(keys, row)).apply(out);
                            }
                        }
                    },
                );
            });
        self.scale_input(&mut out);
        let operation = Embedding {
            items,
            ids: ids.to_vec(),
            positions: positions.map(|(table, at)| (table, at.to_vec())),
            scale,
            dropout,
            columns,
        };
        self.push(out, ids.len(), columns, true, Some(Box::new(operation)))
    }

    /// Brings a part of the input nearer to nothing, where that is asked for.
    pub(super) fn scale_input(&self, input: &mut [F]) {
        if self.context.input_scale < 1.0 {
            let scale = F::of(self.context.input_scale);
            for x in input {
                *x *= scale;
            }
        }
    }

    fn require_rows(&self, table: ParameterId, ids: &[u32]) {
        let rows = self.parameters.shape(table)[0];
        let outside = ids.iter().find(|&&id| id != PADDING && id as usize >= rows);
        require(outside.is_none(), || {
            let name = self.parameters.name(table);
            format!("`{name}` has {rows} rows and no row {outside:?}")
        });
    }
}

impl<F: Real> Operation<F> for Embedding<F> {
    fn backward(
        self: Box<Self>,
        _output: &[F],
        mut gradient: Vec<F>,
        reverse: &mut Reverse<'_, F>,
    ) {
        let columns = self.columns;
        let keys = reverse.row_keys;
        let ids = &self.ids;
        gradient
            .par_chunks_mut(columns.max(1))
            .enumerate()
            .with_min_len(64)
            .for_each(|(row, gradient)| {
                if ids[row] == PADDING {
                    gradient.fill(F::ZERO);
                } else if let Some(dropout) = self.dropout {
                    dropout.apply(row_key(keys, row), gradient);
                }
            });
        if let Some(capture) = &mut reverse.capture {
            let mut scaled = gradient.clone();
            for g in &mut scaled {
                *g *= self.scale;
            }
            capture.embedding(reverse.parameters.name(self.items), ids, &scaled);
            if let Some((table, at)) = &self.positions {
                let used: Vec<u32> = at
                    .iter()
                    .zip(ids)
                    .map(|(&at, &id)| if id == PADDING { PADDING } else { at })
                    .collect();
                capture.embedding(reverse.parameters.name(*table), &used, &gradient);
            }
        }
        if let Some(sum) = reverse.weight(self.items) {
            add_rows(sum, ids, ids, &gradient, columns, self.scale);
        }
        if let Some((table, at)) = &self.positions
            && let Some(sum) = reverse.weight(*table)
        {
            add_rows(sum, at, ids, &gradient, columns, F::ONE);
        }
        reverse.workspace.give(gradient);
    }
}

/// `table[id] += scale * row` for each row whose mark is not padding, in the order of rows.
pub(super) fn add_rows<F: Real>(
    table: &mut [F],
    ids: &[u32],
    marks: &[u32],
    rows: &[F],
    columns: usize,
    scale: F,
) {
    if columns == 0 {
        return;
    }
    let blocks = ranges(table.len() / columns, RANGES);
    split_rows(table, &blocks, columns)
        .into_par_iter()
        .zip(&blocks)
        .for_each(|(table, block)| {
            vectorised(
                #[inline(always)]
                || {
                    for ((&id, &mark), row) in ids.iter().zip(marks).zip(rows.chunks_exact(columns))
                    {
                        let id = id as usize;
                        if mark != PADDING && block.contains(&id) {
                            let start = (id - block.start) * columns;
                            add_scaled(&mut table[start..start + columns], scale, row);
                        }
                    }
                },
            );
        });
}
