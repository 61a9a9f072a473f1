//! Attention and hidden states of a fitted network, from the passes that its losses come from.

use std::collections::VecDeque;

use seed::Seed;
use tensors::{AttentionShape, Capture, Context, Gradients, Matrix, PADDING, Tape, multiply};

use super::batches::Batch;
use super::model::SequenceModel;
use super::network::Network;
use super::objective::Objective;
use super::views::{View, Views};
use crate::data::TrainingData;
use crate::history::{Columns, History};
use crate::inside::{AttentionMaps, HiddenRows, HiddenStates, ItemVectors, Predictions, Received};

/// Histories of requests whose states are computed at once.
const REQUESTS: usize = 32;

/// Attention of a pass: what it was, and how it acts on the losses.
#[derive(Default)]
pub(super) struct Maps {
    /// Rows of a sequence.
    length: usize,
    heads: usize,
    /// Probabilities of each layer, [batch, heads, queries, keys], first layer first.
    layers: Vec<Vec<f32>>,
    /// Layers whose gradient is still to come.
    pending: VecDeque<usize>,
    /// |A x dL/dA| summed over layers, heads and queries: [batch, keys].
    products: Vec<f64>,
}

impl Capture<f32> for Maps {
    fn attention(&mut self, _name: &str, probabilities: &[f32], shape: AttentionShape) {
        self.length = shape.keys;
        self.heads = shape.heads;
        self.products.resize(shape.batch * shape.keys, 0.0);
        // The way back meets the last layer first.
        self.pending.push_front(self.layers.len());
        self.layers.push(probabilities.to_vec());
    }

    fn wants_attention_gradient(&self) -> bool {
        true
    }

    fn attention_gradient(&mut self, _name: &str, gradient: &[f32], shape: AttentionShape) {
        let Some(layer) = self.pending.pop_front() else {
            return;
        };
        let of_sequence = (shape.heads * shape.queries * shape.keys).max(1);
        let maps = self.layers[layer].chunks_exact(of_sequence);
        let sums = self.products.chunks_exact_mut(shape.keys.max(1));
        for ((map, gradient), sums) in maps.zip(gradient.chunks_exact(of_sequence)).zip(sums) {
            let rows = map.chunks_exact(shape.keys);
            for (map, gradient) in rows.zip(gradient.chunks_exact(shape.keys)) {
                for ((sum, &a), &d) in sums.iter_mut().zip(map).zip(gradient) {
                    *sum += (f64::from(a) * f64::from(d)).abs();
                }
            }
        }
    }
}

impl Maps {
    /// Attention of one sequence in each layer, the mean over heads: [queries, keys].
    fn means(&self, sequence: usize) -> Vec<Vec<f64>> {
        let of_head = self.length * self.length;
        let share = 1.0 / self.heads.max(1) as f64;
        self.layers
            .iter()
            .map(|layer| {
                let maps = &layer[sequence * self.heads * of_head..][..self.heads * of_head];
                let mut mean = vec![0.0; of_head];
                for map in maps.chunks_exact(of_head.max(1)) {
                    for (mean, &a) in mean.iter_mut().zip(map) {
                        *mean += share * f64::from(a);
                    }
                }
                mean
            })
            .collect()
    }
}

/// Rows of the product over layers of A/2 + I/2, the last layer on the left: `rows` x `length`.
///
/// Rows of A sum to 1, hence those of the product do.
pub(super) fn rollout(layers: &[Vec<f64>], length: usize, rows: &[usize]) -> Vec<f64> {
    let mut product = vec![0.0; rows.len() * length];
    for (unit, &row) in product.chunks_exact_mut(length.max(1)).zip(rows) {
        unit[row] = 1.0;
    }
    for layer in layers.iter().rev() {
        let mut next = product.clone();
        multiply(
            Matrix::new(&product, rows.len(), length),
            Matrix::new(layer, length, length),
            &mut next,
            length,
            false,
            0.5,
        );
        for (next, &before) in next.iter_mut().zip(&product) {
            *next += 0.5 * before;
        }
        product = next;
    }
    product
}

/// What one view says of one event.
struct Seen {
    sequence: u32,
    position: u32,
    n_predictions: u64,
    even: f64,
    raw: f64,
    rollout: f64,
    gradient: f64,
}

/// What one view says of its events.
fn seen(view: &View, maps: &Maps, sequence: usize, valid: &[bool], is_causal: bool) -> Vec<Seen> {
    let length = maps.length;
    let means = maps.means(sequence);
    let rows: Vec<usize> = view.queries.iter().map(|query| query.row).collect();
    let rollouts = rollout(&means, length, &rows);
    let share = 1.0 / means.len().max(1) as f64;
    let mut all: Vec<Seen> = view
        .positions
        .iter()
        .zip(&maps.products[sequence * length..])
        .map(|(&position, &gradient)| Seen {
            sequence: view.sequence,
            position,
            n_predictions: 0,
            even: 0.0,
            raw: 0.0,
            rollout: 0.0,
            gradient,
        })
        .collect();
    for (query, rollout) in view
        .queries
        .iter()
        .zip(rollouts.chunks_exact(length.max(1)))
    {
        let end = if is_causal { query.row + 1 } else { length };
        let n_keys = valid[..end].iter().filter(|&&valid| valid).count();
        let n = query.numbers.len() as f64;
        for (key, seen) in all[..end].iter_mut().enumerate() {
            seen.n_predictions += query.numbers.len() as u64;
            seen.even += n / n_keys.max(1) as f64;
            let raw: f64 = means.iter().map(|map| map[query.row * length + key]).sum();
            seen.raw += n * share * raw;
            seen.rollout += n * rollout[key];
        }
    }
    all.retain(|seen| seen.position != PADDING);
    all
}

impl<N: Network> SequenceModel<N> {
    /// Its attention, if it has any.
    pub(crate) fn attention_maps(&self) -> Option<&dyn AttentionMaps> {
        N::HAS_ATTENTION.then_some(self)
    }

    /// What a pass says of attention.
    fn maps(&self, batch: &Batch) -> Maps {
        let mut maps = Maps::default();
        let mut tape = Tape::new(&self.parameters, Context::attribution(&mut maps));
        let hidden = self.network.hidden(&mut tape, batch);
        if !batch.terms.rows.is_empty() {
            let hidden = tape.gather_rows(hidden, &batch.terms.rows);
            let output = self.network.output();
            let loss = Objective::softmax(self.network.n_items());
            let loss = loss.loss(&mut tape, hidden, output, &batch.terms, Seed::root(0));
            let mut unused = Gradients::new(&self.parameters);
            tape.backward(&[loss], &mut unused);
        }
        drop(tape);
        maps
    }

    /// Hidden states of some rows of a batch.
    fn states(&self, batch: &Batch, rows: &[u32]) -> Vec<f32> {
        let mut tape = Tape::new(&self.parameters, Context::inference());
        let hidden = self.network.hidden(&mut tape, batch);
        let hidden = tape.gather_rows(hidden, rows);
        tape.value(hidden).to_vec()
    }
}

impl<N: Network> AttentionMaps for SequenceModel<N> {
    fn received(
        &self,
        data: &TrainingData<'_>,
        predictions: Predictions<'_>,
        on_progress: &(dyn Fn(u64) + Sync),
    ) -> Received {
        let mut received = Received::new(data.n_events());
        Views::new(self, data, predictions).each(
            |batch, views| {
                let maps = self.maps(batch);
                let found: Vec<Vec<Seen>> = views
                    .iter()
                    .enumerate()
                    .map(|(at, view)| {
                        let valid = &batch.valid[at * batch.length..(at + 1) * batch.length];
                        seen(view, &maps, at, valid, N::IS_CAUSAL)
                    })
                    .collect();
                let done = views.iter().flat_map(|view| &view.queries);
                on_progress(done.map(|query| query.numbers.len() as u64).sum());
                found
            },
            |found| {
                for seen in found.into_iter().flatten() {
                    let at = data.first_event(seen.sequence) + seen.position as usize;
                    received.n_predictions[at] += seen.n_predictions;
                    received.even[at] += seen.even;
                    received.raw[at] += seen.raw;
                    received.rollout[at] += seen.rollout;
                    received.gradient[at] += seen.gradient;
                }
            },
        );
        received
    }
}

impl<N: Network> HiddenStates for SequenceModel<N> {
    fn n_columns(&self) -> usize {
        self.parameters.shape(self.network.output().table)[1]
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a batch has far fewer rows than 2^32"
    )]
    fn of_samples(
        &self,
        data: &TrainingData<'_>,
        on_progress: &(dyn Fn(u64) + Sync),
    ) -> HiddenRows {
        let columns = self.n_columns();
        let (mut numbers, mut values) = (Vec::new(), Vec::new());
        Views::new(self, data, Predictions::Samples).each(
            |batch, views| {
                let (mut numbers, mut rows): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
                for (at, view) in views.iter().enumerate() {
                    for query in &view.queries {
                        numbers.extend(&query.numbers);
                        rows.resize(numbers.len(), (at * batch.length + query.row) as u32);
                    }
                }
                on_progress(numbers.len() as u64);
                let states = self.states(batch, &rows);
                (numbers, states)
            },
            |(found, states)| {
                numbers.extend(found);
                values.extend(states);
            },
        );
        sorted(&numbers, &values, columns)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "requests are numbered by 32 bits"
    )]
    fn of_requests(&self, requests: &[History<'_>]) -> HiddenRows {
        let known: Vec<Columns> = requests
            .iter()
            .map(|history| self.last_known(*history))
            .collect();
        let mut numbers: Vec<u32> = (0..requests.len() as u32).collect();
        numbers.retain(|&at| !known[at as usize].history().is_empty());
        // Histories of one length need no padding.
        numbers.sort_by_key(|&at| known[at as usize].history().len());
        let mut values = Vec::new();
        for chosen in numbers.chunks(REQUESTS) {
            let histories: Vec<History<'_>> = chosen
                .iter()
                .map(|&at| known[at as usize].history())
                .collect();
            let (batch, rows) = self.network.request_batch(&histories);
            values.extend(self.states(&batch, &rows));
        }
        sorted(&numbers, &values, self.n_columns())
    }

    fn items(&self) -> ItemVectors {
        let output = self.network.output();
        let n = self.network.n_items() * self.n_columns();
        let of = |id| self.parameters.get(id);
        ItemVectors {
            vectors: of(output.table)[..n].to_vec(),
            bias: output
                .bias
                .map(|bias| of(bias)[..self.network.n_items()].to_vec()),
        }
    }
}

/// Rows by number.
fn sorted(numbers: &[u32], values: &[f32], columns: usize) -> HiddenRows {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_unstable_by_key(|&at| numbers[at]);
    HiddenRows {
        numbers: order.iter().map(|&at| numbers[at]).collect(),
        values: order
            .iter()
            .flat_map(|&at| &values[at * columns..(at + 1) * columns])
            .copied()
            .collect(),
    }
}
