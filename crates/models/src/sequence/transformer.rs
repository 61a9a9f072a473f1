//! Blocks of self-attention and a two-layer perceptron, shared by the models made of them.

use tensors::{Activation, Attention, Init, Mask, ParameterId, Parameters, Real, Tape, Value};

use super::batches::Batch;

/// Added to variances under the root.
pub(crate) const EPSILON: f64 = 1e-8;

/// Shape of a stack of blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TransformerSettings {
    /// Columns.
    pub(crate) dimensions: usize,
    pub(crate) layers: usize,
    /// A divisor of the columns.
    pub(crate) heads: usize,
    /// Columns within the perceptron.
    pub(crate) inner: usize,
    pub(crate) activation: Activation,
    pub(crate) mask: Mask,
    /// Norms after the residual sums instead of before the layers.
    pub(crate) post_norm: bool,
    /// Share dropped of what each layer adds, and of attention.
    pub(crate) dropout: f64,
}

#[derive(Clone, Copy, Debug)]
struct Norm {
    gain: ParameterId,
    bias: ParameterId,
}

#[derive(Clone, Copy, Debug)]
struct Linear {
    weight: ParameterId,
    bias: ParameterId,
}

#[derive(Clone, Debug)]
struct Block {
    packed: Linear,
    out: Linear,
    inner: Linear,
    outer: Linear,
    norms: [Norm; 2],
    /// Names of the attention and of what is dropped after it and after the perceptron.
    names: [String; 3],
}

/// A stack of blocks with the norm that it starts (post) or ends (pre) with.
#[derive(Clone, Debug)]
pub(crate) struct Transformer {
    settings: TransformerSettings,
    blocks: Vec<Block>,
    norm: Norm,
}

fn norm(parameters: &mut Parameters<f32>, name: &str, columns: usize) -> Norm {
    Norm {
        gain: parameters.insert(&format!("{name}.gain"), [1, columns], Init::Ones),
        bias: parameters.insert(&format!("{name}.bias"), [1, columns], Init::Zeros),
    }
}

fn linear(parameters: &mut Parameters<f32>, name: &str, [n_in, n_out]: [usize; 2]) -> Linear {
    let init = Init::XavierUniform;
    Linear {
        weight: parameters.insert(&format!("{name}.weight"), [n_out, n_in], init),
        bias: parameters.insert(&format!("{name}.bias"), [1, n_out], Init::Zeros),
    }
}

impl Transformer {
    /// Adds the parameters of a stack.
    pub(crate) fn new(parameters: &mut Parameters<f32>, settings: TransformerSettings) -> Self {
        let (columns, inner) = (settings.dimensions, settings.inner);
        let blocks = (0..settings.layers)
            .map(|layer| {
                let name = |part: &str| format!("block{layer}.{part}");
                Block {
                    packed: linear(parameters, &name("attention"), [columns, 3 * columns]),
                    out: linear(parameters, &name("attention_out"), [columns, columns]),
                    inner: linear(parameters, &name("inner"), [columns, inner]),
                    outer: linear(parameters, &name("outer"), [inner, columns]),
                    norms: [
                        norm(parameters, &name("norm0"), columns),
                        norm(parameters, &name("norm1"), columns),
                    ],
                    names: [name("attention"), name("drop0"), name("drop1")],
                }
            })
            .collect();
        Self {
            settings,
            blocks,
            norm: norm(parameters, "norm", columns),
        }
    }

    /// Hidden states of embedded rows: of all, or of those asked for, in their order. From the
    /// last attention on rows look at themselves alone, so others can be left out.
    pub(crate) fn forward<F: Real>(
        &self,
        tape: &mut Tape<'_, F>,
        mut x: Value,
        batch: &Batch,
        rows: Option<&[u32]>,
    ) -> Value {
        let settings = &self.settings;
        let dropout = settings.dropout;
        if settings.post_norm {
            x = tape.layer_norm(x, self.norm.gain, self.norm.bias, EPSILON);
            x = tape.dropout_add(x, None, dropout, "input");
        }
        for (at, block) in self.blocks.iter().enumerate() {
            let rows = rows.filter(|_| at + 1 == self.blocks.len());
            let [first, second] = block.norms;
            let [attention, drop0, drop1] = &block.names;
            let before = |tape: &mut Tape<'_, F>, x: Value, norm: Norm| {
                if settings.post_norm {
                    x
                } else {
                    tape.layer_norm(x, norm.gain, norm.bias, EPSILON)
                }
            };
            let after = |tape: &mut Tape<'_, F>, x: Value, norm: Norm| {
                if settings.post_norm {
                    tape.layer_norm(x, norm.gain, norm.bias, EPSILON)
                } else {
                    x
                }
            };
            let apply = |tape: &mut Tape<'_, F>, x: Value, layer: Linear, with: Activation| {
                tape.linear(x, layer.weight, Some(layer.bias), with)
            };
            let input = before(tape, x, first);
            let packed = apply(tape, input, block.packed, Activation::None);
            let seen = tape.attention(
                packed,
                Attention {
                    heads: settings.heads,
                    length: batch.length,
                    mask: settings.mask,
                    valid: &batch.valid,
                    dropout,
                    name: attention,
                },
            );
            let seen = rows.map_or(seen, |rows| tape.gather_rows(seen, rows));
            x = rows.map_or(x, |rows| tape.gather_rows(x, rows));
            let seen = apply(tape, seen, block.out, Activation::None);
            x = tape.dropout_add_at(seen, Some(x), dropout, drop0, rows);
            x = after(tape, x, first);
            let input = before(tape, x, second);
            let inner = apply(tape, input, block.inner, settings.activation);
            let outer = apply(tape, inner, block.outer, Activation::None);
            x = tape.dropout_add_at(outer, Some(x), dropout, drop1, rows);
            x = after(tape, x, second);
        }
        if settings.post_norm {
            x
        } else {
            tape.layer_norm(x, self.norm.gain, self.norm.bias, EPSILON)
        }
    }
}
