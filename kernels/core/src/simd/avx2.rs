//! [`Simd`] with AVX2, FMA and F16C.
#![expect(
    unsafe_code,
    reason = "vector loads, stores and calls that need a CPU feature; the token is the proof"
)]
#![cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "an instruction set is used as a whole"))]

use std::arch::x86_64::*;

use super::{LANES, Simd};

/// Proof that the CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, if the CPU gives it.
    pub fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        present.then_some(Self(()))
    }
}

/// Lane numbers.
const IOTA: [i32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7];

// SAFETY of every block below: `self` proves the features; memory is reached through references to arrays of the size
// that the instruction reads or writes.
macro_rules! proved {
    ($($body:tt)*) => {{
        // SAFETY: see above.
        unsafe { $($body)* }
    }};
}

/// Lanes as bfloat16 in their lower halves: what [`Simd::store_pairs`] stores.
#[target_feature(enable = "avx2")]
#[inline]
fn short(v: __m256) -> __m256i {
    let bits = _mm256_castps_si256(v);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    let normal = _mm256_cmpgt_epi32(
        _mm256_and_si256(bits, _mm256_set1_epi32(i32::MAX)),
        _mm256_set1_epi32(0x007f_ffff),
    );
    let sign = _mm256_and_si256(bits, _mm256_set1_epi32(i32::MIN));
    let number = _mm256_blendv_epi8(sign, rounded, normal);
    // Rounding could turn NaN into a number; the highest bit of the fraction keeps it one, and quiet.
    let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(1 << 22));
    let none = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
    _mm256_srli_epi32::<16>(_mm256_blendv_epi8(number, quiet, none))
}

impl Simd for Avx2 {
    const REGISTERS: usize = 16;
    type V = __m256;
    type Mask = __m256;
    type Words = __m256i;
    const QUAD_BIAS: i32 = 0;

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn compiled<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        proved!(compiled(f))
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        proved!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> __m256 {
        proved!(_mm256_loadu_ps(from.as_ptr()))
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES], v: __m256) {
        proved!(_mm256_storeu_ps(to.as_mut_ptr(), v));
    }
    #[inline(always)]
    fn prefetch<T>(self, at: &T) {
        proved!(_mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(at).cast()));
    }
    #[inline(always)]
    fn load_half(self, from: &[u16; LANES]) -> __m256 {
        proved!(_mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())))
    }
    #[inline(always)]
    fn store_half(self, to: &mut [u16; LANES], v: __m256) {
        proved!(_mm_storeu_si128(to.as_mut_ptr().cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)));
    }
    #[inline(always)]
    fn load_words(self, from: &[u32; LANES]) -> __m256i {
        proved!(_mm256_loadu_si256(from.as_ptr().cast()))
    }
    #[inline(always)]
    fn load_firsts(self, from: &[u32; LANES]) -> __m256i {
        proved!(_mm256_and_si256(_mm256_loadu_si256(from.as_ptr().cast()), _mm256_set1_epi32(0xffff)))
    }
    #[inline(always)]
    fn splat_word(self, pair: u32) -> __m256i {
        proved!(_mm256_set1_epi32(pair as i32))
    }
    #[inline(always)]
    fn store_pairs(self, to: &mut [u32; LANES], low: __m256, high: __m256) {
        proved!({
            let words = _mm256_packus_epi32(short(low), short(high));
            // The pack works inside 128-bit halves; the permutation puts groups of four back in order.
            _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(words));
        });
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u16; LANES]) -> __m256i {
        proved!(_mm256_cvtepi8_epi16(_mm_loadu_si128(from.as_ptr().cast())))
    }
    #[inline(always)]
    fn store_shorts(self, to: &mut [u32; LANES], low: __m256, high: __m256) {
        proved!({
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(low), _mm256_cvtps_epi32(high));
            // As in `store_pairs`.
            _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(words));
        });
    }
    #[inline(always)]
    fn floats(self, v: __m256i) -> __m256 {
        proved!(_mm256_cvtepi32_ps(v))
    }
    #[inline(always)]
    fn dot_quads(self, a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        proved!({
            // Signs move to `a`, so that no sum of two products leaves i16.
            let a = _mm256_sign_epi8(_mm256_xor_si256(a, _mm256_set1_epi8(i8::MIN)), b);
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(b), a);
            _mm256_add_epi32(c, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }
    #[inline(always)]
    fn dot_shorts(self, a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        proved!(_mm256_add_epi32(c, _mm256_madd_epi16(a, b)))
    }
    #[inline(always)]
    fn dot_pairs(self, a: __m256i, b: __m256i, c: __m256) -> __m256 {
        proved!({
            let first = |pairs| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs));
            let second = |pairs| {
                _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32)))
            };
            _mm256_fmadd_ps(first(a), first(b), _mm256_fmadd_ps(second(a), second(b), c))
        })
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        proved!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        proved!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        proved!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        proved!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        proved!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        proved!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        proved!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn round(self, v: __m256) -> __m256 {
        proved!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v))
    }
    #[inline(always)]
    fn power_of_two(self, n: __m256) -> __m256 {
        proved!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(
            _mm256_cvtps_epi32(n),
            _mm256_set1_epi32(127)
        ))))
    }
    #[inline(always)]
    fn lanes(self, from: i32, to: i32) -> __m256 {
        proved!({
            let i = _mm256_loadu_si256(IOTA.as_ptr().cast());
            let before = _mm256_cmpgt_epi32(_mm256_set1_epi32(from), i);
            let inside = _mm256_cmpgt_epi32(_mm256_set1_epi32(to), i);
            _mm256_castsi256_ps(_mm256_andnot_si256(before, inside))
        })
    }
    #[inline(always)]
    fn select(self, mask: __m256, a: __m256, b: __m256) -> __m256 {
        proved!(_mm256_blendv_ps(b, a, mask))
    }
    #[inline(always)]
    fn sum(self, v: __m256) -> f32 {
        proved!({
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
        })
    }
    #[inline(always)]
    fn largest(self, v: __m256) -> f32 {
        proved!({
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
        })
    }
    #[inline(always)]
    fn magnitude(self, block: &[f32; 32]) -> u32 {
        proved!({
            let at = |i: usize| {
                let v = _mm256_loadu_si256(block.as_ptr().add(8 * i).cast());
                _mm256_and_si256(v, _mm256_set1_epi32(0x7fff_ffff))
            };
            let v = _mm256_max_epi32(_mm256_max_epi32(at(0), at(1)), _mm256_max_epi32(at(2), at(3)));
            let v = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
            let v = _mm_max_epi32(v, _mm_shuffle_epi32::<0b1110>(v));
            let v = _mm_max_epi32(v, _mm_shuffle_epi32::<0b01>(v));
            _mm_cvtsi128_si32(v) as u32
        })
    }
    #[inline(always)]
    fn round_block(self, block: &[f32; 32], by: f32) -> [i8; 32] {
        proved!({
            let by = _mm256_set1_ps(by);
            let at =
                |i: usize| _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(block.as_ptr().add(8 * i)), by));
            let low = _mm256_packs_epi32(at(0), at(1));
            let high = _mm256_packs_epi32(at(2), at(3));
            // The two packs work inside 128-bit halves; the permutation puts groups of four back in order.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
            let mut out = [0_i8; 32];
            _mm256_storeu_si256(out.as_mut_ptr().cast(), bytes);
            out
        })
    }
    #[inline(always)]
    fn sum_halves(self, block: &[i8; 32]) -> [i32; 2] {
        proved!({
            let v = _mm256_loadu_si256(block.as_ptr().cast());
            let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), v);
            let v = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
            let v = _mm256_add_epi32(v, _mm256_shuffle_epi32::<0b1110>(v));
            let v = _mm256_add_epi32(v, _mm256_shuffle_epi32::<0b01>(v));
            [_mm256_extract_epi32::<0>(v), _mm256_extract_epi32::<4>(v)]
        })
    }
}
