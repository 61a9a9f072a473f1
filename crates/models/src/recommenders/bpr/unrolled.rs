//! The derivative of BPR's training, step by step, by the weight of each sample.
//!
//! A step with s = learning rate x weight x sigma(-x), `x = x_ui - x_uj` and a = 1 - learning rate x
//! regularisation makes
//!
//! ```text
//! p <- a p + s (q - r)    q <- a q + s p    r <- a r - s p    b_i <- a b_i + s    b_j <- a b_j - s
//! ```
//!
//! of the vectors p, q, r of user, chosen and other item. The steps of training are taken again in 64
//! bits, in the same order and with the same negatives, and then backwards: with a bar for the derivative
//! of the target by what a step left,
//!
//! ```text
//! s' = P.(q - r) + Q.p - R.p + B_i - B_j          weight' += s' x learning rate x sigma(-x)
//! x' = -s' x learning rate x weight x sigma(x) sigma(-x)
//! P <- a P + s (Q - R) + x' (q - r)    Q <- a Q + s P + x' p    R <- a R - s P - x' p    and so on
//! ```
//!
//! # Paper
//! Hara, Nitanda, Maehara, "Data cleansing for models trained with SGD", NeurIPS 2019, section 3: the
//! same recursion, there with curvature estimated from batches, here exact. Engstrom et al., "Optimizing
//! ML training with metagradient descent", 2025, section 3: states that are kept and made again.
//!
//! # Cost
//! Time: about five trainings on one thread. Memory: 2 root(epochs) states of 8 (users + items)
//! (dimensions + 1) bytes, and 24 dimensions bytes for each sample: what one epoch is taken back with.

use serde_json::Value;
use tensors::dense::{add_scaled, dot, kernels};

use super::influence::{View, joined, sigmoid};
use super::state::State;
use super::train::{Rates, Step, Trainer};
use super::{Bpr, Parameters};
use crate::factorisation::target;
use crate::recommender::parse;
use crate::unrolled::{UnrollError, Unrolled, Unrolling, distance};

/// How far steps in 64 bits may end from those in 32, relative to the length of all vectors: rounding
/// stays below 1e-3, and other steps end about as far away as vectors are long.
const MOST_DISTANCE: f64 = 0.05;

/// Vectors, or derivatives by them, in 64 bits.
#[derive(Clone)]
pub(super) struct Vectors {
    /// `[n_users, d]`.
    pub(super) users: Vec<f64>,
    /// `[n_items, d]`.
    pub(super) items: Vec<f64>,
    pub(super) biases: Vec<f64>,
}

/// The numbers of a step that are the same for all: learning rate, and what a step leaves of a vector.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    rate: f64,
    shrink: f64,
}

kernels! {
    /// Takes steps. `kept`, if any, gets the rows before each: user, chosen, other, margin.
    fn forward<'a>(
        steps: &'a [Step],
        at: &'a mut Vectors,
        d: usize,
        scales: Scales,
        weights: &'a [f64],
        kept: Option<&'a mut Vec<f64>>,
    ) -> () {
        let mut before = vec![0.0; 3 * d];
        let mut kept = kept;
        for step in steps {
            let [user, chosen, other] = step.rows();
            before[..d].copy_from_slice(&at.users[user * d..(user + 1) * d]);
            before[d..2 * d].copy_from_slice(&at.items[chosen * d..(chosen + 1) * d]);
            before[2 * d..].copy_from_slice(&at.items[other * d..(other + 1) * d]);
            let (p, rest) = before.split_at(d);
            let (q, r) = rest.split_at(d);
            let x = at.biases[chosen] - at.biases[other] + dot(p, q) - dot(p, r);
            let s = scales.rate * weights[step.sample as usize] * sigmoid(-x);
            let rows = p.iter().zip(q).zip(r).enumerate();
            for (k, ((p, q), r)) in rows {
                at.users[user * d + k] = s.mul_add(q - r, scales.shrink * p);
                at.items[chosen * d + k] = s.mul_add(*p, scales.shrink * q);
                at.items[other * d + k] = (-s).mul_add(*p, scales.shrink * r);
            }
            at.biases[chosen] = scales.shrink * at.biases[chosen] + s;
            at.biases[other] = scales.shrink * at.biases[other] - s;
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(&before);
                kept.push(x);
            }
        }
    }

    /// Takes steps back: `bar` is the derivative by what they left, and becomes that by what they
    /// found; `by_weight` gets the derivatives by weights.
    fn backward<'a>(
        steps: &'a [Step],
        kept: &'a [f64],
        bar: &'a mut Vectors,
        d: usize,
        scales: Scales,
        weights: &'a [f64],
        by_weight: &'a mut [f64],
    ) -> () {
        let mut bars = vec![0.0; 3 * d];
        let mut between = vec![0.0; d];
        for (step, before) in steps.iter().zip(kept.chunks_exact(3 * d + 1)).rev() {
            let [user, chosen, other] = step.rows();
            let sample = step.sample as usize;
            let (p, rest) = before.split_at(d);
            let (q, rest) = rest.split_at(d);
            let (r, margin) = rest.split_at(d);
            let x = margin[0];
            let (share, rest) = (sigmoid(-x), sigmoid(x));
            let s = scales.rate * weights[sample] * share;
            bars[..d].copy_from_slice(&bar.users[user * d..(user + 1) * d]);
            bars[d..2 * d].copy_from_slice(&bar.items[chosen * d..(chosen + 1) * d]);
            bars[2 * d..].copy_from_slice(&bar.items[other * d..(other + 1) * d]);
            let (of_p, rest_of) = bars.split_at(d);
            let (of_q, of_r) = rest_of.split_at(d);
            for (between, (q, r)) in between.iter_mut().zip(q.iter().zip(r)) {
                *between = q - r;
            }
            let (of_b, of_c) = (bar.biases[chosen], bar.biases[other]);
            let by_s = dot(of_p, &between) + dot(of_q, p) - dot(of_r, p) + of_b - of_c;
            by_weight[sample] += by_s * scales.rate * share;
            let by_x = -by_s * s * rest;
            for k in 0..d {
                bar.users[user * d + k] = scales.shrink * of_p[k] + s * (of_q[k] - of_r[k]);
                bar.items[chosen * d + k] = scales.shrink * of_q[k] + s * of_p[k];
                bar.items[other * d + k] = scales.shrink * of_r[k] - s * of_p[k];
            }
            add_scaled(&mut bar.users[user * d..(user + 1) * d], by_x, &between);
            add_scaled(&mut bar.items[chosen * d..(chosen + 1) * d], by_x, p);
            add_scaled(&mut bar.items[other * d..(other + 1) * d], -by_x, p);
            bar.biases[chosen] = scales.shrink * of_b + by_x;
            bar.biases[other] = scales.shrink * of_c - by_x;
        }
    }
}

fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&x| f64::from(x)).collect()
}

impl Vectors {
    pub(super) fn of(state: &State) -> Self {
        Self {
            users: wide(&state.users),
            items: wide(&state.items),
            biases: wide(&state.biases),
        }
    }

    fn numbers(&self) -> impl Iterator<Item = f64> {
        let all = self.users.iter().chain(&self.items).chain(&self.biases);
        all.copied()
    }
}

/// A training that can be taken again, forwards and back.
pub(super) struct Course<'t> {
    trainer: &'t Trainer,
    /// Dimensions.
    d: usize,
    scales: Scales,
    /// By sample, as steps have them.
    weights: Vec<f64>,
}

impl<'t> Course<'t> {
    pub(super) fn new(trainer: &'t Trainer, d: usize, rates: Rates, weights: Vec<f64>) -> Self {
        let (rate, shrink) = rates.of_steps();
        Self {
            trainer,
            d,
            scales: Scales { rate, shrink },
            weights,
        }
    }

    /// Where epochs lead from a state.
    pub(super) fn run(&self, epochs: std::ops::Range<u32>, mut at: Vectors) -> Vectors {
        for epoch in epochs {
            let steps = self.trainer.steps(epoch);
            forward(&steps, &mut at, self.d, self.scales, &self.weights, None);
        }
        at
    }

    /// Takes epochs back from the derivative by the last state to that by the weights. States are
    /// kept at the start of every root(epochs)-th epoch and made again in between.
    fn back(
        &self,
        epochs: u32,
        start: Vectors,
        mut bar: Vectors,
        on_progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Vec<f64> {
        let stride = epochs.isqrt().max(1);
        let total = u64::from(epochs);
        let mut anchors: Vec<(u32, Vectors)> = vec![(0, start)];
        while let Some((first, state)) = anchors.last() {
            let next = first + stride;
            if next >= epochs {
                break;
            }
            let state = self.run(*first..next, state.clone());
            anchors.push((next, state));
        }
        let mut by_weight = vec![0.0; self.weights.len()];
        let mut end = epochs;
        for (first, anchor) in anchors.into_iter().rev() {
            let mut states = vec![anchor];
            for epoch in first..end.saturating_sub(1) {
                if let Some(last) = states.last() {
                    states.push(self.run(epoch..epoch + 1, last.clone()));
                }
            }
            for epoch in (first..end).rev() {
                let Some(mut at) = states.pop() else { break };
                let steps = self.trainer.steps(epoch);
                let mut kept = Vec::with_capacity(steps.len() * (3 * self.d + 1));
                let (d, scales, weights) = (self.d, self.scales, &self.weights);
                forward(&steps, &mut at, d, scales, weights, Some(&mut kept));
                backward(&steps, &kept, &mut bar, d, scales, weights, &mut by_weight);
                on_progress(total - u64::from(epoch), total);
            }
            end = first;
        }
        by_weight
    }
}

impl Bpr {
    /// The training that led here, with its number of epochs and its start.
    fn course<'t>(
        &self,
        trainer: &'t Trainer,
        parameters: &Value,
        asked: &Unrolling<'_>,
    ) -> Result<(Course<'t>, u32, Vectors), UnrollError> {
        let parameters: Parameters = parse::<Self>(parameters)?;
        let d = parameters.dimensions as usize;
        let shape = [trainer.n_users(), asked.data.n_vocabulary(), d];
        let epochs = self.steps / trainer.n_steps().max(1);
        let epochs = u32::try_from(epochs).unwrap_or(u32::MAX);
        let course = Course::new(trainer, d, self.rates, trainer.weights());
        let start = State::initial(asked.seed, shape, parameters.initial_deviation);
        Ok((course, epochs, Vectors::of(&start)))
    }
}

impl Unrolled for Bpr {
    fn unrolled(&self, asked: &Unrolling<'_>) -> Result<Vec<Option<f64>>, UnrollError> {
        let trainer = Trainer::new(asked.data, asked.seed, self.rates);
        let (course, epochs, start) = self.course(&trainer, asked.parameters, asked)?;
        let found = course.run(0..epochs, start.clone());
        let model = Vectors::of(&self.state);
        let sizes = |of: &Vectors| [of.users.len(), of.items.len(), of.biases.len()];
        let mut off = f64::INFINITY;
        if sizes(&found) == sizes(&model) {
            off = distance(found.numbers().zip(model.numbers()));
        }
        if off.is_nan() || off >= MOST_DISTANCE {
            return Err(UnrollError::AnotherTraining { distance: off });
        }
        let items = joined(&found.items, &found.biases);
        let view = View::new(self, (&found.users, &items), asked.data);
        let (users, items) = target(&view, asked.requests);
        let (mut rows, mut biases) = (Vec::with_capacity(model.items.len()), Vec::new());
        for row in items.chunks_exact(course.d + 1) {
            rows.extend(&row[..course.d]);
            biases.push(row[course.d]);
        }
        let bar = Vectors {
            users,
            items: rows,
            biases,
        };
        let by_weight = course.back(epochs, start, bar, asked.on_progress);
        if by_weight.iter().all(|x| x.is_finite()) {
            Ok(by_weight.into_iter().map(|x| Some(-x)).collect())
        } else {
            Err(UnrollError::NotFinite)
        }
    }
}

#[cfg(test)]
mod tests {
    use seed::Seed;
    use serde_json::json;

    use super::*;
    use crate::conformance::{in_pool, log};
    use crate::data::TrainingData;
    use crate::inside::AskedRequest;
    use crate::recommender::{Model, Recommender};
    use crate::run::Run;
    use crate::{Samples, Sequences};

    const N_USERS: u32 = 24;
    const N_ITEMS: u32 = 140;
    const SEED: u64 = 6;

    /// Users who choose within one half of the catalogue, enough of it for two blocks; the last event
    /// of each is what requests ask for.
    fn shop(weight: impl Fn(usize) -> f64) -> (Samples, Sequences, Vec<[u32; 1]>) {
        let mut draws = Seed::root(31).sequence();
        let mut at = 0;
        let mut logs = Vec::new();
        let mut relevant = Vec::new();
        for user in 0..N_USERS {
            let half = u64::from(N_ITEMS / 2);
            let mut item = || user % 2 * (N_ITEMS / 2) + u32::try_from(draws.below(half)).unwrap();
            let items: Vec<u32> = (0..6).map(|_| item()).collect();
            let weights: Vec<f64> = (at..at + 6).map(&weight).collect();
            at += 6;
            logs.push((items, weights));
            relevant.push([item()]);
        }
        let borrowed: Vec<(&[u32], &[f64])> = logs.iter().map(|(a, b)| (&a[..], &b[..])).collect();
        let (samples, sequences) = log(&borrowed);
        (samples, sequences, relevant)
    }

    fn parameters() -> Value {
        json!({ "dimensions": 4, "epochs": 7, "learning_rate": 0.2, "regularisation": 0.01, "initial_deviation": 0.5 })
    }

    fn asked(relevant: &[[u32; 1]]) -> Vec<AskedRequest<'_>> {
        let requests = (0..).zip(relevant);
        let requests = requests.map(|(sequence, relevant)| AskedRequest {
            sequence,
            history_end: 6,
            relevant,
        });
        requests.collect()
    }

    fn fitted(data: &TrainingData<'_>) -> Bpr {
        let parameters = parse::<Bpr>(&parameters()).unwrap();
        Bpr::fit(&parameters, data, &mut Run::silent(Seed::root(SEED))).unwrap()
    }

    /// What requests cost where steps in 64 bits end, or at the fitted model.
    fn cost(model: &Bpr, at: &Vectors, data: &TrainingData<'_>, relevant: &[[u32; 1]]) -> f64 {
        let items = joined(&at.items, &at.biases);
        let view = View::new(model, (&at.users, &items), data);
        let requests = asked(relevant);
        let costs = requests.iter().map(|request| {
            let (loss, _) = view.of_request(request, request.relevant[0]).unwrap();
            loss
        });
        costs.sum::<f64>() / relevant.len() as f64
    }

    fn unrolled(model: &Bpr, data: &TrainingData<'_>, relevant: &[[u32; 1]]) -> Vec<Option<f64>> {
        let requests = asked(relevant);
        model
            .unrolled(&Unrolling {
                parameters: &parameters(),
                data,
                seed: Seed::root(SEED),
                requests: &requests,
                on_progress: &|_, _| {},
            })
            .unwrap()
    }

    #[test]
    fn it_is_the_finite_difference_of_the_same_steps_with_other_weights() {
        let (samples, sequences, relevant) = shop(|_| 1.0);
        let data = TrainingData::new(&samples, &sequences, N_ITEMS as usize).unwrap();
        let model = fitted(&data);
        let found = unrolled(&model, &data, &relevant);
        let trainer = Trainer::new(&data, Seed::root(SEED), model.rates);
        let request = Unrolling {
            parameters: &parameters(),
            data: &data,
            seed: Seed::root(SEED),
            requests: &[],
            on_progress: &|_, _| {},
        };
        let (course, epochs, start) = model.course(&trainer, &parameters(), &request).unwrap();
        assert!(course.trainer.steps(0).len() > 100);
        let largest = found.iter().flatten().fold(0.0_f64, |a, x| a.max(x.abs()));
        for sample in (0..found.len()).step_by(5) {
            let at = |by: f64| {
                let mut weights = course.weights.clone();
                weights[sample] += by;
                let rates = model.rates;
                let course = Course::new(&trainer, course.d, rates, weights);
                cost(
                    &model,
                    &course.run(0..epochs, start.clone()),
                    &data,
                    &relevant,
                )
            };
            // Central differences with a step of 1e-4: an error of 1e-8 times a third derivative, and
            // rounding of 1e-16 over the step.
            let expected = -(at(1e-4) - at(-1e-4)) / 2e-4;
            let off = (found[sample].unwrap() - expected).abs();
            assert!(off < 1e-6 * largest, "sample {sample}: {off} {expected}");
        }
    }

    #[test]
    fn it_is_what_retraining_with_other_weights_does() {
        let (samples, sequences, relevant) = shop(|_| 1.0);
        let data = TrainingData::new(&samples, &sequences, N_ITEMS as usize).unwrap();
        let model = fitted(&data);
        let found = unrolled(&model, &data, &relevant);
        let retrained = |sample: usize, weight: f64| {
            let (samples, sequences, _) = shop(|at| if at == sample { weight } else { 1.0 });
            let data = TrainingData::new(&samples, &sequences, N_ITEMS as usize).unwrap();
            let model = fitted(&data);
            cost(&model, &Vectors::of(&model.state), &data, &relevant)
        };
        let (mut by_steps, mut small, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        let base = retrained(usize::MAX, 1.0);
        for sample in (0..found.len()).step_by(3) {
            by_steps.push(found[sample].unwrap());
            small.push(-(retrained(sample, 1.25) - retrained(sample, 0.75)) / 0.5);
            removed.push(retrained(sample, 0.0) - base);
        }
        // Training in 32 bits leaves about 1e-7 of a cost near 1, divided by half a unit of weight:
        // differences of 1e-4 and more stand out.
        let near = metrics_pearson(&by_steps, &small);
        let whole = metrics_pearson(&by_steps, &removed);
        // Found: .99999 and .982.
        assert!(near > 0.999, "{near}");
        assert!(whole > 0.9, "{whole}");
    }

    fn metrics_pearson(x: &[f64], y: &[f64]) -> f64 {
        let n = x.len() as f64;
        let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
        let pairs = || x.iter().zip(y).map(|(x, y)| (x - mean_x, y - mean_y));
        let sum = |of: fn(f64, f64) -> f64| pairs().map(|(x, y)| of(x, y)).sum::<f64>();
        sum(|x, y| x * y) / (sum(|x, _| x * x) * sum(|_, y| y * y)).sqrt()
    }

    #[test]
    fn another_seed_or_other_samples_are_told_apart_and_threads_are_not() {
        let (samples, sequences, relevant) = shop(|_| 1.0);
        let data = TrainingData::new(&samples, &sequences, N_ITEMS as usize).unwrap();
        let model = fitted(&data);
        let requests = asked(&relevant);
        let elsewhere = model.unrolled(&Unrolling {
            parameters: &parameters(),
            data: &data,
            seed: Seed::root(SEED + 1),
            requests: &requests,
            on_progress: &|_, _| {},
        });
        let refused = matches!(elsewhere, Err(UnrollError::AnotherTraining { .. }));
        assert!(refused, "{elsewhere:?}");
        let one = in_pool(1, || unrolled(&model, &data, &relevant));
        assert_eq!(in_pool(2, || unrolled(&model, &data, &relevant)), one);
        assert!(model.unrolled_training().is_some());
    }
}
