//! The place of an item in a ranking, and how ties become a rank.

use crate::correlation::plain;
use crate::failure::{MetricError, check_finite};

/// Place of one item among all candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Candidates with a strictly higher score.
    pub better: u32,
    /// Other candidates with exactly the same score.
    pub tied: u32,
}

impl Place {
    /// A place.
    pub const fn new(better: u32, tied: u32) -> Self {
        Self { better, tied }
    }

    /// 1 + better + tied / 2: the mean of the ranks that its block of ties takes.
    pub fn mid_rank(self) -> f64 {
        1.0 + f64::from(self.better) + f64::from(self.tied) / 2.0
    }
}

/// How a block of equal scores becomes ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// Every item takes the mean rank of its block.
    #[default]
    Middle,
    /// Relevant items come first in their block.
    Optimistic,
    /// Relevant items come last in their block.
    Pessimistic,
}

/// Places of all candidates of one list by score, higher is better; parallel to `scores`.
///
/// # Errors
/// If a score is not finite: NaN compares with nothing and would rank anywhere.
pub fn places(scores: &[f64]) -> Result<Vec<Place>, MetricError> {
    check_finite(scores)?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| plain(scores[b]).total_cmp(&plain(scores[a])));
    let mut places = vec![Place::new(0, 0); scores.len()];
    let mut start = 0;
    for block in order.chunk_by(|&a, &b| plain(scores[a]).total_cmp(&plain(scores[b])).is_eq()) {
        let place = Place::new(count(start), count(block.len() - 1));
        for &index in block {
            places[index] = place;
        }
        start += block.len();
    }
    Ok(places)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_scores_share_a_place() {
        let places = places(&[0.5, 0.9, 0.5, 0.1, 0.5]).unwrap();
        assert_eq!(
            places,
            [(1, 2), (0, 0), (1, 2), (4, 0), (1, 2)].map(|(b, t)| Place::new(b, t))
        );
        assert!((places[0].mid_rank() - 3.0).abs() < f64::EPSILON);
    }

    #[test]
    fn both_zeros_are_one_score() {
        assert_eq!(places(&[0.0, -0.0]).unwrap(), [Place::new(0, 1); 2]);
    }

    #[test]
    fn nan_is_an_error() {
        assert_eq!(
            places(&[0.1, f64::NAN]),
            Err(MetricError::NotFinite { index: 1 })
        );
    }

    proptest! {
        #[test]
        fn places_are_what_counting_says(scores in prop::collection::vec(0_i32..6, 0..30)) {
            let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            let found = places(&scores).unwrap();
            for (index, place) in found.iter().enumerate() {
                let better = scores.iter().filter(|&&other| other > scores[index]).count();
                let tied = scores.iter().filter(|&&other| (other - scores[index]).abs() < 0.5).count() - 1;
                prop_assert_eq!((place.better as usize, place.tied as usize), (better, tied));
            }
            let sum: f64 = found.iter().map(|place| place.mid_rank()).sum();
            let n = scores.len() as f64;
            prop_assert!((sum - n * (n + 1.0) / 2.0).abs() < 1e-9);
        }
    }
}
