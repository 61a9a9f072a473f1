//! Gradients and second derivatives of single losses of iALS, by the vectors of users and items.
//!
//! The loss of a sample is `(x_u.y_i - 1)^2`, that of one occurrence of its cell; the pairs that nobody
//! observed belong to no sample. A relevant item of a request costs the same. The vector of a user is the
//! solution on their samples, to the items of the model; requests of users without samples of weight
//! above 0, and those without a history, cost what no parameter changes. The objective is that of the
//! model, a sum over samples: its blocks are the systems that training solves, times two.

use tensors::Csr;
use tensors::dense::gram;

use super::Ials;
use super::dense::{Side, product};
use crate::cells::sums;
use crate::data::TrainingData;
use crate::factorisation::{self, FactorGradients, FactorInfluence, Factorised, Parts};
use crate::inside::AskedRequest;
use crate::recommender::FitError;

/// The row of each sequence among the users with a cell; as `cells::sums` numbers them.
pub(super) fn rows_of_sequences(data: &TrainingData<'_>) -> Vec<Option<u32>> {
    let mut rows = vec![None; data.n_sequences()];
    let mut next = 0;
    for mut samples in data.by_sequence() {
        let sequence = data.sequence(samples.start) as usize;
        if samples.any(|sample| data.weight(sample) > 0.0) {
            rows[sequence] = Some(next);
            next += 1;
        }
    }
    rows
}

/// Factors of both sides with all that second derivatives need.
pub(super) struct View<'a> {
    pub(super) model: &'a Ials,
    data: &'a TrainingData<'a>,
    by_user: Csr<f64>,
    by_item: Csr<f64>,
    rows: Vec<Option<u32>>,
    users: Vec<f64>,
    of_users: Vec<f64>,
    of_items: Vec<f64>,
}

impl<'a> View<'a> {
    pub(super) fn new(model: &'a Ials, data: &'a TrainingData<'a>) -> Result<Self, FitError> {
        let by_user = sums(data)?;
        let d = model.spectrum.len();
        let users = Side {
            cells: &by_user,
            others: &model.items,
            d,
            settings: model.settings,
        }
        .solved();
        Ok(Self {
            model,
            data,
            by_item: by_user.transpose(),
            rows: rows_of_sequences(data),
            of_users: gram(&users, d),
            of_items: gram(&model.items, d),
            by_user,
            users,
        })
    }

    fn d(&self) -> usize {
        self.model.spectrum.len()
    }

    fn user(&self, sequence: u32) -> Option<usize> {
        let row = self.rows.get(sequence as usize).copied().flatten();
        row.map(|row| row as usize)
    }

    fn x(&self, user: usize) -> &[f64] {
        &self.users[user * self.d()..(user + 1) * self.d()]
    }

    fn y(&self, item: usize) -> &[f64] {
        &self.model.items[item * self.d()..(item + 1) * self.d()]
    }

    fn parts(&self, user: usize, item: u32) -> Option<Parts> {
        let item = item as usize;
        if item >= self.by_user.n_columns {
            return None;
        }
        let (x, y) = (self.x(user), self.y(item));
        let slope = 2.0 * (product(x, y) - 1.0);
        let scaled = |numbers: &[f64]| numbers.iter().map(|number| slope * number).collect();
        Some(Parts {
            user,
            of_user: scaled(y),
            of_items: vec![(item, scaled(x))],
            by_scores: slope.abs(),
        })
    }
}

fn doubled(mut matrix: Vec<f64>) -> Vec<f64> {
    for x in &mut matrix {
        *x *= 2.0;
    }
    matrix
}

impl Factorised for View<'_> {
    fn sizes(&self) -> [usize; 2] {
        [self.by_user.n_rows(), self.by_user.n_columns]
    }

    fn widths(&self) -> [usize; 2] {
        [self.d(), self.d()]
    }

    fn sample(&self, sample: usize) -> Option<Parts> {
        let user = self.user(self.data.sequence(sample))?;
        self.parts(user, self.data.item(sample))
    }

    fn relevant(&self, request: &AskedRequest<'_>, item: u32) -> Option<Parts> {
        let user = self
            .user(request.sequence)
            .filter(|_| request.history_end > 0)?;
        self.parts(user, item)
    }

    fn of_user(&self, user: usize) -> Vec<f64> {
        let side = Side {
            cells: &self.by_user,
            others: &self.model.items,
            d: self.d(),
            settings: self.model.settings,
        };
        doubled(side.system(&self.of_items, user))
    }

    fn of_item(&self, item: usize) -> Vec<f64> {
        let side = Side {
            cells: &self.by_item,
            others: &self.users,
            d: self.d(),
            settings: self.model.settings,
        };
        doubled(side.system(&self.of_users, item))
    }

    fn mixed(&self, user: usize, item: usize) -> Vec<f64> {
        let (columns, weights) = self.by_user.row(user);
        // A vocabulary is numbered by 32 bits.
        let at = u32::try_from(item).ok();
        let at = at.and_then(|item| columns.binary_search(&item).ok());
        let weight = at.map_or(0.0, |at| weights[at]);
        let alpha = self.model.settings.unobserved_weight;
        let (x, y) = (self.x(user), self.y(item));
        let score = product(x, y);
        let mut matrix = Vec::with_capacity(x.len() * y.len());
        for y in y {
            matrix.extend(x.iter().map(|x| 2.0 * (weight + alpha) * y * x));
        }
        for k in 0..x.len() {
            matrix[k * x.len() + k] += 2.0 * (weight * (score - 1.0) + alpha * score);
        }
        matrix
    }
}

impl FactorGradients for Ials {
    fn measure(&self, data: &TrainingData<'_>, requests: &[AskedRequest<'_>]) -> FactorInfluence {
        match View::new(self, data) {
            Ok(view) => factorisation::measure(&view, data.n_samples(), requests),
            // Data that cannot be counted were not trained on.
            Err(_) => FactorInfluence {
                gradients: vec![None; data.n_samples()],
                of_user: vec![None; data.n_samples()],
                of_item: vec![None; data.n_samples()],
                ..FactorInfluence::default()
            },
        }
    }
}
