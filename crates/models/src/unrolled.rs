//! Metagradients: the derivative of what requests cost after training, by the weight of each sample in
//! that training.
//!
//! It is what influence functions approximate, taken through the training that really happened: its
//! order, its negatives, its number of steps, its rounding aside. The regime is `mask`: the batches,
//! the schedule and the histories of requests do not change with the weights.

use seed::Seed;
use serde_json::Value;

use crate::data::TrainingData;
use crate::inside::AskedRequest;
use crate::recommender::{FitError, ParameterError};

/// A fitted model whose training can be differentiated.
pub trait Unrolled: Send + Sync {
    /// Minus the derivative of the mean over requests of the mean loss of their relevant items, by the
    /// weight of each sample: positive where training more on the sample would lower what requests
    /// cost, in nats (or in squared error, where that is the loss of the model) per unit of weight. In
    /// the order of the samples; `None` where no derivative exists, as of a sample without a loss term.
    /// The result does not depend on the number of threads.
    ///
    /// # Errors
    /// If the training that is told of does not lead to this model, or cannot be differentiated.
    fn unrolled(&self, asked: &Unrolling<'_>) -> Result<Vec<Option<f64>>, UnrollError>;
}

/// The training that led to a model, and what is asked of it.
#[derive(Clone, Copy)]
pub struct Unrolling<'a> {
    /// Parameters of the model, as written or with defaults filled in.
    pub parameters: &'a Value,
    /// What it was trained on.
    pub data: &'a TrainingData<'a>,
    /// The chance of its training.
    pub seed: Seed,
    /// What is asked of it.
    pub requests: &'a [AskedRequest<'a>],
    /// Told how much is done, of how much.
    pub on_progress: &'a (dyn Fn(u64, u64) + Sync),
}

/// Why a training has no derivative.
#[derive(Debug, thiserror::Error)]
pub enum UnrollError {
    /// The parameters are wrong.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// Counting failed.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The training leads elsewhere.
    #[error(
        "these samples, parameters and seed do not lead to this model: what they lead to is {distance:.1e} away from it, relative to its length"
    )]
    AnotherTraining {
        /// Relative distance.
        distance: f64,
    },
    /// The training takes steps that are not differentiated.
    #[error("the training cannot be differentiated: {0}")]
    NotDifferentiable(&'static str),
    /// A derivative left the numbers that mean anything.
    #[error("the derivative of the training is not finite")]
    NotFinite,
}

/// How far a point is from another, relative to the length of that; 0 for two that are 0.
pub(crate) fn distance(found: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (mut off, mut length) = (0.0, 0.0);
    for (a, b) in found {
        off += (a - b) * (a - b);
        length += b * b;
    }
    if off > 0.0 {
        (off / length).sqrt()
    } else {
        0.0
    }
}
