//! What a probe says of a model: what estimators may look at.

use crate::cell::{Instant, Part, Preconditioner};
use crate::row::table;

table! {
    /// What a probe says of one training sample. Sorted by (`sequence`, position), as `samples`.
    pub PROBE_SAMPLES = "probe_samples" of ProbeSample {
        /// The sample.
        sample_id: u64,
        /// Sequence that holds its history.
        sequence: u32,
        /// Target item.
        item: u32,
        /// Length of the history.
        history_length: u32,
        /// Item of the last event of the history.
        last_item: Option<u32>,
        /// Row of its history in the matrix `histories` of `representations.safetensors`.
        history_row: u32,
        /// When, UTC.
        occurred_at: Option<Instant>,
        /// Weight in training.
        weight: f64,
        /// Loss of the sample under the fitted model; null where the model gives none.
        loss: Option<f64>,
    }
}

table! {
    /// What a probe says of one request. Sorted by `request`.
    pub PROBE_REQUESTS = "probe_requests" of ProbeRequest {
        /// The request.
        request: u32,
        /// Its part.
        part: Part,
        /// Item of the last event of the history.
        last_item: Option<u32>,
        /// Row of its history in the matrix `histories` of `representations.safetensors`.
        history_row: u32,
        /// Relevant items.
        relevant: Vec<u32>,
        /// Loss of each relevant item under the fitted model; empty where the model gives none.
        losses: Vec<f64>,
    }
}

table! {
    /// What a probe says of the gradient of one training sample at one state of the training, with
    /// respect to all parameters. Sorted by (`step`, `sample_id`); the last step is the fitted model.
    pub PROBE_GRADIENTS = "probe_gradients" of ProbeGradient {
        /// Steps of training that led to the state.
        step: u64,
        /// The sample.
        sample_id: u64,
        /// Learning rate of the last of those steps; null where states were not kept.
        learning_rate: Option<f64>,
        /// Part whose requests are the target.
        part: Part,
        /// Length of the gradient of the mean loss of the target.
        target_norm: f64,
        /// Length of the gradient of the sample's loss; null where it gives no loss term.
        norm: Option<f64>,
        /// The same without embeddings and outputs of items, positions and attributes.
        norm_without_tables: Option<f64>,
        /// Product of the gradient of the sample with that of the target.
        target_product: Option<f64>,
        /// Distance of the probabilities of all items from the target as a one-hot vector.
        error_norm: Option<f64>,
    }
}

table! {
    /// How the gradient of one training sample lies to that of the target under a preconditioner, at one
    /// state of the training, over all parameters. Sorted by (`step`, `preconditioner`, `sample_id`), the
    /// preconditioners in the order of their list; those that rest on a Fisher matrix are taken at the
    /// fitted model alone, which is the last step.
    pub PROBE_DIRECTIONS = "probe_directions" of ProbeDirection {
        /// Steps of training that led to the state.
        step: u64,
        /// What stands between the two gradients.
        preconditioner: Preconditioner,
        /// The sample.
        sample_id: u64,
        /// Learning rate of the last of those steps; null where states were not kept.
        learning_rate: Option<f64>,
        /// Part whose requests are the target.
        part: Part,
        /// Length of the gradient of the mean loss of the target.
        target_norm: f64,
        /// Product of the gradient of the sample with that of the target under the preconditioner; null
        /// where the sample gives no loss term.
        product: Option<f64>,
        /// Product of the sample's gradient with itself under the preconditioner; null for `adam`.
        self_product: Option<f64>,
        /// Product of the gradient of the target with the step that `AdamW` would take next on this
        /// sample alone, per unit of learning rate; null for others than `adam`.
        update_product: Option<f64>,
        /// Length of that step.
        update_norm: Option<f64>,
    }
}

table! {
    /// The block of one parameter in a Fisher matrix that directions of a probe rest on. Sorted by (`step`,
    /// `preconditioner`, `parameter`), the preconditioners in the order of their list.
    pub PROBE_CURVATURES = "probe_curvatures" of ProbeCurvature {
        /// Steps of training that led to the state.
        step: u64,
        /// What it is part of.
        preconditioner: Preconditioner,
        /// Name of the parameter.
        parameter: String,
        /// Its rows.
        n_rows: u64,
        /// Its columns.
        n_columns: u64,
        /// Whether the block stands in the basis of a layer's factors; otherwise it is a diagonal.
        is_turned: bool,
        /// Mean of its eigenvalues before damping, in nats squared per squared unit of a parameter.
        mean_eigenvalue: f64,
        /// What is added to each of them: `gradients.damping` of `train` times that mean, which counts as
        /// 10^-8 of the largest of all blocks at least.
        damping: f64,
    }
}

table! {
    /// How much predictions of one part look at the event of each sample. Sorted by `sample_id`. All
    /// numbers are sums over the predictions that can see the event; 0 where there are none.
    pub PROBE_ATTENTION = "probe_attention" of ProbeAttention {
        /// The sample.
        sample_id: u64,
        /// Part whose predictions look: `training` for those of the samples themselves.
        part: Part,
        /// Predictions that can see the event.
        n_predictions: u64,
        /// What it would get if each looked evenly at all it can see.
        even: f64,
        /// Attention of the position that predicts, the mean over layers and heads.
        raw: f64,
        /// Attention rollout: the same through the product over layers of A/2 + I/2.
        rollout: f64,
        /// |A x dL/dA| summed over layers, heads and positions, in nats.
        gradient: f64,
    }
}

table! {
    /// How well products of projected gradients stand for those of whole ones, on pairs of a training
    /// sample and a request. Sorted by `step`.
    pub PROJECTION_FIDELITY = "projection_fidelity" of ProjectionFidelity {
        /// Steps of training that led to the state.
        step: u64,
        /// Pairs that were compared.
        n_pairs: u64,
        /// Numbers in a projected gradient.
        width: u64,
        /// Parameters it stands for.
        n_parameters: u64,
        /// Pearson correlation of projected and exact products; null where one of them is constant.
        pearson: Option<f64>,
        /// Spearman correlation of the two.
        spearman: Option<f64>,
    }
}

table! {
    /// Weighted count of one target item in the training samples. Sorted by `item`; zeros included.
    pub ITEM_COUNTS = "item_counts" of ItemCount {
        /// The item, over the vocabulary.
        item: u32,
        /// Sum of sample weights.
        weight: f64,
    }
}

table! {
    /// Weighted count of one transition. Sorted by (`from_item`, `to_item`).
    pub TRANSITIONS = "transitions" of Transition {
        /// Last item of the history.
        from_item: u32,
        /// Target.
        to_item: u32,
        /// Sum of sample weights.
        weight: f64,
    }
}
