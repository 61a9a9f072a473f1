//! Judges predictions, scores and actions, and says in sentences what holds.
//!
//! Families of figures in the table `metrics`:
//!
//! - `ranking`: every metric of the base models, by part and segment; `repeat_frac` and `cold_frac`
//!   of the relevant items, `coverage@10`, and `ndcg@10_vs_other` between every two models.
//! - `detection`: how well each method's scores find the planted samples, all kinds together
//!   (segment `all`) and by kind; `auroc_vs_random`, `auroc_vs_loss`, `auroc_vs_best` are paired
//!   differences, `planted_frac` and `unscored_frac` shares of the samples. The same for what the
//!   simulator knows of its own events, in segments such as `truth.bot`, whose share is `truth_frac`.
//! - `action`: models trained after acting on scores beside their bases; `ndcg@10_vs_base`,
//!   `ndcg@10_vs_random`, `ndcg@10_vs_oracle` and the same for other metrics are paired differences;
//!   `n_removed` counts the training samples that an arm removed.
//! - `agreement`: `spearman` and `jaccard_top` between every two methods on one model, and between
//!   one method's scores on two models.
//!
//! Replicates (axis `seed`) are averaged before anything else; their spread has metrics of its own,
//! named `..._seed_std`. Where a row compares two things, the label names the other one.

mod action;
mod agreement;
mod answers;
mod conclusions;
mod costs;
mod description;
mod detection;
mod figures;
mod group;
mod ranking;
mod removals;
mod scored;
mod text;
mod truth;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stage::{Description, Exit, Failure, Io, Offers, Seed, Stage};

use crate::answers::Requests;
use crate::conclusions::Facts;
use crate::detection::Noise;
use crate::scored::Universe;

/// What people can choose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seed of resampling and permutations.
    #[serde(default)]
    pub seed: u64,
    /// Bootstrap resamples behind an interval.
    #[serde(default = "default_resamples")]
    pub resamples: u64,
    /// Random sign patterns behind a p-value.
    #[serde(default = "default_permutations")]
    pub permutations: u64,
    /// Share of the samples that counts as a method's top when methods are compared.
    #[serde(default = "default_top_frac")]
    pub top_frac: f64,
    /// Words for what the nodes wired to `acted` did, by node name.
    #[serde(default)]
    pub arms: BTreeMap<String, String>,
    /// The node wired to `acted` that drops exactly the planted samples. By default the one without
    /// axis `method` whose name holds `planted` or `oracle`.
    #[serde(default)]
    pub oracle: Option<String>,
}

fn default_resamples() -> u64 {
    1000
}

fn default_permutations() -> u64 {
    10_000
}

fn default_top_frac() -> f64 {
    0.2
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 0,
            resamples: default_resamples(),
            permutations: default_permutations(),
            top_frac: default_top_frac(),
            arms: BTreeMap::new(),
            oracle: None,
        }
    }
}

/// The stage.
pub struct Evaluate;

impl Stage for Evaluate {
    type Config = Config;

    fn description() -> Description {
        description::description()
    }

    fn check(config: &Config, _offers: &Offers) -> Result<Offers, Failure> {
        let wrong = |message: String, hint: &str| {
            Err(Failure::new(Exit::Configuration, message).hint(hint))
        };
        if !(20..=100_000).contains(&config.resamples) {
            return wrong(
                format!("`resamples` is {}", config.resamples),
                "choose a number from 20 to 100000, such as 1000",
            );
        }
        if !(100..=10_000_000).contains(&config.permutations) {
            return wrong(
                format!("`permutations` is {}", config.permutations),
                "choose a number from 100 to 10000000, such as 10000",
            );
        }
        if !(config.top_frac > 0.0 && config.top_frac <= 1.0) {
            return wrong(
                format!("`top_frac` is {}", config.top_frac),
                "choose a share above 0 and up to 1, such as 0.2",
            );
        }
        Ok(Self::description().offers())
    }

    fn run(config: &Config, io: &Io) -> Result<(), Failure> {
        let seed = Seed::root(config.seed).child("evaluate");
        let requests = Requests::read(io)?;
        let mut rows = Vec::new();

        let base = requests.base(io)?;
        let acted = requests.acted(io, config)?;
        let ranked = ranking::evaluate(&requests, &base, seed, config)?;
        let changed = action::evaluate(&requests, &base, &acted, seed, config)?;
        let removed = removals::evaluate(io, &acted, config)?;

        let universe = Universe::read(io)?;
        let scores = scored::read(io, &universe)?;
        let planted = Noise::planted(&universe);
        let mut detected = detection::evaluate(planted, &scores, seed, config)?;
        if let Some(simulated) = truth::read(io, &universe)? {
            let noise = simulated.noise();
            detected.extend(detection::evaluate(noise, &scores, seed, config)?);
        }
        let agreed = agreement::evaluate(&universe, &scores, seed, config)?;

        let oracle = action::oracles(&acted, config);
        let facts = Facts::new(&requests, [&base, &acted], &universe, &scores, oracle);
        rows.extend(ranked);
        rows.extend(detected);
        rows.extend(changed);
        rows.extend(removed);
        rows.extend(agreed);
        let sentences = conclusions::draw(&rows, &facts);

        write(&io.output("conclusions")?, sentences)?;
        write(&io.output("metrics")?, rows)?;
        write(
            &io.output("per_request")?,
            ranking::per_request(&requests, &base, &acted),
        )?;
        costs::gather(io)
    }
}

/// Writes a whole table.
fn write<R: tables::Row>(
    directory: &std::path::Path,
    rows: impl IntoIterator<Item = R>,
) -> Result<(), Failure> {
    tables::write_all(directory, rows)
        .map(|_| ())
        .map_err(Failure::environment)
}
