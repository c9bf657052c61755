//! Kernels for AVX2, FMA and F16C: panels of 16 rows, up to four activation rows at once.
//!
//! 4 and 6 bit: `vpmaddubsw` of unsigned weights with signed activations, summed in i16 as far as that is exact: a block of 4
//! bits has at most 8 * 2 * 15 * 127 = 30480, two quads of 6 bits at most 2 * 2 * 63 * 127 = 32004. 8 bit: even and odd bytes
//! of a lane widened to i16, `vpmaddwd` with i16 activations, summed in i32.
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
use std::ops::Range;

use super::activations::SCALES;
use super::format::{BLOCK, Format, PACKINGS, SUPER};
use super::kernel::{Call, Kernel, Kernels, ask, by_rows, for_each_packing};

/// Lanes of a half panel.
pub(super) const LANES: usize = 8;
const HEIGHT: usize = 2 * LANES;
/// Most activation rows of a group.
pub(super) const MOST_ROWS: usize = 4;
/// Bytes by which one row asks ahead of where it reads: 11 to 21 % faster than the processor's own guesses, for each type; at a page
/// and a half 8 to 17 % (two threads, measured on Zen 3).
pub(super) const NEAR: usize = 1024;

type Sums<const T: usize> = [[__m256; 2]; T];

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

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn store<const T: usize>(call: &Call, sums: Sums<T>) {
    for (t, sums) in sums.iter().enumerate() {
        // SAFETY: the caller's duty; a row of the output has the sums of a panel.
        unsafe {
            let out = call.out.add(t * call.apart);
            _mm256_storeu_ps(out, sums[0]);
            _mm256_storeu_ps(out.add(LANES), sums[1]);
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

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn halves_at(halves: *const u8, place: usize) -> [__m256; 2] {
    // SAFETY: the caller points at halves of every row, `place` is below their number.
    unsafe {
        let at = halves.cast::<__m128i>().add(place * 2);
        [_mm256_cvtph_ps(_mm_loadu_si128(at)), _mm256_cvtph_ps(_mm_loadu_si128(at.add(1)))]
    }
}

/// Bytes of every row times `of`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn bytes_at(bytes: *const u8, place: usize, of: [__m256; 2]) -> [__m256; 2] {
    // SAFETY: as in `halves_at`.
    unsafe {
        let at = bytes.add(place * HEIGHT);
        let low = _mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()));
        let high = _mm256_cvtepi8_epi32(_mm_loadl_epi64(at.add(LANES).cast()));
        [_mm256_mul_ps(_mm256_cvtepi32_ps(low), of[0]), _mm256_mul_ps(_mm256_cvtepi32_ps(high), of[1])]
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn floats_at(floats: *const f32, place: usize) -> [__m256; 2] {
    // SAFETY: as in `halves_at`.
    unsafe {
        let at = floats.add(place * HEIGHT);
        [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(LANES))]
    }
}

/// Factor `place` of a block: from the block, where bytes are times half `of` of the head, or from floats.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn factor_at<const AT: usize, const T: usize>(
    head: *const u8,
    in_block: *const u8,
    floats: *const f32,
    [place, of]: [usize; 2],
) -> [__m256; 2] {
    // SAFETY: the caller points at what the packing and the number of rows have; `place` is below the number of factors.
    unsafe {
        match (const { PACKINGS[AT].by_super }, T) {
            (false, _) => halves_at(in_block, place),
            (true, 1) => bytes_at(in_block, place, halves_at(head, of)),
            (true, _) => floats_at(floats, place),
        }
    }
}

/// Four columns of eight rows as unsigned bytes of 4 or 6 bits: quad `quad` of a block, half `half` of a panel.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn quad_at<const BITS: usize>(block: *const u8, quad: usize, half: usize) -> __m256i {
    let bits = |w, mask| _mm256_and_si256(w, _mm256_set1_epi8(mask));
    // SAFETY: the caller points at a block of `BITS` bits; `quad` is below 8, `half` below 2.
    unsafe {
        let at = |i: usize| _mm256_loadu_si256(block.add(i * 64 + half * 32).cast());
        match (BITS, quad % 4) {
            (4, 0 | 2) => bits(at(quad / 2), 15),
            (4, _) => bits(_mm256_srli_epi16::<4>(at(quad / 2)), 15),
            (_, 3) => {
                let first = quad / 4 * 3;
                let low = bits(_mm256_srli_epi16::<6>(at(first)), 3);
                let middle = bits(_mm256_srli_epi16::<4>(at(first + 1)), 12);
                let high = bits(_mm256_srli_epi16::<2>(at(first + 2)), 48);
                _mm256_or_si256(_mm256_or_si256(low, middle), high)
            }
            (_, i) => bits(at(quad / 4 * 3 + i), 63),
        }
    }
}

/// Sums of a block of 4 bits.
///
/// # Safety
/// `weights` leads to a block, `numbers` to one of each row.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn dots_of_four<const T: usize>(weights: *const u8, numbers: *const u8) -> [[__m256i; 2]; T] {
    let mut dots = [[_mm256_setzero_si256(); 2]; T];
    for quad in 0..8 {
        // SAFETY: the caller's duty.
        unsafe {
            let w = [quad_at::<4>(weights, quad, 0), quad_at::<4>(weights, quad, 1)];
            for t in 0..T {
                let x = numbers.add(t * BLOCK + quad * 4).cast::<i32>().read_unaligned();
                let x = _mm256_set1_epi32(x);
                for h in 0..2 {
                    dots[t][h] = _mm256_add_epi16(dots[t][h], _mm256_maddubs_epi16(w[h], x));
                }
            }
        }
        pin(&mut dots);
    }
    for dot in dots.as_flattened_mut() {
        *dot = _mm256_madd_epi16(*dot, _mm256_set1_epi16(1));
    }
    dots
}

/// Sums of quads `quads` of a block of 6 bits.
///
/// # Safety
/// As [`dots_of_four`]; an even number of quads of the block.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn dots_of_six<const T: usize>(
    weights: *const u8,
    numbers: *const u8,
    quads: Range<usize>,
) -> [[__m256i; 2]; T] {
    let mut dots = [[_mm256_setzero_si256(); 2]; T];
    for quad in quads.step_by(2) {
        for h in 0..2 {
            // SAFETY: the caller's duty.
            unsafe {
                let w = [quad_at::<6>(weights, quad, h), quad_at::<6>(weights, quad + 1, h)];
                for t in 0..T {
                    let x = numbers.add(t * BLOCK + quad * 4).cast::<i32>();
                    let x =
                        [_mm256_set1_epi32(x.read_unaligned()), _mm256_set1_epi32(x.add(1).read_unaligned())];
                    let pairs =
                        _mm256_add_epi16(_mm256_maddubs_epi16(w[0], x[0]), _mm256_maddubs_epi16(w[1], x[1]));
                    dots[t][h] = _mm256_add_epi32(dots[t][h], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
                }
            }
        }
        pin(&mut dots);
    }
    dots
}

/// Sums of a block of 8 bits; `numbers` are words.
///
/// # Safety
/// As [`dots_of_four`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn dots_of_eight<const T: usize>(weights: *const u8, numbers: *const u8) -> [[__m256i; 2]; T] {
    let mut dots = [[_mm256_setzero_si256(); 2]; T];
    for quad in 0..8 {
        // SAFETY: the caller's duty.
        unsafe {
            let w0 = _mm256_loadu_si256(weights.add(quad * 64).cast());
            let w1 = _mm256_loadu_si256(weights.add(quad * 64 + 32).cast());
            let even = [
                _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(w0)),
                _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(w1)),
            ];
            let odd = [_mm256_srai_epi16::<8>(w0), _mm256_srai_epi16::<8>(w1)];
            for t in 0..T {
                let at = numbers.cast::<i32>().add(t * BLOCK / 2 + quad * 2);
                let x = [_mm256_set1_epi32(*at), _mm256_set1_epi32(*at.add(1))];
                for h in 0..2 {
                    dots[t][h] = _mm256_add_epi32(dots[t][h], _mm256_madd_epi16(even[h], x[0]));
                    dots[t][h] = _mm256_add_epi32(dots[t][h], _mm256_madd_epi16(odd[h], x[1]));
                }
            }
        }
        pin(&mut dots);
    }
    dots
}

/// # Safety
/// As [`Kernel`], on a CPU with AVX2, FMA and F16C; activations as words for 8 bits, else as bytes.
unsafe fn integers<const AT: usize>(call: &Call) {
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sums<const AT: usize, const T: usize>(call: &Call) {
        let packing = const { PACKINGS[AT] };
        let mut sums = [[_mm256_setzero_ps(); 2]; T];
        let (mut weights, mut numbers, mut scales) = (call.weights, call.numbers, call.scales);
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
                for part in 0..packing.parts() {
                    let quads = 8 / packing.parts();
                    let dots: [[__m256i; 2]; T] = match packing.bits {
                        4 => dots_of_four(weights, numbers),
                        6 => dots_of_six(weights, numbers, part * quads..(part + 1) * quads),
                        _ => dots_of_eight(weights, numbers),
                    };
                    let d = factor_at::<AT, T>(head, in_block, factors, [part, 0]);
                    let (place, times) = packing.start(part);
                    for t in 0..T {
                        let dx = _mm256_set1_ps(*scales.add(t));
                        let start = times * (*scales.add(place * T + t)).to_bits() as i32;
                        for h in 0..2 {
                            let dot = if packing.zero == 0 {
                                dots[t][h]
                            } else {
                                _mm256_add_epi32(dots[t][h], _mm256_set1_epi32(start))
                            };
                            let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(dot), d[h]);
                            sums[t][h] = _mm256_fmadd_ps(scaled, dx, sums[t][h]);
                        }
                    }
                }
                if packing.minimum {
                    let m = factor_at::<AT, T>(head, in_block, factors, [packing.parts(), 1]);
                    for t in 0..T {
                        let dx_sum = _mm256_set1_ps(*scales.add(T + t));
                        for h in 0..2 {
                            sums[t][h] = _mm256_fmadd_ps(m[h], dx_sum, sums[t][h]);
                        }
                    }
                }
                weights = weights.add(packing.block_bytes(HEIGHT));
                numbers = numbers.add(T * BLOCK * if packing.bits == 8 { 2 } else { 1 });
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
/// As [`Kernel`], on a CPU with AVX2, FMA and F16C; activations as floats.
unsafe fn floats<const KIND: u8>(call: &Call) {
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sums<const KIND: u8, const T: usize>(call: &Call) {
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
        // SAFETY: the caller's duty.
        unsafe { store(call, sums) }
    }
    by_rows!(call, sums::<KIND>, 1 2 3 4);
}
