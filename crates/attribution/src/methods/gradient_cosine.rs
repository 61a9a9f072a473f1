//! Gradient cosine: whether a step on the sample points where the requests want to go.
//!
//! score(z) = ⟨∇ℓ(z; θ), ∇L(θ)⟩ / (‖∇ℓ(z; θ)‖ ‖∇L(θ)‖), 0 where a gradient is zero
//!
//! # Paper
//! Hanawa et al., "Evaluation of Similarity-based Explanations", ICLR 2021; arXiv:2006.04528, section 3.
//!
//! # Departures
//! The gradient of the requests is that of their mean loss, not a mean of cosines with each.
//!
//! # Needs
//! Gradients; a sample without a loss term is unscored.
//!
//! # Cost
//! Time and memory O(samples).

use super::NoParams;
use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores, gradients,
};
use crate::problem::Problem;

pub(super) struct GradientCosine;

impl Method for GradientCosine {
    const NAME: &'static str = "gradient_cosine";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Gradient;
    const DOC: &'static str = "Cosine between the gradient of the sample and that of the requests.";
    const ESTIMAND: &'static str = "Cosine between the two gradients, from -1 to 1; its size says nothing of how much the loss changes.";
    const PAPER: &'static str = "Hanawa et al., \"Evaluation of Similarity-based Explanations\", ICLR 2021; arXiv:2006.04528, section 3.";
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

impl Estimator for GradientCosine {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let fitted = gradients(problem, Self::NAME)?.fitted();
        let score = fitted.target_product.iter().zip(&fitted.norm);
        let score = score.map(|(product, norm)| {
            let lengths = (*norm)? * fitted.target_norm;
            // Lengths and product come from sums in different orders: no cosine is beyond 1.
            Some(if lengths > 0.0 {
                ((*product)? / lengths).clamp(-1.0, 1.0)
            } else {
                0.0
            })
        });
        Ok(Scores::exact(score.collect(), 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradients::Gradients;
    use crate::gradients::tests::state;
    use crate::toy;

    #[test]
    fn lengths_do_not_count_and_zero_has_no_direction() {
        let mut last = state(2, 0.5, 4.0, &[Some(2.0), Some(-8.0), None, Some(0.0)]);
        last.norm[3] = Some(0.0);
        let problem = toy::of_pairs(&[(0, 1), (0, 2), (1, 1), (1, 2)])
            .with_gradients(Gradients::new(vec![last]).unwrap())
            .unwrap();
        let scores = GradientCosine
            .estimate(&problem, Seed::root(0), &|_| {})
            .unwrap();
        // The gradient of the target has length 2.
        assert_eq!(scores.score, [Some(0.25), Some(-1.0), None, Some(0.0)]);
    }
}
