//! What features are worth: probes of them, their importance, and what training multiplied them with.

use crate::row::table;

table! {
    /// What one feature does to one request under a fitted model. Sorted by (`method`, `group`, `feature`,
    /// `repeat`, `request`).
    pub PROBE_FEATURES = "probe_features" of ProbeFeature {
        /// `gradient_x_input` and `integrated_gradients`: what the feature adds to the mean output of the
        /// relevant items; `permutation_ndcg`: the drop of NDCG@10 when its values are exchanged;
        /// `permutation_loss`: the rise of the mean loss, in nats.
        method: String,
        /// What the feature is one of: `feature` of history and candidate, `input`, `place` in the history
        /// counted from its end, `event_type`.
        group: String,
        /// The feature.
        feature: String,
        /// 0-based repeat of the exchange; 0 for gradients.
        repeat: u32,
        /// The request.
        request: u32,
        /// Drop, rise or addition; positive: the feature helps.
        value: f64,
    }
}

table! {
    /// How well integrated gradients share out what they explain. Sorted by `request`.
    pub PROBE_COMPLETENESS = "probe_completeness" of ProbeCompleteness {
        /// The request.
        request: u32,
        /// Points of the integral.
        steps: u32,
        /// The explained output: the mean over relevant items of the log-probability of a network, or of
        /// the score of a linear model.
        output: f64,
        /// The output at the baseline.
        baseline: f64,
        /// Sum of the integrated gradients.
        sum: f64,
        /// |sum - (output - baseline)|; 0 where the integral is exact.
        gap: f64,
    }
}

table! {
    /// One method's importance of one feature. Sorted by (`group`, `rank`).
    pub FEATURE_IMPORTANCE = "feature_importance" of FeatureImportance {
        /// The method.
        method: String,
        /// What the feature is one of; ranks are within it.
        group: String,
        /// The feature.
        feature: String,
        /// 1-based place within the group, the most important first.
        rank: u32,
        /// Permutation: mean drop of NDCG@10 or rise of the loss; gradients: mean size of what the feature
        /// adds; random: a number drawn by lot.
        importance: f64,
        /// Standard error over requests of the mean over repeats; null for one request or a lot.
        std_error: Option<f64>,
        /// Mean of what the feature adds, with its sign; that of `importance` for permutation.
        mean: Option<f64>,
        /// Requests.
        n_requests: u64,
        /// Repeats of each exchange; 1 for gradients.
        n_repeats: u32,
        /// Integrated gradients: mean over requests of the gap to the difference from the baseline.
        gap: Option<f64>,
    }
}

table! {
    /// What training multiplied one feature with. Sorted by `importance`, then by name.
    pub FEATURE_WEIGHTS = "feature_weights" of FeatureWeight {
        /// Method of the importance.
        method: String,
        /// The feature.
        feature: String,
        /// Its importance.
        importance: f64,
        /// 1: as it was; 0: left out.
        weight: f64,
    }
}
