//! Everything that training goes on from, and how it is kept.

use tensors::{AdamW, Parameters, TensorError, Tensors};

use crate::recommender::FitError;
use crate::run::Checkpoint;

const COUNTERS: &str = "counters";
const FIGURES: &str = "figures";

/// The weights that validated best.
#[derive(Clone, Debug)]
pub(super) struct Best {
    pub(super) validation: f64,
    pub(super) step: u64,
    pub(super) parameters: Parameters<f32>,
}

/// Where training stands.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) parameters: Parameters<f32>,
    pub(super) optimiser: AdamW<f32>,
    /// Steps taken.
    pub(super) step: u64,
    /// Epochs finished.
    pub(super) epoch: u32,
    /// Batches of the epoch that are done.
    pub(super) batch: u64,
    /// Sum of the unweighted losses of the epoch, and how many there are.
    pub(super) loss: f64,
    pub(super) n_terms: u64,
    pub(super) best: Option<Best>,
    /// Validations since the best one.
    pub(super) since_best: u32,
}

impl State {
    pub(super) fn new(parameters: Parameters<f32>, optimiser: AdamW<f32>) -> Self {
        Self {
            parameters,
            optimiser,
            step: 0,
            epoch: 0,
            batch: 0,
            loss: 0.0,
            n_terms: 0,
            best: None,
            since_best: 0,
        }
    }

    /// The state as tensors: `weight.NAME`, `optimiser.NAME`, `best.NAME`, and counters.
    pub(super) fn checkpoint(&self) -> Result<Checkpoint, TensorError> {
        let mut tensors = Tensors::new();
        let optimiser = self.optimiser.to_tensors(&self.parameters)?;
        copy(&self.parameters.to_tensors()?, &mut tensors, "weight.")?;
        copy(&optimiser, &mut tensors, "optimiser.")?;
        let mut best_step = 0;
        let mut figures = vec![self.loss, 0.0];
        if let Some(best) = &self.best {
            copy(&best.parameters.to_tensors()?, &mut tensors, "best.")?;
            figures[1] = best.validation;
            best_step = best.step;
        }
        let counters = vec![
            self.step,
            u64::from(self.epoch),
            self.batch,
            self.n_terms,
            u64::from(self.since_best),
            u64::from(self.best.is_some()),
            best_step,
        ];
        tensors.insert_u64(COUNTERS, &[counters.len()], counters)?;
        tensors.insert_f64(FIGURES, &[figures.len()], figures)?;
        Ok(Checkpoint {
            step: self.step,
            epoch: self.epoch,
            tensors,
        })
    }

    /// Goes on from a state that was kept.
    ///
    /// # Errors
    /// If it is not a state of this network.
    pub(super) fn resume(&mut self, tensors: &Tensors) -> Result<(), FitError> {
        let counters = tensors.u64(COUNTERS).map_err(unusable)?;
        let &[step, epoch, batch, n_terms, since_best, has_best, best_step] = counters else {
            return Err(foreign());
        };
        let &[loss, validation] = tensors.f64(FIGURES).map_err(unusable)? else {
            return Err(foreign());
        };
        let narrow = |x: u64| u32::try_from(x).map_err(|_| foreign());
        self.weights(tensors, has_best == 1, validation, best_step)
            .map_err(unusable)?;
        (self.step, self.batch) = (step, batch);
        (self.loss, self.n_terms) = (loss, n_terms);
        self.epoch = narrow(epoch)?;
        self.since_best = narrow(since_best)?;
        Ok(())
    }

    fn weights(
        &mut self,
        tensors: &Tensors,
        has_best: bool,
        validation: f64,
        step: u64,
    ) -> Result<(), TensorError> {
        self.parameters.load(&part(tensors, "weight.")?)?;
        let optimiser = part(tensors, "optimiser.")?;
        self.optimiser.load(&self.parameters, &optimiser)?;
        self.best = None;
        if has_best {
            let mut parameters = self.parameters.clone();
            parameters.load(&part(tensors, "best.")?)?;
            self.best = Some(Best {
                validation,
                step,
                parameters,
            });
        }
        Ok(())
    }
}

/// A state that cannot be gone on from.
pub(super) fn unusable(error: TensorError) -> FitError {
    FitError::Checkpoint(Box::new(error))
}

/// A state whose counters are not those of this version.
fn foreign() -> FitError {
    FitError::Checkpoint("its counters are those of another version".into())
}

/// Copies all tensors under a prefix.
fn copy(from: &Tensors, to: &mut Tensors, prefix: &str) -> Result<(), TensorError> {
    for name in from.names() {
        insert(from, name, to, &format!("{prefix}{name}"))?;
    }
    Ok(())
}

/// The tensors with a prefix, without it.
fn part(from: &Tensors, prefix: &str) -> Result<Tensors, TensorError> {
    let mut to = Tensors::new();
    for name in from.names() {
        if let Some(rest) = name.strip_prefix(prefix) {
            insert(from, name, &mut to, rest)?;
        }
    }
    Ok(to)
}

fn insert(from: &Tensors, name: &str, to: &mut Tensors, as_name: &str) -> Result<(), TensorError> {
    let shape = from.shape(name)?;
    match from.f32(name) {
        Ok(values) => to.insert_f32(as_name, shape, values.to_vec()),
        Err(_) => to.insert_u64(as_name, shape, from.u64(name)?.to_vec()),
    }
}
