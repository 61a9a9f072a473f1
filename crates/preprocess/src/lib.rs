//! The stage `preprocess`: raw interactions to cleaned events in sequence order, with an audit of
//! the rows in and out of every step.
//!
//! Which rows are refused and the total order are SQL; duplicates, which purchase a cancellation
//! takes back, the k-core and sessions are loops over sorted streams. Memory is bounded but for the
//! k-core, which holds two numbers per event.

mod audit;
mod cancellations;
mod config;
mod duplicates;
mod k_core;
mod register;
mod sessions;
mod survivors;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use query::{Engine, QueryError, Settings};
use stage::{Description, Exit, Failure, Input, Io, Offers, Output, PROTOCOL, Stage};
use tables::{INTERACTIONS, Item, RowWriter};

pub use config::{Cancellations, Config, Instants, KCore, KCoreKind, Positive};

use audit::Auditor;
use register::Scratch;

/// The stage.
pub struct Preprocess;

impl Stage for Preprocess {
    type Config = Config;

    fn description() -> Description {
        Description {
            protocol: PROTOCOL,
            name: "preprocess",
            revision: 2,
            doc: "Cleans interactions into events in sequence order and audits every step.",
            uses_seed: false,
            is_resumable: false,
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
        let scratch = Scratch::beside_outputs(io)?;
        let settings = Settings::new(io.threads(), scratch.path());
        clean(config, io, &scratch, &settings)
    }
}

/// Runs the stage under settings that must not change a result.
fn clean(config: &Config, io: &Io, scratch: &Scratch, settings: &Settings) -> Result<(), Failure> {
    let interactions = io.input("interactions")?;
    let n_read = tables::batches(interactions, &INTERACTIONS)
        .map_err(Failure::data)?
        .n_rows();
    let engine = Engine::new(settings).map_err(Failure::environment)?;
    engine
        .register(interactions, &INTERACTIONS)
        .map_err(failed)?;
    let n_instants = register::register(&engine, config)?;

    let mut auditor = Auditor::new(n_read);
    register::audit_refusals(&engine, config, n_instants, &mut auditor)?;
    survivors::write_events(&engine, config, io, scratch, &mut auditor)?;
    let n_kept = auditor.n_rows();
    let steps = auditor.into_rows();
    if n_kept == 0 {
        let culprit = steps.iter().find(|step| step.rows_out == 0);
        let name = culprit.map_or("", |step| step.name.as_str());
        let message = format!("no event is left after the step `{name}`");
        return Err(Failure::new(Exit::Data, message)
            .hint("relax that step in the configuration of `preprocess`"));
    }
    io.note(&format!("{n_kept} of {n_read} interactions kept"));

    write_items(io)?;
    tables::write_all(&io.output("audit")?, steps)
        .map_err(Failure::environment)
        .map(|_| ())
}

/// What a failed query means: out of room, or bad data.
fn failed(error: QueryError) -> Failure {
    if error.is_exhausted() {
        Failure::environment(error)
            .hint("free memory or disk space where the outputs go, or run on a larger machine")
    } else {
        Failure::data(error)
    }
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
