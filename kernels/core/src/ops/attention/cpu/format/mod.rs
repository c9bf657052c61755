//! What attention does to elements of KV as they are kept: everything that differs between types.

mod bytes;
mod halves;
mod integers;
mod pairs;
mod shorts;

pub(super) use bytes::Bytes;
pub(super) use halves::Halves;
pub(super) use integers::Scaled;
pub(super) use pairs::Pairs;
pub(super) use shorts::Shorts;

use super::layout::RUN;
use super::rows::CHUNK;
use crate::mapping::Plain;
use crate::simd::{Simd, exp2_short};

/// A chunk's scores or weights of a row.
pub(super) type Vectors<V> = [V; CHUNK / RUN];
/// Scales of the tokens of a chunk's runs.
pub(super) type Scales<'a> = [&'a [f32; RUN]; CHUNK / RUN];

/// Where weights and scales of values become words together: a weight times `by` is its word, and sums of words times values
/// are multiplied by `unit`.
#[derive(Clone, Copy)]
pub(super) struct Units<V> {
    pub(super) by: Vectors<V>,
    pub(super) unit: f32,
}

impl<V: Copy> Units<V> {
    /// For words of at most `most`.
    #[inline(always)]
    fn of<S: Simd<RUN, V = V>>(s: S, scales: &Vectors<V>, most: f32) -> Self {
        let largest = s.largest(s.max(s.max(scales[0], scales[1]), s.max(scales[2], scales[3])));
        let by = s.splat(if largest > 0.0 { most / largest } else { 0.0 });
        let mut all = *scales;
        for scales in &mut all {
            *scales = s.mul(*scales, by);
        }
        Self { by: all, unit: largest / most }
    }
}

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

    /// A query times `by`, as words; its length is a multiple of 8.
    fn pack(s: S, query: &[f32], by: f32, to: &mut [u32]) -> Packed;
    /// All lanes this word of a query.
    fn splat_query(s: S, word: u32) -> Self::Vector;
    /// The sum that scores begin with; 0 for none, as sums of values do.
    fn start(s: S, query: Packed) -> Self::Sum;
    /// Adds the products of neighbouring dims.
    fn dot_keys(s: S, keys: Self::Vector, query: Self::Vector, sum: Self::Sum) -> Self::Sum;
    /// Scores of the keys of a run.
    fn scores(s: S, sum: Self::Sum, query: Packed, scales: &[f32; RUN]) -> S::V;

    /// `2^x` for `x` of at most 0, as exact as weights are kept: in no more than 16 bits, where nothing else is said.
    #[inline(always)]
    fn exp2(s: S, x: S::V) -> S::V {
        exp2_short(s, x)
    }
    /// What scales of values make of weights, of which the largest is 1.
    #[inline(always)]
    fn units(s: S, _: Vectors<S::V>) -> Units<S::V> {
        Units { by: [s.splat(1.0); CHUNK / RUN], unit: 1.0 }
    }
    /// Stores weights as words. Answers their sum, lane by lane.
    fn keep(s: S, weights: &Vectors<S::V>, units: &Units<S::V>, to: &mut [Self::Word; CHUNK]) -> S::V;
    /// All lanes this word of weights.
    fn splat_weight(s: S, word: Self::Word) -> Self::Vector;
    /// Adds the products of neighbouring tokens.
    fn dot_values(s: S, values: Self::Vector, weights: Self::Vector, sum: Self::Sum) -> Self::Sum;
    /// Sums of values as numbers.
    fn floats(s: S, sum: Self::Sum) -> S::V;
}
