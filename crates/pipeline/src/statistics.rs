//! What `show` says of the columns of a table: how many cells are empty, between which values the rest
//! lies, and how many values differ.

use std::collections::BTreeSet;

use arrow::array::{Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Different values that are counted before giving up.
const MOST_VALUES: usize = 1_000;

/// One column, summed up batch by batch.
#[derive(Debug, Default)]
pub struct Statistics {
    n: usize,
    n_null: usize,
    range: Option<(f64, f64)>,
    sum: f64,
    /// As text; `None` once there were too many.
    values: Option<BTreeSet<String>>,
    is_numeric: bool,
}

impl Statistics {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self {
            values: Some(BTreeSet::new()),
            ..Self::default()
        }
    }

    /// Adds the column of a batch.
    ///
    /// # Errors
    /// If a value cannot be read.
    pub fn add(&mut self, batch: &RecordBatch, column: usize) -> Result<(), ArrowError> {
        let array = batch.column(column);
        self.n += array.len();
        self.n_null += array.null_count();
        if array.data_type().is_numeric() {
            self.is_numeric = true;
            let numbers = cast(array, &DataType::Float64)?;
            let numbers =
                arrow::array::as_primitive_array::<arrow::datatypes::Float64Type>(&numbers);
            for value in numbers.iter().flatten() {
                let (low, high) = self.range.unwrap_or((value, value));
                self.range = Some((low.min(value), high.max(value)));
                self.sum += value;
            }
        }
        let Some(values) = &mut self.values else {
            return Ok(());
        };
        let options = FormatOptions::default();
        let texts = ArrayFormatter::try_new(array.as_ref(), &options)?;
        for row in 0..array.len() {
            if array.is_valid(row) {
                values.insert(texts.value(row).try_to_string()?);
                if values.len() > MOST_VALUES {
                    self.values = None;
                    break;
                }
            }
        }
        Ok(())
    }

    /// In a few words.
    pub fn words(&self) -> String {
        let mut parts = Vec::new();
        if self.n_null > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a share for people")]
            let share = 100.0 * self.n_null as f64 / self.n as f64;
            parts.push(format!("{share:.1} % empty"));
        }
        if let (true, Some((low, high))) = (self.is_numeric, self.range) {
            #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
            let mean = self.sum / (self.n - self.n_null).max(1) as f64;
            parts.push(if low.to_bits() == high.to_bits() {
                format!("always {}", short(low))
            } else {
                format!("{} to {}, mean {}", short(low), short(high), short(mean))
            });
        }
        match &self.values {
            None => parts.push(format!("more than {MOST_VALUES} values")),
            Some(values) if self.is_numeric => {
                if values.len() > 1 {
                    parts.push(format!("{} values", values.len()));
                }
            }
            Some(values) if values.len() > 4 => parts.push(format!("{} values", values.len())),
            Some(values) => {
                let words: Vec<String> = values
                    .iter()
                    .map(|value| {
                        let kept: String =
                            value.chars().filter(|c| !c.is_control()).take(24).collect();
                        format!("`{kept}`")
                    })
                    .collect();
                if !words.is_empty() {
                    parts.push(words.join(" "));
                }
            }
        }
        parts.join("; ")
    }
}

/// A number for people.
fn short(value: f64) -> String {
    if value.fract().abs() <= 0.0 && value.abs() < 1e15 {
        format!("{value:.0}")
    } else if (1e-3..1e6).contains(&value.abs()) {
        format!("{value:.4}")
    } else {
        format!("{value:.3e}")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray, UInt32Array};

    use super::*;

    fn words(arrays: &[ArrayRef]) -> String {
        let mut statistics = Statistics::new();
        for array in arrays {
            let batch = RecordBatch::try_from_iter([("x", Arc::clone(array))]).unwrap();
            statistics.add(&batch, 0).unwrap();
        }
        statistics.words()
    }

    #[test]
    fn columns_are_summed_up_over_batches() {
        let one: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None, Some(2.5)]));
        let other: ArrayRef = Arc::new(Float64Array::from(vec![Some(-1.0)]));
        assert_eq!(
            words(&[one, other]),
            "25.0 % empty; -1 to 2.5000, mean 0.8333; 3 values"
        );
        let same: ArrayRef = Arc::new(UInt32Array::from(vec![7, 7]));
        assert_eq!(words(&[same]), "always 7");
        let text: ArrayRef = Arc::new(StringArray::from(vec!["b", "a", "b"]));
        assert_eq!(words(&[text]), "`a` `b`");
        let many: ArrayRef = Arc::new(UInt32Array::from_iter_values(0..2_000));
        assert_eq!(
            words(&[many]),
            "0 to 1999, mean 999.5000; more than 1000 values"
        );
    }
}
