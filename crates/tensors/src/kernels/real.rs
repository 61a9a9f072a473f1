//! The two types of number that training runs in, and their elementary functions.
//!
//! Training runs in `f32`; `f64` exists so that every derivative can be checked to many digits.
//! The elementary functions are polynomials of our own: they have no branches, so that loops over
//! them become vector code, and they give the same bits on every machine, which the system's
//! library does not.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use crate::{TensorError, Tensors};

/// `f32` or `f64`.
pub trait Real:
    Copy
    + Send
    + Sync
    + Default
    + Debug
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
    + sealed::Sealed
    + 'static
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// The lowest finite number: the score of what is masked.
    const LOWEST: Self;

    /// The nearest number of this type.
    fn of(x: f64) -> Self;
    /// The same number in double precision.
    fn to_f64(self) -> f64;
    /// `self * a + b`, rounded once.
    #[must_use]
    fn fma(self, a: Self, b: Self) -> Self;
    /// The larger of the two; `other` if `self` is not a number.
    #[must_use]
    fn larger(self, other: Self) -> Self;
    /// The smaller of the two; `other` if `self` is not a number.
    #[must_use]
    fn smaller(self, other: Self) -> Self;
    /// |self|.
    #[must_use]
    fn magnitude(self) -> Self;
    /// The square root.
    #[must_use]
    fn root(self) -> Self;
    /// e to the power of `self`, within two units in the last place; 0 far below zero.
    #[must_use]
    fn exponential(self) -> Self;
    /// The natural logarithm of 1 + `self`.
    #[must_use]
    fn log_one_plus(self) -> Self;
    /// The natural logarithm.
    #[must_use]
    fn logarithm(self) -> Self;
    /// The hyperbolic tangent.
    #[must_use]
    fn hyperbolic_tangent(self) -> Self;
    /// The error function.
    #[must_use]
    fn error_function(self) -> Self;
    /// 1 / (1 + e^-self).
    #[must_use]
    #[inline(always)]
    fn logistic(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exponential())
    }
    /// log(1 + e^self), without overflow.
    #[must_use]
    #[inline(always)]
    fn softplus(self) -> Self {
        self.larger(Self::ZERO) + (-self.magnitude()).exponential().log_one_plus()
    }

    /// Adds a tensor of this type to a container.
    ///
    /// # Errors
    /// If the name is taken or a number is not finite.
    fn insert(
        tensors: &mut Tensors,
        name: &str,
        shape: &[usize],
        values: Vec<Self>,
    ) -> Result<(), TensorError>;
    /// A tensor of this type from a container.
    ///
    /// # Errors
    /// If it is missing or of another type.
    fn read<'a>(tensors: &'a Tensors, name: &str) -> Result<&'a [Self], TensorError>;
}

mod sealed {
    /// Nobody else can implement [`super::Real`].
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// Horner's rule with fused multiply-adds, highest coefficient first.
macro_rules! polynomial {
    ($x:expr, $first:expr $(, $next:expr)*) => {{
        let mut sum = $first;
        $(sum = sum.mul_add($x, $next);)*
        sum
    }};
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = f32::MIN;

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
    fn of(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        self.mul_add(a, b)
    }
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        if self < other { self } else { other }
    }
    #[inline(always)]
    fn magnitude(self) -> Self {
        self.abs()
    }
    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn exponential(self) -> Self {
        // x = n ln 2 + r with |r| <= ln 2 / 2. Adding and taking away 1.5 * 2^23 rounds to an
        // integer whose bits lie in the low end of the sum.
        const ROUND: f32 = 12_582_912.0;
        let x = self.smaller(88.0).larger(-87.0);
        let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        // ln 2 in two parts, the first with zeros at its end: n times it is exact.
        let r = n.mul_add(-0.693_359_4, x);
        let r = n.mul_add(2.121_944_4e-4, r);
        let tail = polynomial!(
            r,
            1.987_569_2e-4_f32,
            1.398_2e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_5e-1,
            0.5
        );
        let near_one = tail.mul_add(r * r, r) + 1.0;
        let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
        let result = near_one * power;
        if self < -87.0 { 0.0 } else { result }
    }
    #[inline(always)]
    fn log_one_plus(self) -> Self {
        // With u = 1 + x rounded, log(1 + x) = log(u) + (x - (u - 1)) / u to first order.
        let u = 1.0 + self;
        u.logarithm() + (self - (u - 1.0)) / u
    }
    #[inline(always)]
    fn logarithm(self) -> Self {
        // x = 2^n m with m in [sqrt(1/2), sqrt(2)), after Cephes' logf.
        let bits = self.to_bits().wrapping_add(0x3f80_0000 - 0x3f35_04f3);
        let n = f32::from_bits((bits >> 23) | 0x4b00_0000) - (8_388_608.0 + 127.0);
        let m = f32::from_bits((bits & 0x007f_ffff) + 0x3f35_04f3) - 1.0;
        let z = m * m;
        let tail = polynomial!(
            m,
            7.037_683_6e-2_f32,
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            3.333_333e-1
        );
        let y = (tail * m).mul_add(z, n * -2.121_944_4e-4);
        let y = z.mul_add(-0.5, y) + m;
        n.mul_add(0.693_359_4, y)
    }
    #[inline(always)]
    fn hyperbolic_tangent(self) -> Self {
        // A polynomial near zero, where the quotient would cancel; after Cephes' tanhf.
        let x = self.magnitude();
        let z = self * self;
        let small = polynomial!(
            z,
            -5.704_988_6e-3_f32,
            2.063_909e-2,
            -5.373_971_2e-2,
            1.333_144_2e-1,
            -3.333_328e-1
        );
        let small = (small * z).mul_add(self, self);
        let large = 1.0 - 2.0 / ((x + x).exponential() + 1.0);
        let large = if self < 0.0 { -large } else { large };
        if x < 0.625 { small } else { large }
    }
    #[inline(always)]
    fn error_function(self) -> Self {
        // Abramowitz and Stegun 7.1.26, absolute error 1.5e-7; a Taylor series near zero.
        let x = self.magnitude();
        let t = 1.0 / x.mul_add(0.327_591_1, 1.0);
        let tail = polynomial!(
            t,
            1.061_405_4_f32,
            -1.453_152,
            1.421_413_7,
            -0.284_496_74,
            0.254_829_6
        );
        let large = 1.0 - tail * t * (-x * x).exponential();
        let large = if self < 0.0 { -large } else { large };
        let z = self * self;
        let small = polynomial!(
            z,
            -8.548_327e-4_f32,
            5.223_977_6e-3,
            -2.686_617_1e-2,
            1.128_379_2e-1,
            -3.761_264e-1,
            1.128_379_2
        ) * self;
        if x < 0.6 { small } else { large }
    }
    fn insert(
        tensors: &mut Tensors,
        name: &str,
        shape: &[usize],
        values: Vec<Self>,
    ) -> Result<(), TensorError> {
        tensors.insert_f32(name, shape, values)
    }
    fn read<'a>(tensors: &'a Tensors, name: &str) -> Result<&'a [Self], TensorError> {
        tensors.f32(name)
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = f64::MIN;

    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        self.mul_add(a, b)
    }
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        if self < other { self } else { other }
    }
    #[inline(always)]
    fn magnitude(self) -> Self {
        self.abs()
    }
    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }
    #[inline]
    fn exponential(self) -> Self {
        libm::exp(self)
    }
    #[inline]
    fn log_one_plus(self) -> Self {
        libm::log1p(self)
    }
    #[inline]
    fn logarithm(self) -> Self {
        libm::log(self)
    }
    #[inline]
    fn hyperbolic_tangent(self) -> Self {
        libm::tanh(self)
    }
    #[inline]
    fn error_function(self) -> Self {
        libm::erf(self)
    }
    fn insert(
        tensors: &mut Tensors,
        name: &str,
        shape: &[usize],
        values: Vec<Self>,
    ) -> Result<(), TensorError> {
        tensors.insert_f64(name, shape, values)
    }
    fn read<'a>(tensors: &'a Tensors, name: &str) -> Result<&'a [Self], TensorError> {
        tensors.f64(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error of an `f32` function against `f64`, relative where the value is large.
    fn worst(low: f64, high: f64, ours: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
        (0..=20_000)
            .map(|step| f32::of(low + (high - low) * f64::from(step) / 20_000.0))
            .map(|x| {
                let exact = exact(f64::from(x));
                (f64::from(ours(x)) - exact).abs() / exact.abs().max(1e-30)
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn single_precision_functions_are_right_to_the_last_digits() {
        let error = worst(-80.0, 80.0, f32::exponential, libm::exp);
        assert!(error < 2e-7, "exp {error}");
        let error = worst(1e-6, 50.0, f32::logarithm, libm::log);
        assert!(error < 1e-6, "log {error}");
        let error = worst(1e-7, 1.0, f32::log_one_plus, libm::log1p);
        assert!(error < 5e-7, "log1p {error}");
        let error = worst(-9.0, 9.0, f32::hyperbolic_tangent, libm::tanh);
        assert!(error < 5e-7, "tanh {error}");
        let error = worst(-4.0, 4.0, f32::error_function, libm::erf);
        assert!(error < 1e-6, "erf {error}");
    }

    #[test]
    fn far_arguments_saturate() {
        assert!(f32::LOWEST.exponential().abs() < 1e-37);
        assert!((-200.0_f32).exponential().abs() < 1e-37);
        assert!(200.0_f32.exponential().is_finite());
        assert!((100.0_f32.logistic() - 1.0).abs() < 1e-7);
        assert!((-60.0_f32).logistic() > 0.0);
        assert!((50.0_f32.softplus() - 50.0).abs() < 1e-5);
    }
}
