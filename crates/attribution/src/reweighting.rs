//! What methods know of the weights of samples beyond gradients: influence through the block of one user
//! and one item, and the derivative of a whole training.

use crate::problem::ProblemError;

/// Influences within the blocks of a matrix factorisation; lists run parallel to the samples, `None`
/// for a sample without a loss term.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockInfluence {
    /// Through the vector of the sample's user.
    pub of_user: Vec<Option<f64>>,
    /// Through the vectors of its items.
    pub of_item: Vec<Option<f64>>,
}

/// Minus the derivative of the target by the weight of each sample, through the training; `None` where
/// there is none.
pub type Unrolled = Vec<Option<f64>>;

/// Checks that a list speaks of all samples, in finite numbers.
pub(crate) fn check(
    list: &'static str,
    numbers: &[Option<f64>],
    wanted: usize,
) -> Result<(), ProblemError> {
    if numbers.len() != wanted {
        return Err(ProblemError::Length {
            list,
            found: numbers.len(),
            wanted,
        });
    }
    if numbers.iter().flatten().all(|number| number.is_finite()) {
        Ok(())
    } else {
        Err(ProblemError::Gradients("a derivative is not finite"))
    }
}

impl BlockInfluence {
    /// Checks the lists against the number of samples and each other.
    pub(crate) fn check(&self, n_samples: usize) -> Result<(), ProblemError> {
        check("influence of users", &self.of_user, n_samples)?;
        check("influence of items", &self.of_item, n_samples)?;
        let mut pairs = self.of_user.iter().zip(&self.of_item);
        if pairs.all(|(user, item)| user.is_some() == item.is_some()) {
            Ok(())
        } else {
            Err(ProblemError::Gradients("one is known in part"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let sound = BlockInfluence {
            of_user: vec![Some(1.0), None],
            of_item: vec![Some(-1.0), None],
        };
        assert!(sound.check(2).is_ok());
        assert!(sound.check(3).is_err());
        let mut wrong = sound.clone();
        wrong.of_item[1] = Some(0.0);
        assert!(wrong.check(2).is_err());
        let mut wrong = sound;
        wrong.of_user[0] = Some(f64::NAN);
        assert!(wrong.check(2).is_err());
    }
}
