//! Ranking metrics of one request, from the ranks of its relevant items or from graded judgements.
//!
//! Conventions: an average is taken by the caller over requests with at least one relevant item; a
//! request without a prediction counts 0; a relevant item that is no candidate is a miss and stays
//! in the number of relevant items. With mid-ranks, a hit needs mid-rank <= K. A block of ties can
//! put more than K relevant items at one mid-rank <= K: at most K of them count, so that no figure
//! exceeds 1.

use crate::place::{Place, Ties};

/// Discount of a 1-based rank, 1 / log2(rank + 1).
pub fn discount(rank: f64) -> f64 {
    1.0 / libm::log2(rank + 1.0)
}

/// Sum of the first `n` discounts: the best DCG of `n` binary gains.
fn ideal(n: usize) -> f64 {
    (1..=n).map(|rank| discount(rank as f64)).sum()
}

/// Ranks of the relevant items of one request, ascending; infinite for items that are not ranked.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranks {
    ascending: Vec<f64>,
}

impl Ranks {
    /// Mid-ranks of the relevant items; `None` for an item that is no candidate.
    pub fn middle(places: impl IntoIterator<Item = Option<Place>>) -> Self {
        let ranks = places
            .into_iter()
            .map(|place| place.map_or(f64::INFINITY, Place::mid_rank));
        Self::of(ranks.collect())
    }

    /// Ranks of the relevant items under a rule for ties; `None` for an item that is no candidate.
    ///
    /// Relevant items of one block take its first ranks one after the other (optimistic) or its
    /// last ones (pessimistic).
    pub fn new(places: &[Option<Place>], ties: Ties) -> Self {
        let mut sorted: Vec<Place> = places.iter().copied().flatten().collect();
        sorted.sort_unstable();
        let n_missing = places.len() - sorted.len();
        let mut ranks: Vec<f64> = Vec::with_capacity(places.len());
        for block in sorted.chunk_by(|a, b| a.better == b.better) {
            for (index, place) in block.iter().enumerate() {
                let first = 1.0 + f64::from(place.better);
                ranks.push(match ties {
                    Ties::Middle => place.mid_rank(),
                    Ties::Optimistic => first + index as f64,
                    Ties::Pessimistic => first + f64::from(place.tied) - index as f64,
                });
            }
        }
        ranks.extend(std::iter::repeat_n(f64::INFINITY, n_missing));
        Self::of(ranks)
    }

    fn of(mut ranks: Vec<f64>) -> Self {
        ranks.sort_by(f64::total_cmp);
        Self { ascending: ranks }
    }

    /// Relevant items, ranked or not.
    pub fn n_relevant(&self) -> usize {
        self.ascending.len()
    }

    /// Whether nothing is relevant; every figure is then 0 and no average should count it.
    pub fn is_empty(&self) -> bool {
        self.ascending.is_empty()
    }

    /// The ranks within the first `k`, ascending, at most `k` of them.
    fn within(&self, k: usize) -> &[f64] {
        let end = self.ascending.partition_point(|&rank| rank <= k as f64);
        &self.ascending[..end.min(k)]
    }

    /// Relevant items within the first `k`.
    pub fn hits(&self, k: usize) -> usize {
        self.within(k).len()
    }

    /// 1 if a relevant item is within the first `k`, else 0. At 1 this is `accuracy`.
    pub fn hit_rate(&self, k: usize) -> f64 {
        f64::from(u8::from(self.hits(k) > 0))
    }

    /// hits / k, also where fewer than `k` candidates exist.
    pub fn precision(&self, k: usize) -> f64 {
        ratio(self.hits(k) as f64, k as f64)
    }

    /// hits / relevant.
    pub fn recall(&self, k: usize) -> f64 {
        ratio(self.hits(k) as f64, self.n_relevant() as f64)
    }

    /// Calibrated recall: hits / min(k, relevant).
    pub fn recall_calibrated(&self, k: usize) -> f64 {
        ratio(self.hits(k) as f64, self.n_relevant().min(k) as f64)
    }

    /// Harmonic mean of precision and recall, 2 hits / (k + relevant).
    pub fn f1(&self, k: usize) -> f64 {
        ratio(2.0 * self.hits(k) as f64, (k + self.n_relevant()) as f64)
    }

    /// 1 / rank of the first relevant item if it is within the first `k`, else 0.
    pub fn reciprocal_rank(&self, k: usize) -> f64 {
        self.within(k).first().map_or(0.0, |rank| 1.0 / rank)
    }

    fn dcg(&self, k: usize) -> f64 {
        self.within(k).iter().map(|&rank| discount(rank)).sum()
    }

    /// NDCG with binary gains; the ideal list holds min(k, relevant) items.
    pub fn ndcg(&self, k: usize) -> f64 {
        ratio(self.dcg(k), ideal(self.n_relevant().min(k)))
    }

    /// NDCG whose ideal list always holds `k` relevant items: smaller than [`Ranks::ndcg`] wherever
    /// fewer than `k` items are relevant. The default of `RecTools`; for comparison with its tables.
    pub fn ndcg_full_ideal(&self, k: usize) -> f64 {
        ratio(self.dcg(k), ideal(k))
    }

    /// Sum over hits of the precision at the hit. The number of hits up to a tied hit is the mean
    /// over the block, as its rank is.
    fn precision_sum(&self, k: usize) -> f64 {
        let mut before = 0;
        let mut sum = 0.0;
        for block in self.within(k).chunk_by(|a, b| a.total_cmp(b).is_eq()) {
            let found = before as f64 + f64::midpoint(block.len() as f64, 1.0);
            sum += block.len() as f64 * (found / block[0]);
            before += block.len();
        }
        sum
    }

    /// Average precision over min(k, relevant).
    pub fn average_precision(&self, k: usize) -> f64 {
        ratio(self.precision_sum(k), self.n_relevant().min(k) as f64)
    }

    /// Average precision over all relevant items, as `trec_eval` does.
    pub fn average_precision_trec(&self, k: usize) -> f64 {
        ratio(self.precision_sum(k), self.n_relevant() as f64)
    }

    /// Mean over n = 1..=k of the precision at n: what Elliot calls MAP, a different quantity.
    pub fn mean_precision(&self, k: usize) -> f64 {
        ratio((1..=k).map(|n| self.precision(n)).sum(), k as f64)
    }
}

/// 0 where there is nothing to divide by.
fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator > 0.0 {
        numerator / denominator
    } else {
        0.0
    }
}

/// What a grade is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gain {
    /// The grade itself.
    Linear,
    /// 2^grade - 1.
    Exponential,
}

impl Gain {
    /// Gain of a grade; 0 for grades that are not positive.
    pub fn of(self, grade: f64) -> f64 {
        if grade > 0.0 {
            match self {
                Self::Linear => grade,
                Self::Exponential => libm::exp2(grade) - 1.0,
            }
        } else {
            0.0
        }
    }
}

/// One judged document of a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Its place in the run among judged and unjudged documents; `None` if the run lacks it.
    pub place: Option<Place>,
    /// Its grade; relevant means positive.
    pub grade: f64,
}

/// Best DCG that the grades allow within `k`.
fn graded_ideal(judged: &[Judged], k: usize, gain: Gain) -> f64 {
    let mut gains: Vec<f64> = judged
        .iter()
        .map(|document| gain.of(document.grade))
        .collect();
    gains.sort_by(|a, b| b.total_cmp(a));
    gains
        .iter()
        .take(k)
        .enumerate()
        .map(|(index, gain)| gain * discount(index as f64 + 1.0))
        .sum()
}

/// Documents of the run with their gains, block by block, best gain first within a block.
fn blocks(judged: &[Judged], gain: Gain) -> Vec<Vec<(Place, f64)>> {
    let mut placed: Vec<(Place, f64)> = judged
        .iter()
        .filter_map(|document| Some((document.place?, gain.of(document.grade))))
        .filter(|(_, gain)| *gain > 0.0)
        .collect();
    placed.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.total_cmp(&a.1)));
    placed
        .chunk_by(|a, b| a.0.better == b.0.better)
        .map(<[_]>::to_vec)
        .collect()
}

/// NDCG at `k` of graded judgements. Unjudged documents are kept in the run and gain nothing.
///
/// With [`Ties::Middle`], a block that would overfill the first `k` counts in proportion.
pub fn graded_ndcg(judged: &[Judged], k: usize, gain: Gain, ties: Ties) -> f64 {
    let mut dcg = 0.0;
    let mut n_taken = 0_usize;
    for block in blocks(judged, gain) {
        let first = 1.0 + f64::from(block[0].0.better);
        let last = first + f64::from(block[0].0.tied);
        match ties {
            Ties::Middle => {
                let rank = block[0].0.mid_rank();
                if rank <= k as f64 {
                    let n_free = k.saturating_sub(n_taken).min(block.len());
                    let share = n_free as f64 / block.len() as f64;
                    let gains: f64 = block.iter().map(|(_, gain)| gain).sum();
                    dcg += share * gains * discount(rank);
                    n_taken += n_free;
                }
            }
            Ties::Optimistic => {
                for (index, (_, gain)) in block.iter().enumerate() {
                    dcg += gained(*gain, first + index as f64, k);
                }
            }
            Ties::Pessimistic => {
                // The best gain comes last of all.
                for (index, (_, gain)) in block.iter().enumerate() {
                    dcg += gained(*gain, last - index as f64, k);
                }
            }
        }
    }
    ratio(dcg, graded_ideal(judged, k, gain))
}

fn gained(gain: f64, rank: f64, k: usize) -> f64 {
    if rank <= k as f64 {
        gain * discount(rank)
    } else {
        0.0
    }
}

/// NDCG at `k` averaged over all orders of the tied documents; not the NDCG of the mid-rank.
pub fn expected_ndcg(judged: &[Judged], k: usize, gain: Gain) -> f64 {
    let mut dcg = 0.0;
    for block in blocks(judged, gain) {
        let Place { better, tied } = block[0].0;
        let better = better as usize;
        let length = tied as usize + 1;
        // Each document of the block stands at each of its ranks equally often.
        let discounts: f64 = (better + 1..=(better + length).min(k))
            .map(|rank| discount(rank as f64))
            .sum();
        let gains: f64 = block.iter().map(|(_, gain)| gain).sum();
        dcg += gains * discounts / length as f64;
    }
    ratio(dcg, graded_ideal(judged, k, gain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::places;
    use proptest::prelude::*;

    fn at(ranks: &[u32]) -> Ranks {
        Ranks::middle(ranks.iter().map(|&rank| Some(Place::new(rank - 1, 0))))
    }

    fn close(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 1e-12, "{found} is not {wanted}");
    }

    #[test]
    fn three_relevant_items_by_hand() {
        let ranks = at(&[7, 1, 3]);
        close(ranks.hit_rate(1), 1.0);
        close(ranks.precision(5), 0.4);
        close(ranks.recall(5), 2.0 / 3.0);
        close(ranks.recall_calibrated(2), 0.5);
        close(ranks.f1(5), 0.5);
        close(ranks.reciprocal_rank(5), 1.0);
        close(ranks.average_precision(5), (1.0 + 2.0 / 3.0) / 3.0);
        close(ranks.average_precision(1), 1.0);
        close(ranks.average_precision_trec(1), 1.0 / 3.0);
        // Discounts 1, 1/2 at ranks 1, 3; the ideal adds 1/log2(3) at rank 2.
        close(ranks.ndcg(5), 1.5 / (1.5 + 1.0 / 3.0_f64.log(2.0)));
        close(ranks.mean_precision(3), (1.0 + 0.5 + 2.0 / 3.0) / 3.0);
    }

    #[test]
    fn a_cold_item_is_a_miss_that_stays_relevant() {
        let ranks = Ranks::middle([Some(Place::new(0, 0)), None]);
        assert_eq!(ranks.n_relevant(), 2);
        close(ranks.recall(10), 0.5);
        close(ranks.recall(usize::MAX), 0.5);
        close(ranks.ndcg(10), 1.0 / (1.0 + discount(2.0)));
        let cold = Ranks::middle([None]);
        for figure in [
            cold.hit_rate(5),
            cold.ndcg(5),
            cold.reciprocal_rank(5),
            cold.f1(5),
        ] {
            close(figure, 0.0);
        }
    }

    #[test]
    fn nothing_relevant_is_zero() {
        let ranks = at(&[]);
        assert!(ranks.is_empty());
        for figure in [ranks.recall(5), ranks.ndcg(5), ranks.average_precision(5)] {
            close(figure, 0.0);
        }
    }

    #[test]
    fn a_hit_needs_its_mid_rank_within_the_list() {
        // Two others tie with the item for ranks 10, 11, 12: mid-rank 11.
        let place = [Some(Place::new(9, 2))];
        close(Ranks::new(&place, Ties::Middle).hit_rate(10), 0.0);
        close(Ranks::new(&place, Ties::Middle).hit_rate(11), 1.0);
        close(Ranks::new(&place, Ties::Optimistic).hit_rate(10), 1.0);
        close(Ranks::new(&place, Ties::Pessimistic).hit_rate(11), 0.0);
        close(Ranks::new(&place, Ties::Pessimistic).hit_rate(12), 1.0);
    }

    #[test]
    fn tied_relevant_items_never_exceed_a_full_list() {
        // Twenty relevant items share the mid-rank 10.5.
        let ranks = Ranks::middle((0..20).map(|_| Some(Place::new(0, 19))));
        assert_eq!(
            (ranks.hits(10), ranks.hits(11), ranks.hits(20)),
            (0, 11, 20)
        );
        close(ranks.precision(11), 1.0);
        close(ranks.average_precision(20), 1.0);
        assert!(ranks.ndcg(11) <= 1.0 && ranks.average_precision(11) <= 1.0);
    }

    #[test]
    fn gains_of_grades() {
        close(Gain::Linear.of(3.0), 3.0);
        close(Gain::Exponential.of(3.0), 7.0);
        close(Gain::Linear.of(-1.0), 0.0);
    }

    /// All orders of `0..n`.
    fn orders(n: usize) -> Vec<Vec<usize>> {
        if n == 0 {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for order in orders(n - 1) {
            for at in 0..n {
                let mut order = order.clone();
                order.insert(at, n - 1);
                all.push(order);
            }
        }
        all
    }

    /// Figures over every order that the scores allow: NDCG as (least, mean, most).
    fn all_orders(scores: &[f64], grades: &[f64], k: usize) -> (f64, f64, f64) {
        let mut found = Vec::new();
        for order in orders(scores.len()) {
            if order
                .windows(2)
                .all(|pair| scores[pair[0]] >= scores[pair[1]])
            {
                let mut judged = Vec::new();
                for (rank, &document) in (0_u32..).zip(&order) {
                    judged.push(Judged {
                        place: Some(Place::new(rank, 0)),
                        grade: grades[document],
                    });
                }
                found.push(graded_ndcg(&judged, k, Gain::Linear, Ties::Middle));
            }
        }
        let mean = found.iter().sum::<f64>() / found.len() as f64;
        let least = found.iter().copied().fold(f64::INFINITY, f64::min);
        let most = found.iter().copied().fold(0.0, f64::max);
        (least, mean, most)
    }

    proptest! {
        #[test]
        fn tie_rules_are_what_all_orders_say(
            rows in prop::collection::vec((0_i32..3, 0_i32..3), 1..6), k in 1_usize..6
        ) {
            let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
            let grades: Vec<f64> = rows.iter().map(|row| f64::from(row.1)).collect();
            let judged: Vec<Judged> = places(&scores)
                .unwrap()
                .into_iter()
                .zip(&grades)
                .map(|(place, &grade)| Judged { place: Some(place), grade })
                .collect();
            let (least, mean, most) = all_orders(&scores, &grades, k);
            let ndcg = |ties| graded_ndcg(&judged, k, Gain::Linear, ties);
            prop_assert!((ndcg(Ties::Pessimistic) - least).abs() < 1e-12);
            prop_assert!((ndcg(Ties::Optimistic) - most).abs() < 1e-12);
            prop_assert!((expected_ndcg(&judged, k, Gain::Linear) - mean).abs() < 1e-12);
            prop_assert!((0.0..=1.0 + 1e-12).contains(&ndcg(Ties::Middle)));
        }

        #[test]
        fn figures_stay_in_their_range_and_grow_with_the_list(
            rows in prop::collection::vec((0_i32..5, any::<bool>()), 1..20), k in 1_usize..12
        ) {
            let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
            let all = places(&scores).unwrap();
            let relevant: Vec<Option<Place>> = rows
                .iter()
                .zip(&all)
                .filter(|(row, _)| row.1)
                .map(|(_, place)| Some(*place))
                .collect();
            for ties in [Ties::Middle, Ties::Optimistic, Ties::Pessimistic] {
                let ranks = Ranks::new(&relevant, ties);
                let figures = [
                    ranks.hit_rate(k), ranks.precision(k), ranks.recall(k),
                    ranks.recall_calibrated(k), ranks.f1(k), ranks.ndcg(k),
                    ranks.reciprocal_rank(k), ranks.average_precision(k),
                    ranks.average_precision_trec(k),
                ];
                for figure in figures {
                    prop_assert!((0.0..=1.0 + 1e-12).contains(&figure), "{figures:?}");
                }
                prop_assert!(ranks.recall(k) <= ranks.recall(k + 1));
                prop_assert!(ranks.hit_rate(k) <= ranks.hit_rate(k + 1));
            }
        }

        #[test]
        fn graded_and_binary_agree_on_binary_grades(
            rows in prop::collection::vec((0_i32..5, any::<bool>()), 1..20), k in 1_usize..12
        ) {
            let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
            let all = places(&scores).unwrap();
            let pairs: Vec<(Place, bool)> = all.iter().copied().zip(rows.iter().map(|row| row.1)).collect();
            let relevant: Vec<Option<Place>> =
                pairs.iter().filter(|pair| pair.1).map(|pair| Some(pair.0)).collect();
            let judged: Vec<Judged> = pairs
                .iter()
                .map(|pair| Judged { place: Some(pair.0), grade: f64::from(u8::from(pair.1)) })
                .collect();
            for ties in [Ties::Middle, Ties::Optimistic, Ties::Pessimistic] {
                for gain in [Gain::Linear, Gain::Exponential] {
                    let graded = graded_ndcg(&judged, k, gain, ties);
                    prop_assert!((graded - Ranks::new(&relevant, ties).ndcg(k)).abs() < 1e-12);
                }
            }
        }
    }
}
