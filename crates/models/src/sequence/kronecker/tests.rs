//! In double precision against matrices that are written out and solved.

use seed::Seed;
use tensors::dense::{cholesky, solve};

use super::*;
use crate::factors::initial;

const SHAPE: [usize; 2] = [3, 4];
const N: usize = SHAPE[0] * SHAPE[1];
const SHARE: f64 = 0.1;

fn outer(error: &[f64], input: &[f64]) -> Vec<f64> {
    let rows = error.iter();
    rows.flat_map(|e| input.iter().map(move |x| e * x))
        .collect()
}

/// The mean of the outer products of gradients, [n, n].
fn fisher(gradients: &[Vec<f64>]) -> Vec<f64> {
    let n = gradients[0].len();
    let mut sum = vec![0.0; n * n];
    for gradient in gradients {
        for (row, x) in sum.chunks_exact_mut(n).zip(gradient) {
            for (sum, y) in row.iter_mut().zip(gradient) {
                *sum += x * y / gradients.len() as f64;
            }
        }
    }
    sum
}

fn trace(matrix: &[f64], n: usize) -> f64 {
    matrix.iter().step_by(n + 1).sum()
}

/// `(F + share trace(F) / n I)^-1 g`, by Cholesky.
fn exact(fisher: &[f64], gradient: &[f64]) -> Vec<f64> {
    let n = gradient.len();
    let damping = SHARE * trace(fisher, n) / n as f64;
    let mut matrix = fisher.to_vec();
    for x in matrix.iter_mut().step_by(n + 1) {
        *x += damping;
    }
    assert!(cholesky(&mut matrix, n));
    let mut solved = gradient.to_vec();
    solve(&matrix, n, &mut solved);
    solved
}

/// A block from samples of one position each.
fn block(samples: &[(Vec<f64>, Vec<f64>)]) -> Block<f64> {
    let mut moments = LayerMoments::new(SHAPE);
    for (error, input) in samples {
        moments.add(input, error);
    }
    let mut block = moments.block(samples.len() as u64);
    for (error, input) in samples {
        let gradient = outer(error, input);
        block.rotation.add_squares(&gradient, &mut block.squares);
    }
    block
}

fn close(found: &[f64], expected: &[f64]) {
    let largest = expected.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 1e-10 * largest, "{a} {b} of {largest}");
    }
}

fn rows(seed: u64, n: usize, columns: usize) -> Vec<Vec<f64>> {
    let numbers = initial(Seed::root(seed), n, columns, 1.0);
    numbers.chunks_exact(columns).map(<[f64]>::to_vec).collect()
}

/// Every error with every input: then both are independent, and the Fisher matrix is their Kronecker
/// product, to the last digit.
fn pairs(errors: &[Vec<f64>], inputs: &[Vec<f64>]) -> Vec<(Vec<f64>, Vec<f64>)> {
    let errors = errors.iter();
    errors
        .flat_map(|e| inputs.iter().map(|x| (e.clone(), x.clone())))
        .collect()
}

#[test]
fn with_independent_factors_both_are_the_exact_damped_inverse() {
    let inputs = rows(1, 40, SHAPE[1]);
    // A linear layer y = W x under squared loss has the gradient (y - label) x'. Empirical labels give
    // any errors. Labels drawn from the model y + noise of variance 1 give errors whose moment is the
    // identity: as many as outputs, in both directions, have just that moment.
    let observed = rows(2, 15, SHAPE[0]);
    let drawn: Vec<Vec<f64>> = (0..2 * SHAPE[0])
        .map(|at| {
            let mut error = vec![0.0; SHAPE[0]];
            let length = libm::sqrt(SHAPE[0] as f64);
            error[at / 2] = if at % 2 == 0 { length } else { -length };
            error
        })
        .collect();
    let target = &rows(3, 1, N)[0];
    for errors in [observed, drawn] {
        let samples = pairs(&errors, &inputs);
        let gradients: Vec<Vec<f64>> = samples.iter().map(|(e, x)| outer(e, x)).collect();
        let fisher = fisher(&gradients);
        let block = block(&samples);
        for is_corrected in [false, true] {
            let spectrum = block.spectrum(is_corrected, samples.len() as u64, SHARE);
            assert!((spectrum.mean * N as f64 / trace(&fisher, N) - 1.0).abs() < 1e-12);
            close(&block.solve(&spectrum, target), &exact(&fisher, target));
        }
    }
}

#[test]
fn where_factors_depend_on_each_other_the_corrected_one_is_the_best_in_its_basis() {
    // Errors grow with the first input.
    let inputs = rows(4, 300, SHAPE[1]);
    let samples: Vec<(Vec<f64>, Vec<f64>)> = inputs
        .into_iter()
        .zip(rows(5, 300, SHAPE[0]))
        .map(|(x, e)| (e.iter().map(|e| e * x[0] * x[0]).collect(), x))
        .collect();
    let gradients: Vec<Vec<f64>> = samples.iter().map(|(e, x)| outer(e, x)).collect();
    let block = block(&samples);
    // The Fisher matrix in the turned basis; what is beside its diagonal is lost to both.
    let turned: Vec<Vec<f64>> = gradients.iter().map(|g| block.rotation.turn(g)).collect();
    let turned = fisher(&turned);
    let diagonal: Vec<f64> = turned.iter().step_by(N + 1).copied().collect();
    let corrected = block.spectrum(true, samples.len() as u64, SHARE);
    close(&corrected.values, &diagonal);
    let plain = block.spectrum(false, samples.len() as u64, SHARE);
    let error: f64 = plain
        .values
        .iter()
        .zip(&diagonal)
        .map(|(a, b)| (a - b) * (a - b))
        .sum();
    let size: f64 = diagonal.iter().map(|x| x * x).sum();
    assert!(error > 0.01 * size, "{error} of {size}");
}

#[test]
fn the_moment_of_looked_up_rows_is_how_often_they_are() {
    let shape = [4, 3];
    let received = rows(6, 10, shape[1]);
    // Row 2 three times as often as the others, row 3 never; each with the same gradients.
    let looked_up: Vec<u32> = vec![0, 1, 2, 2, 2];
    let mut table = TableMoments::new(shape);
    let mut gradients = Vec::new();
    for &row in &looked_up {
        for gradient in &received {
            table.add_lookups(&[row], gradient);
            let mut whole = vec![0.0; shape[0] * shape[1]];
            whole[row as usize * shape[1]..][..shape[1]].copy_from_slice(gradient);
            gradients.push(whole);
        }
    }
    assert_eq!(table.lookups, [10, 10, 30, 0]);
    let n = gradients.len() as u64;
    let mut block: Block<f64> = table.block(n);
    for gradient in &gradients {
        block.rotation.add_squares(gradient, &mut block.squares);
    }
    let fisher = fisher(&gradients);
    let target = &rows(7, 1, shape[0] * shape[1])[0];
    for is_corrected in [false, true] {
        let spectrum = block.spectrum(is_corrected, n, SHARE);
        close(&block.solve(&spectrum, target), &exact(&fisher, target));
        assert!(
            spectrum.values[3 * shape[1]..]
                .iter()
                .all(|&x| x.abs() < 1e-30)
        );
    }
}

#[test]
fn a_table_of_inputs_and_outputs_has_the_diagonals_of_both_uses() {
    let shape = [3, 2];
    let (received, hidden, logits) = (rows(8, 5, 2), rows(9, 5, 2), rows(10, 5, 3));
    let both = |with: [bool; 2]| {
        let mut table = TableMoments::new(shape);
        for at in 0..5 {
            if with[0] {
                table.add_lookups(&[1], &received[at]);
            }
            if with[1] {
                table.add_terms(&hidden[at], &logits[at], None);
            }
        }
        table.block::<f64>(5)
    };
    let tied = both([true, true]);
    // Traces do not depend on a basis: those of rows add up.
    let row = |block: &Block<f64>, at: usize| -> f64 {
        let values = block.kfac.as_ref().unwrap();
        values[at * 2..(at + 1) * 2].iter().sum()
    };
    let (inputs, outputs) = (both([true, false]), both([false, true]));
    for at in 0..3 {
        let sum = row(&inputs, at) + row(&outputs, at);
        assert!((row(&tied, at) - sum).abs() < 1e-12 * sum);
    }
    assert!(row(&inputs, 0) <= 0.0 && row(&inputs, 1) > 0.0);
}

#[test]
fn coordinates_lead_back_and_keep_lengths() {
    let samples = pairs(&rows(11, 4, SHAPE[0]), &rows(12, 6, SHAPE[1]));
    let rotation = block(&samples).rotation;
    let matrix = &rows(13, 1, N)[0];
    let turned = rotation.turn(matrix);
    close(&rotation.turn_back(&turned), matrix);
    let square = |all: &[f64]| all.iter().map(|x| x * x).sum::<f64>();
    assert!((square(&turned) - square(matrix)).abs() < 1e-12 * square(matrix));
}

#[test]
fn positions_without_a_gradient_and_parameters_without_samples_count_for_nothing() {
    let sample = (vec![1.0, -2.0, 0.5], vec![1.0, 2.0, 3.0, 4.0]);
    let alone = block(std::slice::from_ref(&sample));
    let mut moments = LayerMoments::new(SHAPE);
    moments.add(&[9.0; 4], &[0.0; 3]);
    moments.add(&sample.1, &sample.0);
    let padded: Block<f64> = moments.block(1);
    close(&padded.kfac.unwrap(), alone.kfac.as_ref().unwrap());

    let empty: Block<f64> = LayerMoments::new(SHAPE).block(0);
    let spectrum = empty.spectrum(true, 0, SHARE);
    let solved = empty.solve(&spectrum, &[1.0; N]);
    assert!(solved.iter().all(|x| x.abs() <= 0.0));
}

#[test]
fn a_side_that_is_too_long_is_diagonal() {
    let mut moment = Moment::new(MOST + 1);
    let row: Vec<f64> = (0..=MOST).map(|at| at as f64).collect();
    moment.add(&row);
    assert!(moment.basis().is_none());
    assert!((moment.diagonal(None)[3] - 9.0).abs() < 1e-12);
}
