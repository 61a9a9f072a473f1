//! Numbers in bulk: sparse matrices, dense linear algebra, named tensors and their files; and the
//! training core.
//!
//! Files are safetensors without metadata, so that equal tensors give equal bytes.
//!
//! # Training
//! [`Parameters`] are named matrices in one flat buffer. A model records a forward pass on a
//! [`Tape`] of a few large operations, each with a hand-written way back; losses make their
//! gradients at once, so that nothing of size positions x items exists; [`Tape::backward`] adds to
//! [`Gradients`], and [`AdamW`] changes the parameters in place. A [`Capture`] receives the factors
//! of each layer's gradient, for attribution.
//!
//! The same inputs give the same bits for any number of threads: work is cut into blocks that
//! depend on sizes alone, sums over blocks are added in order, dropout is a function of (seed,
//! operation, row key, column). Matrix products depend on the instruction set.
//!
//! ```
//! use seed::Seed;
//! use tensors::{Activation, AdamW, AdamWSettings, Context, Gradients, Init, Parameters, Tape};
//!
//! let mut parameters = Parameters::<f32>::new(Seed::root(20));
//! let weight = parameters.insert("out.weight", [1, 2], Init::XavierUniform);
//! let mut gradients = Gradients::new(&parameters);
//! let mut optimiser = AdamW::new(&parameters, AdamWSettings::default());
//! for _ in 0..2 {
//!     let mut tape = Tape::new(&parameters, Context::training(None, &[]));
//!     let x = tape.constant(3, 2, vec![1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
//!     let logits = tape.linear(x, weight, None, Activation::None);
//!     let loss = tape.logistic(logits, &[1.0, 0.0, 1.0], &[1.0; 3], 3.0);
//!     gradients.zero();
//!     tape.backward(&[loss], &mut gradients);
//!     drop(tape);
//!     optimiser.step(&mut parameters, &gradients, 0.001);
//! }
//! ```

#![expect(
    clippy::inline_always,
    reason = "what is not inlined into a vector loop is compiled without its instruction set"
)]

mod context;
mod csr;
pub mod dense;
pub mod hidden_layout;
mod kernels;
mod named;
mod optimiser;
mod parameters;
pub mod projected_layout;
pub mod reference;
mod require;
mod tape;
mod workspace;

pub use context::{AttentionShape, Capture, Context};
pub use csr::{Csr, CsrError, Float};
pub use kernels::{Matrix, Real, exponentiate, multiply};
pub use named::{TensorError, TensorErrorKind, Tensors};
pub use optimiser::{AdamW, AdamWSettings, Schedule, Sgd, clip_by_norm};
pub use parameters::{Gradients, Init, ParameterId, Parameters};
pub use tape::{
    Activation, Attention, CrossAttention, Loss, Mask, Negatives, PADDING, Tape, Value,
};
pub use workspace::Workspace;
