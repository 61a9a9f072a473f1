//! Parameters of training that all sequence models share.

use serde::{Deserialize, Serialize};
use tables::Event;
use tensors::{AdamWSettings, ParameterId, Parameters, Schedule};

use super::objective::ObjectiveKind;
use crate::recommender::Parameter;

/// How a network is trained.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Training {
    /// Rows of a batch.
    pub(crate) batch: u32,
    pub(crate) learning_rate: f64,
    pub(crate) warmup: u64,
    pub(crate) schedule: ScheduleKind,
    pub(crate) weight_decay: f64,
    pub(crate) l1: f64,
    pub(crate) l2: f64,
    pub(crate) clip: f64,
    pub(crate) epochs: u32,
    pub(crate) patience: u32,
    pub(crate) validate_every: u32,
    pub(crate) steps: u64,
    pub(crate) checkpoint_steps: u64,
    /// The largest share of counted transitions in what is scored.
    pub(crate) chain: f64,
    pub(crate) chain_strength: f64,
    /// Epochs in which all events are learned from, before those of `target` alone.
    pub(crate) pretrain_epochs: u32,
    pub(crate) target: Option<Event>,
}

/// What becomes of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ScheduleKind {
    /// It stays.
    Constant,
    /// It falls to 0 in a straight line.
    Linear,
    /// It falls to 0 along half a cosine.
    Cosine,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            batch: 2048,
            learning_rate: 0.001,
            warmup: 0,
            schedule: ScheduleKind::Constant,
            weight_decay: 0.0,
            l1: 0.0,
            l2: 0.0,
            clip: 5.0,
            epochs: 100,
            patience: 5,
            validate_every: 1,
            steps: 0,
            checkpoint_steps: 5000,
            chain: 0.0,
            chain_strength: 1.0,
            pretrain_epochs: 0,
            target: None,
        }
    }
}

/// Declarations of the fields of [`Training`].
pub(crate) const PARAMETERS: &[Parameter] = &[
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
        doc: "Steps in which the learning rate rises from 0.",
    },
    Parameter {
        name: "schedule",
        default: "\"constant\"",
        doc: "After warm-up the rate is `constant`, or falls to 0 at the end of `epochs` in a `linear` way or along a `cosine`; early stopping does not shorten the way.",
    },
    Parameter {
        name: "weight_decay",
        default: "0.0",
        doc: "Decoupled decay: each step takes learning rate x this of a weight off it; from 0 up. Biases and gains are free of it, of `l1` and of `l2`.",
    },
    Parameter {
        name: "l1",
        default: "0.0",
        doc: "Added to gradients: this x the sign of a weight; from 0 up.",
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
        name: "chain",
        default: "0.0",
        doc: "An ensemble with the model `markov`: the largest share of counted transitions in what is scored, in [0, 1). Above 0, scores are probabilities. Training is the same.",
    },
    Parameter {
        name: "chain_strength",
        default: "1.0",
        doc: "After how many counts of the last item half of `chain` is given; from 0 up.",
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
/// Declaration of `tied`.
pub(crate) const TIED: Parameter = Parameter {
    name: "tied",
    default: "true",
    doc: "Whether items of the history and items to rank share a table of embeddings.",
};
/// Default of `negatives` where the loss is a choice.
pub(crate) const N_NEGATIVES: u32 = 1;
/// Default of `temperature`.
pub(crate) const DEFAULT_TEMPERATURE: f64 = 0.75;
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

/// Checks what the loss samples. What it would not look at is refused: a default cannot be told
/// from the same number written down, so that one passes.
///
/// # Errors
/// Which is outside its range or of no effect.
pub(crate) fn sampling(
    loss: ObjectiveKind,
    negatives: u32,
    temperature: f64,
) -> Result<(), String> {
    at_least_one("negatives", negatives)?;
    if !(0.0..=1.0).contains(&temperature) {
        return Err("`temperature` must be in [0, 1]".to_owned());
    }
    if loss == ObjectiveKind::Softmax && negatives != N_NEGATIVES {
        return Err(format!(
            "`negatives: {negatives}` has no effect, since `loss: softmax` samples none: leave it \
             out, or write `loss: bce`, `loss: gbce` or `loss: sampled_softmax`"
        ));
    }
    let is_default = temperature.to_bits() == DEFAULT_TEMPERATURE.to_bits();
    if loss != ObjectiveKind::Gbce && !is_default {
        return Err(format!(
            "`temperature: {temperature}` has no effect without `loss: gbce`: leave it out"
        ));
    }
    Ok(())
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
            ("l1", self.l1),
            ("l2", self.l2),
            ("clip", self.clip),
            ("chain_strength", self.chain_strength),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(format!("`{name}` must be a number from 0 up"));
            }
        }
        share("chain", self.chain)
    }

    /// The learning rate by step, for so many steps in all epochs. It follows from `epochs`, not from
    /// `steps`: who repeats the first steps of a training repeats their rates.
    pub(crate) fn rates(&self, steps: u64) -> Schedule {
        let (rate, warmup) = (self.learning_rate, self.warmup);
        match self.schedule {
            ScheduleKind::Constant => Schedule::LinearWarmup { rate, warmup },
            ScheduleKind::Linear => Schedule::LinearDecay {
                rate,
                warmup,
                steps,
            },
            ScheduleKind::Cosine => Schedule::Cosine {
                rate,
                last: 0.0,
                warmup,
                steps,
            },
        }
    }

    /// How weights are pulled to zero.
    pub(crate) fn penalties(&self) -> AdamWSettings {
        AdamWSettings {
            weight_decay: self.weight_decay,
            l1: self.l1,
            l2: self.l2,
            ..AdamWSettings::default()
        }
    }
}

/// Parameters that are not pulled to zero: what is added to all of an input or scales it has no
/// scale of its own to lose (Loshchilov and Hutter's decay is meant for weights).
pub(crate) fn unpenalised(parameters: &Parameters<f32>) -> Vec<ParameterId> {
    let is_free = |id: &ParameterId| {
        let name = parameters.name(*id);
        name.ends_with("bias") || name.ends_with("gain")
    };
    parameters.ids().filter(is_free).collect()
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

/// Declarations of a model's own parameters and the shared ones; `N` is [`n_with`] of the former.
pub(crate) const fn join<const N: usize>(own: &[Parameter]) -> [Parameter; N] {
    assert!(own.len() + PARAMETERS.len() == N, "the sum of both");
    let mut all = [PARAMETERS[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < own.len() {
            own[at]
        } else {
            PARAMETERS[at - own.len()]
        };
        at += 1;
    }
    all
}

/// How many parameters a model has that adds so many to the shared ones.
pub(crate) const fn n_with(own: &[Parameter]) -> usize {
    own.len() + PARAMETERS.len()
}

#[cfg(test)]
mod tests {
    use seed::Seed;
    use tensors::Init;

    use super::*;

    #[test]
    fn the_rate_ends_at_zero_with_the_last_epoch_and_knows_nothing_of_steps() {
        let mut training = Training {
            learning_rate: 0.5,
            warmup: 2,
            epochs: 5,
            ..Training::default()
        };
        for schedule in [ScheduleKind::Linear, ScheduleKind::Cosine] {
            training.schedule = schedule;
            training.steps = 0;
            let whole = training.rates(50);
            training.steps = 7;
            assert_eq!(whole, training.rates(50));
            assert!((whole.rate(0) - 0.25).abs() < 1e-12);
            assert!(
                (whole.rate(26) - 0.25).abs() < 1e-12,
                "half way from 2 to 50"
            );
            assert!(whole.rate(49) > 0.0 && whole.rate(50) < 1e-12 && whole.rate(60) < 1e-12);
        }
        training.schedule = ScheduleKind::Constant;
        assert!((training.rates(50).rate(1_000) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn biases_and_gains_alone_are_not_pulled_to_zero() {
        let mut parameters = Parameters::<f32>::new(Seed::root(1));
        let names = [
            "item",
            "item_bias",
            "norm.gain",
            "norm.bias",
            "layer0.input_bias",
            "mask",
        ];
        for name in names {
            parameters.insert(name, [1, 2], Init::Ones);
        }
        let mut free: Vec<&str> = unpenalised(&parameters)
            .into_iter()
            .map(|id| parameters.name(id))
            .collect();
        free.sort_unstable();
        assert_eq!(
            free,
            ["item_bias", "layer0.input_bias", "norm.bias", "norm.gain"]
        );
    }

    #[test]
    fn what_the_loss_does_not_look_at_is_refused() {
        use ObjectiveKind::{Bce, Gbce, SampledSoftmax, Softmax};
        for (loss, negatives, temperature, refused) in [
            (Softmax, 1, 0.75, None),
            (Softmax, 5, 0.75, Some("`negatives: 5`")),
            (Bce, 5, 0.75, None),
            (Bce, 5, 0.5, Some("`temperature: 0.5`")),
            (SampledSoftmax, 5, 0.0, Some("`temperature: 0`")),
            (Gbce, 5, 0.0, None),
            (Gbce, 0, 0.0, Some("`negatives` must")),
            (Gbce, 5, 1.5, Some("[0, 1]")),
        ] {
            let found = sampling(loss, negatives, temperature);
            match (found, refused) {
                (Ok(()), None) => {}
                (Err(message), Some(part)) => assert!(message.contains(part), "{message}"),
                (found, _) => panic!("{loss:?} {negatives} {temperature}: {found:?}"),
            }
        }
    }
}
