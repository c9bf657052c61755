//! [`Simd`] with NEON: two vectors of four lanes.
#![expect(
    unsafe_code,
    reason = "vector loads, stores and calls that need a CPU feature; the token is the proof"
)]
#![cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "an instruction set is used as a whole"))]

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::{LANES, Simd};

/// Proof that the CPU has NEON and its dot products of bytes (`FEAT_DotProd`: Armv8.4, and most cores since Cortex-A76).
#[derive(Clone, Copy, Debug)]
pub struct Neon(());

impl Neon {
    /// The proof, if the CPU gives it.
    pub fn detect() -> Option<Self> {
        let present = is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod");
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

/// `f` on both halves.
macro_rules! both {
    ($f:ident, $($v:expr),+) => {
        proved!([$f($($v[0]),+), $f($($v[1]),+)])
    };
}

impl Simd for Neon {
    // Pairs: there are 32 of four lanes.
    const REGISTERS: usize = 16;
    type V = [float32x4_t; 2];
    type Mask = [uint32x4_t; 2];
    type Words = [uint32x4_t; 2];
    const QUAD_BIAS: i32 = 0;

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "neon,dotprod")]
        fn compiled<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        proved!(compiled(f))
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        proved!([vdupq_n_f32(x); 2])
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        proved!([vld1q_f32(from.as_ptr()), vld1q_f32(from.as_ptr().add(4))])
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES], v: Self::V) {
        proved!({
            vst1q_f32(to.as_mut_ptr(), v[0]);
            vst1q_f32(to.as_mut_ptr().add(4), v[1]);
        });
    }
    #[inline(always)]
    fn prefetch<T>(self, at: &T) {
        let at = std::ptr::from_ref(at);
        proved!(asm!("prfm pldl2keep, [{}]", in(reg) at, options(readonly, nostack, preserves_flags)));
    }
    #[inline(always)]
    fn load_half(self, from: &[u16; LANES]) -> Self::V {
        proved!({
            let halves = vld1q_u16(from.as_ptr());
            [widen(vget_low_u16(halves)), widen(vget_high_u16(halves))]
        })
    }
    #[inline(always)]
    fn store_half(self, to: &mut [u16; LANES], v: Self::V) {
        proved!(vst1q_u16(to.as_mut_ptr(), vcombine_u16(narrow(v[0]), narrow(v[1]))));
    }
    #[inline(always)]
    fn load_words(self, from: &[u32; LANES]) -> Self::Words {
        proved!([vld1q_u32(from.as_ptr()), vld1q_u32(from.as_ptr().add(4))])
    }
    #[inline(always)]
    fn load_firsts(self, from: &[u32; LANES]) -> Self::Words {
        let words = self.load_words(from);
        proved!(words.map(|words| vandq_u32(words, vdupq_n_u32(0xffff))))
    }
    #[inline(always)]
    fn splat_word(self, word: u32) -> Self::Words {
        proved!([vdupq_n_u32(word); 2])
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u16; LANES]) -> Self::Words {
        proved!({
            let bytes = vreinterpretq_s8_u16(vld1q_u16(from.as_ptr()));
            [vmovl_s8(vget_low_s8(bytes)), vmovl_s8(vget_high_s8(bytes))].map(|v| vreinterpretq_u32_s16(v))
        })
    }
    #[inline(always)]
    fn store_shorts(self, to: &mut [u32; LANES], low: Self::V, high: Self::V) {
        proved!({
            let nearest = |v| vqmovn_s32(vcvtnq_s32_f32(v));
            let words = |v: Self::V| vreinterpretq_u32_s16(vcombine_s16(nearest(v[0]), nearest(v[1])));
            vst1q_u32(to.as_mut_ptr(), words(low));
            vst1q_u32(to.as_mut_ptr().add(4), words(high));
        });
    }
    #[inline(always)]
    fn floats(self, v: Self::Words) -> Self::V {
        proved!(v.map(|v| vcvtq_f32_s32(vreinterpretq_s32_u32(v))))
    }
    #[inline(always)]
    fn dot_quads(self, a: Self::Words, b: Self::Words, c: Self::Words) -> Self::Words {
        proved!(std::array::from_fn(|i| {
            let signed = veorq_u32(a[i], vdupq_n_u32(0x8080_8080));
            dot(c[i], signed, b[i])
        }))
    }
    #[inline(always)]
    fn dot_shorts(self, a: Self::Words, b: Self::Words, c: Self::Words) -> Self::Words {
        proved!(std::array::from_fn(|i| {
            let (a, b) = (vreinterpretq_s16_u32(a[i]), vreinterpretq_s16_u32(b[i]));
            let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
            let high = vmull_s16(vget_high_s16(a), vget_high_s16(b));
            vaddq_u32(c[i], vreinterpretq_u32_s32(vpaddq_s32(low, high)))
        }))
    }
    #[inline(always)]
    fn store_pairs(self, to: &mut [u32; LANES], low: Self::V, high: Self::V) {
        proved!({
            let words = |v: Self::V| vreinterpretq_u32_u16(vcombine_u16(short(v[0]), short(v[1])));
            vst1q_u32(to.as_mut_ptr(), words(low));
            vst1q_u32(to.as_mut_ptr().add(4), words(high));
        });
    }
    #[inline(always)]
    fn dot_pairs(self, a: Self::Words, b: Self::Words, c: Self::V) -> Self::V {
        proved!(std::array::from_fn(|i| {
            let first = |words| vreinterpretq_f32_u32(vshlq_n_u32::<16>(words));
            let second = |words| vreinterpretq_f32_u32(vandq_u32(words, vdupq_n_u32(0xffff_0000)));
            vfmaq_f32(vfmaq_f32(c[i], second(a[i]), second(b[i])), first(a[i]), first(b[i]))
        }))
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        both!(vaddq_f32, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        both!(vsubq_f32, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        both!(vmulq_f32, a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        both!(vdivq_f32, a, b)
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        both!(vfmaq_f32, c, a, b)
    }
    // Not FMAX and FMIN, which answer NaN where either is.
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        self.select(both!(vcgtq_f32, a, b), a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        self.select(both!(vcltq_f32, a, b), a, b)
    }
    #[inline(always)]
    fn round(self, v: Self::V) -> Self::V {
        both!(vrndnq_f32, v)
    }
    #[inline(always)]
    fn power_of_two(self, n: Self::V) -> Self::V {
        proved!(n.map(|n| {
            let exponent = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        }))
    }
    #[inline(always)]
    fn lanes(self, from: i32, to: i32) -> Self::Mask {
        proved!([0, 4].map(|first| {
            let i = vld1q_s32(IOTA.as_ptr().add(first));
            vandq_u32(vcgeq_s32(i, vdupq_n_s32(from)), vcltq_s32(i, vdupq_n_s32(to)))
        }))
    }
    #[inline(always)]
    fn select(self, mask: Self::Mask, a: Self::V, b: Self::V) -> Self::V {
        both!(vbslq_f32, mask, a, b)
    }
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        proved!({
            let v = vaddq_f32(v[0], v[1]);
            let v = vadd_f32(vget_low_f32(v), vget_high_f32(v));
            vget_lane_f32::<0>(v) + vget_lane_f32::<1>(v)
        })
    }
    #[inline(always)]
    fn largest(self, v: Self::V) -> f32 {
        proved!({
            let v = vbslq_f32(vcgtq_f32(v[0], v[1]), v[0], v[1]);
            let (low, high) = (vget_low_f32(v), vget_high_f32(v));
            let v = vbsl_f32(vcgt_f32(low, high), low, high);
            let (a, b) = (vget_lane_f32::<0>(v), vget_lane_f32::<1>(v));
            if a > b { a } else { b }
        })
    }
    #[inline(always)]
    fn magnitude(self, block: &[f32; 32]) -> u32 {
        proved!({
            let mut most = vdupq_n_u32(0);
            for i in 0..8 {
                let v = vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(block.as_ptr().add(4 * i))));
                most = vmaxq_u32(most, v);
            }
            vmaxvq_u32(most)
        })
    }
    #[inline(always)]
    fn round_block(self, block: &[f32; 32], by: f32) -> [i8; 32] {
        proved!({
            let four = |i: usize| {
                let v = vmulq_n_f32(vld1q_f32(block.as_ptr().add(4 * i)), by);
                vqmovn_s32(vcvtnq_s32_f32(v))
            };
            let eight = |i: usize| vqmovn_s16(vcombine_s16(four(2 * i), four(2 * i + 1)));
            let mut out = [0_i8; 32];
            vst1q_s8(out.as_mut_ptr(), vcombine_s8(eight(0), eight(1)));
            vst1q_s8(out.as_mut_ptr().add(16), vcombine_s8(eight(2), eight(3)));
            out
        })
    }
    #[inline(always)]
    fn sum_halves(self, block: &[i8; 32]) -> [i32; 2] {
        proved!([0, 16].map(|at| i32::from(vaddlvq_s8(vld1q_s8(block.as_ptr().add(at))))))
    }
}

/// Halves to floats; `std::arch` has the instruction for a type that is not stable only.
#[inline(always)]
pub(crate) fn widen(halves: uint16x4_t) -> float32x4_t {
    let floats;
    // SAFETY: an instruction of every aarch64 processor; it reads one register and writes one.
    unsafe {
        asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) floats, in(vreg) halves, options(pure, nomem, nostack, preserves_flags));
    }
    floats
}

/// Floats to halves, nearest even.
#[inline(always)]
fn narrow(floats: float32x4_t) -> uint16x4_t {
    let halves;
    // SAFETY: as in `widen`.
    unsafe {
        asm!("fcvtn {0:v}.4h, {1:v}.4s", out(vreg) halves, in(vreg) floats, options(pure, nomem, nostack, preserves_flags));
    }
    halves
}

/// `sum` and the four products of signed bytes of each word.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn dot(sum: uint32x4_t, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
    let mut sum = sum;
    // SAFETY: an instruction of `dotprod`, on registers alone.
    unsafe {
        asm!(
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sum, in(vreg) a, in(vreg) b, options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// Floats to bfloat16, as [`Simd::store_pairs`] says.
#[inline(always)]
fn short(v: float32x4_t) -> uint16x4_t {
    // SAFETY: instructions of every aarch64 processor, on registers alone.
    unsafe {
        let bits = vreinterpretq_u32_f32(v);
        let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
        let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
        let size = vandq_u32(bits, vdupq_n_u32(0x7fff_ffff));
        let sign = vandq_u32(bits, vdupq_n_u32(0x8000_0000));
        let number = vbslq_u32(vcgtq_u32(size, vdupq_n_u32(0x007f_ffff)), rounded, sign);
        // Rounding could turn NaN into a number; the highest bit of the fraction keeps it one, and quiet.
        let quiet = vorrq_u32(bits, vdupq_n_u32(1 << 22));
        vshrn_n_u32::<16>(vbslq_u32(vcgtq_u32(size, vdupq_n_u32(0x7f80_0000)), quiet, number))
    }
}
