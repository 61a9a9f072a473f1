//! The systems of iALS as matrices, and how what depends on their solutions depends on what they are
//! made of: for derivatives, which ask for the same system twice and for factors as they are.
//!
//! With w the weights of the cells of a row, G the Gram matrix of the other side's vectors y,
//!
//! ```text
//! A x = b    A = alpha G + penalty + sum of w y y'    b = sum of w y
//! ```
//!
//! With a bar for the derivative of something by x, and v = A^-1 x-bar, the implicit function theorem
//! gives
//!
//! ```text
//! by w_i:  (v.y_i) (1 - x.y_i)
//! by y_i:  w_i [v (1 - x.y_i) - x (v.y_i)] - alpha [v (x.y_i) + x (v.y_i)]
//! ```
//!
//! the second of these for every y, cells or not: sums over all rows of v x' make it one product.
//! The penalty counts cells, whose number is a constant.

use rayon::prelude::*;
use tensors::Csr;
use tensors::dense::{add_scaled, cholesky, dot, gram, kernels, solve};

use super::solve::Settings;

/// Rows whose sums are taken on one thread.
const BLOCK: usize = 256;

/// One side as the solution against the other.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    /// Cells of each row, with their weights.
    pub(super) cells: &'a Csr<f64>,
    /// Vectors of the other side, `[n, d]`.
    pub(super) others: &'a [f64],
    pub(super) d: usize,
    pub(super) settings: Settings,
}

/// Derivatives by what solutions are made of.
pub(super) struct Pulled {
    /// By the vectors of the other side.
    pub(super) others: Vec<f64>,
    /// By the weight of each cell, in the order of the matrix.
    pub(super) weights: Vec<f64>,
}

kernels! {
    /// alpha G + penalty + sum of w y y', its lower triangle.
    fn write_system<'a>(
        gram: &'a [f64],
        side: Side<'a>,
        row: usize,
        matrix: &'a mut [f64],
    ) -> () {
        let d = side.d;
        let (columns, weights) = side.cells.row(row);
        let penalty = side.settings.penalty(columns.len(), side.n_others());
        for (out, x) in matrix.iter_mut().zip(gram) {
            *out = side.settings.unobserved_weight * x;
        }
        for i in 0..d {
            matrix[i * d + i] += penalty;
        }
        for (&column, weight) in columns.iter().zip(weights) {
            let y = &side.others[column as usize * d..][..d];
            for i in 0..d {
                add_scaled(&mut matrix[i * d..=i * d + i], weight * y[i], &y[..=i]);
            }
        }
    }

    /// Solves the system of a row; NaN if it has no solution.
    fn solve_system<'a>(
        gram: &'a [f64],
        side: Side<'a>,
        row: usize,
        right: &'a mut [f64],
    ) -> () {
        let mut matrix = vec![0.0; gram.len()];
        write_system(gram, side, row, &mut matrix);
        if cholesky(&mut matrix, side.d) {
            solve(&matrix, side.d, right);
        } else {
            right.fill(f64::NAN);
        }
    }

    /// Sum of w y over the cells of a row.
    fn write_right<'a>(side: Side<'a>, row: usize, right: &'a mut [f64]) -> () {
        let (columns, weights) = side.cells.row(row);
        for (&column, weight) in columns.iter().zip(weights) {
            add_scaled(right, *weight, &side.others[column as usize * side.d..][..side.d]);
        }
    }

    /// Sum of products.
    pub(super) fn product<'a>(a: &'a [f64], b: &'a [f64]) -> f64 {
        dot(a, b)
    }

    /// Adds v x' to a matrix for rows of both.
    fn add_outer<'a>(out: &'a mut [f64], vs: &'a [f64], xs: &'a [f64], d: usize) -> () {
        for (v, x) in vs.chunks_exact(d).zip(xs.chunks_exact(d)) {
            for i in 0..d {
                add_scaled(&mut out[i * d..(i + 1) * d], v[i], x);
            }
        }
    }

    /// Adds w [v (1 - x.y) - x (v.y)] to the derivative by y.
    fn add_cell<'a>(
        out: &'a mut [f64],
        y: &'a [f64],
        v: &'a [f64],
        x: &'a [f64],
        weight: f64,
    ) -> () {
        add_scaled(out, weight * (1.0 - dot(x, y)), v);
        add_scaled(out, -weight * dot(v, y), x);
    }

    /// Adds -scale (S + S') y.
    fn add_symmetric<'a>(out: &'a mut [f64], both: &'a [f64], y: &'a [f64], scale: f64) -> () {
        for (out, row) in out.iter_mut().zip(both.chunks_exact(y.len())) {
            *out -= scale * dot(row, y);
        }
    }
}

impl Side<'_> {
    fn n_others(&self) -> usize {
        self.others.len() / self.d.max(1)
    }

    fn other(&self, at: usize) -> &[f64] {
        &self.others[at * self.d..(at + 1) * self.d]
    }

    /// The matrix A of a row, its lower triangle and more; `gram` is that of the other side.
    pub(super) fn system(&self, gram: &[f64], row: usize) -> Vec<f64> {
        let mut matrix = vec![0.0; self.d * self.d];
        write_system(gram, *self, row, &mut matrix);
        matrix
    }

    /// The vectors that solve all rows, 0 for a row without cells.
    pub(super) fn solved(&self) -> Vec<f64> {
        let gram = gram(self.others, self.d);
        let mut rows = vec![0.0; self.cells.n_rows() * self.d];
        rows.par_chunks_mut(self.d.max(1))
            .enumerate()
            .filter(|(row, _)| !self.cells.row(*row).0.is_empty())
            .for_each(|(row, x)| {
                write_right(*self, row, x);
                solve_system(&gram, *self, row, x);
            });
        rows
    }

    /// Takes a derivative by the solutions back to what they are made of.
    pub(super) fn pull(&self, rows: &[f64], bar: &[f64]) -> Pulled {
        let d = self.d;
        let gram = gram(self.others, d);
        let mut vs = bar.to_vec();
        vs.par_chunks_mut(d).enumerate().for_each(|(row, v)| {
            if self.cells.row(row).0.is_empty() {
                v.fill(0.0);
            } else {
                solve_system(&gram, *self, row, v);
            }
        });
        let of_row =
            |numbers: &[f64], row: usize| -> Vec<f64> { numbers[row * d..(row + 1) * d].to_vec() };
        let weights: Vec<Vec<f64>> = (0..self.cells.n_rows())
            .into_par_iter()
            .map(|row| {
                let (v, x) = (of_row(&vs, row), of_row(rows, row));
                let columns = self.cells.row(row).0.iter();
                columns
                    .map(|&column| {
                        let y = self.other(column as usize);
                        product(&v, y) * (1.0 - product(&x, y))
                    })
                    .collect()
            })
            .collect();
        let blocks: Vec<Vec<f64>> = vs
            .par_chunks(BLOCK * d)
            .zip(rows.par_chunks(BLOCK * d))
            .map(|(vs, xs)| {
                let mut sum = vec![0.0; d * d];
                add_outer(&mut sum, vs, xs, d);
                sum
            })
            .collect();
        let mut both = vec![0.0; d * d];
        for block in blocks {
            for i in 0..d {
                for j in 0..d {
                    both[i * d + j] += block[i * d + j] + block[j * d + i];
                }
            }
        }
        let by_other = self.cells.transpose();
        let mut others = vec![0.0; self.others.len()];
        others.par_chunks_mut(d).enumerate().for_each(|(at, out)| {
            let y = self.other(at);
            let (rows_of, weights) = by_other.row(at);
            for (&row, weight) in rows_of.iter().zip(weights) {
                let range = row as usize * d..(row as usize + 1) * d;
                add_cell(out, y, &vs[range.clone()], &rows[range], *weight);
            }
            add_symmetric(out, &both, y, self.settings.unobserved_weight);
        });
        Pulled {
            others,
            weights: weights.concat(),
        }
    }
}
