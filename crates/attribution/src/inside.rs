//! What methods know of a network beyond losses and gradients: the attention that events receive, and
//! the hidden states from which items are scored.

use std::path::Path;

use tensors::{TensorError, Tensors, hidden_layout as layout};

use crate::problem::ProblemError;
use crate::projected::Rows;

/// Attention that the event of each sample receives; lists run parallel to the samples. Sums over the
/// predictions that can see the event, 0 where there are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attention {
    /// Predictions that can see it.
    pub n_predictions: Vec<u64>,
    /// What it would get if each looked evenly at all it can see.
    pub even: Vec<f64>,
    /// Attention of the position that predicts, the mean over layers and heads.
    pub raw: Vec<f64>,
    /// The same through the product over layers of A/2 + I/2.
    pub rollout: Vec<f64>,
    /// |A x dL/dA| summed over layers, heads and positions, in nats.
    pub gradient: Vec<f64>,
}

impl Attention {
    /// Checks lists against each other and against a number of samples.
    pub(crate) fn check(&self, n_samples: usize) -> Result<(), ProblemError> {
        let lists = [
            ("even attention", &self.even),
            ("raw attention", &self.raw),
            ("rollout", &self.rollout),
            ("attention x gradient", &self.gradient),
        ];
        let lengths = lists.map(|(list, numbers)| (list, numbers.len()));
        let all = lengths
            .into_iter()
            .chain([("predictions", self.n_predictions.len())]);
        for (list, found) in all {
            if found != n_samples {
                return Err(ProblemError::Length {
                    list,
                    found,
                    wanted: n_samples,
                });
            }
        }
        let mut numbers = lists.iter().flat_map(|(_, numbers)| *numbers);
        if !numbers.all(|&number| number.is_finite() && number >= 0.0) {
            return Err(ProblemError::Attention(
                "a number is negative or not finite",
            ));
        }
        let mut seen = self.n_predictions.iter().zip(&self.even);
        if seen.any(|(&n, &even)| (n > 0) != (even > 0.0)) {
            return Err(ProblemError::Attention(
                "an event that no prediction sees gets some, or one that is seen gets none",
            ));
        }
        Ok(())
    }
}

/// Hidden states of samples and requests, and the vectors they are multiplied with to score items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HiddenStates {
    n_columns: usize,
    samples: Rows,
    requests: Rows,
    items: Vec<f32>,
    bias: Option<Vec<f32>>,
}

/// Hidden states that do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum HiddenStatesError {
    /// The file or a tensor in it could not be read.
    #[error("failed to read hidden states")]
    Tensors(#[from] TensorError),
    /// Numbers do not ascend, or there are more or fewer rows than numbers.
    #[error("tensor `{0}` does not fit the others")]
    Misfit(&'static str),
    /// A number is NaN or infinite.
    #[error("tensor `{0}` holds a number that is not finite")]
    NotFinite(&'static str),
}

impl HiddenStates {
    /// Reads a file of the layout of `tensors::hidden_layout`.
    ///
    /// # Errors
    /// If the file or a tensor is missing or damaged, or they do not fit together.
    pub fn load(path: &Path) -> Result<Self, HiddenStatesError> {
        let tensors = Tensors::load(path)?;
        let rows = |numbers: &str, values: &str| {
            Ok::<_, TensorError>(Rows {
                numbers: tensors.u32(numbers)?.to_vec(),
                values: tensors.f32(values)?.to_vec(),
            })
        };
        let bias = if tensors.contains(layout::ITEM_BIAS) {
            Some(tensors.f32(layout::ITEM_BIAS)?.to_vec())
        } else {
            None
        };
        let columns = tensors.shape(layout::ITEM_VECTOR)?.get(1).copied();
        Self::new(
            columns.unwrap_or(0),
            rows(layout::SAMPLE, layout::SAMPLE_STATE)?,
            rows(layout::REQUEST, layout::REQUEST_STATE)?,
            tensors.f32(layout::ITEM_VECTOR)?.to_vec(),
            bias,
        )
    }

    /// States of so many numbers: of samples by position, of requests by number, both ascending; a
    /// vector for each item of the vocabulary, and what is added to its score.
    ///
    /// # Errors
    /// If they do not fit together or a number is not finite.
    pub fn new(
        n_columns: usize,
        samples: Rows,
        requests: Rows,
        items: Vec<f32>,
        bias: Option<Vec<f32>>,
    ) -> Result<Self, HiddenStatesError> {
        for (name, rows) in [
            (layout::SAMPLE_STATE, &samples),
            (layout::REQUEST_STATE, &requests),
        ] {
            let wanted = rows.numbers.len().checked_mul(n_columns);
            let ascends = rows.numbers.is_sorted_by(|a, b| a < b);
            if wanted != Some(rows.values.len()) || !ascends {
                return Err(HiddenStatesError::Misfit(name));
            }
        }
        if n_columns == 0 || items.is_empty() || !items.len().is_multiple_of(n_columns) {
            return Err(HiddenStatesError::Misfit(layout::ITEM_VECTOR));
        }
        let biases = bias.as_deref().unwrap_or_default();
        if bias.is_some() && biases.len() != items.len() / n_columns {
            return Err(HiddenStatesError::Misfit(layout::ITEM_BIAS));
        }
        for (name, values) in [
            (layout::SAMPLE_STATE, samples.values.as_slice()),
            (layout::REQUEST_STATE, &requests.values),
            (layout::ITEM_VECTOR, &items),
            (layout::ITEM_BIAS, biases),
        ] {
            if values.iter().any(|value| !value.is_finite()) {
                return Err(HiddenStatesError::NotFinite(name));
            }
        }
        Ok(Self {
            n_columns,
            samples,
            requests,
            items,
            bias,
        })
    }

    /// Numbers in a state.
    pub fn n_columns(&self) -> usize {
        self.n_columns
    }

    /// Items of the vocabulary.
    pub fn n_items(&self) -> usize {
        self.items.len() / self.n_columns
    }

    /// States of samples, by position in the problem.
    pub fn samples(&self) -> &Rows {
        &self.samples
    }

    /// States of requests, by number.
    pub fn requests(&self) -> &Rows {
        &self.requests
    }

    /// The state of a request; `None` where it has none.
    pub fn request(&self, number: u32) -> Option<&[f32]> {
        let at = self.requests.numbers.binary_search(&number).ok()?;
        Some(&self.requests.values[at * self.n_columns..][..self.n_columns])
    }

    /// Vectors of items, one after the other.
    pub fn items(&self) -> &[f32] {
        &self.items
    }

    /// What is added to the score of each item.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// Vectors of items of length 1, or 0 for an item whose vector is zero.
    pub(crate) fn unit_items(&self) -> Vec<f32> {
        let rows = self.items.chunks_exact(self.n_columns);
        rows.flat_map(unit).collect()
    }
}

/// A row made 1 long, or zero if it is zero.
#[expect(
    clippy::cast_possible_truncation,
    reason = "numbers from -1 to 1 are rounded to 32 bits"
)]
pub(crate) fn unit(row: &[f32]) -> Vec<f32> {
    let square: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let scale = if square > 0.0 {
        1.0 / square.sqrt()
    } else {
        0.0
    };
    row.iter().map(|&x| (f64::from(x) * scale) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(numbers: &[u32], values: &[f32]) -> Rows {
        Rows {
            numbers: numbers.to_vec(),
            values: values.to_vec(),
        }
    }

    #[test]
    fn states_that_do_not_fit_together_are_refused_by_name() {
        let sound = rows(&[1, 4], &[1.0, 0.0, 0.0, 2.0]);
        let new = |samples: &Rows, requests: &Rows, items: &[f32], bias: Option<Vec<f32>>| {
            HiddenStates::new(2, samples.clone(), requests.clone(), items.to_vec(), bias)
                .map_err(|error| error.to_string())
        };
        assert!(new(&sound, &sound, &[1.0; 6], Some(vec![0.0; 3])).is_ok());
        let refused = |found: Result<HiddenStates, String>, name: &str| {
            let message = found.unwrap_err();
            assert!(message.contains(name), "{message}");
        };
        let turned = rows(&[4, 1], &sound.values);
        let short = rows(&[1, 4], &sound.values[..3]);
        let odd = rows(&[1, 4], &[1.0, f32::NAN, 0.0, 2.0]);
        for wrong in [&turned, &short, &odd] {
            refused(new(wrong, &sound, &[1.0; 6], None), "`sample_state`");
            refused(new(&sound, wrong, &[1.0; 6], None), "`request_state`");
        }
        refused(new(&sound, &sound, &[1.0; 5], None), "`item_vector`");
        refused(new(&sound, &sound, &[], None), "`item_vector`");
        refused(
            new(&sound, &sound, &[1.0; 6], Some(vec![0.0])),
            "`item_bias`",
        );
    }

    #[test]
    fn attention_that_makes_no_sense_is_refused() {
        let sound = Attention {
            n_predictions: vec![0, 2],
            even: vec![0.0, 0.5],
            raw: vec![0.0, 0.25],
            rollout: vec![0.0, 0.75],
            gradient: vec![0.0, 0.0],
        };
        assert_eq!(sound.check(2), Ok(()));
        assert!(sound.check(3).is_err());
        for change in [
            (|one| one.raw[1] = -0.5) as fn(&mut Attention),
            |one| one.rollout[1] = f64::NAN,
            |one| one.even[1] = 0.0,
            |one| one.n_predictions[1] = 0,
            |one| one.gradient.truncate(1),
        ] {
            let mut wrong = sound.clone();
            change(&mut wrong);
            assert!(wrong.check(2).is_err());
        }
    }
}
