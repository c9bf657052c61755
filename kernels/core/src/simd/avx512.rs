//! [`Simd`] with AVX-512: sixteen lanes.
#![expect(
    unsafe_code,
    reason = "vector loads, stores and calls that need a CPU feature; the token is the proof"
)]
#![cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "an instruction set is used as a whole"))]

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::transmute;

use super::{Avx2, Pair, Simd, WIDE};

/// Proof that the CPU has AVX-512 F, BW, DQ, VL and VNNI, and all of [`Avx2`]; with `PAIRS` also AVX-512 BF16.
#[derive(Clone, Copy, Debug)]
pub struct Avx512<const PAIRS: bool = false>(Avx2);

impl Avx512 {
    /// The proof, if the CPU gives it.
    pub fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        if present { Avx2::detect().map(Self) } else { None }
    }

    /// The smaller proof inside.
    pub fn avx2(self) -> Avx2 {
        self.0
    }

    /// The larger proof, if the CPU gives it.
    #[inline]
    pub fn with_pairs(self) -> Option<Avx512<true>> {
        is_x86_feature_detected!("avx512bf16").then_some(Avx512(self.0))
    }
}

/// Lane numbers.
const IOTA: [i32; WIDE] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// 1.5 times 2^23: a number of up to 2^22 beside it keeps no fraction bits.
const ROUND: f32 = 12_582_912.0;
/// Every second i16 of two vectors.
const LOWER_HALVES: [u16; 2 * WIDE] = {
    let mut at = [0; 2 * WIDE];
    let mut i = 0;
    while i < at.len() {
        at[i] = 2 * i as u16;
        i += 1;
    }
    at
};
/// Nearest integer, ties to even, no exceptions, no fraction bits kept.
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// `_mm512_dpwssd_epi32`, which the compiler would take apart into a product and a sum.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn dot_shorts(a: __m512i, b: __m512i, mut c: __m512i) -> __m512i {
    // SAFETY: an instruction of the features above, on registers alone.
    unsafe {
        asm!(
            "vpdpwssd {0}, {1}, {2}",
            inout(zmm_reg) c, in(zmm_reg) a, in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    c
}

// SAFETY of every block below: `self` proves the features; memory is reached through references to arrays of the size
// that the instruction reads or writes.
macro_rules! proved {
    ($($body:tt)*) => {{
        // SAFETY: see above.
        unsafe { $($body)* }
    }};
}

impl<const PAIRS: bool> Simd<WIDE> for Avx512<PAIRS> {
    const REGISTERS: usize = 32;
    type V = __m512;
    type Mask = __mmask16;
    type Words = __m512i;
    const QUAD_BIAS: i32 = 128;

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
        fn compiled<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
        fn compiled_with_pairs<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        if PAIRS { proved!(compiled_with_pairs(f)) } else { proved!(compiled(f)) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        proved!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, from: &[f32; WIDE]) -> __m512 {
        proved!(_mm512_loadu_ps(from.as_ptr()))
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; WIDE], v: __m512) {
        proved!(_mm512_storeu_ps(to.as_mut_ptr(), v));
    }
    #[inline(always)]
    fn prefetch<T>(self, at: &T) {
        proved!(_mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(at).cast()));
    }
    #[inline(always)]
    fn load_half(self, from: &[u16; WIDE]) -> __m512 {
        proved!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }
    #[inline(always)]
    fn store_half(self, to: &mut [u16; WIDE], v: __m512) {
        proved!(_mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)));
    }
    #[inline(always)]
    fn load_words(self, from: &[u32; WIDE]) -> __m512i {
        proved!(_mm512_loadu_si512(from.as_ptr().cast()))
    }
    #[inline(always)]
    fn load_firsts(self, from: &[u32; WIDE]) -> __m512i {
        proved!(_mm512_and_si512(_mm512_loadu_si512(from.as_ptr().cast()), _mm512_set1_epi32(0xffff)))
    }
    #[inline(always)]
    fn splat_word(self, pair: u32) -> __m512i {
        proved!(_mm512_set1_epi32(pair as i32))
    }
    #[inline(always)]
    fn store_pairs(self, to: &mut [u32; WIDE], low: __m512, high: __m512) {
        if PAIRS {
            proved!({
                let pairs = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                _mm512_storeu_si512(to.as_mut_ptr().cast(), pairs);
            });
        } else {
            let halves = |v| proved!([_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v)]);
            Pair(self.0).store_pairs(to, halves(low), halves(high));
        }
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u16; WIDE]) -> __m512i {
        proved!(_mm512_cvtepi8_epi16(_mm256_loadu_si256(from.as_ptr().cast())))
    }
    #[inline(always)]
    fn store_shorts(self, to: &mut [u32; WIDE], low: __m512, high: __m512) {
        proved!({
            // Behind this sum the integer is what the lower half of each lane holds.
            let round = |v| _mm512_castps_si512(_mm512_add_ps(v, _mm512_set1_ps(ROUND)));
            let lower_halves = _mm512_loadu_si512(LOWER_HALVES.as_ptr().cast());
            let words = _mm512_permutex2var_epi16(round(low), lower_halves, round(high));
            _mm512_storeu_si512(to.as_mut_ptr().cast(), words);
        });
    }
    #[inline(always)]
    fn floats(self, v: __m512i) -> __m512 {
        proved!(_mm512_cvtepi32_ps(v))
    }
    #[inline(always)]
    fn dot_quads(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        proved!(_mm512_dpbusd_epi32(c, a, b))
    }
    #[inline(always)]
    fn dot_shorts(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        proved!(dot_shorts(a, b, c))
    }
    #[inline(always)]
    fn dot_pairs(self, a: __m512i, b: __m512i, c: __m512) -> __m512 {
        if PAIRS {
            proved!({
                let [a, b] = transmute::<[__m512i; 2], [__m512bh; 2]>([a, b]);
                _mm512_dpbf16_ps(c, a, b)
            })
        } else {
            proved!({
                let first = |pairs| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs));
                let second = |pairs| {
                    let mask = _mm512_set1_epi32(0xffff_0000_u32 as i32);
                    _mm512_castsi512_ps(_mm512_and_si512(pairs, mask))
                };
                _mm512_fmadd_ps(first(a), first(b), _mm512_fmadd_ps(second(a), second(b), c))
            })
        }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        proved!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        proved!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        proved!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        proved!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        proved!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        proved!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        proved!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn round(self, v: __m512) -> __m512 {
        proved!(_mm512_roundscale_ps::<NEAREST>(v))
    }
    #[inline(always)]
    fn power_of_two(self, n: __m512) -> __m512 {
        proved!(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(
            _mm512_cvtps_epi32(n),
            _mm512_set1_epi32(127)
        ))))
    }
    #[inline(always)]
    fn scale(self, v: __m512, n: __m512) -> __m512 {
        proved!(_mm512_scalef_ps(v, n))
    }
    #[inline(always)]
    fn lanes(self, from: i32, to: i32) -> __mmask16 {
        proved!({
            let i = _mm512_loadu_si512(IOTA.as_ptr().cast());
            _mm512_cmpge_epi32_mask(i, _mm512_set1_epi32(from))
                & _mm512_cmplt_epi32_mask(i, _mm512_set1_epi32(to))
        })
    }
    #[inline(always)]
    fn select(self, mask: __mmask16, a: __m512, b: __m512) -> __m512 {
        proved!(_mm512_mask_blend_ps(mask, b, a))
    }
    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        let halves = proved!([_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v)]);
        self.0.sum(self.0.add(halves[0], halves[1]))
    }
    #[inline(always)]
    fn largest(self, v: __m512) -> f32 {
        let halves = proved!([_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v)]);
        self.0.largest(self.0.max(halves[0], halves[1]))
    }
    #[inline(always)]
    fn magnitude(self, block: &[f32; 32]) -> u32 {
        self.0.magnitude(block)
    }
    #[inline(always)]
    fn round_block(self, block: &[f32; 32], by: f32) -> [i8; 32] {
        self.0.round_block(block, by)
    }
    #[inline(always)]
    fn sum_halves(self, block: &[i8; 32]) -> [i32; 2] {
        self.0.sum_halves(block)
    }
}
