//! What a matrix factorisation says of single samples: gradients, and influence through the block of the
//! curvature that belongs to one user and one item.
//!
//! The parameters are a vector of each user and one of each item. The loss of a sample, and of a
//! relevant item of a request, touches one user and a few items; so does its gradient. With θ the vectors
//! of user u and item i, H the second derivative by them of the objective that training minimises (a sum
//! over samples), the influence of a sample z on the loss of i at a request of u is
//!
//! ```text
//! ∇ℓ(u, i)' H⁻¹ ∇ℓ(z)
//! ```
//!
//! both gradients by θ alone: 0 for all samples but those of the user and those with the item. It is
//! linear in the gradient of the sample, so all relevant items of all requests are one direction for
//! each user and one for each item, and a sample costs two products, however many requests there are.
//!
//! # Paper
//! Cheng, Shen, Huang, Zhu, "Incorporating interpretability into latent factor models via fast influence
//! analysis", KDD 2019, section 3.2: derivatives by the vectors of the two sides alone (FIA-MF).
//!
//! # Departures
//! - The loss at a request is that of a relevant item, not the prediction itself.
//! - A block without an inverse (far from a minimum a mixed derivative may outweigh the others) gets a
//!   multiple of the identity added: a thousandth of its mean diagonal, then ten times as much each
//!   time, until there is one. How many did is counted.

use rayon::prelude::*;
use tensors::dense::{cholesky, dot, kernels, solve};

use crate::data::TrainingData;
use crate::inside::AskedRequest;
use crate::recommender::SampleGradient;

/// A model with a vector per user and one per item, whose losses have exact derivatives.
pub trait FactorGradients: Send + Sync {
    /// Gradients of single losses before weighting, and influences within blocks, against the mean
    /// over requests of the mean loss of their relevant items. A request of a user without a vector
    /// and an item outside the vocabulary cost what no parameter changes.
    ///
    /// Time: O(relevant items x w³ + samples x w), w being the numbers of a user and an item together,
    /// beside what second derivatives take. Memory: the vectors, two directions of the same size, and
    /// numbers of a user for each relevant item.
    fn measure(&self, data: &TrainingData<'_>, requests: &[AskedRequest<'_>]) -> FactorInfluence;
}

/// What is known of all samples; lists run parallel to them, `None` for a sample without a loss term.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FactorInfluence {
    /// Length of the gradient of the target.
    pub target_norm: f64,
    /// Gradients, all of them of tables.
    pub gradients: Vec<Option<SampleGradient>>,
    /// Influence through the vector of the sample's user: what requests of this user cost more without
    /// the sample.
    pub of_user: Vec<Option<f64>>,
    /// The same through the vectors of the sample's items.
    pub of_item: Vec<Option<f64>>,
    /// Relevant items whose block has no inverse of its own.
    pub n_indefinite: u64,
}

/// The gradient of one loss, where it is not 0.
pub(crate) struct Parts {
    pub(crate) user: usize,
    pub(crate) of_user: Vec<f64>,
    /// Distinct items; the one that was chosen first.
    pub(crate) of_items: Vec<(usize, Vec<f64>)>,
    /// Length of the gradient by the scores.
    pub(crate) by_scores: f64,
}

/// A factorisation at one point.
pub(crate) trait Factorised: Sync {
    /// Users and items.
    fn sizes(&self) -> [usize; 2];
    /// Numbers of a user and of an item.
    fn widths(&self) -> [usize; 2];
    /// The gradient of the loss of a sample; `None` where it has none.
    fn sample(&self, sample: usize) -> Option<Parts>;
    /// The gradient of the loss of a relevant item at a request; `None` where that depends on no
    /// parameter.
    fn relevant(&self, request: &AskedRequest<'_>, item: u32) -> Option<Parts>;
    /// Second derivative of the objective by the vector of a user, its lower triangle at least.
    fn of_user(&self, user: usize) -> Vec<f64>;
    /// The same by that of an item.
    fn of_item(&self, item: usize) -> Vec<f64>;
    /// The same by both, `[numbers of a user, numbers of an item]`.
    fn mixed(&self, user: usize, item: usize) -> Vec<f64>;
}

/// One direction for each user and each item.
struct Tables {
    users: Vec<f64>,
    items: Vec<f64>,
    widths: [usize; 2],
}

kernels! {
    /// Sum of products.
    fn product<'a>(a: &'a [f64], b: &'a [f64]) -> f64 {
        dot(a, b)
    }

    /// Replaces a right side by the solution of a symmetric system; `false` if it is not positive
    /// definite.
    fn solve_definite<'a>(matrix: &'a mut [f64], right: &'a mut [f64]) -> bool {
        let n = right.len();
        let is_definite = cholesky(matrix, n);
        if is_definite {
            solve(matrix, n, right);
        }
        is_definite
    }
}

impl Tables {
    fn zero(of: &impl Factorised) -> Self {
        let ([n_users, n_items], [a, b]) = (of.sizes(), of.widths());
        Self {
            users: vec![0.0; n_users * a],
            items: vec![0.0; n_items * b],
            widths: [a, b],
        }
    }

    fn user(&self, user: usize) -> &[f64] {
        &self.users[user * self.widths[0]..(user + 1) * self.widths[0]]
    }

    fn item(&self, item: usize) -> &[f64] {
        &self.items[item * self.widths[1]..(item + 1) * self.widths[1]]
    }

    fn add_user(&mut self, user: usize, scale: f64, numbers: &[f64]) {
        let row = &mut self.users[user * self.widths[0]..][..self.widths[0]];
        add(row, scale, numbers);
    }

    fn add_item(&mut self, item: usize, scale: f64, numbers: &[f64]) {
        let row = &mut self.items[item * self.widths[1]..][..self.widths[1]];
        add(row, scale, numbers);
    }

    /// Products of a gradient with the user's and the items' directions.
    fn products(&self, parts: &Parts) -> [f64; 2] {
        let of_items = parts
            .of_items
            .iter()
            .map(|(item, numbers)| product(numbers, self.item(*item)))
            .sum();
        [product(&parts.of_user, self.user(parts.user)), of_items]
    }
}

fn add(sum: &mut [f64], scale: f64, numbers: &[f64]) {
    for (sum, x) in sum.iter_mut().zip(numbers) {
        *sum += scale * x;
    }
}

/// The gradient of the loss of one relevant item, with its share in the target.
struct Term {
    share: f64,
    parts: Parts,
}

/// The terms of the target, request by request.
fn terms(of: &impl Factorised, requests: &[AskedRequest<'_>]) -> Vec<Term> {
    let n = requests.len() as f64;
    let found: Vec<Vec<Term>> = requests
        .par_iter()
        .map(|request| {
            let share = 1.0 / (n * request.relevant.len() as f64);
            let items = request.relevant.iter();
            items
                .filter_map(|&item| of.relevant(request, item))
                .map(|parts| Term { share, parts })
                .collect()
        })
        .collect();
    found.into_iter().flatten().collect()
}

/// The gradient of the target by all vectors, users' and items'.
pub(crate) fn target(of: &impl Factorised, requests: &[AskedRequest<'_>]) -> (Vec<f64>, Vec<f64>) {
    let tables = sum(of, &terms(of, requests));
    (tables.users, tables.items)
}

fn sum(of: &impl Factorised, terms: &[Term]) -> Tables {
    let mut target = Tables::zero(of);
    for Term { share, parts } in terms {
        target.add_user(parts.user, *share, &parts.of_user);
        for (item, numbers) in &parts.of_items {
            target.add_item(*item, *share, numbers);
        }
    }
    target
}

/// The second derivative by the vectors of a user and an item, `[w, w]`, its lower triangle.
pub(crate) fn block(of: &impl Factorised, user: usize, item: usize, of_item: &[f64]) -> Vec<f64> {
    let [a, b] = of.widths();
    let w = a + b;
    let of_user = of.of_user(user);
    let mixed = of.mixed(user, item);
    let mut matrix = vec![0.0; w * w];
    for i in 0..a {
        matrix[i * w..=i * w + i].copy_from_slice(&of_user[i * a..=i * a + i]);
    }
    for i in 0..b {
        let row = &mut matrix[(a + i) * w..][..w];
        for (k, x) in row[..a].iter_mut().enumerate() {
            *x = mixed[k * b + i];
        }
        row[a..=a + i].copy_from_slice(&of_item[i * b..=i * b + i]);
    }
    matrix
}

/// H⁻¹ times a gradient, and whether H had to be made definite.
pub(crate) fn through(matrix: &[f64], gradient: &[f64]) -> (Vec<f64>, bool) {
    const MOST: i32 = 12;
    let w = gradient.len();
    let mean = (0..w).map(|i| matrix[i * w + i].abs()).sum::<f64>() / w as f64;
    for tries in 0..MOST {
        let mut shifted = matrix.to_vec();
        if tries > 0 {
            let shift = 1e-3 * mean * (1..tries).fold(1.0, |scale, _| scale * 10.0);
            for i in 0..w {
                shifted[i * w + i] += shift;
            }
        }
        let mut right = gradient.to_vec();
        if solve_definite(&mut shifted, &mut right) {
            return (right, tries > 0);
        }
    }
    // Nothing curves here, so nothing is known of where it would go.
    (vec![0.0; w], true)
}

/// What the blocks of one item make of its terms.
struct OfItem {
    item: usize,
    direction: Vec<f64>,
    /// User and direction of each term.
    users: Vec<(usize, Vec<f64>)>,
    n_indefinite: u64,
}

/// The directions of all terms through their blocks, and how many blocks had to be made definite.
fn directions(of: &impl Factorised, terms: &[Term]) -> (Tables, u64) {
    let [a, b] = of.widths();
    let chosen = |term: &Term| term.parts.of_items.first().map_or(0, |(item, _)| *item);
    let mut order: Vec<usize> = (0..terms.len()).collect();
    // Stable: terms of an item stay in the order of requests.
    order.sort_by_key(|&at| chosen(&terms[at]));
    let groups: Vec<&[usize]> = order
        .chunk_by(|&x, &y| chosen(&terms[x]) == chosen(&terms[y]))
        .collect();
    let found: Vec<OfItem> = groups
        .into_par_iter()
        .filter_map(|group| {
            let item = chosen(&terms[*group.first()?]);
            let of_item = of.of_item(item);
            let mut made = OfItem {
                item,
                direction: vec![0.0; b],
                users: Vec::with_capacity(group.len()),
                n_indefinite: 0,
            };
            for &at in group {
                let Term { share, parts } = &terms[at];
                let (_, by_item) = parts.of_items.first()?;
                let matrix = block(of, parts.user, item, &of_item);
                let gradient = [&parts.of_user[..], by_item].concat();
                let (mut solved, was_shifted) = through(&matrix, &gradient);
                made.n_indefinite += u64::from(was_shifted);
                add(&mut made.direction, *share, &solved[a..]);
                solved.truncate(a);
                for x in &mut solved {
                    *x *= share;
                }
                made.users.push((parts.user, solved));
            }
            Some(made)
        })
        .collect();
    let mut tables = Tables::zero(of);
    let mut n_indefinite = 0;
    for made in found {
        tables.add_item(made.item, 1.0, &made.direction);
        for (user, direction) in &made.users {
            tables.add_user(*user, 1.0, direction);
        }
        n_indefinite += made.n_indefinite;
    }
    (tables, n_indefinite)
}

/// Everything that [`FactorGradients::measure`] promises, of a factorisation at one point.
pub(crate) fn measure(
    of: &impl Factorised,
    n_samples: usize,
    requests: &[AskedRequest<'_>],
) -> FactorInfluence {
    let terms = terms(of, requests);
    let target = sum(of, &terms);
    let (directions, n_indefinite) = directions(of, &terms);
    let numbers = target.users.iter().chain(&target.items);
    let target_norm = numbers.map(|x| x * x).sum::<f64>().sqrt();
    let found: Vec<Option<(SampleGradient, [f64; 2])>> = (0..n_samples)
        .into_par_iter()
        .map(|sample| {
            let parts = of.sample(sample)?;
            let of_items = parts.of_items.iter();
            let square = product(&parts.of_user, &parts.of_user)
                + of_items.map(|(_, x)| product(x, x)).sum::<f64>();
            let [by_user, by_items] = target.products(&parts);
            let gradient = SampleGradient {
                norm: square.sqrt(),
                norm_without_tables: 0.0,
                target_product: by_user + by_items,
                target_product_without_tables: 0.0,
                error_norm: parts.by_scores,
            };
            Some((gradient, directions.products(&parts)))
        })
        .collect();
    FactorInfluence {
        target_norm,
        gradients: found.iter().map(|one| one.map(|one| one.0)).collect(),
        of_user: found.iter().map(|one| one.map(|one| one.1[0])).collect(),
        of_item: found.iter().map(|one| one.map(|one| one.1[1])).collect(),
        n_indefinite,
    }
}
