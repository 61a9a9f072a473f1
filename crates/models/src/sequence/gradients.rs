//! Exact gradients of single losses under a trained network: how long they are, and how they lie to
//! the gradient of what requests cost.
//!
//! The loss is that of [`crate::Losses`] without a chain: the cross-entropy of the softmax over the
//! vocabulary, whatever training minimised, so that models trained by different losses compare.
//!
//! A sample is asked for with the part of its history that training looks at, a request with its
//! last events, as losses are. Samples of like length go through the network together; the pass back
//! hands over the factors of each layer's gradient, and rows of a batch tell samples apart. Layers are
//! small enough to write each sample's gradient down; tables are not: of them there are some rows, and
//! for the softmax the product of (probability - label) and hidden state, whose length and products
//! are had without writing it down.

use std::collections::BTreeMap;

use rayon::prelude::*;
use seed::Seed;
use tensors::{
    Capture, Context, Gradients, Matrix, PADDING, ParameterId, Parameters, Tape, TensorError,
    Tensors, multiply,
};

use super::adam::AdamState;
use super::batches::Terms;
use super::model::SequenceModel;
use super::network::Network;
use super::objective::Objective;
use super::projection::Projected;
use crate::data::TrainingData;
use crate::directions::{Along, Damped, Direction, Preconditioner};
use crate::gradient_rows::{GradientRows, Measure, Projection};
use crate::history::{Columns, History};
use crate::recommender::{LossGradients, SampleGradient, TargetGradient};

/// Histories that go through the network together.
pub(super) const BLOCK: usize = 32;
/// Parts into which requests are cut; each sums its own gradient. Fixes the order of the sum.
const PARTS: usize = 8;
/// How a state kept along a training names weights.
const WEIGHT: &str = "weight.";

/// A history of known items with the items whose losses are wanted, and the weight of each.
pub(super) struct Asked {
    pub(super) history: Columns,
    pub(super) targets: Vec<u32>,
    weight: f64,
}

/// What the costs of so many relevant items are divided by: their number, or the gain of a ranking
/// that has them all first.
fn whole(measure: Measure, n: usize) -> f64 {
    match measure {
        Measure::Loss => n.max(1) as f64,
        Measure::Ndcg { .. } => (1..=n.max(1))
            .map(|rank| 1.0 / libm::log2(1.0 + rank as f64))
            .sum(),
    }
}

impl<N: Network> SequenceModel<N> {
    /// Whether a sample gives a loss term: whether training sees anything of its history.
    pub(super) fn has_loss(&self, data: &TrainingData<'_>, sample: usize) -> bool {
        let seen = self.network.span().seen(data.history(sample));
        !self.known(seen).history().is_empty()
    }

    /// A sample with the part of its history that training looks at.
    pub(super) fn asked(&self, data: &TrainingData<'_>, sample: usize) -> Asked {
        let seen = self.network.span().seen(data.history(sample));
        Asked {
            history: self.known(seen),
            targets: vec![data.item(sample)],
            weight: 1.0,
        }
    }

    /// Requests with their last events and known relevant items, each with the part of `share`
    /// that falls to an item; those that no parameter changes are left out. Each with its place.
    pub(super) fn asked_of(
        &self,
        requests: &[(History<'_>, &[u32])],
        share: f64,
        measure: Measure,
    ) -> Vec<(usize, Asked)> {
        let n_items = self.network.n_items();
        requests
            .iter()
            .map(|(history, relevant)| {
                let targets = relevant.iter().copied();
                Asked {
                    history: self.last_known(*history),
                    targets: targets.filter(|item| (*item as usize) < n_items).collect(),
                    weight: share / whole(measure, relevant.len()),
                }
            })
            .enumerate()
            .filter(|(_, asked)| !asked.history.history().is_empty() && !asked.targets.is_empty())
            .collect()
    }

    /// Records the sum of weighted losses of some histories, none of them empty.
    pub(super) fn record<'a>(
        &'a self,
        asked: &[&Asked],
        measure: Measure,
        context: Context<'a, f32>,
    ) -> (Tape<'a, f32>, tensors::Loss) {
        let histories: Vec<History<'_>> =
            asked.iter().map(|asked| asked.history.history()).collect();
        let (mut batch, rows) = self.network.request_batch(&histories);
        let n_terms: usize = asked.iter().map(|asked| asked.targets.len()).sum();
        let mut terms = Terms::default();
        for (asked, &row) in asked.iter().zip(&rows) {
            for &target in &asked.targets {
                terms.rows.push(row);
                terms.targets.push(target);
                // Losses are divided by the number of terms; here they are summed.
                terms.weights.push(asked.weight * n_terms as f64);
                terms.sample_ids.push(0);
            }
        }
        batch.terms = terms;
        let mut tape = Tape::new(&self.parameters, context);
        let hidden = self.network.hidden(&mut tape, &batch);
        let hidden = tape.gather_rows(hidden, &batch.terms.rows);
        let output = self.network.output();
        let loss = match measure {
            Measure::Loss => {
                let loss = Objective::softmax(self.network.n_items());
                loss.loss(&mut tape, hidden, output, &batch.terms, Seed::root(0))
            }
            Measure::Ndcg { temperature } => {
                Objective::gain(&mut tape, hidden, output, &batch.terms, temperature)
            }
        };
        (tape, loss)
    }

    /// Lengths and products of the gradients of some samples, each with one target and with directions.
    fn block(
        &self,
        asked: &[&Asked],
        (target, directions): (&Gradients<f32>, &[Direction]),
        scratch: &mut Gradients<f32>,
    ) -> Vec<(SampleGradient, Vec<Along>)> {
        let mut factors = Factors::new(&self.parameters, asked.len());
        let (mut tape, loss) =
            self.record(asked, Measure::Loss, Context::attribution(&mut factors));
        tape.backward(&[loss], scratch);
        drop(tape);
        factors.merge();
        let found = factors.finish(target);
        let mut along = vec![Vec::with_capacity(directions.len()); asked.len()];
        for direction in directions {
            for (all, one) in along.iter_mut().zip(factors.along(direction)) {
                all.push(one);
            }
        }
        found.into_iter().zip(along).collect()
    }
}

impl<N: Network> LossGradients for SequenceModel<N> {
    fn target(&self, requests: &[(History<'_>, &[u32])], measure: Measure) -> TargetGradient {
        let share = 1.0 / requests.len().max(1) as f64;
        let asked = self.asked_of(requests, share, measure);
        let mut asked: Vec<Asked> = asked.into_iter().map(|(_, asked)| asked).collect();
        // Histories of one length need no padding.
        asked.sort_by_key(|asked| asked.history.history().len());
        let part = asked.len().div_ceil(PARTS).max(1);
        let parts: Vec<Gradients<f32>> = asked
            .par_chunks(part)
            .map(|part| {
                let mut sum = Gradients::new(&self.parameters);
                for block in part.chunks(BLOCK) {
                    let block: Vec<&Asked> = block.iter().collect();
                    let (mut tape, loss) =
                        self.record(&block, measure, Context::training(None, &[]));
                    tape.backward(&[loss], &mut sum);
                }
                sum
            })
            .collect();
        let mut sum = Gradients::new(&self.parameters);
        for part in &parts {
            sum.add(part);
        }
        TargetGradient(sum)
    }

    fn samples(
        &self,
        data: &TrainingData<'_>,
        chosen: &[u32],
        target: &TargetGradient,
        on_progress: &(dyn Fn(u64) + Sync),
    ) -> Vec<Option<SampleGradient>> {
        let found = self.samples_along(data, chosen, (target, &[]), on_progress);
        let found = found.into_iter();
        found.map(|found| found.map(|(sample, _)| sample)).collect()
    }

    fn fisher_directions(
        &self,
        data: &TrainingData<'_>,
        target: &TargetGradient,
        wanted: (&[Preconditioner], Damped),
        seed: Seed,
        on_progress: &(dyn Fn(u64) + Sync),
    ) -> Vec<Direction> {
        self.by_fisher(data, &target.0, wanted, seed, on_progress)
    }

    fn adam_direction(
        &self,
        state: &Tensors,
        target: &TargetGradient,
    ) -> Result<Direction, TensorError> {
        AdamState::direction(&self.parameters, state, &target.0)
    }

    fn samples_along(
        &self,
        data: &TrainingData<'_>,
        chosen: &[u32],
        (target, directions): (&TargetGradient, &[Direction]),
        on_progress: &(dyn Fn(u64) + Sync),
    ) -> Vec<Option<(SampleGradient, Vec<Along>)>> {
        let asked: Vec<Asked> = chosen
            .iter()
            .map(|&sample| self.asked(data, sample as usize))
            .collect();
        let mut order: Vec<usize> = (0..asked.len()).collect();
        order.retain(|&at| !asked[at].history.history().is_empty());
        order.sort_by_key(|&at| asked[at].history.history().len());
        let blocks: Vec<Vec<(SampleGradient, Vec<Along>)>> = order
            .par_chunks(BLOCK)
            .map_init(
                || Gradients::new(&self.parameters),
                |scratch, block| {
                    let block: Vec<&Asked> = block.iter().map(|&at| &asked[at]).collect();
                    let found = self.block(&block, (&target.0, directions), scratch);
                    on_progress(block.len() as u64);
                    found
                },
            )
            .collect();
        let mut all = vec![None; asked.len()];
        for (at, found) in order.into_iter().zip(blocks.into_iter().flatten()) {
            all[at] = Some(found);
        }
        all
    }

    fn project(
        &self,
        projection: &Projection,
        measure: Measure,
        seed: Seed,
        data: &TrainingData<'_>,
    ) -> Box<dyn GradientRows> {
        Box::new(Projected::new(
            self.clone(),
            projection,
            measure,
            seed,
            data,
        ))
    }

    fn at(&self, state: &Tensors) -> Result<Box<dyn LossGradients>, TensorError> {
        let mut weights = Tensors::new();
        for name in state.names() {
            if let Some(rest) = name.strip_prefix(WEIGHT) {
                weights.insert_f32(rest, state.shape(name)?, state.f32(name)?.to_vec())?;
            }
        }
        let mut there = self.clone();
        there.parameters.load(&weights)?;
        Ok(Box::new(there))
    }
}

/// Rows of a table that one sample's gradient reaches.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub(super) ids: Vec<u32>,
    /// Row after row.
    pub(super) values: Vec<f32>,
}

/// Gradient of logits and what a table multiplies with: their product is a table's gradient. For a
/// bias of outputs, which is not multiplied, there is nothing to multiply with.
#[derive(Clone, Debug, Default)]
pub(super) struct Outer {
    pub(super) logits: Vec<f32>,
    pub(super) hidden: Vec<f32>,
}

/// What the pass back hands over, by sample.
pub(super) struct Factors<'p> {
    pub(super) parameters: &'p Parameters<f32>,
    /// Samples side by side.
    pub(super) n: usize,
    /// Whole gradients of layers, sample after sample.
    pub(super) layers: BTreeMap<ParameterId, Vec<f32>>,
    /// Of tables, what each sample reaches.
    pub(super) rows: BTreeMap<ParameterId, Vec<Rows>>,
    /// Of tables of outputs, the product.
    pub(super) outer: BTreeMap<ParameterId, Vec<Outer>>,
}

impl<'p> Factors<'p> {
    pub(super) fn new(parameters: &'p Parameters<f32>, n: usize) -> Self {
        Self {
            parameters,
            n,
            layers: BTreeMap::new(),
            rows: BTreeMap::new(),
            outer: BTreeMap::new(),
        }
    }

    /// The parameter of a name that the pass itself gave.
    fn id(&self, name: &str) -> ParameterId {
        let id = self.parameters.id(name);
        #[expect(clippy::expect_used, reason = "names come from these parameters")]
        id.expect("a parameter of the network")
    }

    /// Gradients of a layer, sample after sample, to add to.
    fn layer(&mut self, name: &str) -> impl Iterator<Item = &mut [f32]> {
        let id = self.id(name);
        let size = self.parameters.get(id).len();
        let all = self.layers.entry(id);
        all.or_insert_with(|| vec![0.0; size * self.n])
            .chunks_exact_mut(size.max(1))
    }

    /// What each sample reaches of a table.
    fn table(&mut self, name: &str) -> &mut [Rows] {
        let id = self.id(name);
        let all = self.rows.entry(id);
        all.or_insert_with(|| vec![Rows::default(); self.n])
    }

    /// The product for one sample.
    fn outer(&mut self, name: &str, sample: u32) -> &mut Outer {
        let id = self.id(name);
        let all = self.outer.entry(id);
        &mut all.or_insert_with(|| vec![Outer::default(); self.n])[sample as usize]
    }

    /// Rows of a report that belong to each sample.
    fn share(&self, rows: usize) -> usize {
        assert!(
            rows.is_multiple_of(self.n),
            "{rows} rows are shared by {} samples",
            self.n
        );
        rows / self.n
    }

    /// Adds up what was reported of the same row of a table: before anything is asked of it.
    pub(super) fn merge(&mut self) {
        for (&id, rows) in &mut self.rows {
            let columns = self.parameters.shape(id)[1];
            for rows in rows {
                rows.merge(columns);
            }
        }
    }

    /// Lengths, and products with a gradient, of all samples; rows are merged.
    pub(super) fn finish(&self, target: &Gradients<f32>) -> Vec<SampleGradient> {
        let mut found = vec![(0.0, 0.0, 0.0); self.n];
        let mut errors = vec![0.0_f64; self.n];
        for (&id, layers) in &self.layers {
            let target = target.get(id);
            let layers = layers.chunks_exact(target.len().max(1));
            for ((layer, _, product), gradient) in found.iter_mut().zip(layers) {
                *layer += dot(gradient, gradient);
                *product += dot(gradient, target);
            }
        }
        let of_layers: Vec<f64> = found.iter().map(|(_, _, product)| *product).collect();
        for (&id, rows) in &self.rows {
            let columns = self.parameters.shape(id)[1];
            let outer = self.outer.get(&id);
            for (sample, rows) in rows.iter().enumerate() {
                let (_, table, product) = &mut found[sample];
                let outer = outer.map(|outer| &outer[sample]);
                let values = rows.values.chunks_exact(columns.max(1));
                for (&row, values) in rows.ids.iter().zip(values) {
                    *table += dot(values, values);
                    let at = row as usize * columns;
                    *product += dot(values, &target.get(id)[at..at + columns]);
                    // A table of inputs and outputs: the square of a sum has a mixed term.
                    let logit = outer.and_then(|outer| outer.logits.get(row as usize));
                    if let (Some(&logit), Some(outer)) = (logit, outer) {
                        *table += 2.0 * f64::from(logit) * dot(values, &outer.hidden);
                    }
                }
            }
        }
        for (&id, outer) in &self.outer {
            let [n_rows, columns] = self.parameters.shape(id);
            let target = target.get(id);
            let mut along = Vec::new();
            for (sample, outer) in outer.iter().enumerate() {
                if outer.logits.is_empty() {
                    continue;
                }
                let (_, table, product) = &mut found[sample];
                let square = dot(&outer.logits, &outer.logits);
                if outer.hidden.is_empty() {
                    *table += square;
                    *product += dot(&outer.logits, target);
                    continue;
                }
                errors[sample] = square.sqrt();
                *table += square * dot(&outer.hidden, &outer.hidden);
                along.resize(n_rows, 0.0);
                multiply(
                    Matrix::new(target, n_rows, columns),
                    Matrix::new(&outer.hidden, columns, 1),
                    &mut along,
                    1,
                    false,
                    1.0,
                );
                *product += dot(&outer.logits, &along);
            }
        }
        found
            .into_iter()
            .zip(errors.into_iter().zip(of_layers))
            .map(
                |((layers, tables, target_product), (error_norm, of_layers))| SampleGradient {
                    error_norm,
                    target_product_without_tables: of_layers,
                    // A mixed term that cancels the others may leave less than nothing.
                    norm: f64::max(layers + tables, 0.0).sqrt(),
                    norm_without_tables: f64::sqrt(layers),
                    target_product,
                },
            )
            .collect()
    }
}

impl Rows {
    fn push(&mut self, id: u32, scale: f32, values: &[f32]) {
        self.ids.push(id);
        self.values.extend(values.iter().map(|value| scale * value));
    }

    /// Adds up what was reported of the same row.
    fn merge(&mut self, columns: usize) {
        let mut order: Vec<usize> = (0..self.ids.len()).collect();
        order.sort_by_key(|&at| self.ids[at]);
        let mut merged = Self::default();
        for at in order {
            let values = &self.values[at * columns..][..columns];
            if merged.ids.last() == Some(&self.ids[at]) {
                let start = merged.values.len() - columns;
                for (sum, value) in merged.values[start..].iter_mut().zip(values) {
                    *sum += value;
                }
            } else {
                merged.push(self.ids[at], 1.0, values);
            }
        }
        *self = merged;
    }
}

/// Sum of products, in double precision, in eight sums that are added in order.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = a.remainder().iter().zip(b.remainder());
    let rest: f64 = rest.map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
    for (a, b) in a.zip(b) {
        for (sum, (&x, &y)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += f64::from(x) * f64::from(y);
        }
    }
    sums.iter().sum::<f64>() + rest
}

impl Capture<f32> for Factors<'_> {
    fn linear(&mut self, name: &str, input: &[f32], output_gradient: &[f32], rows: usize) {
        let share = self.share(rows);
        let (n_in, n_out) = (
            input.len() / rows.max(1),
            output_gradient.len() / rows.max(1),
        );
        let inputs = input.chunks_exact((share * n_in).max(1));
        let gradients = output_gradient.chunks_exact((share * n_out).max(1));
        for ((sum, input), gradient) in self.layer(name).zip(inputs).zip(gradients) {
            multiply(
                Matrix::new(gradient, share, n_out).transposed(),
                Matrix::new(input, share, n_in),
                sum,
                n_in,
                true,
                1.0,
            );
        }
    }

    fn bias(&mut self, name: &str, output_gradient: &[f32], rows: usize) {
        let share = self.share(rows);
        let n_out = output_gradient.len() / rows.max(1);
        let gradients = output_gradient.chunks_exact((share * n_out).max(1));
        for (sum, gradient) in self.layer(name).zip(gradients) {
            for row in gradient.chunks_exact(n_out.max(1)) {
                for (sum, g) in sum.iter_mut().zip(row) {
                    *sum += g;
                }
            }
        }
    }

    fn norm(&mut self, name: &str, normalised_input: &[f32], output_gradient: &[f32]) {
        let id = self.id(name);
        let columns = self.parameters.get(id).len();
        let share = self.share(output_gradient.len() / columns.max(1));
        let inputs = normalised_input.chunks_exact((share * columns).max(1));
        let gradients = output_gradient.chunks_exact((share * columns).max(1));
        for ((sum, input), gradient) in self.layer(name).zip(inputs).zip(gradients) {
            for (at, (x, g)) in input.iter().zip(gradient).enumerate() {
                sum[at % columns] += x * g;
            }
        }
    }

    fn embedding(&mut self, name: &str, ids: &[u32], gradient: &[f32]) {
        let share = self.share(ids.len());
        let columns = gradient.len() / ids.len().max(1);
        let of_samples = ids.chunks_exact(share.max(1));
        let gradients = gradient.chunks_exact((share * columns).max(1));
        for ((rows, ids), gradient) in self.table(name).iter_mut().zip(of_samples).zip(gradients) {
            for (&id, values) in ids.iter().zip(gradient.chunks_exact(columns.max(1))) {
                if id != PADDING {
                    rows.push(id, 1.0, values);
                }
            }
        }
    }

    fn output_table(
        &mut self,
        name: &str,
        rows: &[u32],
        hidden: &[f32],
        columns: Option<&[u32]>,
        logit_gradient: &[f32],
    ) {
        let width = hidden.len() / rows.len().max(1);
        let logits = logit_gradient.chunks_exact((logit_gradient.len() / rows.len().max(1)).max(1));
        for ((&sample, hidden), logits) in rows
            .iter()
            .zip(hidden.chunks_exact(width.max(1)))
            .zip(logits)
        {
            if let Some(ids) = columns {
                let reached = &mut self.table(name)[sample as usize];
                for (&id, &logit) in ids.iter().zip(logits) {
                    reached.push(id, logit, hidden);
                }
            } else {
                let outer = self.outer(name, sample);
                outer.logits = logits.to_vec();
                outer.hidden = hidden.to_vec();
            }
        }
    }

    fn output_bias(
        &mut self,
        name: &str,
        rows: &[u32],
        columns: Option<&[u32]>,
        logit_gradient: &[f32],
    ) {
        let logits = logit_gradient.chunks_exact((logit_gradient.len() / rows.len().max(1)).max(1));
        for (&sample, logits) in rows.iter().zip(logits) {
            match columns {
                Some(ids) => {
                    let n_rows = self.parameters.get(self.id(name)).len();
                    let outer = self.outer(name, sample);
                    outer.logits.resize(n_rows, 0.0);
                    for (&id, &logit) in ids.iter().zip(logits) {
                        outer.logits[id as usize] += logit;
                    }
                }
                None => self.outer(name, sample).logits = logits.to_vec(),
            }
        }
    }
}
