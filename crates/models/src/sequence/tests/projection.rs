//! A law of every network: projected gradients are the projections of whole ones, whoever shares a
//! batch with them.

use seed::Seed;
use tensors::{Context, Gradients, Parameters};

use super::gradients::{one, product, requests};
use super::sequences;
use crate::counts::Counts;
use crate::gradient_rows::{Basis, GradientRows, Measure, Projection};
use crate::history::History;
use crate::recommender::LossGradients;
use crate::sequence::{Network, SequenceModel};
use crate::{Samples, Sequences, TrainingData};

/// Largest difference of two lists, measured by the largest number in them.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = |list: &[f32]| list.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let gaps: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    largest(&gaps) / largest(a).max(largest(b)).max(f32::MIN_POSITIVE)
}

#[expect(clippy::too_many_lines, reason = "one law, basis by basis")]
/// See above.
pub(super) fn projections_are_those_of_whole_gradients<N: Network>(
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
    let project = |basis, rank| {
        let projection = Projection {
            basis,
            rank,
            table_width: rank * rank,
            tables: true,
        };
        model.project(&projection, Measure::Loss, Seed::root(4), &data)
    };
    let whole = project(Basis::Identity, 1);
    let chosen: Vec<u32> = (0..)
        .take(data.n_samples())
        .filter(|&sample| whole.has_loss(&data, sample as usize))
        .step_by(3)
        .collect();
    let width = |rows: &dyn GradientRows| rows.layers().iter().map(|layer| layer.width).sum();
    let n: usize = width(&*whole);
    assert_eq!(n, model.parameters.n_values());

    // Whole gradients are those of each sample alone, layer after layer.
    let rows = whole.sample_rows(&data, &chosen);
    for (&sample, row) in chosen.iter().zip(rows.chunks_exact(n)) {
        let sample = sample as usize;
        let seen = network.span().seen(data.history(sample));
        let mut alone = Gradients::new(&model.parameters);
        let term = (data.item(sample), 1.0);
        one(&model, seen, term, Context::training(None, &[]), &mut alone);
        let mut from = 0;
        let mut expected = Vec::new();
        for layer in whole.layers() {
            let id = model.parameters.id(&layer.name).unwrap();
            assert!(layer.is_exact && layer.n_parameters == layer.width);
            expected.extend_from_slice(alone.get(id));
            from += layer.width;
        }
        assert_eq!(from, row.len());
        assert!(difference(row, &expected) < 1e-5);
    }

    // Who shares a batch does not matter.
    let backwards: Vec<u32> = chosen.iter().rev().step_by(2).copied().collect();
    let again = whole.sample_rows(&data, &backwards);
    for (sample, row) in backwards.iter().zip(again.chunks_exact(n)) {
        let at = chosen.iter().position(|other| other == sample).unwrap();
        assert!(difference(row, &rows[at * n..(at + 1) * n]) < 1e-5);
    }

    // Full rank: products are those of whole gradients, in another basis or the same.
    for basis in [Basis::Random, Basis::Pca, Basis::Gaussian, Basis::Sparse] {
        let full = project(basis, 4096);
        assert!(full.layers().iter().all(|layer| layer.is_exact));
        let m = width(&*full);
        let other = full.sample_rows(&data, &chosen);
        let norm = |row: &[f32]| product(row, row).sqrt();
        for (a, b) in [(0, 1), (2, 2), (3, 7)] {
            let exact = product(&rows[a * n..][..n], &rows[b * n..][..n]);
            let found = product(&other[a * m..][..m], &other[b * m..][..m]);
            let scale = norm(&rows[a * n..][..n]) * norm(&rows[b * n..][..n]);
            assert!((exact - found).abs() <= 1e-5 * scale, "{exact} {found}");
        }
    }

    // Projections are linear in the whole gradient: what one sample and another give together, a
    // request gives that asks for both.
    let asked = requests(&data, &all);
    for basis in [Basis::Random, Basis::Pca, Basis::Gaussian, Basis::Sparse] {
        let short = project(basis, 3);
        let m: usize = width(&*short);
        assert!(m < n);
        let lists: Vec<(History<'_>, &[u32])> = asked
            .iter()
            .flat_map(|(history, items)| {
                [
                    (*history, &items[..]),
                    (*history, &items[..1]),
                    (*history, &items[1..]),
                ]
            })
            .collect();
        let found = short.request_rows(&lists);
        let mut n_compared = 0;
        for three in found.chunks_exact(3) {
            let [Some(both), Some(first), Some(second)] = three else {
                assert!(three.iter().all(Option::is_none));
                continue;
            };
            let mean: Vec<f32> = first
                .iter()
                .zip(second)
                .map(|(a, b)| (a + b) / 2.0)
                .collect();
            assert!(difference(both, &mean) < 1e-5);
            n_compared += 1;
        }
        assert!(n_compared > 5);
        // And they are drawn by seed and name alone.
        let same = project(basis, 3).sample_rows(&data, &chosen);
        assert_eq!(same, short.sample_rows(&data, &chosen));
    }

    // Without tables, only layers are left.
    let projection = Projection {
        basis: Basis::Identity,
        rank: 1,
        table_width: 1,
        tables: false,
    };
    let without = model.project(&projection, Measure::Loss, Seed::root(4), &data);
    let layers = without.layers();
    assert!(!layers.is_empty() && layers.len() < whole.layers().len());
}
