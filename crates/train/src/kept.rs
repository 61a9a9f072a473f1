//! Output `checkpoints`: states along the training that led to the model, for estimators that look
//! at how it came about (`TracIn` needs weights, learning rates and moments of the optimiser).
//!
//! Nobody knows before the end which epoch will turn out the best, so states are kept at the end of
//! epochs and thinned. With b the best epoch so far (the last one, where nothing was validated), e
//! the last, both counted from 1, and s(n) the smallest power of two of which at most twice the
//! wanted number fit into n, what is kept is
//!
//! ```text
//! multiples of s(b) up to b, multiples of s(e) from there to e, b and e
//! ```
//!
//! at most four times the wanted number and two. That is a function of the epochs that were told, so
//! a killed training goes on to the same files; and what is kept after an epoch was kept before it,
//! or is that epoch. At the end those nearest to even steps up to the best are given: the last one
//! is the returned model.
//!
//! A file is `STEP.safetensors` with `weight.NAME` for each parameter, and `optimiser.mean.NAME`,
//! `optimiser.square.NAME` and `optimiser.steps` of `AdamW`; `checkpoints.parquet` lists them.

use std::fs;
use std::path::PathBuf;

use models::{Checkpoint, TensorError, Tensors};
use stage::{Failure, Io};
use tables::{KeptCheckpoint, TrainingEpoch};

use crate::resume::{ResumeError, io_error, list, tensor_error, write};

/// The output, and the folder of states in the directory that outlives a kill.
const ROLE: &str = "checkpoints";
const SUFFIX: &str = ".safetensors";
/// What of a state is given: not the best weights so far, nor counters.
const PREFIXES: [&str; 2] = ["weight.", "optimiser."];

/// Keeps states of one training.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Where states wait for the end.
    waiting: PathBuf,
    /// Where those that are chosen go.
    output: PathBuf,
    /// How many are wanted.
    wanted: u32,
}

/// A state that waits: the epochs that were over, and the steps taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    epochs: u32,
    step: u64,
    path: PathBuf,
}

impl Kept {
    /// Prepares to keep so many states; `None` if none are wanted, or if the model has none to give:
    /// then the output is a table without rows.
    pub(crate) fn new(io: &Io, wanted: u32, has_states: bool) -> Result<Option<Self>, Failure> {
        if wanted == 0 {
            return Ok(None);
        }
        let output = io.output(ROLE)?;
        if !has_states {
            let rows: [KeptCheckpoint; 0] = [];
            tables::write_all(&output, rows).map_err(Failure::environment)?;
            return Ok(None);
        }
        let waiting = io.resume().unwrap_or(&output).join("states");
        fs::create_dir_all(&waiting).map_err(|error| {
            Failure::environment(error).cause(format!("creating `{}`", waiting.display()))
        })?;
        Ok(Some(Self {
            waiting,
            output,
            wanted,
        }))
    }

    /// Keeps the state in which the last of `epochs` ended, and removes what is not needed any more.
    pub(crate) fn keep(
        &self,
        checkpoint: &Checkpoint,
        epochs: &[TrainingEpoch],
    ) -> Result<(), ResumeError> {
        let name = format!("{}-{}{SUFFIX}", checkpoint.epoch, checkpoint.step);
        let path = self.waiting.join(name);
        write(&path, &given(checkpoint).map_err(tensor_error(&path))?)?;
        let best = best(epochs).unwrap_or(checkpoint.epoch);
        for state in self.states()? {
            if !is_kept(state.epochs, best, checkpoint.epoch, self.wanted) {
                fs::remove_file(&state.path).map_err(io_error(&state.path))?;
            }
        }
        Ok(())
    }

    /// The states that wait, oldest first.
    fn states(&self) -> Result<Vec<State>, ResumeError> {
        let mut states = Vec::new();
        for path in list(&self.waiting)? {
            let name = path.file_name().and_then(|name| name.to_str());
            let numbers = name
                .and_then(|name| name.strip_suffix(SUFFIX))
                .and_then(|name| name.split_once('-'))
                .and_then(|(epochs, step)| Some((epochs.parse().ok()?, step.parse().ok()?)));
            // Whatever a kill left half-written is no state.
            if let Some((epochs, step)) = numbers {
                states.push(State { epochs, step, path });
            }
        }
        states.sort();
        Ok(states)
    }

    /// Writes the output for a model that so many steps led to.
    pub(crate) fn finish(self, steps: u64, epochs: &[TrainingEpoch]) -> Result<(), Failure> {
        let mut states = self.states().map_err(Failure::environment)?;
        states.retain(|state| state.step <= steps);
        let last = states.last().map_or(0, |state| state.epochs);
        let chosen = spread(
            &states.iter().map(|state| state.epochs).collect::<Vec<_>>(),
            last,
            self.wanted,
        );
        let mut rows = Vec::new();
        for state in states {
            if !chosen.contains(&state.epochs) {
                continue;
            }
            let file = format!("{}{SUFFIX}", state.step);
            let path = self.output.join(&file);
            fs::copy(&state.path, &path).map_err(|error| {
                Failure::environment(error).cause(format!("writing `{}`", path.display()))
            })?;
            let epoch = state.epochs.saturating_sub(1);
            let told = epochs.iter().find(|told| told.epoch == epoch);
            rows.push(KeptCheckpoint {
                step: state.step,
                epoch,
                learning_rate: told.and_then(|told| told.learning_rate),
                validation: told.and_then(|told| told.validation),
                file,
            });
        }
        tables::write_all(&self.output, rows).map_err(Failure::environment)?;
        if !self.waiting.starts_with(&self.output) {
            // A run that is killed after this comes here again.
            return Ok(());
        }
        fs::remove_dir_all(&self.waiting).map_err(|error| {
            Failure::environment(error).cause(format!("removing `{}`", self.waiting.display()))
        })
    }
}

/// Weights and state of the optimiser of a checkpoint.
fn given(checkpoint: &Checkpoint) -> Result<Tensors, TensorError> {
    let from = &checkpoint.tensors;
    let mut tensors = Tensors::new();
    let names = from.names();
    for name in names.filter(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix))) {
        let shape = from.shape(name)?;
        match from.f32(name) {
            Ok(values) => tensors.insert_f32(name, shape, values.to_vec())?,
            Err(_) => tensors.insert_u64(name, shape, from.u64(name)?.to_vec())?,
        }
    }
    Ok(tensors)
}

/// The epoch that validated best, counted from 1: of equals the first, as in training.
fn best(epochs: &[TrainingEpoch]) -> Option<u32> {
    let validated = epochs
        .iter()
        .filter_map(|epoch| Some((epoch.validation?, epoch.epoch + 1)));
    let best = validated.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, epoch)| epoch)
}

/// The smallest power of two of which at most twice the wanted number fit into `epochs`.
fn stride(epochs: u32, wanted: u32) -> u32 {
    let mut stride = 1_u32;
    while epochs / stride > wanted.saturating_mul(2) {
        stride *= 2;
    }
    stride
}

/// Whether the state after an epoch is needed, given the best and the last one until now.
fn is_kept(epoch: u32, best: u32, last: u32, wanted: u32) -> bool {
    let until = if epoch <= best { best } else { last };
    let is_even = epoch.is_multiple_of(stride(until, wanted));
    epoch == best || epoch == last || (is_even && epoch <= last)
}

/// Of ascending epochs, those nearest to even steps up to `last`, which is one of them; of two as
/// near the earlier.
fn spread(epochs: &[u32], last: u32, wanted: u32) -> Vec<u32> {
    // Distances in units of 1 / n are whole; no more are there than epochs.
    let n = u64::from(wanted.min(last));
    let mut chosen: Vec<u32> = (1..=n)
        .filter_map(|turn| {
            let goal = u64::from(last) * turn;
            let distance = |epoch: &&u32| (u64::from(**epoch) * n).abs_diff(goal);
            epochs.iter().min_by_key(distance).copied()
        })
        .collect();
    chosen.dedup();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(validations: &[Option<f64>]) -> Vec<TrainingEpoch> {
        (0..)
            .zip(validations)
            .map(|(epoch, &validation)| TrainingEpoch {
                epoch,
                n_samples: 1,
                loss: None,
                validation,
                learning_rate: Some(0.5 / f64::from(epoch + 1)),
            })
            .collect()
    }

    /// What is kept after all epochs, and the most that was at once.
    fn kept(validations: &[Option<f64>], wanted: u32) -> (Vec<u32>, usize) {
        let epochs = told(validations);
        let (mut all, mut most) = (Vec::new(), 0);
        for n in 1..=epochs.len() {
            let last = u32::try_from(n).unwrap();
            let best = best(&epochs[..n]).unwrap_or(last);
            all.push(last);
            all.retain(|&epoch| is_kept(epoch, best, last, wanted));
            most = most.max(all.len());
        }
        (all, most)
    }

    #[test]
    fn the_wanted_number_is_left_wherever_the_best_epoch_is() {
        for wanted in [1, 2, 3, 5, 8] {
            for n in 1..90_u32 {
                for best_at in (1..=n).step_by(3) {
                    let validations: Vec<Option<f64>> = (1..=n)
                        .map(|epoch| {
                            Some(if epoch <= best_at {
                                f64::from(epoch)
                            } else {
                                0.5
                            })
                        })
                        .collect();
                    let (all, most) = kept(&validations, wanted);
                    assert!(most <= 4 * wanted as usize + 2, "{most} of {wanted}");
                    let until: Vec<u32> =
                        all.into_iter().filter(|epoch| *epoch <= best_at).collect();
                    let chosen = spread(&until, best_at, wanted);
                    assert_eq!(
                        chosen.len(),
                        wanted.min(best_at) as usize,
                        "{until:?} {wanted}"
                    );
                    assert_eq!(chosen.last(), Some(&best_at));
                    // No step is longer than twice an even one, and one.
                    let even = best_at.div_ceil(wanted);
                    let starts = std::iter::once(&0).chain(&chosen);
                    for (a, b) in starts.zip(&chosen) {
                        assert!(b - a <= 2 * even, "{chosen:?} of {best_at}");
                    }
                }
            }
        }
    }

    #[test]
    fn without_validation_the_last_epoch_is_the_best() {
        let (all, _) = kept(&[None; 9], 2);
        assert_eq!(all, [2, 4, 6, 8, 9]);
        assert_eq!(spread(&all, 9, 2), [4, 9]);
        let figures = [None, Some(0.3), None, Some(0.3), None];
        assert_eq!(best(&told(&figures)), Some(2));
        assert_eq!(best(&told(&[])), None);
    }

    #[test]
    fn a_kill_between_state_and_checkpoint_leads_to_the_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let run = |name: &str, twice: bool| {
            let io = Io::new(folder.path().join(name), "data");
            let kept = Kept::new(&io, 2, true).unwrap().unwrap();
            let validations = [0.1, 0.2, 0.4, 0.3, 0.2, 0.1, 0.1].map(Some);
            for epoch in 1..=7_u32 {
                let mut tensors = Tensors::new();
                let value = vec![epoch as f32];
                tensors
                    .insert_f32("weight.item", &[1], value.clone())
                    .unwrap();
                tensors.insert_f32("best.item", &[1], value).unwrap();
                tensors
                    .insert_u64("optimiser.steps", &[1], vec![u64::from(epoch)])
                    .unwrap();
                let checkpoint = Checkpoint {
                    step: u64::from(epoch) * 10,
                    epoch,
                    tensors,
                };
                let epochs = told(&validations[..epoch as usize]);
                // The run that is killed after this comes here again.
                for _ in 0..=usize::from(twice) {
                    kept.keep(&checkpoint, &epochs).unwrap();
                }
            }
            std::fs::write(kept.waiting.join("9-90.unfinished"), b"half").unwrap();
            kept.finish(30, &told(&validations)).unwrap();
            let output = folder.path().join(name).join(ROLE);
            let rows: Vec<KeptCheckpoint> = tables::read_all(&output).unwrap();
            (output, rows)
        };
        let (output, rows) = run("once", false);
        assert_eq!(rows, run("twice", true).1);
        let found: Vec<(u64, u32)> = rows.iter().map(|row| (row.step, row.epoch)).collect();
        assert_eq!(found, [(10, 0), (30, 2)]);
        assert_eq!(rows[1].validation, Some(0.4));
        let state = Tensors::load(&output.join(&rows[1].file)).unwrap();
        assert_eq!(
            state.names().collect::<Vec<_>>(),
            ["optimiser.steps", "weight.item"]
        );
        assert_eq!(list(&output).unwrap().len(), 3);
    }
}
