//! EL2N: how far the model's probabilities are from what the sample says.
//!
//! score(z) = ‖p(history; θ) − onehot(target)‖ at the fitted model, or the mean over states
//!
//! # Paper
//! Paul, Ganguli, Dziugaite, "Deep Learning on a Data Diet: Finding Important Examples Early in Training", NeurIPS 2021; arXiv:2107.07075, definition 2.2.
//!
//! # Departures
//! The paper takes the mean over ten or more initial weights, a few epochs into training. This is the distance at the fitted model, with `at: earliest` at the first state of its training, with `at: all` the mean over all. The mean over models of several seeds is what `estimate` makes of several probes.
//!
//! # Needs
//! Gradients, and those along the training for `at: earliest` and `at: all`; a sample without a loss term is unscored.
//!
//! # Cost
//! Time O(samples x states), memory O(samples).

use serde::{Deserialize, Serialize};

use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores, Suspect, gradients,
};
use crate::problem::Problem;

pub(super) struct El2n {
    at: At,
}

/// Which states count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum At {
    /// The last.
    #[default]
    Fitted,
    /// The first.
    Earliest,
    /// All, the same.
    All,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Params {
    at: At,
}

impl Method for El2n {
    const NAME: &'static str = "el2n";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Gradient;
    const DOC: &'static str =
        "Distance of the model's probabilities from the target as a one-hot vector.";
    const ESTIMAND: &'static str = "Distance between the probabilities of all items and the sample's target at the fitted model.";
    const PAPER: &'static str = "Paul, Ganguli, Dziugaite, \"Deep Learning on a Data Diet: Finding Important Examples Early in Training\", NeurIPS 2021; arXiv:2107.07075, definition 2.2.";
    const NEEDS: &'static [Need] = &[Need::Gradients];
    const SCALE: Scale = Scale::Magnitude(Suspect::High);
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const PARAMETERS: &'static [Parameter] = &[Parameter {
        name: "at",
        default: "\"fitted\"",
        doc: "Which states count: fitted, the last; earliest, the first; or all of them.",
    }];
    type Params = Params;

    fn new(params: Params) -> Result<Self, ParameterErrorKind> {
        Ok(Self { at: params.at })
    }
}

impl Estimator for El2n {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let all = gradients(problem, Self::NAME)?;
        let states = match self.at {
            At::All => all.states(),
            At::Earliest => &all.states()[..1],
            At::Fitted => std::slice::from_ref(all.fitted()),
        };
        let score = (0..all.n_samples())
            .map(|sample| {
                let sum = states
                    .iter()
                    .try_fold(0.0, |sum, state| Some(sum + state.error_norm[sample]?));
                sum.map(|sum: f64| sum / states.len() as f64)
            })
            .collect();
        Ok(Scores::exact(score, states.len() as u64))
    }

    fn chosen_needs(&self) -> &'static [Need] {
        match self.at {
            At::Fitted => &[],
            At::Earliest | At::All => &[Need::Trajectory],
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gradients::Gradients;
    use crate::gradients::tests::state;
    use crate::toy;

    #[test]
    fn it_is_the_mean_over_the_states_that_count() {
        let mut states = vec![
            state(1, 0.5, 1.0, &[Some(1.0), Some(1.0), None]),
            state(2, 0.5, 1.0, &[Some(1.0), Some(1.0), None]),
        ];
        states[0].error_norm = vec![Some(1.0), Some(0.25), None];
        states[1].error_norm = vec![Some(0.5), Some(1.25), None];
        let problem = toy::of_pairs(&[(0, 1), (0, 2), (1, 1)])
            .with_gradients(Gradients::new(states).unwrap())
            .unwrap();
        for (at, expected, n) in [
            ("all", [Some(0.75), Some(0.75), None], 2),
            ("earliest", [Some(1.0), Some(0.25), None], 1),
            ("fitted", [Some(0.5), Some(1.25), None], 1),
        ] {
            let params: Params = serde_json::from_value(json!({ "at": at })).unwrap();
            let method = El2n::new(params).unwrap();
            let scores = method.estimate(&problem, Seed::root(0), &|_| {}).unwrap();
            assert_eq!(scores.score, expected);
            assert_eq!(scores.n_updates, [n, n, 0]);
        }
    }
}
