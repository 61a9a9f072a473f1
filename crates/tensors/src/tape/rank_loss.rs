//! A smooth ranking utility over all rows of a table: what gradients are measured against, not what
//! models are trained on, so it is plain rather than fast.

use super::softmax_loss::active_rows;
use super::{Loss, Tape, Value};
use crate::kernels::{Matrix, multiply, ranges};
use crate::require::require;
use crate::{ParameterId, Real};

/// Rows whose logits exist at once.
const CHUNK: usize = 64;

impl<F: Real> Tape<'_, F> {
    /// One minus the approximate gain of a target among all rows of a table: for hidden
    /// [rows, columns], table [items, columns] and bias [1, items], logits `z = h e' + b` and a
    /// target t, `rank = 1 + sum over i != t of sigmoid((z_i - z_t) / temperature)` and the loss is
    /// `1 - 1 / log2(1 + rank)` (`ApproxNDCG`: Qin, Liu, Li 2010, "A general approximation framework
    /// for direct optimization of information retrieval measures", for one relevant item). As the
    /// temperature falls the rank becomes the true one, ties in the middle. Unlike the cross-entropy
    /// it does not ask how sure the model is of what it ranks first.
    ///
    /// The whole is `sum(weight * loss) / divisor`; rows with target [`super::PADDING`] or weight 0
    /// cost nothing. Factors of gradients are handed to a listener as those of the cross-entropy
    /// are.
    #[expect(
        clippy::too_many_arguments,
        reason = "those of the cross-entropy, and one"
    )]
    pub fn approximate_ndcg(
        &mut self,
        hidden: Value,
        table: ParameterId,
        bias: Option<ParameterId>,
        targets: &[u32],
        weights: &[F],
        divisor: f64,
        temperature: f64,
    ) -> Loss {
        let [n_rows, columns] = self.shape(hidden);
        let [items, _] = self.parameters.shape(table);
        self.require_targets(table, n_rows, columns, targets, weights);
        require(temperature > 0.0, || {
            format!("a temperature of {temperature}")
        });
        let rows = active_rows(targets, weights);
        let backward = self.context.backward;
        let to_weights = backward && self.context.weight_gradients;
        let mut losses = self.workspace.take(rows.len());
        let mut to_hidden = self.workspace.take(rows.len() * columns);
        let mut to_table = self
            .workspace
            .zeros(if to_weights { items * columns } else { 0 });
        let mut to_bias = self.workspace.zeros(if to_weights { items } else { 0 });
        let names = self.output_names(table, bias);
        let parameters = self.parameters;
        let (entries, bias_values) = (parameters.get(table), bias.map(|bias| parameters.get(bias)));
        let mut logits = vec![F::ZERO; CHUNK * items];
        let mut inputs = vec![F::ZERO; CHUNK * columns];
        for chunk in ranges(rows.len(), rows.len().div_ceil(CHUNK)) {
            let n = chunk.len();
            let (logits, inputs) = (&mut logits[..n * items], &mut inputs[..n * columns]);
            for (input, &row) in inputs
                .chunks_exact_mut(columns.max(1))
                .zip(&rows[chunk.clone()])
            {
                let from = row as usize * columns;
                input.copy_from_slice(&self.nodes[hidden.0].value[from..from + columns]);
            }
            let hidden_rows = Matrix::new(&*inputs, n, columns);
            let all = Matrix::new(entries, items, columns);
            multiply(hidden_rows, all.transposed(), logits, items, false, F::ONE);
            for ((logits, loss), &row) in logits
                .chunks_exact_mut(items)
                .zip(&mut losses[chunk.clone()])
                .zip(&rows[chunk.clone()])
            {
                for (x, &b) in logits.iter_mut().zip(bias_values.unwrap_or_default()) {
                    *x += b;
                }
                let target = targets[row as usize] as usize;
                let weight = weights[row as usize].to_f64() / divisor;
                let (found, gradient) = gain(logits, target, temperature);
                *loss = F::of(1.0 - found);
                for (x, g) in logits.iter_mut().zip(gradient) {
                    *x = F::of(-weight * g);
                }
            }
            let gradient = Matrix::new(&*logits, n, items);
            let of_chunk = &mut to_hidden[chunk.start * columns..chunk.end * columns];
            multiply(gradient, all, of_chunk, columns, false, F::ONE);
            if to_weights {
                multiply(
                    gradient.transposed(),
                    hidden_rows,
                    &mut to_table,
                    columns,
                    true,
                    F::ONE,
                );
                for row in logits.chunks_exact(items) {
                    for (sum, &g) in to_bias.iter_mut().zip(row) {
                        *sum += g;
                    }
                }
            }
            if let Some(capture) = self.context.listener() {
                let [table_name, bias_name] = names;
                if let Some(name) = table_name {
                    capture.output_table(name, &rows[chunk.clone()], inputs, None, logits);
                }
                if let Some(name) = bias_name {
                    capture.output_bias(name, &rows[chunk.clone()], None, logits);
                }
            }
        }
        let loss = self.push_losses(&rows, losses, weights, divisor);
        self.give_hidden(loss, hidden, &rows, to_hidden);
        if to_weights {
            self.losses[loss.0].to_parameters.push((table, to_table));
            if let Some(bias) = bias {
                self.losses[loss.0].to_parameters.push((bias, to_bias));
            }
        }
        loss
    }
}

/// `1 / log2(1 + rank)` of a target, and its derivatives by all logits.
fn gain<F: Real>(logits: &[F], target: usize, temperature: f64) -> (f64, Vec<f64>) {
    let of_target = logits[target].to_f64();
    let above: Vec<f64> = logits
        .iter()
        .map(|x| logistic((x.to_f64() - of_target) / temperature))
        .collect();
    // The target stands above itself by a half.
    let rank = 1.0 + above.iter().sum::<f64>() - above[target];
    let log = libm::log(1.0 + rank);
    let by_rank = -std::f64::consts::LN_2 / ((1.0 + rank) * log * log);
    let mut gradient: Vec<f64> = above
        .iter()
        .map(|share| by_rank * share * (1.0 - share) / temperature)
        .collect();
    gradient[target] = 0.0;
    gradient[target] = -gradient.iter().sum::<f64>();
    (std::f64::consts::LN_2 / log, gradient)
}

/// `1 / (1 + e^-x)` without overflow.
fn logistic(x: f64) -> f64 {
    let small = libm::exp(-x.abs());
    if x < 0.0 {
        small / (1.0 + small)
    } else {
        1.0 / (1.0 + small)
    }
}

#[cfg(test)]
mod tests {
    use seed::Seed;

    use super::*;
    use crate::{Context, Gradients, Init, PADDING, Parameters};

    fn parameters() -> (Parameters<f64>, [ParameterId; 3]) {
        let mut parameters = Parameters::<f64>::new(Seed::root(3));
        let hidden = parameters.insert("hidden", [6, 4], Init::Normal { std: 1.0 });
        let table = parameters.insert("table", [9, 4], Init::Normal { std: 1.0 });
        let bias = parameters.insert("bias", [1, 9], Init::Normal { std: 0.5 });
        (parameters, [hidden, table, bias])
    }

    const TARGETS: [u32; 5] = [3, 0, PADDING, 8, 3];
    const WEIGHTS: [f64; 5] = [1.0, 0.5, 1.0, 0.0, 2.0];

    fn loss(
        parameters: &Parameters<f64>,
        [hidden, table, bias]: [ParameterId; 3],
        temperature: f64,
        sum: Option<&mut Gradients<f64>>,
    ) -> f64 {
        let mut tape = Tape::new(parameters, Context::training(None, &[]));
        let rows = tape.embedding(hidden, &[0, 1, 2, 3, 5]);
        let loss = tape.approximate_ndcg(
            rows,
            table,
            Some(bias),
            &TARGETS,
            &WEIGHTS,
            2.0,
            temperature,
        );
        let value = tape.loss_value(loss);
        if let Some(sum) = sum {
            tape.backward(&[loss], sum);
        }
        value
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (mut parameters, ids) = parameters();
        let mut sum = Gradients::new(&parameters);
        loss(&parameters, ids, 0.7, Some(&mut sum));
        // Central differences: an error of the order of the square of the step.
        let step = 1e-5;
        for id in ids {
            for at in 0..parameters.get(id).len() {
                let before = parameters.get(id)[at];
                parameters.get_mut(id)[at] = before + step;
                let up = loss(&parameters, ids, 0.7, None);
                parameters.get_mut(id)[at] = before - step;
                let down = loss(&parameters, ids, 0.7, None);
                parameters.get_mut(id)[at] = before;
                let expected = (up - down) / (2.0 * step);
                let found = sum.get(id)[at];
                assert!((found - expected).abs() < 1e-8, "{found} {expected}");
            }
        }
    }

    #[test]
    fn a_cold_target_has_its_true_gain() {
        let logits = [0.3_f64, -1.0, 2.0, 0.9, 0.9];
        for (target, rank) in [(2, 1.0), (3, 2.5), (0, 4.0), (1, 5.0)] {
            let (found, _) = gain(&logits, target, 1e-4);
            let expected = 1.0 / libm::log2(1.0 + rank);
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
    }

    #[test]
    fn it_does_not_ask_how_sure_the_model_is() {
        // Far from each other, twice as far changes nothing.
        let logits = [30.0_f64, -60.0, 90.0, 0.0];
        let doubled = logits.map(|x| 2.0 * x);
        for target in 0..4 {
            let (one, gradient) = gain(&logits, target, 1.0);
            let (two, _) = gain(&doubled, target, 1.0);
            assert!((one - two).abs() < 1e-9);
            assert!(gradient.iter().all(|g| g.abs() < 1e-9));
        }
    }
}
