//! A trained network as a recommender.
//!
//! Scores are logits; with a chain they are probabilities. Losses of training samples are those of
//! the windows that training looks at, losses of requests those of the last events, as scores are.

use std::sync::Arc;

use rayon::prelude::*;
use seed::Seed;
use tensors::{Context, Matrix, Parameters, Tape, TensorError, Tensors, exponentiate, multiply};

use super::chain::{Chain, Link};
use super::network::Network;
use super::windows::{Window, Windows};
use crate::counts::Counts;
use crate::data::TrainingData;
use crate::history::{Columns, History};
use crate::recommender::{LoadError, Losses, Model};

const STEPS: &str = "steps";
/// Histories or windows that go through the network together.
const BLOCK: usize = 32;
/// Hidden states whose logits exist at once on a thread.
const ROWS: usize = 64;
/// Histories that are copied at once.
const COPIED: usize = 1 << 14;

/// A network, its weights, and popularity for those without a history.
///
/// Items outside the vocabulary score 1 below the lowest item of the vocabulary, where scores are
/// probabilities 1/e of it; in a history they are passed over.
#[derive(Clone, Debug)]
pub(crate) struct SequenceModel<N> {
    pub(crate) network: N,
    pub(crate) parameters: Parameters<f32>,
    pub(crate) counts: Counts,
    /// What followed the last item, where it is mixed in.
    pub(super) chain: Option<Arc<Chain>>,
    /// Steps of training that led to these weights.
    pub(crate) steps: u64,
}

impl<N: Network> SequenceModel<N> {
    /// Restores what [`Model::save`] gave.
    pub(crate) fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        let (network, mut parameters) = N::load(tensors)?;
        parameters.load(tensors)?;
        let counts = Counts::load(tensors)?;
        if counts.counts().len() != network.n_items() {
            return Err(LoadError::Sizes {
                left: "item_counts",
                right: "shape",
            });
        }
        let chain = Chain::load(tensors, network.n_items())?.map(Arc::new);
        let steps = tensors.u64(STEPS)?.first().copied().unwrap_or(0);
        Ok(Self {
            network,
            parameters,
            counts,
            chain,
            steps,
        })
    }

    /// The events of a history whose items are known.
    pub(super) fn known(&self, history: History<'_>) -> Columns {
        let n_items = self.network.n_items();
        Columns::of(history, |item| (item as usize) < n_items)
    }

    /// The last events of a history whose items are known, as many as the network sees.
    pub(super) fn last_known(&self, history: History<'_>) -> Columns {
        let known = self.known(history);
        let most = self.network.span().length as usize;
        Columns::of(known.history().last(most), |_| true)
    }

    /// Scores of the vocabulary for histories of known items, none of them empty: [histories,
    /// items].
    fn logits(&self, histories: &[History<'_>]) -> Vec<f32> {
        let (batch, rows) = self.network.request_batch(histories);
        let mut tape = Tape::new(&self.parameters, Context::inference());
        let hidden = self.network.hidden_at(&mut tape, &batch, &rows);
        self.logits_of(tape.value(hidden), histories.len())
    }

    /// Scores of the vocabulary for hidden states, a row each.
    fn logits_of(&self, hidden: &[f32], n_rows: usize) -> Vec<f32> {
        let output = self.network.output();
        let columns = self.parameters.shape(output.table)[1];
        let n_items = self.network.n_items();
        let mut logits = vec![0.0; n_rows * n_items];
        let table = &self.parameters.get(output.table)[..n_items * columns];
        multiply(
            Matrix::new(hidden, n_rows, columns),
            Matrix::new(table, n_items, columns).transposed(),
            &mut logits,
            n_items,
            false,
            1.0,
        );
        if let Some(bias) = output.bias {
            let bias = self.parameters.get(bias);
            for logits in logits.chunks_exact_mut(n_items) {
                for (logit, bias) in logits.iter_mut().zip(bias) {
                    *logit += bias;
                }
            }
        }
        logits
    }

    /// What the chain knows after an item, if there is a chain.
    fn link(&self, last: u32) -> Option<Link<'_>> {
        let chain = self.chain.as_ref()?;
        Some(chain.after(&self.counts, last))
    }

    /// Scores of a catalogue from logits of the vocabulary, which are used up where scores are
    /// probabilities.
    fn write_scores(&self, last: Option<u32>, logits: &mut [f32], scores: &mut [f64]) {
        let (known, unknown) = scores.split_at_mut(logits.len().min(scores.len()));
        let mut lowest = f64::INFINITY;
        let Some(link) = last.and_then(|last| self.link(last)) else {
            for (score, &logit) in known.iter_mut().zip(&*logits) {
                *score = f64::from(logit);
                lowest = lowest.min(*score);
            }
            unknown.fill(lowest - 1.0);
            return;
        };
        let (_, sum) = exponentiate(logits);
        link.write(logits, sum, known);
        if !unknown.is_empty() {
            let lowest = known.iter().copied().fold(lowest, f64::min);
            unknown.fill(lowest / std::f64::consts::E);
        }
    }

    /// Losses of some items for each of some histories of known items, from as much of each as is
    /// given. Without a history, popularity.
    fn ask(&self, asked: &[(Columns, &[u32])]) -> Vec<Vec<f64>> {
        let mut order: Vec<usize> = (0..asked.len()).collect();
        // Histories of one length need no padding.
        order.sort_by_key(|&at| asked[at].0.history().len());
        let n_empty = order.partition_point(|&at| asked[at].0.history().is_empty());
        let (empty, rest) = order.split_at(n_empty);
        let blocks: Vec<Vec<Vec<f64>>> = rest
            .par_chunks(BLOCK)
            .map(|block| {
                let histories: Vec<History<'_>> =
                    block.iter().map(|&at| asked[at].0.history()).collect();
                let logits = self.logits(&histories);
                let logits = logits.chunks_exact(self.network.n_items());
                let mut scratch = Vec::new();
                block
                    .iter()
                    .zip(logits)
                    .map(|(&at, logits)| {
                        let (history, items) = &asked[at];
                        let last = history.history().items().last().copied();
                        self.losses_of(last, logits, items, &mut scratch)
                    })
                    .collect()
            })
            .collect();
        let mut losses = vec![Vec::new(); asked.len()];
        for &at in empty {
            let of = |item: &u32| -libm::log(self.counts.share(*item));
            losses[at] = asked[at].1.iter().map(of).collect();
        }
        for (&at, of) in rest.iter().zip(blocks.into_iter().flatten()) {
            losses[at] = of;
        }
        losses
    }

    /// Losses of some items given the last item and logits of the vocabulary.
    fn losses_of(
        &self,
        last: Option<u32>,
        logits: &[f32],
        items: &[u32],
        scratch: &mut Vec<f32>,
    ) -> Vec<f64> {
        scratch.clear();
        scratch.extend_from_slice(logits);
        let (top, sum) = exponentiate(scratch);
        let log_sum = libm::log(sum) + f64::from(top);
        let link = last.and_then(|last| self.link(last));
        items
            .iter()
            .map(|&item| item_loss(logits, log_sum, link.as_ref(), item))
            .collect()
    }

    /// The samples of some windows with their losses, from one pass over the windows.
    fn windows_losses(
        &self,
        data: &TrainingData<'_>,
        windows: &Windows,
        chosen: &[&Window],
    ) -> Vec<(usize, f64)> {
        // No chance is left in a batch of a causal network.
        let batch = self
            .network
            .training_batch(data, windows, chosen, Seed::root(0));
        let mut tape = Tape::new(&self.parameters, Context::inference());
        let hidden = self.network.hidden(&mut tape, &batch);
        let (mut rows, mut samples): (Vec<u32>, Vec<Vec<usize>>) = (Vec::new(), Vec::new());
        for (first, window) in (0_u32..).step_by(batch.length).zip(chosen) {
            for term in windows.terms(window) {
                let (row, sample) = (first + term.position, term.sample as usize);
                match samples.last_mut() {
                    Some(same) if rows.last() == Some(&row) => same.push(sample),
                    _ => {
                        rows.push(row);
                        samples.push(vec![sample]);
                    }
                }
            }
        }
        let mut losses = Vec::new();
        let mut scratch = Vec::new();
        for (rows, samples) in rows.chunks(ROWS).zip(samples.chunks(ROWS)) {
            let hidden = tape.gather_rows(hidden, rows);
            let logits = self.logits_of(tape.value(hidden), rows.len());
            let logits = logits.chunks_exact(self.network.n_items());
            for (same, logits) in samples.iter().zip(logits) {
                let last = same
                    .first()
                    .and_then(|&first| data.history(first).items().last());
                let items: Vec<u32> = same.iter().map(|&sample| data.item(sample)).collect();
                let of = self.losses_of(last.copied(), logits, &items, &mut scratch);
                losses.extend(same.iter().copied().zip(of));
            }
        }
        losses
    }
}

/// Loss of an item given the logits of the vocabulary and the logarithm of the sum of their
/// exponentials.
fn item_loss(logits: &[f32], log_sum: f64, link: Option<&Link<'_>>, item: u32) -> f64 {
    let q = |logit: f32| libm::exp(f64::from(logit) - log_sum);
    match (link, logits.get(item as usize)) {
        (None, Some(&logit)) => log_sum - f64::from(logit),
        (None, None) => {
            let lowest = logits
                .iter()
                .fold(f64::INFINITY, |least, &x| least.min(f64::from(x)));
            log_sum - (lowest - 1.0)
        }
        (Some(link), Some(&logit)) => -libm::log(link.mix(q(logit), item)),
        (Some(link), None) => {
            let all = (0_u32..).zip(logits);
            let all = all.map(|(item, &logit)| link.mix(q(logit), item));
            1.0 - libm::log(all.fold(f64::INFINITY, f64::min))
        }
    }
}

impl<N: Network> Model for SequenceModel<N> {
    fn score(&self, user: Option<u32>, history: History<'_>, scores: &mut [f64]) {
        self.score_block(&[(user, history)], scores);
    }

    fn score_block(&self, requests: &[(Option<u32>, History<'_>)], scores: &mut [f64]) {
        let n = scores.len() / requests.len().max(1);
        let known: Vec<Columns> = requests
            .iter()
            .map(|(_, history)| self.last_known(*history))
            .collect();
        let mut rows: Vec<(History<'_>, &mut [f64])> = known
            .iter()
            .map(Columns::history)
            .zip(scores.chunks_exact_mut(n.max(1)))
            .collect();
        // Histories of one length need no padding.
        rows.sort_by_key(|(known, _)| known.len());
        rows.par_chunks_mut(BLOCK).for_each(|rows| {
            let n_empty = rows.partition_point(|(known, _)| known.is_empty());
            let (empty, rows) = rows.split_at_mut(n_empty);
            for (_, scores) in empty {
                self.counts.write_shares(scores);
            }
            if rows.is_empty() {
                return;
            }
            let histories: Vec<History<'_>> = rows.iter().map(|(known, _)| *known).collect();
            let mut logits = self.logits(&histories);
            let logits = logits.chunks_exact_mut(self.network.n_items());
            for ((known, scores), logits) in rows.iter_mut().zip(logits) {
                let last = known.items().last().copied();
                self.write_scores(last, logits, scores);
            }
        });
    }

    fn losses(&self) -> Option<&dyn Losses> {
        Some(self)
    }

    fn steps(&self) -> Option<u64> {
        Some(self.steps)
    }

    fn save(&self) -> Result<Tensors, TensorError> {
        let mut tensors = self.parameters.to_tensors()?;
        self.counts.save(&mut tensors)?;
        if let Some(chain) = &self.chain {
            chain.save(&mut tensors)?;
        }
        tensors.insert_u64(STEPS, &[1], vec![self.steps])?;
        self.network.save(&mut tensors)?;
        Ok(tensors)
    }
}

impl<N: Network> Losses for SequenceModel<N> {
    /// Cross-entropy of the softmax over the vocabulary, whatever training minimised, from the
    /// window that training would have used; with a chain, -log of the mixed probability. An item
    /// outside the vocabulary costs 1 more than the dearest within. Without a history, popularity.
    fn loss(&self, history: History<'_>, item: u32) -> f64 {
        let known = self.known(self.network.span().seen(history));
        let known = known.history();
        let Some(&last) = known.items().last() else {
            return -libm::log(self.counts.share(item));
        };
        let logits = self.logits(&[known]);
        let top = logits
            .iter()
            .fold(f64::NEG_INFINITY, |top, &x| top.max(f64::from(x)));
        let sum: f64 = logits.iter().map(|&x| libm::exp(f64::from(x) - top)).sum();
        let log_sum = libm::log(sum) + top;
        item_loss(&logits, log_sum, self.link(last).as_ref(), item)
    }

    fn request_losses(&self, requests: &[(History<'_>, &[u32])]) -> Vec<Vec<f64>> {
        let blocks = requests.chunks(COPIED).map(|requests| {
            let asked: Vec<(Columns, &[u32])> = requests
                .iter()
                .map(|(history, items)| (self.last_known(*history), *items))
                .collect();
            self.ask(&asked)
        });
        blocks.flatten().collect()
    }

    /// One pass over each window; for a network that is not causal, one over the window of each
    /// history.
    fn sample_losses(&self, data: &TrainingData<'_>) -> Vec<f64> {
        let n = data.n_samples();
        if !N::IS_CAUSAL || data.n_vocabulary() != self.network.n_items() {
            return self.losses_by_history(data);
        }
        let mut losses: Vec<f64> = (0..n)
            .map(|sample| -libm::log(self.counts.share(data.item(sample))))
            .collect();
        let windows = Windows::new(data, self.network.span(), |_| true);
        let mut order: Vec<&Window> = windows.windows.iter().collect();
        // Windows of one length need no padding.
        order.sort_by_key(|window| window.len());
        let blocks: Vec<Vec<(usize, f64)>> = order
            .par_chunks(BLOCK)
            .map(|chosen| self.windows_losses(data, &windows, chosen))
            .collect();
        for (sample, loss) in blocks.into_iter().flatten() {
            losses[sample] = loss;
        }
        losses
    }
}

impl<N: Network> SequenceModel<N> {
    /// Losses of all samples, one row through the network for each history.
    fn losses_by_history(&self, data: &TrainingData<'_>) -> Vec<f64> {
        let targets: Vec<u32> = (0..data.n_samples()).map(|at| data.item(at)).collect();
        let key = |sample: usize| (data.sequence(sample), data.history_end(sample));
        let samples: Vec<usize> = (0..data.n_samples()).collect();
        // Samples of one basket share a history and follow each other.
        let baskets: Vec<&[usize]> = samples.chunk_by(|&a, &b| key(a) == key(b)).collect();
        let blocks = baskets.chunks(COPIED).map(|baskets| {
            let asked: Vec<(Columns, &[u32])> = baskets
                .iter()
                .map(|basket| {
                    let seen = self.network.span().seen(data.history(basket[0]));
                    let items = &targets[basket[0]..basket[0] + basket.len()];
                    (self.known(seen), items)
                })
                .collect();
            self.ask(&asked)
        });
        blocks.flatten().flatten().collect()
    }
}
