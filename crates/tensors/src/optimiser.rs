//! Optimisers, learning-rate schedules, clipping.

use rayon::prelude::*;

use crate::kernels::vectorised;
use crate::require::require;
use crate::{Gradients, ParameterId, Parameters, Real, TensorError, Tensors};

/// Numbers that one unit of parallel work changes.
const BLOCK: usize = 1 << 14;

/// How [`AdamW`] works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the mean and of the mean square of gradients, in [0, 1).
    pub betas: [f64; 2],
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// Decoupled: each step takes rate * `weight_decay` of a weight off it.
    pub weight_decay: f64,
    /// Added to the gradient: l1 * sign(weight).
    pub l1: f64,
    /// Added to the gradient: l2 * weight.
    pub l2: f64,
}

impl Default for AdamWSettings {
    /// Those of PyTorch, without decay.
    fn default() -> Self {
        Self {
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.0,
            l1: 0.0,
            l2: 0.0,
        }
    }
}

/// Adam with decoupled weight decay (Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019,
/// algorithm 2), in place.
#[derive(Clone, Debug)]
pub struct AdamW<F> {
    settings: AdamWSettings,
    steps: u64,
    means: Gradients<F>,
    squares: Gradients<F>,
    /// Parameters without decay, l1 and l2.
    plain: Vec<ParameterId>,
}

impl<F: Real> AdamW<F> {
    /// Before the first step.
    pub fn new(parameters: &Parameters<F>, settings: AdamWSettings) -> Self {
        Self {
            settings,
            steps: 0,
            means: parameters.gradients(),
            squares: parameters.gradients(),
            plain: Vec::new(),
        }
    }

    /// Frees some parameters, such as biases and gains, from decay, l1 and l2.
    #[must_use]
    pub fn without_decay(mut self, ids: &[ParameterId]) -> Self {
        self.plain = ids.to_vec();
        self
    }

    /// Steps that were taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One step.
    pub fn step(&mut self, parameters: &mut Parameters<F>, gradients: &Gradients<F>, rate: f64) {
        require(gradients.flat().len() == parameters.n_values(), || {
            "gradients of other parameters".to_owned()
        });
        self.steps += 1;
        let [beta_1, beta_2] = self.settings.betas;
        let power = |beta: f64| 1.0 - libm::pow(beta, self.steps as f64);
        let settings = self.settings;
        let plain = AdamWSettings {
            weight_decay: 0.0,
            l1: 0.0,
            l2: 0.0,
            ..settings
        };
        let corrections = [power(beta_1), power(beta_2)];
        if self.plain.is_empty() {
            update(
                parameters.flat_mut(),
                gradients.flat(),
                self.means.flat_mut(),
                self.squares.flat_mut(),
                settings,
                corrections,
                rate,
            );
            return;
        }
        let ids: Vec<ParameterId> = parameters.ids().collect();
        for id in ids {
            let settings = if self.plain.contains(&id) {
                plain
            } else {
                settings
            };
            update(
                parameters.get_mut(id),
                gradients.get(id),
                self.means.get_mut(id),
                self.squares.get_mut(id),
                settings,
                corrections,
                rate,
            );
        }
    }

    /// The state: `mean.NAME` and `square.NAME` for each parameter, and `steps`.
    ///
    /// # Errors
    /// If a number is not finite.
    pub fn to_tensors(&self, parameters: &Parameters<F>) -> Result<Tensors, TensorError> {
        let mut tensors = Tensors::new();
        tensors.insert_u64("steps", &[1], vec![self.steps])?;
        for id in parameters.ids() {
            let shape = parameters.shape(id);
            for (kind, values) in [("mean", &self.means), ("square", &self.squares)] {
                let name = format!("{kind}.{}", parameters.name(id));
                F::insert(&mut tensors, &name, &shape, values.get(id).to_vec())?;
            }
        }
        Ok(tensors)
    }

    /// Goes on from a state.
    ///
    /// # Errors
    /// If a tensor is missing or of another type or size.
    pub fn load(
        &mut self,
        parameters: &Parameters<F>,
        tensors: &Tensors,
    ) -> Result<(), TensorError> {
        for id in parameters.ids() {
            for (kind, state) in [("mean", &mut self.means), ("square", &mut self.squares)] {
                let name = format!("{kind}.{}", parameters.name(id));
                let values = F::read(tensors, &name)?;
                let state = state.get_mut(id);
                if values.len() != state.len() {
                    let shape = parameters.shape(id);
                    return Err(TensorError::shape(&name, &shape, values.len()));
                }
                state.copy_from_slice(values);
            }
        }
        let steps = tensors.u64("steps")?;
        let &[steps] = steps else {
            return Err(TensorError::shape("steps", &[1], steps.len()));
        };
        self.steps = steps;
        Ok(())
    }
}

/// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
/// `w -= rate (m / c1 / (sqrt(v / c2) + epsilon) + decay w)`.
fn update<F: Real>(
    weights: &mut [F],
    gradients: &[F],
    means: &mut [F],
    squares: &mut [F],
    settings: AdamWSettings,
    [correction_1, correction_2]: [f64; 2],
    rate: f64,
) {
    let [beta_1, beta_2] = settings.betas.map(F::of);
    let rest_1 = F::of(1.0 - settings.betas[0]);
    let rest_2 = F::of(1.0 - settings.betas[1]);
    let step = F::of(rate / correction_1);
    let root_share = F::of(1.0 / libm::sqrt(correction_2));
    let epsilon = F::of(settings.epsilon);
    let kept = F::of(1.0 - rate * settings.weight_decay);
    let (l1, l2) = (F::of(settings.l1), F::of(settings.l2));
    let penalised = settings.l1 > 0.0 || settings.l2 > 0.0;
    weights
        .par_chunks_mut(BLOCK)
        .zip(gradients.par_chunks(BLOCK))
        .zip(means.par_chunks_mut(BLOCK))
        .zip(squares.par_chunks_mut(BLOCK))
        .for_each(|(((weights, gradients), means), squares)| {
            vectorised(
                #[inline(always)]
                || {
                    let moments = means.iter_mut().zip(squares);
                    for ((w, &g), (m, v)) in weights.iter_mut().zip(gradients).zip(moments) {
                        let g = if penalised {
                            g + l2 * *w + l1 * sign(*w)
                        } else {
                            g
                        };
                        *m = beta_1.fma(*m, rest_1 * g);
                        *v = beta_2.fma(*v, rest_2 * g * g);
                        *w = *w * kept - step * *m / (v.root().fma(root_share, epsilon));
                    }
                },
            );
        });
}

#[inline(always)]
fn sign<F: Real>(x: F) -> F {
    if x > F::ZERO {
        F::ONE
    } else if x < F::ZERO {
        -F::ONE
    } else {
        F::ZERO
    }
}

/// Stochastic gradient descent, with momentum if not 0:
/// `u = momentum u + g + decay w`, `w -= rate u`.
#[derive(Clone, Debug)]
pub struct Sgd<F> {
    momentum: f64,
    weight_decay: f64,
    velocity: Gradients<F>,
}

impl<F: Real> Sgd<F> {
    /// Before the first step.
    pub fn new(parameters: &Parameters<F>, momentum: f64, weight_decay: f64) -> Self {
        Self {
            momentum,
            weight_decay,
            velocity: parameters.gradients(),
        }
    }

    /// One step.
    pub fn step(&mut self, parameters: &mut Parameters<F>, gradients: &Gradients<F>, rate: f64) {
        require(gradients.flat().len() == parameters.n_values(), || {
            "gradients of other parameters".to_owned()
        });
        let (momentum, decay) = (F::of(self.momentum), F::of(self.weight_decay));
        let rate = F::of(rate);
        let numbers = parameters.flat_mut().iter_mut().zip(gradients.flat());
        for ((w, &g), u) in numbers.zip(self.velocity.flat_mut()) {
            *u = momentum.fma(*u, decay.fma(*w, g));
            *w -= rate * *u;
        }
    }
}

/// The learning rate as a function of the step, from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// Always the same.
    Constant {
        /// The rate.
        rate: f64,
    },
    /// From 0 to the rate in `warmup` steps, then constant.
    LinearWarmup {
        /// The rate after warm-up.
        rate: f64,
        /// Steps until then.
        warmup: u64,
    },
    /// From 0 to the rate in `warmup` steps, then down to 0 at `steps` in a straight line.
    LinearDecay {
        /// The highest rate.
        rate: f64,
        /// Steps until then.
        warmup: u64,
        /// Steps in all.
        steps: u64,
    },
    /// From 0 to the rate in `warmup` steps, then down to `last` at `steps` along half a cosine
    /// (Loshchilov and Hutter 2017, eq. 5).
    Cosine {
        /// The highest rate.
        rate: f64,
        /// The rate at the end.
        last: f64,
        /// Steps until the highest.
        warmup: u64,
        /// Steps in all.
        steps: u64,
    },
}

impl Schedule {
    /// The rate of a step. The last step of a warm-up has the full rate.
    pub fn rate(self, step: u64) -> f64 {
        let share = |step: u64, of: u64| (step as f64 / of.max(1) as f64).min(1.0);
        let rise = |warmup: u64| {
            if warmup == 0 {
                1.0
            } else {
                share(step + 1, warmup)
            }
        };
        let progress = |warmup: u64, steps: u64| {
            share(step.saturating_sub(warmup), steps.saturating_sub(warmup))
        };
        match self {
            Self::Constant { rate } => rate,
            Self::LinearWarmup { rate, warmup } => rate * rise(warmup),
            Self::LinearDecay {
                rate,
                warmup,
                steps,
            } => rate * rise(warmup) * (1.0 - progress(warmup, steps)),
            Self::Cosine {
                rate,
                last,
                warmup,
                steps,
            } => {
                let wave = 0.5 + 0.5 * libm::cos(std::f64::consts::PI * progress(warmup, steps));
                if step < warmup {
                    rate * rise(warmup)
                } else {
                    last + (rate - last) * wave
                }
            }
        }
    }
}

/// Scales gradients down to a norm, if they are longer; gives the norm that they had. Gradients
/// that are not finite are left alone: the norm tells.
pub fn clip_by_norm<F: Real>(gradients: &mut Gradients<F>, most: f64) -> f64 {
    let norm = gradients.norm();
    if norm > most && norm.is_finite() {
        gradients.scale(F::of(most / norm));
    }
    norm
}
