//! The derivative of iALS's training, half an epoch after the other, by the weight of each sample.
//!
//! Every half solves its systems exactly, so that it is differentiated by the implicit function theorem
//! (`ials/dense.rs`) and not by its own arithmetic; a request's vector is the solution of one more
//! system, on its history, whose weights are numbers of occurrences: in regime `mask` it depends on
//! weights through the items alone. A relevant item costs `(x.y_i - 1)^2`. Turning factors changes no
//! product, so nothing is turned here. A cell that no sample of weight above 0 holds is no part of the
//! training, and to make it one is a jump (the penalty counts cells): its samples have no derivative.
//!
//! # Paper
//! Engstrom et al., "Optimizing ML training with metagradient descent", 2025, section 3; the theorem as in
//! Koh, Liang, ICML 2017, for a single solution.
//!
//! # Cost
//! Time: (users + items) systems of dimensions^3 / 3 for each epoch, three times. Memory: the vectors of
//! the items after each epoch, 8 epochs x items x dimensions bytes; those of users are made again.

use tensors::Csr;
use tensors::dense::gram;

use super::dense::{Side, product};
use super::influence::rows_of_sequences;
use super::{ITEMS, Ials, Parameters};
use crate::cells::sums;
use crate::data::TrainingData;
use crate::factors::initial;
use crate::inside::AskedRequest;
use crate::recommender::parse;
use crate::unrolled::{UnrollError, Unrolled, Unrolling, distance};

/// How far the products of items may be from the model's, relative to them all: systems are solved in
/// another order of sums, which epochs that have not converged spread.
const MOST_DISTANCE: f64 = 1e-3;

/// The histories of requests that training knows an item of, as cells, and what these are asked.
struct Questions<'a> {
    /// Occurrences of each known item, a row for each of them.
    cells: Csr<f64>,
    /// Relevant items within the vocabulary, and what a request weighs over its relevant items.
    asked: Vec<(&'a [u32], f64)>,
}

impl<'a> Questions<'a> {
    fn new(
        model: &Ials,
        data: &TrainingData<'_>,
        requests: &[AskedRequest<'a>],
    ) -> Result<Self, UnrollError> {
        let mut cells = Csr::new(data.n_vocabulary());
        let mut asked = Vec::new();
        for request in requests {
            let history = data.events(request.sequence, request.history_end);
            let history = history.items().iter().copied();
            let mut known: Vec<u32> = history
                .filter(|item| model.counts.is_target(*item))
                .collect();
            if known.is_empty() || request.relevant.is_empty() {
                continue;
            }
            known.sort_unstable();
            let row = known.chunk_by(|a, b| a == b);
            cells
                .push_row(row.map(|equal| (equal[0], equal.len() as f64)))
                .map_err(crate::FitError::from)?;
            let share = 1.0 / (requests.len() as f64 * request.relevant.len() as f64);
            asked.push((request.relevant, share));
        }
        Ok(Self { cells, asked })
    }

    /// The mean cost, and its derivative by the vectors of items.
    fn cost(&self, items: &[f64], model: &Ials) -> (f64, Vec<f64>) {
        let d = model.spectrum.len();
        let n = items.len() / d.max(1);
        let side = Side {
            cells: &self.cells,
            others: items,
            d,
            settings: model.settings,
        };
        let rows = side.solved();
        let mut bar = vec![0.0; rows.len()];
        let mut direct = vec![0.0; items.len()];
        let mut cost = 0.0;
        for (at, (relevant, share)) in self.asked.iter().enumerate() {
            let x = &rows[at * d..(at + 1) * d];
            for &item in relevant.iter().filter(|item| (**item as usize) < n) {
                let range = item as usize * d..(item as usize + 1) * d;
                let error = product(x, &items[range.clone()]) - 1.0;
                cost += share * error * error;
                let slope = 2.0 * share * error;
                let bar = bar[at * d..(at + 1) * d].iter_mut();
                for ((bar, direct), (x, y)) in bar
                    .zip(&mut direct[range.clone()])
                    .zip(x.iter().zip(&items[range]))
                {
                    *bar += slope * y;
                    *direct += slope * x;
                }
            }
        }
        let pulled = side.pull(&rows, &bar);
        for (direct, more) in direct.iter_mut().zip(pulled.others) {
            *direct += more;
        }
        (cost, direct)
    }
}

/// The items after each epoch, the start first.
fn course(
    model: &Ials,
    parameters: &Parameters,
    cells: [&Csr<f64>; 2],
    asked: &Unrolling<'_>,
) -> Vec<Vec<f64>> {
    let d = parameters.dimensions as usize;
    let seed = asked.seed.child("initial_weights").child(ITEMS);
    let deviation = parameters.initial_deviation / (d as f64).sqrt();
    let mut states = vec![initial(seed, asked.data.n_vocabulary(), d, deviation)];
    let settings = model.settings;
    for _ in 0..parameters.epochs {
        let others = states.last().map_or(&[][..], Vec::as_slice);
        let users = side(cells[0], others, d, settings).solved();
        states.push(side(cells[1], &users, d, settings).solved());
    }
    states
}

fn side<'a>(
    cells: &'a Csr<f64>,
    others: &'a [f64],
    d: usize,
    settings: super::Settings,
) -> Side<'a> {
    Side {
        cells,
        others,
        d,
        settings,
    }
}

impl Ials {
    /// How far the Gram matrix of items is from being the model's, which is diagonal: its eigenvalues
    /// are what does not turn.
    fn off(&self, items: &[f64]) -> f64 {
        let d = self.spectrum.len();
        if items.len() != self.items.len() {
            return f64::INFINITY;
        }
        // They come in no order.
        let sorted = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values
        };
        let values = sorted(tensors::dense::symmetric(gram(items, d), d).values);
        let lengths =
            |items: &[f64]| -> Vec<f64> { items.chunks_exact(d).map(|y| product(y, y)).collect() };
        let (found, own) = (lengths(items), lengths(&self.items));
        let values = values.into_iter().zip(sorted(self.spectrum.clone()));
        distance(values.chain(found.into_iter().zip(own)))
    }
}

impl Unrolled for Ials {
    fn unrolled(&self, asked: &Unrolling<'_>) -> Result<Vec<Option<f64>>, UnrollError> {
        let parameters: Parameters = parse::<Self>(asked.parameters)?;
        if parameters.steps().is_some() {
            return Err(UnrollError::NotDifferentiable(
                "`solver: conjugate_gradient` stops short of a solution; write `solver: cholesky`",
            ));
        }
        let data = asked.data;
        let by_user = sums(data)?;
        let by_item = by_user.transpose();
        let states = course(self, &parameters, [&by_user, &by_item], asked);
        let Some(last) = states.last() else {
            return Err(UnrollError::NotFinite);
        };
        let off = self.off(last);
        if off.is_nan() || off >= MOST_DISTANCE {
            return Err(UnrollError::AnotherTraining { distance: off });
        }
        let d = parameters.dimensions as usize;
        let questions = Questions::new(self, data, asked.requests)?;
        let (_, mut bar) = questions.cost(last, self);
        let mut of_users = vec![0.0; by_user.n_values()];
        let mut of_items = vec![0.0; by_user.n_values()];
        let add = |sum: &mut [f64], more: &[f64]| {
            for (sum, x) in sum.iter_mut().zip(more) {
                *sum += x;
            }
        };
        let total = states.len() as u64 - 1;
        for (done, pair) in (1..).zip(states.windows(2).rev()) {
            let first = side(&by_user, &pair[0], d, self.settings);
            let users = first.solved();
            let second = side(&by_item, &users, d, self.settings);
            let pulled = second.pull(&pair[1], &bar);
            add(&mut of_items, &pulled.weights);
            let pulled = first.pull(&users, &pulled.others);
            add(&mut of_users, &pulled.weights);
            bar = pulled.others;
            (asked.on_progress)(done, total);
        }
        let rows = rows_of_sequences(data);
        let place = |cells: &Csr<f64>, row: u32, column: u32| {
            let at = cells.row(row as usize).0.binary_search(&column).ok()?;
            usize::try_from(cells.indptr[row as usize])
                .ok()
                .map(|start| start + at)
        };
        let found: Vec<Option<f64>> = (0..data.n_samples())
            .map(|sample| {
                let row = rows[data.sequence(sample) as usize]?;
                let item = data.item(sample);
                let in_users = of_users[place(&by_user, row, item)?];
                Some(-(in_users + of_items[place(&by_item, item, row)?]))
            })
            .collect();
        if found.iter().flatten().all(|x| x.is_finite()) {
            Ok(found)
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
    use crate::factorisation::{Factorised, block, measure};
    use crate::recommender::{Model, Recommender};
    use crate::recommenders::ials::influence::View;
    use crate::run::Run;
    use crate::{Samples, Sequences};

    const N_USERS: u32 = 18;
    const N_ITEMS: u32 = 14;

    /// Users who choose within one half of the catalogue, some cells twice; the last item of each is
    /// what requests ask for.
    fn shop(weight: impl Fn(usize) -> Option<f64>) -> (Samples, Sequences, Vec<[u32; 1]>) {
        let mut draws = Seed::root(32).sequence();
        let (mut at, mut logs, mut relevant) = (0, Vec::new(), Vec::new());
        for user in 0..N_USERS {
            let mut item = || {
                let half = draws.below(10) < 8;
                let within = u32::try_from(draws.below(u64::from(N_ITEMS / 2))).unwrap();
                (user % 2 + u32::from(!half)) % 2 * (N_ITEMS / 2) + within
            };
            let all: Vec<u32> = (0..6).map(|_| item()).collect();
            relevant.push([item()]);
            let kept: Vec<(u32, f64)> = all
                .into_iter()
                .filter_map(|item| {
                    at += 1;
                    weight(at - 1).map(|weight| (item, weight))
                })
                .collect();
            logs.push(kept.into_iter().unzip());
        }
        let logs: Vec<(Vec<u32>, Vec<f64>)> = logs;
        let borrowed: Vec<(&[u32], &[f64])> = logs.iter().map(|(a, b)| (&a[..], &b[..])).collect();
        let (samples, sequences) = log(&borrowed);
        (samples, sequences, relevant)
    }

    fn parameters(epochs: u32) -> serde_json::Value {
        json!({ "dimensions": 4, "epochs": epochs, "unobserved_weight": 0.2, "regularisation": 0.05, "initial_deviation": 1.0 })
    }

    fn fitted(data: &TrainingData<'_>, epochs: u32) -> Ials {
        let parameters = parse::<Ials>(&parameters(epochs)).unwrap();
        Ials::fit(&parameters, data, &mut Run::silent(Seed::root(3))).unwrap()
    }

    /// Requests at the end of what each user did.
    fn asked<'a>(relevant: &'a [[u32; 1]], data: &TrainingData<'_>) -> Vec<AskedRequest<'a>> {
        let end = |sequence: u32| {
            let of_sequence = (0..data.n_samples()).filter(|&at| data.sequence(at) == sequence);
            u32::try_from(of_sequence.count()).unwrap()
        };
        let requests = (0..).zip(relevant);
        let requests = requests.map(|(sequence, relevant)| AskedRequest {
            sequence,
            history_end: end(sequence),
            relevant,
        });
        requests.collect()
    }

    fn cost(model: &Ials, data: &TrainingData<'_>, relevant: &[[u32; 1]]) -> f64 {
        let requests = asked(relevant, data);
        let questions = Questions::new(model, data, &requests).unwrap();
        questions.cost(&model.items, model).0
    }

    fn unrolled(
        model: &Ials,
        data: &TrainingData<'_>,
        relevant: &[[u32; 1]],
        epochs: u32,
    ) -> Vec<Option<f64>> {
        let requests = asked(relevant, data);
        model
            .unrolled(&Unrolling {
                parameters: &parameters(epochs),
                data,
                seed: Seed::root(3),
                requests: &requests,
                on_progress: &|_, _| {},
            })
            .unwrap()
    }

    fn pearson(x: &[f64], y: &[f64]) -> f64 {
        let n = x.len() as f64;
        let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
        let pairs = || x.iter().zip(y).map(|(x, y)| (x - mean_x, y - mean_y));
        let sum = |of: fn(f64, f64) -> f64| pairs().map(|(x, y)| of(x, y)).sum::<f64>();
        sum(|x, y| x * y) / (sum(|x, _| x * x) * sum(|_, y| y * y)).sqrt()
    }

    fn ranks(values: &[f64]) -> Vec<f64> {
        let below = |x: &f64| values.iter().filter(|y| *y < x).count() as f64;
        values.iter().map(below).collect()
    }

    #[test]
    fn it_is_the_finite_difference_of_training_with_other_weights() {
        // Few epochs, far from the fixed point, and many.
        for epochs in [1, 3, 25] {
            let (samples, sequences, relevant) = shop(|_| Some(1.0));
            let data = TrainingData::new(&samples, &sequences, N_ITEMS as usize).unwrap();
            let model = fitted(&data, epochs);
            let found = unrolled(&model, &data, &relevant, epochs);
            let largest = found.iter().flatten().fold(0.0_f64, |a, x| a.max(x.abs()));
            assert!(largest > 1e-4);
            for (sample, found) in found.iter().enumerate() {
                let at = |by: f64| {
                    let (samples, sequences, _) =
                        shop(|at| Some(if at == sample { 1.0 + by } else { 1.0 }));
                    let data = TrainingData::new(&samples, &sequences, N_ITEMS as usize).unwrap();
                    cost(&fitted(&data, epochs), &data, &relevant)
                };
                // Central differences with a step of 1e-4: an error of 1e-8 times a third derivative,
                // and rounding of 1e-15 over the step.
                let expected = -(at(1e-4) - at(-1e-4)) / 2e-4;
                let off = (found.unwrap() - expected).abs();
                assert!(
                    off < 1e-6 * largest,
                    "{epochs} epochs, {sample}: {off} of {expected}"
                );
            }
        }
    }

    #[test]
    fn blocks_are_finite_differences_and_influence_is_their_brute_force() {
        let (samples, sequences, relevant) = shop(|at| Some([1.0, 0.5, 2.0][at % 3]));
        let data = TrainingData::new(&samples, &sequences, N_ITEMS as usize).unwrap();
        let model = fitted(&data, 20);
        let view = View::new(&model, &data).unwrap();
        let d = 4;
        // The objective over all pairs, as a function of the vectors of one user and one item.
        let cells = sums(&data).unwrap();
        let users = side(&cells, &model.items, d, model.settings).solved();
        let by_item = cells.transpose();
        let objective = |user: usize, item: usize, at: &[f64]| {
            let (mut users, mut items) = (users.clone(), model.items.clone());
            users[user * d..(user + 1) * d].copy_from_slice(&at[..d]);
            items[item * d..(item + 1) * d].copy_from_slice(&at[d..]);
            let mut sum = 0.0;
            for (u, x) in users.chunks(d).enumerate() {
                let (columns, weights) = cells.row(u);
                for (i, y) in items.chunks(d).enumerate() {
                    let score = product(x, y);
                    sum += model.settings.unobserved_weight * score * score;
                    if let Ok(at) = columns.binary_search(&u32::try_from(i).unwrap()) {
                        sum += weights[at] * (score - 1.0) * (score - 1.0);
                    }
                }
                let n = items.len() / d;
                sum += model.settings.penalty(columns.len(), n) * product(x, x);
            }
            for (i, y) in items.chunks(d).enumerate() {
                let penalty = model
                    .settings
                    .penalty(by_item.row(i).0.len(), cells.n_rows());
                sum += penalty * product(y, y);
            }
            sum
        };
        for (user, item) in [(0, 0), (2, 9), (5, 3), (7, 12)] {
            let at = [&users[user * d..][..d], &model.items[item * d..][..d]].concat();
            let found = block(&view, user, item, &view.of_item(item));
            for i in 0..2 * d {
                for j in 0..=i {
                    let shifted = |a: f64, b: f64| {
                        let mut at = at.clone();
                        at[i] += a;
                        at[j] += b;
                        objective(user, item, &at)
                    };
                    let h = 1e-3;
                    let expected = (shifted(h, h) - shifted(h, -h) - shifted(-h, h)
                        + shifted(-h, -h))
                        / (4.0 * h * h);
                    // The objective is of degree four: an error of h^2 times numbers near 1.
                    let off = (found[i * 2 * d + j] - expected).abs();
                    assert!(off < 1e-5, "{user} {item} {i} {j}: {off} {expected}");
                }
            }
        }
        // Each relevant item and each sample on their own, through the block's explicit inverse.
        let requests = asked(&relevant, &data);
        let found = measure(&view, data.n_samples(), &requests);
        assert_eq!(found.n_indefinite, 0);
        for sample in 0..data.n_samples() {
            let of_sample = view.sample(sample).unwrap();
            let mut expected = 0.0;
            for request in &requests {
                let (user, item) = (request.sequence as usize, request.relevant[0] as usize);
                let target = view.relevant(request, request.relevant[0]).unwrap();
                let mut inverse = block(&view, user, item, &view.of_item(item));
                assert!(tensors::dense::cholesky(&mut inverse, 2 * d));
                let mut solved = [target.of_user.clone(), target.of_items[0].1.clone()].concat();
                tensors::dense::solve(&inverse, 2 * d, &mut solved);
                let mut gradient = vec![0.0; 2 * d];
                if of_sample.user == user {
                    gradient[..d].copy_from_slice(&of_sample.of_user);
                }
                if of_sample.of_items[0].0 == item {
                    gradient[d..].copy_from_slice(&of_sample.of_items[0].1);
                }
                expected += product(&solved, &gradient) / requests.len() as f64;
            }
            let score = found.of_user[sample].unwrap() + found.of_item[sample].unwrap();
            // Rounding of sums of eighteen products near 1e-2.
            assert!((score - expected).abs() < 1e-13, "{score} {expected}");
        }
    }

    #[test]
    fn influence_in_blocks_ranks_samples_as_retraining_without_them_does() {
        const EPOCHS: u32 = 60;
        let (samples, sequences, relevant) = shop(|_| Some(1.0));
        let data = TrainingData::new(&samples, &sequences, N_ITEMS as usize).unwrap();
        let model = fitted(&data, EPOCHS);
        let fast = model.measure_all(&data, &asked(&relevant, &data));
        let exact = unrolled(&model, &data, &relevant, EPOCHS);
        let base = cost(&model, &data, &relevant);
        let (mut of_events, mut of_samples) = (Vec::new(), Vec::new());
        let mut of_tenths = Vec::new();
        for sample in 0..data.n_samples() {
            // The event is gone, from the history of its user too.
            let (gone, short, _) = shop(|at| (at != sample).then_some(1.0));
            let gone = TrainingData::new(&gone, &short, N_ITEMS as usize).unwrap();
            of_events.push(cost(&fitted(&gone, EPOCHS), &gone, &relevant) - base);
            // Regime `mask`: the event stays in the history.
            let (masked, long, _) = shop(|at| Some(f64::from(u8::from(at != sample))));
            let masked = TrainingData::new(&masked, &long, N_ITEMS as usize).unwrap();
            of_samples.push(cost(&fitted(&masked, EPOCHS), &masked, &relevant) - base);
            let (lighter, long, _) = shop(|at| Some(if at == sample { 0.9 } else { 1.0 }));
            let lighter = TrainingData::new(&lighter, &long, N_ITEMS as usize).unwrap();
            of_tenths.push(cost(&fitted(&lighter, EPOCHS), &lighter, &relevant) - base);
        }
        let spearman = |x: &[f64], y: &[f64]| pearson(&ranks(x), &ranks(y));
        let fia: Vec<f64> = fast.iter().map(|[a, b]| a + b).collect();
        let through_items: Vec<f64> = fast.iter().map(|[_, b]| *b).collect();
        let exact: Vec<f64> = exact.into_iter().flatten().collect();
        let found = [
            spearman(&exact, &of_tenths),
            spearman(&exact, &of_samples),
            spearman(&fia, &of_events),
            spearman(&through_items, &of_samples),
        ];
        // Found: .997, .40, .50, .38. A tenth of a sample is a small step. A whole one is not: without it
        // so small a shop settles in another optimum, which no derivative knows of (at half the weight the
        // rank correlation has fallen to .53), and a block of one user and one item knows less still.
        assert!(found[0] > 0.99, "{found:?}");
        assert!(found[1..].iter().all(|found| *found > 0.3), "{found:?}");
    }

    impl Ials {
        fn measure_all(
            &self,
            data: &TrainingData<'_>,
            requests: &[AskedRequest<'_>],
        ) -> Vec<[f64; 2]> {
            let found = self.factor_gradients().unwrap().measure(data, requests);
            let pairs = found.of_user.iter().zip(&found.of_item);
            pairs.map(|(a, b)| [a.unwrap(), b.unwrap()]).collect()
        }
    }

    #[test]
    fn what_cannot_be_taken_again_is_refused_and_threads_change_nothing() {
        let (samples, sequences, relevant) = shop(|_| Some(1.0));
        let data = TrainingData::new(&samples, &sequences, N_ITEMS as usize).unwrap();
        let model = fitted(&data, 2);
        let requests = asked(&relevant, &data);
        let with = |parameters: serde_json::Value, seed| {
            model
                .unrolled_training()
                .unwrap()
                .unrolled(&Unrolling {
                    parameters: &parameters,
                    data: &data,
                    seed: Seed::root(seed),
                    requests: &requests,
                    on_progress: &|_, _| {},
                })
                .unwrap_err()
        };
        let elsewhere = with(parameters(2), 4);
        assert!(matches!(elsewhere, UnrollError::AnotherTraining { .. }));
        let mut other = parameters(2);
        other["solver"] = json!("conjugate_gradient");
        assert!(with(other, 3).to_string().contains("cholesky"));
        let both = |threads| {
            in_pool(threads, || {
                let requests = asked(&relevant, &data);
                let measured = model.measure_all(&data, &requests);
                (unrolled(&model, &data, &relevant, 2), measured)
            })
        };
        assert_eq!(both(2), both(1));
    }
}
