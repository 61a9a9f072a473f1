//! The stage `train`: the only one that runs models.
//!
//! Mode `fit` fits one model on the training samples, acting on scores first where told to, and
//! ranks all candidates for every request. Mode `probe` lays out what estimators may look at:
//! losses, counts, transitions and representations of one fitted model, and what its predictions rest
//! on. Mode `respond`
//! retrains without given samples and says what that did to every request. Mode `serve` measures how fast
//! a fitted model answers. Mode `merge` puts the parts of a probe together.

mod act;
mod config;
mod description;
mod factored;
mod fit;
mod gradients;
mod importance;
mod inputs;
mod inside;
mod kept;
mod merge;
mod probe;
mod projected;
mod rank;
mod respond;
mod resume;
mod serve;
mod shard;
mod tune;
mod watch;

use stage::{Description, Failure, Io, Offers, Stage};

pub use act::{Act, Regime, Reweight, SelectFeatures, Shape, WeighFeatures};
pub use config::{Config, Features, Mode, Seen, Serve, Tune};
pub use gradients::config::{Gradients, MeasureName};
pub use importance::FeatureImportance;
pub use inside::config::Attention;
pub use shard::Shard;

/// The stage.
pub struct Train;

impl Stage for Train {
    type Config = Config;

    fn description() -> Description {
        description::description()
    }

    fn check(config: &Config, offers: &Offers) -> Result<Offers, Failure> {
        config::check(config, offers)
    }

    fn run(config: &Config, io: &Io) -> Result<(), Failure> {
        match config.mode {
            Mode::Fit => fit::run(config, io),
            Mode::Probe => probe::run(config, io),
            Mode::Respond => respond::run(config, io),
            Mode::Serve => serve::run(config, io),
            Mode::Merge => merge::run(io),
        }
    }
}
