//! [`Simd`] with AVX-512: sixteen lanes.
#![expect(
    unsafe_code,
    reason = "vector loads, stores and calls that need a CPU feature; the token is the proof"
)]
#![cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "an instruction set is used as a whole"))]

use std::arch::x86_64::*;

use super::{Avx2, Simd, WIDE};

/// Proof that the CPU has AVX-512 F, BW, DQ, VL and VNNI, and all of [`Avx2`].
#[derive(Clone, Copy, Debug)]
pub struct Avx512(Avx2);

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
}

/// Lane numbers.
const IOTA: [i32; WIDE] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// Nearest integer, ties to even, no exceptions, no fraction bits kept.
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

// SAFETY of every block below: `self` proves the features; memory is reached through references to arrays of the size
// that the instruction reads or writes.
macro_rules! proved {
    ($($body:tt)*) => {{
        // SAFETY: see above.
        unsafe { $($body)* }
    }};
}

impl Simd<WIDE> for Avx512 {
    const REGISTERS: usize = 32;
    type V = __m512;
    type Mask = __mmask16;

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        fn compiled<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        proved!(compiled(f))
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
    fn sum_block(self, block: &[i8; 32]) -> i32 {
        self.0.sum_block(block)
    }
}
