//! A law of every network: lengths and products of the gradients of samples side by side are those of
//! each sample alone, by the plain way back.

use std::collections::BTreeSet;

use seed::Seed;
use tensors::{Capture, Context, Gradients, Parameters, Tape};

use super::sequences;
use crate::counts::Counts;
use crate::gradient_rows::Measure;
use crate::history::History;
use crate::recommender::{LossGradients, Model};
use crate::sequence::batches::Terms;
use crate::sequence::objective::Objective;
use crate::sequence::{Network, SequenceModel};
use crate::{Samples, Sequences, TrainingData};

/// Names of parameters that are reached row by row.
#[derive(Default)]
struct Tables(BTreeSet<String>);

impl Capture<f32> for Tables {
    fn embedding(&mut self, name: &str, _: &[u32], _: &[f32]) {
        self.0.insert(name.to_owned());
    }

    fn output_table(&mut self, name: &str, _: &[u32], _: &[f32], _: Option<&[u32]>, _: &[f32]) {
        self.0.insert(name.to_owned());
    }

    fn output_bias(&mut self, name: &str, _: &[u32], _: Option<&[u32]>, _: &[f32]) {
        self.0.insert(name.to_owned());
    }
}

/// Adds the gradient of weight x the loss of one target after one history.
pub(super) fn one<'a, N: Network>(
    model: &'a SequenceModel<N>,
    history: History<'_>,
    (target, weight): (u32, f64),
    context: Context<'a, f32>,
    sum: &mut Gradients<f32>,
) {
    let known = model.known(history);
    let (batch, rows) = model.network.request_batch(&[known.history()]);
    let mut tape = Tape::new(&model.parameters, context);
    let hidden = model.network.hidden(&mut tape, &batch);
    let hidden = tape.gather_rows(hidden, &rows);
    let terms = Terms {
        rows,
        targets: vec![target],
        weights: vec![weight],
        sample_ids: vec![0],
    };
    let loss = Objective::softmax(model.network.n_items());
    let output = model.network.output();
    let loss = loss.loss(&mut tape, hidden, output, &terms, Seed::root(9));
    tape.backward(&[loss], sum);
}

pub(super) fn product(a: &[f32], b: &[f32]) -> f64 {
    let pairs = a.iter().zip(b);
    pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// The sequences of the tests, as histories with what comes after them.
pub(super) fn requests<'a>(
    data: &TrainingData<'_>,
    sequences: &'a Sequences,
) -> Vec<(History<'a>, [u32; 2])> {
    let ends = (0..12_u32).map(|sequence| 1 + sequence % 3 * 4 % (2 + sequence));
    (0..12_u32)
        .zip(ends)
        .map(|(sequence, end)| {
            let history = sequences.history(sequence, end).unwrap_or_default();
            let n = u32::try_from(data.n_vocabulary()).unwrap();
            (history, [(sequence * 3) % n, (sequence * 3 + 1) % n])
        })
        .collect()
}

/// See above.
pub(super) fn gradients_are_those_of_single_samples<N: Network>(
    network: &N,
    weights: &Parameters<f32>,
) {
    let (samples, all): (Samples, Sequences) = sequences(|_| 1.0);
    let data = TrainingData::new(&samples, &all, network.n_items()).unwrap();
    let model = SequenceModel {
        network: network.clone(),
        parameters: weights.clone(),
        counts: Counts::of(&data),
        chain: None,
        steps: 0,
    };
    let asked = requests(&data, &all);
    let lists: Vec<(History<'_>, &[u32])> = asked
        .iter()
        .map(|(history, items)| (*history, items.as_slice()))
        .collect();
    let target = model.target(&lists, Measure::Loss);
    let mut expected = Gradients::new(&model.parameters);
    let most = network.span().length as usize;
    for (history, items) in &asked {
        for &item in items {
            let share = 0.5 / asked.len() as f64;
            let context = Context::training(None, &[]);
            let seen = history.last(most);
            one(&model, seen, (item, share), context, &mut expected);
        }
    }
    let largest = expected
        .flat()
        .iter()
        .fold(0.0_f32, |most, x| most.max(x.abs()));
    for (a, b) in target.0.flat().iter().zip(expected.flat()) {
        assert!((a - b).abs() < 1e-5 * largest, "{a} {b} of {largest}");
    }

    let chosen: Vec<u32> = (0..).take(data.n_samples()).collect();
    let found = model.samples(&data, &chosen, &target, &|_| {});
    let mut tables = Tables::default();
    let mut n_compared = 0;
    for (sample, found) in found.iter().enumerate() {
        let seen = network.span().seen(data.history(sample));
        assert_eq!(found.is_some(), !seen.is_empty());
        let Some(found) = found else { continue };
        let term = (data.item(sample), 1.0);
        let mut unused = Gradients::new(&model.parameters);
        one(
            &model,
            seen,
            term,
            Context::attribution(&mut tables),
            &mut unused,
        );
        assert!(unused.norm() <= 0.0, "attribution leaves parameters alone");
        let mut alone = Gradients::new(&model.parameters);
        one(&model, seen, term, Context::training(None, &[]), &mut alone);
        let layers: f64 = model
            .parameters
            .ids()
            .filter(|&id| !tables.0.contains(model.parameters.name(id)))
            .map(|id| product(alone.get(id), alone.get(id)))
            .sum();
        let norm = alone.norm();
        let along = product(alone.flat(), target.0.flat());
        // Sums of 32-bit numbers in another order.
        let close = |a: f64, b: f64, scale: f64| (a - b).abs() <= 1e-5 * scale;
        assert!(close(found.norm, norm, norm), "{} {norm}", found.norm);
        let found_layers = found.norm_without_tables;
        assert!(
            close(found_layers, layers.sqrt(), norm),
            "{found_layers} {}",
            layers.sqrt()
        );
        // Of the softmax: (1 - p)^2 + the squares of the others, at most 2.
        let known = model.known(seen);
        let mut scores = vec![0.0; network.n_items()];
        model.score(None, known.history(), &mut scores);
        let total: f64 = scores.iter().map(|&score| libm::exp(score)).sum();
        let error: f64 = (0_u32..)
            .zip(&scores)
            .map(|(item, score)| libm::exp(*score) / total - f64::from(item == term.0))
            .map(|gap| gap * gap)
            .sum();
        assert!(close(found.error_norm, error.sqrt(), 1.0), "{error}");
        let scale = norm * target.norm();
        assert!(
            close(found.target_product, along, scale),
            "{} {along} of {scale}",
            found.target_product
        );
        n_compared += 1;
    }
    assert!(n_compared > 50 && !tables.0.is_empty());
}
