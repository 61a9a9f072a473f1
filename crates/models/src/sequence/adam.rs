//! What `AdamW` would do next with the gradient of one sample.
//!
//! With moments m and v after k steps, the next step per unit of learning rate is
//! `u = m' / (sqrt(v') + ε)` with `m' = (β1 m + (1 - β1) g) / (1 - β1^(k+1))` and
//! `v' = (β2 v + (1 - β2) g²) / (1 - β2^(k+1))` (Kingma and Ba 2015, algorithm 1), number by number.
//! That is not linear in g, so it is computed for each sample and each number of its gradient: under a
//! softmax those are all numbers of the table, row by row from the two factors.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined into a vector loop is compiled without its instruction set"
)]

use std::collections::BTreeMap;

use tensors::dense::kernels;
use tensors::{AdamWSettings, Gradients, ParameterId, Parameters, TensorError, Tensors};

use super::gradients::Factors;
use crate::directions::{Direction, Own, Preconditioner, Update};

/// How a kept state names moments of the optimiser.
const MEAN: &str = "optimiser.mean.";
const SQUARE: &str = "optimiser.square.";
const STEPS: &str = "optimiser.steps";
/// Sums that a sum is cut into.
const LANES: usize = 8;

/// Product with the gradient of the target, and square of the length.
type Sums = [f64; 2];

/// Constants of the next step.
#[derive(Clone, Copy, Debug)]
struct Step {
    beta_1: f32,
    rest_1: f32,
    /// 1 over the correction of the mean.
    mean: f32,
    beta_2: f32,
    rest_2: f32,
    /// 1 over the correction of the second moment.
    square: f32,
    epsilon: f32,
}

impl Step {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounded to the type of gradients"
    )]
    fn after(steps: u64, settings: AdamWSettings) -> Self {
        let [beta_1, beta_2] = settings.betas;
        let correction = |beta: f64| 1.0 / (1.0 - libm::pow(beta, steps as f64 + 1.0));
        Self {
            beta_1: beta_1 as f32,
            rest_1: (1.0 - beta_1) as f32,
            mean: correction(beta_1) as f32,
            beta_2: beta_2 as f32,
            rest_2: (1.0 - beta_2) as f32,
            square: correction(beta_2) as f32,
            epsilon: settings.epsilon as f32,
        }
    }

    #[inline(always)]
    fn update(self, g: f32, m: f32, v: f32) -> f32 {
        let mean = (self.beta_1 * m + self.rest_1 * g) * self.mean;
        let square = (self.beta_2 * v + self.rest_2 * g * g) * self.square;
        mean / (square.sqrt() + self.epsilon)
    }

    /// Adds one row of updates.
    #[inline(always)]
    fn add(
        self,
        gradient: impl Fn(usize) -> f32,
        [means, squares, target]: [&[f32]; 3],
        sums: &mut [[f64; LANES]; 2],
    ) {
        let n = target.len();
        let mut from = 0;
        while from < n {
            let to = (from + LANES).min(n);
            let mut updates = [0.0_f32; LANES];
            let moments = means[from..to].iter().zip(&squares[from..to]);
            for (at, (update, (&m, &v))) in updates.iter_mut().zip(moments).enumerate() {
                *update = self.update(gradient(from + at), m, v);
            }
            let [products, lengths] = sums;
            for (lane, (&u, &t)) in updates.iter().zip(&target[from..to]).enumerate() {
                let u = f64::from(u);
                products[lane] += u * f64::from(t);
                lengths[lane] += u * u;
            }
            from = to;
        }
    }
}

kernels! {
    /// Updates of a gradient that is written down.
    fn of_numbers<'a>(step: &'a Step, gradient: &'a [f32], moments: [&'a [f32]; 3]) -> Sums {
        let mut sums = [[0.0; LANES]; 2];
        step.add(|at| gradient[at], moments, &mut sums);
        sums.map(|lanes| lanes.iter().sum())
    }

    /// Updates of the product of two factors, all rows of a table.
    fn of_product<'a>(
        step: &'a Step,
        logits: &'a [f32],
        hidden: &'a [f32],
        moments: [&'a [f32]; 3],
    ) -> Sums {
        let mut sums = [[0.0; LANES]; 2];
        for (row, &logit) in logits.iter().enumerate() {
            let from = row * hidden.len();
            let row = moments.map(|all| &all[from..from + hidden.len()]);
            step.add(|at| logit * hidden[at], row, &mut sums);
        }
        sums.map(|lanes| lanes.iter().sum())
    }
}

/// The state of an optimiser, with what its next step would be without a gradient.
#[derive(Clone, Debug)]
pub(crate) struct AdamState {
    step: Step,
    means: Parameters<f32>,
    squares: Parameters<f32>,
    target: Gradients<f32>,
    /// What momentum alone does to each parameter.
    idle: BTreeMap<ParameterId, Sums>,
}

/// One moment of all parameters.
fn moments(
    parameters: &Parameters<f32>,
    state: &Tensors,
    prefix: &str,
) -> Result<Parameters<f32>, TensorError> {
    let mut tensors = Tensors::new();
    for name in state.names() {
        if let Some(rest) = name.strip_prefix(prefix) {
            tensors.insert_f32(rest, state.shape(name)?, state.f32(name)?.to_vec())?;
        }
    }
    let mut moments = parameters.clone();
    moments.load(&tensors)?;
    Ok(moments)
}

fn add(sum: &mut Sums, sign: f64, other: Sums) {
    for (sum, other) in sum.iter_mut().zip(other) {
        *sum += sign * other;
    }
}

impl AdamState {
    /// The direction of the target, and the state that goes with it. A number whose second moment is 0
    /// has never had a gradient: training does not move it, and it has no direction.
    ///
    /// # Errors
    /// If a moment is missing or of another size.
    pub(super) fn direction(
        parameters: &Parameters<f32>,
        state: &Tensors,
        target: &Gradients<f32>,
    ) -> Result<Direction, TensorError> {
        let settings = AdamWSettings::default();
        // Written by ourselves: one number.
        let steps = state.u64(STEPS)?.first().copied().unwrap_or(0);
        let means = moments(parameters, state, MEAN)?;
        let squares = moments(parameters, state, SQUARE)?;
        let mut gradient = target.clone();
        let correction = 1.0 - libm::pow(settings.betas[1], steps.max(1) as f64);
        for (x, &v) in gradient.flat_mut().iter_mut().zip(squares.flat()) {
            let root = libm::sqrt(f64::from(v) / correction) + settings.epsilon;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "rounded to the type of gradients"
            )]
            let divided = (f64::from(*x) / root) as f32;
            *x = if v > 0.0 { divided } else { 0.0 };
        }
        let mut state = Self {
            step: Step::after(steps, settings),
            means,
            squares,
            target: target.clone(),
            idle: BTreeMap::new(),
        };
        for id in parameters.ids() {
            let nothing = vec![0.0; parameters.get(id).len()];
            let idle = of_numbers(&state.step, &nothing, state.moments(id));
            state.idle.insert(id, idle);
        }
        Ok(Direction {
            preconditioner: Preconditioner::Adam,
            gradient,
            own: Own::Adam(Box::new(state)),
            blocks: Vec::new(),
        })
    }

    fn moments(&self, id: ParameterId) -> [&[f32]; 3] {
        [
            self.means.get(id),
            self.squares.get(id),
            self.target.get(id),
        ]
    }

    fn row(&self, id: ParameterId, row: usize, columns: usize) -> [&[f32]; 3] {
        self.moments(id)
            .map(|all| &all[row * columns..(row + 1) * columns])
    }

    /// The next step of each sample whose factors these are; rows of tables are merged.
    pub(super) fn updates(&self, factors: &Factors<'_>) -> Vec<Update> {
        let mut total = [0.0; 2];
        for &idle in self.idle.values() {
            add(&mut total, 1.0, idle);
        }
        let mut found = vec![total; factors.n];
        let mut change = |sample: usize, id: ParameterId, sums: Sums| {
            add(&mut found[sample], 1.0, sums);
            if let Some(&idle) = self.idle.get(&id) {
                add(&mut found[sample], -1.0, idle);
            }
        };
        for (&id, layers) in &factors.layers {
            let moments = self.moments(id);
            for (sample, gradient) in layers.chunks_exact(moments[0].len().max(1)).enumerate() {
                change(sample, id, of_numbers(&self.step, gradient, moments));
            }
        }
        for (&id, outer) in &factors.outer {
            let moments = self.moments(id);
            for (sample, outer) in outer.iter().enumerate() {
                if outer.logits.is_empty() {
                    continue;
                }
                let sums = if outer.hidden.is_empty() {
                    of_numbers(&self.step, &outer.logits, moments)
                } else {
                    of_product(&self.step, &outer.logits, &outer.hidden, moments)
                };
                change(sample, id, sums);
            }
        }
        for (&id, rows) in &factors.rows {
            let columns = factors.parameters.shape(id)[1];
            let outer = factors.outer.get(&id);
            let mut gradient = vec![0.0; columns];
            for (sample, rows) in rows.iter().enumerate() {
                let outer = outer.map(|outer| &outer[sample]);
                let values = rows.values.chunks_exact(columns.max(1));
                for (&row, values) in rows.ids.iter().zip(values) {
                    let row = row as usize;
                    gradient.fill(0.0);
                    let logit = outer.and_then(|outer| outer.logits.get(row));
                    if let (Some(&logit), Some(outer)) = (logit, outer) {
                        for (x, h) in gradient.iter_mut().zip(&outer.hidden) {
                            *x = logit * h;
                        }
                    }
                    let moments = self.row(id, row, columns);
                    // What was counted of this row before.
                    let before = of_numbers(&self.step, &gradient, moments);
                    for (x, value) in gradient.iter_mut().zip(values) {
                        *x += value;
                    }
                    let after = of_numbers(&self.step, &gradient, moments);
                    add(&mut found[sample], -1.0, before);
                    add(&mut found[sample], 1.0, after);
                }
            }
        }
        found
            .into_iter()
            .map(|[product, square]| Update {
                product,
                norm: f64::max(square, 0.0).sqrt(),
            })
            .collect()
    }
}
