//! The gradient with respect to attention probabilities, against what the way back made of it.

use seed::Seed;
use tensors::{Attention, AttentionShape, Capture, Context, CrossAttention, Gradients, Mask, Tape};

use crate::check::{draws, parameters, values};

const HEADS: usize = 2;
const WIDTH: usize = 3;
const COLUMNS: usize = HEADS * WIDTH;

/// What one attention reports.
#[derive(Default)]
struct Maps {
    probabilities: Vec<f64>,
    gradient: Vec<f64>,
    shapes: Vec<AttentionShape>,
}

impl Capture<f64> for Maps {
    fn attention(&mut self, name: &str, probabilities: &[f64], shape: AttentionShape) {
        assert_eq!(name, "a");
        self.probabilities = probabilities.to_vec();
        self.shapes.push(shape);
    }

    fn wants_attention_gradient(&self) -> bool {
        true
    }

    fn attention_gradient(&mut self, name: &str, gradient: &[f64], shape: AttentionShape) {
        assert_eq!(name, "a");
        self.gradient = gradient.to_vec();
        self.shapes.push(shape);
    }
}

impl Maps {
    /// Gradient of the queries: with the softmax between, dq = sum over keys of
    /// A (dA - sum A dA) k / sqrt(width).
    fn query_gradient(&self, keys: &[f64], [stride, start]: [usize; 2]) -> Vec<f64> {
        let [shape, again] = self.shapes[..] else {
            panic!("{} reports", self.shapes.len());
        };
        assert_eq!(shape, again);
        let mut all = vec![0.0; shape.batch * shape.queries * COLUMNS];
        let rows = self.probabilities.chunks_exact(shape.keys);
        for (row, (a, d)) in rows.zip(self.gradient.chunks_exact(shape.keys)).enumerate() {
            let (map, query) = (row / shape.queries, row % shape.queries);
            let (sequence, head) = (map / HEADS, map % HEADS);
            let mean: f64 = a.iter().zip(d).map(|(a, d)| a * d).sum();
            for (key, (a, d)) in a.iter().zip(d).enumerate() {
                let key = &keys[(sequence * shape.keys + key) * stride + start + head * WIDTH..];
                let to = &mut all[(sequence * shape.queries + query) * COLUMNS + head * WIDTH..];
                for (to, key) in to[..WIDTH].iter_mut().zip(key) {
                    *to += a * (d - mean) * key / (WIDTH as f64).sqrt();
                }
            }
        }
        all
    }
}

/// Some numbers of about 1 are added in another order.
fn assert_near(found: &[f64], wanted: impl Iterator<Item = f64>) {
    assert!(wanted.zip(found).all(|(a, b)| (a - b).abs() < 1e-12));
    assert!(found.iter().any(|x| x.abs() > 1e-3));
}

#[test]
fn the_gradient_of_probabilities_makes_that_of_queries() {
    for (index, mask, dropout) in [
        (0, Mask::Causal, 0.0),
        (1, Mask::Bidirectional, 0.0),
        (2, Mask::Causal, 0.4),
        (3, Mask::Bidirectional, 0.4),
    ] {
        let (batch, length) = (3, 7);
        let parameters = parameters(index, &[("qkv", [batch * length, 3 * COLUMNS])]);
        let id = parameters.id("qkv").unwrap();
        let valid: Vec<bool> = (0..batch * length).map(|row| row % 8 > 0).collect();
        let mut maps = Maps::default();
        let mut gradients = Gradients::new(&parameters);
        let keys: Vec<u64> = (0..21).collect();
        let context = Context {
            capture: Some(&mut maps),
            ..Context::training(Some(Seed::root(index)), &keys)
        };
        let mut tape = Tape::new(&parameters, context);
        let qkv = tape.parameter(id);
        let settings = Attention {
            heads: HEADS,
            length,
            mask,
            valid: &valid,
            dropout,
            name: "a",
        };
        let out = tape.attention(qkv, settings);
        let seeds = values(&mut draws("attended", index), batch * length * COLUMNS);
        tape.backward_from(&[], vec![(out, seeds)], &mut gradients);
        drop(tape);
        let found = maps.query_gradient(parameters.get(id), [3 * COLUMNS, COLUMNS]);
        let rows = gradients.get(id).chunks_exact(3 * COLUMNS);
        assert_near(&found, rows.flat_map(|row| row[..COLUMNS].iter().copied()));
        if mask == Mask::Causal {
            let later =
                (0..length).flat_map(|query| (query + 1..length).map(move |key| (query, key)));
            for (query, key) in later {
                let rows = maps
                    .gradient
                    .chunks_exact(length)
                    .skip(query)
                    .step_by(length);
                assert!(rows.into_iter().all(|row| row[key] == 0.0));
            }
        }
    }
}

#[test]
fn so_it_does_across_sequences() {
    let (batch, queries, n_keys) = (2, 4, 6);
    let shapes = [
        ("q", [batch * queries, COLUMNS]),
        ("kv", [batch * n_keys, 2 * COLUMNS]),
    ];
    let parameters = parameters(9, &shapes);
    let (q, kv) = (parameters.id("q").unwrap(), parameters.id("kv").unwrap());
    let mut maps = Maps::default();
    let mut gradients = Gradients::new(&parameters);
    let context = Context {
        capture: Some(&mut maps),
        ..Context::training(None, &[])
    };
    let mut tape = Tape::new(&parameters, context);
    let (query, key_value) = (tape.parameter(q), tape.parameter(kv));
    let settings = CrossAttention {
        heads: HEADS,
        queries,
        keys: n_keys,
        valid_queries: &[true; 8],
        valid_keys: &[true; 12],
        dropout: 0.0,
        name: "a",
    };
    let out = tape.cross_attention(query, key_value, settings);
    let seeds = values(&mut draws("attended", 9), batch * queries * COLUMNS);
    tape.backward_from(&[], vec![(out, seeds)], &mut gradients);
    drop(tape);
    let found = maps.query_gradient(parameters.get(kv), [2 * COLUMNS, 0]);
    assert_near(&found, gradients.get(q).iter().copied());
}
