//! RelatIF: the influence function, relative to how much a sample changes the model at all.
//!
//! score(z) = ∇L(θ)' x / √(∇ℓ(z; θ)' x) or ∇L(θ)' x / ‖x‖, where x = (H + diag(λ))⁻¹ ∇ℓ(z; θ), L is the mean
//! loss over requests and H the curvature of the mean loss over samples. 0 for a gradient of 0.
//!
//! # Paper
//! Barshan, Brunet, Dziugaite, "RelatIF: Identifying Explanatory Training Samples via Relative Influence", AISTATS 2020; arXiv:2003.11630, theta-RelatIF and l-RelatIF.
//!
//! # Departures
//! `sqrt_self`, the default, bounds the change of the outputs (the paper's l-RelatIF), `norm` that of the parameters (its theta-RelatIF).
//! The sign is that of removal. The factor 1/n of the influence cancels in `norm` and is left out in `sqrt_self`.
//! Gradients are projected where the probe projected them: `norm` is then the length of a projection.
//! Damping is a share of the mean of the curvature's diagonal. The penalty of training is added where columns are parameters.
//! Weights of samples are not used.
//!
//! # Needs
//! Projected gradients, and a probed curvature for `operator: gauss_newton`; a sample without a loss term is unscored.
//!
//! # Cost
//! Time O(samples · width² + width³), memory O(width²), width at most 4,096.

use serde::{Deserialize, Serialize};

use crate::Seed;
use crate::curvature::{
    DAMPING, DEFAULT_DAMPING, Dense, Fitted, OPERATOR, Operator, check_positive, product,
};
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores,
};
use crate::problem::Problem;

pub(super) struct RelatIf {
    pub(super) normaliser: Normaliser,
    pub(super) operator: Operator,
    pub(super) damping: f64,
}

/// What the influence is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Normaliser {
    /// The square root of the sample's influence on itself.
    #[default]
    SqrtSelf,
    /// The length of the change of parameters.
    Norm,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Params {
    normaliser: Normaliser,
    operator: Operator,
    damping: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            normaliser: Normaliser::default(),
            operator: Operator::default(),
            damping: DEFAULT_DAMPING,
        }
    }
}

impl Method for RelatIf {
    const NAME: &'static str = "relat_if";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Curvature;
    const DOC: &'static str = "Influence function divided by how much the sample changes the model, so that outliers do not lead every list.";
    const ESTIMAND: &'static str = "Rise of the mean loss over requests when the sample is left out and training ends anew, to first order, per unit of change of the model.";
    const PAPER: &'static str = "Barshan, Brunet, Dziugaite, \"RelatIF: Identifying Explanatory Training Samples via Relative Influence\", AISTATS 2020; arXiv:2003.11630, theta-RelatIF and l-RelatIF.";
    const NEEDS: &'static [Need] = &[Need::Projected];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const PARAMETERS: &'static [Parameter] = &[
        Parameter {
            name: "normaliser",
            default: "\"sqrt_self\"",
            doc: "What counts as change: sqrt_self, of the outputs; norm, of the parameters.",
        },
        OPERATOR,
        DAMPING,
    ];
    type Params = Params;

    fn new(params: Params) -> Result<Self, ParameterErrorKind> {
        check_positive("damping", params.damping)?;
        Ok(Self {
            normaliser: params.normaliser,
            operator: params.operator,
            damping: params.damping,
        })
    }
}

impl Estimator for RelatIf {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let fitted = Fitted::new(problem, Self::NAME)?;
        let target = fitted.target()?;
        let (curvature, _) = Dense::curvature(fitted, self.operator)?;
        let ridge = fitted.ridge(self.damping * curvature.mean_diagonal());
        let inverse = curvature.inverse(&ridge)?;
        let width = fitted.width();
        let mut score = vec![None; problem.samples().len()];
        fitted.samples(|samples, rows| {
            let solved = inverse.multiply(rows);
            let pairs = rows.chunks(width).zip(solved.chunks(width));
            for (&sample, (row, solved)) in samples.iter().zip(pairs) {
                let square = match self.normaliser {
                    Normaliser::SqrtSelf => product(row, solved),
                    Normaliser::Norm => product(solved, solved),
                };
                score[sample as usize] = Some(if square > 0.0 {
                    product(&target, solved) / square.sqrt()
                } else {
                    0.0
                });
            }
            Ok(())
        })?;
        Ok(Scores::exact(score, 1))
    }

    fn chosen_needs(&self) -> &'static [Need] {
        self.operator.needs()
    }
}
