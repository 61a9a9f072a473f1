//! EK-FAC: the influence function of all parameters, through a Fisher matrix with the eigenvectors of a Kronecker product and measured eigenvalues, layer by layer.
//!
//! `score(z) = ∇ℓ(z; θ)ᵀ (F + λI)⁻¹ ∇L(θ) / n with F = (Q_S ⊗ Q_A) Λ (Q_S ⊗ Q_A)ᵀ for each layer and λ a share of the mean of Λ`
//!
//! # Paper
//! Grosse et al., "Studying Large Language Model Generalization with Influence Functions", 2023; arXiv:2308.03296, section 2.2; George et al., NeurIPS 2018, arXiv:1806.03884, eq. 5.
//!
//! # Departures
//! The Fisher matrix is empirical, from the labels of the samples, unless the probe says `labels: sampled`, as the papers do; a sample counts once, whatever its weight.
//! Λ is the mean of squares of whole gradients of samples, not of positions: a layer's gradient of a sample is a sum over positions.
//! Input tables have an exact diagonal on the side of the rows; so has, by choice, a table of outputs on the side of the items, whose factor would be items x items.
//! A table of inputs and outputs is one parameter and one block, in the basis of the sum of both uses; Λ counts their mixed term.
//! Biases, gains of norms and biases of outputs have diagonal blocks; a bias is not joined to its layer.
//! The paper has multi-layer perceptrons of a transformer alone; here every parameter takes part.
//! A block is damped as if its mean were 10⁻⁸ of the largest one at least: the bias of attention keys, for one, has no gradient but rounding, and would be divided by its own square.
//!
//! # Needs
//! Directions of `ekfac`, which the probe takes with its damping; a sample without a loss term is unscored.
//!
//! # Cost
//! Time and memory O(samples); the probe passes three times over the samples.

use super::NoParams;
use crate::Seed;
use crate::directions::{Preconditioner, influence};
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores,
};
use crate::problem::Problem;

pub(super) struct Ekfac;

impl Method for Ekfac {
    const NAME: &'static str = "ekfac";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Curvature;
    const DOC: &'static str = "Influence function of all parameters, through a Fisher matrix with eigenvectors of a Kronecker product and measured eigenvalues.";
    const ESTIMAND: &'static str = "Rise of the mean loss over requests when the sample is left out and training ends anew, to first order, each parameter by itself.";
    const PAPER: &'static str = "Grosse et al., \"Studying Large Language Model Generalization with Influence Functions\", 2023; arXiv:2308.03296, section 2.2; George et al., NeurIPS 2018, arXiv:1806.03884, eq. 5.";
    const NEEDS: &'static [Need] = &[Need::Ekfac];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const PARAMETERS: &'static [Parameter] = &[];
    type Params = NoParams;

    fn new(NoParams {}: NoParams) -> Result<Self, ParameterErrorKind> {
        Ok(Self)
    }
}

impl Estimator for Ekfac {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let score = influence(problem, Preconditioner::Ekfac, Self::NAME)?;
        Ok(Scores::exact(score, 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::directions::Directions;
    use crate::directions::tests::state;
    use crate::toy;

    #[test]
    fn products_are_shared_by_the_samples_that_have_one() {
        let last = state(9, 0.5, &[Some(4.0), Some(-3.0), None], 1.0);
        let directions = BTreeMap::from([(Preconditioner::Ekfac, vec![last])]);
        let problem = toy::of_pairs(&[(0, 1), (0, 2), (1, 1)])
            .with_directions(Directions::new(directions).unwrap())
            .unwrap();
        let scores = Ekfac.estimate(&problem, Seed::root(0), &|_| {}).unwrap();
        assert_eq!(scores.score, [Some(2.0), Some(-1.5), None]);
    }
}
