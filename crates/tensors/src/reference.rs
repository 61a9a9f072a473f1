//! The composite forward in float64, with an autograd that is not ours: the oracle of tests.
//!
//! Each function is the definition written out in small operations of `candle`, slow and plain.
//! Tests of fused operations, and of the models built from them, compare values and gradients
//! with it. Nothing here is used outside tests.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Result, Tensor, Var};

use crate::{Activation, Mask, PADDING, Parameters};

/// Parameters as variables of `candle`.
#[derive(Debug)]
pub struct Oracle {
    variables: BTreeMap<String, Var>,
}

impl Oracle {
    /// The same parameters, in shapes [rows, columns].
    ///
    /// # Errors
    /// If `candle` fails.
    pub fn new(parameters: &Parameters<f64>) -> Result<Self> {
        let variables = parameters
            .ids()
            .map(|id| {
                let [rows, columns] = parameters.shape(id);
                let values = parameters.get(id).to_vec();
                let values = Tensor::from_vec(values, (rows, columns), &Device::Cpu)?;
                Ok((parameters.name(id).to_owned(), Var::from_tensor(&values)?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { variables })
    }

    /// A parameter.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.variables
            .get(name)
            .map(|variable| variable.as_tensor())
            .ok_or_else(|| candle_core::Error::Msg(format!("no parameter `{name}`")))
    }

    /// Gradients of a scalar, by name; zeros for parameters that it does not depend on.
    ///
    /// # Errors
    /// If `candle` fails.
    pub fn gradients(&self, scalar: &Tensor) -> Result<BTreeMap<String, Vec<f64>>> {
        let store: GradStore = scalar.backward()?;
        let read = |variable: &Var| match store.get(variable.as_tensor()) {
            Some(gradient) => numbers(gradient),
            None => Ok(vec![0.0; variable.elem_count()]),
        };
        self.variables
            .iter()
            .map(|(name, variable)| Ok((name.clone(), read(variable)?)))
            .collect()
    }
}

/// A matrix of given numbers.
///
/// # Errors
/// If there are not as many.
pub fn matrix(values: &[f64], rows: usize, columns: usize) -> Result<Tensor> {
    Tensor::from_vec(values.to_vec(), (rows, columns), &Device::Cpu)
}

/// All numbers, row after row.
///
/// # Errors
/// If `candle` fails.
pub fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
}

/// 1 / (1 + e^-x).
///
/// # Errors
/// If `candle` fails.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

/// An activation.
///
/// # Errors
/// If `candle` fails.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::None => Ok(x.clone()),
        Activation::Relu => x.relu(),
        // `gelu_erf` has a derivative that is right to six digits.
        Activation::Gelu => (x * 0.5)? * ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?,
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
    }
}

/// A linear layer: x [rows, in], weight [out, in], bias [1, out].
///
/// # Errors
/// If shapes do not fit.
pub fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    let product = x.matmul(&weight.t()?)?;
    let sum = match bias {
        Some(bias) => product.broadcast_add(bias)?,
        None => product,
    };
    activate(&sum, activation)
}

/// A layer norm by row.
///
/// # Errors
/// If shapes do not fit.
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred
        .broadcast_div(&(variance + epsilon)?.sqrt()?)?
        .broadcast_mul(gain)?
        .broadcast_add(bias)
}

/// Rows of a table; [`PADDING`] gives zeros.
///
/// # Errors
/// If an id is not in the table.
pub fn rows(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let kept: Vec<f64> = ids
        .iter()
        .map(|&id| if id == PADDING { 0.0 } else { 1.0 })
        .collect();
    let safe: Vec<u32> = ids
        .iter()
        .map(|&id| if id == PADDING { 0 } else { id })
        .collect();
    let safe = Tensor::from_vec(safe, ids.len(), &Device::Cpu)?;
    table
        .index_select(&safe, 0)?
        .broadcast_mul(&matrix(&kept, ids.len(), 1)?)
}

/// Attention of one sequence and one head: query [queries, width], key and value [keys, width].
/// Also the probabilities.
///
/// # Errors
/// If shapes do not fit.
pub fn attention_of_head(
    [query, key, value]: [&Tensor; 3],
    mask: Mask,
    valid_queries: &[bool],
    valid_keys: &[bool],
) -> Result<(Tensor, Tensor)> {
    let (queries, width) = query.dims2()?;
    let keys = valid_keys.len();
    let scores = (query.matmul(&key.t()?)? / libm::sqrt(width as f64))?;
    // A row that sees nothing sees everything, and is then set to zero.
    let seen =
        |at: usize, key: usize| valid_keys[key] && (mask == Mask::Bidirectional || key <= at);
    let mut hidden = vec![0.0; queries * keys];
    let mut kept = vec![0.0; queries];
    for at in 0..queries {
        let any = (0..keys).any(|key| seen(at, key));
        kept[at] = if any && valid_queries[at] { 1.0 } else { 0.0 };
        for key in 0..keys {
            if any && !seen(at, key) {
                hidden[at * keys + key] = -1e9;
            }
        }
    }
    let scores = (scores + matrix(&hidden, queries, keys)?)?;
    let powers = scores
        .broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?
        .exp()?;
    let probabilities = powers
        .broadcast_div(&powers.sum_keepdim(D::Minus1)?)?
        .broadcast_mul(&matrix(&kept, queries, 1)?)?;
    Ok((probabilities.matmul(value)?, probabilities))
}

/// Self-attention over sequences of `length` rows of `qkv` [batch * length, 3 * columns].
///
/// # Errors
/// If shapes do not fit.
pub fn attention(
    qkv: &Tensor,
    heads: usize,
    length: usize,
    mask: Mask,
    valid: &[bool],
) -> Result<Tensor> {
    let columns = qkv.dim(1)? / 3;
    let query = qkv.narrow(1, 0, columns)?;
    let key_value = qkv.narrow(1, columns, 2 * columns)?;
    let shape = [heads, length, length];
    cross_attention(&query, &key_value, shape, mask, [valid, valid])
}

/// Attention from [batch * queries, columns] to [batch * keys, 2 * columns]; `shape` is heads,
/// queries, keys.
///
/// # Errors
/// If shapes do not fit.
pub fn cross_attention(
    query: &Tensor,
    key_value: &Tensor,
    [heads, queries, keys]: [usize; 3],
    mask: Mask,
    [valid_queries, valid_keys]: [&[bool]; 2],
) -> Result<Tensor> {
    let columns = query.dim(1)?;
    let width = columns / heads;
    let batch = query.dim(0)? / queries;
    let of_sequence = |sequence: usize| {
        let query = query.narrow(0, sequence * queries, queries)?;
        let key_value = key_value.narrow(0, sequence * keys, keys)?;
        let of_head = |head: usize| {
            let query = query.narrow(1, head * width, width)?.contiguous()?;
            let key = key_value.narrow(1, head * width, width)?.contiguous()?;
            let value = key_value
                .narrow(1, columns + head * width, width)?
                .contiguous()?;
            let valid_queries = &valid_queries[sequence * queries..(sequence + 1) * queries];
            let valid_keys = &valid_keys[sequence * keys..(sequence + 1) * keys];
            Ok(attention_of_head([&query, &key, &value], mask, valid_queries, valid_keys)?.0)
        };
        let heads = (0..heads).map(of_head).collect::<Result<Vec<_>>>()?;
        Tensor::cat(&heads, 1)
    };
    let sequences = (0..batch).map(of_sequence).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&sequences, 0)
}

/// States of a GRU over sequences of `length` rows; gates in the order r, z, n.
///
/// # Errors
/// If shapes do not fit.
pub fn gru(
    x: &Tensor,
    length: usize,
    [w_input, w_hidden, b_input, b_hidden]: [&Tensor; 4],
    valid: &[bool],
) -> Result<Tensor> {
    let columns = w_hidden.dim(1)?;
    let batch = x.dim(0)? / length;
    let gates = linear(x, w_input, Some(b_input), Activation::None)?;
    let mut states = Vec::new();
    for sequence in 0..batch {
        let mut state = Tensor::zeros((1, columns), DType::F64, &Device::Cpu)?;
        for step in 0..length {
            let row = sequence * length + step;
            if valid[row] {
                let input = gates.narrow(0, row, 1)?;
                let hidden = linear(&state, w_hidden, Some(b_hidden), Activation::None)?;
                let gate = |of: &Tensor, which: usize| of.narrow(1, which * columns, columns);
                let reset = sigmoid(&(gate(&input, 0)? + gate(&hidden, 0)?)?)?;
                let update = sigmoid(&(gate(&input, 1)? + gate(&hidden, 1)?)?)?;
                let new = (gate(&input, 2)? + (reset * gate(&hidden, 2)?)?)?.tanh()?;
                state = (((1.0 - &update)? * new)? + (update * state)?)?;
            }
            states.push(state.clone());
        }
    }
    Tensor::cat(&states, 0)
}

/// Convolution along sequences of `length` rows; weight [out, width * in].
///
/// # Errors
/// If shapes do not fit.
pub fn convolution(
    x: &Tensor,
    length: usize,
    weight: &Tensor,
    bias: Option<&Tensor>,
    causal: bool,
    activation: Activation,
) -> Result<Tensor> {
    let (n_rows, columns) = x.dims2()?;
    let width = weight.dim(1)? / columns;
    let before = if causal { width - 1 } else { (width - 1) / 2 };
    let taps = (0..width)
        .map(|tap| {
            let ids: Vec<u32> = (0..n_rows)
                .map(|row| {
                    let at = (row % length + tap).wrapping_sub(before);
                    let id = u32::try_from(row - row % length + at.min(length));
                    if at < length {
                        id.unwrap_or(PADDING)
                    } else {
                        PADDING
                    }
                })
                .collect();
            rows(x, &ids)
        })
        .collect::<Result<Vec<_>>>()?;
    linear(&Tensor::cat(&taps, 1)?, weight, bias, activation)
}

/// Cross-entropy of each row of logits [rows, n] with a target column, [rows, 1].
///
/// # Errors
/// If shapes do not fit.
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let top = logits.max_keepdim(D::Minus1)?.detach();
    let sums = logits.broadcast_sub(&top)?.exp()?.sum_keepdim(D::Minus1)?;
    let targets = Tensor::from_vec(targets.to_vec(), (targets.len(), 1), &Device::Cpu)?;
    (sums.log()? + top)? - logits.gather(&targets, 1)?
}

/// log(1 + e^x), without overflow.
///
/// # Errors
/// If `candle` fails.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}

/// Sum of weight x loss over rows [rows, 1], over the divisor.
///
/// # Errors
/// If there are not as many weights.
pub fn weighted(losses: &Tensor, weights: &[f64], divisor: f64) -> Result<Tensor> {
    (losses * matrix(weights, weights.len(), 1)?)?.sum_all()? / divisor
}
