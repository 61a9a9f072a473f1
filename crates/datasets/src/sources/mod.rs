//! One file per source, and the registry.

mod online_retail;
mod sequences;
mod simulator;

use crate::dataset::Entry;

/// All data sets, in the order in which they are listed to people.
pub const REGISTRY: &[Entry] = &[
    Entry::of::<simulator::Simulator>(),
    Entry::of::<online_retail::OnlineRetail>(),
    Entry::of::<sequences::Sequences>(),
];
