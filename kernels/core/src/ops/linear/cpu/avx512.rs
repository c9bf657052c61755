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

use super::activations::SCALES;
use super::format::{BLOCK, Format, PACKINGS, Packing, SUPER};
use super::kernel::{Call, Kernel, Kernels, ask, by_rows, for_each_packing};

/// Lanes of a half panel.
pub(super) const LANES: usize = 16;
const HEIGHT: usize = 2 * LANES;
/// Most activation rows of a group.
pub(super) const MOST_ROWS: usize = 6;
/// What 8-bit weights are moved by to be unsigned.
pub(super) const BIAS: u8 = 0x80;

/// As the weights are here.
const fn moved(packing: Packing) -> Packing {
    if packing.bits == 8 { Packing { zero: BIAS as i32, ..packing } } else { packing }
}

type Sums<const T: usize> = [[__m512; 2]; T];

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

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn store<const T: usize>(call: &Call, sums: Sums<T>) {
    for (t, sums) in sums.iter().enumerate() {
        // SAFETY: the caller's duty; a row of the output has the sums of a panel.
        unsafe {
            let out = call.out.add(t * call.apart);
            _mm512_storeu_ps(out, sums[0]);
            _mm512_storeu_ps(out.add(LANES), sums[1]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn halves_at(halves: *const u8, place: usize) -> [__m512; 2] {
    // SAFETY: the caller points at halves of every row, `place` is below their number.
    unsafe {
        let at = halves.cast::<__m256i>().add(place * 2);
        [_mm512_cvtph_ps(_mm256_loadu_si256(at)), _mm512_cvtph_ps(_mm256_loadu_si256(at.add(1)))]
    }
}

/// Bytes of every row times `of`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn bytes_at(bytes: *const u8, place: usize, of: [__m512; 2]) -> [__m512; 2] {
    // SAFETY: as in `halves_at`.
    unsafe {
        let at = bytes.cast::<__m128i>().add(place * 2);
        let low = _mm512_cvtepi8_epi32(_mm_loadu_si128(at));
        let high = _mm512_cvtepi8_epi32(_mm_loadu_si128(at.add(1)));
        [_mm512_mul_ps(_mm512_cvtepi32_ps(low), of[0]), _mm512_mul_ps(_mm512_cvtepi32_ps(high), of[1])]
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn floats_at(floats: *const f32, place: usize) -> [__m512; 2] {
    // SAFETY: as in `halves_at`.
    unsafe {
        let at = floats.add(place * HEIGHT);
        [_mm512_loadu_ps(at), _mm512_loadu_ps(at.add(LANES))]
    }
}

/// Factor `place` of a block: from the block, where bytes are times half `of` of the head, or from floats.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn factor_at<const AT: usize, const T: usize>(
    head: *const u8,
    in_block: *const u8,
    floats: *const f32,
    [place, of]: [usize; 2],
) -> [__m512; 2] {
    // SAFETY: the caller points at what the packing and the number of rows have; `place` is below the number of factors.
    unsafe {
        match (const { PACKINGS[AT].by_super }, T) {
            (false, _) => halves_at(in_block, place),
            (true, 1) => bytes_at(in_block, place, halves_at(head, of)),
            (true, _) => floats_at(floats, place),
        }
    }
}

/// Four columns of sixteen rows as unsigned bytes: quad `quad` of a block, half `half` of a panel.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn quad_at(bits: usize, block: *const u8, quad: usize, half: usize) -> __m512i {
    let mask = |ones| _mm512_set1_epi8(ones);
    // SAFETY: the caller points at a block of `bits` bits; `quad` is below 8, `half` below 2.
    unsafe {
        let at = |i: usize| _mm512_loadu_si512(block.add(i * 128 + half * 64).cast());
        match (bits, quad % 4) {
            (4, 0 | 2) => _mm512_and_si512(at(quad / 2), mask(15)),
            (4, _) => _mm512_and_si512(_mm512_srli_epi16::<4>(at(quad / 2)), mask(15)),
            (6, 3) => {
                let first = quad / 4 * 3;
                let low = _mm512_srli_epi16::<6>(at(first));
                let middle = _mm512_srli_epi16::<4>(at(first + 1));
                let high = _mm512_srli_epi16::<2>(at(first + 2));
                // Where the mask is set the second, else the third.
                let low = _mm512_ternarylogic_epi32::<0xca>(mask(12), middle, low);
                _mm512_and_si512(_mm512_ternarylogic_epi32::<0xca>(mask(48), high, low), mask(63))
            }
            (6, i) => _mm512_and_si512(at(quad / 4 * 3 + i), mask(63)),
            _ => at(quad),
        }
    }
}

/// A start, `times` what activations have.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn start_at(start: *const f32, times: i32) -> __m512i {
    // SAFETY: the caller points at a start.
    let start = _mm512_set1_epi32(unsafe { *start.cast::<i32>() });
    match times {
        16 => _mm512_slli_epi32::<4>(start),
        2 => _mm512_slli_epi32::<1>(start),
        _ => start,
    }
}

/// # Safety
/// As [`Kernel`], on a CPU with AVX-512 F, BW, DQ, VL and VNNI.
unsafe fn integers<const AT: usize>(call: &Call) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
    unsafe fn sums<const AT: usize, const T: usize>(call: &Call) {
        let packing = const { moved(PACKINGS[AT]) };
        let mut sums = [[_mm512_setzero_ps(); 2]; T];
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
                    let mut dots = [[_mm512_setzero_si512(); 2]; T];
                    if packing.zero != 0 {
                        let (place, times) = packing.start(part);
                        for t in 0..T {
                            dots[t] = [start_at(scales.add(place * T + t), times); 2];
                        }
                    }
                    let quads = 8 / packing.parts();
                    for quad in part * quads..(part + 1) * quads {
                        let bits = packing.bits;
                        let w = [quad_at(bits, weights, quad, 0), quad_at(bits, weights, quad, 1)];
                        for t in 0..T {
                            let x = numbers.add(t * BLOCK + quad * 4).cast::<i32>().read_unaligned();
                            let x = _mm512_set1_epi32(x);
                            for h in 0..2 {
                                dots[t][h] = _mm512_dpbusd_epi32(dots[t][h], w[h], x);
                            }
                        }
                    }
                    let d = factor_at::<AT, T>(head, in_block, factors, [part, 0]);
                    for t in 0..T {
                        let dx = _mm512_set1_ps(*scales.add(t));
                        for h in 0..2 {
                            let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[t][h]), d[h]);
                            sums[t][h] = _mm512_fmadd_ps(scaled, dx, sums[t][h]);
                        }
                    }
                }
                if packing.minimum {
                    let m = factor_at::<AT, T>(head, in_block, factors, [packing.parts(), 1]);
                    for t in 0..T {
                        let dx_sum = _mm512_set1_ps(*scales.add(T + t));
                        for h in 0..2 {
                            sums[t][h] = _mm512_fmadd_ps(m[h], dx_sum, sums[t][h]);
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
    by_rows!(call, sums::<AT>, 1 2 3 4 5 6);
}

/// `KIND`: 0 f32, 1 f16, 2 bf16.
///
/// # Safety
/// As [`Kernel`], on a CPU with AVX-512 F, BW, DQ, VL; activations as floats.
unsafe fn floats<const KIND: u8>(call: &Call) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
    unsafe fn sums<const KIND: u8, const T: usize>(call: &Call) {
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
        // SAFETY: the caller's duty.
        unsafe { store(call, sums) }
    }
    by_rows!(call, sums::<KIND>, 1 2 3 4 5 6);
}
