//! Scaled dot-product attention (Vaswani et al. 2017, eq. 1), several heads at once.
//!
//! A sequence is one unit of parallel work. Products read the packed matrix in strides: nothing is
//! transposed. Probabilities are kept for the way back, dropout is drawn again.

use rayon::prelude::*;

use super::{Operation, Reverse, Tape, Value, row_key};
use crate::Real;
use crate::context::AttentionShape;
use crate::kernels::{Dropout, Keep, Matrix, dot, largest, multiply, sum_by, vectorised};
use crate::require::require;

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
            padded_keys: length.next_multiple_of(16),
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
            padded_keys: keys.next_multiple_of(16),
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
            let shape = AttentionShape {
                batch,
                heads: layout.heads,
                queries: layout.queries,
                keys: layout.keys,
            };
            capture.attention(name, &maps, shape);
        }
        let needs = self.needs(query) || key_value.is_some_and(|value| self.needs(value));
        let operation = Attend {
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

    fn query<'a, F: Real>(&self, data: &'a [F], head: usize) -> Matrix<'a, F> {
        let data = &data[head * self.width..];
        Matrix::strided(data, self.queries, self.width, self.query_stride)
    }

    fn key<'a, F: Real>(&self, data: &'a [F], head: usize) -> Matrix<'a, F> {
        let data = &data[self.key_start + head * self.width..];
        Matrix::strided(data, self.keys, self.width, self.key_stride)
    }

    fn value<'a, F: Real>(&self, data: &'a [F], head: usize) -> Matrix<'a, F> {
        let data = &data[self.value_start + head * self.width..];
        Matrix::strided(data, self.keys, self.width, self.key_stride)
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
        let columns = self.heads * self.width;
        let all_valid = valid_keys.iter().all(|&valid| valid);
        let mut dropped = Vec::new();
        let size = self.queries * self.padded_keys;
        for (head, map) in probabilities.chunks_exact_mut(size).enumerate() {
            let key = self.key(keys, head).transposed();
            let scale = self.scale();
            multiply(
                self.query(queries, head),
                key,
                map,
                self.padded_keys,
                false,
                scale,
            );
            vectorised(
                #[inline(always)]
                || {
                    for (at, row) in map.chunks_exact_mut(self.padded_keys).enumerate() {
                        let seen = if self.causal { at + 1 } else { self.keys };
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
                        for x in row.iter_mut() {
                            *x = (*x - top).exponential();
                        }
                        let share = F::ONE / sum_by(row, |x| x);
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
                self.drop(&mut dropped, drawn, head);
                &dropped
            };
            let map = Matrix::strided(map, self.queries, self.keys, self.padded_keys);
            let out = &mut out[head * self.width..];
            multiply(map, self.value(keys, head), out, columns, false, F::ONE);
        }
    }

    fn drop<F: Real>(&self, map: &mut [F], drawn: &[Keep<F>], head: usize) {
        vectorised(
            #[inline(always)]
            || {
                let rows = map.chunks_exact_mut(self.padded_keys).zip(drawn);
                for (at, (row, keep)) in rows.enumerate() {
                    drop_row(row, keep, first_column(head, at));
                }
            },
        );
    }

    /// One sequence on the way back.
    fn backward<F: Real>(
        &self,
        queries: &[F],
        keys: &[F],
        drawn: &[Keep<F>],
        probabilities: &[F],
        gradient: &[F],
        target: &mut Target<'_, F>,
    ) {
        let columns = self.heads * self.width;
        let size = self.queries * self.padded_keys;
        let mut dropped = Vec::new();
        let mut scores = vec![F::ZERO; size];
        for (head, map) in probabilities.chunks_exact(size).enumerate() {
            let gradient = Matrix::strided(
                &gradient[head * self.width..],
                self.queries,
                self.width,
                columns,
            );
            let used = if drawn.is_empty() {
                map
            } else {
                dropped.clear();
                dropped.extend_from_slice(map);
                self.drop(&mut dropped, drawn, head);
                &dropped
            };
            let used = Matrix::strided(used, self.queries, self.keys, self.padded_keys);
            let start = self.value_start + head * self.width;
            let (to_value, stride) = target.keys(self, start);
            multiply(used.transposed(), gradient, to_value, stride, false, F::ONE);
            let value = self.value(keys, head).transposed();
            multiply(
                gradient,
                value,
                &mut scores,
                self.padded_keys,
                false,
                F::ONE,
            );
            if !drawn.is_empty() {
                self.drop(&mut scores, drawn, head);
            }
            vectorised(
                #[inline(always)]
                || {
                    let rows = scores.chunks_exact_mut(self.padded_keys);
                    for (scores, map) in rows.zip(map.chunks_exact(self.padded_keys)) {
                        let mean = dot(scores, map);
                        for (x, &p) in scores.iter_mut().zip(map) {
                            *x = (*x - mean) * p;
                        }
                    }
                },
            );
            let scores = Matrix::strided(&scores, self.queries, self.keys, self.padded_keys);
            let scale = self.scale();
            let (to_query, stride) = target.queries(self, head * self.width);
            multiply(scores, self.key(keys, head), to_query, stride, false, scale);
            let start = self.key_start + head * self.width;
            let (to_key, stride) = target.keys(self, start);
            let query = self.query(queries, head);
            multiply(scores.transposed(), query, to_key, stride, false, scale);
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
        let mut to_query = reverse.workspace.take(queries.len());
        let n_keys = if self.key_value.is_some() {
            keys.len()
        } else {
            0
        };
        let mut to_key = reverse.workspace.take(n_keys);
        let row_keys = reverse.row_keys;
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
