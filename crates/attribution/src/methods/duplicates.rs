//! Duplicates: how often the same user has the same target item.
//!
//! score(z) = #{z' : sequence(z') = sequence(z), item(z') = item(z)}
//!
//! # Paper
//! None.
//!
//! # Departures
//! None. What a user did once is suspicious beside what the user did again and again. Samples are
//! counted, whatever their weight.
//!
//! # Needs
//! Sequences and target items.
//!
//! # Cost
//! Time O(samples log samples); memory O(samples).

use super::NoParams;
use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores, Suspect,
};
use crate::problem::Problem;

pub(super) struct Duplicates;

impl Method for Duplicates {
    const NAME: &'static str = "duplicates";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Baseline;
    const DOC: &'static str =
        "Counts the training samples of the same user with the same target item.";
    const ESTIMAND: &'static str =
        "Training samples with the same sequence and target item, itself included.";
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

impl Estimator for Duplicates {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let samples = problem.samples();
        let pair = |index: usize| (samples.sequence[index], samples.item[index]);
        let mut order: Vec<usize> = (0..samples.len()).collect();
        order.sort_unstable_by_key(|&index| pair(index));
        let mut score = vec![None; samples.len()];
        for same in order.chunk_by(|&a, &b| pair(a) == pair(b)) {
            for &index in same {
                score[index] = Some(same.len() as f64);
            }
        }
        Ok(Scores::exact(score, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    #[test]
    fn only_the_same_user_and_item_count() {
        let problem = toy::of_pairs(&[(0, 4), (0, 2), (1, 4), (0, 4), (2, 0)]);
        let scores = Duplicates
            .estimate(&problem, Seed::root(0), &|_| {})
            .unwrap();
        assert_eq!(scores.score, [2.0, 1.0, 1.0, 2.0, 1.0].map(Some));
    }
}
