//! The configuration, and everything about it that can be checked without data.

use std::collections::BTreeMap;

use attribution::{Entry, METHODS, Need, Prepared};
use serde::{Deserialize, Deserializer, Serialize};
use stage::yaml::{Mapping, Named};
use stage::{Exit, Failure, Offer, Offers, suggest};
use tables::Part;

use crate::features::{self, Of};
use crate::groups::Groups;
use crate::influences::Influences;
use crate::members;
use crate::tiers::Tiers;
use crate::tune::{self, Tune};

/// Which method, and what importance is measured against.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is scored.
    #[serde(default)]
    pub of: Of,
    /// The method, with its parameters; defaults are filled in.
    #[serde(deserialize_with = "with_defaults")]
    pub method: Named,
    /// What importance is measured against.
    #[serde(default)]
    pub target: Target,
    /// Which parameters of the method to choose, and by what; left out: none, and the output
    /// `sensitivity` is not made.
    #[serde(default)]
    pub tune: Option<Tune>,
    /// Where high and low value begin; left out: the output `tiers` is not made.
    #[serde(default)]
    pub tiers: Option<Tiers>,
    /// Which groups of samples are added up; left out: the output `groups` is not made.
    #[serde(default)]
    pub groups: Option<Groups>,
    /// How many requests are looked into; left out: the output `influences` is not made.
    #[serde(default)]
    pub influences: Option<Influences>,
    /// Seed of methods that draw lots, and of the choice of requests for `influences`.
    #[serde(default)]
    pub seed: u64,
}

/// What importance is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// Part whose requests are asked.
    pub part: Part,
    /// How requests become one number.
    pub reduce: Reduce,
}

impl Default for Target {
    fn default() -> Self {
        Self {
            part: Part::ValuationFit,
            reduce: Reduce::Mean,
        }
    }
}

/// How requests become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduce {
    /// Every request weighs the same, and so does each of its relevant items.
    Mean,
}

/// Reads a method and fills in defaults, so that they enter the key. What is wrong with it is left
/// for [`check`], which knows better what to say.
fn with_defaults<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Named, D::Error> {
    let mut named = Named::deserialize(deserializer)?;
    let filled = prepare(&named)
        .ok()
        .and_then(|method| serde_json::from_value::<Mapping>(method.parameters().clone()).ok());
    if let Some(filled) = filled {
        named.parameters = filled;
    }
    Ok(named)
}

/// The method that a configuration names, with checked parameters.
pub(crate) fn prepare(named: &Named) -> Result<Prepared, Failure> {
    let entry = attribution::find(&named.name).ok_or_else(|| {
        let message = format!("unknown method `{}`", named.name);
        Failure::new(Exit::Configuration, message)
            .hint(suggest(&named.name, METHODS.iter().map(|entry| entry.name)))
    })?;
    entry
        .prepare(&named.to_json()?)
        .map_err(|error| Failure::configuration(error).hint(parameters_of(entry, named)))
}

/// What to write instead of refused parameters.
fn parameters_of(entry: &Entry, named: &Named) -> String {
    if entry.parameters.is_empty() {
        return format!("`{}` takes no parameters", entry.name);
    }
    let known = || entry.parameters.iter().map(|parameter| parameter.name);
    let unknown = named
        .parameters
        .keys()
        .filter_map(|key| key.as_str())
        .find(|name| known().all(|known| known != *name));
    match unknown {
        Some(unknown) => suggest(unknown, known()),
        None => entry
            .parameters
            .iter()
            .map(|parameter| {
                let (name, default) = (parameter.name, parameter.default);
                format!("`{name}: {default}` is the default. {}", parameter.doc)
            })
            .collect::<Vec<_>>()
            .join("; "),
    }
}

/// Checks a configuration against what is wired, and says what the outputs offer.
pub(crate) fn check(config: &Config, offers: &Offers) -> Result<Offers, Failure> {
    if config.of == Of::Features {
        return check_features(config, offers);
    }
    let method = prepare(&config.method)?;
    let entry = method.entry();
    let part = config.target.part;
    if !matches!(part, Part::ValuationFit | Part::ValuationTune) {
        let why = if part == Part::Test {
            "the test part only judges"
        } else {
            "training samples are what is scored"
        };
        return Err(Failure::new(
            Exit::Configuration,
            format!("`target.part` cannot be `{part}`: {why}"),
        )
        .hint("write `part: valuation.fit`, or `valuation.tune` to choose parameters by"));
    }
    if let Some(tiers) = &config.tiers {
        tiers.check(suspect(entry))?;
    }
    if let Some(groups) = &config.groups {
        groups.check()?;
    }
    if let Some(influences) = &config.influences {
        influences.check()?;
    }
    let probes = members::offered(offers)?.unwrap_or_default();
    tune::check(config, probes)?;
    let settings = tune::settings(config)?;
    for probe in probes {
        for setting in &settings {
            check_needs(setting, probe)?;
        }
        check_part(entry, probe, part)?;
    }
    if config.influences.is_some() && probes.len() > 1 {
        return Err(several_influences());
    }
    let probe = probes.first();
    let mut facts = BTreeMap::from([
        ("method".to_owned(), entry.name.to_owned()),
        ("suspect".to_owned(), suspect(entry).as_str().to_owned()),
    ]);
    if let Some(model) = probe.and_then(|probe| probe.facts.get("model")) {
        facts.insert("model".to_owned(), model.clone());
    }
    let made = [
        ("scores", true),
        ("sensitivity", config.tune.is_some()),
        ("tiers", config.tiers.is_some()),
        ("groups", config.groups.is_some()),
        ("influences", config.influences.is_some()),
    ];
    let offers = made.into_iter().filter(|(_, is_made)| *is_made);
    Ok(offers
        .map(|(kind, _)| {
            let offer = Offer {
                kind: kind.to_owned(),
                facts: facts.clone(),
                ..Offer::default()
            };
            (kind.to_owned(), vec![offer])
        })
        .collect())
}

/// Influences of single requests on an ensemble.
pub(crate) fn several_influences() -> Failure {
    Failure::new(
        Exit::Configuration,
        "`influences` are those of one model, and `probes` gathers several",
    )
    .hint("leave `influences` out, or wire one model to `probe`")
}

/// Checks `of: features` against the probe that is wired.
fn check_features(config: &Config, offers: &Offers) -> Result<Offers, Failure> {
    let probe = offers.get("probe").and_then(|offers| offers.first());
    features::check(config, probe)?;
    let mut facts = BTreeMap::from([("method".to_owned(), config.method.name.clone())]);
    if let Some(model) = probe.and_then(|probe| probe.facts.get("model")) {
        facts.insert("model".to_owned(), model.clone());
    }
    let kind = "feature_importance".to_owned();
    let offer = Offer {
        kind: kind.clone(),
        facts,
        ..Offer::default()
    };
    Ok(Offers::from([(kind, vec![offer])]))
}

/// Refuses a method that needs what the probed model does not give.
fn check_needs(method: &Prepared, probe: &Offer) -> Result<(), Failure> {
    let missing: Vec<&str> = method
        .needs()
        .map(Need::as_str)
        .filter(|need| !probe.capabilities.contains(*need))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join("`, `");
    let of = probe
        .facts
        .get("model")
        .map_or_else(String::new, |model| format!(" of model `{model}`"));
    Err(Failure::not_applicable(format!(
        "method `{}` needs `{missing}`, which the probe{of} does not offer",
        method.entry().name
    ))
    .hint("probe a model that offers it; `train describe` lists what each model offers, and what `gradients` of mode `probe` adds"))
}

/// Refuses gradients that were taken against other requests than those that are asked for.
fn check_part(entry: &Entry, probe: &Offer, part: Part) -> Result<(), Failure> {
    let needs = |need| entry.needs.contains(&need);
    let needs_direction = entry
        .needs
        .iter()
        .any(|need| need.preconditioner().is_some());
    let of_requests = [
        Need::Gradients,
        Need::Projected,
        Need::BlockInfluence,
        Need::Unrolled,
    ];
    let is_measured =
        entry.scale.is_signed() && (needs_direction || of_requests.into_iter().any(needs));
    match probe.facts.get("gradients_part") {
        Some(found) if is_measured && *found != part.to_string() => Err(other_part(found, part)),
        _ => Ok(()),
    }
}

/// Gradients of another part.
pub(crate) fn other_part(found: impl std::fmt::Display, part: Part) -> Failure {
    Failure::new(
        Exit::Configuration,
        format!("the probe took gradients against requests of `{found}`, the target is `{part}`"),
    )
    .hint(format!(
        "write `gradients: {{ part: {part} }}` at the node that probes"
    ))
}

/// The suspicious end of a method's scale, as tables have it.
pub(crate) fn suspect(entry: &Entry) -> tables::Suspect {
    match entry.scale.suspect() {
        attribution::Suspect::Low => tables::Suspect::Low,
        attribution::Suspect::High => tables::Suspect::High,
    }
}
