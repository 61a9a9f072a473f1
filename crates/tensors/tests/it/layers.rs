//! Linear layers, layer norm, embeddings, small operations.

use candle_core::Tensor;
use tensors::reference::{self, Oracle};
use tensors::{Activation, Csr, PADDING, Parameters, Real, Tape};

use crate::check::{Ids, Output, Program, check, draws, parameters, size};

struct Linear {
    index: u64,
    rows: usize,
    n_in: usize,
    n_out: usize,
    bias: bool,
    activation: Activation,
}

impl Program for Linear {
    fn parameters(&self) -> Parameters<f64> {
        let mut shapes = vec![
            ("x", [self.rows, self.n_in]),
            ("w", [self.n_out, self.n_in]),
        ];
        if self.bias {
            shapes.push(("b", [1, self.n_out]));
        }
        parameters(self.index, &shapes)
    }
    fn forward<F: Real>(&self, tape: &mut Tape<'_, F>, ids: &Ids) -> Output {
        let x = tape.parameter(ids.get("x"));
        let bias = self.bias.then(|| ids.get("b"));
        Output::Value(tape.linear(x, ids.get("w"), bias, self.activation))
    }
    fn oracle(&self, oracle: &Oracle) -> candle_core::Result<Tensor> {
        let bias = if self.bias {
            Some(oracle.get("b")?)
        } else {
            None
        };
        reference::linear(oracle.get("x")?, oracle.get("w")?, bias, self.activation)
    }
}

#[test]
fn linear_layers_are_the_composite() {
    let mut draws = draws("linear", 0);
    let activations = [
        Activation::None,
        Activation::Relu,
        Activation::Gelu,
        Activation::Tanh,
        Activation::Sigmoid,
    ];
    for (index, activation) in (0..).zip(activations.into_iter().cycle().take(15)) {
        let program = Linear {
            index,
            rows: if index == 3 {
                1100
            } else {
                size(&mut draws, 1, 70)
            },
            n_in: size(&mut draws, 1, 40),
            n_out: size(&mut draws, 1, 40),
            bias: index % 2 == 0,
            activation,
        };
        let name = format!("linear {activation:?} {} rows", program.rows);
        check(&program, &name);
    }
}

struct Norm {
    index: u64,
    rows: usize,
    columns: usize,
}

impl Program for Norm {
    fn parameters(&self) -> Parameters<f64> {
        let (rows, columns) = (self.rows, self.columns);
        let shapes = [
            ("x", [rows, columns]),
            ("g", [1, columns]),
            ("b", [1, columns]),
        ];
        parameters(self.index, &shapes)
    }
    fn forward<F: Real>(&self, tape: &mut Tape<'_, F>, ids: &Ids) -> Output {
        let x = tape.parameter(ids.get("x"));
        Output::Value(tape.layer_norm(x, ids.get("g"), ids.get("b"), 1e-2))
    }
    fn oracle(&self, oracle: &Oracle) -> candle_core::Result<Tensor> {
        let (x, gain, bias) = (oracle.get("x")?, oracle.get("g")?, oracle.get("b")?);
        reference::layer_norm(x, gain, bias, 1e-2)
    }
}

#[test]
fn layer_norm_is_the_composite() {
    for (index, (rows, columns)) in
        (0..).zip([(1, 1), (1, 64), (5, 3), (70, 33), (600, 17), (3, 100)])
    {
        let program = Norm {
            index,
            rows,
            columns,
        };
        check(&program, &format!("norm {rows} x {columns}"));
    }
}

struct Embedding {
    index: u64,
    items: usize,
    columns: usize,
    ids: Vec<u32>,
    positions: Option<Vec<u32>>,
}

impl Program for Embedding {
    fn parameters(&self) -> Parameters<f64> {
        let shapes = [
            ("items", [self.items, self.columns]),
            ("places", [7, self.columns]),
        ];
        parameters(self.index, &shapes)
    }
    fn forward<F: Real>(&self, tape: &mut Tape<'_, F>, ids: &Ids) -> Output {
        let items = ids.get("items");
        Output::Value(match &self.positions {
            None => tape.embedding(items, &self.ids),
            Some(at) => {
                let (places, scale) = (ids.get("places"), F::of(1.5));
                tape.embedding_with_positions(items, places, &self.ids, at, scale, 0.0, "e")
            }
        })
    }
    fn oracle(&self, oracle: &Oracle) -> candle_core::Result<Tensor> {
        let items = reference::rows(oracle.get("items")?, &self.ids)?;
        let Some(at) = &self.positions else {
            return Ok(items);
        };
        let pairs = at.iter().zip(&self.ids);
        let at: Vec<u32> = pairs
            .map(|(&at, &id)| if id == PADDING { PADDING } else { at })
            .collect();
        (items * 1.5)? + reference::rows(oracle.get("places")?, &at)?
    }
}

#[test]
fn embeddings_are_the_composite() {
    let mut draws = draws("embedding", 0);
    for index in 0..10 {
        let items = if index == 0 {
            3
        } else {
            size(&mut draws, 1, 50)
        };
        let n = if index == 1 {
            1
        } else {
            size(&mut draws, 1, 200)
        };
        let ids = (0..n)
            .map(|_| match draws.below(5) {
                _ if index == 2 => PADDING,
                0 => PADDING,
                _ => u32::try_from(draws.below(items as u64)).unwrap(),
            })
            .collect();
        let positions = (0..n)
            .map(|_| u32::try_from(draws.below(7)).unwrap())
            .collect();
        let program = Embedding {
            index,
            items,
            columns: size(&mut draws, 1, 20),
            ids,
            positions: (index % 2 == 0).then_some(positions),
        };
        check(&program, &format!("embedding {index}"));
    }
}

struct Sparse {
    index: u64,
    columns: usize,
    matrix: Csr,
    rows: Vec<u32>,
}

impl Program for Sparse {
    fn parameters(&self) -> Parameters<f64> {
        let shapes = [("table", [self.matrix.n_columns, self.columns])];
        parameters(self.index, &shapes)
    }
    fn forward<F: Real>(&self, tape: &mut Tape<'_, F>, ids: &Ids) -> Output {
        Output::Value(tape.sparse_rows(ids.get("table"), &self.matrix, &self.rows))
    }
    fn oracle(&self, oracle: &Oracle) -> candle_core::Result<Tensor> {
        let n = self.matrix.n_columns;
        let mut dense = vec![0.0; self.rows.len() * n];
        for (dense, &row) in dense.chunks_mut(n).zip(&self.rows) {
            if row != PADDING {
                let (columns, values) = self.matrix.row(row as usize);
                for (&column, &value) in columns.iter().zip(values) {
                    dense[column as usize] = f64::from(value);
                }
            }
        }
        reference::matrix(&dense, self.rows.len(), n)?.matmul(oracle.get("table")?)
    }
}

#[test]
fn sums_of_rows_are_the_product_with_a_sparse_matrix() {
    let mut draws = draws("sparse", 0);
    for index in 0..8 {
        let n = if index == 0 {
            1
        } else {
            size(&mut draws, 1, 40)
        };
        let mut matrix = Csr::new(n);
        let n_rows = size(&mut draws, 1, 30);
        for _ in 0..n_rows {
            // Some rows are empty.
            let kept = (0..u32::try_from(n).unwrap()).filter(|_| draws.below(5) == 0);
            let kept: Vec<(u32, f32)> = kept.map(|at| (at, 0.25)).collect();
            let weighted = kept.into_iter().zip(1_u16..);
            let pairs = weighted.map(|((at, x), k)| (at, x * f32::from(k)));
            matrix.push_row(pairs).unwrap();
        }
        let rows = (0..size(&mut draws, 1, 300))
            .map(|_| match draws.below(5) {
                0 => PADDING,
                _ => u32::try_from(draws.below(n_rows as u64)).unwrap(),
            })
            .collect();
        let program = Sparse {
            index,
            columns: size(&mut draws, 1, 20),
            matrix,
            rows,
        };
        check(&program, &format!("sparse {index}"));
    }
}

/// All small operations in one expression.
struct Small {
    index: u64,
    sequences: usize,
    length: usize,
    columns: usize,
    valid: Vec<bool>,
}

impl Small {
    fn rows(&self) -> Vec<u32> {
        let n = u32::try_from(self.sequences * self.length).unwrap();
        vec![0, PADDING, n - 1, 0]
    }
}

impl Program for Small {
    fn parameters(&self) -> Parameters<f64> {
        let shape = [self.sequences * self.length, self.columns];
        parameters(self.index, &[("a", shape), ("b", shape)])
    }
    fn forward<F: Real>(&self, tape: &mut Tape<'_, F>, ids: &Ids) -> Output {
        let (a, b) = (tape.parameter(ids.get("a")), tape.parameter(ids.get("b")));
        let product = tape.multiply(a, b);
        let sigmoid = tape.sigmoid(product);
        let tanh = tape.tanh(a);
        let difference = tape.subtract(sigmoid, tanh);
        let relu = tape.relu(b);
        let all = tape.concatenate(&[difference, relu, a]);
        let last = tape.last_rows(all, self.length, &self.valid);
        let mean = tape.mean_rows(all, self.length, &self.valid);
        let dot = tape.row_dot(last, mean);
        let dot = tape.scale(dot, F::of(0.5));
        let repeated = tape.repeat_rows(dot, self.length);
        let own = tape.row_dot(a, a);
        let out = tape.concatenate(&[repeated, own, all]);
        Output::Value(tape.gather_rows(out, &self.rows()))
    }
    fn oracle(&self, oracle: &Oracle) -> candle_core::Result<Tensor> {
        let (a, b) = (oracle.get("a")?, oracle.get("b")?);
        let difference = (reference::sigmoid(&(a * b)?)? - a.tanh()?)?;
        let all = Tensor::cat(&[&difference, &b.relu()?, a], 1)?;
        let n = self.valid.len();
        let (mut last, mut mean) = (vec![0.0; self.sequences * n], vec![0.0; self.sequences * n]);
        for sequence in 0..self.sequences {
            let start = sequence * self.length;
            let valid: Vec<usize> = (start..start + self.length)
                .filter(|&row| self.valid[row])
                .collect();
            for &row in &valid {
                mean[sequence * n + row] = 1.0 / valid.len() as f64;
            }
            if let Some(row) = valid.last() {
                last[sequence * n + row] = 1.0;
            }
        }
        let last = reference::matrix(&last, self.sequences, n)?.matmul(&all)?;
        let mean = reference::matrix(&mean, self.sequences, n)?.matmul(&all)?;
        let dot = ((last * mean)?.sum_keepdim(1)? * 0.5)?;
        let of_row: Vec<u32> = (0..n).map(|row| (row / self.length) as u32).collect();
        let repeated = reference::rows(&dot, &of_row)?;
        let own = (a * a)?.sum_keepdim(1)?;
        reference::rows(&Tensor::cat(&[repeated, own, all], 1)?, &self.rows())
    }
}

#[test]
fn small_operations_are_the_composite() {
    let mut draws = draws("small", 0);
    for index in 0..6 {
        let (sequences, length) = (size(&mut draws, 1, 5), size(&mut draws, 1, 6));
        let valid = (0..sequences * length)
            .map(|_| draws.below(3) > 0 && index > 0)
            .collect();
        let columns = size(&mut draws, 1, 9);
        let program = Small {
            index,
            sequences,
            length,
            columns,
            valid,
        };
        check(&program, &format!("small {index}"));
    }
}
