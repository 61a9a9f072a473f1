//! Which samples are of high, middle and low value.

use serde::{Deserialize, Serialize};
use stage::{Exit, Failure, Io};
use tables::{SampleTier, Suspect, Tier};

use crate::scored::Scored;

/// Where tiers end: by a share, or by two scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tiers {
    /// Share of the scored samples in each of the outer tiers; above 0, at most 0.5. Equal scores
    /// share a tier: a sample is in an outer tier if the middle of its ranks is.
    #[serde(default)]
    pub share: Option<f64>,
    /// Scores below this are of the low tier.
    #[serde(default)]
    pub low_below: Option<f64>,
    /// Scores above this are of the high tier.
    #[serde(default)]
    pub high_above: Option<f64>,
}

impl Tiers {
    /// What counts as suspicious where nothing is said about tiers.
    pub(crate) const DEFAULT: Self = Self {
        share: Some(0.2),
        low_below: None,
        high_above: None,
    };

    /// Checks what can be checked without scores.
    pub(crate) fn check(&self, suspect: Suspect) -> Result<(), Failure> {
        let wrong = |message: String| Failure::new(Exit::Configuration, message);
        match (self.share, self.low_below, self.high_above) {
            (Some(share), None, None) if share > 0.0 && share <= 0.5 => Ok(()),
            (Some(share), None, None) => Err(wrong(format!(
                "`tiers.share` is {share}, which is no share of an outer tier"
            ))
            .hint("write a number above 0 and up to 0.5, such as 0.2")),
            (None, Some(_), Some(_)) if suspect == Suspect::High => Err(wrong(
                "`tiers.low_below` needs helpfulness, but high scores of this method are the suspicious ones"
                    .to_owned(),
            )
            .hint("write `tiers: { share: 0.2 }`")),
            (None, Some(low), Some(high)) if low.is_finite() && high.is_finite() && low <= high => {
                Ok(())
            }
            (None, Some(low), Some(high)) => Err(wrong(format!(
                "`tiers.low_below` is {low} and `tiers.high_above` {high}: wanted finite numbers in this order"
            ))),
            _ => Err(wrong(
                "`tiers` takes either `share`, or both `low_below` and `high_above`".to_owned(),
            )
            .hint("write `tiers: { share: 0.2 }`")),
        }
    }

    /// The tier of each sample, in the order of the scores.
    pub(crate) fn assign(&self, scored: &Scored) -> Result<Vec<Tier>, Failure> {
        let rows: Vec<usize> = scored.rows().collect();
        let values: Vec<f64> = rows.iter().map(|&row| scored.helpfulness(row)).collect();
        let mut tiers = vec![Tier::Unscored; scored.len()];
        if let (Some(low), Some(high)) = (self.low_below, self.high_above) {
            for (&row, &value) in rows.iter().zip(&values) {
                tiers[row] = if value < low {
                    Tier::Low
                } else if value > high {
                    Tier::High
                } else {
                    Tier::Middle
                };
            }
            return Ok(tiers);
        }
        let n = values.len() as f64;
        let outer = self.share.unwrap_or(0.0) * n;
        let ranks = metrics::mid_ranks(&values).map_err(Failure::computation)?;
        for (&row, rank) in rows.iter().zip(ranks) {
            // Samples below, and half of the sample itself.
            let below = rank - 0.5;
            tiers[row] = if below < outer {
                Tier::Low
            } else if n - below < outer {
                Tier::High
            } else {
                Tier::Middle
            };
        }
        Ok(tiers)
    }
}

/// Writes the table of tiers.
pub(crate) fn write(io: &Io, scored: &Scored, tiers: &[Tier]) -> Result<(), Failure> {
    let rows = (0..scored.len()).map(|row| SampleTier {
        method: scored.method.to_owned(),
        sample_id: scored.sample_ids[row],
        score: scored.score[row],
        tier: tiers[row],
    });
    tables::write_all(&io.output("tiers")?, rows).map_err(Failure::environment)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Tier::{High, Low, Middle, Unscored};

    fn assign(scores: &[Option<f64>], suspect: Suspect, tiers: Tiers) -> Vec<Tier> {
        tiers.assign(&Scored::of(scores, suspect)).unwrap()
    }

    fn share(share: f64) -> Tiers {
        Tiers {
            share: Some(share),
            ..Tiers::default()
        }
    }

    #[test]
    fn outer_tiers_hold_their_share_of_the_scored() {
        let scores: Vec<Option<f64>> = [4.0, 0.0, 3.0, 1.0, 2.0].map(Some).to_vec();
        let wanted = [High, Low, Middle, Middle, Middle];
        assert_eq!(assign(&scores, Suspect::Low, share(0.2)), wanted);
        let turned = [Low, High, Middle, Middle, Middle];
        assert_eq!(assign(&scores, Suspect::High, share(0.2)), turned);
        let unscored = [Some(1.0), None, Some(2.0)];
        let wanted = [Low, Unscored, High];
        assert_eq!(assign(&unscored, Suspect::Low, share(0.5)), wanted);
        assert!(assign(&[], Suspect::Low, share(0.2)).is_empty());
        assert_eq!(assign(&[None], Suspect::Low, share(0.2)), [Unscored]);
    }

    #[test]
    fn equal_scores_share_a_tier() {
        // Four zeros of ten take places 0 to 4, whose middle is 2: not within the first 2.
        let scores: Vec<Option<f64>> = [0.0; 4]
            .into_iter()
            .chain((1..7).map(f64::from))
            .map(Some)
            .collect();
        let found = assign(&scores, Suspect::Low, share(0.2));
        assert!(found[..4].iter().all(|tier| *tier == Middle));
        assert_eq!(found[8..], [High, High]);
        // Of three the middle is 1.5.
        let scores: Vec<Option<f64>> = [0.0; 3]
            .into_iter()
            .chain((1..8).map(f64::from))
            .map(Some)
            .collect();
        let found = assign(&scores, Suspect::Low, share(0.2));
        assert!(found[..3].iter().all(|tier| *tier == Low));
        // Constant scores say nothing.
        let found = assign(&[Some(2.0); 9], Suspect::Low, share(0.5));
        assert_eq!(found, [Middle; 9]);
    }

    #[test]
    fn bounds_are_not_within() {
        let tiers = Tiers {
            low_below: Some(-1.0),
            high_above: Some(1.0),
            share: None,
        };
        let scores = [-1.5, -1.0, 0.0, 1.0, 1.5].map(Some);
        let wanted = [Low, Middle, Middle, Middle, High];
        assert_eq!(assign(&scores, Suspect::Low, tiers), wanted);
    }

    #[test]
    fn tiers_move_with_the_samples() {
        let scores: Vec<Option<f64>> = (0..40)
            .map(|at| (at % 7 != 3).then_some(f64::from(at * 17 % 11)))
            .collect();
        let found = assign(&scores, Suspect::Low, share(0.3));
        let reversed: Vec<Option<f64>> = scores.iter().rev().copied().collect();
        let mut again = assign(&reversed, Suspect::Low, share(0.3));
        again.reverse();
        assert_eq!(found, again);
    }
}
