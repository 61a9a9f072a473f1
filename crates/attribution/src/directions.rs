//! What methods know of gradients under a preconditioner: products of each sample's with that of the
//! target, exact and over all parameters, at one or more states of the training.

use std::collections::BTreeMap;

use crate::estimator::{EstimatorError, Need, Scores};
use crate::problem::{Problem, ProblemError};

/// What stands between the gradients of a sample and of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preconditioner {
    /// What `AdamW` divides a gradient by, at states along the training.
    Adam,
    /// A damped Fisher matrix, a Kronecker product for each layer, at the fitted model.
    Kfac,
    /// The same with measured eigenvalues.
    Ekfac,
}

/// Products at the states at which each preconditioner was taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directions {
    states: BTreeMap<Preconditioner, Vec<Directed>>,
}

/// Products at one state; lists run parallel to the samples. A sample without a loss term has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directed {
    /// Steps that led there.
    pub step: u64,
    /// Learning rate of the last of them; `None` where it was not kept.
    pub learning_rate: Option<f64>,
    /// Length of the gradient of the target.
    pub target_norm: f64,
    /// Product of the gradients of sample and target under the preconditioner.
    pub product: Vec<Option<f64>>,
    /// The step that the optimiser would take next on the sample alone: its product with the gradient of
    /// the target, and its length, both per unit of learning rate. Known of [`Preconditioner::Adam`].
    pub update: Option<[Vec<Option<f64>>; 2]>,
}

impl Directions {
    /// Checks states against each other; those of a preconditioner are oldest first.
    ///
    /// # Errors
    /// If a preconditioner has no state, steps do not ascend, lists differ in length, a number is not
    /// finite or a length is negative; if the optimiser says nothing of its steps or learning rates.
    pub fn new(states: BTreeMap<Preconditioner, Vec<Directed>>) -> Result<Self, ProblemError> {
        let wrong = |what| Err(ProblemError::Directions(what));
        let first = states.values().flatten().next();
        let wanted = first.map_or(0, |state| state.product.len());
        for (&preconditioner, states) in &states {
            if states.is_empty() {
                return wrong("a preconditioner has no state");
            }
            if !states.is_sorted_by(|a, b| a.step < b.step) {
                return wrong("steps do not ascend");
            }
            for state in states {
                let is_adam = preconditioner == Preconditioner::Adam;
                if is_adam && (state.update.is_none() || state.learning_rate.is_none()) {
                    return wrong("the optimiser says nothing of its steps");
                }
                let update = state.update.iter().flatten();
                for list in std::iter::once(&state.product).chain(update) {
                    if list.len() != wanted {
                        return wrong("lists differ in length");
                    }
                    let pairs = list.iter().zip(&state.product);
                    if pairs.into_iter().any(|(a, b)| a.is_some() != b.is_some()) {
                        return wrong("one is known in part");
                    }
                    if !list.iter().flatten().all(|number| number.is_finite()) {
                        return wrong("a number is not finite");
                    }
                }
                let lengths = state.update.iter().flat_map(|[_, length]| length).flatten();
                let numbers = [Some(state.target_norm), state.learning_rate];
                let mut numbers = numbers.into_iter().flatten();
                if !numbers.all(f64::is_finite) {
                    return wrong("a number is not finite");
                }
                if lengths.chain([&state.target_norm]).any(|&norm| norm < 0.0) {
                    return wrong("a length is negative");
                }
            }
        }
        Ok(Self { states })
    }

    /// Samples that the lists speak of; `None` where there are no lists.
    pub(crate) fn n_samples(&self) -> Option<usize> {
        let first = self.states.values().flatten().next();
        first.map(|state| state.product.len())
    }

    /// All states by preconditioner.
    pub fn states(&self) -> &BTreeMap<Preconditioner, Vec<Directed>> {
        &self.states
    }

    /// Whether there are states of one.
    pub fn has(&self, preconditioner: Preconditioner) -> bool {
        self.states.contains_key(&preconditioner)
    }
}

/// The states of a preconditioner, for a method that needs them, oldest first; there is one.
///
/// # Errors
/// If there are none.
pub(crate) fn directed<'p>(
    problem: &'p dyn Problem,
    preconditioner: Preconditioner,
    method: &'static str,
) -> Result<&'p [Directed], EstimatorError> {
    let need = match preconditioner {
        Preconditioner::Adam => Need::Adam,
        Preconditioner::Kfac => Need::Kfac,
        Preconditioner::Ekfac => Need::Ekfac,
    };
    problem
        .directions()
        .and_then(|all| all.states.get(&preconditioner))
        .map(Vec::as_slice)
        .ok_or(EstimatorError::Missing { method, need })
}

/// Scores that add up over the states of the optimiser, each by its learning rate; `each` gives what a
/// sample is worth at a state, and a sample that is worth nothing known at one has no score.
///
/// # Errors
/// If the problem has no directions of the optimiser.
pub(crate) fn along_training(
    problem: &dyn Problem,
    method: &'static str,
    each: impl Fn(&Directed, usize) -> Option<f64>,
) -> Result<Scores, EstimatorError> {
    let states = directed(problem, Preconditioner::Adam, method)?;
    let score = (0..problem.samples().len()).map(|sample| {
        states.iter().try_fold(0.0, |sum, state| {
            Some(sum + state.learning_rate? * each(state, sample)?)
        })
    });
    Ok(Scores::exact(score.collect(), states.len() as u64))
}

/// Influence under a damped Fisher matrix at the fitted model: the product divided by the number of
/// samples that training has a loss term of.
///
/// # Errors
/// If the problem does not have it.
pub(crate) fn influence(
    problem: &dyn Problem,
    preconditioner: Preconditioner,
    method: &'static str,
) -> Result<Vec<Option<f64>>, EstimatorError> {
    let states = directed(problem, preconditioner, method)?;
    let fitted = &states[states.len() - 1].product;
    let n_scored = fitted.iter().flatten().count().max(1) as f64;
    Ok(fitted
        .iter()
        .map(|product| product.map(|product| product / n_scored))
        .collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A state with these products, and steps of the optimiser of these products and one length.
    pub(crate) fn state(step: u64, rate: f64, products: &[Option<f64>], norm: f64) -> Directed {
        let norms = products.iter().map(|product| product.map(|_| norm));
        Directed {
            step,
            learning_rate: Some(rate),
            target_norm: 2.0,
            product: products.to_vec(),
            update: Some([products.to_vec(), norms.collect()]),
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let sound = state(3, 0.1, &[Some(0.5), None], 1.0);
        let of = |states: Vec<Directed>| {
            Directions::new(BTreeMap::from([(Preconditioner::Adam, states)]))
        };
        assert!(of(vec![sound.clone()]).is_ok());
        assert!(of(Vec::new()).is_err());
        assert!(of(vec![sound.clone(), sound.clone()]).is_err());
        let change = |change: fn(&mut Directed)| {
            let mut wrong = sound.clone();
            change(&mut wrong);
            assert!(of(vec![wrong]).is_err());
        };
        change(|state| state.update = None);
        change(|state| state.learning_rate = None);
        change(|state| state.product[0] = None);
        change(|state| state.product.truncate(1));
        change(|state| state.target_norm = f64::NAN);
        change(|state| {
            let [_, norms] = state.update.as_mut().unwrap();
            norms[0] = Some(-1.0);
        });
    }
}
