//! The audit: rows in and out of every step, in order.

use tables::Audit;

/// Collects steps.
pub(crate) struct Auditor {
    rows: Vec<Audit>,
    n_rows: u64,
}

impl Auditor {
    /// Starts with so many rows.
    pub(crate) fn new(n_rows: u64) -> Self {
        Self {
            rows: Vec::new(),
            n_rows,
        }
    }

    /// Adds a step that dropped so many rows.
    pub(crate) fn step(&mut self, name: &str, n_dropped: u64, uses_future: bool, note: &str) {
        let rows_in = self.n_rows;
        self.n_rows = rows_in.saturating_sub(n_dropped);
        self.rows.push(Audit {
            step: u32::try_from(self.rows.len()).unwrap_or(u32::MAX),
            stage: "preprocess".to_owned(),
            name: name.to_owned(),
            rows_in,
            rows_out: self.n_rows,
            uses_future,
            note: note.to_owned(),
        });
    }

    /// Adds a step that the configuration turns off, so that its absence can be seen.
    pub(crate) fn off(&mut self, name: &str) {
        self.step(name, 0, false, "Off.");
    }

    /// Rows that are left.
    pub(crate) fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// The steps.
    pub(crate) fn into_rows(self) -> Vec<Audit> {
        self.rows
    }
}
