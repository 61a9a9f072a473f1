//! Association rules between single items: who chose a also chose b.
//!
//! With `n_a` the support of item a, `n_ab` that of both items and N the number of transactions,
//! the rule a -> b is worth, by `measure`: `confidence` `n_ab / n_a`, `support` `n_ab / N`, or `lift`
//! `n_ab N / (n_a n_b)`. Rules with `n_ab` below `minimum_support` are left out, and of each
//! antecedent only the `rules` best are kept (ties go to the smaller item number).
//! `score(b)` is the sum of the rules a -> b over the distinct items a of the history. An empty
//! history is served by popularity.
//!
//! What a transaction is depends on `order`:
//! - `any`: a user is a transaction. A cell of the user by item matrix is min(1, sum of the weights
//!   of the samples with this user and item), `n_ab` the sum over users of the product of the
//!   cells of a and b, `n_a` and N the sums of cells and of users with a cell.
//! - `after`: a sample is a transaction: its target b comes after each distinct item a among the
//!   last `window` events of its history and adds weight / distance to `n_ab`, distance being 1 for
//!   the event just before (of repeated items, the nearest). `n_a` is the sum of `n_ab` over b,
//!   `n_b` its sum over a, and N the sum of all.
//!
//! # Paper
//! Agrawal, Imielinski, Swami, "Mining association rules between sets of items in large databases",
//! SIGMOD 1993, section 2 (support, confidence); Brin, Motwani, Ullman, Tsur, SIGMOD 1997 (lift,
//! there called interest). The two orders are AR and SR of Ludewig, Jannach, "Evaluation of
//! session-based recommendation algorithms", UMUAI 28, 2018, section 3.1.
//!
//! # Departures
//! Antecedents are single items, so rules are counted and not mined. The whole history speaks, not
//! its last item alone. Weights of samples make counts fractional.
//!
//! # Needs
//! Target items, weights, and the sequence of each sample (`any`) or its history (`after`).
//!
//! # Cost
//! Fit, `any`: sum over users of (distinct items)^2, in parallel by item. `after`: samples times
//! `window`, in parallel by item. Score: the rules of the history's items. Memory: `rules` numbers per
//! item; with 0, every pair with enough support.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tensors::{Csr, TensorError, Tensors};

use crate::cells::{Accumulator, cells};
use crate::counts::Counts;
use crate::data::TrainingData;
use crate::history::History;
use crate::recommender::{FitError, LoadError, Model, Parameter, Recommender};
use crate::run::Run;

const RULES: &str = "rules";

/// The fitted model.
pub(super) struct AssociationRules {
    counts: Counts,
    /// Row a: what follows from a, and what the rule is worth.
    rules: Csr<f64>,
}

/// What a rule is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Measure {
    /// Share of the transactions with a that hold b.
    #[default]
    Confidence,
    /// Share of all transactions.
    Support,
    /// How much more often than if a and b were independent.
    Lift,
}

/// Whether b must come after a.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// It need not.
    #[default]
    Any,
    /// It must, and the nearer the more it counts.
    After,
}

/// Which rules, and what they are worth.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Parameters {
    measure: Measure,
    order: Order,
    window: u32,
    minimum_support: f64,
    rules: u32,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            measure: Measure::Confidence,
            order: Order::Any,
            window: 10,
            minimum_support: 0.0,
            rules: 100,
        }
    }
}

/// Supports of items and pairs.
struct Supports {
    /// Row a: (b, `n_ab`), b ascending, none of them 0, without the diagonal.
    pairs: Vec<Vec<(u32, f64)>>,
    antecedents: Vec<f64>,
    consequents: Vec<f64>,
    total: f64,
}

/// Users as transactions.
fn by_user(data: &TrainingData<'_>) -> Result<Supports, FitError> {
    let cells = cells(data)?;
    let by_item = cells.transpose();
    let n = u32::try_from(data.n_vocabulary()).unwrap_or(u32::MAX);
    let pairs = (0..n)
        .into_par_iter()
        .map_init(
            || Accumulator::new(data.n_vocabulary()),
            |accumulator, item| {
                let mut row = accumulator.row(item, &by_item, &cells);
                row.sort_unstable_by_key(|(other, _)| *other);
                row
            },
        )
        .collect();
    let items: Vec<f64> = (0..by_item.n_rows())
        .map(|item| by_item.row(item).1.iter().sum())
        .collect();
    Ok(Supports {
        pairs,
        consequents: items.clone(),
        antecedents: items,
        total: cells.n_rows() as f64,
    })
}

/// Samples as transactions, in their order.
fn by_sample(data: &TrainingData<'_>, window: usize) -> Supports {
    let n = data.n_vocabulary();
    let mut pairs: Vec<Vec<(u32, f64)>> = vec![Vec::new(); n];
    let mut seen: Vec<u32> = Vec::new();
    for sample in 0..data.n_samples() {
        let (target, weight) = (data.item(sample), data.weight(sample));
        if weight <= 0.0 {
            continue;
        }
        seen.clear();
        let last = data.history(sample).items().iter().rev().take(window);
        for (&from, distance) in last.zip(1_u32..) {
            // Items that training never saw lie in no vocabulary.
            if from != target && (from as usize) < n && !seen.contains(&from) {
                seen.push(from);
                pairs[from as usize].push((target, weight / f64::from(distance)));
            }
        }
    }
    pairs.par_iter_mut().for_each(|row| {
        // Stable, so that each sum runs in the order of the samples.
        row.sort_by_key(|(to, _)| *to);
        *row = row
            .chunk_by(|a, b| a.0 == b.0)
            .map(|chunk| (chunk[0].0, chunk.iter().map(|(_, x)| x).sum()))
            .collect();
    });
    let antecedents: Vec<f64> = pairs
        .iter()
        .map(|row| row.iter().map(|(_, x)| x).sum())
        .collect();
    let mut consequents = vec![0.0; n];
    for (to, x) in pairs.iter().flatten() {
        consequents[*to as usize] += x;
    }
    let total = antecedents.iter().sum();
    Supports {
        pairs,
        antecedents,
        consequents,
        total,
    }
}

/// The best rules of every antecedent, consequents ascending.
fn rules(supports: Supports, parameters: &Parameters) -> Result<Csr<f64>, FitError> {
    let Supports {
        pairs,
        antecedents,
        consequents,
        total,
    } = supports;
    let most = parameters.rules as usize;
    let n = pairs.len();
    let rows: Vec<Vec<(u32, f64)>> = pairs
        .into_par_iter()
        .zip(antecedents)
        .map(|(mut row, antecedent)| {
            row.retain(|(_, both)| *both >= parameters.minimum_support);
            for (to, both) in &mut row {
                *both = match parameters.measure {
                    Measure::Confidence => *both / antecedent,
                    Measure::Support => *both / total,
                    Measure::Lift => *both * total / (antecedent * consequents[*to as usize]),
                };
            }
            if most > 0 && row.len() > most {
                row.select_nth_unstable_by(most - 1, |a, b| {
                    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
                });
                row.truncate(most);
            }
            row.shrink_to_fit();
            row.sort_unstable_by_key(|(to, _)| *to);
            row
        })
        .collect();
    Ok(Csr::from_rows(n, rows)?)
}

impl Recommender for AssociationRules {
    const NAME: &'static str = "association_rules";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Who chose this also chose that: rules between single items.";
    const PAPER: &'static str = "Agrawal et al., SIGMOD 1993; Ludewig and Jannach, UMUAI 2018";
    const CAPABILITIES: &'static [crate::Capability] = &[];
    const PARAMETERS: &'static [Parameter] = &[
        Parameter {
            name: "measure",
            default: "\"confidence\"",
            doc: "what a rule is worth: confidence, support or lift",
        },
        Parameter {
            name: "order",
            default: "\"any\"",
            doc: "any: both items in one history; after: the second after the first, nearer counting more",
        },
        Parameter {
            name: "window",
            default: "10",
            doc: "events before a target that imply it, with `order: after`; from 1 up",
        },
        Parameter {
            name: "minimum_support",
            default: "0.0",
            doc: "weighted count that a pair needs to be a rule; from 0 up",
        },
        Parameter {
            name: "rules",
            default: "100",
            doc: "best rules of each item that are kept; 0: all",
        },
    ];
    type Parameters = Parameters;

    fn check(parameters: &Parameters) -> Result<(), String> {
        let support = parameters.minimum_support;
        if !(support.is_finite() && support >= 0.0) {
            return Err("`minimum_support` must be a number from 0 up".to_owned());
        }
        if parameters.window == 0 {
            return Err("`window` must be at least 1".to_owned());
        }
        Ok(())
    }

    fn fit(
        parameters: &Parameters,
        data: &TrainingData<'_>,
        _: &mut Run<'_>,
    ) -> Result<Self, FitError> {
        let supports = match parameters.order {
            Order::Any => by_user(data)?,
            Order::After => by_sample(data, parameters.window as usize),
        };
        Ok(Self {
            counts: Counts::of(data),
            rules: rules(supports, parameters)?,
        })
    }

    fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        let counts = Counts::load(tensors)?;
        let rules = tensors.csr_f64(RULES)?;
        let n = counts.counts().len();
        if rules.n_rows() != n || rules.n_columns != n {
            return Err(LoadError::Sizes {
                left: "item_counts",
                right: RULES,
            });
        }
        Ok(Self { counts, rules })
    }
}

impl Model for AssociationRules {
    fn score(&self, _: Option<u32>, history: History<'_>, scores: &mut [f64]) {
        let history = history.items();
        if history.is_empty() {
            self.counts.write_shares(scores);
            return;
        }
        scores.fill(0.0);
        let mut distinct = history.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        // Ascending numbers fix the order of each sum.
        for item in distinct {
            if item as usize >= self.rules.n_rows() {
                break;
            }
            let (consequents, values) = self.rules.row(item as usize);
            for (&to, value) in consequents.iter().zip(values) {
                if let Some(score) = scores.get_mut(to as usize) {
                    *score += value;
                }
            }
        }
    }

    fn save(&self) -> Result<Tensors, TensorError> {
        let mut tensors = Tensors::new();
        self.counts.save(&mut tensors)?;
        tensors.insert_csr_f64(RULES, &self.rules)?;
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use seed::Seed;
    use serde_json::{Value, json};

    use super::*;
    use crate::conformance::log;

    const LOGS: [(&[u32], &[f64]); 3] = [
        (&[0, 1, 2], &[1.0, 1.0, 1.0]),
        (&[0, 1, 0], &[1.0, 0.5, 1.0]),
        (&[3, 1], &[1.0, 1.0]),
    ];

    fn fit(parameters: Value) -> AssociationRules {
        let (samples, sequences) = log(&LOGS);
        let data = TrainingData::new(&samples, &sequences, 4).unwrap();
        let parameters = serde_json::from_value(parameters).unwrap();
        let mut run = Run::silent(Seed::root(1));
        AssociationRules::fit(&parameters, &data, &mut run).unwrap()
    }

    fn assert_rules(model: &AssociationRules, from: usize, expected: &[(u32, f64)]) {
        let (items, values) = model.rules.row(from);
        assert_eq!(
            items,
            expected.iter().map(|(to, _)| *to).collect::<Vec<_>>()
        );
        for (value, (_, expected)) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-15, "{value} {expected}");
        }
    }

    #[test]
    fn users_are_transactions() {
        // n = [2, 2.5, 1, 1], n_01 = 1.5, n_02 = n_12 = n_13 = 1, three users.
        let confidence = fit(json!({}));
        assert_rules(&confidence, 0, &[(1, 0.75), (2, 0.5)]);
        assert_rules(&confidence, 1, &[(0, 0.6), (2, 0.4), (3, 0.4)]);
        let support = fit(json!({ "measure": "support" }));
        assert_rules(&support, 0, &[(1, 0.5), (2, 1.0 / 3.0)]);
        let lift = fit(json!({ "measure": "lift" }));
        assert_rules(&lift, 0, &[(1, 1.5 * 3.0 / 5.0), (2, 3.0 / 2.0)]);
    }

    #[test]
    fn samples_are_transactions_and_the_nearest_events_count_most() {
        let model = fit(json!({ "order": "after", "measure": "support", "rules": 0 }));
        // 0 -> 1: 1 + 0.5; 0 -> 2: 1 / 2; 1 -> 2: 1; 1 -> 0: 1; 3 -> 1: 1. Nothing implies itself.
        let total = 5.0;
        assert_rules(&model, 0, &[(1, 1.5 / total), (2, 0.5 / total)]);
        assert_rules(&model, 1, &[(0, 1.0 / total), (2, 1.0 / total)]);
        assert_rules(&model, 3, &[(1, 1.0 / total)]);
        let lift = fit(json!({ "order": "after", "measure": "lift" }));
        assert_rules(&lift, 3, &[(1, 1.0 * 5.0 / (1.0 * 2.5))]);
        let near = fit(json!({ "order": "after", "window": 1 }));
        assert_rules(&near, 0, &[(1, 1.0)]);
    }

    #[test]
    fn weak_and_surplus_rules_are_left_out() {
        let strong = fit(json!({ "minimum_support": 1.5 }));
        assert_rules(&strong, 0, &[(1, 0.75)]);
        assert_rules(&strong, 1, &[(0, 0.6)]);
        let few = fit(json!({ "rules": 2 }));
        // 1 -> 2 and 1 -> 3 are equally good.
        assert_rules(&few, 1, &[(0, 0.6), (2, 0.4)]);
    }

    #[test]
    fn scores_sum_the_rules_of_distinct_items() {
        let model = fit(json!({}));
        let mut scores = [0.0; 5];
        model.score(None, History::of(&[1, 0, 9, 1]), &mut scores);
        for (score, expected) in scores.iter().zip([0.6, 0.75, 0.9, 0.4, 0.0]) {
            assert!((score - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn impossible_parameters_are_refused() {
        let entry = crate::recommender::entry("association_rules").unwrap();
        for (parameters, name) in [
            (json!({ "minimum_support": -1 }), "`minimum_support`"),
            (json!({ "window": 0 }), "`window`"),
            (json!({ "measure": "luck" }), "luck"),
        ] {
            let error = entry.check(&parameters).unwrap_err();
            assert!(error.source.to_string().contains(name), "{}", error.source);
        }
    }
}
