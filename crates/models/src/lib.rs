//! Rankers: traits, registry, and one file for each model.
//!
//! A model fits from weighted samples over sequences, scores every item for a history, and says
//! what it can give beyond that: losses, counts, transitions. It knows neither files of tables nor
//! requests; the stage `train` does.

mod card;
mod cells;
mod counts;
mod data;
mod directions;
mod exchange;
mod factorisation;
mod factors;
mod features;
mod gradient_rows;
mod history;
mod inside;
mod recommender;
mod recommenders;
mod representations;
mod run;
mod sequence;
mod tf_idf;
mod tokens;
mod unrolled;

pub use card::{Card, CardError, CardErrorKind, load, save};
pub use data::{DataError, Samples, TrainingData};
pub use directions::{Along, BlockCard, Damped, Direction, Labels, Preconditioner, Update};
pub use exchange::{Exchange, Exchanged};
pub use factorisation::{FactorGradients, FactorInfluence};
pub use features::{
    Attributed, Attribution, ExchangedFeatures, ExchangedItems, FeatureGroup, FeatureWeights,
    InputGradients, TakeExchanged,
};
pub use gradient_rows::{Basis, GradientLayer, GradientRows, Measure, Projection};
pub use history::{History, Sequences};
pub use inside::{
    AskedRequest, AttentionMaps, HiddenRows, HiddenStates, ItemVectors, Predictions, Received,
};
pub use recommender::{
    Capability, Entry, FeatureName, FitError, LoadError, LossGradients, Losses, Model, Parameter,
    ParameterError, Recommender, SampleGradient, TargetGradient, UnknownModel, entry,
};
pub use recommenders::REGISTRY;
pub use representations::Representations;
pub use run::{Checkpoint, Epoch, Observer, Run};
/// Where a run's chance comes from.
pub use seed::Seed;
/// What models are saved as and made of.
pub use tensors::{Csr, CsrError, TensorError, Tensors, hidden_layout, projected_layout};
pub use tf_idf::{Features, Weights};
pub use tokens::tokens;
pub use unrolled::{UnrollError, Unrolled, Unrolling};

#[cfg(test)]
mod conformance;
