//! Captured factors, per-sample gradients, weights of rows.

use std::collections::BTreeMap;

use seed::Seed;
use tensors::{
    Activation, Attention, AttentionShape, Capture, Context, Csr, Gradients, Init, Loss, Mask,
    Negatives, PADDING, Parameters, Real, Tape,
};

use crate::check::distance;

const BATCH: usize = 3;
const LENGTH: usize = 5;
const ITEMS: usize = 11;
const COLUMNS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Full,
    Sampled,
    Binary,
}

/// A small model with every kind of layer that is captured, and a tied output table.
fn parameters() -> Parameters<f64> {
    let mut parameters = Parameters::new(Seed::root(2));
    let std = Init::Normal { std: 0.5 };
    for (name, shape) in [
        ("items", [ITEMS, COLUMNS]),
        ("positions", [LENGTH, COLUMNS]),
        ("qkv", [3 * COLUMNS, COLUMNS]),
        ("qkv.bias", [1, 3 * COLUMNS]),
        ("out", [COLUMNS, COLUMNS]),
        ("gain", [1, COLUMNS]),
        ("bias", [1, COLUMNS]),
        ("gru.input", [3 * COLUMNS, COLUMNS]),
        ("gru.hidden", [3 * COLUMNS, COLUMNS]),
        ("gru.input.bias", [1, 3 * COLUMNS]),
        ("gru.hidden.bias", [1, 3 * COLUMNS]),
    ] {
        parameters.insert(name, shape, std);
    }
    parameters
}

struct Batch {
    ids: Vec<u32>,
    targets: Vec<u32>,
}

impl Batch {
    fn new() -> Self {
        let ids = (0..BATCH * LENGTH)
            .map(|row| match row {
                5 | 6 | 14 => PADDING,
                _ => u32::try_from(row * 3 % ITEMS).unwrap(),
            })
            .collect::<Vec<_>>();
        let targets = (0..BATCH * LENGTH)
            .map(|row| match row {
                5 | 6 | 14 | 2 => PADDING,
                _ => u32::try_from(row * 5 % ITEMS).unwrap(),
            })
            .collect();
        Self { ids, targets }
    }
}

fn forward<F: Real>(
    tape: &mut Tape<'_, F>,
    parameters: &Parameters<F>,
    kind: Kind,
    weights: &[F],
) -> Loss {
    let id = |name: &str| parameters.id(name).unwrap();
    let Batch { ids, targets } = Batch::new();
    let valid: Vec<bool> = ids.iter().map(|&id| id != PADDING).collect();
    let at: Vec<u32> = (0..BATCH * LENGTH)
        .map(|row| (row % LENGTH) as u32)
        .collect();
    let scale = F::of(1.5);
    let x = tape.embedding_with_positions(id("items"), id("positions"), &ids, &at, scale, 0.0, "e");
    let normed = tape.layer_norm(x, id("gain"), id("bias"), 1e-3);
    let qkv = tape.linear(normed, id("qkv"), Some(id("qkv.bias")), Activation::None);
    let settings = Attention {
        heads: 2,
        length: LENGTH,
        mask: Mask::Causal,
        valid: &valid,
        dropout: 0.0,
        name: "attention",
    };
    let mixed = tape.attention(qkv, settings);
    let out = tape.linear(mixed, id("out"), None, Activation::Tanh);
    let x = tape.dropout_add(out, Some(x), 0.0, "r");
    let [wi, wh] = [id("gru.input"), id("gru.hidden")];
    let [bi, bh] = [id("gru.input.bias"), id("gru.hidden.bias")];
    let hidden = tape.gru(x, LENGTH, wi, wh, bi, bh, &valid);
    let table = id("items");
    let negatives = [4, 0, 9, 4];
    match kind {
        Kind::Full => tape.softmax_cross_entropy(hidden, table, None, &targets, weights, 1.0),
        Kind::Sampled => {
            let negatives = Negatives::Shared(&negatives);
            tape.sampled_softmax(hidden, table, None, &targets, negatives, None, weights, 1.0)
        }
        Kind::Binary => {
            let ids: Vec<u32> = (0..2 * BATCH * LENGTH)
                .map(|at| (at * 7 % ITEMS) as u32)
                .collect();
            let negatives = Negatives::PerRow(&ids);
            let beta = F::of(0.7);
            tape.binary_cross_entropy(hidden, table, None, &targets, negatives, weights, 1.0, beta)
        }
    }
}

/// Gradients of one weighting of the rows.
fn gradients<F: Real>(parameters: &Parameters<F>, kind: Kind, weights: &[F]) -> Gradients<F> {
    let mut gradients = Gradients::new(parameters);
    let mut tape = Tape::new(parameters, Context::training(None, &[]));
    let loss = forward(&mut tape, parameters, kind, weights);
    tape.backward(&[loss], &mut gradients);
    gradients
}

#[test]
fn the_gradient_of_a_batch_is_the_weighted_sum_of_those_of_its_rows() {
    let parameters = parameters();
    let weights: Vec<f64> = (0..15).map(|row| f64::from(row % 4) * 0.5 - 0.3).collect();
    for kind in [Kind::Full, Kind::Sampled, Kind::Binary] {
        let all = gradients(&parameters, kind, &weights);
        let mut sum = Gradients::new(&parameters);
        for (row, &weight) in weights.iter().enumerate() {
            let mut one = vec![0.0; weights.len()];
            one[row] = 1.0;
            let mut of_row = gradients(&parameters, kind, &one);
            of_row.scale(weight);
            sum.add(&of_row);
        }
        for id in parameters.ids() {
            let error = distance(all.get(id), sum.get(id));
            assert!(error < 1e-10, "{kind:?} `{}`: {error}", parameters.name(id));
        }
    }
}

/// Puts gradients together again from factors, for each sequence apart.
struct Assemble {
    /// By parameter, then sequence.
    sums: BTreeMap<String, Vec<Vec<f64>>>,
    maps: Vec<(String, AttentionShape, Vec<f64>)>,
}

impl Assemble {
    fn new(parameters: &Parameters<f64>) -> Self {
        let zeros = |name: &str| vec![vec![0.0; parameters.by_name(name).unwrap().len()]; BATCH];
        let sums = parameters
            .names()
            .map(|name| (name.to_owned(), zeros(name)));
        Self {
            sums: sums.collect(),
            maps: Vec::new(),
        }
    }

    fn of(&mut self, name: &str, row: usize) -> &mut Vec<f64> {
        &mut self.sums.get_mut(name).unwrap()[row / LENGTH]
    }
}

impl<F: Real> Capture<F> for Assemble {
    fn linear(&mut self, name: &str, input: &[F], output_gradient: &[F], rows: usize) {
        let (n_in, n_out) = (input.len() / rows, output_gradient.len() / rows);
        let bias = match name {
            "qkv" => Some("qkv.bias"),
            "gru.input" => Some("gru.input.bias"),
            "gru.hidden" => Some("gru.hidden.bias"),
            _ => None,
        };
        for row in 0..rows {
            for out in 0..n_out {
                let g = output_gradient[row * n_out + out].to_f64();
                for at in 0..n_in {
                    self.of(name, row)[out * n_in + at] += g * input[row * n_in + at].to_f64();
                }
                if let Some(bias) = bias {
                    self.of(bias, row)[out] += g;
                }
            }
        }
    }
    fn embedding(&mut self, name: &str, ids: &[u32], gradient: &[F]) {
        for (row, (&id, gradient)) in ids.iter().zip(gradient.chunks_exact(COLUMNS)).enumerate() {
            for (at, g) in gradient.iter().enumerate() {
                if id == PADDING {
                    assert!(g.to_f64().abs() < 1e-30, "padding has a gradient");
                } else {
                    self.of(name, row)[id as usize * COLUMNS + at] += g.to_f64();
                }
            }
        }
    }
    fn output_table(
        &mut self,
        name: &str,
        rows: &[u32],
        hidden: &[F],
        columns: Option<&[u32]>,
        logit_gradient: &[F],
    ) {
        let width = logit_gradient.len() / rows.len();
        let all: Vec<u32> = (0..u32::try_from(width).unwrap()).collect();
        let columns = columns.unwrap_or(&all);
        assert_eq!(columns.len(), width);
        for (at, &row) in rows.iter().enumerate() {
            for (&id, g) in columns.iter().zip(&logit_gradient[at * width..]) {
                for column in 0..COLUMNS {
                    let h = hidden[at * COLUMNS + column].to_f64();
                    let sum = self.of(name, row as usize);
                    sum[id as usize * COLUMNS + column] += g.to_f64() * h;
                }
            }
        }
    }
    fn norm(&mut self, _name: &str, normalised_input: &[F], output_gradient: &[F]) {
        for (at, (x, g)) in normalised_input.iter().zip(output_gradient).enumerate() {
            self.of("gain", at / COLUMNS)[at % COLUMNS] += x.to_f64() * g.to_f64();
            self.of("bias", at / COLUMNS)[at % COLUMNS] += g.to_f64();
        }
    }
    fn attention(&mut self, name: &str, probabilities: &[F], shape: AttentionShape) {
        let maps = probabilities.iter().map(|p| p.to_f64()).collect();
        self.maps.push((name.to_owned(), shape, maps));
    }
}

fn check_factors<F: Real>(tolerance: f64) {
    let double = parameters();
    let parameters = double.cast::<F>();
    for kind in [Kind::Full, Kind::Sampled, Kind::Binary] {
        let mut capture = Assemble::new(&double);
        let mut unused = Gradients::new(&parameters);
        let mut tape = Tape::new(&parameters, Context::attribution(&mut capture));
        let loss = forward(&mut tape, &parameters, kind, &[F::ONE; BATCH * LENGTH]);
        tape.backward(&[loss], &mut unused);
        drop(tape);
        assert!(
            unused.flat().iter().all(|&g| g == F::ZERO),
            "weight gradients were off"
        );
        for sequence in 0..BATCH {
            let weights: Vec<F> = (0..BATCH * LENGTH)
                .map(|row| {
                    if row / LENGTH == sequence {
                        F::ONE
                    } else {
                        F::ZERO
                    }
                })
                .collect();
            let alone = gradients(&parameters, kind, &weights);
            for id in parameters.ids() {
                let name = parameters.name(id);
                let error = distance(alone.get(id), &capture.sums[name][sequence]);
                assert!(
                    error < tolerance,
                    "{kind:?} `{name}` of {sequence}: {error}"
                );
            }
        }
        let (name, shape, maps) = &capture.maps[0];
        assert_eq!(name, "attention");
        let wanted = AttentionShape {
            batch: BATCH,
            heads: 2,
            queries: LENGTH,
            keys: LENGTH,
        };
        assert_eq!(*shape, wanted);
        for (row, map) in maps.chunks_exact(LENGTH).enumerate() {
            let sum: f64 = map.iter().sum();
            let (sequence, at) = (row / (2 * LENGTH), row % LENGTH);
            let padding = Batch::new().ids[sequence * LENGTH + at] == PADDING;
            assert!(
                (sum - if padding { 0.0 } else { 1.0 }).abs() < 1e-5,
                "row {row}: {sum}"
            );
            assert!(
                map[at + 1..].iter().all(|p| p.abs() < 1e-30),
                "the future is seen"
            );
        }
    }
}

#[test]
fn captured_factors_are_the_gradients_of_each_sample() {
    check_factors::<f64>(1e-10);
    check_factors::<f32>(1e-5);
}

#[test]
fn inference_has_the_losses_of_training_and_no_gradients() {
    let parameters = parameters();
    let weights = [1.0; BATCH * LENGTH];
    for kind in [Kind::Full, Kind::Sampled, Kind::Binary] {
        let mut training = Tape::new(&parameters, Context::training(None, &[]));
        let mut inference = Tape::new(&parameters, Context::inference());
        let a = forward(&mut training, &parameters, kind, &weights);
        let b = forward(&mut inference, &parameters, kind, &weights);
        assert_eq!(training.loss_rows(a), inference.loss_rows(b));
        let padded = training.loss_rows(a)[2];
        assert!(
            padded.abs() < 1e-30,
            "a row without target has loss {padded}"
        );
        assert!(training.loss_value(a) > 0.0);
    }
}

/// Sums what a table received.
struct Received(Vec<f64>);

impl Capture<f64> for Received {
    fn embedding(&mut self, name: &str, ids: &[u32], gradient: &[f64]) {
        assert_eq!((name, ids.len()), ("items", 3));
        for (&id, gradient) in ids.iter().zip(gradient.chunks_exact(COLUMNS)) {
            if id != PADDING {
                for (sum, g) in self.0[id as usize * COLUMNS..].iter_mut().zip(gradient) {
                    *sum += g;
                }
            }
        }
    }
}

/// The gradient of the table of items under sums of its rows, of which some gradient is given.
fn pass<'a>(
    parameters: &'a Parameters<f64>,
    context: Context<'a, f64>,
    matrix: &Csr,
    seed: &[f64],
) -> Vec<f64> {
    let table = parameters.id("items").unwrap();
    let mut gradients = Gradients::new(parameters);
    let mut tape = Tape::new(parameters, context);
    let sums = tape.sparse_rows(table, matrix, &[0, PADDING, 1]);
    tape.backward_from(&[], vec![(sums, seed.to_vec())], &mut gradients);
    gradients.get(table).to_vec()
}

#[test]
fn sums_of_rows_report_what_each_row_of_the_table_receives() {
    let parameters = parameters();
    let mut matrix = Csr::new(ITEMS);
    matrix.push_row([(1, 1.0), (3, 0.5), (4, 0.5)]).unwrap();
    matrix.push_row([(3, 2.0)]).unwrap();
    let seed: Vec<f64> = (0_u32..).map(f64::from).take(3 * COLUMNS).collect();
    let whole = pass(&parameters, Context::training(None, &[]), &matrix, &seed);
    let mut received = Received(vec![0.0; ITEMS * COLUMNS]);
    let context = Context::attribution(&mut received);
    pass(&parameters, context, &matrix, &seed);
    assert_eq!(received.0, whole);
    let expected = 2.0 * seed[2 * COLUMNS] + 0.5 * seed[0];
    assert!((whole[3 * COLUMNS] - expected).abs() < 1e-12);
}
