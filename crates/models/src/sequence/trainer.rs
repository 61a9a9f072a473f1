//! The training loop of all sequence models.
//!
//! The objective of a batch is the sum of weight x loss over its terms, over the number of terms
//! before weighting. All chance comes from (seed, purpose, epoch, sample or window): neither
//! threads nor an interruption nor a weight changes it.

use seed::Seed;
use tensors::{
    AdamW, AdamWSettings, Context, Gradients, Parameters, Schedule, Tape, Workspace, clip_by_norm,
};

use super::batches::batches;
use super::model::SequenceModel;
use super::network::{Network, diverged};
use super::state::{Best, State};
use super::training::Training;
use super::windows::{Window, Windows};
use crate::counts::Counts;
use crate::data::TrainingData;
use crate::recommender::FitError;
use crate::run::{Epoch, Run};

/// A mean loss that no model that learns ever has: guessing among 2^32 items costs 22.
const LARGEST_LOSS: f64 = 1e6;

/// What does not change while a network is trained.
struct Trainer<'t, 'd, N> {
    network: &'t N,
    data: &'t TrainingData<'d>,
    windows: Windows,
    training: &'t Training,
    schedule: Schedule,
    seed: Seed,
    counts: Counts,
}

/// Buffers of one step, for the next.
struct Scratch {
    gradients: Gradients<f32>,
    workspace: Workspace<f32>,
}

/// Trains a network from given weights.
///
/// # Errors
/// If training diverges, or a checkpoint cannot be kept or read.
pub(crate) fn train<N: Network>(
    network: N,
    parameters: Parameters<f32>,
    training: &Training,
    data: &TrainingData<'_>,
    run: &mut Run<'_>,
) -> Result<SequenceModel<N>, FitError> {
    #[cfg(test)]
    super::tests::examine(&network, &parameters);
    let mut scratch = Scratch {
        gradients: Gradients::new(&parameters),
        workspace: Workspace::new(),
    };
    let optimiser = AdamW::new(
        &parameters,
        AdamWSettings {
            weight_decay: training.weight_decay,
            l2: training.l2,
            ..AdamWSettings::default()
        },
    );
    let trainer = Trainer {
        network: &network,
        data,
        windows: Windows::new(data, network.span()),
        training,
        schedule: Schedule::LinearWarmup {
            rate: training.learning_rate,
            warmup: training.warmup,
        },
        seed: run.seed,
        counts: Counts::of(data),
    };
    let mut state = State::new(parameters, optimiser);
    if let Some(kept) = run.observer.resume()? {
        state.resume(&kept.tensors)?;
    }
    while !trainer.is_over(&state) {
        trainer.epoch(&mut state, &mut scratch, run)?;
    }
    let counts = trainer.counts;
    let (parameters, steps) = match state.best {
        Some(best) => (best.parameters, best.step),
        None => (state.parameters, state.step),
    };
    Ok(SequenceModel {
        network,
        parameters,
        counts,
        steps,
    })
}

impl<N: Network> Trainer<'_, '_, N> {
    fn is_over(&self, state: &State) -> bool {
        let training = self.training;
        if self.windows.windows.is_empty() {
            // Nothing can be learned from first events.
            return true;
        }
        if training.steps > 0 {
            return state.step >= training.steps;
        }
        state.epoch >= training.epochs
            || (training.patience > 0 && state.since_best >= training.patience)
    }

    /// The rest of an epoch, from the batch at which the state stands.
    fn epoch(
        &self,
        state: &mut State,
        scratch: &mut Scratch,
        run: &mut Run<'_>,
    ) -> Result<(), FitError> {
        let epoch = u64::from(state.epoch);
        let batches = batches(
            &self.windows,
            self.training.batch as usize,
            self.seed,
            epoch,
        );
        let total = match self.training.steps {
            0 => batches.len() as u64 * u64::from(self.training.epochs),
            steps => steps,
        };
        let done = usize::try_from(state.batch).unwrap_or(usize::MAX);
        let n_batches = batches.len() as u64;
        for batch in batches.into_iter().skip(done) {
            let chosen: Vec<&Window> = batch
                .iter()
                .map(|&at| &self.windows.windows[at as usize])
                .collect();
            self.step(state, scratch, &chosen)?;
            run.observer.progress("training", state.step, total);
            let steps_are_done = self.training.steps > 0 && state.step >= self.training.steps;
            if steps_are_done {
                break;
            }
            let every = self.training.checkpoint_steps;
            if every > 0 && state.step.is_multiple_of(every) && state.batch < n_batches {
                self.keep(state, run)?;
            }
        }
        let validation = self.validate(state, run);
        run.observer.epoch(&Epoch {
            epoch: state.epoch,
            n_samples: self.n_weighted(),
            loss: (state.n_terms > 0).then(|| state.loss / state.n_terms as f64),
            validation,
            learning_rate: Some(self.schedule.rate(state.step.saturating_sub(1))),
        });
        state.epoch += 1;
        state.batch = 0;
        (state.loss, state.n_terms) = (0.0, 0);
        self.keep(state, run)
    }

    /// Samples with a history and a weight.
    fn n_weighted(&self) -> u64 {
        let terms = self.windows.terms.iter();
        let weighted = terms.filter(|term| self.data.weight(term.sample as usize) > 0.0);
        weighted.count() as u64
    }

    /// One batch.
    fn step(
        &self,
        state: &mut State,
        scratch: &mut Scratch,
        chosen: &[&Window],
    ) -> Result<(), FitError> {
        let epoch = u64::from(state.epoch);
        let chance = self.seed.child("chance").index(epoch);
        let dropout = self.seed.child("dropout").index(epoch);
        let batch = self
            .network
            .training_batch(self.data, &self.windows, chosen, chance);
        let context = Context::training(Some(dropout), &batch.row_keys);
        let mut tape = Tape::with_workspace(&state.parameters, context, &mut scratch.workspace);
        let loss = self.network.loss(&mut tape, &batch, chance);
        let value = tape.loss_value(loss);
        scratch.gradients.zero();
        tape.backward(&[loss], &mut scratch.gradients);
        let counted = tape.loss_rows(loss).iter().zip(&batch.terms.weights);
        let (mut sum, mut n) = (0.0, 0_u64);
        for (&loss, &weight) in counted {
            if weight > 0.0 {
                sum += f64::from(loss);
                n += 1;
            }
        }
        drop(tape);
        let most = if self.training.clip > 0.0 {
            self.training.clip
        } else {
            f64::INFINITY
        };
        let norm = clip_by_norm(&mut scratch.gradients, most);
        let rate = self.schedule.rate(state.step);
        let is_absurd = n > 0 && sum / n as f64 > LARGEST_LOSS;
        if !(value.is_finite() && norm.is_finite()) || is_absurd {
            return Err(diverged(
                state.epoch,
                state.batch,
                value,
                norm,
                &state.parameters,
                rate,
            ));
        }
        state
            .optimiser
            .step(&mut state.parameters, &scratch.gradients, rate);
        state.loss += sum;
        state.n_terms += n;
        state.step += 1;
        state.batch += 1;
        Ok(())
    }

    /// Asks how good the weights are, and keeps them if they are the best.
    fn validate(&self, state: &mut State, run: &mut Run<'_>) -> Option<f64> {
        let training = self.training;
        let is_last = state.epoch + 1 >= training.epochs;
        let is_due = (state.epoch + 1).is_multiple_of(training.validate_every) || is_last;
        if training.steps > 0 || !is_due {
            return None;
        }
        let model = SequenceModel {
            network: self.network.clone(),
            parameters: state.parameters.clone(),
            counts: self.counts.clone(),
            steps: state.step,
        };
        let validation = run.observer.validate(&model)?;
        if state
            .best
            .as_ref()
            .is_none_or(|best| validation > best.validation)
        {
            state.since_best = 0;
            state.best = Some(Best {
                validation,
                step: state.step,
                parameters: model.parameters,
            });
        } else {
            state.since_best += 1;
        }
        Some(validation)
    }

    fn keep(&self, state: &State, run: &mut Run<'_>) -> Result<(), FitError> {
        // What cannot be kept is a number that is not finite: the last step left it.
        let checkpoint = state.checkpoint().map_err(|_| {
            let rate = self.schedule.rate(state.step.saturating_sub(1));
            diverged(
                state.epoch,
                state.batch,
                f64::NAN,
                f64::NAN,
                &state.parameters,
                rate,
            )
        })?;
        run.observer.checkpoint(&checkpoint)
    }
}
