//! bfloat16 in pairs; queries and weights are rounded to it as well.

use super::{KvFormat, Packed, Units, Vectors};
use crate::ops::attention::cpu::layout::RUN;
use crate::ops::attention::cpu::rows::CHUNK;
use crate::simd::Simd;

/// See the module.
pub(in super::super) struct Pairs;

/// 1 twice.
const ONES: u32 = 0x3f80_3f80;

impl<S: Simd<RUN>> KvFormat<S> for Pairs {
    const DIMS: usize = 2;
    const TOKENS: usize = 2;
    type Key = u32;
    type Value = u32;
    type Vector = S::Words;
    type Sum = S::V;
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
        s.load_firsts(from)
    }
    #[inline(always)]
    fn pack(s: S, query: &[f32], by: f32, to: &mut [u32]) -> Packed {
        let by = s.splat(by);
        for (query, to) in query.chunks(2 * RUN).zip(to.chunks_mut(RUN)) {
            let (mut numbers, mut words) = ([0.0; 2 * RUN], [0; RUN]);
            numbers[..query.len()].copy_from_slice(query);
            let numbers = numbers.as_chunks().0;
            s.store_pairs(&mut words, s.mul(s.load(&numbers[0]), by), s.mul(s.load(&numbers[1]), by));
            to.copy_from_slice(&words[..to.len()]);
        }
        Packed::default()
    }
    #[inline(always)]
    fn splat_query(s: S, word: u32) -> S::Words {
        s.splat_word(word)
    }
    #[inline(always)]
    fn start(s: S, _: Packed) -> S::V {
        s.splat(0.0)
    }
    #[inline(always)]
    fn dot_keys(s: S, keys: S::Words, query: S::Words, sum: S::V) -> S::V {
        s.dot_pairs(keys, query, sum)
    }
    #[inline(always)]
    fn scores(_: S, sum: S::V, _: Packed, _: &[f32; RUN]) -> S::V {
        sum
    }
    #[inline(always)]
    fn keep(s: S, weights: &Vectors<S::V>, _: &Units<S::V>, to: &mut [u32; CHUNK]) -> S::V {
        let to = to.as_chunks_mut().0;
        let mut sum = s.splat(0.0);
        for i in 0..weights.len() / 2 {
            s.store_pairs(&mut to[i], weights[2 * i], weights[2 * i + 1]);
            // What was rounded is what is summed, so that the weights of a row sum to 1.
            sum = s.dot_pairs(s.load_words(&to[i]), s.splat_word(ONES), sum);
        }
        sum
    }
    #[inline(always)]
    fn splat_weight(s: S, word: u32) -> S::Words {
        s.splat_word(word)
    }
    #[inline(always)]
    fn dot_values(s: S, values: S::Words, weights: S::Words, sum: S::V) -> S::V {
        s.dot_pairs(values, weights, sum)
    }
    #[inline(always)]
    fn floats(_: S, sum: S::V) -> S::V {
        sum
    }
}
