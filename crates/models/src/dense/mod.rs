//! Dense linear algebra for factor models: products, Cholesky, eigenvectors, large inverses.
//!
//! Everything here gives the same bits on every machine and for any number of threads: sums are cut
//! and ordered by their length alone, and where a multiplication and an addition are fused, the code
//! says so (`mul_add`) instead of leaving it to the compiler.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined into a kernel is compiled for the oldest machines"
)]

/// Declares functions that are compiled for several instruction sets, of which the best that this
/// machine has is taken at run time. What they compute does not depend on it.
///
/// A closure handed to `pulp` would do, if it were certain to be inlined into each version; one that is
/// not calls a function for every `mul_add`. The method of a struct can be told to be.
macro_rules! kernels {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident<$($life:lifetime),+>($($argument:ident: $type:ty),* $(,)?) -> $output:ty $body:block
    )+) => {$(
        $(#[$attribute])*
        $visibility fn $name<$($life),+>($($argument: $type),*) -> $output {
            struct Call<$($life),+> {
                $($argument: $type),*
            }
            impl<$($life),+> pulp::NullaryFnOnce for Call<$($life),+> {
                type Output = $output;

                #[inline(always)]
                fn call(self) -> $output {
                    let Self { $($argument),* } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Call { $($argument),* })
        }
    )+};
}
pub(crate) use kernels;

mod eigen;
mod gram;
mod inverse;
mod prefetch;
mod small;

pub(crate) use eigen::{Eigen, symmetric};
pub(crate) use gram::{gram, rotate};
pub(crate) use inverse::invert;
pub(crate) use prefetch::prefetch;
pub(crate) use small::{add_scaled, cholesky, dot, solve};

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
