//! Projected gradients in the directory of a probe, read a block at a time.
//!
//! At most one block is held: while it is read, its file and its numbers, 8 bytes x width x rows of
//! the block, then its numbers alone. The gradients of all requests are one block.

use std::path::{Path, PathBuf};

use tensors::Tensors;
use tensors::projected_layout::{self as layout, ProjectedIndex, ProjectedStep};

use super::{
    Layer, Outline, Projected, ProjectedError, ProjectedState, Rows, VisitRows, VisitSamples,
    no_curvature,
};
use crate::estimator::EstimatorError;

/// Projected gradients in the directory of a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    directory: PathBuf,
    outline: Outline,
    steps: Vec<ProjectedStep>,
}

impl Stored {
    /// Whether a directory has projected gradients.
    pub fn is_in(directory: &Path) -> bool {
        directory.join(layout::INDEX).is_file()
    }

    /// Reads what there is; rows are read when they are asked for.
    ///
    /// # Errors
    /// If `projected.json` is missing or damaged, its parts do not fit together, or it speaks of
    /// another number of samples than the problem has.
    pub fn open(directory: &Path, n_samples: usize) -> Result<Self, ProjectedError> {
        let path = directory.join(layout::INDEX);
        let wrong = |what: String| ProjectedError::new(name(&path), what);
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        let index: ProjectedIndex =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let layers = index.layers.into_iter().map(|layer| Layer {
            name: layer.name,
            columns: layer.start..layer.end,
            n_parameters: layer.parameters,
            is_exact: layer.exact,
        });
        let states = index.states.iter().map(|state| ProjectedState {
            step: state.step,
            learning_rate: state.learning_rate,
        });
        let outline = Outline {
            layers: layers.collect(),
            regularisation: index.regularisation,
            n_samples: index.n_samples,
            n_requests: index.n_requests,
            states: states.collect(),
        };
        outline.check().map_err(wrong)?;
        let width = outline.width();
        if index.width != width {
            let found = index.width;
            return Err(wrong(format!("width {found}, but layers end at {width}")));
        }
        if outline.n_samples != n_samples {
            let found = outline.n_samples;
            return Err(wrong(format!("{found} samples, the probe has {n_samples}")));
        }
        Ok(Self {
            directory: directory.to_owned(),
            outline,
            steps: index.states,
        })
    }

    /// A state and how many files it has.
    fn step(&self, state: usize) -> Result<&ProjectedStep, ProjectedError> {
        self.outline.state(state)?;
        Ok(&self.steps[state])
    }

    /// Reads one file: its numbers, if it has a tensor of that name, and its rows.
    fn read(
        &self,
        file: &str,
        numbers: Option<&str>,
        rows: &str,
    ) -> Result<(Vec<u32>, Vec<f32>), ProjectedError> {
        let path = self.directory.join(file);
        let wrong = |what: String| ProjectedError::new(name(&path), what);
        let tensors = Tensors::load(&path).map_err(|error| wrong(chain(&error)))?;
        let read = || {
            let numbers = match numbers {
                Some(name) => tensors.u32(name)?.to_vec(),
                None => Vec::new(),
            };
            let shape = tensors.shape(rows)?.to_vec();
            Ok((numbers, shape, tensors.f32(rows)?.to_vec()))
        };
        let (found, shape, values) =
            read().map_err(|error: tensors::TensorError| wrong(chain(&error)))?;
        let width = self.outline.width();
        let n = match numbers {
            Some(_) => found.len(),
            None => shape.first().copied().unwrap_or(0),
        };
        if shape != [n, width] {
            return Err(wrong(format!(
                "`{rows}` has shape {shape:?}, wanted [{n}, {width}]"
            )));
        }
        Ok((found, values))
    }

    fn wrong(&self, file: &str, what: String) -> ProjectedError {
        ProjectedError::new(name(&self.directory.join(file)), what)
    }
}

impl Projected for Stored {
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
        let file = layout::requests(self.step(state)?.step);
        let (numbers, values) = self.read(&file, Some(layout::REQUEST), layout::GRADIENT)?;
        if !numbers.is_sorted_by(|a, b| a < b) {
            return Err(self
                .wrong(&file, "requests do not ascend".to_owned())
                .into());
        }
        if numbers.len() > self.outline.n_requests {
            let what = format!(
                "{} requests have a gradient, the target has {}",
                numbers.len(),
                self.outline.n_requests
            );
            return Err(self.wrong(&file, what).into());
        }
        Ok(Rows { numbers, values })
    }

    fn visit(&self, state: usize, visit: VisitSamples<'_>) -> Result<(), EstimatorError> {
        let step = self.step(state)?;
        let mut before = None;
        for block in 0..step.blocks {
            let file = layout::samples(step.step, block);
            let (samples, gradients) = self.read(&file, Some(layout::SAMPLE), layout::GRADIENT)?;
            self.outline
                .check_samples(&samples, &gradients, before)
                .map_err(|what| self.wrong(&file, what))?;
            before = samples.last().copied().or(before);
            visit(&samples, &gradients)?;
        }
        Ok(())
    }

    fn has_curvature(&self) -> bool {
        self.steps
            .last()
            .is_some_and(|state| state.curvature_blocks > 0)
    }

    fn visit_curvature(&self, state: usize, visit: VisitRows<'_>) -> Result<(), EstimatorError> {
        let step = self.step(state)?;
        if step.curvature_blocks == 0 {
            let at = name(&self.directory.join(layout::INDEX));
            return Err(no_curvature(at, step.step).into());
        }
        for block in 0..step.curvature_blocks {
            let file = layout::curvature(step.step, block);
            let (_, roots) = self.read(&file, None, layout::ROOT)?;
            visit(&roots)?;
        }
        Ok(())
    }
}

fn name(path: &Path) -> String {
    format!("`{}`", path.display())
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
