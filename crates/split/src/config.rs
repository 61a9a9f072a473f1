//! What can be written in `with:` for this stage.

use serde::{Deserialize, Serialize};
use stage::{Exit, Failure, Field, FieldKind};
use tables::{Event, Instant};

/// How events become parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// By instant, for all users alike.
    #[default]
    Temporal,
    /// The last event of a user is test, the one before it valuation.
    LeaveOneOut,
    /// Every event by lot.
    Random,
}

/// The two instants of a temporal split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instants {
    /// First instant of the valuation part.
    pub valuation: Instant,
    /// First instant of the test part.
    pub test: Instant,
}

/// Rates of inserted events, relative to the training events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventNoise {
    /// Runs of popular items at regular intervals.
    pub bots: f64,
    /// One item again and again.
    pub bursts: f64,
    /// Single items beside a genuine event.
    pub accidents: f64,
}

/// What is corrupted on purpose, in the training part alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plant {
    /// Share of training samples whose target is replaced.
    pub label_noise: f64,
    /// Inserted events.
    pub event_noise: EventNoise,
}

/// Subsets of the training samples to retrain on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Subsets {
    /// Number of subsets.
    pub count: u32,
    /// Share of the training samples that each keeps.
    pub keep: f64,
}

impl Default for Subsets {
    fn default() -> Self {
        Self {
            count: 0,
            keep: 0.5,
        }
    }
}

/// The configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How events become parts.
    pub scheme: Scheme,
    /// Shares of training, valuation and test.
    pub parts: [f64; 3],
    /// The cuts of a temporal split; by default quantiles of the events.
    pub instants: Option<Instants>,
    /// Planted noise.
    pub plant: Plant,
    /// Subsets to retrain on, for mode `respond` of `train`.
    pub subsets: Subsets,
    /// Events that count as relevant in requests; empty for all.
    pub request_events: Vec<Event>,
    /// Seed of lots, halves, noise and subsets.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheme: Scheme::Temporal,
            parts: [0.8, 0.1, 0.1],
            instants: None,
            plant: Plant::default(),
            subsets: Subsets::default(),
            request_events: Vec::new(),
            seed: 0,
        }
    }
}

/// The fields of [`Config`], for `describe`.
pub(crate) fn fields() -> Vec<Field> {
    let field = |name, kind, default, doc| Field {
        name,
        kind,
        default: Some(default),
        doc,
    };
    vec![
        field(
            "scheme",
            FieldKind::String,
            "temporal",
            "`temporal`, `leave_one_out` (leaks the future) or `random`",
        ),
        field(
            "parts",
            FieldKind::List,
            "[0.8, 0.1, 0.1]",
            "shares of training, valuation and test; quantiles of the events",
        ),
        field(
            "instants",
            FieldKind::Mapping,
            "null",
            "`{ valuation: ISO 8601, test: ISO 8601 }`: the cuts of a temporal split, instead of quantiles",
        ),
        field(
            "plant",
            FieldKind::Mapping,
            "{ label_noise: 0, event_noise: { bots: 0, bursts: 0, accidents: 0 } }",
            "noise planted in the training part, as rates of its events",
        ),
        field(
            "subsets",
            FieldKind::Mapping,
            "{ count: 0, keep: 0.5 }",
            "so many random subsets that keep this share of the training samples, to retrain on",
        ),
        field(
            "request_events",
            FieldKind::List,
            "[]",
            "events that count as relevant in requests; empty for all",
        ),
        field(
            "seed",
            FieldKind::Integer,
            "0",
            "seed of lots, halves, noise and subsets",
        ),
    ]
}

impl Config {
    /// Checks what can be checked without data.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let wrong = |message: String| Failure::new(Exit::Configuration, message);
        let total: f64 = self.parts.iter().sum();
        // Shares are written with few digits: anything near the rounding of a sum is meant.
        if self.parts.iter().any(|part| part.is_nan() || *part <= 0.0) || (total - 1.0).abs() > 1e-9
        {
            return Err(wrong(format!(
                "`parts` must be three positive shares that sum to 1, not {:?}",
                self.parts
            ))
            .hint("write `parts: [0.8, 0.1, 0.1]`"));
        }
        if let Some(instants) = self.instants {
            if self.scheme != Scheme::Temporal {
                return Err(wrong("`instants` need `scheme: temporal`".to_owned()));
            }
            if instants.valuation >= instants.test {
                return Err(wrong(format!(
                    "`instants.valuation` ({}) must come before `instants.test` ({})",
                    instants.valuation, instants.test
                )));
            }
        }
        if !(self.subsets.keep > 0.0 && self.subsets.keep < 1.0) {
            return Err(wrong(format!(
                "`subsets.keep` must be above 0 and below 1, not {}",
                self.subsets.keep
            )));
        }
        let noise = self.plant.event_noise;
        for (name, rate) in [
            ("label_noise", self.plant.label_noise),
            ("event_noise.bots", noise.bots),
            ("event_noise.bursts", noise.bursts),
            ("event_noise.accidents", noise.accidents),
        ] {
            if !(0.0..1.0).contains(&rate) {
                return Err(wrong(format!(
                    "`plant.{name}` must be in [0, 1), not {rate}"
                )));
            }
        }
        Ok(())
    }
}
