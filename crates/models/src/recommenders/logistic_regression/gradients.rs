//! Exact gradients and second derivatives of single losses, by the standardised features' weights.

use rayon::prelude::*;

use super::features::{N, Row};
use super::leave_out::Own;
use super::newton::{cost, sigmoid};
use super::{LogisticRegression, WEIGHTS, has_history, sequence_of};
use crate::data::TrainingData;
use crate::gradient_rows::{GradientLayer, GradientRows};
use crate::history::History;

impl LogisticRegression {
    /// Gradient of the loss of a term: the sum over its rows of slope times x.
    pub(super) fn gradient(&self, rows: &[Row]) -> [f64; N] {
        let mut gradient = [0.0; N];
        for (place, row) in rows.iter().enumerate() {
            let (_, slope) = cost(place, self.scaling.margin(&self.weights, row));
            for (sum, x) in gradient.iter_mut().zip(self.scaling.standardised(row)) {
                *sum += slope * x;
            }
        }
        gradient
    }

    /// Rows whose outer products sum to the second derivative of the loss of a term:
    /// sqrt(sigma (1 - sigma)) x for each of its rows.
    pub(super) fn roots(&self, rows: &[Row]) -> Vec<[f64; N]> {
        rows.iter()
            .map(|row| {
                let margin = self.scaling.margin(&self.weights, row);
                let root = (sigmoid(margin) * sigmoid(-margin)).sqrt();
                self.scaling.standardised(row).map(|x| root * x)
            })
            .collect()
    }

    /// Applies a function that gives `width` numbers for the rows of each sample with a loss term.
    fn each(
        &self,
        data: &TrainingData<'_>,
        samples: &[u32],
        width: usize,
        of: impl Fn(&[Row]) -> Vec<f32> + Sync,
    ) -> Vec<f32> {
        let source = self.rows();
        let runs: Vec<&[u32]> = samples
            .chunk_by(|a, b| data.sequence(*a as usize) == data.sequence(*b as usize))
            .collect();
        let found: Vec<Vec<f32>> = runs
            .into_par_iter()
            .map(|run| {
                let first = run.first().map_or(0, |sample| *sample as usize);
                let own = Own::new(data, sequence_of(data, first));
                let mut found = Vec::with_capacity(run.len() * width);
                for &sample in run {
                    let sample = sample as usize;
                    if has_history(data, sample) {
                        found.extend(of(&source.of_sample(data, &own, sample)));
                    } else {
                        found.resize(found.len() + width, 0.0);
                    }
                }
                found
            })
            .collect();
        found.concat()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rows are handed over in 32 bits"
)]
fn rounded(row: [f64; N]) -> [f32; N] {
    row.map(|x| x as f32)
}

impl GradientRows for LogisticRegression {
    fn layers(&self) -> Vec<GradientLayer> {
        vec![GradientLayer {
            name: WEIGHTS.to_owned(),
            width: N,
            n_parameters: N,
            is_exact: true,
        }]
    }

    fn regularisation(&self) -> f64 {
        self.regularisation
    }

    fn has_loss(&self, data: &TrainingData<'_>, sample: usize) -> bool {
        has_history(data, sample)
    }

    fn sample_rows(&self, data: &TrainingData<'_>, samples: &[u32]) -> Vec<f32> {
        self.each(data, samples, N, |rows| rounded(self.gradient(rows)).into())
    }

    fn request_row(&self, history: History<'_>, relevant: &[u32]) -> Option<Vec<f32>> {
        if history.is_empty() || relevant.is_empty() {
            return None;
        }
        let mut sum = [0.0; N];
        for &item in relevant {
            let rows = self.rows().of_request(history.items(), item);
            for (sum, x) in sum.iter_mut().zip(self.gradient(&rows)) {
                *sum += x;
            }
        }
        let n = relevant.len() as f64;
        Some(rounded(sum.map(|x| x / n)).into())
    }

    /// One row for the target and one for each negative.
    fn curvature_rows(&self, data: &TrainingData<'_>, samples: &[u32]) -> Option<Vec<f32>> {
        let width = N * self.negatives.per_term();
        let of = |rows: &[Row]| self.roots(rows).into_iter().flat_map(rounded).collect();
        Some(self.each(data, samples, width, of))
    }
}
