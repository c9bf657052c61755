//! Eight or sixteen f32 lanes, the same on every instruction set: a function written over [`Simd`] gives the same bits
//! with AVX-512, with AVX2, with NEON and in plain Rust. A value of `Avx2`, `Avx512` or `Neon` is the proof that the CPU has
//! the features, so its methods are safe. A build has the instruction sets of its architecture.
//!
//! Arithmetic is what the method says and nothing else: `fma` rounds once, `add` and `mul` are never contracted, and
//! reductions use one fixed tree of lanes.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
mod pair;
mod portable;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use pair::Pair;
pub use portable::Portable;

use crate::error::{Failure, Result};

/// Lanes of a vector, where nothing else is said.
pub const LANES: usize = 8;
/// Lanes of a wide vector.
pub const WIDE: usize = 16;

/// Operations on `N` f32 lanes: `Avx2`, `Neon` and [`Portable`] have eight, `Avx512` and [`Pair`] sixteen.
pub trait Simd<const N: usize = LANES>: Copy + Send + Sync + 'static {
    /// Vectors that registers hold at a time.
    const REGISTERS: usize;
    /// `N` lanes.
    type V: Copy;
    /// A choice for each lane.
    type Mask: Copy;
    /// `N` words of 32 bits: integers, two bfloat16, two i16 or four bytes each, the first in the lowest bits.
    type Words: Copy;
    /// What [`Self::dot_quads`] adds for each byte of `b`, times it.
    const QUAD_BIAS: i32;

    /// Runs `f` compiled for this instruction set. Everything that `f` calls must be inlined into it.
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R;
    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// Lanes from memory.
    fn load(self, from: &[f32; N]) -> Self::V;
    /// Lanes to memory.
    fn store(self, to: &mut [f32; N], v: Self::V);
    /// Asks for the cache line at `at`, close to the processor but beyond the first-level cache.
    fn prefetch<T>(self, at: &T);
    /// Lanes from IEEE halves.
    fn load_half(self, from: &[u16; N]) -> Self::V;
    /// Lanes to IEEE halves, nearest even.
    fn store_half(self, to: &mut [u16; N], v: Self::V);
    /// Words from memory.
    fn load_words(self, from: &[u32; N]) -> Self::Words;
    /// As [`Self::load_words`], with the second half of each word taken as 0.
    fn load_firsts(self, from: &[u32; N]) -> Self::Words;
    /// All words this one.
    fn splat_word(self, word: u32) -> Self::Words;
    /// Two signed bytes of memory as the two i16 of a word.
    fn load_bytes(self, from: &[u16; N]) -> Self::Words;
    /// Lanes to the nearest i16, ties to even, in the order of [`Self::store_pairs`]; they must be within -32767 to 32767.
    fn store_shorts(self, to: &mut [u32; N], low: Self::V, high: Self::V);
    /// Integers to lanes.
    fn floats(self, v: Self::Words) -> Self::V;
    /// `c` and the four products of each word: bytes of `a` are 128 more than they mean, those of `b` signed, and neither
    /// means -128. The result is [`Self::QUAD_BIAS`] times the sum of `b`'s bytes too much.
    fn dot_quads(self, a: Self::Words, b: Self::Words, c: Self::Words) -> Self::Words;
    /// `c` and the two products of i16 of each word.
    fn dot_shorts(self, a: Self::Words, b: Self::Words, c: Self::Words) -> Self::Words;
    /// Lanes to bfloat16, nearest even, numbers below the least normal one to 0: the neighbours of `low` are the first
    /// pairs, those of `high` the others.
    fn store_pairs(self, to: &mut [u32; N], low: Self::V, high: Self::V);
    /// `a.first * b.first + (a.second * b.second + c)`, each sum rounded once. What is less than normal may count as 0.
    fn dot_pairs(self, a: Self::Words, b: Self::Words, c: Self::V) -> Self::V;
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`: `b` where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { a } else { b }`: `b` where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// Nearest integer, ties to even.
    fn round(self, v: Self::V) -> Self::V;
    /// `2^n` for integer lanes of -126 to 127; anything for others.
    fn power_of_two(self, n: Self::V) -> Self::V;
    /// `v * 2^n` for integer lanes `n` of -126 to 127.
    #[inline(always)]
    fn scale(self, v: Self::V, n: Self::V) -> Self::V {
        self.mul(v, self.power_of_two(n))
    }
    /// Lanes `i` with `from <= i < to`.
    fn lanes(self, from: i32, to: i32) -> Self::Mask;
    /// `a` where the mask is set, else `b`.
    fn select(self, mask: Self::Mask, a: Self::V, b: Self::V) -> Self::V;
    /// Sum: the lower half of the lanes + the upper half, and so on to one.
    fn sum(self, v: Self::V) -> f32;
    /// Largest lane, in the tree of [`Self::sum`].
    fn largest(self, v: Self::V) -> f32;
    /// The largest magnitude of the block as bits: above every number's bits if one is NaN.
    fn magnitude(self, block: &[f32; 32]) -> u32;
    /// `block[i] * by` to the nearest integer, ties to even; products must be within -128 to 127.
    fn round_block(self, block: &[f32; 32], by: f32) -> [i8; 32];
    /// Sums of both halves of a block of bytes.
    fn sum_halves(self, block: &[i8; 32]) -> [i32; 2];
}

/// The largest elements of whole vectors, lane by lane; minus infinity where there is no number.
#[inline(always)]
pub fn largest_lanes<const N: usize, S: Simd<N>>(s: S, x: &[f32]) -> S::V {
    let mut lanes = s.splat(f32::NEG_INFINITY);
    for x in x.as_chunks().0 {
        // What is NaN is not taken: the second is where the first is not larger.
        lanes = s.max(s.load(x), lanes);
    }
    lanes
}

/// `2^x`, relative error below 3e-7. Inputs beyond -126 and 127 are taken to the bound; NaN stays NaN.
#[inline(always)]
pub fn exp2<const N: usize, S: Simd<N>>(s: S, x: S::V) -> S::V {
    // The bound is the first operand, so that NaN passes.
    let x = s.min(s.splat(127.0), s.max(s.splat(-126.0), x));
    let n = s.round(x);
    let f = s.sub(x, n);
    let mut p = s.splat(1.540_353_e-4);
    for c in [1.333_355_8e-3, 9.618_129e-3, 5.550_411e-2, 2.402_265e-1, std::f32::consts::LN_2, 1.0] {
        p = s.fma(p, f, s.splat(c));
    }
    s.scale(p, n)
}

/// Coefficients of [`exp2_short`], the highest power first: `2^f` through the Chebyshev nodes of -0.5 to 0.5.
const SHORT: [f32; 4] = [0.055_838_283, 0.242_639_48, 0.693_136_75, 0.999_924_54];

/// `2^x` for `x` of at most 127, relative error below 1.1e-4: a twentieth of a bfloat16's last bit. Inputs below -126 are
/// taken to it; NaN stays NaN.
#[inline(always)]
pub fn exp2_short<const N: usize, S: Simd<N>>(s: S, x: S::V) -> S::V {
    let x = s.max(s.splat(-126.0), x);
    let n = s.round(x);
    let f = s.sub(x, n);
    let mut p = s.splat(SHORT[0]);
    for c in &SHORT[1..] {
        p = s.fma(p, f, s.splat(*c));
    }
    s.scale(p, n)
}

/// The instruction set that kernels run with.
#[derive(Clone, Copy, Debug)]
pub enum Isa {
    /// AVX-512 F, BW, DQ, VL and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// NEON with dot products of bytes.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// Plain Rust.
    Portable,
}

impl Isa {
    /// `auto` (the best the CPU has), `avx512`, `avx2`, `neon` or `portable`.
    ///
    /// # Errors
    /// `unsupported` for another name and for what this CPU lacks.
    pub fn detect(name: &str) -> Result<Self> {
        let found = match name {
            "auto" => Self::all().next(),
            "avx512" | "avx2" | "neon" | "portable" => Self::all().find(|isa| isa.name() == name),
            _ => {
                return Err(Failure::unsupported(format!(
                    "isa {name}: allowed are auto, avx512, avx2, neon, portable"
                )));
            }
        };
        found.ok_or_else(|| {
            let features = match name {
                "avx512" => "avx512f, bw, dq, vl and vnni",
                "avx2" => "avx2, fma and f16c",
                _ => "neon and dotprod",
            };
            Failure::unsupported(format!("isa {name}: this CPU lacks it ({features} are needed); use auto"))
        })
    }

    /// Those of this machine, the best first.
    pub fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let vectors = [Avx512::detect().map(Self::Avx512), Avx2::detect().map(Self::Avx2)];
        #[cfg(target_arch = "aarch64")]
        let vectors = [Neon::detect().map(Self::Neon)];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let vectors = [None];
        vectors.into_iter().flatten().chain([Self::Portable])
    }

    /// Proofs for what is done to pairs of bfloat16, the best first.
    #[cfg(target_arch = "x86_64")]
    pub fn pairs(self) -> (Option<Avx512<true>>, Option<Avx2>) {
        match self {
            Self::Avx512(proof) => (proof.with_pairs(), Some(proof.avx2())),
            Self::Avx2(proof) => (None, Some(proof)),
            Self::Portable => (None, None),
        }
    }

    /// The name that [`Self::detect`] knows it by.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
            Self::Portable => "portable",
        }
    }
}

/// Runs `$body` with `$s` bound to the [`Simd`] of an [`Isa`], compiled for it. `$body` must inline.
macro_rules! with_simd {
    ($isa:expr, $s:ident => $body:expr) => {
        match $isa {
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Isa::Avx512(proof) => {
                let $s = proof.avx2();
                $crate::simd::Simd::vectorize(
                    $s,
                    #[inline(always)]
                    || $body,
                )
            }
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Isa::Avx2($s) => $crate::simd::Simd::vectorize(
                $s,
                #[inline(always)]
                || $body,
            ),
            #[cfg(target_arch = "aarch64")]
            $crate::simd::Isa::Neon($s) => $crate::simd::Simd::vectorize(
                $s,
                #[inline(always)]
                || $body,
            ),
            $crate::simd::Isa::Portable => {
                let $s = $crate::simd::Portable;
                $crate::simd::Simd::vectorize(
                    $s,
                    #[inline(always)]
                    || $body,
                )
            }
        }
    };
}
pub(crate) use with_simd;

/// As [`with_simd`], with sixteen lanes.
macro_rules! with_wide_simd {
    ($isa:expr, $s:ident => $body:expr) => {
        match $isa {
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Isa::Avx512($s) => $crate::simd::Simd::vectorize(
                $s,
                #[inline(always)]
                || $body,
            ),
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Isa::Avx2(proof) => {
                let $s = $crate::simd::Pair(proof);
                $crate::simd::Simd::vectorize(
                    $s,
                    #[inline(always)]
                    || $body,
                )
            }
            #[cfg(target_arch = "aarch64")]
            $crate::simd::Isa::Neon(proof) => {
                let $s = $crate::simd::Pair(proof);
                $crate::simd::Simd::vectorize(
                    $s,
                    #[inline(always)]
                    || $body,
                )
            }
            $crate::simd::Isa::Portable => {
                let $s = $crate::simd::Pair($crate::simd::Portable);
                $crate::simd::Simd::vectorize(
                    $s,
                    #[inline(always)]
                    || $body,
                )
            }
        }
    };
}
pub(crate) use with_wide_simd;

/// As [`with_wide_simd`], with the instructions for pairs of bfloat16 where the CPU has them; AVX-512 without them is not
/// worth code of its own.
#[cfg(target_arch = "x86_64")]
macro_rules! with_pairs_simd {
    ($isa:expr, $s:ident => $body:expr) => {
        match $isa.pairs() {
            (Some($s), _) => $crate::simd::Simd::vectorize(
                $s,
                #[inline(always)]
                || $body,
            ),
            (None, Some(proof)) => {
                let $s = $crate::simd::Pair(proof);
                $crate::simd::Simd::vectorize(
                    $s,
                    #[inline(always)]
                    || $body,
                )
            }
            (None, None) => {
                let $s = $crate::simd::Pair($crate::simd::Portable);
                $crate::simd::Simd::vectorize(
                    $s,
                    #[inline(always)]
                    || $body,
                )
            }
        }
    };
}
/// As [`with_wide_simd`].
#[cfg(not(target_arch = "x86_64"))]
macro_rules! with_pairs_simd {
    ($isa:expr, $s:ident => $body:expr) => {
        $crate::simd::with_wide_simd!($isa, $s => $body)
    };
}
pub(crate) use with_pairs_simd;

#[cfg(test)]
mod tests;
