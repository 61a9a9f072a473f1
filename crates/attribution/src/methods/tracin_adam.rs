//! Optimiser-aware TracIn: what steps of Adam on the sample did to the loss of the requests, summed over states of the training.
//!
//! `score(z) = Σ over states c of η_c Σ over parameters k of ∂ℓ(z; θ_c)_k ∂L(θ_c)_k / (sqrt(v̂_ck) + ε) with η_c the learning rate and v̂_c the second moment at c, corrected for its start`
//!
//! # Paper
//! Pruthi et al., "Estimating Training Data Influence by Tracing Gradient Descent", NeurIPS 2020; arXiv:2002.08484, section 3.2, with the step of Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; arXiv:1412.6980, algorithm 1.
//!
//! # Departures
//! The second moment is that of the state: what the sample itself adds to it is left out, so that scores are linear in gradients. `less` counts it.
//! Momentum is left out: it spreads the step on a sample over later ones, with the same sum.
//! A number whose second moment is 0 was never moved by training and has no part in it.
//! All states count the same, however many steps lie between them; a sample's share of its batch is left out, which is a factor for all.
//! Second moments are those of the loss that training minimised, gradients those of the softmax over all items.
//!
//! # Needs
//! Directions of `adam` at states along the training, with learning rates; a sample without a loss term is unscored.
//!
//! # Cost
//! Time O(samples x states).

use super::NoParams;
use crate::Seed;
use crate::directions::along_training;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores,
};
use crate::problem::Problem;

pub(super) struct TracinAdam;

impl Method for TracinAdam {
    const NAME: &'static str = "tracin_adam";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Gradient;
    const DOC: &'static str = "Products of the gradients of the sample and the requests along the training, each number divided as the optimiser divides it, weighted by learning rates.";
    const ESTIMAND: &'static str = "Fall of the mean loss over requests through steps of Adam on the sample, one at each state, to first order, at the second moments of that state.";
    const PAPER: &'static str = "Pruthi et al., \"Estimating Training Data Influence by Tracing Gradient Descent\", NeurIPS 2020; arXiv:2002.08484, section 3.2, with the step of Kingma, Ba, \"Adam: A Method for Stochastic Optimization\", ICLR 2015; arXiv:1412.6980, algorithm 1.";
    const NEEDS: &'static [Need] = &[Need::Adam];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const PARAMETERS: &'static [Parameter] = &[];
    type Params = NoParams;

    fn new(NoParams {}: NoParams) -> Result<Self, ParameterErrorKind> {
        Ok(Self)
    }
}

impl Estimator for TracinAdam {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        along_training(problem, Self::NAME, |state, sample| state.product[sample])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::directions::tests::state;
    use crate::directions::{Directions, Preconditioner};
    use crate::toy;

    #[test]
    fn products_are_weighted_by_learning_rates() {
        let states = vec![
            state(1, 0.5, &[Some(4.0), Some(1.0), None], 1.0),
            state(2, 0.25, &[Some(-8.0), Some(2.0), None], 1.0),
        ];
        let directions = BTreeMap::from([(Preconditioner::Adam, states)]);
        let problem = toy::of_pairs(&[(0, 1), (0, 2), (1, 1)])
            .with_directions(Directions::new(directions).unwrap())
            .unwrap();
        let scores = TracinAdam.estimate(&problem, Seed::root(0), &|_| {});
        let scores = scores.unwrap();
        assert_eq!(scores.score, [Some(0.0), Some(1.0), None]);
        assert_eq!(scores.n_updates, [2, 2, 0]);
    }
}
