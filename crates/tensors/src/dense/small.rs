//! Vectors, and systems of equations that fit into the caches.

use super::Fused;

/// Interleaved sums that a sum of products is cut into.
const LANES: usize = 16;

/// Sum of products of two vectors of one length.
#[inline(always)]
pub fn dot<F: Fused>(x: &[F], y: &[F]) -> F {
    let mut lanes = [F::default(); LANES];
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let (y_chunks, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in x_chunks.iter().zip(y_chunks) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane = x.fused(y, *lane);
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane = x.fused(y, *lane);
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for at in 0..width {
            let upper = lanes[at + width];
            lanes[at] += upper;
        }
    }
    lanes[0]
}

/// `y += a x`.
#[inline(always)]
pub fn add_scaled<F: Fused>(y: &mut [F], a: F, x: &[F]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = a.fused(x, *y);
    }
}

/// Replaces the lower triangle of a symmetric matrix `[n, n]` by its Cholesky factor; `false` if the
/// matrix is not positive definite. The upper triangle is not looked at.
#[inline(always)]
pub fn cholesky(matrix: &mut [f64], n: usize) -> bool {
    for i in 0..n {
        let (above, row) = matrix.split_at_mut(i * n);
        for j in 0..i {
            let other = &above[j * n..=j * n + j];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let rest = row[i] - dot(&row[..i], &row[..i]);
        if !(rest > 0.0 && rest.is_finite()) {
            return false;
        }
        row[i] = rest.sqrt();
    }
    true
}

/// Solves L L' x = b in place, with L the lower triangle of a matrix `[n, n]`.
#[inline(always)]
pub fn solve(factor: &[f64], n: usize, b: &mut [f64]) {
    for i in 0..n {
        let row = &factor[i * n..=i * n + i];
        b[i] = (b[i] - dot(&row[..i], &b[..i])) / row[i];
    }
    for i in (0..n).rev() {
        let row = &factor[i * n..=i * n + i];
        let x = b[i] / row[i];
        b[i] = x;
        add_scaled(&mut b[..i], -x, &row[..i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved() {
        for n in [1, 2, 17, 40] {
            // A diagonally dominant matrix, and the x that should come out.
            let entry = |i: usize, j: usize| {
                let between = 1.0 / (1.0 + (i + j) as f64);
                if i == j { n as f64 + between } else { between }
            };
            let mut matrix: Vec<f64> = (0..n * n).map(|at| entry(at / n, at % n)).collect();
            let expected: Vec<f64> = (0..n).map(|i| (i as f64 - 3.0) / 7.0).collect();
            let mut x: Vec<f64> = (0..n)
                .map(|i| (0..n).map(|j| entry(i, j) * expected[j]).sum())
                .collect();
            assert!(cholesky(&mut matrix, n));
            solve(&matrix, n, &mut x);
            for (x, expected) in x.iter().zip(&expected) {
                assert!((x - expected).abs() < 1e-13);
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        assert!(!cholesky(&mut [1.0, 0.0, 2.0, 1.0], 2));
        assert!(!cholesky(&mut [f64::NAN], 1));
    }

    #[test]
    fn products_are_exact_where_they_can_be() {
        for n in 1..70_u8 {
            let x: Vec<f64> = (0..n).map(f64::from).collect();
            let expected = x.iter().map(|x| x * x).sum::<f64>();
            // Sums of small integers are exact in any order.
            assert_eq!(dot(&x, &x).to_bits(), expected.to_bits());
        }
    }
}
