//! What probes know of weights of samples, beyond products of gradients.

use crate::cell::Part;
use crate::row::table;

table! {
    /// Influence of one training sample through the vectors of a user and an item alone, under a
    /// matrix factorisation. Sorted by `sample_id`; every sample has a row.
    pub PROBE_BLOCK_INFLUENCE = "probe_block_influence" of ProbeBlockInfluence {
        /// The sample.
        sample_id: u64,
        /// Part whose requests are the target.
        part: Part,
        /// What requests of its user would cost more without it, to first order; null where it gives
        /// no loss term.
        of_user: Option<f64>,
        /// What requests for its items would cost more without it, to first order.
        of_item: Option<f64>,
    }
}

table! {
    /// What the weight of one training sample did to the requests, through the whole training. Sorted by
    /// `sample_id`; every sample has a row.
    pub PROBE_UNROLLED = "probe_unrolled" of ProbeUnrolled {
        /// The sample.
        sample_id: u64,
        /// Part whose requests are the target.
        part: Part,
        /// Minus the derivative of the mean loss of the target by the weight of the sample; null where
        /// there is none, as of a sample without a loss term.
        fall: Option<f64>,
    }
}
