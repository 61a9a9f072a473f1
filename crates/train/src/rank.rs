//! Full ranking: the place of each relevant item among all candidates of a request.

use models::{History, Model};
use rayon::prelude::*;
use tables::{NOT_RANKED, Prediction, Request};

use crate::config::Seen;
use crate::inputs::Catalogue;

/// Requests that are ranked before their rows are written.
pub(crate) const BLOCK: usize = 1024;

/// Scores that are in memory at once on a thread.
const SCORES: usize = 1 << 20;

/// Ranks candidates with one model.
pub(crate) struct Ranker<'a> {
    pub(crate) model: &'a dyn Model,
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) seen: Seen,
    pub(crate) top: usize,
}

/// A score that cannot be ranked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the score of item {item} for request {request} is not finite")]
pub(crate) struct RankError {
    pub(crate) request: u32,
    pub(crate) item: usize,
}

/// Memory that one thread uses again for each request.
#[derive(Default)]
struct Scratch {
    /// Distinct items of the history, ascending.
    seen: Vec<u32>,
    /// Scores of candidates that are in the history.
    seen_scores: Vec<f64>,
    best: Vec<(f64, u32)>,
}

impl Ranker<'_> {
    /// Ranks a block of requests in parallel; rows come in the order of the requests.
    pub(crate) fn rank_all<'h>(
        &self,
        requests: &[Request],
        history: impl Fn(&Request) -> History<'h> + Sync,
    ) -> Result<Vec<Prediction>, RankError> {
        let n = self.catalogue.n();
        // As many as fit in a few megabytes of scores: a function of sizes alone.
        let together = (SCORES / n.max(1)).clamp(1, 64);
        let blocks: Result<Vec<Vec<Prediction>>, RankError> = requests
            .par_chunks(together)
            .map_init(Scratch::default, |scratch, requests| {
                let asked: Vec<(Option<u32>, History<'_>)> = requests
                    .iter()
                    .map(|request| (Some(request.sequence), history(request)))
                    .collect();
                let mut scores = vec![0.0; requests.len() * n];
                self.model.score_block(&asked, &mut scores);
                let rows = requests.iter().zip(asked).enumerate();
                rows.map(|(at, (request, (_, history)))| {
                    let scores = &mut scores[at * n..(at + 1) * n];
                    self.rank(request, history.items(), scores, scratch)
                })
                .collect()
            })
            .collect();
        Ok(blocks?.into_iter().flatten().collect())
    }

    /// Ranks a request by given scores of all items.
    pub(crate) fn rank_scores(
        &self,
        request: &Request,
        history: &[u32],
        scores: &mut [f64],
    ) -> Result<Prediction, RankError> {
        self.rank(request, history, scores, &mut Scratch::default())
    }

    fn rank(
        &self,
        request: &Request,
        history: &[u32],
        scores: &mut [f64],
        scratch: &mut Scratch,
    ) -> Result<Prediction, RankError> {
        scratch.seen.clear();
        scratch.seen.extend(history);
        scratch.seen.sort_unstable();
        scratch.seen.dedup();
        let n_candidates = self.admit(request, scores, scratch)?;

        let mut row = Prediction {
            request: request.request,
            part: request.part,
            history_length: request.history_end,
            n_candidates,
            relevant: Vec::with_capacity(request.relevant.len()),
            better: Vec::new(),
            tied: Vec::new(),
            is_repeat: Vec::new(),
            better_new: Vec::new(),
            tied_new: Vec::new(),
            top_items: Vec::new(),
            top_scores: Vec::new(),
        };
        for &item in &request.relevant {
            let is_repeat = scratch.seen.binary_search(&item).is_ok();
            if is_repeat && self.seen == Seen::Exclude {
                continue;
            }
            row.relevant.push(item);
            row.is_repeat.push(is_repeat);
            let score = scores[item as usize];
            let (mut place, mut place_new) = ((NOT_RANKED, 0), (NOT_RANKED, 0));
            if score > f64::NEG_INFINITY {
                place = count(scores, score);
                if !is_repeat {
                    let (better, at_least) = count(&scratch.seen_scores, score);
                    place_new = (place.0 - better, place.1 - at_least);
                    // The item itself is not tied with itself.
                    place_new.1 -= place_new.0 + 1;
                }
                place.1 -= place.0 + 1;
            }
            row.better.push(place.0);
            row.tied.push(place.1);
            row.better_new.push(place_new.0);
            row.tied_new.push(place_new.1);
        }
        self.best(scores, scratch);
        row.top_items = scratch.best.iter().map(|(_, item)| *item).collect();
        row.top_scores = scratch.best.iter().map(|(score, _)| *score).collect();
        Ok(row)
    }

    /// Sets the scores of items that are no candidates to minus infinity, and returns the number of
    /// those that are.
    fn admit(
        &self,
        request: &Request,
        scores: &mut [f64],
        scratch: &mut Scratch,
    ) -> Result<u32, RankError> {
        let requested_at = request.requested_at.map(|instant| instant.0);
        let mut n_candidates = 0;
        for (item, (score, known_at)) in scores.iter_mut().zip(&self.catalogue.known_at).enumerate()
        {
            if !score.is_finite() {
                return Err(RankError {
                    request: request.request,
                    item,
                });
            }
            let is_known = requested_at.is_none_or(|at| *known_at == i64::MIN || *known_at < at);
            if is_known {
                n_candidates += 1;
                // Both zeros are one score.
                *score += 0.0;
            } else {
                *score = f64::NEG_INFINITY;
            }
        }
        scratch.seen_scores.clear();
        for &item in &scratch.seen {
            let score = &mut scores[item as usize];
            if *score > f64::NEG_INFINITY {
                match self.seen {
                    Seen::Keep => scratch.seen_scores.push(*score),
                    Seen::Exclude => {
                        *score = f64::NEG_INFINITY;
                        n_candidates -= 1;
                    }
                }
            }
        }
        Ok(n_candidates)
    }

    /// The best candidates, best first, ties by number.
    fn best(&self, scores: &[f64], scratch: &mut Scratch) {
        let best = &mut scratch.best;
        best.clear();
        if self.top == 0 {
            return;
        }
        let by_rank = |a: &(f64, u32), b: &(f64, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let mut bound = f64::NEG_INFINITY;
        for (&score, item) in scores.iter().zip(0_u32..) {
            // Numbers ascend: who only ties with the last of a full list comes after it.
            if score > bound {
                best.push((score, item));
                if best.len() == 2 * self.top {
                    best.select_nth_unstable_by(self.top - 1, by_rank);
                    best.truncate(self.top);
                    bound = best[self.top - 1].0;
                }
            }
        }
        best.sort_unstable_by(by_rank);
        best.truncate(self.top);
    }
}

/// How many scores are above one, and how many at least as high.
fn count(scores: &[f64], score: f64) -> (u32, u32) {
    let (mut above, mut at_least) = (0, 0);
    for other in scores {
        above += u32::from(*other > score);
        at_least += u32::from(*other >= score);
    }
    (above, at_least)
}

#[cfg(test)]
mod tests {
    use models::{TensorError, Tensors};
    use tables::{Instant, Part};

    use super::*;

    /// Gives every history the same scores.
    struct Fixed(Vec<f64>);

    impl Model for Fixed {
        fn score(&self, _: Option<u32>, _: History<'_>, scores: &mut [f64]) {
            scores.copy_from_slice(&self.0);
        }

        fn save(&self) -> Result<Tensors, TensorError> {
            Ok(Tensors::new())
        }
    }

    fn request(history_end: u32, at: Option<i64>, relevant: &[u32]) -> Request {
        Request {
            request: 3,
            part: Part::Test,
            sequence: 0,
            history_end,
            requested_at: at.map(Instant),
            relevant: relevant.to_vec(),
        }
    }

    fn rank(
        scores: &[f64],
        known_at: &[i64],
        seen: Seen,
        history: &[u32],
        request: &Request,
    ) -> Prediction {
        let catalogue = Catalogue {
            known_at: known_at.to_vec(),
            n_vocabulary: known_at.len(),
        };
        let model = Fixed(scores.to_vec());
        let ranker = Ranker {
            model: &model,
            catalogue: &catalogue,
            seen,
            top: 3,
        };
        let mut rows = ranker
            .rank_all(std::slice::from_ref(request), |_| History::of(history))
            .unwrap();
        rows.remove(0)
    }

    const ALWAYS: [i64; 6] = [i64::MIN; 6];
    const SCORES: [f64; 6] = [0.5, 0.9, 0.5, 0.1, 0.5, -0.0];

    #[test]
    fn ties_are_counted_apart() {
        let row = rank(
            &SCORES,
            &ALWAYS,
            Seen::Keep,
            &[],
            &request(0, None, &[1, 2, 3]),
        );
        assert_eq!(row.n_candidates, 6);
        assert_eq!((row.better, row.tied), (vec![0, 1, 4], vec![0, 2, 0]));
        assert_eq!(row.better_new, [0, 1, 4]);
        assert_eq!(row.tied_new, [0, 2, 0]);
        assert_eq!(row.top_items, [1, 0, 2]);
        assert_eq!(row.top_scores, [0.9, 0.5, 0.5]);
    }

    #[test]
    fn seen_items_stay_and_new_ones_are_also_placed_among_themselves() {
        let request = request(3, None, &[0, 2, 3]);
        let row = rank(&SCORES, &ALWAYS, Seen::Keep, &[1, 0, 1], &request);
        assert_eq!(row.history_length, 3);
        assert_eq!(row.n_candidates, 6);
        assert_eq!((row.better, row.tied), (vec![1, 1, 4], vec![2, 2, 0]));
        assert_eq!(row.is_repeat, [true, false, false]);
        // Without items 0 and 1: item 2 ties with 4 alone.
        assert_eq!(row.better_new, [NOT_RANKED, 0, 2]);
        assert_eq!(row.tied_new, [0, 1, 0]);
    }

    #[test]
    fn excluded_items_are_neither_candidates_nor_relevant() {
        let request = request(3, None, &[0, 2, 3]);
        let row = rank(&SCORES, &ALWAYS, Seen::Exclude, &[1, 0, 1], &request);
        assert_eq!(row.relevant, [2, 3]);
        assert_eq!(row.n_candidates, 4);
        assert_eq!((row.better, row.tied), (vec![0, 2], vec![1, 0]));
        assert_eq!((row.better_new, row.tied_new), (vec![0, 2], vec![1, 0]));
        assert_eq!(row.is_repeat, [false, false]);
        assert_eq!(row.top_items, [2, 4, 3]);
    }

    #[test]
    fn items_of_the_future_are_no_candidates_and_a_miss() {
        // Items 1 and 3 become known at 100: not strictly before the request.
        let known_at = [i64::MIN, 100, 99, 100, 0, 0];
        let request = request(1, Some(100), &[1, 2]);
        let row = rank(&SCORES, &known_at, Seen::Keep, &[3], &request);
        assert_eq!(row.n_candidates, 4);
        assert_eq!((row.better, row.tied), (vec![NOT_RANKED, 0], vec![0, 2]));
        assert_eq!(row.better_new, [NOT_RANKED, 0]);
        assert_eq!(row.tied_new, [0, 2]);
        assert_eq!(row.top_items, [0, 2, 4]);
    }

    #[test]
    fn lists_are_as_long_as_there_are_candidates() {
        let known_at = [5, 5, 5, 5, 0, 5];
        let row = rank(
            &SCORES,
            &known_at,
            Seen::Keep,
            &[],
            &request(0, Some(1), &[]),
        );
        assert_eq!(row.top_items, [4]);
    }

    #[test]
    fn the_best_list_is_that_of_a_full_sort() {
        let scores: Vec<f64> = (0_u32..5000)
            .map(|item| f64::from(item.wrapping_mul(2_654_435_761) >> 22))
            .collect();
        let known_at = vec![i64::MIN; 5000];
        let row = rank(
            &scores,
            &known_at,
            Seen::Keep,
            &[],
            &request(0, None, &[17]),
        );
        let mut order: Vec<u32> = (0..5000).collect();
        order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
        assert_eq!(row.top_items, order[..3]);
        let better = scores.iter().filter(|score| **score > scores[17]).count();
        assert_eq!(row.better, [u32::try_from(better).unwrap()]);
    }

    #[test]
    fn scores_that_are_not_finite_are_refused() {
        let catalogue = Catalogue {
            known_at: vec![i64::MIN; 2],
            n_vocabulary: 2,
        };
        let model = Fixed(vec![1.0, f64::NAN]);
        let ranker = Ranker {
            model: &model,
            catalogue: &catalogue,
            seen: Seen::Keep,
            top: 1,
        };
        let error = ranker
            .rank_all(&[request(0, None, &[0])], |_| History::default())
            .unwrap_err();
        assert_eq!(
            error,
            RankError {
                request: 3,
                item: 1
            }
        );
    }
}
