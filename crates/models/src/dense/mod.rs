//! Dense linear algebra for factor models: products, Cholesky, eigenvectors, large inverses.
//!
//! Everything here gives the same bits on every machine and for any number of threads: sums are cut
//! and ordered by their length alone, and where a multiplication and an addition are fused, the code
//! says so (`mul_add`) instead of leaving it to the compiler.

mod eigen;
mod gram;
mod inverse;
mod small;

pub(crate) use eigen::{Eigen, symmetric};
pub(crate) use gram::{gram, rotate};
pub(crate) use inverse::invert;
pub(crate) use small::{add_scaled, cholesky, dot, solve};

/// Runs a loop compiled for the instruction set of this machine. What it computes does not depend
/// on it.
#[inline(always)]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// A 32- or 64-bit float.
pub(crate) trait Real: Copy + Default + std::ops::AddAssign {
    /// `self * b + c`, rounded once.
    fn fused(self, b: Self, c: Self) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn fused(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
}

impl Real for f64 {
    #[inline(always)]
    fn fused(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
}
