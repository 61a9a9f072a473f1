//! Metagradient: the derivative of the loss of the requests by the weight of the sample, through the training that led to the model.
//!
//! score(z) = −∂L(θ(w)) / ∂w(z) at the weights of training, θ(w) being what training with weights w ends with and L the mean loss over requests
//!
//! # Paper
//! Hara, Nitanda, Maehara, "Data Cleansing for Models Trained with SGD", NeurIPS 2019; arXiv:1906.08473, section 3.
//!
//! # Departures
//! Every step is differentiated exactly, as in Engstrom et al. (arXiv:2503.13751); the paper's second derivatives come from batches.
//! iALS solves systems instead of stepping: each half of an epoch is differentiated by the implicit function theorem. The fit of logistic regression ends at a minimum, where its derivative is that of the minimum.
//! Regime `mask`: order, negatives, number of steps and histories stay as they are. It is a reference that others are measured by: no approximation but that a weight moves by little, which no removal does.
//!
//! # Needs
//! The derivative of the training, which models give that can take it again (`gradients: { unrolled: true }` when probing); a sample without a loss term is unscored.
//!
//! # Cost
//! Time and memory O(samples); the probe takes a few trainings.

use super::NoParams;
use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores,
};
use crate::problem::Problem;

pub(super) struct Unrolled;

impl Method for Unrolled {
    const NAME: &'static str = "unrolled";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Retraining;
    const DOC: &'static str = "Exact derivative of the loss of the requests by the weight of the sample, through the training.";
    const ESTIMAND: &'static str = "Fall of the mean loss over requests per unit of weight that the sample gains in the training that led to the model, in regime `mask`, to first order.";
    const PAPER: &'static str = "Hara, Nitanda, Maehara, \"Data Cleansing for Models Trained with SGD\", NeurIPS 2019; arXiv:1906.08473, section 3.";
    const NEEDS: &'static [Need] = &[Need::Unrolled];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    // Copies take their steps at different times.
    const COPIES_SCORE_EQUALLY: bool = false;
    const PARAMETERS: &'static [Parameter] = &[];
    type Params = NoParams;

    fn new(NoParams {}: NoParams) -> Result<Self, ParameterErrorKind> {
        Ok(Self)
    }
}

impl Estimator for Unrolled {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let (method, need) = (Self::NAME, Need::Unrolled);
        let found = problem
            .unrolled()
            .ok_or(EstimatorError::Missing { method, need })?;
        Ok(Scores::exact(found.clone(), 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    #[test]
    fn it_is_what_the_training_says() {
        let problem = toy::of_pairs(&[(0, 1), (0, 2), (1, 1)])
            .with_unrolled(vec![Some(0.5), None, Some(-1.0)])
            .unwrap();
        let scores = Unrolled.estimate(&problem, Seed::root(0), &|_| {}).unwrap();
        assert_eq!(scores.score, [Some(0.5), None, Some(-1.0)]);
        assert_eq!(scores.n_updates, [1, 0, 1]);
    }
}
