//! Projected gradients: one short row per sample and request, streamed a block at a time.
//!
//! A row is the gradient of one unweighted loss term, layer beside layer: a layer's columns are its
//! parameters themselves (exact), or a random projection of its gradient that keeps products and
//! lengths in expectation. Methods that need more of a gradient than its product with the target, such
//! as those that invert a curvature, work on these rows.
//!
//! A sample without a loss term, such as one without a history, has no row.

mod in_memory;
mod stored;

use std::fmt::Debug;
use std::ops::Range;

use crate::estimator::EstimatorError;
pub use in_memory::{InMemoryProjected, ProjectedRows};
pub use stored::Stored;

/// Takes a block of gradients of samples: the positions of the samples in the problem, ascending, and
/// their rows one after the other.
pub type VisitSamples<'v> = &'v mut dyn FnMut(&[u32], &[f32]) -> Result<(), EstimatorError>;

/// Takes a block of rows, one after the other.
pub type VisitRows<'v> = &'v mut dyn FnMut(&[f32]) -> Result<(), EstimatorError>;

/// Gradients in rows of [`Projected::width`] numbers, at the states of a training.
///
/// A state is named by its place in [`Projected::states`]. Every call streams the same blocks in the
/// same order, and all numbers are finite.
pub trait Projected: Send + Sync + Debug {
    /// Layers, in the order of their columns, which lie one beside the other.
    fn layers(&self) -> &[Layer];
    /// Numbers in a row; at least 1.
    fn width(&self) -> usize {
        self.layers().last().map_or(0, |layer| layer.columns.end)
    }
    /// Samples of the problem, those without a gradient included.
    fn n_samples(&self) -> usize;
    /// Requests of the target, those without a gradient included: the mean loss is divided by it.
    fn n_requests(&self) -> usize;
    /// States, oldest first; the last one is the fitted model.
    fn states(&self) -> &[ProjectedState];
    /// Strength s of the penalty s/2 |parameters|^2 in the mean loss; 0 where there is none.
    ///
    /// It adds s to the diagonal of a curvature where columns are parameters. Where they are
    /// projections it adds nothing, and damping has to do its work.
    fn regularisation(&self) -> f64;
    /// Gradients of the mean loss of each request over its relevant items.
    ///
    /// # Errors
    /// If there is no such state, or the gradients cannot be read.
    fn requests(&self, state: usize) -> Result<Rows, EstimatorError>;
    /// The same at the fitted model for requests that are no target, to choose settings by; no rows where
    /// there are none.
    ///
    /// # Errors
    /// If the gradients cannot be read.
    fn held_out(&self) -> Result<Rows, EstimatorError> {
        Ok(Rows::default())
    }
    /// Streams the gradients of samples; positions ascend over all blocks.
    ///
    /// # Errors
    /// If there is no such state, the gradients cannot be read, or `visit` fails.
    fn visit(&self, state: usize, visit: VisitSamples<'_>) -> Result<(), EstimatorError>;
    /// Whether the fitted model has rows of the Gauss-Newton matrix.
    fn has_curvature(&self) -> bool;
    /// Streams rows whose outer products, summed and divided by the number of samples with a
    /// gradient, are the Gauss-Newton matrix.
    ///
    /// # Errors
    /// If there is no such state, it has no such rows, they cannot be read, or `visit` fails.
    fn visit_curvature(&self, state: usize, visit: VisitRows<'_>) -> Result<(), EstimatorError>;
}

/// Columns of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Its columns in a row.
    pub columns: Range<usize>,
    /// Parameters before projection.
    pub n_parameters: usize,
    /// Whether a column is a parameter: nothing is projected.
    pub is_exact: bool,
}

/// One state of the training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProjectedState {
    /// Steps that led there.
    pub step: u64,
    /// Learning rate of the last of them; `None` where it was not kept.
    pub learning_rate: Option<f64>,
}

/// Numbered rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// What each row belongs to: a request, or the position of a sample.
    pub numbers: Vec<u32>,
    /// The rows, one after the other.
    pub values: Vec<f32>,
}

/// Projected gradients that cannot be read or do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("projected gradients in {at}: {what}; run the node that made the probe again")]
pub struct ProjectedError {
    /// Where: a file, or a part in memory.
    pub at: String,
    /// What is wrong.
    pub what: String,
}

impl ProjectedError {
    fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        let (at, what) = (at.into(), what.into());
        Self { at, what }
    }
}

/// Everything but the rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outline {
    pub(crate) layers: Vec<Layer>,
    pub(crate) regularisation: f64,
    pub(crate) n_samples: usize,
    pub(crate) n_requests: usize,
    pub(crate) states: Vec<ProjectedState>,
}

impl Outline {
    fn width(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.columns.end)
    }

    /// Checks that columns lie one beside the other, steps ascend and numbers make sense; says what
    /// does not.
    fn check(&self) -> Result<(), String> {
        let mut next = 0;
        for layer in &self.layers {
            let Range { start, end } = layer.columns;
            if start != next || end <= start {
                let name = &layer.name;
                return Err(format!(
                    "layer `{name}` has columns {start}..{end}, wanted some from {next} on"
                ));
            }
            if layer.is_exact && layer.n_parameters != end - start {
                return Err(format!(
                    "layer `{}` is exact, but has {} parameters in {} columns",
                    layer.name,
                    layer.n_parameters,
                    end - start
                ));
            }
            next = end;
        }
        if next == 0 {
            return Err("there are no layers".to_owned());
        }
        if !(self.regularisation.is_finite() && self.regularisation >= 0.0) {
            return Err(format!("regularisation is {}", self.regularisation));
        }
        if self.n_requests == 0 {
            return Err("the target has no requests".to_owned());
        }
        if self.states.is_empty() || !self.states.is_sorted_by(|a, b| a.step < b.step) {
            return Err("there are no states, or their steps do not ascend".to_owned());
        }
        let mut rates = self.states.iter().filter_map(|state| state.learning_rate);
        if rates.any(|rate| !rate.is_finite()) {
            return Err("a learning rate is not finite".to_owned());
        }
        Ok(())
    }

    /// Checks a block of gradients of samples; `before` is the last position of the block before.
    fn check_samples(
        &self,
        samples: &[u32],
        gradients: &[f32],
        before: Option<u32>,
    ) -> Result<(), String> {
        self.check_rows(samples.len(), gradients)?;
        let is_after = before.zip(samples.first()).is_none_or(|(a, &b)| a < b);
        if !is_after || !samples.is_sorted_by(|a, b| a < b) {
            return Err("positions of samples do not ascend".to_owned());
        }
        if let Some(&last) = samples.last()
            && last as usize >= self.n_samples
        {
            return Err(format!(
                "there is a sample {last}, but the problem has {}",
                self.n_samples
            ));
        }
        Ok(())
    }

    fn check_rows(&self, n: usize, values: &[f32]) -> Result<(), String> {
        let width = self.width();
        if n.checked_mul(width) != Some(values.len()) {
            let found = values.len();
            return Err(format!("{n} rows of width {width} are not {found} numbers"));
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err("a number is not finite".to_owned());
        }
        Ok(())
    }

    /// The state of this place.
    fn state(&self, state: usize) -> Result<&ProjectedState, ProjectedError> {
        self.states.get(state).ok_or_else(|| {
            let n = self.states.len();
            ProjectedError::new("memory", format!("there is no state {state} of {n}"))
        })
    }
}

/// The error of a state without rows of the Gauss-Newton matrix.
fn no_curvature(at: impl Into<String>, step: u64) -> ProjectedError {
    ProjectedError::new(
        at,
        format!(
            "the Gauss-Newton matrix was not taken at step {step}; `operator: empirical_fisher` needs none"
        ),
    )
}
