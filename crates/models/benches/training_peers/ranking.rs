//! HR@10 and NDCG@10 of a full ranking without the items of the history; ties get the middle rank.

use models::{History, Model};
use rayon::prelude::*;

use crate::log::Requests;

/// Requests that are scored together.
const BLOCK: usize = 128;

/// Means over the requests. The user of a request is its number.
pub(crate) fn mean(model: &dyn Model, requests: &Requests, n_items: usize) -> [f64; 2] {
    let sums: Vec<[f64; 2]> = requests
        .par_chunks(BLOCK)
        .enumerate()
        .map(|(block, chunk)| {
            let asked: Vec<(Option<u32>, History<'_>)> = (block * BLOCK..)
                .zip(chunk)
                .map(|(user, (history, _))| (u32::try_from(user).ok(), History::of(history)))
                .collect();
            let mut scores = vec![0.0; chunk.len() * n_items];
            model.score_block(&asked, &mut scores);
            let mut sums = [0.0; 2];
            for ((history, relevant), scores) in chunk.iter().zip(scores.chunks_mut(n_items)) {
                let [hit, gain] = one(history, *relevant as usize, scores);
                sums[0] += hit;
                sums[1] += gain;
            }
            sums
        })
        .collect();
    let mut mean = [0.0; 2];
    for sum in sums {
        for (mean, sum) in mean.iter_mut().zip(sum) {
            *mean += sum / requests.len().max(1) as f64;
        }
    }
    mean
}

fn one(history: &[u32], relevant: usize, scores: &mut [f64]) -> [f64; 2] {
    for &item in history {
        scores[item as usize] = f64::NEG_INFINITY;
    }
    let score = scores[relevant];
    if score == f64::NEG_INFINITY {
        return [0.0; 2];
    }
    let better = scores.iter().filter(|other| **other > score).count();
    let tied = scores
        .iter()
        .filter(|other| other.total_cmp(&score).is_eq())
        .count();
    let place = better as f64 + (tied.max(1) - 1) as f64 / 2.0;
    if place < 10.0 {
        [1.0, 1.0 / libm::log2(place + 2.0)]
    } else {
        [0.0; 2]
    }
}
