//! What a network with hidden states and attention knows of events beyond losses and gradients.

use crate::data::TrainingData;
use crate::history::History;

/// Predictions that look at events.
#[derive(Clone, Copy, Debug)]
pub enum Predictions<'a> {
    /// Those of the training samples, each from the window that training looks at.
    Samples,
    /// Those of requests, each from its last events.
    Requests(&'a [AskedRequest<'a>]),
}

/// A request as a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedRequest<'a> {
    /// Sequence that holds its history.
    pub sequence: u32,
    /// Events of it that are the history.
    pub history_end: u32,
    /// Its relevant items.
    pub relevant: &'a [u32],
}

/// How much predictions look at each event, without dropout. All lists run parallel to the events of
/// all sequences, one sequence after the other; sums over the predictions that can see the event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Received {
    /// Predictions that can see it.
    pub n_predictions: Vec<u64>,
    /// What it would get if each prediction looked at all it can see evenly.
    pub even: Vec<f64>,
    /// Attention of the position that predicts, the mean over layers and heads.
    pub raw: Vec<f64>,
    /// Attention rollout (Abnar and Zuidema 2020, arXiv:2005.00928, section 3): the row of the position
    /// that predicts in the product over layers of A/2 + I/2, where A is the mean over heads.
    pub rollout: Vec<f64>,
    /// |A x dL/dA| summed over layers, heads and all positions that look at it, where L is the sum of the
    /// losses of the predictions of one pass, in nats: those of a window, or the mean loss of a request.
    pub gradient: Vec<f64>,
}

impl Received {
    pub(crate) fn new(n_events: usize) -> Self {
        Self {
            n_predictions: vec![0; n_events],
            even: vec![0.0; n_events],
            raw: vec![0.0; n_events],
            rollout: vec![0.0; n_events],
            gradient: vec![0.0; n_events],
        }
    }
}

/// Attention of a fitted network.
///
/// It explains inputs, not training samples: what a prediction looks at, wherever the model learnt to.
pub trait AttentionMaps: Send + Sync {
    /// How much some predictions look at each event of the sequences of `data`. `on_progress` is told
    /// how many more predictions are done, from any thread.
    fn received(
        &self,
        data: &TrainingData<'_>,
        predictions: Predictions<'_>,
        on_progress: &(dyn Fn(u64) + Sync),
    ) -> Received;
}

/// Numbered rows of hidden states.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HiddenRows {
    /// Which sample or request each row belongs to, ascending.
    pub numbers: Vec<u32>,
    /// The rows, one after the other.
    pub values: Vec<f32>,
}

/// The table that hidden states are multiplied with to score items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ItemVectors {
    /// [items of the vocabulary, columns of a hidden state].
    pub vectors: Vec<f32>,
    /// Added to each item's score, if anything is.
    pub bias: Option<Vec<f32>>,
}

/// Final hidden states of a fitted network, without dropout: what is multiplied with vectors of items to
/// score them.
pub trait HiddenStates: Send + Sync {
    /// Numbers in a state.
    fn n_columns(&self) -> usize;

    /// States at which the samples are predicted, from the window that training looks at; none for a
    /// sample without a history.
    fn of_samples(&self, data: &TrainingData<'_>, on_progress: &(dyn Fn(u64) + Sync))
    -> HiddenRows;

    /// States at which requests are answered, from the last events of each history; none where there
    /// is no known event.
    fn of_requests(&self, requests: &[History<'_>]) -> HiddenRows;

    /// What states are multiplied with.
    fn items(&self) -> ItemVectors;
}
