//! The stage `estimate`: the only one that turns probes into scores.

mod config;
mod description;
mod probe;
mod run;
#[cfg(test)]
mod tests;

use stage::{Description, Failure, Io, Offers, Stage};

pub use config::{Config, Reduce, Target};

/// The stage.
pub struct Estimate;

impl Stage for Estimate {
    type Config = Config;

    fn description() -> Description {
        description::description()
    }

    fn check(config: &Config, offers: &Offers) -> Result<Offers, Failure> {
        config::check(config, offers)
    }

    fn run(config: &Config, io: &Io) -> Result<(), Failure> {
        run::run(config, io)
    }
}
