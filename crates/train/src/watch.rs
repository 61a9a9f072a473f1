//! What the stage does for a model that is trained step by step: records its epochs, ranks held-out
//! requests for it, shows its progress.

use std::path::Path;

use metrics::{Place, Ranks};
use models::{Checkpoint, Epoch, FitError, Model, Observer, Sequences};
use stage::{Io, Progress};
use tables::{NOT_RANKED, Part, Prediction, Request, TrainingEpoch};

use crate::config::Seen;
use crate::inputs::Catalogue;
use crate::kept::Kept;
use crate::rank::{BLOCK, Ranker};
use crate::resume;

/// Cut-off of the validation figure.
pub(crate) const VALIDATION_CUT: usize = 10;

/// Watches one training run.
pub(crate) struct Watch<'a> {
    io: &'a Io,
    catalogue: &'a Catalogue,
    sequences: &'a Sequences,
    /// Those of `valuation.fit`.
    requests: Vec<Request>,
    seen: Seen,
    epochs: Vec<TrainingEpoch>,
    /// Where the state is kept from which a killed training goes on.
    memory: Option<&'a Path>,
    /// Who keeps states along the training, if anyone.
    kept: Option<Kept>,
    /// Whether an epoch was told whose last state is still to come.
    is_epoch_over: bool,
    /// What is being shown, and how much of it is done.
    progress: Option<(String, Progress, u64)>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(
        io: &'a Io,
        catalogue: &'a Catalogue,
        sequences: &'a Sequences,
        requests: &[Request],
        seen: Seen,
    ) -> Self {
        let held_out = requests.iter().filter(|row| row.part == Part::ValuationFit);
        Self {
            io,
            catalogue,
            sequences,
            requests: held_out.cloned().collect(),
            seen,
            epochs: Vec::new(),
            memory: io.resume(),
            kept: None,
            is_epoch_over: false,
            progress: None,
        }
    }

    /// The same for a training too short to be gone on from.
    pub(crate) fn without_memory(self) -> Self {
        Self {
            memory: None,
            ..self
        }
    }

    /// The same, keeping states along the training.
    pub(crate) fn keeping(self, kept: Option<Kept>) -> Self {
        Self { kept, ..self }
    }

    /// What the model told of its epochs, and who kept its states.
    pub(crate) fn into_parts(self) -> (Vec<TrainingEpoch>, Option<Kept>) {
        (self.epochs, self.kept)
    }
}

impl Observer for Watch<'_> {
    fn epoch(&mut self, epoch: &Epoch) {
        self.epochs.push(TrainingEpoch {
            epoch: epoch.epoch,
            n_samples: epoch.n_samples,
            loss: epoch.loss,
            validation: epoch.validation,
            learning_rate: epoch.learning_rate,
        });
        self.is_epoch_over = true;
    }

    fn progress(&mut self, what: &str, done: u64, total: u64) {
        let is_new = match &self.progress {
            Some((shown, _, before)) => shown != what || done < *before,
            None => true,
        };
        if is_new {
            self.progress = Some((what.to_owned(), self.io.progress(what, total), 0));
        }
        if let Some((_, bar, before)) = &mut self.progress {
            bar.advance(done - *before);
            *before = done;
        }
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), FitError> {
        let unusable = |error| FitError::Checkpoint(Box::new(error));
        // Before the state to resume from: what is resumed from is never ahead of what is kept.
        if let Some(kept) = self.kept.as_ref().filter(|_| self.is_epoch_over) {
            kept.keep(checkpoint, &self.epochs).map_err(unusable)?;
        }
        self.is_epoch_over = false;
        let Some(directory) = self.memory else {
            return Ok(());
        };
        resume::keep(directory, checkpoint, &self.epochs).map_err(unusable)
    }

    fn resume(&mut self) -> Result<Option<Checkpoint>, FitError> {
        let Some(directory) = self.memory else {
            return Ok(None);
        };
        let last =
            resume::last(directory).map_err(|error| FitError::Checkpoint(Box::new(error)))?;
        Ok(last.map(|(checkpoint, epochs)| {
            self.epochs = epochs;
            self.io.note(&format!(
                "going on from step {} of an interrupted run",
                checkpoint.step
            ));
            checkpoint
        }))
    }

    fn validate(&mut self, model: &dyn Model) -> Result<Option<f64>, FitError> {
        let ranker = Ranker {
            model,
            catalogue: self.catalogue,
            seen: self.seen,
            top: 0,
        };
        let history = |request: &Request| {
            self.sequences
                .history(request.sequence, request.history_end)
                .unwrap_or_default()
        };
        let mut mean = Mean::default();
        for block in self.requests.chunks(BLOCK) {
            let rows = ranker
                .rank_all(block, history)
                .map_err(|error| FitError::Validation(Box::new(error)))?;
            for row in rows {
                mean.add_prediction(&row);
            }
        }
        Ok(mean.value())
    }
}

/// NDCG of one request with mid-ranks.
pub(crate) fn ndcg(row: &Prediction) -> f64 {
    let places = row.better.iter().zip(&row.tied);
    let places =
        places.map(|(&better, &tied)| (better != NOT_RANKED).then(|| Place::new(better, tied)));
    Ranks::middle(places).ndcg(VALIDATION_CUT)
}

/// The validation figure: mean NDCG over requests of `valuation.fit` with anything relevant.
#[derive(Default)]
pub(crate) struct Mean {
    sum: f64,
    n: u64,
}

impl Mean {
    /// Counts a prediction, if it belongs to the figure.
    pub(crate) fn add_prediction(&mut self, row: &Prediction) {
        if row.part == Part::ValuationFit && !row.relevant.is_empty() {
            self.sum += ndcg(row);
            self.n += 1;
        }
    }

    pub(crate) fn value(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum / self.n as f64)
    }
}

#[cfg(test)]
mod tests {
    use models::{History, TensorError, Tensors};
    use stage::Exit;

    use super::*;
    use crate::fit::cannot_fit;

    /// Scores item 1 as given, all others by their number.
    struct Fixed(f64);

    impl Model for Fixed {
        fn score(&self, _: Option<u32>, _: History<'_>, scores: &mut [f64]) {
            for (item, score) in (0_u32..).zip(&mut *scores) {
                *score = f64::from(item);
            }
            scores[1] = self.0;
        }

        fn save(&self) -> Result<Tensors, TensorError> {
            Ok(Tensors::new())
        }
    }

    #[test]
    fn a_score_that_is_not_finite_ends_training_where_it_appears() {
        let io = Io::new("out", "data");
        let catalogue = Catalogue {
            known_at: vec![i64::MIN; 4],
            n_vocabulary: 4,
        };
        let sequences = Sequences::default();
        let requests = [Request {
            request: 7,
            part: Part::ValuationFit,
            sequence: 0,
            history_end: 0,
            requested_at: None,
            relevant: vec![3],
        }];
        let mut watch = Watch::new(&io, &catalogue, &sequences, &requests, Seen::Keep);
        assert_eq!(watch.validate(&Fixed(0.5)).unwrap(), Some(1.0));
        for score in [f64::NAN, f64::INFINITY] {
            let failure = cannot_fit(watch.validate(&Fixed(score)).unwrap_err());
            assert_eq!(failure.exit, Exit::Computation);
            let message = failure.to_string();
            assert!(message.contains("cannot be validated"), "{message}");
            assert!(message.contains("item 1 for request 7"), "{message}");
            assert!(!failure.hints.is_empty());
        }
    }
}
