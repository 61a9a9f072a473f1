//! Attention, recurrence, convolution.

use candle_core::Tensor;
use seed::Sequence;
use tensors::reference::{self, Oracle};
use tensors::{Activation, Attention, CrossAttention, Mask, Parameters, Real, Tape};

use crate::check::{Ids, Output, Program, check, draws, parameters, size};

/// Marks of padding: none, before, after, anywhere, everywhere.
fn valid(draws: &mut Sequence, batch: usize, length: usize) -> Vec<bool> {
    (0..batch)
        .flat_map(|_| {
            let kind = draws.below(5);
            let cut = size(draws, 0, length);
            (0..length)
                .map(|at| match kind {
                    0 => true,
                    1 => at >= cut,
                    2 => at < cut,
                    3 => draws.below(3) > 0,
                    _ => false,
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

struct SelfAttention {
    index: u64,
    batch: usize,
    length: usize,
    heads: usize,
    width: usize,
    mask: Mask,
    valid: Vec<bool>,
}

impl Program for SelfAttention {
    fn parameters(&self) -> Parameters<f64> {
        let shape = [self.batch * self.length, 3 * self.heads * self.width];
        parameters(self.index, &[("qkv", shape)])
    }
    fn forward<F: Real>(&self, tape: &mut Tape<'_, F>, ids: &Ids) -> Output {
        let qkv = tape.parameter(ids.get("qkv"));
        let settings = Attention {
            heads: self.heads,
            length: self.length,
            mask: self.mask,
            valid: &self.valid,
            dropout: 0.0,
            name: "a",
        };
        Output::Value(tape.attention(qkv, settings))
    }
    fn oracle(&self, oracle: &Oracle) -> candle_core::Result<Tensor> {
        let qkv = oracle.get("qkv")?;
        reference::attention(qkv, self.heads, self.length, self.mask, &self.valid)
    }
}

#[test]
fn attention_is_the_composite() {
    let mut draws = draws("attention", 0);
    for index in 0..16 {
        let length = [1, 50, 16, 17][usize::try_from(index).unwrap() % 4];
        let length = if index < 8 {
            length
        } else {
            size(&mut draws, 1, 24)
        };
        let batch = if index == 1 {
            1
        } else {
            size(&mut draws, 1, 4)
        };
        let mut valid = valid(&mut draws, batch, length);
        if index == 2 {
            valid.fill(false);
        }
        let program = SelfAttention {
            index,
            batch,
            length,
            heads: size(&mut draws, 1, 3),
            width: size(&mut draws, 1, 20),
            mask: if index % 2 == 0 {
                Mask::Causal
            } else {
                Mask::Bidirectional
            },
            valid,
        };
        check(&program, &format!("attention {index} of length {length}"));
    }
}

struct Cross {
    index: u64,
    batch: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    valid: [Vec<bool>; 2],
}

impl Program for Cross {
    fn parameters(&self) -> Parameters<f64> {
        let columns = 5 * self.heads;
        let query = [self.batch * self.queries, columns];
        let key_value = [self.batch * self.keys, 2 * columns];
        parameters(self.index, &[("q", query), ("kv", key_value)])
    }
    fn forward<F: Real>(&self, tape: &mut Tape<'_, F>, ids: &Ids) -> Output {
        let (query, key_value) = (tape.parameter(ids.get("q")), tape.parameter(ids.get("kv")));
        let settings = CrossAttention {
            heads: self.heads,
            queries: self.queries,
            keys: self.keys,
            valid_queries: &self.valid[0],
            valid_keys: &self.valid[1],
            dropout: 0.0,
            name: "a",
        };
        Output::Value(tape.cross_attention(query, key_value, settings))
    }
    fn oracle(&self, oracle: &Oracle) -> candle_core::Result<Tensor> {
        let shape = [self.heads, self.queries, self.keys];
        let valid = [self.valid[0].as_slice(), &self.valid[1]];
        let (query, key_value) = (oracle.get("q")?, oracle.get("kv")?);
        reference::cross_attention(query, key_value, shape, Mask::Bidirectional, valid)
    }
}

#[test]
fn cross_attention_is_the_composite() {
    let mut draws = draws("cross", 0);
    for index in 0..8 {
        let batch = size(&mut draws, 1, 4);
        let queries = if index == 0 {
            1
        } else {
            size(&mut draws, 1, 12)
        };
        let keys = if index == 1 {
            1
        } else {
            size(&mut draws, 1, 20)
        };
        let program = Cross {
            index,
            batch,
            queries,
            keys,
            heads: size(&mut draws, 1, 2),
            valid: [
                valid(&mut draws, batch, queries),
                valid(&mut draws, batch, keys),
            ],
        };
        check(&program, &format!("cross attention {index}"));
    }
}

struct Gru {
    index: u64,
    batch: usize,
    length: usize,
    n_in: usize,
    columns: usize,
    valid: Vec<bool>,
}

impl Program for Gru {
    fn parameters(&self) -> Parameters<f64> {
        let packed = 3 * self.columns;
        let shapes = [
            ("x", [self.batch * self.length, self.n_in]),
            ("wi", [packed, self.n_in]),
            ("wh", [packed, self.columns]),
            ("bi", [1, packed]),
            ("bh", [1, packed]),
        ];
        parameters(self.index, &shapes)
    }
    fn forward<F: Real>(&self, tape: &mut Tape<'_, F>, ids: &Ids) -> Output {
        let x = tape.parameter(ids.get("x"));
        let [wi, wh, bi, bh] = ["wi", "wh", "bi", "bh"].map(|name| ids.get(name));
        Output::Value(tape.gru(x, self.length, wi, wh, bi, bh, &self.valid))
    }
    fn oracle(&self, oracle: &Oracle) -> candle_core::Result<Tensor> {
        let weights = [
            oracle.get("wi")?,
            oracle.get("wh")?,
            oracle.get("bi")?,
            oracle.get("bh")?,
        ];
        reference::gru(oracle.get("x")?, self.length, weights, &self.valid)
    }
}

#[test]
fn gru_is_the_composite() {
    let mut draws = draws("gru", 0);
    for index in 0..8 {
        let batch = if index == 7 {
            40
        } else {
            size(&mut draws, 1, 5)
        };
        let length = if index == 0 {
            1
        } else {
            size(&mut draws, 1, 8)
        };
        let program = Gru {
            index,
            batch,
            length,
            n_in: size(&mut draws, 1, 9),
            columns: size(&mut draws, 1, 9),
            valid: valid(&mut draws, batch, length),
        };
        check(&program, &format!("gru {index}"));
    }
}

struct Convolution {
    index: u64,
    batch: usize,
    length: usize,
    columns: usize,
    width: usize,
    causal: bool,
}

impl Program for Convolution {
    fn parameters(&self) -> Parameters<f64> {
        let shapes = [
            ("x", [self.batch * self.length, self.columns]),
            ("w", [4, self.width * self.columns]),
            ("b", [1, 4]),
        ];
        parameters(self.index, &shapes)
    }
    fn forward<F: Real>(&self, tape: &mut Tape<'_, F>, ids: &Ids) -> Output {
        let x = tape.parameter(ids.get("x"));
        let (w, b) = (ids.get("w"), Some(ids.get("b")));
        let (length, causal) = (self.length, self.causal);
        Output::Value(tape.convolution(x, length, w, b, self.width, causal, Activation::Tanh))
    }
    fn oracle(&self, oracle: &Oracle) -> candle_core::Result<Tensor> {
        let (x, w, b) = (oracle.get("x")?, oracle.get("w")?, oracle.get("b")?);
        reference::convolution(x, self.length, w, Some(b), self.causal, Activation::Tanh)
    }
}

#[test]
fn convolution_is_the_composite() {
    let mut draws = draws("convolution", 0);
    for index in 0..8 {
        let program = Convolution {
            index,
            batch: size(&mut draws, 1, 4),
            length: if index == 0 {
                1
            } else {
                size(&mut draws, 1, 9)
            },
            columns: size(&mut draws, 1, 6),
            width: size(&mut draws, 1, 5),
            causal: index % 2 == 0,
        };
        check(&program, &format!("convolution {index}"));
    }
}
