//! Methods whose score is the product of the sample's gradient with a direction that the requests
//! choose, linearly: influence functions and plain products.
//!
//! What holds of the mean over requests holds of each request, so that such a method can say which
//! samples matter to one request, and which layers of the model they share with it. The score of a
//! group of samples is that of the sum of their gradients.

use crate::Seed;
use crate::curvature::{Fitted, product, row_products};
use crate::estimator::{Estimator, EstimatorError, Method, Need, OnProgress, Scores};
use crate::held_out;
use crate::problem::Problem;

/// Which samples are sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Numbers of requests of the target, each once.
    pub requests: &'a [u32],
    /// Most samples at each end.
    pub top: usize,
}

/// The samples that matter most to one request.
#[derive(Clone, Debug, PartialEq)]
pub struct OfRequest {
    /// The request.
    pub request: u32,
    /// Samples with positive scores, highest first; ties by identity.
    pub helpful: Vec<Influential>,
    /// Samples with negative scores, lowest first; ties by identity.
    pub harmful: Vec<Influential>,
}

/// One sample's score for one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Influential {
    /// Position of the sample in the problem.
    pub sample: u32,
    /// What its score is for this request alone.
    pub score: f64,
    /// What each layer adds to it, in the order of [`crate::Projected::layers`]; the sum is the score.
    pub by_layer: Vec<f64>,
}

/// A method of this kind; what it does as an [`Estimator`] follows.
pub(crate) trait Directed: Method {
    /// The direction of each target, a gradient of a loss, and what scales products with it. Linear
    /// in each target.
    fn directions(
        &self,
        fitted: Fitted<'_>,
        targets: &[Vec<f64>],
        seed: Seed,
    ) -> Result<Directions, EstimatorError>;

    /// What the chosen parameters need beyond the card.
    fn chosen_needs(&self) -> &'static [Need] {
        &[]
    }
}

impl<M: Directed> Estimator for M {
    fn estimate(
        &self,
        problem: &dyn Problem,
        seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        scores(self, M::NAME, problem, seed)
    }

    fn influences(
        &self,
        problem: &dyn Problem,
        asked: Asked<'_>,
        seed: Seed,
    ) -> Result<Option<Vec<OfRequest>>, EstimatorError> {
        influences(self, M::NAME, problem, asked, seed).map(Some)
    }

    fn chosen_needs(&self) -> &'static [Need] {
        Directed::chosen_needs(self)
    }
}

/// One direction for each target.
pub(crate) struct Directions {
    pub(crate) directions: Vec<Vec<f64>>,
    pub(crate) scale: f64,
}

/// The scores of all samples against the mean loss over requests.
fn scores(
    method: &impl Directed,
    name: &'static str,
    problem: &dyn Problem,
    seed: Seed,
) -> Result<Scores, EstimatorError> {
    let fitted = Fitted::new(problem, name)?;
    let target = fitted.target()?;
    let found = method.directions(fitted, &[target], seed)?;
    let (direction, scale) = (found.directions.concat(), found.scale);
    let score = fitted.scores(&direction, scale)?;
    let held_out = held_out::of_direction(problem, fitted, &direction, &score, scale)?;
    Ok(Scores {
        held_out,
        ..Scores::exact(score, 1)
    })
}

/// The samples that matter most to each of the requests that are asked for, in their order. A
/// request without a gradient is left out.
///
/// Time: one pass over the gradients of samples, with one product for each request, beside what the
/// directions take. Memory: a direction for each request.
fn influences(
    method: &impl Directed,
    name: &'static str,
    problem: &dyn Problem,
    asked: Asked<'_>,
    seed: Seed,
) -> Result<Vec<OfRequest>, EstimatorError> {
    let fitted = Fitted::new(problem, name)?;
    let rows = fitted.requests()?;
    let mut requests = Vec::new();
    let mut targets = Vec::new();
    for &request in asked.requests {
        let Some(at) = rows.numbers.iter().position(|&number| number == request) else {
            continue;
        };
        let row = &rows.values[at * fitted.width()..][..fitted.width()];
        requests.push(request);
        targets.push(row.iter().map(|&value| f64::from(value)).collect());
    }
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let Directions { directions, scale } = method.directions(fitted, &targets, seed)?;
    let ids = &problem.samples().id;
    let mut found: Vec<[Ends; 2]> = requests
        .iter()
        .map(|_| [1.0, -1.0].map(|sign| Ends::new(sign, asked.top)))
        .collect();
    fitted.samples(|samples, rows| {
        for (direction, ends) in directions.iter().zip(&mut found) {
            let products = row_products(rows, direction);
            for ((&sample, row), product) in samples
                .iter()
                .zip(rows.chunks(fitted.width()))
                .zip(products)
            {
                let score = scale * product;
                let sample_id = ids[sample as usize];
                if !score.is_finite() {
                    return Err(EstimatorError::NotFinite {
                        method: name,
                        sample_id,
                        score,
                    });
                }
                for end in &mut *ends {
                    end.offer(score, sample_id, || Influential {
                        sample,
                        score,
                        by_layer: by_layer(fitted, row, direction, scale),
                    });
                }
            }
        }
        Ok(())
    })?;
    let lists = requests.into_iter().zip(found);
    Ok(lists
        .map(|(request, [helpful, harmful])| OfRequest {
            request,
            helpful: helpful.into_samples(),
            harmful: harmful.into_samples(),
        })
        .collect())
}

/// What each layer adds to a product.
fn by_layer(fitted: Fitted<'_>, row: &[f64], direction: &[f64], scale: f64) -> Vec<f64> {
    let of_layer = |layer: &crate::Layer| {
        let columns = layer.columns.clone();
        scale * product(&row[columns.clone()], &direction[columns])
    };
    fitted.layers().iter().map(of_layer).collect()
}

/// The samples at one end of the scores of one request, the outermost first.
struct Ends {
    sign: f64,
    most: usize,
    /// Identities break ties, wherever a sample lies.
    kept: Vec<(u64, Influential)>,
}

impl Ends {
    fn new(sign: f64, most: usize) -> Self {
        Self {
            sign,
            most,
            kept: Vec::new(),
        }
    }

    /// Takes a sample in if it belongs here.
    fn offer(&mut self, score: f64, id: u64, make: impl FnOnce() -> Influential) {
        let strength = self.sign * score;
        if strength <= 0.0 {
            return;
        }
        let is_before = |kept: &(u64, Influential)| {
            let other = self.sign * kept.1.score;
            other > strength || (other >= strength && kept.0 < id)
        };
        let at = self.kept.partition_point(is_before);
        if at < self.most {
            self.kept.truncate(self.most - 1);
            self.kept.insert(at, (id, make()));
        }
    }

    fn into_samples(self) -> Vec<Influential> {
        self.kept.into_iter().map(|(_, sample)| sample).collect()
    }
}
