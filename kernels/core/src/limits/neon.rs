//! Multiply-accumulates of NEON with dot products of bytes.
#![expect(unsafe_code, reason = "calls that need a CPU feature; the token is the proof")]
#![cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "an instruction set is used as a whole"))]

use std::arch::aarch64::*;
use std::arch::asm;
use std::hint::black_box;

use crate::simd::Neon;

/// Sums that do not wait for each other, as many as hide the latency of two units.
const SUMS: usize = 12;

/// 16 a `sdot`.
pub(super) fn int8(_: Neon, rounds: u32) -> u64 {
    #[target_feature(enable = "neon,dotprod")]
    fn run(rounds: u32) -> u64 {
        let ones = black_box(vdupq_n_s8(1));
        let mut sums = [vdupq_n_s32(0); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                // SAFETY: an instruction of `dotprod`, on registers alone.
                unsafe {
                    asm!(
                        "sdot {0:v}.4s, {1:v}.16b, {1:v}.16b",
                        inout(vreg) * sum, in(vreg) ones, options(nomem, nostack, preserves_flags)
                    );
                }
            }
        }
        sums.iter().map(|&sum| vaddvq_s32(sum) as u64).sum()
    }
    // SAFETY: the token proves the features.
    unsafe { run(rounds) }
}

/// 4 a `fmla`.
pub(super) fn fp32(_: Neon, rounds: u32) -> u64 {
    #[target_feature(enable = "neon")]
    fn run(rounds: u32) -> u64 {
        let ones = black_box(vdupq_n_f32(1.0));
        let mut sums = [vdupq_n_f32(0.0); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = vfmaq_f32(*sum, ones, ones);
                // SAFETY: no instruction at all; it keeps the sums apart and in registers.
                unsafe { asm!("/* {0:v} */", inout(vreg) * sum, options(nomem, nostack, preserves_flags)) };
            }
        }
        sums.iter().map(|&sum| vaddvq_f32(sum) as u64).sum()
    }
    // SAFETY: the token proves the features.
    unsafe { run(rounds) }
}
