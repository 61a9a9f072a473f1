//! The rows that no step refused: duplicates, k-core, sessions, and the table `events`.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, PrimitiveArray, RecordBatch, StringArray,
    UInt32Array, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Float64Type, Int64Type, TimestampMillisecondType, UInt32Type, UInt64Type,
};
use query::{Engine, sql};
use stage::{Exit, Failure, Io};
use tables::{CleanEvent, Event, Instant, RowWriter};

use crate::audit::Auditor;
use crate::config::{Config, KCoreKind};
use crate::k_core::k_core;
use crate::sessions::Sessions;

/// Rows refused by each step.
pub(crate) fn refusals(engine: &Engine) -> Result<BTreeMap<String, u64>, Failure> {
    let mut counts = BTreeMap::new();
    for batch in engine
        .stream(sql::preprocess::REFUSALS, "count refused rows")
        .map_err(Failure::data)?
    {
        let batch = batch.map_err(Failure::data)?;
        let steps = text(&batch, "step")?;
        let n_rows = primitive::<Int64Type>(&batch, "n_rows")?;
        for row in 0..batch.num_rows() {
            counts.insert(
                steps.value(row).to_owned(),
                u64::try_from(n_rows.value(row)).unwrap_or(0),
            );
        }
    }
    Ok(counts)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Failure> {
    batch
        .column_by_name(name)
        .ok_or_else(|| Failure::new(Exit::Bug, format!("a statement gave no column `{name}`")))
}

fn text(batch: &RecordBatch, name: &str) -> Result<StringArray, Failure> {
    let array = cast(column(batch, name)?, &DataType::Utf8).map_err(Failure::bug)?;
    Ok(array.as_string::<i32>().clone())
}

fn primitive<T: arrow::datatypes::ArrowPrimitiveType>(
    batch: &RecordBatch,
    name: &str,
) -> Result<PrimitiveArray<T>, Failure> {
    column(batch, name)?
        .as_primitive_opt::<T>()
        .cloned()
        .ok_or_else(|| Failure::new(Exit::Bug, format!("column `{name}` has another type")))
}

/// The columns of one batch of survivors.
struct Columns {
    sample_id: UInt64Array,
    user_id: StringArray,
    item_id: StringArray,
    event: StringArray,
    occurred_at: PrimitiveArray<TimestampMillisecondType>,
    value: Float64Array,
    price_e4: Int64Array,
    session_id: StringArray,
    query_id: StringArray,
    shown_rank: UInt32Array,
    copy: UInt64Array,
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self, Failure> {
        Ok(Self {
            sample_id: primitive::<UInt64Type>(batch, "sample_id")?,
            user_id: text(batch, "user_id")?,
            item_id: text(batch, "item_id")?,
            event: text(batch, "event")?,
            occurred_at: primitive::<TimestampMillisecondType>(batch, "occurred_at")?,
            value: primitive::<Float64Type>(batch, "value")?,
            price_e4: primitive::<Int64Type>(batch, "price_e4")?,
            session_id: text(batch, "session_id")?,
            query_id: text(batch, "query_id")?,
            shown_rank: primitive::<UInt32Type>(batch, "shown_rank")?,
            copy: primitive::<UInt64Type>(batch, "copy")?,
        })
    }
}

/// Dense numbers in order of first appearance.
#[derive(Default)]
struct Numbers(HashMap<String, u32>);

impl Numbers {
    fn of(&mut self, name: &str) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        match self.0.get(name) {
            Some(number) => *number,
            None => {
                self.0.insert(name.to_owned(), next);
                next
            }
        }
    }
}

/// What is left to do with the survivors.
pub(crate) struct Survivors<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) config: &'a Config,
}

impl Survivors<'_> {
    fn stream(&self) -> Result<query::Stream<'_>, Failure> {
        self.engine
            .stream(sql::preprocess::SURVIVORS, "sort the events")
            .map_err(Failure::data)
    }

    fn is_duplicate(&self, columns: &Columns, row: usize) -> bool {
        self.config.drop_duplicates && columns.copy.value(row) > 1
    }

    /// Marks the events of the k-core among those that are no duplicates; `None` keeps all.
    fn core(&self) -> Result<Option<Vec<bool>>, Failure> {
        if self.config.k_core.kind == KCoreKind::None {
            return Ok(None);
        }
        let (mut user_numbers, mut item_numbers) = (Numbers::default(), Numbers::default());
        let (mut users, mut items) = (Vec::new(), Vec::new());
        for batch in self.stream()? {
            let columns = Columns::of(&batch.map_err(Failure::data)?)?;
            for row in 0..columns.sample_id.len() {
                if !self.is_duplicate(&columns, row) {
                    users.push(user_numbers.of(columns.user_id.value(row)));
                    items.push(item_numbers.of(columns.item_id.value(row)));
                }
            }
        }
        Ok(Some(k_core(&users, &items, self.config.k_core)))
    }

    /// Writes the table `events` and audits what is dropped on the way.
    pub(crate) fn write(&self, io: &Io, auditor: &mut Auditor) -> Result<(), Failure> {
        let core = self.core()?;
        let mut progress = io.progress("writing events", auditor.n_rows());
        let mut writer = RowWriter::create(&io.output("events")?).map_err(Failure::environment)?;
        let mut sessions = Sessions::new(self.config.session_gap_minutes);
        let (mut n_duplicates, mut n_outside, mut event) = (0_u64, 0_u64, 0_usize);
        for batch in self.stream()? {
            let columns = Columns::of(&batch.map_err(Failure::data)?)?;
            for row in 0..columns.sample_id.len() {
                progress.advance(1);
                if self.is_duplicate(&columns, row) {
                    n_duplicates += 1;
                    continue;
                }
                let is_in_core = core.as_ref().is_none_or(|keep| keep[event]);
                event += 1;
                if !is_in_core {
                    n_outside += 1;
                    continue;
                }
                let row = clean_event(&columns, row, &mut sessions)?;
                writer.push(row).map_err(Failure::environment)?;
            }
        }
        writer.finish().map_err(Failure::environment)?;
        if self.config.drop_duplicates {
            auditor.step(
                "drop_duplicates",
                n_duplicates,
                false,
                "Equal in user, item, event, instant, value, price and session; the first stays.",
            );
        }
        let k = self.config.k_core;
        let (name, how) = match k.kind {
            KCoreKind::None => return Ok(()),
            KCoreKind::SinglePass => ("k_core.single_pass", "counted and filtered once"),
            KCoreKind::Iterative => ("k_core.iterative", "repeated until nothing changes"),
        };
        auditor.step(
            name,
            n_outside,
            true,
            &format!(
                "Users with at least {} events and items with at least {}, {how}; counted over the whole log, test part included.",
                k.users, k.items
            ),
        );
        Ok(())
    }
}

fn clean_event(
    columns: &Columns,
    row: usize,
    sessions: &mut Sessions,
) -> Result<CleanEvent, Failure> {
    let user_id = columns.user_id.value(row);
    let at = columns
        .occurred_at
        .is_valid(row)
        .then(|| columns.occurred_at.value(row));
    let session_id = columns
        .session_id
        .is_valid(row)
        .then(|| columns.session_id.value(row));
    let event: Event = columns.event.value(row).parse().map_err(Failure::data)?;
    Ok(CleanEvent {
        sample_id: columns.sample_id.value(row),
        user_id: user_id.to_owned(),
        item_id: columns.item_id.value(row).to_owned(),
        event,
        occurred_at: at.map(Instant),
        session: sessions.next(user_id, at, session_id),
        value: columns
            .value
            .is_valid(row)
            .then(|| columns.value.value(row)),
        price_e4: columns
            .price_e4
            .is_valid(row)
            .then(|| columns.price_e4.value(row)),
        query_id: columns
            .query_id
            .is_valid(row)
            .then(|| columns.query_id.value(row).to_owned()),
        shown_rank: columns
            .shown_rank
            .is_valid(row)
            .then(|| columns.shown_rank.value(row)),
    })
}
