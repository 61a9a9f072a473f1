//! The objective, its derivatives and its minimum.
//!
//! Sums run over blocks of samples of a fixed size, then over blocks in their order, so that bits do
//! not depend on the number of threads.

use rayon::prelude::*;

use super::features::{BIAS, N, Row};
use tensors::dense::{cholesky, solve};

/// Samples whose sums are taken on one thread.
const BLOCK: usize = 1024;

/// Iterations before giving up. From 0, Newton's method takes about ten.
const MOST_ITERATIONS: u32 = 100;

/// Length of the gradient at which the minimum is found, for weights of samples around 1.
const TOLERANCE: f64 = 1e-10;

/// One number per feature.
pub(super) type Vector = [f64; N];

/// How features are brought to mean 0 and deviation 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scaling {
    pub(super) means: Vector,
    /// 1 / deviation; 0 for a feature that does not vary.
    pub(super) scales: Vector,
}

/// Loss terms: for each a positive row and then its negative rows.
pub(super) struct Terms<'a> {
    pub(super) rows: &'a [Row],
    /// Rows of each term, the positive among them.
    pub(super) per_term: usize,
    /// Weight of each term.
    pub(super) weights: &'a [f64],
    pub(super) scaling: &'a Scaling,
    pub(super) regularisation: f64,
}

/// The objective at a point with its first and second derivatives.
pub(super) struct Point {
    pub(super) value: f64,
    pub(super) gradient: Vector,
    /// `[N, N]`, its lower triangle.
    pub(super) hessian: Vec<f64>,
}

/// The minimum was not reached.
#[derive(Debug)]
pub(super) struct NotConverged {
    pub(super) iterations: u32,
    /// Length of the gradient at the end.
    pub(super) norm: f64,
}

/// 1 / (1 + exp(-x)).
pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + libm::exp(-x))
    } else {
        let e = libm::exp(x);
        e / (1.0 + e)
    }
}

/// ln(1 + exp(x)), what a negative with margin x costs; a positive costs that of -x.
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + libm::log1p(libm::exp(-x.abs()))
}

/// What margins x cost and the derivative of that by x: the first row is the positive.
pub(super) fn cost(place: usize, margin: f64) -> (f64, f64) {
    if place == 0 {
        (softplus(-margin), -sigmoid(-margin))
    } else {
        (softplus(margin), sigmoid(margin))
    }
}

fn norm(x: &Vector) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

impl Scaling {
    /// Means and deviations of rows, all alike: weights of samples do not enter.
    pub(super) fn of(rows: &[Row]) -> Self {
        let sum = |term: &(dyn Fn(usize, f64) -> f64 + Sync)| -> Vector {
            let blocks: Vec<Vector> = rows
                .par_chunks(BLOCK)
                .map(|rows| {
                    let mut sums = [0.0; N];
                    for row in rows {
                        for (k, sum) in sums.iter_mut().enumerate() {
                            *sum += term(k, f64::from(row[k]));
                        }
                    }
                    sums
                })
                .collect();
            let mut sums = [0.0; N];
            for block in blocks {
                for (sum, x) in sums.iter_mut().zip(block) {
                    *sum += x;
                }
            }
            sums
        };
        let n = rows.len().max(1) as f64;
        let mut means = sum(&|_, x| x).map(|sum| sum / n);
        let squares = sum(&|k, x| (x - means[k]) * (x - means[k]));
        let mut scales = squares.map(|square| {
            let deviation = (square / n).sqrt();
            // What varies by rounding alone does not vary.
            if deviation > 1e-9 {
                1.0 / deviation
            } else {
                0.0
            }
        });
        (means[BIAS], scales[BIAS]) = (0.0, 1.0);
        Self { means, scales }
    }

    /// Multiplies standardised features, all but the bias, with numbers from 0 up; 1 changes no bit.
    pub(super) fn weigh(&mut self, weight: impl Fn(usize) -> f64) {
        for (feature, scale) in self.scales.iter_mut().enumerate() {
            if feature != BIAS {
                *scale *= weight(feature);
            }
        }
    }

    /// Standardised features.
    pub(super) fn standardised(&self, row: &Row) -> Vector {
        let mut x = [0.0; N];
        for (k, x) in x.iter_mut().enumerate() {
            *x = (f64::from(row[k]) - self.means[k]) * self.scales[k];
        }
        x
    }

    /// w.x of standardised features.
    pub(super) fn margin(&self, weights: &Vector, row: &Row) -> f64 {
        let x = self.standardised(row);
        weights.iter().zip(x).map(|(w, x)| w * x).sum()
    }
}

impl Terms<'_> {
    /// Sum over the terms of weight times loss, over their number, plus regularisation.
    fn value(&self, at: &Vector) -> f64 {
        let blocks: Vec<f64> = self
            .blocks()
            .map(|(rows, weights)| {
                let mut value = 0.0;
                for (rows, weight) in rows.chunks_exact(self.per_term).zip(weights) {
                    let costs = rows
                        .iter()
                        .enumerate()
                        .map(|(place, row)| cost(place, self.scaling.margin(at, row)).0);
                    value += weight * costs.sum::<f64>();
                }
                value
            })
            .collect();
        blocks.iter().sum::<f64>() / self.n() + self.penalty(at)
    }

    fn n(&self) -> f64 {
        self.weights.len().max(1) as f64
    }

    fn penalty(&self, at: &Vector) -> f64 {
        self.regularisation / 2.0 * at.iter().map(|w| w * w).sum::<f64>()
    }

    fn blocks(&self) -> impl IndexedParallelIterator<Item = (&[Row], &[f64])> {
        self.rows
            .par_chunks(BLOCK * self.per_term)
            .zip(self.weights.par_chunks(BLOCK))
    }

    /// The objective with its derivatives.
    pub(super) fn at(&self, at: &Vector) -> Point {
        let blocks: Vec<Point> = self
            .blocks()
            .map(|(rows, weights)| {
                let mut sums = Point::zero();
                for (rows, weight) in rows.chunks_exact(self.per_term).zip(weights) {
                    for (place, row) in rows.iter().enumerate() {
                        let x = self.scaling.standardised(row);
                        let margin = at.iter().zip(x).map(|(w, x)| w * x).sum();
                        sums.add(place, *weight, margin, &x);
                    }
                }
                sums
            })
            .collect();
        let mut point = Point::zero();
        for block in &blocks {
            point.value += block.value;
            for (sum, x) in point.gradient.iter_mut().zip(block.gradient) {
                *sum += x;
            }
            for (sum, x) in point.hessian.iter_mut().zip(&block.hessian) {
                *sum += x;
            }
        }
        let n = self.n();
        point.value = point.value / n + self.penalty(at);
        for (k, sum) in point.gradient.iter_mut().enumerate() {
            *sum = *sum / n + self.regularisation * at[k];
        }
        for (place, sum) in point.hessian.iter_mut().enumerate() {
            *sum /= n;
            if place % (N + 1) == 0 {
                *sum += self.regularisation;
            }
        }
        point
    }

    /// The unique minimum, by Newton's method with halved steps.
    pub(super) fn minimum(&self) -> Result<Vector, NotConverged> {
        let mut weights = [0.0; N];
        if self.weights.is_empty() {
            return Ok(weights);
        }
        let mean_weight = self.weights.iter().sum::<f64>() / self.n();
        let tolerance = TOLERANCE * mean_weight.max(1.0);
        let mut found = f64::INFINITY;
        for iterations in 0..=MOST_ITERATIONS {
            let mut point = self.at(&weights);
            found = norm(&point.gradient);
            if found < tolerance {
                return Ok(weights);
            }
            let mut step = point.gradient;
            if !(found.is_finite() && cholesky(&mut point.hessian, N)) {
                return Err(NotConverged {
                    iterations,
                    norm: found,
                });
            }
            solve(&point.hessian, N, &mut step);
            let mut length = 1.0;
            // Near the minimum a value may grow by its rounding.
            let most = point.value + 1e-12 * point.value.abs();
            loop {
                let mut next = weights;
                for (w, step) in next.iter_mut().zip(step) {
                    *w -= length * step;
                }
                // A step of this length changes nothing that could be measured.
                if self.value(&next) <= most || length < 1e-9 {
                    weights = next;
                    break;
                }
                length /= 2.0;
            }
        }
        Err(NotConverged {
            iterations: MOST_ITERATIONS,
            norm: found,
        })
    }
}

impl Point {
    fn zero() -> Self {
        Self {
            value: 0.0,
            gradient: [0.0; N],
            hessian: vec![0.0; N * N],
        }
    }

    /// Adds one row of a term.
    fn add(&mut self, place: usize, weight: f64, margin: f64, x: &Vector) {
        let (value, slope) = cost(place, margin);
        self.value += weight * value;
        let curvature = weight * (sigmoid(margin) * sigmoid(-margin));
        for i in 0..N {
            self.gradient[i] += weight * slope * x[i];
            let row = &mut self.hessian[i * N..=i * N + i];
            let scaled = curvature * x[i];
            for (sum, x) in row.iter_mut().zip(x) {
                *sum += scaled * x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_exact_far_out() {
        for (x, expected) in [(0.0, std::f64::consts::LN_2), (800.0, 800.0), (-800.0, 0.0)] {
            // 1e-15: the spacing of doubles around ln 2, several times.
            assert!((softplus(x) - expected).abs() < 1e-15);
        }
        assert!((softplus(-40.0) - libm::exp(-40.0)).abs() < 1e-30);
        assert!((sigmoid(-40.0) / libm::exp(-40.0) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn a_single_feature_has_its_closed_form() {
        // Only the bias varies from 0: one positive and three negatives, weights 2.
        let mut row = [0.0; N];
        row[BIAS] = 1.0;
        let rows = [row; 4];
        let scaling = Scaling::of(&rows);
        let terms = Terms {
            rows: &rows,
            per_term: 4,
            weights: &[2.0],
            scaling: &scaling,
            regularisation: 1e-3,
        };
        let w = terms.minimum().unwrap()[BIAS];
        // 2 (3 sigma(w) - sigma(-w)) + 1e-3 w = 0; at regularisation 0 it is ln(1 / 3).
        let left = 2.0 * (3.0 * sigmoid(w) - sigmoid(-w)) + 1e-3 * w;
        assert!(left.abs() < 2e-10, "{left}");
        assert!((w - libm::log(1.0 / 3.0)).abs() < 1e-3);
    }
}
