//! Softmax cross-entropy over all rows of a table.
//!
//! Logits exist for a chunk of positions at a time; their gradients are made at once, in place,
//! and turned into gradients of hidden states and table. Nothing of size positions x items exists.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::{Loss, PADDING, Tape, Value};
use crate::context::Capture;
use crate::kernels::{
    Matrix, add_in_order, exponentials, largest, multiply, ranges, split_rows, transpose,
    vectorised,
};
use crate::require::require;
use crate::{ParameterId, Real};

/// Positions whose logits exist at once on a thread.
const CHUNK: usize = 128;

/// Into how many parts positions are cut; each sums its own gradient of the table. Depends on
/// sizes alone: fewer where the table is large, since each part holds as much as the table.
fn parts(rows: usize, table: usize) -> usize {
    let most = if table > 1 << 20 { 4 } else { 8 };
    rows.div_ceil(CHUNK).clamp(1, most)
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
    /// The table, mirrored: products read it along rows.
    mirrored: &'p [F],
    bias: Option<&'p [F]>,
    targets: &'p [u32],
    weights: &'p [F],
    share: F,
    items: usize,
    columns: usize,
}

/// What one part sums.
struct Part<'p, F> {
    rows: &'p [u32],
    losses: &'p mut [F],
    to_hidden: &'p mut [F],
    to_table: Vec<F>,
    to_bias: Vec<F>,
}

impl<F: Real> Problem<'_, F> {
    /// One chunk: losses, gradients of hidden rows, and of table and bias where they are not empty.
    /// `logits` and `inputs` are scratch; afterwards they hold the gradient of the logits and the
    /// hidden rows.
    fn chunk(&self, part: &mut Part<'_, F>, from: usize, to: usize, scratch: &mut [F]) {
        let (columns, items, n) = (self.columns, self.items, to - from);
        let (inputs, logits) = scratch.split_at_mut(CHUNK * columns);
        let rows = &part.rows[from..to];
        for (input, &row) in inputs.chunks_exact_mut(columns.max(1)).zip(rows) {
            input.copy_from_slice(&self.hidden[row as usize * columns..][..columns]);
        }
        let hidden = Matrix::new(&*inputs, n, columns);
        let table = Matrix::new(self.table, items, columns);
        let mirrored = Matrix::new(self.mirrored, columns, items);
        multiply(hidden, mirrored, logits, items, false, F::ONE);
        vectorised(
            #[inline(always)]
            || {
                let losses = part.losses[from..to].iter_mut();
                for ((logits, loss), &row) in logits.chunks_exact_mut(items).zip(losses).zip(rows) {
                    if let Some(bias) = self.bias {
                        for (x, &b) in logits.iter_mut().zip(bias) {
                            *x += b;
                        }
                    }
                    let target = self.targets[row as usize] as usize;
                    let of_target = logits[target];
                    let top = largest(logits);
                    let sum = exponentials(logits, top);
                    *loss = F::of(libm::log(sum.to_f64())) + top - of_target;
                    let weight = self.weights[row as usize] * self.share;
                    let factor = weight / sum;
                    for x in logits.iter_mut() {
                        *x *= factor;
                    }
                    logits[target] -= weight;
                }
            },
        );
        let gradient = Matrix::new(&*logits, n, items);
        if !part.to_hidden.is_empty() {
            let to_hidden = &mut part.to_hidden[from * columns..to * columns];
            multiply(gradient, table, to_hidden, columns, false, F::ONE);
        }
        if !part.to_table.is_empty() {
            let left = gradient.transposed();
            multiply(left, hidden, &mut part.to_table, columns, true, F::ONE);
        }
        if !part.to_bias.is_empty() {
            vectorised(
                #[inline(always)]
                || {
                    for row in logits.chunks_exact(items).take(n) {
                        for (sum, &g) in part.to_bias.iter_mut().zip(row) {
                            *sum += g;
                        }
                    }
                },
            );
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
        let (columns, items) = (self.columns, self.items);
        let size = CHUNK * (columns + items);
        let Some(capture) = capture else {
            parts.par_iter_mut().for_each(|part| {
                for from in (0..part.rows.len()).step_by(CHUNK) {
                    let to = (from + CHUNK).min(part.rows.len());
                    scratch.with(size, |buffer| self.chunk(part, from, to, buffer));
                }
            });
            return;
        };
        for part in parts {
            for from in (0..part.rows.len()).step_by(CHUNK) {
                let to = (from + CHUNK).min(part.rows.len());
                scratch.with(size, |buffer| {
                    self.chunk(part, from, to, buffer);
                    let (inputs, gradient) = buffer.split_at(CHUNK * columns);
                    let n = to - from;
                    let (inputs, gradient) = (&inputs[..n * columns], &gradient[..n * items]);
                    let rows = &part.rows[from..to];
                    if let Some(table) = table {
                        capture.output_table(table, rows, inputs, None, gradient);
                    }
                    if let Some(bias) = bias {
                        capture.output_bias(bias, rows, None, gradient);
                    }
                });
            }
        }
    }
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
        let mut mirrored = self.workspace.take(items * columns);
        transpose(self.parameters.get(table), columns, &mut mirrored);
        let problem = Problem {
            hidden: &self.nodes[hidden.0].value,
            table: self.parameters.get(table),
            mirrored: &mirrored,
            bias: bias_values,
            targets,
            weights,
            share: F::of(1.0 / divisor),
            items,
            columns,
        };
        let blocks = ranges(rows.len(), parts(rows.len(), items * columns));
        let scratch = Scratch::new();
        // Lent by the workspace, so that it gets back no more than it gave.
        for _ in 0..rayon::current_num_threads().min(blocks.len()) {
            scratch.add(self.workspace.take(CHUNK * (columns + items)));
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
                    items
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
        self.workspace.give(mirrored);
        self.give_hidden(loss, hidden, &rows, to_hidden);
        if to_weights {
            self.give_sum(loss, Some(table), tables);
            self.give_sum(loss, bias, biases);
        }
        loss
    }

    /// Keeps the sum of parts of a parameter's gradient until `backward` comes.
    fn give_sum(&mut self, loss: Loss, id: Option<ParameterId>, parts: Vec<Vec<F>>) {
        let mut parts = parts.into_iter();
        let mut sum = parts.next().unwrap_or_default();
        let rest: Vec<Vec<F>> = parts.collect();
        add_in_order(&mut sum, &rest);
        for buffer in rest {
            self.workspace.give(buffer);
        }
        if let Some(id) = id {
            self.losses[loss.0].to_parameters.push((id, sum));
        }
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
