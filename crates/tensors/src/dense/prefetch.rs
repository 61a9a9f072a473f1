//! Asking for memory before it is needed.

/// Numbers of a cache line.
const LINE: usize = 16;

/// Asks for `n` numbers from `start` on, so that they are near when they are read. It changes no
/// result; on other machines than x86-64, and beyond the slice, it does nothing that could be seen.
#[inline(always)]
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the instruction has no other name")
)]
pub fn prefetch(numbers: &[f32], start: usize, n: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (start..start + n).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = numbers.as_ptr().wrapping_add(line);
        // SAFETY: it reads nothing: an address that does not exist is ignored.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(address.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (numbers, start, n, LINE);
}
