//! Importance of training samples: what a method may look at, what it gives, and every method.
//!
//! A [`Problem`] offers capabilities, an [`Estimator`] turns them into [`Scores`]. **Positive =
//! helpful**: training on the sample lowers the target loss. A method that knows only a magnitude
//! says so and names the end of its scale that is suspicious.
//!
//! Adding a method is one file in `methods/` and two lines in `methods/mod.rs`; configuration
//! checks, `describe`, the table of methods and the conformance suite come with the entry.
//!
//! This crate sees no tables and no models: the stage `estimate` fills a [`Problem`].

#[cfg(test)]
mod conformance;
mod curvature;
mod directed;
mod directions;
mod estimator;
mod gradients;
mod held_out;
mod histories;
mod inside;
mod methods;
pub mod nearest;
mod problem;
mod projected;
mod registry;
mod reweighting;
mod softmax_head;
mod space;
#[cfg(test)]
mod toy;

pub use directed::{Asked, Influential, OfRequest};
pub use directions::{Directed, Directions, Preconditioner};
pub use estimator::{
    Estimator, EstimatorError, Family, Need, OnProgress, Parameter, ParameterError,
    ParameterErrorKind, Scale, Scores, Suspect, Work,
};
pub use gradients::{Gradients, State};
pub use held_out::HeldOut;
pub use inside::{Attention, HiddenStates, HiddenStatesError};
pub use methods::METHODS;
pub use problem::{
    Counts, InMemory, Losses, Problem, ProblemError, Representations, RepresentationsError,
    Request, Samples, Target, Transition,
};
pub use projected::{
    InMemoryProjected, Layer, Projected, ProjectedError, ProjectedRows, ProjectedState, Rows,
    Stored, VisitRows, VisitSamples,
};
pub use registry::{Entry, Prepared, find};
pub use reweighting::{BlockInfluence, Unrolled};
/// The seed tree that [`Prepared::estimate`] takes its chance from.
pub use seed::Seed;
/// Where a probe keeps hidden states.
pub use tensors::hidden_layout;
