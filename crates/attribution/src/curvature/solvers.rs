//! Ways to apply the inverse of a damped curvature to a vector.

use serde::{Deserialize, Serialize};
use tensors::dense::{Eigen, symmetric};

use super::{Dense, Fitted, Operator, Streamed, add, product};
use crate::Seed;
use crate::estimator::EstimatorError;

/// How the inverse is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Solver {
    /// Cholesky factors of the matrix.
    #[default]
    Exact,
    /// Conjugate gradients, to a relative residual.
    ConjugateGradient,
    /// The truncated Neumann series of Agarwal et al.
    Lissa,
    /// The inverse on the leading Ritz vectors alone.
    Arnoldi,
}

/// Everything that a solver is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) solver: Solver,
    pub(crate) operator: Operator,
    /// Share of the mean of the diagonal.
    pub(crate) damping: f64,
    /// Length of the residual, as a share of that of the right side.
    pub(crate) tolerance: f64,
    /// Most products with the curvature.
    pub(crate) iterations: usize,
    /// Ritz pairs that are kept.
    pub(crate) rank: usize,
}

/// The solution x of (H + diag(ridge)) x = v for each v, and the number of samples with a gradient.
///
/// # Errors
/// If the curvature cannot be read or is too wide for a matrix, or the solver does not arrive.
pub(crate) fn solve(
    fitted: Fitted<'_>,
    settings: Settings,
    vectors: &[Vec<f64>],
    seed: Seed,
) -> Result<(Vec<Vec<f64>>, f64), EstimatorError> {
    let Settings {
        operator, damping, ..
    } = settings;
    if settings.solver == Solver::Exact {
        let (matrix, n_scored) = Dense::curvature(fitted, operator)?;
        let ridge = fitted.ridge(damping * matrix.mean_diagonal());
        return Ok((matrix.solve_all(&ridge, vectors)?, n_scored));
    }
    let system = Streamed::new(fitted, operator, damping)?;
    let run = Run {
        method: fitted.method,
        settings,
        system: &system,
    };
    let solution = |v: &Vec<f64>| match settings.solver {
        Solver::Lissa => run.lissa(v, seed),
        Solver::Arnoldi => run.arnoldi(v, seed),
        Solver::Exact | Solver::ConjugateGradient => run.conjugate_gradient(v),
    };
    let solutions: Result<Vec<_>, _> = vectors.iter().map(solution).collect();
    Ok((solutions?, system.n_scored()))
}

struct Run<'a> {
    method: &'static str,
    settings: Settings,
    system: &'a Streamed<'a>,
}

/// Rounds of the power method, and how far its value may lie below the largest eigenvalue: for a random
/// start the expected relative error is at most 0.871 ln(width) / (rounds - 1), 0.19 for 4,096 columns
/// (Kuczynski and Wozniakowski, SIAM J. Matrix Anal. Appl. 13(4), 1992). The series converges down to
/// half of the largest eigenvalue, so that an unlucky start does no harm.
const POWER_ROUNDS: usize = 40;
const POWER_MARGIN: f64 = 1.25;

impl Run<'_> {
    fn unsolved(&self, what: String, hint: &'static str) -> EstimatorError {
        EstimatorError::Unsolved {
            method: self.method,
            what,
            hint,
        }
    }

    /// Conjugate gradients from 0.
    fn conjugate_gradient(&self, v: &[f64]) -> Result<Vec<f64>, EstimatorError> {
        let length = norm(v);
        let mut x = vec![0.0; v.len()];
        let mut residual = v.to_vec();
        let mut direction = v.to_vec();
        let mut square = product(&residual, &residual);
        for _ in 0..self.settings.iterations {
            if square.sqrt() <= self.settings.tolerance * length {
                return Ok(x);
            }
            let image = self.system.multiply(&direction)?;
            let curvature = product(&direction, &image);
            if !(curvature > 0.0 && curvature.is_finite()) {
                return Err(self.unsolved(
                    format!("conjugate gradients met a curvature of {curvature}"),
                    "raise `damping`",
                ));
            }
            let step = square / curvature;
            add(&mut x, step, &direction);
            add(&mut residual, -step, &image);
            let next = product(&residual, &residual);
            for (direction, residual) in direction.iter_mut().zip(&residual) {
                *direction = residual + next / square * *direction;
            }
            square = next;
        }
        if square.sqrt() <= self.settings.tolerance * length {
            return Ok(x);
        }
        let left = square.sqrt() / length;
        let n = self.settings.iterations;
        Err(self.unsolved(
            format!(
                "conjugate gradients left a relative residual of {left:.1e} after {n} iterations"
            ),
            "raise `iterations`, `tolerance` or `damping`",
        ))
    }

    /// h <- v + (I - A / sigma) h, and h / sigma is the answer.
    fn lissa(&self, v: &[f64], seed: Seed) -> Result<Vec<f64>, EstimatorError> {
        let sigma = POWER_MARGIN * self.largest_eigenvalue(v.len(), seed)?;
        if !(sigma > 0.0 && sigma.is_finite()) {
            return Err(self.unsolved(
                format!("the largest eigenvalue of the curvature is about {sigma}"),
                "look at the gradients of the probe",
            ));
        }
        let length = norm(v);
        let mut h = v.to_vec();
        for _ in 0..self.settings.iterations {
            // v - A h / sigma, by which h changes: the residual of the answer.
            let mut residual = v.to_vec();
            add(&mut residual, -1.0 / sigma, &self.system.multiply(&h)?);
            add(&mut h, 1.0, &residual);
            if norm(&residual) <= self.settings.tolerance * length {
                break;
            }
        }
        Ok(h.iter().map(|h| h / sigma).collect())
    }

    /// The power method, from a random vector.
    fn largest_eigenvalue(&self, width: usize, seed: Seed) -> Result<f64, EstimatorError> {
        let mut vector = random(width, seed, 0);
        let mut value = 0.0;
        for _ in 0..POWER_ROUNDS {
            let length = norm(&vector);
            if length <= 0.0 {
                break;
            }
            for x in &mut vector {
                *x /= length;
            }
            let image = self.system.multiply(&vector)?;
            value = product(&vector, &image);
            vector = image;
        }
        Ok(value)
    }

    /// The inverse on the span of the Ritz vectors of the `rank` largest Ritz values.
    ///
    /// The curvature is symmetric: Arnoldi's process is that of Lanczos, here with every vector
    /// orthogonalised against all before it.
    fn arnoldi(&self, v: &[f64], seed: Seed) -> Result<Vec<f64>, EstimatorError> {
        let Settings {
            rank, iterations, ..
        } = self.settings;
        let width = v.len();
        let steps = rank.saturating_mul(4).min(iterations).min(width);
        let mut basis: Vec<Vec<f64>> = Vec::new();
        let mut diagonal = Vec::new();
        let mut beside = Vec::new();
        let mut next = fresh(&basis, width, seed);
        while let Some(vector) = next.take() {
            let mut image = self.system.multiply(&vector)?;
            diagonal.push(product(&vector, &image));
            basis.push(vector);
            if basis.len() == steps {
                break;
            }
            let scale = norm(&image);
            orthogonalise(&mut image, &basis);
            let length = norm(&image);
            if length > 1e-12 * scale {
                for x in &mut image {
                    *x /= length;
                }
                beside.push(length);
                next = Some(image);
            } else {
                // The space is closed under the curvature: go on outside of it.
                beside.push(0.0);
                next = fresh(&basis, width, seed);
            }
        }
        let n = basis.len();
        let mut tridiagonal = vec![0.0; n * n];
        for (k, &x) in diagonal.iter().enumerate() {
            tridiagonal[k * n + k] = x;
        }
        for (k, &x) in beside.iter().take(n.saturating_sub(1)).enumerate() {
            tridiagonal[k * n + k + 1] = x;
            tridiagonal[(k + 1) * n + k] = x;
        }
        let Eigen { values, vectors } = symmetric(tridiagonal, n);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        // In the basis of Lanczos: sum over pairs of y <y, Q v> / value.
        let inner: Vec<f64> = basis.iter().map(|vector| product(vector, v)).collect();
        let mut combined = vec![0.0; n];
        for &pair in order.iter().take(rank) {
            let (value, vector) = (values[pair], &vectors[pair * n..(pair + 1) * n]);
            if value > 0.0 {
                add(&mut combined, product(vector, &inner) / value, vector);
            }
        }
        let mut x = vec![0.0; width];
        for (factor, vector) in combined.iter().zip(&basis) {
            add(&mut x, *factor, vector);
        }
        Ok(x)
    }
}

/// A random vector of length 1 that is orthogonal to the basis; `None` if nothing is left.
fn fresh(basis: &[Vec<f64>], width: usize, seed: Seed) -> Option<Vec<f64>> {
    let mut vector = random(width, seed, basis.len() as u64);
    let before = norm(&vector);
    orthogonalise(&mut vector, basis);
    let length = norm(&vector);
    (length > 1e-8 * before).then(|| {
        for x in &mut vector {
            *x /= length;
        }
        vector
    })
}

/// Takes away what lies in the span of an orthonormal basis; twice, because once leaves rounding.
fn orthogonalise(vector: &mut [f64], basis: &[Vec<f64>]) {
    for _ in 0..2 {
        for other in basis {
            let along = product(vector, other);
            add(vector, -along, other);
        }
    }
}

/// Numbers between -1/2 and 1/2.
fn random(width: usize, seed: Seed, lane: u64) -> Vec<f64> {
    let stream = seed.child("start").stream();
    (0..)
        .map(|k| stream.uniform(k, lane) - 0.5)
        .take(width)
        .collect()
}

fn norm(x: &[f64]) -> f64 {
    product(x, x).sqrt()
}
