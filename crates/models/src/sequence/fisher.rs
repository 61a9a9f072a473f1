//! The Fisher matrix of a network, block by block, from the gradients of its training samples, and what
//! it makes of the gradient of a target.
//!
//! Two passes over the samples: the first for the moments of the factors of each layer, which give
//! bases; the second for the squares of whole gradients in those bases, of each sample and not of each
//! position. Gradients are those of single losses as in [`super::gradients`], unweighted.
//!
//! - A layer has the basis of both factors; what is added to it, a diagonal of its own, since a bias is
//!   reported by itself. So have the gain and bias of a norm, and the bias of outputs.
//! - A table that is looked up has the one-hot rows as inputs, whose moment is a diagonal, exactly: how
//!   often each row is looked up. A table of outputs has hidden states as inputs and logits as outputs;
//!   on the side of the items a diagonal is taken. Of a table that is both, see
//!   [`TableMoments::block`].
//!
//! Memory: 64 bits for each parameter for each of [`PARTS`] parts, twice that for the sums, and of each
//! layer two matrices of the size of its sides. Time: two passes back over the samples, and a product
//! with both bases for each layer and sample.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;
use seed::Seed;
use tensors::{
    Capture, Context, Gradients, Matrix, PADDING, ParameterId, Parameters, Tape, multiply,
};

use super::gradients::{Asked, BLOCK, Factors};
use super::kronecker::{Block, LayerMoments, Rotation, Spectrum, TableMoments};
use super::model::SequenceModel;
use super::network::Network;
use crate::data::TrainingData;
use crate::directions::{BlockCard, Damped, Direction, Labels, Own, Preconditioner};
use crate::gradient_rows::Measure;

/// Parts into which samples are cut; each makes its own sums, which are added in order.
const PARTS: usize = 8;

/// Mean eigenvalue of a block, as a share of the largest of all blocks, below which it is taken for
/// rounding. The bias of attention keys, for one, has no gradient at all: all scores of a query rise by
/// one number. What 32-bit numbers leave of it is some 10^-7 of other gradients; damped by a share of its
/// own square it would weigh as much as any other parameter.
pub(super) const ROUNDING: f64 = 1e-8;

/// Blocks of all parameters that a sample reaches.
struct Fisher {
    blocks: BTreeMap<ParameterId, Block<f32>>,
    n_samples: u64,
}

impl<N: Network> SequenceModel<N> {
    /// Directions of a target by the Fisher matrix at these weights.
    pub(super) fn by_fisher(
        &self,
        data: &TrainingData<'_>,
        target: &Gradients<f32>,
        (wanted, damped): (&[Preconditioner], Damped),
        seed: Seed,
        on_progress: &(dyn Fn(u64) + Sync),
    ) -> Vec<Direction> {
        let mut asked: Vec<(u64, Asked)> = (0..data.n_samples())
            .filter(|&sample| self.has_loss(data, sample))
            .map(|sample| (data.sample_id(sample), self.asked(data, sample)))
            .collect();
        // Like lengths go together, and no order but that of identities is left.
        asked.sort_by_key(|(id, asked)| (asked.history.history().len(), *id));
        if damped.labels == Labels::Sampled {
            self.draw_labels(&mut asked, seed);
        }
        let asked: Vec<Asked> = asked.into_iter().map(|(_, asked)| asked).collect();
        let fisher = self.fisher(&asked, on_progress);
        let rotations = fisher.blocks.iter();
        let rotations = Arc::new(
            rotations
                .map(|(&id, block)| (id, block.rotation.clone()))
                .collect(),
        );
        wanted
            .iter()
            .filter(|&&one| one != Preconditioner::Adam)
            .map(|&one| fisher.direction(&self.parameters, target, (one, damped), &rotations))
            .collect()
    }

    fn fisher(&self, asked: &[Asked], on_progress: &(dyn Fn(u64) + Sync)) -> Fisher {
        let n_samples = asked.len() as u64;
        let part = asked.len().div_ceil(PARTS).max(1);
        let run = |capture: &mut dyn Capture<f32>, block: &[Asked], unused: &mut Gradients<f32>| {
            let block: Vec<&Asked> = block.iter().collect();
            let (mut tape, loss) =
                self.record(&block, Measure::Loss, Context::attribution(capture));
            tape.backward(&[loss], unused);
            drop(tape);
            on_progress(block.len() as u64);
        };
        let parts: Vec<Moments<'_>> = asked
            .par_chunks(part)
            .map(|part| {
                let mut moments = Moments::new(&self.parameters);
                let mut unused = Gradients::new(&self.parameters);
                for block in part.chunks(BLOCK) {
                    run(&mut moments, block, &mut unused);
                }
                moments
            })
            .collect();
        let mut moments = Moments::new(&self.parameters);
        for part in parts {
            moments.join(part);
        }
        let mut blocks = moments.into_blocks(n_samples);
        let parts: Vec<BTreeMap<ParameterId, Vec<f64>>> = asked
            .par_chunks(part)
            .map(|part| {
                let mut sums = BTreeMap::new();
                let mut unused = Gradients::new(&self.parameters);
                for block in part.chunks(BLOCK) {
                    let mut factors = Factors::new(&self.parameters, block.len());
                    run(&mut factors, block, &mut unused);
                    factors.merge();
                    add_squares(&factors, &blocks, &mut sums);
                }
                sums
            })
            .collect();
        for part in parts {
            for (id, squares) in part {
                if let Some(block) = blocks.get_mut(&id) {
                    for (sum, x) in block.squares.iter_mut().zip(squares) {
                        *sum += x;
                    }
                }
            }
        }
        Fisher { blocks, n_samples }
    }

    /// Replaces the label of each sample by a draw from the softmax: a function of seed and sample.
    fn draw_labels(&self, asked: &mut [(u64, Asked)], seed: Seed) {
        let stream = seed.child("labels").stream();
        asked.par_chunks_mut(BLOCK).for_each(|block| {
            let mut draw = Draw {
                uniform: block.iter().map(|(id, _)| stream.uniform(*id, 0)).collect(),
                labels: block.iter().map(|(_, asked)| asked.targets[0]).collect(),
                drawn: vec![0; block.len()],
            };
            let together: Vec<&Asked> = block.iter().map(|(_, asked)| asked).collect();
            // Logits are reported on the way forward.
            let (tape, _): (Tape<'_, f32>, _) =
                self.record(&together, Measure::Loss, Context::attribution(&mut draw));
            drop(tape);
            for ((_, asked), &label) in block.iter_mut().zip(&draw.drawn) {
                asked.targets[0] = label;
            }
        });
    }
}

/// Draws a label for each loss term.
struct Draw {
    uniform: Vec<f64>,
    labels: Vec<u32>,
    drawn: Vec<u32>,
}

impl Capture<f32> for Draw {
    fn output_table(
        &mut self,
        _name: &str,
        rows: &[u32],
        _hidden: &[f32],
        _columns: Option<&[u32]>,
        logit_gradient: &[f32],
    ) {
        let n_items = (logit_gradient.len() / rows.len().max(1)).max(1);
        for (&row, gradient) in rows.iter().zip(logit_gradient.chunks_exact(n_items)) {
            let row = row as usize;
            let mut left = self.uniform[row];
            // Where rounding leaves something at the end, the label stays.
            self.drawn[row] = self.labels[row];
            for (item, &gradient) in (0_u32..).zip(gradient) {
                // The gradient is probability - label.
                let probability = f64::from(gradient) + f64::from(item == self.labels[row]);
                left -= probability;
                if left < 0.0 {
                    self.drawn[row] = item;
                    break;
                }
            }
        }
    }
}

impl Fisher {
    fn direction(
        &self,
        parameters: &Parameters<f32>,
        target: &Gradients<f32>,
        (preconditioner, damped): (Preconditioner, Damped),
        rotations: &Arc<BTreeMap<ParameterId, Rotation<f32>>>,
    ) -> Direction {
        let mut gradient = parameters.gradients();
        let mut weights = parameters.gradients();
        let mut cards = Vec::new();
        let is_corrected = preconditioner == Preconditioner::Ekfac;
        let spectrum = |block: &Block<f32>| -> Spectrum {
            block.spectrum(is_corrected, self.n_samples, damped.share)
        };
        let means = self.blocks.values().map(|block| spectrum(block).mean);
        let largest = means.fold(0.0, f64::max);
        for id in parameters.ids() {
            let Some(block) = self.blocks.get(&id) else {
                continue;
            };
            let mut spectrum = spectrum(block);
            spectrum.damp_at_least(damped.share * ROUNDING * largest);
            let solved = block.solve(&spectrum, target.get(id));
            gradient.get_mut(id).copy_from_slice(&solved);
            for (weight, inverse) in weights.get_mut(id).iter_mut().zip(spectrum.inverse()) {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "rounded to the type of gradients"
                )]
                let inverse = inverse as f32;
                *weight = inverse;
            }
            cards.push(BlockCard {
                parameter: parameters.name(id).to_owned(),
                shape: parameters.shape(id),
                is_turned: block.kfac.is_some(),
                mean_eigenvalue: spectrum.mean,
                damping: spectrum.damping,
            });
        }
        Direction {
            preconditioner,
            gradient,
            own: Own::Turned {
                rotations: Arc::clone(rotations),
                weights,
            },
            blocks: cards,
        }
    }
}

/// Squares of turned gradients under a softmax: `l_i² (Q h)_j²` for each sample, as two factors
/// [samples, rows] and [samples, columns].
fn outer_squares(
    factors: &Factors<'_>,
    id: ParameterId,
    rotation: &Rotation<f32>,
) -> [Vec<f32>; 2] {
    let [n_rows, columns] = factors.parameters.shape(id);
    let mut logits = Vec::with_capacity(factors.n * n_rows);
    let mut hidden = Vec::with_capacity(factors.n * columns);
    for outer in factors.outer.get(&id).into_iter().flatten() {
        let square = |x: &f32| x * x;
        logits.extend(outer.logits.iter().map(square));
        hidden.extend(rotation.turn_rows(&outer.hidden).iter().map(square));
        logits.resize(logits.len().next_multiple_of(n_rows.max(1)), 0.0);
        hidden.resize(hidden.len().next_multiple_of(columns.max(1)), 0.0);
    }
    [logits, hidden]
}

/// Tells of each number of a table that some sample reaches by looking it up, what its square has
/// beside that of the outputs: (sample, place in the table, number).
fn looked_up(
    factors: &Factors<'_>,
    id: ParameterId,
    rotation: &Rotation<f32>,
    mut tell: impl FnMut(usize, usize, f32),
) {
    let columns = factors.parameters.shape(id)[1];
    let outer = factors.outer.get(&id);
    for (sample, rows) in factors.rows.get(&id).into_iter().flatten().enumerate() {
        let turned = rotation.turn_rows(&rows.values);
        let outer = outer.map(|outer| &outer[sample]);
        let hidden = outer.map(|outer| rotation.turn_rows(&outer.hidden));
        let values = turned.chunks_exact(columns.max(1));
        for (&row, values) in rows.ids.iter().zip(values) {
            let logit = outer.and_then(|outer| outer.logits.get(row as usize));
            let start = row as usize * columns;
            for (at, &value) in values.iter().enumerate() {
                let mut square = value * value;
                if let (Some(&logit), Some(hidden)) = (logit, &hidden) {
                    square += 2.0 * logit * hidden[at] * value;
                }
                tell(sample, start + at, square);
            }
        }
    }
}

/// Adds the squares of the turned gradients of some samples.
fn add_squares(
    factors: &Factors<'_>,
    blocks: &BTreeMap<ParameterId, Block<f32>>,
    sums: &mut BTreeMap<ParameterId, Vec<f64>>,
) {
    for (&id, block) in blocks {
        let [n_rows, columns] = factors.parameters.shape(id);
        let size = n_rows * columns;
        let sums = sums.entry(id).or_insert_with(|| vec![0.0; size]);
        if let Some(layers) = factors.layers.get(&id) {
            for gradient in layers.chunks_exact(size.max(1)) {
                block.rotation.add_squares(gradient, sums);
            }
        }
        if let Some(outer) = factors.outer.get(&id) {
            if outer.iter().all(|outer| outer.hidden.is_empty()) {
                for outer in outer {
                    for (sum, &x) in sums.iter_mut().zip(&outer.logits) {
                        *sum += f64::from(x) * f64::from(x);
                    }
                }
            } else {
                let [logits, hidden] = outer_squares(factors, id, &block.rotation);
                let mut squares = vec![0.0; size];
                multiply(
                    Matrix::new(&logits, factors.n, n_rows).transposed(),
                    Matrix::new(&hidden, factors.n, columns),
                    &mut squares,
                    columns,
                    false,
                    1.0,
                );
                for (sum, x) in sums.iter_mut().zip(squares) {
                    *sum += f64::from(x);
                }
            }
        }
        looked_up(factors, id, &block.rotation, |_, at, square| {
            sums[at] += f64::from(square);
        });
    }
}

/// Sums of squares of turned gradients, each number with a weight; one for each sample. Rows of tables
/// are merged.
pub(super) fn self_products(
    factors: &Factors<'_>,
    rotations: &BTreeMap<ParameterId, Rotation<f32>>,
    weights: &Gradients<f32>,
) -> Vec<f64> {
    let mut found = vec![0.0; factors.n];
    let weighted = |x: &f32, weight: &f32| f64::from(*x) * f64::from(*x) * f64::from(*weight);
    for (&id, rotation) in rotations {
        let [n_rows, columns] = factors.parameters.shape(id);
        let weights = weights.get(id);
        if let Some(layers) = factors.layers.get(&id) {
            let layers = layers.chunks_exact(weights.len().max(1));
            for (sum, gradient) in found.iter_mut().zip(layers) {
                let turned = rotation.turn(gradient);
                let squares = turned.iter().zip(weights);
                *sum += squares.map(|(x, weight)| weighted(x, weight)).sum::<f64>();
            }
        }
        if let Some(outer) = factors.outer.get(&id) {
            if outer.iter().all(|outer| outer.hidden.is_empty()) {
                for (sum, outer) in found.iter_mut().zip(outer) {
                    let squares = outer.logits.iter().zip(weights);
                    *sum += squares.map(|(x, weight)| weighted(x, weight)).sum::<f64>();
                }
            } else {
                let [logits, hidden] = outer_squares(factors, id, rotation);
                let mut along = vec![0.0; n_rows];
                let rows = logits.chunks_exact(n_rows.max(1));
                let rows = rows.zip(hidden.chunks_exact(columns.max(1)));
                for (sum, (logits, hidden)) in found.iter_mut().zip(rows) {
                    // One by one: a product of another shape may sum in another order.
                    multiply(
                        Matrix::new(weights, n_rows, columns),
                        Matrix::new(hidden, columns, 1),
                        &mut along,
                        1,
                        false,
                        1.0,
                    );
                    let products = logits.iter().zip(&along);
                    *sum += products
                        .map(|(&x, &y)| f64::from(x) * f64::from(y))
                        .sum::<f64>();
                }
            }
        }
        looked_up(factors, id, rotation, |sample, at, square| {
            found[sample] += f64::from(square) * f64::from(weights[at]);
        });
    }
    // A mixed term that cancels the others may leave less than nothing.
    found.into_iter().map(|sum| f64::max(sum, 0.0)).collect()
}

/// Moments of the factors of all parameters.
struct Moments<'p> {
    parameters: &'p Parameters<f32>,
    layers: BTreeMap<ParameterId, LayerMoments>,
    tables: BTreeMap<ParameterId, TableMoments>,
    /// What has no factors.
    vectors: BTreeMap<ParameterId, usize>,
}

impl<'p> Moments<'p> {
    fn new(parameters: &'p Parameters<f32>) -> Self {
        Self {
            parameters,
            layers: BTreeMap::new(),
            tables: BTreeMap::new(),
            vectors: BTreeMap::new(),
        }
    }

    fn vector(&mut self, name: &str) {
        if let Some(id) = self.parameters.id(name) {
            self.vectors.insert(id, self.parameters.get(id).len());
        }
    }

    fn table(&mut self, name: &str) -> Option<&mut TableMoments> {
        let id = self.parameters.id(name)?;
        let shape = self.parameters.shape(id);
        let table = self.tables.entry(id);
        Some(table.or_insert_with(|| TableMoments::new(shape)))
    }

    fn join(&mut self, other: Self) {
        for (id, more) in other.layers {
            match self.layers.get_mut(&id) {
                Some(sums) => sums.join(&more),
                None => drop(self.layers.insert(id, more)),
            }
        }
        for (id, more) in other.tables {
            match self.tables.get_mut(&id) {
                Some(sums) => sums.join(&more),
                None => drop(self.tables.insert(id, more)),
            }
        }
        self.vectors.extend(other.vectors);
    }

    fn into_blocks(self, n_samples: u64) -> BTreeMap<ParameterId, Block<f32>> {
        let layers = self.layers.iter();
        let layers = layers.map(|(&id, layer)| (id, layer.block(n_samples)));
        let tables = self.tables.iter();
        let tables = tables.map(|(&id, table)| (id, table.block(n_samples)));
        let vectors = self.vectors.iter();
        let vectors = vectors.map(|(&id, &n)| (id, Block::of_vector(n)));
        layers.chain(tables).chain(vectors).collect()
    }
}

impl Capture<f32> for Moments<'_> {
    fn linear(&mut self, name: &str, input: &[f32], output_gradient: &[f32], _rows: usize) {
        let Some(id) = self.parameters.id(name) else {
            return;
        };
        let shape = self.parameters.shape(id);
        let layer = self.layers.entry(id);
        let layer = layer.or_insert_with(|| LayerMoments::new(shape));
        layer.add(input, output_gradient);
    }

    fn bias(&mut self, name: &str, _output_gradient: &[f32], _rows: usize) {
        self.vector(name);
    }

    fn norm(&mut self, name: &str, _normalised_input: &[f32], _output_gradient: &[f32]) {
        self.vector(name);
    }

    fn embedding(&mut self, name: &str, ids: &[u32], gradient: &[f32]) {
        let columns = (gradient.len() / ids.len().max(1)).max(1);
        let Some(table) = self.table(name) else {
            return;
        };
        let (mut rows, mut received) = (Vec::new(), Vec::new());
        for (&id, gradient) in ids.iter().zip(gradient.chunks_exact(columns)) {
            // A position that the loss does not look at adds nothing.
            if id != PADDING && gradient.iter().any(|&x| x.abs() > 0.0) {
                rows.push(id);
                received.extend_from_slice(gradient);
            }
        }
        table.add_lookups(&rows, &received);
    }

    fn output_table(
        &mut self,
        name: &str,
        _rows: &[u32],
        hidden: &[f32],
        columns: Option<&[u32]>,
        logit_gradient: &[f32],
    ) {
        if let Some(table) = self.table(name) {
            table.add_terms(hidden, logit_gradient, columns);
        }
    }

    fn output_bias(
        &mut self,
        name: &str,
        _rows: &[u32],
        _columns: Option<&[u32]>,
        _logit_gradient: &[f32],
    ) {
        self.vector(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_drawn_as_often_as_the_model_expects() {
        let probabilities = [0.5_f32, 0.2, 0.0, 0.3];
        let n = 1000_u32;
        let label = 3;
        let mut draw = Draw {
            uniform: (0..n)
                .map(|at| (f64::from(at) + 0.5) / f64::from(n))
                .collect(),
            labels: vec![label; n as usize],
            drawn: vec![0; n as usize],
        };
        let rows: Vec<u32> = (0..n).collect();
        let gradient: Vec<f32> = rows
            .iter()
            .flat_map(|_| (0..).zip(probabilities))
            .map(|(item, p)| if item == label { p - 1.0 } else { p })
            .collect();
        draw.output_table("item", &rows, &[], None, &gradient);
        for (item, p) in (0..).zip(probabilities) {
            let drawn = draw.drawn.iter().filter(|&&found| found == item).count();
            // Evenly spread draws: within one of the expectation at each end.
            assert!(
                (drawn as f32 - p * n as f32).abs() <= 1.0,
                "{item}: {drawn}"
            );
        }
    }
}
