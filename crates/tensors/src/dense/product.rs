//! Products of rows with rows, held in registers block by block.
//!
//! Entry (i, j) of such a product is one sum over the depth, in order, whatever stands beside it: a
//! row gives the same bits wherever it lies.

use rayon::prelude::*;

/// Rows of one factor whose products are held in registers.
pub(super) const TALL: usize = 4;

/// Rows of the other.
pub(super) const WIDE: usize = 16;

/// Rows that one task multiplies.
const STRIP: usize = 64;

/// What becomes of a product.
#[derive(Clone, Copy, Debug)]
pub(super) enum Into {
    Put,
    Add,
    Subtract,
}

/// Rows in groups of `N`, each group column by column, the last one filled up with zeros.
pub(super) fn pack<const N: usize>(rows: &[f64], depth: usize) -> Vec<f64> {
    let n = rows.len() / depth.max(1);
    let mut packed = vec![0.0; n.div_ceil(N) * N * depth];
    packed
        .par_chunks_mut((N * depth).max(1))
        .zip(rows.par_chunks((N * depth).max(1)))
        .for_each(|(packed, rows)| {
            for (lane, row) in rows.chunks_exact(depth).enumerate() {
                for (x, group) in row.iter().zip(packed.chunks_exact_mut(N)) {
                    group[lane] = *x;
                }
            }
        });
    packed
}

/// The same for the columns of `rows`, whose rows are `columns` long.
pub(super) fn pack_columns<const N: usize>(rows: &[f64], columns: usize) -> Vec<f64> {
    let depth = rows.len() / columns.max(1);
    let mut packed = vec![0.0; columns.div_ceil(N) * N * depth];
    packed
        .par_chunks_mut((N * depth).max(1))
        .enumerate()
        .for_each(|(group, packed)| {
            let first = group * N;
            let last = (first + N).min(columns);
            for (row, out) in rows.chunks_exact(columns).zip(packed.chunks_exact_mut(N)) {
                out[..last - first].copy_from_slice(&row[first..last]);
            }
        });
    packed
}

/// Products of `TALL` rows with `WIDE` rows.
#[inline(always)]
fn products(tall: &[f64], wide: &[f64]) -> [[f64; WIDE]; TALL] {
    let mut sums = [[0.0; WIDE]; TALL];
    let (tall, _) = tall.as_chunks::<TALL>();
    let (wide, _) = wide.as_chunks::<WIDE>();
    for (a, b) in tall.iter().zip(wide) {
        for (sums, a) in sums.iter_mut().zip(a) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = a.mul_add(*b, *sum);
            }
        }
    }
    sums
}

kernels! {
    /// The products of packed rows `tall` with the first `n_wide` groups of packed rows `wide`, put into,
    /// added to or subtracted from `out`, whose rows are `width` long.
    pub(super) fn multiply<'a>(
        tall: &'a [f64],
        wide: &'a [f64],
        depth: usize,
        n_wide: usize,
        out: &'a mut [f64],
        width: usize,
        into: Into,
    ) -> () {
        for (group, wide) in wide.chunks_exact(WIDE * depth).take(n_wide).enumerate() {
            let first = group * WIDE;
            for (rows, tall) in tall.chunks_exact(TALL * depth).enumerate() {
                let sums = products(tall, wide);
                for (row, sums) in sums.iter().enumerate() {
                    let start = (rows * TALL + row) * width;
                    // Groups are filled up with zeros beyond the last row and column.
                    let Some(row) = out.get_mut(start + first..start + width) else {
                        continue;
                    };
                    let pairs = row.iter_mut().zip(sums);
                    match into {
                        Into::Put => pairs.for_each(|(out, sum)| *out = *sum),
                        Into::Add => pairs.for_each(|(out, sum)| *out += sum),
                        Into::Subtract => pairs.for_each(|(out, sum)| *out -= sum),
                    }
                }
            }
        }
    }
}

/// A matrix that many rows are multiplied by, rearranged once.
#[derive(Clone, Debug)]
pub struct Packed {
    groups: Vec<f64>,
    n_rows: usize,
    depth: usize,
}

impl Packed {
    /// Rearranges rows of length `depth`. What is left over beyond the last whole row does not count.
    pub fn new(rows: &[f64], depth: usize) -> Self {
        let n_rows = rows.len().checked_div(depth).unwrap_or(0);
        Self {
            groups: pack::<WIDE>(&rows[..n_rows * depth], depth),
            n_rows,
            depth,
        }
    }

    /// The product of each of these rows, of length `depth`, with each row of the matrix: `[rows, rows
    /// of the matrix]`.
    pub fn multiply(&self, rows: &[f64]) -> Vec<f64> {
        let Self { n_rows, depth, .. } = *self;
        let n = rows.len().checked_div(depth).unwrap_or(0);
        let mut out = vec![0.0; n * n_rows];
        if out.is_empty() {
            return out;
        }
        let tall = pack::<TALL>(&rows[..n * depth], depth);
        out.par_chunks_mut(STRIP * n_rows)
            .zip(tall.par_chunks(STRIP * depth))
            .for_each(|(out, tall)| {
                multiply(
                    tall,
                    &self.groups,
                    depth,
                    usize::MAX,
                    out,
                    n_rows,
                    Into::Put,
                );
            });
        out
    }
}

/// Adds the product of the transposed matrix with itself to the lower triangle of `out`.
pub(super) fn add_columns(out: &mut [f64], rows: &[f64], columns: usize) {
    let depth = rows.len().checked_div(columns).unwrap_or(0);
    if depth == 0 {
        return;
    }
    let tall = pack_columns::<TALL>(rows, columns);
    let wide = pack_columns::<WIDE>(rows, columns);
    out.par_chunks_mut(STRIP * columns)
        .zip(tall.par_chunks(STRIP * depth))
        .enumerate()
        .for_each(|(strip, (out, tall))| {
            // Columns up to the last row of the strip.
            let n_wide = ((strip + 1) * STRIP).div_ceil(WIDE);
            multiply(tall, &wide, depth, n_wide, out, columns, Into::Add);
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
        for (n, m, depth) in [(1, 1, 1), (3, 2, 5), (70, 17, 33), (5, 100, 4), (0, 3, 2)] {
            let (rows, matrix) = (numbers(n * depth), numbers(m * depth));
            let found = Packed::new(&matrix, depth).multiply(&rows);
            let wanted: Vec<f64> = (0..n * m)
                .map(|at| {
                    let row = &rows[at / m * depth..][..depth];
                    let other = &matrix[at % m * depth..][..depth];
                    row.iter().zip(other).map(|(a, b)| a * b).sum()
                })
                .collect();
            // Sums of small integers are exact in any order.
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_row_gives_the_same_bits_wherever_it_lies() {
        let depth = 37;
        let row: Vec<f64> = (0..depth).map(|k| 1.0 / (k as f64 + 0.7)).collect();
        let matrix: Vec<f64> = (0..19 * depth).map(|k| 1.0 / (k as f64 + 3.1)).collect();
        let packed = Packed::new(&matrix, depth);
        let alone = packed.multiply(&row);
        for n in [2, 5, 64, 67] {
            let all = packed.multiply(&row.repeat(n));
            assert!(all.chunks(19).all(|found| found == alone));
        }
    }
}
