//! Numbers of a token and head as integers with a scale: what they stand for is the integer times the scale.

use crate::simd::{Simd, WIDE};

/// Largest norm of a key or a query in integers of 16 bits. A dot product is at most the product of both norms, and so within
/// 32 bits; rounding adds up to half the root of the dims to a norm.
const MOST_NORM: f32 = 46_000.0;
/// Keys and queries of smaller numbers count as 0: their squares are below what f32 holds.
const LEAST: f32 = 1e-16;
/// Largest integer of 16 bits.
const MOST_SHORT: f32 = 32_767.0;
/// Largest integer of a value of 16 bits: weights take the other bits of a sum.
pub(crate) const MOST_VALUE: f32 = 5792.0;
/// Largest integer of 8 bits.
const MOST_BYTE: f32 = 127.0;

/// The largest magnitude, not finite where one is not.
#[inline(always)]
fn largest<S: Simd<WIDE>>(s: S, numbers: &[f32]) -> f32 {
    let (blocks, rest) = numbers.as_chunks();
    let mut most = 0;
    for x in rest {
        most = most.max(x.abs().to_bits());
    }
    for block in blocks {
        most = most.max(s.magnitude(block));
    }
    f32::from_bits(most)
}

/// Numbers times `by` as pairs of 16 bits, the first in the lower half.
#[inline(always)]
fn round<S: Simd<WIDE>>(s: S, from: &[f32; 2 * WIDE], by: S::V, to: &mut [u32; WIDE]) {
    let from = from.as_chunks().0;
    s.store_shorts(to, s.mul(s.load(&from[0]), by), s.mul(s.load(&from[1]), by));
}

/// Numbers and zeros behind them.
#[inline(always)]
fn filled(numbers: &[f32]) -> [f32; 2 * WIDE] {
    let mut all = [0.0; 2 * WIDE];
    all[..numbers.len()].copy_from_slice(numbers);
    all
}

/// What a number is multiplied by to be its integer: all are 0 where the scale is 0 or not finite.
#[inline(always)]
pub(crate) fn times(scale: f32) -> f32 {
    let by = 1.0 / scale;
    if scale.is_finite() && by.is_finite() { by } else { 0.0 }
}

/// The scale of a key or a query as integers of 16 bits.
#[inline(always)]
pub(crate) fn key_scale<S: Simd<WIDE>>(s: S, key: &[f32]) -> f32 {
    let mut squares = s.splat(0.0);
    let (vectors, rest) = key.as_chunks();
    for vector in vectors {
        squares = s.fma(s.load(vector), s.load(vector), squares);
    }
    if !rest.is_empty() {
        let mut last = [0.0; WIDE];
        last[..rest.len()].copy_from_slice(rest);
        squares = s.fma(s.load(&last), s.load(&last), squares);
    }
    let most = largest(s, key);
    if most < LEAST { 0.0 } else { (s.sum(squares).sqrt() / MOST_NORM).max(most / MOST_SHORT) }
}

/// The scale of a value as integers of 16 bits.
#[inline(always)]
pub(crate) fn value_scale<S: Simd<WIDE>>(s: S, value: &[f32]) -> f32 {
    largest(s, value) / MOST_VALUE
}

/// Numbers as bytes of -127 to 127 times the answer; all 0 where the largest is 0 or not finite.
#[inline(always)]
pub(crate) fn bytes<S: Simd<WIDE>>(s: S, from: &[f32], to: &mut [i8]) -> f32 {
    let scale = largest(s, from) / MOST_BYTE;
    let by = s.splat(times(scale));
    for (from, to) in from.chunks(2 * WIDE).zip(to.chunks_mut(2 * WIDE)) {
        let mut words = [0; WIDE];
        match from.as_array() {
            Some(from) => round(s, from, by, &mut words),
            None => round(s, &filled(from), by, &mut words),
        }
        for (word, to) in words.into_iter().zip(to.as_chunks_mut().0) {
            *to = [word as i8, (word >> 16) as i8];
        }
    }
    scale
}

/// Numbers times `by` as pairs of 16 bits, the first in the lower half; an even number of them.
#[inline(always)]
pub(crate) fn shorts<S: Simd<WIDE>>(s: S, from: &[f32], by: f32, to: &mut [u32]) {
    let by = s.splat(by);
    let ((from, rest), (to, last)) = (from.as_chunks(), to.as_chunks_mut());
    for (from, to) in from.iter().zip(to) {
        round(s, from, by, to);
    }
    if !rest.is_empty() {
        let mut words = [0; WIDE];
        round(s, &filled(rest), by, &mut words);
        last.copy_from_slice(&words[..last.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, with_wide_simd};
    use crate::testing::Random;

    /// Vectors that are hard to hold: even, one large number, all signs, all sizes.
    fn vectors(random: &mut Random, dim: usize) -> Vec<Vec<f32>> {
        let mut spike = vec![1e-3; dim];
        spike[dim / 2] = -40.0;
        let sizes = (0..dim).map(|_| random.normal() * f32::powi(2.0, (random.normal() * 10.0) as i32));
        vec![vec![3.0; dim], vec![-1e-15; dim], vec![1e15; dim], spike, sizes.collect(), random.normals(dim)]
    }

    fn integers(words: &[u32]) -> Vec<i64> {
        let halves = words.iter().flat_map(|word| [*word as i16, (word >> 16) as i16]);
        halves.map(i64::from).collect()
    }

    #[test]
    fn dots_of_keys_and_queries_are_within_32_bits_and_integers_stand_for_their_numbers() {
        let mut random = Random(41);
        for isa in Isa::all() {
            for dim in [8, 64, 72, 256] {
                let all: Vec<Vec<i64>> = vectors(&mut random, dim)
                    .iter()
                    .map(|vector| {
                        let mut words = vec![0; dim / 2];
                        let scale = with_wide_simd!(isa, s => {
                            let scale = key_scale(s, vector);
                            shorts(s, vector, times(scale), &mut words);
                            scale
                        });
                        let integers = integers(&words);
                        for (integer, number) in integers.iter().zip(vector) {
                            let off = (*integer as f32 * scale - number).abs();
                            assert!(off <= 0.51 * scale, "{number} is {integer} times {scale}");
                        }
                        integers
                    })
                    .collect();
                for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
                    let dot: i64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                    assert!(i32::try_from(dot).is_ok(), "{} {dim} dims: {dot}", isa.name());
                }
            }
        }
    }

    #[test]
    fn values_are_no_larger_than_sums_have_room_for_and_zeros_and_what_is_not_finite_are_zeros() {
        let mut random = Random(42);
        for isa in Isa::all() {
            for value in vectors(&mut random, 72) {
                let mut words = vec![0; 36];
                with_wide_simd!(isa, s => shorts(s, &value, times(value_scale(s, &value)), &mut words));
                assert_eq!(integers(&words).into_iter().map(i64::abs).max(), Some(MOST_VALUE as i64));
            }
        }
        for tiny in [0.0, 1e-17, 1e-30] {
            assert_eq!(with_wide_simd!(Isa::Portable, s => key_scale(s, &[tiny; 72])), 0.0);
        }
        for isa in Isa::all() {
            for dim in [8, 64, 72] {
                let with = |last: f32| {
                    let mut value = vec![1.0; dim];
                    value[dim - 1] = last;
                    with_wide_simd!(isa, s => value_scale(s, &value))
                };
                assert_eq!(times(with_wide_simd!(isa, s => value_scale(s, &vec![0.0; dim]))), 0.0);
                assert_eq!(times(with(f32::INFINITY)), 0.0);
                assert!(!with(f32::NAN).is_finite() && !with(-f32::NAN).is_finite());
            }
        }
    }
}
