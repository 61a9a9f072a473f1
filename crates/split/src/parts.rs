//! Which part each event belongs to.

use seed::Seed;
use stage::{Exit, Failure};
use tables::{Instant, Part};

use crate::config::{Config, Scheme};
use crate::log::Log;

/// Fewest events of a user who gets requests under leave-one-out: one to train on, one for each request.
pub(crate) const LEAVE_ONE_OUT_EVENTS: usize = 3;

/// The parts of a log.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Part per event. All valuation events of a user are in the same half.
    pub(crate) part: Vec<Part>,
    /// The cuts of a temporal split.
    pub(crate) cuts: Option<(Instant, Instant)>,
}

impl Parts {
    /// Assigns parts.
    pub(crate) fn of(log: &Log, config: &Config) -> Result<Self, Failure> {
        let seed = Seed::root(config.seed).child("split");
        let halves = seed.child("valuation halves");
        let half = |user: usize| {
            if halves.child(&log.users[user]).stream().bits(0, 0) & 1 == 0 {
                Part::ValuationFit
            } else {
                Part::ValuationTune
            }
        };
        let cuts = match config.scheme {
            Scheme::Temporal => Some(cuts(log, config)?),
            Scheme::LeaveOneOut | Scheme::Random => None,
        };
        let lots = seed.child("parts").stream();
        let mut part = Vec::with_capacity(log.len());
        for user in 0..log.users.len() {
            let range = log.range(user);
            let n = range.len();
            let valuation = half(user);
            for (position, event) in range.enumerate() {
                part.push(match (config.scheme, cuts) {
                    (Scheme::Temporal, Some((_, test))) if log.at[event] >= test.0 => Part::Test,
                    (Scheme::Temporal, Some((first, _))) if log.at[event] >= first.0 => valuation,
                    (Scheme::LeaveOneOut, _) if n >= LEAVE_ONE_OUT_EVENTS && position + 1 == n => {
                        Part::Test
                    }
                    (Scheme::LeaveOneOut, _) if n >= LEAVE_ONE_OUT_EVENTS && position + 2 == n => {
                        valuation
                    }
                    (Scheme::Random, _) => {
                        let lot = lots.uniform(log.sample_id[event], 0);
                        if lot < config.parts[0] {
                            Part::Training
                        } else if lot < config.parts[0] + config.parts[1] {
                            valuation
                        } else {
                            Part::Test
                        }
                    }
                    _ => Part::Training,
                });
            }
        }
        let parts = Self { part, cuts };
        parts.refuse_empty()?;
        Ok(parts)
    }

    fn refuse_empty(&self) -> Result<(), Failure> {
        let has = |wanted: &[Part]| self.part.iter().any(|part| wanted.contains(part));
        for (name, wanted) in [
            ("training", &[Part::Training][..]),
            ("valuation", &[Part::ValuationFit, Part::ValuationTune]),
            ("test", &[Part::Test]),
        ] {
            if !has(wanted) {
                return Err(
                    Failure::new(Exit::Data, format!("the {name} part holds no events"))
                        .hint("change `parts` or `instants`, or keep more events in `preprocess`"),
                );
            }
        }
        Ok(())
    }
}

/// The given instants, or quantiles of the events: ties go to the later part.
fn cuts(log: &Log, config: &Config) -> Result<(Instant, Instant), Failure> {
    if !log.has_instants {
        return Err(Failure::new(
            Exit::Data,
            "a temporal split needs instants, and this log has none",
        )
        .hint("use `scheme: leave_one_out`, which leaks the future, or `scheme: random`"));
    }
    if let Some(instants) = config.instants {
        return Ok((instants.valuation, instants.test));
    }
    let mut at = log.at.clone();
    at.sort_unstable();
    let quantile = |share: f64| {
        // A share below 1 of the length is an index; rounding guards against 0.8 + 0.1 < 0.9.
        let index = (share * at.len() as f64 + 1e-9).floor();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "floor of a share of a length"
        )]
        let index = (index as usize).min(at.len() - 1);
        Instant(at[index])
    };
    let valuation = quantile(config.parts[0]);
    let test = quantile(config.parts[0] + config.parts[1]);
    if valuation == test {
        return Err(Failure::new(
            Exit::Data,
            format!("both cuts fall on {valuation}: too many events share one instant"),
        )
        .hint("give `instants: { valuation: ..., test: ... }`"));
    }
    Ok((valuation, test))
}
