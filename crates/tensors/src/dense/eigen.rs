//! Eigenvectors of a symmetric matrix.
//!
//! # Paper
//! Householder reduction to tridiagonal form, then QL with implicit shifts: Martin, Reinsch,
//! Wilkinson, Numerische Mathematik 11, 1968 (`tred2`), and Bowdler, Martin, Reinsch, Wilkinson,
//! same volume (`tql2`).

/// Rounds of QL for one eigenvalue; two or three are usual.
const MOST_ROUNDS: usize = 60;

/// Eigenvalues, in no order, and their eigenvectors.
pub struct Eigen {
    /// `[n]`.
    pub values: Vec<f64>,
    /// `[n, n]`; row k is the vector of value k, of length 1.
    pub vectors: Vec<f64>,
}

/// Eigenvalues and eigenvectors of a symmetric matrix `[n, n]`, both to within rounding of the largest
/// entry: smaller eigenvalues may come out as 0 or slightly below.
pub fn symmetric(mut matrix: Vec<f64>, n: usize) -> Eigen {
    // Entries of about 1, so that no square overflows or vanishes.
    let largest = matrix.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    let scale = if largest > 0.0 { largest } else { 1.0 };
    for x in &mut matrix {
        *x /= scale;
    }
    let mut state = State {
        n,
        vectors: matrix,
        d: vec![0.0; n],
        e: vec![0.0; n],
    };
    if n > 0 {
        decompose(&mut state);
    }
    Eigen {
        values: state.d.iter().map(|value| value * scale).collect(),
        vectors: state.vectors,
    }
}

kernels! {
    /// Turns the matrix in `vectors` into its eigenvectors, and `d` into its eigenvalues.
    fn decompose<'a>(state: &'a mut State) -> () {
        state.tridiagonalise();
        state.accumulate();
        state.diagonalise();
    }
}

/// Diagonal `d` and what lies beside it, `e`. `vectors` is the transpose of what the papers call z,
/// so that all inner loops run along rows.
struct State {
    n: usize,
    vectors: Vec<f64>,
    d: Vec<f64>,
    e: Vec<f64>,
}

impl State {
    /// Column j of z, rows `from..to`.
    #[inline(always)]
    fn column(&self, j: usize, from: usize, to: usize) -> &[f64] {
        &self.vectors[j * self.n + from..j * self.n + to]
    }

    #[inline(always)]
    fn at(&mut self, row: usize, column: usize) -> &mut f64 {
        &mut self.vectors[column * self.n + row]
    }

    #[inline(always)]
    fn tridiagonalise(&mut self) {
        let n = self.n;
        for j in 0..n {
            self.d[j] = *self.at(n - 1, j);
        }
        for i in (1..n).rev() {
            let scale: f64 = self.d[..i].iter().map(|x| x.abs()).sum();
            let mut h = 0.0;
            if scale <= 0.0 {
                self.e[i] = self.d[i - 1];
                for j in 0..i {
                    self.d[j] = *self.at(i - 1, j);
                    *self.at(i, j) = 0.0;
                    *self.at(j, i) = 0.0;
                }
            } else {
                for x in &mut self.d[..i] {
                    *x /= scale;
                    h += *x * *x;
                }
                let f = self.d[i - 1];
                let g = if f > 0.0 { -h.sqrt() } else { h.sqrt() };
                self.e[i] = scale * g;
                h -= f * g;
                self.d[i - 1] = f - g;
                self.e[..i].fill(0.0);
                self.reflect(i, h);
            }
            self.d[i] = h;
        }
    }

    /// Applies the reflection whose vector stands in `d[..i]` from both sides.
    #[inline(always)]
    fn reflect(&mut self, i: usize, h: f64) {
        for j in 0..i {
            let f = self.d[j];
            *self.at(j, i) = f;
            let mut g = self.e[j] + *self.at(j, j) * f;
            let column = &self.vectors[j * self.n + j + 1..j * self.n + i];
            for ((x, d), e) in column
                .iter()
                .zip(&self.d[j + 1..i])
                .zip(&mut self.e[j + 1..i])
            {
                g += x * d;
                *e += x * f;
            }
            self.e[j] = g;
        }
        let mut f = 0.0;
        for (e, d) in self.e[..i].iter_mut().zip(&self.d[..i]) {
            *e /= h;
            f += *e * d;
        }
        let half = f / (h + h);
        for (e, d) in self.e[..i].iter_mut().zip(&self.d[..i]) {
            *e -= half * d;
        }
        for j in 0..i {
            let (f, g) = (self.d[j], self.e[j]);
            let column = &mut self.vectors[j * self.n + j..j * self.n + i];
            for ((x, e), d) in column.iter_mut().zip(&self.e[j..i]).zip(&self.d[j..i]) {
                *x -= f * e + g * d;
            }
            self.d[j] = *self.at(i - 1, j);
            *self.at(i, j) = 0.0;
        }
    }

    /// Multiplies the reflections out.
    #[inline(always)]
    fn accumulate(&mut self) {
        let n = self.n;
        for i in 0..n - 1 {
            *self.at(n - 1, i) = *self.at(i, i);
            *self.at(i, i) = 1.0;
            let h = self.d[i + 1];
            if h.abs() > 0.0 {
                for k in 0..=i {
                    self.d[k] = *self.at(k, i + 1) / h;
                }
                let next = self.column(i + 1, 0, i + 1).to_vec();
                for j in 0..=i {
                    let column = &mut self.vectors[j * n..=j * n + i];
                    let g = super::dot(&next, column);
                    super::add_scaled(column, -g, &self.d[..=i]);
                }
            }
            for k in 0..=i {
                *self.at(k, i + 1) = 0.0;
            }
        }
        for j in 0..n {
            self.d[j] = *self.at(n - 1, j);
            *self.at(n - 1, j) = 0.0;
        }
        *self.at(n - 1, n - 1) = 1.0;
        self.e[0] = 0.0;
    }

    #[inline(always)]
    fn diagonalise(&mut self) {
        let n = self.n;
        self.e.rotate_left(1);
        self.e[n - 1] = 0.0;
        let mut shift = 0.0;
        // Of the whole matrix, not of the rows so far as in the paper: what vanishes beside the
        // largest entry is noise here, and its ratios overflow.
        let sums = self.d.iter().zip(&self.e).map(|(d, e)| d.abs() + e.abs());
        let small = f64::EPSILON * sums.fold(0.0, f64::max);
        for l in 0..n {
            // The last entry of `e` is 0, so there is one.
            let m = (l..n).find(|&m| self.e[m].abs() <= small).unwrap_or(l);
            if m > l {
                for _ in 0..MOST_ROUNDS {
                    shift += self.round(l, m);
                    if self.e[l].abs() <= small {
                        break;
                    }
                }
            }
            self.d[l] += shift;
            self.e[l] = 0.0;
        }
    }

    /// One round of QL on rows `l..=m`; returns by how much the diagonal was shifted.
    #[inline(always)]
    fn round(&mut self, l: usize, m: usize) -> f64 {
        let n = self.n;
        let (d, e) = (&mut self.d, &mut self.e);
        let first = d[l];
        let p = (d[l + 1] - first) / (2.0 * e[l]);
        let root = (p * p + 1.0).sqrt();
        let r = if p < 0.0 { -root } else { root };
        d[l] = e[l] / (p + r);
        d[l + 1] = e[l] * (p + r);
        let after = d[l + 1];
        let shift = first - d[l];
        for x in &mut d[l + 2..] {
            *x -= shift;
        }
        let mut p = d[m];
        let (mut c, mut c2, mut c3) = (1.0, 1.0, 1.0);
        let (mut s, mut s2) = (0.0, 0.0);
        let beside = e[l + 1];
        for i in (l..m).rev() {
            (c3, c2, s2) = (c2, c, s);
            let g = c * e[i];
            let h = c * p;
            let r = (p * p + e[i] * e[i]).sqrt();
            e[i + 1] = s * r;
            (s, c) = (e[i] / r, p / r);
            p = c * d[i] - s * g;
            d[i + 1] = h + s * (c * g + s * d[i]);
            let (left, right) = self.vectors[i * n..(i + 2) * n].split_at_mut(n);
            for (x, y) in left.iter_mut().zip(right) {
                let h = *y;
                *y = s * *x + c * h;
                *x = c * *x - s * h;
            }
        }
        p = -s * s2 * c3 * beside * e[l] / after;
        e[l] = s * p;
        d[l] = c * p;
        shift
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::dot;

    fn check(matrix: &[f64], n: usize) {
        let Eigen { values, vectors } = symmetric(matrix.to_vec(), n);
        let largest = values.iter().fold(1.0_f64, |a, b| a.max(b.abs()));
        for (k, vector) in vectors.chunks(n).enumerate() {
            for (row, x) in matrix.chunks(n).zip(vector) {
                let error = dot(row, vector) - values[k] * x;
                assert!(error.abs() < 1e-13 * largest * n as f64, "{error}");
            }
            for (other, second) in vectors.chunks(n).enumerate() {
                let expected = f64::from(u8::from(k == other));
                assert!((dot(vector, second) - expected).abs() < 1e-13 * n as f64);
            }
        }
    }

    #[test]
    fn vectors_are_orthonormal_and_turn_the_matrix_into_its_values() {
        for n in [1, 2, 3, 8, 33, 64] {
            let entry = |i: usize, j: usize| ((i * j + i + j) % 7) as f64 - 3.0;
            let matrix: Vec<f64> = (0..n * n).map(|at| entry(at / n, at % n)).collect();
            check(&matrix, n);
        }
    }

    #[test]
    fn diagonal_singular_and_zero_matrices_have_vectors_too() {
        check(&[0.0; 25], 5);
        check(&[2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, -1.0], 3);
        // Of rank 1.
        check(&[1.0; 36], 6);
        // Graded over six hundred orders of magnitude, and beyond what squares can hold.
        for powers in [-300..4, 100..104, -310..-306] {
            let scale: Vec<f64> = powers.map(|power| 10_f64.powi(power)).collect();
            let n = scale.len();
            let entry = |at: usize| scale[at / n].sqrt() * scale[at % n].sqrt();
            let matrix: Vec<f64> = (0..n * n).map(entry).collect();
            let Eigen { values, vectors } = symmetric(matrix, n);
            let trace: f64 = scale.iter().sum();
            let largest = values.iter().fold(0.0, |a: f64, b| a.max(*b));
            assert!((largest / trace - 1.0).abs() < 1e-12);
            assert!(vectors.iter().all(|x| x.abs() < 1.0 + 1e-12));
        }
    }
}
