//! The space in which histories are near each other: features of them, or hidden states of the model.

use serde::{Deserialize, Serialize};
use tensors::Csr;

use crate::estimator::{EstimatorError, Need, Parameter};
use crate::inside::unit;
use crate::problem::{InMemory, Problem, Representations};

/// Where cosines are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Space {
    /// [`Problem::representations`].
    #[default]
    Features,
    /// [`Problem::hidden_states`].
    Hidden,
}

impl Space {
    /// How methods offer the choice.
    pub(crate) const PARAMETER: Parameter = Parameter {
        name: "space",
        default: "\"features\"",
        doc: "Where cosines are taken: `features` of histories and items, or `hidden` states of the model and its vectors of items.",
    };

    /// What it needs beyond features.
    pub(crate) const fn needs(self) -> &'static [Need] {
        match self {
            Self::Features => &[],
            Self::Hidden => &[Need::HiddenStates],
        }
    }
}

/// The same problem with hidden states and item vectors, made 1 long, as its features. What has no
/// state has no features; states are not shared, so that each sample has a history of its own.
///
/// Memory 16 bytes x states x columns.
///
/// # Errors
/// If there are no hidden states, or one cannot be made 1 long.
pub(crate) fn in_hidden_space(
    problem: &dyn Problem,
    method: &'static str,
) -> Result<InMemory, EstimatorError> {
    let need = Need::HiddenStates;
    let hidden = problem
        .hidden_states()
        .ok_or(EstimatorError::Missing { method, need })?;
    let unsolved = |what: String| EstimatorError::Unsolved {
        method,
        what,
        hint: "run the node that made the probe again",
    };
    let columns = hidden.n_columns();
    let (samples_of, requests_of) = (hidden.samples(), hidden.requests());
    let row = |values: &[f32]| {
        let row = (0_u32..).zip(unit(values));
        row.filter(|(_, x)| *x != 0.0).collect::<Vec<_>>()
    };
    let rows = |values: &[f32]| -> Vec<Vec<(u32, f32)>> {
        values.chunks_exact(columns).map(row).collect()
    };
    let mut histories = vec![Vec::new()];
    histories.extend(rows(&samples_of.values));
    histories.extend(rows(&requests_of.values));
    let mut items = rows(hidden.items());
    let mut samples = problem.samples().clone();
    // An item beyond the vocabulary has no vector.
    let n_items = samples.item.iter().map(|&item| item as usize + 1).max();
    items.resize(n_items.unwrap_or(0).max(items.len()), Vec::new());
    samples.history_row.fill(0);
    for (at, &sample) in (1..).zip(&samples_of.numbers) {
        samples.history_row[sample as usize] = at;
    }
    let mut target = problem.target().clone();
    let first = 1 + samples_of.numbers.len();
    for request in &mut target.requests {
        let at = requests_of.numbers.binary_search(&request.request);
        request.history_row = at
            .ok()
            .and_then(|at| u32::try_from(first + at).ok())
            .unwrap_or(0);
    }
    let matrix = |rows| Csr::from_rows(columns, rows).map_err(|error| unsolved(error.to_string()));
    let representations = Representations::new(matrix(histories)?, matrix(items)?)
        .map_err(|error| unsolved(error.to_string()))?;
    InMemory::new(samples, target)
        .and_then(|moved| moved.with_representations(representations))
        .map_err(|error| unsolved(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Seed, find, toy};

    #[test]
    fn rows_are_those_of_the_states() {
        let problem = toy::problem(2);
        let moved = in_hidden_space(&problem, "test").unwrap();
        let hidden = problem.hidden_states().unwrap();
        let matrix = &moved.representations().unwrap().histories;
        let columns = hidden.n_columns();
        let is_state = |row: u32, state: &[f32]| {
            let (found, values) = matrix.row(row as usize);
            assert_eq!(found.len(), columns);
            values
                .iter()
                .zip(unit(state))
                .all(|(a, b)| a.to_bits() == b.to_bits())
        };
        let states = hidden.samples().values.chunks_exact(columns);
        for (&sample, state) in hidden.samples().numbers.iter().zip(states) {
            assert!(is_state(
                moved.samples().history_row[sample as usize],
                state
            ));
        }
        let mut n_empty = 0;
        for request in &moved.target().requests {
            if let Some(state) = hidden.request(request.request) {
                assert!(is_state(request.history_row, state));
            } else {
                assert_eq!(request.history_row, 0);
                n_empty += 1;
            }
        }
        assert!(n_empty > 0);
    }

    #[test]
    fn neighbours_by_state_are_others_than_by_features() {
        let problem = toy::problem(0);
        let bare = problem.clone();
        for name in ["knn_density", "knn_shapley"] {
            let entry = find(name).unwrap();
            let by = |space: &str| {
                let method = entry.prepare(&json!({ "space": space })).unwrap();
                method.estimate(&bare, Seed::root(0), &|_| {}).unwrap()
            };
            let (features, hidden) = (by("features"), by("hidden"));
            assert_ne!(features.score, hidden.score);
            // The toy's states are those of samples with a history.
            let has =
                |scores: &[Option<f64>]| scores.iter().map(Option::is_some).collect::<Vec<_>>();
            let with_state: Vec<bool> = problem
                .samples()
                .history_row
                .iter()
                .map(|&row| row > 0)
                .collect();
            assert_eq!(has(&hidden.score), with_state);
            let without = crate::InMemory::new(problem.samples().clone(), problem.target().clone())
                .and_then(|bare| {
                    bare.with_representations(problem.representations().unwrap().clone())
                })
                .unwrap();
            let method = entry.prepare(&json!({ "space": "hidden" })).unwrap();
            let need = Need::HiddenStates;
            let method_name = entry.name;
            assert_eq!(
                method.estimate(&without, Seed::root(0), &|_| {}),
                Err(EstimatorError::Missing {
                    method: method_name,
                    need
                })
            );
        }
    }
}
