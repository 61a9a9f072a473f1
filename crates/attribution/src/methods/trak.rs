//! TRAK: the influence function of a linear model in projected gradients of margins.
//!
//! With margins f = log(p / (1 − p)), p = exp(−loss), and φ(z) = −∇ℓ(z; θ) / (1 − p), the projected gradient
//! of the margin, the paper's effect of sample z on the margin of a request q is
//! τ = φ(q)' (Φ'Φ + λ)⁻¹ φ(z) (1 − p(z)). The loss of q changes by −(1 − p(q)) times its margin, so
//!
//! score(z) = (−∇L(θ))' (Φ'Φ + λ)⁻¹ φ(z) · (1 − p(z)) with L the mean loss over requests
//!
//! # Paper
//! Park et al., "TRAK: Attributing Model Behavior at Scale", ICML 2023; arXiv:2303.14186, section 3, one model, or several by its step 4.
//!
//! # Departures
//! The target is the mean loss over requests, not a margin: a positive score lowers it.
//! One probe is one model, the fitted one: losses of other states are not kept. An ensemble is several probes: as in the paper, 1 − p(z) and the rest of the score are each averaged over models, and the score is the product of the two means, not the mean of products. What the paper has apart, 1 − p(q) of the request, is inside ∇L of each model, since the target is a loss.
//! λ = damping x the mean of the diagonal of Φ'Φ; the paper's default is 0, which has no solution for fewer samples than columns. Its code rescales the inverse, ours does not.
//! 1 − p is taken as 0.000001 where it is smaller: the losses of samples that the model is sure of are rounding in 32-bit floats.
//! The probability is that of the loss: of the target among those that the loss compares it with. Where exp(−loss) is no probability, as for sums of losses, neither is p.
//! If all samples have the same p and nothing is exact, the score is (1 − p)² times that of `influence`.
//! Weights of samples and the penalty of training are not used.
//!
//! # Needs
//! Projected gradients and losses; a sample without one of them is unscored.
//!
//! # Cost
//! Time O(samples · width² + width³), memory O(width²), width at most 4,096.

use serde::{Deserialize, Serialize};

use crate::Seed;
use crate::curvature::{DAMPING, DEFAULT_DAMPING, Dense, Fitted, check_positive};
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores,
};
use crate::held_out;
use crate::problem::Problem;

/// The least distance of a probability from 1.
const LEAST_DOUBT: f64 = 1e-6;

pub(super) struct Trak {
    pub(super) damping: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Params {
    damping: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            damping: DEFAULT_DAMPING,
        }
    }
}

impl Method for Trak {
    const NAME: &'static str = "trak";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Curvature;
    const DOC: &'static str =
        "Influence in the linear model that the projected gradients of the margins make.";
    const ESTIMAND: &'static str = "Rise of the mean loss over requests when the sample is left out of a logistic regression on projected gradients, one Newton step.";
    const PAPER: &'static str = "Park et al., \"TRAK: Attributing Model Behavior at Scale\", ICML 2023; arXiv:2303.14186, section 3, one model, or several by its step 4.";
    const NEEDS: &'static [Need] = &[Need::Projected, Need::Losses];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const TUNABLE: bool = true;
    const PARAMETERS: &'static [Parameter] = &[DAMPING];
    type Params = Params;

    fn new(Params { damping }: Params) -> Result<Self, ParameterErrorKind> {
        check_positive("damping", damping)?;
        Ok(Self { damping })
    }
}

impl Estimator for Trak {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let method = Self::NAME;
        let losses = problem.losses().ok_or(EstimatorError::Missing {
            method,
            need: Need::Losses,
        })?;
        let fitted = Fitted::new(problem, method)?;
        let target = fitted.target()?;
        let width = fitted.width();
        let mut products = Dense::new(method, width)?;
        fitted.samples(|samples, rows| {
            for (&sample, row) in samples.iter().zip(rows.chunks_mut(width)) {
                // No loss, no margin.
                let doubt = losses[sample as usize].map_or(f64::INFINITY, doubt);
                for x in row.iter_mut() {
                    *x /= -doubt;
                }
            }
            products.add_rows(rows);
            Ok(())
        })?;
        let mean_diagonal = products.mean_diagonal();
        if mean_diagonal <= 0.0 {
            return Err(EstimatorError::NoGradient { method });
        }
        let ridge = vec![self.damping * mean_diagonal; width];
        let direction = products.solve(&ridge, &target)?;
        // φ (1 − p) is minus the gradient of the loss, and so is what the target asks with.
        let mut score = fitted.scores(&direction, 1.0)?;
        for (score, loss) in score.iter_mut().zip(losses) {
            if loss.is_none() {
                *score = None;
            }
        }
        let held_out = held_out::of_direction(problem, fitted, &direction, &score, 1.0)?;
        let factor = losses.iter().map(|loss| loss.map_or(1.0, doubt));
        Ok(Scores {
            factor: Some(factor.collect()),
            held_out,
            ..Scores::exact(score, 1)
        })
    }
}

/// 1 − exp(−loss), but never next to nothing.
fn doubt(loss: f64) -> f64 {
    (-libm::expm1(-loss)).max(LEAST_DOUBT)
}
