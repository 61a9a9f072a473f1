//! Leave-one-out of count models, exactly: what the target loss does when one sample's count is taken away.
//!
//! **Models.** With c(i) the weighted count of target i, N = Σ c, V the size of the vocabulary,
//! M(a,i) the weighted count of samples with last item a and target i, and M(a) = Σ over i of M(a,i):
//!
//! p(i) = (c(i) + 1) / (N + V)                     popularity: −log p(i)
//! P(i|a) = (M(a,i) + p(i)) / (M(a) + 1)            Markov chain: −log P(i|a)
//!
//! An item outside the vocabulary has c = 0. Without a last item, or with one that was never
//! followed, P = p: all its M are 0. Popularity is the case where all M are 0.
//!
//! **Target.** L = −Σ of W(a,j) log P(j|a) over distinct terms (a,j): last item and relevant item of
//! the target's requests, where W(a,j) sums 1 / (|requests| |R|) over the requests that have them.
//!
//! **Removal.** Taking away a sample with last item a, target i and weight w (the regime `mask`; V
//! stays, and the item stays in histories) lowers c(i), N, M(a,i) and M(a) by w. With D = N + V,
//!
//! p'(i) − p(i) = −w (D − c(i) − 1) / (D (D − w))
//! p'(j) − p(j) = p(j) w / (D − w)                   for j ≠ i: every other item gains
//!
//! so all terms change. The change is a sum of four parts, each of which few samples tell apart:
//!
//! score = A(w) + B(i,w) + C(a,w) + E(a,i,w)
//!
//! A(w) = −Σ over terms (b,j) of W(b,j) log[(M(b,j) + p(j) D/(D−w)) / (M(b,j) + p(j))]: every item gains.
//! B(i,w) = −Σ over terms (b,i) of W(b,i) log[(M(b,i) + p'(i)) / (M(b,i) + p(i) D/(D−w))]: but i loses.
//! C(a,w) = W(a) log[(M(a) − w + 1) / (M(a) + 1)], W(a) = Σ over j of W(a,j): the row of a is lighter.
//! E(a,i,w) = −W(a,i) log[(M(a,i) − w + p'(i)) / (M(a,i) + p'(i))]: the pair itself; 0 without such a term.
//!
//! C and E are 0 for a sample without history and for popularity. Logarithms of ratios near 1 are taken
//! by log1p of the difference, which is known without cancellation; terms with M = 0 add log(D/(D−w)) to A.
//!
//! # Paper
//! Cook, "Detection of Influential Observation in Linear Regression", Technometrics 19(1), 1977: deletion of one observation; the closed form for these models is derived above.
//!
//! # Departures
//! None: this is what retraining without the sample would give, not an approximation.
//!
//! # Needs
//! Counts; with transitions the model is the Markov chain, without them popularity. Where the model
//! gives the losses of the target, the closed form must reproduce them, or it is an error.
//!
//! # Cost
//! Time O(distinct weights · terms + Σ over distinct (item, weight) of the item's terms
//! + samples · log); memory O(samples + terms + items).

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::NoParams;
use crate::Seed;
use crate::estimator::{
    Estimator, EstimatorError, Family, Method, Need, OnProgress, Parameter, ParameterErrorKind,
    Scale, Scores,
};
use crate::problem::{Counts, Problem, Samples, Target};

/// How far a loss of ours may be from the model's, relative to 1 + its size: both round in f64.
const LOSS_TOLERANCE: f64 = 1e-9;

/// How far a weight may be above a count that it is part of: rounding of a sum in f64.
const COUNT_TOLERANCE: f64 = 1e-9;

pub(super) struct LeaveOneOut;

impl Method for LeaveOneOut {
    const NAME: &'static str = "leave_one_out";
    const REVISION: u32 = 1;
    const FAMILY: Family = Family::Retraining;
    const DOC: &'static str =
        "Exact change of the target loss of a count model when one sample is left out.";
    const ESTIMAND: &'static str = "Target loss of the count model retrained without the sample minus that of the model, in nats, mean over requests and their relevant items.";
    const PAPER: &'static str = "Cook, \"Detection of Influential Observation in Linear Regression\", Technometrics 19(1), 1977: deletion of one observation; the closed form for these models is derived above.";
    const NEEDS: &'static [Need] = &[Need::Counts];
    const SCALE: Scale = Scale::Helpfulness;
    const DETERMINISTIC: bool = true;
    const COPIES_SCORE_EQUALLY: bool = true;
    const PARAMETERS: &'static [Parameter] = &[];
    type Params = NoParams;

    fn new(NoParams {}: NoParams) -> Result<Self, ParameterErrorKind> {
        Ok(Self)
    }
}

impl Estimator for LeaveOneOut {
    fn estimate(
        &self,
        problem: &dyn Problem,
        _seed: Seed,
        _on_progress: OnProgress<'_>,
    ) -> Result<Scores, EstimatorError> {
        let method = Self::NAME;
        let counts = problem.counts().ok_or(EstimatorError::Missing {
            method,
            need: Need::Counts,
        })?;
        if problem.target().requests.is_empty() {
            return Err(EstimatorError::NoRequest {
                method,
                why: "the target has none",
            });
        }
        let model = Model::new(counts);
        model.check_losses(problem.target())?;
        model.check_samples(problem.samples())?;
        let removal = Removal::new(&model, problem.target(), problem.samples());
        let score = (0..problem.samples().len())
            .into_par_iter()
            .map(|sample| Some(removal.score(problem.samples(), sample)))
            .collect();
        Ok(Scores::exact(score, removal.terms.len() as u64))
    }
}

/// The fitted count model.
struct Model<'a> {
    counts: &'a Counts,
    /// M(a) by a; empty for popularity.
    rows: BTreeMap<u32, f64>,
    /// D = N + V.
    denominator: f64,
}

impl<'a> Model<'a> {
    fn new(counts: &'a Counts) -> Self {
        let mut rows = BTreeMap::new();
        for entry in counts.transitions.iter().flatten() {
            *rows.entry(entry.from).or_insert(0.0) += entry.weight;
        }
        Self {
            counts,
            rows,
            denominator: counts.item.iter().sum::<f64>() + counts.item.len() as f64,
        }
    }

    /// c(i).
    fn item(&self, item: u32) -> f64 {
        self.counts.item.get(item as usize).copied().unwrap_or(0.0)
    }

    /// p(i).
    fn popularity(&self, item: u32) -> f64 {
        (self.item(item) + 1.0) / self.denominator
    }

    /// M(a,i).
    fn transition(&self, from: Option<u32>, to: u32) -> f64 {
        let (Some(from), Some(transitions)) = (from, &self.counts.transitions) else {
            return 0.0;
        };
        transitions
            .binary_search_by_key(&(from, to), |entry| (entry.from, entry.to))
            .map_or(0.0, |at| transitions[at].weight)
    }

    /// M(a).
    fn row(&self, from: Option<u32>) -> f64 {
        from.and_then(|from| self.rows.get(&from).copied())
            .unwrap_or(0.0)
    }

    /// −log P(i|a).
    fn loss(&self, from: Option<u32>, to: u32) -> f64 {
        let numerator = self.transition(from, to) + self.popularity(to);
        -libm::log(numerator / (self.row(from) + 1.0))
    }

    /// Refuses a target whose losses are not those of this model.
    fn check_losses(&self, target: &Target) -> Result<(), EstimatorError> {
        for request in &target.requests {
            let losses = request.losses.iter().flatten();
            for (&item, &found) in request.relevant.iter().zip(losses) {
                let computed = self.loss(request.last_item, item);
                if (computed - found).abs() > LOSS_TOLERANCE * (1.0 + found.abs()) {
                    return Err(EstimatorError::Loss {
                        request: request.request,
                        item,
                        found,
                        computed,
                    });
                }
            }
        }
        Ok(())
    }

    /// Refuses samples that the model cannot have counted.
    fn check_samples(&self, samples: &Samples) -> Result<(), EstimatorError> {
        let is_markov = self.counts.transitions.is_some();
        for index in 0..samples.len() {
            let (weight, item) = (samples.weight[index], samples.item[index]);
            let last_item = samples.last_item[index];
            let too_much = |counted: f64| weight > counted + COUNT_TOLERANCE * (1.0 + counted);
            let refuse = |counted, what| {
                Err(EstimatorError::Count {
                    sample_id: samples.id[index],
                    weight,
                    counted,
                    what,
                })
            };
            let counted = self.item(item);
            if too_much(counted) {
                return refuse(counted, "item");
            }
            let counted = self.transition(last_item, item);
            if is_markov && last_item.is_some() && too_much(counted) {
                return refuse(counted, "transition");
            }
        }
        Ok(())
    }
}

/// One distinct term of the target loss.
struct Term {
    /// j.
    to: u32,
    /// W(a,j).
    weight: f64,
    /// M(a,j).
    count: f64,
    /// p(j).
    popularity: f64,
}

/// The four parts of a score, as far as they can be shared.
struct Removal<'a> {
    model: &'a Model<'a>,
    /// Ascending by (from, to).
    terms: Vec<Term>,
    /// Place of each term in `terms`, by (from, to).
    places: BTreeMap<(Option<u32>, u32), usize>,
    /// W(a).
    row_weight: BTreeMap<Option<u32>, f64>,
    /// A(w) + B(i,w) by (i, bits of w), ascending.
    shared: Vec<((u32, u64), f64)>,
}

impl<'a> Removal<'a> {
    fn new(model: &'a Model<'a>, target: &Target, samples: &Samples) -> Self {
        let mut weights: BTreeMap<(Option<u32>, u32), f64> = BTreeMap::new();
        for request in &target.requests {
            let weight = 1.0 / (target.requests.len() as f64 * request.relevant.len() as f64);
            for &item in &request.relevant {
                *weights.entry((request.last_item, item)).or_insert(0.0) += weight;
            }
        }
        let mut row_weight = BTreeMap::new();
        let mut by_item: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        let mut places = BTreeMap::new();
        let mut terms = Vec::with_capacity(weights.len());
        for (place, ((from, to), weight)) in weights.into_iter().enumerate() {
            *row_weight.entry(from).or_insert(0.0) += weight;
            by_item.entry(to).or_default().push(place);
            places.insert((from, to), place);
            terms.push(Term {
                to,
                weight,
                count: model.transition(from, to),
                popularity: model.popularity(to),
            });
        }

        let mut keys: Vec<(u32, u64)> = samples
            .item
            .iter()
            .zip(&samples.weight)
            .map(|(&item, weight)| (item, weight.to_bits()))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let mut distinct: Vec<u64> = keys.iter().map(|&(_, bits)| bits).collect();
        distinct.sort_unstable();
        distinct.dedup();
        // Terms without a transition all gain by the same factor.
        let unseen: f64 = terms
            .iter()
            .filter(|term| term.count <= 0.0)
            .map(|term| term.weight)
            .sum();
        let gains: Vec<f64> = distinct
            .par_iter()
            .map(|&bits| {
                let gain = model.gain(f64::from_bits(bits));
                let seen = terms.iter().filter(|term| term.count > 0.0);
                let seen: f64 = seen
                    .map(|term| {
                        let rise = term.popularity * gain;
                        term.weight * libm::log1p(rise / (term.count + term.popularity))
                    })
                    .sum();
                -(unseen * libm::log1p(gain)) - seen
            })
            .collect();
        let shared = keys
            .par_iter()
            .map(|&(item, bits)| {
                let all = gains[distinct.partition_point(|&other| other < bits)];
                let own = by_item.get(&item).map_or(0.0, |own| {
                    own.iter()
                        .map(|&place| model.own_change(&terms[place], f64::from_bits(bits)))
                        .sum()
                });
                ((item, bits), all + own)
            })
            .collect();
        Self {
            model,
            terms,
            places,
            row_weight,
            shared,
        }
    }

    /// A(w) + B(i,w) + C(a,w) + E(a,i,w).
    fn score(&self, samples: &Samples, sample: usize) -> f64 {
        let (item, weight) = (samples.item[sample], samples.weight[sample]);
        let key = (item, weight.to_bits());
        let place = self.shared.partition_point(|&(other, _)| other < key);
        let shared = self.shared[place].1;
        let from = samples.last_item[sample];
        if from.is_none() || self.model.counts.transitions.is_none() {
            return shared;
        }
        let row = self.row_weight.get(&from).map_or(0.0, |row_weight| {
            let before = self.model.row(from) + 1.0;
            // A row is at least as heavy as each of its samples, up to rounding.
            let after = (self.model.row(from) - weight).max(0.0) + 1.0;
            row_weight * log_ratio(before, after, -weight)
        });
        let pair = self.places.get(&(from, item)).map_or(0.0, |&place| {
            let term = &self.terms[place];
            let popularity = self.model.popularity_without(item, weight);
            let before = term.count + popularity;
            let after = (term.count - weight).max(0.0) + popularity;
            term.weight * log_ratio(before, after, -weight)
        });
        shared + row - pair
    }
}

impl Model<'_> {
    /// D / (D − w) − 1: how much the popularity of every other item gains.
    fn gain(&self, weight: f64) -> f64 {
        weight / (self.denominator - weight)
    }

    /// p'(i) of the item whose sample is removed.
    fn popularity_without(&self, item: u32, weight: f64) -> f64 {
        ((self.item(item) - weight).max(0.0) + 1.0) / (self.denominator - weight)
    }

    /// The part of B(i,w) that comes from one term of item i.
    fn own_change(&self, term: &Term, weight: f64) -> f64 {
        let gain = self.gain(weight);
        let gained = term.popularity * (1.0 + gain);
        let before = term.count + gained;
        let after = term.count + self.popularity_without(term.to, weight);
        // p'(i) is what is gained less w / (D − w): (c − w + 1) / (D − w) = (c + 1) / (D − w) − w / (D − w).
        -term.weight * log_ratio(before, after, -gain)
    }
}

/// log(after / before), where `difference` = after − before is known better than by subtraction.
fn log_ratio(before: f64, after: f64, difference: f64) -> f64 {
    let change = difference / before;
    if change > -0.5 {
        libm::log1p(change)
    } else {
        // Far from 1 the quotient is the better known of the two.
        libm::log(after / before)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::problem::{InMemory, Request};
    use crate::toy;

    /// A log: samples (last item, target, weight) and requests (last item, relevant items).
    #[derive(Clone, Debug)]
    struct Log {
        vocabulary: u32,
        is_markov: bool,
        samples: Vec<(Option<u32>, u32, f64)>,
        requests: Vec<(Option<u32>, Vec<u32>)>,
    }

    impl Log {
        /// The mean loss over requests after fitting on all samples but one, straight from the formulas.
        fn target_loss(&self, left_out: Option<usize>) -> f64 {
            let kept = || {
                (0..self.samples.len())
                    .filter(move |&index| Some(index) != left_out)
                    .map(|index| self.samples[index])
            };
            let count = |item| -> f64 { kept().filter(|s| s.1 == item).map(|s| s.2).sum() };
            let n: f64 = kept().map(|s| s.2).sum();
            let p = |item| (count(item) + 1.0) / (n + f64::from(self.vocabulary));
            let follows = |from: Option<u32>, to: Option<u32>| -> f64 {
                kept()
                    .filter(|s| self.is_markov && from.is_some() && s.0 == from)
                    .filter(|s| to.is_none_or(|to| s.1 == to))
                    .map(|s| s.2)
                    .sum()
            };
            let loss = |from, to| {
                let numerator = follows(from, Some(to)) + p(to);
                -libm::log(numerator / (follows(from, None) + 1.0))
            };
            let of_request = |(from, relevant): &(Option<u32>, Vec<u32>)| {
                relevant.iter().map(|&to| loss(*from, to)).sum::<f64>() / relevant.len() as f64
            };
            self.requests.iter().map(of_request).sum::<f64>() / self.requests.len() as f64
        }

        fn counts(&self) -> Counts {
            toy::counts(
                self.vocabulary as usize,
                self.is_markov,
                self.samples.iter().copied(),
            )
        }

        fn problem(&self) -> InMemory {
            let n = self.samples.len();
            let samples = Samples {
                id: (0..n as u64).collect(),
                sequence: vec![0; n],
                item: self.samples.iter().map(|sample| sample.1).collect(),
                history_length: vec![0; n],
                last_item: self.samples.iter().map(|sample| sample.0).collect(),
                history_row: vec![0; n],
                occurred_at: vec![None; n],
                weight: self.samples.iter().map(|sample| sample.2).collect(),
            };
            let requests = (0..).zip(&self.requests);
            let requests = requests.map(|(request, (last_item, relevant))| Request {
                request,
                last_item: *last_item,
                history_row: 0,
                relevant: relevant.clone(),
                losses: None,
            });
            let target = Target {
                requests: requests.collect(),
            };
            InMemory::new(samples, target)
                .unwrap()
                .with_counts(self.counts())
                .unwrap()
        }
    }

    fn logs() -> impl Strategy<Value = Log> {
        (2_u32..7, any::<bool>()).prop_flat_map(|(vocabulary, is_markov)| {
            // Last and relevant items may lie outside the vocabulary: cold.
            let any_item = 0..vocabulary + 2;
            let weight = prop_oneof![
                4 => Just(1.0),
                1 => Just(0.0),
                1 => Just(2.5),
                2 => 0.01_f64..3.0,
            ];
            let last = prop::option::weighted(0.8, any_item.clone());
            let relevant = prop::collection::btree_set(any_item, 1..4);
            (
                prop::collection::vec((last.clone(), 0..vocabulary, weight), 1..40),
                prop::collection::vec((last, relevant), 1..8),
            )
                .prop_map(move |(samples, requests)| Log {
                    vocabulary,
                    is_markov,
                    samples,
                    requests: requests
                        .into_iter()
                        .map(|(last, relevant)| (last, relevant.into_iter().collect()))
                        .collect(),
                })
        })
    }

    proptest! {
        #[test]
        fn scores_are_those_of_retraining(log in logs()) {
            let before = log.target_loss(None);
            let scores = LeaveOneOut
                .estimate(&log.problem(), Seed::root(0), &|_| {})
                .unwrap();
            for index in 0..log.samples.len() {
                let wanted = log.target_loss(Some(index)) - before;
                let found = scores.score[index].unwrap();
                prop_assert!(
                    (found - wanted).abs() <= 1e-12 * before.abs().max(wanted.abs()),
                    "sample {index}: {found} is not {wanted}",
                );
            }
        }
    }

    #[test]
    fn a_hand_computed_removal() {
        // Vocabulary {0, 1}; samples 0 -> 1 twice and a first event 0; one request asks for 1 after 0.
        let log = Log {
            vocabulary: 2,
            is_markov: true,
            samples: vec![(Some(0), 1, 1.0), (Some(0), 1, 1.0), (None, 0, 1.0)],
            requests: vec![(Some(0), vec![1])],
        };
        let scores = LeaveOneOut
            .estimate(&log.problem(), Seed::root(0), &|_| {})
            .unwrap();
        // All: p(1) = 3/5, P = 2.6/3. Without a transition: p(1) = 2/4, P = 1.5/2. Without the first
        // event: p(1) = 3/4, P = 2.75/3.
        let transition = libm::log(2.6 / 3.0) - libm::log(1.5 / 2.0);
        let first = libm::log(2.6 / 3.0) - libm::log(2.75 / 3.0);
        for (found, wanted) in scores.score.iter().zip([transition, transition, first]) {
            assert!((found.unwrap() - wanted).abs() < 1e-15);
        }
        assert!(transition > 0.0 && first < 0.0);
    }

    #[test]
    fn large_counts_keep_their_precision() {
        // Ten million events: the change is 1e-7 of the loss, and known to twelve digits.
        let count = 5e6;
        let log = Log {
            vocabulary: 2,
            is_markov: false,
            samples: vec![(None, 0, 1.0), (None, 0, count), (None, 1, count)],
            requests: vec![(None, vec![1])],
        };
        let scores = LeaveOneOut
            .estimate(&log.problem(), Seed::root(0), &|_| {})
            .unwrap();
        let d = 2.0 * count + 3.0;
        // −log[p'(1) / p(1)] = log(1 − 1/D), by its series.
        let wanted = -(1.0 / d + 0.5 / (d * d) + 1.0 / (3.0 * d * d * d));
        let found = scores.score[0].unwrap();
        assert!(
            ((found - wanted) / wanted).abs() < 1e-12,
            "{found} {wanted}"
        );
    }

    #[test]
    fn losses_of_another_model_are_refused() {
        let log = Log {
            vocabulary: 3,
            is_markov: true,
            samples: vec![(Some(0), 1, 1.0), (Some(1), 2, 1.0)],
            requests: vec![(Some(0), vec![1, 2])],
        };
        let problem = log.problem();
        let mut target = problem.target().clone();
        let right = Model::new(problem.counts().unwrap());
        let losses = [right.loss(Some(0), 1), right.loss(Some(0), 2)];
        target.requests[0].losses = Some(losses.to_vec());
        let with = |target: Target| {
            let problem = InMemory::new(problem.samples().clone(), target).unwrap();
            let problem = problem.with_counts(log.counts()).unwrap();
            LeaveOneOut.estimate(&problem, Seed::root(0), &|_| {})
        };
        assert!(with(target.clone()).is_ok());
        target.requests[0].losses = Some(vec![losses[0], losses[1] + 1e-6]);
        assert!(matches!(
            with(target),
            Err(EstimatorError::Loss { item: 2, .. })
        ));
    }

    #[test]
    fn samples_that_were_not_counted_are_refused() {
        let log = Log {
            vocabulary: 3,
            is_markov: true,
            samples: vec![(Some(0), 1, 1.0), (Some(1), 2, 1.0)],
            requests: vec![(Some(0), vec![1])],
        };
        for (what, item, transitions) in [
            ("item", vec![0.0, 0.0, 1.0], log.counts().transitions),
            ("transition", vec![0.0, 1.0, 1.0], Some(Vec::new())),
        ] {
            let problem = log.problem();
            let problem = problem.with_counts(Counts { item, transitions }).unwrap();
            let found = LeaveOneOut.estimate(&problem, Seed::root(0), &|_| {});
            let Err(EstimatorError::Count { what: found, .. }) = found else {
                panic!("{found:?}");
            };
            assert_eq!(found, what);
        }
    }
}
