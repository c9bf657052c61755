//! What a kernel is: one panel times one group of activation rows.

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
    /// Where the sums of the first row go, as many as the panel has rows.
    pub(super) out: *mut f32,
    /// Floats from one row of `out` to the next.
    pub(super) apart: usize,
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

/// Calls `$kernel` with the number of rows, one of those named, as a constant, then stores the sums.
macro_rules! by_rows {
    ($call:expr, $kernel:ident::<$constant:ident>, $($rows:literal)*) => {{
        let call: &Call = $call;
        // SAFETY: the caller's duties are the kernel's.
        unsafe {
            match call.rows {
                $($rows => store(call, $kernel::<$constant, $rows>(call)),)*
                rows => unreachable!("a group of {rows} rows"),
            }
        }
    }};
}
pub(super) use by_rows;
