//! What all sequence recommenders share: windows over sequences, batches of them, the training
//! loop, the model that a trained network makes.

mod adam;
mod along;
mod attributions;
mod batches;
mod chain;
mod fisher;
mod gradients;
mod inside;
mod kronecker;
mod model;
mod network;
mod objective;
mod projection;
mod projector;
pub(crate) mod shape;
mod side;
mod state;
mod trainer;
pub(crate) mod training;
mod transformer;
mod views;
mod windows;

pub(crate) use adam::AdamState;
pub(crate) use batches::Batch;
pub(crate) use kronecker::Rotation;
pub(crate) use model::SequenceModel;
pub(crate) use network::{Network, Output};
pub(crate) use objective::{Objective, ObjectiveKind};
pub(crate) use side::{INPUTS, Inputs, Side, SideShape};
pub(crate) use trainer::train;
pub(crate) use training::Training;
pub(crate) use transformer::{Transformer, TransformerSettings};
pub(crate) use windows::{Span, Term, Window, Windows};

/// Makes a tuple struct around a [`SequenceModel`] a [`crate::Model`].
macro_rules! delegate_model {
    ($model:ty) => {
        impl crate::recommender::Model for $model {
            fn score(&self, user: Option<u32>, history: crate::History<'_>, scores: &mut [f64]) {
                self.0.score(user, history, scores);
            }

            fn score_block(
                &self,
                requests: &[(Option<u32>, crate::History<'_>)],
                scores: &mut [f64],
            ) {
                self.0.score_block(requests, scores);
            }

            fn losses(&self) -> Option<&dyn crate::recommender::Losses> {
                self.0.losses()
            }

            fn gradients(&self) -> Option<&dyn crate::recommender::LossGradients> {
                Some(&self.0)
            }

            fn attention(&self) -> Option<&dyn crate::inside::AttentionMaps> {
                self.0.attention_maps()
            }

            fn hidden_states(&self) -> Option<&dyn crate::inside::HiddenStates> {
                Some(&self.0)
            }

            fn input_gradients(&self) -> Option<&dyn crate::features::InputGradients> {
                Some(&self.0)
            }

            fn exchanged_items(&self) -> Option<&dyn crate::features::ExchangedItems> {
                Some(&self.0)
            }

            fn steps(&self) -> Option<u64> {
                self.0.steps()
            }

            fn save(&self) -> Result<tensors::Tensors, tensors::TensorError> {
                self.0.save()
            }
        }
    };
}
pub(crate) use delegate_model;

#[cfg(test)]
pub(crate) mod tests;
