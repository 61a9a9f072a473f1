//! The stage `ingest`: raw logs to typed tables, with a reason for every record that is refused.

mod config;
mod description;
mod provenance;
mod run;
#[cfg(test)]
mod tests;
mod writers;

use stage::{Description, Failure, Io, Offers, Stage};

pub use config::Config;

/// The stage.
pub struct Ingest;

impl Stage for Ingest {
    type Config = Config;

    fn description() -> Description {
        description::description()
    }

    fn check(config: &Config, _: &Offers) -> Result<Offers, Failure> {
        config::prepare(config)?;
        Ok(description::description().offers())
    }

    fn run(config: &Config, io: &Io) -> Result<(), Failure> {
        run::run(config, io)
    }
}
