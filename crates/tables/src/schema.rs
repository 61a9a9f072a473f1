//! Every table of the project: one declaration gives the static, the typed row and the columns.
//!
//! Sort orders are part of the contract and are written in each table's documentation: two
//! stages that compute the same rows write the same bytes.

mod estimate;
mod features;
mod influence;
mod probe;

pub use estimate::*;
pub use features::*;
pub use influence::*;
pub use probe::*;

use crate::cell::{Event, Instant, Origin, Part};
use crate::row::table;

// ---------------------------------------------------------------------------------------------
// ingest

table! {
    /// One event as read from a raw log. Sorted by `sample_id`, that is, as read.
    pub INTERACTIONS = "interactions" of Interaction {
        /// Identity of the event, see `SampleId`: 8 bits file, 40 bits ordinal as read, 16 bits copy.
        sample_id: u64,
        /// 1-based line of the raw file where the record starts.
        line: u64,
        /// Who acted; null where the log does not know.
        user_id: Option<String>,
        /// What was acted on.
        item_id: String,
        /// What was done.
        event: Event,
        /// When, UTC; null where the log has only an order.
        occurred_at: Option<Instant>,
        /// Quantity, rating or dwell time; may be negative in a raw log.
        value: Option<f64>,
        /// Unit price in 1/10,000 of the currency.
        price_e4: Option<i64>,
        /// Session, invoice or basket of the log.
        session_id: Option<String>,
        /// The query that led to the event.
        query_id: Option<String>,
        /// 1-based rank at which the item was shown.
        shown_rank: Option<u32>,
    }
}

table! {
    /// One item of the catalogue. Sorted by `item_id` in shortlex order (length, then bytes).
    pub ITEMS = "items" of Item {
        /// Identity in the raw log.
        item_id: String,
        /// Name shown to users.
        title: Option<String>,
        /// Longer text.
        description: Option<String>,
        /// Category path from the root, levels separated by ` > `.
        category: Option<String>,
        /// Brand.
        brand: Option<String>,
        /// List price in 1/10,000 of the currency.
        price_e4: Option<i64>,
        /// Further attributes as tokens.
        attributes: Vec<String>,
    }
}

table! {
    /// One user. Sorted by `user_id` in shortlex order.
    pub USERS = "users" of User {
        /// Identity in the raw log.
        user_id: String,
        /// Country, age group or other segment of the log.
        segment: Option<String>,
    }
}

table! {
    /// One query. Sorted by `query_id` in shortlex order.
    pub QUERIES = "queries" of Query {
        /// Identity.
        query_id: String,
        /// What was typed.
        text: String,
    }
}

table! {
    /// One graded (query, item) pair. Sorted by (`query_id` shortlex, `item_id` shortlex).
    pub JUDGMENTS = "judgments" of Judgment {
        /// The query.
        query_id: String,
        /// The item.
        item_id: String,
        /// Grade, higher is more relevant; the scale is the source's.
        grade: f64,
        /// Variance between raters, where known.
        variance: Option<f64>,
        /// 1-based line of the raw file; the ordinal for the simulator.
        line: u64,
    }
}

table! {
    /// What the simulator knows of an event. Sorted by `sample_id`. For `evaluate` and `report` only.
    pub TRUTH = "truth" of Truth {
        /// The event.
        sample_id: u64,
        /// `genuine`, `bot` or `accident`.
        kind: String,
        /// True affinity of the user for the item at that instant, in `[0, 1]`.
        affinity: Option<f64>,
    }
}

table! {
    /// One refused record. Sorted by (`file`, `line`). Accepted + rejected = read, always.
    pub REJECTS = "rejects" of Reject {
        /// Name of the raw file, relative to what the configuration names.
        file: String,
        /// 1-based line where the record starts.
        line: u64,
        /// What is wrong, naming the column.
        reason: String,
        /// What to do about it.
        hint: String,
        /// The record as read.
        raw: Vec<u8>,
    }
}

table! {
    /// One cleaning step, in the order of execution.
    pub AUDIT = "audit" of Audit {
        /// 0-based order.
        step: u32,
        /// Stage that made it.
        stage: String,
        /// Name of the step, such as `drop_duplicates`.
        name: String,
        /// Rows before.
        rows_in: u64,
        /// Rows after.
        rows_out: u64,
        /// Whether the decision about a row used later rows (k-core over the whole log does).
        uses_future: bool,
        /// Why, in one sentence.
        note: String,
    }
}

// ---------------------------------------------------------------------------------------------
// preprocess

table! {
    /// One cleaned event in sequence order: sorted by (`user_id` shortlex, `occurred_at`, `sample_id`).
    pub EVENTS = "events" of CleanEvent {
        /// Identity of the event as read.
        sample_id: u64,
        /// Who acted.
        user_id: String,
        /// What was acted on.
        item_id: String,
        /// What was done.
        event: Event,
        /// When, UTC; null for the whole table where the log has only an order.
        occurred_at: Option<Instant>,
        /// 0-based session of the user, cut by the configured gap or by the log's own sessions.
        session: u32,
        /// Quantity, rating or dwell time.
        value: Option<f64>,
        /// Unit price in 1/10,000 of the currency.
        price_e4: Option<i64>,
        /// The query that led to the event.
        query_id: Option<String>,
        /// 1-based rank at which the item was shown.
        shown_rank: Option<u32>,
    }
}

// ---------------------------------------------------------------------------------------------
// split

table! {
    /// One item that occurs in the training part. `item` counts from 0 in shortlex order of `item_id`.
    pub VOCABULARY = "vocabulary" of VocabularyEntry {
        /// Dense number.
        item: u32,
        /// Identity in the raw log.
        item_id: String,
        /// Genuine training events on it: inserted ones do not count.
        n_events: u64,
        /// First genuine training event; null where the log has no instants.
        first_at: Option<Instant>,
    }
}

table! {
    /// One item that can be ranked: the vocabulary first, then items first seen after training
    /// in (`known_at`, shortlex) order. Sorted by `item`.
    pub CATALOGUE = "catalogue" of CatalogueEntry {
        /// Dense number; below the size of the vocabulary for training items.
        item: u32,
        /// Identity in the raw log.
        item_id: String,
        /// First event of the cleaned log; the item is a candidate of requests after it. Null: always.
        known_at: Option<Instant>,
        /// Whether the item occurs in the training part.
        in_vocabulary: bool,
    }
}

table! {
    /// Features of one catalogue item; every fitted number comes from the training part. Sorted by `item`.
    pub ITEM_FEATURES = "item_features" of ItemFeatures {
        /// Dense number.
        item: u32,
        /// Name shown to users.
        title: Option<String>,
        /// Category path from the root, levels separated by ` > `.
        category: Option<String>,
        /// Brand.
        brand: Option<String>,
        /// Further attributes as tokens.
        attributes: Vec<String>,
        /// Mean price of its training events, else its list price; 1/10,000 of the currency.
        price_e4: Option<i64>,
        /// ln(1 + price) standardised over training items; 0 where missing.
        price_z: f64,
        /// ln(1 + training events) standardised over training items.
        popularity_z: f64,
    }
}

table! {
    /// Profile of one sequence from its training events alone. Sorted by `sequence`.
    pub USER_FEATURES = "user_features" of UserFeatures {
        /// Dense number of the sequence.
        sequence: u32,
        /// Identity in the raw log.
        user_id: String,
        /// Training events.
        n_events: u64,
        /// Distinct training items.
        n_items: u64,
        /// Distinct training sessions.
        n_sessions: u64,
        /// ln(1 + training events) standardised over sequences with training events.
        activity_z: f64,
        /// Mean `price_z` of its training items; 0 where none.
        price_z: f64,
        /// Whether the sequence has training events.
        in_training: bool,
    }
}

table! {
    /// One event of a sequence. Sorted by (`sequence`, `position`); a history is a prefix.
    /// Sequences with training events come first, in shortlex order of the user, then the others.
    pub SEQUENCES = "sequences" of SequenceEvent {
        /// Dense number of the user.
        sequence: u32,
        /// 0-based position by (instant, sample id).
        position: u32,
        /// Dense number of the item in the catalogue.
        item: u32,
        /// What was done.
        event: Event,
        /// When, UTC.
        occurred_at: Option<Instant>,
        /// Identity of the event as read; file 255 for inserted events.
        sample_id: u64,
        /// Part of the event.
        part: Part,
    }
}

table! {
    /// One training sample. Sorted by (`sequence`, `position`).
    pub SAMPLES = "samples" of Sample {
        /// Identity of its event.
        sample_id: u64,
        /// Sequence that holds the history.
        sequence: u32,
        /// Position of its event in the sequence.
        position: u32,
        /// The history is positions `0..history_end`: the events with a strictly earlier instant.
        history_end: u32,
        /// Target item; with planted label noise, not the item of the event.
        item: u32,
        /// What was done.
        event: Event,
        /// When, UTC.
        occurred_at: Option<Instant>,
        /// Label or grade; 1 for an observed event.
        label: f64,
        /// Weight of its loss term.
        weight: f64,
        /// Observed, or a copy made by augmentation; does not tell planted from genuine.
        origin: Origin,
    }
}

table! {
    /// One evaluation request. Sorted by `request`: by part, then sequence.
    pub REQUESTS = "requests" of Request {
        /// 0-based number.
        request: u32,
        /// `valuation.fit`, `valuation.tune` or `test`.
        part: Part,
        /// Sequence that holds the history.
        sequence: u32,
        /// The history is positions `0..history_end`.
        history_end: u32,
        /// Instant of the request: items known strictly before it are candidates. Null: all items.
        requested_at: Option<Instant>,
        /// Distinct relevant items, ascending.
        relevant: Vec<u32>,
    }
}

table! {
    /// One corrupted training sample. Sorted by `sample_id`. For `evaluate` and `report` only.
    pub PLANTED = "planted" of Planted {
        /// The sample.
        sample_id: u64,
        /// `label_noise`, `event_noise.bot`, `event_noise.accident` or `event_noise.burst`.
        kind: String,
        /// The target before corruption; null for inserted events.
        clean_item: Option<u32>,
    }
}

table! {
    /// One figure that describes the split data. Sorted by order of making.
    pub PROFILE = "profile" of ProfileEntry {
        /// Name such as `n_users`, `equal_instant_frac`, `repeat_frac`.
        name: String,
        /// Part it speaks of, or `all`.
        part: String,
        /// The figure.
        value: f64,
        /// Unit: `rows`, `frac`, `ms`, ...
        unit: String,
        /// What it means, in one sentence.
        note: String,
    }
}

// ---------------------------------------------------------------------------------------------
// train

table! {
    /// One request answered by one model. Sorted by `request`. Lists run parallel to `relevant`.
    pub PREDICTIONS = "predictions" of Prediction {
        /// The request.
        request: u32,
        /// Its part.
        part: Part,
        /// Length of its history.
        history_length: u32,
        /// Candidates that were ranked.
        n_candidates: u32,
        /// Relevant items, ascending; without those in the history where seen items are excluded.
        relevant: Vec<u32>,
        /// Candidates with a strictly higher score; `NOT_RANKED` where the item is no candidate (cold).
        better: Vec<u32>,
        /// Other candidates with exactly the same score.
        tied: Vec<u32>,
        /// Whether the item is in the history.
        is_repeat: Vec<bool>,
        /// As `better`, among candidates outside the history; `NOT_RANKED` for repeats and cold items.
        better_new: Vec<u32>,
        /// As `tied`, among candidates outside the history.
        tied_new: Vec<u32>,
        /// The best items, best first, ties by number.
        top_items: Vec<u32>,
        /// Their scores.
        top_scores: Vec<f64>,
    }
}

table! {
    /// One epoch of training; count models have one.
    pub TRAINING = "training" of TrainingEpoch {
        /// 0-based epoch.
        epoch: u32,
        /// Samples that had a loss term.
        n_samples: u64,
        /// Mean training loss, weighted.
        loss: Option<f64>,
        /// Validation NDCG@10 on `valuation.fit`.
        validation: Option<f64>,
        /// Learning rate at the end of the epoch.
        learning_rate: Option<f64>,
    }
}

table! {
    /// One state along the training that led to a model. Sorted by `step`; the last one is the model.
    pub CHECKPOINTS = "checkpoints" of KeptCheckpoint {
        /// Steps taken.
        step: u64,
        /// 0-based epoch at whose end it was.
        epoch: u32,
        /// Learning rate of the last step.
        learning_rate: Option<f64>,
        /// Validation NDCG@10 on `valuation.fit`; null where it was not asked for.
        validation: Option<f64>,
        /// File beside this table: `weight.NAME`, `optimiser.mean.NAME`, `optimiser.square.NAME`,
        /// `optimiser.steps`.
        file: String,
    }
}

table! {
    /// What acting on scores did to the training samples: one row.
    pub REMOVALS = "removals" of Removal {
        /// Method of the scores; empty where there were no scores.
        method: String,
        /// What was done, such as `drop_lowest 0.2` or `reweight rank to 0.2`.
        action: String,
        /// What removal means: `drop` or `mask`.
        regime: String,
        /// Training samples before.
        n_samples: u64,
        /// Samples with a score: no other can be removed or weighted anew.
        n_scored: u64,
        /// Samples that were to be removed; null where a bound decides, not a number, or none are.
        n_wanted: Option<u64>,
        /// Samples that were removed.
        n_removed: u64,
        /// Samples that stay, with another weight than before.
        n_reweighted: u64,
        /// Sum over all samples of what their weights were multiplied with; 0 for removed ones.
        factor_sum: f64,
    }
}

table! {
    /// One sample that one retraining leaves out. Sorted by (`subset`, `left_out`).
    pub SUBSETS = "subsets" of SubsetMember {
        /// Number of the subset.
        subset: u32,
        /// A sample that it leaves out.
        left_out: u64,
    }
}

table! {
    /// What one retrained model makes of one request. Sorted by (`subset`, `replica`, `request`),
    /// the whole training set first.
    pub RESPONSES = "responses" of Response {
        /// The subset; null for the whole training set.
        subset: Option<u32>,
        /// 0-based replica: the same chance for every subset.
        replica: u32,
        /// The request.
        request: u32,
        /// What removal means: `drop` or `mask`.
        regime: String,
        /// Mean loss over the relevant items; null where the model gives none or nothing is relevant.
        loss: Option<f64>,
        /// NDCG@10 with mid-rank ties, 0 to 1.
        ndcg_10: f64,
    }
}

table! {
    /// One setting of a model's parameters, fitted and judged. Sorted by (`rung`, order of fitting).
    pub TRIALS = "trials" of Trial {
        /// 0-based round of successive halving.
        rung: u32,
        /// 0-based place of the setting in the grid.
        setting: u32,
        /// All parameters, as JSON.
        parameters: String,
        /// Share of the training sequences that it was fitted on, 0 to 1.
        share: f64,
        /// NDCG@10 on `valuation.fit` or its mean over folds; null if it could not be judged.
        validation: Option<f64>,
        /// Why it could not be judged.
        problem: Option<String>,
        /// Whether this setting was chosen in the end.
        is_chosen: bool,
    }
}

table! {
    /// One way of asking a fitted model, timed. Measured.
    pub LATENCY = "latency" of Latency {
        /// `single_request`: from a history to the best items, one after the other on one thread;
        /// `full_ranking`: all test requests on all threads.
        what: String,
        /// Requests.
        n: u64,
        /// Threads.
        threads: u32,
        /// Median time of a request, in ms.
        p50_ms: f64,
        /// Time that 99 % of the requests do not exceed, in ms.
        p99_ms: f64,
        /// Requests a second.
        per_second: f64,
    }
}

// ---------------------------------------------------------------------------------------------
// evaluate

table! {
    /// One figure with its interval. Sorted by order of making, which is fixed.
    pub METRICS = "metrics" of Metric {
        /// `ranking`, `detection`, `action` or `agreement`.
        family: String,
        /// Name with cut-off, such as `ndcg@10`, `auroc`, `f1_2means`.
        metric: String,
        /// Part of the requests, or `training` for detection.
        part: String,
        /// `all`, `new`, `repeat`, `cold`, or a kind of planted noise.
        segment: String,
        /// Node that made the input.
        node: String,
        /// Model, where there is one.
        model: Option<String>,
        /// Method, where there is one.
        method: Option<String>,
        /// Action, such as `drop_lowest=0.2`; null for the base.
        action: Option<String>,
        /// Further axes as `axis=value,axis=value`.
        label: String,
        /// The figure.
        value: f64,
        /// Lower end of the 95 % interval; null where none is defined.
        low: Option<f64>,
        /// Upper end.
        high: Option<f64>,
        /// Two-sided p-value after Holm correction, where a comparison was tested.
        p_value: Option<f64>,
        /// Requests or samples behind it.
        n: u64,
        /// How it was computed, in words.
        protocol: String,
    }
}

table! {
    /// Ranking of one request by one node. Sorted by (`node`, `label`, `request`).
    pub PER_REQUEST = "per_request" of PerRequest {
        /// Node that made the predictions.
        node: String,
        /// Axes as `axis=value,axis=value`.
        label: String,
        /// The request.
        request: u32,
        /// Its part.
        part: Part,
        /// Relevant items that count.
        n_relevant: u32,
        /// HR@10.
        hit_rate_10: f64,
        /// NDCG@10.
        ndcg_10: f64,
        /// MRR@10.
        mrr_10: f64,
        /// Recall@10.
        recall_10: f64,
    }
}

table! {
    /// One sentence that holds, most important first.
    pub CONCLUSIONS = "conclusions" of Conclusion {
        /// 0-based order.
        rank: u32,
        /// `detection`, `action`, `ranking`, `cost` or `caution`.
        topic: String,
        /// The sentence.
        text: String,
        /// The figures behind it, as `metric@node[label]=value`.
        evidence: String,
    }
}

table! {
    /// What one node cost when it ran. Measured: never part of a result. Sorted by `node`.
    pub MEASURED = "measured" of Measured {
        /// Expanded node name.
        node: String,
        /// Stage.
        stage: String,
        /// Axes as `axis=value,axis=value`.
        label: String,
        /// Wall time.
        wall_ms: u64,
        /// User and system CPU time.
        cpu_ms: u64,
        /// Peak resident memory of the process.
        peak_bytes: u64,
        /// Threads it was given.
        threads: u32,
        /// Processor model.
        processor: String,
    }
}
