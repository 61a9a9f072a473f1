//! What a method is: its card, its parameters, its scores.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Seed;
use crate::directed::{Asked, OfRequest};
use crate::directions::Preconditioner;
use crate::gradients::Gradients;
use crate::held_out::HeldOut;
use crate::problem::Problem;
use crate::projected::{Projected, ProjectedError};

/// Turns a problem into scores.
pub trait Estimator: Send + Sync {
    /// Scores every sample of the problem, in its order.
    ///
    /// A helpfulness is positive for samples that lower the target loss: removing one would raise
    /// it by that much. The result does not depend on the number of threads.
    ///
    /// # Errors
    /// If a capability is missing, parts of the problem contradict each other, or nothing can be
    /// measured against the target.
    fn estimate(
        &self,
        problem: &dyn Problem,
        seed: Seed,
        on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError>;

    /// The samples that matter most to each of some requests, in their order; a request without a
    /// gradient is left out. `None` where the method knows the mean over requests alone.
    ///
    /// The mean over all requests of a sample's scores is its score by [`Estimator::estimate`].
    ///
    /// # Errors
    /// As [`Estimator::estimate`].
    fn influences(
        &self,
        _problem: &dyn Problem,
        _asked: Asked<'_>,
        _seed: Seed,
    ) -> Result<Option<Vec<OfRequest>>, EstimatorError> {
        Ok(None)
    }

    /// What the chosen parameters need beyond the card.
    fn chosen_needs(&self) -> &'static [Need] {
        &[]
    }
}

/// Called now and then while a method works; never affects the result.
pub type OnProgress<'a> = &'a (dyn Fn(Work) + Sync);

/// How far the work has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Units done since the last call.
    pub done: u64,
    /// Units in all.
    pub total: u64,
}

/// The constants of a method, and how it is made from parameters.
pub(crate) trait Method: Estimator + Sized + 'static {
    /// Name in configurations and tables; also the name of its file.
    const NAME: &'static str;
    /// Bumped when the same problem would get other scores.
    const REVISION: u32;
    /// Kind of method.
    const FAMILY: Family;
    /// What it does, in one sentence.
    const DOC: &'static str;
    /// What a score is: quantity, target and unit, in one sentence.
    const ESTIMAND: &'static str;
    /// Source, as in the file's heading.
    const PAPER: &'static str;
    /// What it cannot do without.
    const NEEDS: &'static [Need];
    /// Signed helpfulness or a magnitude.
    const SCALE: Scale;
    /// Whether scores follow the samples when these are permuted, and do not depend on the order of
    /// requests; methods that draw lots keep this only in expectation.
    const DETERMINISTIC: bool;
    /// Whether two samples that differ in nothing but their identity score the same.
    const COPIES_SCORE_EQUALLY: bool;
    /// Whether it can say which samples matter to one request: [`Estimator::influences`].
    const ANSWERS_REQUESTS: bool = false;
    /// Whether its scores come with [`Scores::held_out`] where requests are held out.
    const TUNABLE: bool = false;
    /// Its parameters, one per field of [`Method::Params`].
    const PARAMETERS: &'static [Parameter];
    /// Parameters with defaults; denies unknown fields.
    type Params: DeserializeOwned + Serialize + Default;

    /// Checks parameters once.
    ///
    /// # Errors
    /// If one is out of range.
    fn new(params: Self::Params) -> Result<Self, ParameterErrorKind>;
}

/// Kind of method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// A cheap yardstick.
    Baseline,
    /// How much a network looks at the sample.
    Attention,
    /// What a step of training on the sample does to the model.
    Gradient,
    /// The same, followed to where training would end: through the inverse of a curvature.
    Curvature,
    /// How crowded the neighbourhood of a sample is.
    Density,
    /// How a sample resembles what is asked for.
    Similarity,
    /// What retraining without the sample changes.
    Retraining,
}

impl Family {
    /// The word in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Attention => "attention",
            Self::Gradient => "gradient",
            Self::Curvature => "curvature",
            Self::Density => "density",
            Self::Similarity => "similarity",
            Self::Retraining => "retraining",
        }
    }
}

/// A capability that a problem may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// [`Problem::representations`].
    Representations,
    /// [`Problem::losses`].
    Losses,
    /// [`Problem::counts`].
    Counts,
    /// [`Problem::gradients`].
    Gradients,
    /// [`Problem::gradients`] at several states of the training, with learning rates.
    Trajectory,
    /// [`Problem::projected`].
    #[serde(rename = "projected_gradients")]
    Projected,
    /// [`Problem::projected`] with rows of the Gauss-Newton matrix.
    Curvature,
    /// [`Problem::attention`].
    Attention,
    /// [`Problem::hidden_states`].
    HiddenStates,
    /// [`Problem::directions`] by the optimiser.
    #[serde(rename = "adam_direction")]
    Adam,
    /// [`Problem::directions`] by K-FAC.
    #[serde(rename = "kfac_direction")]
    Kfac,
    /// [`Problem::directions`] by EK-FAC.
    #[serde(rename = "ekfac_direction")]
    Ekfac,
    /// [`Problem::block_influence`].
    BlockInfluence,
    /// [`Problem::unrolled`].
    Unrolled,
}

impl Need {
    /// The word that a probe offers it by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Representations => "representations",
            Self::Losses => "losses",
            Self::Counts => "counts",
            Self::Gradients => "gradients",
            Self::Trajectory => "trajectory",
            Self::Projected => "projected_gradients",
            Self::Curvature => "curvature",
            Self::Attention => "attention",
            Self::HiddenStates => "hidden_states",
            Self::Adam => "adam_direction",
            Self::Kfac => "kfac_direction",
            Self::Ekfac => "ekfac_direction",
            Self::BlockInfluence => "block_influence",
            Self::Unrolled => "unrolled",
        }
    }

    /// Whether a problem has it.
    pub fn is_met(self, problem: &dyn Problem) -> bool {
        match self {
            Self::Representations => problem.representations().is_some(),
            Self::Losses => problem.losses().is_some(),
            Self::Counts => problem.counts().is_some(),
            Self::Gradients => problem.gradients().is_some(),
            Self::Trajectory => problem.gradients().is_some_and(Gradients::is_trajectory),
            Self::Projected => problem.projected().is_some(),
            Self::Curvature => problem.projected().is_some_and(Projected::has_curvature),
            Self::Attention => problem.attention().is_some(),
            Self::HiddenStates => problem.hidden_states().is_some(),
            Self::Adam | Self::Kfac | Self::Ekfac => self
                .preconditioner()
                .zip(problem.directions())
                .is_some_and(|(one, directions)| directions.has(one)),
            Self::BlockInfluence => problem.block_influence().is_some(),
            Self::Unrolled => problem.unrolled().is_some(),
        }
    }

    /// The preconditioner that it asks for, if it asks for one.
    pub const fn preconditioner(self) -> Option<Preconditioner> {
        match self {
            Self::Adam => Some(Preconditioner::Adam),
            Self::Kfac => Some(Preconditioner::Kfac),
            Self::Ekfac => Some(Preconditioner::Ekfac),
            _ => None,
        }
    }
}

/// The end of a scale that marks suspicious samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspect {
    /// Low scores.
    Low,
    /// High scores.
    High,
}

/// What a score's sign means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Positive = helpful; low scores are suspicious.
    Helpfulness,
    /// Only a magnitude; its sign is no effect.
    Magnitude(Suspect),
}

impl Scale {
    /// Whether scores are signed helpfulness.
    pub const fn is_signed(self) -> bool {
        matches!(self, Self::Helpfulness)
    }

    /// The suspicious end.
    pub const fn suspect(self) -> Suspect {
        match self {
            Self::Helpfulness => Suspect::Low,
            Self::Magnitude(suspect) => suspect,
        }
    }
}

/// One parameter of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Name.
    pub name: &'static str,
    /// Default, as written.
    pub default: &'static str,
    /// Meaning, unit, range.
    pub doc: &'static str,
}

/// The gradients of a problem, for a method that needs them.
///
/// # Errors
/// If there are none.
pub(crate) fn gradients<'p>(
    problem: &'p dyn Problem,
    method: &'static str,
) -> Result<&'p Gradients, EstimatorError> {
    let need = Need::Gradients;
    problem
        .gradients()
        .ok_or(EstimatorError::Missing { method, need })
}

/// Scores of all samples, in the problem's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// The score; `None` where the method cannot score.
    pub score: Vec<Option<f64>>,
    /// Standard error; `None` if the method is exact or cannot know.
    pub std_error: Vec<Option<f64>>,
    /// Terms behind the score; 0 where there is none.
    pub n_updates: Vec<u64>,
    /// A factor of each score that an ensemble of models averages apart from the rest of it; `None`
    /// where it averages scores. Not 0 where there is a score.
    pub factor: Option<Vec<f64>>,
    /// How well the method holds on [`Problem::held_out`]; `None` where it cannot say, or there are
    /// no such requests.
    pub held_out: Option<HeldOut>,
}

impl Scores {
    /// Exact scores, all from the same number of terms.
    pub fn exact(score: Vec<Option<f64>>, n_updates: u64) -> Self {
        Self {
            std_error: vec![None; score.len()],
            n_updates: score
                .iter()
                .map(|score| if score.is_some() { n_updates } else { 0 })
                .collect(),
            score,
            ..Self::default()
        }
    }
}

/// Parameters that a method refuses.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the parameters of `{method}`")]
pub struct ParameterError {
    /// The method.
    pub method: &'static str,
    /// Why.
    #[source]
    pub kind: ParameterErrorKind,
}

/// Why parameters are refused.
#[derive(Debug, thiserror::Error)]
pub enum ParameterErrorKind {
    /// A field is unknown or has the wrong type.
    #[error(transparent)]
    Shape(#[from] serde_json::Error),
    /// A value is out of range.
    #[error("`{name}` is {found}, wanted {wanted}")]
    Range {
        /// The parameter.
        name: &'static str,
        /// Its value.
        found: String,
        /// The range.
        wanted: &'static str,
    },
}

/// Why there are no scores.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EstimatorError {
    /// The problem lacks a capability.
    #[error("`{method}` needs `{}`, which the problem does not have", need.as_str())]
    Missing {
        /// The method.
        method: &'static str,
        /// What it needs.
        need: Need,
    },
    /// The target has no request that the method can use.
    #[error("`{method}` has no request to measure against: {why}")]
    NoRequest {
        /// The method.
        method: &'static str,
        /// What is missing.
        why: &'static str,
    },
    /// No sample has a gradient.
    #[error("`{method}` has nothing to work on: no sample has a gradient")]
    NoGradient {
        /// The method.
        method: &'static str,
    },
    /// Projected gradients cannot be read.
    #[error(transparent)]
    Projected(#[from] ProjectedError),
    /// Projected gradients are too wide for a matrix.
    #[error("`{method}` makes a matrix of width {width}, the widest has {limit}")]
    TooWide {
        /// The method.
        method: &'static str,
        /// Columns.
        width: usize,
        /// Columns that are allowed.
        limit: usize,
    },
    /// A system of equations has no solution that can be had.
    #[error("`{method}` has no solution: {what}")]
    Unsolved {
        /// The method.
        method: &'static str,
        /// What happened.
        what: String,
        /// What to change.
        hint: &'static str,
    },
    /// A sample weighs more than the model counted: counts and samples are not of one training.
    #[error(
        "sample {sample_id} has weight {weight}, but the model counted {counted} of its {what}"
    )]
    Count {
        /// The sample.
        sample_id: u64,
        /// Its weight.
        weight: f64,
        /// What was counted.
        counted: f64,
        /// `item` or `transition`.
        what: &'static str,
    },
    /// The closed form disagrees with the model about a loss.
    #[error(
        "the loss of item {item} at request {request} is {found} under the model, {computed} by the closed form"
    )]
    Loss {
        /// The request.
        request: u32,
        /// The relevant item.
        item: u32,
        /// The model's loss.
        found: f64,
        /// Ours.
        computed: f64,
    },
    /// A score is NaN or infinite.
    #[error("the score of sample {sample_id} by `{method}` is {score}")]
    NotFinite {
        /// The method.
        method: &'static str,
        /// The sample.
        sample_id: u64,
        /// Its score.
        score: f64,
    },
    /// A method gave too many or too few scores.
    #[error("`{method}` gave {found} scores for {wanted} samples")]
    Length {
        /// The method.
        method: &'static str,
        /// Scores given.
        found: usize,
        /// Samples.
        wanted: usize,
    },
}
