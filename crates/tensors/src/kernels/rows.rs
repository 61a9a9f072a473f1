//! Vector loops and how work is cut into blocks.

use std::ops::Range;

use rayon::prelude::*;

use super::{Matrix, Real, multiply};

/// Independent sums that a long sum is cut into, whatever the width of the machine's registers:
/// as many as four registers of sixteen numbers.
const LANES: usize = 32;

/// Runs a loop compiled for the instruction set of this machine. The results do not depend on it:
/// no sum is reordered, and a fused multiply-add is written as such.
#[inline(always)]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// How many rows a block has: a function of `rows` alone. About sixteen blocks, each a multiple of
/// 16 rows.
pub(crate) fn block_rows(rows: usize) -> usize {
    rows.div_ceil(16).next_multiple_of(16)
}

/// The blocks that a sum over rows is cut into: at most 512 rows each, of about equal size.
pub(crate) fn sum_blocks(rows: usize) -> Vec<Range<usize>> {
    let n = rows.div_ceil(512).max(1);
    (0..n).map(|k| k * rows / n..(k + 1) * rows / n).collect()
}

/// Ranges of about equal size.
pub(crate) fn ranges(length: usize, n: usize) -> Vec<Range<usize>> {
    let n = n.min(length).max(1);
    (0..n)
        .map(|k| k * length / n..(k + 1) * length / n)
        .collect()
}

/// Sum of `f` over a slice, in [`LANES`] interleaved sums that are then added in order.
#[inline(always)]
pub(crate) fn sum_by<F: Real>(x: &[F], f: impl Fn(F) -> F) -> F {
    let mut lanes = [F::ZERO; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += f(x);
    }
    halve(lanes)
}

/// Sum of products.
#[inline(always)]
pub(crate) fn dot<F: Real>(x: &[F], y: &[F]) -> F {
    let mut lanes = [F::ZERO; LANES];
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let (y_chunks, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in x_chunks.iter().zip(y_chunks) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane = x.fma(y, *lane);
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane = x.fma(y, *lane);
    }
    halve(lanes)
}

/// The largest number.
#[inline(always)]
pub(crate) fn largest<F: Real>(x: &[F]) -> F {
    let mut lanes = [F::LOWEST; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = lane.larger(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = lane.larger(x);
    }
    let lanes = std::hint::black_box(lanes);
    let mut top = F::LOWEST;
    for lane in lanes {
        top = top.larger(lane);
    }
    top
}

/// Replaces x by e^(x - top), for `top` the largest; gives the sum.
#[inline(always)]
pub(crate) fn exponentials<F: Real>(x: &mut [F], top: F) -> F {
    let mut lanes = [F::ZERO; LANES];
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = (*x - top).exponential();
            *lane += *x;
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *x = (*x - top).exponential();
        *lane += *x;
    }
    halve(lanes)
}

/// Replaces x by e^(x - top), for `top` the largest; gives `top` and the sum, which is taken in
/// double precision. Of nothing, the lowest number and 0.
pub fn exponentiate<F: Real>(x: &mut [F]) -> (F, f64) {
    vectorised(
        #[inline(always)]
        || {
            let top = largest(x);
            let mut lanes = [0.0_f64; LANES];
            let (chunks, rest) = x.as_chunks_mut::<LANES>();
            for chunk in chunks {
                for x in chunk.iter_mut() {
                    *x = (*x - top).exponential();
                }
                for (lane, x) in lanes.iter_mut().zip(chunk) {
                    *lane += x.to_f64();
                }
            }
            for (lane, x) in lanes.iter_mut().zip(rest) {
                *x = (*x - top).exponential();
                *lane += x.to_f64();
            }
            (top, halve(lanes))
        },
    )
}

/// Adds lanes pairwise: as accurate as it gets, and in a fixed order.
#[inline(always)]
fn halve<F: Real>(lanes: [F; LANES]) -> F {
    // Keeps the compiler from cutting the lanes of the loop before into the pieces of this one.
    let mut lanes = std::hint::black_box(lanes);
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for k in 0..width {
            let upper = lanes[k + width];
            lanes[k] += upper;
        }
    }
    lanes[0]
}

/// `y += a * x`.
#[inline(always)]
pub(crate) fn add_scaled<F: Real>(y: &mut [F], a: F, x: &[F]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x.fma(a, *y);
    }
}

/// `y += x`, in parallel.
pub(crate) fn add_to<F: Real>(y: &mut [F], x: &[F]) {
    const BLOCK: usize = 1 << 15;
    y.par_chunks_mut(BLOCK)
        .zip(x.par_chunks(BLOCK))
        .for_each(|(y, x)| {
            vectorised(
                #[inline(always)]
                || {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y += x;
                    }
                },
            );
        });
}

/// Sum of squares in double precision, in fixed order.
pub(crate) fn squared_norm<F: Real>(x: &[F]) -> f64 {
    const BLOCK: usize = 1 << 14;
    let parts: Vec<f64> = x
        .par_chunks(BLOCK)
        .map(|block| {
            vectorised(
                #[inline(always)]
                || {
                    let mut lanes = [0.0_f64; LANES];
                    for chunk in block.chunks(LANES) {
                        for (lane, &x) in lanes.iter_mut().zip(chunk) {
                            let x = x.to_f64();
                            *lane = x.mul_add(x, *lane);
                        }
                    }
                    halve(lanes)
                },
            )
        })
        .collect();
    parts.iter().sum()
}

/// `out += left' right` over rows: [columns of left, columns of right]. Cut into blocks of rows
/// whose sums are added in order; `scratch` gives and takes buffers.
pub(crate) fn add_product_over_rows<F: Real>(
    left: &[F],
    left_columns: usize,
    right: &[F],
    right_columns: usize,
    rows: usize,
    out: &mut [F],
) {
    let blocks = sum_blocks(rows);
    let size = left_columns * right_columns;
    let product = |block: &Range<usize>, out: &mut [F], accumulate: bool| {
        let n = block.len();
        let left = &left[block.start * left_columns..block.end * left_columns];
        let right = &right[block.start * right_columns..block.end * right_columns];
        multiply(
            Matrix::new(left, n, left_columns).transposed(),
            Matrix::new(right, n, right_columns),
            out,
            right_columns,
            accumulate,
            F::ONE,
        );
    };
    if let [block] = blocks.as_slice() {
        product(block, out, true);
        return;
    }
    let parts: Vec<Vec<F>> = blocks
        .par_iter()
        .map(|block| {
            let mut part = vec![F::ZERO; size];
            product(block, &mut part, false);
            part
        })
        .collect();
    add_in_order(out, &parts);
}

/// Adds partial sums to `out` in order, in parallel over elements.
pub(crate) fn add_in_order<F: Real>(out: &mut [F], parts: &[Vec<F>]) {
    const BLOCK: usize = 1 << 12;
    out.par_chunks_mut(BLOCK).enumerate().for_each(|(k, out)| {
        vectorised(
            #[inline(always)]
            || {
                let [first, others @ ..] = parts else {
                    return;
                };
                let range = k * BLOCK..k * BLOCK + out.len();
                let mut sum = [F::ZERO; BLOCK];
                let sum = &mut sum[..out.len()];
                sum.copy_from_slice(&first[range.clone()]);
                for part in others {
                    for (sum, &x) in sum.iter_mut().zip(&part[range.clone()]) {
                        *sum += x;
                    }
                }
                for (out, &x) in out.iter_mut().zip(&*sum) {
                    *out += x;
                }
            },
        );
    });
}

/// `out += ` the sum of the rows of `x`, in fixed order.
pub(crate) fn add_column_sums<F: Real>(x: &[F], columns: usize, out: &mut [F]) {
    if columns == 0 {
        return;
    }
    let blocks = sum_blocks(x.len() / columns);
    let parts: Vec<Vec<F>> = blocks
        .par_iter()
        .map(|block| {
            vectorised(
                #[inline(always)]
                || {
                    let mut sum = vec![F::ZERO; columns];
                    for row in x[block.start * columns..block.end * columns].chunks_exact(columns) {
                        for (sum, &x) in sum.iter_mut().zip(row) {
                            *sum += x;
                        }
                    }
                    sum
                },
            )
        })
        .collect();
    add_in_order(out, &parts);
}

/// Cuts a matrix into the given consecutive blocks of rows.
pub(crate) fn split_rows<'a, F>(
    mut x: &'a mut [F],
    blocks: &[Range<usize>],
    columns: usize,
) -> Vec<&'a mut [F]> {
    blocks
        .iter()
        .map(|block| {
            let (head, tail) = std::mem::take(&mut x).split_at_mut(block.len() * columns);
            x = tail;
            head
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_and_their_sum_are_those_of_double_precision() {
        for n in [0, 1, 31, 32, 33, 1000] {
            let x: Vec<f32> = (0..n)
                .map(|k| ((k * 37) % 101) as f32 * 0.3 - 12.0)
                .collect();
            let mut found = x.clone();
            let (top, sum) = exponentiate(&mut found);
            let largest = x.iter().copied().fold(f32::LOWEST, f32::max);
            assert_eq!(top.to_bits(), largest.to_bits());
            let exact = |x: f32| libm::exp(f64::from(x) - f64::from(largest));
            let expected: f64 = x.iter().map(|&x| exact(x)).sum();
            assert!((sum - expected).abs() <= 1e-6 * expected);
            for (&x, &y) in x.iter().zip(&found) {
                // Two units in the last place, and the rounding of the difference.
                let bound = 3e-7 + 6e-8 * f64::from(largest - x);
                assert!((f64::from(y) - exact(x)).abs() <= bound * exact(x));
            }
        }
    }
}
