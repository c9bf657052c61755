//! Kernels for AVX-512 VNNI: panels of 32 rows, up to six activation rows at once. `vpdpbusd` multiplies unsigned weights
//! with signed activations; what an unsigned weight is too large by (8 or 128) times the sum of the activations is the
//! start of the sum, so it costs nothing. Never the saturating form: sums must be exact.
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

use std::arch::x86_64::*;

use super::format::{BLOCK, Format, Quantised};
use super::{Call, Kernel, Tile};

/// Lanes of a half panel.
pub(super) const LANES: usize = 16;
const HEIGHT: usize = 2 * LANES;
/// Most activation rows of a group.
pub(super) const MOST_ROWS: usize = 6;
/// What 8-bit weights are moved by to be unsigned.
pub(super) const BIAS: u8 = 0x80;

type Sums<const T: usize> = [[__m512; 2]; T];

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
        (8, 0, false, false, false) => integers::<8, 128, false, false, false>,
        (8, 0, true, false, false) => integers::<8, 128, true, false, false>,
        (8, 0, true, true, false) => integers::<8, 128, true, true, false>,
        (8, 0, false, true, true) => integers::<8, 128, false, true, true>,
        _ => unreachable!("Format::of makes no {q:?}"),
    }
}

macro_rules! by_rows {
    ($call:expr, $tile:expr, $kernel:ident, $($constant:expr),*) => {{
        let call: &Call = $call;
        // SAFETY: the caller's duties are the kernel's.
        unsafe {
            match call.rows {
                1 => store($kernel::<$($constant,)* 1>(call), $tile),
                2 => store($kernel::<$($constant,)* 2>(call), $tile),
                3 => store($kernel::<$($constant,)* 3>(call), $tile),
                4 => store($kernel::<$($constant,)* 4>(call), $tile),
                5 => store($kernel::<$($constant,)* 5>(call), $tile),
                _ => store($kernel::<$($constant,)* 6>(call), $tile),
            }
        }
    }};
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
fn store<const T: usize>(sums: Sums<T>, tile: &mut Tile) {
    for (row, sums) in tile.iter_mut().zip(sums) {
        // SAFETY: a tile's row has room for 32 floats.
        unsafe {
            _mm512_storeu_ps(row.as_mut_ptr(), sums[0]);
            _mm512_storeu_ps(row.as_mut_ptr().add(LANES), sums[1]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn floats_at<const WIDE: bool>(floats: *const u8, place: usize) -> [__m512; 2] {
    // SAFETY: the caller points at a block's floats, `place` is below their number.
    unsafe {
        if WIDE {
            let at = floats.cast::<f32>().add(place * HEIGHT);
            [_mm512_loadu_ps(at), _mm512_loadu_ps(at.add(LANES))]
        } else {
            let at = floats.cast::<__m256i>().add(place * 2);
            [_mm512_cvtph_ps(_mm256_loadu_si256(at)), _mm512_cvtph_ps(_mm256_loadu_si256(at.add(1)))]
        }
    }
}

/// # Safety
/// As [`Kernel`], on a CPU with AVX-512 F, BW, DQ, VL and VNNI.
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
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
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
            const { Quantised { bits: BITS, zero: 0, minimum: MINIMUM, wide: WIDE, halves: HALVES } };
        let mask = _mm512_set1_epi8(15);
        let mut sums = [[_mm512_setzero_ps(); 2]; T];
        let (mut weights, mut numbers, mut scales) = (call.weights, call.numbers, call.scales);
        for _ in 0..call.cols / BLOCK {
            // SAFETY: `call` has this block in all three arrays.
            unsafe {
                let floats = weights.add(format.number_bytes(HEIGHT));
                let parts = if HALVES { 2 } else { 1 };
                for part in 0..parts {
                    let mut dots = [[_mm512_setzero_si512(); 2]; T];
                    if ZERO != 0 && !HALVES {
                        for t in 0..T {
                            let sum = (*scales.add(2 * T + t)).to_bits() as i32;
                            dots[t] = [_mm512_set1_epi32(-ZERO * sum); 2];
                        }
                    }
                    for quad in part * 8 / parts..(part + 1) * 8 / parts {
                        let at = if BITS == 4 { quad / 2 } else { quad };
                        let w: [__m512i; 2] = std::array::from_fn(|h| {
                            let w = _mm512_loadu_si512(weights.add(at * 128 + h * 64).cast());
                            match (BITS, quad % 2) {
                                (4, 0) => _mm512_and_si512(w, mask),
                                (4, _) => _mm512_and_si512(_mm512_srli_epi16::<4>(w), mask),
                                _ => w,
                            }
                        });
                        for t in 0..T {
                            let x = numbers.add(t * BLOCK + quad * 4).cast::<i32>().read_unaligned();
                            let x = _mm512_set1_epi32(x);
                            for h in 0..2 {
                                dots[t][h] = _mm512_dpbusd_epi32(dots[t][h], w[h], x);
                            }
                        }
                    }
                    if HALVES {
                        // No sum of half a block is stored: take it from the numbers.
                        let zero = _mm512_set1_epi8(ZERO as u8 as i8);
                        for t in 0..T {
                            let mut over = _mm512_setzero_si512();
                            for quad in part * 4..part * 4 + 4 {
                                let x = numbers.add(t * BLOCK + quad * 4).cast::<i32>().read_unaligned();
                                over = _mm512_dpbusd_epi32(over, zero, _mm512_set1_epi32(x));
                            }
                            for h in 0..2 {
                                dots[t][h] = _mm512_sub_epi32(dots[t][h], over);
                            }
                        }
                    }
                    let d = floats_at::<WIDE>(floats, part);
                    for t in 0..T {
                        let dx = _mm512_set1_ps(*scales.add(t));
                        for h in 0..2 {
                            let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[t][h]), d[h]);
                            sums[t][h] = _mm512_fmadd_ps(scaled, dx, sums[t][h]);
                        }
                    }
                }
                if MINIMUM {
                    let m = floats_at::<WIDE>(floats, parts);
                    for t in 0..T {
                        let dx_sum = _mm512_set1_ps(*scales.add(T + t));
                        for h in 0..2 {
                            sums[t][h] = _mm512_fmadd_ps(m[h], dx_sum, sums[t][h]);
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
/// As [`Kernel`], on a CPU with AVX-512 F, BW, DQ, VL; activations as floats.
unsafe fn floats<const KIND: u8>(call: &Call, tile: &mut Tile) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
    unsafe fn sums<const KIND: u8, const T: usize>(call: &Call) -> Sums<T> {
        let mut sums = [[_mm512_setzero_ps(); 2]; T];
        let (mut weights, mut numbers) = (call.weights, call.numbers.cast::<f32>());
        let bytes = if KIND == 0 { 4 } else { 2 };
        for _ in 0..call.cols {
            // SAFETY: `call` has this column in both arrays.
            unsafe {
                let w: [__m512; 2] = std::array::from_fn(|h| {
                    let at = weights.add(h * LANES * bytes);
                    match KIND {
                        0 => _mm512_loadu_ps(at.cast()),
                        1 => _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())),
                        _ => {
                            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
                            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
                        }
                    }
                });
                for t in 0..T {
                    let x = _mm512_set1_ps(*numbers.add(t));
                    for h in 0..2 {
                        sums[t][h] = _mm512_fmadd_ps(w[h], x, sums[t][h]);
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
