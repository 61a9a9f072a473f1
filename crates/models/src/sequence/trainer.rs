//! The training loop of all sequence models.
//!
//! The objective of a batch is the sum of weight x loss over its terms, over the number of terms
//! before weighting. All chance comes from (seed, purpose, epoch, sample or window): neither
//! threads nor an interruption nor a weight changes it.
//!
//! With a `target`, the first `pretrain_epochs` learn from all samples and the others from samples
//! of that type of event alone, whose histories hold all events as before. Which samples have terms
//! is a function of the epoch. The optimiser and its schedule go on from one phase to the next: the
//! objective is the same, over fewer samples. Validation, early stopping and the weights that are
//! returned belong to the second phase.

use std::sync::Arc;

use seed::Seed;
use tables::Event;
use tensors::{AdamW, Context, Gradients, Parameters, Schedule, Tape, Workspace, clip_by_norm};

use super::batches::batches;
use super::chain::Chain;
use super::model::SequenceModel;
use super::network::{Network, diverged};
use super::state::{Best, State};
use super::training::{Training, unpenalised};
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
    /// Windows with the terms of all samples.
    all: Windows,
    /// Windows with the terms of samples of the target alone, if there is one.
    targeted: Option<Windows>,
    training: &'t Training,
    schedule: Schedule,
    seed: Seed,
    counts: Counts,
    chain: Option<Arc<Chain>>,
    /// About how many steps will be taken if nothing stops training early.
    total: u64,
}

/// Buffers of one step, for the next.
struct Scratch {
    gradients: Gradients<f32>,
    workspace: Workspace<f32>,
}

/// Trains a network from given weights.
///
/// # Errors
/// If no sample is of the target, training diverges, or a checkpoint cannot be kept or read.
pub(crate) fn train<N: Network>(
    network: N,
    parameters: Parameters<f32>,
    training: &Training,
    data: &TrainingData<'_>,
    run: &mut Run<'_>,
) -> Result<SequenceModel<N>, FitError> {
    #[cfg(test)]
    super::tests::examine(&network, &parameters);
    let span = network.span();
    let targeted = match training.target {
        None => None,
        Some(target) => {
            require_target(data, target)?;
            let is_target = |sample: usize| data.event(sample) == Some(target);
            Some(Windows::new(data, span, is_target))
        }
    };
    let mut scratch = Scratch {
        gradients: Gradients::new(&parameters),
        workspace: Workspace::new(),
    };
    let penalties = training.penalties();
    let mut optimiser = AdamW::new(&parameters, penalties);
    if [penalties.weight_decay, penalties.l1, penalties.l2]
        .iter()
        .any(|&penalty| penalty > 0.0)
    {
        optimiser = optimiser.without_decay(&unpenalised(&parameters));
    }
    let all = Windows::new(data, span, |_| true);
    // About as many steps as epochs ask for.
    let of_epochs = n_steps(training, run.seed, &all, targeted.as_ref());
    let trainer = Trainer {
        network: &network,
        data,
        all,
        targeted,
        training,
        schedule: training.rates(of_epochs),
        seed: run.seed,
        counts: Counts::of(data),
        chain: Chain::of(training, data)?.map(Arc::new),
        total: match training.steps {
            0 => of_epochs,
            steps => steps,
        },
    };
    let mut state = State::new(parameters, optimiser);
    if let Some(kept) = run.observer.resume()? {
        state.resume(&kept.tensors)?;
    }
    while !trainer.is_over(&state) {
        trainer.epoch(&mut state, &mut scratch, run)?;
    }
    let Trainer { counts, chain, .. } = trainer;
    let (parameters, steps) = match state.best {
        Some(best) => (best.parameters, best.step),
        None => (state.parameters, state.step),
    };
    Ok(SequenceModel {
        network,
        parameters,
        counts,
        chain,
        steps,
    })
}

/// About how many steps there are in all epochs, whatever `steps` says: epochs differ by a batch or
/// two, and the first one speaks for all.
fn n_steps(training: &Training, seed: Seed, all: &Windows, targeted: Option<&Windows>) -> u64 {
    let steps = |windows: &Windows, epochs: u32| {
        let batch = training.batch as usize;
        batches(windows, batch, seed, 0).len() as u64 * u64::from(epochs)
    };
    match targeted {
        None => steps(all, training.epochs),
        Some(targeted) => {
            let pretrained = training.pretrain_epochs;
            steps(all, pretrained) + steps(targeted, training.epochs - pretrained)
        }
    }
}

/// Refuses a target of which training has no sample.
fn require_target(data: &TrainingData<'_>, target: Event) -> Result<(), FitError> {
    let is_held = |event: Event| {
        let mut samples = 0..data.n_samples();
        samples.any(|sample| data.event(sample) == Some(event))
    };
    if is_held(target) {
        return Ok(());
    }
    let found: Vec<&str> = Event::ALL
        .iter()
        .filter(|&&event| is_held(event))
        .map(|event| event.as_str())
        .collect();
    let found = if found.is_empty() {
        "no types of events at all".to_owned()
    } else {
        found.join(", ")
    };
    Err(FitError::NoTarget { target, found })
}

impl<N: Network> Trainer<'_, '_, N> {
    /// The windows of an epoch.
    fn windows(&self, epoch: u32) -> &Windows {
        match &self.targeted {
            Some(targeted) if epoch >= self.training.pretrain_epochs => targeted,
            _ => &self.all,
        }
    }

    fn is_over(&self, state: &State) -> bool {
        let training = self.training;
        if self.windows(state.epoch).windows.is_empty() {
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
        let windows = self.windows(state.epoch);
        let batches = batches(windows, self.training.batch as usize, self.seed, epoch);
        let done = usize::try_from(state.batch).unwrap_or(usize::MAX);
        let n_batches = batches.len() as u64;
        for batch in batches.into_iter().skip(done) {
            let chosen: Vec<&Window> = batch
                .iter()
                .map(|&at| &windows.windows[at as usize])
                .collect();
            self.step(state, scratch, &chosen)?;
            run.observer.progress("training", state.step, self.total);
            let steps_are_done = self.training.steps > 0 && state.step >= self.training.steps;
            if steps_are_done {
                break;
            }
            let every = self.training.checkpoint_steps;
            if every > 0 && state.step.is_multiple_of(every) && state.batch < n_batches {
                self.keep(state, run)?;
            }
        }
        let validation = self.validate(state, run)?;
        run.observer.epoch(&Epoch {
            epoch: state.epoch,
            n_samples: self.n_weighted(windows),
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
    fn n_weighted(&self, windows: &Windows) -> u64 {
        let terms = windows.terms.iter();
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
        let batch =
            self.network
                .training_batch(self.data, self.windows(state.epoch), chosen, chance);
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
    fn validate(&self, state: &mut State, run: &mut Run<'_>) -> Result<Option<f64>, FitError> {
        let training = self.training;
        let is_last = state.epoch + 1 >= training.epochs;
        let is_due = (state.epoch + 1).is_multiple_of(training.validate_every) || is_last;
        let is_pretraining = state.epoch < training.pretrain_epochs;
        if training.steps > 0 || !is_due || is_pretraining {
            return Ok(None);
        }
        let model = SequenceModel {
            network: self.network.clone(),
            parameters: state.parameters.clone(),
            counts: self.counts.clone(),
            chain: self.chain.clone(),
            steps: state.step,
        };
        let Some(validation) = run.observer.validate(&model)? else {
            return Ok(None);
        };
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
        Ok(Some(validation))
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
