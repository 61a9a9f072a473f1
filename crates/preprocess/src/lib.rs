//! The stage `preprocess`: raw interactions to cleaned events in sequence order, with an audit of
//! the rows in and out of every step.
//!
//! Which rows are refused, duplicates and the total order are SQL; the k-core and sessions are
//! loops over the sorted stream.

mod audit;
mod config;
mod k_core;
mod sessions;
mod survivors;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef};
use query::{Engine, Parameter, QueryError, sql};
use stage::{Description, Exit, Failure, Input, Io, Offers, Output, PROTOCOL, Stage};
use tables::{INTERACTIONS, Item, RowWriter};

pub use config::{Cancellations, Config, Instants, KCore, KCoreKind, Positive};

use audit::Auditor;
use survivors::Survivors;

/// The stage.
pub struct Preprocess;

impl Stage for Preprocess {
    type Config = Config;

    fn description() -> Description {
        Description {
            protocol: PROTOCOL,
            name: "preprocess",
            revision: 1,
            doc: "Cleans interactions into events in sequence order and audits every step.",
            uses_seed: false,
            uses_floats: false,
            inputs: vec![
                Input::required("interactions", &["interactions"], "events as read"),
                Input::required("items", &["items"], "items as read"),
            ],
            outputs: vec![
                Output::new(
                    "events",
                    "cleaned events, sorted by user, instant and sample id",
                ),
                Output::new("items", "items with cleaned text"),
                Output::new("audit", "rows in and out of every step"),
            ],
            config: config::fields(),
            registries: BTreeMap::new(),
        }
    }

    fn check(config: &Config, _offers: &Offers) -> Result<Offers, Failure> {
        config.check()?;
        Ok(Self::description().offers())
    }

    fn run(config: &Config, io: &Io) -> Result<(), Failure> {
        let interactions = io.input("interactions")?;
        let n_read = tables::batches(interactions, &INTERACTIONS)
            .map_err(Failure::data)?
            .n_rows();
        let engine = Engine::new(io.threads()).map_err(Failure::environment)?;
        engine
            .register(interactions, &INTERACTIONS)
            .map_err(Failure::data)?;
        register(&engine, config)?;

        let mut auditor = Auditor::new(n_read);
        audit_refusals(&engine, config, &mut auditor)?;
        let survivors = Survivors {
            engine: &engine,
            config,
        };
        survivors.write(io, &mut auditor)?;
        if auditor.n_rows() == 0 {
            let last = auditor.into_rows();
            let culprit = last.iter().find(|step| step.rows_out == 0);
            let name = culprit.map_or("", |step| step.name.as_str());
            return Err(Failure::new(
                Exit::Data,
                format!("no event is left after the step `{name}`"),
            )
            .hint("relax that step in the configuration of `preprocess`"));
        }
        io.note(&format!(
            "{} of {n_read} interactions kept",
            auditor.n_rows()
        ));

        write_items(io)?;
        tables::write_all(&io.output("audit")?, auditor.into_rows())
            .map_err(Failure::environment)
            .map(|_| ())
    }
}

fn one_column(name: &str, kind: DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![ArrowField::new(name, kind, false)]))
}

fn register_column(
    engine: &Engine,
    table: &str,
    schema: SchemaRef,
    column: ArrayRef,
) -> Result<(), Failure> {
    let batch = RecordBatch::try_new(schema.clone(), vec![column]).map_err(Failure::bug)?;
    engine
        .register_batches(table, schema, vec![batch])
        .map_err(Failure::bug)
}

/// Makes the lists of the configuration and the labelled interactions known to the engine.
fn register(engine: &Engine, config: &Config) -> Result<(), Failure> {
    let kept = config.kept_events();
    let kept = StringArray::from_iter_values(kept.iter().map(|event| event.as_str()));
    let schema = one_column("event", DataType::Utf8);
    register_column(engine, "kept_events", schema, Arc::new(kept))?;

    let mut excluded = config.exclude_items.clone();
    excluded.sort();
    // A second mention would double the rows of a join.
    excluded.dedup();
    let schema = one_column("item_id", DataType::Utf8);
    let excluded = StringArray::from_iter_values(&excluded);
    register_column(engine, "excluded_items", schema, Arc::new(excluded))?;

    let schema = one_column("sample_id", DataType::UInt64);
    if config.cancellations == Cancellations::DropWithPurchase {
        let taken_back = engine
            .stream(
                sql::preprocess::TAKEN_BACK,
                "match cancellations with purchases",
            )
            .and_then(Iterator::collect::<Result<Vec<RecordBatch>, QueryError>>)
            .map_err(Failure::data)?;
        engine
            .register_batches("taken_back", schema, taken_back)
            .map_err(Failure::bug)?;
    } else {
        let none = UInt64Array::from(Vec::<u64>::new());
        register_column(engine, "taken_back", schema, Arc::new(none))?;
    }

    let instants = config.instants;
    let parameters = [
        (
            "earliest",
            Parameter::Instant(instants.map_or(i64::MIN, |range| range.from.0)),
        ),
        (
            "latest",
            Parameter::Instant(instants.map_or(i64::MAX, |range| range.to.0)),
        ),
        (
            "positive_value",
            Parameter::Boolean(config.positive.contains(&Positive::Value)),
        ),
        (
            "positive_price",
            Parameter::Boolean(config.positive.contains(&Positive::Price)),
        ),
    ];
    engine
        .register_view("labelled", sql::preprocess::LABELLED, &parameters)
        .map_err(Failure::bug)
}

/// Counts what each step refuses.
fn audit_refusals(engine: &Engine, config: &Config, auditor: &mut Auditor) -> Result<(), Failure> {
    let counts = survivors::refusals(engine)?;
    let refused = |step: &str| counts.get(step).copied().unwrap_or(0);
    let with_purchase = config.cancellations == Cancellations::DropWithPurchase;
    let kept: Vec<&str> = config
        .kept_events()
        .iter()
        .map(|event| event.as_str())
        .collect();
    auditor.step(
        "missing_user",
        refused("missing_user"),
        false,
        "Without a user there is no sequence.",
    );
    if config.instants.is_some() {
        auditor.step(
            "impossible_instant",
            refused("impossible_instant"),
            false,
            "Outside the instants that are believed.",
        );
    }
    auditor.step(
        "cancellations",
        refused("cancellations"),
        with_purchase,
        if with_purchase {
            "Cancellations, and the purchases that they take back later."
        } else {
            "Cancellations; the purchases that they take back stay, since that is known only later."
        },
    );
    auditor.step(
        "events",
        refused("events"),
        false,
        &format!("Kept: {}.", kept.join(", ")),
    );
    if config.positive.contains(&Positive::Value) {
        auditor.step(
            "positive_value",
            refused("positive_value"),
            false,
            "Quantities and ratings must be positive.",
        );
    }
    if config.positive.contains(&Positive::Price) {
        auditor.step(
            "positive_price",
            refused("positive_price"),
            false,
            "Prices must be positive.",
        );
    }
    if !config.exclude_items.is_empty() {
        auditor.step(
            "exclude_items",
            refused("exclude_items"),
            false,
            &format!("No goods: {}.", config.exclude_items.join(", ")),
        );
    }
    Ok(())
}

fn write_items(io: &Io) -> Result<(), Failure> {
    let mut writer = RowWriter::create(&io.output("items")?).map_err(Failure::environment)?;
    for item in tables::rows::<Item>(io.input("items")?).map_err(Failure::data)? {
        let mut item = item.map_err(Failure::data)?;
        for field in [
            &mut item.title,
            &mut item.description,
            &mut item.category,
            &mut item.brand,
        ] {
            *field = field.as_deref().and_then(text::clean);
        }
        writer.push(item).map_err(Failure::environment)?;
    }
    writer.finish().map_err(Failure::environment).map(|_| ())
}
