//! What `estimate` makes of probes.

use crate::cell::{Suspect, Tier};
use crate::row::table;

table! {
    /// One method's score of one sample. Sorted by `sample_id`; every sample has a row.
    pub SCORES = "scores" of Score {
        /// Method.
        method: String,
        /// The sample.
        sample_id: u64,
        /// Helpfulness (positive = helpful) or magnitude; null where the method cannot score.
        score: Option<f64>,
        /// Standard error, of a mean over models the one over these; null if the method is exact or
        /// cannot know.
        std_error: Option<f64>,
        /// Number of terms behind the score.
        n_updates: u64,
        /// The end of the scale that is suspicious: `low` for helpfulness.
        suspect: Suspect,
    }
}

table! {
    /// One method's card.
    pub METHODS = "methods" of MethodCard {
        /// Method.
        method: String,
        /// `gradient`, `curvature`, `attention`, `density`, `similarity`, `dynamics`, `retraining` or `baseline`.
        family: String,
        /// Revision of its implementation.
        revision: u32,
        /// Whether the score is signed helpfulness; otherwise a magnitude.
        is_signed: bool,
        /// The suspicious end.
        suspect: Suspect,
        /// What is estimated, in one sentence, with its target and units.
        estimand: String,
        /// Source.
        paper: String,
        /// Its parameters as canonical JSON.
        parameters: String,
        /// Samples with a score.
        n_scored: u64,
        /// Samples without.
        n_unscored: u64,
        /// Models that scores are means over; 1 where they are those of one model.
        n_members: u64,
        /// Mean Spearman rank correlation of the scores by every two of them, where a sample that one
        /// does not score counts as average there; null for one model.
        stability: Option<f64>,
    }
}

table! {
    /// One setting of a method's parameters, tried. Sorted by `setting`.
    pub SENSITIVITY = "sensitivity" of Sensitivity {
        /// Method.
        method: String,
        /// 0-based place of the setting in the grid.
        setting: u32,
        /// All parameters, as JSON.
        parameters: String,
        /// How well the setting holds on requests that no score is measured against; the larger, the
        /// better. For directions the fall of their loss per unit of root mean square change of the
        /// samples' losses, for neighbours their utility. Null if it could not be judged.
        criterion: Option<f64>,
        /// Its standard error over these requests; null where it is not known.
        std_error: Option<f64>,
        /// These requests.
        n_requests: u64,
        /// Spearman rank correlation of the scores with those of the chosen setting; null where one of
        /// them is constant.
        spearman: Option<f64>,
        /// Whether this setting was chosen.
        is_chosen: bool,
    }
}

table! {
    /// The tier of one sample. Sorted by `sample_id`; every sample has a row.
    pub TIERS = "tiers" of SampleTier {
        /// Method of the scores.
        method: String,
        /// The sample.
        sample_id: u64,
        /// Its score; null where the method cannot score.
        score: Option<f64>,
        /// `low` is the suspicious end of the scale; equal scores share a tier.
        tier: Tier,
    }
}

table! {
    /// The scores of one group of samples. Sorted by unit, then by `z` from the suspicious end on.
    pub GROUPS = "groups" of ScoreGroup {
        /// Method of the scores.
        method: String,
        /// What groups are made by: `user`, `item`, `category`, `brand` or `event`; items, categories
        /// and brands are those of the target.
        unit: String,
        /// Dense number of a user or item, else the name.
        key: String,
        /// What people call it, where an input says so.
        name: Option<String>,
        /// Samples of the group.
        n_samples: u64,
        /// Those with a score.
        n_scored: u64,
        /// Sum of their scores: for methods of the first order the score of leaving all of them out.
        sum: Option<f64>,
        /// Mean of their scores.
        mean: Option<f64>,
        /// Share of them in the suspicious tier, 0 to 1.
        low_frac: Option<f64>,
        /// How far the mean lies from that of all samples, in robust standard deviations of such
        /// distances over the groups of the unit; negative is suspicious. Null for small groups.
        z: Option<f64>,
        /// Whether `z` is beyond the threshold, on either side.
        is_anomalous: bool,
    }
}

table! {
    /// One of the samples that matter most to one request. Sorted by `request`, helpful ones first,
    /// then `rank`. Empty for methods that know the mean over requests alone.
    pub INFLUENCES = "influences" of Influence {
        /// Method of the scores.
        method: String,
        /// The request.
        request: u32,
        /// Whether training on the sample lowers the loss of the request.
        is_helpful: bool,
        /// 0-based place among the helpful or harmful samples of the request.
        rank: u32,
        /// The sample.
        sample_id: u64,
        /// Its score for this request alone; the mean over all requests is its score in `scores`.
        score: f64,
        /// Its target item.
        item: u32,
        /// What people call the item, where an input says so.
        item_name: Option<String>,
        /// Whether the target item is relevant to the request.
        is_same_target: bool,
        /// Whether sample and request are of one user; null without the input `requests`.
        is_same_user: Option<bool>,
        /// Whether the event of the sample is in the last basket of the request's history: of its
        /// user, at the instant of the last event. Null without the inputs `requests` and `sequences`.
        is_in_last_basket: Option<bool>,
        /// Distinct items that the history of the sample and that of the request share, those that
        /// the request saw last first; empty without the inputs `requests` and `sequences`.
        shared_items: Vec<u32>,
        /// Layers of the model.
        layers: Vec<String>,
        /// What each layer adds to the score.
        layer_scores: Vec<f64>,
        /// All of that in words.
        reason: String,
    }
}
