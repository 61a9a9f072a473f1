//! The training taken back: derivatives by the weights of samples.

use super::*;

/// Requests at the end of each log, for an item that is not next.
fn questions(logs: &[Vec<u32>], n_items: u32) -> Vec<[u32; 1]> {
    let last = logs.iter().filter_map(|log| log.last());
    last.map(|last| [(last + 1) % n_items]).collect()
}

fn unrolled(
    model: &LogisticRegression,
    data: &TrainingData<'_>,
    relevant: &[[u32; 1]],
    length: u32,
) -> Vec<Option<f64>> {
    let requests: Vec<crate::AskedRequest<'_>> = (0..)
        .zip(relevant)
        .map(|(sequence, relevant)| crate::AskedRequest {
            sequence,
            history_end: length,
            relevant,
        })
        .collect();
    model
        .unrolled(&crate::Unrolling {
            parameters: &serde_json::Value::Null,
            data,
            seed: Seed::root(5),
            requests: &requests,
            on_progress: &|_, _| {},
        })
        .unwrap()
}

#[test]
fn the_derivative_of_training_is_that_of_training_with_other_weights() {
    let logs = ring(14, 8, 9);
    let relevant = questions(&logs, 9);
    let cost = |weight: &dyn Fn(usize) -> f64| {
        let (samples, sequences) = built(&logs, weight);
        let data = TrainingData::new(&samples, &sequences, 9).unwrap();
        let model = fit(&data);
        let losses = logs.iter().zip(&relevant).map(|(log, relevant)| {
            let rows = model.rows().of_request(log, relevant[0]);
            model.loss_of(&rows)
        });
        losses.sum::<f64>() / logs.len() as f64
    };
    let (samples, sequences) = built(&logs, |_| 1.0);
    let data = TrainingData::new(&samples, &sequences, 9).unwrap();
    let model = fit(&data);
    let found = unrolled(&model, &data, &relevant, 8);
    let largest = found.iter().flatten().fold(0.0_f64, |a, x| a.max(x.abs()));
    let (mut derivatives, mut removals) = (Vec::new(), Vec::new());
    let base = cost(&|_| 1.0);
    for (sample, found) in found.iter().enumerate() {
        // The first event of a sequence has no history, and no loss term.
        assert_eq!(found.is_none(), sample % 8 == 0);
        let Some(found) = found else { continue };
        let at = |by: f64| cost(&|at| if at == sample { 1.0 + by } else { 1.0 });
        // Central differences with a step of 1e-2, whose error is 1e-4 times a third derivative, which
        // falls with the third power of the 98 terms; the minimum is known to 1e-10 / regularisation.
        let expected = -(at(1e-2) - at(-1e-2)) / 2e-2;
        let off = (found - expected).abs();
        assert!(off < 1e-5 * largest, "sample {sample}: {off} of {expected}");
        derivatives.push(*found);
        removals.push(at(-1.0) - base);
    }
    let agreement = pearson(&derivatives, &removals);
    // Found: .984. A sample out of 98 is no small change; the difference above is what is exact.
    assert!(agreement > 0.95, "{agreement}");
}

#[test]
fn the_derivative_of_training_is_the_influence_by_the_exact_second_derivative() {
    let logs = ring(14, 8, 9);
    let relevant = questions(&logs, 9);
    let (samples, sequences) = built(&logs, |at| [1.0, 0.5, 2.0][at % 3]);
    let data = TrainingData::new(&samples, &sequences, 9).unwrap();
    let model = fit(&data);
    let found = unrolled(&model, &data, &relevant, 8);
    let (rows, weights) = model.rows().of_all(&data);
    let terms = Terms {
        rows: &rows,
        per_term: model.negatives.per_term(),
        weights: &weights,
        scaling: &model.scaling,
        regularisation: model.regularisation,
    };
    // `hessian_fd`: central differences of the gradient of the objective, with a step of 1e-5.
    let exact = terms.at(&model.weights).hessian;
    for k in 0..N {
        let gradient = |by: f64| {
            let mut at = model.weights;
            at[k] += by;
            terms.at(&at).gradient
        };
        let (up, down) = (gradient(1e-5), gradient(-1e-5));
        for i in k..N {
            let difference = (up[i] - down[i]) / 2e-5;
            // Rounding of 1e-16 over the step, and its square times a third derivative near 1.
            assert!((exact[i * N + k] - difference).abs() < 1e-8);
        }
    }
    // The influence as `influence` computes it, from handed-over rows in 32 bits.
    let gradients = model.gradient_rows().unwrap();
    let mut target = vec![0.0; N];
    for (log, relevant) in logs.iter().zip(&relevant) {
        let row = gradients.request_row(History::of(log), relevant).unwrap();
        for (sum, x) in target.iter_mut().zip(row) {
            *sum += f64::from(x) / logs.len() as f64;
        }
    }
    let mut factor = exact;
    assert!(tensors::dense::cholesky(&mut factor, N));
    tensors::dense::solve(&factor, N, &mut target);
    let all: Vec<u32> = (0..).take(data.n_samples()).collect();
    let handed_over = gradients.sample_rows(&data, &all);
    let largest = found.iter().flatten().fold(0.0_f64, |a, x| a.max(x.abs()));
    for (row, found) in handed_over.chunks_exact(N).zip(found) {
        let products = row.iter().zip(&target).map(|(x, y)| f64::from(*x) * y);
        let influence = products.sum::<f64>() / weights.len() as f64;
        // 32 bits keep seven digits of each of N numbers.
        assert!((found.unwrap_or(0.0) - influence).abs() < 1e-5 * largest);
    }
}
