//! What this machine gives at most: bytes read a second, and multiply-accumulates a second of each instruction set. A
//! share of a limit that was taken in the same seconds says more than a rate: neighbours and clocks change a machine from
//! minute to minute.
//!
//! Counts are results and not claims. All factors are 1, so the sum that a kernel ends with is the number of
//! multiply-accumulates that it did; the memory that is read holds the number 1, so the sum of it is the number of words.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::backend::cpu::memory::{Memory, Region};
use crate::error::Result;
use crate::pool::Pool;
use crate::simd::{Isa, with_simd};

/// What is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "napi", napi_derive::napi(string_enum = "lowercase"))]
pub enum Factors {
    /// 8-bit integers, added up in integers: `vpdpbusd`, with AVX2 `vpmaddubsw`, with NEON `sdot`.
    Int8,
    /// bfloat16, added up in f32: `vdpbf16ps`.
    Bf16,
    /// f32, rounded once: fused multiply-add.
    Fp32,
}

/// Rounds of a kernel in one call: few enough that no lane of any kernel overflows or rounds.
const ROUNDS: u32 = 8192;
/// Calls for each thread in a pass, which then takes about a millisecond.
const CALLS: usize = 32;
/// What a task reads; long enough for the prefetcher.
const PART: usize = 1 << 20;
/// Bytes that are added up at once.
const STRIDE: usize = 256;

/// Threads and memory to measure with.
pub struct Limits {
    pool: Pool,
    footprint: Region,
}

impl Limits {
    /// `footprint`: bytes of memory that reads go through, rounded up to whole MiB.
    ///
    /// # Errors
    /// `out_of_memory`; `unsupported` for 0 threads.
    pub fn new(threads: usize, footprint: usize) -> Result<Self> {
        let mut footprint = Memory::default().take(footprint.max(1).next_multiple_of(PART))?;
        let (words, _) = footprint.bytes_mut().as_chunks_mut::<8>();
        words.fill(1_u64.to_ne_bytes());
        Ok(Self { pool: Pool::new(threads)?, footprint })
    }

    /// Bytes a second that all threads read from end to end of the footprint, again and again for `millis`: the median of
    /// the passes. The pages have 2 MiB where the system gives them.
    pub fn read_bandwidth(&mut self, millis: u32) -> f64 {
        median_rate(millis, || self.read())
    }

    /// Multiply-accumulates a second of all threads, the median of passes over `millis`; `None` where the instruction set
    /// has no instruction for these factors.
    pub fn multiply_rate(&mut self, isa: Isa, factors: Factors, millis: u32) -> Option<f64> {
        multiply(isa, factors, 1)?;
        let calls = CALLS * self.pool.threads();
        Some(median_rate(millis, || {
            let done = AtomicU64::new(0);
            self.pool.run(calls, &|_, _| {
                done.fetch_add(multiply(isa, factors, ROUNDS).unwrap_or(0), Ordering::Relaxed);
            });
            done.into_inner()
        }))
    }

    /// Reads all of the footprint once; answers how many bytes that were.
    fn read(&mut self) -> u64 {
        let (isa, words) = (widest(), AtomicU64::new(0));
        let bytes = self.footprint.bytes();
        self.pool.run(bytes.len() / PART, &|part, _| {
            let bytes = &bytes[part * PART..][..PART];
            words.fetch_add(with_simd!(isa, _s => add_up(bytes)), Ordering::Relaxed);
        });
        words.into_inner() * size_of::<u64>() as u64
    }
}

/// Portable is always there, so that nothing is refused.
fn widest() -> Isa {
    Isa::detect("auto").unwrap_or(Isa::Portable)
}

/// The sum of all words. 32 sums, so that loads never wait for additions.
#[inline(always)]
fn add_up(bytes: &[u8]) -> u64 {
    let mut sums = [0_u64; STRIDE / 8];
    for stride in bytes.as_chunks::<STRIDE>().0 {
        for (sum, word) in sums.iter_mut().zip(stride.as_chunks::<8>().0) {
            *sum += u64::from_ne_bytes(*word);
        }
    }
    sums.iter().sum()
}

/// Answers how many multiply-accumulates `rounds` rounds were.
fn multiply(isa: Isa, factors: Factors, rounds: u32) -> Option<u64> {
    match (isa, factors) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512(proof), Factors::Int8) => Some(avx512::int8(proof, rounds)),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512(proof), Factors::Bf16) => avx512::bf16(proof, rounds),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512(proof), Factors::Fp32) => Some(avx512::fp32(proof, rounds)),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2(proof), Factors::Int8) => Some(avx2::int8(proof, rounds)),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2(proof), Factors::Fp32) => Some(avx2::fp32(proof, rounds)),
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon(proof), Factors::Int8) => Some(neon::int8(proof, rounds)),
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon(proof), Factors::Fp32) => Some(neon::fp32(proof, rounds)),
        (Isa::Portable, Factors::Int8) => Some(portable::int8(rounds)),
        (Isa::Portable, Factors::Fp32) => Some(portable::fp32(rounds)),
        (_, Factors::Bf16) => None,
    }
}

/// Calls `pass` for `millis` and at least once, after a call that wakes threads and clocks; the median of what it answers
/// by the time it took, since a pass in which another process had the core is no limit.
fn median_rate(millis: u32, mut pass: impl FnMut() -> u64) -> f64 {
    pass();
    let begin = Instant::now();
    let mut rates = Vec::new();
    while rates.is_empty() || begin.elapsed() < Duration::from_millis(u64::from(millis)) {
        let start = Instant::now();
        let done = pass();
        rates.push(done as f64 / start.elapsed().as_secs_f64());
    }
    middle(rates)
}

/// Of an even number the upper one.
fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets() -> Vec<Isa> {
        Isa::all().collect()
    }

    /// Multiply-accumulates of one round: sums x lanes x products that a lane adds up.
    fn in_a_round(isa: Isa, factors: Factors) -> Option<u64> {
        match (isa.name(), factors) {
            ("avx512", Factors::Int8) => Some(12 * 16 * 4),
            ("avx512", Factors::Bf16) => crate::cpu_features::detect().avx512_bf16.then_some(12 * 16 * 2),
            ("avx512", Factors::Fp32) | ("neon", Factors::Int8) => Some(12 * 16),
            ("avx2", Factors::Int8) => Some(12 * 16 * 2),
            ("avx2", Factors::Fp32) => Some(12 * 8),
            ("neon", Factors::Fp32) => Some(12 * 4),
            ("portable", Factors::Int8 | Factors::Fp32) => Some(32),
            _ => None,
        }
    }

    #[test]
    fn a_kernel_does_as_many_multiplications_as_its_instructions_stand_for() {
        for isa in sets() {
            for factors in [Factors::Int8, Factors::Bf16, Factors::Fp32] {
                for rounds in [0, 1, 7, ROUNDS] {
                    let expected = in_a_round(isa, factors).map(|each| each * u64::from(rounds));
                    assert_eq!(multiply(isa, factors, rounds), expected, "{isa:?} {factors:?} {rounds}");
                }
            }
        }
    }

    #[test]
    fn a_read_goes_through_every_byte_once_on_any_number_of_threads() {
        for (threads, footprint, read) in
            [(1, 1, PART), (2, 5 * PART, 5 * PART), (3, 20 * PART + 1, 21 * PART)]
        {
            let mut limits = Limits::new(threads, footprint).expect("memory");
            assert_eq!(limits.read(), read as u64);
            assert_eq!(limits.read(), read as u64);
        }
    }

    #[test]
    fn words_are_added_up_on_every_instruction_set() {
        let bytes: Vec<u8> = (0..4 * STRIDE as u64 / 8).flat_map(u64::to_ne_bytes).collect();
        let expected = (0..4 * STRIDE as u64 / 8).sum::<u64>();
        for isa in sets() {
            assert_eq!(with_simd!(isa, _s => add_up(&bytes)), expected, "{isa:?}");
        }
    }

    #[test]
    fn rates_are_positive_where_there_is_an_instruction() {
        let mut limits = Limits::new(2, 3 * PART).expect("memory");
        assert!(limits.read_bandwidth(0) > 0.0);
        for isa in sets() {
            for factors in [Factors::Int8, Factors::Bf16, Factors::Fp32] {
                let rate = limits.multiply_rate(isa, factors, 0);
                assert_eq!(rate.is_some(), in_a_round(isa, factors).is_some(), "{isa:?} {factors:?}");
                assert!(rate.is_none_or(|rate| rate > 0.0));
            }
        }
    }

    #[test]
    fn a_rate_is_the_median_of_passes_after_one_that_is_not_counted() {
        assert_eq!(middle(vec![9.0, 1.0, 2.0]), 2.0);
        let mut passes = 0;
        median_rate(0, || {
            passes += 1;
            1
        });
        assert_eq!(passes, 2);
    }
}
