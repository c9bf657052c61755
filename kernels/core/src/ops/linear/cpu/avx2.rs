//! Kernels for AVX2, FMA and F16C: panels of 16 rows, up to four activation rows at once.
//!
//! 4 bit: `vpmaddubsw` of unsigned weights with signed activations, summed over a block in i16: at most
//! 8 * 2 * 15 * 127 = 30480, so exact. 8 bit: even and odd bytes of a lane widened to i16, `vpmaddwd` with i16
//! activations, summed in i32.
#![expect(unsafe_code, reason = "a kernel gets its panel and its activations as pointers")]
#![cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "an instruction set is used as a whole"))]
#![expect(
    clippy::cast_ptr_alignment,
    reason = "vectors are read unaligned; numbers and scales lie in slices of u32 and f32"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "rows and halves index several arrays at once, as in the formulas"
)]

use std::arch::asm;
use std::arch::x86_64::*;

use super::format::{BLOCK, Format, Quantised};
use super::{Call, Kernel, Tile};

/// Lanes of a half panel.
pub(super) const LANES: usize = 8;
const HEIGHT: usize = 2 * LANES;
/// Most activation rows of a group.
pub(super) const MOST_ROWS: usize = 4;

type Sums<const T: usize> = [[__m256; 2]; T];

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
        (4, 8, false, false, false) => narrow::<8, false, false>,
        (4, 0, true, false, false) => narrow::<0, true, false>,
        (4, 0, true, true, false) => narrow::<0, true, true>,
        (8, 0, false, false, false) => bytes::<false, false, false>,
        (8, 0, true, false, false) => bytes::<true, false, false>,
        (8, 0, true, true, false) => bytes::<true, true, false>,
        (8, 0, false, true, true) => bytes::<false, true, true>,
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

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn store<const T: usize>(sums: Sums<T>, tile: &mut Tile) {
    for (row, sums) in tile.iter_mut().zip(sums) {
        // SAFETY: a tile's row has room for 32 floats.
        unsafe {
            _mm256_storeu_ps(row.as_mut_ptr(), sums[0]);
            _mm256_storeu_ps(row.as_mut_ptr().add(LANES), sums[1]);
        }
    }
}

/// Keeps the sums in registers here. Without it LLVM unpacks a whole block of weights first, spills all of it, and goes
/// through it once a row: half the speed.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn pin<const T: usize>(dots: &mut [[__m256i; 2]; T]) {
    for dot in dots.as_flattened_mut() {
        // SAFETY: no instruction at all.
        unsafe { asm!("/* {0} */", inout(ymm_reg) * dot, options(nomem, nostack, preserves_flags)) };
    }
}

/// Row `2 * LANES * place` of a block's floats, as two vectors.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn floats_at<const WIDE: bool>(floats: *const u8, place: usize) -> [__m256; 2] {
    // SAFETY: the caller points at a block's floats, `place` is below their number.
    unsafe {
        if WIDE {
            let at = floats.cast::<f32>().add(place * HEIGHT);
            [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(LANES))]
        } else {
            let at = floats.cast::<__m128i>().add(place * 2);
            [_mm256_cvtph_ps(_mm_loadu_si128(at)), _mm256_cvtph_ps(_mm_loadu_si128(at.add(1)))]
        }
    }
}

/// # Safety
/// As [`Kernel`], on a CPU with AVX2, FMA and F16C.
unsafe fn narrow<const ZERO: i32, const MINIMUM: bool, const WIDE: bool>(call: &Call, tile: &mut Tile) {
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sums<const ZERO: i32, const MINIMUM: bool, const WIDE: bool, const T: usize>(
        call: &Call,
    ) -> Sums<T> {
        let format = const { Quantised { bits: 4, zero: ZERO, minimum: MINIMUM, wide: WIDE, halves: false } };
        let mask = _mm256_set1_epi8(15);
        let ones = _mm256_set1_epi16(1);
        let mut sums = [[_mm256_setzero_ps(); 2]; T];
        let (mut weights, mut numbers, mut scales) = (call.weights, call.numbers, call.scales);
        for _ in 0..call.cols / BLOCK {
            // SAFETY: `call` has this block in all three arrays.
            unsafe {
                let mut dots = [[_mm256_setzero_si256(); 2]; T];
                for i in 0..4 {
                    let w0 = _mm256_loadu_si256(weights.add(i * 64).cast());
                    let w1 = _mm256_loadu_si256(weights.add(i * 64 + 32).cast());
                    let low = [_mm256_and_si256(w0, mask), _mm256_and_si256(w1, mask)];
                    for t in 0..T {
                        let x =
                            _mm256_set1_epi32(numbers.add(t * BLOCK + i * 8).cast::<i32>().read_unaligned());
                        for h in 0..2 {
                            dots[t][h] = _mm256_add_epi16(dots[t][h], _mm256_maddubs_epi16(low[h], x));
                        }
                    }
                    pin(&mut dots);
                    let high = [
                        _mm256_and_si256(_mm256_srli_epi16::<4>(w0), mask),
                        _mm256_and_si256(_mm256_srli_epi16::<4>(w1), mask),
                    ];
                    for t in 0..T {
                        let x = _mm256_set1_epi32(
                            numbers.add(t * BLOCK + i * 8 + 4).cast::<i32>().read_unaligned(),
                        );
                        for h in 0..2 {
                            dots[t][h] = _mm256_add_epi16(dots[t][h], _mm256_maddubs_epi16(high[h], x));
                        }
                    }
                    pin(&mut dots);
                }
                let floats = weights.add(format.number_bytes(HEIGHT));
                let d = floats_at::<WIDE>(floats, 0);
                for t in 0..T {
                    let dx = _mm256_set1_ps(*scales.add(t));
                    for h in 0..2 {
                        let mut dot = _mm256_madd_epi16(dots[t][h], ones);
                        if ZERO != 0 {
                            let sum = _mm256_set1_epi32((*scales.add(2 * T + t)).to_bits() as i32);
                            dot = _mm256_sub_epi32(dot, _mm256_slli_epi32::<3>(sum)); // ZERO is 8
                        }
                        sums[t][h] =
                            _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(dot), d[h]), dx, sums[t][h]);
                    }
                }
                if MINIMUM {
                    let m = floats_at::<WIDE>(floats, 1);
                    for t in 0..T {
                        let dx_sum = _mm256_set1_ps(*scales.add(T + t));
                        for h in 0..2 {
                            sums[t][h] = _mm256_fmadd_ps(m[h], dx_sum, sums[t][h]);
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
    by_rows!(call, tile, sums, ZERO, MINIMUM, WIDE);
}

/// # Safety
/// As [`Kernel`], on a CPU with AVX2, FMA and F16C; activations as words.
unsafe fn bytes<const MINIMUM: bool, const WIDE: bool, const HALVES: bool>(call: &Call, tile: &mut Tile) {
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sums<const MINIMUM: bool, const WIDE: bool, const HALVES: bool, const T: usize>(
        call: &Call,
    ) -> Sums<T> {
        let format = const { Quantised { bits: 8, zero: 0, minimum: MINIMUM, wide: WIDE, halves: HALVES } };
        let mut sums = [[_mm256_setzero_ps(); 2]; T];
        let (mut weights, mut numbers, mut scales) = (call.weights, call.numbers.cast::<i32>(), call.scales);
        for _ in 0..call.cols / BLOCK {
            // SAFETY: `call` has this block in all three arrays.
            unsafe {
                let floats = weights.add(format.number_bytes(HEIGHT));
                let parts = if HALVES { 2 } else { 1 };
                for part in 0..parts {
                    let mut dots = [[_mm256_setzero_si256(); 2]; T];
                    for i in part * 8 / parts..(part + 1) * 8 / parts {
                        let w0 = _mm256_loadu_si256(weights.add(i * 64).cast());
                        let w1 = _mm256_loadu_si256(weights.add(i * 64 + 32).cast());
                        let even = [
                            _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(w0)),
                            _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(w1)),
                        ];
                        let odd = [_mm256_srai_epi16::<8>(w0), _mm256_srai_epi16::<8>(w1)];
                        for t in 0..T {
                            let at = numbers.add(t * BLOCK / 2 + i * 2);
                            let x = [_mm256_set1_epi32(*at), _mm256_set1_epi32(*at.add(1))];
                            for h in 0..2 {
                                dots[t][h] = _mm256_add_epi32(dots[t][h], _mm256_madd_epi16(even[h], x[0]));
                                dots[t][h] = _mm256_add_epi32(dots[t][h], _mm256_madd_epi16(odd[h], x[1]));
                            }
                        }
                        pin(&mut dots);
                    }
                    let d = floats_at::<WIDE>(floats, part);
                    for t in 0..T {
                        let dx = _mm256_set1_ps(*scales.add(t));
                        for h in 0..2 {
                            let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[t][h]), d[h]);
                            sums[t][h] = _mm256_fmadd_ps(scaled, dx, sums[t][h]);
                        }
                    }
                }
                if MINIMUM {
                    let m = floats_at::<WIDE>(floats, parts);
                    for t in 0..T {
                        let dx_sum = _mm256_set1_ps(*scales.add(T + t));
                        for h in 0..2 {
                            sums[t][h] = _mm256_fmadd_ps(m[h], dx_sum, sums[t][h]);
                        }
                    }
                }
                weights = weights.add(format.block_bytes(HEIGHT));
                numbers = numbers.add(T * BLOCK / 2);
                scales = scales.add(3 * T);
            }
        }
        sums
    }
    by_rows!(call, tile, sums, MINIMUM, WIDE, HALVES);
}

/// `KIND`: 0 f32, 1 f16, 2 bf16.
///
/// # Safety
/// As [`Kernel`], on a CPU with AVX2, FMA and F16C; activations as floats.
unsafe fn floats<const KIND: u8>(call: &Call, tile: &mut Tile) {
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sums<const KIND: u8, const T: usize>(call: &Call) -> Sums<T> {
        let mut sums = [[_mm256_setzero_ps(); 2]; T];
        let (mut weights, mut numbers) = (call.weights, call.numbers.cast::<f32>());
        let bytes = if KIND == 0 { 4 } else { 2 };
        for _ in 0..call.cols {
            // SAFETY: `call` has this column in both arrays.
            unsafe {
                let w: [__m256; 2] = std::array::from_fn(|h| {
                    let at = weights.add(h * LANES * bytes);
                    match KIND {
                        0 => _mm256_loadu_ps(at.cast()),
                        1 => _mm256_cvtph_ps(_mm_loadu_si128(at.cast())),
                        _ => {
                            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
                            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
                        }
                    }
                });
                for t in 0..T {
                    let x = _mm256_set1_ps(*numbers.add(t));
                    for h in 0..2 {
                        sums[t][h] = _mm256_fmadd_ps(w[h], x, sums[t][h]);
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
