//! The systems of equations of iALS, a row each.

use rayon::prelude::*;
use tensors::Csr;

use super::conjugate::{Directions, improve};
use tensors::dense::{add_scaled, cholesky, dot, kernels, solve};

/// What a row's system needs beyond its cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) unobserved_weight: f64,
    pub(super) regularisation: f64,
    pub(super) frequency_scaling: f64,
}

impl Settings {
    /// Weight of |x|^2 of a row with `n_cells` of `n_columns` cells observed.
    pub(super) fn penalty(self, n_cells: usize, n_columns: usize) -> f64 {
        let frequency = n_cells as f64 + self.unobserved_weight * n_columns as f64;
        self.regularisation * libm::pow(frequency, self.frequency_scaling)
    }
}

/// Memory that one thread uses again for each row.
#[derive(Default)]
pub(super) struct Scratch {
    diagonal: Vec<f64>,
    /// Rows of the other side times the root of their weight, `[m, dimensions]`.
    scaled: Vec<f64>,
    /// The same, divided by the diagonal.
    divided: Vec<f64>,
    matrix: Vec<f64>,
    right: Vec<f64>,
    directions: Directions,
}

impl Scratch {
    /// The diagonal of the system of a row with `m` cells.
    fn fill_diagonal(&mut self, m: usize, n_columns: usize, spectrum: &[f64], settings: Settings) {
        let penalty = settings.penalty(m, n_columns);
        self.diagonal.clear();
        self.diagonal.extend(
            spectrum
                .iter()
                // Rounding may leave an eigenvalue of 0 below it.
                .map(|value| settings.unobserved_weight * value.max(0.0) + penalty),
        );
    }
}

/// Solves one row: `x` minimises the sum of w (x.y - 1)^2 over its cells, plus the diagonal form
/// alpha `spectrum` + penalty. Cells are (row of `others`, weight above 0).
pub(super) fn solve_row(
    cells: impl Iterator<Item = (u32, f64)> + Clone,
    others: &[f64],
    spectrum: &[f64],
    settings: Settings,
    x: &mut [f64],
    scratch: &mut Scratch,
) {
    let d = spectrum.len();
    let m = cells.clone().count();
    x.fill(0.0);
    if m == 0 || d == 0 {
        return;
    }
    scratch.fill_diagonal(m, others.len() / d, spectrum, settings);
    let Scratch { scaled, right, .. } = scratch;
    scaled.clear();
    right.clear();
    for (other, weight) in cells {
        let root = weight.sqrt();
        let start = other as usize * d;
        scaled.extend(others[start..start + d].iter().map(|y| y * root));
        right.push(root);
    }
    solve_scaled(x, scratch);
}

kernels! {
    /// Solves the system whose parts stand in `scratch`; NaN if it has no solution.
    fn solve_scaled<'a>(x: &'a mut [f64], scratch: &'a mut Scratch) -> () {
        let Scratch {
            diagonal,
            scaled,
            divided,
            matrix,
            right,
            ..
        } = scratch;
        let (m, d) = (right.len(), x.len());
        if m < d {
            // x = D^-1 Z' (1 + Z D^-1 Z')^-1 sqrt(w), Z being `scaled`.
            divided.clear();
            for row in scaled.chunks_exact(d) {
                divided.extend(row.iter().zip(diagonal.iter()).map(|(z, d)| z / d));
            }
            matrix.clear();
            matrix.resize(m * m, 0.0);
            for a in 0..m {
                let row = &scaled[a * d..(a + 1) * d];
                for b in 0..=a {
                    matrix[a * m + b] = dot(row, &divided[b * d..(b + 1) * d]);
                }
                matrix[a * m + a] += 1.0;
            }
            if cholesky(matrix, m) {
                solve(matrix, m, right);
                for (row, z) in divided.chunks_exact(d).zip(right.iter()) {
                    add_scaled(x, *z, row);
                }
            } else {
                x.fill(f64::NAN);
            }
        } else {
            matrix.clear();
            matrix.resize(d * d, 0.0);
            for (row, weight) in scaled.chunks_exact(d).zip(right.iter()) {
                for i in 0..d {
                    add_scaled(&mut matrix[i * d..=i * d + i], row[i], &row[..=i]);
                }
                add_scaled(x, *weight, row);
            }
            for (i, value) in diagonal.iter().enumerate() {
                matrix[i * d + i] += value;
            }
            if cholesky(matrix, d) {
                solve(matrix, d, x);
            } else {
                x.fill(f64::NAN);
            }
        }
    }
}

/// Solves all rows of one side against the other, whose Gram matrix is diagonal: exactly, or by
/// some steps of conjugate gradients from where they are.
pub(super) fn solve_side(
    cells: &Csr<f64>,
    others: &[f64],
    spectrum: &[f64],
    settings: Settings,
    steps: Option<u32>,
    rows: &mut [f64],
) {
    let d = spectrum.len();
    rows.par_chunks_mut(d.max(1))
        .enumerate()
        .with_min_len(16)
        .for_each_init(Scratch::default, |scratch, (row, x)| {
            let (columns, weights) = cells.row(row);
            let m = columns.len();
            // With few cells an exact solution is less work than the steps.
            if let Some(steps) = steps.filter(|&steps| m > 3 * steps as usize) {
                scratch.fill_diagonal(m, others.len() / d, spectrum, settings);
                let Scratch {
                    diagonal,
                    directions,
                    ..
                } = scratch;
                improve(x, others, columns, weights, diagonal, steps, directions);
            } else {
                let cells = columns.iter().copied().zip(weights.iter().copied());
                solve_row(cells, others, spectrum, settings, x, scratch);
            }
        });
}
