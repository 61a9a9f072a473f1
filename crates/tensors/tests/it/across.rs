//! Factors of what no small model of `factors` has: convolution, attention from one sequence to
//! another, and the bias of a table of outputs.

use std::collections::BTreeMap;

use seed::Seed;
use tensors::{
    Activation, Capture, Context, CrossAttention, Gradients, Init, Loss, Negatives, Parameters,
    Real, Tape,
};

use crate::check::distance;

const BATCH: usize = 4;
const QUERIES: usize = 3;
const KEYS: usize = 5;
const ITEMS: usize = 7;
const COLUMNS: usize = 6;
const WIDTH: usize = 3;

fn parameters() -> Parameters<f64> {
    let mut parameters = Parameters::new(Seed::root(2));
    for (name, shape) in [
        ("events", [ITEMS, COLUMNS]),
        ("attributes", [ITEMS, COLUMNS]),
        ("convolution.weight", [COLUMNS, WIDTH * COLUMNS]),
        ("convolution.bias", [1, COLUMNS]),
        ("packed.weight", [2 * COLUMNS, COLUMNS]),
        ("packed.bias", [1, 2 * COLUMNS]),
        ("state.weight", [COLUMNS, 2 * COLUMNS]),
        ("output", [ITEMS, COLUMNS]),
        ("output_bias", [1, ITEMS]),
    ] {
        parameters.insert(name, shape, Init::Normal { std: 0.5 });
    }
    parameters
}

/// Sequences `first..first + n` of the batch; each has a loss at each of its queries.
fn forward<F: Real>(
    tape: &mut Tape<'_, F>,
    parameters: &Parameters<F>,
    is_sampled: bool,
    first: usize,
    n: usize,
) -> Loss {
    let id = |name: &str| parameters.id(name).unwrap();
    let number = |row: usize, by: usize| (row * by % ITEMS) as u32;
    let queries = first * QUERIES..(first + n) * QUERIES;
    let keys = first * KEYS..(first + n) * KEYS;
    let events: Vec<u32> = queries.clone().map(|row| number(row, 3)).collect();
    let attributes: Vec<u32> = keys.clone().map(|row| number(row, 5)).collect();
    let targets: Vec<u32> = queries.clone().map(|row| number(row, 4)).collect();
    let valid_keys: Vec<bool> = keys.map(|row| row % 4 > 0).collect();
    let events = tape.embedding(id("events"), &events);
    let (weight, bias) = (id("convolution.weight"), Some(id("convolution.bias")));
    let tanh = Activation::Tanh;
    let behaviour = tape.convolution(events, QUERIES, weight, bias, WIDTH, true, tanh);
    let attributes = tape.embedding(id("attributes"), &attributes);
    let (weight, bias) = (id("packed.weight"), Some(id("packed.bias")));
    let packed = tape.linear(attributes, weight, bias, Activation::None);
    let settings = CrossAttention {
        heads: 2,
        queries: QUERIES,
        keys: KEYS,
        valid_queries: &vec![true; n * QUERIES],
        valid_keys: &valid_keys,
        dropout: 0.0,
        name: "across",
    };
    let attended = tape.cross_attention(behaviour, packed, settings);
    let both = tape.concatenate(&[behaviour, attended]);
    let state = tape.linear(both, id("state.weight"), None, Activation::Gelu);
    let (table, bias) = (id("output"), Some(id("output_bias")));
    let weights = vec![F::ONE; n * QUERIES];
    if !is_sampled {
        return tape.softmax_cross_entropy(state, table, bias, &targets, &weights, 1.0);
    }
    let negatives: Vec<u32> = queries
        .flat_map(|row| [number(row, 2), number(row + 1, 6)])
        .collect();
    let negatives = Negatives::PerRow(&negatives);
    tape.binary_cross_entropy(
        state,
        table,
        bias,
        &targets,
        negatives,
        &weights,
        1.0,
        F::ONE,
    )
}

/// Gradients by parameter, then sequence, put together from factors.
struct Assembled(BTreeMap<String, Vec<Vec<f64>>>);

impl Assembled {
    fn add(&mut self, name: &str, sequence: usize, at: usize, value: f64) {
        self.0.get_mut(name).unwrap()[sequence][at] += value;
    }
}

impl<F: Real> Capture<F> for Assembled {
    fn linear(&mut self, name: &str, input: &[F], output_gradient: &[F], rows: usize) {
        let (n_in, n_out) = (input.len() / rows, output_gradient.len() / rows);
        let bias = name.replace(".weight", ".bias");
        let has_bias = self.0.contains_key(&bias);
        for row in 0..rows {
            let sequence = row / (rows / BATCH);
            for out in 0..n_out {
                let g = output_gradient[row * n_out + out].to_f64();
                for at in 0..n_in {
                    let x = input[row * n_in + at].to_f64();
                    self.add(name, sequence, out * n_in + at, g * x);
                }
                if has_bias {
                    self.add(&bias, sequence, out, g);
                }
            }
        }
    }

    fn embedding(&mut self, name: &str, ids: &[u32], gradient: &[F]) {
        let rows = ids.len() / BATCH;
        for (row, (&id, gradient)) in ids.iter().zip(gradient.chunks_exact(COLUMNS)).enumerate() {
            for (at, g) in gradient.iter().enumerate() {
                self.add(name, row / rows, id as usize * COLUMNS + at, g.to_f64());
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
        let n = logit_gradient.len() / rows.len();
        for (at, &row) in rows.iter().enumerate() {
            let sequence = row as usize / QUERIES;
            for (place, g) in logit_gradient[at * n..(at + 1) * n].iter().enumerate() {
                let item = columns.map_or(place, |columns| columns[place] as usize);
                self.add("output_bias", sequence, item, g.to_f64());
                for column in 0..COLUMNS {
                    let h = hidden[at * COLUMNS + column].to_f64();
                    self.add(name, sequence, item * COLUMNS + column, g.to_f64() * h);
                }
            }
        }
    }
}

fn check<F: Real>(tolerance: f64) {
    let double = parameters();
    let parameters = double.cast::<F>();
    for is_sampled in [false, true] {
        let zeros = |name: &str| vec![vec![0.0; double.by_name(name).unwrap().len()]; BATCH];
        let sums = double.names().map(|name| (name.to_owned(), zeros(name)));
        let mut assembled = Assembled(sums.collect());
        let mut unused = Gradients::new(&parameters);
        let mut tape = Tape::new(&parameters, Context::attribution(&mut assembled));
        let loss = forward(&mut tape, &parameters, is_sampled, 0, BATCH);
        tape.backward(&[loss], &mut unused);
        drop(tape);
        for sequence in 0..BATCH {
            let mut alone = Gradients::new(&parameters);
            let mut tape = Tape::new(&parameters, Context::training(None, &[]));
            let loss = forward(&mut tape, &parameters, is_sampled, sequence, 1);
            tape.backward(&[loss], &mut alone);
            for id in parameters.ids() {
                let name = parameters.name(id);
                let error = distance(alone.get(id), &assembled.0[name][sequence]);
                assert!(error < tolerance, "`{name}` of {sequence}: {error}");
                assert!(alone.get(id).iter().any(|g| *g != F::ZERO), "`{name}`");
            }
        }
    }
}

#[test]
fn factors_of_convolution_cross_attention_and_output_bias_are_gradients_of_each_sample() {
    check::<f64>(1e-10);
    check::<f32>(1e-5);
}
