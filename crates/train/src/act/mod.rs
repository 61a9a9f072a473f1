//! Acting on scores: which samples to drop before fitting, or how much each of them weighs; and on the
//! importance of features (`features.rs`).

mod config;
mod features;
mod weights;

use std::path::Path;

use stage::{Exit, Failure, Seed};
use tables::{Removal, Score, Suspect};

pub use config::{Act, Regime, Reweight, SelectFeatures, Shape, WeighFeatures};
pub(crate) use config::{check, check_features, check_inputs};
pub(crate) use features::ActedOn;

/// What the scores say about each sample.
pub(crate) struct Acted {
    /// All scored or unscored samples of the table, ascending.
    sample_ids: Vec<u64>,
    /// What multiplies their weights; `None` drops them.
    factors: Vec<Option<f64>>,
    /// What is done, in words of the configuration.
    action: String,
    /// How many samples were asked about.
    n_asked: usize,
    /// Method of the scores; empty if there are none.
    method: String,
    /// Samples with a score.
    n_scored: usize,
    /// Samples that were to be dropped, where their number is given.
    n_wanted: Option<usize>,
}

/// Scores that cannot be acted on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScoreError {
    #[error("scores of two methods, `{first}` and `{second}`, or of both ends of the scale")]
    Mixed { first: String, second: String },
    #[error("the score of sample {sample_id} is not finite")]
    NotFinite { sample_id: u64 },
    #[error("the row of sample {sample_id} in `scores` does not come after the one before")]
    Order { sample_id: u64 },
    #[error("sample {sample_id} has no row in `scores`")]
    Missing { sample_id: u64 },
    #[error("`scores` holds {n_scores} samples, `samples` {n_samples}")]
    Sizes { n_scores: usize, n_samples: usize },
}

const OTHER_SAMPLES: &str = "wire scores that were estimated on these samples";

/// One scored sample.
struct Scored {
    /// Row in the table.
    row: usize,
    /// The score, turned so that the suspicious end is low.
    helpfulness: f64,
    /// Decides between equal scores.
    lot: u64,
}

impl Acted {
    /// Reads scores and decides.
    ///
    /// A share is one of all samples, so that the arms of a comparison drop equally many whatever
    /// their methods can score. Samples without a score are never dropped: a method that scores
    /// fewer drops all of those. Of equal scores a lot decides that depends on seed and sample id
    /// alone, never the order of samples. Weights need no lot: equal scores weigh the same, and
    /// samples without a score keep their weight.
    pub(crate) fn read(directory: &Path, act: &Act, seed: u64) -> Result<Self, Failure> {
        let lots = Seed::root(seed).child("act").stream();
        let mut sample_ids: Vec<u64> = Vec::new();
        let mut scored: Vec<Scored> = Vec::new();
        let mut card: Option<(String, Suspect)> = None;
        for score in tables::rows::<Score>(directory).map_err(Failure::data)? {
            let score = score.map_err(Failure::data)?;
            let sample_id = score.sample_id;
            if sample_ids.last().is_some_and(|last| *last >= sample_id) {
                return Err(Failure::data(ScoreError::Order { sample_id }));
            }
            let (method, suspect) =
                card.get_or_insert_with(|| (score.method.clone(), score.suspect));
            if *method != score.method || *suspect != score.suspect {
                return Err(Failure::data(ScoreError::Mixed {
                    first: method.clone(),
                    second: score.method,
                }));
            }
            if let Some(value) = score.score {
                if !value.is_finite() {
                    return Err(Failure::data(ScoreError::NotFinite { sample_id }));
                }
                scored.push(Scored {
                    row: sample_ids.len(),
                    // Adding 0 makes both zeros one.
                    helpfulness: 0.0
                        + match suspect {
                            Suspect::Low => value,
                            Suspect::High => -value,
                        },
                    lot: lots.bits(sample_id, 0),
                });
            }
            sample_ids.push(sample_id);
        }
        let n_scored = scored.len();
        let n_wanted = act
            .drop_lowest
            .map(|share| n_to_drop(share, sample_ids.len()));
        let method = card
            .as_ref()
            .map_or(String::new(), |(name, _)| name.clone());
        let mut factors = vec![Some(1.0); sample_ids.len()];
        let action;
        if let Some(reweight) = act.reweight {
            action = format!("reweight {} to {}", reweight.shape.as_str(), reweight.to);
            let scores: Vec<f64> = scored.iter().map(|sample| sample.helpfulness).collect();
            let weights = weights::weights(&scores, reweight).map_err(Failure::data)?;
            for (sample, weight) in scored.iter().zip(weights) {
                factors[sample.row] = Some(weight);
            }
        } else {
            let rows = match (n_wanted, act.drop_below) {
                (_, Some(bound)) => {
                    action = format!("drop_below {bound}");
                    below(&scored, bound, card)?
                }
                (Some(n), None) => {
                    action = format!("drop_lowest {}", act.drop_lowest.unwrap_or(0.0));
                    lowest(scored, n)
                }
                (None, None) => {
                    action = String::new();
                    Vec::new()
                }
            };
            for row in rows {
                factors[row] = None;
            }
        }
        Ok(Self {
            sample_ids,
            factors,
            action,
            n_asked: 0,
            method,
            n_scored,
            n_wanted,
        })
    }

    /// What multiplies the weight of a sample; `None` if it is to be dropped.
    pub(crate) fn factor(&mut self, sample_id: u64) -> Result<Option<f64>, Failure> {
        self.n_asked += 1;
        match self.sample_ids.binary_search(&sample_id) {
            Ok(row) => Ok(self.factors[row]),
            Err(_) => Err(Failure::data(ScoreError::Missing { sample_id }).hint(OTHER_SAMPLES)),
        }
    }

    /// Checks that every score was of a sample, and says what was done.
    pub(crate) fn finish(self, regime: Regime) -> Result<Removal, Failure> {
        let n_scores = self.sample_ids.len();
        let n_samples = self.n_asked;
        if n_scores != n_samples {
            let error = ScoreError::Sizes {
                n_scores,
                n_samples,
            };
            return Err(Failure::data(error).hint(OTHER_SAMPLES));
        }
        let kept = || self.factors.iter().flatten();
        let is_other = |factor: &&f64| factor.total_cmp(&1.0).is_ne();
        Ok(Removal {
            method: self.method,
            action: self.action,
            regime: regime.as_str().to_owned(),
            n_samples: n_samples as u64,
            n_scored: self.n_scored as u64,
            n_wanted: self.n_wanted.map(|n| n as u64),
            n_removed: (n_samples - kept().count()) as u64,
            n_reweighted: kept().filter(is_other).count() as u64,
            factor_sum: kept().sum(),
        })
    }
}

/// Rows of the samples whose helpfulness is below a bound.
fn below(
    scored: &[Scored],
    bound: f64,
    card: Option<(String, Suspect)>,
) -> Result<Vec<usize>, Failure> {
    if let Some((method, Suspect::High)) = card {
        return Err(Failure::new(
            Exit::Configuration,
            format!("`act.drop_below` needs helpfulness, but high scores of `{method}` are the suspicious ones"),
        )
        .hint("use `act: { drop_lowest: ... }`, which drops at the suspicious end"));
    }
    let below = scored.iter().filter(|sample| sample.helpfulness < bound);
    Ok(below.map(|sample| sample.row).collect())
}

/// Rows of the `n` least helpful samples; of all scored ones if there are fewer.
fn lowest(mut scored: Vec<Scored>, n: usize) -> Vec<usize> {
    if n > 0 && n < scored.len() {
        scored.select_nth_unstable_by(n - 1, |a, b| {
            a.helpfulness
                .total_cmp(&b.helpfulness)
                .then(a.lot.cmp(&b.lot))
                // Lots collide once in 2^64.
                .then(a.row.cmp(&b.row))
        });
    }
    scored.truncate(n);
    scored.iter().map(|sample| sample.row).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the share is in [0, 1), so the product is a number of samples"
)]
fn n_to_drop(share: f64, n_samples: usize) -> usize {
    (share * n_samples as f64).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(scores: &[(u64, Option<f64>)], suspect: Suspect) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let rows = scores.iter().map(|&(sample_id, score)| Score {
            method: "m".to_owned(),
            sample_id,
            score,
            std_error: None,
            n_updates: 1,
            suspect,
        });
        tables::write_all(directory.path(), rows).unwrap();
        directory
    }

    fn dropped(directory: &Path, act: &Act, seed: u64) -> Vec<u64> {
        let dropped = Acted::read(directory, act, seed).unwrap();
        let both = dropped.sample_ids.iter().zip(&dropped.factors);
        both.filter(|(_, factor)| factor.is_none())
            .map(|(id, _)| *id)
            .collect()
    }

    fn act_lowest(share: f64) -> Act {
        Act {
            drop_lowest: Some(share),
            ..Act::default()
        }
    }

    fn act_below(bound: f64) -> Act {
        Act {
            drop_below: Some(bound),
            ..Act::default()
        }
    }

    #[test]
    fn the_suspicious_end_is_dropped() {
        let scores = [
            (1, Some(0.5)),
            (2, None),
            (3, Some(-2.0)),
            (4, Some(3.0)),
            (5, Some(0.0)),
        ];
        let low = write(&scores, Suspect::Low);
        let high = write(&scores, Suspect::High);
        // Shares count all samples: a fifth of five is one.
        assert_eq!(dropped(low.path(), &act_lowest(0.2), 1), [3]);
        assert_eq!(dropped(high.path(), &act_lowest(0.2), 1), [4]);
        assert_eq!(dropped(low.path(), &act_lowest(0.4), 1), [3, 5]);
        assert_eq!(dropped(low.path(), &act_lowest(0.0), 1), [0_u64; 0]);
        assert_eq!(dropped(low.path(), &act_below(0.0), 1), [3]);
        assert_eq!(dropped(low.path(), &act_below(0.5), 1), [3, 5]);
        let Err(error) = Acted::read(high.path(), &act_below(0.0), 1) else {
            panic!("a magnitude was taken for helpfulness");
        };
        assert!(error.to_string().contains("drop_lowest"), "{error}");
    }

    #[test]
    fn arms_drop_equally_many_whatever_they_can_score() {
        let removal = |scored: u64, share: f64| {
            let scores: Vec<(u64, Option<f64>)> = (0..10)
                .map(|id| (id, (id < scored).then_some(id as f64)))
                .collect();
            let directory = write(&scores, Suspect::Low);
            let mut dropped = Acted::read(directory.path(), &act_lowest(share), 1).unwrap();
            let kept = (0..10)
                .filter(|id| dropped.factor(*id).unwrap().is_some())
                .count();
            let removal = dropped.finish(Regime::Drop).unwrap();
            assert_eq!(kept as u64 + removal.n_removed, 10);
            (removal.n_scored, removal.n_wanted, removal.n_removed)
        };
        assert_eq!(removal(10, 0.4), (10, Some(4), 4));
        assert_eq!(removal(6, 0.4), (6, Some(4), 4));
        // Who scores fewer drops all of those, and says that more were wanted.
        assert_eq!(removal(3, 0.4), (3, Some(4), 3));
        assert_eq!(removal(0, 0.4), (0, Some(4), 0));
    }

    #[test]
    fn a_bound_wants_no_number() {
        let directory = write(&[(1, Some(-1.0)), (2, Some(0.0))], Suspect::Low);
        let mut dropped = Acted::read(directory.path(), &act_below(0.0), 1).unwrap();
        assert_eq!(dropped.factor(1).unwrap(), None);
        assert_eq!(dropped.factor(2).unwrap(), Some(1.0));
        let removal = dropped.finish(Regime::Mask).unwrap();
        assert_eq!((removal.n_wanted, removal.n_removed), (None, 1));
        assert_eq!(
            (removal.method.as_str(), removal.regime.as_str()),
            ("m", "mask")
        );
    }

    #[test]
    fn equal_scores_are_dropped_by_lot() {
        let n = 4000;
        let scores: Vec<(u64, Option<f64>)> = (0..n).map(|id| (id, Some(1.0))).collect();
        let directory = write(&scores, Suspect::Low);
        let first = dropped(directory.path(), &act_lowest(0.25), 1);
        assert_eq!(first.len(), 1000);
        assert_eq!(first, dropped(directory.path(), &act_lowest(0.25), 1));
        let other = dropped(directory.path(), &act_lowest(0.25), 2);
        assert_ne!(first, other);
        // Not by id: the first half holds about half of them. Five standard deviations of the
        // hypergeometric distribution: 5 sqrt(1000 / 4 * 3000 / 3999) = 68.
        let in_first_half = first.iter().filter(|id| **id < n / 2).count();
        assert!(in_first_half.abs_diff(500) < 68, "{in_first_half}");
        // A larger share drops the same samples and more.
        let more = dropped(directory.path(), &act_lowest(0.5), 1);
        assert!(first.iter().all(|id| more.contains(id)));
    }

    #[test]
    fn scores_of_other_samples_are_refused() {
        let directory = write(&[(1, Some(1.0)), (2, Some(2.0))], Suspect::Low);
        let mut dropped = Acted::read(directory.path(), &act_lowest(0.0), 1).unwrap();
        assert_eq!(dropped.factor(1).unwrap(), Some(1.0));
        let error = dropped.factor(3).unwrap_err();
        assert_eq!(error.exit, Exit::Data);
        assert!(error.to_string().contains("sample 3 has no row"));
        let mut dropped = Acted::read(directory.path(), &act_lowest(0.0), 1).unwrap();
        assert_eq!(dropped.factor(1).unwrap(), Some(1.0));
        assert!(dropped.finish(Regime::Drop).is_err());
    }

    #[test]
    fn soft_weights_touch_the_scored_samples_alone() {
        let act = Act {
            reweight: Some(Reweight {
                to: 0.5,
                shape: Shape::Rank,
            }),
            ..Act::default()
        };
        let scores = [(1, Some(-1.0)), (2, None), (3, Some(0.0)), (4, Some(8.0))];
        let both = [
            (Suspect::Low, [2.0 / 3.0, 1.0, 1.0, 4.0 / 3.0]),
            (Suspect::High, [4.0 / 3.0, 1.0, 1.0, 2.0 / 3.0]),
        ];
        for (suspect, wanted) in both {
            let directory = write(&scores, suspect);
            let mut acted = Acted::read(directory.path(), &act, 1).unwrap();
            for (id, wanted) in (1..).zip(wanted) {
                let found = acted.factor(id).unwrap().unwrap();
                // A few operations on numbers of about 1.
                assert!((found - wanted).abs() < 1e-15, "{found} {wanted}");
            }
            let removal = acted.finish(Regime::Drop).unwrap();
            assert_eq!((removal.n_removed, removal.n_reweighted), (0, 2));
            assert_eq!((removal.n_scored, removal.n_wanted), (3, None));
            assert!((removal.factor_sum - 4.0).abs() < 1e-15);
            assert_eq!(removal.action, "reweight rank to 0.5");
        }
    }

    #[test]
    fn nan_is_refused() {
        let directory = write(&[(7, Some(f64::NAN))], Suspect::Low);
        let Err(error) = Acted::read(directory.path(), &act_lowest(0.0), 1) else {
            panic!("NaN was taken for a score");
        };
        assert!(error.to_string().contains("sample 7"));
    }
}
