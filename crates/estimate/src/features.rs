//! With `of: features`: the importance of features, from a probe that exchanged them or took gradients by
//! them.
//!
//! # Paper
//! Permutation: Breiman, Machine Learning 45, 2001, section 10. Gradient x input and integrated gradients:
//! see what `train` says of `feature_importance`. Their mean size over requests is what Lundberg and Lee,
//! NIPS 2017, summarise attributions by.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stage::yaml::Named;
use stage::{Exit, Failure, Io, Offer, Seed, suggest};
use tables::{FeatureImportance, ProbeCompleteness, ProbeFeature};

use crate::config::Config;

/// What is scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// Training samples.
    #[default]
    Samples,
    /// Features of the model.
    Features,
}

/// A way to tell how important a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Random,
    Permutation(Measure),
    GradientXInput,
    IntegratedGradients,
}

/// What an exchange is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Measure {
    #[default]
    Ndcg,
    Loss,
}

/// Parameters of `permutation`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PermutationParameters {
    measure: Measure,
}

/// Names of methods, with what they need of a probe.
const METHODS: [(&str, Option<&str>); 4] = [
    ("gradient_x_input", Some("input_gradients")),
    ("integrated_gradients", Some("input_gradients")),
    ("permutation", Some("permutation")),
    ("random", None),
];

impl Method {
    fn of(named: &Named) -> Result<Self, Failure> {
        let names = METHODS.iter().map(|(name, _)| *name);
        let method = match named.name.as_str() {
            "random" => Self::Random,
            "gradient_x_input" => Self::GradientXInput,
            "integrated_gradients" => Self::IntegratedGradients,
            "permutation" => {
                let parameters: PermutationParameters = serde_json::from_value(named.to_json()?)
                    .map_err(|error| {
                        Failure::configuration(error)
                            .cause("parameters of `permutation`")
                            .hint("write `{ name: permutation, measure: ndcg }` or `measure: loss`")
                    })?;
                return Ok(Self::Permutation(parameters.measure));
            }
            other => {
                return Err(Failure::new(
                    Exit::Configuration,
                    format!("unknown method `{other}` for `of: features`"),
                )
                .hint(suggest(other, names)));
            }
        };
        if named.parameters.is_empty() {
            Ok(method)
        } else {
            Err(Failure::new(
                Exit::Configuration,
                format!("`{}` takes no parameters for `of: features`", named.name),
            ))
        }
    }

    /// The word in the probe; none for lots.
    const fn probed(self) -> Option<&'static str> {
        match self {
            Self::Random => None,
            Self::Permutation(Measure::Ndcg) => Some("permutation_ndcg"),
            Self::Permutation(Measure::Loss) => Some("permutation_loss"),
            Self::GradientXInput => Some("gradient_x_input"),
            Self::IntegratedGradients => Some("integrated_gradients"),
        }
    }

    /// Whether what features add is summarised by its size: it has either sign.
    const fn is_size(self) -> bool {
        matches!(self, Self::GradientXInput | Self::IntegratedGradients)
    }
}

/// Checks the configuration, and that the probe has what the method needs.
pub(crate) fn check(config: &Config, probe: Option<&Offer>) -> Result<(), Failure> {
    Method::of(&config.method)?;
    for (is_there, name) in [
        (config.tiers.is_some(), "tiers"),
        (config.groups.is_some(), "groups"),
        (config.influences.is_some(), "influences"),
    ] {
        if is_there {
            return Err(Failure::new(
                Exit::Configuration,
                format!("`{name}` is made of scores of samples, and `of: features` scores none"),
            )
            .hint(format!("leave `{name}` or `of: features` out")));
        }
    }
    let name = config.method.name.as_str();
    let need = METHODS.iter().find(|method| method.0 == name);
    let need = need.and_then(|method| method.1);
    let Some(probe) = probe else { return Ok(()) };
    // A lot needs names of features, which every probe that looked for them has.
    let need = need.unwrap_or("permutation");
    if probe.capabilities.contains(need) {
        return Ok(());
    }
    let failure = Failure::not_applicable(format!(
        "method `{name}` needs `{need}`, which the probe does not offer"
    ));
    Err(if probe.capabilities.contains("permutation") {
        failure.hint("probe a model that is differentiable, or use `permutation`")
    } else {
        failure.hint("write `feature_importance: {}` at the node that probes")
    })
}

/// Values of one feature by request: sum over repeats.
#[derive(Default)]
struct Values {
    by_request: BTreeMap<u32, f64>,
    repeats: BTreeSet<u32>,
}

/// Reads the probe and writes `feature_importance`.
pub(crate) fn run(config: &Config, io: &Io) -> Result<(), Failure> {
    let method = Method::of(&config.method)?;
    let directory = io.input("probe")?;
    let mut all: BTreeMap<(String, String), Values> = BTreeMap::new();
    let mut is_any = false;
    for row in tables::rows::<ProbeFeature>(directory).map_err(Failure::data)? {
        let row = row.map_err(Failure::data)?;
        is_any = true;
        if method.probed().is_some_and(|word| word != row.method) {
            continue;
        }
        let values = all.entry((row.group, row.feature)).or_default();
        if method.probed().is_some() {
            *values.by_request.entry(row.request).or_default() += row.value;
            values.repeats.insert(row.repeat);
        }
    }
    if all.is_empty() {
        let failure = Failure::new(
            Exit::Data,
            format!(
                "the probe has no values for method `{}`",
                config.method.name
            ),
        );
        return Err(if is_any {
            failure.hint("the model gives no losses, or is not differentiable: use `permutation`")
        } else {
            failure.hint("write `feature_importance: {}` at the node that probes")
        });
    }
    let gap = if method == Method::IntegratedGradients {
        mean_gap(directory)?
    } else {
        None
    };
    let seed = Seed::root(config.seed).child("features");
    let mut rows: Vec<FeatureImportance> = all
        .into_iter()
        .map(|((group, feature), values)| {
            let row = FeatureImportance {
                method: config.method.name.clone(),
                group,
                feature,
                rank: 0,
                importance: 0.0,
                std_error: None,
                mean: None,
                n_requests: values.by_request.len() as u64,
                n_repeats: u32::try_from(values.repeats.len()).unwrap_or(u32::MAX),
                gap,
            };
            if method == Method::Random {
                let stream = seed.child(&row.group).child(&row.feature).stream();
                let importance = stream.uniform(0, 0);
                FeatureImportance { importance, ..row }
            } else {
                summarised(row, &values, method.is_size())
            }
        })
        .collect();
    rank(&mut rows);
    tables::write_all(&io.output("feature_importance")?, rows).map_err(Failure::environment)?;
    Ok(())
}

/// Mean over requests of the gap of integrated gradients.
fn mean_gap(directory: &std::path::Path) -> Result<Option<f64>, Failure> {
    let rows: Vec<ProbeCompleteness> = tables::read_all(directory).map_err(Failure::data)?;
    let sum: f64 = rows.iter().map(|row| row.gap).sum();
    Ok((!rows.is_empty()).then(|| sum / rows.len() as f64))
}

/// Mean and standard error over requests of the mean over repeats.
fn summarised(row: FeatureImportance, values: &Values, is_size: bool) -> FeatureImportance {
    let n_repeats = f64::from(row.n_repeats.max(1));
    let means = || values.by_request.values().map(|sum| sum / n_repeats);
    let sizes: Vec<f64> = if is_size {
        means().map(f64::abs).collect()
    } else {
        means().collect()
    };
    let n = sizes.len() as f64;
    let importance = sizes.iter().sum::<f64>() / n;
    let squares: f64 = sizes
        .iter()
        .map(|x| (x - importance) * (x - importance))
        .sum();
    FeatureImportance {
        importance,
        std_error: (sizes.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()),
        mean: Some(means().sum::<f64>() / n),
        ..row
    }
}

/// Numbers features by importance within their groups; equal ones by name.
fn rank(rows: &mut [FeatureImportance]) {
    rows.sort_by(|a, b| {
        let by_group = a.group.cmp(&b.group);
        let by_size = || b.importance.total_cmp(&a.importance);
        by_group
            .then_with(by_size)
            .then_with(|| a.feature.cmp(&b.feature))
    });
    for of_group in rows.chunk_by_mut(|a, b| a.group == b.group) {
        for (row, rank) in of_group.iter_mut().zip(1..) {
            row.rank = rank;
        }
    }
}

#[cfg(test)]
mod tests {
    use stage::Label;

    use super::*;

    const ROWS: [(&str, &str, &str, u32, u32, f64); 10] = [
        ("integrated_gradients", "input", "event", 0, 1, -2.0),
        ("integrated_gradients", "input", "event", 0, 2, 2.0),
        ("integrated_gradients", "input", "item", 0, 1, 1.0),
        ("integrated_gradients", "input", "item", 0, 2, 2.0),
        ("permutation_ndcg", "input", "event", 0, 1, 0.2),
        ("permutation_ndcg", "input", "event", 0, 2, 0.0),
        ("permutation_ndcg", "input", "event", 1, 1, 0.4),
        ("permutation_ndcg", "input", "event", 1, 2, 0.2),
        ("permutation_ndcg", "place", "place_1", 0, 1, 0.5),
        ("permutation_ndcg", "place", "place_1", 0, 2, 0.5),
    ];

    fn importance(method: &str) -> Result<Vec<FeatureImportance>, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let probe = folder.path().join("probe");
        std::fs::create_dir(&probe).unwrap();
        let rows = ROWS.map(
            |(method, group, feature, repeat, request, value)| ProbeFeature {
                method: method.to_owned(),
                group: group.to_owned(),
                feature: feature.to_owned(),
                repeat,
                request,
                value,
            },
        );
        tables::write_all(&probe, rows).unwrap();
        let gaps = [(1, 0.25), (2, 0.75)].map(|(request, gap)| ProbeCompleteness {
            request,
            steps: 1,
            output: 1.0,
            baseline: 0.0,
            sum: 1.0 + gap,
            gap,
        });
        tables::write_all(&probe, gaps).unwrap();
        let text = format!("of: features\nmethod: {method}\nseed: 3\n");
        let config: Config = stage::yaml::parse(&text, "t")?;
        check(&config, None)?;
        let io = Io::new(folder.path().join("out"), "data");
        let io = io.with_input("probe", Label::default(), probe);
        run(&config, &io)?;
        tables::read_all(&folder.path().join("out/feature_importance")).map_err(Failure::data)
    }

    #[test]
    fn importance_is_the_mean_over_requests_of_the_mean_over_repeats() {
        let rows = importance("permutation").unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row.feature.as_str()).collect();
        assert_eq!(names, ["event", "place_1"]);
        // Requests: 0.3 and 0.1; sd is sqrt(0.02), over sqrt(2). A few roundings of numbers below 1.
        assert!((rows[0].importance - 0.2).abs() < 1e-15);
        assert!((rows[0].std_error.unwrap() - 0.1).abs() < 1e-15);
        assert_eq!((rows[0].n_requests, rows[0].n_repeats), (2, 2));
        assert_eq!((rows[0].rank, rows[1].rank), (1, 1));
        assert!(rows[1].std_error.unwrap().abs() <= 0.0);
    }

    #[test]
    fn attributions_count_by_size_and_keep_their_sign_aside() {
        let rows = importance("integrated_gradients").unwrap();
        assert_eq!(rows[0].feature, "event");
        assert!((rows[0].importance - 2.0).abs() < 1e-15);
        assert!(rows[0].mean.unwrap().abs() < 1e-15);
        assert!((rows[1].mean.unwrap() - 1.5).abs() < 1e-15);
        assert_eq!((rows[0].rank, rows[1].rank), (1, 2));
        assert!((rows[0].gap.unwrap() - 0.5).abs() < 1e-15);
    }

    #[test]
    fn lots_know_all_features_and_repeat_by_their_seed() {
        let rows = importance("random").unwrap();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows, importance("random").unwrap());
        assert!(rows.iter().all(|row| row.std_error.is_none()));
    }

    #[test]
    fn wrong_methods_say_what_to_write() {
        for (method, expected) in [
            ("permutatoin", "did you mean `permutation`?"),
            ("{ name: permutation, measure: mrr }", "measure: loss"),
            ("{ name: random, k: 3 }", "takes no parameters"),
            ("gradient_x_input", "the probe has no values"),
            (
                "{ name: permutation, measure: loss }",
                "the probe has no values",
            ),
        ] {
            let failure = importance(method).unwrap_err();
            let message = format!("{failure:?} {failure}");
            assert!(message.contains(expected), "{method}: {message}");
        }
        let text = "of: features\nmethod: permutation\ntiers: { share: 0.2 }\n";
        let config: Config = stage::yaml::parse(text, "t").unwrap();
        assert!(check(&config, None).is_err());
        let text = "of: features\nmethod: permutation\n";
        let config: Config = stage::yaml::parse(text, "t").unwrap();
        let failure = check(&config, Some(&Offer::default())).unwrap_err();
        assert!(failure.to_string().contains("does not offer"), "{failure}");
    }
}
