//! Softmax cross-entropy over all rows of a table.
//!
//! Logits exist for a chunk of positions at a time; their gradients are made at once, in place,
//! and turned into gradients of hidden states and table. Nothing of size positions x items exists.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::{Loss, PADDING, Tape, Value};
use crate::kernels::{
    Matrix, add_in_order, largest, multiply, ranges, split_rows, sum_by, vectorised,
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
        multiply(hidden, table.transposed(), logits, items, false, F::ONE);
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
                    for x in logits.iter_mut() {
                        *x = (*x - top).exponential();
                    }
                    let sum = sum_by(logits, |x| x);
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
        };
        let blocks = ranges(rows.len(), parts(rows.len(), items * columns));
        let scratch = Scratch::new();
        let size = CHUNK * (columns + items);
        scratch.add(self.workspace.take(size));
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
        if let Some(capture) = &mut self.context.capture {
            let name = self.parameters.name(table);
            for part in &mut all {
                for from in (0..part.rows.len()).step_by(CHUNK) {
                    let to = (from + CHUNK).min(part.rows.len());
                    scratch.with(size, |buffer| {
                        problem.chunk(part, from, to, buffer);
                        let (inputs, gradient) = buffer.split_at(CHUNK * columns);
                        let n = to - from;
                        let (inputs, gradient) = (&inputs[..n * columns], &gradient[..n * items]);
                        capture.output_table(name, &part.rows[from..to], inputs, None, gradient);
                    });
                }
            }
        } else {
            all.par_iter_mut().for_each(|part| {
                for from in (0..part.rows.len()).step_by(CHUNK) {
                    let to = (from + CHUNK).min(part.rows.len());
                    scratch.with(size, |buffer| problem.chunk(part, from, to, buffer));
                }
            });
        }
        let (tables, biases): (Vec<_>, Vec<_>) = all
            .into_iter()
            .map(|part| (part.to_table, part.to_bias))
            .unzip();
        for buffer in scratch.into_buffers() {
            self.workspace.give(buffer);
        }
        let mut all_losses = self.workspace.zeros(n_rows);
        for (&row, &loss) in rows.iter().zip(&losses) {
            all_losses[row as usize] = loss;
        }
        self.workspace.give(losses);
        let loss = self.push_loss(all_losses, weights, divisor);
        if needs_hidden {
            self.give_hidden(loss, hidden, &rows, &to_hidden);
        }
        self.workspace.give(to_hidden);
        if to_weights {
            for (id, parts) in [(Some(table), tables), (bias, biases)] {
                if let Some(id) = id {
                    let mut parts = parts.into_iter();
                    let mut sum = parts.next().unwrap_or_default();
                    let rest: Vec<Vec<F>> = parts.collect();
                    add_in_order(&mut sum, &rest);
                    rest.into_iter()
                        .for_each(|buffer| self.workspace.give(buffer));
                    self.losses[loss.0].to_parameters.push((id, sum));
                }
            }
        }
        loss
    }

    /// Gives gradients of some rows to a value, when `backward` comes.
    pub(super) fn give_hidden(&mut self, loss: Loss, to: Value, rows: &[u32], gradient: &[F]) {
        let [n_rows, columns] = self.shape(to);
        let mut all = self.workspace.zeros(n_rows * columns);
        if columns > 0 {
            for (&row, gradient) in rows.iter().zip(gradient.chunks_exact(columns)) {
                all[row as usize * columns..][..columns].copy_from_slice(gradient);
            }
        }
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
