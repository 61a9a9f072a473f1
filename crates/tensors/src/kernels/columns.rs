//! Exponentials down the columns of a tall matrix that comes in tiles.
//!
//! A column is one softmax. Its rows come in tiles that fit into a cache, and nobody knows its
//! largest number before the last tile: each tile is taken relative to the largest number so far,
//! and what was summed earlier is scaled when that grows (Milakov and Gimelshein 2018, "Online
//! normalizer calculation for softmax", algorithm 3).

use super::{Real, vectorised};

/// Columns that are worked on together: two registers of sixteen numbers.
const STRIP: usize = 32;
/// Rows that are summed before the sum is added to that of the tile: a long sum of like terms in
/// one number loses digits, one of short sums does not.
const BLOCK: usize = 32;

/// Where each column of a matrix stands after some tiles.
pub(crate) struct Running<'s, F> {
    /// The largest number so far.
    pub(crate) tops: &'s mut [F],
    /// The sum of e^(x - top).
    pub(crate) sums: &'s mut [F],
    /// What sums that were relative to the largest number before the last tile were multiplied by.
    pub(crate) shrinks: &'s mut [F],
}

impl<F: Real> Running<'_, F> {
    /// Before the first tile.
    pub(crate) fn reset(&mut self) {
        self.tops.fill(F::LOWEST);
        self.sums.fill(F::ZERO);
    }

    /// Replaces x by e^(x - top) in the next rows, `top` being the largest number of a column up
    /// to and with them.
    pub(crate) fn exponentiate(&mut self, tile: &mut [F]) {
        let width = self.tops.len();
        vectorised(
            #[inline(always)]
            || {
                for start in (0..width).step_by(STRIP) {
                    // Loops of a known number of columns stay in registers.
                    if start + STRIP <= width {
                        self.strip(tile, start, STRIP);
                    } else {
                        self.strip(tile, start, width - start);
                    }
                }
            },
        );
    }

    #[inline(always)]
    fn strip(&mut self, tile: &mut [F], start: usize, n: usize) {
        let width = self.tops.len();
        let of_strip = start..start + n;
        let mut tops = [F::LOWEST; STRIP];
        tops[..n].copy_from_slice(&self.tops[of_strip.clone()]);
        for row in tile.chunks_exact(width) {
            for (top, &x) in tops[..n].iter_mut().zip(&row[of_strip.clone()]) {
                *top = top.larger(x);
            }
        }
        let tops = std::hint::black_box(tops);
        let mut sums = [F::ZERO; STRIP];
        for block in tile.chunks_mut(width * BLOCK) {
            let mut of_block = [F::ZERO; STRIP];
            for row in block.chunks_exact_mut(width) {
                let row = &mut row[of_strip.clone()];
                for ((x, &top), sum) in row.iter_mut().zip(&tops[..n]).zip(&mut of_block[..n]) {
                    *x = (*x - top).exponential();
                    *sum += *x;
                }
            }
            for (sum, &more) in sums[..n].iter_mut().zip(&of_block[..n]) {
                *sum += more;
            }
        }
        let sums = std::hint::black_box(sums);
        for (at, column) in of_strip.enumerate() {
            let shrink = (self.tops[column] - tops[at]).exponential();
            self.tops[column] = tops[at];
            self.sums[column] = self.sums[column].fma(shrink, sums[at]);
            self.shrinks[column] = shrink;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_give_what_whole_columns_give() {
        for (rows, width, tile) in [(1, 1, 1), (7, 3, 2), (100, 32, 33), (300, 45, 128)] {
            // The largest number of some columns comes first, of others last, of most between.
            let entry = |row: usize, column: usize| -> f32 {
                let noise = ((row * 37 + column * 101) % 97) as f32 * 0.2 - 9.0;
                let slope = (column % 3) as f32 - 1.0;
                noise + slope * row as f32 * 0.3
            };
            let mut x: Vec<f32> = (0..rows * width)
                .map(|at| entry(at / width, at % width))
                .collect();
            let (mut tops, mut sums, mut shrinks) =
                (vec![0.0; width], vec![0.0; width], vec![0.0; width]);
            let mut running = Running {
                tops: &mut tops,
                sums: &mut sums,
                shrinks: &mut shrinks,
            };
            running.reset();
            let mut relative_to = Vec::new();
            for tile in x.chunks_mut(width * tile) {
                running.exponentiate(tile);
                relative_to.push(running.tops.to_vec());
            }
            for column in 0..width {
                let exact: Vec<f64> = (0..rows).map(|row| f64::from(entry(row, column))).collect();
                let top = exact.iter().copied().fold(f64::MIN, f64::max);
                assert!((f64::from(tops[column]) - top).abs() < 1e-12);
                let sum: f64 = exact.iter().map(|x| libm::exp(x - top)).sum();
                // Two units in the last place of an exponential, and one for each of at most a
                // dozen additions that a term takes part in beyond its block of 32.
                assert!((f64::from(sums[column]) - sum).abs() < 3e-6 * sum);
                for (row, exact) in exact.iter().enumerate() {
                    let then = f64::from(relative_to[row / tile][column]);
                    let wanted = libm::exp(exact - then);
                    let bound = 3e-7 + 6e-8 * (then - exact);
                    let found = f64::from(x[row * width + column]);
                    // Below e^-87 there is nothing.
                    assert!((found - wanted).abs() <= bound * wanted + 1e-37);
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        let mut x = [1.0_f32, f32::NAN, 2.0];
        let (mut tops, mut sums, mut shrinks) = ([0.0], [0.0], [0.0]);
        let mut running = Running {
            tops: &mut tops,
            sums: &mut sums,
            shrinks: &mut shrinks,
        };
        running.reset();
        running.exponentiate(&mut x);
        assert!(sums[0].is_nan());
    }
}
