//! LESS: whether the step that Adam would take on the sample alone points where the requests want to go, summed over states of the training.
//!
//! `score(z) = Σ over states c of η_c cos(∇L(θ_c), Γ(z; θ_c)) with Γ = m' / (sqrt(v') + ε), m' and v' the moments after one more step on z, corrected for their start, and η_c the learning rate`
//!
//! # Paper
//! Xia et al., "LESS: Selecting Influential Data for Targeted Instruction Tuning", ICML 2024; arXiv:2402.04333, definition 3.1.
//!
//! # Departures
//! Nothing is linearised: the second moment of each number takes the sample's own gradient in, and momentum is part of the step, as in the paper; so products and lengths are computed number by number where gradients are made.
//! Gradients are whole; the paper trains a few of them (`LoRA`) and projects the steps to 8192 numbers.
//! ε stands outside the root and moments are corrected for their start, as in training here; the authors' code has ε inside and no correction.
//! The gradient of the requests is that of their mean loss; the paper takes the best of the means of several tasks.
//! η is the learning rate of the last step before the state; the paper takes the mean over an epoch.
//! Second moments are those of the loss that training minimised, on batches; gradients are those of the softmax over all items.
//!
//! # Needs
//! Directions of `adam` at states along the training, with learning rates; a sample without a loss term is unscored.
//!
//! # Cost
//! Time O(samples x states); the probe computes a step of all parameters for each sample and state.

use super::NoParams;
use crate::Seed;
use crate::directions::{Directed, along_training};
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores,
};
use crate::problem::Problem;

pub(super) struct Less;

impl Method for Less {
    const NAME: &'static str = "less";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Gradient;
    const DOC: &'static str = "Cosines between the step that Adam would take on the sample and the gradient of the requests along the training, weighted by learning rates.";
    const ESTIMAND: &'static str = "Sum over states of learning rate times the cosine of two directions; its size says nothing of how much the loss changes.";
    const PAPER: &'static str = "Xia et al., \"LESS: Selecting Influential Data for Targeted Instruction Tuning\", ICML 2024; arXiv:2402.04333, definition 3.1.";
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

/// Cosine of the step on a sample with the gradient of the target; 0 where one of them is zero.
fn cosine(state: &Directed, sample: usize) -> Option<f64> {
    let [products, norms] = state.update.as_ref()?;
    let lengths = norms[sample]? * state.target_norm;
    // Lengths and product come from sums in different orders: no cosine is beyond 1.
    Some(if lengths > 0.0 {
        (products[sample]? / lengths).clamp(-1.0, 1.0)
    } else {
        0.0
    })
}

impl Estimator for Less {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        along_training(problem, Self::NAME, cosine)
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
    fn lengths_do_not_count_and_cosines_are_weighted_by_learning_rates() {
        let mut second = state(2, 0.25, &[Some(-8.0), Some(2.0), None, Some(0.0)], 4.0);
        second.update.as_mut().unwrap()[1][3] = Some(0.0);
        let states = vec![
            state(1, 0.5, &[Some(1.0), Some(0.5), None, Some(2.0)], 1.0),
            second,
        ];
        let directions = BTreeMap::from([(Preconditioner::Adam, states)]);
        let problem = toy::of_pairs(&[(0, 1), (0, 2), (1, 1), (1, 2)])
            .with_directions(Directions::new(directions).unwrap())
            .unwrap();
        let scores = Less.estimate(&problem, Seed::root(0), &|_| {}).unwrap();
        // The gradient of the target has length 2.
        let expected = [
            Some(0.5 * 0.5 - 0.25),
            Some(0.5 * 0.25 + 0.25 * 0.25),
            None,
            Some(0.5),
        ];
        assert_eq!(scores.score, expected);
    }
}
