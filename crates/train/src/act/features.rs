//! Acting on the importance of features: which to leave out before fitting, or how much each weighs.
//!
//! Only features that the model can do without are acted on; samples, their order and all chance stay as
//! they are, so that arms are paired with the model that keeps everything.

use std::collections::BTreeMap;
use std::path::Path;

use models::FeatureWeights;
use stage::{Exit, Failure, Seed};
use tables::{FeatureImportance, FeatureWeight, Removal};

use super::config::{Act, Regime, Reweight, SelectFeatures, Shape};
use super::weights;

/// Groups of features that training can leave out.
const GROUPS: [&str; 2] = ["feature", "input"];

/// What is done to features.
pub(crate) struct ActedOn {
    method: String,
    /// What is done, in words of the configuration.
    action: String,
    /// By importance, then by name.
    pub(crate) rows: Vec<FeatureWeight>,
}

/// Importance that cannot be acted on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportanceError {
    #[error("importance by two methods, `{first}` and `{second}`")]
    Mixed { first: String, second: String },
    #[error("the importance of feature `{feature}` is not finite")]
    NotFinite { feature: String },
    #[error("feature `{feature}` of the model has no row in `feature_importance`")]
    Missing { feature: String },
    #[error("`act.select_features.keep` is {keep}, but the model has {n} features to choose from")]
    TooMany { keep: u32, n: usize },
}

const OTHER_MODEL: &str =
    "wire importance that was estimated from a probe of this model with the same parameters";

impl ActedOn {
    /// Reads the importance of the features that the model can do without, and decides. Of equally
    /// important features a lot decides that depends on seed and name alone.
    pub(crate) fn read(
        directory: &Path,
        act: &Act,
        features: &[&str],
        seed: u64,
    ) -> Result<Self, Failure> {
        let mut method: Option<String> = None;
        let mut found: BTreeMap<String, f64> = BTreeMap::new();
        for row in tables::rows::<FeatureImportance>(directory).map_err(Failure::data)? {
            let row = row.map_err(Failure::data)?;
            let first = method.get_or_insert_with(|| row.method.clone());
            if *first != row.method {
                return Err(Failure::data(ImportanceError::Mixed {
                    first: first.clone(),
                    second: row.method,
                }));
            }
            if !GROUPS.contains(&row.group.as_str()) || !features.contains(&row.feature.as_str()) {
                continue;
            }
            if !row.importance.is_finite() {
                let feature = row.feature;
                return Err(Failure::data(ImportanceError::NotFinite { feature }));
            }
            // Adding 0 makes both zeros one.
            found.insert(row.feature, row.importance + 0.0);
        }
        if let Some(feature) = features.iter().find(|name| !found.contains_key(**name)) {
            let feature = (*feature).to_owned();
            return Err(Failure::data(ImportanceError::Missing { feature }).hint(OTHER_MODEL));
        }
        let method = method.unwrap_or_default();
        let lot = |name: &str| {
            Seed::root(seed)
                .child("act")
                .child(name)
                .stream()
                .bits(0, 0)
        };
        let mut order: Vec<(&String, f64)> = found.iter().map(|(name, x)| (name, *x)).collect();
        order.sort_by(|a, b| {
            let lots = || lot(a.0).cmp(&lot(b.0));
            a.1.total_cmp(&b.1).then_with(lots).then(a.0.cmp(b.0))
        });
        let n = order.len();
        let (action, weights) = match (act.select_features, act.weigh_features) {
            (Some(select), _) => {
                let n_left_out = n_left_out(select, n)?;
                let weights = (0..n).map(|at| if at < n_left_out { 0.0 } else { 1.0 });
                let action = match (select.keep, select.drop_lowest) {
                    (Some(keep), _) => format!("select_features keep {keep}"),
                    (None, share) => {
                        format!("select_features drop_lowest {}", share.unwrap_or(0.0))
                    }
                };
                (action, weights.collect())
            }
            (None, Some(weigh)) => {
                let values: Vec<f64> = order.iter().map(|(_, importance)| *importance).collect();
                let reweight = Reweight {
                    to: weigh.to,
                    shape: Shape::Rank,
                };
                let weights = weights::weights(&values, reweight).map_err(Failure::data)?;
                (format!("weigh_features to {}", weigh.to), weights)
            }
            (None, None) => (String::new(), vec![1.0; n]),
        };
        let rows = order.into_iter().zip(weights);
        let mut rows: Vec<FeatureWeight> = rows
            .map(|((feature, importance), weight): (_, f64)| FeatureWeight {
                method: method.clone(),
                feature: feature.clone(),
                importance,
                weight,
            })
            .collect();
        rows.sort_by(|a, b| {
            a.importance
                .total_cmp(&b.importance)
                .then_with(|| a.feature.cmp(&b.feature))
        });
        Ok(Self {
            method,
            action,
            rows,
        })
    }

    /// What training multiplies features with.
    pub(crate) fn weights(&self) -> FeatureWeights {
        let rows = self.rows.iter();
        FeatureWeights::new(rows.map(|row| (row.feature.clone(), row.weight)))
    }

    /// Features that are left out.
    pub(crate) fn n_left_out(&self) -> usize {
        self.rows.iter().filter(|row| row.weight <= 0.0).count()
    }

    /// What was done, as acting on samples says it: all of them stay.
    pub(crate) fn removal(&self, regime: Regime, n_samples: usize) -> Removal {
        Removal {
            method: self.method.clone(),
            action: self.action.clone(),
            regime: regime.as_str().to_owned(),
            n_samples: n_samples as u64,
            n_scored: 0,
            n_wanted: None,
            n_removed: 0,
            n_reweighted: 0,
            factor_sum: n_samples as f64,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the share is in [0, 1), so the product is a number of features"
)]
fn n_left_out(select: SelectFeatures, n: usize) -> Result<usize, Failure> {
    match (select.keep, select.drop_lowest) {
        (Some(keep), _) if keep as usize <= n => Ok(n - keep as usize),
        (Some(keep), _) => Err(Failure::new(
            Exit::Configuration,
            ImportanceError::TooMany { keep, n }.to_string(),
        )
        .hint(format!("write a number from 1 to {n}"))),
        (None, share) => Ok((share.unwrap_or(0.0) * n as f64).round() as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::WeighFeatures;
    use super::*;

    fn write(rows: &[(&str, &str, f64)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let rows = (1..)
            .zip(rows)
            .map(|(rank, &(group, feature, importance))| FeatureImportance {
                method: "m".to_owned(),
                group: group.to_owned(),
                feature: feature.to_owned(),
                rank,
                importance,
                std_error: None,
                mean: None,
                n_requests: 1,
                n_repeats: 1,
                gap: None,
            });
        tables::write_all(directory.path(), rows).unwrap();
        directory
    }

    fn select(keep: Option<u32>, drop_lowest: Option<f64>) -> Act {
        Act {
            select_features: Some(SelectFeatures { keep, drop_lowest }),
            ..Act::default()
        }
    }

    fn weights(directory: &Path, act: &Act, features: &[&str]) -> Vec<(String, f64)> {
        let acted = ActedOn::read(directory, act, features, 1).unwrap();
        let rows = acted.rows.iter();
        rows.map(|row| (row.feature.clone(), row.weight)).collect()
    }

    const ROWS: [(&str, &str, f64); 5] = [
        ("feature", "a", 3.0),
        ("feature", "b", -1.0),
        ("feature", "c", 0.5),
        ("feature", "d", 0.25),
        // The same name in a view that nobody can leave out.
        ("place", "b", 100.0),
    ];

    #[test]
    fn the_least_important_features_are_left_out() {
        let directory = write(&ROWS);
        let all = ["a", "b", "c", "d"];
        let left_out = |act: &Act| -> Vec<String> {
            let all = weights(directory.path(), act, &all).into_iter();
            all.filter(|(_, weight)| *weight <= 0.0)
                .map(|(name, _)| name)
                .collect()
        };
        assert_eq!(left_out(&select(Some(1), None)), ["b", "d", "c"]);
        assert_eq!(left_out(&select(None, Some(0.5))), ["b", "d"]);
        assert!(left_out(&select(Some(4), None)).is_empty());
        assert!(left_out(&select(None, Some(0.0))).is_empty());
        let removal = ActedOn::read(directory.path(), &select(Some(1), None), &all, 1).unwrap();
        assert_eq!(removal.n_left_out(), 3);
        let removal = removal.removal(Regime::Drop, 7);
        assert_eq!((removal.n_removed, removal.n_samples), (0, 7));
        assert_eq!(removal.action, "select_features keep 1");
        // What the model cannot do without plays no part.
        assert_eq!(
            weights(directory.path(), &select(Some(1), None), &["b", "d"]),
            [("b".to_owned(), 0.0), ("d".to_owned(), 1.0)]
        );
    }

    #[test]
    fn weights_rise_with_importance_have_the_mean_1_and_are_1_for_equal_ones() {
        let act = Act {
            weigh_features: Some(WeighFeatures { to: 0.2 }),
            ..Act::default()
        };
        let directory = write(&ROWS);
        let found = weights(directory.path(), &act, &["a", "b", "c", "d"]);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b", "d", "c", "a"]);
        let values: Vec<f64> = found.iter().map(|(_, weight)| *weight).collect();
        assert!(values.is_sorted());
        // A few operations on numbers of about 1.
        assert!((values.iter().sum::<f64>() - 4.0).abs() < 1e-14);
        assert!((values[0] / values[3] - 0.2).abs() < 1e-14);
        let equal = write(&[("input", "a", 0.5), ("input", "b", 0.5)]);
        let found = weights(equal.path(), &act, &["a", "b"]);
        assert!(
            found
                .iter()
                .all(|(_, weight)| weight.to_bits() == 1.0_f64.to_bits())
        );
    }

    #[test]
    fn importance_of_other_features_is_refused() {
        let directory = write(&ROWS);
        let message = |act: &Act, features: &[&str]| {
            let Err(failure) = ActedOn::read(directory.path(), act, features, 1) else {
                panic!("importance of another model was acted on");
            };
            failure.to_string()
        };
        let found = message(&select(Some(1), None), &["a", "z"]);
        assert!(found.contains("`z` of the model has no row"), "{found}");
        let found = message(&select(Some(9), None), &["a", "b"]);
        assert!(found.contains("2 features to choose from"), "{found}");
    }

    #[test]
    fn equally_important_features_are_left_out_by_lot() {
        let names: Vec<String> = (0..20).map(|at| format!("f{at:02}")).collect();
        let rows: Vec<(&str, &str, f64)> = names
            .iter()
            .map(|name| ("feature", name.as_str(), 1.0))
            .collect();
        let directory = write(&rows);
        let features: Vec<&str> = names.iter().map(String::as_str).collect();
        let of = |seed| -> Vec<f64> {
            let act = select(Some(10), None);
            let acted = ActedOn::read(directory.path(), &act, &features, seed).unwrap();
            acted.rows.iter().map(|row| row.weight).collect()
        };
        assert_eq!(of(1), of(1));
        // One choice of ten among twenty in 184,756.
        assert_ne!(of(1), of(2));
    }
}
