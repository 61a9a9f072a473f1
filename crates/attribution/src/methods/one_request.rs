//! Methods that can say which samples matter to one request, and scores of groups of samples.

use serde_json::json;

use super::exactness::{Parts, assert_close, inner, scores, some};
use super::influence::Influence;
use crate::curvature::{Fitted, Operator, Settings, Solver};
use crate::directed::{Asked, Directed, OfRequest};
use crate::problem::{InMemory, Problem};
use crate::{Entry, METHODS, Seed, find, toy};

fn ask(
    entry: &'static Entry,
    problem: &dyn Problem,
    requests: &[u32],
    top: usize,
) -> Vec<OfRequest> {
    let prepared = entry.prepare(&json!({})).unwrap();
    let asked = Asked { requests, top };
    let found = prepared.influences(problem, asked, Seed::root(5)).unwrap();
    found.unwrap_or_else(|| panic!("`{}` does not answer", entry.name))
}

fn answering() -> impl Iterator<Item = &'static Entry> {
    METHODS.iter().filter(|entry| entry.answers_requests)
}

/// The gradients of three samples in two layers, and of two requests.
fn by_hand() -> InMemory {
    let parts = Parts {
        layers: vec![(1, false), (2, false)],
        gradients: vec![
            vec![1.0, 0.0, 2.0],
            vec![-1.0, 1.0, 0.0],
            vec![0.0, 1.0, -3.0],
            vec![1.0, 0.0, 2.0],
        ],
        requests: vec![vec![2.0, 0.0, 1.0], vec![0.0, 0.0, 0.0]],
        ..Parts::default()
    };
    parts.problem()
}

#[test]
fn the_card_says_who_answers() {
    let problem = toy::problem(0);
    for entry in METHODS {
        let prepared = entry.prepare(&json!({})).unwrap();
        let asked = Asked {
            requests: &[],
            top: 1,
        };
        let found = prepared.influences(&problem, asked, Seed::root(1)).unwrap();
        assert_eq!(found.is_some(), entry.answers_requests, "{}", entry.name);
    }
    let names: Vec<&str> = answering().map(|entry| entry.name).collect();
    assert_eq!(names, ["datainf", "influence", "logra", "projected_dot"]);
}

#[test]
fn products_by_hand() {
    let entry = find("projected_dot").unwrap();
    let problem = by_hand();
    let found = ask(entry, &problem, &[1, 0, 7], 5);
    // Request 7 has no gradient; that of request 1 is 0, and so is every product with it.
    let requests: Vec<u32> = found.iter().map(|found| found.request).collect();
    assert_eq!(requests, [1, 0]);
    assert!(found[0].helpful.is_empty() && found[0].harmful.is_empty());
    let list = |of: &[crate::Influential]| -> Vec<(u32, f64, Vec<f64>)> {
        of.iter()
            .map(|one| (one.sample, one.score, one.by_layer.clone()))
            .collect()
    };
    // Equal scores go by identity, and those of this problem ascend.
    let helpful = [(0, 4.0, vec![2.0, 2.0]), (3, 4.0, vec![2.0, 2.0])];
    assert_eq!(list(&found[1].helpful), helpful);
    let harmful = [(2, -3.0, vec![0.0, -3.0]), (1, -2.0, vec![-2.0, 0.0])];
    assert_eq!(list(&found[1].harmful), harmful);
    let found = ask(entry, &problem, &[0], 1);
    assert_eq!(list(&found[0].helpful), helpful[..1]);
    assert_eq!(list(&found[0].harmful), harmful[..1]);
    let found = ask(entry, &problem, &[0], 0);
    assert!(found[0].helpful.is_empty() && found[0].harmful.is_empty());
}

#[test]
fn the_mean_over_all_requests_is_the_score() {
    let problem = some(40, [5, 7]).problem();
    for entry in answering() {
        let found = ask(entry, &problem, &[0, 1, 2], 40);
        let mut mean = vec![0.0; 40];
        for one in found
            .iter()
            .flat_map(|of| of.helpful.iter().chain(&of.harmful))
        {
            mean[one.sample as usize] += one.score / 3.0;
            let sum: f64 = one.by_layer.iter().sum();
            // Both are sums of 12 products; scores are of the size of what cancels, or larger.
            assert!((sum - one.score).abs() < 1e-12 * (1.0 + one.score.abs()));
        }
        // The same sums in another order.
        assert_close(&mean, &scores(&problem, entry.name, &json!({})), 1e-12);
    }
}

#[test]
fn the_order_of_samples_does_not_matter() {
    let problem = toy::problem(3);
    let requests: Vec<u32> = problem
        .target()
        .requests
        .iter()
        .map(|request| request.request)
        .collect();
    let n = problem.samples().len();
    let places: Vec<usize> = (0..n).rev().collect();
    let turned = toy::rearrange(&problem, &places);
    for entry in answering() {
        let found = ask(entry, &problem, &requests, 4);
        let again = ask(entry, &turned, &requests, 4);
        assert!(found.iter().any(|of| !of.helpful.is_empty()));
        for (found, again) in found.iter().zip(&again) {
            let both = [
                (&found.helpful, &again.helpful),
                (&found.harmful, &again.harmful),
            ];
            for (found, again) in both {
                assert_eq!(found.len(), again.len(), "{}", entry.name);
                for (one, other) in found.iter().zip(again) {
                    // Curvature is a sum in the order of samples.
                    let scale = 1.0 + one.score.abs();
                    assert!((one.score - other.score).abs() < 1e-12 * scale);
                }
            }
        }
    }
}

#[test]
fn a_group_scores_as_the_sum_of_its_gradients() {
    let parts = some(40, [5, 7]);
    let problem = parts.problem();
    let group = [3, 8, 21, 39];
    let mut sum = vec![0.0; 12];
    for &sample in &group {
        for (sum, x) in sum.iter_mut().zip(&parts.gradients[sample]) {
            // As they are kept.
            #[expect(clippy::cast_possible_truncation, reason = "rows are 32-bit floats")]
            let kept = f64::from(*x as f32);
            *sum += kept;
        }
    }
    let settings = Settings {
        solver: Solver::Exact,
        operator: Operator::EmpiricalFisher,
        damping: 0.1,
        tolerance: 1e-6,
        iterations: 1,
        rank: 1,
    };
    let fitted = Fitted::new(&problem, "test").unwrap();
    let target = fitted.target().unwrap();
    let found = Influence { settings }
        .directions(fitted, std::slice::from_ref(&target), Seed::root(0))
        .unwrap();
    for (method, direction, scale) in [
        ("projected_dot", &target, 1.0),
        ("influence", &found.directions[0], found.scale),
    ] {
        let scores = scores(&problem, method, &json!({}));
        let of_group: f64 = group.iter().map(|&sample| scores[sample]).sum();
        let wanted = scale * inner(direction, &sum);
        // The same 48 products, summed in another order.
        assert!((of_group - wanted).abs() < 1e-13 * (1.0 + wanted.abs()));
    }
}
