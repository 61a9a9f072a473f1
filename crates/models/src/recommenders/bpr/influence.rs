//! Gradients and second derivatives of single losses of BPR, by the vectors of users and items.
//!
//! The loss of a sample (user u, item i) is the mean over its fixed negatives j of `-ln sigma(x_ui - x_uj)`,
//! that of a relevant item of a request likewise. Negatives are items that the user never chose in
//! training, up to [`NEGATIVES`] of them, distinct, drawn once: as a function of the sample's id, or of
//! user and item for requests. The number `b_i` of an item is the last of its vector here.
//!
//! The objective is what the steps of an epoch descend, in expectation over negatives, with these
//! instead: the sum over samples of weight x loss, and of half the regularisation of the vectors that a
//! step touches.

use seed::{Seed, Stream};
use tensors::dense::{dot, kernels};

use super::{Bpr, State};
use crate::data::TrainingData;
use crate::factorisation::{self, FactorGradients, FactorInfluence, Factorised, Parts};
use crate::inside::AskedRequest;

/// Items that each target is compared with.
pub(super) const NEGATIVES: usize = 4;

/// Draws for each negative before no other is sought.
const MOST_DRAWS: u64 = 16;

/// 1 / (1 + exp(-x)).
pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + libm::exp(-x))
    } else {
        let e = libm::exp(x);
        e / (1.0 + e)
    }
}

/// A comparison of the items of one sample.
#[derive(Clone, Copy)]
struct Pair {
    user: usize,
    chosen: usize,
    other: usize,
    /// Weight of the sample over its number of comparisons.
    weight: f64,
    /// 1 over that number.
    share: f64,
}

/// The model at one state, and the samples that it was trained on.
pub(super) struct View<'a> {
    /// Numbers of a user; an item has one more.
    d: usize,
    /// `[n_users, d]`.
    users: &'a [f64],
    /// `[n_items, d + 1]`.
    items: &'a [f64],
    regularisation: f64,
    is_known: &'a [bool],
    data: &'a TrainingData<'a>,
    n_vocabulary: usize,
    /// Distinct items of each user, ascending.
    chosen: Vec<Vec<u32>>,
    /// Negatives of each sample.
    negatives: Vec<Vec<u32>>,
    /// Comparisons by user and by item; empty until second derivatives are wanted.
    by_user: Vec<Vec<Pair>>,
    by_item: Vec<Vec<Pair>>,
}

fn of_purpose(purpose: &str) -> Stream {
    Seed::root(0).child("bpr").child(purpose).stream()
}

/// Up to [`NEGATIVES`] distinct items that a user never chose, and that are not the target.
fn draw(stream: Stream, counter: u64, chosen: &[u32], target: u32, n: usize) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::with_capacity(NEGATIVES);
    for lane in 0..MOST_DRAWS * NEGATIVES as u64 {
        if found.len() == NEGATIVES {
            break;
        }
        // Below a number of items, which is of 32 bits.
        let item = u32::try_from(stream.below(n as u64, counter, lane)).unwrap_or(0);
        let is_free = item != target && chosen.binary_search(&item).is_err();
        if is_free && !found.contains(&item) {
            found.push(item);
        }
    }
    found
}

/// Vectors of items with their numbers, in 64 bits.
pub(super) fn joined(items: &[f64], biases: &[f64]) -> Vec<f64> {
    let d = items.len() / biases.len().max(1);
    let rows = (0..biases.len()).flat_map(|item| {
        let row = &items[item * d..(item + 1) * d];
        row.iter().chain(std::iter::once(&biases[item])).copied()
    });
    rows.collect()
}

fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&x| f64::from(x)).collect()
}

/// Vectors of users and items of a state, as a view wants them.
pub(super) fn vectors(state: &State) -> (Vec<f64>, Vec<f64>) {
    let items = joined(&wide(&state.items), &wide(&state.biases));
    (wide(&state.users), items)
}

impl<'a> View<'a> {
    pub(super) fn new(
        model: &'a Bpr,
        (users, items): (&'a [f64], &'a [f64]),
        data: &'a TrainingData<'a>,
    ) -> Self {
        let n_vocabulary = model.state.biases.len();
        let mut chosen = vec![Vec::new(); model.is_known.len()];
        for samples in data.by_sequence() {
            let user = data.sequence(samples.start) as usize;
            if let Some(chosen) = chosen.get_mut(user) {
                *chosen = samples.map(|sample| data.item(sample)).collect();
                chosen.sort_unstable();
                chosen.dedup();
            }
        }
        let stream = of_purpose("sample_negatives");
        let negatives = (0..data.n_samples())
            .map(|sample| {
                let of_user = chosen.get(data.sequence(sample) as usize);
                let of_user = of_user.map_or(&[][..], Vec::as_slice);
                let id = data.sample_id(sample);
                draw(stream, id, of_user, data.item(sample), n_vocabulary)
            })
            .collect();
        Self {
            d: model.state.dimensions(),
            users,
            items,
            regularisation: model.rates.as_written().1,
            is_known: &model.is_known,
            data,
            n_vocabulary,
            chosen,
            negatives,
            by_user: Vec::new(),
            by_item: Vec::new(),
        }
    }

    /// Lists comparisons, for second derivatives.
    pub(super) fn with_pairs(mut self) -> Self {
        self.by_user = vec![Vec::new(); self.is_known.len()];
        self.by_item = vec![Vec::new(); self.n_vocabulary];
        for sample in 0..self.data.n_samples() {
            let Some(user) = self.user(self.data.sequence(sample)) else {
                continue;
            };
            let others = &self.negatives[sample];
            let share = 1.0 / others.len().max(1) as f64;
            for &other in others {
                let pair = Pair {
                    user,
                    chosen: self.data.item(sample) as usize,
                    other: other as usize,
                    weight: self.data.weight(sample) * share,
                    share,
                };
                self.by_user[user].push(pair);
                self.by_item[pair.chosen].push(pair);
                self.by_item[pair.other].push(pair);
            }
        }
        self
    }

    /// The place of a user with a trained vector.
    fn user(&self, sequence: u32) -> Option<usize> {
        let user = sequence as usize;
        (self.is_known.get(user) == Some(&true)).then_some(user)
    }

    fn of_user_row(&self, user: usize) -> &[f64] {
        &self.users[user * self.d..(user + 1) * self.d]
    }

    fn of_item_row(&self, item: usize) -> &[f64] {
        let width = self.d + 1;
        &self.items[item * width..(item + 1) * width]
    }

    /// `x_ui - x_uj`.
    fn margin(&self, user: usize, chosen: usize, other: usize) -> f64 {
        let p = self.of_user_row(user);
        let score = |item: usize| {
            let q = self.of_item_row(item);
            product(p, &q[..self.d]) + q[self.d]
        };
        score(chosen) - score(other)
    }

    /// The loss of an item against others, and its gradient.
    fn compare(&self, user: usize, item: u32, others: &[u32]) -> Option<(f64, Parts)> {
        let chosen = item as usize;
        if others.is_empty() || chosen >= self.n_vocabulary {
            return None;
        }
        let d = self.d;
        let p = self.of_user_row(user);
        let extended = |scale: f64| -> Vec<f64> {
            let numbers = p.iter().chain(&[1.0]);
            numbers.map(|x| scale * x).collect()
        };
        let share = 1.0 / others.len() as f64;
        let (mut loss, mut total, mut squares) = (0.0, 0.0, 0.0);
        let mut of_user = vec![0.0; d];
        let mut of_items = vec![(chosen, Vec::new())];
        for &other in others {
            let other = other as usize;
            let x = self.margin(user, chosen, other);
            loss += share * (libm::log1p(libm::exp(-x.abs())) + (-x).max(0.0));
            let slope = -sigmoid(-x) * share;
            let pairs = self.of_item_row(chosen).iter().zip(self.of_item_row(other));
            for (sum, (q, r)) in of_user.iter_mut().zip(pairs) {
                *sum += slope * (q - r);
            }
            total += slope;
            squares += slope * slope;
            of_items.push((other, extended(-slope)));
        }
        of_items[0].1 = extended(total);
        let by_scores = (total * total + squares).sqrt();
        let parts = Parts {
            user,
            of_user,
            of_items,
            by_scores,
        };
        Some((loss, parts))
    }

    /// The loss of a sample and its gradient.
    pub(super) fn of_sample(&self, sample: usize) -> Option<(f64, Parts)> {
        let user = self.user(self.data.sequence(sample))?;
        self.compare(user, self.data.item(sample), &self.negatives[sample])
    }

    /// The loss of a relevant item and its gradient.
    pub(super) fn of_request(&self, request: &AskedRequest<'_>, item: u32) -> Option<(f64, Parts)> {
        // An empty history is served by popularity.
        let user = self
            .user(request.sequence)
            .filter(|_| request.history_end > 0)?;
        let stream = of_purpose("request_negatives");
        let counter = stream.bits(u64::from(request.sequence), u64::MAX - u64::from(item));
        let chosen = &self.chosen[user];
        let others = draw(stream, counter, chosen, item, self.n_vocabulary);
        self.compare(user, item, &others)
    }
}

kernels! {
    fn product<'a>(a: &'a [f64], b: &'a [f64]) -> f64 {
        dot(a, b)
    }

    /// Adds scale x x' to the lower triangle of a matrix.
    fn add_outer<'a>(matrix: &'a mut [f64], scale: f64, x: &'a [f64]) -> () {
        let n = x.len();
        for i in 0..n {
            let row = &mut matrix[i * n..=i * n + i];
            let scaled = scale * x[i];
            for (sum, x) in row.iter_mut().zip(x) {
                *sum = scaled.mul_add(*x, *sum);
            }
        }
    }
}

fn add_diagonal(matrix: &mut [f64], n: usize, by: f64) {
    for i in 0..n {
        matrix[i * n + i] += by;
    }
}

impl Factorised for View<'_> {
    fn sizes(&self) -> [usize; 2] {
        [self.is_known.len(), self.n_vocabulary]
    }

    fn widths(&self) -> [usize; 2] {
        [self.d, self.d + 1]
    }

    fn sample(&self, sample: usize) -> Option<Parts> {
        self.of_sample(sample).map(|(_, parts)| parts)
    }

    fn relevant(&self, request: &AskedRequest<'_>, item: u32) -> Option<Parts> {
        self.of_request(request, item).map(|(_, parts)| parts)
    }

    fn of_user(&self, user: usize) -> Vec<f64> {
        let d = self.d;
        let mut matrix = vec![0.0; d * d];
        let mut penalty = 0.0;
        for pair in &self.by_user[user] {
            let x = self.margin(user, pair.chosen, pair.other);
            let rows = self.of_item_row(pair.chosen).iter();
            let rows = rows.zip(self.of_item_row(pair.other)).take(d);
            let between: Vec<f64> = rows.map(|(q, r)| q - r).collect();
            let curvature = pair.weight * sigmoid(x) * sigmoid(-x);
            add_outer(&mut matrix, curvature, &between);
            penalty += pair.share * self.regularisation;
        }
        add_diagonal(&mut matrix, d, penalty);
        matrix
    }

    fn of_item(&self, item: usize) -> Vec<f64> {
        let width = self.d + 1;
        let mut matrix = vec![0.0; width * width];
        let mut penalty = 0.0;
        for pair in &self.by_item[item] {
            let x = self.margin(pair.user, pair.chosen, pair.other);
            let curvature = pair.weight * sigmoid(x) * sigmoid(-x);
            let numbers = self.of_user_row(pair.user).iter().chain(&[1.0]);
            let by_item: Vec<f64> = numbers.copied().collect();
            add_outer(&mut matrix, curvature, &by_item);
            penalty += pair.share * self.regularisation;
        }
        add_diagonal(&mut matrix, width, penalty);
        matrix
    }

    fn mixed(&self, user: usize, item: usize) -> Vec<f64> {
        let (d, width) = (self.d, self.d + 1);
        let mut matrix = vec![0.0; d * width];
        let p = self.of_user_row(user);
        for pair in &self.by_user[user] {
            // With the item the margin rises as the chosen one, and falls as the other.
            let sign = if pair.chosen == item {
                1.0
            } else if pair.other == item {
                -1.0
            } else {
                continue;
            };
            let x = self.margin(user, pair.chosen, pair.other);
            let curvature = sign * pair.weight * sigmoid(x) * sigmoid(-x);
            let slope = -sign * pair.weight * sigmoid(-x);
            let (q, r) = (self.of_item_row(pair.chosen), self.of_item_row(pair.other));
            for i in 0..d {
                let scaled = curvature * (q[i] - r[i]);
                let row = &mut matrix[i * width..(i + 1) * width];
                for (sum, p) in row.iter_mut().zip(p.iter().chain(&[1.0])) {
                    *sum += scaled * p;
                }
                row[i] += slope;
            }
        }
        matrix
    }
}

impl FactorGradients for Bpr {
    fn measure(&self, data: &TrainingData<'_>, requests: &[AskedRequest<'_>]) -> FactorInfluence {
        let (users, items) = vectors(&self.state);
        let view = View::new(self, (&users, &items), data).with_pairs();
        factorisation::measure(&view, data.n_samples(), requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{in_pool, log};
    use crate::factorisation::{block, measure, target, through};
    use crate::recommender::{Recommender, parse};
    use crate::run::Run;
    use crate::{Samples, Sequences};

    const N_ITEMS: u32 = 30;

    /// Users of two halves of a catalogue; one sample in three weighs less or more.
    fn shop() -> (Samples, Sequences) {
        let mut draws = Seed::root(33).sequence();
        let logs: Vec<Vec<u32>> = (0..12)
            .map(|user| {
                let half = u64::from(N_ITEMS / 2);
                let mut item =
                    || user % 2 * (N_ITEMS / 2) + u32::try_from(draws.below(half)).unwrap();
                (0..5).map(|_| item()).collect()
            })
            .collect();
        let weights = [1.0, 0.5, 2.0, 1.0, 1.0];
        let borrowed: Vec<(&[u32], &[f64])> = logs.iter().map(|a| (&a[..], &weights[..])).collect();
        log(&borrowed)
    }

    fn fitted(data: &TrainingData<'_>) -> Bpr {
        let parameters = serde_json::json!({
            "dimensions": 3, "epochs": 30, "learning_rate": 0.1, "regularisation": 0.05
        });
        let parameters = parse::<Bpr>(&parameters).unwrap();
        Bpr::fit(&parameters, data, &mut Run::silent(Seed::root(2))).unwrap()
    }

    const RELEVANT: [[u32; 2]; 3] = [[3, 9], [1, 20], [4, 7]];

    fn requests() -> Vec<AskedRequest<'static>> {
        let requests = (0..).zip(&RELEVANT);
        let requests = requests.map(|(sequence, relevant)| AskedRequest {
            sequence,
            history_end: 5,
            relevant,
        });
        requests.collect()
    }

    /// The objective of the top of this file.
    fn objective(view: &View<'_>, samples: usize) -> f64 {
        let half = view.regularisation / 2.0;
        let square = |row: &[f64]| product(row, row);
        let mut sum = 0.0;
        for sample in 0..samples {
            let Some((loss, parts)) = view.of_sample(sample) else {
                continue;
            };
            let (chosen, others) = parts.of_items.split_first().unwrap();
            let mut penalty = square(view.of_user_row(parts.user));
            penalty += square(view.of_item_row(chosen.0));
            for (other, _) in others {
                penalty += square(view.of_item_row(*other)) / others.len() as f64;
            }
            sum += view.data.weight(sample) * loss + half * penalty;
        }
        sum
    }

    #[test]
    fn gradients_are_finite_differences_of_each_loss_and_blocks_of_the_objective() {
        let (samples, sequences) = shop();
        let data = TrainingData::new(&samples, &sequences, N_ITEMS as usize).unwrap();
        let model = fitted(&data);
        let (users, items) = vectors(&model.state);
        let view = View::new(&model, (&users, &items), &data).with_pairs();
        // Something of a state with one number moved.
        let moved = |is_user: bool, at: usize, by: f64, of: &dyn Fn(&View<'_>) -> f64| {
            let (mut users, mut items) = (users.clone(), items.clone());
            (if is_user { &mut users } else { &mut items })[at] += by;
            of(&View::new(&model, (&users, &items), &data))
        };
        for sample in [0, 7, 31, 59] {
            let (_, parts) = view.of_sample(sample).unwrap();
            let loss = |view: &View<'_>| view.of_sample(sample).unwrap().0;
            for (is_user, n) in [(true, users.len()), (false, items.len())] {
                for at in 0..n {
                    let width = if is_user { 3 } else { 4 };
                    let (row, column) = (at / width, at % width);
                    let found = if is_user {
                        (row == parts.user).then(|| parts.of_user[column])
                    } else {
                        let of_item = parts.of_items.iter().find(|(item, _)| *item == row);
                        of_item.map(|(_, numbers)| numbers[column])
                    };
                    let up = moved(is_user, at, 1e-5, &loss);
                    let expected = (up - moved(is_user, at, -1e-5, &loss)) / 2e-5;
                    // Rounding of 1e-16 over the step, and its square times a third derivative.
                    assert!((found.unwrap_or(0.0) - expected).abs() < 1e-9);
                }
            }
        }
        for (user, item) in [(0, 3), (1, 20), (2, 4), (5, 29)] {
            let found = block(&view, user, item, &view.of_item(item));
            let place = |i: usize| {
                let is_user = i < 3;
                (
                    is_user,
                    if is_user {
                        user * 3 + i
                    } else {
                        item * 4 + i - 3
                    },
                )
            };
            for i in 0..7 {
                for j in 0..=i {
                    let h = 1e-3;
                    let at = |a: f64, b: f64| {
                        let (mut users, mut items) = (users.clone(), items.clone());
                        for (i, by) in [(i, a), (j, b)] {
                            let (is_user, at) = place(i);
                            (if is_user { &mut users } else { &mut items })[at] += by;
                        }
                        let view = View::new(&model, (&users, &items), &data);
                        objective(&view, data.n_samples())
                    };
                    let expected = (at(h, h) - at(h, -h) - at(-h, h) + at(-h, -h)) / (4.0 * h * h);
                    let off = (found[i * 7 + j] - expected).abs();
                    // An error of h^2 times fourth derivatives, which a few dozen terms add up to.
                    assert!(off < 1e-4, "{user} {item} {i} {j}: {off} of {expected}");
                }
            }
        }
    }

    #[test]
    fn influence_is_its_formula_by_brute_force() {
        let (samples, sequences) = shop();
        let data = TrainingData::new(&samples, &sequences, N_ITEMS as usize).unwrap();
        let model = fitted(&data);
        let (users, items) = vectors(&model.state);
        let view = View::new(&model, (&users, &items), &data).with_pairs();
        let requests = requests();
        let found = measure(&view, data.n_samples(), &requests);
        let n_definite = 6 - found.n_indefinite;
        assert!(n_definite >= 2, "{n_definite}");
        let (of_users, of_items) = target(&view, &requests);
        for sample in 0..data.n_samples() {
            let of_sample = view.sample(sample).unwrap();
            let mut expected = 0.0;
            for request in &requests {
                for &relevant in request.relevant {
                    let (user, item) = (request.sequence as usize, relevant as usize);
                    let asked = view.relevant(request, relevant).unwrap();
                    let mut factor = block(&view, user, item, &view.of_item(item));
                    let mut solved = [&asked.of_user[..], &asked.of_items[0].1].concat();
                    if tensors::dense::cholesky(&mut factor, 7) {
                        tensors::dense::solve(&factor, 7, &mut solved);
                    } else {
                        let matrix = block(&view, user, item, &view.of_item(item));
                        solved = through(&matrix, &solved).0;
                    }
                    let mut gradient = vec![0.0; 7];
                    if of_sample.user == user {
                        gradient[..3].copy_from_slice(&of_sample.of_user);
                    }
                    for (at, numbers) in &of_sample.of_items {
                        if *at == item {
                            gradient[3..].copy_from_slice(numbers);
                        }
                    }
                    expected += product(&solved, &gradient) / 6.0;
                }
            }
            let score = found.of_user[sample].unwrap() + found.of_item[sample].unwrap();
            // Rounding of sums of a few products near 1.
            assert!((score - expected).abs() < 1e-12, "{score} {expected}");
            let mut by_hand = product(&of_sample.of_user, &of_users[of_sample.user * 3..][..3]);
            for (item, numbers) in &of_sample.of_items {
                by_hand += product(numbers, &of_items[item * 4..][..4]);
            }
            let gradient = found.gradients[sample].unwrap();
            assert!((gradient.target_product - by_hand).abs() < 1e-13);
        }
        let again = |threads| in_pool(threads, || model.measure(&data, &requests));
        assert_eq!(again(2), again(1));
        assert_eq!(again(1), found);
    }

    #[test]
    fn nothing_is_known_of_a_user_without_a_vector_or_of_an_item_without_one() {
        let (samples, sequences) = shop();
        let data = TrainingData::new(&samples, &sequences, N_ITEMS as usize).unwrap();
        let model = fitted(&data);
        let strangers = [
            AskedRequest {
                sequence: 99,
                history_end: 5,
                relevant: &[3],
            },
            AskedRequest {
                sequence: 0,
                history_end: 0,
                relevant: &[3],
            },
            AskedRequest {
                sequence: 0,
                history_end: 5,
                relevant: &[N_ITEMS],
            },
        ];
        let found = model.measure(&data, &strangers);
        assert!(found.target_norm.abs() < 1e-300);
        assert!(
            found
                .of_item
                .iter()
                .all(|score| score.unwrap().abs() < 1e-300)
        );
        // Weights change neither losses nor negatives: a sample's gradient is that of its own loss.
        let none = model.measure(&data, &[]);
        let norms = |found: &FactorInfluence| -> Vec<f64> {
            found
                .gradients
                .iter()
                .map(|one| one.unwrap().norm)
                .collect()
        };
        assert_eq!(norms(&none), norms(&found));
    }
}
