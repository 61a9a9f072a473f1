//! A curvature as a matrix, for widths that allow it: exact solutions.

use tensors::dense::{Packed, add_gram, cholesky, invert, solve};
use tensors::kernels;

use super::{Fitted, Operator};
use crate::estimator::EstimatorError;

/// Columns of the widest matrix that is made: 128 MiB, and seconds to invert.
pub(crate) const WIDEST: usize = 4096;

kernels! {
    fn factorise<'a>(matrix: &'a mut [f64], n: usize) -> bool {
        cholesky(matrix, n)
    }

    fn substitute<'a>(factor: &'a [f64], n: usize, x: &'a mut [f64]) -> () {
        solve(factor, n, x);
    }
}

/// A symmetric matrix `[width, width]`, of which the lower triangle counts.
#[derive(Clone, Debug)]
pub(crate) struct Dense {
    method: &'static str,
    matrix: Vec<f64>,
    width: usize,
}

impl Dense {
    /// Zero.
    ///
    /// # Errors
    /// If it is too wide.
    pub(crate) fn new(method: &'static str, width: usize) -> Result<Self, EstimatorError> {
        if width > WIDEST {
            return Err(EstimatorError::TooWide {
                method,
                width,
                limit: WIDEST,
            });
        }
        Ok(Self {
            method,
            matrix: vec![0.0; width * width],
            width,
        })
    }

    /// The curvature of the fitted model, without damping, and the number of samples with a gradient.
    /// Memory: 8 bytes x width^2.
    ///
    /// # Errors
    /// If it is too wide, or the gradients cannot be read.
    pub(crate) fn curvature(
        fitted: Fitted<'_>,
        operator: Operator,
    ) -> Result<(Self, f64), EstimatorError> {
        let mut matrix = Self::new(fitted.method, fitted.width())?;
        let n_roots = fitted.roots(operator, |rows| matrix.add_rows(rows))?;
        let n_scored = fitted.n_scored(operator, n_roots)?;
        matrix.divide(n_scored);
        Ok((matrix, n_scored))
    }

    /// Adds the outer products of rows.
    pub(crate) fn add_rows(&mut self, rows: &[f64]) {
        add_gram(&mut self.matrix, rows, self.width);
    }

    pub(crate) fn divide(&mut self, by: f64) {
        for x in &mut self.matrix {
            *x /= by;
        }
    }

    /// The diagonal's mean.
    pub(crate) fn mean_diagonal(&self) -> f64 {
        let diagonal = self.matrix.iter().step_by(self.width + 1);
        diagonal.sum::<f64>() / self.width as f64
    }

    /// Whether every row that was added was 0.
    pub(crate) fn is_zero(&self) -> bool {
        self.mean_diagonal() <= 0.0
    }

    fn add_to_diagonal(&mut self, ridge: &[f64]) {
        for (x, ridge) in self.matrix.iter_mut().step_by(self.width + 1).zip(ridge) {
            *x += ridge;
        }
    }

    fn singular(&self) -> EstimatorError {
        EstimatorError::Unsolved {
            method: self.method,
            what: "the damped curvature is not positive definite".to_owned(),
            hint: "raise `damping`",
        }
    }

    /// The solution x of (this + diag(ridge)) x = v, by Cholesky.
    ///
    /// # Errors
    /// If the matrix is not positive definite.
    pub(crate) fn solve(self, ridge: &[f64], v: &[f64]) -> Result<Vec<f64>, EstimatorError> {
        Ok(self.solve_all(ridge, &[v])?.concat())
    }

    /// The solutions for several right sides: the matrix is factorised once.
    ///
    /// # Errors
    /// As [`Dense::solve`].
    pub(crate) fn solve_all<V: AsRef<[f64]>>(
        mut self,
        ridge: &[f64],
        vectors: &[V],
    ) -> Result<Vec<Vec<f64>>, EstimatorError> {
        self.add_to_diagonal(ridge);
        if !factorise(&mut self.matrix, self.width) {
            return Err(self.singular());
        }
        let solution = |v: &V| {
            let mut x = v.as_ref().to_vec();
            substitute(&self.matrix, self.width, &mut x);
            x
        };
        Ok(vectors.iter().map(solution).collect())
    }

    /// The inverse of this + diag(ridge), ready to be multiplied by many rows. Memory: twice the matrix.
    ///
    /// # Errors
    /// If the matrix is not positive definite.
    pub(crate) fn inverse(mut self, ridge: &[f64]) -> Result<Packed, EstimatorError> {
        self.add_to_diagonal(ridge);
        let width = self.width;
        if !invert(&mut self.matrix, width, |_| {}) {
            return Err(self.singular());
        }
        for i in 0..width {
            for j in 0..i {
                self.matrix[j * width + i] = self.matrix[i * width + j];
            }
        }
        Ok(Packed::new(&self.matrix, width))
    }
}
