//! 16-bit integers with scales.

use super::Packed;
use super::integers::Integers;
use crate::ops::attention::cpu::layout::RUN;
use crate::ops::attention::cpu::quantize::{MOST_VALUE, key_scale, shorts, times};
use crate::ops::attention::cpu::rows::CHUNK;
use crate::simd::Simd;

/// See the module.
pub(in super::super) struct Shorts;

const MOST_WEIGHT: f32 = 5792.0;
const _: () = assert!(CHUNK as i64 * MOST_WEIGHT as i64 * MOST_VALUE as i64 <= i32::MAX as i64);

impl<S: Simd<RUN>> Integers<S> for Shorts {
    const DIMS: usize = 2;
    const MOST_WEIGHT: f32 = MOST_WEIGHT;
    type Value = u32;

    #[inline(always)]
    fn load_values(s: S, from: &[u32; RUN]) -> S::Words {
        s.load_words(from)
    }
    #[inline(always)]
    fn pack(s: S, query: &[f32], by: f32, to: &mut [u32]) -> Packed {
        let scale = key_scale(s, query);
        shorts(s, query, times(scale), to);
        Packed { scale: scale * by, sum: 0 }
    }
    #[inline(always)]
    fn start(_: Packed) -> i32 {
        0
    }
    #[inline(always)]
    fn dot_keys(s: S, keys: S::Words, query: S::Words, sum: S::Words) -> S::Words {
        s.dot_shorts(keys, query, sum)
    }
}
