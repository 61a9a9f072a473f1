//! A fitted model on disk: `model.json` says what it is, `weights.safetensors` what was fitted.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tensors::TensorError;

use crate::recommender::{LoadError, Model, UnknownModel, entry};

const CARD: &str = "model.json";
const WEIGHTS: &str = "weights.safetensors";

/// What a fitted model is.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Name in the registry.
    pub name: String,
    /// Revision of the registry entry that fitted it.
    pub revision: u32,
    /// Its parameters, defaults filled in.
    pub parameters: Value,
    /// Size of the vocabulary it was fitted on.
    pub n_vocabulary: usize,
    /// Samples it was fitted on.
    pub n_samples: usize,
}

/// A model that could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("failed to use the model in `{}`", path.display())]
pub struct CardError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub kind: CardErrorKind,
}

/// Why a model could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CardErrorKind {
    /// The file could not be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file is not what it should be.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// No such model is registered.
    #[error(transparent)]
    Unknown(#[from] UnknownModel),
    /// It was fitted by another revision.
    #[error("`{name}` was fitted by revision {found}, this is revision {wanted}")]
    Revision {
        /// The model.
        name: String,
        /// Revision in the file.
        found: u32,
        /// Revision in the registry.
        wanted: u32,
    },
    /// What was fitted could not be written.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// What was fitted does not make a model.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Writes a model into a directory.
///
/// # Errors
/// If a file exists or cannot be written, or something fitted is not finite.
pub fn save(directory: &Path, card: &Card, model: &dyn Model) -> Result<(), CardError> {
    let at = |name: &str| directory.join(name);
    let write = || -> Result<(), CardErrorKind> {
        let mut text = serde_json::to_string_pretty(card)?;
        text.push('\n');
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(at(CARD))?;
        Ok(file.write_all(text.as_bytes())?)
    };
    write().map_err(|kind| CardError {
        path: at(CARD),
        kind,
    })?;
    let tensors = model.save().and_then(|tensors| tensors.save(&at(WEIGHTS)));
    tensors.map_err(|kind| CardError {
        path: at(WEIGHTS),
        kind: kind.into(),
    })
}

/// Reads a model from a directory.
///
/// # Errors
/// If a file is missing or damaged, or the model is of another revision.
pub fn load(directory: &Path) -> Result<(Card, Box<dyn Model>), CardError> {
    let path = directory.join(CARD);
    let read = || -> Result<_, CardErrorKind> {
        let card: Card = serde_json::from_slice(&std::fs::read(&path)?)?;
        let entry = entry(&card.name)?;
        if entry.revision != card.revision {
            return Err(CardErrorKind::Revision {
                name: card.name,
                found: card.revision,
                wanted: entry.revision,
            });
        }
        Ok((card, entry))
    };
    let (card, entry) = read().map_err(|kind| CardError { path, kind })?;
    let path = directory.join(WEIGHTS);
    let restore =
        || -> Result<_, CardErrorKind> { Ok(entry.load(&tensors::Tensors::load(&path)?)?) };
    match restore() {
        Ok(model) => Ok((card, model)),
        Err(kind) => Err(CardError { path, kind }),
    }
}
