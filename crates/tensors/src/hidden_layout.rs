//! Where a probe keeps hidden states: the names of one file and of its tensors.
//!
//! ```text
//! hidden.safetensors    `sample` u32 [n], `sample_state` f32 [n, columns]
//!                       `request` u32 [m], `request_state` f32 [m, columns]
//!                       `item_vector` f32 [items, columns], `item_bias` f32 [items] where there is one
//! ```
//!
//! Samples are positions in the list of the probe's samples, requests are their numbers; both ascend.
//! Those without a history have no state. Items are those of the vocabulary; the score of one is the
//! product of its vector with a state, plus its bias.

/// The file.
pub const FILE: &str = "hidden.safetensors";

/// Positions of the samples that have a state.
pub const SAMPLE: &str = "sample";

/// Their states.
pub const SAMPLE_STATE: &str = "sample_state";

/// Numbers of the requests that have a state.
pub const REQUEST: &str = "request";

/// Their states.
pub const REQUEST_STATE: &str = "request_state";

/// What states are multiplied with to score items.
pub const ITEM_VECTOR: &str = "item_vector";

/// What is added to the scores of items.
pub const ITEM_BIAS: &str = "item_bias";
