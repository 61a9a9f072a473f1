//! Leverage: how much of the model's fit in the direction of a sample's gradient is owed to the sample.
//!
//! score(z) = (1/n) ∇ℓ(z; θ)' (H + diag(λ))⁻¹ ∇ℓ(z; θ) with n the number of samples with a gradient and H
//! the curvature of their mean loss: what the sample's own loss would rise by, if training ended without it
//!
//! # Paper
//! Alaoui, Mahoney, "Fast Randomized Kernel Ridge Regression with Statistical Guarantees", NeurIPS 2015; arXiv:1411.0306: ridge leverage scores, for the kernel of gradients.
//!
//! # Departures
//! With the empirical Fisher matrix and the same ridge everywhere this is the ridge leverage score of the sample's gradient, between 0 and 1; with another curvature or ridge it is the self-influence of Koh and Liang (arXiv:1703.04730), which has no upper bound.
//! Gradients are projected where the probe projected them; the curvature is that of the projections.
//! Damping is a share of the mean of the curvature's diagonal. The penalty of training is added where columns are parameters.
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
    Scale, Scores, Suspect,
};
use crate::problem::Problem;

pub(super) struct Leverage {
    pub(super) operator: Operator,
    pub(super) damping: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Params {
    operator: Operator,
    damping: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            operator: Operator::default(),
            damping: DEFAULT_DAMPING,
        }
    }
}

impl Method for Leverage {
    const NAME: &'static str = "leverage";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Curvature;
    const DOC: &'static str = "Length of the sample's gradient where the curvature of all others is taken out: how alone it stands.";
    const ESTIMAND: &'static str =
        "Rise of the sample's own loss when it is left out and training ends anew, to first order.";
    const PAPER: &'static str = "Alaoui, Mahoney, \"Fast Randomized Kernel Ridge Regression with Statistical Guarantees\", NeurIPS 2015; arXiv:1411.0306: ridge leverage scores, for the kernel of gradients.";
    const NEEDS: &'static [Need] = &[Need::Projected];
    const SCALE: Scale = Scale::Magnitude(Suspect::High);
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const PARAMETERS: &'static [Parameter] = &[OPERATOR, DAMPING];
    type Params = Params;

    fn new(Params { operator, damping }: Params) -> Result<Self, ParameterErrorKind> {
        check_positive("damping", damping)?;
        Ok(Self { operator, damping })
    }
}

impl Estimator for Leverage {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let fitted = Fitted::new(problem, Self::NAME)?;
        let (curvature, n_scored) = Dense::curvature(fitted, self.operator)?;
        let ridge = fitted.ridge(self.damping * curvature.mean_diagonal());
        let inverse = curvature.inverse(&ridge)?;
        let width = fitted.width();
        let mut score = vec![None; problem.samples().len()];
        fitted.samples(|samples, rows| {
            let solved = inverse.multiply(rows);
            let pairs = rows.chunks(width).zip(solved.chunks(width));
            for (&sample, (row, solved)) in samples.iter().zip(pairs) {
                // Rounding may leave a gradient of almost nothing below 0.
                let square = product(row, solved).max(0.0);
                score[sample as usize] = Some(square / n_scored);
            }
            Ok(())
        })?;
        Ok(Scores::exact(score, 1))
    }

    fn chosen_needs(&self) -> &'static [Need] {
        self.operator.needs()
    }
}
