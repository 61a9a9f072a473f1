//! Rows of a data set on their way to disk.

use std::collections::BTreeMap;

use datasets::Sink;
use stage::{Failure, Io, Progress};
use tables::{
    Audit, Interaction, Item, Judgment, Query, Reject, Row, RowWriter, Truth, User, WriteError,
    write_all,
};

/// One writer for each output, created before the first row so that every table exists.
pub(crate) struct Writers<'a> {
    io: &'a Io,
    interactions: RowWriter<Interaction>,
    items: RowWriter<Item>,
    users: RowWriter<User>,
    queries: RowWriter<Query>,
    judgments: RowWriter<Judgment>,
    truth: RowWriter<Truth>,
    rejects: RowWriter<Reject>,
    n_rejected: BTreeMap<&'static str, u64>,
    progress: Option<Progress>,
    n_done: u64,
}

/// Numbers of rows, and of refused records by class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) interactions: u64,
    pub(crate) items: u64,
    pub(crate) users: u64,
    pub(crate) queries: u64,
    pub(crate) judgments: u64,
    pub(crate) rejected: BTreeMap<&'static str, u64>,
}

fn create<R: Row>(io: &Io) -> Result<RowWriter<R>, Failure> {
    RowWriter::create(&io.output(R::table().name)?).map_err(Failure::environment)
}

impl<'a> Writers<'a> {
    pub(crate) fn create(io: &'a Io) -> Result<Self, Failure> {
        Ok(Self {
            io,
            interactions: create(io)?,
            items: create(io)?,
            users: create(io)?,
            queries: create(io)?,
            judgments: create(io)?,
            truth: create(io)?,
            rejects: create(io)?,
            n_rejected: BTreeMap::new(),
            progress: None,
            n_done: 0,
        })
    }

    pub(crate) fn finish(self) -> Result<Written, WriteError> {
        self.truth.finish()?;
        self.rejects.finish()?;
        Ok(Written {
            interactions: self.interactions.finish()?,
            items: self.items.finish()?,
            users: self.users.finish()?,
            queries: self.queries.finish()?,
            judgments: self.judgments.finish()?,
            rejected: self.n_rejected,
        })
    }
}

impl Sink for Writers<'_> {
    fn interaction(&mut self, row: Interaction) -> Result<(), WriteError> {
        self.interactions.push(row)
    }

    fn item(&mut self, row: Item) -> Result<(), WriteError> {
        self.items.push(row)
    }

    fn user(&mut self, row: User) -> Result<(), WriteError> {
        self.users.push(row)
    }

    fn query(&mut self, row: Query) -> Result<(), WriteError> {
        self.queries.push(row)
    }

    fn judgment(&mut self, row: Judgment) -> Result<(), WriteError> {
        self.judgments.push(row)
    }

    fn truth(&mut self, row: Truth) -> Result<(), WriteError> {
        self.truth.push(row)
    }

    fn reject(&mut self, class: &'static str, row: Reject) -> Result<(), WriteError> {
        *self.n_rejected.entry(class).or_default() += 1;
        self.rejects.push(row)
    }

    fn progress(&mut self, done: u64, total: u64) {
        let progress = self
            .progress
            .get_or_insert_with(|| self.io.progress("reading", total));
        progress.advance(done.saturating_sub(self.n_done));
        self.n_done = self.n_done.max(done);
    }
}

/// Writes what became of the records: accepted and rejected are all that was read.
pub(crate) fn write_audit(io: &Io, n_records: u64, written: &Written) -> Result<(), Failure> {
    let mut rows: Vec<Audit> = Vec::new();
    let mut step = |name: String, rows_in: u64, rows_out: u64, note: &str| {
        rows.push(Audit {
            step: u32::try_from(rows.len()).unwrap_or(u32::MAX),
            stage: "ingest".to_owned(),
            name,
            rows_in,
            rows_out,
            uses_future: false,
            note: note.to_owned(),
        });
    };
    step(
        "read".to_owned(),
        n_records,
        n_records,
        "records of the raw log",
    );
    let mut n_left = n_records;
    for (class, n_rejected) in &written.rejected {
        let n_after = n_left - n_rejected;
        step(
            format!("reject: {class}"),
            n_left,
            n_after,
            "refused, each with line, reason and hint in `rejects`",
        );
        n_left = n_after;
    }
    if n_left != written.interactions {
        step(
            "expand".to_owned(),
            n_left,
            written.interactions,
            "a record holds several events",
        );
    }
    write_all(&io.output("audit")?, rows).map_err(Failure::environment)?;
    Ok(())
}
