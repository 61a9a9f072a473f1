//! Matrix factorisation of implicit feedback by alternating least squares.
//!
//! With S the cells (user, item) that were observed, `w_ui` the sum of the weights of the samples of a
//! cell, `x_u` and `y_i` vectors of `dimensions` numbers, `n_u` and `n_i` the observed cells of a user and
//! an item, the objective is
//!
//! ```text
//! sum over S of w_ui (x_u.y_i - 1)^2 + alpha sum over all pairs of (x_u.y_i)^2
//!   + regularisation sum over u of (n_u + alpha #items)^nu |x_u|^2
//!   + regularisation sum over i of (n_i + alpha #users)^nu |y_i|^2
//! ```
//!
//! with alpha = `unobserved_weight` and nu = `frequency_scaling`. An epoch solves for all users,
//! then for all items: exactly, or with `solver: conjugate_gradient` by a few steps from where they
//! are (see `ials/conjugate.rs`). `score(i) = x.y_i`, where x solves the same system for the history:
//! each of its items with the number of its occurrences as weight. A history without an item that
//! training knows is served by popularity.
//!
//! *Losses of single samples* are `(x_u.y_i - 1)^2`, one occurrence of the cell; what nobody observed, and
//! penalties, belong to no sample. Requests cost the same of their relevant items: see
//! `ials/influence.rs`, and `ials/unrolled.rs` for how that follows from the weights of samples.
//!
//! # Paper
//! Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008,
//! equations 3 to 5; objective and regularisation as in Rendle, Krichene, Zhang, Koren, "Revisiting
//! the performance of `iALS` on item recommendation benchmarks", ACM Conference on
//! Recommender Systems 2022.
//!
//! # Departures
//! - Confidence is alpha for what was not observed and alpha + w for what was, instead of 1 and
//!   1 + alpha r: the same up to scale, except that the target of an observed cell is
//!   w / (alpha + w) instead of 1, as in Rendle et al.
//! - Factors are turned into the eigenvectors of their Gram matrix before each half of an epoch,
//!   which changes no product and makes the part of the system that all users share diagonal. A user
//!   with m < `dimensions` cells is then solved exactly by a system of m instead of `dimensions`
//!   equations (the push-through identity).
//! - Regularisation counts cells, not their weights.
//!
//! # Needs
//! Target items, weights, and the sequence of each sample. Histories are looked at when scoring.
//!
//! # Cost
//! An epoch: (users + items) x dimensions^2 for Gram matrices and turning, dimensions^3 for
//! eigenvectors, and for a row with m cells min(m^2 dimensions + m^3, m dimensions^2 + dimensions^3),
//! in parallel by row; by conjugate gradients m `dimensions` for each step. Score: dimensions numbers per item. Memory: dimensions numbers per user and
//! item.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tensors::{Csr, TensorError, Tensors};

use crate::cells::sums;
use crate::counts::Counts;
use crate::data::TrainingData;
use crate::factorisation::FactorGradients;
use crate::factors::{initial, scores};
use crate::history::History;
use crate::recommender::{Capability, FitError, LoadError, Model, Parameter, Recommender};
use crate::run::{Checkpoint, Epoch, Run};
use crate::unrolled::Unrolled;
use tensors::dense::{Eigen, dot, gram, kernels, rotate, symmetric};

mod conjugate;
mod dense;
mod influence;
mod solve;
mod unrolled;

use solve::{Scratch, Settings, solve_row, solve_side};

const ITEMS: &str = "item_factors";
/// Where conjugate gradients go on from; in checkpoints alone.
const USERS: &str = "user_factors";
const SPECTRUM: &str = "item_spectrum";
const SETTINGS: &str = "settings";

/// The fitted model.
pub(super) struct Ials {
    counts: Counts,
    /// `[n_vocabulary, dimensions]`, turned so that their Gram matrix is diagonal.
    items: Vec<f64>,
    /// The same in 32 bits, which is what scores are computed from.
    rounded: Vec<f32>,
    /// Diagonal of the Gram matrix, `[dimensions]`.
    spectrum: Vec<f64>,
    settings: Settings,
}

/// Size, length, and strength of the terms of the objective.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Parameters {
    dimensions: u32,
    epochs: u32,
    unobserved_weight: f64,
    regularisation: f64,
    frequency_scaling: f64,
    initial_deviation: f64,
    solver: SolverKind,
    conjugate_gradient_steps: u32,
    validate_every: u32,
}

/// How a row is solved in training.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum SolverKind {
    #[default]
    Cholesky,
    ConjugateGradient,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            dimensions: 128,
            epochs: 16,
            unobserved_weight: 0.01,
            regularisation: 0.01,
            frequency_scaling: 1.0,
            initial_deviation: 0.1,
            solver: SolverKind::Cholesky,
            conjugate_gradient_steps: 3,
            validate_every: 0,
        }
    }
}

impl Parameters {
    /// Steps of conjugate gradients; `None`: exact solutions.
    fn steps(&self) -> Option<u32> {
        (self.solver == SolverKind::ConjugateGradient).then_some(self.conjugate_gradient_steps)
    }
}

kernels! {
    /// Sum over cells of w (x.y - 1)^2.
    fn squared_errors<'a>(
        x: &'a [f64],
        items: &'a [f64],
        columns: &'a [u32],
        weights: &'a [f64],
    ) -> f64 {
        let d = x.len();
        let mut sum = 0.0;
        for (&item, weight) in columns.iter().zip(weights) {
            let start = item as usize * d;
            let error = dot(x, &items[start..start + d]) - 1.0;
            sum += weight * error * error;
        }
        sum
    }

    /// Squared length.
    fn square<'a>(x: &'a [f64]) -> f64 {
        dot(x, x)
    }
}

/// Turns factors into the eigenvectors of their Gram matrix and returns its diagonal.
fn diagonalise(factors: &mut [f64], d: usize) -> Vec<f64> {
    diagonalise_both(factors, &mut [], d)
}

/// As [`diagonalise`], and turns the factors of the other side with them.
fn diagonalise_both(factors: &mut [f64], others: &mut [f64], d: usize) -> Vec<f64> {
    let Eigen { values, vectors } = symmetric(gram(factors, d), d);
    rotate(factors, d, &vectors);
    rotate(others, d, &vectors);
    values
}

/// The objective per observed cell, with the users' Gram matrix diagonal.
fn objective(
    cells: &Csr<f64>,
    users: &[f64],
    items: &[f64],
    spectrum: &[f64],
    settings: Settings,
) -> f64 {
    let d = spectrum.len();
    let n_items = items.len() / d;
    let rows: Vec<f64> = (0..cells.n_rows())
        .into_par_iter()
        .map(|user| {
            let x = &users[user * d..(user + 1) * d];
            let (columns, weights) = cells.row(user);
            let observed = squared_errors(x, items, columns, weights);
            observed + settings.penalty(columns.len(), n_items) * square(x)
        })
        .collect();
    let by_item = cells.transpose();
    let products = gram(items, d);
    let mut sum: f64 = rows.iter().sum();
    for (k, value) in spectrum.iter().enumerate() {
        sum += settings.unobserved_weight * value * products[k * d + k];
    }
    for (item, y) in items.chunks_exact(d).enumerate() {
        let n_cells = by_item.row(item).0.len();
        sum += settings.penalty(n_cells, cells.n_rows()) * square(y);
    }
    sum / (cells.n_values() as f64).max(1.0)
}

impl Ials {
    fn new(counts: Counts, items: Vec<f64>, spectrum: Vec<f64>, settings: Settings) -> Self {
        Self {
            counts,
            rounded: round(&items),
            items,
            spectrum,
            settings,
        }
    }

    /// The vector of a history; `None` if training knows none of its items.
    fn fold_in(&self, history: &[u32]) -> Option<Vec<f32>> {
        let d = self.spectrum.len();
        let mut known: Vec<u32> = history
            .iter()
            .copied()
            .filter(|item| self.counts.is_target(*item))
            .collect();
        if known.is_empty() {
            return None;
        }
        known.sort_unstable();
        let cells = known
            .chunk_by(|a, b| a == b)
            .map(|chunk| (chunk[0], chunk.len() as f64));
        let mut x = vec![0.0; d];
        let mut scratch = Scratch::default();
        solve_row(
            cells,
            &self.items,
            &self.spectrum,
            self.settings,
            &mut x,
            &mut scratch,
        );
        Some(round(&x))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "scores need no more than 32 bits"
)]
fn round(factors: &[f64]) -> Vec<f32> {
    factors.iter().map(|x| *x as f32).collect()
}

fn is_positive(x: f64) -> bool {
    x.is_finite() && x > 0.0
}

impl Recommender for Ials {
    const NAME: &'static str = "ials";
    const REVISION: u32 = 2;
    const DOC: &'static str =
        "Matrix factorisation of implicit feedback by alternating least squares.";
    const PAPER: &'static str = "Hu, Koren, Volinsky, ICDM 2008; Rendle et al., RecSys 2022";
    const CAPABILITIES: &'static [Capability] = &[Capability::BlockInfluence, Capability::Unrolled];
    const PARAMETERS: &'static [Parameter] = &[
        Parameter {
            name: "dimensions",
            default: "128",
            doc: "numbers per user and item; from 1 up",
        },
        Parameter {
            name: "epochs",
            default: "16",
            doc: "rounds of users, then items; from 1 up",
        },
        Parameter {
            name: "unobserved_weight",
            default: "0.01",
            doc: "weight of a pair that was not observed, against 1 for an event; above 0",
        },
        Parameter {
            name: "regularisation",
            default: "0.01",
            doc: "weight of squared lengths; above 0",
        },
        Parameter {
            name: "frequency_scaling",
            default: "1.0",
            doc: "power by which regularisation grows with a row's events; 0: the same for all",
        },
        Parameter {
            name: "initial_deviation",
            default: "0.1",
            doc: "length of a random vector at the start; above 0",
        },
        Parameter {
            name: "solver",
            default: "\"cholesky\"",
            doc: "how rows are solved in training: `cholesky`, exactly, or `conjugate_gradient`, by a few steps from where they are",
        },
        Parameter {
            name: "conjugate_gradient_steps",
            default: "3",
            doc: "steps of `solver: conjugate_gradient`; from 1 up",
        },
        Parameter {
            name: "validate_every",
            default: "0",
            doc: "epochs between validation figures; 0: none",
        },
    ];
    type Parameters = Parameters;

    fn check(parameters: &Parameters) -> Result<(), String> {
        if parameters.dimensions == 0 {
            return Err("`dimensions` must be at least 1".to_owned());
        }
        if parameters.epochs == 0 {
            return Err("`epochs` must be at least 1".to_owned());
        }
        for (name, value) in [
            ("unobserved_weight", parameters.unobserved_weight),
            ("regularisation", parameters.regularisation),
            ("initial_deviation", parameters.initial_deviation),
        ] {
            if !is_positive(value) {
                return Err(format!("`{name}` must be a number above 0"));
            }
        }
        if parameters.conjugate_gradient_steps == 0 {
            return Err("`conjugate_gradient_steps` must be at least 1".to_owned());
        }
        if !parameters.frequency_scaling.is_finite() {
            return Err("`frequency_scaling` must be a finite number".to_owned());
        }
        Ok(())
    }

    fn fit(
        parameters: &Parameters,
        data: &TrainingData<'_>,
        run: &mut Run<'_>,
    ) -> Result<Self, FitError> {
        let d = parameters.dimensions as usize;
        let settings = Settings {
            unobserved_weight: parameters.unobserved_weight,
            regularisation: parameters.regularisation,
            frequency_scaling: parameters.frequency_scaling,
        };
        let counts = Counts::of(data);
        let cells = sums(data)?;
        let by_item = cells.transpose();
        let steps = parameters.steps();
        let n_users = cells.n_rows();
        let mut users = vec![0.0; n_users * d];
        let (mut items, first) = if let Some(checkpoint) = run.observer.resume()? {
            if steps.is_some() {
                users = restored(&checkpoint, USERS, [n_users, d])?;
            }
            let wanted = [data.n_vocabulary(), d];
            (restored(&checkpoint, ITEMS, wanted)?, checkpoint.epoch)
        } else {
            let deviation = parameters.initial_deviation / (d as f64).sqrt();
            let seed = run.seed.child("initial_weights").child(ITEMS);
            (initial(seed, data.n_vocabulary(), d, deviation), 0)
        };
        // Exact solutions do not ask where a row was: only steps need it turned.
        let turn = |factors: &mut [f64], others: &mut [f64]| {
            let others = if steps.is_some() { others } else { &mut [] };
            diagonalise_both(factors, others, d)
        };
        for epoch in first..parameters.epochs {
            let spectrum = turn(&mut items, &mut users);
            solve_side(&cells, &items, &spectrum, settings, steps, &mut users);
            let spectrum = turn(&mut users, &mut items);
            solve_side(&by_item, &users, &spectrum, settings, steps, &mut items);
            let loss = objective(&cells, &users, &items, &spectrum, settings);
            if !(loss.is_finite() && items.iter().all(|x| x.is_finite())) {
                return Err(FitError::NotFinite {
                    epoch: Some(epoch),
                    cause: "a system of equations has no finite solution; raise `regularisation` or look for enormous weights".to_owned(),
                });
            }
            let is_validated =
                parameters.validate_every > 0 && (epoch + 1) % parameters.validate_every == 0;
            let validation = if is_validated {
                let mut turned = items.clone();
                let spectrum = diagonalise(&mut turned, d);
                let model = Self::new(counts.clone(), turned, spectrum, settings);
                run.observer.validate(&model)?
            } else {
                None
            };
            run.observer.epoch(&Epoch {
                epoch,
                n_samples: data.n_weighted(),
                loss: Some(loss),
                validation,
                learning_rate: None,
            });
            run.observer.progress(
                "alternating least squares",
                u64::from(epoch) + 1,
                u64::from(parameters.epochs),
            );
            let mut tensors = Tensors::new();
            tensors
                .insert_f64(ITEMS, &[data.n_vocabulary(), d], items.clone())
                .map_err(|error| FitError::Checkpoint(Box::new(error)))?;
            if steps.is_some() {
                tensors
                    .insert_f64(USERS, &[n_users, d], users.clone())
                    .map_err(|error| FitError::Checkpoint(Box::new(error)))?;
            }
            run.observer.checkpoint(&Checkpoint {
                step: u64::from(epoch) + 1,
                epoch: epoch + 1,
                tensors,
            })?;
        }
        let spectrum = diagonalise(&mut items, d);
        Ok(Self::new(counts, items, spectrum, settings))
    }

    fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        let counts = Counts::load(tensors)?;
        let items = tensors.f64(ITEMS)?.to_vec();
        let spectrum = tensors.f64(SPECTRUM)?.to_vec();
        if items.len() != counts.counts().len() * spectrum.len() {
            return Err(LoadError::Sizes {
                left: ITEMS,
                right: SPECTRUM,
            });
        }
        let &[unobserved_weight, regularisation, frequency_scaling] = tensors.f64(SETTINGS)? else {
            return Err(LoadError::Sizes {
                left: SETTINGS,
                right: "three numbers",
            });
        };
        let settings = Settings {
            unobserved_weight,
            regularisation,
            frequency_scaling,
        };
        Ok(Self::new(counts, items, spectrum, settings))
    }
}

/// Factors of a checkpoint.
fn restored(
    checkpoint: &Checkpoint,
    name: &'static str,
    wanted: [usize; 2],
) -> Result<Vec<f64>, FitError> {
    let tensors = &checkpoint.tensors;
    let shape = tensors
        .shape(name)
        .map_err(|error| FitError::Checkpoint(Box::new(error)))?;
    if shape != wanted {
        let message = format!("`{name}` has shape {shape:?}, expected {wanted:?}");
        return Err(FitError::Checkpoint(message.into()));
    }
    let factors = tensors
        .f64(name)
        .map_err(|error| FitError::Checkpoint(Box::new(error)))?;
    Ok(factors.to_vec())
}

impl Model for Ials {
    fn score(&self, _: Option<u32>, history: History<'_>, out: &mut [f64]) {
        match self.fold_in(history.items()) {
            Some(x) => scores(&x, &self.rounded, None, out),
            None => self.counts.write_shares(out),
        }
    }

    fn factor_gradients(&self) -> Option<&dyn FactorGradients> {
        Some(self)
    }

    fn unrolled_training(&self) -> Option<&dyn Unrolled> {
        Some(self)
    }

    fn save(&self) -> Result<Tensors, TensorError> {
        let mut tensors = Tensors::new();
        self.counts.save(&mut tensors)?;
        let (n, d) = (self.counts.counts().len(), self.spectrum.len());
        tensors.insert_f64(ITEMS, &[n, d], self.items.clone())?;
        tensors.insert_f64(SPECTRUM, &[d], self.spectrum.clone())?;
        let Settings {
            unobserved_weight,
            regularisation,
            frequency_scaling,
        } = self.settings;
        let settings = vec![unobserved_weight, regularisation, frequency_scaling];
        tensors.insert_f64(SETTINGS, &[3], settings)?;
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests;
