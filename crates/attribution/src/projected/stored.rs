//! Projected gradients in the directory of a probe, read a block at a time.
//!
//! At most one block is held: while it is read, its file and its numbers, 8 bytes x width x rows of
//! the block, then its numbers alone. The gradients of all requests are one block.

use std::path::{Path, PathBuf};

use tensors::Tensors;
use tensors::projected_layout::{self as layout, ProjectedHeldOut, ProjectedIndex, ProjectedStep};

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
    held_out: Option<ProjectedHeldOut>,
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
            held_out: index.held_out,
        })
    }

    /// The part of the requests that are held out; `None` where none are.
    pub fn held_out_part(&self) -> Option<&str> {
        self.held_out
            .as_ref()
            .map(|held_out| held_out.part.as_str())
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

    /// Gradients of at most so many requests.
    fn read_requests(&self, file: &str, most: usize) -> Result<Rows, ProjectedError> {
        let (numbers, values) = self.read(file, Some(layout::REQUEST), layout::GRADIENT)?;
        if !numbers.is_sorted_by(|a, b| a < b) {
            return Err(self.wrong(file, "requests do not ascend".to_owned()));
        }
        if numbers.len() > most {
            let what = format!(
                "{} requests have a gradient, there are {most}",
                numbers.len()
            );
            return Err(self.wrong(file, what));
        }
        Ok(Rows { numbers, values })
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
        Ok(self.read_requests(&file, self.outline.n_requests)?)
    }

    fn held_out(&self) -> Result<Rows, EstimatorError> {
        match (&self.held_out, self.steps.last()) {
            (Some(held_out), Some(last)) => {
                Ok(self.read_requests(&layout::held_out(last.step), held_out.n_requests)?)
            }
            _ => Ok(Rows::default()),
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};
    use tensors::projected_layout::ProjectedLayer;

    use super::*;
    use crate::problem::{InMemory, Problem};
    use crate::{METHODS, Need, Seed, toy};

    fn save(directory: &Path, file: &str, numbers: Option<(&str, &[u32])>, rows: (&str, &[f32])) {
        let width = 5;
        let n = rows.1.len() / width;
        let mut tensors = Tensors::new();
        if let Some((name, numbers)) = numbers {
            tensors.insert_u32(name, &[n], numbers.to_vec()).unwrap();
        }
        tensors
            .insert_f32(rows.0, &[n, width], rows.1.to_vec())
            .unwrap();
        tensors.save(&directory.join(file)).unwrap();
    }

    /// Writes what a probe would, in blocks of so many rows.
    fn write(directory: &Path, projected: &dyn Projected, block: usize) {
        let width = projected.width();
        let mut states = Vec::new();
        for (at, state) in projected.states().iter().enumerate() {
            let step = state.step;
            std::fs::create_dir_all(directory.join(layout::folder(step))).unwrap();
            let (mut samples, mut gradients, mut roots) = (Vec::new(), Vec::new(), Vec::new());
            let collect = &mut |found: &[u32], rows: &[f32]| {
                samples.extend_from_slice(found);
                gradients.extend_from_slice(rows);
                Ok(())
            };
            projected.visit(at, collect).unwrap();
            let collect = &mut |rows: &[f32]| {
                roots.extend_from_slice(rows);
                Ok(())
            };
            projected.visit_curvature(at, collect).unwrap();
            let blocks = samples.chunks(block).zip(gradients.chunks(block * width));
            for (number, (samples, rows)) in blocks.clone().enumerate() {
                let file = layout::samples(step, number);
                let numbers = Some((layout::SAMPLE, samples));
                save(directory, &file, numbers, (layout::GRADIENT, rows));
            }
            let curvature = roots.chunks(block * width);
            for (number, rows) in curvature.clone().enumerate() {
                let file = layout::curvature(step, number);
                save(directory, &file, None, (layout::ROOT, rows));
            }
            let Rows { numbers, values } = projected.requests(at).unwrap();
            let requests = Some((layout::REQUEST, &*numbers));
            let file = layout::requests(step);
            save(directory, &file, requests, (layout::GRADIENT, &values));
            states.push(ProjectedStep {
                step,
                learning_rate: state.learning_rate,
                blocks: blocks.len(),
                curvature_blocks: curvature.len(),
            });
        }
        let layers = projected.layers().iter().map(|layer| ProjectedLayer {
            name: layer.name.clone(),
            start: layer.columns.start,
            end: layer.columns.end,
            parameters: layer.n_parameters,
            exact: layer.is_exact,
        });
        let index = ProjectedIndex {
            layers: layers.collect(),
            width,
            regularisation: projected.regularisation(),
            n_samples: projected.n_samples(),
            n_requests: projected.n_requests(),
            states,
            held_out: None,
        };
        let text = serde_json::to_string(&index).unwrap();
        std::fs::write(directory.join(layout::INDEX), text).unwrap();
    }

    fn written(problem: &InMemory, block: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), problem.projected().unwrap(), block);
        folder
    }

    #[test]
    fn files_give_the_same_bits_as_memory() {
        let problem = toy::problem(2);
        let n = problem.samples().len();
        for block in [3, 25, 1000] {
            let folder = written(&problem, block);
            let stored = Stored::open(folder.path(), n).unwrap();
            assert_eq!(stored.layers(), problem.projected().unwrap().layers());
            let other = problem.clone().with_projected(Arc::new(stored)).unwrap();
            let needy = METHODS.iter();
            for entry in needy.filter(|entry| entry.needs.contains(&Need::Projected)) {
                for parameters in [json!({}), json!({ "operator": "gauss_newton" })] {
                    let Ok(method) = entry.prepare(&parameters) else {
                        continue;
                    };
                    let run = |problem: &InMemory| method.estimate(problem, Seed::root(3), &|_| {});
                    assert_eq!(run(&problem), run(&other), "{}", entry.name);
                }
            }
        }
    }

    #[test]
    fn every_state_is_read() {
        let problem = toy::problem(1);
        let folder = written(&problem, 20);
        let stored = Stored::open(folder.path(), problem.samples().len()).unwrap();
        let memory = problem.projected().unwrap();
        assert_eq!(stored.states(), memory.states());
        for state in 0..2 {
            assert_eq!(stored.requests(state), memory.requests(state));
        }
        assert_ne!(stored.requests(0), stored.requests(1));
        assert!(stored.requests(2).is_err());
    }

    #[test]
    fn an_index_that_makes_no_sense_is_refused_by_name() {
        let problem = toy::problem(0);
        let n = problem.samples().len();
        let folder = written(&problem, 30);
        let path = folder.path().join(layout::INDEX);
        let sound = std::fs::read_to_string(&path).unwrap();
        let changes: [(&str, Value); 8] = [
            ("/width", json!(6)),
            ("/regularisation", json!(-1.0)),
            ("/n_samples", json!(n + 1)),
            ("/n_requests", json!(0)),
            ("/states", json!([])),
            ("/states/0/step", json!(50)),
            ("/layers/0/end", json!(3)),
            ("/layers/1/end", json!("five")),
        ];
        for (pointer, value) in changes {
            let mut index: Value = serde_json::from_str(&sound).unwrap();
            *index.pointer_mut(pointer).unwrap() = value;
            std::fs::write(&path, index.to_string()).unwrap();
            let error = Stored::open(folder.path(), n).unwrap_err().to_string();
            assert!(
                error.contains("projected.json") && error.contains("again"),
                "{error}"
            );
        }
        std::fs::write(&path, sound).unwrap();
        assert!(Stored::open(folder.path(), n + 1).is_err());
        assert!(Stored::open(&folder.path().join("nowhere"), n).is_err());
        assert!(Stored::open(folder.path(), n).is_ok());
    }

    #[test]
    fn damaged_blocks_are_refused_by_name() {
        let problem = toy::problem(0);
        let n = problem.samples().len();
        let rows = [0.5; 10];
        let too_far = u32::try_from(n).unwrap();
        let visit = |break_it: &dyn Fn(&Path)| {
            let folder = written(&problem, 30);
            break_it(folder.path());
            let stored = Stored::open(folder.path(), n).unwrap();
            let samples = stored.visit(1, &mut |_, _| Ok(()));
            let requests = stored.requests(1).map(drop);
            let roots = stored.visit_curvature(1, &mut |_| Ok(()));
            samples.and(requests).and(roots)
        };
        assert_eq!(visit(&|_| {}), Ok(()));
        let replaced = |file: &str, numbers: Option<(&str, &[u32])>, rows: (&str, &[f32])| {
            let error = visit(&|directory| {
                std::fs::remove_file(directory.join(file)).unwrap();
                save(directory, file, numbers, rows);
            });
            let error = error.unwrap_err().to_string();
            assert!(error.contains(file) && error.contains("again"), "{error}");
        };
        let block = layout::samples(9, 1);
        let gradients = (layout::GRADIENT, &rows[..]);
        replaced(&block, Some((layout::SAMPLE, &[60, 59])), gradients);
        replaced(&block, Some((layout::SAMPLE, &[0, 60])), gradients);
        replaced(&block, Some((layout::SAMPLE, &[60, too_far])), gradients);
        replaced(&block, Some((layout::REQUEST, &[60, 61])), gradients);
        replaced(
            &block,
            Some((layout::SAMPLE, &[60, 61])),
            (layout::ROOT, &rows),
        );
        replaced(
            &layout::requests(9),
            Some((layout::REQUEST, &[4, 4])),
            gradients,
        );
        replaced(&layout::curvature(9, 0), None, gradients);
        for file in [block, layout::requests(9), layout::curvature(9, 2)] {
            let error = visit(&|directory| std::fs::remove_file(directory.join(&file)).unwrap());
            assert!(error.unwrap_err().to_string().contains(&file));
            let error = visit(&|directory| {
                let path = directory.join(&file);
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
            });
            assert!(error.unwrap_err().to_string().contains(&file));
        }
    }
}
