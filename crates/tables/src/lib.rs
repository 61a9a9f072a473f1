//! Every table of the project: schemas, typed rows, and the one canonical Parquet reader and writer.
//!
//! A table is declared once, in [`schema`]; nobody else writes Parquet.

pub mod cell;
mod id;
mod read;
mod row;
pub mod schema;
mod table;
mod write;

pub use cell::{
    Event, Instant, NotAnInstant, Origin, Part, Preconditioner, Suspect, Tier, UnknownWord,
};
pub use id::{INSERTED_FILE, NOT_RANKED, SampleId, shortlex};
pub use read::{Batches, Rows, batches, read_all, rows};
pub use row::Row;
pub use schema::*;
pub use table::{Column, ReadError, ReadErrorKind, Table, WriteError, WriteErrorKind};
pub use write::{BATCH_ROWS, ROW_GROUP_ROWS, RowWriter, Writer, write_all};

/// All tables, in the order of the stages that make them.
pub static TABLES: &[&Table] = &[
    &INTERACTIONS,
    &ITEMS,
    &USERS,
    &QUERIES,
    &JUDGMENTS,
    &TRUTH,
    &REJECTS,
    &AUDIT,
    &EVENTS,
    &VOCABULARY,
    &CATALOGUE,
    &ITEM_FEATURES,
    &USER_FEATURES,
    &SEQUENCES,
    &SAMPLES,
    &REQUESTS,
    &PLANTED,
    &PROFILE,
    &PREDICTIONS,
    &TRAINING,
    &CHECKPOINTS,
    &REMOVALS,
    &FEATURE_WEIGHTS,
    &SUBSETS,
    &RESPONSES,
    &TRIALS,
    &LATENCY,
    &PROBE_SAMPLES,
    &PROBE_REQUESTS,
    &PROBE_GRADIENTS,
    &PROBE_DIRECTIONS,
    &PROBE_CURVATURES,
    &PROBE_ATTENTION,
    &PROBE_BLOCK_INFLUENCE,
    &PROBE_UNROLLED,
    &PROJECTION_FIDELITY,
    &PROBE_FEATURES,
    &PROBE_COMPLETENESS,
    &ITEM_COUNTS,
    &TRANSITIONS,
    &SCORES,
    &METHODS,
    &TIERS,
    &GROUPS,
    &SENSITIVITY,
    &INFLUENCES,
    &FEATURE_IMPORTANCE,
    &METRICS,
    &PER_REQUEST,
    &CONCLUSIONS,
    &MEASURED,
];
