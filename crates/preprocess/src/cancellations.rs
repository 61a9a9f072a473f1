//! Which purchases a cancellation takes back.
//!
//! A cancellation answers to the latest purchase of the same user, item and quantity that came before
//! it and was not taken back yet. One without such a purchase (it was made before the log begins, or
//! only a part of it is returned) takes nothing back.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use stage::Failure;
use tables::Event;

/// Sees purchases and cancellations of (user, item) pairs, pair after pair, in order of time.
#[derive(Default)]
pub(crate) struct Matcher {
    pair: (String, String),
    /// Purchases of the pair that were not taken back: identity and quantity.
    open: Vec<(u64, Option<u64>)>,
    taken_back: Vec<u64>,
}

impl Matcher {
    /// Sees the next batch of the statement `cancelled`.
    pub(crate) fn see_batch(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let text = |column: usize| {
            cast(batch.column(column), &DataType::Utf8)
                .map(|array| array.as_string::<i32>().clone())
                .map_err(Failure::bug)
        };
        let ids = batch.column(0).as_primitive::<UInt64Type>();
        let (users, items, events) = (text(1)?, text(2)?, text(3)?);
        let values = batch.column(4).as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            let event = events.value(row).parse().map_err(Failure::data)?;
            let value = values.is_valid(row).then(|| values.value(row));
            self.see(
                users.value(row),
                items.value(row),
                event,
                value,
                ids.value(row),
            );
        }
        Ok(())
    }

    fn see(&mut self, user: &str, item: &str, event: Event, value: Option<f64>, id: u64) {
        if self.pair.0 != user || self.pair.1 != item {
            self.pair = (user.to_owned(), item.to_owned());
            self.open.clear();
        }
        // Quantities are compared, not computed with: equal bits are equal quantities.
        let quantity = value.map(|value| value.abs().to_bits());
        if event == Event::Cancel {
            if let Some(latest) = self.open.iter().rposition(|open| open.1 == quantity) {
                self.taken_back.push(self.open.remove(latest).0);
            }
        } else {
            self.open.push((id, quantity));
        }
    }

    /// Identities of the purchases that were taken back, ascending.
    pub(crate) fn into_taken_back(mut self) -> Vec<u64> {
        self.taken_back.sort_unstable();
        self.taken_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_back(events: &[(&str, &str, Event, f64)]) -> Vec<u64> {
        let mut matcher = Matcher::default();
        for (id, &(user, item, event, value)) in (0..).zip(events) {
            matcher.see(user, item, event, Some(value), id);
        }
        matcher.into_taken_back()
    }

    #[test]
    fn the_latest_equal_purchase_before_is_taken_back_once() {
        use Event::{Cancel, Purchase};
        let events = [
            ("u", "a", Cancel, -2.0),   // 0: of a purchase before the log begins
            ("u", "a", Purchase, 2.0),  // 1: taken back by 5
            ("u", "a", Purchase, 2.0),  // 2: taken back by 4
            ("u", "a", Purchase, 3.0),  // 3: another quantity
            ("u", "a", Cancel, -2.0),   // 4
            ("u", "a", Cancel, -2.0),   // 5
            ("u", "a", Cancel, -2.0),   // 6: nothing is left
            ("u", "a", Purchase, 2.0),  // 7: later
            ("u", "b", Cancel, -3.0),   // 8: another item
            ("v", "a", Purchase, 12.0), // 9: partly returned
            ("v", "a", Cancel, -1.0),   // 10
        ];
        assert_eq!(taken_back(&events), [1, 2]);
    }
}
