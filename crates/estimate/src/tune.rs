//! Which parameters of a method to choose, and what that choice matters.
//!
//! Every setting scores the samples against the requests of the target, `valuation.fit`. The one that
//! is kept is the one that holds best on requests that it did not see, `valuation.tune`: for directions
//! the fall of their loss per unit of root mean square change of the samples' losses, for neighbours
//! their utility ([`attribution::HeldOut`] says why). Test requests and planted samples have no say.
//! What was tried is the output `sensitivity`.

use std::collections::BTreeMap;

use attribution::Prepared;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stage::{Exit, Failure, Io, Offer, yaml};
use tables::{Part, Sensitivity};

use crate::config::{Config, prepare};
use crate::ensemble::{Ensemble, Whole};

/// Most settings of one node.
const MOST: usize = 100;

/// Which parameters to choose.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tune {
    /// Values to try by parameter of the method; all combinations are settings.
    pub grid: BTreeMap<String, Vec<Value>>,
    /// Part whose requests settings are judged by.
    #[serde(default = "tune_part")]
    pub on: Part,
}

fn tune_part() -> Part {
    Part::ValuationTune
}

impl Tune {
    /// The settings, in the order of the grid: the first parameter varies slowest.
    fn grid(&self) -> Result<Vec<BTreeMap<String, Value>>, Failure> {
        let wrong = |message: String| {
            Failure::new(Exit::Configuration, message)
                .hint("write `grid: { damping: [0.01, 0.1, 1] }`")
        };
        if self.grid.is_empty() {
            return Err(wrong(
                "`tune.grid` is empty: nothing would be tried".to_owned(),
            ));
        }
        let mut settings = vec![BTreeMap::new()];
        for (name, values) in &self.grid {
            if values.is_empty() {
                return Err(wrong(format!("`tune.grid.{name}` is empty")));
            }
            let longer = settings.iter().flat_map(|setting| {
                values.iter().map(move |value| {
                    let mut setting: BTreeMap<String, Value> = BTreeMap::clone(setting);
                    setting.insert(name.clone(), value.clone());
                    setting
                })
            });
            settings = longer.collect();
            if settings.len() > MOST {
                return Err(wrong(format!("`tune.grid` has more than {MOST} settings")));
            }
        }
        Ok(settings)
    }
}

/// The settings to try: one, where nothing is tuned.
pub(crate) fn settings(config: &Config) -> Result<Vec<Prepared>, Failure> {
    let Some(tune) = &config.tune else {
        return Ok(vec![prepare(&config.method)?]);
    };
    tune.grid()?
        .into_iter()
        .map(|setting| {
            let mut named = config.method.clone();
            for (name, value) in setting {
                let value: yaml::Value = serde_json::from_value(value).map_err(Failure::bug)?;
                named.parameters.insert(name.into(), value);
            }
            prepare(&named)
        })
        .collect()
}

/// Refuses to tune what has no criterion, or by requests that make no sense or are not there.
pub(crate) fn check(config: &Config, probes: &[Offer]) -> Result<(), Failure> {
    let Some(tune) = &config.tune else {
        return Ok(());
    };
    let method = prepare(&config.method)?;
    let entry = method.entry();
    if !entry.is_tunable {
        let known = attribution::METHODS.iter().filter(|entry| entry.is_tunable);
        let known: Vec<&str> = known.map(|entry| entry.name).collect();
        return Err(Failure::not_applicable(format!(
            "method `{}` does not say how well it holds on requests that it did not see",
            entry.name
        ))
        .hint(format!(
            "leave `tune` out; `{}` can be tuned",
            known.join("`, `")
        )));
    }
    let on = tune.on;
    if on == config.target.part || !matches!(on, Part::ValuationFit | Part::ValuationTune) {
        return Err(Failure::new(
            Exit::Configuration,
            format!(
                "`tune.on` cannot be `{on}`: settings are chosen by the valuation requests that are not measured against"
            ),
        )
        .hint("write `on: valuation.tune`, beside the target `valuation.fit`"));
    }
    let needs_rows = entry.needs.contains(&attribution::Need::Projected);
    for probe in probes.iter().filter(|_| needs_rows) {
        if probe.facts.get("held_out_part") != Some(&on.to_string()) {
            return Err(not_kept(on));
        }
    }
    Ok(())
}

/// Requests to choose by that the probe does not have.
pub(crate) fn not_kept(on: Part) -> Failure {
    Failure::new(
        Exit::Configuration,
        format!("the probe kept no gradients of requests of `{on}` to choose settings by"),
    )
    .hint(format!(
        "write `gradients: {{ held_out: {on}, projection: {{}} }}` at the node that probes"
    ))
}

/// The place of the setting that holds best; the first of those that hold equally well.
pub(crate) fn choose(tried: &[Ensemble], name: &str) -> Result<usize, Failure> {
    let mut best: Option<(usize, f64)> = None;
    for (at, ensemble) in tried.iter().enumerate() {
        let Some((value, ..)) = ensemble.criterion() else {
            continue;
        };
        if best.is_none_or(|(_, highest)| value > highest) {
            best = Some((at, value));
        }
    }
    best.map(|(at, _)| at).ok_or_else(|| {
        Failure::new(
            Exit::Data,
            format!("no setting of `{name}` can be judged: no request that is held out has a gradient"),
        )
        .hint("make `valuation.tune` larger with `parts` or `instants` of `split`, or leave `tune` out")
    })
}

/// Writes what was tried: the criterion of each setting, and how far its order of the samples is from
/// that of the chosen one.
pub(crate) fn write(
    io: &Io,
    settings: &[Prepared],
    criteria: &[Option<(f64, Option<f64>, u64)>],
    wholes: &[Whole],
    chosen: usize,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (number, ((setting, criterion), whole)) in
        (0..).zip(settings.iter().zip(criteria).zip(wholes))
    {
        let pairs = whole.scores.score.iter().zip(&wholes[chosen].scores.score);
        let (its, of_chosen): (Vec<f64>, Vec<f64>) = pairs.filter_map(|(a, b)| a.zip(*b)).unzip();
        rows.push(Sensitivity {
            method: setting.entry().name.to_owned(),
            setting: number,
            parameters: setting.parameters().to_string(),
            criterion: criterion.map(|(value, ..)| value),
            std_error: criterion.and_then(|(_, error, _)| error),
            n_requests: criterion.map_or(0, |(.., n)| n),
            spearman: metrics::spearman(&its, &of_chosen).map_err(Failure::computation)?,
            is_chosen: number as usize == chosen,
        });
    }
    tables::write_all(&io.output("sensitivity")?, rows).map_err(Failure::environment)?;
    Ok(())
}
