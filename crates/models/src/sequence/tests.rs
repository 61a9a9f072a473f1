//! Laws of every sequence model. All go over the registry, so that no model can be left out; those
//! of networks are also called by the tests of each model's file, in shapes of its own.

mod factors;
mod laws;
mod networks;
mod training;

pub(crate) use laws::examine;
pub(crate) use networks::{causal, linear_in_samples, reaches_every_parameter};

use crate::conformance::log;
use crate::{Samples, Sequences};

/// Sequences with repeated items and of several lengths, some longer than a window of 6.
pub(crate) fn sequences(weight: impl Fn(usize) -> f64) -> (Samples, Sequences) {
    let items: Vec<Vec<u32>> = (0..12_u32)
        .map(|user| {
            (0..2 + user)
                .map(|at| (user * 5 + at * (at + 3)) % 20)
                .collect()
        })
        .collect();
    let mut n = 0;
    let weights: Vec<Vec<f64>> = items
        .iter()
        .map(|items| {
            items
                .iter()
                .map(|_| {
                    n += 1;
                    weight(n - 1)
                })
                .collect()
        })
        .collect();
    let logs: Vec<(&[u32], &[f64])> = items
        .iter()
        .zip(&weights)
        .map(|(items, weights)| (items.as_slice(), weights.as_slice()))
        .collect();
    log(&logs)
}

/// Size of the vocabulary of [`sequences`].
pub(crate) const N_ITEMS: usize = 20;
