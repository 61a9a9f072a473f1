//! Losses of single logits: labels, and pairs.

use super::{Loss, Tape, Value};
use crate::Real;
use crate::kernels::vectorised;
use crate::require::require;

impl<F: Real> Tape<'_, F> {
    /// Binary cross-entropy of logits [rows, 1] with labels in [0, 1]:
    /// `log(1 + e^x) - label * x`.
    pub fn logistic(&mut self, logits: Value, labels: &[F], weights: &[F], divisor: f64) -> Loss {
        let [rows, columns] = self.shape(logits);
        require(
            columns == 1 && labels.len() == rows && weights.len() == rows,
            || format!("{} labels for logits {rows} x {columns}", labels.len()),
        );
        let mut losses = self.workspace.copy(&self.nodes[logits.0].value);
        let mut gradient = self.workspace.copy(&losses);
        let share = F::of(1.0 / divisor);
        vectorised(
            #[inline(always)]
            || {
                for (x, &label) in losses.iter_mut().zip(labels) {
                    *x = x.softplus() - label * *x;
                }
                for ((g, &label), &weight) in gradient.iter_mut().zip(labels).zip(weights) {
                    *g = (g.logistic() - label) * weight * share;
                }
            },
        );
        silence(&mut losses, &mut gradient, weights);
        let loss = self.push_loss(losses, weights, divisor);
        self.losses[loss.0].to_values.push((logits, gradient));
        loss
    }

    /// Bayesian personalised ranking (Rendle et al. 2009): `log(1 + e^(negative - positive))` of
    /// logits [rows, 1].
    pub fn bayesian_personalised_ranking(
        &mut self,
        positive: Value,
        negative: Value,
        weights: &[F],
        divisor: f64,
    ) -> Loss {
        let [rows, columns] = self.shape(positive);
        require(
            columns == 1 && self.shape(negative) == [rows, 1] && weights.len() == rows,
            || format!("pairs of logits {rows} x {columns}"),
        );
        let mut losses = self.workspace.copy(&self.nodes[negative.0].value);
        let share = F::of(1.0 / divisor);
        for (x, &positive) in losses.iter_mut().zip(&self.nodes[positive.0].value) {
            *x -= positive;
        }
        let mut up = self.workspace.copy(&losses);
        vectorised(
            #[inline(always)]
            || {
                losses.iter_mut().for_each(|x| *x = x.softplus());
                for (g, &weight) in up.iter_mut().zip(weights) {
                    *g = g.logistic() * weight * share;
                }
            },
        );
        silence(&mut losses, &mut up, weights);
        let mut down = self.workspace.copy(&up);
        down.iter_mut().for_each(|g| *g = -*g);
        let loss = self.push_loss(losses, weights, divisor);
        let to_values = &mut self.losses[loss.0].to_values;
        to_values.push((negative, up));
        to_values.push((positive, down));
        loss
    }
}

/// Rows with weight 0 give nothing, whatever they hold.
fn silence<F: Real>(losses: &mut [F], gradient: &mut [F], weights: &[F]) {
    for ((loss, g), &weight) in losses.iter_mut().zip(gradient).zip(weights) {
        if weight == F::ZERO {
            *loss = F::ZERO;
            *g = F::ZERO;
        }
    }
}
