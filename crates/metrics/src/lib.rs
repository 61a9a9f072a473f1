//! Ranking, classification, detection, agreement and statistics as pure functions.
//!
//! Every figure is a function of its arguments: no files, no clock, no threads. Sums run in the
//! order of the arguments, and what is drawn at random is addressed by counters, so that equal
//! arguments give equal bits. Conventions are those of the field's strictest tools; where tools
//! differ, the function's documentation says which side it takes.

mod bootstrap;
mod classification;
mod correlation;
mod detection;
mod failure;
mod place;
mod ranking;
mod significance;

pub use bootstrap::{
    Columns, Interval, Resampler, interval, mean_intervals, quantile, resampled_means,
};
pub use classification::{Auc, Gauc, auc, gauc, log_loss};
pub use correlation::{
    kendall, linear_datamodeling_score, mid_ranks, pearson, spearman, spearman_interval,
    top_jaccard, top_membership,
};
pub use detection::{Figures, LANES, Strata, Suspects, two_means};
pub use failure::MetricError;
pub use place::{Place, Ties, places};
pub use ranking::{Gain, Judged, Ranks, discount, expected_ndcg, graded_ndcg};
pub use significance::{holm, rank_sum_p_value, sign_flip_p_value};
