//! Products of tall matrices `[n, columns]`, one row per user or item.

use rayon::prelude::*;

use super::product;
use crate::{Matrix, multiply};

/// Rows that are turned together.
const TURNED: usize = 256;

/// Rows that are summed at once: few enough to be spread over threads, and at most 64 blocks. A
/// function of the number of rows alone.
fn block(n: usize) -> usize {
    n.div_ceil(64).max(512)
}

kernels! {
    /// Adds the upper triangle of the product of the transposed matrix with itself, four rows at a
    /// time: that is what memory is read and written for.
    fn add_products<'a>(matrix: &'a [f64], columns: usize, out: &'a mut [f64]) -> () {
        let mut groups = matrix.chunks_exact(4 * columns);
        for group in &mut groups {
            let (a, rest) = group.split_at(columns);
            let (b, rest) = rest.split_at(columns);
            let (c, d) = rest.split_at(columns);
            for i in 0..columns {
                let factors = [a[i], b[i], c[i], d[i]];
                let row = &mut out[i * columns + i..(i + 1) * columns];
                let others = a[i..].iter().zip(&b[i..]).zip(&c[i..]).zip(&d[i..]);
                for (out, (((a, b), c), d)) in row.iter_mut().zip(others) {
                    let sum = factors[0].mul_add(*a, *out);
                    let sum = factors[1].mul_add(*b, sum);
                    let sum = factors[2].mul_add(*c, sum);
                    *out = factors[3].mul_add(*d, sum);
                }
            }
        }
        for a in groups.remainder().chunks_exact(columns) {
            for i in 0..columns {
                let row = &mut out[i * columns + i..(i + 1) * columns];
                for (out, x) in row.iter_mut().zip(&a[i..]) {
                    *out = a[i].mul_add(*x, *out);
                }
            }
        }
    }
}

/// The product of the transposed matrix with itself, `[columns, columns]`.
pub fn gram(matrix: &[f64], columns: usize) -> Vec<f64> {
    let mut out = vec![0.0; columns * columns];
    if columns == 0 {
        return out;
    }
    let block = block(matrix.len() / columns);
    let parts: Vec<Vec<f64>> = matrix
        .par_chunks(block * columns)
        .map(|rows| {
            let mut part = vec![0.0; columns * columns];
            add_products(rows, columns, &mut part);
            part
        })
        .collect();
    for part in parts {
        for (out, x) in out.iter_mut().zip(part) {
            *out += x;
        }
    }
    for i in 0..columns {
        for j in 0..i {
            out[i * columns + j] = out[j * columns + i];
        }
    }
    out
}

/// Adds the product of the transposed matrix with itself to `out`, `[columns, columns]`: to the lower
/// triangle with the diagonal; beyond it only some numbers are kept up, and none of them counts. For
/// matrices too large to be in memory at once, which come some rows at a time: the sum over the rows of
/// one call is made first and then added.
pub fn add_gram(out: &mut [f64], rows: &[f64], columns: usize) {
    product::add_columns(out, rows, columns);
}

/// Multiplies every row by the transpose of a matrix `[columns, columns]`, in place: entry k becomes
/// the product with row k of `basis`.
pub fn rotate(matrix: &mut [f64], columns: usize, basis: &[f64]) {
    let basis = Matrix::new(basis, columns, columns).transposed();
    matrix
        .par_chunks_mut((TURNED * columns).max(1))
        .for_each_init(Vec::new, |before, rows| {
            before.clear();
            before.extend_from_slice(rows);
            let before = Matrix::new(before, rows.len() / columns, columns);
            multiply(before, basis, rows, columns, false, 1.0);
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f64> {
        (0..n)
            .map(|at| ((at * 7 + at / 5) % 11) as f64 - 5.0)
            .collect()
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for (n, columns) in [(1, 1), (3, 2), (1030, 5), (7, 18)] {
            let matrix = numbers(n * columns);
            let found = gram(&matrix, columns);
            let mut lower = vec![0.0; columns * columns];
            let half = n / 2 * columns;
            add_gram(&mut lower, &matrix[..half], columns);
            add_gram(&mut lower, &matrix[half..], columns);
            let basis = numbers(columns * columns);
            let mut turned = matrix.clone();
            rotate(&mut turned, columns, &basis);
            let at = |row: usize, column: usize| matrix[row * columns + column];
            // Sums of small integers are exact in any order.
            for i in 0..columns {
                for j in 0..columns {
                    let expected: f64 = (0..n).map(|row| at(row, i) * at(row, j)).sum();
                    assert!((found[i * columns + j] - expected).abs() < 1e-9);
                    assert!(j > i || (lower[i * columns + j] - expected).abs() < 1e-9);
                }
                for row in 0..n {
                    let expected: f64 = (0..columns)
                        .map(|j| at(row, j) * basis[i * columns + j])
                        .sum();
                    assert!((turned[row * columns + i] - expected).abs() < 1e-9);
                }
            }
        }
    }
}
