//! Curvature of the mean training loss in the space of projected gradients, as a named operator.
//!
//! H = (1/n) sum of the outer products of rows, n the number of samples with a gradient. The rows are
//! gradients of samples ([`Operator::EmpiricalFisher`]), or those whose outer products make the
//! Gauss-Newton matrix. What is inverted is H + diag(ridge): damping relative to the mean of H's
//! diagonal on every column, and the strength of the L2 penalty on columns that are parameters.
//!
//! Rows are converted to 64-bit floats and cut into tiles of their own, so that sums do not depend on
//! the blocks that they are kept in, and not on threads. Permuted samples change them by rounding.

mod dense;
mod solvers;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tensors::dense::{add_scaled, dot};
use tensors::kernels;

pub(crate) use dense::Dense;
pub(crate) use solvers::{Settings, Solver, solve};

use crate::estimator::{EstimatorError, Need, Parameter, ParameterErrorKind};
use crate::problem::Problem;
use crate::projected::{Layer, Projected, Rows};

/// Rows that are taken in at once.
const TILE: usize = 512;

/// Rows whose sums one task makes.
pub(crate) const BLOCK: usize = 64;

/// Which matrix stands for the curvature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operator {
    /// Outer products of the gradients of samples, with the labels that they have.
    #[default]
    EmpiricalFisher,
    /// J' (second derivative of the loss by the outputs) J: the Hessian without the curvature of the
    /// model itself.
    GaussNewton,
}

impl Operator {
    /// What a probe must have for it beyond projected gradients.
    pub(crate) const fn needs(self) -> &'static [Need] {
        match self {
            Self::EmpiricalFisher => &[],
            Self::GaussNewton => &[Need::Curvature],
        }
    }
}

pub(crate) const OPERATOR: Parameter = Parameter {
    name: "operator",
    default: "\"empirical_fisher\"",
    doc: "Curvature: empirical_fisher, or gauss_newton where the probe took it.",
};

pub(crate) const DAMPING: Parameter = Parameter {
    name: "damping",
    default: "0.1",
    doc: "Added to the diagonal, as a share of its mean; > 0. The penalty of training is added too, where nothing is projected.",
};

/// The default of [`DAMPING`].
pub(crate) const DEFAULT_DAMPING: f64 = 0.1;

/// Refuses a parameter that is not finite or not positive.
pub(crate) fn check_positive(name: &'static str, value: f64) -> Result<(), ParameterErrorKind> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(ParameterErrorKind::Range {
        name,
        found: value.to_string(),
        wanted: "> 0",
    })
}

/// The rows of the fitted model, and who asks for them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fitted<'p> {
    pub(crate) method: &'static str,
    pub(crate) projected: &'p dyn Projected,
    state: usize,
}

impl<'p> Fitted<'p> {
    /// The projected gradients of a problem.
    pub(crate) fn new(
        problem: &'p dyn Problem,
        method: &'static str,
    ) -> Result<Self, EstimatorError> {
        let need = Need::Projected;
        let projected = problem
            .projected()
            .ok_or(EstimatorError::Missing { method, need })?;
        // There is a last state: nothing without states is made.
        let state = projected.states().len().saturating_sub(1);
        Ok(Self {
            method,
            projected,
            state,
        })
    }

    pub(crate) fn width(&self) -> usize {
        self.projected.width()
    }

    pub(crate) fn layers(&self) -> &'p [Layer] {
        self.projected.layers()
    }

    /// Gradients of the mean loss of each request.
    pub(crate) fn requests(&self) -> Result<Rows, EstimatorError> {
        self.projected.requests(self.state)
    }

    /// The same of requests that are no target.
    pub(crate) fn held_out(&self) -> Result<Rows, EstimatorError> {
        self.projected.held_out()
    }

    /// Gradient of the mean loss over requests.
    pub(crate) fn target(&self) -> Result<Vec<f64>, EstimatorError> {
        let requests = self.requests()?;
        if requests.numbers.is_empty() {
            return Err(EstimatorError::NoRequest {
                method: self.method,
                why: "none has a gradient",
            });
        }
        let mut sum = vec![0.0; self.width()];
        for row in requests.values.chunks(self.width()) {
            for (sum, &value) in sum.iter_mut().zip(row) {
                *sum += f64::from(value);
            }
        }
        let n = self.projected.n_requests() as f64;
        for sum in &mut sum {
            *sum /= n;
        }
        Ok(sum)
    }

    /// Streams tiles of gradients of samples: positions, and rows that may be changed.
    pub(crate) fn samples(
        &self,
        mut visit: impl FnMut(&[u32], &mut [f64]) -> Result<(), EstimatorError>,
    ) -> Result<(), EstimatorError> {
        let width = self.width();
        let mut numbers = Vec::with_capacity(TILE);
        let mut tile = Vec::with_capacity(TILE * width);
        self.projected.visit(self.state, &mut |samples, rows| {
            for (&sample, row) in samples.iter().zip(rows.chunks(width)) {
                numbers.push(sample);
                tile.extend(row.iter().map(|&value| f64::from(value)));
                if numbers.len() == TILE {
                    visit(&numbers, &mut tile)?;
                    numbers.clear();
                    tile.clear();
                }
            }
            Ok(())
        })?;
        if numbers.is_empty() {
            return Ok(());
        }
        visit(&numbers, &mut tile)
    }

    /// Streams tiles of the rows whose outer products make the curvature; returns how many rows.
    pub(crate) fn roots(
        &self,
        operator: Operator,
        mut visit: impl FnMut(&[f64]),
    ) -> Result<usize, EstimatorError> {
        let width = self.width();
        let mut n = 0;
        if operator == Operator::EmpiricalFisher {
            self.samples(|_, rows| {
                n += rows.len() / width;
                visit(rows);
                Ok(())
            })?;
            return Ok(n);
        }
        if !self.projected.has_curvature() {
            return Err(EstimatorError::Missing {
                method: self.method,
                need: Need::Curvature,
            });
        }
        let full = TILE * width;
        let mut tile = Vec::with_capacity(full);
        self.projected.visit_curvature(self.state, &mut |rows| {
            n += rows.len() / width;
            for &value in rows {
                tile.push(f64::from(value));
                if tile.len() == full {
                    visit(&tile);
                    tile.clear();
                }
            }
            Ok(())
        })?;
        if !tile.is_empty() {
            visit(&tile);
        }
        Ok(n)
    }

    /// Number of samples with a gradient, for an operator of which `n_roots` rows were seen.
    pub(crate) fn n_scored(
        &self,
        operator: Operator,
        n_roots: usize,
    ) -> Result<f64, EstimatorError> {
        let mut n = 0;
        match operator {
            Operator::EmpiricalFisher => n = n_roots,
            Operator::GaussNewton => self.projected.visit(self.state, &mut |samples, _| {
                n += samples.len();
                Ok(())
            })?,
        }
        if n == 0 {
            return Err(EstimatorError::NoGradient {
                method: self.method,
            });
        }
        Ok(n as f64)
    }

    /// What is added to the diagonal: `damping`, and the penalty of training where columns are
    /// parameters.
    pub(crate) fn ridge(&self, damping: f64) -> Vec<f64> {
        let mut ridge = vec![damping; self.width()];
        for layer in self.layers().iter().filter(|layer| layer.is_exact) {
            for ridge in &mut ridge[layer.columns.clone()] {
                *ridge += self.projected.regularisation();
            }
        }
        ridge
    }

    /// `scale` x the product of each sample's gradient with a direction.
    pub(crate) fn scores(
        &self,
        direction: &[f64],
        scale: f64,
    ) -> Result<Vec<Option<f64>>, EstimatorError> {
        let mut score = vec![None; self.projected.n_samples()];
        self.samples(|samples, rows| {
            let products = row_products(rows, direction);
            for (&sample, product) in samples.iter().zip(products) {
                score[sample as usize] = Some(scale * product);
            }
            Ok(())
        })?;
        Ok(score)
    }
}

kernels! {
    /// The product of each row with a vector of its length.
    fn products<'a>(rows: &'a [f64], vector: &'a [f64], out: &'a mut [f64]) -> () {
        for (row, out) in rows.chunks_exact(vector.len()).zip(out) {
            *out = dot(row, vector);
        }
    }

    /// Adds row x (its product with the vector) to `out`, for each row.
    fn add_outer<'a>(rows: &'a [f64], vector: &'a [f64], out: &'a mut [f64]) -> () {
        for row in rows.chunks_exact(vector.len()) {
            add_scaled(out, dot(row, vector), row);
        }
    }

    /// Product of two vectors of one length.
    pub(crate) fn product<'a>(x: &'a [f64], y: &'a [f64]) -> f64 {
        dot(x, y)
    }

    /// `y += a x`.
    pub(crate) fn add<'a>(y: &'a mut [f64], a: f64, x: &'a [f64]) -> () {
        add_scaled(y, a, x);
    }
}

/// The product of each row with a vector of its length: the same bits wherever a row lies.
pub(crate) fn row_products(rows: &[f64], vector: &[f64]) -> Vec<f64> {
    let width = vector.len();
    let mut out = vec![0.0; rows.len() / width];
    out.par_chunks_mut(BLOCK)
        .zip(rows.par_chunks(BLOCK * width))
        .for_each(|(out, rows)| products(rows, vector, out));
    out
}

/// Sums over blocks of rows, each made by `make` from a block, added to `total` in order.
pub(crate) fn add_blocks(
    total: &mut [f64],
    rows: &[f64],
    width: usize,
    make: impl Fn(&[f64], &mut [f64]) + Sync,
) {
    let parts: Vec<Vec<f64>> = rows
        .par_chunks(BLOCK * width)
        .map(|rows| {
            let mut part = vec![0.0; total.len()];
            make(rows, &mut part);
            part
        })
        .collect();
    for part in parts {
        for (total, part) in total.iter_mut().zip(part) {
            *total += part;
        }
    }
}

/// H + diag(ridge) without the matrix: each product streams all rows once.
///
/// Memory: a block of rows as it is kept, and 8 bytes x width x a few hundred.
#[derive(Debug)]
pub(crate) struct Streamed<'p> {
    fitted: Fitted<'p>,
    operator: Operator,
    n_scored: f64,
    ridge: Vec<f64>,
}

impl<'p> Streamed<'p> {
    /// Streams all rows once, to learn the mean of the diagonal.
    pub(crate) fn new(
        fitted: Fitted<'p>,
        operator: Operator,
        damping: f64,
    ) -> Result<Self, EstimatorError> {
        let width = fitted.width();
        let mut trace = 0.0;
        let n_roots = fitted.roots(operator, |rows| {
            let mut part = [0.0];
            add_blocks(&mut part, rows, width, |rows, part| {
                part[0] = product(rows, rows);
            });
            trace += part[0];
        })?;
        let n_scored = fitted.n_scored(operator, n_roots)?;
        let mean_diagonal = trace / n_scored / width as f64;
        Ok(Self {
            fitted,
            operator,
            n_scored,
            ridge: fitted.ridge(damping * mean_diagonal),
        })
    }

    pub(crate) fn n_scored(&self) -> f64 {
        self.n_scored
    }

    /// Products with one or several vectors of the rows' width, one after the other.
    pub(crate) fn multiply(&self, vectors: &[f64]) -> Result<Vec<f64>, EstimatorError> {
        let width = self.fitted.width();
        let mut out = vec![0.0; vectors.len()];
        self.fitted.roots(self.operator, |rows| {
            add_blocks(&mut out, rows, width, |rows, part| {
                for (vector, part) in vectors.chunks(width).zip(part.chunks_mut(width)) {
                    add_outer(rows, vector, part);
                }
            });
        })?;
        for (out, vector) in out.chunks_mut(width).zip(vectors.chunks(width)) {
            for ((out, x), ridge) in out.iter_mut().zip(vector).zip(&self.ridge) {
                *out = *out / self.n_scored + ridge * x;
            }
        }
        Ok(out)
    }
}
