//! The stage `estimate`: the only one that turns probes into scores.
//!
//! Where told to, it also says which samples are of high and low value (`tiers`), what the scores of
//! users, items, categories, brands and types of events add up to (`groups`), and which samples matter
//! most to single requests (`influences`). Several probes of trainings with other seeds are an ensemble:
//! means with standard errors. Parameters of a method are chosen on requests that no score is measured
//! against (`tune`). With `of: features` it scores features of the model instead.

mod config;
mod context;
mod description;
mod ensemble;
mod features;
mod groups;
mod influences;
mod members;
mod probe;
mod run;
mod scored;
#[cfg(test)]
mod tests;
mod tiers;
mod tune;

use stage::{Description, Failure, Io, Offers, Stage};

pub use config::{Config, Reduce, Target};
pub use features::Of;
pub use groups::{Groups, Unit};
pub use influences::Influences;
pub use tiers::Tiers;
pub use tune::Tune;

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
