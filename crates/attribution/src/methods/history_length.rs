//! History length: how much a model could know when it was asked for the target.
//!
//! score(z) = |history of z|
//!
//! # Paper
//! None.
//!
//! # Departures
//! None.
//!
//! # Needs
//! Lengths of histories.
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

pub(super) struct HistoryLength;

impl Method for HistoryLength {
    const NAME: &'static str = "history_length";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Baseline;
    const DOC: &'static str = "Counts the events in the history of the sample.";
    const ESTIMAND: &'static str = "Events in the history of the sample.";
    const PAPER: &'static str = "None.";
    const NEEDS: &'static [Need] = &[];
    const SCALE: Scale = Scale::Magnitude(Suspect::Low);
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const PARAMETERS: &'static [Parameter] = &[];
    type Params = NoParams;

    fn new(NoParams {}: NoParams) -> Result<Self, ParameterErrorKind> {
        Ok(Self)
    }
}

impl Estimator for HistoryLength {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let lengths = problem.samples().history_length.iter();
        Ok(Scores::exact(
            lengths.map(|&length| Some(f64::from(length))).collect(),
            1,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    #[test]
    fn an_empty_history_scores_zero() {
        let problem = toy::of_pairs(&[(0, 4), (0, 2), (0, 1), (1, 4)]);
        let scores = HistoryLength
            .estimate(&problem, Seed::root(0), &|_| {})
            .unwrap();
        assert_eq!(scores.score, [0.0, 1.0, 2.0, 0.0].map(Some));
    }
}
