//! kNN density: how much a sample looks like the k samples that are most like it.
//!
//! With x the history and y the target item of a sample, the similarity of two samples is the
//! product kernel
//!
//! κ(z, z') = max(0, cos(x, x')) · λ(y, y'),
//!
//! λ(y, y') = 1 if y = y', cos(y, y') if y' is among the `items` target items nearest to y and the
//! cosine is positive, 0 otherwise. Then
//!
//! score(z) = (1/k) Σ of the k largest κ(z, z') over samples z' ≠ z, missing neighbours counting 0
//!
//! It is in \[0, 1\]: the kernel density estimate at z with a bandwidth set by its neighbours. A target
//! that nobody with a similar history has, nor anything like it, is in an empty region.
//!
//! # Paper
//! Loftsgaarden and Quesenberry, "A Nonparametric Estimate of a Multivariate Density Function", Annals of Mathematical Statistics 36(3), 1965: density from the k nearest points.
//!
//! # Departures
//! A mean similarity instead of k over the volume of the ball to the k-th neighbour: in high dimensions volumes overflow and duplicates give infinite density.
//! The product of two kernels over parts of a sample instead of one distance.
//! λ is cut to the nearest items; without the cut every sample would have to meet every other.
//! Neighbours are exact under this definition: nothing is approximated or drawn.
//! Samples of one basket share a history and are each other's neighbours as far as their targets are alike.
//! Samples whose history has no features are unscored and nobody's neighbours; weights are not used.
//!
//! # Needs
//! Representations of histories and items; with `space: hidden`, hidden states.
//!
//! # Cost
//! Time O(Σ over distinct histories of the products of the inverted index, or of direct products with
//! candidates where these are fewer, + Σ over samples of the samples of `items` items); memory
//! O(threads · (histories + features) + target items · `items`).

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tensors::Csr;

use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores, Suspect, Work,
};
use crate::histories::{Histories, cosine, transpose_rows};
use crate::nearest::Grouping;
use crate::problem::Problem;
use crate::space::{Space, in_hidden_space};

/// Distinct histories between two reports of progress.
const BLOCK_HISTORIES: usize = 64;

pub(super) struct KnnDensity {
    neighbours: usize,
    items: usize,
    space: Space,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Params {
    k: usize,
    items: usize,
    space: Space,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            k: 10,
            items: 10,
            space: Space::Features,
        }
    }
}

impl Method for KnnDensity {
    const NAME: &'static str = "knn_density";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Density;
    const DOC: &'static str =
        "Mean similarity of a sample, as history and target, to its k nearest samples.";
    const ESTIMAND: &'static str = "Mean over the k nearest samples of cosine of histories times cosine of targets, in [0, 1]; it has no target loss.";
    const PAPER: &'static str = "Loftsgaarden and Quesenberry, \"A Nonparametric Estimate of a Multivariate Density Function\", Annals of Mathematical Statistics 36(3), 1965: density from the k nearest points.";
    const NEEDS: &'static [Need] = &[Need::Representations];
    const SCALE: Scale = Scale::Magnitude(Suspect::Low);
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const PARAMETERS: &'static [Parameter] = &[
        Parameter {
            name: "k",
            default: "10",
            doc: "Nearest samples; >= 1.",
        },
        Parameter {
            name: "items",
            default: "10",
            doc: "Target items that a target is like, itself included; >= 1. Time grows with it.",
        },
        Space::PARAMETER,
    ];
    type Params = Params;

    fn new(params: Params) -> Result<Self, ParameterErrorKind> {
        for (name, value) in [("k", params.k), ("items", params.items)] {
            if value == 0 {
                return Err(ParameterErrorKind::Range {
                    name,
                    found: value.to_string(),
                    wanted: ">= 1",
                });
            }
        }
        Ok(Self {
            neighbours: params.k,
            items: params.items,
            space: params.space,
        })
    }
}

impl Estimator for KnnDensity {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        if self.space == Space::Hidden {
            let moved = in_hidden_space(problem, Self::NAME)?;
            let there = Self {
                space: Space::Features,
                ..*self
            };
            // Nothing is drawn.
            return there.estimate(&moved, Seed::root(0), on_progress);
        }
        let representations = problem.representations().ok_or(EstimatorError::Missing {
            method: Self::NAME,
            need: Need::Representations,
        })?;
        let samples = problem.samples();
        let histories = Histories::new(samples, &representations.histories);
        let targets = Targets::new(
            &histories.sample,
            &samples.item,
            &representations.items,
            self.items,
        );
        let n_groups = histories.grouping.n_groups();
        let groups: Vec<u32> = (0..).take(n_groups).collect();
        let found: Vec<Vec<Neighbourhood>> = groups
            .par_chunks(BLOCK_HISTORIES)
            .map(|block| {
                let mut search = Search::new(self.neighbours, &histories, &targets);
                let mut found = Vec::new();
                for &group in block {
                    search.open(group);
                    for &point in histories.grouping.members(group as usize) {
                        found.push(search.neighbourhood(point));
                    }
                }
                on_progress(Work {
                    done: block.len() as u64,
                    total: n_groups as u64,
                });
                found
            })
            .collect();
        let mut scores = Scores::exact(vec![None; samples.len()], 0);
        for Neighbourhood {
            point,
            density,
            n_found,
        } in found.into_iter().flatten()
        {
            let sample = histories.sample[point as usize] as usize;
            scores.score[sample] = Some(density);
            scores.n_updates[sample] = n_found;
        }
        Ok(scores)
    }

    fn chosen_needs(&self) -> &'static [Need] {
        self.space.needs()
    }
}

/// Target items, the points that have them, and the items that are like each.
struct Targets {
    /// Target of each point, numbered from 0 in ascending order of items.
    of_point: Vec<u32>,
    /// Points by target.
    points: Grouping,
    /// Targets that are like each, itself first, falling, with λ.
    alike: Vec<Vec<(u32, f64)>>,
}

impl Targets {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "there are no more target items than items, which have 32 bits"
    )]
    fn new(
        sample_of_point: &[u32],
        item_of_sample: &[u32],
        features: &Csr,
        n_alike: usize,
    ) -> Self {
        let item = |&sample: &u32| item_of_sample[sample as usize];
        let mut items: Vec<u32> = sample_of_point.iter().map(item).collect();
        items.sort_unstable();
        items.dedup();
        let number = |wanted: u32| items.partition_point(|&item| item < wanted) as u32;
        let of_point: Vec<u32> = sample_of_point
            .iter()
            .map(|sample| number(item(sample)))
            .collect();
        let by_feature = transpose_rows(features, &items);
        let alike = (0..)
            .take(items.len())
            .collect::<Vec<u32>>()
            .par_iter()
            .map(|&target| {
                let own = features.row(items[target as usize] as usize);
                most_alike(target, own, &by_feature, n_alike)
            })
            .collect();
        Self {
            points: Grouping::new(of_point.clone(), items.len()),
            of_point,
            alike,
        }
    }
}

/// The targets nearest to one, itself first, with λ; equal ones by number.
fn most_alike(
    target: u32,
    (features, values): (&[u32], &[f32]),
    by_feature: &Csr,
    n_alike: usize,
) -> Vec<(u32, f64)> {
    let mut cosines = vec![0.0; by_feature.n_columns];
    for (&feature, &value) in features.iter().zip(values) {
        let (targets, others) = by_feature.row(feature as usize);
        for (&other, &other_value) in targets.iter().zip(others) {
            cosines[other as usize] += f64::from(value) * f64::from(other_value);
        }
    }
    let mut alike: Vec<(u32, f64)> = (0..)
        .zip(cosines)
        .filter(|&(other, cosine)| other != target && cosine > 0.0)
        .map(|(other, cosine): (u32, f64)| (other, cosine.min(1.0)))
        .collect();
    let order = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let n_others = n_alike - 1;
    if n_others < alike.len() {
        alike.select_nth_unstable_by(n_others, order);
        alike.truncate(n_others);
    }
    alike.sort_unstable_by(order);
    // A copy without the room that all the others took.
    let mut nearest = Vec::with_capacity(alike.len() + 1);
    nearest.push((target, 1.0));
    nearest.append(&mut alike);
    nearest
}

struct Neighbourhood {
    point: u32,
    density: f64,
    n_found: u64,
}

/// Finds the nearest samples of all samples that share one history.
struct Search<'a> {
    neighbours: usize,
    histories: &'a Histories<'a>,
    targets: &'a Targets,
    /// The open history as a dense vector: `[features]`.
    dense: Vec<f64>,
    /// Its cosine to every history: `[groups]`; NaN where not known yet.
    cosines: Vec<f64>,
    /// The largest similarities so far, falling.
    largest: Vec<f64>,
    open: Option<u32>,
}

impl<'a> Search<'a> {
    fn new(neighbours: usize, histories: &'a Histories<'a>, targets: &'a Targets) -> Self {
        Self {
            neighbours,
            histories,
            targets,
            dense: Vec::new(),
            cosines: Vec::new(),
            largest: Vec::with_capacity(neighbours.min(1 << 10) + 1),
            open: None,
        }
    }

    /// Turns to a history: all cosines at once, or each when it is asked for, whichever is less work.
    fn open(&mut self, group: u32) {
        let histories = self.histories;
        let (features, values) = histories.features(group);
        let members = histories.grouping.members(group as usize);
        let n_candidates: usize = members
            .iter()
            .flat_map(|&point| &self.targets.alike[self.targets.of_point[point as usize] as usize])
            .map(|&(other, _)| self.targets.points.members(other as usize).len())
            .sum();
        // A candidate's own products are taken for as many as this history has.
        let direct = n_candidates.min(histories.grouping.n_groups()) * features.len();
        if histories.cost(features) <= direct {
            histories.cosines((features, values), &mut self.cosines);
        } else {
            if let Some(before) = self.open.take() {
                for &feature in histories.features(before).0 {
                    self.dense[feature as usize] = 0.0;
                }
            }
            self.dense.resize(histories.n_features(), 0.0);
            for (&feature, &value) in features.iter().zip(values) {
                self.dense[feature as usize] = f64::from(value);
            }
            self.open = Some(group);
            self.cosines.clear();
            self.cosines.resize(histories.grouping.n_groups(), f64::NAN);
        }
    }

    fn neighbourhood(&mut self, point: u32) -> Neighbourhood {
        let Self {
            neighbours,
            histories,
            targets,
            dense,
            cosines,
            largest,
            ..
        } = self;
        largest.clear();
        let own = targets.of_point[point as usize];
        for &(target, like) in &targets.alike[own as usize] {
            // No cosine is above 1: later items, which are less alike, cannot add anything.
            if largest.len() == *neighbours && like <= largest[*neighbours - 1] {
                break;
            }
            for &other in targets.points.members(target as usize) {
                if other == point {
                    continue;
                }
                let group = histories.grouping.of(other);
                let known = &mut cosines[group as usize];
                if known.is_nan() {
                    *known = cosine(dense, histories.features(group));
                }
                let similarity = known.min(1.0) * like;
                let is_among = largest.len() < *neighbours || similarity > largest[*neighbours - 1];
                if similarity > 0.0 && is_among {
                    let at = largest.partition_point(|&larger| larger >= similarity);
                    largest.insert(at, similarity);
                    largest.truncate(*neighbours);
                }
            }
        }
        Neighbourhood {
            point,
            density: largest.iter().sum::<f64>() / *neighbours as f64,
            n_found: largest.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histories::has_features;
    use crate::toy;

    /// Every pair of samples, by the definition.
    fn by_definition(problem: &dyn Problem, k: usize, n_items: usize) -> Vec<Option<f64>> {
        let samples = problem.samples();
        let representations = problem.representations().unwrap();
        let product = |matrix: &Csr, a: u32, b: u32| {
            let mut dense = vec![0.0; matrix.n_columns];
            let (features, values) = matrix.row(a as usize);
            for (&feature, &value) in features.iter().zip(values) {
                dense[feature as usize] = f64::from(value);
            }
            cosine(&dense, matrix.row(b as usize)).min(1.0)
        };
        let players: Vec<usize> = (0..samples.len())
            .filter(|&i| has_features(&representations.histories, samples.history_row[i]))
            .collect();
        let mut items: Vec<u32> = players.iter().map(|&i| samples.item[i]).collect();
        items.sort_unstable();
        items.dedup();
        let like = |y: u32, other: u32| {
            if y == other {
                return 1.0;
            }
            let mut others: Vec<u32> = items.iter().copied().filter(|&item| item != y).collect();
            others.sort_by(|&a, &b| {
                let cos = |item| product(&representations.items, y, item);
                cos(b).total_cmp(&cos(a)).then(a.cmp(&b))
            });
            if others[..n_items - 1].contains(&other) {
                product(&representations.items, y, other).max(0.0)
            } else {
                0.0
            }
        };
        let mut scores = vec![None; samples.len()];
        for &i in &players {
            let mut similarities: Vec<f64> = players
                .iter()
                .filter(|&&j| j != i)
                .map(|&j| {
                    let rows = (samples.history_row[i], samples.history_row[j]);
                    product(&representations.histories, rows.0, rows.1).max(0.0)
                        * like(samples.item[i], samples.item[j])
                })
                .collect();
            similarities.sort_by(|a, b| b.total_cmp(a));
            scores[i] = Some(similarities.iter().take(k).sum::<f64>() / k as f64);
        }
        scores
    }

    #[test]
    fn neighbours_are_exact() {
        for seed in 0..10 {
            let problem = toy::problem(seed);
            for (k, items) in [(1, 1), (3, 4), (10, 10), (1000, 2)] {
                let method = KnnDensity {
                    neighbours: k,
                    items,
                    space: Space::Features,
                };
                let found = method.estimate(&problem, Seed::root(0), &|_| {}).unwrap();
                let wanted = by_definition(&problem, k, items);
                for (found, wanted) in found.score.iter().zip(&wanted) {
                    match (found, wanted) {
                        (Some(found), Some(wanted)) => {
                            assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
                        }
                        _ => assert_eq!(found, wanted),
                    }
                }
            }
        }
    }

    #[test]
    fn both_ways_to_a_cosine_give_the_same_bits() {
        let problem = toy::problem(3);
        let representations = problem.representations().unwrap();
        let histories = Histories::new(problem.samples(), &representations.histories);
        let mut at_once = Vec::new();
        for group in 0..u32::try_from(histories.grouping.n_groups()).unwrap() {
            let (features, values) = histories.features(group);
            histories.cosines((features, values), &mut at_once);
            let mut dense = vec![0.0; histories.n_features()];
            for (&feature, &value) in features.iter().zip(values) {
                dense[feature as usize] = f64::from(value);
            }
            for (other, &found) in (0..).zip(&at_once) {
                let direct = cosine(&dense, histories.features(other));
                assert_eq!(found.to_bits(), direct.to_bits());
            }
        }
    }
}
