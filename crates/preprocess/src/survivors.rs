//! The rows that no step refused: duplicates, k-core, sessions, and the table `events`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMillisecondType;
use query::{Engine, sql};
use stage::{Exit, Failure, Io, Progress};
use tables::{EVENTS, INTERACTIONS, Writer};

use crate::audit::Auditor;
use crate::config::{Config, KCoreKind};
use crate::duplicates::Duplicates;
use crate::k_core::k_core;
use crate::sessions::Sessions;
use crate::{failed, register::Scratch};

/// Finds a column by name.
pub(crate) fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Failure> {
    batch
        .column_by_name(name)
        .ok_or_else(|| Failure::new(Exit::Bug, format!("a statement gave no column `{name}`")))
}

/// Users and items of a log as numbers, in order of first appearance.
#[derive(Default)]
struct Pairs {
    last_user: Option<String>,
    n_users: u32,
    item_numbers: HashMap<String, u32>,
    users: Vec<u32>,
    items: Vec<u32>,
}

impl Pairs {
    /// Adds the rows of a batch in sequence order: the events of a user are neighbours.
    fn add(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let users = column(batch, "user_id")?.as_string::<i32>();
        let items = column(batch, "item_id")?.as_string::<i32>();
        for row in 0..batch.num_rows() {
            let user = users.value(row);
            if self.last_user.as_deref() != Some(user) {
                self.last_user = Some(user.to_owned());
                self.n_users += 1;
            }
            let item = items.value(row);
            let number = if let Some(number) = self.item_numbers.get(item) {
                *number
            } else {
                let next = u32::try_from(self.item_numbers.len()).map_err(Failure::data)?;
                self.item_numbers.insert(item.to_owned(), next);
                next
            };
            self.users.push(self.n_users - 1);
            self.items.push(number);
        }
        Ok(())
    }
}

/// Writes the table `events`.
struct Events {
    writer: Writer,
    sessions: Sessions,
    progress: Progress,
}

impl Events {
    /// Adds cleaned rows, which are of the schema of `interactions`.
    fn add(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let users = column(batch, "user_id")?.as_string::<i32>();
        let instants = column(batch, "occurred_at")?.as_primitive::<TimestampMillisecondType>();
        let ids = column(batch, "session_id")?.as_string::<i32>();
        let sessions = (0..batch.num_rows()).map(|row| {
            self.sessions.next(
                users.value(row),
                instants.is_valid(row).then(|| instants.value(row)),
                ids.is_valid(row).then(|| ids.value(row)),
            )
        });
        let sessions: ArrayRef = Arc::new(UInt32Array::from_iter_values(sessions));
        let schema = EVENTS.schema();
        let columns = schema
            .fields()
            .iter()
            .map(|field| match field.name().as_str() {
                "session" => Ok(sessions.clone()),
                name => column(batch, name).cloned(),
            })
            .collect::<Result<Vec<ArrayRef>, Failure>>()?;
        let events = RecordBatch::try_new(schema, columns).map_err(Failure::bug)?;
        self.writer.write(&events).map_err(Failure::environment)?;
        self.progress.advance(batch.num_rows() as u64);
        Ok(())
    }
}

/// Writes the table `events` from the labelled log, and audits what is dropped on the way.
pub(crate) fn write_events(
    engine: &Engine,
    config: &Config,
    io: &Io,
    scratch: &Scratch,
    auditor: &mut Auditor,
) -> Result<(), Failure> {
    let mut events = Events {
        writer: Writer::create(&io.output("events")?, &EVENTS).map_err(Failure::environment)?,
        sessions: Sessions::new(config.session_gap_minutes),
        progress: io.progress("writing events", auditor.n_rows()),
    };
    let (mut n_distinct, mut n_outside) = (0_u64, 0_u64);
    let mut duplicates = config.drop_duplicates.then(Duplicates::default);
    let stream = engine
        .stream(&sql::preprocess::SORT_SURVIVORS, &[])
        .map_err(failed)?
        .map(|batch| {
            let batch = batch.map_err(failed)?;
            match &mut duplicates {
                None => Ok(batch),
                Some(duplicates) => duplicates.drop(&batch),
            }
        });
    if config.k_core.kind == KCoreKind::None {
        for batch in stream {
            let batch = batch?;
            n_distinct += batch.num_rows() as u64;
            events.add(&batch)?;
        }
    } else {
        // Sorting twice costs more than reading back what was sorted once.
        let sorted = scratch.directory("sorted")?;
        let mut writer = Writer::create(&sorted, &INTERACTIONS).map_err(Failure::environment)?;
        let mut pairs = Pairs::default();
        for batch in stream {
            let batch = batch?;
            pairs.add(&batch)?;
            writer.write(&batch).map_err(Failure::environment)?;
        }
        n_distinct = writer.finish().map_err(Failure::environment)?;
        let keep = k_core(&pairs.users, &pairs.items, config.k_core);
        drop(pairs);
        n_outside = keep.iter().map(|keep| u64::from(!keep)).sum();
        add_kept(&mut events, &sorted, &keep)?;
    }
    let n_sessions = events.sessions.n_opened();
    events.writer.finish().map_err(Failure::environment)?;

    let n_duplicates = auditor.n_rows().saturating_sub(n_distinct);
    audit(config, auditor, n_duplicates, n_outside, n_sessions);
    Ok(())
}

/// Adds the sorted rows that are marked, one mark per row.
fn add_kept(events: &mut Events, sorted: &Path, keep: &[bool]) -> Result<(), Failure> {
    let mut start = 0;
    for batch in tables::batches(sorted, &INTERACTIONS).map_err(Failure::environment)? {
        let batch = batch.map_err(Failure::environment)?;
        let end = start + batch.num_rows();
        let mask = BooleanArray::from(keep[start..end].to_vec());
        events.add(&filter_record_batch(&batch, &mask).map_err(Failure::bug)?)?;
        start = end;
    }
    Ok(())
}

fn audit(
    config: &Config,
    auditor: &mut Auditor,
    n_duplicates: u64,
    n_outside: u64,
    n_sessions: u64,
) {
    if config.drop_duplicates {
        auditor.step(
            "drop_duplicates",
            n_duplicates,
            false,
            "Equal in user, item, event, instant, value, price and session: the first stays. Records without an instant differ by their position.",
        );
    } else {
        auditor.off("drop_duplicates");
    }
    let k = config.k_core;
    let how = match k.kind {
        KCoreKind::None => None,
        KCoreKind::SinglePass => Some(("k_core.single_pass", "counted once and filtered once")),
        KCoreKind::Iterative => Some(("k_core.iterative", "repeated until nothing changes")),
    };
    match how {
        None => auditor.off("k_core"),
        Some((name, how)) => auditor.step(
            name,
            n_outside,
            true,
            &format!(
                "Users with at least {} events and items with at least {}, {how}; counted over the whole log, test part included.",
                k.users, k.items
            ),
        ),
    }
    let cut = match config.session_gap_minutes {
        0 => "the log's own".to_owned(),
        minutes => format!("cut at gaps of more than {minutes} minutes"),
    };
    let note = format!("{n_sessions} sessions, {cut}.");
    auditor.step("sessions", 0, false, &note);
}
