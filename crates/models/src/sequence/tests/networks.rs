//! Laws of a forward pass, in 64 bits.

use seed::Seed;
use tensors::{Context, Gradients, Parameters, Real, Tape};

use super::baskets;
use crate::TrainingData;
use crate::sequence::batches::Terms;
use crate::sequence::windows::{Window, Windows};
use crate::sequence::{Batch, Network};

/// A weight that is not the same for all samples, 0 for some.
fn weight(at: usize) -> f64 {
    [1.0, 0.5, 0.0, 2.0][at % 4]
}

/// All windows of the tests' sequences in one batch.
pub(super) fn batch<N: Network>(network: &N, data: &TrainingData<'_>) -> Batch {
    let windows = Windows::new(data, network.span(), |_| true);
    let chosen: Vec<&Window> = windows.windows.iter().collect();
    network.training_batch(data, &windows, &chosen, Seed::root(5))
}

/// Losses by term, before weights, and gradients.
pub(super) fn run<N: Network, F: Real>(
    network: &N,
    weights: &Parameters<F>,
    batch: &Batch,
) -> (Vec<F>, Gradients<F>) {
    let mut gradients = Gradients::new(weights);
    let mut tape = Tape::new(weights, Context::training(None, &batch.row_keys));
    let loss = network.loss(&mut tape, batch, Seed::root(6));
    tape.backward(&[loss], &mut gradients);
    (tape.loss_rows(loss).to_vec(), gradients)
}

pub(super) fn only(terms: &Terms, at: usize, weight: f64) -> Terms {
    Terms {
        rows: vec![terms.rows[at]],
        targets: vec![terms.targets[at]],
        weights: vec![weight],
        sample_ids: vec![terms.sample_ids[at]],
    }
}

/// No parameter is cut off from the loss.
pub(crate) fn reaches_every_parameter<N: Network>(network: &N, weights: &Parameters<f32>) {
    let (samples, sequences) = baskets(|_| 1.0);
    let data = TrainingData::new(&samples, &sequences, network.n_items()).unwrap();
    let weights = weights.cast::<f64>();
    let (_, gradients) = run(network, &weights, &batch(network, &data));
    for id in weights.ids() {
        let largest = gradients
            .get(id)
            .iter()
            .fold(0.0_f64, |most, g| most.max(g.abs()));
        assert!(largest > 1e-9, "`{}` gets {largest}", weights.name(id));
    }
}

/// The gradient of a batch is the weighted sum of those of its samples, over their number.
pub(crate) fn linear_in_samples<N: Network>(network: &N, weights: &Parameters<f32>) {
    let (samples, sequences) = baskets(weight);
    let data = TrainingData::new(&samples, &sequences, network.n_items()).unwrap();
    let weights = weights.cast::<f64>();
    let whole = batch(network, &data);
    let (_, expected) = run(network, &weights, &whole);
    let n = whole.terms.rows.len();
    assert!(n > 10);
    let mut sum = Gradients::new(&weights);
    for at in 0..n {
        let single = Batch {
            terms: only(&whole.terms, at, 1.0),
            ..whole.clone()
        };
        let (_, mut gradients) = run(network, &weights, &single);
        gradients.scale(whole.terms.weights[at] / n as f64);
        sum.add(&gradients);
    }
    for (a, b) in sum.flat().iter().zip(expected.flat()) {
        assert!((a - b).abs() < 1e-12 + 1e-9 * b.abs(), "{a} {b}");
    }
}

/// One pass over windows gives each sample the loss that it has with its own history alone.
pub(crate) fn causal<N: Network>(network: &N, weights: &Parameters<f32>) {
    let (samples, sequences) = baskets(|_| 1.0);
    let data = TrainingData::new(&samples, &sequences, network.n_items()).unwrap();
    let weights = weights.cast::<f64>();
    let windows = Windows::new(&data, network.span(), |_| true);
    let whole = batch(network, &data);
    let (losses, _) = run(network, &weights, &whole);
    let with_history = (0..data.n_samples()).filter(|&sample| data.history_end(sample) > 0);
    assert_eq!(losses.len(), with_history.count());
    for (at, term) in windows.terms.iter().enumerate() {
        let sample = term.sample as usize;
        let seen = network.span().seen(data.history(sample));
        let mut single = Batch::of(&[seen], network.n_items());
        single.terms = only(&whole.terms, at, 1.0);
        single.terms.rows = vec![term.position];
        assert_eq!(term.position as usize + 1, seen.len());
        let (alone, _) = run(network, &weights, &single);
        assert!((alone[0] - losses[at]).abs() < 1e-9);
    }
}
