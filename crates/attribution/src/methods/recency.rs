//! Recency: how old a sample is.
//!
//! score(z) = (t(z) − max t) / 1 day, at most 0
//!
//! # Paper
//! None.
//!
//! # Departures
//! Where no sample has an instant, the age is counted in events instead of days: minus the number
//! of samples of the same sequence with a longer history. Where some have one, the others are unscored.
//!
//! # Needs
//! Instants, or the order within sequences.
//!
//! # Cost
//! Time O(samples), or O(samples log samples) without instants; memory O(samples).

use super::NoParams;
use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores, Suspect,
};
use crate::problem::{Problem, Samples};

const DAY_MS: f64 = 86_400_000.0;

pub(super) struct Recency;

impl Method for Recency {
    const NAME: &'static str = "recency";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Baseline;
    const DOC: &'static str = "Orders samples by age: the oldest are suspicious.";
    const ESTIMAND: &'static str = "Minus the age in days before the newest sample; in later samples of the sequence where a log has no instants.";
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

impl Estimator for Recency {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let samples = problem.samples();
        let newest = samples.occurred_at.iter().flatten().max();
        let score = match newest {
            // Instants of a log lie within centuries, far from where the difference could wrap.
            Some(newest) => samples
                .occurred_at
                .iter()
                .map(|at| at.map(|at| 0.0 - newest.saturating_sub(at) as f64 / DAY_MS))
                .collect(),
            None => by_order(samples),
        };
        Ok(Scores::exact(score, 1))
    }
}

/// Minus the number of samples of the same sequence with a longer history.
fn by_order(samples: &Samples) -> Vec<Option<f64>> {
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_unstable_by_key(|&index| (samples.sequence[index], samples.history_length[index]));
    let mut score = vec![None; samples.len()];
    for sequence in order.chunk_by(|&a, &b| samples.sequence[a] == samples.sequence[b]) {
        let mut later = sequence.len();
        for equal in
            sequence.chunk_by(|&a, &b| samples.history_length[a] == samples.history_length[b])
        {
            later -= equal.len();
            for &index in equal {
                score[index] = Some(0.0 - later as f64);
            }
        }
    }
    score
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::{InMemory, Target};
    use crate::toy;

    fn scores(samples: Samples) -> Vec<Option<f64>> {
        let problem = InMemory::new(samples, Target::default()).unwrap();
        let scores = Recency.estimate(&problem, Seed::root(0), &|_| {});
        scores.unwrap().score
    }

    #[test]
    fn age_is_counted_in_days_before_the_newest() {
        let mut samples = toy::of_pairs(&[(0, 1), (0, 2), (1, 3)]).samples().clone();
        samples.occurred_at = vec![Some(0), Some(86_400_000 * 3), None];
        assert_eq!(scores(samples), [Some(-3.0), Some(0.0), None]);
    }

    #[test]
    fn without_instants_the_order_of_the_sequence_counts() {
        let samples = toy::of_pairs(&[(0, 1), (0, 2), (1, 3), (0, 2)])
            .samples()
            .clone();
        assert_eq!(scores(samples), [-2.0, -1.0, 0.0, 0.0].map(Some));
    }
}
