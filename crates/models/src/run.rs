//! What a training run gives a model beyond data: a seed, and someone who watches.
//!
//! Models that are fitted in closed form need neither. Models that are trained step by step draw
//! all chance from the seed, tell the observer of each epoch, ask it how good they are on data that
//! they never see, and hand it their state to resume from.

use seed::Seed;
use tensors::Tensors;

use crate::recommender::{FitError, Model};

/// One training run.
pub struct Run<'a> {
    /// The only source of chance.
    pub seed: Seed,
    /// Who watches.
    pub observer: &'a mut dyn Observer,
}

impl Run<'static> {
    /// A run that nobody watches.
    pub fn silent(seed: Seed) -> Self {
        Self {
            seed,
            // A type without fields takes no memory, so nothing is lost.
            observer: Box::leak(Box::new(Silent)),
        }
    }
}

/// What happened in one epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// Number of the epoch, from 0 up.
    pub epoch: u32,
    /// Samples that counted for anything.
    pub n_samples: u64,
    /// Mean training loss over loss terms; `None` if the model has none.
    pub loss: Option<f64>,
    /// What [`Observer::validate`] answered, if it was asked.
    pub validation: Option<f64>,
    /// Learning rate at the end of the epoch, if there is one.
    pub learning_rate: Option<f64>,
}

/// Complete state of a training run: what is needed to go on with identical bytes.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Steps taken.
    pub step: u64,
    /// Epochs finished.
    pub epoch: u32,
    /// Weights, optimiser state, and whatever else the model goes on from.
    pub tensors: Tensors,
}

/// Watches a training run. Every method does nothing by default.
pub trait Observer {
    /// An epoch is over. Told once: a resumed run does not repeat the epochs that were over when
    /// its state was kept.
    fn epoch(&mut self, _epoch: &Epoch) {}

    /// `done` of `total` units of `what` are done.
    fn progress(&mut self, _what: &str, _done: u64, _total: u64) {}

    /// How good a model is on held-out requests, higher being better: NDCG@10 on `valuation.fit`.
    /// `None` if nobody can tell.
    ///
    /// # Errors
    /// If the model gives a score that is not finite.
    fn validate(&mut self, _model: &dyn Model) -> Result<Option<f64>, FitError> {
        Ok(None)
    }

    /// Keeps a state to resume from, and beside it the epochs that were told until now. Models that
    /// take a number of `steps` hand over the state in which each epoch ends, right after
    /// [`Observer::epoch`]: `weight.NAME`, `optimiser.NAME` and what else they go on from.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn checkpoint(&mut self, _checkpoint: &Checkpoint) -> Result<(), FitError> {
        Ok(())
    }

    /// The last state that an interrupted run kept.
    ///
    /// # Errors
    /// If there is one and it cannot be read.
    fn resume(&mut self) -> Result<Option<Checkpoint>, FitError> {
        Ok(None)
    }
}

/// Watches nothing.
struct Silent;

impl Observer for Silent {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_watches_a_silent_run() {
        let run = Run::silent(Seed::root(3));
        let checkpoint = Checkpoint {
            step: 1,
            epoch: 0,
            tensors: Tensors::new(),
        };
        run.observer.checkpoint(&checkpoint).unwrap();
        assert!(run.observer.resume().unwrap().is_none());
        assert_eq!(run.seed, Seed::root(3));
    }
}
