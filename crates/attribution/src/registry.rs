//! The entry of a method in the registry, and a method that is ready to run.

use serde_json::Value;

use crate::Seed;
use crate::directed::{Asked, OfRequest};
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterError,
    ParameterErrorKind, Scale, Scores,
};
use crate::methods::METHODS;
use crate::problem::Problem;

/// Everything about a method that needs no data: its card.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "answers to questions of their own, constants of each method"
)]
pub struct Entry {
    /// Name in configurations and tables.
    pub name: &'static str,
    /// Revision of its implementation.
    pub revision: u32,
    /// Kind of method.
    pub family: Family,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// What a score is.
    pub estimand: &'static str,
    /// Source.
    pub paper: &'static str,
    /// What it cannot do without.
    pub needs: &'static [Need],
    /// Signed helpfulness or a magnitude.
    pub scale: Scale,
    /// Whether scores follow permuted samples.
    pub is_deterministic: bool,
    /// Whether copies score the same.
    pub copies_score_equally: bool,
    /// Whether it can say which samples matter to one request.
    pub answers_requests: bool,
    /// Whether it says how well it holds on requests that are held out: settings are chosen by that.
    pub is_tunable: bool,
    /// Its parameters.
    pub parameters: &'static [Parameter],
    build: fn(&Value) -> Result<Built, ParameterErrorKind>,
}

type Built = (Value, Box<dyn Estimator>);

impl Entry {
    pub(crate) const fn of<M: Method>() -> Self {
        Self {
            name: M::NAME,
            revision: M::REVISION,
            family: M::FAMILY,
            doc: M::DOC,
            estimand: M::ESTIMAND,
            paper: M::PAPER,
            needs: M::NEEDS,
            scale: M::SCALE,
            is_deterministic: M::DETERMINISTIC,
            copies_score_equally: M::COPIES_SCORE_EQUALLY,
            answers_requests: M::ANSWERS_REQUESTS,
            is_tunable: M::TUNABLE,
            parameters: M::PARAMETERS,
            build: build::<M>,
        }
    }

    /// Reads and checks parameters, a JSON object; absent ones take their defaults.
    ///
    /// # Errors
    /// If one is unknown, of the wrong type or out of range.
    pub fn prepare(&'static self, parameters: &Value) -> Result<Prepared, ParameterError> {
        match (self.build)(parameters) {
            Ok((parameters, estimator)) => Ok(Prepared {
                entry: self,
                parameters,
                estimator,
            }),
            Err(kind) => Err(ParameterError {
                method: self.name,
                kind,
            }),
        }
    }
}

fn build<M: Method>(parameters: &Value) -> Result<Built, ParameterErrorKind> {
    let params: M::Params = serde_json::from_value(parameters.clone())?;
    let normalised = serde_json::to_value(&params)?;
    Ok((normalised, Box::new(M::new(params)?)))
}

/// The entry of this name.
pub fn find(name: &str) -> Option<&'static Entry> {
    METHODS.iter().find(|entry| entry.name == name)
}

/// A method with checked parameters.
pub struct Prepared {
    entry: &'static Entry,
    parameters: Value,
    estimator: Box<dyn Estimator>,
}

impl Prepared {
    /// Its card.
    pub fn entry(&self) -> &'static Entry {
        self.entry
    }

    /// All its parameters, defaults filled in.
    pub fn parameters(&self) -> &Value {
        &self.parameters
    }

    /// What the method cannot do without, with these parameters.
    pub fn needs(&self) -> impl Iterator<Item = Need> {
        let chosen = self.estimator.chosen_needs().iter();
        self.entry.needs.iter().chain(chosen).copied()
    }

    /// Scores every sample, in the problem's order; refuses scores that are not finite.
    ///
    /// # Errors
    /// If a needed capability is missing, or the method fails.
    pub fn estimate(
        &self,
        problem: &dyn Problem,
        seed: Seed,
        on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let method = self.entry.name;
        self.check_needs(problem)?;
        let scores = self
            .estimator
            .estimate(problem, seed.child(method), on_progress)?;
        let wanted = problem.samples().len();
        for found in [
            scores.score.len(),
            scores.std_error.len(),
            scores.n_updates.len(),
        ] {
            if found != wanted {
                return Err(EstimatorError::Length {
                    method,
                    found,
                    wanted,
                });
            }
        }
        for (&sample_id, &score) in problem.samples().id.iter().zip(&scores.score) {
            if let Some(score) = score.filter(|score| !score.is_finite()) {
                return Err(EstimatorError::NotFinite {
                    method,
                    sample_id,
                    score,
                });
            }
        }
        Ok(scores)
    }

    /// The samples that matter most to each of some requests of the target, in their order; a request
    /// without a gradient is left out. `None` where the method knows the mean over requests alone.
    ///
    /// # Errors
    /// As [`Prepared::estimate`].
    pub fn influences(
        &self,
        problem: &dyn Problem,
        asked: Asked<'_>,
        seed: Seed,
    ) -> Result<Option<Vec<OfRequest>>, EstimatorError> {
        self.check_needs(problem)?;
        let seed = seed.child(self.entry.name);
        self.estimator.influences(problem, asked, seed)
    }

    fn check_needs(&self, problem: &dyn Problem) -> Result<(), EstimatorError> {
        let method = self.entry.name;
        match self.needs().find(|need| !need.is_met(problem)) {
            Some(need) => Err(EstimatorError::Missing { method, need }),
            None => Ok(()),
        }
    }
}
