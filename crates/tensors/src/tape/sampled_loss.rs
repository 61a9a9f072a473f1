//! Losses over a target and sampled negatives: sampled softmax, binary cross-entropy.
//!
//! Both score a few candidates per position, the target first, and differ in what they make of
//! one row of scores. Shared negatives are matrix products; negatives of each row are read in
//! place. What goes to the table is kept as rows or factors, never as a matrix of its size.

use rayon::prelude::*;

use super::embedding::add_rows;
use super::softmax_loss::active_rows;
use super::{Loss, PADDING, Reverse, Tape, Value};
use crate::context::Capture;
use crate::kernels::{
    Matrix, add_in_order, add_scaled, dot, exponentials, largest, multiply, ranges, split_rows,
    vectorised,
};
use crate::require::require;
use crate::{ParameterId, Real};

/// Rows that are worked on at once.
const CHUNK: usize = 128;
/// Into how many parts rows are cut, at most.
const PARTS: usize = 8;
/// Into how many ranges a table is cut when rows are added to it.
const RANGES: usize = 16;

/// Sampled items that a loss sets against targets. [`PADDING`], and the target itself, do not
/// count.
#[derive(Clone, Copy, Debug)]
pub enum Negatives<'n> {
    /// The same for all rows.
    Shared(&'n [u32]),
    /// As many for each row, [rows, n].
    PerRow(&'n [u32]),
}

/// What a loss gives to rows of a table, and to a bias [1, items], when `backward` comes.
pub(super) enum ToRows<F> {
    /// Whole rows.
    Rows {
        table: ParameterId,
        ids: Vec<u32>,
        gradient: Vec<F>,
    },
    /// `factor[row, k] * hidden[row]` to `ids[row, k]`.
    Products {
        table: ParameterId,
        hidden: Value,
        rows: Vec<u32>,
        ids: Vec<u32>,
        factors: Vec<F>,
    },
}

impl<F: Real> ToRows<F> {
    pub(super) fn give(self, reverse: &mut Reverse<'_, F>) {
        match self {
            Self::Rows {
                table,
                ids,
                gradient,
            } => {
                let columns = reverse.parameters.shape(table)[1];
                // A bias is one row: its gradients are numbers.
                let columns = if gradient.len() == ids.len() {
                    1
                } else {
                    columns
                };
                if let Some(sum) = reverse.weight(table) {
                    add_rows(sum, &ids, &ids, &gradient, columns, F::ONE);
                }
                reverse.workspace.give(gradient);
            }
            Self::Products {
                table,
                hidden,
                rows,
                ids,
                factors,
            } => {
                let columns = reverse.parameters.shape(table)[1];
                let hidden = reverse.value(hidden);
                if let Some(sum) = reverse.weight(table) {
                    add_products(sum, &ids, &factors, &rows, hidden, columns);
                }
                reverse.workspace.give(factors);
            }
        }
    }
}

/// `table[ids[k, j]] += factors[k, j] * hidden[rows[k]]`, in the order of k, then j.
fn add_products<F: Real>(
    table: &mut [F],
    ids: &[u32],
    factors: &[F],
    rows: &[u32],
    hidden: &[F],
    columns: usize,
) {
    if columns == 0 || rows.is_empty() {
        return;
    }
    let width = ids.len() / rows.len();
    let blocks = ranges(table.len() / columns, RANGES);
    split_rows(table, &blocks, columns)
        .into_par_iter()
        .zip(&blocks)
        .for_each(|(table, block)| {
            vectorised(
                #[inline(always)]
                || {
                    let pairs = ids.chunks_exact(width).zip(factors.chunks_exact(width));
                    for (&row, (ids, factors)) in rows.iter().zip(pairs) {
                        let hidden = &hidden[row as usize * columns..][..columns];
                        for (&id, &factor) in ids.iter().zip(factors) {
                            let id = id as usize;
                            if block.contains(&id) {
                                let start = (id - block.start) * columns;
                                add_scaled(&mut table[start..start + columns], factor, hidden);
                            }
                        }
                    }
                },
            );
        });
}

/// What is taken from the scores of candidates, and how a row of scores becomes a loss.
#[derive(Clone, Copy)]
enum Kind<'k, F> {
    /// Softmax over target and negatives, with the logarithm of sampling probabilities taken off.
    Softmax { log_q: Option<&'k [F]> },
    /// Binary cross-entropy with an exponent on the target's sigmoid.
    Binary { beta: F },
}

impl<F: Real> Kind<'_, F> {
    /// The loss of one row; scores become derivatives. The target comes first.
    #[inline(always)]
    fn row(self, scores: &mut [F]) -> F {
        match self {
            Self::Softmax { .. } => {
                let of_target = scores[0];
                let top = largest(scores);
                let sum = exponentials(scores, top);
                for x in scores.iter_mut() {
                    *x /= sum;
                }
                scores[0] -= F::ONE;
                F::of(libm::log(sum.to_f64())) + top - of_target
            }
            Self::Binary { beta } => {
                let of_target = scores[0];
                let mut loss = beta * (-of_target).softplus();
                for x in &mut scores[1..] {
                    let s = *x;
                    loss += s.softplus();
                    *x = if s > F::LOWEST { s.logistic() } else { F::ZERO };
                }
                scores[0] = -beta * (-of_target).logistic();
                loss
            }
        }
    }
}

/// What does not change between rows.
struct Problem<'p, F> {
    kind: Kind<'p, F>,
    hidden: &'p [F],
    table: &'p [F],
    bias: Option<&'p [F]>,
    targets: &'p [u32],
    negatives: Negatives<'p>,
    /// Rows of the table of shared negatives, [n, columns]; empty otherwise.
    shared: &'p [F],
    weights: &'p [F],
    share: F,
    n: usize,
    columns: usize,
}

/// One part of the rows.
struct Part<'p, F> {
    rows: &'p [u32],
    losses: &'p mut [F],
    to_hidden: &'p mut [F],
    to_shared: Vec<F>,
    /// [rows, 1 + n] of the part, or of a chunk if negatives are shared.
    scores: &'p mut [F],
    bias_of_shared: Vec<F>,
    of_targets: &'p mut [F],
}

impl<'p, F: Real> Problem<'p, F> {
    fn item(&self, id: u32) -> &'p [F] {
        &self.table[id as usize * self.columns..][..self.columns]
    }

    fn negatives(&self, row: usize) -> &'p [u32] {
        match self.negatives {
            Negatives::Shared(ids) => ids,
            Negatives::PerRow(ids) => &ids[row * self.n..(row + 1) * self.n],
        }
    }

    /// Scores of one row, given products of hidden state and items; then loss and derivative.
    #[inline(always)]
    fn finish(&self, row: usize, scores: &mut [F]) -> F {
        let target = self.targets[row];
        let corrected = |id: u32, x: F| {
            let x = self.bias.map_or(x, |bias| x + bias[id as usize]);
            match self.kind {
                Kind::Softmax { log_q: Some(log_q) } => x - log_q[id as usize],
                _ => x,
            }
        };
        scores[0] = corrected(target, scores[0]);
        for (x, &id) in scores[1..].iter_mut().zip(self.negatives(row)) {
            *x = if id == PADDING || id == target {
                F::LOWEST
            } else {
                corrected(id, *x)
            };
        }
        let loss = self.kind.row(scores);
        let weight = self.weights[row] * self.share;
        for x in scores.iter_mut() {
            *x *= weight;
        }
        loss
    }

    /// Rows `from..to` of a part. Leaves the derivatives of scores in its scores.
    fn chunk(&self, part: &mut Part<'_, F>, from: usize, to: usize) {
        let (columns, width) = (self.columns, 1 + self.n);
        let rows = &part.rows[from..to];
        let shared = matches!(self.negatives, Negatives::Shared(_));
        let scores = if shared {
            &mut part.scores[..(to - from) * width]
        } else {
            &mut part.scores[from * width..to * width]
        };
        let mut inputs = Vec::with_capacity((to - from) * columns);
        for &row in rows {
            inputs.extend_from_slice(&self.hidden[row as usize * columns..][..columns]);
        }
        let hidden = Matrix::new(&inputs, to - from, columns);
        let items = Matrix::new(self.shared, self.shared.len() / columns.max(1), columns);
        if shared && self.n > 0 {
            multiply(
                hidden,
                items.transposed(),
                &mut scores[1..],
                width,
                false,
                F::ONE,
            );
        }
        vectorised(
            #[inline(always)]
            || {
                for (at, (scores, &row)) in scores.chunks_exact_mut(width).zip(rows).enumerate() {
                    let row = row as usize;
                    let hidden = &inputs[at * columns..(at + 1) * columns];
                    scores[0] = dot(hidden, self.item(self.targets[row]));
                    if !shared {
                        for (x, &id) in scores[1..].iter_mut().zip(self.negatives(row)) {
                            *x = if id == PADDING {
                                F::ZERO
                            } else {
                                dot(hidden, self.item(id))
                            };
                        }
                    }
                    part.losses[from + at] = self.finish(row, scores);
                    part.of_targets[from + at] = scores[0];
                }
            },
        );
        if !part.to_hidden.is_empty() {
            let to_hidden = &mut part.to_hidden[from * columns..to * columns];
            if shared && self.n > 0 {
                let gradient = Matrix::strided(&scores[1..], to - from, self.n, width);
                multiply(gradient, items, to_hidden, columns, false, F::ONE);
            } else {
                to_hidden.fill(F::ZERO);
            }
            vectorised(
                #[inline(always)]
                || {
                    let outputs = to_hidden.chunks_exact_mut(columns.max(1));
                    for ((out, scores), &row) in outputs.zip(scores.chunks_exact(width)).zip(rows) {
                        let row = row as usize;
                        add_scaled(out, scores[0], self.item(self.targets[row]));
                        if !shared {
                            for (&g, &id) in scores[1..].iter().zip(self.negatives(row)) {
                                if id != PADDING {
                                    add_scaled(out, g, self.item(id));
                                }
                            }
                        }
                    }
                },
            );
        }
        if !part.to_shared.is_empty() {
            let gradient = Matrix::strided(&scores[1..], to - from, self.n, width);
            multiply(
                gradient.transposed(),
                hidden,
                &mut part.to_shared,
                columns,
                true,
                F::ONE,
            );
            for scores in scores.chunks_exact(width) {
                for (sum, &g) in part.bias_of_shared.iter_mut().zip(&scores[1..]) {
                    *sum += g;
                }
            }
        }
    }

    /// All chunks of all parts, in parallel unless somebody listens.
    fn run(
        &self,
        parts: &mut [Part<'_, F>],
        capture: Option<&mut dyn Capture<F>>,
        [table, bias]: [Option<&str>; 2],
    ) {
        let chunks = |n: usize| {
            (0..n)
                .step_by(CHUNK)
                .map(move |from| (from, (from + CHUNK).min(n)))
        };
        let Some(capture) = capture else {
            parts.par_iter_mut().for_each(|part| {
                for (from, to) in chunks(part.rows.len()) {
                    self.chunk(part, from, to);
                }
            });
            return;
        };
        let width = 1 + self.n;
        let mut ids = vec![0; width];
        for part in parts {
            for (from, to) in chunks(part.rows.len()) {
                self.chunk(part, from, to);
                let shared = matches!(self.negatives, Negatives::Shared(_));
                let start = if shared { 0 } else { from };
                for (at, &row) in part.rows[from..to].iter().enumerate() {
                    let input = &self.hidden[row as usize * self.columns..][..self.columns];
                    ids[0] = self.targets[row as usize];
                    ids[1..].copy_from_slice(self.negatives(row as usize));
                    let gradient = &part.scores[(start + at) * width..][..width];
                    if let Some(table) = table {
                        capture.output_table(table, &[row], input, Some(&ids), gradient);
                    }
                    if let Some(bias) = bias {
                        capture.output_bias(bias, &[row], Some(&ids), gradient);
                    }
                }
            }
        }
    }
}

impl<F: Real> Tape<'_, F> {
    /// Softmax over the target and sampled negatives. With `log_q`, the logarithm of the
    /// probability with which each item of the table is sampled, scores are corrected for it
    /// (Bengio and Senécal 2008; Yi et al. 2019, eq. 3).
    #[expect(clippy::too_many_arguments, reason = "one fused operation")]
    pub fn sampled_softmax(
        &mut self,
        hidden: Value,
        table: ParameterId,
        bias: Option<ParameterId>,
        targets: &[u32],
        negatives: Negatives<'_>,
        log_q: Option<&[F]>,
        weights: &[F],
        divisor: f64,
    ) -> Loss {
        let items = self.parameters.shape(table)[0];
        require(log_q.is_none_or(|log_q| log_q.len() == items), || {
            format!("log_q has not one number for each of {items} items")
        });
        let kind = Kind::Softmax { log_q };
        self.candidates(
            hidden,
            (table, bias),
            targets,
            negatives,
            kind,
            weights,
            divisor,
        )
    }

    /// Binary cross-entropy of the target against negatives:
    /// `-beta log s(x_t) - sum log(1 - s(x_n))` with s the sigmoid (Kang and `McAuley` 2018, eq. 6,
    /// for beta = 1; Petrov and Macdonald 2023, eq. 8, with their beta).
    #[expect(clippy::too_many_arguments, reason = "one fused operation")]
    pub fn binary_cross_entropy(
        &mut self,
        hidden: Value,
        table: ParameterId,
        bias: Option<ParameterId>,
        targets: &[u32],
        negatives: Negatives<'_>,
        weights: &[F],
        divisor: f64,
        beta: F,
    ) -> Loss {
        let kind = Kind::Binary { beta };
        self.candidates(
            hidden,
            (table, bias),
            targets,
            negatives,
            kind,
            weights,
            divisor,
        )
    }

    #[expect(clippy::too_many_arguments, reason = "what both losses need")]
    fn candidates(
        &mut self,
        hidden: Value,
        (table, bias): (ParameterId, Option<ParameterId>),
        targets: &[u32],
        negatives: Negatives<'_>,
        kind: Kind<'_, F>,
        weights: &[F],
        divisor: f64,
    ) -> Loss {
        let [n_rows, columns] = self.shape(hidden);
        self.require_targets(table, n_rows, columns, targets, weights);
        let (n, shared_ids) = self.require_negatives(table, n_rows, negatives);
        let rows = active_rows(targets, weights);
        let to_weights = self.context.backward && self.context.weight_gradients;
        let shared = self.rows_of(table, shared_ids);
        let is_shared = matches!(negatives, Negatives::Shared(_));
        let gradient_width = if self.needs(hidden) { columns } else { 0 };
        let width = 1 + n;
        let blocks = ranges(rows.len(), PARTS.min(rows.len().div_ceil(CHUNK)));
        // Scores of one chunk per part, or of all rows if they are factors of the gradient.
        let score_blocks = if is_shared {
            ranges(blocks.len() * CHUNK, blocks.len())
        } else {
            blocks.clone()
        };
        let score_rows = score_blocks.last().map_or(0, |last| last.end);
        let mut scores = self.workspace.take(score_rows * width);
        let mut losses = self.workspace.take(rows.len());
        let mut of_targets = vec![F::ZERO; rows.len()];
        let mut to_hidden = self.workspace.take(rows.len() * gradient_width);
        let sums = if to_weights { shared_ids.len() } else { 0 };
        let problem = Problem {
            kind,
            hidden: &self.nodes[hidden.0].value,
            table: self.parameters.get(table),
            bias: bias.map(|id| self.parameters.get(id)),
            targets,
            negatives,
            shared: &shared,
            weights,
            share: F::of(1.0 / divisor),
            n,
            columns,
        };
        let mut all: Vec<Part<'_, F>> = blocks
            .iter()
            .zip(split_rows(&mut losses, &blocks, 1))
            .zip(split_rows(&mut of_targets, &blocks, 1))
            .zip(split_rows(&mut to_hidden, &blocks, gradient_width))
            .zip(split_rows(&mut scores, &score_blocks, width))
            .map(
                |((((block, losses), of_targets), to_hidden), scores)| Part {
                    rows: &rows[block.clone()],
                    losses,
                    to_hidden,
                    to_shared: vec![F::ZERO; sums * columns],
                    scores,
                    bias_of_shared: vec![F::ZERO; sums],
                    of_targets,
                },
            )
            .collect();
        let names = self.output_names(table, bias);
        problem.run(&mut all, self.context.listener(), names);
        let (tables, biases): (Vec<_>, Vec<_>) = all
            .into_iter()
            .map(|part| (part.to_shared, part.bias_of_shared))
            .unzip();
        let loss = self.push_losses(&rows, losses, weights, divisor);
        self.give_hidden(loss, hidden, &rows, to_hidden);
        self.workspace.give(shared);
        if !to_weights || rows.is_empty() {
            self.workspace.give(scores);
            return loss;
        }
        let mut ids: Vec<u32> = rows.iter().map(|&row| targets[row as usize]).collect();
        let mut to_rows = Vec::new();
        let factors = if is_shared {
            let shared = [(Some(table), tables, n * columns), (bias, biases, n)];
            for (id, parts, size) in shared {
                let mut gradient = vec![F::ZERO; size];
                add_in_order(&mut gradient, &parts);
                to_rows.extend(id.map(|table| ToRows::Rows {
                    table,
                    ids: shared_ids.to_vec(),
                    gradient,
                }));
            }
            self.workspace.give(scores);
            of_targets
        } else {
            if let Negatives::PerRow(negatives) = negatives {
                ids = with_negatives(&rows, &ids, negatives, n);
            }
            scores
        };
        to_rows.extend(bias.map(|table| ToRows::Rows {
            table,
            ids: ids.clone(),
            gradient: factors.clone(),
        }));
        to_rows.push(ToRows::Products {
            table,
            hidden,
            rows,
            ids,
            factors,
        });
        self.losses[loss.0].to_rows = to_rows;
        loss
    }

    /// Rows of a table, zeros for padding.
    fn rows_of(&mut self, table: ParameterId, ids: &[u32]) -> Vec<F> {
        let columns = self.parameters.shape(table)[1];
        let table = self.parameters.get(table);
        let mut rows = self.workspace.zeros(ids.len() * columns);
        for (row, &id) in rows.chunks_exact_mut(columns.max(1)).zip(ids) {
            if id != PADDING {
                row.copy_from_slice(&table[id as usize * columns..][..columns]);
            }
        }
        rows
    }

    /// How many negatives a row has, and which if they are the same for all.
    fn require_negatives<'n>(
        &self,
        table: ParameterId,
        rows: usize,
        negatives: Negatives<'n>,
    ) -> (usize, &'n [u32]) {
        let items = self.parameters.shape(table)[0];
        let (ids, n, shared): (_, _, &[u32]) = match negatives {
            Negatives::Shared(ids) => (ids, ids.len(), ids),
            Negatives::PerRow(ids) => (ids, ids.len() / rows.max(1), &[]),
        };
        require(!shared.is_empty() || ids.len() == n * rows, || {
            format!("{} negatives for {rows} rows", ids.len())
        });
        let outside = ids
            .iter()
            .find(|&&id| id != PADDING && id as usize >= items);
        require(outside.is_none(), || {
            format!("a negative {outside:?} of {items} items")
        });
        (n, shared)
    }
}

/// The target of each row and its negatives, side by side.
fn with_negatives(rows: &[u32], targets: &[u32], negatives: &[u32], n: usize) -> Vec<u32> {
    let mut ids = Vec::with_capacity(rows.len() * (n + 1));
    for (&row, &target) in rows.iter().zip(targets) {
        let start = row as usize * n;
        ids.push(target);
        ids.extend_from_slice(&negatives[start..start + n]);
    }
    ids
}
