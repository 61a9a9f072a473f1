//! Every method: one file each, and two lines here.

mod duplicates;
mod gradient_cosine;
mod gradient_dot;
mod gradient_norm;
mod history_length;
mod knn_density;
mod knn_shapley;
mod leave_one_out;
mod loss;
mod popularity;
mod random;
mod recency;
mod self_influence;
mod tracin;

use serde::{Deserialize, Serialize};

use crate::registry::Entry;

/// All methods, by name.
pub static METHODS: &[Entry] = &[
    Entry::of::<duplicates::Duplicates>(),
    Entry::of::<gradient_cosine::GradientCosine>(),
    Entry::of::<gradient_dot::GradientDot>(),
    Entry::of::<gradient_norm::GradientNorm>(),
    Entry::of::<history_length::HistoryLength>(),
    Entry::of::<knn_density::KnnDensity>(),
    Entry::of::<knn_shapley::KnnShapley>(),
    Entry::of::<leave_one_out::LeaveOneOut>(),
    Entry::of::<loss::Loss>(),
    Entry::of::<popularity::Popularity>(),
    Entry::of::<random::Random>(),
    Entry::of::<recency::Recency>(),
    Entry::of::<self_influence::SelfInfluence>(),
    Entry::of::<tracin::Tracin>(),
];

/// The parameters of a method that has none.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParams {}
