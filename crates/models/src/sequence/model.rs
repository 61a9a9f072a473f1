//! A trained network as a recommender.

use rayon::prelude::*;
use tensors::{Context, Matrix, Parameters, Tape, TensorError, Tensors, multiply};

use super::network::Network;
use crate::counts::Counts;
use crate::history::{Columns, History};
use crate::recommender::{LoadError, Losses, Model};

const STEPS: &str = "steps";
/// Histories that go through the network together.
const BLOCK: usize = 32;

/// A network, its weights, and popularity for those without a history.
///
/// Items outside the vocabulary score 1 below the lowest item of the vocabulary; in a history they
/// are passed over.
#[derive(Clone, Debug)]
pub(crate) struct SequenceModel<N> {
    pub(crate) network: N,
    pub(crate) parameters: Parameters<f32>,
    pub(crate) counts: Counts,
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
        let steps = tensors.u64(STEPS)?.first().copied().unwrap_or(0);
        Ok(Self {
            network,
            parameters,
            counts,
            steps,
        })
    }

    /// The events of a history whose items are known.
    fn known(&self, history: History<'_>) -> Columns {
        let n_items = self.network.n_items();
        Columns::of(history, |item| (item as usize) < n_items)
    }

    /// Scores of the vocabulary for histories of known items, none of them empty: [histories,
    /// items].
    fn logits(&self, histories: &[History<'_>]) -> Vec<f32> {
        let (batch, rows) = self.network.request_batch(histories);
        let mut tape = Tape::new(&self.parameters, Context::inference());
        let hidden = self.network.hidden(&mut tape, &batch);
        let hidden = tape.gather_rows(hidden, &rows);
        let output = self.network.output();
        let columns = self.parameters.shape(output.table)[1];
        let n_items = self.network.n_items();
        let mut logits = vec![0.0; histories.len() * n_items];
        let table = &self.parameters.get(output.table)[..n_items * columns];
        multiply(
            Matrix::new(tape.value(hidden), histories.len(), columns),
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
}

/// Scores of a catalogue from those of the vocabulary.
fn write_scores(logits: &[f32], scores: &mut [f64]) {
    let (known, unknown) = scores.split_at_mut(logits.len().min(scores.len()));
    let mut lowest = f64::INFINITY;
    for (score, &logit) in known.iter_mut().zip(logits) {
        *score = f64::from(logit);
        lowest = lowest.min(*score);
    }
    unknown.fill(lowest - 1.0);
}

impl<N: Network> Model for SequenceModel<N> {
    fn score(&self, user: Option<u32>, history: History<'_>, scores: &mut [f64]) {
        self.score_block(&[(user, history)], scores);
    }

    fn score_block(&self, requests: &[(Option<u32>, History<'_>)], scores: &mut [f64]) {
        let n = scores.len() / requests.len().max(1);
        let most = self.network.span().length as usize;
        let known: Vec<Columns> = requests
            .iter()
            .map(|(_, history)| self.known(*history))
            .collect();
        let mut rows: Vec<(History<'_>, &mut [f64])> = known
            .iter()
            .map(|known| known.history().last(most))
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
            let logits = self.logits(&histories);
            let logits = logits.chunks_exact(self.network.n_items());
            for ((_, scores), logits) in rows.iter_mut().zip(logits) {
                write_scores(logits, scores);
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
        tensors.insert_u64(STEPS, &[1], vec![self.steps])?;
        self.network.save(&mut tensors)?;
        Ok(tensors)
    }
}

impl<N: Network> Losses for SequenceModel<N> {
    /// Cross-entropy of the softmax over the vocabulary, whatever training minimised, from the
    /// window that training would have used. An item outside the vocabulary has the score of the
    /// lowest, less 1. Without a history, popularity.
    fn loss(&self, history: History<'_>, item: u32) -> f64 {
        let known = self.known(self.network.span().seen(history));
        let known = known.history();
        if known.is_empty() {
            return -libm::log(self.counts.share(item));
        }
        let logits = self.logits(&[known]);
        let fold = |start: f64, f: fn(f64, f64) -> f64| {
            logits.iter().fold(start, |sum, &x| f(sum, f64::from(x)))
        };
        let top = fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|&x| libm::exp(f64::from(x) - top)).sum();
        let score = match logits.get(item as usize) {
            Some(&score) => f64::from(score),
            None => fold(f64::INFINITY, f64::min) - 1.0,
        };
        libm::log(sum) + top - score
    }
}
