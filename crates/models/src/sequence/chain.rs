//! What followed the last item, counted, mixed into what a network says: a named ensemble.
//!
//! With `a` the last item of the history, `M_ai` the weighted count of targets i after `a`, `M_a`
//! their sum, `p_i` the smoothed share of the model `popularity` and `q_i` the probability that the
//! network gives:
//!
//! ```text
//! p(i) = (1 - l_a) q_i + l_a (M_ai + p_i) / (M_a + 1)      l_a = chain * M_a / (M_a + chain_strength)
//! ```
//!
//! Both parts sum to one over the vocabulary, so p does. An item that nothing followed is left to
//! the network. The counts are those of the model `markov`; the network is trained as without them.

use tensors::{CsrError, TensorError, Tensors};

use super::training::Training;
use crate::counts::{Counts, Transitions};
use crate::data::TrainingData;
use crate::recommender::LoadError;

const NAME: &str = "chain";

/// Counted transitions and how far they are trusted.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    transitions: Transitions,
    /// The largest share, in (0, 1).
    share: f64,
    /// The count at which half of it is given.
    strength: f64,
}

/// What the chain knows after one item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link<'c> {
    counts: &'c Counts,
    items: &'c [u32],
    weights: &'c [f64],
    /// `M_a`.
    total: f64,
    /// `l_a`, 0 where nothing followed.
    share: f64,
}

impl Chain {
    /// The chain that parameters ask for.
    ///
    /// # Errors
    /// If a count is more than a 64-bit float holds.
    pub(super) fn of(
        training: &Training,
        data: &TrainingData<'_>,
    ) -> Result<Option<Self>, CsrError> {
        if training.chain <= 0.0 {
            return Ok(None);
        }
        Ok(Some(Self {
            transitions: Transitions::of(data)?,
            share: training.chain,
            strength: training.chain_strength,
        }))
    }

    /// What is known after an item of the vocabulary. `counts` are those of the same samples.
    pub(super) fn after<'c>(&'c self, counts: &'c Counts, last: u32) -> Link<'c> {
        let (items, weights) = self.transitions.after(last);
        let total = self.transitions.total(last);
        let share = if total > 0.0 {
            self.share * total / (total + self.strength)
        } else {
            0.0
        };
        Link {
            counts,
            items,
            weights,
            total,
            share,
        }
    }

    /// Adds the chain to tensors.
    pub(super) fn save(&self, tensors: &mut Tensors) -> Result<(), TensorError> {
        tensors.insert_f64(NAME, &[2], vec![self.share, self.strength])?;
        self.transitions.save(tensors)
    }

    /// Takes the chain over a vocabulary of `n` items from tensors, if there is one.
    ///
    /// # Errors
    /// If a part is missing or does not fit the others.
    pub(super) fn load(tensors: &Tensors, n: usize) -> Result<Option<Self>, LoadError> {
        if !tensors.contains(NAME) {
            return Ok(None);
        }
        let &[share, strength] = tensors.f64(NAME)? else {
            return Err(LoadError::Sizes {
                left: NAME,
                right: "transitions",
            });
        };
        Ok(Some(Self {
            transitions: Transitions::load(tensors, n)?,
            share,
            strength,
        }))
    }
}

impl Link<'_> {
    /// p of an item of the vocabulary to which the network gives `q`.
    pub(super) fn mix(&self, q: f64, item: u32) -> f64 {
        let count = self
            .items
            .binary_search(&item)
            .map_or(0.0, |at| self.weights[at]);
        let chained = (count + self.counts.share(item)) / (self.total + 1.0);
        (1.0 - self.share) * q + self.share * chained
    }

    /// p of all items of the vocabulary, to which the network gives `exponentials / sum`.
    pub(super) fn write(&self, exponentials: &[f32], sum: f64, all: &mut [f64]) {
        let of_network = (1.0 - self.share) / sum;
        let of_counts = self.share / (self.total + 1.0);
        self.counts.write_shares(all);
        for (p, &x) in all.iter_mut().zip(exponentials) {
            *p = f64::from(x) * of_network + *p * of_counts;
        }
        for (&item, weight) in self.items.iter().zip(self.weights) {
            if let Some(p) = all.get_mut(item as usize) {
                *p += weight * of_counts;
            }
        }
    }
}
