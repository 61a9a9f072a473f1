//! Features that a prediction rests on: how much each adds to it, what happens when its values are
//! exchanged, and training with some of them left out or scaled.

use std::collections::BTreeMap;

use seed::Seed;

use crate::history::History;
use crate::recommender::Model;

/// What a prediction is split by. The features of one group share the prediction out; those of two
/// groups are two views of the same thing and are not to be added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FeatureGroup {
    /// By the type of the events of the history: what was done.
    EventType,
    /// By a named feature of history and candidate.
    Feature,
    /// By what is seen of each event of the history: item, place in its window, type, basket,
    /// attributes of the item.
    Input,
    /// By the place of events in the history, counted from its end.
    Place,
}

impl FeatureGroup {
    /// The word for it in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventType => "event_type",
            Self::Feature => "feature",
            Self::Input => "input",
            Self::Place => "place",
        }
    }
}

/// How much one feature adds to a prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Attributed {
    /// What it is one of.
    pub group: FeatureGroup,
    /// Its name.
    pub feature: String,
    /// The gradient of the output by the feature times the feature.
    pub gradient_x_input: f64,
    /// The same with the mean gradient along the straight way from the baseline: integrated
    /// gradients.
    pub integrated: f64,
}

/// What makes one prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// Features, by group and name.
    pub features: Vec<Attributed>,
    /// The output that is explained.
    pub output: f64,
    /// The output at the baseline.
    pub baseline: f64,
    /// Sum of the integrated gradients of all features of one group that shares everything out.
    pub sum: f64,
}

impl Attribution {
    /// How far the integrated gradients are from sharing out the whole difference between output and
    /// baseline; 0 for exact integrals (completeness; Sundararajan et al. 2017, proposition 1).
    pub fn gap(&self) -> f64 {
        (self.sum - (self.output - self.baseline)).abs()
    }
}

/// Gradients of predictions by what they rest on.
pub trait InputGradients: Send + Sync {
    /// What makes the mean output of the relevant items of each request, with the integral along the
    /// way taken at `steps` points; `None` where no feature speaks.
    fn attribute(&self, requests: &[(History<'_>, &[u32])], steps: u32)
    -> Vec<Option<Attribution>>;
}

/// Takes the scores of all items, and the mean loss of the relevant ones, with the values of one feature
/// exchanged, or of none first.
pub type TakeExchanged<'t> = dyn FnMut(Option<usize>, &[f64], f64) + 't;

/// Features of history and candidate whose values can be exchanged.
pub trait ExchangedFeatures: Send + Sync {
    /// Their names.
    fn names(&self) -> Vec<&'static str>;

    /// Scores the catalogue for a request with the values of each feature in turn replaced: candidate
    /// i is given what candidate `order[i]` has with the history of another request.
    fn exchanged(
        &self,
        own: History<'_>,
        other: History<'_>,
        order: &[u32],
        relevant: &[u32],
        take: &mut TakeExchanged<'_>,
    );
}

/// Features of the items themselves whose values can be exchanged.
pub trait ExchangedItems: Send + Sync {
    /// Their names.
    fn names(&self) -> Vec<&'static str>;

    /// The same model where items have a feature of each other, by a permutation of the vocabulary.
    /// `None` for a feature that it does not have.
    fn exchanged(&self, feature: &str, seed: Seed) -> Option<Box<dyn Model>>;
}

/// What features are multiplied with in training: 1 keeps one as it is, 0 leaves it out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureWeights(BTreeMap<String, f64>);

impl FeatureWeights {
    /// Weights by name; what is not named keeps 1.
    pub fn new(weights: impl IntoIterator<Item = (String, f64)>) -> Self {
        Self(weights.into_iter().collect())
    }

    /// The weight of a feature.
    pub fn of(&self, feature: &str) -> f64 {
        self.0.get(feature).copied().unwrap_or(1.0)
    }
}

/// Points on the way from a baseline, 0, to the input, 1, and the weight of each in the mean over the
/// way; weights sum to 1.
///
/// The way is cut into cells that grow with the distance from the baseline, from (k/n)^3 to ((k+1)/n)^3:
/// where a network normalises what it sees, its gradient changes fastest near an input of nothing. An
/// even number of points are two in each cell, at Gauss' places, an odd number one in the middle of
/// each.
pub(crate) fn path(steps: u32) -> Vec<(f64, f64)> {
    let steps = steps.max(1);
    let per_cell = if steps.is_multiple_of(2) { 2 } else { 1 };
    let n_cells = steps / per_cell;
    let end = |cell: u32| {
        let t = f64::from(cell) / f64::from(n_cells);
        t * t * t
    };
    // Gauss and Legendre's two points, as a share of the cell from its middle.
    let apart = if per_cell == 2 {
        0.5 / 3.0_f64.sqrt()
    } else {
        0.0
    };
    (0..n_cells)
        .flat_map(|cell| {
            let (low, high) = (end(cell), end(cell + 1));
            let (middle, width) = (f64::midpoint(low, high), high - low);
            (0..per_cell).map(move |at| {
                let side = if at == 0 { -apart } else { apart };
                (middle + side * width, width / f64::from(per_cell))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(steps: u32, f: impl Fn(f64) -> f64) -> f64 {
        path(steps).into_iter().map(|(at, w)| w * f(at)).sum()
    }

    #[test]
    fn the_mean_over_the_way_is_exact_where_gauss_is() {
        for steps in [1, 2, 3, 8, 31, 64] {
            // Sums of up to 64 numbers below 1, each with the rounding of a double.
            assert!((mean(steps, |_| 1.0) - 1.0).abs() < 1e-14, "{steps}");
            assert!((mean(steps, |x| x) - 0.5).abs() < 1e-14, "{steps}");
        }
        // Two points of a cell integrate cubes.
        assert!((mean(2, |x| x * x * x) - 0.25).abs() < 1e-14);
        // A gradient that changes in the first thousandth of the way, as behind a norm:
        // the integral of 0.001 / (x + 0.001)^2 is 1 / 1.001.
        let sharp = |x: f64| 0.001 / ((x + 0.001) * (x + 0.001));
        assert!((mean(64, sharp) - 1.0 / 1.001).abs() < 1e-3);
    }
}
