//! Bytes with scales.

use super::Packed;
use super::integers::Integers;
use crate::ops::attention::cpu::layout::{MOST_HEAD_DIM, RUN};
use crate::ops::attention::cpu::quantize;
use crate::ops::attention::cpu::rows::CHUNK;
use crate::simd::Simd;

/// See the module.
pub(in super::super) struct Bytes;

const MOST_WEIGHT: f32 = 32767.0;
const _: () = assert!(CHUNK as i64 * MOST_WEIGHT as i64 * i8::MAX as i64 <= i32::MAX as i64);

impl<S: Simd<RUN>> Integers<S> for Bytes {
    const DIMS: usize = 4;
    const MOST_WEIGHT: f32 = MOST_WEIGHT;
    type Value = u16;

    #[inline(always)]
    fn load_values(s: S, from: &[u16; RUN]) -> S::Words {
        s.load_bytes(from)
    }
    #[inline(always)]
    fn pack(s: S, query: &[f32], by: f32, to: &mut [u32]) -> Packed {
        let mut bytes = [0; MOST_HEAD_DIM];
        let bytes = &mut bytes[..query.len()];
        let scale = quantize::bytes(s, query, bytes);
        for (quad, to) in bytes.as_chunks().0.iter().zip(to) {
            *to = u32::from_le_bytes(quad.map(|byte| byte as u8));
        }
        Packed { scale: scale * by, sum: bytes.iter().map(|&byte| i32::from(byte)).sum() }
    }
    #[inline(always)]
    fn start(query: Packed) -> i32 {
        -S::QUAD_BIAS * query.sum
    }
    #[inline(always)]
    fn dot_keys(s: S, keys: S::Words, query: S::Words, sum: S::Words) -> S::Words {
        s.dot_quads(keys, query, sum)
    }
}
