//! Popularity: how often the target item is a target.
//!
//! score(z) = #{z' : item(z') = item(z)}
//!
//! # Paper
//! None.
//!
//! # Departures
//! None. Samples are counted, whatever their weight.
//!
//! # Needs
//! Target items.
//!
//! # Cost
//! Time O(samples); memory O(samples + items).

use super::NoParams;
use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores, Suspect,
};
use crate::problem::Problem;

pub(super) struct Popularity;

impl Method for Popularity {
    const NAME: &'static str = "popularity";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Baseline;
    const DOC: &'static str = "Counts the training samples that share the target item.";
    const ESTIMAND: &'static str = "Training samples with the same target item, itself included.";
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

impl Estimator for Popularity {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let items = &problem.samples().item;
        let n_items = items.iter().max().map_or(0, |&item| item as usize + 1);
        let mut counts = vec![0_u32; n_items];
        for &item in items {
            counts[item as usize] += 1;
        }
        let score = items
            .iter()
            .map(|&item| Some(f64::from(counts[item as usize])));
        Ok(Scores::exact(score.collect(), 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    #[test]
    fn counts_are_those_of_a_table() {
        let problem = toy::of_pairs(&[(0, 4), (0, 2), (1, 4), (2, 4), (2, 0)]);
        let scores = Popularity
            .estimate(&problem, Seed::root(0), &|_| {})
            .unwrap();
        assert_eq!(scores.score, [3.0, 1.0, 3.0, 3.0, 1.0].map(Some));
    }
}
