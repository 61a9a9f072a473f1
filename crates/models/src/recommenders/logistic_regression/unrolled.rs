//! The derivative of the fit by the weight of each sample.
//!
//! Training ends at the minimum of a strictly convex objective, to a gradient of length 1e-10. There the
//! derivative of a step of Newton's method by where it starts is 0, and by a sample's weight
//! -H^-1 g / n: what comes before the last step leaves nothing, so the derivative of the whole training is
//! that of the minimum, by the implicit function theorem. With H the second derivative of the objective
//! (exact, penalty included), g the gradient of the sample's loss, n the number of loss terms and L the
//! mean cost of requests, minus the derivative is g' H^-1 grad L / n: the influence function without
//! damping, in 64 bits.
//!
//! # Paper
//! Koh, Liang, "Understanding black-box predictions via influence functions", ICML 2017, section 2.1.
//!
//! # Cost
//! Two passes over the rows of all samples. Memory: as the fit.

use rayon::prelude::*;
use tensors::dense::{cholesky, solve};

use super::features::{N, Row};
use super::newton::{Terms, Vector};
use super::{LogisticRegression, has_history};
use crate::unrolled::{UnrollError, Unrolled, Unrolling};

/// Length of the gradient, for weights around 1, above which this is not the minimum of these samples.
const MOST_GRADIENT: f64 = 1e-8;

fn product(a: &Vector, b: &Vector) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl LogisticRegression {
    /// The gradient of the mean over requests of the mean loss of their relevant items. An empty
    /// history costs what no weight of a feature changes.
    fn target_gradient(&self, asked: &Unrolling<'_>) -> Vector {
        let found: Vec<Vector> = asked
            .requests
            .par_iter()
            .map(|request| {
                let history = asked.data.events(request.sequence, request.history_end);
                let history = history.items();
                let mut sum = [0.0; N];
                if history.is_empty() || request.relevant.is_empty() {
                    return sum;
                }
                for &item in request.relevant {
                    let gradient = self.gradient(&self.rows().of_request(history, item));
                    for (sum, x) in sum.iter_mut().zip(gradient) {
                        *sum += x;
                    }
                }
                sum.map(|sum| sum / request.relevant.len() as f64)
            })
            .collect();
        let mut mean = [0.0; N];
        for gradient in &found {
            for (mean, x) in mean.iter_mut().zip(gradient) {
                *mean += x / found.len() as f64;
            }
        }
        mean
    }
}

impl Unrolled for LogisticRegression {
    fn unrolled(&self, asked: &Unrolling<'_>) -> Result<Vec<Option<f64>>, UnrollError> {
        let data = asked.data;
        let (rows, weights) = self.rows().of_all(data);
        if weights.is_empty() {
            return Ok(vec![None; data.n_samples()]);
        }
        let per_term = self.negatives.per_term();
        let terms = Terms {
            rows: &rows,
            per_term,
            weights: &weights,
            scaling: &self.scaling,
            regularisation: self.regularisation,
        };
        let mut point = terms.at(&self.weights);
        let n = weights.len() as f64;
        let length = product(&point.gradient, &point.gradient).sqrt();
        let most = MOST_GRADIENT * (weights.iter().sum::<f64>() / n).max(1.0);
        if length.is_nan() || length > most {
            return Err(UnrollError::AnotherTraining { distance: length });
        }
        let mut direction = self.target_gradient(asked);
        if !cholesky(&mut point.hessian, N) {
            return Err(UnrollError::NotFinite);
        }
        solve(&point.hessian, N, &mut direction);
        let terms: Vec<&[Row]> = rows.chunks_exact(per_term).collect();
        let mut scores = terms
            .into_par_iter()
            .map(|rows| product(&self.gradient(rows), &direction) / n)
            .collect::<Vec<f64>>()
            .into_iter();
        let found: Vec<Option<f64>> = (0..data.n_samples())
            .map(|sample| has_history(data, sample).then(|| scores.next()).flatten())
            .collect();
        if found.iter().flatten().all(|x| x.is_finite()) {
            Ok(found)
        } else {
            Err(UnrollError::NotFinite)
        }
    }
}
