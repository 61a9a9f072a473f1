//! Loss: how badly the fitted model predicts the sample itself.
//!
//! score(z) = ℓ(z; θ)
//!
//! # Paper
//! Wang et al., "Denoising Implicit Feedback for Recommendation", WSDM 2021; arXiv:2006.04153: noisy samples have large losses.
//!
//! # Departures
//! The paper drops large losses while it trains; this is the loss of the returned model. That model
//! was fitted on the sample, so the loss is lower than it would be for an unseen one.
//!
//! # Needs
//! The loss of each sample; a sample without one is unscored.
//!
//! # Cost
//! Time and memory O(samples).

use super::NoParams;
use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores, Suspect,
};
use crate::problem::Problem;

pub(super) struct Loss;

impl Method for Loss {
    const NAME: &'static str = "loss";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Baseline;
    const DOC: &'static str = "Loss of the sample under the model that was fitted on it.";
    const ESTIMAND: &'static str = "Loss of the sample under the fitted model, in nats.";
    const PAPER: &'static str = "Wang et al., \"Denoising Implicit Feedback for Recommendation\", WSDM 2021; arXiv:2006.04153: noisy samples have large losses.";
    const NEEDS: &'static [Need] = &[Need::Losses];
    const SCALE: Scale = Scale::Magnitude(Suspect::High);
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const PARAMETERS: &'static [Parameter] = &[];
    type Params = NoParams;

    fn new(NoParams {}: NoParams) -> Result<Self, ParameterErrorKind> {
        Ok(Self)
    }
}

impl Estimator for Loss {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let losses = problem.losses().ok_or(EstimatorError::Missing {
            method: Self::NAME,
            need: Need::Losses,
        })?;
        Ok(Scores::exact(losses.clone(), 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    #[test]
    fn samples_without_a_loss_are_unscored() {
        let problem = toy::of_pairs(&[(0, 1), (0, 2)])
            .with_losses(vec![None, Some(0.25)])
            .unwrap();
        let scores = Loss.estimate(&problem, Seed::root(0), &|_| {}).unwrap();
        assert_eq!(scores.score, [None, Some(0.25)]);
        assert_eq!(scores.n_updates, [0, 1]);
    }
}
