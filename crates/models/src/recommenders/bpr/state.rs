//! What training changes, and the best of it.

use seed::Seed;
use tensors::{TensorError, Tensors};

use crate::factors::initial;
use crate::recommender::FitError;

const USERS: &str = "user_factors";
const ITEMS: &str = "item_factors";
const BIASES: &str = "item_biases";
const BEST: &str = "best.";

/// Vectors of users and items.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    /// `[n_users, dimensions]`.
    pub(super) users: Vec<f32>,
    /// `[n_items, dimensions]`.
    pub(super) items: Vec<f32>,
    /// `[n_items]`.
    pub(super) biases: Vec<f32>,
}

#[expect(clippy::cast_possible_truncation, reason = "training is in 32 bits")]
fn random(seed: Seed, n: usize, dimensions: usize, deviation: f64) -> Vec<f32> {
    let deviation = deviation / (dimensions as f64).sqrt();
    let numbers = initial(seed, n, dimensions, deviation);
    numbers.into_iter().map(|x| x as f32).collect()
}

fn unusable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> FitError {
    FitError::Checkpoint(error.into())
}

impl State {
    /// Random vectors. `shape` is users, items, dimensions.
    pub(super) fn initial(seed: Seed, shape: [usize; 3], deviation: f64) -> Self {
        let [n_users, n_items, dimensions] = shape;
        let seed = seed.child("initial_weights");
        Self {
            users: random(seed.child(USERS), n_users, dimensions, deviation),
            items: random(seed.child(ITEMS), n_items, dimensions, deviation),
            biases: vec![0.0; n_items],
        }
    }

    /// Numbers per vector.
    pub(super) fn dimensions(&self) -> usize {
        self.items.len() / self.biases.len().max(1)
    }

    /// Adds its tensors under names with a prefix.
    pub(super) fn save(
        &self,
        prefix: &str,
        dimensions: usize,
        tensors: &mut Tensors,
    ) -> Result<(), TensorError> {
        let n_users = self.users.len() / dimensions.max(1);
        let n_items = self.biases.len();
        let named = |name: &str| format!("{prefix}{name}");
        tensors.insert_f32(&named(USERS), &[n_users, dimensions], self.users.clone())?;
        tensors.insert_f32(&named(ITEMS), &[n_items, dimensions], self.items.clone())?;
        tensors.insert_f32(&named(BIASES), &[n_items], self.biases.clone())
    }

    /// Takes the tensors of a fitted model.
    pub(super) fn load(tensors: &Tensors) -> Result<Self, TensorError> {
        Self::read("", tensors)
    }

    fn read(prefix: &str, tensors: &Tensors) -> Result<Self, TensorError> {
        let read = |name: &str| -> Result<Vec<f32>, TensorError> {
            Ok(tensors.f32(&format!("{prefix}{name}"))?.to_vec())
        };
        Ok(Self {
            users: read(USERS)?,
            items: read(ITEMS)?,
            biases: read(BIASES)?,
        })
    }

    /// Takes the tensors of a checkpoint, which must have a shape.
    pub(super) fn restore(
        prefix: &str,
        tensors: &Tensors,
        shape: [usize; 3],
    ) -> Result<Self, FitError> {
        let state = Self::read(prefix, tensors).map_err(unusable)?;
        let [n_users, n_items, dimensions] = shape;
        let found = [state.users.len(), state.items.len(), state.biases.len()];
        let wanted = [n_users * dimensions, n_items * dimensions, n_items];
        if found != wanted {
            return Err(unusable(format!(
                "it holds {found:?} numbers of users, items and biases, expected {wanted:?}"
            )));
        }
        Ok(state)
    }
}

/// A state with its validation figure.
struct Held {
    figure: f64,
    /// Epochs that led to it.
    epochs: u32,
    state: State,
}

/// The state with the best validation figure so far.
#[derive(Default)]
pub(super) struct Best {
    held: Option<Held>,
    /// Figures in a row that were no better.
    n_worse: u32,
}

impl Best {
    /// Takes a state if its figure is better than all before. Without figures nothing is held.
    pub(super) fn offer(&mut self, figure: Option<f64>, epochs: u32, state: &State) {
        let Some(figure) = figure else { return };
        if self.held.as_ref().is_none_or(|best| figure > best.figure) {
            self.held = Some(Held {
                figure,
                epochs,
                state: state.clone(),
            });
            self.n_worse = 0;
        } else {
            self.n_worse += 1;
        }
    }

    /// Whether patience, if there is an end to it, is over.
    pub(super) fn is_exhausted(&self, patience: u32) -> bool {
        patience > 0 && self.n_worse >= patience
    }

    /// The state, and the epochs that led to it.
    pub(super) fn into_state(self) -> Option<(u32, State)> {
        self.held.map(|held| (held.epochs, held.state))
    }

    pub(super) fn save(&self, dimensions: usize, tensors: &mut Tensors) -> Result<(), TensorError> {
        if let Some(held) = &self.held {
            held.state.save(BEST, dimensions, tensors)?;
            tensors.insert_f64("best", &[1], vec![held.figure])?;
            tensors.insert_u32("best.counts", &[2], vec![held.epochs, self.n_worse])?;
        }
        Ok(())
    }

    pub(super) fn restore(tensors: &Tensors, shape: [usize; 3]) -> Result<Self, FitError> {
        if !tensors.contains("best") {
            return Ok(Self::default());
        }
        let &[figure] = tensors.f64("best").map_err(unusable)? else {
            return Err(unusable("`best` is not one number"));
        };
        let &[epochs, n_worse] = tensors.u32("best.counts").map_err(unusable)? else {
            return Err(unusable("`best.counts` is not two numbers"));
        };
        let state = State::restore(BEST, tensors, shape)?;
        Ok(Self {
            held: Some(Held {
                figure,
                epochs,
                state,
            }),
            n_worse,
        })
    }
}
