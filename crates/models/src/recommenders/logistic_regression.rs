//! Logistic regression on named features of (history, candidate).
//!
//! `score(i) = w.x(h, i)`, where x are the standardised features of `features.rs` for history h and
//! candidate i: popularity, transitions, cosines of items that the same users hold, repeats, and what
//! items are. A sample costs, in nats, that of its target as a positive and of `negatives` items that
//! were drawn for it once and for all:
//!
//! ```text
//! loss = -ln sigma(w.x(h, target)) - sum over negatives j of ln sigma(-w.x(h, j))
//! objective = sum over samples of weight x loss / n + regularisation / 2 |w|^2
//! ```
//!
//! n is the number of samples with a history, those of weight 0 among them; a sample without one has
//! no loss term. The bias is penalised like all other weights, so that the second derivative of the
//! objective is that of the mean loss plus `regularisation` times the identity. The objective is
//! strictly convex: w is its unique minimum, found by Newton's method to a gradient of length 1e-10
//! (times the mean weight, where that is above 1).
//!
//! *Negatives* are drawn from the vocabulary without the target, each equally likely, as a function of
//! (seed, sample id). Those of a request's loss are a function of its history and relevant item alone,
//! so that models of all seeds are asked the same. The loss is this sampled one, not the cross-entropy
//! over the vocabulary: exp(-loss) is no distribution over items, and losses do not compare with those of
//! other models.
//!
//! *Leave-out*: the features of a training sample are made from what all other sequences hold and from
//! the samples of its own sequence with a shorter history (`leave_out.rs`), for its negatives as for
//! its target. Replacing its own event and all that follows in its sequence changes no feature of it.
//! Requests leave out nothing: what their own users did lies before them.
//!
//! *Weights and removal*: a weight multiplies the loss of its sample. Statistics, means and deviations
//! count every sample that is given once, whatever its weight, as histories do. Regime `mask` therefore
//! keeps all features, and what it changes is to first order the influence `H^-1 g`; regime `drop`
//! makes the features anew without the dropped samples.
//!
//! *Features left out or scaled*: what training multiplies a feature with
//! ([`TrainingData::feature_weight`]) multiplies it after standardisation, so that a smaller one is
//! penalised more for the same effect, and one of 0 has the weight 0. The bias stays.
//!
//! An empty history is served by popularity, weighted as in `popularity`, and so is every history
//! where no sample had one; its loss is that of popularity.
//!
//! # Paper
//! `McMahan` et al., "Ad click prediction: a view from the trenches", KDD 2013, section 3 (logistic
//! regression on sparse counts); negatives as in Mikolov et al., NIPS 2013, equation 4. Influence of its
//! samples: Koh, Liang, "Understanding black-box predictions via influence functions", ICML 2017,
//! equations 1 and 2.
//!
//! # Departures
//! - Features are few and dense, not hashed, and the fit is exact, not online.
//! - Negatives are uniform, not by popularity, and fixed.
//! - Leave-out is by time within a sequence alone: other sequences are counted with all they did in
//!   training, before and after a sample. There is no feature of the age of an item, since models see no
//!   instants.
//! - Every vocabulary item was a target of training, so a candidate whose every event is left out is
//!   known to be no negative of another sequence. Logarithms of counts keep what that tells small.
//!
//! # Needs
//! Target items, weights, ids, sequences and histories of samples; with `item_features`, items.
//!
//! # Cost
//! Fit: sum over sequences of (distinct items)^2 products, in parallel by item; samples x (1 +
//! `negatives`) x (`window` look-ups + the length of the history), in parallel by sequence; about ten
//! passes over the rows. Score: items x features, and the items that share a sequence with one of the
//! last `window`. Memory: 4 bytes per sample, row and feature while fitting; 8 bytes per pair of items
//! that `minimum_support` sequences share.

use rayon::prelude::*;
use seed::{Seed, Stream};
use serde::{Deserialize, Serialize};
use tensors::{TensorError, Tensors};

use crate::counts::Counts;
use crate::data::TrainingData;
use crate::features::{ExchangedFeatures, InputGradients};
use crate::gradient_rows::GradientRows;
use crate::history::History;
use crate::recommender::{
    Capability, FeatureName, FitError, LoadError, Losses, Model, Parameter, Recommender,
};
use crate::run::Run;
use crate::unrolled::Unrolled;

mod attributes;
mod attributions;
mod features;
mod gradients;
mod leave_out;
mod newton;
mod statistics;
#[cfg(test)]
mod tests;
mod unrolled;

use attributes::Attributes;
use features::{BIAS, Evidence, N, NAMES, OF_ITEMS, Row, row};
use leave_out::{LeftOut, Own};
use newton::{Scaling, Terms, Vector, cost};
use statistics::{Context, Statistics};

const WEIGHTS: &str = "weights";
const MEANS: &str = "feature_means";
const SCALES: &str = "feature_scales";
const REGULARISATION: &str = "regularisation";
const NEGATIVES: &str = "negatives";
const KEY: &str = "negatives_key";

/// The fitted model.
pub(super) struct LogisticRegression {
    counts: Counts,
    statistics: Statistics,
    attributes: Attributes,
    scaling: Scaling,
    /// In the order of [`NAMES`].
    weights: Vector,
    regularisation: f64,
    negatives: Negatives,
}

/// Which items samples and requests are compared with.
struct Negatives {
    /// Draws of samples depend on it.
    key: u64,
    per_positive: u32,
    n_vocabulary: u32,
}

/// Size of the loss, reach of the features, strength of the penalty.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Parameters {
    negatives: u32,
    regularisation: f64,
    window: u32,
    minimum_support: u32,
    item_features: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            negatives: 4,
            regularisation: 1e-4,
            window: 10,
            minimum_support: 2,
            item_features: false,
        }
    }
}

impl Negatives {
    /// `n_vocabulary` is that of checked data, whose items are 32-bit numbers.
    fn new(key: u64, per_positive: u32, n_vocabulary: usize) -> Self {
        Self {
            key,
            per_positive,
            n_vocabulary: u32::try_from(n_vocabulary).unwrap_or(u32::MAX),
        }
    }

    /// None where the vocabulary holds nothing but the positive.
    fn draw(&self, stream: Stream, counter: u64, positive: u32) -> Vec<u32> {
        // A positive beyond the vocabulary excludes nothing.
        let is_known = positive < self.n_vocabulary;
        let others = self.n_vocabulary - u32::from(is_known);
        if others == 0 {
            return Vec::new();
        }
        (0..u64::from(self.per_positive))
            .map(|lane| {
                let draw = stream.below(u64::from(others), counter, lane);
                // Below a 32-bit bound.
                let draw = u32::try_from(draw).unwrap_or(0);
                draw + u32::from(is_known && draw >= positive)
            })
            .collect()
    }

    fn of_sample(&self, sample_id: u64, positive: u32) -> Vec<u32> {
        let stream = Seed::root(self.key).child("sample_negatives").stream();
        self.draw(stream, sample_id, positive)
    }

    fn of_request(&self, history: &[u32], positive: u32) -> Vec<u32> {
        let stream = Seed::root(0).child("request_negatives").stream();
        let mut counter = history.len() as u64;
        for &item in history.iter().chain([&positive]) {
            // Lanes of draws are few: these are others.
            counter = stream.bits(counter, u64::MAX - u64::from(item));
        }
        self.draw(stream, counter, positive)
    }

    /// Rows of one loss term.
    fn per_term(&self) -> usize {
        let n = if self.n_vocabulary > 1 {
            self.per_positive
        } else {
            0
        };
        1 + n as usize
    }
}

/// The samples of the sequence of a sample.
fn sequence_of(data: &TrainingData<'_>, sample: usize) -> std::ops::Range<usize> {
    let sequence = data.sequence(sample);
    let (mut start, mut end) = (0, sample);
    while start < end {
        let middle = start.midpoint(end);
        if data.sequence(middle) < sequence {
            start = middle + 1;
        } else {
            end = middle;
        }
    }
    let (mut low, mut high) = (sample, data.n_samples());
    while low < high {
        let middle = low.midpoint(high);
        if data.sequence(middle) <= sequence {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    start..low
}

/// Where the rows of samples come from.
struct Rows<'a> {
    statistics: &'a Statistics,
    attributes: &'a Attributes,
    negatives: &'a Negatives,
}

impl Rows<'_> {
    /// The rows of the loss term of a sample with a history, its target first.
    fn of_sample(&self, data: &TrainingData<'_>, own: &Own, sample: usize) -> Vec<Row> {
        let target = data.item(sample);
        let negatives = self.negatives.of_sample(data.sample_id(sample), target);
        let left_out = own.left_out(data.history_end(sample));
        let history = data.history(sample).items();
        self.of_candidates(history, left_out, target, &negatives)
    }

    /// The rows of the loss term of a relevant item of a request.
    fn of_request(&self, history: &[u32], item: u32) -> Vec<Row> {
        let negatives = self.negatives.of_request(history, item);
        self.of_candidates(history, LeftOut::NOTHING, item, &negatives)
    }

    fn of_candidates(
        &self,
        history: &[u32],
        left_out: LeftOut<'_>,
        positive: u32,
        negatives: &[u32],
    ) -> Vec<Row> {
        let context = self.statistics.context(self.attributes, history, left_out);
        [positive]
            .iter()
            .chain(negatives)
            .map(|item| {
                let found = self
                    .statistics
                    .evidence(self.attributes, &context, left_out, *item);
                row(&found)
            })
            .collect()
    }

    /// Rows and weights of the loss terms of all samples.
    fn of_all(&self, data: &TrainingData<'_>) -> (Vec<Row>, Vec<f64>) {
        let ranges: Vec<std::ops::Range<usize>> = data.by_sequence().collect();
        let rows: Vec<Vec<Row>> = ranges
            .into_par_iter()
            .map(|range| {
                let own = Own::new(data, range.clone());
                range
                    .filter(|&sample| has_history(data, sample))
                    .flat_map(|sample| self.of_sample(data, &own, sample))
                    .collect()
            })
            .collect();
        let weights = (0..data.n_samples())
            .filter(|&sample| has_history(data, sample))
            .map(|sample| data.weight(sample))
            .collect();
        (rows.concat(), weights)
    }
}

fn has_history(data: &TrainingData<'_>, sample: usize) -> bool {
    data.history_end(sample) > 0
}

impl LogisticRegression {
    fn rows(&self) -> Rows<'_> {
        Rows {
            statistics: &self.statistics,
            attributes: &self.attributes,
            negatives: &self.negatives,
        }
    }

    /// The loss of a term.
    fn loss_of(&self, rows: &[Row]) -> f64 {
        rows.iter()
            .enumerate()
            .map(|(place, row)| cost(place, self.scaling.margin(&self.weights, row)).0)
            .sum()
    }

    /// What an item costs that only its popularity speaks for.
    fn popularity_loss(&self, item: u32) -> f64 {
        -libm::log(self.counts.share(item))
    }

    /// Whether nothing was learned but how popular items are.
    fn is_popularity(&self) -> bool {
        self.weights.iter().all(|w| w.abs() <= 0.0)
    }

    fn write_scores(&self, history: &[u32], found: &mut [Evidence], scores: &mut [f64]) {
        if history.is_empty() || self.is_popularity() {
            self.counts.write_shares(scores);
            return;
        }
        let context: Context<'_> =
            self.statistics
                .context(&self.attributes, history, LeftOut::NOTHING);
        self.statistics
            .write_evidence(&self.attributes, &context, found);
        for (score, found) in scores.iter_mut().zip(found.iter()) {
            *score = self.scaling.margin(&self.weights, &row(found));
        }
    }
}

impl Recommender for LogisticRegression {
    const NAME: &'static str = "logistic_regression";
    const REVISION: u32 = 1;
    const DOC: &'static str =
        "Logistic regression on named features of a history and a candidate, with exact gradients.";
    const PAPER: &'static str = "McMahan et al., KDD 2013; Koh and Liang, ICML 2017";
    const CAPABILITIES: &'static [Capability] = &[
        Capability::GradientRows,
        Capability::InputGradients,
        Capability::Losses,
        Capability::Unrolled,
    ];
    const PARAMETERS: &'static [Parameter] = &[
        Parameter {
            name: "negatives",
            default: "4",
            doc: "items that each target is compared with, drawn once; from 1 up",
        },
        Parameter {
            name: "regularisation",
            default: "0.0001",
            doc: "weight of half the squared length of the weights, beside the mean loss; above 0",
        },
        Parameter {
            name: "window",
            default: "10",
            doc: "distinct last items of a history that candidates are compared with; from 1 up",
        },
        Parameter {
            name: "minimum_support",
            default: "2",
            doc: "sequences that must hold two items for these to be similar at all; from 1 up",
        },
        Parameter {
            name: "item_features",
            default: "false",
            doc: "whether text, category, brand and price of items are compared too",
        },
    ];
    type Parameters = Parameters;

    fn check(parameters: &Parameters) -> Result<(), String> {
        for (name, value) in [
            ("negatives", parameters.negatives),
            ("window", parameters.window),
            ("minimum_support", parameters.minimum_support),
        ] {
            if value == 0 {
                return Err(format!("`{name}` must be at least 1"));
            }
        }
        if !(parameters.regularisation.is_finite() && parameters.regularisation > 0.0) {
            return Err("`regularisation` must be a number above 0".to_owned());
        }
        Ok(())
    }

    fn reads_items(parameters: &Parameters) -> bool {
        parameters.item_features
    }

    fn features(parameters: &Parameters) -> Vec<&'static str> {
        let is_read = |name: &str| parameters.item_features || !OF_ITEMS.contains(&name);
        let names = NAMES.iter().map(|feature| feature.name).skip(BIAS + 1);
        names.filter(|name| is_read(name)).collect()
    }

    fn fit(
        parameters: &Parameters,
        data: &TrainingData<'_>,
        run: &mut Run<'_>,
    ) -> Result<Self, FitError> {
        let attributes = if parameters.item_features {
            let items = data
                .items()
                .ok_or(FitError::NoItems { model: Self::NAME })?;
            Attributes::of(items, data)?
        } else {
            Attributes::none()
        };
        let statistics = Statistics::of(data, parameters.window, parameters.minimum_support)?;
        let key = run.seed.child("negatives").stream().bits(0, 0);
        let negatives = Negatives::new(key, parameters.negatives, data.n_vocabulary());
        let source = Rows {
            statistics: &statistics,
            attributes: &attributes,
            negatives: &negatives,
        };
        let (rows, terms) = source.of_all(data);
        let mut scaling = Scaling::of(&rows);
        scaling.weigh(|feature| data.feature_weight(NAMES[feature].name));
        let weights = Terms {
            rows: &rows,
            per_term: negatives.per_term(),
            weights: &terms,
            scaling: &scaling,
            regularisation: parameters.regularisation,
        }
        .minimum()
        .map_err(|error| FitError::NotConverged {
            model: Self::NAME,
            iterations: error.iterations,
            cause: format!(
                "the gradient still has length {:e}; raise `regularisation` or look for enormous weights",
                error.norm
            ),
        })?;
        Ok(Self {
            counts: Counts::of(data),
            statistics,
            attributes,
            scaling,
            weights,
            regularisation: parameters.regularisation,
            negatives,
        })
    }

    fn load(tensors: &Tensors) -> Result<Self, LoadError> {
        let counts = Counts::load(tensors)?;
        let statistics = Statistics::load(tensors)?;
        if statistics.n_vocabulary() != counts.counts().len() {
            return Err(LoadError::Sizes {
                left: "item_counts",
                right: "events",
            });
        }
        let vector = |right: &'static str| -> Result<Vector, LoadError> {
            let left = "features";
            let sizes = |_| LoadError::Sizes { left, right };
            Vector::try_from(tensors.f64(right)?).map_err(sizes)
        };
        let one = |right: &'static str| LoadError::Sizes {
            left: "one number",
            right,
        };
        let (&[regularisation], &[per_positive], &[key]) = (
            tensors.f64(REGULARISATION)?,
            tensors.u32(NEGATIVES)?,
            tensors.u64(KEY)?,
        ) else {
            return Err(one(REGULARISATION));
        };
        Ok(Self {
            attributes: Attributes::load(tensors)?,
            scaling: Scaling {
                means: vector(MEANS)?,
                scales: vector(SCALES)?,
            },
            weights: vector(WEIGHTS)?,
            regularisation,
            negatives: Negatives::new(key, per_positive, counts.counts().len()),
            counts,
            statistics,
        })
    }
}

impl Model for LogisticRegression {
    fn score(&self, _: Option<u32>, history: History<'_>, scores: &mut [f64]) {
        let mut found = vec![Evidence::default(); scores.len()];
        self.write_scores(history.items(), &mut found, scores);
    }

    fn score_block(&self, requests: &[(Option<u32>, History<'_>)], scores: &mut [f64]) {
        let n = scores.len() / requests.len().max(1);
        // One table for all requests.
        let mut found = vec![Evidence::default(); n];
        for ((_, history), scores) in requests.iter().zip(scores.chunks_exact_mut(n.max(1))) {
            self.write_scores(history.items(), &mut found, scores);
        }
    }

    fn losses(&self) -> Option<&dyn Losses> {
        Some(self)
    }

    fn gradient_rows(&self) -> Option<&dyn GradientRows> {
        Some(self)
    }

    fn unrolled_training(&self) -> Option<&dyn Unrolled> {
        Some(self)
    }

    fn feature_names(&self) -> &'static [FeatureName] {
        &NAMES
    }

    fn input_gradients(&self) -> Option<&dyn InputGradients> {
        Some(self)
    }

    fn exchanged_features(&self) -> Option<&dyn ExchangedFeatures> {
        Some(self)
    }

    fn save(&self) -> Result<Tensors, TensorError> {
        let mut tensors = Tensors::new();
        self.counts.save(&mut tensors)?;
        self.statistics.save(&mut tensors)?;
        self.attributes.save(&mut tensors)?;
        tensors.insert_f64(WEIGHTS, &[N], self.weights.to_vec())?;
        tensors.insert_f64(MEANS, &[N], self.scaling.means.to_vec())?;
        tensors.insert_f64(SCALES, &[N], self.scaling.scales.to_vec())?;
        tensors.insert_f64(REGULARISATION, &[1], vec![self.regularisation])?;
        tensors.insert_u32(NEGATIVES, &[1], vec![self.negatives.per_positive])?;
        tensors.insert_u64(KEY, &[1], vec![self.negatives.key])?;
        Ok(tensors)
    }
}

/// The sampled logistic loss; see the top of this file.
impl Losses for LogisticRegression {
    /// Nothing is left out, and negatives are those of a request: see
    /// [`Losses::sample_losses`] for the loss that training knows.
    fn loss(&self, history: History<'_>, item: u32) -> f64 {
        if history.is_empty() {
            return self.popularity_loss(item);
        }
        self.loss_of(&self.rows().of_request(history.items(), item))
    }

    fn sample_losses(&self, data: &TrainingData<'_>) -> Vec<f64> {
        let ranges: Vec<std::ops::Range<usize>> = data.by_sequence().collect();
        let losses: Vec<Vec<f64>> = ranges
            .into_par_iter()
            .map(|range| {
                let own = Own::new(data, range.clone());
                let loss = |sample: usize| {
                    if has_history(data, sample) {
                        self.loss_of(&self.rows().of_sample(data, &own, sample))
                    } else {
                        self.popularity_loss(data.item(sample))
                    }
                };
                range.map(loss).collect()
            })
            .collect();
        losses.concat()
    }
}
