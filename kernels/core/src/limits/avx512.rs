//! Multiply-accumulates of AVX-512.
#![expect(unsafe_code, reason = "calls that need a CPU feature; the token is the proof")]
#![cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "an instruction set is used as a whole"))]

use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;

use crate::simd::Avx512;

/// Sums that do not wait for each other: more than latency times instructions a cycle (6 x 2 at most).
const SUMS: usize = 12;

/// 64 a `vpdpbusd`.
pub(super) fn int8(_: Avx512, rounds: u32) -> u64 {
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn run(rounds: u32) -> u64 {
        let ones = black_box(_mm512_set1_epi8(1));
        let mut sums = [_mm512_setzero_si512(); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, ones, ones);
                // SAFETY: no instruction at all; it keeps the sums apart and in registers.
                unsafe { asm!("/* {0} */", inout(zmm_reg) * sum, options(nomem, nostack, preserves_flags)) };
            }
        }
        sums.iter().map(|&sum| _mm512_reduce_add_epi32(sum) as u64).sum()
    }
    // SAFETY: the token proves the features.
    unsafe { run(rounds) }
}

/// 32 a `vdpbf16ps`; `None` on a CPU without it.
pub(super) fn bf16(_: Avx512, rounds: u32) -> Option<u64> {
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn run(rounds: u32) -> u64 {
        let one = _mm512_set1_ps(1.0);
        let ones = black_box(_mm512_cvtne2ps_pbh(one, one));
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, ones, ones);
                // SAFETY: as in `int8`.
                unsafe { asm!("/* {0} */", inout(zmm_reg) * sum, options(nomem, nostack, preserves_flags)) };
            }
        }
        sums.iter().map(|&sum| _mm512_reduce_add_ps(sum) as u64).sum()
    }
    // SAFETY: the token proves all but BF16, which was asked for just now.
    is_x86_feature_detected!("avx512bf16").then(|| unsafe { run(rounds) })
}

/// 16 a `vfmadd`.
pub(super) fn fp32(_: Avx512, rounds: u32) -> u64 {
    #[target_feature(enable = "avx512f,avx512bw")]
    fn run(rounds: u32) -> u64 {
        let ones = black_box(_mm512_set1_ps(1.0));
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(ones, ones, *sum);
                // SAFETY: as in `int8`.
                unsafe { asm!("/* {0} */", inout(zmm_reg) * sum, options(nomem, nostack, preserves_flags)) };
            }
        }
        sums.iter().map(|&sum| _mm512_reduce_add_ps(sum) as u64).sum()
    }
    // SAFETY: the token proves the features.
    unsafe { run(rounds) }
}
