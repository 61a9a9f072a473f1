//! Scaled dot-product attention (Vaswani et al. 2017, eq. 1), several heads at once.
//!
//! A sequence is one unit of parallel work. Products read the packed matrix in strides: nothing is
//! transposed. Probabilities are kept for the way back, dropout is drawn again.

use std::ops::Range;

use rayon::prelude::*;

use super::{Operation, Reverse, Tape, Value, row_key};
use crate::Real;
use crate::context::AttentionShape;
use crate::kernels::{Dropout, Keep, Matrix, dot, exponentials, largest, multiply, vectorised};
use crate::require::require;

/// Queries that are worked on together: what none of them sees is skipped.
const BLOCK: usize = 64;
/// Rows of probabilities are padded to a multiple of this, so that loops over them need no
/// special end.
const REGISTER: usize = 16;

/// Which positions a position sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Itself and earlier ones.
    Causal,
    /// All of its sequence.
    Bidirectional,
}

/// How [`Tape::attention`] is run.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'s> {
    /// How many heads share the columns.
    pub heads: usize,
    /// Rows of a sequence.
    pub length: usize,
    /// Which positions a position sees.
    pub mask: Mask,
    /// One per row: whether it is no padding. Padding is not seen, and its output is zero.
    pub valid: &'s [bool],
    /// The share of probabilities that is dropped.
    pub dropout: f64,
    /// Tells this attention from others of the model.
    pub name: &'s str,
}

/// How [`Tape::cross_attention`] is run.
#[derive(Clone, Copy, Debug)]
pub struct CrossAttention<'s> {
    /// How many heads share the columns.
    pub heads: usize,
    /// Query rows of a sequence.
    pub queries: usize,
    /// Key rows of a sequence.
    pub keys: usize,
    /// One per query row: whether it is no padding.
    pub valid_queries: &'s [bool],
    /// One per key row.
    pub valid_keys: &'s [bool],
    /// The share of probabilities that is dropped.
    pub dropout: f64,
    /// Tells this attention from others of the model.
    pub name: &'s str,
}

/// Where things lie.
#[derive(Clone, Copy)]
struct Layout {
    heads: usize,
    /// Columns of a head.
    width: usize,
    queries: usize,
    keys: usize,
    causal: bool,
    query_stride: usize,
    key_stride: usize,
    key_start: usize,
    value_start: usize,
    /// Numbers between rows of probabilities: whole registers, so that rows need no special end.
    padded_keys: usize,
}

struct Attend<F> {
    name: String,
    query: Value,
    /// `None`: all in `query`.
    key_value: Option<Value>,
    layout: Layout,
    valid_queries: Vec<bool>,
    dropout: Option<Dropout>,
    /// [batch, heads, queries, padded keys], before dropout.
    probabilities: Vec<F>,
}

impl<F: Real> Tape<'_, F> {
    /// Self-attention: `qkv` [batch * length, 3 * columns] with queries, keys and values side by
    /// side; result [batch * length, columns].
    pub fn attention(&mut self, qkv: Value, settings: Attention<'_>) -> Value {
        let Attention { heads, length, .. } = settings;
        let [rows, packed] = self.shape(qkv);
        require(
            heads > 0 && length > 0 && packed % (3 * heads) == 0 && rows % length == 0,
            || format!("attention of {heads} heads over {length} in {rows} x {packed}"),
        );
        require(settings.valid.len() == rows, || {
            format!("{} marks for {rows} rows", settings.valid.len())
        });
        let columns = packed / 3;
        let layout = Layout {
            heads,
            width: columns / heads,
            queries: length,
            keys: length,
            causal: settings.mask == Mask::Causal,
            query_stride: packed,
            key_stride: packed,
            key_start: columns,
            value_start: 2 * columns,
            padded_keys: length.next_multiple_of(REGISTER),
        };
        let dropout = Dropout::new(self.context.dropout, settings.name, settings.dropout);
        let valid = [settings.valid, settings.valid];
        self.attend(qkv, None, layout, valid, dropout, settings.name)
    }

    /// Attention from queries [batch * queries, columns] to keys and values side by side
    /// [batch * keys, 2 * columns]; result [batch * queries, columns].
    pub fn cross_attention(
        &mut self,
        query: Value,
        key_value: Value,
        settings: CrossAttention<'_>,
    ) -> Value {
        let CrossAttention {
            heads,
            queries,
            keys,
            ..
        } = settings;
        let [rows, columns] = self.shape(query);
        let [key_rows, packed] = self.shape(key_value);
        require(
            heads > 0
                && queries > 0
                && keys > 0
                && packed == 2 * columns
                && columns % heads == 0
                && rows % queries == 0
                && rows / queries * keys == key_rows,
            || format!("attention of {rows} x {columns} to {key_rows} x {packed}"),
        );
        require(
            settings.valid_queries.len() == rows && settings.valid_keys.len() == key_rows,
            || "marks of another number than rows".to_owned(),
        );
        let layout = Layout {
            heads,
            width: columns / heads,
            queries,
            keys,
            causal: false,
            query_stride: columns,
            key_stride: packed,
            key_start: 0,
            value_start: columns,
            padded_keys: keys.next_multiple_of(REGISTER),
        };
        let dropout = Dropout::new(self.context.dropout, settings.name, settings.dropout);
        let valid = [settings.valid_queries, settings.valid_keys];
        self.attend(
            query,
            Some(key_value),
            layout,
            valid,
            dropout,
            settings.name,
        )
    }

    fn attend(
        &mut self,
        query: Value,
        key_value: Option<Value>,
        layout: Layout,
        [valid_queries, valid_keys]: [&[bool]; 2],
        dropout: Option<Dropout>,
        name: &str,
    ) -> Value {
        let rows = self.shape(query)[0];
        let batch = rows / layout.queries;
        let columns = layout.heads * layout.width;
        let of_sequence = layout.heads * layout.queries * layout.padded_keys;
        let mut out = self.workspace.take(rows * columns);
        let mut probabilities = self.workspace.take(batch * of_sequence);
        let queries = &self.nodes[query.0].value;
        let keys = &self.nodes[key_value.unwrap_or(query).0].value;
        let row_keys = self.context.row_keys;
        out.par_chunks_mut((layout.queries * columns).max(1))
            .zip(probabilities.par_chunks_mut(of_sequence.max(1)))
            .zip(queries.par_chunks((layout.queries * layout.query_stride).max(1)))
            .zip(keys.par_chunks((layout.keys * layout.key_stride).max(1)))
            .enumerate()
            .for_each(|(sequence, (((out, probabilities), queries), keys))| {
                let start = sequence * layout.queries;
                let drawn = draws(dropout, row_keys, start, layout.queries);
                let valid = [
                    &valid_queries[start..start + layout.queries],
                    &valid_keys[sequence * layout.keys..(sequence + 1) * layout.keys],
                ];
                layout.forward(queries, keys, valid, &drawn, probabilities, out);
            });
        if let Some(capture) = &mut self.context.capture {
            let maps: Vec<F> = probabilities
                .chunks_exact(layout.padded_keys)
                .flat_map(|row| row[..layout.keys].iter().copied())
                .collect();
            capture.attention(name, &maps, layout.shape(batch));
        }
        let needs = self.needs(query) || key_value.is_some_and(|value| self.needs(value));
        let operation = Attend {
            name: name.to_owned(),
            query,
            key_value,
            layout,
            valid_queries: valid_queries.to_vec(),
            dropout,
            probabilities,
        };
        self.push(out, rows, columns, needs, Some(Box::new(operation)))
    }
}

/// The draws of each query row.
fn draws<F: Real>(
    dropout: Option<Dropout>,
    row_keys: &[u64],
    start: usize,
    n: usize,
) -> Vec<Keep<F>> {
    dropout.map_or(Vec::new(), |dropout| {
        (start..start + n)
            .map(|row| dropout.row(row_key(row_keys, row)))
            .collect()
    })
}

/// Which column of a row's draws belongs to a key: by its distance from the query, so that padding
/// before or after a sequence does not change what is dropped in it.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "heads and lengths are small"
)]
fn first_column(head: usize, query: usize) -> u32 {
    ((head as u32) << 20).wrapping_add(query as u32)
}

#[inline(always)]
fn drop_row<F: Real>(row: &mut [F], keep: &Keep<F>, first: u32) {
    for (key, x) in (0_u32..).zip(row) {
        *x *= keep.factor(first.wrapping_sub(key));
    }
}

impl Layout {
    fn scale<F: Real>(&self) -> F {
        F::of(1.0 / libm::sqrt(self.width.max(1) as f64))
    }

    fn shape(&self, batch: usize) -> AttentionShape {
        AttentionShape {
            batch,
            heads: self.heads,
            queries: self.queries,
            keys: self.keys,
        }
    }

    /// Queries that are worked on together, and how many keys any of them sees.
    fn block(&self, first: usize) -> (Range<usize>, usize) {
        let end = (first + BLOCK).min(self.queries);
        (first..end, if self.causal { end } else { self.keys })
    }

    fn queries<'a, F: Real>(
        &self,
        data: &'a [F],
        head: usize,
        rows: &Range<usize>,
    ) -> Matrix<'a, F> {
        let data = &data[rows.start * self.query_stride + head * self.width..];
        Matrix::strided(data, rows.len(), self.width, self.query_stride)
    }

    fn keys<'a, F: Real>(&self, data: &'a [F], head: usize, n: usize) -> Matrix<'a, F> {
        let data = &data[self.key_start + head * self.width..];
        Matrix::strided(data, n, self.width, self.key_stride)
    }

    fn values<'a, F: Real>(&self, data: &'a [F], head: usize, n: usize) -> Matrix<'a, F> {
        let data = &data[self.value_start + head * self.width..];
        Matrix::strided(data, n, self.width, self.key_stride)
    }

    /// How many numbers of a row of probabilities are not zero for certain: whole registers.
    #[inline(always)]
    fn filled(&self, query: usize) -> usize {
        let seen = if self.causal { query + 1 } else { self.keys };
        seen.next_multiple_of(REGISTER)
    }

    /// One sequence.
    fn forward<F: Real>(
        &self,
        queries: &[F],
        keys: &[F],
        [valid_queries, valid_keys]: [&[bool]; 2],
        drawn: &[Keep<F>],
        probabilities: &mut [F],
        out: &mut [F],
    ) {
        let (columns, stride) = (self.heads * self.width, self.padded_keys);
        let all_valid = valid_keys.iter().all(|&valid| valid);
        let mut dropped = Vec::new();
        let maps = probabilities.chunks_exact_mut(self.queries * stride);
        for (head, map) in maps.enumerate() {
            for first in (0..self.queries).step_by(BLOCK) {
                let (rows, seen) = self.block(first);
                let map = &mut map[rows.start * stride..rows.end * stride];
                let query = self.queries(queries, head, &rows);
                let key = self.keys(keys, head, seen).transposed();
                multiply(query, key, map, stride, false, self.scale());
                vectorised(
                    #[inline(always)]
                    || {
                        for (at, row) in rows.clone().zip(map.chunks_exact_mut(stride)) {
                            let seen = if self.causal { at + 1 } else { self.keys };
                            let (row, rest) = row.split_at_mut(self.filled(at));
                            rest.fill(F::ZERO);
                            row[seen..].fill(F::LOWEST);
                            if !all_valid {
                                for (x, &valid) in row.iter_mut().zip(valid_keys) {
                                    *x = if valid { *x } else { F::LOWEST };
                                }
                            }
                            let top = largest(row);
                            if !valid_queries[at] || top <= F::LOWEST {
                                row.fill(F::ZERO);
                                continue;
                            }
                            let share = F::ONE / exponentials(row, top);
                            for x in row.iter_mut() {
                                *x *= share;
                            }
                        }
                    },
                );
                let map = if drawn.is_empty() {
                    &*map
                } else {
                    dropped.clear();
                    dropped.extend_from_slice(map);
                    self.drop(&mut dropped, drawn, head, &rows);
                    &dropped
                };
                let map = Matrix::strided(map, rows.len(), seen, stride);
                let out = &mut out[rows.start * columns + head * self.width..];
                multiply(
                    map,
                    self.values(keys, head, seen),
                    out,
                    columns,
                    false,
                    F::ONE,
                );
            }
        }
    }

    /// Drops in some rows of a map.
    fn drop<F: Real>(&self, map: &mut [F], drawn: &[Keep<F>], head: usize, rows: &Range<usize>) {
        vectorised(
            #[inline(always)]
            || {
                let maps = map.chunks_exact_mut(self.padded_keys);
                for ((at, row), keep) in rows.clone().zip(maps).zip(&drawn[rows.clone()]) {
                    drop_row(&mut row[..self.filled(at)], keep, first_column(head, at));
                }
            },
        );
    }

    /// Gradients of the probabilities of one sequence, [heads, queries, keys].
    fn map_gradient<F: Real>(&self, keys: &[F], drawn: &[Keep<F>], gradient: &[F], out: &mut [F]) {
        let (columns, stride) = (self.heads * self.width, self.padded_keys);
        let mut scores = vec![F::ZERO; self.queries * stride];
        let all = 0..self.queries;
        let maps = out.chunks_exact_mut((self.queries * self.keys).max(1));
        for (head, map) in maps.enumerate() {
            let gradient = &gradient[head * self.width..];
            let gradient = Matrix::strided(gradient, self.queries, self.width, columns);
            let values = self.values(keys, head, self.keys).transposed();
            multiply(gradient, values, &mut scores, stride, false, F::ONE);
            if !drawn.is_empty() {
                self.drop(&mut scores, drawn, head, &all);
            }
            let rows = scores
                .chunks_exact(stride)
                .zip(map.chunks_exact_mut(self.keys));
            for (at, (from, to)) in rows.enumerate() {
                let seen = if self.causal { at + 1 } else { self.keys };
                let (to, rest) = to.split_at_mut(seen);
                to.copy_from_slice(&from[..seen]);
                rest.fill(F::ZERO);
            }
        }
    }

    /// One sequence on the way back. The last block of queries comes first: it sees all keys, and
    /// so writes what earlier blocks add to.
    fn backward<F: Real>(
        &self,
        queries: &[F],
        keys: &[F],
        drawn: &[Keep<F>],
        probabilities: &[F],
        gradient: &[F],
        target: &mut Target<'_, F>,
    ) {
        let (columns, stride) = (self.heads * self.width, self.padded_keys);
        let mut dropped = Vec::new();
        let mut scores = vec![F::ZERO; BLOCK.min(self.queries) * stride];
        let maps = probabilities.chunks_exact(self.queries * stride);
        for (head, map) in maps.enumerate() {
            for first in (0..self.queries).step_by(BLOCK).rev() {
                let (rows, seen) = self.block(first);
                let adds = rows.end < self.queries;
                let map = &map[rows.start * stride..rows.end * stride];
                let scores = &mut scores[..map.len()];
                let gradient = &gradient[rows.start * columns + head * self.width..];
                let gradient = Matrix::strided(gradient, rows.len(), self.width, columns);
                let used = if drawn.is_empty() {
                    map
                } else {
                    dropped.clear();
                    dropped.extend_from_slice(map);
                    self.drop(&mut dropped, drawn, head, &rows);
                    &dropped
                };
                let used = Matrix::strided(used, rows.len(), seen, stride).transposed();
                let (to_values, width) = target.keys(self, self.value_start + head * self.width);
                multiply(used, gradient, to_values, width, adds, F::ONE);
                let values = self.values(keys, head, seen).transposed();
                multiply(gradient, values, scores, stride, false, F::ONE);
                if !drawn.is_empty() {
                    self.drop(scores, drawn, head, &rows);
                }
                vectorised(
                    #[inline(always)]
                    || {
                        let pairs = scores
                            .chunks_exact_mut(stride)
                            .zip(map.chunks_exact(stride));
                        for (at, (scores, map)) in rows.clone().zip(pairs) {
                            let (scores, rest) = scores.split_at_mut(self.filled(at));
                            rest.fill(F::ZERO);
                            let map = &map[..scores.len()];
                            let mean = dot(scores, map);
                            for (x, &p) in scores.iter_mut().zip(map) {
                                *x = (*x - mean) * p;
                            }
                        }
                    },
                );
                let scores = Matrix::strided(&*scores, rows.len(), seen, stride);
                let scale = self.scale();
                let start = rows.start * self.query_stride + head * self.width;
                let (to_queries, width) = target.queries(self, start);
                let key = self.keys(keys, head, seen);
                multiply(scores, key, to_queries, width, false, scale);
                let (to_keys, width) = target.keys(self, self.key_start + head * self.width);
                let query = self.queries(queries, head, &rows);
                multiply(scores.transposed(), query, to_keys, width, adds, scale);
            }
        }
    }
}

/// Where gradients of one sequence go.
enum Target<'a, F> {
    Packed(&'a mut [F]),
    Separate(&'a mut [F], &'a mut [F]),
}

impl<F> Target<'_, F> {
    fn queries(&mut self, layout: &Layout, start: usize) -> (&mut [F], usize) {
        match self {
            Self::Packed(all) | Self::Separate(all, _) => (&mut all[start..], layout.query_stride),
        }
    }

    fn keys(&mut self, layout: &Layout, start: usize) -> (&mut [F], usize) {
        match self {
            Self::Packed(all) | Self::Separate(_, all) => (&mut all[start..], layout.key_stride),
        }
    }
}

impl<F: Real> Operation<F> for Attend<F> {
    fn backward(
        self: Box<Self>,
        _output: &[F],
        mut gradient: Vec<F>,
        reverse: &mut Reverse<'_, F>,
    ) {
        let layout = self.layout;
        let columns = layout.heads * layout.width;
        let queries = reverse.value(self.query);
        let keys = reverse.value(self.key_value.unwrap_or(self.query));
        let of_sequence = layout.heads * layout.queries * layout.padded_keys;
        for (row, valid) in gradient
            .chunks_exact_mut(columns.max(1))
            .zip(&self.valid_queries)
        {
            if !valid {
                row.fill(F::ZERO);
            }
        }
        let row_keys = reverse.row_keys;
        if let Some(capture) = &mut reverse.capture
            && capture.wants_attention_gradient()
        {
            let of_map = (layout.heads * layout.queries * layout.keys).max(1);
            let batch = gradient.len() / (layout.queries * columns).max(1);
            let mut maps = vec![F::ZERO; batch * of_map];
            maps.par_chunks_mut(of_map)
                .zip(gradient.par_chunks((layout.queries * columns).max(1)))
                .zip(keys.par_chunks((layout.keys * layout.key_stride).max(1)))
                .enumerate()
                .for_each(|(sequence, ((map, gradient), keys))| {
                    let start = sequence * layout.queries;
                    let drawn = draws(self.dropout, row_keys, start, layout.queries);
                    layout.map_gradient(keys, &drawn, gradient, map);
                });
            capture.attention_gradient(&self.name, &maps, layout.shape(batch));
        }
        let mut to_query = reverse.workspace.take(queries.len());
        let n_keys = if self.key_value.is_some() {
            keys.len()
        } else {
            0
        };
        let mut to_key = reverse.workspace.take(n_keys);
        let query_chunk = (layout.queries * layout.query_stride).max(1);
        let key_chunk = (layout.keys * layout.key_stride).max(1);
        let mut targets: Vec<Target<'_, F>> = if self.key_value.is_some() {
            let keys = to_key.chunks_mut(key_chunk);
            let pairs = to_query.chunks_mut(query_chunk).zip(keys);
            pairs.map(|(q, k)| Target::Separate(q, k)).collect()
        } else {
            to_query
                .chunks_mut(query_chunk)
                .map(Target::Packed)
                .collect()
        };
        targets
            .par_iter_mut()
            .zip(self.probabilities.par_chunks(of_sequence.max(1)))
            .zip(gradient.par_chunks((layout.queries * columns).max(1)))
            .zip(queries.par_chunks(query_chunk))
            .zip(keys.par_chunks(key_chunk))
            .enumerate()
            .for_each(|(sequence, ((((target, map), gradient), queries), keys))| {
                let start = sequence * layout.queries;
                let drawn = draws(self.dropout, row_keys, start, layout.queries);
                layout.backward(queries, keys, &drawn, map, gradient, target);
            });
        drop(targets);
        reverse.workspace.give(gradient);
        reverse.workspace.give(self.probabilities);
        reverse.give(self.query, to_query);
        match self.key_value {
            Some(key_value) => reverse.give(key_value, to_key),
            None => reverse.workspace.give(to_key),
        }
    }
}
