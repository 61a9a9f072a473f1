//! Fast influence analysis of a matrix factorisation: what the loss of the requests would rise by without the sample, through the vectors of one user and one item alone.
//!
//! score(z) = Σ over requests of user u and relevant items i of ∇ℓ(u, i)' H⁻¹ ∇ℓ(z; θ) / (requests · relevant items of the request), where gradients
//! and H, the Hessian of the training objective (a sum over samples), are by the vectors θ of u and i alone
//!
//! # Paper
//! Cheng, Shen, Huang, Zhu, "Incorporating Interpretability into Latent Factor Models via Fast Influence Analysis", KDD 2019, section 3.2.
//!
//! # Departures
//! The loss of a relevant item takes the place of the prediction. H is exact, not damped unless it has no inverse; the probe counts such blocks.
//! `through: user` keeps what the sample does by the vector of its user, `item` by those of its items, `both` their sum. A model that makes the vector of a user from their history when asked (iALS) knows no effect through users in regime `mask`, where the event stays in the history: `item` is what that regime measures.
//! BPR compares a sample with fixed negatives; the vectors of these count among those of its items.
//!
//! # Needs
//! Influence in blocks, which matrix factorisations give where the probe takes gradients; a sample without a loss term is unscored.
//!
//! # Cost
//! Time and memory O(samples); the probe takes O(relevant items · w³ + samples · w), w being the numbers of a user and an item.

use serde::{Deserialize, Serialize};

use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores,
};
use crate::problem::Problem;

pub(super) struct FastInfluence {
    through: Through,
}

/// Which vectors carry an effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Through {
    /// All of them.
    #[default]
    Both,
    /// That of the sample's user.
    User,
    /// Those of its items.
    Item,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Params {
    through: Through,
}

impl Method for FastInfluence {
    const NAME: &'static str = "fast_influence";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Curvature;
    const DOC: &'static str = "Influence function of a matrix factorisation through the curvature of one user and one item (FIA).";
    const ESTIMAND: &'static str = "Rise of the mean loss over requests when the sample is left out and the vectors of the request's user and item are fitted anew, all others held fixed, to first order.";
    const PAPER: &'static str = "Cheng, Shen, Huang, Zhu, \"Incorporating Interpretability into Latent Factor Models via Fast Influence Analysis\", KDD 2019, section 3.2.";
    const NEEDS: &'static [Need] = &[Need::BlockInfluence];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    // Negatives belong to a sample's identity.
    const COPIES_SCORE_EQUALLY: bool = false;
    const PARAMETERS: &'static [Parameter] = &[Parameter {
        name: "through",
        default: "\"both\"",
        doc: "Which vectors carry an effect: user, that of the sample's user; item, those of its items; or both.",
    }];
    type Params = Params;

    fn new(params: Params) -> Result<Self, ParameterErrorKind> {
        Ok(Self {
            through: params.through,
        })
    }
}

impl Estimator for FastInfluence {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let (method, need) = (Self::NAME, Need::BlockInfluence);
        let found = problem
            .block_influence()
            .ok_or(EstimatorError::Missing { method, need })?;
        let pairs = found.of_user.iter().zip(&found.of_item);
        let score = pairs.map(|(of_user, of_item)| match self.through {
            Through::Both => Some((*of_user)? + (*of_item)?),
            Through::User => *of_user,
            Through::Item => *of_item,
        });
        Ok(Scores::exact(score.collect(), 1))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reweighting::BlockInfluence;
    use crate::toy;

    #[test]
    fn it_is_the_sum_of_what_users_and_items_carry() {
        let found = BlockInfluence {
            of_user: vec![Some(0.5), Some(-2.0), None],
            of_item: vec![Some(0.25), Some(1.0), None],
        };
        let problem = toy::of_pairs(&[(0, 1), (0, 2), (1, 1)])
            .with_block_influence(found)
            .unwrap();
        for (through, expected) in [
            ("both", [Some(0.75), Some(-1.0), None]),
            ("user", [Some(0.5), Some(-2.0), None]),
            ("item", [Some(0.25), Some(1.0), None]),
        ] {
            let params: Params = serde_json::from_value(json!({ "through": through })).unwrap();
            let method = FastInfluence::new(params).unwrap();
            let scores = method.estimate(&problem, Seed::root(0), &|_| {}).unwrap();
            assert_eq!(scores.score, expected);
            assert_eq!(scores.n_updates, [1, 1, 0]);
        }
    }
}
