//! Parameters of training that all sequence models share.

use serde::{Deserialize, Serialize};
use tables::Event;

use crate::recommender::Parameter;

/// How a network is trained.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Training {
    /// Rows of a batch.
    pub(crate) batch: u32,
    pub(crate) learning_rate: f64,
    pub(crate) warmup: u64,
    pub(crate) weight_decay: f64,
    pub(crate) l2: f64,
    pub(crate) clip: f64,
    pub(crate) epochs: u32,
    pub(crate) patience: u32,
    pub(crate) validate_every: u32,
    pub(crate) steps: u64,
    pub(crate) checkpoint_steps: u64,
    /// Epochs in which all events are learned from, before those of `target` alone.
    pub(crate) pretrain_epochs: u32,
    pub(crate) target: Option<Event>,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            batch: 2048,
            learning_rate: 0.001,
            warmup: 0,
            weight_decay: 0.0,
            l2: 0.0,
            clip: 5.0,
            epochs: 100,
            patience: 5,
            validate_every: 1,
            steps: 0,
            checkpoint_steps: 5000,
            pretrain_epochs: 0,
            target: None,
        }
    }
}

/// Declarations of the fields of [`Training`].
pub(crate) const PARAMETERS: [Parameter; 13] = [
    Parameter {
        name: "batch",
        default: "2048",
        doc: "Events of a batch, padding included; from 1 up. Batches hold windows of like length.",
    },
    Parameter {
        name: "learning_rate",
        default: "0.001",
        doc: "Learning rate of AdamW, after warm-up; above 0.",
    },
    Parameter {
        name: "warmup",
        default: "0",
        doc: "Steps in which the learning rate rises from 0; then it is constant.",
    },
    Parameter {
        name: "weight_decay",
        default: "0.0",
        doc: "Decoupled decay: each step takes learning rate x this of a weight off it; from 0 up.",
    },
    Parameter {
        name: "l2",
        default: "0.0",
        doc: "Added to gradients: this x weight, as in Adam with an L2 penalty; from 0 up.",
    },
    Parameter {
        name: "clip",
        default: "5.0",
        doc: "The longest gradient, by its norm over all parameters; 0: never shortened.",
    },
    Parameter {
        name: "epochs",
        default: "100",
        doc: "The most epochs; from 1 up.",
    },
    Parameter {
        name: "patience",
        default: "5",
        doc: "Training stops after so many validations without a better one; 0: never.",
    },
    Parameter {
        name: "validate_every",
        default: "1",
        doc: "Epochs between validations; from 1 up. The weights of the best one are returned.",
    },
    Parameter {
        name: "steps",
        default: "0",
        doc: "Trains exactly so many steps, without validation or early stopping; 0: by epochs.",
    },
    Parameter {
        name: "checkpoint_steps",
        default: "5000",
        doc: "Steps between states that are kept to resume from, beside each epoch's end; 0: none.",
    },
    Parameter {
        name: "pretrain_epochs",
        default: "0",
        doc: "The first of `epochs`, in which all events are learned from; below `epochs`. Needs `target`. Validation and early stopping begin after them.",
    },
    Parameter {
        name: "target",
        default: "null",
        doc: "The type of event (`view`, `click`, `favorite`, `cart`, `purchase`, `rating`, `cancel`) that is learned from after `pretrain_epochs`; the others stay visible. null: all events.",
    },
];

/// Declaration of `dimensions`.
pub(crate) const DIMENSIONS: Parameter = Parameter {
    name: "dimensions",
    default: "64",
    doc: "Columns of embeddings and hidden states; from 1 up.",
};
/// Declaration of `length`.
pub(crate) const LENGTH: Parameter = Parameter {
    name: "length",
    default: "50",
    doc: "The most events that are seen; from 1 up.",
};
/// Declaration of `stride`.
pub(crate) const STRIDE: Parameter = Parameter {
    name: "stride",
    default: "50",
    doc: "Training windows start at multiples of it; from 1 to `length`.",
};
/// Declaration of `loss`.
pub(crate) const LOSS: Parameter = Parameter {
    name: "loss",
    default: "\"softmax\"",
    doc: "`softmax` over the vocabulary, `bce`, `gbce`, or `sampled_softmax` by popularity.",
};
/// Declaration of `negatives`.
pub(crate) const NEGATIVES: Parameter = Parameter {
    name: "negatives",
    default: "1",
    doc: "Negatives of each sample, where the loss samples; from 1 up.",
};
/// Declaration of `temperature`.
pub(crate) const TEMPERATURE: Parameter = Parameter {
    name: "temperature",
    default: "0.75",
    doc: "Calibration of `gbce`, from 0 (as `bce`) to 1 (as if nothing were sampled).",
};

/// Checks the length and stride of windows.
///
/// # Errors
/// Which is outside its range.
pub(crate) fn span(length: u32, stride: u32) -> Result<(), String> {
    at_least_one("length", length)?;
    at_least_one("stride", stride)?;
    if stride > length {
        return Err("`stride` must be at most `length`".to_owned());
    }
    Ok(())
}

/// Checks the heads of attention.
///
/// # Errors
/// If they do not divide the columns.
pub(crate) fn heads(dimensions: u32, heads: u32) -> Result<(), String> {
    at_least_one("dimensions", dimensions)?;
    at_least_one("heads", heads)?;
    if dimensions.is_multiple_of(heads) {
        return Ok(());
    }
    Err("`heads` must divide `dimensions`".to_owned())
}

/// Checks what the loss samples.
///
/// # Errors
/// Which is outside its range.
pub(crate) fn sampling(negatives: u32, temperature: f64) -> Result<(), String> {
    at_least_one("negatives", negatives)?;
    if (0.0..=1.0).contains(&temperature) {
        return Ok(());
    }
    Err("`temperature` must be in [0, 1]".to_owned())
}

impl Training {
    /// Checks ranges.
    ///
    /// # Errors
    /// Which parameter is outside its range.
    pub(crate) fn check(&self) -> Result<(), String> {
        at_least_one("batch", self.batch)?;
        at_least_one("epochs", self.epochs)?;
        at_least_one("validate_every", self.validate_every)?;
        if self.pretrain_epochs > 0 && self.target.is_none() {
            return Err("`pretrain_epochs` needs `target`, the events to fine-tune on".to_owned());
        }
        if self.pretrain_epochs >= self.epochs {
            return Err(
                "`pretrain_epochs` must be below `epochs`, of which it is a part".to_owned(),
            );
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err("`learning_rate` must be a number above 0".to_owned());
        }
        for (name, value) in [
            ("weight_decay", self.weight_decay),
            ("l2", self.l2),
            ("clip", self.clip),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(format!("`{name}` must be a number from 0 up"));
            }
        }
        Ok(())
    }
}

/// Refuses 0.
pub(crate) fn at_least_one(name: &str, value: u32) -> Result<(), String> {
    if value == 0 {
        return Err(format!("`{name}` must be at least 1"));
    }
    Ok(())
}

/// Refuses what is no share that may be dropped.
pub(crate) fn share(name: &str, value: f64) -> Result<(), String> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err(format!("`{name}` must be in [0, 1)"))
}

/// Declarations of a model's own parameters and the shared ones.
pub(crate) const fn join<const A: usize, const B: usize, const N: usize>(
    own: [Parameter; A],
    shared: [Parameter; B],
) -> [Parameter; N] {
    assert!(A + B == N, "the sum of both");
    let mut all = [shared[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < A { own[at] } else { shared[at - A] };
        at += 1;
    }
    all
}
