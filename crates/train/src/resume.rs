//! What a killed training goes on from: the last state that the model handed over, and the epochs
//! that were told until then.
//!
//! Two files for each state: `epochs-S-E.safetensors` first, then `checkpoint-S-E.safetensors`, where
//! S is its step and E the number of epochs that were told; each is written beside its name and
//! renamed. The last step of an epoch and the end of the epoch are two states: without E the epochs
//! of one could stand beside the weights of the other. A state is there if the second file is;
//! whatever a kill leaves behind is an older state or rubbish that the next one removes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use models::{Checkpoint, TensorError, Tensors};
use tables::TrainingEpoch;

const CHECKPOINT: &str = "checkpoint-";
const EPOCHS: &str = "epochs-";
const SUFFIX: &str = ".safetensors";
const COUNTERS: &str = "counters";

/// A state that could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResumeError {
    #[error("failed to use `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("failed to use `{}`", path.display())]
    Tensor { path: PathBuf, source: TensorError },
    #[error("`{}` is not what this executable writes", path.display())]
    Damaged { path: PathBuf },
}

pub(crate) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> ResumeError {
    let path = path.to_owned();
    move |source| ResumeError::Io { path, source }
}

pub(crate) fn tensor_error(path: &Path) -> impl FnOnce(TensorError) -> ResumeError {
    let path = path.to_owned();
    move |source| ResumeError::Tensor { path, source }
}

/// File of a state: its step and the number of epochs that were told.
fn path(directory: &Path, kind: &str, (step, n_epochs): (u64, usize)) -> PathBuf {
    directory.join(format!("{kind}{step}-{n_epochs}{SUFFIX}"))
}

/// Keeps a state; older ones are removed once it is there.
pub(crate) fn keep(
    directory: &Path,
    checkpoint: &Checkpoint,
    epochs: &[TrainingEpoch],
) -> Result<(), ResumeError> {
    let state = (checkpoint.step, epochs.len());
    let epochs_path = path(directory, EPOCHS, state);
    let table = to_tensors(checkpoint, epochs).map_err(tensor_error(&epochs_path))?;
    write(&epochs_path, &table)?;
    let path = path(directory, CHECKPOINT, state);
    write(&path, &checkpoint.tensors)?;
    for other in list(directory)? {
        let name = other.file_name().and_then(|name| name.to_str());
        let is_ours =
            name.is_some_and(|name| name.starts_with(CHECKPOINT) || name.starts_with(EPOCHS));
        if is_ours && other != path && other != epochs_path {
            fs::remove_file(&other).map_err(io_error(&other))?;
        }
    }
    Ok(())
}

/// The last state that was kept.
pub(crate) fn last(
    directory: &Path,
) -> Result<Option<(Checkpoint, Vec<TrainingEpoch>)>, ResumeError> {
    let states = list(directory)?.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        let name = name.strip_prefix(CHECKPOINT)?.strip_suffix(SUFFIX)?;
        let (step, n_epochs) = name.split_once('-')?;
        Some((step.parse().ok()?, n_epochs.parse().ok()?))
    });
    let Some(state) = states.max() else {
        return Ok(None);
    };
    let (step, _) = state;
    let file = path(directory, EPOCHS, state);
    let table = Tensors::load(&file).map_err(tensor_error(&file))?;
    let damaged = || ResumeError::Damaged { path: file.clone() };
    let (epoch, epochs) = from_tensors(&table).ok_or_else(damaged)?;
    let file = path(directory, CHECKPOINT, state);
    let tensors = Tensors::load(&file).map_err(tensor_error(&file))?;
    let checkpoint = Checkpoint {
        step,
        epoch,
        tensors,
    };
    Ok(Some((checkpoint, epochs)))
}

/// Writes beside the name, makes it durable, renames.
pub(crate) fn write(path: &Path, tensors: &Tensors) -> Result<(), ResumeError> {
    let beside = path.with_extension("unfinished");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error(&beside)(error));
        }
        _ => {}
    }
    tensors.save(&beside).map_err(tensor_error(&beside))?;
    let file = fs::File::open(&beside).map_err(io_error(&beside))?;
    file.sync_all().map_err(io_error(&beside))?;
    fs::rename(&beside, path).map_err(io_error(path))
}

/// Everything in a directory, by name.
pub(crate) fn list(directory: &Path) -> Result<Vec<PathBuf>, ResumeError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_error(directory))? {
        paths.push(entry.map_err(io_error(directory))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Columns of the table of epochs: bits of numbers, of NaN where there is none.
const COLUMNS: [&str; 5] = ["epoch", "n_samples", "loss", "validation", "learning_rate"];

fn to_tensors(checkpoint: &Checkpoint, epochs: &[TrainingEpoch]) -> Result<Tensors, TensorError> {
    let bits = |value: Option<f64>| value.unwrap_or(f64::NAN).to_bits();
    let columns: [Vec<u64>; 5] = [
        epochs.iter().map(|row| u64::from(row.epoch)).collect(),
        epochs.iter().map(|row| row.n_samples).collect(),
        epochs.iter().map(|row| bits(row.loss)).collect(),
        epochs.iter().map(|row| bits(row.validation)).collect(),
        epochs.iter().map(|row| bits(row.learning_rate)).collect(),
    ];
    let mut tensors = Tensors::new();
    tensors.insert_u64(COUNTERS, &[1], vec![u64::from(checkpoint.epoch)])?;
    for (name, column) in COLUMNS.into_iter().zip(columns) {
        tensors.insert_u64(name, &[epochs.len()], column)?;
    }
    Ok(tensors)
}

fn from_tensors(tensors: &Tensors) -> Option<(u32, Vec<TrainingEpoch>)> {
    let epoch = u32::try_from(*tensors.u64(COUNTERS).ok()?.first()?).ok()?;
    let column = |name: &str| tensors.u64(name).ok();
    let number = |bits: u64| {
        let value = f64::from_bits(bits);
        (!value.is_nan()).then_some(value)
    };
    let [numbers, samples, losses, validations, rates] = [
        column(COLUMNS[0])?,
        column(COLUMNS[1])?,
        column(COLUMNS[2])?,
        column(COLUMNS[3])?,
        column(COLUMNS[4])?,
    ];
    let epochs = (0..numbers.len()).map(|row| {
        Some(TrainingEpoch {
            epoch: u32::try_from(numbers[row]).ok()?,
            n_samples: *samples.get(row)?,
            loss: number(*losses.get(row)?),
            validation: number(*validations.get(row)?),
            learning_rate: number(*rates.get(row)?),
        })
    });
    Some((epoch, epochs.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(step: u64) -> Checkpoint {
        let mut tensors = Tensors::new();
        tensors
            .insert_f32("weights", &[2], vec![step as f32, 0.1])
            .unwrap();
        Checkpoint {
            step,
            epoch: 3,
            tensors,
        }
    }

    fn epochs(n: u32) -> Vec<TrainingEpoch> {
        (0..n)
            .map(|epoch| TrainingEpoch {
                epoch,
                n_samples: 7,
                loss: Some(0.1 + f64::from(epoch)),
                validation: (epoch % 2 == 0).then_some(1.0 / 3.0),
                learning_rate: None,
            })
            .collect()
    }

    #[test]
    fn the_last_state_is_read_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        assert!(last(folder.path()).unwrap().is_none());
        keep(folder.path(), &checkpoint(9), &epochs(2)).unwrap();
        keep(folder.path(), &checkpoint(10), &epochs(2)).unwrap();
        keep(folder.path(), &checkpoint(10), &epochs(3)).unwrap();
        let (found, rows) = last(folder.path()).unwrap().unwrap();
        assert_eq!((found.step, found.epoch), (10, 3));
        assert_eq!(found.tensors.f32("weights").unwrap(), [10.0, 0.1]);
        assert_eq!(rows, epochs(3));
        assert_eq!(list(folder.path()).unwrap().len(), 2);
    }

    #[test]
    fn a_kill_between_two_files_leaves_the_state_before() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path(), &checkpoint(9), &epochs(2)).unwrap();
        fs::write(folder.path().join("epochs-12-3.safetensors"), b"half").unwrap();
        fs::write(folder.path().join("checkpoint-12-3.unfinished"), b"half").unwrap();
        assert_eq!(last(folder.path()).unwrap().unwrap().0.step, 9);
        keep(folder.path(), &checkpoint(12), &epochs(2)).unwrap();
        assert_eq!(last(folder.path()).unwrap().unwrap().0.step, 12);
        assert_eq!(list(folder.path()).unwrap().len(), 2);
    }
}
