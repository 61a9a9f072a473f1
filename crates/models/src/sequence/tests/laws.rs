//! Laws of a forward pass, for every network that the registry can train.
//!
//! The training loop shows each network that it is about to train to [`examine`], which examines it
//! where a test asks for that. So the list of networks is the registry: a new model is examined
//! without being written down anywhere.

use std::cell::Cell;

use seed::Seed;
use serde_json::json;
use tensors::Parameters;

use super::directions::directions_are_those_of_single_samples;
use super::factors::{factors_are_gradients, one_by_one};
use super::gradients::gradients_are_those_of_single_samples;
use super::networks::{batch, only, run};
use super::projection::projections_are_those_of_whole_gradients;
use super::training::{Recorder, fit};
use super::{causal, linear_in_samples, reaches_every_parameter, sequences};
use crate::sequence::Network;
use crate::sequence::windows::Window;
use crate::{REGISTRY, TrainingData};

thread_local! {
    /// Whether a test of this thread wants the next network examined.
    static IS_WANTED: Cell<bool> = const { Cell::new(false) };
}

/// Models that are trained step by step without a network: their own files test them.
pub(super) const WITHOUT_NETWORK: [&str; 1] = ["bpr"];

/// Examines a network that is about to be trained, if a test wants it.
pub(crate) fn examine<N: Network>(network: &N, weights: &Parameters<f32>) {
    if !IS_WANTED.replace(false) {
        return;
    }
    reaches_every_parameter(network, weights);
    linear_in_samples(network, weights);
    trained_as_it_is_asked(network, weights);
    factors_are_gradients(network, weights);
    gradients_are_those_of_single_samples(network, weights);
    directions_are_those_of_single_samples(network, weights);
    projections_are_those_of_whole_gradients(network, weights);
    let (samples, sequences) = sequences(|_| 1.0);
    let data = TrainingData::new(&samples, &sequences, network.n_items()).unwrap();
    // What is masked sees both sides; then only a sample alone in its window has its own loss.
    if batch(network, &data).masked.is_empty() {
        causal(network, weights);
    }
}

/// The loss of a sample alone in its window is that of its target in a request with its history.
fn trained_as_it_is_asked<N: Network>(network: &N, weights: &Parameters<f32>) {
    let (samples, sequences) = sequences(|_| 1.0);
    let data = TrainingData::new(&samples, &sequences, network.n_items()).unwrap();
    let weights = weights.cast::<f64>();
    let windows = one_by_one(&data, network.span());
    let mut n_compared = 0;
    for (window, term) in windows.windows.iter().zip(&windows.terms) {
        let chosen: [&Window; 1] = [window];
        let trained = network.training_batch(&data, &windows, &chosen, Seed::root(5));
        if trained.terms.rows.is_empty() {
            // Not drawn to be masked.
            continue;
        }
        let seen = network.span().seen(data.history(term.sample as usize));
        let (mut asked, rows) = network.request_batch(&[seen]);
        asked.terms = only(&trained.terms, 0, 1.0);
        asked.terms.rows = rows;
        let (of_sample, _) = run(network, &weights, &trained);
        let (of_request, _) = run(network, &weights, &asked);
        assert!((of_sample[0] - of_request[0]).abs() < 1e-9);
        n_compared += 1;
    }
    assert!(n_compared > 10);
}

#[test]
fn every_network_of_the_registry_obeys_the_laws_of_a_pass() {
    let data = sequences(|_| 1.0);
    for entry in REGISTRY.iter().filter(|entry| entry.is_trained_by_steps) {
        let takes = |name: &str| entry.parameters.iter().any(|one| one.name == name);
        if WITHOUT_NETWORK.contains(&entry.name) {
            continue;
        }
        let mut more = json!({ "epochs": 1 });
        for (name, value) in [
            ("heads", json!(2)),
            ("layers", json!(2)),
            ("negatives", json!(3)),
        ] {
            if takes(name) {
                more[name] = value;
            }
        }
        if takes("mask_share") {
            more["mask_share"] = json!(0.5);
        }
        let losses: &[&str] = if takes("loss") {
            &["softmax", "bce", "gbce", "sampled_softmax"]
        } else {
            &[""]
        };
        for loss in losses {
            if takes("loss") {
                more["loss"] = json!(loss);
                more["negatives"] = json!(if *loss == "softmax" { 1 } else { 3 });
            }
            IS_WANTED.set(true);
            fit(entry, &data, &more, &mut Recorder::default()).unwrap();
            assert!(
                !IS_WANTED.replace(false),
                "`{}` is trained by steps, and not by the training loop of sequence models: test the \
                 laws in its file, and list it here",
                entry.name
            );
        }
    }
}
