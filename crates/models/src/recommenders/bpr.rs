//! Matrix factorisation trained to rank what a user chose above what they did not (BPR-MF).
//!
//! With `p_u`, `q_i` vectors of `dimensions` numbers and `b_i` a number per item, a step for a sample
//! (user u, item i, weight w) draws an item j that u never chose and descends
//!
//! ```text
//! -w ln sigma(x_ui - x_uj) + regularisation / 2 (|p_u|^2 + |q_i|^2 + |q_j|^2 + b_i^2 + b_j^2)
//! x_ui = b_i + p_u.q_i
//! ```
//!
//! by `learning_rate`; an epoch makes one step per sample. A sample of weight 0 keeps its step: its
//! order and its negative are drawn as ever, nobody else draws it as a negative, and its step only
//! shrinks, since regularisation has no weight. `score(i) = x_ui`. A user is a sequence of training; for
//! a history of nobody known, p is trained in the same way, from 0, on the history alone, with items
//! held fixed. An empty history, or one without an item that training knows, is served by popularity.
//!
//! *Losses of single samples* compare a target with up to four fixed items that the user never chose
//! (`bpr/influence.rs`), in nats; requests of users with a vector cost the same of their relevant items.
//! Penalties belong to no sample. How such a cost follows from the weights of samples, step by step:
//! `bpr/unrolled.rs`.
//!
//! # Paper
//! Rendle, Freudenthaler, Gantner, Schmidt-Thieme, "BPR: Bayesian personalized ranking from implicit
//! feedback", UAI 2009, figure 4 and section 4.3.1. Steps in parallel without conflicts, by blocks of
//! users and items: Gemulla, Nijkamp, Haas, Sismanis, "Large-scale matrix factorization with distributed
//! stochastic gradient descent", KDD 2011.
//!
//! # Departures
//! - Items are put into random blocks anew in every epoch, and j is drawn, uniformly, from the block of
//!   i: that is what lets blocks run in parallel and still give the same bits on any number of
//!   threads. Over epochs every j is equally likely.
//! - Every sample is visited once per epoch in random order, not drawn with replacement.
//! - There is a number per item (`b_i`), as in most implementations.
//!
//! # Needs
//! Target items, weights, ids and sequences of samples; the sequence of a request, or its history.
//!
//! # Cost
//! An epoch: samples x dimensions, in parallel by up to 16 blocks. Score: dimensions numbers per item,
//! and for a history of nobody known 30 steps per event. Memory: dimensions numbers per user and
//! item.

use serde::{Deserialize, Serialize};
use tensors::{TensorError, Tensors};

use crate::counts::Counts;
use crate::data::TrainingData;
use crate::factorisation::FactorGradients;
use crate::factors::scores;
use crate::history::History;
use crate::recommender::{Capability, FitError, LoadError, Model, Parameter, Recommender};
use crate::run::{Checkpoint, Epoch, Run};
use crate::unrolled::Unrolled;

mod influence;
mod state;
#[cfg(test)]
mod tests;
mod train;
mod unrolled;

use state::{Best, State};
use train::{Rates, Trainer};

/// Epochs between checkpoints where validation does not set the pace.
const CHECKPOINT_EVERY: u32 = 10;

/// The fitted model.
pub(super) struct Bpr {
    counts: Counts,
    state: State,
    /// Whether each user had a sample of weight above 0.
    is_known: Vec<bool>,
    rates: Rates,
    /// Steps of training that led to this state.
    steps: u64,
}

/// Size, length, step, and when to stop.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Parameters {
    dimensions: u32,
    epochs: u32,
    learning_rate: f64,
    regularisation: f64,
    initial_deviation: f64,
    validate_every: u32,
    patience: u32,
    steps: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            dimensions: 64,
            epochs: 200,
            learning_rate: 0.05,
            regularisation: 0.05,
            initial_deviation: 0.1,
            validate_every: 0,
            patience: 0,
            steps: 0,
        }
    }
}

impl Recommender for Bpr {
    const NAME: &'static str = "bpr";
    const REVISION: u32 = 2;
    const DOC: &'static str =
        "Matrix factorisation trained to rank what a user chose above what they did not.";
    const PAPER: &'static str = "Rendle et al., UAI 2009";
    const CAPABILITIES: &'static [Capability] = &[Capability::BlockInfluence, Capability::Unrolled];
    const PARAMETERS: &'static [Parameter] = &[
        Parameter {
            name: "dimensions",
            default: "64",
            doc: "numbers per user and item; from 1 up",
        },
        Parameter {
            name: "epochs",
            default: "200",
            doc: "passes over the samples; from 1 up",
        },
        Parameter {
            name: "learning_rate",
            default: "0.05",
            doc: "length of a step; above 0",
        },
        Parameter {
            name: "regularisation",
            default: "0.05",
            doc: "weight of squared lengths in each step; from 0 up",
        },
        Parameter {
            name: "initial_deviation",
            default: "0.1",
            doc: "length of a random vector at the start; above 0",
        },
        Parameter {
            name: "validate_every",
            default: "0",
            doc: "epochs between validation figures, of which the best decides what is returned; 0: none",
        },
        Parameter {
            name: "patience",
            default: "0",
            doc: "validation figures in a row without a better one that end training; 0: never",
        },
        Parameter {
            name: "steps",
            default: "0",
            doc: "trains so many steps, one per sample, in whole passes, without validation or early stopping; 0: by `epochs`",
        },
    ];
    type Parameters = Parameters;

    fn check(parameters: &Parameters) -> Result<(), String> {
        for (name, value) in [
            ("dimensions", parameters.dimensions),
            ("epochs", parameters.epochs),
        ] {
            if value == 0 {
                return Err(format!("`{name}` must be at least 1"));
            }
        }
        for (name, value) in [
            ("learning_rate", parameters.learning_rate),
            ("initial_deviation", parameters.initial_deviation),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!("`{name}` must be a number above 0"));
            }
        }
        if !(parameters.regularisation.is_finite() && parameters.regularisation >= 0.0) {
            return Err("`regularisation` must be a number from 0 up".to_owned());
        }
        if parameters.patience > 0 && parameters.validate_every == 0 {
            return Err("`patience` needs `validate_every`".to_owned());
        }
        Ok(())
    }

    fn fit(
        parameters: &Parameters,
        data: &TrainingData<'_>,
        run: &mut Run<'_>,
    ) -> Result<Self, FitError> {
        let rates = Rates::new(parameters.learning_rate, parameters.regularisation);
        let trainer = Trainer::new(data, run.seed, rates);
        let mut model = Self {
            counts: Counts::of(data),
            state: State::default(),
            is_known: trainer.known_users(),
            rates,
            steps: 0,
        };
        let d = parameters.dimensions as usize;
        let shape = [trainer.n_users(), data.n_vocabulary(), d];
        let (first, mut best) = if let Some(checkpoint) = run.observer.resume()? {
            model.state = State::restore("", &checkpoint.tensors, shape)?;
            let best = Best::restore(&checkpoint.tensors, shape)?;
            (checkpoint.epoch, best)
        } else {
            model.state = State::initial(run.seed, shape, parameters.initial_deviation);
            (0, Best::default())
        };
        let steps_by = |epochs: u32| u64::from(epochs) * trainer.n_steps();
        let is_by_steps = parameters.steps > 0;
        let n_epochs = if is_by_steps {
            let passes = parameters.steps.div_ceil(trainer.n_steps().max(1));
            u32::try_from(passes).unwrap_or(u32::MAX)
        } else {
            parameters.epochs
        };
        model.steps = steps_by(first);
        for epoch in first..n_epochs {
            if !is_by_steps && best.is_exhausted(parameters.patience) {
                break;
            }
            let loss = trainer.epoch(epoch, &mut model.state)?;
            let done = epoch + 1;
            model.steps = steps_by(done);
            let is_validated = !is_by_steps
                && parameters.validate_every > 0
                && done % parameters.validate_every == 0;
            let mut validation = None;
            if is_validated {
                validation = run.observer.validate(&model)?;
                best.offer(validation, done, &model.state);
            }
            run.observer.epoch(&Epoch {
                epoch,
                n_samples: trainer.n_weighted(),
                loss: Some(loss),
                validation,
                learning_rate: Some(parameters.learning_rate),
            });
            let (done_of, total) = (u64::from(done), u64::from(n_epochs));
            run.observer.progress("training", done_of, total);
            if is_validated || done % CHECKPOINT_EVERY == 0 {
                let mut tensors = Tensors::new();
                model
                    .state
                    .save("", d, &mut tensors)
                    .and_then(|()| best.save(d, &mut tensors))
                    .map_err(|error| FitError::Checkpoint(Box::new(error)))?;
                run.observer.checkpoint(&Checkpoint {
                    step: model.steps,
                    epoch: done,
                    tensors,
                })?;
            }
        }
        if let Some((epochs, state)) = best.into_state() {
            (model.steps, model.state) = (steps_by(epochs), state);
        }
        Ok(model)
    }

    fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        let counts = Counts::load(tensors)?;
        let state = State::load(tensors)?;
        let is_known: Vec<bool> = tensors.u32("known_users")?.iter().map(|x| *x > 0).collect();
        if state.biases.len() != counts.counts().len() {
            return Err(LoadError::Sizes {
                left: "item_counts",
                right: "item_biases",
            });
        }
        if is_known.len() * state.dimensions() != state.users.len() {
            return Err(LoadError::Sizes {
                left: "known_users",
                right: "user_factors",
            });
        }
        let &[learning_rate, regularisation] = tensors.f64("rates")? else {
            return Err(LoadError::Sizes {
                left: "rates",
                right: "two numbers",
            });
        };
        Ok(Self {
            counts,
            state,
            is_known,
            rates: Rates::new(learning_rate, regularisation),
            steps: tensors.u64("steps")?.first().copied().unwrap_or(0),
        })
    }
}

impl Model for Bpr {
    fn score(&self, user: Option<u32>, history: History<'_>, out: &mut [f64]) {
        let history = history.items();
        let d = self.state.dimensions();
        if history.is_empty() {
            self.counts.write_shares(out);
            return;
        }
        let known = user.map(|user| user as usize);
        let trained = known.filter(|&user| self.is_known.get(user) == Some(&true));
        let folded;
        let vector = if let Some(user) = trained {
            &self.state.users[user * d..(user + 1) * d]
        } else {
            let items: Vec<u32> = history
                .iter()
                .copied()
                .filter(|item| self.counts.is_target(*item))
                .collect();
            if items.is_empty() {
                self.counts.write_shares(out);
                return;
            }
            folded = train::fold_in(&self.state, &items, self.rates);
            &folded
        };
        scores(vector, &self.state.items, Some(&self.state.biases), out);
    }

    fn steps(&self) -> Option<u64> {
        Some(self.steps)
    }

    fn factor_gradients(&self) -> Option<&dyn FactorGradients> {
        Some(self)
    }

    fn unrolled_training(&self) -> Option<&dyn Unrolled> {
        Some(self)
    }

    fn save(&self) -> Result<Tensors, TensorError> {
        let mut tensors = Tensors::new();
        self.counts.save(&mut tensors)?;
        tensors.insert_u64("steps", &[1], vec![self.steps])?;
        self.state.save("", self.state.dimensions(), &mut tensors)?;
        let known: Vec<u32> = self.is_known.iter().map(|x| u32::from(*x)).collect();
        tensors.insert_u32("known_users", &[known.len()], known)?;
        let (learning_rate, regularisation) = self.rates.as_written();
        tensors.insert_f64("rates", &[2], vec![learning_rate, regularisation])?;
        Ok(tensors)
    }
}
