//! Dense linear algebra in 64-bit floats: products, Cholesky, eigenvectors, large inverses.
//!
//! Everything here gives the same bits on every machine and for any number of threads: sums are cut
//! and ordered by their length alone, and where a multiplication and an addition are fused, the code
//! says so (`mul_add`) instead of leaving it to the compiler.

/// Declares functions that are compiled for several instruction sets, of which the best that this
/// machine has is taken at run time. What they compute does not depend on it.
///
/// A closure handed to `pulp` would do, if it were certain to be inlined into each version; one that is
/// not calls a function for every `mul_add`. The method of a struct can be told to be. Whoever uses it
/// from another crate depends on `pulp`.
#[macro_export]
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
mod eigen;
mod gram;
mod inverse;
mod prefetch;
mod product;
mod small;

pub use eigen::{Eigen, symmetric};
pub use gram::{add_gram, gram, rotate};
pub use inverse::invert;
pub use prefetch::prefetch;
pub use product::Packed;
pub use small::{add_scaled, cholesky, dot, solve};

pub use crate::kernels;

/// A 32- or 64-bit float.
pub trait Fused: Copy + Default + std::ops::AddAssign {
    /// `self * b + c`, rounded once.
    #[must_use]
    fn fused(self, b: Self, c: Self) -> Self;
}

impl Fused for f32 {
    #[inline(always)]
    fn fused(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
}

impl Fused for f64 {
    #[inline(always)]
    fn fused(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
}
