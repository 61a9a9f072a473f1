//! The laws that every method obeys, checked for each entry of the registry.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::directions::Directions;
use crate::estimator::{EstimatorError, Need, Scores};
use crate::gradients::Gradients;
use crate::problem::{InMemory, Problem};
use crate::projected::Projected;
use crate::registry::{Entry, Prepared};
use crate::{METHODS, Seed, toy};

fn prepare(entry: &'static Entry) -> Prepared {
    entry.prepare(&json!({})).unwrap()
}

fn estimate(entry: &'static Entry, problem: &dyn Problem, seed: u64) -> Scores {
    prepare(entry)
        .estimate(problem, Seed::root(seed), &|_| {})
        .unwrap()
}

fn bits(scores: &[Option<f64>]) -> Vec<Option<u64>> {
    scores.iter().map(|score| score.map(f64::to_bits)).collect()
}

/// Runs a check for every entry on several problems, naming the entry where it fails.
fn for_each_entry(check: impl Fn(&'static Entry, &InMemory)) {
    for entry in METHODS {
        for seed in 0..3 {
            let problem = toy::problem(seed);
            // Nobody looks at the problem after a panic.
            let guarded = std::panic::AssertUnwindSafe(|| check(entry, &problem));
            let outcome = std::panic::catch_unwind(guarded);
            assert!(outcome.is_ok(), "`{}` breaks this law", entry.name);
        }
    }
}

#[test]
fn names_are_distinct_and_sorted() {
    assert!(METHODS.is_sorted_by(|a, b| a.name < b.name));
}

#[test]
fn every_sample_has_a_finite_score_or_none_and_some_differ() {
    for_each_entry(|entry, problem| {
        let scores = estimate(entry, problem, 1);
        let n = problem.samples().len();
        assert_eq!(
            (
                scores.score.len(),
                scores.std_error.len(),
                scores.n_updates.len()
            ),
            (n, n, n)
        );
        assert!(scores.score.iter().flatten().all(|score| score.is_finite()));
        let distinct: BTreeSet<_> = bits(&scores.score).into_iter().flatten().collect();
        assert!(distinct.len() > 1, "all scores are equal");
        for (score, &n_updates) in scores.score.iter().zip(&scores.n_updates) {
            assert!(score.is_some() || n_updates == 0);
        }
    });
}

#[test]
fn same_seed_gives_same_bits_with_any_number_of_threads() {
    for_each_entry(|entry, problem| {
        let wanted = estimate(entry, problem, 7);
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let found = pool.install(|| estimate(entry, problem, 7));
            assert_eq!(bits(&found.score), bits(&wanted.score));
            assert_eq!(found.n_updates, wanted.n_updates);
        }
    });
}

#[test]
fn permuting_samples_permutes_scores() {
    for_each_entry(|entry, problem| {
        let n = problem.samples().len();
        let mut places: Vec<usize> = (0..n).collect();
        Seed::root(5).sequence().shuffle(&mut places);
        let moved = estimate(entry, &toy::rearrange(problem, &places), 1);
        let scores = estimate(entry, problem, 1);
        for (&place, moved) in places.iter().zip(&moved.score) {
            let score = scores.score[place];
            // Counts are sums in the order of samples: rounding may differ.
            let is_equal = match (score, *moved) {
                (Some(a), Some(b)) => (a - b).abs() <= 1e-13 * (1.0 + a.abs()),
                (a, b) => a.is_none() && b.is_none(),
            };
            assert!(is_equal, "{score:?} became {moved:?}");
        }
    });
}

#[test]
fn copies_score_equally_where_promised() {
    for_each_entry(|entry, problem| {
        if !entry.copies_score_equally {
            return;
        }
        let n = problem.samples().len();
        let places: Vec<usize> = (0..n).chain([3, 5, 8]).collect();
        let scores = estimate(entry, &toy::rearrange(problem, &places), 1).score;
        let original: Vec<_> = [3, 5, 8].map(|place| scores[place]).to_vec();
        assert_eq!(bits(&original), bits(&scores[n..]));
    });
}

#[test]
fn the_order_of_requests_does_not_matter() {
    for_each_entry(|entry, problem| {
        if !entry.is_deterministic {
            return;
        }
        let scores = estimate(entry, problem, 1).score;
        let turned = estimate(entry, &toy::reverse_requests(problem), 1).score;
        for (a, b) in scores.iter().zip(&turned) {
            assert!((a.unwrap_or(0.0) - b.unwrap_or(0.0)).abs() < 1e-14);
            assert_eq!(a.is_some(), b.is_some());
        }
    });
}

#[test]
fn unknown_parameters_are_refused() {
    for entry in METHODS {
        let refused = entry.prepare(&json!({ "no_such_parameter": 1 }));
        let Err(error) = refused else {
            panic!("`{}` takes any parameter", entry.name);
        };
        assert!(error.to_string().contains(entry.name));
        assert!(error.kind.to_string().contains("no_such_parameter"));
    }
}

#[test]
fn parameters_are_listed_with_their_defaults() {
    for entry in METHODS {
        let defaults = prepare(entry);
        let Value::Object(defaults) = defaults.parameters() else {
            panic!("parameters of `{}` are no object", entry.name);
        };
        let listed: BTreeSet<_> = entry
            .parameters
            .iter()
            .map(|parameter| (parameter.name.to_owned(), parameter.default.to_owned()))
            .collect();
        let found: BTreeSet<_> = defaults
            .iter()
            .map(|(name, value)| (name.clone(), value.to_string()))
            .collect();
        assert_eq!(listed, found, "{}", entry.name);
    }
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    for entry in METHODS {
        for parameter in entry.parameters {
            let refused = entry.prepare(&json!({ parameter.name: 0 }));
            assert!(refused.is_err(), "`{}` takes {parameter:?} = 0", entry.name);
        }
    }
}

/// A problem without one capability; the gradients that it still has.
struct Without<'a>(
    &'a InMemory,
    Need,
    Option<Gradients>,
    Option<Arc<dyn Projected>>,
    Option<Directions>,
);

impl<'a> Without<'a> {
    fn new(problem: &'a InMemory, need: Need) -> Self {
        let gradients = problem.gradients().filter(|_| need != Need::Gradients);
        let gradients = gradients.map(|gradients| match need {
            Need::Trajectory => Gradients::new(vec![gradients.fitted().clone()]).unwrap(),
            _ => gradients.clone(),
        });
        let projected = problem.projected().filter(|_| need != Need::Projected);
        let projected = projected.map(|projected| {
            toy::change_projected(projected, problem.samples().len(), |mut rows| {
                if need == Need::Curvature {
                    rows.curvature = None;
                }
                rows
            })
        });
        let directions = problem.directions().map(|directions| {
            let mut states = directions.states().clone();
            if let Some(missing) = need.preconditioner() {
                states.remove(&missing);
            }
            Directions::new(states).unwrap()
        });
        Self(problem, need, gradients, projected, directions)
    }
}

impl Problem for Without<'_> {
    fn samples(&self) -> &crate::Samples {
        self.0.samples()
    }
    fn target(&self) -> &crate::Target {
        self.0.target()
    }
    fn representations(&self) -> Option<&crate::Representations> {
        let has = self.1 != Need::Representations;
        has.then(|| self.0.representations()).flatten()
    }
    fn losses(&self) -> Option<&crate::Losses> {
        (self.1 != Need::Losses).then(|| self.0.losses()).flatten()
    }
    fn counts(&self) -> Option<&crate::Counts> {
        (self.1 != Need::Counts).then(|| self.0.counts()).flatten()
    }
    fn gradients(&self) -> Option<&Gradients> {
        self.2.as_ref()
    }
    fn projected(&self) -> Option<&dyn Projected> {
        self.3.as_deref()
    }
    fn directions(&self) -> Option<&Directions> {
        self.4.as_ref()
    }
    fn attention(&self) -> Option<&crate::Attention> {
        let has = self.1 != Need::Attention;
        has.then(|| self.0.attention()).flatten()
    }
    fn hidden_states(&self) -> Option<&crate::HiddenStates> {
        let has = self.1 != Need::HiddenStates;
        has.then(|| self.0.hidden_states()).flatten()
    }
    fn block_influence(&self) -> Option<&crate::BlockInfluence> {
        let has = self.1 != Need::BlockInfluence;
        has.then(|| self.0.block_influence()).flatten()
    }
    fn unrolled(&self) -> Option<&crate::Unrolled> {
        let has = self.1 != Need::Unrolled;
        has.then(|| self.0.unrolled()).flatten()
    }
}

#[test]
fn a_method_asks_for_exactly_what_it_uses() {
    for_each_entry(|entry, problem| {
        for need in [
            Need::Representations,
            Need::Losses,
            Need::Counts,
            Need::Gradients,
            Need::Trajectory,
            Need::Projected,
            Need::Curvature,
            Need::Attention,
            Need::HiddenStates,
            Need::Adam,
            Need::Kfac,
            Need::Ekfac,
            Need::BlockInfluence,
            Need::Unrolled,
        ] {
            let without = Without::new(problem, need);
            let found = prepare(entry).estimate(&without, Seed::root(1), &|_| {});
            if entry.needs.contains(&need) {
                let method = entry.name;
                assert_eq!(found, Err(EstimatorError::Missing { method, need }));
            } else {
                assert_eq!(found, Ok(estimate(entry, problem, 1)));
            }
        }
    });
}

#[test]
fn a_chosen_curvature_is_asked_for() {
    let problem = toy::problem(0);
    let without = Without::new(&problem, Need::Curvature);
    let mut n = 0;
    for entry in METHODS {
        let Ok(chosen) = entry.prepare(&json!({ "operator": "gauss_newton" })) else {
            continue;
        };
        n += 1;
        let found = chosen.estimate(&problem, Seed::root(1), &|_| {}).unwrap();
        let usual = estimate(entry, &problem, 1);
        assert_ne!(found, usual, "`{}` takes no notice", entry.name);
        let (method, need) = (entry.name, Need::Curvature);
        let found = chosen.estimate(&without, Seed::root(1), &|_| {});
        assert_eq!(found, Err(EstimatorError::Missing { method, need }));
    }
    assert!(n >= 4);
}

#[test]
fn documentation_has_the_fixed_headings_and_the_cards_source() {
    let methods = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/methods");
    for entry in METHODS {
        let text = std::fs::read_to_string(methods.join(format!("{}.rs", entry.name))).unwrap();
        let documentation: Vec<&str> = text
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .map(str::trim)
            .collect();
        let headings: Vec<&str> = documentation
            .iter()
            .filter(|line| line.starts_with("# "))
            .copied()
            .collect();
        assert_eq!(
            headings,
            ["# Paper", "# Departures", "# Needs", "# Cost"],
            "{}",
            entry.name
        );
        assert!(
            documentation.contains(&entry.paper),
            "the card of `{}` names another source than its file",
            entry.name
        );
        for sentence in [entry.doc, entry.estimand, entry.paper] {
            assert!(sentence.ends_with('.'), "{}: {sentence}", entry.name);
        }
    }
}

#[test]
fn progress_adds_up_and_changes_nothing() {
    use std::sync::Mutex;
    for_each_entry(|entry, problem| {
        let seen = Mutex::new((0, None));
        let watched = prepare(entry)
            .estimate(problem, Seed::root(1), &|work| {
                let mut seen = seen.lock().unwrap();
                seen.0 += work.done;
                seen.1 = Some(work.total);
            })
            .unwrap();
        assert_eq!(watched, estimate(entry, problem, 1));
        let (done, total) = *seen.lock().unwrap();
        assert!(
            total.is_none_or(|total| total == done),
            "{done} of {total:?}"
        );
    });
}
