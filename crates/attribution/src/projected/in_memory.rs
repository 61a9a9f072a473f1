//! Projected gradients held in memory: for tests, examples and small problems.

use super::{
    Layer, Outline, Projected, ProjectedError, ProjectedState, Rows, VisitRows, VisitSamples,
    no_curvature,
};
use crate::estimator::EstimatorError;

/// Rows per block, unless one says otherwise.
const BLOCK: usize = 1024;

/// Projected gradients held in memory. Memory: 4 bytes x width x rows.
#[derive(Clone, Debug, PartialEq)]
pub struct InMemoryProjected {
    outline: Outline,
    rows: Vec<ProjectedRows>,
    held_out: Rows,
    block: usize,
}

/// The rows of one state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProjectedRows {
    /// Gradients of samples, by position.
    pub samples: Rows,
    /// Gradients of requests.
    pub requests: Rows,
    /// Rows of the Gauss-Newton matrix, one after the other.
    pub curvature: Option<Vec<f32>>,
}

impl InMemoryProjected {
    /// Gradients at these states, oldest first; for the meaning of the numbers see [`Projected`].
    ///
    /// # Errors
    /// If layers, states or rows do not fit together, or a number is not finite.
    pub fn new(
        layers: Vec<Layer>,
        regularisation: f64,
        n_samples: usize,
        n_requests: usize,
        states: Vec<(ProjectedState, ProjectedRows)>,
    ) -> Result<Self, ProjectedError> {
        let (states, rows): (Vec<_>, Vec<_>) = states.into_iter().unzip();
        let outline = Outline {
            layers,
            regularisation,
            n_samples,
            n_requests,
            states,
        };
        let check = || {
            outline.check()?;
            for state in &rows {
                let Rows { numbers, values } = &state.samples;
                outline.check_samples(numbers, values, None)?;
                outline.check_rows(state.requests.numbers.len(), &state.requests.values)?;
                if let Some(roots) = &state.curvature {
                    outline.check_rows(roots.len() / outline.width(), roots)?;
                }
            }
            Ok(())
        };
        check().map_err(|what: String| ProjectedError::new("memory", what))?;
        Ok(Self {
            outline,
            rows,
            held_out: Rows::default(),
            block: BLOCK,
        })
    }

    /// The same, streamed in blocks of so many rows; of one, if 0 are asked for.
    #[must_use]
    pub fn with_block(mut self, rows: usize) -> Self {
        self.block = rows.max(1);
        self
    }

    /// Adds gradients of requests that are no target, at the last state.
    ///
    /// # Errors
    /// If rows have another width, or a number is not finite.
    pub fn with_held_out(mut self, rows: Rows) -> Result<Self, ProjectedError> {
        self.outline
            .check_rows(rows.numbers.len(), &rows.values)
            .map_err(|what| ProjectedError::new("memory", what))?;
        self.held_out = rows;
        Ok(self)
    }

    fn rows(&self, state: usize) -> Result<&ProjectedRows, EstimatorError> {
        self.outline.state(state)?;
        Ok(&self.rows[state])
    }
}

impl Projected for InMemoryProjected {
    fn layers(&self) -> &[Layer] {
        &self.outline.layers
    }

    fn n_samples(&self) -> usize {
        self.outline.n_samples
    }

    fn n_requests(&self) -> usize {
        self.outline.n_requests
    }

    fn states(&self) -> &[ProjectedState] {
        &self.outline.states
    }

    fn regularisation(&self) -> f64 {
        self.outline.regularisation
    }

    fn requests(&self, state: usize) -> Result<Rows, EstimatorError> {
        Ok(self.rows(state)?.requests.clone())
    }

    fn held_out(&self) -> Result<Rows, EstimatorError> {
        Ok(self.held_out.clone())
    }

    fn visit(&self, state: usize, visit: VisitSamples<'_>) -> Result<(), EstimatorError> {
        let Rows { numbers, values } = &self.rows(state)?.samples;
        let values = values.chunks(self.block * self.width());
        for (samples, rows) in numbers.chunks(self.block).zip(values) {
            visit(samples, rows)?;
        }
        Ok(())
    }

    fn has_curvature(&self) -> bool {
        self.rows
            .last()
            .is_some_and(|state| state.curvature.is_some())
    }

    fn visit_curvature(&self, state: usize, visit: VisitRows<'_>) -> Result<(), EstimatorError> {
        let step = self.outline.state(state)?.step;
        let Some(roots) = &self.rows(state)?.curvature else {
            return Err(no_curvature("memory", step).into());
        };
        roots.chunks(self.block * self.width()).try_for_each(visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(columns: std::ops::Range<usize>) -> Layer {
        Layer {
            name: "only".to_owned(),
            n_parameters: columns.len(),
            columns,
            is_exact: true,
        }
    }

    fn state(step: u64) -> (ProjectedState, ProjectedRows) {
        let rows = |numbers: &[u32]| Rows {
            numbers: numbers.to_vec(),
            values: (0..2 * numbers.len()).map(|k| k as f32).collect(),
        };
        let state = ProjectedState {
            step,
            learning_rate: None,
        };
        let rows = ProjectedRows {
            samples: rows(&[0, 2]),
            requests: rows(&[5]),
            curvature: None,
        };
        (state, rows)
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let make = |layers: Vec<Layer>, penalty, n_samples, states| {
            InMemoryProjected::new(layers, penalty, n_samples, 1, states)
        };
        let sound = make(vec![layer(0..2)], 0.1, 3, vec![state(1), state(4)]).unwrap();
        assert_eq!((sound.width(), sound.has_curvature()), (2, false));
        assert!(sound.requests(2).is_err());
        assert!(sound.visit_curvature(1, &mut |_| Ok(())).is_err());
        assert!(make(vec![layer(1..2)], 0.1, 3, vec![state(1)]).is_err());
        assert!(make(vec![layer(0..3)], 0.1, 3, vec![state(1)]).is_err());
        assert!(make(vec![layer(0..2)], f64::NAN, 3, vec![state(1)]).is_err());
        assert!(make(vec![layer(0..2)], 0.1, 2, vec![state(1)]).is_err());
        assert!(make(vec![layer(0..2)], 0.1, 3, vec![state(4), state(1)]).is_err());
        assert!(make(vec![layer(0..2)], 0.1, 3, Vec::new()).is_err());
        let mut wrong = state(1);
        wrong.1.samples.numbers.reverse();
        assert!(make(vec![layer(0..2)], 0.1, 3, vec![wrong]).is_err());
        let mut wrong = state(1);
        wrong.1.samples.values[0] = f32::NAN;
        assert!(make(vec![layer(0..2)], 0.1, 3, vec![wrong]).is_err());
    }
}
