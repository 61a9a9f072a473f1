//! Random: uniform draws, the yardstick that every method must beat.
//!
//! score(z) = U(seed, id of z), uniform in [0, 1)
//!
//! # Paper
//! None.
//!
//! # Departures
//! None. A draw is addressed by the sample's identity, so it does not depend on other samples.
//!
//! # Needs
//! Identities.
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

pub(super) struct Random;

impl Method for Random {
    const NAME: &'static str = "random";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Baseline;
    const DOC: &'static str = "Uniform draws: the yardstick that every method must beat.";
    const ESTIMAND: &'static str = "A uniform draw in [0, 1); it means nothing.";
    const PAPER: &'static str = "None.";
    const NEEDS: &'static [Need] = &[];
    const SCALE: Scale = Scale::Magnitude(Suspect::Low);
    const DETERMINISTIC: bool = false;
    const COPIES_SCORE_EQUALLY: bool = false;
    const PARAMETERS: &'static [Parameter] = &[];
    type Params = NoParams;

    fn new(NoParams {}: NoParams) -> Result<Self, ParameterErrorKind> {
        Ok(Self)
    }
}

impl Estimator for Random {
    fn estimate(
        &self,
        problem: &dyn Problem,
        seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let stream = seed.stream();
        let draws = problem.samples().id.iter();
        Ok(Scores::exact(
            draws.map(|&id| Some(stream.uniform(id, 0))).collect(),
            1,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    #[test]
    fn another_seed_gives_another_order() {
        let problem = toy::problem(1);
        let draw = |seed| {
            Random
                .estimate(&problem, Seed::root(seed), &|_| {})
                .unwrap()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn other_samples_do_not_matter() {
        let problem = toy::problem(1);
        let fewer = toy::restrict(&problem, |index| index % 3 == 0);
        let all = Random.estimate(&problem, Seed::root(1), &|_| {}).unwrap();
        let some = Random.estimate(&fewer, Seed::root(1), &|_| {}).unwrap();
        let kept: Vec<_> = all.score.iter().step_by(3).copied().collect();
        assert_eq!(some.score, kept);
    }
}
