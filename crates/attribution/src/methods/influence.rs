//! Influence function: what the loss of the requests would rise by, if training ended without the sample.
//!
//! score(z) = (1/n) ∇L(θ)' (H + diag(λ))⁻¹ ∇ℓ(z; θ) with L the mean loss over requests, n the number of
//! samples with a gradient, and H the curvature of their mean loss
//!
//! # Paper
//! Koh, Liang, "Understanding Black-box Predictions via Influence Functions", ICML 2017; arXiv:1703.04730, section 2.1.
//!
//! # Departures
//! The sign is that of removal, and the score is divided by n: the paper's eq. 2 is the effect of weighting a sample up.
//! Gradients are projected where the probe projected them; the curvature is that of the projections.
//! The Hessian is replaced by a matrix without negative eigenvalues: the empirical Fisher matrix by default, or that of Gauss and Newton.
//! Damping is a share of the mean of the curvature's diagonal. The penalty of training is added where columns are parameters.
//! `lissa` sums the series h ← v + (I − A/σ) h of Agarwal et al. (arXiv:1602.03943) with the whole matrix A instead of one sample's; σ is 1.25 times the value that 40 rounds of the power method find. It ends after `iterations` terms, however good it is: a truncated series damps further.
//! `arnoldi` keeps the largest `rank` of 4 x `rank` Ritz pairs of the damped curvature (Schioppa et al., arXiv:2112.03052) and lets everything else go; the curvature is symmetric, so the process is that of Lanczos with full orthogonalisation.
//! Weights of samples are not used; all gradients are those of the fitted model.
//!
//! # Needs
//! Projected gradients, and a probed curvature for `operator: gauss_newton`; a sample without a loss term is unscored.
//!
//! # Cost
//! `exact`: time O(samples · width² + width³), memory O(width²), width at most 4,096. The others: one pass
//! over all rows per iteration, O(samples · width), and memory for one block of rows; `arnoldi` keeps 4 ·
//! rank vectors besides.

use serde::{Deserialize, Serialize};

use crate::Seed;
use crate::curvature::{
    DAMPING, DEFAULT_DAMPING, Fitted, OPERATOR, Operator, Settings, Solver, check_positive, solve,
};
use crate::directed::{Directed, Directions};
use crate::estimator::{
    EstimatorError, Family, Method, Need, Parameter, ParameterErrorKind, Scale,
};

pub(super) struct Influence {
    pub(super) settings: Settings,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Params {
    solver: Solver,
    operator: Operator,
    damping: f64,
    tolerance: f64,
    iterations: usize,
    rank: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            solver: Solver::default(),
            operator: Operator::default(),
            damping: DEFAULT_DAMPING,
            tolerance: 1e-6,
            iterations: 1000,
            rank: 50,
        }
    }
}

impl Method for Influence {
    const NAME: &'static str = "influence";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Curvature;
    const DOC: &'static str = "Influence function: the gradient of the requests through the inverse curvature to that of the sample.";
    const ESTIMAND: &'static str = "Rise of the mean loss over requests when the sample is left out and training ends anew, to first order.";
    const PAPER: &'static str = "Koh, Liang, \"Understanding Black-box Predictions via Influence Functions\", ICML 2017; arXiv:1703.04730, section 2.1.";
    const NEEDS: &'static [Need] = &[Need::Projected];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const ANSWERS_REQUESTS: bool = true;
    const TUNABLE: bool = true;
    const PARAMETERS: &'static [Parameter] = &[
        Parameter {
            name: "solver",
            default: "\"exact\"",
            doc: "How the inverse is applied: exact (a matrix, width up to 4096), conjugate_gradient, lissa or arnoldi (passes over the gradients, any width).",
        },
        OPERATOR,
        DAMPING,
        Parameter {
            name: "tolerance",
            default: "1e-6",
            doc: "Length of the residual as a share of the right side's, for conjugate_gradient and lissa; > 0.",
        },
        Parameter {
            name: "iterations",
            default: "1000",
            doc: "Most passes over the gradients, for all solvers but exact; >= 1.",
        },
        Parameter {
            name: "rank",
            default: "50",
            doc: "Ritz pairs that arnoldi keeps; >= 1.",
        },
    ];
    type Params = Params;

    fn new(params: Params) -> Result<Self, ParameterErrorKind> {
        check_positive("damping", params.damping)?;
        check_positive("tolerance", params.tolerance)?;
        for (name, value) in [("iterations", params.iterations), ("rank", params.rank)] {
            if value == 0 {
                return Err(ParameterErrorKind::Range {
                    name,
                    found: value.to_string(),
                    wanted: ">= 1",
                });
            }
        }
        Ok(Self {
            settings: Settings {
                solver: params.solver,
                operator: params.operator,
                damping: params.damping,
                tolerance: params.tolerance,
                iterations: params.iterations,
                rank: params.rank,
            },
        })
    }
}

impl Directed for Influence {
    fn directions(
        &self,
        fitted: Fitted<'_>,
        targets: &[Vec<f64>],
        seed: Seed,
    ) -> Result<Directions, EstimatorError> {
        let (directions, n_scored) = solve(fitted, self.settings, targets, seed)?;
        Ok(Directions {
            directions,
            scale: 1.0 / n_scored,
        })
    }

    fn chosen_needs(&self) -> &'static [Need] {
        self.settings.operator.needs()
    }
}
