//! TracInCP: what training on the sample did to the loss of the requests, summed over states of the training.
//!
//! `score(z) = Σ over states c of η_c ⟨∇ℓ(z; θ_c), ∇L(θ_c)⟩ with η_c the learning rate at c`
//!
//! # Paper
//! Pruthi et al., "Estimating Training Data Influence by Tracing Gradient Descent", NeurIPS 2020; arXiv:2002.08484, section 3.2.
//!
//! # Departures
//! The theory is of plain gradient descent. Models here are trained by AdamW, whose steps are not scaled gradients: the learning rate is its own, the moments are left out.
//! All states count the same, however many steps lie between them.
//!
//! # Needs
//! Gradients at two or more states, with learning rates; a sample without a loss term is unscored.
//!
//! # Cost
//! Time O(samples x states).

use super::NoParams;
use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores, gradients,
};
use crate::problem::Problem;

pub(super) struct Tracin;

impl Method for Tracin {
    const NAME: &'static str = "tracin";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Gradient;
    const DOC: &'static str = "Products of the gradients of the sample and the requests along the training, weighted by learning rates.";
    const ESTIMAND: &'static str = "Fall of the mean loss over requests through steps of plain gradient descent on the sample, one at each state, to first order.";
    const PAPER: &'static str = "Pruthi et al., \"Estimating Training Data Influence by Tracing Gradient Descent\", NeurIPS 2020; arXiv:2002.08484, section 3.2.";
    const NEEDS: &'static [Need] = &[Need::Gradients, Need::Trajectory];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const PARAMETERS: &'static [Parameter] = &[];
    type Params = NoParams;

    fn new(NoParams {}: NoParams) -> Result<Self, ParameterErrorKind> {
        Ok(Self)
    }
}

impl Estimator for Tracin {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let all = gradients(problem, Self::NAME)?;
        let score = all.along(|state, sample| state.target_product[sample]);
        Ok(Scores::exact(score, all.states().len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradients::Gradients;
    use crate::gradients::tests::state;
    use crate::toy;

    #[test]
    fn products_are_weighted_by_learning_rates() {
        let states = vec![
            state(1, 0.5, 1.0, &[Some(4.0), Some(1.0), None]),
            state(2, 0.25, 1.0, &[Some(-8.0), Some(2.0), None]),
        ];
        let problem = toy::of_pairs(&[(0, 1), (0, 2), (1, 1)])
            .with_gradients(Gradients::new(states).unwrap())
            .unwrap();
        let scores = Tracin.estimate(&problem, Seed::root(0), &|_| {}).unwrap();
        assert_eq!(scores.score, [Some(0.0), Some(1.0), None]);
        assert_eq!(scores.n_updates, [2, 2, 0]);
    }
}
