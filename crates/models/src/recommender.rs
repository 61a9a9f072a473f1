//! What a model is, and what the registry knows of it.

use rayon::prelude::*;
use seed::Seed;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tables::Event;
use tensors::{Csr, CsrError, TensorError, Tensors};

use crate::data::TrainingData;
use crate::directions::{Along, Damped, Direction, Preconditioner};
use crate::factorisation::FactorGradients;
use crate::features::{ExchangedFeatures, ExchangedItems, InputGradients};
use crate::gradient_rows::{GradientRows, Measure, Projection};
use crate::history::History;
use crate::inside::{AttentionMaps, HiddenStates};
use crate::recommenders::REGISTRY;
use crate::run::Run;
use crate::unrolled::Unrolled;

/// A fitted model.
pub trait Model: Send + Sync {
    /// Scores items `0..scores.len()`, the whole catalogue, for a history, oldest event first.
    /// Higher is better; every score is finite. Histories and catalogue may hold items outside
    /// the vocabulary. The empty history is scored by popularity.
    ///
    /// `user` is the number of the sequence that the history belongs to, if it is known: models
    /// with a vector per user look it up, all others do not look at it, and every model does
    /// without.
    fn score(&self, user: Option<u32>, history: History<'_>, scores: &mut [f64]);

    /// Scores several histories, each with its user, if known; `scores` is `[requests, items]`.
    /// Models that answer many at once faster than one by one do it here. Equal calls give equal
    /// bits; the last bits of a score may differ between blocks.
    fn score_block(&self, requests: &[(Option<u32>, History<'_>)], scores: &mut [f64]) {
        let n = scores.len() / requests.len().max(1);
        for ((user, history), scores) in requests.iter().zip(scores.chunks_exact_mut(n.max(1))) {
            self.score(*user, *history, scores);
        }
    }

    /// The loss of single targets, if the model has one.
    fn losses(&self) -> Option<&dyn Losses> {
        None
    }

    /// Gradients of single losses, if the model is differentiable.
    fn gradients(&self) -> Option<&dyn LossGradients> {
        None
    }

    /// Gradients of single losses as rows of numbers, if the model is small enough to write them
    /// down.
    fn gradient_rows(&self) -> Option<&dyn GradientRows> {
        None
    }

    /// Gradients of single losses by the vectors of users and items, and influence within their
    /// blocks, if the model is a matrix factorisation.
    fn factor_gradients(&self) -> Option<&dyn FactorGradients> {
        None
    }

    /// The derivative of what requests cost by the weights of samples, through the training, if the
    /// model can take its training again.
    fn unrolled_training(&self) -> Option<&dyn Unrolled> {
        None
    }

    /// How much predictions look at events, if the model has attention.
    fn attention(&self) -> Option<&dyn AttentionMaps> {
        None
    }

    /// What histories become before items are scored, if the model scores them by products with it.
    fn hidden_states(&self) -> Option<&dyn HiddenStates> {
        None
    }

    /// The named features that its scores are linear in, in the order of its weights, with the bias
    /// among them; none for a model that has no such features.
    fn feature_names(&self) -> &'static [FeatureName] {
        &[]
    }

    /// How much what it looks at adds to predictions, if it is differentiable.
    fn input_gradients(&self) -> Option<&dyn InputGradients> {
        None
    }

    /// Its features of history and candidate, if their values can be exchanged.
    fn exchanged_features(&self) -> Option<&dyn ExchangedFeatures> {
        None
    }

    /// What it knows of the items themselves, if that can be exchanged.
    fn exchanged_items(&self) -> Option<&dyn ExchangedItems> {
        None
    }

    /// Weighted count of each vocabulary item as a target, if the model rests on counts.
    fn item_counts(&self) -> Option<&[f64]> {
        None
    }

    /// Weighted counts of (last item of the history, target), `[n_vocabulary, n_vocabulary]`, if
    /// the model rests on them.
    fn transitions(&self) -> Option<&Csr<f64>> {
        None
    }

    /// Optimiser steps that led to these weights, if it was trained step by step.
    fn steps(&self) -> Option<u64> {
        None
    }

    /// Everything fitted.
    ///
    /// # Errors
    /// If something fitted is not finite.
    fn save(&self) -> Result<Tensors, TensorError>;
}

/// The loss of single targets under a fitted model, in nats, before weighting; finite for every
/// item, also outside the vocabulary.
///
/// A model may see less of a history in training than when it is asked: windows of sequence models
/// start at fixed events, and a request sees the last ones. Samples and requests are therefore
/// asked for in two ways.
pub trait Losses: Send + Sync {
    /// Loss of a target given the history of a training sample, oldest event first.
    fn loss(&self, history: History<'_>, item: u32) -> f64;

    /// Losses of the relevant items of requests, each with its history: from what
    /// [`Model::score`] sees of it, so that the loss of a target belongs to its score. A list for
    /// each request, in the order of its items.
    fn request_losses(&self, requests: &[(History<'_>, &[u32])]) -> Vec<Vec<f64>> {
        requests
            .par_iter()
            .map(|(history, items)| {
                let of = |item: &u32| self.loss(*history, *item);
                items.iter().map(of).collect()
            })
            .collect()
    }

    /// [`Losses::loss`] of all samples, in their order, up to the rounding of 32 bits: what the
    /// model can answer at once, it does.
    fn sample_losses(&self, data: &TrainingData<'_>) -> Vec<f64> {
        (0..data.n_samples())
            .into_par_iter()
            .map(|sample| self.loss(data.history(sample), data.item(sample)))
            .collect()
    }
}

/// Gradients of single losses under a fitted model with respect to all its parameters, without
/// dropout, before weighting. The loss is the cross-entropy over the vocabulary, whatever training
/// minimised, so that models trained by different losses compare.
pub trait LossGradients: Send + Sync {
    /// The gradient of the mean over requests of what they cost by a measure, each with
    /// the part of its history that [`Model::score`] sees. A request without a history and an item
    /// outside the vocabulary cost what no parameter changes.
    fn target(&self, requests: &[(History<'_>, &[u32])], measure: Measure) -> TargetGradient;

    /// Length of the gradient of each of these samples, and its product with that of the target;
    /// `None` for a sample that gives no loss term. In the order asked for; `on_progress` is told how
    /// many more are done, from any thread.
    fn samples(
        &self,
        data: &TrainingData<'_>,
        chosen: &[u32],
        target: &TargetGradient,
        on_progress: &(dyn Fn(u64) + Sync),
    ) -> Vec<Option<SampleGradient>>;

    /// The directions of a target by those of `wanted` that rest on the Fisher matrix of the training
    /// samples, in their order. `seed` draws labels, where they are sampled; `on_progress` is told of
    /// every sample twice.
    fn fisher_directions(
        &self,
        data: &TrainingData<'_>,
        target: &TargetGradient,
        wanted: (&[Preconditioner], Damped),
        seed: Seed,
        on_progress: &(dyn Fn(u64) + Sync),
    ) -> Vec<Direction>;

    /// The direction of a target by the optimiser of a state that training handed over: the one at
    /// which these gradients are.
    ///
    /// # Errors
    /// If the state of the optimiser is missing or of another size.
    fn adam_direction(
        &self,
        state: &Tensors,
        target: &TargetGradient,
    ) -> Result<Direction, TensorError>;

    /// [`Self::samples`], and how each of them lies to some directions, in their order.
    fn samples_along(
        &self,
        data: &TrainingData<'_>,
        chosen: &[u32],
        along: (&TargetGradient, &[Direction]),
        on_progress: &(dyn Fn(u64) + Sync),
    ) -> Vec<Option<(SampleGradient, Vec<Along>)>>;

    /// The same gradients, those of requests by a measure, made short layer by layer. The matrices follow from `seed` and names of
    /// layers; principal components also from the training samples.
    fn project(
        &self,
        projection: &Projection,
        measure: Measure,
        seed: Seed,
        data: &TrainingData<'_>,
    ) -> Box<dyn GradientRows>;

    /// The same network with the weights of a state that training handed over.
    ///
    /// # Errors
    /// If a weight is missing or of another size.
    fn at(&self, state: &Tensors) -> Result<Box<dyn LossGradients>, TensorError>;
}

/// A feature that a linear model gives a weight to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FeatureName {
    /// Name.
    pub name: &'static str,
    /// What it measures, with its unit.
    pub doc: &'static str,
}

/// The gradient of what requests cost.
pub struct TargetGradient(pub(crate) tensors::Gradients<f32>);

impl TargetGradient {
    /// Its length.
    pub fn norm(&self) -> f64 {
        self.0.norm()
    }
}

/// What is known of the gradient of one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SampleGradient {
    /// Its length.
    pub norm: f64,
    /// Its length without embeddings and outputs of items, positions and attributes.
    pub norm_without_tables: f64,
    /// Its product with the gradient of the target.
    pub target_product: f64,
    /// The part of that product that layers contribute, without the tables.
    pub target_product_without_tables: f64,
    /// Distance of the probabilities of all items from the target as a one-hot vector: the length
    /// of the gradient with respect to the logits.
    pub error_norm: f64,
}

/// Something that a fitted model can give beyond scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// [`Model::attention`].
    Attention,
    /// [`Model::factor_gradients`].
    BlockInfluence,
    /// [`Model::item_counts`].
    Counts,
    /// [`Model::gradient_rows`].
    GradientRows,
    /// [`Model::gradients`].
    Gradients,
    /// [`Model::hidden_states`].
    HiddenStates,
    /// [`Model::input_gradients`].
    InputGradients,
    /// [`Model::losses`].
    Losses,
    /// [`Model::transitions`].
    Transitions,
    /// [`Model::unrolled_training`].
    Unrolled,
}

impl Capability {
    /// The word by which estimators ask for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::BlockInfluence => "block_influence",
            Self::Counts => "counts",
            Self::GradientRows => "projected_gradients",
            Self::Gradients => "gradients",
            Self::HiddenStates => "hidden_states",
            Self::InputGradients => "input_gradients",
            Self::Losses => "losses",
            Self::Transitions => "transitions",
            Self::Unrolled => "unrolled",
        }
    }
}

/// One parameter of a model.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Parameter {
    /// Name.
    pub name: &'static str,
    /// Default as YAML.
    pub default: &'static str,
    /// Meaning, unit, range.
    pub doc: &'static str,
}

/// A kind of model: what one file of `recommenders/` provides.
pub trait Recommender: Model + Sized + 'static {
    /// Name in configurations.
    const NAME: &'static str;
    /// Bumped when the same samples would give another model.
    const REVISION: u32;
    /// What it does, in one sentence.
    const DOC: &'static str;
    /// Source.
    const PAPER: &'static str;
    /// What it gives beyond scores.
    const CAPABILITIES: &'static [Capability];
    /// Its parameters: the fields of `Parameters`.
    const PARAMETERS: &'static [Parameter];
    /// Parameters as written: a plain struct with defaults that denies unknown fields.
    type Parameters: DeserializeOwned + Serialize;

    /// Checks what types cannot say of parameters, such as ranges.
    ///
    /// # Errors
    /// What is wrong, as a lowercase fragment that names the parameter.
    fn check(_: &Self::Parameters) -> Result<(), String> {
        Ok(())
    }

    /// Whether it reads [`TrainingData::items`] with these parameters.
    fn reads_items(_: &Self::Parameters) -> bool {
        false
    }

    /// Features that training can leave out or scale ([`TrainingData::feature_weight`]) with these
    /// parameters.
    fn features(_: &Self::Parameters) -> Vec<&'static str> {
        Vec::new()
    }

    /// Fits a model.
    ///
    /// # Errors
    /// If the data do not allow it, or training diverges.
    fn fit(
        parameters: &Self::Parameters,
        data: &TrainingData<'_>,
        run: &mut Run<'_>,
    ) -> Result<Self, FitError>;

    /// Restores what [`Model::save`] gave.
    ///
    /// # Errors
    /// If a tensor is missing or does not fit the others.
    fn load(tensors: &Tensors) -> Result<Self, LoadError>;
}

/// Whether one of the parameters is `steps`.
const fn has_steps(parameters: &[Parameter]) -> bool {
    let mut at = 0;
    while at < parameters.len() {
        if matches!(parameters[at].name.as_bytes(), b"steps") {
            return true;
        }
        at += 1;
    }
    false
}

/// Parameters that a model does not take.
#[derive(Debug, thiserror::Error)]
#[error("wrong parameters for model `{model}`")]
pub struct ParameterError {
    /// The model.
    pub model: &'static str,
    /// What is wrong.
    #[source]
    pub source: serde_json::Error,
}

/// A model that could not be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// Its parameters are wrong.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// A weighted count exceeds what a 64-bit float can hold.
    #[error("counts grew beyond what can be held")]
    Counts(#[from] CsrError),
    /// It reads the items of the catalogue, and none were given.
    #[error("model `{model}` reads the items of the catalogue, which were not given")]
    NoItems {
        /// The model.
        model: &'static str,
    },
    /// It is told to fine-tune on events that training does not hold.
    #[error("no training sample is of type `{target}`, which `target` asks for; there are {found}")]
    NoTarget {
        /// What was asked for.
        target: Event,
        /// Types of events that training holds, in words.
        found: String,
    },
    /// The catalogue is too large for it.
    #[error(
        "model `{model}` takes at most {most} items (`{parameter}`), but the vocabulary has {n}"
    )]
    TooManyItems {
        /// The model.
        model: &'static str,
        /// The parameter that bounds them.
        parameter: &'static str,
        /// The bound.
        most: usize,
        /// Size of the vocabulary.
        n: usize,
    },
    /// Training left the numbers that mean anything.
    #[error("training diverged in epoch {epoch}, batch {batch}: {cause}")]
    Diverged {
        /// Epoch, from 0 up.
        epoch: u32,
        /// Batch within the epoch, from 0 up.
        batch: u64,
        /// The likely cause, with what can be done.
        cause: String,
    },
    /// Held-out requests could not be ranked.
    #[error("the model cannot be validated")]
    Validation(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// As [`FitError::Diverged`], of a model whose training knows no batches.
    #[error("training diverged{}: {cause}", in_epoch(*.epoch))]
    NotFinite {
        /// Epoch, from 0 up; `None` if there are none.
        epoch: Option<u32>,
        /// The likely cause, with what can be done.
        cause: String,
    },
    /// A problem that has a unique solution was not solved to the accuracy that is promised.
    #[error("model `{model}` did not converge in {iterations} iterations: {cause}")]
    NotConverged {
        /// The model.
        model: &'static str,
        /// Iterations that were made.
        iterations: u32,
        /// How far it came and the likely cause, with what can be done.
        cause: String,
    },
    /// A checkpoint could not be kept, or was not read back as it was kept.
    #[error("the checkpoint cannot be used")]
    Checkpoint(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn in_epoch(epoch: Option<u32>) -> String {
    epoch.map_or_else(String::new, |epoch| format!(" in epoch {epoch}"))
}

/// A model that could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A tensor is missing or of another type.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Two tensors do not fit together.
    #[error("`{left}` and `{right}` are of different sizes")]
    Sizes {
        /// One tensor.
        left: &'static str,
        /// The other.
        right: &'static str,
    },
}

/// No model has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown model `{name}`")]
pub struct UnknownModel {
    /// The name.
    pub name: String,
}

type Check = fn(&Value) -> Result<Value, ParameterError>;
type ReadsItems = fn(&Value) -> Result<bool, ParameterError>;
type Features = fn(&Value) -> Result<Vec<&'static str>, ParameterError>;
type Fit = fn(&Value, &TrainingData<'_>, &mut Run<'_>) -> Result<Box<dyn Model>, FitError>;
type Load = fn(&Tensors) -> Result<Box<dyn Model>, LoadError>;

/// A model in the registry.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Name in configurations.
    pub name: &'static str,
    /// Bumped when the same samples would give another model.
    pub revision: u32,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// Source.
    pub paper: &'static str,
    /// What it gives beyond scores.
    pub capabilities: &'static [Capability],
    /// Its parameters.
    pub parameters: &'static [Parameter],
    /// Whether it is trained step by step, and so has the parameter `steps`. A weight then scales a
    /// step: one sample of weight 2 is not the same as two samples, and one of weight 0 keeps its
    /// place in batches and draws instead of being absent.
    pub is_trained_by_steps: bool,
    check: Check,
    reads_items: ReadsItems,
    features: Features,
    fit: Fit,
    load: Load,
}

impl Entry {
    pub(crate) const fn of<R: Recommender>() -> Self {
        Self {
            name: R::NAME,
            revision: R::REVISION,
            doc: R::DOC,
            paper: R::PAPER,
            capabilities: R::CAPABILITIES,
            parameters: R::PARAMETERS,
            is_trained_by_steps: has_steps(R::PARAMETERS),
            check: check::<R>,
            reads_items: reads_items::<R>,
            features: features::<R>,
            fit: fit::<R>,
            load: load::<R>,
        }
    }

    /// Checks parameters and returns them with all defaults filled in.
    ///
    /// # Errors
    /// If a parameter is unknown or its value is wrong.
    pub fn check(&self, parameters: &Value) -> Result<Value, ParameterError> {
        (self.check)(parameters)
    }

    /// Whether a model with these parameters reads [`TrainingData::items`].
    ///
    /// # Errors
    /// If a parameter is unknown or its value is wrong.
    pub fn reads_items(&self, parameters: &Value) -> Result<bool, ParameterError> {
        (self.reads_items)(parameters)
    }

    /// Features that training can leave out or scale with these parameters.
    ///
    /// # Errors
    /// If a parameter is unknown or its value is wrong.
    pub fn features(&self, parameters: &Value) -> Result<Vec<&'static str>, ParameterError> {
        (self.features)(parameters)
    }

    /// Fits a model.
    ///
    /// # Errors
    /// If a parameter is wrong, the data do not allow it, or training diverges.
    pub fn fit(
        &self,
        parameters: &Value,
        data: &TrainingData<'_>,
        run: &mut Run<'_>,
    ) -> Result<Box<dyn Model>, FitError> {
        (self.fit)(parameters, data, run)
    }

    /// Restores a model from its tensors.
    ///
    /// # Errors
    /// If a tensor is missing or does not fit the others.
    pub fn load(&self, tensors: &Tensors) -> Result<Box<dyn Model>, LoadError> {
        (self.load)(tensors)
    }

    /// What tools that list models want to know.
    pub fn describe(&self) -> Value {
        let capabilities: Vec<&str> = self
            .capabilities
            .iter()
            .map(|capability| capability.as_str())
            .collect();
        serde_json::json!({
            "name": self.name,
            "doc": self.doc,
            "revision": self.revision,
            "paper": self.paper,
            "capabilities": capabilities,
            "parameters": self.parameters,
        })
    }
}

/// The entry of a name.
///
/// # Errors
/// If no model has this name.
pub fn entry(name: &str) -> Result<&'static Entry, UnknownModel> {
    REGISTRY
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| UnknownModel {
            name: name.to_owned(),
        })
}

/// The parameters of a model as it takes them.
pub(crate) fn parse<R: Recommender>(parameters: &Value) -> Result<R::Parameters, ParameterError> {
    // Nothing written and an empty mapping are the same.
    let parameters = match parameters {
        Value::Null => Value::Object(serde_json::Map::new()),
        other => other.clone(),
    };
    serde_json::from_value(parameters)
        .and_then(|parameters| {
            R::check(&parameters).map_err(serde::de::Error::custom)?;
            Ok(parameters)
        })
        .map_err(|source| ParameterError {
            model: R::NAME,
            source,
        })
}

fn check<R: Recommender>(parameters: &Value) -> Result<Value, ParameterError> {
    serde_json::to_value(parse::<R>(parameters)?).map_err(|source| ParameterError {
        model: R::NAME,
        source,
    })
}

fn reads_items<R: Recommender>(parameters: &Value) -> Result<bool, ParameterError> {
    Ok(R::reads_items(&parse::<R>(parameters)?))
}

fn features<R: Recommender>(parameters: &Value) -> Result<Vec<&'static str>, ParameterError> {
    Ok(R::features(&parse::<R>(parameters)?))
}

fn fit<R: Recommender>(
    parameters: &Value,
    data: &TrainingData<'_>,
    run: &mut Run<'_>,
) -> Result<Box<dyn Model>, FitError> {
    Ok(Box::new(R::fit(&parse::<R>(parameters)?, data, run)?))
}

fn load<R: Recommender>(tensors: &Tensors) -> Result<Box<dyn Model>, LoadError> {
    Ok(Box::new(R::load(tensors)?))
}
