//! Self-influence: how much training on the sample lowered its own loss, summed over states of the training.
//!
//! `score(z) = Σ over states c of η_c ‖∇ℓ(z; θ_c)‖² with η_c the learning rate at c`
//!
//! # Paper
//! Pruthi et al., "Estimating Training Data Influence by Tracing Gradient Descent", NeurIPS 2020; arXiv:2002.08484, section 3.2: mislabelled samples have large self-influence.
//!
//! # Departures
//! As for `tracin`: the steps are those of plain gradient descent, and all states count the same.
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
    Scale, Scores, Suspect, gradients,
};
use crate::problem::Problem;

pub(super) struct SelfInfluence;

impl Method for SelfInfluence {
    const NAME: &'static str = "self_influence";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Gradient;
    const DOC: &'static str = "Squared lengths of the gradient of the sample along the training, weighted by learning rates.";
    const ESTIMAND: &'static str = "Fall of the loss of the sample itself through steps of plain gradient descent on it, one at each state, to first order.";
    const PAPER: &'static str = "Pruthi et al., \"Estimating Training Data Influence by Tracing Gradient Descent\", NeurIPS 2020; arXiv:2002.08484, section 3.2: mislabelled samples have large self-influence.";
    const NEEDS: &'static [Need] = &[Need::Gradients, Need::Trajectory];
    const SCALE: Scale = Scale::Magnitude(Suspect::High);
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const PARAMETERS: &'static [Parameter] = &[];
    type Params = NoParams;

    fn new(NoParams {}: NoParams) -> Result<Self, ParameterErrorKind> {
        Ok(Self)
    }
}

impl Estimator for SelfInfluence {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let all = gradients(problem, Self::NAME)?;
        let score = all.along(|state, sample| state.norm[sample].map(|norm| norm * norm));
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
    fn squares_are_weighted_by_learning_rates() {
        let states = vec![
            state(1, 0.5, 2.0, &[Some(4.0), None]),
            state(2, 0.25, 4.0, &[Some(-8.0), None]),
        ];
        let problem = toy::of_pairs(&[(0, 1), (0, 2)])
            .with_gradients(Gradients::new(states).unwrap())
            .unwrap();
        let scores = SelfInfluence
            .estimate(&problem, Seed::root(0), &|_| {})
            .unwrap();
        assert_eq!(scores.score, [Some(6.0), None]);
    }
}
