//! Softmax cross-entropy over all rows of a table.
//!
//! Logits exist for a chunk of positions at a time, one row per item; their gradients are turned
//! into gradients of hidden states and table at once. Nothing of size positions x items exists.
//! A chunk walks over the items in tiles that stay in the cache from logits to the gradient of
//! hidden states, which it sums as it goes, relative to the largest logit so far. The table's
//! gradient needs the final sum; the factor it takes is given to the few hidden rows, not to the
//! many logits.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::{Loss, PADDING, Tape, Value};
use crate::context::Capture;
use crate::kernels::{
    Matrix, Running, add_in_order, add_scaled, multiply, ranges, split_rows, vectorised,
};
use crate::require::require;
use crate::{ParameterId, Real};

/// The most positions whose logits exist at once on a thread. They are written once and read once
/// from beyond the fast caches, so few rows (1.5 MB for 12,000 items) beat many: with 128 rows a
/// step took 10 % longer, though products of many rows are themselves a little quicker.
const CHUNK: usize = 32;
/// The most items whose logits stay in the second cache together.
const TILE: usize = 2048;

/// Sums that the gradient of a bias is cut into: adding them up for each chunk would take as long
/// as all else that the bias needs.
const LANES: usize = 8;

/// The parts that positions are cut into; each sums its own gradient of the table. Depends on
/// sizes alone: fewer where the table is large, since each part holds as much as the table. All
/// but the last hold whole chunks.
fn parts(rows: usize, table: usize) -> Vec<Range<usize>> {
    let most = if table > 1 << 20 { 4 } else { 8 };
    let chunks = rows.div_ceil(CHUNK);
    ranges(chunks, most)
        .into_iter()
        .map(|chunks| chunks.start * CHUNK..(chunks.end * CHUNK).min(rows))
        .collect()
}

/// Buffers of threads, whose content does not matter.
pub(super) struct Scratch<F>(Mutex<Vec<Vec<F>>>);

impl<F: Real> Scratch<F> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(super) fn with<R>(&self, n: usize, work: impl FnOnce(&mut [F]) -> R) -> R {
        let popped = self.lock().pop();
        let mut buffer = popped.unwrap_or_default();
        if buffer.len() < n {
            buffer.resize(n, F::ZERO);
        }
        let result = work(&mut buffer[..n]);
        self.lock().push(buffer);
        result
    }

    pub(super) fn add(&self, buffer: Vec<F>) {
        self.lock().push(buffer);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<F>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn into_buffers(self) -> Vec<Vec<F>> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What does not change between chunks.
struct Problem<'p, F> {
    hidden: &'p [F],
    table: &'p [F],
    bias: Option<&'p [F]>,
    targets: &'p [u32],
    weights: &'p [F],
    share: F,
    items: usize,
    columns: usize,
    tiles: Vec<Range<usize>>,
}

/// What one part sums.
struct Part<'p, F> {
    rows: &'p [u32],
    losses: &'p mut [F],
    to_hidden: &'p mut [F],
    to_table: Vec<F>,
    /// [items, lanes]: sums whose sum is the gradient.
    to_bias: Vec<F>,
}

/// Scratch of a chunk of n rows.
struct Chunk<'s, F> {
    /// The hidden rows, [n, columns].
    inputs: &'s mut [F],
    /// The same, times a factor each.
    scaled: &'s mut [F],
    /// [items, n]: logits, then e^(logit - the largest up to the end of its tile).
    powers: &'s mut [F],
    /// [tiles, n]: the largest logit up to the end of each tile; then what makes probabilities x
    /// weight of its powers.
    factors: &'s mut [F],
    running: Running<'s, F>,
    /// Logits of the targets.
    of_targets: &'s mut [F],
}

impl<F: Real> Problem<'_, F> {
    /// Numbers that [`Problem::cut`] needs for the largest chunk.
    fn scratch(&self) -> usize {
        CHUNK * (2 * self.columns + self.items + self.tiles.len() + 4)
    }

    /// Cuts scratch for a chunk of `n` rows.
    fn cut<'s>(&self, scratch: &'s mut [F], n: usize) -> Chunk<'s, F> {
        let mut rest = scratch;
        let mut next = |size: usize| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(size * n);
            rest = tail;
            head
        };
        Chunk {
            inputs: next(self.columns),
            scaled: next(self.columns),
            powers: next(self.items),
            factors: next(self.tiles.len()),
            running: Running {
                tops: next(1),
                sums: next(1),
                shrinks: next(1),
            },
            of_targets: next(1),
        }
    }

    fn target(&self, row: u32) -> usize {
        self.targets[row as usize] as usize
    }

    /// The rows of a tile of the table.
    fn of_tile(&self, tile: &Range<usize>) -> Matrix<'_, F> {
        let rows = &self.table[tile.start * self.columns..tile.end * self.columns];
        Matrix::new(rows, tile.len(), self.columns)
    }

    /// One chunk: losses, gradients of hidden rows, and of table and bias where they are not empty.
    fn chunk(&self, part: &mut Part<'_, F>, of: Range<usize>, chunk: &mut Chunk<'_, F>) {
        let (columns, n) = (self.columns, of.len());
        let rows = &part.rows[of.clone()];
        for (input, &row) in chunk.inputs.chunks_exact_mut(columns.max(1)).zip(rows) {
            input.copy_from_slice(&self.hidden[row as usize * columns..][..columns]);
        }
        let width = if part.to_hidden.is_empty() {
            0
        } else {
            columns
        };
        let to_hidden = &mut part.to_hidden[of.start * width..of.end * width];
        chunk.running.reset();
        for (tile, tops) in self.tiles.iter().zip(chunk.factors.chunks_exact_mut(n)) {
            let powers = &mut chunk.powers[tile.start * n..tile.end * n];
            let hidden = Matrix::new(&*chunk.inputs, n, columns);
            let table = self.of_tile(tile);
            multiply(table, hidden.transposed(), powers, n, false, F::ONE);
            self.add_bias(tile, powers, n);
            for ((logit, &row), at) in chunk.of_targets.iter_mut().zip(rows).zip(0..) {
                if tile.contains(&self.target(row)) {
                    *logit = powers[(self.target(row) - tile.start) * n + at];
                }
            }
            chunk.running.exponentiate(powers);
            tops.copy_from_slice(chunk.running.tops);
            if width == 0 {
                continue;
            }
            if tile.start > 0 {
                multiply_rows(to_hidden, columns, chunk.running.shrinks);
            }
            let powers = Matrix::new(&*powers, tile.len(), n).transposed();
            multiply(powers, table, to_hidden, columns, tile.start > 0, F::ONE);
        }
        self.finish(part, of, chunk);
        self.give_table(part, rows, chunk);
    }

    fn add_bias(&self, tile: &Range<usize>, logits: &mut [F], n: usize) {
        let Some(bias) = self.bias else {
            return;
        };
        vectorised(
            #[inline(always)]
            || {
                let biases = &bias[tile.clone()];
                for (row, &bias) in logits.chunks_exact_mut(n).zip(biases) {
                    for x in row {
                        *x += bias;
                    }
                }
            },
        );
    }

    /// Once all sums are known: losses, gradients of hidden rows, factors.
    fn finish(&self, part: &mut Part<'_, F>, of: Range<usize>, chunk: &mut Chunk<'_, F>) {
        let (columns, n) = (self.columns, of.len());
        let Running { tops, sums, .. } = &chunk.running;
        let (first, last) = (of.start, of.end);
        for (at, &row) in part.rows[of].iter().enumerate() {
            let (top, sum) = (tops[at], sums[at]);
            part.losses[first + at] = F::of(libm::log(sum.to_f64())) + top - chunk.of_targets[at];
            let weight = self.weights[row as usize] * self.share;
            let factor = weight / sum;
            for factors in chunk.factors.chunks_exact_mut(n) {
                factors[at] = (factors[at] - top).exponential() * factor;
            }
        }
        if part.to_hidden.is_empty() || columns == 0 {
            return;
        }
        let to_hidden = &mut part.to_hidden[first * columns..last * columns];
        vectorised(
            #[inline(always)]
            || {
                let rows = part.rows[first..last].iter().zip(&**sums);
                for (to_row, (&row, &sum)) in to_hidden.chunks_exact_mut(columns).zip(rows) {
                    let weight = self.weights[row as usize] * self.share;
                    let target = &self.table[self.target(row) * columns..][..columns];
                    let factor = weight / sum;
                    for (x, &e) in to_row.iter_mut().zip(target) {
                        *x = e.fma(-weight, *x * factor);
                    }
                }
            },
        );
    }

    /// Gradients of table and bias from powers and factors.
    fn give_table(&self, part: &mut Part<'_, F>, rows: &[u32], chunk: &mut Chunk<'_, F>) {
        let (columns, n) = (self.columns, rows.len());
        for (tile, factors) in self.tiles.iter().zip(chunk.factors.chunks_exact(n)) {
            let powers = &chunk.powers[tile.start * n..tile.end * n];
            if !part.to_table.is_empty() {
                chunk.scaled.copy_from_slice(chunk.inputs);
                multiply_rows(chunk.scaled, columns, factors);
                let scaled = Matrix::new(&*chunk.scaled, n, columns);
                let to_tile = &mut part.to_table[tile.start * columns..tile.end * columns];
                let powers = Matrix::new(powers, tile.len(), n);
                multiply(powers, scaled, to_tile, columns, true, F::ONE);
            }
            if !part.to_bias.is_empty() {
                vectorised(
                    #[inline(always)]
                    || {
                        let (sums, _) = part.to_bias.as_chunks_mut::<LANES>();
                        let sums = sums[tile.clone()].iter_mut();
                        for (sum, powers) in sums.zip(powers.chunks_exact(n)) {
                            add_products(sum, powers, factors);
                        }
                    },
                );
            }
        }
        vectorised(
            #[inline(always)]
            || {
                for (input, &row) in chunk.inputs.chunks_exact(columns.max(1)).zip(rows) {
                    let weight = self.weights[row as usize] * self.share;
                    let target = self.target(row);
                    if !part.to_table.is_empty() {
                        let sum = &mut part.to_table[target * columns..][..columns];
                        add_scaled(sum, -weight, input);
                    }
                    if let Some(sum) = part.to_bias.get_mut(target * LANES) {
                        *sum += -weight;
                    }
                }
            },
        );
    }

    /// The gradient of the logits, [n, items], of a chunk that is done.
    fn gradient(&self, rows: &[u32], chunk: &Chunk<'_, F>, out: &mut [F]) {
        let (items, n) = (self.items, rows.len());
        for (tile, factors) in self.tiles.iter().zip(chunk.factors.chunks_exact(n)) {
            for item in tile.clone() {
                let powers = &chunk.powers[item * n..(item + 1) * n];
                for (at, (&power, &factor)) in powers.iter().zip(factors).enumerate() {
                    out[at * items + item] = power * factor;
                }
            }
        }
        for (out, &row) in out.chunks_exact_mut(items).zip(rows) {
            out[self.target(row)] -= self.weights[row as usize] * self.share;
        }
    }

    /// All chunks of all parts, in parallel unless somebody listens.
    fn run(
        &self,
        parts: &mut [Part<'_, F>],
        scratch: &Scratch<F>,
        capture: Option<&mut dyn Capture<F>>,
        [table, bias]: [Option<&str>; 2],
    ) {
        let size = self.scratch();
        let chunks = |part: &Part<'_, F>| {
            let n = part.rows.len();
            let starts = (0..n).step_by(CHUNK);
            starts.map(move |from| from..(from + CHUNK).min(n))
        };
        let Some(capture) = capture else {
            parts.par_iter_mut().for_each(|part| {
                for of in chunks(part) {
                    scratch.with(size, |buffer| {
                        let mut chunk = self.cut(buffer, of.len());
                        self.chunk(part, of, &mut chunk);
                    });
                }
            });
            return;
        };
        let mut gradient = vec![F::ZERO; CHUNK * self.items];
        for part in parts {
            for of in chunks(part) {
                scratch.with(size, |buffer| {
                    let mut chunk = self.cut(buffer, of.len());
                    self.chunk(part, of.clone(), &mut chunk);
                    let rows = &part.rows[of.clone()];
                    let gradient = &mut gradient[..of.len() * self.items];
                    self.gradient(rows, &chunk, gradient);
                    if let Some(table) = table {
                        capture.output_table(table, rows, chunk.inputs, None, gradient);
                    }
                    if let Some(bias) = bias {
                        capture.output_bias(bias, rows, None, gradient);
                    }
                });
            }
        }
    }
}

/// Adds the products of two rows to lanes.
#[inline(always)]
fn add_products<F: Real>(lanes: &mut [F; LANES], x: &[F], y: &[F]) {
    let mut sums = *lanes;
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let (y_chunks, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in x_chunks.iter().zip(y_chunks) {
        for ((sum, &x), &y) in sums.iter_mut().zip(x).zip(y) {
            *sum = x.fma(y, *sum);
        }
    }
    for ((sum, &x), &y) in sums.iter_mut().zip(x_rest).zip(y_rest) {
        *sum = x.fma(y, *sum);
    }
    *lanes = sums;
}

/// The sum of each row of lanes.
fn add_lanes<F: Real>(lanes: &[F], out: &mut [F]) {
    let (lanes, _) = lanes.as_chunks::<LANES>();
    for (out, lanes) in out.iter_mut().zip(lanes) {
        *out = lanes.iter().copied().sum();
    }
}

/// Multiplies each row by a factor of its own.
fn multiply_rows<F: Real>(rows: &mut [F], columns: usize, factors: &[F]) {
    vectorised(
        #[inline(always)]
        || {
            for (row, &factor) in rows.chunks_exact_mut(columns.max(1)).zip(factors) {
                for x in row {
                    *x *= factor;
                }
            }
        },
    );
}

impl<'a, F: Real> Tape<'a, F> {
    /// Names of a table of outputs and of its bias, by which their gradients are reported.
    pub(super) fn output_names(
        &self,
        table: ParameterId,
        bias: Option<ParameterId>,
    ) -> [Option<&'a str>; 2] {
        [Some(table), bias].map(|id| id.map(|id| self.parameters.name(id)))
    }
}

impl<F: Real> Tape<'_, F> {
    /// Cross-entropy of the softmax over all rows of a table: for hidden [rows, columns], table
    /// [items, columns] and bias [1, items], the loss of a row is
    /// `log sum_i exp(h e_i + b_i) - (h e_t + b_t)` with t its target; the whole is
    /// `sum(weight * loss) / divisor`. Rows with target [`PADDING`] or weight 0 cost nothing and
    /// give nothing.
    pub fn softmax_cross_entropy(
        &mut self,
        hidden: Value,
        table: ParameterId,
        bias: Option<ParameterId>,
        targets: &[u32],
        weights: &[F],
        divisor: f64,
    ) -> Loss {
        let [n_rows, columns] = self.shape(hidden);
        let [items, table_columns] = self.parameters.shape(table);
        self.require_targets(table, n_rows, columns, targets, weights);
        require(table_columns == columns && items > 0, || {
            format!("hidden states of {columns} and a table of {table_columns} columns")
        });
        let bias_values = bias.map(|id| self.parameters.get(id));
        require(bias_values.is_none_or(|bias| bias.len() == items), || {
            format!("a bias of another size than {items}")
        });
        let rows = active_rows(targets, weights);
        let backward = self.context.backward;
        let to_weights = backward && self.context.weight_gradients;
        let needs_hidden = self.needs(hidden);
        let mut losses = self.workspace.take(rows.len());
        let width = if needs_hidden { columns } else { 0 };
        let mut to_hidden = self.workspace.take(rows.len() * width);
        let problem = Problem {
            hidden: &self.nodes[hidden.0].value,
            table: self.parameters.get(table),
            bias: bias_values,
            targets,
            weights,
            share: F::of(1.0 / divisor),
            items,
            columns,
            tiles: ranges(items, items.div_ceil(TILE)),
        };
        let blocks = parts(rows.len(), items * columns);
        let scratch = Scratch::new();
        // Lent by the workspace, so that it gets back no more than it gave.
        for _ in 0..rayon::current_num_threads().min(blocks.len()) {
            scratch.add(self.workspace.take(problem.scratch()));
        }
        let mut all: Vec<Part<'_, F>> = blocks
            .iter()
            .zip(split_rows(&mut losses, &blocks, 1))
            .zip(split_rows(&mut to_hidden, &blocks, width))
            .map(|((block, losses), to_hidden)| Part {
                rows: &rows[block.clone()],
                losses,
                to_hidden,
                to_table: self
                    .workspace
                    .zeros(if to_weights { items * columns } else { 0 }),
                to_bias: self.workspace.zeros(if to_weights && bias.is_some() {
                    items * LANES
                } else {
                    0
                }),
            })
            .collect();
        let names = self.output_names(table, bias);
        problem.run(&mut all, &scratch, self.context.listener(), names);
        let (tables, biases): (Vec<_>, Vec<_>) = all
            .into_iter()
            .map(|part| (part.to_table, part.to_bias))
            .unzip();
        for buffer in scratch.into_buffers() {
            self.workspace.give(buffer);
        }
        let loss = self.push_losses(&rows, losses, weights, divisor);
        self.give_hidden(loss, hidden, &rows, to_hidden);
        if to_weights {
            let sum = self.sum_of(tables);
            self.losses[loss.0].to_parameters.push((table, sum));
            let sum = self.sum_of(biases);
            if let Some(bias) = bias {
                let mut gradient = self.workspace.take(items);
                add_lanes(&sum, &mut gradient);
                self.losses[loss.0].to_parameters.push((bias, gradient));
            }
            self.workspace.give(sum);
        }
        loss
    }

    /// The sum of parts, in order.
    fn sum_of(&mut self, parts: Vec<Vec<F>>) -> Vec<F> {
        let mut parts = parts.into_iter();
        let mut sum = parts.next().unwrap_or_default();
        let rest: Vec<Vec<F>> = parts.collect();
        add_in_order(&mut sum, &rest);
        for buffer in rest {
            self.workspace.give(buffer);
        }
        sum
    }

    /// A loss whose rows are those given, and 0 elsewhere.
    pub(super) fn push_losses(
        &mut self,
        rows: &[u32],
        losses: Vec<F>,
        weights: &[F],
        divisor: f64,
    ) -> Loss {
        let mut all = self.workspace.zeros(weights.len());
        for (&row, &loss) in rows.iter().zip(&losses) {
            all[row as usize] = loss;
        }
        self.workspace.give(losses);
        self.push_loss(all, weights, divisor)
    }

    /// Gives gradients of some rows to a value, when `backward` comes.
    pub(super) fn give_hidden(&mut self, loss: Loss, to: Value, rows: &[u32], gradient: Vec<F>) {
        if !self.needs(to) {
            self.workspace.give(gradient);
            return;
        }
        let [n_rows, columns] = self.shape(to);
        if rows.len() == n_rows {
            self.losses[loss.0].to_values.push((to, gradient));
            return;
        }
        let mut all = self.workspace.zeros(n_rows * columns);
        if columns > 0 {
            for (&row, gradient) in rows.iter().zip(gradient.chunks_exact(columns)) {
                all[row as usize * columns..][..columns].copy_from_slice(gradient);
            }
        }
        self.workspace.give(gradient);
        self.losses[loss.0].to_values.push((to, all));
    }

    pub(super) fn require_targets(
        &self,
        table: ParameterId,
        rows: usize,
        columns: usize,
        targets: &[u32],
        weights: &[F],
    ) {
        let [items, table_columns] = self.parameters.shape(table);
        require(table_columns == columns, || {
            let name = self.parameters.name(table);
            format!("`{name}` has {table_columns} columns and hidden states {columns}")
        });
        require(targets.len() == rows && weights.len() == rows, || {
            format!(
                "{} targets, {} weights for {rows} rows",
                targets.len(),
                weights.len()
            )
        });
        let outside = targets
            .iter()
            .find(|&&id| id != PADDING && id as usize >= items);
        require(outside.is_none(), || {
            let name = self.parameters.name(table);
            format!("`{name}` has {items} rows and no row {outside:?}")
        });
    }
}

/// Rows that count.
pub(super) fn active_rows<F: Real>(targets: &[u32], weights: &[F]) -> Vec<u32> {
    (0_u32..)
        .zip(targets.iter().zip(weights))
        .filter(|(_, (target, weight))| **target != PADDING && **weight != F::ZERO)
        .map(|(row, _)| row)
        .collect()
}
