//! GraNd: how far the sample pulls the model.
//!
//! score(z) = ‖∇ℓ(z; θ)‖, with or without the tables of inputs and outputs
//!
//! # Paper
//! Paul, Ganguli, Dziugaite, "Deep Learning on a Data Diet: Finding Important Examples Early in Training", NeurIPS 2021; arXiv:2107.07075, definition 2.1.
//!
//! # Departures
//! The paper takes the mean over ten or more initial weights, a few epochs into training. This is the length at one fitted model; the mean over models of several seeds is what `estimate` makes of several probes.
//!
//! # Needs
//! Gradients; a sample without a loss term is unscored.
//!
//! # Cost
//! Time and memory O(samples).

use serde::{Deserialize, Serialize};

use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores, Suspect, gradients,
};
use crate::problem::Problem;

pub(super) struct GradientNorm {
    tables: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Params {
    tables: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self { tables: true }
    }
}

impl Method for GradientNorm {
    const NAME: &'static str = "gradient_norm";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Gradient;
    const DOC: &'static str = "Length of the gradient of the sample.";
    const ESTIMAND: &'static str =
        "Length of the gradient of the loss of the sample at the fitted model.";
    const PAPER: &'static str = "Paul, Ganguli, Dziugaite, \"Deep Learning on a Data Diet: Finding Important Examples Early in Training\", NeurIPS 2021; arXiv:2107.07075, definition 2.1.";
    const NEEDS: &'static [Need] = &[Need::Gradients];
    const SCALE: Scale = Scale::Magnitude(Suspect::High);
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const PARAMETERS: &'static [Parameter] = &[Parameter {
        name: "tables",
        default: "true",
        doc: "Whether embeddings and outputs of items count; their gradients grow with how rare an item is.",
    }];
    type Params = Params;

    fn new(params: Params) -> Result<Self, ParameterErrorKind> {
        Ok(Self {
            tables: params.tables,
        })
    }
}

impl Estimator for GradientNorm {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let fitted = gradients(problem, Self::NAME)?.fitted();
        let norm = if self.tables {
            &fitted.norm
        } else {
            &fitted.norm_without_tables
        };
        Ok(Scores::exact(norm.clone(), 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradients::Gradients;
    use crate::gradients::tests::state;
    use crate::toy;

    #[test]
    fn tables_can_be_left_out() {
        let problem = toy::of_pairs(&[(0, 1), (0, 2)])
            .with_gradients(Gradients::new(vec![state(1, 0.5, 3.0, &[Some(1.0), None])]).unwrap())
            .unwrap();
        let score = |tables| {
            let method = GradientNorm { tables };
            method
                .estimate(&problem, Seed::root(0), &|_| {})
                .unwrap()
                .score
        };
        assert_eq!(score(true), [Some(3.0), None]);
        assert_eq!(score(false), [Some(1.5), None]);
    }
}
