//! What attention does to elements of KV as they are kept: everything that differs between types.

mod bytes;
mod halves;
mod pairs;

pub(super) use bytes::Bytes;
pub(super) use halves::Halves;
pub(super) use pairs::Pairs;

use super::layout::RUN;
use super::rows::CHUNK;
use crate::mapping::Plain;
use crate::simd::Simd;

/// A chunk's scores or weights of a row.
pub(super) type Vectors<V> = [V; CHUNK / RUN];
/// Scales of the tokens of a chunk's runs.
pub(super) type Scales<'a> = [&'a [f32; RUN]; CHUNK / RUN];

/// What a query is multiplied by to be what its words stand for, and the sum of what its words hold; for types that need it.
#[derive(Clone, Copy, Default)]
pub(super) struct Packed {
    pub(super) scale: f32,
    pub(super) sum: i32,
}

/// One type of KV. A lane holds neighbours in the direction of a sum: dims of a key, tokens of a value.
pub(super) trait KvFormat<S: Simd<RUN>> {
    /// Dims in a lane of keys.
    const DIMS: usize;
    /// Tokens in a lane of values.
    const TOKENS: usize;
    /// A lane of keys in memory, and one of values.
    type Key: Plain;
    type Value: Plain;
    /// A vector of lanes.
    type Vector: Copy;
    /// Sums of products.
    type Sum: Copy;
    /// Weights of the tokens of a lane.
    type Word: Copy + Default;

    fn load_keys(s: S, from: &[Self::Key; RUN]) -> Self::Vector;
    fn load_values(s: S, from: &[Self::Value; RUN]) -> Self::Vector;
    /// As [`Self::load_values`], of which only the first token of each lane counts.
    fn load_first_values(s: S, from: &[Self::Value; RUN]) -> Self::Vector;

    /// A query times `by`, as words at the end of `to`; its length is a multiple of 8.
    fn pack(s: S, query: &[f32], by: f32, to: &mut Vec<u32>) -> Packed;
    /// All lanes this word of a query.
    fn splat_query(s: S, word: u32) -> Self::Vector;
    /// The sum that scores begin with.
    fn start(s: S, query: Packed) -> Self::Sum;
    /// Adds the products of neighbouring dims.
    fn dot_keys(s: S, keys: Self::Vector, query: Self::Vector, sum: Self::Sum) -> Self::Sum;
    /// Scores of the keys of a run.
    fn scores(s: S, sum: Self::Sum, query: Packed, scales: &[f32; RUN]) -> S::V;

    /// `2^x` for `x` of at most 0, as exact as weights are kept.
    fn exp2(s: S, x: S::V) -> S::V;
    /// Stores weights as words and adds them to `sums`. Answers what words are multiplied by to be weights of values.
    fn keep(
        s: S,
        weights: &Vectors<S::V>,
        value_scales: &Scales<'_>,
        to: &mut [Self::Word; CHUNK],
        sums: &mut [f32; RUN],
    ) -> f32;
    /// All lanes this word of weights.
    fn splat_weight(s: S, word: Self::Word) -> Self::Vector;
    /// The sum that a chunk begins with where `out` is the one before it.
    fn resume(s: S, out: S::V) -> Self::Sum;
    /// Adds the products of neighbouring tokens.
    fn dot_values(s: S, values: Self::Vector, weights: Self::Vector, sum: Self::Sum) -> Self::Sum;
    /// The sum after the chunk; `by` is what [`Self::keep`] has answered.
    fn finish(s: S, sum: Self::Sum, by: f32, out: S::V) -> S::V;
}
