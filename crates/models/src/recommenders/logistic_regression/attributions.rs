//! How much each named feature adds to scores, and scores with the values of one exchanged.
//!
//! A score is linear in the standardised features, so that gradient x input and integrated gradients
//! are both the weight times the feature. The baseline is 0 for all, the mean of each feature in training, whose score is the
//! weight of the bias.

use super::LogisticRegression;
use super::features::{BIAS, Evidence, N, NAMES, row};
use super::leave_out::LeftOut;
use super::newton::{Vector, cost};
use crate::features::{
    Attributed, Attribution, ExchangedFeatures, FeatureGroup, InputGradients, TakeExchanged, path,
};
use crate::history::History;

impl LogisticRegression {
    /// What each feature adds to the score of each candidate.
    fn contributions(&self, history: &[u32], n_items: usize) -> Vec<Vector> {
        let context = self
            .statistics
            .context(&self.attributes, history, LeftOut::NOTHING);
        let mut found = vec![Evidence::default(); n_items];
        self.statistics
            .write_evidence(&self.attributes, &context, &mut found);
        found
            .iter()
            .map(|found| {
                let mut x = self.scaling.standardised(&row(found));
                for (x, w) in x.iter_mut().zip(self.weights) {
                    *x *= w;
                }
                x
            })
            .collect()
    }

    /// Mean loss of the relevant items under given scores.
    fn loss_under(&self, scores: &[f64], history: &[u32], relevant: &[u32]) -> f64 {
        let of = |item: &u32| scores.get(*item as usize).copied().unwrap_or(0.0);
        let sum: f64 = relevant
            .iter()
            .map(|item| {
                let negatives = self.negatives.of_request(history, *item);
                let rows = [*item].into_iter().chain(negatives);
                rows.enumerate()
                    .map(|(place, item)| cost(place, of(&item)).0)
                    .sum::<f64>()
            })
            .sum();
        sum / relevant.len().max(1) as f64
    }
}

impl InputGradients for LogisticRegression {
    /// Of the mean score of the relevant items.
    fn attribute(
        &self,
        requests: &[(History<'_>, &[u32])],
        steps: u32,
    ) -> Vec<Option<Attribution>> {
        let whole: f64 = path(steps).into_iter().map(|(_, weight)| weight).sum();
        requests
            .iter()
            .map(|(history, relevant)| {
                if history.is_empty() || relevant.is_empty() || self.is_popularity() {
                    return None;
                }
                let n = relevant.len() as f64;
                let mut sums = [0.0; N];
                let mut output = 0.0;
                for &item in *relevant {
                    let rows = self.rows().of_request(history.items(), item);
                    let first = rows.first()?;
                    output += self.scaling.margin(&self.weights, first) / n;
                    let x = self.scaling.standardised(first);
                    for ((sum, x), w) in sums.iter_mut().zip(x).zip(self.weights) {
                        *sum += w * x / n;
                    }
                }
                let features: Vec<Attributed> = NAMES
                    .iter()
                    .zip(sums)
                    .skip(BIAS + 1)
                    .map(|(feature, sum)| Attributed {
                        group: FeatureGroup::Feature,
                        feature: feature.name.to_owned(),
                        gradient_x_input: sum,
                        integrated: whole * sum,
                    })
                    .collect();
                Some(Attribution {
                    sum: features.iter().map(|feature| feature.integrated).sum(),
                    features,
                    output,
                    baseline: self.weights[BIAS],
                })
            })
            .collect()
    }
}

impl ExchangedFeatures for LogisticRegression {
    fn names(&self) -> Vec<&'static str> {
        NAMES.iter().map(|name| name.name).skip(BIAS + 1).collect()
    }

    fn exchanged(
        &self,
        own: History<'_>,
        other: History<'_>,
        order: &[u32],
        relevant: &[u32],
        take: &mut TakeExchanged<'_>,
    ) {
        let n_items = order.len();
        let (own_values, other_values) =
            if own.is_empty() || other.is_empty() || self.is_popularity() {
                (vec![[0.0; N]; n_items], vec![[0.0; N]; n_items])
            } else {
                (
                    self.contributions(own.items(), n_items),
                    self.contributions(other.items(), n_items),
                )
            };
        let mut scores = vec![0.0; n_items];
        for feature in std::iter::once(None).chain((BIAS + 1..N).map(Some)) {
            for ((score, own), from) in scores.iter_mut().zip(&own_values).zip(order) {
                // In the order of the features, as scores are summed.
                let mut x = *own;
                if let Some(feature) = feature {
                    x[feature] = other_values[*from as usize][feature];
                }
                *score = x.iter().sum();
            }
            let loss = self.loss_under(&scores, own.items(), relevant);
            take(feature.map(|feature| feature - BIAS - 1), &scores, loss);
        }
    }
}
