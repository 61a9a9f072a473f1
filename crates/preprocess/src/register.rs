//! What the statements read: the lists of the configuration and the log labelled with refusals.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::Int64Type;
use query::{Engine, Parameter, Relation, sql};
use stage::{Failure, Io};

use crate::audit::Auditor;
use crate::cancellations::Matcher;
use crate::config::{Cancellations, Config, Positive};
use crate::failed;

/// A directory beside the outputs for what does not fit into memory; removed at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Names the directory; whoever uses it creates it.
    pub(crate) fn beside_outputs(io: &Io) -> Result<Self, Failure> {
        let output = io.output("events")?;
        let parent = output.parent().unwrap_or(Path::new("."));
        Ok(Self(parent.join(".scratch")))
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Creates a directory in it.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).map_err(|error| {
            Failure::environment(error).cause(format!("creating `{}`", path.display()))
        })?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing in it is a result: what cannot be removed here goes with the folder around it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn register_column(engine: &Engine, relation: &Relation, column: ArrayRef) -> Result<(), Failure> {
    let batch = RecordBatch::try_new((relation.schema)(), vec![column]).map_err(Failure::bug)?;
    engine
        .register_batches(relation, vec![batch])
        .map_err(Failure::bug)
}

/// Makes the lists of the configuration and the labelled log known; gives the instants of the log.
pub(crate) fn register(engine: &Engine, config: &Config) -> Result<u64, Failure> {
    let list = |relation: &Relation, mut words: Vec<&str>| {
        words.sort_unstable();
        // A second mention would double the rows of a join.
        words.dedup();
        let words = StringArray::from_iter_values(words);
        register_column(engine, relation, Arc::new(words))
    };
    let kept = config.kept_events();
    let kept = kept.iter().map(|event| event.as_str()).collect();
    list(&sql::preprocess::KEPT_EVENTS, kept)?;
    let excluded = config.exclude_items.iter().map(String::as_str).collect();
    list(&sql::preprocess::EXCLUDED_ITEMS, excluded)?;

    let mut matcher = Matcher::default();
    if config.cancellations == Cancellations::DropWithPurchase {
        let cancelled = &sql::preprocess::SELECT_CANCELLED;
        for batch in engine.stream(cancelled, &[]).map_err(failed)? {
            matcher.see_batch(&batch.map_err(failed)?)?;
        }
    }
    let taken_back = UInt64Array::from(matcher.into_taken_back());
    let relation = &sql::preprocess::TAKEN_BACK;
    register_column(engine, relation, Arc::new(taken_back))?;

    let n_instants = n_instants(engine)?;
    let (earliest, latest) = config
        .instants
        .map_or((i64::MIN, i64::MAX), |range| (range.from.0, range.to.0));
    let is_positive = |column| Parameter::Boolean(config.positive.contains(&column));
    let parameters = [
        // One instant makes the order of a log one of instants.
        ("needs_instants", Parameter::Boolean(n_instants > 0)),
        ("earliest", Parameter::Instant(earliest)),
        ("latest", Parameter::Instant(latest)),
        ("positive_value", is_positive(Positive::Value)),
        ("positive_price", is_positive(Positive::Price)),
    ];
    engine
        .register_view(&sql::preprocess::LABEL, &parameters)
        .map_err(failed)?;
    Ok(n_instants)
}

fn n_instants(engine: &Engine) -> Result<u64, Failure> {
    let extent = &sql::preprocess::COUNT_EXTENT;
    let mut n = 0;
    for batch in engine.stream(extent, &[]).map_err(failed)? {
        let batch = batch.map_err(failed)?;
        let counts = batch.column(1).as_primitive::<Int64Type>();
        n += counts.values().iter().sum::<i64>();
    }
    u64::try_from(n).map_err(Failure::bug)
}

/// Audits what the labels refuse, step by step.
pub(crate) fn audit_refusals(
    engine: &Engine,
    config: &Config,
    n_instants: u64,
    auditor: &mut Auditor,
) -> Result<(), Failure> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    let statement = &sql::preprocess::COUNT_REFUSALS;
    for batch in engine.stream(statement, &[]).map_err(failed)? {
        let batch = batch.map_err(failed)?;
        let steps = batch.column(0).as_string::<i32>().iter().flatten();
        let n_rows = batch.column(1).as_primitive::<Int64Type>().values();
        counts.extend(steps.map(str::to_owned).zip(n_rows.iter().copied()));
    }
    let mut step = |name: &str, is_on: bool, uses_future: bool, note: &str| {
        if is_on {
            let n_refused = counts.get(name).copied().unwrap_or(0);
            auditor.step(
                name,
                u64::try_from(n_refused).unwrap_or(0),
                uses_future,
                note,
            );
        } else {
            auditor.off(name);
        }
    };
    step(
        "missing_user",
        true,
        false,
        "Without a user there is no sequence.",
    );
    let note = match (config.instants, n_instants) {
        (_, 0) => "The log has an order and no instants.".to_owned(),
        (None, _) => "Without an instant in a log that has them.".to_owned(),
        (Some(range), _) => format!("No instant, or outside {} to {}.", range.from, range.to),
    };
    step("impossible_instant", true, false, &note);
    let with_purchase = config.cancellations == Cancellations::DropWithPurchase;
    let note = if with_purchase {
        "Cancellations, and the purchase of the same quantity that each takes back."
    } else {
        "Cancellations; the purchases that they take back stay, since that is known only later."
    };
    step("cancellations", true, with_purchase, note);
    let kept: Vec<&str> = config
        .kept_events()
        .iter()
        .map(|event| event.as_str())
        .collect();
    step(
        "events",
        true,
        false,
        &format!("Kept: {}.", kept.join(", ")),
    );
    step(
        "positive_value",
        config.positive.contains(&Positive::Value),
        false,
        "Quantities and ratings must be positive where they are known.",
    );
    step(
        "positive_price",
        config.positive.contains(&Positive::Price),
        false,
        "Prices must be positive where they are known.",
    );
    step(
        "exclude_items",
        !config.exclude_items.is_empty(),
        false,
        &format!("No goods: {}.", config.exclude_items.join(", ")),
    );
    Ok(())
}
