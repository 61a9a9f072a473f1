//! LoGra: the influence function with a curvature of each layer by itself, in projected gradients.
//!
//! `score(z) = (1/n) Σ over layers l of ∇_l L(θ)' (H_l + diag(λ_l))⁻¹ ∇_l ℓ(z; θ)` with L the mean loss over
//! requests, n the number of samples with a gradient, and `H_l` the block of layer l of the curvature
//!
//! # Paper
//! Choe et al., "What is Your Data Worth to GPT? LLM-Scale Data Valuation with Influence Functions", 2024; arXiv:2405.13954, section 3.
//!
//! # Departures
//! The score is divided by n, so that with one layer it is `influence`; the paper leaves the factor out.
//! Layers are projected as the probe projected them, or not at all; the paper initialises projections at random or by principal components.
//! Damping of a layer is a share of the mean of its own block's diagonal, 0.1 as in the paper's code (LogIX). The penalty of training is added where columns are parameters.
//! Weights of samples are not used.
//!
//! # Needs
//! Projected gradients, and a probed curvature for `operator: gauss_newton`; a sample without a loss term is unscored.
//!
//! # Cost
//! Time O(Σ over layers of (samples · width² + width³)), memory O(Σ width²); a layer is at most 4,096 wide.

use serde::{Deserialize, Serialize};

use crate::Seed;
use crate::curvature::{
    DAMPING, DEFAULT_DAMPING, Dense, Fitted, OPERATOR, Operator, check_positive,
};
use crate::directed::{Directed, Directions};
use crate::estimator::{
    EstimatorError, Family, Method, Need, Parameter, ParameterErrorKind, Scale,
};

pub(super) struct Logra {
    pub(super) operator: Operator,
    pub(super) damping: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Params {
    operator: Operator,
    damping: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            operator: Operator::default(),
            damping: DEFAULT_DAMPING,
        }
    }
}

impl Method for Logra {
    const NAME: &'static str = "logra";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Curvature;
    const DOC: &'static str = "Influence function with an exact inverse of each layer's curvature; layers do not interact.";
    const ESTIMAND: &'static str = "Rise of the mean loss over requests when the sample is left out and training ends anew, to first order, each layer by itself.";
    const PAPER: &'static str = "Choe et al., \"What is Your Data Worth to GPT? LLM-Scale Data Valuation with Influence Functions\", 2024; arXiv:2405.13954, section 3.";
    const NEEDS: &'static [Need] = &[Need::Projected];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const ANSWERS_REQUESTS: bool = true;
    const TUNABLE: bool = true;
    const PARAMETERS: &'static [Parameter] = &[OPERATOR, DAMPING];
    type Params = Params;

    fn new(Params { operator, damping }: Params) -> Result<Self, ParameterErrorKind> {
        check_positive("damping", damping)?;
        Ok(Self { operator, damping })
    }
}

impl Directed for Logra {
    fn directions(
        &self,
        fitted: Fitted<'_>,
        targets: &[Vec<f64>],
        _seed: Seed,
    ) -> Result<Directions, EstimatorError> {
        let width = fitted.width();
        let mut blocks = Vec::new();
        for layer in fitted.layers() {
            blocks.push(Dense::new(Self::NAME, layer.columns.len())?);
        }
        let n_roots = fitted.roots(self.operator, |rows| {
            for (layer, block) in fitted.layers().iter().zip(&mut blocks) {
                let columns = rows
                    .chunks(width)
                    .flat_map(|row| &row[layer.columns.clone()]);
                block.add_rows(&columns.copied().collect::<Vec<f64>>());
            }
        })?;
        let n_scored = fitted.n_scored(self.operator, n_roots)?;
        let mut directions = vec![vec![0.0; width]; targets.len()];
        for (layer, mut block) in fitted.layers().iter().zip(blocks) {
            block.divide(n_scored);
            let ridge = fitted.ridge(self.damping * block.mean_diagonal());
            let ridge = &ridge[layer.columns.clone()];
            if ridge.iter().all(|&ridge| ridge <= 0.0) && block.is_zero() {
                // No sample changes this layer.
                continue;
            }
            let of_layer = |target: &'_ Vec<f64>| target[layer.columns.clone()].to_vec();
            let targets: Vec<Vec<f64>> = targets.iter().map(of_layer).collect();
            let parts = block.solve_all(ridge, &targets)?;
            for (direction, part) in directions.iter_mut().zip(parts) {
                direction[layer.columns.clone()].copy_from_slice(&part);
            }
        }
        Ok(Directions {
            directions,
            scale: 1.0 / n_scored,
        })
    }

    fn chosen_needs(&self) -> &'static [Need] {
        self.operator.needs()
    }
}
