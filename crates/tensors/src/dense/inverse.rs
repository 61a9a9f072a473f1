//! The inverse of a large symmetric positive definite matrix, in place.
//!
//! Blocks of rows are swept one after the other. With P the block on the diagonal and C its columns,
//! a sweep replaces P by -P^-1, C by C P^-1 and everything else by A - C P^-1 C'; after all sweeps
//! the matrix is -A^-1. Symmetry stays, so only the lower triangle is computed, in n^3 operations.
//! Every number is a sum in an order that depends on its place alone, so the work can be spread over
//! any number of threads.
//!
//! # Paper
//! Goodnight, "A tutorial on the SWEEP operator", The American Statistician 33(3), 1979, section 3,
//! here with blocks instead of single pivots.

use rayon::prelude::*;

use super::product::{Into, TALL, WIDE, multiply, pack};
use super::{cholesky, solve};

/// Rows that are swept at once.
const BLOCK: usize = 192;

/// Rows that one task updates: with their factors they stay in the second cache.
const STRIP: usize = 64;

kernels! {
    fn factorise<'a>(block: &'a mut [f64], n: usize) -> bool {
        cholesky(block, n)
    }

    fn solve_one<'a>(factor: &'a [f64], n: usize, b: &'a mut [f64]) -> () {
        solve(factor, n, b);
    }
}

/// Columns `from..to` of a symmetric matrix of which the lower triangle counts, row by row.
fn panel(matrix: &[f64], n: usize, from: usize, to: usize) -> Vec<f64> {
    let depth = to - from;
    let mut panel = vec![0.0; n * depth];
    panel
        .par_chunks_mut(depth.max(1))
        .enumerate()
        .for_each(|(row, out)| {
            for (out, column) in out.iter_mut().zip(from..to) {
                let (row, column) = (row.max(column), row.min(column));
                *out = matrix[row * n + column];
            }
        });
    panel
}

/// The inverse of a block; `None` if it is not positive definite.
fn invert_block(mut block: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    factorise(&mut block, n).then_some(())?;
    let mut inverse = vec![0.0; n * n];
    inverse.par_chunks_mut(n).enumerate().for_each(|(row, x)| {
        x[row] = 1.0;
        solve_one(&block, n, x);
    });
    // Rounding leaves it not quite symmetric.
    for i in 0..n {
        for j in 0..i {
            inverse[j * n + i] = inverse[i * n + j];
        }
    }
    Some(inverse)
}

/// Replaces the lower triangle of a symmetric positive definite matrix `[n, n]`, diagonal included, by
/// that of its inverse, and calls `progress` with the rows done. The upper triangle is neither read
/// nor of any use afterwards. `false` if the matrix is not positive definite.
pub fn invert(matrix: &mut [f64], n: usize, mut progress: impl FnMut(usize)) -> bool {
    for from in (0..n).step_by(BLOCK) {
        let to = (from + BLOCK).min(n);
        let depth = to - from;
        let columns = panel(matrix, n, from, to);
        let Some(inverse) = invert_block(columns[from * depth..to * depth].to_vec(), depth) else {
            return false;
        };
        // C P^-1.
        let mut swept = vec![0.0; n * depth];
        let tall = pack::<TALL>(&columns, depth);
        let wide = pack::<WIDE>(&inverse, depth);
        swept
            .par_chunks_mut(STRIP * depth)
            .zip(tall.par_chunks(STRIP * depth))
            .for_each(|(out, tall)| {
                multiply(tall, &wide, depth, usize::MAX, out, depth, Into::Put);
            });
        // A - C P^-1 C'.
        let tall = pack::<TALL>(&swept, depth);
        let wide = pack::<WIDE>(&columns, depth);
        matrix
            .par_chunks_mut(STRIP * n)
            .zip(tall.par_chunks(STRIP * depth))
            .enumerate()
            .for_each(|(strip, (out, tall))| {
                // Columns up to the last row of the strip.
                let n_wide = ((strip + 1) * STRIP).div_ceil(WIDE);
                multiply(tall, &wide, depth, n_wide, out, n, Into::Subtract);
            });
        write_back(matrix, n, from..to, &swept, &inverse);
        progress(to);
    }
    matrix.par_iter_mut().for_each(|x| *x = -*x);
    true
}

/// Writes C P^-1 and -P^-1 to their places.
fn write_back(
    matrix: &mut [f64],
    n: usize,
    block: std::ops::Range<usize>,
    swept: &[f64],
    inverse: &[f64],
) {
    let depth = block.len();
    matrix
        .par_chunks_mut(n)
        .enumerate()
        .skip(block.start)
        .for_each(|(row, out)| {
            if row >= block.end {
                out[block.clone()].copy_from_slice(&swept[row * depth..(row + 1) * depth]);
                return;
            }
            let within = row - block.start;
            for (column, out) in out[..block.start].iter_mut().enumerate() {
                *out = swept[column * depth + within];
            }
            let own = &inverse[within * depth..(within + 1) * depth];
            for (out, x) in out[block.clone()].iter_mut().zip(own) {
                *out = -x;
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pool<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(work)
    }

    /// A positive definite matrix that is far from diagonal.
    fn matrix(n: usize) -> Vec<f64> {
        let entry = |i: usize, j: usize| {
            let distance = i.abs_diff(j) as f64;
            let near = 1.0 / (1.0 + distance);
            near + if i == j { 0.5 + (i % 7) as f64 } else { 0.0 }
        };
        (0..n * n).map(|at| entry(at / n, at % n)).collect()
    }

    #[test]
    fn the_product_with_the_inverse_is_one() {
        for n in [1, 2, 15, 64, 191, 192, 193, 450] {
            let before = matrix(n);
            let mut after = before.clone();
            let mut steps = Vec::new();
            assert!(invert(&mut after, n, |done| steps.push(done)));
            assert_eq!(steps.last(), Some(&n));
            let inverse = |i: usize, j: usize| after[i.max(j) * n + i.min(j)];
            // All rows of the small ones, some of the large.
            for i in (0..n).step_by(n.div_ceil(20)) {
                for j in 0..n {
                    let sum: f64 = (0..n).map(|k| before[i * n + k] * inverse(k, j)).sum();
                    let expected = f64::from(u8::from(i == j));
                    assert!((sum - expected).abs() < 1e-11, "{n}: {sum} at {i}, {j}");
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let inverse = |threads| {
            let mut matrix = matrix(400);
            in_pool(threads, || invert(&mut matrix, 400, |_| {}));
            matrix
        };
        let one = inverse(1);
        for threads in [2, 3] {
            assert_eq!(inverse(threads), one);
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        let mut matrix = matrix(200);
        matrix[199 * 200 + 199] = -1.0;
        assert!(!invert(&mut matrix, 200, |_| {}));
    }
}
