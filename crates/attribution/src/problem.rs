//! What a method may look at.

use std::path::Path;
use std::sync::Arc;

use tensors::{Csr, TensorError, Tensors};

use crate::directions::Directions;
use crate::gradients::Gradients;
use crate::inside::{Attention, HiddenStates};
use crate::projected::Projected;
use crate::reweighting::{self, BlockInfluence, Unrolled};

/// A training set, a target, and what is known of a model. A capability that is missing is `None`.
pub trait Problem: Sync {
    /// The training samples; there are always some facts about each.
    fn samples(&self) -> &Samples;
    /// What importance is measured against.
    fn target(&self) -> &Target;
    /// Requests that no score is measured against, to choose settings by.
    fn held_out(&self) -> Option<&Target> {
        None
    }
    /// Feature vectors of histories and items.
    fn representations(&self) -> Option<&Representations> {
        None
    }
    /// Loss of each sample under the fitted model.
    fn losses(&self) -> Option<&Losses> {
        None
    }
    /// What a count model counted.
    fn counts(&self) -> Option<&Counts> {
        None
    }
    /// Gradients of losses at the fitted model, or along its training.
    fn gradients(&self) -> Option<&Gradients> {
        None
    }
    /// Gradients of losses, one row each.
    fn projected(&self) -> Option<&dyn Projected> {
        None
    }
    /// Gradients of losses under preconditioners.
    fn directions(&self) -> Option<&Directions> {
        None
    }
    /// How much predictions look at the event of each sample.
    fn attention(&self) -> Option<&Attention> {
        None
    }
    /// What histories become before items are scored.
    fn hidden_states(&self) -> Option<&HiddenStates> {
        None
    }
    /// Influence through the vectors of one user and one item alone.
    fn block_influence(&self) -> Option<&BlockInfluence> {
        None
    }
    /// What the weight of each sample did to the target, through the training.
    fn unrolled(&self) -> Option<&Unrolled> {
        None
    }
}

/// Facts about every training sample; the lists run parallel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Identity; distinct.
    pub id: Vec<u64>,
    /// Sequence that holds the history: a user.
    pub sequence: Vec<u32>,
    /// Target item.
    pub item: Vec<u32>,
    /// Events in the history.
    pub history_length: Vec<u32>,
    /// Item of the last event of the history; `None` where it is empty.
    pub last_item: Vec<Option<u32>>,
    /// Row of the history in [`Representations::histories`].
    pub history_row: Vec<u32>,
    /// Instant in milliseconds since 1970 UTC; `None` where the log has only an order.
    pub occurred_at: Vec<Option<i64>>,
    /// Weight in training; finite and not negative.
    pub weight: Vec<f64>,
}

impl Samples {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.id.is_empty()
    }
}

/// The mean loss over requests: each request weighs the same, and so does each of its relevant items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// Requests with at least one relevant item.
    pub requests: Vec<Request>,
}

impl Target {
    /// Number of (request, relevant item) pairs.
    pub fn n_terms(&self) -> usize {
        self.requests
            .iter()
            .map(|request| request.relevant.len())
            .sum()
    }
}

/// One request of the target.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Its number, for messages.
    pub request: u32,
    /// Item of the last event of the history; `None` where it is empty.
    pub last_item: Option<u32>,
    /// Row of the history in [`Representations::histories`].
    pub history_row: u32,
    /// Relevant items, ascending and distinct.
    pub relevant: Vec<u32>,
    /// Loss of each relevant item under the fitted model, where the model gives losses.
    pub losses: Option<Vec<f64>>,
}

/// Unit vectors, or empty rows for what has no features.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Representations {
    /// One row per distinct history: `[histories, features]`.
    pub histories: Csr,
    /// One row per catalogue item: `[items, features]`.
    pub items: Csr,
}

/// Why representations could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RepresentationsError {
    /// The file or a tensor in it could not be read.
    #[error("failed to read representations")]
    Tensors(#[from] TensorError),
    /// A row is neither empty nor of length one.
    #[error("row {row} of `{matrix}` has length {norm}, wanted 1 or an empty row")]
    Norm {
        /// The matrix.
        matrix: &'static str,
        /// Its row.
        row: usize,
        /// Euclidean length found.
        norm: f64,
    },
}

/// How far the length of a unit vector in 32-bit floats may be from 1.
const NORM_TOLERANCE: f64 = 1e-4;

impl Representations {
    /// Reads the matrices `histories` and `items` of a safetensors file.
    ///
    /// # Errors
    /// If the file or a matrix is missing or damaged, or a row is neither empty nor of length one.
    pub fn load(path: &Path) -> Result<Self, RepresentationsError> {
        let tensors = Tensors::load(path)?;
        Self::new(tensors.csr("histories")?, tensors.csr("items")?)
    }

    /// Checks that rows are unit vectors or empty, so that dot products are cosines.
    ///
    /// # Errors
    /// If one is not.
    pub fn new(histories: Csr, items: Csr) -> Result<Self, RepresentationsError> {
        for (matrix, rows) in [("histories", &histories), ("items", &items)] {
            for row in 0..rows.n_rows() {
                let (columns, values) = rows.row(row);
                let norm = values
                    .iter()
                    .map(|&value| f64::from(value).powi(2))
                    .sum::<f64>()
                    .sqrt();
                if !columns.is_empty() && (norm - 1.0).abs() > NORM_TOLERANCE {
                    return Err(RepresentationsError::Norm { matrix, row, norm });
                }
            }
        }
        Ok(Self { histories, items })
    }
}

/// Loss of each sample under the fitted model; `None` where the model gives it none.
pub type Losses = Vec<Option<f64>>;

/// What a count model counted: sums of sample weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// By target item, over the vocabulary; zeros included.
    pub item: Vec<f64>,
    /// By (last item of the history, target item), ascending; `None` for a model without transitions.
    pub transitions: Option<Vec<Transition>>,
}

/// Weighted count of one transition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transition {
    /// Last item of the history.
    pub from: u32,
    /// Target item.
    pub to: u32,
    /// Sum of sample weights.
    pub weight: f64,
}

/// A problem held in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InMemory {
    samples: Samples,
    target: Target,
    held_out: Option<Target>,
    representations: Option<Representations>,
    losses: Option<Losses>,
    counts: Option<Counts>,
    gradients: Option<Gradients>,
    directions: Option<Directions>,
    projected: Option<Shared>,
    attention: Option<Attention>,
    hidden_states: Option<HiddenStates>,
    block_influence: Option<BlockInfluence>,
    unrolled: Option<Unrolled>,
}

/// Projected gradients that are equal to themselves alone: to compare more, all would have to be read.
#[derive(Clone, Debug)]
struct Shared(Arc<dyn Projected>);

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.0), Arc::as_ptr(&other.0))
    }
}

/// What makes parts no problem.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProblemError {
    /// A list is shorter or longer than the number of samples.
    #[error("`{list}` has {found} entries for {wanted} samples")]
    Length {
        /// The list.
        list: &'static str,
        /// Its length.
        found: usize,
        /// Number of samples.
        wanted: usize,
    },
    /// Two samples have the same identity.
    #[error("sample {0} occurs twice")]
    Repeated(u64),
    /// A weight is negative, NaN or infinite.
    #[error("sample {sample_id} has weight {weight}")]
    Weight {
        /// The sample.
        sample_id: u64,
        /// Its weight.
        weight: f64,
    },
    /// A loss is NaN or infinite.
    #[error("sample {0} has a loss that is not finite")]
    Loss(u64),
    /// A request without relevant items, or with items that are not ascending and distinct.
    #[error("request {0} has no relevant items, or they are not ascending and distinct")]
    Relevant(u32),
    /// A request whose losses do not run parallel to its relevant items, or are not finite.
    #[error("request {0} has losses that do not fit its relevant items")]
    RequestLosses(u32),
    /// A sample or request points outside a matrix of the representations.
    #[error("{what} points at row {row} of `{matrix}`, which has {n_rows}")]
    Row {
        /// Who points.
        what: String,
        /// The matrix.
        matrix: &'static str,
        /// The row.
        row: u32,
        /// Rows there are.
        n_rows: usize,
    },
    /// Counts that are negative or not finite, or transitions that do not ascend.
    #[error("{0}")]
    Counts(&'static str),
    /// Gradients that do not fit together.
    #[error("gradients do not fit together: {0}")]
    Gradients(&'static str),
    /// Gradients under preconditioners that do not fit together.
    #[error("directions do not fit together: {0}")]
    Directions(&'static str),
    /// Attention that makes no sense.
    #[error("wrong attention: {0}")]
    Attention(&'static str),
}

impl InMemory {
    /// A problem without optional capabilities.
    ///
    /// # Errors
    /// If lists differ in length, an identity is repeated, a weight is negative or not finite, or
    /// the relevant items or losses of a request do not fit.
    pub fn new(samples: Samples, target: Target) -> Result<Self, ProblemError> {
        check_samples(&samples)?;
        check_target(&target)?;
        Ok(Self {
            samples,
            target,
            ..Self::default()
        })
    }

    /// Adds requests that no score is measured against.
    ///
    /// # Errors
    /// If relevant items or losses of one do not fit, or it points outside the representations.
    pub fn with_held_out(mut self, target: Target) -> Result<Self, ProblemError> {
        check_target(&target)?;
        self.held_out = Some(target);
        match self.representations.take() {
            Some(representations) => self.with_representations(representations),
            None => Ok(self),
        }
    }

    /// Adds representations.
    ///
    /// # Errors
    /// If a sample or request points outside them.
    pub fn with_representations(
        mut self,
        representations: Representations,
    ) -> Result<Self, ProblemError> {
        let n_histories = representations.histories.n_rows();
        let n_items = representations.items.n_rows();
        let outside = |what: String, matrix, row: u32, n_rows: usize| {
            if (row as usize) < n_rows {
                return Ok(());
            }
            Err(ProblemError::Row {
                what,
                matrix,
                row,
                n_rows,
            })
        };
        let samples = &self.samples;
        for (index, id) in samples.id.iter().enumerate() {
            let what = || format!("sample {id}");
            // Names are made for the one that fails, not for each.
            if samples.history_row[index] as usize >= n_histories {
                outside(what(), "histories", samples.history_row[index], n_histories)?;
            }
            if samples.item[index] as usize >= n_items {
                outside(what(), "items", samples.item[index], n_items)?;
            }
        }
        let held_out = self.held_out.iter().flat_map(|target| &target.requests);
        for request in self.target.requests.iter().chain(held_out) {
            outside(
                format!("request {}", request.request),
                "histories",
                request.history_row,
                n_histories,
            )?;
        }
        self.representations = Some(representations);
        Ok(self)
    }

    /// Adds the loss of each sample.
    ///
    /// # Errors
    /// If there are more or fewer than samples, or one is not finite.
    pub fn with_losses(mut self, losses: Losses) -> Result<Self, ProblemError> {
        if losses.len() != self.samples.len() {
            return Err(ProblemError::Length {
                list: "losses",
                found: losses.len(),
                wanted: self.samples.len(),
            });
        }
        let odd = losses
            .iter()
            .position(|loss| loss.is_some_and(|loss| !loss.is_finite()));
        if let Some(index) = odd {
            return Err(ProblemError::Loss(self.samples.id[index]));
        }
        self.losses = Some(losses);
        Ok(self)
    }

    /// Adds what a count model counted.
    ///
    /// # Errors
    /// If a count is negative or not finite, or transitions do not ascend.
    pub fn with_counts(mut self, counts: Counts) -> Result<Self, ProblemError> {
        let is_count = |weight: f64| weight.is_finite() && weight >= 0.0;
        if !counts.item.iter().all(|&weight| is_count(weight)) {
            return Err(ProblemError::Counts(
                "an item's count is negative or not finite",
            ));
        }
        if let Some(transitions) = &counts.transitions {
            if !transitions.iter().all(|entry| is_count(entry.weight)) {
                return Err(ProblemError::Counts(
                    "a transition's count is negative or not finite",
                ));
            }
            if !transitions.is_sorted_by(|a, b| (a.from, a.to) < (b.from, b.to)) {
                return Err(ProblemError::Counts(
                    "transitions are not ascending and distinct",
                ));
            }
        }
        self.counts = Some(counts);
        Ok(self)
    }

    /// Adds gradients.
    ///
    /// # Errors
    /// If there are more or fewer than samples.
    pub fn with_gradients(mut self, gradients: Gradients) -> Result<Self, ProblemError> {
        if gradients.n_samples() != self.samples.len() {
            return Err(ProblemError::Length {
                list: "gradients",
                found: gradients.n_samples(),
                wanted: self.samples.len(),
            });
        }
        self.gradients = Some(gradients);
        Ok(self)
    }

    /// Adds gradients under preconditioners.
    ///
    /// # Errors
    /// If there are more or fewer than samples.
    pub fn with_directions(mut self, directions: Directions) -> Result<Self, ProblemError> {
        let wanted = self.samples.len();
        if let Some(found) = directions.n_samples().filter(|&found| found != wanted) {
            return Err(ProblemError::Length {
                list: "directions",
                found,
                wanted,
            });
        }
        self.directions = Some(directions);
        Ok(self)
    }

    /// Adds projected gradients.
    ///
    /// # Errors
    /// If they speak of more or fewer samples.
    pub fn with_projected(mut self, projected: Arc<dyn Projected>) -> Result<Self, ProblemError> {
        if projected.n_samples() != self.samples.len() {
            return Err(ProblemError::Length {
                list: "projected gradients",
                found: projected.n_samples(),
                wanted: self.samples.len(),
            });
        }
        self.projected = Some(Shared(projected));
        Ok(self)
    }

    /// Adds the attention that events receive.
    ///
    /// # Errors
    /// If lists are longer or shorter than the samples, or numbers make no sense.
    pub fn with_attention(mut self, attention: Attention) -> Result<Self, ProblemError> {
        attention.check(self.samples.len())?;
        self.attention = Some(attention);
        Ok(self)
    }

    /// Adds hidden states.
    ///
    /// # Errors
    /// If there is one of a sample that the problem does not have.
    pub fn with_hidden_states(mut self, states: HiddenStates) -> Result<Self, ProblemError> {
        let wanted = self.samples.len();
        // Positions ascend.
        let found = states.samples().numbers.last();
        let found = found.map_or(0, |&last| last as usize + 1);
        if found > wanted {
            return Err(ProblemError::Length {
                list: "hidden states",
                found,
                wanted,
            });
        }
        self.hidden_states = Some(states);
        Ok(self)
    }

    /// Adds influences within the blocks of a factorisation.
    ///
    /// # Errors
    /// If there are more or fewer than samples, one is not finite or known in part.
    pub fn with_block_influence(mut self, found: BlockInfluence) -> Result<Self, ProblemError> {
        found.check(self.samples.len())?;
        self.block_influence = Some(found);
        Ok(self)
    }

    /// Adds the derivative of the training.
    ///
    /// # Errors
    /// If there are more or fewer than samples, or one is not finite.
    pub fn with_unrolled(mut self, found: Unrolled) -> Result<Self, ProblemError> {
        reweighting::check("derivatives of the training", &found, self.samples.len())?;
        self.unrolled = Some(found);
        Ok(self)
    }
}

fn check_target(target: &Target) -> Result<(), ProblemError> {
    for request in &target.requests {
        let number = request.request;
        if request.relevant.is_empty() || !request.relevant.is_sorted_by(|a, b| a < b) {
            return Err(ProblemError::Relevant(number));
        }
        if request.losses.as_ref().is_some_and(|losses| {
            losses.len() != request.relevant.len() || losses.iter().any(|loss| !loss.is_finite())
        }) {
            return Err(ProblemError::RequestLosses(number));
        }
    }
    Ok(())
}

fn check_samples(samples: &Samples) -> Result<(), ProblemError> {
    let wanted = samples.len();
    for (list, found) in [
        ("sequence", samples.sequence.len()),
        ("item", samples.item.len()),
        ("history_length", samples.history_length.len()),
        ("last_item", samples.last_item.len()),
        ("history_row", samples.history_row.len()),
        ("occurred_at", samples.occurred_at.len()),
        ("weight", samples.weight.len()),
    ] {
        if found != wanted {
            return Err(ProblemError::Length {
                list,
                found,
                wanted,
            });
        }
    }
    let mut ids = samples.id.clone();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(ProblemError::Repeated(pair[0]));
    }
    for (&sample_id, &weight) in samples.id.iter().zip(&samples.weight) {
        if !weight.is_finite() || weight < 0.0 {
            return Err(ProblemError::Weight { sample_id, weight });
        }
    }
    Ok(())
}

impl Problem for InMemory {
    fn samples(&self) -> &Samples {
        &self.samples
    }

    fn target(&self) -> &Target {
        &self.target
    }

    fn held_out(&self) -> Option<&Target> {
        self.held_out.as_ref()
    }

    fn representations(&self) -> Option<&Representations> {
        self.representations.as_ref()
    }

    fn losses(&self) -> Option<&Losses> {
        self.losses.as_ref()
    }

    fn counts(&self) -> Option<&Counts> {
        self.counts.as_ref()
    }

    fn gradients(&self) -> Option<&Gradients> {
        self.gradients.as_ref()
    }

    fn directions(&self) -> Option<&Directions> {
        self.directions.as_ref()
    }

    fn projected(&self) -> Option<&dyn Projected> {
        self.projected.as_ref().map(|shared| &*shared.0)
    }

    fn attention(&self) -> Option<&Attention> {
        self.attention.as_ref()
    }

    fn hidden_states(&self) -> Option<&HiddenStates> {
        self.hidden_states.as_ref()
    }

    fn block_influence(&self) -> Option<&BlockInfluence> {
        self.block_influence.as_ref()
    }

    fn unrolled(&self) -> Option<&Unrolled> {
        self.unrolled.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let samples = Samples {
            id: vec![1, 2],
            sequence: vec![0, 0],
            item: vec![0, 1],
            history_length: vec![0, 1],
            last_item: vec![None, Some(0)],
            history_row: vec![0, 1],
            occurred_at: vec![None, None],
            weight: vec![1.0, 1.0],
        };
        let target = Target {
            requests: vec![Request {
                request: 7,
                last_item: Some(1),
                history_row: 1,
                relevant: vec![0, 2],
                losses: None,
            }],
        };
        let sound = InMemory::new(samples.clone(), target.clone()).unwrap();

        let mut wrong = samples.clone();
        wrong.weight.pop();
        assert!(InMemory::new(wrong, target.clone()).is_err());
        let mut wrong = samples.clone();
        wrong.id[1] = 1;
        assert_eq!(
            InMemory::new(wrong, target.clone()),
            Err(ProblemError::Repeated(1))
        );
        let mut wrong = samples.clone();
        wrong.weight[0] = f64::NAN;
        assert!(InMemory::new(wrong, target.clone()).is_err());
        let mut wrong = target.clone();
        wrong.requests[0].relevant = vec![2, 2];
        assert_eq!(
            InMemory::new(samples.clone(), wrong),
            Err(ProblemError::Relevant(7))
        );
        let mut wrong = target;
        wrong.requests[0].losses = Some(vec![0.5]);
        assert_eq!(
            InMemory::new(samples, wrong),
            Err(ProblemError::RequestLosses(7))
        );

        let row = |value: f32| vec![(0_u32, value)];
        let two = Csr::from_rows(1, [row(1.0), row(1.0)]).unwrap();
        let one = Csr::from_rows(1, [row(1.0)]).unwrap();
        assert!(Representations::new(two.clone(), Csr::from_rows(1, [row(2.0)]).unwrap()).is_err());
        let narrow = Representations::new(two.clone(), one).unwrap();
        assert!(sound.clone().with_representations(narrow).is_err());
        let fitting = Representations::new(two.clone(), two).unwrap();
        assert!(sound.clone().with_representations(fitting).is_ok());
        assert!(sound.clone().with_losses(vec![None]).is_err());
        assert!(
            sound
                .clone()
                .with_losses(vec![None, Some(f64::INFINITY)])
                .is_err()
        );
        let transition = |from, to| Transition {
            from,
            to,
            weight: 1.0,
        };
        let counts = Counts {
            item: vec![1.0, 1.0],
            transitions: Some(vec![transition(1, 0), transition(0, 1)]),
        };
        assert!(sound.with_counts(counts).is_err());
    }
}
