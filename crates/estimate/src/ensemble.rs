//! Scores of several models as one: the mean with its standard error, by running moments.
//!
//! Members are trainings that differ in their seed; each sample's score is the mean over the members
//! that score it, and its standard error the sample standard deviation over the root of their number.
//! A method whose score is a product of which the factors are averaged apart (TRAK) gets the product of
//! the means, and the standard error of that to first order. One member is left as it is.
//!
//! Memory: 8 bytes x samples x at most 8, whatever the number of members.

use attribution::Scores;

/// Adds up members, in the order of their labels.
#[derive(Debug, Default)]
pub(crate) struct Ensemble {
    n_members: u64,
    /// The only member.
    first: Option<Scores>,
    moments: Vec<Moments>,
    n_updates: Vec<u64>,
    /// Sum over members of ranks of mean 0 and length 1.
    ranks: Vec<f64>,
    /// Members whose ranks differ at all.
    n_ranked: u64,
    /// Sum of the criteria that settings are chosen by, and of their standard errors.
    held_out: HeldOutSum,
}

/// Running moments of the rest of a score (x) and of the factor that is averaged apart (f).
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    n: u32,
    x: f64,
    f: f64,
    xx: f64,
    ff: f64,
    xf: f64,
}

impl Moments {
    /// Welford's update.
    fn add(&mut self, x: f64, f: f64) {
        self.n += 1;
        let n = f64::from(self.n);
        let (dx, df) = (x - self.x, f - self.f);
        self.x += dx / n;
        self.f += df / n;
        self.xx += dx * (x - self.x);
        self.ff += df * (f - self.f);
        self.xf += dx * (f - self.f);
    }

    fn mean(&self) -> Option<f64> {
        (self.n > 0).then_some(self.x * self.f)
    }

    /// Of a product of means, to first order; of the mean itself where the factor is 1.
    fn std_error(&self) -> Option<f64> {
        if self.n < 2 {
            return None;
        }
        let n = f64::from(self.n);
        let square =
            self.f * self.f * self.xx + self.x * self.x * self.ff + 2.0 * self.x * self.f * self.xf;
        // Rounding may leave less than nothing.
        Some((square.max(0.0) / (n - 1.0) / n).sqrt())
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct HeldOutSum {
    n: u64,
    value: f64,
    std_error: Option<f64>,
    n_requests: u64,
}

/// What became of all members.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) scores: Scores,
    pub(crate) n_members: u64,
    /// Mean rank correlation of the scores of every two members; `None` for one.
    pub(crate) stability: Option<f64>,
}

impl Ensemble {
    /// Adds a member; all have the same samples.
    pub(crate) fn add(&mut self, scores: Scores) {
        self.n_members += 1;
        self.add_held_out(&scores);
        if self.n_members == 1 {
            self.first = Some(scores);
            return;
        }
        if let Some(first) = self.first.take() {
            self.fold(&first);
        }
        self.fold(&scores);
    }

    fn add_held_out(&mut self, scores: &Scores) {
        let Some(found) = scores.held_out else { return };
        let sum = &mut self.held_out;
        sum.std_error = match (sum.n, found.std_error) {
            (0, error) => error,
            (_, error) => sum.std_error.zip(error).map(|(a, b)| a + b),
        };
        sum.n += 1;
        sum.value += found.value;
        sum.n_requests = found.n_requests;
    }

    fn fold(&mut self, scores: &Scores) {
        let n = scores.score.len();
        self.moments.resize(n, Moments::default());
        self.n_updates.resize(n, 0);
        self.ranks.resize(n, 0.0);
        for (at, score) in scores.score.iter().enumerate() {
            if let Some(score) = score {
                let factor = scores.factor.as_ref().map_or(1.0, |factor| factor[at]);
                self.moments[at].add(score / factor, factor);
                self.n_updates[at] += scores.n_updates[at];
            }
        }
        if let Some(ranks) = unit_ranks(&scores.score) {
            self.n_ranked += 1;
            for (sum, rank) in self.ranks.iter_mut().zip(ranks) {
                *sum += rank;
            }
        }
    }

    /// What settings are chosen by: (mean over members, mean of standard errors, requests). `None`
    /// unless every member says it.
    pub(crate) fn criterion(&self) -> Option<(f64, Option<f64>, u64)> {
        let HeldOutSum {
            n,
            value,
            std_error,
            n_requests,
        } = self.held_out;
        if n == 0 || n < self.n_members {
            return None;
        }
        let n = n as f64;
        // The requests are the same: errors of members do not cancel.
        Some((value / n, std_error.map(|sum| sum / n), n_requests))
    }

    /// Scores, standard errors and stability.
    pub(crate) fn finish(self) -> Whole {
        let n_members = self.n_members;
        if let Some(scores) = self.first {
            return Whole {
                scores,
                n_members,
                stability: None,
            };
        }
        let moments = self.moments.iter();
        Whole {
            scores: Scores {
                score: moments.clone().map(Moments::mean).collect(),
                std_error: moments.map(Moments::std_error).collect(),
                n_updates: self.n_updates,
                ..Scores::default()
            },
            n_members,
            stability: stability(&self.ranks, self.n_ranked),
        }
    }
}

/// The mean over pairs of the products of vectors of length 1, from their sum.
fn stability(sum: &[f64], n: u64) -> Option<f64> {
    if n < 2 {
        return None;
    }
    let n = n as f64;
    let square: f64 = sum.iter().map(|x| x * x).sum();
    Some(((square - n) / (n * (n - 1.0))).clamp(-1.0, 1.0))
}

/// Mid-ranks of the scores, moved to mean 0 and scaled to length 1, 0 where there is none: their
/// products are Spearman's correlations. `None` where all scores are equal.
fn unit_ranks(score: &[Option<f64>]) -> Option<Vec<f64>> {
    let scored: Vec<usize> = (0..score.len()).filter(|&at| score[at].is_some()).collect();
    let values: Vec<f64> = scored.iter().filter_map(|&at| score[at]).collect();
    // Scores are finite: the method was asked for that.
    let ranks = metrics::mid_ranks(&values).ok()?;
    let mean = ranks.iter().sum::<f64>() / ranks.len().max(1) as f64;
    let length = ranks
        .iter()
        .map(|rank| (rank - mean) * (rank - mean))
        .sum::<f64>();
    if length <= 0.0 {
        return None;
    }
    let length = length.sqrt();
    let mut unit = vec![0.0; score.len()];
    for (at, rank) in scored.into_iter().zip(ranks) {
        unit[at] = (rank - mean) / length;
    }
    Some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores, and factors that are averaged apart.
    type Member<'a> = (&'a [Option<f64>], Option<&'a [f64]>);

    fn whole(members: &[Member<'_>]) -> Whole {
        let mut ensemble = Ensemble::default();
        for (score, factor) in members {
            ensemble.add(Scores {
                factor: factor.map(<[f64]>::to_vec),
                ..Scores::exact(score.to_vec(), 3)
            });
        }
        ensemble.finish()
    }

    fn assert_close(found: Option<f64>, wanted: f64) {
        // A few operations on numbers of about 1.
        assert!(
            (found.unwrap() - wanted).abs() < 1e-14,
            "{found:?}, wanted {wanted}"
        );
    }

    #[test]
    fn one_member_stays_as_it_is() {
        let score = [Some(0.1), None];
        let found = whole(&[(&score, Some(&[0.3, 1.0]))]);
        assert_eq!(found.scores.score, score);
        assert_eq!(found.scores.std_error, [None, None]);
        assert_eq!(found.scores.n_updates, [3, 0]);
        assert_eq!((found.n_members, found.stability), (1, None));
    }

    #[test]
    fn a_mean_has_the_standard_error_of_those_that_score() {
        let found = whole(&[
            (&[Some(1.0), Some(5.0), None, None], None),
            (&[Some(2.0), None, Some(4.0), None], None),
            (&[Some(6.0), Some(7.0), None, None], None),
        ]);
        assert_close(found.scores.score[0], 3.0);
        // Deviations 2, 1 and 3: a variance of 7 over 3.
        assert_close(found.scores.std_error[0], f64::sqrt(7.0 / 3.0));
        assert_close(found.scores.score[1], 6.0);
        assert_close(found.scores.std_error[1], 1.0);
        assert_eq!(found.scores.score[2..], [Some(4.0), None]);
        assert_eq!(found.scores.std_error[2..], [None, None]);
        assert_eq!(found.scores.n_updates, [9, 6, 3, 0]);
        assert_eq!(found.n_members, 3);
    }

    #[test]
    fn factors_are_averaged_apart() {
        // Rests 2 and 4, factors 0.5 and 0.25: 3 x 0.375, where the mean of products is 1.
        let found = whole(&[(&[Some(1.0)], Some(&[0.5])), (&[Some(1.0)], Some(&[0.25]))]);
        assert_close(found.scores.score[0], 1.125);
        // The member moves the product by 0.375 x -1 + 3 x 0.125, and by the opposite: by nothing.
        assert_close(found.scores.std_error[0], 0.0);
        let found = whole(&[(&[Some(1.0)], Some(&[0.5])), (&[Some(2.0)], Some(&[0.25]))]);
        // Rests 2 and 8: mean 5; moves of 0.375 x 3 - 5 x 0.125 = 0.5 either way.
        assert_close(found.scores.score[0], 1.875);
        assert_close(found.scores.std_error[0], 0.5);
    }

    #[test]
    fn stability_is_the_mean_rank_correlation_of_pairs() {
        let members: [[f64; 5]; 3] = [
            [1.0, 2.0, 3.0, 4.0, 5.0],
            [2.0, 1.0, 3.0, 5.0, 4.0],
            [5.0, 1.0, 1.0, 2.0, 0.5],
        ];
        let scores = members.map(|member| member.map(Some));
        let found = whole(&scores.each_ref().map(|member| (&member[..], None)));
        let mut wanted = 0.0;
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            wanted += metrics::spearman(&members[a], &members[b])
                .unwrap()
                .unwrap()
                / 3.0;
        }
        assert_close(found.stability, wanted);
        let same = whole(&[(&scores[0], None), (&scores[0], None)]);
        assert_close(same.stability, 1.0);
        let flat = [Some(1.0); 2];
        assert_eq!(whole(&[(&flat, None), (&flat, None)]).stability, None);
    }
}
