//! How one pass is run, and who listens to it.

use seed::Seed;

/// How one forward pass is run.
pub struct Context<'a, F> {
    /// Where dropout is drawn from; `None`: no dropout. Holds the epoch already.
    pub dropout: Option<Seed>,
    /// One key per row of a batch, [batch * length]. What is dropped in a row is a function of
    /// (seed, name of the operation, key of the row, column), never of the batch or of threads.
    /// A row without a key (further rows, such as those of a cross attention) has its index.
    pub row_keys: &'a [u64],
    /// Whether `backward` will be called. If not, losses have no gradients and nothing is kept.
    pub backward: bool,
    /// Whether gradients of parameters are computed; without, only captured factors are.
    pub weight_gradients: bool,
    /// What rows of embeddings and sums of such rows are multiplied with: 1 as a rule, from 0 to 1 on
    /// the way from no input to the whole input. Captured gradients of embeddings are then those by
    /// the scaled rows; gradients of parameters are not to be asked for.
    pub input_scale: f64,
    /// Who receives factors and attention maps.
    pub capture: Option<&'a mut dyn Capture<F>>,
}

impl<'a, F> Context<'a, F> {
    /// Training: dropout as given, gradients of all parameters.
    pub fn training(dropout: Option<Seed>, row_keys: &'a [u64]) -> Self {
        Self {
            dropout,
            row_keys,
            backward: true,
            weight_gradients: true,
            input_scale: 1.0,
            capture: None,
        }
    }

    /// Values only.
    pub fn inference() -> Self {
        Self {
            dropout: None,
            row_keys: &[],
            backward: false,
            weight_gradients: false,
            input_scale: 1.0,
            capture: None,
        }
    }

    /// Attribution: no dropout, no gradients of parameters, their factors to `capture`.
    pub fn attribution(capture: &'a mut dyn Capture<F>) -> Self {
        Self {
            dropout: None,
            row_keys: &[],
            backward: true,
            weight_gradients: false,
            input_scale: 1.0,
            capture: Some(capture),
        }
    }

    /// The same with inputs multiplied by a number; without gradients of parameters.
    #[must_use]
    pub fn with_inputs_scaled(self, input_scale: f64) -> Self {
        Self {
            input_scale,
            weight_gradients: false,
            ..self
        }
    }
}

impl<F> Context<'_, F> {
    /// Who listens, for a while.
    pub(crate) fn listener(&mut self) -> Option<&mut dyn Capture<F>> {
        match &mut self.capture {
            Some(capture) => Some(&mut **capture),
            None => None,
        }
    }
}

/// The shape of attention probabilities: [batch, heads, queries, keys].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Sequences.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Query positions of a sequence.
    pub queries: usize,
    /// Key positions of a sequence.
    pub keys: usize,
}

/// Receives factors of parameter gradients during `backward` (of output tables: during forward)
/// and attention maps during forward. A layer's gradient is a sum over rows of products of its
/// factors, so the gradient of each sample can be had from the rows that belong to it.
///
/// A parameter that is used several times is reported several times.
#[expect(unused_variables, reason = "the names are the documentation")]
pub trait Capture<F> {
    /// A linear layer `y = x W' + b`, by the name of its weight: input [rows, in] and gradient of
    /// the sum before the activation [rows, out]. The gradient of W is `output_gradient' input`,
    /// of b the sum of the rows of `output_gradient`.
    fn linear(&mut self, name: &str, input: &[F], output_gradient: &[F], rows: usize) {}

    /// A bias [1, out] that is added to each row: its gradient is the sum of the rows of
    /// `output_gradient` [rows, out].
    fn bias(&mut self, name: &str, output_gradient: &[F], rows: usize) {}

    /// Rows `ids` of a table received the rows of `gradient` [ids, columns]. Padding is `u32::MAX`
    /// with a gradient of zero.
    fn embedding(&mut self, name: &str, ids: &[u32], gradient: &[F]) {}

    /// A chunk of a loss over a table of outputs: hidden rows [n, columns], which rows of the
    /// batch they are, and the gradient of their logits [n, `columns` or all of the table].
    /// Chunks are such that positions x items never exists at once.
    fn output_table(
        &mut self,
        name: &str,
        rows: &[u32],
        hidden: &[F],
        columns: Option<&[u32]>,
        logit_gradient: &[F],
    ) {
    }

    /// The bias of a table of outputs, [1, items]: the gradient of the logits of a chunk of rows, as
    /// for [`Capture::output_table`].
    fn output_bias(
        &mut self,
        name: &str,
        rows: &[u32],
        columns: Option<&[u32]>,
        logit_gradient: &[F],
    ) {
    }

    /// A layer norm, by the name of its gain: the gradient of the gain is the sum over rows of the
    /// product of both, [rows, columns]. Its bias is reported as one.
    fn norm(&mut self, name: &str, normalised_input: &[F], output_gradient: &[F]) {}

    /// Attention probabilities before dropout, [batch, heads, queries, keys].
    fn attention(&mut self, name: &str, probabilities: &[F], shape: AttentionShape) {}

    /// Whether [`Capture::attention_gradient`] is wanted: it costs one more product of matrices.
    fn wants_attention_gradient(&self) -> bool {
        false
    }

    /// The gradient with respect to attention probabilities before dropout, of the shape that
    /// [`Capture::attention`] was given: the last attention of a network comes first. 0 where a
    /// causal attention sees nothing.
    fn attention_gradient(&mut self, name: &str, gradient: &[F], shape: AttentionShape) {}
}
