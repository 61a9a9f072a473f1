//! Every method: one file each, and two lines here.

mod datainf;
mod duplicates;
mod ekfac;
mod el2n;
#[cfg(test)]
mod exactness;
mod fast_influence;
mod gradient_cosine;
mod gradient_dot;
mod gradient_norm;
mod history_length;
mod influence;
mod kfac;
mod knn_density;
mod knn_shapley;
mod leave_one_out;
mod less;
mod leverage;
mod logra;
mod loss;
#[cfg(test)]
mod one_request;
mod popularity;
mod projected_dot;
mod random;
mod received_attention;
mod recency;
mod relat_if;
mod representer_points;
mod retrieval_attention;
mod self_influence;
mod tracin;
mod tracin_adam;
mod trak;
mod unrolled;

use serde::{Deserialize, Serialize};

use crate::registry::Entry;

/// All methods, by name.
pub static METHODS: &[Entry] = &[
    Entry::of::<datainf::DataInf>(),
    Entry::of::<duplicates::Duplicates>(),
    Entry::of::<ekfac::Ekfac>(),
    Entry::of::<el2n::El2n>(),
    Entry::of::<fast_influence::FastInfluence>(),
    Entry::of::<gradient_cosine::GradientCosine>(),
    Entry::of::<gradient_dot::GradientDot>(),
    Entry::of::<gradient_norm::GradientNorm>(),
    Entry::of::<history_length::HistoryLength>(),
    Entry::of::<influence::Influence>(),
    Entry::of::<kfac::Kfac>(),
    Entry::of::<knn_density::KnnDensity>(),
    Entry::of::<knn_shapley::KnnShapley>(),
    Entry::of::<leave_one_out::LeaveOneOut>(),
    Entry::of::<less::Less>(),
    Entry::of::<leverage::Leverage>(),
    Entry::of::<logra::Logra>(),
    Entry::of::<loss::Loss>(),
    Entry::of::<popularity::Popularity>(),
    Entry::of::<projected_dot::ProjectedDot>(),
    Entry::of::<random::Random>(),
    Entry::of::<received_attention::ReceivedAttention>(),
    Entry::of::<recency::Recency>(),
    Entry::of::<relat_if::RelatIf>(),
    Entry::of::<representer_points::RepresenterPoints>(),
    Entry::of::<retrieval_attention::RetrievalAttention>(),
    Entry::of::<self_influence::SelfInfluence>(),
    Entry::of::<tracin::Tracin>(),
    Entry::of::<tracin_adam::TracinAdam>(),
    Entry::of::<trak::Trak>(),
    Entry::of::<unrolled::Unrolled>(),
];

/// The parameters of a method that has none.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParams {}
