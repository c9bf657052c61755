//! What a kernel is: one panel times one group of activation rows.
#![expect(unsafe_code, reason = "asks caches for memory")]

use super::format::PACKINGS;

/// What a kernel reads and writes.
pub(super) struct Call {
    /// A panel.
    pub(super) weights: *const u8,
    /// Of formats with super-blocks, for two rows and more: what [`super::factors`] makes of the panel. One row takes each
    /// factor once.
    pub(super) factors: *const f32,
    /// Columns; a multiple of 32 for quantised formats.
    pub(super) cols: usize,
    /// Numbers and scales of a group, in the form of the kernel.
    pub(super) numbers: *const u8,
    pub(super) scales: *const f32,
    /// Rows of the group, 1 to the kernel's most.
    pub(super) rows: usize,
    /// What is read later, of which each block asks the second-level cache for so many lines; any address.
    pub(super) ahead: *const u8,
    pub(super) lines: usize,
    /// Where the sums of the first row go, as many as the panel has rows.
    pub(super) out: *mut f32,
    /// Floats from one row of `out` to the next.
    pub(super) apart: usize,
}

/// Bytes of a line of the caches.
pub(super) const LINE: usize = 64;

/// Asks the second-level cache for `lines` lines from `at` on, which may be any address; answers what comes behind them.
#[inline(always)]
pub(super) fn ask(at: *const u8, lines: usize) -> *const u8 {
    for line in 0..lines {
        let at = at.wrapping_add(line * LINE);
        // SAFETY: a hint, which never faults; every processor of the architecture has it.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T1>(at.cast());
        }
        // SAFETY: as above; `std::arch` has it behind a feature that is not stable only.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            std::arch::asm!("prfm pldl2keep, [{0}]", in(reg) at, options(nostack, preserves_flags));
        }
    }
    at.wrapping_add(lines * LINE)
}

/// Writes the sums of one panel and one group.
///
/// # Safety
/// The CPU has the instruction set. The pointers lead to a whole panel of the kernel's format and to a whole group of its
/// form, of `cols` columns and `rows` rows; `rows` is not above the kernel's most. Nobody else reads or writes the sums.
pub(super) type Kernel = unsafe fn(&Call);

/// A kernel for each quantised format: a function over the place of its packing.
pub(super) type Kernels = [Kernel; PACKINGS.len()];

/// [`Kernels`] of a function with the place as its only parameter.
macro_rules! for_each_packing {
    ($kernel:ident) => {
        [
            $kernel::<0>,
            $kernel::<1>,
            $kernel::<2>,
            $kernel::<3>,
            $kernel::<4>,
            $kernel::<5>,
            $kernel::<6>,
            $kernel::<7>,
        ]
    };
}
pub(super) use for_each_packing;

/// Calls `$kernel` with the number of rows, one of those named, as a constant.
macro_rules! by_rows {
    ($call:expr, $kernel:ident::<$constant:ident>, $($rows:literal)*) => {{
        let call: &Call = $call;
        // SAFETY: the caller's duties are the kernel's.
        unsafe {
            match call.rows {
                $($rows => $kernel::<$constant, $rows>(call),)*
                rows => unreachable!("a group of {rows} rows"),
            }
        }
    }};
}
pub(super) use by_rows;
