//! Gradient dot product: what one small step on the sample does to the loss of the requests.
//!
//! score(z) = ⟨∇ℓ(z; θ), ∇L(θ)⟩ with L the mean loss over requests
//!
//! # Paper
//! Pruthi et al., "Estimating Training Data Influence by Tracing Gradient Descent", NeurIPS 2020; arXiv:2002.08484, eq. 1: one state, a learning rate of 1.
//!
//! # Departures
//! The product is exact, over all parameters; papers often take the last layer or a projection.
//!
//! # Needs
//! Gradients; a sample without a loss term is unscored.
//!
//! # Cost
//! Time and memory O(samples); the products are made by the probe.

use super::NoParams;
use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores, gradients,
};
use crate::problem::Problem;

pub(super) struct GradientDot;

impl Method for GradientDot {
    const NAME: &'static str = "gradient_dot";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Gradient;
    const DOC: &'static str = "Product of the gradient of the sample with that of the requests.";
    const ESTIMAND: &'static str = "Fall of the mean loss over requests per unit of learning rate, in a step of plain gradient descent on the sample, to first order.";
    const PAPER: &'static str = "Pruthi et al., \"Estimating Training Data Influence by Tracing Gradient Descent\", NeurIPS 2020; arXiv:2002.08484, eq. 1: one state, a learning rate of 1.";
    const NEEDS: &'static [Need] = &[Need::Gradients];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const PARAMETERS: &'static [Parameter] = &[];
    type Params = NoParams;

    fn new(NoParams {}: NoParams) -> Result<Self, ParameterErrorKind> {
        Ok(Self)
    }
}

impl Estimator for GradientDot {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let fitted = gradients(problem, Self::NAME)?.fitted();
        Ok(Scores::exact(fitted.target_product.clone(), 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradients::Gradients;
    use crate::gradients::tests::state;
    use crate::toy;

    #[test]
    fn it_is_the_product_at_the_fitted_model() {
        let states = vec![
            state(1, 0.5, 1.0, &[Some(9.0), Some(9.0), None]),
            state(2, 0.5, 1.0, &[Some(0.25), Some(-4.0), None]),
        ];
        let problem = toy::of_pairs(&[(0, 1), (0, 2), (1, 1)])
            .with_gradients(Gradients::new(states).unwrap())
            .unwrap();
        let scores = GradientDot
            .estimate(&problem, Seed::root(0), &|_| {})
            .unwrap();
        assert_eq!(scores.score, [Some(0.25), Some(-4.0), None]);
        assert_eq!(scores.n_updates, [1, 1, 0]);
    }
}
