//! The configuration, and everything about it that can be checked without data.

use std::collections::{BTreeMap, BTreeSet};

use crate::act::{self, Act, Regime};
use crate::gradients::config::{
    self as gradients, BLOCK_INFLUENCE, GRADIENTS, GRADIENTS_PART, Gradients, HELD_OUT_PART,
    PROJECTED, UNROLLED,
};
use crate::importance::{self, FeatureImportance};
use crate::inside::config::{self as attention, ATTENTION, Attention};
use crate::shard::{self, Shard};
use crate::tune;
use models::{Capability, Entry, REGISTRY};
use serde::{Deserialize, Serialize};
use stage::yaml::Named;
use stage::{Exit, Failure, Offer, Offers, suggest};

/// What to fit or probe, and how to rank.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Fit a model, or lay out what estimators may look at.
    #[serde(default)]
    pub mode: Mode,
    /// The model to fit; in mode `probe` the model is an input.
    #[serde(default)]
    pub model: Option<Named>,
    /// Which parameters of the model to choose, and how.
    #[serde(default)]
    pub tune: Option<Tune>,
    /// Whether items of the history are candidates.
    #[serde(default)]
    pub seen: Seen,
    /// Length of the lists of best items.
    #[serde(default = "default_top")]
    pub top: usize,
    /// What to do about scores of samples before fitting.
    #[serde(default)]
    pub act: Option<Act>,
    /// What removal means.
    #[serde(default)]
    pub regime: Regime,
    /// Models for each subset in mode `respond`; they differ in chance alone.
    #[serde(default = "one_replica")]
    pub replicas: u32,
    /// States along the training that mode `fit` gives beside the model, for a model that takes a
    /// number of steps.
    #[serde(default)]
    pub keep_checkpoints: u32,
    /// Gradients of single samples in mode `probe`, and the requests they are measured against.
    #[serde(default)]
    pub gradients: Option<Gradients>,
    /// Attention that the events of samples receive, in mode `probe`.
    #[serde(default)]
    pub attention: Option<Attention>,
    /// Whether mode `probe` keeps the hidden states of samples and requests.
    #[serde(default)]
    pub hidden_states: bool,
    /// What predictions rest on, in mode `probe`.
    #[serde(default)]
    pub feature_importance: Option<FeatureImportance>,
    /// Representations in mode `probe`.
    #[serde(default)]
    pub features: Features,
    /// Which part of the samples mode `probe` is for; left out: all.
    #[serde(default)]
    pub shard: Option<Shard>,
    /// What mode `serve` times.
    #[serde(default)]
    pub serve: Serve,
    /// Seed of the model's chance; also decides between equal scores when samples are dropped.
    #[serde(default)]
    pub seed: u64,
}

fn one_replica() -> u32 {
    1
}

fn default_top() -> usize {
    20
}

/// What the stage does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Fit a model and rank.
    #[default]
    Fit,
    /// Lay out what estimators may look at.
    Probe,
    /// Retrain without given samples, and say what that did to every request.
    Respond,
    /// Measure how fast a fitted model answers.
    Serve,
    /// Put the parts of a probe together.
    Merge,
}

/// Whether items of the history are candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// They are, and repeats count as relevant.
    #[default]
    Keep,
    /// They are neither candidates nor relevant.
    Exclude,
}

/// How parameters are chosen: successive halving over a grid.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tune {
    /// Values to try by parameter; all combinations are settings.
    pub grid: BTreeMap<String, Vec<serde_json::Value>>,
    /// One in so many settings goes on to the next rung, which sees so many times the data.
    #[serde(default = "default_reduction")]
    pub reduction: u32,
    /// Rungs; with 1, every setting is fitted on everything.
    #[serde(default = "one_rung")]
    pub rungs: u32,
    /// Folds of the training sequences to judge by; 0: judge on `valuation.fit`.
    #[serde(default)]
    pub folds: u32,
}

fn default_reduction() -> u32 {
    3
}

fn one_rung() -> u32 {
    1
}

/// What mode `serve` times.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Serve {
    /// Single requests that are timed, drawn from the test requests.
    #[serde(default = "default_requests")]
    pub requests: usize,
    /// Single requests before the clock starts.
    #[serde(default = "default_warm_up")]
    pub warm_up: usize,
}

fn default_requests() -> usize {
    1000
}

fn default_warm_up() -> usize {
    100
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            requests: default_requests(),
            warm_up: default_warm_up(),
        }
    }
}

/// TF-IDF features of histories and items.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// Last events of a history that count; 0: all.
    #[serde(default = "default_max_history")]
    pub max_history: usize,
    /// Weight of the block of item numbers in cosines.
    #[serde(default = "one")]
    pub items: f64,
    /// Weight of the block of text terms in cosines.
    #[serde(default = "one")]
    pub text: f64,
}

fn default_max_history() -> usize {
    50
}

fn one() -> f64 {
    1.0
}

impl Default for Features {
    fn default() -> Self {
        Self {
            max_history: default_max_history(),
            items: one(),
            text: one(),
        }
    }
}

fn wrong(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Configuration, message)
}

/// The registry entry that a configuration names.
pub(crate) fn entry(named: &Named) -> Result<&'static Entry, Failure> {
    models::entry(&named.name).map_err(|error| {
        let known = REGISTRY.iter().map(|entry| entry.name);
        let hint = suggest(&error.name, known);
        Failure::configuration(error).hint(hint)
    })
}

/// The model of mode `fit` with its parameters, defaults filled in.
pub(crate) fn model(config: &Config) -> Result<(&'static Entry, serde_json::Value), Failure> {
    let named = config.model.as_ref().ok_or_else(|| {
        let names: Vec<&str> = REGISTRY.iter().map(|entry| entry.name).collect();
        wrong("mode `fit` needs a `model`").hint(format!("known: `{}`", names.join("`, `")))
    })?;
    let entry = entry(named)?;
    let parameters = entry.check(&named.to_json()?).map_err(|error| {
        let known = entry.parameters.iter().map(|parameter| parameter.name);
        let unknown: Vec<&str> = named
            .parameters
            .keys()
            .filter_map(|key| key.as_str())
            .filter(|name| known.clone().all(|known| known != *name))
            .collect();
        let failure = Failure::configuration(error);
        match unknown.first() {
            Some(_) if entry.parameters.is_empty() => {
                failure.hint(format!("`{}` takes no parameters", entry.name))
            }
            Some(name) => failure.hint(suggest(name, known)),
            None => failure,
        }
    })?;
    Ok((entry, parameters))
}

/// Checks a configuration against what is wired, and says what the outputs offer.
pub(crate) fn check(config: &Config, offers: &Offers) -> Result<Offers, Failure> {
    let Features { items, text, .. } = config.features;
    let is_weight = |weight: f64| weight.is_finite() && weight >= 0.0;
    if !(is_weight(items) && is_weight(text) && items + text > 0.0) {
        return Err(wrong(
            "`features.items` and `features.text` must be numbers from 0 up, not both 0",
        ));
    }
    if let Some(act) = &config.act {
        act::check(act)?;
    }
    shard::check(config)?;
    match config.mode {
        Mode::Fit => check_fit(config, offers),
        Mode::Probe => check_probe(config, offers),
        Mode::Respond => check_respond(config, offers),
        Mode::Serve => check_serve(config, offers),
        Mode::Merge => shard::check_merge(config, offers),
    }
}

/// The capability that it passes on where it is told to keep hidden states.
const HIDDEN_STATES: &str = Capability::HiddenStates.as_str();
/// The input with the importance of features.
const FEATURE_IMPORTANCE: &str = "feature_importance";
/// The capability that a probe has where it was told to exchange features.
const PERMUTATION: &str = "permutation";
/// The capability that it passes on where it was told to look into predictions.
const INPUT_GRADIENTS: &str = Capability::InputGradients.as_str();
/// The input with states along the training.
const CHECKPOINTS: &str = "checkpoints";

fn check_fit(config: &Config, offers: &Offers) -> Result<Offers, Failure> {
    let (entry, parameters) = model(config)?;
    if let Some(tune) = &config.tune {
        if config.regime == Regime::Mask {
            return Err(
                wrong("`regime: mask` repeats one training, and `tune` tries many")
                    .hint("tune the base, and write what it chose as `model:` here"),
            );
        }
        tune::settings(entry, &parameters, tune)?;
    }
    // Without offers a person checks the configuration alone.
    if !offers.is_empty() {
        let has_scores = offers.contains_key("scores");
        check_base(config.regime, offers.contains_key("model"))?;
        let has_importance = offers.contains_key(FEATURE_IMPORTANCE);
        act::check_inputs(config.act.as_ref(), has_scores, has_importance)?;
    }
    let is_on_features = config.act.as_ref().is_some_and(Act::is_on_features);
    if is_on_features {
        let features = entry.features(&parameters);
        act::check_features(entry.name, &features.map_err(Failure::configuration)?)?;
        if config.tune.is_some() {
            return Err(
                wrong("`act` on features goes with given parameters, not with `tune`")
                    .hint("tune the base, and write what it chose as `model:` here"),
            );
        }
    }
    let facts = BTreeMap::from([("model".to_owned(), entry.name.to_owned())]);
    let capabilities: BTreeSet<String> = entry
        .capabilities
        .iter()
        .map(|capability| capability.as_str().to_owned())
        .collect();
    let offer = |kind: &str, capabilities| {
        let offer = Offer {
            kind: kind.to_owned(),
            capabilities,
            facts: facts.clone(),
        };
        (kind.to_owned(), vec![offer])
    };
    let mut offers = Offers::from([
        offer("model", capabilities),
        offer("predictions", BTreeSet::new()),
        offer("training", BTreeSet::new()),
    ]);
    if config.act.is_some() {
        offers.extend([offer("removals", BTreeSet::new())]);
    }
    if is_on_features {
        offers.extend([offer("feature_weights", BTreeSet::new())]);
    }
    if config.tune.is_some() {
        offers.extend([offer("trials", BTreeSet::new())]);
    }
    if config.keep_checkpoints > 0 {
        offers.extend([offer("checkpoints", BTreeSet::new())]);
    }
    Ok(offers)
}

/// Regime `mask` repeats the training of a model that is wired; nothing else looks at one.
pub(crate) fn check_base(regime: Regime, has_model: bool) -> Result<(), Failure> {
    match (regime, has_model) {
        (Regime::Drop, true) => Err(wrong("mode `fit` takes no input `model`")
            .hint("leave the input out, or write `regime: mask` or `mode: probe`")),
        (Regime::Mask, false) => Err(wrong(
            "`regime: mask` needs the input `model`: the one whose training is repeated",
        )
        .hint("wire the output `model` of a node of mode `fit` with the same `model:`")),
        _ => Ok(()),
    }
}

fn check_respond(config: &Config, offers: &Offers) -> Result<Offers, Failure> {
    let (entry, _) = model(config)?;
    for (is_there, name) in [
        (config.act.is_some(), "act"),
        (config.tune.is_some(), "tune"),
        (config.keep_checkpoints > 0, "keep_checkpoints"),
    ] {
        if is_there {
            return Err(wrong(format!("`{name}` belongs to mode `fit`")));
        }
    }
    if config.replicas == 0 {
        return Err(wrong("`replicas` is 0: nothing would be trained"));
    }
    if !offers.is_empty() {
        check_base(config.regime, offers.contains_key("model"))?;
        if offers.contains_key("scores") {
            return Err(wrong("mode `respond` takes no input `scores`"));
        }
    }
    let offer = Offer {
        kind: "responses".to_owned(),
        facts: BTreeMap::from([("model".to_owned(), entry.name.to_owned())]),
        ..Offer::default()
    };
    Ok(Offers::from([("responses".to_owned(), vec![offer])]))
}

/// What holds for every mode that works on a fitted model; gives what that model offers.
fn check_fitted<'o>(
    mode: &str,
    config: &Config,
    offers: &'o Offers,
) -> Result<Option<&'o Offer>, Failure> {
    if let Some(model) = &config.model {
        return Err(wrong(format!(
            "mode `{mode}` takes the model as an input, not as `model: {}`",
            model.name
        ))
        .hint("wire the output `model` of a node of mode `fit`"));
    }
    if config.act.is_some() {
        return Err(wrong("`act` belongs to mode `fit`"));
    }
    if config.tune.is_some() {
        return Err(wrong("`tune` belongs to mode `fit`"));
    }
    if config.keep_checkpoints > 0 {
        return Err(wrong("`keep_checkpoints` belongs to mode `fit`"));
    }
    if config.regime != Regime::Drop {
        return Err(wrong("`regime` belongs to mode `fit`"));
    }
    if !offers.is_empty() && offers.contains_key("scores") {
        return Err(wrong(format!("mode `{mode}` takes no input `scores`")));
    }
    if offers.contains_key(FEATURE_IMPORTANCE) {
        return Err(wrong(format!(
            "mode `{mode}` takes no input `{FEATURE_IMPORTANCE}`"
        )));
    }
    let model = offers.get("model").and_then(|offers| offers.first());
    if !offers.is_empty() && model.is_none() {
        return Err(wrong(format!("mode `{mode}` needs the input `model`"))
            .hint("wire the output `model` of a node of mode `fit`"));
    }
    Ok(model)
}

fn check_serve(config: &Config, offers: &Offers) -> Result<Offers, Failure> {
    let model = check_fitted("serve", config, offers)?;
    if config.serve.requests == 0 {
        return Err(wrong("`serve.requests` is 0: nothing would be timed"));
    }
    let offer = Offer {
        kind: "latency".to_owned(),
        facts: model.map(|model| model.facts.clone()).unwrap_or_default(),
        ..Offer::default()
    };
    Ok(Offers::from([("latency".to_owned(), vec![offer])]))
}

/// What of a model's capabilities its probe has, with what the probe adds to them.
pub(crate) fn probed<'w>(config: &Config, model: &BTreeSet<&'w str>) -> BTreeSet<&'w str> {
    let mut words = gradients::probed(config.gradients.as_ref(), model);
    if config.attention.is_none() {
        words.remove(ATTENTION);
    }
    if !config.hidden_states {
        words.remove(HIDDEN_STATES);
    }
    if config.feature_importance.is_some() {
        words.insert(PERMUTATION);
    } else {
        words.remove(INPUT_GRADIENTS);
    }
    words
}

fn check_probe(config: &Config, offers: &Offers) -> Result<Offers, Failure> {
    let model = check_fitted("probe", config, offers)?;
    importance::check(config)?;
    let mut offer = Offer {
        kind: "probe".to_owned(),
        ..Offer::default()
    };
    if let Some(model) = model {
        let words = model.capabilities.iter().map(String::as_str).collect();
        let words = probed(config, &words);
        offer.capabilities = words.into_iter().map(str::to_owned).collect();
        offer.facts.clone_from(&model.facts);
    }
    offer.capabilities.insert("representations".to_owned());
    shard::tell(config, &mut offer);
    if let Some(attention) = config.attention {
        attention::check(attention)?;
    }
    let has_states = offers.contains_key(CHECKPOINTS);
    match &config.gradients {
        Some(gradients) => {
            gradients::check(gradients, model, has_states)?;
            let has = |word: &str| offer.capabilities.contains(word);
            // States along a training are networks'.
            let has_states = has_states && !has(BLOCK_INFLUENCE);
            if [GRADIENTS, PROJECTED, UNROLLED].into_iter().any(has) {
                let part = gradients.part.to_string();
                offer.facts.insert(GRADIENTS_PART.to_owned(), part);
                if let Some(held_out) = gradients.held_out {
                    let fact = (HELD_OUT_PART.to_owned(), held_out.to_string());
                    offer.facts.extend([fact]);
                }
                if has_states {
                    offer.capabilities.insert("trajectory".to_owned());
                }
            }
        }
        None if has_states => {
            return Err(
                wrong("the input `checkpoints` is wired, but nothing looks at it")
                    .hint("write `gradients: {}`, or leave the input out"),
            );
        }
        None => {}
    }
    Ok(Offers::from([("probe".to_owned(), vec![offer])]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        stage::yaml::parse(text, "test.yaml").unwrap()
    }

    fn message(text: &str, offers: &Offers) -> String {
        check(&config(text), offers).unwrap_err().to_string()
    }

    fn offered(kinds: &[&str]) -> Offers {
        kinds
            .iter()
            .map(|kind| {
                let offer = Offer {
                    kind: (*kind).to_owned(),
                    ..Offer::default()
                };
                ((*kind).to_owned(), vec![offer])
            })
            .collect()
    }

    #[test]
    fn a_model_offers_its_name_and_capabilities() {
        let offers = check(&config("model: markov\n"), &Offers::new()).unwrap();
        let roles: Vec<&str> = offers.keys().map(String::as_str).collect();
        assert_eq!(roles, ["model", "predictions", "training"]);
        let more = check(
            &config("model: sasrec\nkeep_checkpoints: 3\n"),
            &Offers::new(),
        );
        assert_eq!(more.unwrap()["checkpoints"][0].facts["model"], "sasrec");
        let model = &offers["model"][0];
        assert_eq!(model.facts["model"], "markov");
        let capabilities: Vec<&str> = model.capabilities.iter().map(String::as_str).collect();
        assert_eq!(capabilities, ["counts", "losses", "transitions"]);

        // The probe of that model passes both on, and adds what every probe has.
        let wired = Offers::from([("model".to_owned(), vec![model.clone()])]);
        let probe = check(&config("mode: probe\n"), &wired).unwrap();
        assert_eq!(probe.keys().collect::<Vec<_>>(), ["probe"]);
        assert_eq!(probe["probe"][0].facts["model"], "markov");
        assert_eq!(probe["probe"][0].capabilities.len(), 4);
        assert!(probe["probe"][0].capabilities.contains("representations"));
        // Nothing is assumed of a model that says nothing.
        let alone = check(&config("mode: probe\n"), &Offers::new()).unwrap();
        assert_eq!(alone["probe"][0].capabilities.len(), 1);
    }

    #[test]
    fn a_probe_offers_attention_and_hidden_states_where_told_to() {
        let model = check(&config("model: sasrec\n"), &Offers::new()).unwrap();
        let wired = Offers::from([("model".to_owned(), model["model"].clone())]);
        for (more, has) in [("", false), ("attention: {}\nhidden_states: true\n", true)] {
            let probe = check(&config(&format!("mode: probe\n{more}")), &wired).unwrap();
            for word in [ATTENTION, HIDDEN_STATES] {
                assert_eq!(probe["probe"][0].capabilities.contains(word), has, "{word}");
            }
        }
        let wrong = "mode: probe\nattention: { part: test }\n";
        assert!(message(wrong, &Offers::new()).contains("only judges"));
    }

    #[test]
    fn a_probe_offers_the_directions_it_is_asked_for_where_there_are_gradients() {
        let asked = "mode: probe\ngradients: { directions: [ekfac, kfac] }\n";
        for (name, has) in [("sasrec", true), ("markov", false)] {
            let model = check(&config(&format!("model: {name}\n")), &Offers::new()).unwrap();
            let wired = Offers::from([("model".to_owned(), model["model"].clone())]);
            let probe = check(&config(asked), &wired).unwrap();
            for word in ["kfac_direction", "ekfac_direction"] {
                assert_eq!(probe["probe"][0].capabilities.contains(word), has, "{name}");
            }
            assert!(!probe["probe"][0].capabilities.contains("adam_direction"));
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a list")]
    fn wrong_configurations_say_what_to_write() {
        let nothing = Offers::new();
        for (text, expected) in [
            ("top: 3\n", "mode `fit` needs a `model`"),
            ("model: markow\n", "did you mean `markov`?"),
            (
                "model: { name: itemknn, neighbors: 3 }\n",
                "did you mean `neighbours`?",
            ),
            (
                "model: { name: itemknn, neighbours: -3 }\n",
                "invalid value: integer `-3`",
            ),
            (
                "model: { name: markov, k: 3 }\n",
                "`markov` takes no parameters",
            ),
            ("model: markov\nact: {}\n", "exactly one"),
            (
                "model: markov\nfeatures: { items: 0, text: 0 }\n",
                "not both 0",
            ),
            ("model: markov\nfeatures: { items: -1 }\n", "from 0 up"),
            ("mode: probe\nmodel: markov\n", "as an input"),
            (
                "mode: probe\nact: { drop_lowest: 0.1 }\n",
                "belongs to mode `fit`",
            ),
        ] {
            let message = message(text, &nothing);
            assert!(message.contains(expected), "{text:?}: {message}");
        }
        for (text, kinds, expected) in [
            (
                "model: markov\nact: { drop_lowest: 0.1 }\n",
                &["samples"][..],
                "needs the input `scores`",
            ),
            (
                "model: markov\n",
                &["samples", "scores"],
                "does not say what to do",
            ),
            (
                "model: markov\n",
                &["samples", "model"],
                "takes no input `model`",
            ),
            ("mode: probe\n", &["samples"], "needs the input `model`"),
            ("mode: serve\n", &["samples"], "needs the input `model`"),
            (
                "model: markov\nregime: mask\n",
                &["samples"],
                "needs the input `model`",
            ),
            (
                "mode: serve\nserve: { requests: 0 }\n",
                &["model"],
                "nothing would be timed",
            ),
            (
                "mode: probe\nregime: mask\n",
                &["model"],
                "belongs to mode `fit`",
            ),
            (
                "mode: probe\n",
                &["model", "scores"],
                "takes no input `scores`",
            ),
            (
                "mode: probe\ngradients: { held_out: valuation.fit, projection: {} }\n",
                &["model"],
                "cannot be `valuation.fit`",
            ),
            (
                "mode: probe\ngradients: { held_out: test, projection: {} }\n",
                &["model"],
                "cannot be `test`",
            ),
            (
                "mode: probe\ngradients: { held_out: valuation.tune }\n",
                &["model"],
                "no gradients are kept",
            ),
            (
                "mode: probe\nkeep_checkpoints: 2\n",
                &["model"],
                "belongs to mode `fit`",
            ),
            (
                "mode: respond\nmodel: sasrec\nkeep_checkpoints: 2\n",
                &["samples"],
                "belongs to mode `fit`",
            ),
            (
                "mode: probe\ngradients: { directions: [adam] }\n",
                &["model"],
                "needs the input `checkpoints`",
            ),
            (
                "mode: probe\ngradients: { directions: [kfac, kfac] }\n",
                &["model"],
                "`kfac` twice",
            ),
            (
                "mode: probe\ngradients: { directions: [kfac], damping: 0 }\n",
                &["model"],
                "wanted a number above 0",
            ),
            (
                "model: { name: sasrec, negatives: 9 }\n",
                &["samples"],
                "samples none",
            ),
        ] {
            let message = message(text, &offered(kinds));
            assert!(message.contains(expected), "{text:?}: {message}");
        }
        let unknown = stage::yaml::parse::<Config>("model: markov\nregime: maks\n", "t");
        assert!(unknown.unwrap_err().to_string().contains("maks"));
    }
}
