//! Multiply-accumulates of AVX2.
#![expect(unsafe_code, reason = "calls that need a CPU feature; the token is the proof")]
#![cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "an instruction set is used as a whole"))]

use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;

use crate::simd::Avx2;

/// Sums that do not wait for each other, as many as 16 registers hold beside the factors.
const SUMS: usize = 12;

/// 32 a `vpmaddubsw`, whose pairs are added to 16-bit sums: what a kernel does between two widenings.
pub(super) fn int8(_: Avx2, rounds: u32) -> u64 {
    #[target_feature(enable = "avx2")]
    fn run(rounds: u32) -> u64 {
        let mut ones = black_box(_mm256_set1_epi8(1));
        let mut sums = [_mm256_setzero_si256(); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                // SAFETY: no instruction at all; it hides that the product is always the same.
                unsafe { asm!("/* {0} */", inout(ymm_reg) ones, options(nomem, nostack, preserves_flags)) };
                *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(ones, ones));
            }
        }
        sums.iter().map(|&sum| add_up(sum)).sum()
    }
    #[target_feature(enable = "avx2")]
    fn add_up(halves: __m256i) -> u64 {
        let words = _mm256_madd_epi16(halves, _mm256_set1_epi16(1));
        let words = _mm_add_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        let words = _mm_add_epi32(words, _mm_shuffle_epi32::<0b1110>(words));
        _mm_cvtsi128_si32(_mm_add_epi32(words, _mm_shuffle_epi32::<0b01>(words))) as u64
    }
    // SAFETY: the token proves the feature.
    unsafe { run(rounds) }
}

/// 8 a `vfmadd`.
pub(super) fn fp32(_: Avx2, rounds: u32) -> u64 {
    #[target_feature(enable = "avx2,fma")]
    fn run(rounds: u32) -> u64 {
        let ones = black_box(_mm256_set1_ps(1.0));
        let mut sums = [_mm256_setzero_ps(); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(ones, ones, *sum);
                // SAFETY: no instruction at all; it keeps the sums apart and in registers.
                unsafe { asm!("/* {0} */", inout(ymm_reg) * sum, options(nomem, nostack, preserves_flags)) };
            }
        }
        sums.iter().map(|&sum| add_up(sum)).sum()
    }
    #[target_feature(enable = "avx2,fma")]
    fn add_up(lanes: __m256) -> u64 {
        let lanes = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
        let lanes = _mm_add_ps(lanes, _mm_movehl_ps(lanes, lanes));
        _mm_cvtss_f32(_mm_add_ss(lanes, _mm_movehdup_ps(lanes))) as u64
    }
    // SAFETY: the token proves the features.
    unsafe { run(rounds) }
}
