//! What is minimised: losses over the table of outputs.

use rayon::prelude::*;
use seed::Seed;
use serde::{Deserialize, Serialize};
use tensors::{Loss, Negatives, Real, Tape, Value};

use super::batches::Terms;
use super::network::Output;
use crate::data::TrainingData;

/// Which loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ObjectiveKind {
    /// Cross-entropy of the softmax over the vocabulary.
    Softmax,
    /// Binary cross-entropy against uniform negatives.
    Bce,
    /// The same with the target's sigmoid to a power (Petrov and Macdonald 2023).
    Gbce,
    /// Softmax over the target and negatives sampled by popularity, corrected for that.
    SampledSoftmax,
}

/// A loss with what it samples from.
#[derive(Clone, Debug)]
pub(crate) struct Objective {
    kind: ObjectiveKind,
    n_negatives: u32,
    /// Exponent of the target's sigmoid.
    beta: f64,
    n_items: usize,
    /// Sums of (samples with this target + 1) up to each item; empty unless sampled by popularity.
    cumulative: Vec<u64>,
    /// Logarithm of each item's share of that.
    log_q: Vec<f64>,
}

impl Objective {
    /// A loss over the vocabulary of training data. `temperature` is the calibration of gBCE, 0
    /// being plain binary cross-entropy and 1 undoing the effect of sampling altogether.
    pub(crate) fn new(
        kind: ObjectiveKind,
        n_negatives: u32,
        temperature: f64,
        data: &TrainingData<'_>,
    ) -> Self {
        let n_items = data.n_vocabulary();
        let mut cumulative = Vec::new();
        if kind == ObjectiveKind::SampledSoftmax {
            cumulative = vec![1_u64; n_items];
            // Weights do not count: a sample that is masked moves nobody's negatives.
            for sample in 0..data.n_samples() {
                cumulative[data.item(sample) as usize] += 1;
            }
            let mut sum = 0;
            for count in &mut cumulative {
                sum += *count;
                *count = sum;
            }
        }
        let total = cumulative.last().copied().unwrap_or(1) as f64;
        let log_q = (0..cumulative.len())
            .map(|at| {
                let before = at.checked_sub(1).map_or(0, |before| cumulative[before]);
                libm::log((cumulative[at] - before) as f64 / total)
            })
            .collect();
        let sampled = f64::from(n_negatives) / (n_items.max(2) - 1) as f64;
        let beta = match kind {
            // Their eq. 9: alpha (t (1 - 1 / alpha) + 1 / alpha).
            ObjectiveKind::Gbce => 1.0 - temperature * (1.0 - sampled.min(1.0)),
            _ => 1.0,
        };
        Self {
            kind,
            n_negatives,
            beta,
            n_items,
            cumulative,
            log_q,
        }
    }

    /// A loss that samples nothing.
    pub(crate) fn softmax(n_items: usize) -> Self {
        Self {
            kind: ObjectiveKind::Softmax,
            n_negatives: 0,
            beta: 1.0,
            n_items,
            cumulative: Vec::new(),
            log_q: Vec::new(),
        }
    }

    /// One minus the approximate gain of each term's target among all items, summed with weights
    /// and divided as losses are.
    pub(crate) fn gain<F: Real>(
        tape: &mut Tape<'_, F>,
        hidden: Value,
        Output { table, bias }: Output,
        terms: &Terms,
        temperature: f64,
    ) -> Loss {
        let weights: Vec<F> = terms.weights.iter().map(|&weight| F::of(weight)).collect();
        let divisor = terms.rows.len().max(1) as f64;
        let targets = &terms.targets;
        tape.approximate_ndcg(hidden, table, bias, targets, &weights, divisor, temperature)
    }

    /// The loss of hidden states, a row per term: `sum(weight * loss) / number of terms`.
    pub(crate) fn loss<F: Real>(
        &self,
        tape: &mut Tape<'_, F>,
        hidden: Value,
        output: Output,
        terms: &Terms,
        chance: Seed,
    ) -> Loss {
        let weights: Vec<F> = terms.weights.iter().map(|&weight| F::of(weight)).collect();
        let divisor = terms.rows.len().max(1) as f64;
        let Output { table, bias } = output;
        let targets = &terms.targets;
        if self.kind == ObjectiveKind::Softmax {
            return tape.softmax_cross_entropy(hidden, table, bias, targets, &weights, divisor);
        }
        let negatives = self.negatives(terms, chance);
        let negatives = Negatives::PerRow(&negatives);
        if self.kind == ObjectiveKind::SampledSoftmax {
            let log_q: Vec<F> = self.log_q.iter().map(|&x| F::of(x)).collect();
            let log_q = Some(log_q.as_slice());
            return tape.sampled_softmax(
                hidden, table, bias, targets, negatives, log_q, &weights, divisor,
            );
        }
        let beta = F::of(self.beta);
        tape.binary_cross_entropy(
            hidden, table, bias, targets, negatives, &weights, divisor, beta,
        )
    }

    /// Negatives of each term, a function of (chance, sample id): [terms, negatives].
    #[expect(
        clippy::cast_possible_truncation,
        reason = "draws are below the number of items"
    )]
    fn negatives(&self, terms: &Terms, chance: Seed) -> Vec<u32> {
        let stream = chance.child("negatives").stream();
        let n = self.n_negatives as usize;
        let mut negatives = vec![0; n * terms.sample_ids.len()];
        negatives
            .par_chunks_mut(n.max(1))
            .zip(&terms.sample_ids)
            .for_each(|(negatives, &id)| {
                for (lane, negative) in (0..).zip(negatives) {
                    *negative = match self.cumulative.last() {
                        None => stream.below(self.n_items as u64, id, lane) as u32,
                        Some(&total) => {
                            let draw = stream.below(total, id, lane);
                            self.cumulative.partition_point(|&sum| sum <= draw) as u32
                        }
                    };
                }
            });
        negatives
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::log;

    fn terms(sample_ids: &[u64]) -> Terms {
        Terms {
            rows: vec![0; sample_ids.len()],
            targets: vec![0; sample_ids.len()],
            weights: vec![1.0; sample_ids.len()],
            sample_ids: sample_ids.to_vec(),
        }
    }

    #[test]
    fn negatives_belong_to_the_sample_and_the_epoch_whatever_the_batch() {
        let (samples, sequences) =
            log(&[(&[0, 1, 1, 1, 1, 1, 2], &[1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0])]);
        let data = TrainingData::new(&samples, &sequences, 4).unwrap();
        let epoch = |n| Seed::root(2).index(n);
        for kind in [ObjectiveKind::Bce, ObjectiveKind::SampledSoftmax] {
            let objective = Objective::new(kind, 6, 0.5, &data);
            let both = objective.negatives(&terms(&[8, 9]), epoch(0));
            let alone = objective.negatives(&terms(&[9]), epoch(0));
            assert_eq!(both[6..], alone);
            assert_ne!(alone, objective.negatives(&terms(&[9]), epoch(1)));
        }
    }

    #[test]
    fn popular_items_are_sampled_as_often_as_the_correction_says() {
        let (samples, sequences) = log(&[(&[0, 1, 1, 1, 1, 1, 2], &[1.0; 7])]);
        let data = TrainingData::new(&samples, &sequences, 4).unwrap();
        let objective = Objective::new(ObjectiveKind::SampledSoftmax, 4000, 0.0, &data);
        // Counts plus one: 2, 6, 2, 1.
        let shares = [2.0, 6.0, 2.0, 1.0].map(|count| count / 11.0);
        let negatives = objective.negatives(&terms(&[5]), Seed::root(2));
        for (item, share) in (0_u32..).zip(shares) {
            let at = item as usize;
            assert!((libm::exp(objective.log_q[at]) - share).abs() < 1e-12);
            let drawn = negatives.iter().filter(|&&other| other == item).count();
            // Five standard deviations of a share of 4,000 draws are below 0.04.
            assert!((drawn as f64 / 4000.0 - share).abs() < 0.04);
        }
    }

    #[test]
    fn calibration_goes_from_plain_to_unsampled() {
        let (samples, sequences) = log(&[(&[0, 1, 2], &[1.0; 3])]);
        let data = TrainingData::new(&samples, &sequences, 101).unwrap();
        let beta = |t| Objective::new(ObjectiveKind::Gbce, 10, t, &data).beta;
        assert!((beta(0.0) - 1.0).abs() < 1e-12);
        // alpha = 10 / 100.
        assert!((beta(1.0) - 0.1).abs() < 1e-12);
    }
}
