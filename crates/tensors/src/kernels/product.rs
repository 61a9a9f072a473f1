//! Matrix products: the one place that calls `gemm`.
//!
//! Every product runs on the thread that asks for it; what runs in parallel are fixed blocks of
//! rows. `gemm` cuts long sums by the size of the machine's caches, from 512 terms on, so longer
//! ones are cut into 512 here: the order of a sum then depends on nothing but its length.

use super::Real;
use crate::require::require;

/// The longest sum that `gemm` never cuts.
const DEPTH: usize = 512;

/// A matrix somewhere in a slice.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, F> {
    data: &'a [F],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, F: Real> Matrix<'a, F> {
    /// Row after row.
    pub fn new(data: &'a [F], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows that start every `row_stride` numbers.
    pub fn strided(data: &'a [F], rows: usize, columns: usize, row_stride: usize) -> Self {
        require(fits(data.len(), rows, columns, row_stride), || {
            format!("a slice of {} holds no {rows} x {columns}", data.len())
        });
        Self {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// The same numbers, mirrored.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// Some columns.
    fn columns(self, from: usize, to: usize) -> Self {
        Self {
            data: &self.data[(from * self.column_stride).min(self.data.len())..],
            columns: to - from,
            ..self
        }
    }

    /// Some rows.
    fn rows(self, from: usize, to: usize) -> Self {
        self.transposed().columns(from, to).transposed()
    }
}

/// Whether a matrix lies within a slice.
fn fits(length: usize, rows: usize, columns: usize, row_stride: usize) -> bool {
    rows == 0
        || columns == 0
        || ((rows - 1)
            .checked_mul(row_stride)
            .and_then(|start| start.checked_add(columns))
            .is_some_and(|end| end <= length)
            && (rows == 1 || columns <= row_stride))
}

/// `out = scale * a b`, or `out += scale * a b`; `out` is [rows of a, columns of b] with rows that
/// start every `out_stride` numbers.
pub fn multiply<F: Real>(
    a: Matrix<'_, F>,
    b: Matrix<'_, F>,
    out: &mut [F],
    out_stride: usize,
    accumulate: bool,
    scale: F,
) {
    let (m, n) = (a.rows, b.columns);
    require(a.columns == b.rows, || {
        format!("product of {m} x {} and {} x {n}", a.columns, b.rows)
    });
    require(fits(out.len(), m, n, out_stride), || {
        format!("a slice of {} holds no {m} x {n}", out.len())
    });
    if m == 0 || n == 0 {
        return;
    }
    if a.columns == 0 {
        if !accumulate {
            for row in out.chunks_mut(out_stride.max(1)).take(m) {
                row[..n].fill(F::ZERO);
            }
        }
        return;
    }
    let mut from = 0;
    while from < a.columns {
        let to = (from + DEPTH).min(a.columns);
        gemm_checked(
            a.columns(from, to),
            b.rows(from, to),
            out,
            out_stride,
            accumulate || from > 0,
            scale,
        );
        from = to;
    }
}

/// Calls `gemm`; sizes have been checked.
#[expect(
    unsafe_code,
    clippy::cast_possible_wrap,
    reason = "gemm takes pointers; slices are below isize::MAX"
)]
fn gemm_checked<F: Real>(
    a: Matrix<'_, F>,
    b: Matrix<'_, F>,
    out: &mut [F],
    out_stride: usize,
    accumulate: bool,
    scale: F,
) {
    // SAFETY: `Matrix::strided` has checked that the last element of each operand lies within its
    // slice, `columns` and `rows` move the start by whole rows or columns of it, `multiply` has
    // checked `out` in the same way, and `out` is borrowed mutably, so nothing overlaps it. The
    // type is f32 or f64, which `gemm` supports.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            F::ONE,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f64> {
        (0..n as u32)
            .map(|index| f64::from((index.wrapping_add(seed)).wrapping_mul(2_654_435_761) >> 8))
            .map(|x| x / 8_388_608.0 - 1.0)
            .collect()
    }

    #[test]
    fn products_of_all_layouts_are_those_of_the_definition() {
        for (m, k, n) in [
            (1, 1, 1),
            (3, 5, 2),
            (7, 1300, 4),
            (1, 9, 17),
            (20, 3, 1),
            (5, 0, 3),
        ] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 9));
            let stride = n + 2;
            let exact = |row: usize, column: usize| -> f64 {
                (0..k).map(|at| a[row * k + at] * b[at * n + column]).sum()
            };
            let a_mirrored: Vec<f64> = (0..k * m).map(|at| a[(at % m) * k + at / m]).collect();
            let b_mirrored: Vec<f64> = (0..k * n).map(|at| b[(at % k) * n + at / k]).collect();
            let a_all = [
                Matrix::new(&a, m, k),
                Matrix::new(&a_mirrored, k, m).transposed(),
            ];
            let b_all = [
                Matrix::new(&b, k, n),
                Matrix::new(&b_mirrored, n, k).transposed(),
            ];
            for (a, b) in a_all.into_iter().flat_map(|a| b_all.map(|b| (a, b))) {
                let mut out = vec![1.0; m * stride];
                multiply(a, b, &mut out, stride, true, 0.5);
                for row in 0..m {
                    for column in 0..n {
                        let wanted = 1.0 + 0.5 * exact(row, column);
                        assert!((out[row * stride + column] - wanted).abs() < 1e-10);
                    }
                    // What lies between the rows is not touched.
                    assert!((out[row * stride + n] - 1.0).abs() < 1e-15);
                }
            }
        }
    }
}
