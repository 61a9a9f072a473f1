//! Operations with dropout against the composite in float64 with the very mask that was drawn.
//!
//! The mask is read off the operation itself: dropout of ones is the mask, and attention over equal
//! scores with the identity as values is the mask over the number of keys that are seen.

use candle_core::{D, Tensor};
use seed::Seed;
use tensors::reference::{self, Oracle, matrix, numbers};
use tensors::{Attention, Context, Gradients, Mask, Parameters, Real, Tape, Value};

use crate::check::{cast, distance, draws, parameters, size, values};

const SHARE: f64 = 0.4;

fn seed() -> Seed {
    Seed::root(5).index(3)
}

/// Keys of rows, none of them the row's number.
fn keys(rows: usize) -> Vec<u64> {
    (0..rows as u64).map(|row| row * row + 1000).collect()
}

/// The factors, 0 or 1 / (1 - share), by which an operation of a name multiplies its rows.
fn mask(rows: usize, columns: usize, name: &str) -> Vec<f64> {
    let nothing = Parameters::<f64>::new(Seed::root(1));
    let keys = keys(rows);
    let mut tape = Tape::new(&nothing, Context::training(Some(seed()), &keys));
    let ones = tape.constant(rows, columns, vec![1.0; rows * columns]);
    let out = tape.dropout_add(ones, None, SHARE, name);
    tape.value(out).to_vec()
}

/// Values of an operation, and the gradients of their product with some weights.
fn run<F: Real>(
    parameters: &Parameters<F>,
    keys: &[u64],
    weights: &[f64],
    operation: &dyn Fn(&mut Tape<'_, F>) -> Value,
) -> (Vec<F>, Gradients<F>) {
    let mut gradients = Gradients::new(parameters);
    let mut tape = Tape::new(parameters, Context::training(Some(seed()), keys));
    let out = operation(&mut tape);
    let found = tape.value(out).to_vec();
    let weights = cast(&weights[..found.len()]);
    tape.backward_from(&[], vec![(out, weights)], &mut gradients);
    (found, gradients)
}

/// Compares one run with the composite.
fn compare<F: Real>(
    (found, gradients): &(Vec<F>, Gradients<F>),
    parameters: &Parameters<f64>,
    oracle: &Oracle,
    composite: &Tensor,
    weights: &[f64],
    tolerance: f64,
) {
    let error = distance(found, &numbers(composite).unwrap());
    assert!(error < tolerance, "values differ by {error}");
    let (rows, columns) = composite.dims2().unwrap();
    let weights = matrix(&weights[..rows * columns], rows, columns).unwrap();
    let scalar = (composite * weights).unwrap().sum_all().unwrap();
    for (name, exact) in oracle.gradients(&scalar).unwrap() {
        let error = distance(gradients.get(parameters.id(&name).unwrap()), &exact);
        assert!(error < tolerance, "gradients of `{name}` differ by {error}");
    }
}

fn beside<F: Real>(
    parameters: &Parameters<F>,
    has_residual: bool,
) -> impl Fn(&mut Tape<'_, F>) -> Value {
    let [x, r] = ["x", "r"].map(|name| parameters.id(name).unwrap());
    move |tape| {
        let x = tape.parameter(x);
        let r = has_residual.then(|| tape.parameter(r));
        tape.dropout_add(x, r, SHARE, "d")
    }
}

#[test]
fn dropout_beside_a_residual_is_the_composite_with_its_mask() {
    let mut draws = draws("dropped", 0);
    for index in 0..8 {
        let (rows, columns) = (size(&mut draws, 1, 90), size(&mut draws, 1, 150));
        let shapes = [("x", [rows, columns]), ("r", [rows, columns])];
        let double = parameters(index, &shapes);
        let weights = values(&mut draws, rows * columns);
        let keys = keys(rows);
        let oracle = Oracle::new(&double).unwrap();
        let mask = matrix(&mask(rows, columns, "d"), rows, columns).unwrap();
        let kept = (oracle.get("x").unwrap() * mask).unwrap();
        for has_residual in [false, true] {
            let composite = if has_residual {
                (&kept + oracle.get("r").unwrap()).unwrap()
            } else {
                kept.clone()
            };
            let of_double = run(&double, &keys, &weights, &beside(&double, has_residual));
            compare(&of_double, &double, &oracle, &composite, &weights, 1e-12);
            let single = double.cast::<f32>();
            let of_single = run(&single, &keys, &weights, &beside(&single, has_residual));
            compare(&of_single, &double, &oracle, &composite, &weights, 1e-5);
        }
    }
}

fn embedded<F: Real>(
    parameters: &Parameters<F>,
    ids: Vec<u32>,
    at: Vec<u32>,
) -> impl Fn(&mut Tape<'_, F>) -> Value {
    let [items, places] = ["items", "places"].map(|name| parameters.id(name).unwrap());
    move |tape| {
        let scale = F::of(1.5);
        tape.embedding_with_positions(items, places, &ids, &at, scale, SHARE, "e")
    }
}

#[test]
fn dropout_of_embeddings_is_the_composite_with_its_mask() {
    let mut draws = draws("dropped embeddings", 0);
    for index in 0..6 {
        let (rows, columns) = (size(&mut draws, 1, 120), size(&mut draws, 1, 100));
        let double = parameters(index, &[("items", [9, columns]), ("places", [7, columns])]);
        let ids: Vec<u32> = (0..rows).map(|row| (row * 4 % 9) as u32).collect();
        let at: Vec<u32> = (0..rows).map(|row| (row * 3 % 7) as u32).collect();
        let weights = values(&mut draws, rows * columns);
        let keys = keys(rows);
        let oracle = Oracle::new(&double).unwrap();
        let mask = matrix(&mask(rows, columns, "e"), rows, columns).unwrap();
        let items = reference::rows(oracle.get("items").unwrap(), &ids).unwrap();
        let places = reference::rows(oracle.get("places").unwrap(), &at).unwrap();
        let composite = (((items * 1.5).unwrap() + places).unwrap() * mask).unwrap();
        let of_double = run(
            &double,
            &keys,
            &weights,
            &embedded(&double, ids.clone(), at.clone()),
        );
        compare(&of_double, &double, &oracle, &composite, &weights, 1e-12);
        let single = double.cast::<f32>();
        let of_single = run(&single, &keys, &weights, &embedded(&single, ids, at));
        compare(&of_single, &double, &oracle, &composite, &weights, 1e-5);
    }
}

/// One attention and what it is asked to look at.
#[derive(Clone, Copy)]
struct Shape {
    batch: usize,
    length: usize,
    heads: usize,
    mask: Mask,
}

impl Shape {
    fn rows(self) -> usize {
        self.batch * self.length
    }

    /// Keys that a query sees.
    fn n_seen(self, query: usize) -> usize {
        match self.mask {
            Mask::Causal => query + 1,
            Mask::Bidirectional => self.length,
        }
    }

    fn attend<F: Real>(self, tape: &mut Tape<'_, F>, packed: Value) -> Value {
        let settings = Attention {
            heads: self.heads,
            length: self.length,
            mask: self.mask,
            valid: &vec![true; self.rows()],
            dropout: SHARE,
            name: "a",
        };
        tape.attention(packed, settings)
    }

    /// What each probability is multiplied by: [batch * length, heads * length].
    fn factors(self) -> Vec<f64> {
        let nothing = Parameters::<f64>::new(Seed::root(1));
        let columns = self.heads * self.length;
        let mut packed = vec![0.0; self.rows() * 3 * columns];
        for row in 0..self.rows() {
            for head in 0..self.heads {
                // The value of a key is a one in the column of its own number.
                let column = 2 * columns + head * self.length + row % self.length;
                packed[row * 3 * columns + column] = 1.0;
            }
        }
        let keys = keys(self.rows());
        let mut tape = Tape::new(&nothing, Context::training(Some(seed()), &keys));
        let packed = tape.constant(self.rows(), 3 * columns, packed);
        let out = self.attend(&mut tape, packed);
        let rows = tape.value(out).chunks_exact(columns).enumerate();
        rows.flat_map(|(row, out)| {
            let n = self.n_seen(row % self.length) as f64;
            out.iter().map(move |x| x * n).collect::<Vec<_>>()
        })
        .collect()
    }

    fn composite(self, qkv: &Tensor) -> candle_core::Result<Tensor> {
        let (columns, length) = (qkv.dim(1)? / 3, self.length);
        let width = columns / self.heads;
        let factors = matrix(&self.factors(), self.rows(), self.heads * length)?;
        let mut sequences = Vec::new();
        for sequence in 0..self.batch {
            let rows = qkv.narrow(0, sequence * length, length)?;
            let factors = factors.narrow(0, sequence * length, length)?;
            let mut heads = Vec::new();
            for head in 0..self.heads {
                let part = |which: usize| {
                    let start = which * columns + head * width;
                    rows.narrow(1, start, width)?.contiguous()
                };
                let (query, key, value) = (part(0)?, part(1)?, part(2)?);
                let valid = vec![true; length];
                let (_, probabilities) = reference::attention_of_head(
                    [&query, &key, &value],
                    self.mask,
                    &valid,
                    &valid,
                )?;
                let factors = factors.narrow(1, head * length, length)?.contiguous()?;
                heads.push((probabilities * factors)?.matmul(&value)?);
            }
            sequences.push(Tensor::cat(&heads, D::Minus1)?);
        }
        Tensor::cat(&sequences, 0)
    }
}

fn attended<F: Real>(
    parameters: &Parameters<F>,
    shape: Shape,
) -> impl Fn(&mut Tape<'_, F>) -> Value {
    let qkv = parameters.id("qkv").unwrap();
    move |tape| {
        let packed = tape.parameter(qkv);
        shape.attend(tape, packed)
    }
}

#[test]
fn dropout_of_attention_is_the_composite_with_its_mask() {
    let mut draws = draws("dropped attention", 0);
    for index in 0..8 {
        let shape = Shape {
            batch: size(&mut draws, 1, 3),
            length: [1, 3, 17, 70][usize::try_from(index).unwrap() % 4],
            heads: size(&mut draws, 1, 3),
            mask: if index < 4 {
                Mask::Causal
            } else {
                Mask::Bidirectional
            },
        };
        let columns = shape.heads * size(&mut draws, 1, 12);
        let double = parameters(index, &[("qkv", [shape.rows(), 3 * columns])]);
        let weights = values(&mut draws, shape.rows() * columns);
        let keys = keys(shape.rows());
        // A share of the probabilities is dropped, and what is kept is enlarged alike.
        let factors = shape.factors();
        let kept = 1.0 / (1.0 - SHARE);
        assert!(
            factors
                .iter()
                .all(|x| x.abs() < 1e-9 || (x - kept).abs() < 1e-6)
        );
        let oracle = Oracle::new(&double).unwrap();
        let composite = shape.composite(oracle.get("qkv").unwrap()).unwrap();
        let of_double = run(&double, &keys, &weights, &attended(&double, shape));
        compare(&of_double, &double, &oracle, &composite, &weights, 1e-9);
        let single = double.cast::<f32>();
        let of_single = run(&single, &keys, &weights, &attended(&single, shape));
        compare(&of_single, &double, &oracle, &composite, &weights, 1e-5);
    }
}
