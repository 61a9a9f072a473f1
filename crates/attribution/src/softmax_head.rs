//! A linear softmax classifier with an L2 penalty, fitted to its stationary point.
//!
//! minimise `(1/n) Σ −log softmax(Θ f_i)[y_i] + λ |Θ|²`
//!
//! by L-BFGS (Liu and Nocedal 1989) in 64 bits. The objective is strongly convex: there is one minimum,
//! wherever the search starts. Sums over samples are cut into parts that depend on the number of
//! samples alone, and added in order.

use std::collections::VecDeque;

use rayon::prelude::*;
use tensors::{Matrix, exponentiate, multiply};

/// Parts into which samples are cut; each sums its own gradient.
const PARTS: usize = 8;
/// Samples whose probabilities of all classes exist at once on a thread.
const BLOCK: usize = 128;
/// Steps whose curvature is remembered.
const MEMORY: usize = 10;
/// Halvings of one step before the search is given up.
const HALVINGS: usize = 40;

/// What is fitted to.
#[derive(Clone, Debug)]
pub(crate) struct Examples {
    /// Numbers in a row.
    pub(crate) columns: usize,
    /// Rows f, one after the other.
    pub(crate) rows: Vec<f64>,
    /// Class y of each, below `n_classes`.
    pub(crate) classes: Vec<u32>,
    pub(crate) n_classes: usize,
    /// λ, above 0.
    pub(crate) penalty: f64,
}

/// A point of the search.
#[derive(Clone, Debug)]
struct Point {
    weights: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

/// The search ended before the gradient was short enough: how short it became, beside what it was at
/// the start, and after how many steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NotStationary {
    pub(crate) relative: f64,
    pub(crate) steps: usize,
}

impl Examples {
    /// Number of rows.
    pub(crate) fn n(&self) -> usize {
        self.classes.len()
    }

    /// The weights Θ, \[classes, columns\], at which the gradient is at most `tolerance` of that at
    /// Θ = 0. `on_step` hears of each step.
    ///
    /// # Errors
    /// If so many steps do not lead there.
    pub(crate) fn fit(
        &self,
        tolerance: f64,
        most_steps: usize,
        mut on_step: impl FnMut(),
    ) -> Result<Vec<f64>, NotStationary> {
        let mut here = self.at(vec![0.0; self.n_classes * self.columns]);
        let first = norm(&here.gradient);
        let mut memory: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::new();
        for steps in 0..most_steps {
            if norm(&here.gradient) <= tolerance * first {
                return Ok(here.weights);
            }
            let direction = direction(&here.gradient, &memory);
            let Some(next) = self.search(&here, &direction) else {
                let relative = norm(&here.gradient) / first;
                return Err(NotStationary { relative, steps });
            };
            let moved = difference(&next.weights, &here.weights);
            let turned = difference(&next.gradient, &here.gradient);
            if dot(&moved, &turned) > 0.0 {
                memory.push_back((moved, turned));
                if memory.len() > MEMORY {
                    memory.pop_front();
                }
            }
            here = next;
            on_step();
        }
        let relative = norm(&here.gradient) / first;
        if relative <= tolerance || first == 0.0 {
            return Ok(here.weights);
        }
        Err(NotStationary {
            relative,
            steps: most_steps,
        })
    }

    /// A point along a direction that is low enough (Armijo's rule); `None` if there is none.
    fn search(&self, here: &Point, direction: &[f64]) -> Option<Point> {
        let slope = dot(&here.gradient, direction);
        // Values that differ by rounding alone are taken for equal.
        let rounding = 1e-14 * here.value.abs();
        let mut step = 1.0;
        for _ in 0..HALVINGS {
            let pairs = here.weights.iter().zip(direction);
            let next = self.at(pairs.map(|(w, d)| w + step * d).collect());
            if next.value <= here.value + 1e-4 * step * slope + rounding {
                return Some(next);
            }
            step *= 0.5;
        }
        None
    }

    /// Value and gradient at some weights.
    fn at(&self, weights: Vec<f64>) -> Point {
        let part = self.n().div_ceil(PARTS).max(1);
        let ranges: Vec<usize> = (0..self.n()).step_by(part).collect();
        let parts: Vec<(f64, Vec<f64>)> = ranges
            .par_iter()
            .map(|&start| {
                let mut value = 0.0;
                let mut sum = vec![0.0; weights.len()];
                let end = (start + part).min(self.n());
                self.errors(&weights, start..end, |rows, errors, losses| {
                    value += losses;
                    multiply(
                        Matrix::new(errors, rows.len(), self.n_classes).transposed(),
                        self.matrix(&rows),
                        &mut sum,
                        self.columns,
                        true,
                        1.0,
                    );
                });
                (value, sum)
            })
            .collect();
        let share = 1.0 / self.n().max(1) as f64;
        let mut value = self.penalty * dot(&weights, &weights);
        let mut gradient: Vec<f64> = weights.iter().map(|w| 2.0 * self.penalty * w).collect();
        for (losses, sum) in parts {
            value += share * losses;
            for (gradient, sum) in gradient.iter_mut().zip(sum) {
                *gradient += share * sum;
            }
        }
        Point {
            weights,
            value,
            gradient,
        }
    }

    fn matrix(&self, rows: &std::ops::Range<usize>) -> Matrix<'_, f64> {
        let values = &self.rows[rows.start * self.columns..rows.end * self.columns];
        Matrix::new(values, rows.len(), self.columns)
    }

    /// Products of some rows with vectors of all classes, \[rows, classes\].
    pub(crate) fn products(&self, vectors: &[f64], rows: &std::ops::Range<usize>) -> Vec<f64> {
        let mut products = vec![0.0; rows.len() * self.n_classes];
        multiply(
            self.matrix(rows),
            Matrix::new(vectors, self.n_classes, self.columns).transposed(),
            &mut products,
            self.n_classes,
            false,
            1.0,
        );
        products
    }

    /// Visits blocks of rows with (probability - one-hot class) of each, \[rows, classes\], and the sum
    /// of their losses.
    pub(crate) fn errors(
        &self,
        weights: &[f64],
        rows: std::ops::Range<usize>,
        mut visit: impl FnMut(std::ops::Range<usize>, &[f64], f64),
    ) {
        for start in rows.clone().step_by(BLOCK) {
            let block = start..(start + BLOCK).min(rows.end);
            let mut errors = self.products(weights, &block);
            let mut losses = 0.0;
            let classes = &self.classes[block.clone()];
            for (row, &class) in errors.chunks_exact_mut(self.n_classes.max(1)).zip(classes) {
                let class = class as usize;
                let logit = row[class];
                let (top, sum) = exponentiate(row);
                losses += libm::log(sum) + top - logit;
                for x in row.iter_mut() {
                    *x /= sum;
                }
                row[class] -= 1.0;
            }
            visit(block, &errors, losses);
        }
    }
}

/// Minus the inverse curvature times the gradient, by the two loops of L-BFGS.
fn direction(gradient: &[f64], memory: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut taken = Vec::with_capacity(memory.len());
    for (moved, turned) in memory.iter().rev() {
        let share = dot(moved, &direction) / dot(moved, turned);
        add(&mut direction, turned, -share);
        taken.push(share);
    }
    let scale = memory.back().map_or(1.0, |(moved, turned)| {
        dot(moved, turned) / dot(turned, turned)
    });
    for d in &mut direction {
        *d *= scale;
    }
    for ((moved, turned), share) in memory.iter().zip(taken.into_iter().rev()) {
        let given = dot(turned, &direction) / dot(moved, turned);
        add(&mut direction, moved, share - given);
    }
    direction
}

fn add(sum: &mut [f64], other: &[f64], scale: f64) {
    for (sum, other) in sum.iter_mut().zip(other) {
        *sum += scale * other;
    }
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    pub(crate) fn examples(n: usize, n_classes: usize, penalty: f64) -> Examples {
        let mut draw = Seed::root(4).child("head").sequence();
        let columns = 5;
        Examples {
            columns,
            rows: (0..n * columns)
                .map(|_| 2.0 * draw.uniform() - 1.0)
                .collect(),
            classes: (0..n)
                .map(|_| u32::try_from(draw.below(n_classes as u64)).unwrap())
                .collect(),
            n_classes,
            penalty,
        }
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let examples = examples(300, 7, 0.01);
        let weights: Vec<f64> = (0..35).map(|at| f64::from(at % 5) / 3.0 - 0.5).collect();
        let here = examples.at(weights.clone());
        for at in [0, 8, 34] {
            let value = |step: f64| {
                let mut there = weights.clone();
                there[at] += step;
                examples.at(there).value
            };
            let wanted = (value(1e-5) - value(-1e-5)) / 2e-5;
            // The step costs 1e-10, rounding of the values 1e-11.
            assert!((here.gradient[at] - wanted).abs() < 1e-9);
        }
    }

    #[test]
    fn the_fit_is_stationary_whatever_the_threads() {
        let examples = examples(500, 9, 1e-3);
        let fit = || examples.fit(1e-9, 1000, || {}).unwrap();
        let weights = fit();
        let start = norm(&examples.at(vec![0.0; 45]).gradient);
        let there = examples.at(weights.clone());
        assert!(norm(&there.gradient) <= 1e-9 * start);
        assert!(there.value < examples.at(vec![0.0; 45]).value);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            assert_eq!(pool.build().unwrap().install(fit), weights);
        }
    }

    #[test]
    fn too_few_steps_are_told() {
        let found = examples(200, 4, 1e-4).fit(1e-12, 3, || {}).unwrap_err();
        assert_eq!(found.steps, 3);
        assert!(found.relative > 1e-12 && found.relative < 1.0);
    }
}
