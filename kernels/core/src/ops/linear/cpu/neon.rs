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

use super::activations::SCALES;
use super::format::{BLOCK, Format, PACKINGS, SUPER};
use super::kernel::{Call, Kernel, Kernels, ask, by_rows, for_each_packing};
use crate::simd::neon::widen;

/// Lanes of a half panel.
pub(super) const LANES: usize = 8;
const HEIGHT: usize = 2 * LANES;
/// Vectors of four rows in a panel.
const QUARTERS: usize = HEIGHT / 4;
/// Most activation rows of a group.
pub(super) const MOST_ROWS: usize = 4;

type Sums<const T: usize> = [[float32x4_t; QUARTERS]; T];

const KERNELS: Kernels = for_each_packing!(integers);

/// The kernel of a format.
pub(super) fn kernel(format: Format) -> Kernel {
    match format {
        Format::Quantised(at) => KERNELS[at],
        Format::F32 => floats::<0>,
        Format::F16 => floats::<1>,
        Format::BF16 => floats::<2>,
    }
}

unsafe fn store<const T: usize>(call: &Call, sums: Sums<T>) {
    for (t, sums) in sums.iter().enumerate() {
        for (quarter, &sum) in sums.iter().enumerate() {
            // SAFETY: the caller's duty; a row of the output has the sums of a panel.
            unsafe { vst1q_f32(call.out.add(t * call.apart + 4 * quarter), sum) };
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

/// Half `place` of the four rows from row `4 * quarter` on.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn halves_at(halves: *const u8, place: usize, quarter: usize) -> float32x4_t {
    // SAFETY: the caller points at halves of every row, `place` is below their number.
    unsafe { widen(vld1_u16(halves.cast::<u16>().add(place * HEIGHT + 4 * quarter))) }
}

/// As [`halves_at`], of bytes.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn bytes_at(bytes: *const u8, place: usize, quarter: usize) -> float32x4_t {
    // SAFETY: as in `halves_at`; four bytes are read.
    unsafe {
        let four = bytes.add(place * HEIGHT + 4 * quarter).cast::<u32>().read_unaligned();
        let wide = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four)));
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)))
    }
}

/// Factor `place` of a block, of the four rows from row `4 * quarter` on: from the block, where bytes are times half `of` of the
/// head, or from floats.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn factor_at<const AT: usize, const T: usize>(
    head: *const u8,
    in_block: *const u8,
    floats: *const f32,
    [place, of]: [usize; 2],
    quarter: usize,
) -> float32x4_t {
    // SAFETY: the caller points at what the packing and the number of rows have; `place` is below the number of factors.
    unsafe {
        match (const { PACKINGS[AT].by_super }, T) {
            (false, _) => halves_at(in_block, place, quarter),
            (true, 1) => vmulq_f32(bytes_at(in_block, place, quarter), halves_at(head, of, quarter)),
            (true, _) => vld1q_f32(floats.add(place * HEIGHT + 4 * quarter)),
        }
    }
}

/// Four columns of the four rows of a quarter as bytes, unsigned below eight bits: quad `quad` of a block.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn quad_at(bits: usize, block: *const u8, quad: usize, quarter: usize) -> int8x16_t {
    // SAFETY: the caller points at a block of `bits` bits; `quad` is below 8, `quarter` below 4.
    unsafe {
        let at = |i: usize| vld1q_u8(block.add((i * QUARTERS + quarter) * 16));
        vreinterpretq_s8_u8(match (bits, quad % 4) {
            (4, 0 | 2) => vandq_u8(at(quad / 2), vdupq_n_u8(15)),
            (4, _) => vshrq_n_u8::<4>(at(quad / 2)),
            (6, 3) => {
                let first = quad / 4 * 3;
                let low = vshrq_n_u8::<6>(at(first));
                let middle = vsliq_n_u8::<2>(low, vshrq_n_u8::<6>(at(first + 1)));
                vsliq_n_u8::<4>(middle, vshrq_n_u8::<6>(at(first + 2)))
            }
            (6, i) => vandq_u8(at(quad / 4 * 3 + i), vdupq_n_u8(63)),
            _ => at(quad),
        })
    }
}

/// # Safety
/// As [`Kernel`], on a CPU with NEON and dot products of bytes.
unsafe fn integers<const AT: usize>(call: &Call) {
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn sums<const AT: usize, const T: usize>(call: &Call) {
        let packing = const { PACKINGS[AT] };
        let mut sums = [[vdupq_n_f32(0.0); QUARTERS]; T];
        let (mut weights, mut numbers, mut scales) = (call.weights, call.numbers.cast::<i8>(), call.scales);
        let mut factors = call.factors;
        // SAFETY: blocks stand behind the head.
        weights = unsafe { weights.add(packing.head_bytes(HEIGHT, call.cols)) };
        let mut ahead = call.ahead;
        for block in 0..call.cols / BLOCK {
            ahead = ask(ahead, call.lines);
            // SAFETY: `call` has this block in all arrays.
            unsafe {
                let in_block = weights.add(packing.number_bytes(HEIGHT));
                let head = call.weights.add(block / (SUPER / BLOCK) * packing.half_bytes(HEIGHT));
                // Eight rows at a time: with more the sums would not fit into the registers.
                for half in 0..2 {
                    for part in 0..packing.parts() {
                        let mut dots = [[vdupq_n_s32(0); 2]; T];
                        if packing.zero != 0 {
                            let (place, times) = packing.start(part);
                            for t in 0..T {
                                let start = times * (*scales.add(place * T + t)).to_bits() as i32;
                                dots[t] = [vdupq_n_s32(start); 2];
                            }
                        }
                        let quads = 8 / packing.parts();
                        for quad in part * quads..(part + 1) * quads {
                            let w = [
                                quad_at(packing.bits, weights, quad, 2 * half),
                                quad_at(packing.bits, weights, quad, 2 * half + 1),
                            ];
                            for t in 0..T {
                                let x = vld1q_s8(numbers.add(t * BLOCK + quad / 4 * 16));
                                for q in 0..2 {
                                    dots[t][q] = dot_quad(quad % 4, dots[t][q], w[q], x);
                                }
                            }
                        }
                        for q in 0..2 {
                            let quarter = 2 * half + q;
                            let d = factor_at::<AT, T>(head, in_block, factors, [part, 0], quarter);
                            for t in 0..T {
                                let scaled = vmulq_f32(vcvtq_f32_s32(dots[t][q]), d);
                                sums[t][quarter] = vfmaq_n_f32(sums[t][quarter], scaled, *scales.add(t));
                            }
                        }
                    }
                    if packing.minimum {
                        for quarter in 2 * half..2 * half + 2 {
                            let m =
                                factor_at::<AT, T>(head, in_block, factors, [packing.parts(), 1], quarter);
                            for t in 0..T {
                                sums[t][quarter] = vfmaq_n_f32(sums[t][quarter], m, *scales.add(T + t));
                            }
                        }
                    }
                }
                weights = weights.add(packing.block_bytes(HEIGHT));
                numbers = numbers.add(T * BLOCK);
                scales = scales.add(SCALES * T);
                if packing.by_super && T > 1 {
                    factors = factors.add(packing.factors() * HEIGHT);
                }
            }
        }
        // SAFETY: the caller's duty.
        unsafe { store(call, sums) }
    }
    by_rows!(call, sums::<AT>, 1 2 3 4);
}

/// `KIND`: 0 f32, 1 f16, 2 bf16.
///
/// # Safety
/// As [`Kernel`], on a CPU with NEON; activations as floats.
unsafe fn floats<const KIND: u8>(call: &Call) {
    #[target_feature(enable = "neon")]
    unsafe fn sums<const KIND: u8, const T: usize>(call: &Call) {
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
        // SAFETY: the caller's duty.
        unsafe { store(call, sums) }
    }
    by_rows!(call, sums::<KIND>, 1 2 3 4);
}
