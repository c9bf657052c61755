//! What types of integers with one scale for each token and head have in common. Scores are exact integers of a query in such
//! integers too, times both scales; a chunk's weights times the scales of its values are 16 bits of the largest of them, and
//! their sum with values an exact integer.

use std::marker::PhantomData;

use super::{KvFormat, Packed, Units, Vectors};
use crate::mapping::Plain;
use crate::ops::attention::cpu::layout::RUN;
use crate::ops::attention::cpu::rows::CHUNK;
use crate::simd::Simd;

/// What is left to a type.
pub(in super::super) trait Integers<S: Simd<RUN>> {
    /// As [`KvFormat::DIMS`].
    const DIMS: usize;
    /// The largest weight of a chunk: its sum with values is within 32 bits.
    const MOST_WEIGHT: f32;
    /// As [`KvFormat::Value`].
    type Value: Plain;

    fn load_values(s: S, from: &[Self::Value; RUN]) -> S::Words;
    fn pack(s: S, query: &[f32], by: f32, to: &mut [u32]) -> Packed;
    /// What scores are too large by, with the sign turned.
    fn start(query: Packed) -> i32;
    fn dot_keys(s: S, keys: S::Words, query: S::Words, sum: S::Words) -> S::Words;
}

/// A type of integers as a type of KV.
pub(in super::super) struct Scaled<I>(PhantomData<I>);

impl<S: Simd<RUN>, I: Integers<S>> KvFormat<S> for Scaled<I> {
    const DIMS: usize = I::DIMS;
    const TOKENS: usize = 2;
    type Key = u32;
    type Value = I::Value;
    type Vector = S::Words;
    type Sum = S::Words;
    type Word = u32;

    #[inline(always)]
    fn load_keys(s: S, from: &[u32; RUN]) -> S::Words {
        s.load_words(from)
    }
    #[inline(always)]
    fn load_values(s: S, from: &[I::Value; RUN]) -> S::Words {
        I::load_values(s, from)
    }
    #[inline(always)]
    fn load_first_values(s: S, from: &[I::Value; RUN]) -> S::Words {
        // Integers are numbers always: the others' weight is 0.
        I::load_values(s, from)
    }
    #[inline(always)]
    fn pack(s: S, query: &[f32], by: f32, to: &mut [u32]) -> Packed {
        I::pack(s, query, by, to)
    }
    #[inline(always)]
    fn splat_query(s: S, word: u32) -> S::Words {
        s.splat_word(word)
    }
    #[inline(always)]
    fn start(s: S, query: Packed) -> S::Words {
        s.splat_word(I::start(query) as u32)
    }
    #[inline(always)]
    fn dot_keys(s: S, keys: S::Words, query: S::Words, sum: S::Words) -> S::Words {
        I::dot_keys(s, keys, query, sum)
    }
    #[inline(always)]
    fn scores(s: S, sum: S::Words, query: Packed, scales: &[f32; RUN]) -> S::V {
        s.mul(s.floats(sum), s.mul(s.load(scales), s.splat(query.scale)))
    }
    #[inline(always)]
    fn units(s: S, scales: Vectors<S::V>) -> Units<S::V> {
        Units::of(s, &scales, I::MOST_WEIGHT)
    }
    #[inline(always)]
    fn keep(s: S, weights: &Vectors<S::V>, units: &Units<S::V>, to: &mut [u32; CHUNK]) -> S::V {
        let pairs = weights.as_chunks::<2>().0.iter().zip(units.by.as_chunks::<2>().0);
        for ((weights, by), to) in pairs.zip(to.as_chunks_mut().0) {
            s.store_shorts(to, s.mul(weights[0], by[0]), s.mul(weights[1], by[1]));
        }
        s.add(s.add(weights[0], weights[1]), s.add(weights[2], weights[3]))
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
