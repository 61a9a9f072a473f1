//! Gradients of single losses under a trained network, projected layer by layer as the pass back
//! hands over their factors: no sample's whole gradient is written down unless that is asked for.
//!
//! A layer's gradient is a sum over positions of (output gradient) x (input). The Kronecker
//! projection multiplies each factor by a thin matrix first (LoGra: Choe et al. 2024,
//! arXiv:2405.13954, section 3): `P_o (Σ δ a') P_i'`. The others take a layer's whole gradient, summed
//! over positions. A table's is sketched from what was looked up, row by row, and from the factors
//! that the softmax gives, (p - y) and h; being linear, the sketch keeps the mixed terms of a table of
//! inputs and outputs.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;
use seed::Seed;
use tensors::{Capture, Context, Gradients, Matrix, PADDING, ParameterId, Parameters, multiply};

use super::gradients::{Asked, BLOCK};
use super::model::SequenceModel;
use super::network::Network;
use super::projector::{Plan, Projector};
use crate::data::TrainingData;
use crate::gradient_rows::{GradientLayer, GradientRows, Measure, Projection};
use crate::history::History;

/// Samples that a basis of principal components is made from.
const PCA_SAMPLES: usize = 2048;

/// A network with a projection.
pub(super) struct Projected<N> {
    model: SequenceModel<N>,
    projector: Projector,
    /// What requests cost.
    measure: Measure,
}

/// What kind of parameter a name is of, as the pass back reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something that inputs are multiplied with, or the weights of a convolution.
    Linear,
    /// A bias, or what a norm multiplies with.
    Vector,
    /// Rows that are looked up, or that hidden states are compared with.
    Table,
}

impl<N: Network> Projected<N> {
    /// Chooses the matrices. Those of a layer follow from `seed` and its name; principal
    /// components also from an evenly spread selection of the samples.
    pub(super) fn new(
        model: SequenceModel<N>,
        projection: &Projection,
        measure: Measure,
        seed: Seed,
        data: &TrainingData<'_>,
    ) -> Self {
        let wants_components = projection.wants_components();
        let most = if wants_components { PCA_SAMPLES } else { 1 };
        let with_loss: Vec<usize> = (0..data.n_samples())
            .filter(|&sample| model.has_loss(data, sample))
            .collect();
        let step = with_loss.len().div_ceil(most).max(1);
        let mut asked: Vec<Asked> = with_loss
            .iter()
            .step_by(step)
            .map(|&sample| model.asked(data, sample))
            .collect();
        asked.sort_by_key(|asked| asked.history.history().len());
        let blocks: Vec<Moments<'_>> = asked
            .par_chunks(BLOCK)
            .map(|block| {
                let block: Vec<&Asked> = block.iter().collect();
                let mut moments = Moments::new(&model.parameters, wants_components);
                let (mut tape, loss) =
                    model.record(&block, Measure::Loss, Context::attribution(&mut moments));
                // Nothing is written there: gradients of parameters are not asked for.
                tape.backward(&[loss], &mut Gradients::new(&model.parameters));
                drop(tape);
                moments
            })
            .collect();
        let mut moments = Moments::new(&model.parameters, wants_components);
        for block in blocks {
            moments.add(block);
        }
        let projector = Projector::new(&model.parameters, &moments, projection, seed);
        Self {
            model,
            projector,
            measure,
        }
    }

    /// Projected gradients of some histories, row after row.
    /// Nothing is written to `unused`: gradients of parameters are not asked for.
    fn rows(&self, asked: &[&Asked], measure: Measure, unused: &mut Gradients<f32>) -> Vec<f32> {
        let owner: Vec<u32> = (0..)
            .zip(asked)
            .flat_map(|(at, asked)| asked.targets.iter().map(move |_| at))
            .collect();
        let mut sums = Sums {
            parameters: &self.model.parameters,
            projector: &self.projector,
            owner: &owner,
            rows: vec![0.0; asked.len() * self.projector.width()],
            whole: BTreeMap::new(),
            n: asked.len(),
        };
        let (mut tape, loss) = self
            .model
            .record(asked, measure, Context::attribution(&mut sums));
        tape.backward(&[loss], unused);
        drop(tape);
        sums.finish()
    }

    /// The rows of many, in their order: those of like length go through the network together.
    fn all_rows(&self, asked: &[Asked], measure: Measure) -> Vec<f32> {
        let width = self.projector.width();
        let mut order: Vec<usize> = (0..asked.len()).collect();
        order.sort_by_key(|&at| asked[at].history.history().len());
        let blocks: Vec<Vec<f32>> = order
            .par_chunks(BLOCK)
            .map_init(
                // As large as the model, and never written to: once, not for each block.
                || Gradients::new(&self.model.parameters),
                |unused, block| {
                    let block: Vec<&Asked> = block.iter().map(|&at| &asked[at]).collect();
                    self.rows(&block, measure, unused)
                },
            )
            .collect();
        let mut rows = vec![0.0; asked.len() * width];
        for (block, found) in order.chunks(BLOCK).zip(&blocks) {
            for (&at, row) in block.iter().zip(found.chunks_exact(width.max(1))) {
                rows[at * width..(at + 1) * width].copy_from_slice(row);
            }
        }
        rows
    }
}

impl<N: Network> GradientRows for Projected<N> {
    fn layers(&self) -> Vec<GradientLayer> {
        self.projector.layers(&self.model.parameters)
    }

    fn regularisation(&self) -> f64 {
        0.0
    }

    fn has_loss(&self, data: &TrainingData<'_>, sample: usize) -> bool {
        self.model.has_loss(data, sample)
    }

    fn sample_rows(&self, data: &TrainingData<'_>, samples: &[u32]) -> Vec<f32> {
        let with_loss = |at: &usize| self.has_loss(data, samples[*at] as usize);
        let places: Vec<usize> = (0..samples.len()).filter(with_loss).collect();
        let asked: Vec<Asked> = places
            .iter()
            .map(|&at| self.model.asked(data, samples[at] as usize))
            .collect();
        let found = self.all_rows(&asked, Measure::Loss);
        if places.len() == samples.len() {
            return found;
        }
        let width = self.projector.width();
        let mut rows = vec![0.0; samples.len() * width];
        for (at, row) in places.into_iter().zip(found.chunks_exact(width.max(1))) {
            rows[at * width..(at + 1) * width].copy_from_slice(row);
        }
        rows
    }

    fn request_row(&self, history: History<'_>, relevant: &[u32]) -> Option<Vec<f32>> {
        self.request_rows(&[(history, relevant)]).pop().flatten()
    }

    fn curvature_rows(&self, _data: &TrainingData<'_>, _samples: &[u32]) -> Option<Vec<f32>> {
        None
    }

    fn request_rows(&self, requests: &[(History<'_>, &[u32])]) -> Vec<Option<Vec<f32>>> {
        let asked = self.model.asked_of(requests, 1.0, self.measure);
        let (places, asked): (Vec<usize>, Vec<Asked>) = asked.into_iter().unzip();
        let rows = self.all_rows(&asked, self.measure);
        let mut all = vec![None; requests.len()];
        for (at, row) in places
            .into_iter()
            .zip(rows.chunks_exact(self.projector.width().max(1)))
        {
            all[at] = Some(row.to_vec());
        }
        all
    }
}

/// What the pass back reports of each parameter: its kind, and the second moments of both factors of
/// layers.
pub(super) struct Moments<'p> {
    parameters: &'p Parameters<f32>,
    pub(super) kinds: BTreeMap<ParameterId, Kind>,
    /// Of output gradients [out, out] and inputs [in, in].
    pub(super) factors: BTreeMap<ParameterId, [Vec<f64>; 2]>,
    wants_factors: bool,
}

impl<'p> Moments<'p> {
    fn new(parameters: &'p Parameters<f32>, wants_factors: bool) -> Self {
        Self {
            parameters,
            kinds: BTreeMap::new(),
            factors: BTreeMap::new(),
            wants_factors,
        }
    }

    fn note(&mut self, name: &str, kind: Kind) -> Option<ParameterId> {
        let id = self.parameters.id(name)?;
        self.add_kind(id, kind);
        Some(id)
    }

    fn add_kind(&mut self, id: ParameterId, kind: Kind) {
        let known = self.kinds.entry(id).or_insert(kind);
        // What is looked up and compared with is a table, whatever else it is.
        if kind == Kind::Table {
            *known = kind;
        }
    }

    fn add_factors(&mut self, id: ParameterId, factors: [Vec<f64>; 2]) {
        let Some(sums) = self.factors.get_mut(&id) else {
            self.factors.insert(id, factors);
            return;
        };
        for (sum, more) in sums.iter_mut().flatten().zip(factors.iter().flatten()) {
            *sum += more;
        }
    }

    /// Adds the moments of another block.
    fn add(&mut self, other: Self) {
        for (id, kind) in other.kinds {
            self.add_kind(id, kind);
        }
        for (id, factors) in other.factors {
            self.add_factors(id, factors);
        }
    }
}

/// `X' X` of rows, in double precision.
fn second_moment(rows: &[f32], columns: usize, n: usize) -> Vec<f64> {
    let mut product = vec![0.0_f32; columns * columns];
    let rows = Matrix::new(rows, n, columns);
    multiply(rows.transposed(), rows, &mut product, columns, false, 1.0);
    product.into_iter().map(f64::from).collect()
}

impl Capture<f32> for Moments<'_> {
    fn linear(&mut self, name: &str, input: &[f32], output_gradient: &[f32], rows: usize) {
        let Some(id) = self.note(name, Kind::Linear) else {
            return;
        };
        if !self.wants_factors || rows == 0 {
            return;
        }
        let (n_in, n_out) = (input.len() / rows, output_gradient.len() / rows);
        let found = [
            second_moment(output_gradient, n_out, rows),
            second_moment(input, n_in, rows),
        ];
        self.add_factors(id, found);
    }

    fn bias(&mut self, name: &str, _output_gradient: &[f32], _rows: usize) {
        self.note(name, Kind::Vector);
    }

    fn norm(&mut self, name: &str, _normalised_input: &[f32], _output_gradient: &[f32]) {
        self.note(name, Kind::Vector);
    }

    fn embedding(&mut self, name: &str, _ids: &[u32], _gradient: &[f32]) {
        self.note(name, Kind::Table);
    }

    fn output_table(
        &mut self,
        name: &str,
        _rows: &[u32],
        _hidden: &[f32],
        _columns: Option<&[u32]>,
        _logit_gradient: &[f32],
    ) {
        self.note(name, Kind::Table);
    }

    fn output_bias(
        &mut self,
        name: &str,
        _rows: &[u32],
        _columns: Option<&[u32]>,
        _logit_gradient: &[f32],
    ) {
        self.note(name, Kind::Vector);
    }
}

/// What the pass back hands over, projected and summed by history.
struct Sums<'p> {
    parameters: &'p Parameters<f32>,
    projector: &'p Projector,
    /// Which history each loss term belongs to.
    owner: &'p [u32],
    /// Projected gradients, history after history.
    rows: Vec<f32>,
    /// Whole gradients of what is projected at the end, history after history.
    whole: BTreeMap<ParameterId, Vec<f32>>,
    n: usize,
}

/// Rows of a factor times the transpose of a thin matrix [rank, columns].
fn thin(rows: &[f32], n: usize, columns: usize, matrix: &[f32], rank: usize) -> Vec<f32> {
    let mut product = vec![0.0; n * rank];
    multiply(
        Matrix::new(rows, n, columns),
        Matrix::new(matrix, rank, columns).transposed(),
        &mut product,
        rank,
        false,
        1.0,
    );
    product
}

impl<'p> Sums<'p> {
    /// The plan of a parameter; `None` where it is left out.
    fn plan(&self, name: &str) -> Option<(ParameterId, &'p Plan, Range<usize>)> {
        let id = self.parameters.id(name)?;
        let (plan, columns) = self.projector.of(id)?;
        Some((id, plan, columns))
    }

    fn row(&mut self, at: usize, columns: &Range<usize>) -> &mut [f32] {
        let start = at * self.projector.width();
        &mut self.rows[start + columns.start..start + columns.end]
    }

    /// The whole gradient of one history, to add to.
    fn whole(&mut self, id: ParameterId, at: usize) -> &mut [f32] {
        let size = self.parameters.get(id).len();
        let n = self.n;
        let all = self.whole.entry(id).or_insert_with(|| vec![0.0; size * n]);
        &mut all[at * size..(at + 1) * size]
    }

    fn finish(mut self) -> Vec<f32> {
        let whole = std::mem::take(&mut self.whole);
        for (id, gradients) in whole {
            let Some((plan, columns)) = self.projector.of(id) else {
                continue;
            };
            let size = self.parameters.get(id).len();
            // A tile of a dense matrix stays in the cache while all histories are multiplied with it.
            for tile in plan.tiles(size) {
                for (at, gradient) in gradients.chunks_exact(size.max(1)).enumerate() {
                    plan.project(gradient, tile.clone(), self.row(at, &columns));
                }
            }
        }
        self.rows
    }
}

impl Capture<f32> for Sums<'_> {
    fn linear(&mut self, name: &str, input: &[f32], output_gradient: &[f32], rows: usize) {
        let Some((id, plan, columns)) = self.plan(name) else {
            return;
        };
        if rows == 0 || self.n == 0 {
            return;
        }
        let (n_in, n_out) = (input.len() / rows, output_gradient.len() / rows);
        let share = rows / self.n;
        if let Plan::Factors(factors) = plan {
            let [r_out, r_in] = factors.rank;
            let outputs = thin(output_gradient, rows, n_out, &factors.outputs, r_out);
            let inputs = thin(input, rows, n_in, &factors.inputs, r_in);
            for at in 0..self.n {
                let outputs = Matrix::new(&outputs[at * share * r_out..], share, r_out);
                let inputs = Matrix::new(&inputs[at * share * r_in..], share, r_in);
                let row = self.row(at, &columns);
                multiply(outputs.transposed(), inputs, row, r_in, true, 1.0);
            }
            return;
        }
        for at in 0..self.n {
            let gradient = Matrix::new(&output_gradient[at * share * n_out..], share, n_out);
            let input = Matrix::new(&input[at * share * n_in..], share, n_in);
            let whole = self.whole(id, at);
            multiply(gradient.transposed(), input, whole, n_in, true, 1.0);
        }
    }

    fn bias(&mut self, name: &str, output_gradient: &[f32], rows: usize) {
        let Some((id, ..)) = self.plan(name) else {
            return;
        };
        let n_out = output_gradient.len() / rows.max(1);
        let share = rows / self.n.max(1);
        let of_history = output_gradient.chunks_exact((share * n_out).max(1));
        for (at, gradient) in of_history.enumerate().take(self.n) {
            let sum = self.whole(id, at);
            for row in gradient.chunks_exact(n_out.max(1)) {
                for (sum, g) in sum.iter_mut().zip(row) {
                    *sum += g;
                }
            }
        }
    }

    fn norm(&mut self, name: &str, normalised_input: &[f32], output_gradient: &[f32]) {
        let Some((id, ..)) = self.plan(name) else {
            return;
        };
        let columns = self.parameters.get(id).len().max(1);
        let share = output_gradient.len() / columns / self.n.max(1);
        let inputs = normalised_input.chunks_exact((share * columns).max(1));
        let gradients = output_gradient.chunks_exact((share * columns).max(1));
        for (at, (input, gradient)) in inputs.zip(gradients).enumerate().take(self.n) {
            let sum = self.whole(id, at);
            for (input, gradient) in input
                .chunks_exact(columns)
                .zip(gradient.chunks_exact(columns))
            {
                for ((sum, x), g) in sum.iter_mut().zip(input).zip(gradient) {
                    *sum += x * g;
                }
            }
        }
    }

    fn embedding(&mut self, name: &str, ids: &[u32], gradient: &[f32]) {
        let Some((id, plan, columns)) = self.plan(name) else {
            return;
        };
        let width = gradient.len() / ids.len().max(1);
        let share = (ids.len() / self.n.max(1)).max(1);
        if let Plan::Sketch(sketch) = plan {
            let rows = ids.iter().zip(gradient.chunks_exact(width.max(1)));
            for (place, (&id, values)) in rows.enumerate() {
                if id != PADDING {
                    sketch.add_row(id as usize, values, self.row(place / share, &columns));
                }
            }
            return;
        }
        for (place, (&row, values)) in ids
            .iter()
            .zip(gradient.chunks_exact(width.max(1)))
            .enumerate()
        {
            if row != PADDING {
                let whole = self.whole(id, place / share);
                for (sum, value) in whole[row as usize * width..].iter_mut().zip(values) {
                    *sum += value;
                }
            }
        }
    }

    fn output_table(
        &mut self,
        name: &str,
        rows: &[u32],
        hidden: &[f32],
        chosen: Option<&[u32]>,
        logit_gradient: &[f32],
    ) {
        let Some((id, plan, columns)) = self.plan(name) else {
            return;
        };
        let n = rows.len();
        let width = hidden.len() / n.max(1);
        let n_logits = logit_gradient.len() / n.max(1);
        if let Plan::Sketch(sketch) = plan {
            for ((&row, hidden), logits) in rows
                .iter()
                .zip(hidden.chunks_exact(width.max(1)))
                .zip(logit_gradient.chunks_exact(n_logits.max(1)))
            {
                let of_rows = sketch.of_rows(logits, chosen);
                let owner = self.owner[row as usize] as usize;
                sketch.add_product(&of_rows, hidden, self.row(owner, &columns));
            }
            return;
        }
        for ((&row, hidden), logits) in rows
            .iter()
            .zip(hidden.chunks_exact(width.max(1)))
            .zip(logit_gradient.chunks_exact(n_logits.max(1)))
        {
            let whole = self.whole(id, self.owner[row as usize] as usize);
            for (at, &logit) in logits.iter().enumerate() {
                let item = chosen.map_or(at, |ids| ids[at] as usize);
                for (sum, h) in whole[item * width..].iter_mut().zip(hidden) {
                    *sum += logit * h;
                }
            }
        }
    }

    fn output_bias(
        &mut self,
        name: &str,
        rows: &[u32],
        chosen: Option<&[u32]>,
        logit_gradient: &[f32],
    ) {
        let Some((id, ..)) = self.plan(name) else {
            return;
        };
        let n_logits = logit_gradient.len() / rows.len().max(1);
        for (&row, logits) in rows
            .iter()
            .zip(logit_gradient.chunks_exact(n_logits.max(1)))
        {
            let whole = self.whole(id, self.owner[row as usize] as usize);
            for (at, &logit) in logits.iter().enumerate() {
                whole[chosen.map_or(at, |ids| ids[at] as usize)] += logit;
            }
        }
    }
}
