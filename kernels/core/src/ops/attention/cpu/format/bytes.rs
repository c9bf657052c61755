//! Bytes with one scale for each token and head. Scores are exact integers of a query in bytes, times both scales; a chunk's
//! weights times the scales of its values are 16 bits of the largest of them, and their sum with values an exact integer.

use super::shorts::keep_shorts;
use super::{KvFormat, Packed, Units, Vectors};
use crate::ops::attention::cpu::layout::{MOST_HEAD_DIM, RUN};
use crate::ops::attention::cpu::quantize;
use crate::ops::attention::cpu::rows::CHUNK;
use crate::simd::{Simd, exp2_short};

/// See the module.
pub(in super::super) struct Bytes;

/// The largest weight of a chunk; 64 times it times 127 is within 32 bits.
const MOST: f32 = 32767.0;

impl<S: Simd<RUN>> KvFormat<S> for Bytes {
    const DIMS: usize = 4;
    const TOKENS: usize = 2;
    type Key = u32;
    type Value = u16;
    type Vector = S::Words;
    type Sum = S::Words;
    type Word = u32;

    #[inline(always)]
    fn load_keys(s: S, from: &[u32; RUN]) -> S::Words {
        s.load_words(from)
    }
    #[inline(always)]
    fn load_values(s: S, from: &[u16; RUN]) -> S::Words {
        s.load_bytes(from)
    }
    #[inline(always)]
    fn load_first_values(s: S, from: &[u16; RUN]) -> S::Words {
        // Bytes are numbers always: the others' weight is 0.
        s.load_bytes(from)
    }
    #[inline(always)]
    fn pack(s: S, query: &[f32], by: f32, to: &mut Vec<u32>) -> Packed {
        let mut bytes = [0; MOST_HEAD_DIM];
        let bytes = &mut bytes[..query.len()];
        let scale = quantize::bytes(s, query, bytes);
        to.extend(bytes.as_chunks().0.iter().map(|quad| u32::from_le_bytes(quad.map(|byte| byte as u8))));
        Packed { scale: scale * by, sum: bytes.iter().map(|&byte| i32::from(byte)).sum() }
    }
    #[inline(always)]
    fn splat_query(s: S, word: u32) -> S::Words {
        s.splat_word(word)
    }
    #[inline(always)]
    fn start(s: S, query: Packed) -> S::Words {
        s.splat_word((-S::QUAD_BIAS * query.sum) as u32)
    }
    #[inline(always)]
    fn dot_keys(s: S, keys: S::Words, query: S::Words, sum: S::Words) -> S::Words {
        s.dot_quads(keys, query, sum)
    }
    #[inline(always)]
    fn scores(s: S, sum: S::Words, query: Packed, scales: &[f32; RUN]) -> S::V {
        s.mul(s.floats(sum), s.mul(s.load(scales), s.splat(query.scale)))
    }
    #[inline(always)]
    fn exp2(s: S, x: S::V) -> S::V {
        exp2_short(s, x)
    }
    #[inline(always)]
    fn units(s: S, scales: Vectors<S::V>) -> Units<S::V> {
        Units::of(s, &scales, MOST)
    }
    #[inline(always)]
    fn keep(s: S, weights: &Vectors<S::V>, units: &Units<S::V>, to: &mut [u32; CHUNK]) -> S::V {
        keep_shorts(s, weights, units, to)
    }
    #[inline(always)]
    fn splat_weight(s: S, word: u32) -> S::Words {
        s.splat_word(word)
    }
    #[inline(always)]
    fn dot_values(s: S, values: S::Words, weights: S::Words, sum: S::Words) -> S::Words {
        s.dot_shorts(values, weights, sum)
    }
    #[inline(always)]
    fn floats(s: S, sum: S::Words) -> S::V {
        s.floats(sum)
    }
}
