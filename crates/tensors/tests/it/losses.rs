//! Losses.

use candle_core::Tensor;
use seed::Sequence;
use tensors::reference::{self, Oracle};
use tensors::{Negatives, PADDING, Parameters, Real, Tape};

use crate::check::{Ids, Output, Program, cast, check, draws, parameters, size, values};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Full,
    Sampled { shared: bool, log_q: bool },
    Binary { shared: bool, beta: f64 },
}

struct OverTable {
    index: u64,
    kind: Kind,
    rows: usize,
    items: usize,
    columns: usize,
    bias: bool,
    targets: Vec<u32>,
    weights: Vec<f64>,
    /// As many as `n`, or for each row `n`.
    negatives: Vec<u32>,
    n: usize,
    log_q: Vec<f64>,
}

impl OverTable {
    fn new(draws: &mut Sequence, index: u64, kind: Kind) -> Self {
        let rows = match index % 4 {
            0 => 1,
            1 => size(draws, 140, 300),
            _ => size(draws, 1, 30),
        };
        let items = if index % 3 == 0 {
            3
        } else {
            size(draws, 1, 60)
        };
        let nothing = index % 7 == 6;
        let id = |draws: &mut Sequence| match draws.below(6) {
            0 => PADDING,
            _ => u32::try_from(draws.below(items as u64)).unwrap(),
        };
        let targets = (0..rows)
            .map(|_| if nothing { PADDING } else { id(draws) })
            .collect();
        let weights = values(draws, rows)
            .into_iter()
            .map(|x| if x < -0.7 { 0.0 } else { x })
            .collect();
        let n = size(draws, 1, 5);
        let shared = matches!(
            kind,
            Kind::Sampled { shared: true, .. } | Kind::Binary { shared: true, .. }
        );
        let negatives = (0..if shared { n } else { n * rows })
            .map(|_| id(draws))
            .collect();
        Self {
            index,
            kind,
            rows,
            items,
            columns: size(draws, 1, 20),
            bias: index % 2 == 0,
            targets,
            weights,
            negatives,
            n,
            log_q: values(draws, items),
        }
    }

    fn negatives_of(&self, row: usize) -> &[u32] {
        if self.negatives.len() == self.n {
            &self.negatives
        } else {
            &self.negatives[row * self.n..(row + 1) * self.n]
        }
    }
}

impl Program for OverTable {
    fn parameters(&self) -> Parameters<f64> {
        let shapes = [
            ("h", [self.rows, self.columns]),
            ("e", [self.items, self.columns]),
            ("b", [1, self.items]),
        ];
        parameters(self.index, &shapes)
    }
    fn forward<F: Real>(&self, tape: &mut Tape<'_, F>, ids: &Ids) -> Output {
        let h = tape.parameter(ids.get("h"));
        let (e, b) = (ids.get("e"), self.bias.then(|| ids.get("b")));
        let (targets, weights) = (&self.targets, cast::<F>(&self.weights));
        let negatives = if self.negatives.len() == self.n && self.shared() {
            Negatives::Shared(&self.negatives)
        } else {
            Negatives::PerRow(&self.negatives)
        };
        Output::Loss(match self.kind {
            Kind::Full => tape.softmax_cross_entropy(h, e, b, targets, &weights, 3.0),
            Kind::Sampled { log_q, .. } => {
                let q = cast::<F>(&self.log_q);
                let q = log_q.then_some(q.as_slice());
                tape.sampled_softmax(h, e, b, targets, negatives, q, &weights, 3.0)
            }
            Kind::Binary { beta, .. } => {
                let beta = F::of(beta);
                tape.binary_cross_entropy(h, e, b, targets, negatives, &weights, 3.0, beta)
            }
        })
    }
    fn oracle(&self, oracle: &Oracle) -> candle_core::Result<Tensor> {
        let bias = if self.bias {
            Some(oracle.get("b")?)
        } else {
            None
        };
        let (hidden, table) = (oracle.get("h")?, oracle.get("e")?);
        let none = tensors::Activation::None;
        let logits = reference::linear(hidden, table, bias, none)?;
        let weights: Vec<f64> = self
            .targets
            .iter()
            .zip(&self.weights)
            .map(|(&target, &weight)| if target == PADDING { 0.0 } else { weight })
            .collect();
        let safe: Vec<u32> = self
            .targets
            .iter()
            .map(|&target| if target == PADDING { 0 } else { target })
            .collect();
        let losses = match self.kind {
            Kind::Full => reference::cross_entropy(&logits, &safe)?,
            _ => {
                let rows = (0..self.rows)
                    .map(|row| self.row(&logits.narrow(0, row, 1)?, row, safe[row]))
                    .collect::<candle_core::Result<Vec<_>>>()?;
                Tensor::cat(&rows, 0)?
            }
        };
        reference::weighted(&losses, &weights, 3.0)
    }
}

impl OverTable {
    fn shared(&self) -> bool {
        matches!(
            self.kind,
            Kind::Sampled { shared: true, .. } | Kind::Binary { shared: true, .. }
        )
    }

    /// The loss of one row of all logits.
    fn row(&self, logits: &Tensor, row: usize, target: u32) -> candle_core::Result<Tensor> {
        let logits = match self.kind {
            Kind::Sampled { log_q: true, .. } => {
                (logits - reference::matrix(&self.log_q, 1, self.items)?)?
            }
            _ => logits.clone(),
        };
        let negatives = self.negatives_of(row).iter();
        let candidates: Vec<u32> = std::iter::once(target)
            .chain(
                negatives
                    .copied()
                    .filter(|&id| id != PADDING && id != target),
            )
            .collect();
        let n = candidates.len();
        let picked = reference::rows(&logits.t()?.contiguous()?, &candidates)?.t()?;
        let picked = picked.contiguous()?;
        match self.kind {
            Kind::Binary { beta, .. } => {
                let of_target = (reference::softplus(&picked.narrow(1, 0, 1)?.neg()?)? * beta)?;
                if n == 1 {
                    return Ok(of_target);
                }
                of_target + reference::softplus(&picked.narrow(1, 1, n - 1)?)?.sum_keepdim(1)?
            }
            _ => reference::cross_entropy(&picked, &[0]),
        }
    }
}

fn check_all(kind: Kind, name: &str) {
    let mut draws = draws(name, 0);
    for index in 0..10 {
        let program = OverTable::new(&mut draws, index, kind);
        check(
            &program,
            &format!("{name} {index}: {} of {}", program.rows, program.items),
        );
    }
}

#[test]
fn softmax_cross_entropy_is_the_composite() {
    check_all(Kind::Full, "softmax");
}

#[test]
fn sampled_softmax_is_the_composite() {
    for (shared, log_q) in [(true, false), (true, true), (false, true)] {
        check_all(Kind::Sampled { shared, log_q }, "sampled");
    }
}

#[test]
fn binary_cross_entropy_is_the_composite() {
    for (shared, beta) in [(true, 1.0), (false, 1.0), (false, 0.3)] {
        check_all(Kind::Binary { shared, beta }, "binary");
    }
}

/// Losses of logits that the model has made.
struct OfLogits {
    rows: usize,
    labels: Option<Vec<f64>>,
    weights: Vec<f64>,
}

impl Program for OfLogits {
    fn parameters(&self) -> Parameters<f64> {
        let mut parameters = parameters(1, &[("x", [self.rows, 1]), ("y", [self.rows, 1])]);
        // Large logits too.
        for name in ["x", "y"] {
            for x in parameters.by_name_mut(name).unwrap() {
                *x *= 32.0;
            }
        }
        parameters
    }
    fn forward<F: Real>(&self, tape: &mut Tape<'_, F>, ids: &Ids) -> Output {
        let (x, y) = (tape.parameter(ids.get("x")), tape.parameter(ids.get("y")));
        let weights = cast::<F>(&self.weights);
        Output::Loss(match &self.labels {
            Some(labels) => tape.logistic(x, &cast::<F>(labels), &weights, 2.0),
            None => tape.bayesian_personalised_ranking(x, y, &weights, 2.0),
        })
    }
    fn oracle(&self, oracle: &Oracle) -> candle_core::Result<Tensor> {
        let (x, y) = (oracle.get("x")?, oracle.get("y")?);
        let losses = match &self.labels {
            Some(labels) => {
                (reference::softplus(x)? - (x * reference::matrix(labels, self.rows, 1)?)?)?
            }
            None => reference::softplus(&(y - x)?)?,
        };
        reference::weighted(&losses, &self.weights, 2.0)
    }
}

#[test]
fn losses_of_logits_are_the_composite() {
    let mut draws = draws("logits", 0);
    for index in 0..4 {
        let rows = [1, 2, 40, 90][index];
        let mut weights = values(&mut draws, rows);
        if rows > 2 {
            weights[1] = 0.0;
        }
        let labels = values(&mut draws, rows).iter().map(|x| x.abs()).collect();
        let labels = (index % 2 == 0).then_some(labels);
        check(
            &OfLogits {
                rows,
                labels,
                weights,
            },
            &format!("logits {index}"),
        );
    }
}
