//! Kernels for NEON with dot products of bytes: panels of 16 rows, up to four activation rows at once. `sdot` by element
//! multiplies four columns of four weight rows with one quad of an activation row, so nothing has to be broadcast; sums are exact.
#![expect(unsafe_code, reason = "a kernel gets its panel and its activations as pointers")]
#![cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "an instruction set is used as a whole"))]
#![expect(
    clippy::cast_ptr_alignment,
    reason = "vectors are read unaligned; numbers and scales lie in slices of u32 and f32"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "rows and quarters index several arrays at once, as in the formulas"
)]

use std::arch::aarch64::*;
use std::arch::asm;

use super::format::{BLOCK, Format, Quantised};
use super::{Call, Kernel, Tile};
use crate::simd::neon::widen;

/// Lanes of a half panel.
pub(super) const LANES: usize = 8;
const HEIGHT: usize = 2 * LANES;
/// Vectors of four rows in a panel.
const QUARTERS: usize = HEIGHT / 4;
/// Most activation rows of a group.
pub(super) const MOST_ROWS: usize = 4;

type Sums<const T: usize> = [[float32x4_t; QUARTERS]; T];

/// The kernel of a format.
pub(super) fn kernel(format: Format) -> Kernel {
    let Format::Quantised(q) = format else {
        return match format {
            Format::F16 => floats::<1>,
            Format::BF16 => floats::<2>,
            Format::F32 | Format::Quantised(_) => floats::<0>,
        };
    };
    match (q.bits, q.zero, q.minimum, q.wide, q.halves) {
        (4, 8, false, false, false) => integers::<4, 8, false, false, false>,
        (4, 0, true, false, false) => integers::<4, 0, true, false, false>,
        (4, 0, true, true, false) => integers::<4, 0, true, true, false>,
        (8, 0, false, false, false) => integers::<8, 0, false, false, false>,
        (8, 0, true, false, false) => integers::<8, 0, true, false, false>,
        (8, 0, true, true, false) => integers::<8, 0, true, true, false>,
        (8, 0, false, true, true) => integers::<8, 0, false, true, true>,
        _ => unreachable!("Format::of makes no {q:?}"),
    }
}

/// Calls `$kernel` with the number of rows as a constant, then stores the sums.
macro_rules! by_rows {
    ($call:expr, $tile:expr, $kernel:ident, $($constant:expr),*) => {{
        let call: &Call = $call;
        // SAFETY: the caller's duties are the kernel's.
        unsafe {
            match call.rows {
                1 => store($kernel::<$($constant,)* 1>(call), $tile),
                2 => store($kernel::<$($constant,)* 2>(call), $tile),
                3 => store($kernel::<$($constant,)* 3>(call), $tile),
                _ => store($kernel::<$($constant,)* 4>(call), $tile),
            }
        }
    }};
}

fn store<const T: usize>(sums: Sums<T>, tile: &mut Tile) {
    for (row, sums) in tile.iter_mut().zip(sums) {
        for (to, sum) in row.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
            // SAFETY: four floats.
            unsafe { vst1q_f32(to.as_mut_ptr(), sum) };
        }
    }
}

/// `sum + w · x[QUAD]`: each lane the product of its four bytes with the four of quad `QUAD` of `x`. `std::arch` has the
/// instruction behind a feature that is not stable only.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn dot<const QUAD: usize>(sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: an instruction of `dotprod`, on registers alone.
    unsafe {
        asm!(
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[{3}]",
            inout(vreg) sum, in(vreg) w, in(vreg) x, const QUAD,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// [`dot`] by a number that is a constant where the loop around it is unrolled.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn dot_quad(quad: usize, sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    match quad {
        0 => dot::<0>(sum, w, x),
        1 => dot::<1>(sum, w, x),
        2 => dot::<2>(sum, w, x),
        _ => dot::<3>(sum, w, x),
    }
}

/// Place `place` of a block's floats, four rows from row `4 * quarter` on.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn floats_at<const WIDE: bool>(floats: *const u8, place: usize, quarter: usize) -> float32x4_t {
    let at = place * HEIGHT + 4 * quarter;
    // SAFETY: the caller points at a block's floats, `place` is below their number.
    unsafe {
        if WIDE {
            vld1q_f32(floats.cast::<f32>().add(at))
        } else {
            widen(vld1_u16(floats.cast::<u16>().add(at)))
        }
    }
}

/// # Safety
/// As [`Kernel`], on a CPU with NEON and dot products of bytes.
unsafe fn integers<
    const BITS: usize,
    const ZERO: i32,
    const MINIMUM: bool,
    const WIDE: bool,
    const HALVES: bool,
>(
    call: &Call,
    tile: &mut Tile,
) {
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn sums<
        const BITS: usize,
        const ZERO: i32,
        const MINIMUM: bool,
        const WIDE: bool,
        const HALVES: bool,
        const T: usize,
    >(
        call: &Call,
    ) -> Sums<T> {
        let format =
            const { Quantised { bits: BITS, zero: ZERO, minimum: MINIMUM, wide: WIDE, halves: HALVES } };
        let parts = if HALVES { 2 } else { 1 };
        let mut sums = [[vdupq_n_f32(0.0); QUARTERS]; T];
        let (mut weights, mut numbers, mut scales) = (call.weights, call.numbers.cast::<i8>(), call.scales);
        for _ in 0..call.cols / BLOCK {
            // SAFETY: `call` has this block in all three arrays.
            unsafe {
                let floats = weights.add(format.number_bytes(HEIGHT));
                // Eight rows at a time: with more the sums would not fit into the registers.
                for half in 0..2 {
                    for part in 0..parts {
                        let mut dots = [[vdupq_n_s32(0); 2]; T];
                        if ZERO != 0 {
                            for t in 0..T {
                                let sum = (*scales.add(2 * T + t)).to_bits() as i32;
                                dots[t] = [vdupq_n_s32(-ZERO * sum); 2];
                            }
                        }
                        for quad in part * 8 / parts..(part + 1) * 8 / parts {
                            let w: [int8x16_t; 2] = std::array::from_fn(|q| {
                                if BITS == 4 {
                                    let at = weights.add((quad / 2 * QUARTERS + 2 * half + q) * 16);
                                    let both = vld1q_u8(at);
                                    vreinterpretq_s8_u8(if quad.is_multiple_of(2) {
                                        vandq_u8(both, vdupq_n_u8(15))
                                    } else {
                                        vshrq_n_u8::<4>(both)
                                    })
                                } else {
                                    vld1q_s8(weights.cast::<i8>().add((quad * QUARTERS + 2 * half + q) * 16))
                                }
                            });
                            for t in 0..T {
                                let x = vld1q_s8(numbers.add(t * BLOCK + quad / 4 * 16));
                                for q in 0..2 {
                                    dots[t][q] = dot_quad(quad % 4, dots[t][q], w[q], x);
                                }
                            }
                        }
                        for q in 0..2 {
                            let quarter = 2 * half + q;
                            let d = floats_at::<WIDE>(floats, part, quarter);
                            for t in 0..T {
                                let scaled = vmulq_f32(vcvtq_f32_s32(dots[t][q]), d);
                                sums[t][quarter] = vfmaq_n_f32(sums[t][quarter], scaled, *scales.add(t));
                            }
                        }
                    }
                    if MINIMUM {
                        for quarter in 2 * half..2 * half + 2 {
                            let m = floats_at::<WIDE>(floats, parts, quarter);
                            for t in 0..T {
                                sums[t][quarter] = vfmaq_n_f32(sums[t][quarter], m, *scales.add(T + t));
                            }
                        }
                    }
                }
                weights = weights.add(format.block_bytes(HEIGHT));
                numbers = numbers.add(T * BLOCK);
                scales = scales.add(3 * T);
            }
        }
        sums
    }
    by_rows!(call, tile, sums, BITS, ZERO, MINIMUM, WIDE, HALVES);
}

/// `KIND`: 0 f32, 1 f16, 2 bf16.
///
/// # Safety
/// As [`Kernel`], on a CPU with NEON; activations as floats.
unsafe fn floats<const KIND: u8>(call: &Call, tile: &mut Tile) {
    #[target_feature(enable = "neon")]
    unsafe fn sums<const KIND: u8, const T: usize>(call: &Call) -> Sums<T> {
        let mut sums = [[vdupq_n_f32(0.0); QUARTERS]; T];
        let (mut weights, mut numbers) = (call.weights, call.numbers.cast::<f32>());
        let bytes = if KIND == 0 { 4 } else { 2 };
        for _ in 0..call.cols {
            // SAFETY: `call` has this column in both arrays.
            unsafe {
                for quarter in 0..QUARTERS {
                    let at = weights.add(quarter * 4 * bytes);
                    let w = match KIND {
                        0 => vld1q_f32(at.cast()),
                        1 => widen(vld1_u16(at.cast())),
                        _ => vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(at.cast()))),
                    };
                    for t in 0..T {
                        sums[t][quarter] = vfmaq_n_f32(sums[t][quarter], w, *numbers.add(t));
                    }
                }
                weights = weights.add(HEIGHT * bytes);
                numbers = numbers.add(T);
            }
        }
        sums
    }
    by_rows!(call, tile, sums, KIND);
}
