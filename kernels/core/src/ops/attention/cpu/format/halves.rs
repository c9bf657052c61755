//! IEEE halves; queries and weights stay f32.

use super::{KvFormat, Packed, Units, Vectors};
use crate::ops::attention::cpu::layout::RUN;
use crate::ops::attention::cpu::rows::CHUNK;
use crate::simd::{Simd, exp2};

/// See the module.
pub(in super::super) struct Halves;

impl<S: Simd<RUN>> KvFormat<S> for Halves {
    const DIMS: usize = 1;
    const TOKENS: usize = 1;
    type Key = u16;
    type Value = u16;
    type Vector = S::V;
    type Sum = S::V;
    type Word = f32;

    #[inline(always)]
    fn load_keys(s: S, from: &[u16; RUN]) -> S::V {
        s.load_half(from)
    }
    #[inline(always)]
    fn load_values(s: S, from: &[u16; RUN]) -> S::V {
        s.load_half(from)
    }
    #[inline(always)]
    fn load_first_values(s: S, from: &[u16; RUN]) -> S::V {
        s.load_half(from)
    }
    #[inline(always)]
    fn pack(_: S, query: &[f32], by: f32, to: &mut [u32]) -> Packed {
        for (query, to) in query.iter().zip(to) {
            *to = (query * by).to_bits();
        }
        Packed::default()
    }
    #[inline(always)]
    fn splat_query(s: S, word: u32) -> S::V {
        s.splat(f32::from_bits(word))
    }
    #[inline(always)]
    fn start(s: S, _: Packed) -> S::V {
        s.splat(0.0)
    }
    #[inline(always)]
    fn dot_keys(s: S, keys: S::V, query: S::V, sum: S::V) -> S::V {
        s.fma(keys, query, sum)
    }
    #[inline(always)]
    fn scores(_: S, sum: S::V, _: Packed, _: &[f32; RUN]) -> S::V {
        sum
    }
    #[inline(always)]
    fn exp2(s: S, x: S::V) -> S::V {
        exp2(s, x)
    }
    #[inline(always)]
    fn keep(s: S, weights: &Vectors<S::V>, _: &Units<S::V>, to: &mut [f32; CHUNK]) -> S::V {
        let to = to.as_chunks_mut().0;
        for i in 0..weights.len() {
            s.store(&mut to[i], weights[i]);
        }
        s.add(s.add(weights[0], weights[1]), s.add(weights[2], weights[3]))
    }
    #[inline(always)]
    fn splat_weight(s: S, word: f32) -> S::V {
        s.splat(word)
    }
    #[inline(always)]
    fn dot_values(s: S, values: S::V, weights: S::V, sum: S::V) -> S::V {
        s.fma(values, weights, sum)
    }
    #[inline(always)]
    fn floats(_: S, sum: S::V) -> S::V {
        sum
    }
}
