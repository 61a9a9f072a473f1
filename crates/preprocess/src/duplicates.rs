//! Exact duplicates, in one pass over the sorted stream.
//!
//! Sorting by user and instant has brought equal records together, so a set of the records of one
//! user and instant tells them. A window function over all columns says the same in SQL, sorts once
//! more for it and opens a partition for almost every row: four times the time of the whole sort.

use std::collections::HashSet;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Float64Type, Int8Type, Int64Type, TimestampMillisecondType};
use stage::{Exit, Failure};
use tables::Event;

use crate::survivors::column;

/// What makes two records of one user and instant equal.
#[derive(PartialEq, Eq, Hash)]
struct Record {
    item_id: String,
    event: Event,
    /// Bits of the value: equal values are the same value as read.
    value: Option<u64>,
    price_e4: Option<i64>,
    session_id: Option<String>,
}

/// Remembers the records of the user and instant that the stream is at.
#[derive(Default)]
pub(crate) struct Duplicates {
    user: String,
    at: Option<i64>,
    seen: HashSet<Record>,
}

impl Duplicates {
    /// Drops records that were seen before. Records without an instant differ by their position.
    pub(crate) fn drop(&mut self, batch: &RecordBatch) -> Result<RecordBatch, Failure> {
        let users = column(batch, "user_id")?.as_string::<i32>();
        let instants = column(batch, "occurred_at")?.as_primitive::<TimestampMillisecondType>();
        let items = column(batch, "item_id")?.as_string::<i32>();
        let events = column(batch, "event")?.as_dictionary::<Int8Type>();
        let words = events.values().as_string::<i32>();
        let values = column(batch, "value")?.as_primitive::<Float64Type>();
        let prices = column(batch, "price_e4")?.as_primitive::<Int64Type>();
        let sessions = column(batch, "session_id")?.as_string::<i32>();
        let mut keep = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            if instants.is_null(row) {
                keep.push(true);
                continue;
            }
            let (user, at) = (users.value(row), instants.value(row));
            if self.at != Some(at) || self.user != user {
                self.at = Some(at);
                user.clone_into(&mut self.user);
                self.seen.clear();
            }
            let word = events.key(row).map(|key| words.value(key));
            let event = word
                .and_then(|word| word.parse().ok())
                .ok_or_else(|| Failure::new(Exit::Data, "an interaction has no known event"))?;
            keep.push(
                self.seen.insert(Record {
                    item_id: items.value(row).to_owned(),
                    event,
                    value: values.is_valid(row).then(|| values.value(row).to_bits()),
                    price_e4: prices.is_valid(row).then(|| prices.value(row)),
                    session_id: sessions
                        .is_valid(row)
                        .then(|| sessions.value(row).to_owned()),
                }),
            );
        }
        filter_record_batch(batch, &BooleanArray::from(keep)).map_err(Failure::bug)
    }
}
