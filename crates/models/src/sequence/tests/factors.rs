//! Factors captured in one pass give each sample the gradient that it has alone.

use std::collections::BTreeMap;

use seed::Seed;
use tensors::{Capture, Context, Gradients, PADDING, Parameters, Real, Tape};

use super::networks::run;
use super::sequences;
use crate::TrainingData;
use crate::sequence::windows::{Span, Window, Windows};
use crate::sequence::{Batch, Network};

/// A window of its own for each sample, with that sample's term alone.
pub(super) fn one_by_one(data: &TrainingData<'_>, span: Span) -> Windows {
    let mut all = Windows::new(data, span, |_| true);
    let alone = all.terms.iter().enumerate().map(|(at, term)| {
        let sample = term.sample as usize;
        let end = data.history_end(sample);
        Window {
            sequence: data.sequence(sample),
            start: end - 1 - term.position,
            end,
            terms: at..at + 1,
        }
    });
    all.windows = alone.collect();
    all
}

/// Puts the gradient of each window together again from the factors of its rows.
struct Assembled {
    /// By parameter, then window.
    sums: BTreeMap<String, Vec<Vec<f64>>>,
    columns: BTreeMap<String, usize>,
    /// Rows of a window.
    length: usize,
    n_rows: usize,
    /// The window of each loss term.
    of_term: Vec<usize>,
    /// The bias of the table of outputs.
    output_bias: Option<String>,
}

impl Assembled {
    fn new<N: Network, F: Real>(network: &N, weights: &Parameters<F>, batch: &Batch) -> Self {
        let n_windows = batch.items.len() / batch.length;
        let (mut sums, mut columns) = (BTreeMap::new(), BTreeMap::new());
        for id in weights.ids() {
            let name = weights.name(id).to_owned();
            columns.insert(name.clone(), weights.shape(id)[1]);
            sums.insert(name, vec![vec![0.0; weights.get(id).len()]; n_windows]);
        }
        let rows = batch.terms.rows.iter();
        Self {
            sums,
            columns,
            length: batch.length,
            n_rows: batch.items.len(),
            of_term: rows.map(|row| *row as usize / batch.length).collect(),
            output_bias: network.output().bias.map(|id| weights.name(id).to_owned()),
        }
    }

    /// The window that a row belongs to: one of the batch, or one of the rows that have a loss.
    fn window(&self, row: usize, n_rows: usize) -> usize {
        if n_rows == self.n_rows {
            return row / self.length;
        }
        assert_eq!(
            n_rows,
            self.of_term.len(),
            "rows of neither batch nor terms"
        );
        self.of_term[row]
    }

    fn add(&mut self, name: &str, window: usize, at: usize, value: f64) {
        self.sums.get_mut(name).unwrap()[window][at] += value;
    }

    /// The bias beside a weight or gain, if there is one.
    fn bias_of(&self, name: &str) -> Option<String> {
        let beside = match name.rsplit_once('.') {
            Some((layer, "weight" | "gain")) => format!("{layer}.bias"),
            _ => format!("{name}_bias"),
        };
        self.sums.contains_key(&beside).then_some(beside)
    }
}

impl<F: Real> Capture<F> for Assembled {
    fn linear(&mut self, name: &str, input: &[F], output_gradient: &[F], rows: usize) {
        let (n_in, n_out) = (input.len() / rows, output_gradient.len() / rows);
        let bias = self.bias_of(name);
        for row in 0..rows {
            let window = self.window(row, rows);
            for out in 0..n_out {
                let g = output_gradient[row * n_out + out].to_f64();
                for at in 0..n_in {
                    let x = input[row * n_in + at].to_f64();
                    self.add(name, window, out * n_in + at, g * x);
                }
                if let Some(bias) = &bias {
                    self.add(bias, window, out, g);
                }
            }
        }
    }

    fn embedding(&mut self, name: &str, ids: &[u32], gradient: &[F]) {
        let columns = self.columns[name];
        for (row, (&id, gradient)) in ids.iter().zip(gradient.chunks_exact(columns)).enumerate() {
            let window = self.window(row, ids.len());
            for (at, g) in gradient.iter().enumerate().filter(|_| id != PADDING) {
                self.add(name, window, id as usize * columns + at, g.to_f64());
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
        let width = self.columns[name];
        let n = logit_gradient.len() / rows.len();
        for (at, &row) in rows.iter().enumerate() {
            let window = self.of_term[row as usize];
            for (place, g) in logit_gradient[at * n..(at + 1) * n].iter().enumerate() {
                let item = columns.map_or(place, |columns| columns[place] as usize);
                for column in 0..width {
                    let h = hidden[at * width + column].to_f64();
                    self.add(name, window, item * width + column, g.to_f64() * h);
                }
                if let Some(bias) = self.output_bias.clone() {
                    self.add(&bias, window, item, g.to_f64());
                }
            }
        }
    }

    fn norm(&mut self, name: &str, normalised_input: &[F], output_gradient: &[F]) {
        let columns = self.columns[name];
        let rows = output_gradient.len() / columns;
        let bias = self.bias_of(name).unwrap();
        for (place, (x, g)) in normalised_input.iter().zip(output_gradient).enumerate() {
            let (window, at) = (self.window(place / columns, rows), place % columns);
            self.add(name, window, at, x.to_f64() * g.to_f64());
            self.add(&bias, window, at, g.to_f64());
        }
    }
}

/// The factors of a batch of samples, each in a window of its own, give the gradients of one
/// backward pass per sample, padded to no other.
pub(crate) fn factors_are_gradients<N: Network>(network: &N, weights: &Parameters<f32>) {
    compare(network, &weights.cast::<f64>(), 1e-9);
    compare(network, weights, 1e-5);
}

fn compare<N: Network, F: Real>(network: &N, weights: &Parameters<F>, tolerance: f64) {
    let (samples, sequences) = sequences(|_| 1.0);
    let data = TrainingData::new(&samples, &sequences, network.n_items()).unwrap();
    let windows = one_by_one(&data, network.span());
    let chosen: Vec<&Window> = windows.windows.iter().collect();
    let whole = network.training_batch(&data, &windows, &chosen, Seed::root(5));
    let mut assembled = Assembled::new(network, weights, &whole);
    let mut unused = Gradients::new(weights);
    let mut tape = Tape::new(weights, Context::attribution(&mut assembled));
    let loss = network.loss(&mut tape, &whole, Seed::root(6));
    tape.backward(&[loss], &mut unused);
    drop(tape);
    // The loss of a batch is over its terms, that of a sample alone is over one.
    let n = whole.terms.rows.len() as f64;
    assert!(n > 20.0);
    for &window in &assembled.of_term {
        let single = network.training_batch(&data, &windows, &[chosen[window]], Seed::root(5));
        assert_eq!(single.terms.rows.len(), 1);
        let (_, alone) = run(network, weights, &single);
        for id in weights.ids() {
            let name = weights.name(id);
            let alone = alone.get(id);
            let top = alone
                .iter()
                .fold(1e-6, |top: f64, x| top.max(x.to_f64().abs()));
            for (a, b) in assembled.sums[name][window].iter().zip(alone) {
                let error = (a * n - b.to_f64()).abs() / top;
                assert!(error < tolerance, "`{name}` of window {window}: {error}");
            }
        }
    }
}
