//! Product of projected gradients: what one small step on the sample does to the loss of the requests.
//!
//! score(z) = ⟨P∇ℓ(z; θ), P∇L(θ)⟩ with L the mean loss over requests and P the projection of the probe
//!
//! # Paper
//! Pruthi et al., "Estimating Training Data Influence by Tracing Gradient Descent", NeurIPS 2020; arXiv:2002.08484, section 3.6: random projections.
//!
//! # Departures
//! One state, the fitted model, and a learning rate of 1. The projection is that of the probe, layer by layer; where nothing is projected, the score is that of `gradient_dot`.
//! Unlike `gradient_dot` it can say which samples matter to a single request.
//!
//! # Needs
//! Projected gradients; a sample without a loss term is unscored.
//!
//! # Cost
//! Time O(samples · width) in one pass; memory O(width) besides one block of rows.

use super::NoParams;
use crate::Seed;
use crate::curvature::Fitted;
use crate::directed::{Directed, Directions};
use crate::estimator::{
    EstimatorError, Family, Method, Need, Parameter, ParameterErrorKind, Scale,
};

pub(super) struct ProjectedDot;

impl Method for ProjectedDot {
    const NAME: &'static str = "projected_dot";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Gradient;
    const DOC: &'static str =
        "Product of the projected gradient of the sample with that of the requests.";
    const ESTIMAND: &'static str = "Fall of the mean loss over requests per unit of learning rate, in a step of plain gradient descent on the sample, to first order, as the projection keeps it.";
    const PAPER: &'static str = "Pruthi et al., \"Estimating Training Data Influence by Tracing Gradient Descent\", NeurIPS 2020; arXiv:2002.08484, section 3.6: random projections.";
    const NEEDS: &'static [Need] = &[Need::Projected];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const ANSWERS_REQUESTS: bool = true;
    const TUNABLE: bool = true;
    const PARAMETERS: &'static [Parameter] = &[];
    type Params = NoParams;

    fn new(NoParams {}: NoParams) -> Result<Self, ParameterErrorKind> {
        Ok(Self)
    }
}

impl Directed for ProjectedDot {
    fn directions(
        &self,
        _fitted: Fitted<'_>,
        targets: &[Vec<f64>],
        _seed: Seed,
    ) -> Result<Directions, EstimatorError> {
        Ok(Directions {
            directions: targets.to_vec(),
            scale: 1.0,
        })
    }
}
