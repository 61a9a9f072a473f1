//! Conjugate gradients for the rows of iALS: a few steps instead of an exact solution.
//!
//! A row's system is D + sum over its cells of w y y', D being diagonal, which is also what it is
//! preconditioned by: without cells one step would be exact, and with m cells m + 1 steps are. A row
//! of up to three cells per step is solved exactly: that is less work.
//!
//! # Paper
//! Takács, Pilászy, Tikk, "Applications of the conjugate gradient method for implicit feedback
//! collaborative filtering", ACM Conference on Recommender Systems 2011, algorithm 1. There nothing
//! is turned, so each step costs dimensions^2 for what all rows share; here that part is diagonal and costs nothing.

use tensors::dense::{add_scaled, dot, kernels};

/// Memory that one thread uses again for each row.
#[derive(Default)]
pub(super) struct Directions {
    residual: Vec<f64>,
    direction: Vec<f64>,
    /// The system times the direction.
    image: Vec<f64>,
}

kernels! {
    /// Improves `x` by some steps. The system is `diagonal` + the sum of w y y' over the cells, the
    /// right side the sum of w y, with y the rows `columns` of `others`.
    pub(super) fn improve<'a>(
        x: &'a mut [f64],
        others: &'a [f64],
        columns: &'a [u32],
        weights: &'a [f64],
        diagonal: &'a [f64],
        steps: u32,
        directions: &'a mut Directions,
    ) -> () {
        // What is left of a residual that rounding alone made.
        const NOTHING: f64 = 1e-30;
        let d = x.len();
        let Directions { residual, direction, image } = directions;
        let cells = || {
            let row = |&column: &u32| &others[column as usize * d..(column as usize + 1) * d];
            columns.iter().map(row).zip(weights)
        };
        residual.clear();
        residual.extend(x.iter().zip(diagonal).map(|(x, scale)| -scale * x));
        for (y, weight) in cells() {
            add_scaled(residual, weight * (1.0 - dot(x, y)), y);
        }
        direction.clear();
        direction.extend(residual.iter().zip(diagonal).map(|(r, scale)| r / scale));
        let mut length = dot(residual, direction);
        let least = NOTHING * length;
        for _ in 0..steps {
            // Not the other way round: what is no number must reach `x`, where it is noticed.
            if length <= least {
                break;
            }
            image.clear();
            image.extend(direction.iter().zip(diagonal).map(|(p, scale)| scale * p));
            for (y, weight) in cells() {
                add_scaled(image, weight * dot(direction, y), y);
            }
            let step = length / dot(direction, image);
            add_scaled(x, step, direction);
            add_scaled(residual, -step, image);
            let mut next = 0.0;
            for (r, scale) in residual.iter().zip(diagonal) {
                next += r * (r / scale);
            }
            let share = next / length;
            for ((p, r), scale) in direction.iter_mut().zip(&*residual).zip(diagonal) {
                *p = share.mul_add(*p, r / scale);
            }
            length = next;
        }
    }
}
