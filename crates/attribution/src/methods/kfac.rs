//! K-FAC: the influence function of all parameters, through a Fisher matrix that is a Kronecker product for each layer.
//!
//! `score(z) = ∇ℓ(z; θ)ᵀ (F + λI)⁻¹ ∇L(θ) / n with F = E[δδᵀ] ⊗ E[aaᵀ] for each layer and λ a share of its mean eigenvalue`
//!
//! # Paper
//! Martens, Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", ICML 2015; arXiv:1503.05671, section 3.
//!
//! # Departures
//! Damping is added to the eigenvalues of the product, not to both factors (section 6.3), so that `kfac` and `ekfac` differ in eigenvalues alone.
//! Positions of a sequence are taken to be independent: gradients of outputs are summed over the positions of a sample, inputs averaged over positions ("expand", Eschenhagen et al. 2023, arXiv:2311.00636).
//! The Fisher matrix is empirical unless the probe says `labels: sampled`; a sample counts once, whatever its weight.
//! A table has a diagonal on the side of its rows; one of inputs and outputs has the sum of both products, as far as it is diagonal in one basis.
//! Biases and gains of norms have diagonal blocks of second moments, as for `ekfac`.
//! A block is damped as if its mean were 10⁻⁸ of the largest one at least: the bias of attention keys, for one, has no gradient but rounding, and would be divided by its own square.
//!
//! # Needs
//! Directions of `kfac`, which the probe takes with its damping; a sample without a loss term is unscored.
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

pub(super) struct Kfac;

impl Method for Kfac {
    const NAME: &'static str = "kfac";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Curvature;
    const DOC: &'static str = "Influence function of all parameters, through a Fisher matrix that is a Kronecker product for each layer.";
    const ESTIMAND: &'static str = "Rise of the mean loss over requests when the sample is left out and training ends anew, to first order, each parameter by itself.";
    const PAPER: &'static str = "Martens, Grosse, \"Optimizing Neural Networks with Kronecker-factored Approximate Curvature\", ICML 2015; arXiv:1503.05671, section 3.";
    const NEEDS: &'static [Need] = &[Need::Kfac];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const PARAMETERS: &'static [Parameter] = &[];
    type Params = NoParams;

    fn new(NoParams {}: NoParams) -> Result<Self, ParameterErrorKind> {
        Ok(Self)
    }
}

impl Estimator for Kfac {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let score = influence(problem, Preconditioner::Kfac, Self::NAME)?;
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
    fn products_are_its_own_and_not_those_of_another() {
        let of = |product: f64| vec![state(9, 0.5, &[Some(product), None], 1.0)];
        let directions = BTreeMap::from([
            (Preconditioner::Ekfac, of(7.0)),
            (Preconditioner::Kfac, of(-2.0)),
        ]);
        let problem = toy::of_pairs(&[(0, 1), (0, 2)])
            .with_directions(Directions::new(directions).unwrap())
            .unwrap();
        let scores = Kfac.estimate(&problem, Seed::root(0), &|_| {}).unwrap();
        assert_eq!(scores.score, [Some(-2.0), None]);
        assert_eq!(scores.n_updates, [1, 0]);
    }
}
