//! 16-bit integers with one scale for each token and head. Scores are exact integers of a query in such integers, times both
//! scales; a chunk's weights times the scales of its values are integers too, and so is their sum with values.

use super::{KvFormat, Packed, Units, Vectors};
use crate::ops::attention::cpu::layout::{MOST_HEAD_DIM, RUN};
use crate::ops::attention::cpu::quantize::{MOST_VALUE, key_scale, shorts, times};
use crate::ops::attention::cpu::rows::CHUNK;
use crate::simd::{Simd, exp2_short};

/// See the module.
pub(in super::super) struct Shorts;

/// The largest weight of a chunk.
const MOST_WEIGHT: f32 = 5792.0;
// The largest sum of a chunk is within 32 bits.
const _: () = assert!(CHUNK as i64 * MOST_WEIGHT as i64 * MOST_VALUE as i64 <= i32::MAX as i64);

impl<S: Simd<RUN>> KvFormat<S> for Shorts {
    const DIMS: usize = 2;
    const TOKENS: usize = 2;
    type Key = u32;
    type Value = u32;
    type Vector = S::Words;
    type Sum = S::Words;
    type Word = u32;

    #[inline(always)]
    fn load_keys(s: S, from: &[u32; RUN]) -> S::Words {
        s.load_words(from)
    }
    #[inline(always)]
    fn load_values(s: S, from: &[u32; RUN]) -> S::Words {
        s.load_words(from)
    }
    #[inline(always)]
    fn load_first_values(s: S, from: &[u32; RUN]) -> S::Words {
        // Integers are numbers always: the others' weight is 0.
        s.load_words(from)
    }
    #[inline(always)]
    fn pack(s: S, query: &[f32], by: f32, to: &mut Vec<u32>) -> Packed {
        let mut words = [0; MOST_HEAD_DIM / 2];
        let words = &mut words[..query.len() / 2];
        let scale = key_scale(s, query);
        shorts(s, query, times(scale), words);
        to.extend_from_slice(words);
        Packed { scale: scale * by, sum: 0 }
    }
    #[inline(always)]
    fn splat_query(s: S, word: u32) -> S::Words {
        s.splat_word(word)
    }
    #[inline(always)]
    fn start(s: S, _: Packed) -> S::Words {
        s.splat_word(0)
    }
    #[inline(always)]
    fn dot_keys(s: S, keys: S::Words, query: S::Words, sum: S::Words) -> S::Words {
        s.dot_shorts(keys, query, sum)
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
        Units::of(s, &scales, MOST_WEIGHT)
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

/// [`KvFormat::keep`] where words are two integers of 16 bits.
#[inline(always)]
pub(super) fn keep_shorts<S: Simd<RUN>>(
    s: S,
    weights: &Vectors<S::V>,
    units: &Units<S::V>,
    to: &mut [u32; CHUNK],
) -> S::V {
    let pairs = weights.as_chunks::<2>().0.iter().zip(units.by.as_chunks::<2>().0);
    for ((weights, by), to) in pairs.zip(to.as_chunks_mut().0) {
        s.store_shorts(to, s.mul(weights[0], by[0]), s.mul(weights[1], by[1]));
    }
    s.add(s.add(weights[0], weights[1]), s.add(weights[2], weights[3]))
}
