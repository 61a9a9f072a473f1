//! DataInf: the influence function with mean and inverse swapped, layer by layer.
//!
//! `score(z) = (1/n) Σ over layers l of x_l' ∇_l ℓ(z; θ)`, where
//! `x_l = (1/(n λ_l)) Σ over samples i of (v_l − ⟨g_il, v_l⟩ / (λ_l + ‖g_il‖²) g_il)`, v = ∇L(θ) with L the
//! mean loss over requests, `g_i = ∇ℓ(z_i; θ)`, and `λ_l = damping · mean over i of ‖g_il‖² / d_l`
//!
//! # Paper
//! Kwon et al., "DataInf: Efficiently Estimating Data Influence in LoRA-tuned LLMs and Diffusion Models", ICLR 2024; arXiv:2310.00902, section 3.
//!
//! # Departures
//! The sign is that of removal, and the score is divided by n.
//! Gradients are projected where the probe projected them, and `d_l` is the number of columns of a layer. The error of the swap grows with it.
//! The penalty of training is added to `λ_l` where columns are parameters.
//! Weights of samples are not used.
//!
//! # Needs
//! Projected gradients; a sample without a loss term is unscored.
//!
//! # Cost
//! Time O(samples · width) in three passes; memory O(width) besides one block of rows.

use serde::{Deserialize, Serialize};

use crate::Seed;
use crate::curvature::{
    DAMPING, DEFAULT_DAMPING, Fitted, Operator, add, add_blocks, check_positive, product,
};
use crate::directed::{Directed, Directions};
use crate::estimator::{
    EstimatorError, Family, Method, Need, Parameter, ParameterErrorKind, Scale,
};

pub(super) struct DataInf {
    pub(super) damping: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Params {
    damping: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            damping: DEFAULT_DAMPING,
        }
    }
}

impl Method for DataInf {
    const NAME: &'static str = "datainf";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Curvature;
    const DOC: &'static str = "Influence function in closed form: the mean of inverses instead of the inverse of a mean, layer by layer.";
    const ESTIMAND: &'static str = "Rise of the mean loss over requests when the sample is left out and training ends anew, to first order, with a mean of inverses as inverse curvature.";
    const PAPER: &'static str = "Kwon et al., \"DataInf: Efficiently Estimating Data Influence in LoRA-tuned LLMs and Diffusion Models\", ICLR 2024; arXiv:2310.00902, section 3.";
    const NEEDS: &'static [Need] = &[Need::Projected];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const ANSWERS_REQUESTS: bool = true;
    const TUNABLE: bool = true;
    const PARAMETERS: &'static [Parameter] = &[DAMPING];
    type Params = Params;

    fn new(Params { damping }: Params) -> Result<Self, ParameterErrorKind> {
        check_positive("damping", damping)?;
        Ok(Self { damping })
    }
}

impl Directed for DataInf {
    fn directions(
        &self,
        fitted: Fitted<'_>,
        targets: &[Vec<f64>],
        _seed: Seed,
    ) -> Result<Directions, EstimatorError> {
        let width = fitted.width();
        let layers = fitted.layers();
        let mut squares = vec![0.0; layers.len()];
        let n_rows = fitted.roots(Operator::EmpiricalFisher, |rows| {
            add_blocks(&mut squares, rows, width, |rows, part| {
                for row in rows.chunks(width) {
                    for (layer, part) in layers.iter().zip(&mut *part) {
                        let gradient = &row[layer.columns.clone()];
                        *part += product(gradient, gradient);
                    }
                }
            });
        })?;
        let n_scored = fitted.n_scored(Operator::EmpiricalFisher, n_rows)?;
        let ridge = |(at, layer): (usize, &crate::Layer)| {
            let mean = squares[at] / n_scored / layer.columns.len() as f64;
            fitted.ridge(self.damping * mean)[layer.columns.start]
        };
        let ridge: Vec<f64> = layers.iter().enumerate().map(ridge).collect();
        // Sum over samples of the second term, for one target after the other.
        let mut taken = vec![0.0; width * targets.len()];
        fitted.roots(Operator::EmpiricalFisher, |rows| {
            add_blocks(&mut taken, rows, width, |rows, part| {
                for row in rows.chunks(width) {
                    for (layer, ridge) in layers.iter().zip(&ridge) {
                        let columns = layer.columns.clone();
                        let gradient = &row[columns.clone()];
                        let square = product(gradient, gradient);
                        if square <= 0.0 {
                            continue;
                        }
                        for (target, part) in targets.iter().zip(part.chunks_mut(width)) {
                            let along = product(gradient, &target[columns.clone()]);
                            let part = &mut part[columns.clone()];
                            add(part, along / (ridge + square), gradient);
                        }
                    }
                }
            });
        })?;
        let mut directions = vec![vec![0.0; width]; targets.len()];
        let taken = taken.chunks(width);
        for ((direction, target), taken) in directions.iter_mut().zip(targets).zip(taken) {
            for (layer, &ridge) in layers.iter().zip(&ridge) {
                if ridge > 0.0 {
                    for k in layer.columns.clone() {
                        direction[k] = (target[k] - taken[k] / n_scored) / ridge;
                    }
                }
                // Otherwise all gradients are 0 there, and so is what the layer adds.
            }
        }
        Ok(Directions {
            directions,
            scale: 1.0 / n_scored,
        })
    }
}
