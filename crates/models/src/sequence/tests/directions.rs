//! A law of every network: what is said of samples along directions is what their gradients, taken one
//! by one and written down, say; by Fisher matrix and optimiser alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use seed::Seed;
use tensors::{AdamWSettings, Context, Gradients, ParameterId, Parameters, Tensors};

use super::gradients::{one, product, requests};
use super::sequences;
use crate::counts::Counts;
use crate::directions::{Along, Damped, Direction, Labels, Own, Preconditioner};
use crate::gradient_rows::Measure;
use crate::history::History;
use crate::recommender::LossGradients;
use crate::sequence::fisher::ROUNDING;
use crate::sequence::kronecker::Rotation;
use crate::sequence::{Network, SequenceModel};
use crate::{Samples, Sequences, TrainingData};

const BOTH: [Preconditioner; 2] = [Preconditioner::Kfac, Preconditioner::Ekfac];
const DAMPED: Damped = Damped {
    share: 0.1,
    labels: Labels::Observed,
};
const STEPS: u64 = 7;
/// What preconditioners make of rounding: a parameter whose gradient is a thousandth of others counts as
/// much as they do, and its rounding, a 10^-7 of theirs, is then a 10^-4 of it.
const SMALL: f64 = 1e-3;
/// Sums of 32-bit numbers in another order.
const ROUNDED: f64 = 3e-5;

/// A state of an optimiser with moments of the size of gradients; one number in five has never moved.
fn state(parameters: &Parameters<f32>) -> Tensors {
    let mut tensors = Tensors::new();
    let steps = vec![STEPS];
    tensors.insert_u64("optimiser.steps", &[1], steps).unwrap();
    for id in parameters.ids() {
        let n = parameters.get(id).len();
        let number = |at: usize| ((at * 7 + n) % 11) as f32 - 5.0;
        // What has never had a gradient has no momentum.
        let has_moved = |at: usize| !at.is_multiple_of(5);
        let means = (0..n).map(|at| {
            if has_moved(at) {
                0.002 * number(at)
            } else {
                0.0
            }
        });
        let squares = (0..n).map(|at| {
            let size = 0.0003 * (1.0 + number(at).abs());
            if has_moved(at) { size } else { 0.0 }
        });
        for (kind, values) in [("mean", means.collect()), ("square", squares.collect())] {
            let name = format!("optimiser.{kind}.{}", parameters.name(id));
            let shape = parameters.shape(id);
            tensors.insert_f32(&name, &shape, values).unwrap();
        }
    }
    tensors
}

/// Product with the target and length of the next step on a gradient, and the direction of a number,
/// by the formulas of `AdamW` in double precision.
struct ByHand {
    means: Vec<f32>,
    squares: Vec<f32>,
}

impl ByHand {
    fn new(parameters: &Parameters<f32>, state: &Tensors) -> Self {
        let mut of = ["mean", "square"].map(|kind| {
            let mut all = parameters.gradients();
            for id in parameters.ids() {
                let name = format!("optimiser.{kind}.{}", parameters.name(id));
                all.get_mut(id).copy_from_slice(state.f32(&name).unwrap());
            }
            all.flat().to_vec()
        });
        Self {
            means: std::mem::take(&mut of[0]),
            squares: std::mem::take(&mut of[1]),
        }
    }

    fn direction(&self, at: usize, target: f32) -> f64 {
        let v = f64::from(self.squares[at]) / (1.0 - libm::pow(0.999, STEPS as f64));
        if v > 0.0 {
            f64::from(target) / (v.sqrt() + AdamWSettings::default().epsilon)
        } else {
            0.0
        }
    }

    fn update(&self, gradient: &[f32], target: &[f32]) -> [f64; 2] {
        let correction = |beta: f64| 1.0 - libm::pow(beta, STEPS as f64 + 1.0);
        let mut sums = [0.0; 2];
        for (at, (&g, &t)) in gradient.iter().zip(target).enumerate() {
            let (g, m) = (f64::from(g), f64::from(self.means[at]));
            let m = (0.9 * m + 0.1 * g) / correction(0.9);
            let v = (0.999 * f64::from(self.squares[at]) + 0.001 * g * g) / correction(0.999);
            let u = m / (v.sqrt() + 1e-8);
            sums[0] += u * f64::from(t);
            sums[1] += u * u;
        }
        [sums[0], sums[1].sqrt()]
    }
}

/// The square of each coordinate of a gradient in the bases of the parameters.
fn turned_squares(
    gradient: &Gradients<f32>,
    rotations: &BTreeMap<ParameterId, Rotation<f32>>,
) -> BTreeMap<ParameterId, Vec<f64>> {
    let of = |(&id, rotation): (&ParameterId, &Rotation<f32>)| {
        let turned = rotation.turn(gradient.get(id)).into_iter();
        (id, turned.map(|x| f64::from(x) * f64::from(x)).collect())
    };
    rotations.iter().map(of).collect()
}

/// Nothing between the two gradients.
fn identity(parameters: &Parameters<f32>, target: &Gradients<f32>) -> Direction {
    let mut weights = parameters.gradients();
    weights.flat_mut().fill(1.0);
    let rotations = parameters
        .ids()
        .map(|id| (id, Rotation::new(parameters.shape(id), [None, None])));
    Direction {
        preconditioner: Preconditioner::Kfac,
        gradient: target.clone(),
        own: Own::Turned {
            rotations: Arc::new(rotations.collect()),
            weights,
        },
        blocks: Vec::new(),
    }
}

/// What a direction is made of: the same bits or not.
fn bits(direction: &Direction) -> Vec<u32> {
    let gradient = direction.gradient.flat().iter();
    gradient.map(|x| x.to_bits()).collect()
}

/// See above.
#[expect(
    clippy::too_many_lines,
    reason = "one network, looked at from all sides"
)]
pub(super) fn directions_are_those_of_single_samples<N: Network>(
    network: &N,
    weights: &Parameters<f32>,
) {
    let (samples, all): (Samples, Sequences) = sequences(|_| 1.0);
    let data = TrainingData::new(&samples, &all, network.n_items()).unwrap();
    let model = SequenceModel {
        network: network.clone(),
        parameters: weights.clone(),
        counts: Counts::of(&data),
        chain: None,
        steps: 0,
    };
    let asked = requests(&data, &all);
    let lists: Vec<(History<'_>, &[u32])> = asked
        .iter()
        .map(|(history, items)| (*history, items.as_slice()))
        .collect();
    let target = model.target(&lists, Measure::Loss);
    let seed = Seed::root(3);
    let make = || {
        let mut all = model.fisher_directions(&data, &target, (&BOTH, DAMPED), seed, &|_| {});
        all.push(model.adam_direction(&state(weights), &target).unwrap());
        all.push(identity(weights, &target.0));
        all
    };
    let with_threads = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
        pool.unwrap().install(make)
    };
    let directions = with_threads(1);
    let again = with_threads(2);
    for (a, b) in directions.iter().zip(&again) {
        assert_eq!(bits(a), bits(b));
        assert_eq!(a.blocks(), b.blocks());
    }

    let chosen: Vec<u32> = (0..).take(data.n_samples()).collect();
    let found = model.samples_along(&data, &chosen, (&target, &directions), &|_| {});
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    let again = pool
        .unwrap()
        .install(|| model.samples_along(&data, &chosen, (&target, &directions), &|_| {}));
    assert_eq!(found, again);
    // Who shares a batch does not matter: rounding of 32-bit sums aside.
    for step in [1, 7] {
        for chosen in chosen.chunks(step).take(12) {
            let part = model.samples_along(&data, chosen, (&target, &directions), &|_| {});
            for (&at, part) in chosen.iter().zip(part) {
                let Some((plain, along)) = &found[at as usize] else {
                    assert!(part.is_none());
                    continue;
                };
                let (_, part) = part.unwrap();
                for (direction, (a, b)) in directions.iter().zip(along.iter().zip(&part)) {
                    let scale = plain.norm * direction.gradient.norm();
                    assert!((a.product - b.product).abs() <= ROUNDED * scale);
                    let own = |along: &Along| {
                        let update = along.update.map(|update| update.norm);
                        along.self_product.or(update).unwrap()
                    };
                    assert!((own(a) - own(b)).abs() <= SMALL * own(a));
                }
            }
        }
    }

    let by_hand = ByHand::new(weights, &state(weights));
    for (at, &t) in target.0.flat().iter().enumerate() {
        let (found, expected) = (directions[2].gradient.flat()[at], by_hand.direction(at, t));
        assert!((f64::from(found) - expected).abs() <= 1e-6 * expected.abs());
    }
    let Own::Turned { rotations, .. } = &directions[1].own else {
        panic!("a Fisher matrix has bases");
    };
    let mut n_scored = 0;
    let mut squares: BTreeMap<ParameterId, Vec<f64>> = BTreeMap::new();
    for (sample, found) in found.iter().enumerate() {
        let Some((plain, along)) = found else {
            continue;
        };
        n_scored += 1;
        let seen = network.span().seen(data.history(sample));
        let term = (data.item(sample), 1.0);
        let mut alone = Gradients::new(weights);
        one(&model, seen, term, Context::training(None, &[]), &mut alone);
        for (id, more) in turned_squares(&alone, rotations) {
            let sums = squares.entry(id).or_insert_with(|| vec![0.0; more.len()]);
            for (sum, x) in sums.iter_mut().zip(more) {
                *sum += x;
            }
        }
        let close = |a: f64, b: f64, most: f64| {
            assert!((a - b).abs() <= most, "{a} {b}, at most {most}");
        };
        for (direction, along) in directions.iter().zip(along) {
            let expected = product(alone.flat(), direction.gradient.flat());
            let scale = alone.norm() * direction.gradient.norm();
            close(along.product, expected, ROUNDED * scale);
            match &direction.own {
                Own::Turned { rotations, weights } => {
                    let all = turned_squares(&alone, rotations);
                    let weighted = all.iter().flat_map(|(&id, squares)| {
                        let pairs = squares.iter().zip(weights.get(id));
                        pairs.map(|(x, w)| x * f64::from(*w))
                    });
                    let expected: f64 = weighted.sum();
                    close(along.self_product.unwrap(), expected, SMALL * expected);
                    assert!(along.update.is_none());
                }
                Own::Adam(_) => {
                    let expected = by_hand.update(alone.flat(), target.0.flat());
                    let update = along.update.unwrap();
                    close(update.norm, expected[1], SMALL * expected[1]);
                    close(
                        update.product,
                        expected[0],
                        SMALL * expected[1] * target.norm(),
                    );
                }
            }
        }
        // Without a preconditioner nothing is new.
        let Along {
            product,
            self_product,
            ..
        } = along[3];
        assert_eq!(product.to_bits(), plain.target_product.to_bits());
        let square = plain.norm * plain.norm;
        close(self_product.unwrap(), square, ROUNDED * square);
    }
    assert!(n_scored > 50);
    corrected_eigenvalues_are_mean_squares(&model, &directions[1], squares, n_scored);
}

/// Eigenvalues of EK-FAC are means over samples of squares of whole gradients.
fn corrected_eigenvalues_are_mean_squares<N: Network>(
    model: &SequenceModel<N>,
    direction: &Direction,
    squares: BTreeMap<ParameterId, Vec<f64>>,
    n_scored: usize,
) {
    let Own::Turned { weights, .. } = &direction.own else {
        panic!("a Fisher matrix has bases");
    };
    let n_reached = squares
        .values()
        .filter(|sums| sums.iter().any(|&sum| sum > 0.0));
    assert!(n_reached.count() > 2);
    let cards = direction.blocks().iter();
    let largest = cards.map(|card| card.mean_eigenvalue).fold(0.0, f64::max);
    for (id, sums) in squares {
        let name = model.parameters.name(id);
        let values: Vec<f64> = sums.iter().map(|sum| sum / n_scored as f64).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let card = direction
            .blocks()
            .iter()
            .find(|card| card.parameter == name);
        let card = card.unwrap();
        let damping = 0.1 * card.mean_eigenvalue.max(ROUNDING * largest);
        assert!((card.damping - damping).abs() <= 1e-12 * damping);
        if mean <= ROUNDING * largest {
            // Nothing but what 32 bits leave of a gradient of zero: another one in another batch.
            continue;
        }
        let error = (card.mean_eigenvalue - mean).abs();
        assert!(error <= SMALL * mean, "`{name}`: {error} of {mean}");
        for (value, &weight) in values.iter().zip(weights.get(id)) {
            let expected = 1.0 / (value + 0.1 * mean);
            let error = (f64::from(weight) - expected).abs();
            // The damping is a tenth of the mean.
            assert!(
                error <= 10.0 * SMALL * expected,
                "`{name}`: {weight} {expected}"
            );
        }
    }
}
