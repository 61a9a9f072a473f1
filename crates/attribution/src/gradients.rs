//! What methods know of gradients: the length of each sample's, and its product with the gradient
//! of the target, at one or more states of the training.
//!
//! A gradient is that of one unweighted loss term with respect to all parameters. The gradient of
//! the target is that of the mean loss over requests. Products and lengths are exact: nothing is
//! projected.

use crate::problem::ProblemError;

/// Gradients at the states of a training, oldest first; the last one is the fitted model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradients {
    states: Vec<State>,
}

/// Gradients at one state; lists run parallel to the samples. A sample without a loss term, such as
/// one without a history, has no gradient.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Steps that led there.
    pub step: u64,
    /// Learning rate of the last of them; `None` where it was not kept.
    pub learning_rate: Option<f64>,
    /// Length of the gradient of the target.
    pub target_norm: f64,
    /// Length of each sample's gradient.
    pub norm: Vec<Option<f64>>,
    /// The same without tables of inputs and outputs, whose gradients grow with how rare an item is.
    pub norm_without_tables: Vec<Option<f64>>,
    /// Product of each sample's gradient with that of the target.
    pub target_product: Vec<Option<f64>>,
    /// Distance of the probabilities of all items from each sample's target.
    pub error_norm: Vec<Option<f64>>,
}

impl Gradients {
    /// Checks states against each other.
    ///
    /// # Errors
    /// If there are none, steps do not ascend, lists differ in length, a number is not finite or a
    /// length is negative.
    pub fn new(states: Vec<State>) -> Result<Self, ProblemError> {
        let Some(first) = states.first() else {
            return Err(ProblemError::Gradients("there are none"));
        };
        let wanted = first.norm.len();
        for state in &states {
            let lists = [
                &state.norm,
                &state.norm_without_tables,
                &state.error_norm,
                &state.target_product,
            ];
            if lists.iter().any(|list| list.len() != wanted) {
                return Err(ProblemError::Gradients("lists differ in length"));
            }
            for at in 0..wanted {
                let found = lists.map(|list| list[at].is_some());
                if found != [found[0]; 4] {
                    return Err(ProblemError::Gradients("one is known in part"));
                }
            }
            let numbers = lists.iter().flat_map(|list| list.iter().flatten());
            let numbers = numbers.chain([&state.target_norm]);
            if !numbers
                .chain(state.learning_rate.iter())
                .all(|number| number.is_finite())
            {
                return Err(ProblemError::Gradients("a number is not finite"));
            }
            let lengths = lists[..3].iter().flat_map(|list| list.iter().flatten());
            if lengths.chain([&state.target_norm]).any(|&norm| norm < 0.0) {
                return Err(ProblemError::Gradients("a length is negative"));
            }
        }
        if !states.is_sorted_by(|a, b| a.step < b.step) {
            return Err(ProblemError::Gradients("steps do not ascend"));
        }
        Ok(Self { states })
    }

    /// Samples that the lists speak of.
    pub fn n_samples(&self) -> usize {
        self.fitted().norm.len()
    }

    /// All states, oldest first.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// The fitted model: the last state.
    pub fn fitted(&self) -> &State {
        // There is one: `new` refuses none.
        &self.states[self.states.len() - 1]
    }

    /// Sum over the states of learning rate x a number of each sample; `None` where a state has
    /// none. Summed from the oldest state on.
    pub(crate) fn along(&self, number: impl Fn(&State, usize) -> Option<f64>) -> Vec<Option<f64>> {
        (0..self.n_samples())
            .map(|sample| {
                self.states.iter().try_fold(0.0, |sum, state| {
                    Some(sum + state.learning_rate? * number(state, sample)?)
                })
            })
            .collect()
    }

    /// Whether every state says its learning rate, and there are several.
    pub fn is_trajectory(&self) -> bool {
        self.states.len() > 1
            && self
                .states
                .iter()
                .all(|state| state.learning_rate.is_some())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A state with the same length everywhere and these products.
    pub(crate) fn state(step: u64, rate: f64, norm: f64, products: &[Option<f64>]) -> State {
        let norms: Vec<Option<f64>> = products
            .iter()
            .map(|product| product.map(|_| norm))
            .collect();
        State {
            step,
            learning_rate: Some(rate),
            target_norm: 2.0,
            norm_without_tables: norms
                .iter()
                .map(|norm| norm.map(|norm| norm / 2.0))
                .collect(),
            error_norm: norms.clone(),
            norm: norms,
            target_product: products.to_vec(),
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let sound = state(3, 0.1, 1.0, &[Some(0.5), None]);
        assert!(Gradients::new(vec![sound.clone()]).is_ok());
        assert!(Gradients::new(Vec::new()).is_err());
        assert!(Gradients::new(vec![sound.clone(), sound.clone()]).is_err());
        let change = |change: fn(&mut State)| {
            let mut wrong = sound.clone();
            change(&mut wrong);
            assert!(Gradients::new(vec![wrong]).is_err());
        };
        change(|state| state.norm.truncate(1));
        change(|state| state.target_product[0] = None);
        change(|state| state.target_product[0] = Some(f64::NAN));
        change(|state| state.norm[0] = Some(-1.0));
        change(|state| state.target_norm = f64::INFINITY);
    }
}
