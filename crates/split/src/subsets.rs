//! Subsets of the training samples, for retraining: each is a draw of its own.
//!
//! `train` in mode `respond` answers them, and estimators that retrain, as well as the linear
//! datamodeling score (Park et al., ICML 2023, section 2), read the answers. A subset is written as
//! what it leaves out.

use seed::Seed;
use tables::SubsetMember;

use crate::config::Subsets;
use crate::plant::share;

/// Rows of all subsets, sorted; whether a subset has a sample depends on the seed, the subset's
/// number and the identities of the samples alone. `ids` are sorted.
pub(crate) fn draw(
    ids: &[u64],
    subsets: Subsets,
    seed: Seed,
) -> impl Iterator<Item = SubsetMember> {
    let n_left_out = ids.len() - share(subsets.keep, ids.len());
    (0..subsets.count).flat_map(move |subset| {
        let stream = seed.index(u64::from(subset)).stream();
        let mut drawn: Vec<(u64, u64)> = ids.iter().map(|id| (stream.bits(*id, 0), *id)).collect();
        if n_left_out < drawn.len() {
            drawn.select_nth_unstable(n_left_out);
            drawn.truncate(n_left_out);
        }
        let mut left_out: Vec<u64> = drawn.into_iter().map(|(_, id)| id).collect();
        left_out.sort_unstable();
        left_out
            .into_iter()
            .map(move |left_out| SubsetMember { subset, left_out })
    })
}
