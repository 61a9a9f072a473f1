//! What is measured of a history and a candidate: one ordered list of named features.
//!
//! A feature is a function of [`Evidence`], which `statistics.rs` and `attributes.rs` gather. To add
//! one is to add an entry; the order of the list is the order of the model's weights.

use crate::recommender::FeatureName;

/// What is known of one history and one candidate. Everything is 0 where nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Evidence {
    /// ln(1 + events of the history).
    pub(super) log_length: f64,
    /// ln(1 + samples whose history ends with the same item).
    pub(super) log_after_last: f64,
    /// Distinct items among the last ones of the history.
    pub(super) n_recent: f64,
    /// ln(1 + samples with the candidate as target).
    pub(super) log_count: f64,
    /// Smoothed share of the samples that have the candidate as target; above 0.
    pub(super) share: f64,
    /// Samples in which the candidate came right after the last item of the history.
    pub(super) after_last: f64,
    /// Samples in which the candidate came two events after the item before the last one.
    pub(super) after_before: f64,
    /// Cosine of candidate and last item.
    pub(super) similarity_last: f64,
    /// Largest cosine of the candidate and one of the recent items.
    pub(super) similarity_max: f64,
    /// Sum of the cosines of the candidate and the recent items.
    pub(super) similarity_sum: f64,
    /// Events of the history that are the candidate.
    pub(super) occurrences: f64,
    /// Events from the last one that is the candidate to the end, 1 for the last event; 0: none is.
    pub(super) distance: f64,
    /// Cosine of the texts of the candidate and of the recent items.
    pub(super) text: f64,
    /// Recent items of the candidate's category.
    pub(super) same_category: f64,
    /// Recent items of the candidate's brand.
    pub(super) same_brand: f64,
    /// Distance of the candidate's standardised price to the mean of the recent items.
    pub(super) price_distance: f64,
}

/// A named feature.
pub(super) struct Feature {
    name: &'static str,
    doc: &'static str,
    value: fn(&Evidence) -> f64,
}

/// Number of features.
pub(super) const N: usize = FEATURES.len();

/// The feature that is always 1 and is not standardised.
pub(super) const BIAS: usize = 0;

/// Values of the features of one history and one candidate, before standardisation. They are kept in
/// 32 bits while fitting, so they are rounded to 32 bits everywhere.
pub(super) type Row = [f32; N];

const fn feature(name: &'static str, doc: &'static str, value: fn(&Evidence) -> f64) -> Feature {
    Feature { name, doc, value }
}

/// ln(1 + x), fast where there is nothing.
fn log1p(x: f64) -> f64 {
    if x > 0.0 { libm::log1p(x) } else { 0.0 }
}

fn is_in_history(evidence: &Evidence) -> f64 {
    f64::from(u8::from(evidence.occurrences > 0.0))
}

/// A share of the recent items.
fn of_recent(x: f64, evidence: &Evidence) -> f64 {
    if evidence.n_recent > 0.0 {
        x / evidence.n_recent
    } else {
        0.0
    }
}

/// All features, in the order of the weights.
pub(super) const FEATURES: &[Feature] = &[
    feature("bias", "always 1; not standardised", |_| 1.0),
    feature(
        "log_popularity",
        "ln(1 + samples with the candidate as target)",
        |e| e.log_count,
    ),
    feature(
        "log_history",
        "ln(1 + events of the history); the same for all candidates",
        |e| e.log_length,
    ),
    feature(
        "log_transitions",
        "ln(1 + samples in which the candidate came right after the last item of the history)",
        |e| log1p(e.after_last),
    ),
    feature(
        "log_transitions_before",
        "ln(1 + samples in which the candidate came two events after the item before the last)",
        |e| log1p(e.after_before),
    ),
    feature(
        "transition_lift",
        "ln of the smoothed probability of the candidate after the last item (as of `markov`) over its share of all samples",
        |e| log1p(e.after_last / e.share) - e.log_after_last,
    ),
    feature(
        "similarity_last",
        "cosine of candidate and last item, over the sequences that hold them",
        |e| e.similarity_last,
    ),
    feature(
        "similarity_max",
        "largest cosine of the candidate and one of the recent items",
        |e| e.similarity_max,
    ),
    feature(
        "similarity_mean",
        "mean cosine of the candidate and the recent items",
        |e| of_recent(e.similarity_sum, e),
    ),
    feature(
        "in_history",
        "1 if the candidate is in the history, else 0",
        is_in_history,
    ),
    feature(
        "log_occurrences",
        "ln(1 + events of the history that are the candidate)",
        |e| log1p(e.occurrences),
    ),
    feature(
        "log_distance",
        "ln(1 + events since the candidate was last in the history); 0 where it is not in it",
        |e| log1p(e.distance),
    ),
    feature(
        "is_last",
        "1 if the candidate is the last item of the history, else 0",
        // Distances are whole numbers.
        |e| f64::from(u8::from(e.distance > 0.5 && e.distance < 1.5)),
    ),
    feature(
        "in_history_by_log_history",
        "`in_history` times `log_history`",
        |e| is_in_history(e) * e.log_length,
    ),
    feature(
        "similarity_mean_by_log_history",
        "`similarity_mean` times `log_history`",
        |e| of_recent(e.similarity_sum, e) * e.log_length,
    ),
    feature(
        "log_popularity_by_log_history",
        "`log_popularity` times `log_history`",
        |e| e.log_count * e.log_length,
    ),
    feature(
        "text_similarity",
        "cosine of the TF-IDF texts of the candidate and of the recent items; 0 without `item_features`",
        |e| e.text,
    ),
    feature(
        "category_share",
        "share of the recent items that are of the candidate's category; 0 without `item_features`",
        |e| of_recent(e.same_category, e),
    ),
    feature(
        "brand_share",
        "share of the recent items that are of the candidate's brand; 0 without `item_features`",
        |e| of_recent(e.same_brand, e),
    ),
    feature(
        "price_distance",
        "distance of the candidate's standardised log price to the mean of the recent items; 0 where a price is missing or without `item_features`",
        |e| e.price_distance,
    ),
];

/// Features that are 0 unless items are read.
pub(super) const OF_ITEMS: [&str; 4] = [
    "text_similarity",
    "category_share",
    "brand_share",
    "price_distance",
];

/// Names and meanings, in the order of the weights.
pub(super) static NAMES: [FeatureName; N] = {
    let mut names = [FeatureName { name: "", doc: "" }; N];
    let mut at = 0;
    while at < N {
        names[at] = FeatureName {
            name: FEATURES[at].name,
            doc: FEATURES[at].doc,
        };
        at += 1;
    }
    names
};

/// The features of what is known.
#[expect(
    clippy::cast_possible_truncation,
    reason = "features are defined in 32 bits"
)]
pub(super) fn row(evidence: &Evidence) -> Row {
    let mut row = [0.0; N];
    for (value, feature) in row.iter_mut().zip(FEATURES) {
        *value = (feature.value)(evidence) as f32;
    }
    row
}
