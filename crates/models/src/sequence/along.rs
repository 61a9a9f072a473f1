//! How the gradients of samples lie to a direction.

use super::fisher::self_products;
use super::gradients::Factors;
use crate::directions::{Along, Direction, Own};

impl Factors<'_> {
    /// All samples along one direction; rows are merged.
    pub(super) fn along(&self, direction: &Direction) -> Vec<Along> {
        let found = self.finish(&direction.gradient).into_iter();
        let mut found: Vec<Along> = found
            .map(|sample| Along {
                product: sample.target_product,
                ..Along::default()
            })
            .collect();
        match &direction.own {
            Own::Turned { rotations, weights } => {
                let own = self_products(self, rotations, weights);
                for (found, own) in found.iter_mut().zip(own) {
                    found.self_product = Some(own);
                }
            }
            Own::Adam(state) => {
                for (found, update) in found.iter_mut().zip(state.updates(self)) {
                    found.update = Some(update);
                }
            }
        }
        found
    }
}
