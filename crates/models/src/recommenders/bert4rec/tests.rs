//! Laws of the network, and what a mask hides.

use tensors::{Context, Gradients};

use super::*;
use crate::sequence::tests::{
    ALL_INPUTS, N_ITEMS, baskets, linear_in_samples, reaches_every_parameter, side,
};

fn network(inputs: Inputs) -> (Bidirectional, Weights<f32>) {
    let shape = Shape {
        n_items: N_ITEMS,
        span: Span {
            length: 6,
            stride: 4,
        },
        dimensions: 8,
        layers: 2,
        heads: 2,
        inner: 12,
        dropout: 0.3,
        mask_share: 0.5,
        last_share: 0.3,
    };
    Bidirectional::new(shape, side(inputs), Seed::root(3))
}

#[test]
fn every_parameter_receives_a_gradient() {
    let (network, weights) = network(Inputs::default());
    reaches_every_parameter(&network, &weights);
}

#[test]
fn the_gradient_of_a_batch_is_the_weighted_sum_of_those_of_samples() {
    let (network, weights) = network(Inputs::default());
    linear_in_samples(&network, &weights);
}

#[test]
fn optional_inputs_obey_the_same_laws() {
    let (network, weights) = network(ALL_INPUTS);
    reaches_every_parameter(&network, &weights);
    linear_in_samples(&network, &weights);
}

#[test]
fn rows_alone_give_what_they_give_among_all() {
    let (network, weights) = network(ALL_INPUTS);
    let (samples, sequences) = baskets(|_| 1.0);
    let data = TrainingData::new(&samples, &sequences, N_ITEMS).unwrap();
    let windows = Windows::new(&data, network.span(), |_| true);
    let chosen: Vec<&Window> = windows.windows.iter().collect();
    let batch = network.training_batch(&data, &windows, &chosen, Seed::root(1));
    let rows = &batch.terms.rows;
    assert!(rows.len() > 2 && rows.len() < batch.items.len());
    // With dropout: a row is dropped as it would be among all.
    let run = |all: bool| {
        let context = Context::training(Some(Seed::root(5)), &batch.row_keys);
        let mut tape = Tape::new(&weights, context);
        let hidden = if all {
            let hidden = network.hidden(&mut tape, &batch);
            tape.gather_rows(hidden, rows)
        } else {
            network.hidden_at(&mut tape, &batch, rows)
        };
        let values = tape.value(hidden).to_vec();
        let mut gradients = Gradients::new(&weights);
        // Any function of the rows.
        let seed = values.iter().map(|x| x * x - 0.3).collect();
        tape.backward_from(&[], vec![(hidden, seed)], &mut gradients);
        (values, gradients.flat().to_vec())
    };
    let ((values, gradients), (some, of_some)) = (run(true), run(false));
    for (a, b) in values
        .iter()
        .zip(&some)
        .chain(gradients.iter().zip(&of_some))
    {
        // Sums over rows leave out zeros, and so are cut elsewhere: a few dozen roundings.
        assert!((a - b).abs() < 1e-5 * (1.0 + a.abs()), "{a} {b}");
    }
}

/// The network with other shares of masks.
fn masking(mask_share: f64, last_share: f64) -> Bidirectional {
    let (mut network, _) = network(ALL_INPUTS);
    network.shape.mask_share = mask_share;
    network.shape.last_share = last_share;
    network
}

#[test]
fn a_window_masked_at_its_end_is_what_a_request_sees() {
    let network = masking(0.5, 1.0);
    let (samples, sequences) = baskets(|_| 1.0);
    let data = TrainingData::new(&samples, &sequences, N_ITEMS).unwrap();
    let windows = Windows::new(&data, network.span(), |_| true);
    for window in &windows.windows {
        let batch = network.training_batch(&data, &windows, &[window], Seed::root(1));
        // All samples of the last basket are read at the one mask.
        let ends = windows.terms(window).iter();
        let ends = ends.map(|term| data.history_end(term.sample as usize));
        let n_last = ends.filter(|&end| end == window.end).count();
        assert_eq!(batch.terms.rows.len(), n_last);
        for term in &windows.terms(window)[windows.terms(window).len() - n_last..] {
            let seen = network.span().seen(data.history(term.sample as usize));
            let (request, rows) = network.request_batch(&[seen]);
            assert_eq!(batch.items, request.items);
            assert_eq!(batch.events, request.events);
            assert_eq!(batch.places, request.places);
            assert_eq!(batch.positions, request.positions);
            assert_eq!(
                (&batch.valid, &batch.masked),
                (&request.valid, &request.masked)
            );
            assert!(batch.terms.rows.iter().all(|&row| row == rows[0]));
        }
    }
}

#[test]
fn nothing_of_a_masked_basket_is_seen() {
    let network = masking(0.5, 0.0);
    let (samples, sequences) = baskets(|_| 1.0);
    let data = TrainingData::new(&samples, &sequences, N_ITEMS).unwrap();
    let windows = Windows::new(&data, network.span(), |_| true);
    let sample_of = |id: u64| (0..data.n_samples()).find(|&at| data.sample_id(at) == id);
    let (mut n_masked, mut n_mates) = (0, 0);
    for window in &windows.windows {
        let batch = network.training_batch(&data, &windows, &[window], Seed::root(1));
        let mut is_hidden = vec![false; batch.length];
        for (&row, &id) in batch.terms.rows.iter().zip(&batch.terms.sample_ids) {
            let sample = sample_of(id).unwrap();
            let end = data.history_end(sample);
            assert_eq!(row, end - window.start);
            assert!(batch.masked[row as usize] && batch.valid[row as usize]);
            let mates = (0..data.n_samples()).filter(|&other| {
                data.sequence(other) == window.sequence && data.history_end(other) == end
            });
            for (row, _) in (row as usize..batch.length).zip(mates) {
                is_hidden[row] = true;
                n_mates += 1;
                assert_eq!(batch.items[row], PADDING);
                assert_eq!((batch.events[row], batch.places[row]), (None, PADDING));
            }
            n_masked += 1;
        }
        for (row, is_hidden) in is_hidden.into_iter().enumerate() {
            let is_seen = batch.valid[row] && !batch.masked[row];
            assert_eq!(is_seen, !is_hidden);
        }
    }
    assert!(n_masked > 20 && n_mates > n_masked);
}

#[test]
fn baskets_that_weigh_nothing_stay_visible_and_are_counted() {
    let network = masking(1.0, 0.0);
    // The samples of the third user, who is the first to come back.
    let weighed = |at: usize| if (5..9).contains(&at) { 0.0 } else { 1.0 };
    let zero: &dyn Fn(usize) -> f64 = &weighed;
    let one: &dyn Fn(usize) -> f64 = &|_| 1.0;
    for (weight, is_visible) in [(zero, true), (one, false)] {
        let (samples, sequences) = baskets(weight);
        let data = TrainingData::new(&samples, &sequences, N_ITEMS).unwrap();
        let windows = Windows::new(&data, network.span(), |_| true);
        assert_eq!(windows.windows[0].sequence, 2);
        for window in &windows.windows {
            let batch = network.training_batch(&data, &windows, &[window], Seed::root(1));
            assert_eq!(batch.terms.rows.len(), windows.terms(window).len());
            let masked = batch.masked.iter().any(|&masked| masked);
            assert_eq!(masked, !(is_visible && window.sequence == 2));
        }
    }
}
