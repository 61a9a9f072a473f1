//! What a sequence model is made of: parameters and one forward pass, used by training, scoring and
//! probing alike, in 32 and 64 bits.

use seed::Seed;
use tensors::{Loss, ParameterId, Parameters, Real, Tape, Tensors, Value};

use super::batches::Batch;
use super::objective::Objective;
use super::side::Side;
use super::windows::{Span, Window, Windows};
use crate::data::TrainingData;
use crate::history::History;
use crate::recommender::LoadError;
use crate::{FitError, TensorError};

/// The table that hidden states are multiplied with, a row per item of the vocabulary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// [items or more, columns of a hidden state].
    pub(crate) table: ParameterId,
    /// [1, rows of the table].
    pub(crate) bias: Option<ParameterId>,
}

/// One architecture with its shape and the places of its parameters.
pub(crate) trait Network: Clone + Send + Sync + 'static {
    /// Whether a row sees nothing that comes after it, so that one pass over a window answers all
    /// its samples.
    const IS_CAUSAL: bool = true;

    /// Whether rows look at each other by attention.
    const HAS_ATTENTION: bool = false;

    /// Which events it sees.
    fn span(&self) -> Span;

    /// Size of the vocabulary.
    fn n_items(&self) -> usize;

    /// What scores are made with.
    fn output(&self) -> Output;

    /// What is minimised.
    fn objective(&self) -> &Objective;

    /// Its optional inputs.
    fn side(&self) -> &Side;

    /// Its optional inputs, to replace them.
    fn side_mut(&mut self) -> &mut Side;

    /// Hidden states of a batch, a row for each of its rows.
    fn hidden<F: Real>(&self, tape: &mut Tape<'_, F>, batch: &Batch) -> Value;

    /// Hidden states of some rows of a batch, in their order: the same numbers. A network that
    /// can do with less than all rows overrides it.
    fn hidden_at<F: Real>(&self, tape: &mut Tape<'_, F>, batch: &Batch, rows: &[u32]) -> Value {
        let hidden = self.hidden(tape, batch);
        tape.gather_rows(hidden, rows)
    }

    /// Windows as a batch to train on.
    fn training_batch(
        &self,
        data: &TrainingData<'_>,
        windows: &Windows,
        chosen: &[&Window],
        _chance: Seed,
    ) -> Batch {
        Batch::of_windows(data, windows, chosen)
    }

    /// Histories of known items, none of them empty, as a batch, and the row of each at which it
    /// is scored.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a batch has far fewer rows than 2^32"
    )]
    fn request_batch(&self, histories: &[History<'_>]) -> (Batch, Vec<u32>) {
        let batch = Batch::of(histories, self.n_items());
        let rows = histories
            .iter()
            .enumerate()
            .map(|(at, history)| (at * batch.length + history.len().max(1) - 1) as u32)
            .collect();
        (batch, rows)
    }

    /// The loss of a batch. `chance` is that of the epoch.
    fn loss<F: Real>(&self, tape: &mut Tape<'_, F>, batch: &Batch, chance: Seed) -> Loss {
        let hidden = self.hidden_at(tape, batch, &batch.terms.rows);
        self.objective()
            .loss(tape, hidden, self.output(), &batch.terms, chance)
    }

    /// Adds what is needed to restore the network, beside its parameters.
    ///
    /// # Errors
    /// If a name is taken.
    fn save(&self, tensors: &mut Tensors) -> Result<(), TensorError>;

    /// Restores a network, with parameters of any values.
    ///
    /// # Errors
    /// If something is missing or does not fit.
    fn load(tensors: &Tensors) -> Result<(Self, Parameters<f32>), LoadError>;
}

/// Why training left the numbers that mean anything, in words.
pub(crate) fn diverged(
    epoch: u32,
    batch: u64,
    loss: f64,
    norm: f64,
    parameters: &Parameters<f32>,
    learning_rate: f64,
) -> FitError {
    let broken = parameters
        .ids()
        .find(|&id| parameters.get(id).iter().any(|x| !x.is_finite()))
        .map(|id| parameters.name(id));
    let largest = parameters
        .ids()
        .flat_map(|id| parameters.get(id))
        .fold(0.0_f32, |most, x| most.max(x.abs()));
    let cause = match broken {
        Some(name) => format!(
            "parameter `{name}` is not finite: the learning rate {learning_rate:e} is too high"
        ),
        None if largest > 1e3 => format!(
            "the loss is {loss} and weights have grown to {largest:.1e}: the learning rate \
             {learning_rate:e} is too high"
        ),
        None => format!(
            "the loss is {loss} and the norm of its gradient {norm}: lower `learning_rate` \
             ({learning_rate:e}), add `warmup` or lower `clip`"
        ),
    };
    FitError::Diverged {
        epoch,
        batch,
        cause,
    }
}
