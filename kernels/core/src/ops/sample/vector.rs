//! Loops over a vocabulary, written in fixed lanes so that they are fast and give the same bits on every instruction set.

use std::ops::Range;

use crate::simd::{Isa, Simd, WIDE as LANES, largest_lanes, with_wide_simd};

/// Elements of a part with a maximum of its own.
pub(super) const PART: usize = 32;
/// Weights that are summed in f32, in lanes; the sums of chunks are added in f64: the error grows with the length.
pub(super) const CHUNK: usize = 256;

/// The maxima of a row: of all, and of each part. NaN is ignored.
pub(super) struct Peaks {
    pub(super) max: f32,
    pub(super) parts: Vec<f32>,
}

/// What loops here are compiled for: the bits are the same on each.
fn widest() -> Isa {
    Isa::detect("auto").unwrap_or(Isa::Portable)
}

impl Peaks {
    pub(super) fn of(row: &[f32]) -> Self {
        let mut parts = vec![f32::NEG_INFINITY; row.len().div_ceil(PART)];
        let max = with_wide_simd!(widest(), s => maxima_into(s, row, &mut parts));
        Self { max, parts }
    }

    /// A logit that at least `count` elements reach: the count-th largest maximum, when there are enough parts.
    pub(super) fn bound(&self, count: usize) -> f32 {
        if count > self.parts.len() {
            return f32::NEG_INFINITY;
        }
        let mut parts = self.parts.clone();
        *parts.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
    }

    /// Index ranges of the parts with an element of at least `bound`. The last one may end past the row.
    pub(super) fn at_least(&self, bound: f32) -> impl Iterator<Item = Range<usize>> {
        let reaching = self.parts.iter().enumerate().filter(move |(_, part)| **part >= bound);
        reaching.map(|(part, _)| part * PART..(part + 1) * PART)
    }

    /// The lowest index of the maximum; 0 if there is no number.
    pub(super) fn first_max(&self, row: &[f32]) -> usize {
        let part = self.parts.iter().position(|&x| x == self.max).unwrap_or(0);
        let from = part * PART;
        from + row[from..].iter().take(PART).position(|&x| x == self.max).unwrap_or(0)
    }
}

/// Writes the maximum of each part; answers that of all.
#[inline(always)]
fn maxima_into<S: Simd<LANES>>(s: S, row: &[f32], parts: &mut [f32]) -> f32 {
    let (whole, rest) = row.as_chunks::<PART>();
    let mut last = [f32::NEG_INFINITY; PART];
    last[..rest.len()].copy_from_slice(rest);
    let mut all = s.splat(f32::NEG_INFINITY);
    for (part, to) in whole.iter().chain([&last]).zip(parts) {
        let lanes = largest_lanes(s, part);
        *to = s.largest(lanes);
        all = s.max(lanes, all);
    }
    s.largest(all)
}

/// `e^x` for x up to 0, relative error below 2e-7; exactly 1 at 0, and 0 below -87 and for NaN. Range reduction by
/// `x = n ln 2 + r` with ln 2 in two parts, then the polynomial of Cephes `expf.c`.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 * 2^23 rounds to an integer, which the low bits of the sum then hold.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4_f32;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let mantissa = p * r * r + r + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x >= -87.0 { mantissa * power } else { 0.0 }
}

/// `out[i] = e^((row[i] - max) * scale)`.
pub(super) fn exp_into(row: &[f32], max: f32, scale: f32, out: &mut [f32]) {
    with_wide_simd!(widest(), _s => exp_all(row, max, scale, out));
}

#[inline(always)]
fn exp_all(row: &[f32], max: f32, scale: f32, out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(row) {
        *out = exp((x - max) * scale);
    }
}

/// Of each chunk of a row the sum of its weights, `e^((row[i] - max) * scale)`.
pub(super) fn weight_sums(row: &[f32], max: f32, scale: f32) -> Vec<f64> {
    let mut sums = vec![0.0; row.len().div_ceil(CHUNK)];
    with_wide_simd!(widest(), s => weigh_into(s, row, max, scale, &mut sums));
    sums
}

#[inline(always)]
fn weigh_into<S: Simd<LANES>>(s: S, row: &[f32], max: f32, scale: f32, sums: &mut [f64]) {
    let mut weights = [0.0; CHUNK];
    for (chunk, to) in row.chunks(CHUNK).zip(sums) {
        let weights = &mut weights[..chunk.len()];
        exp_all(chunk, max, scale, weights);
        *to = sum(s, weights);
    }
}

/// Sums of chunks.
pub(super) fn sums(weights: &[f32]) -> Vec<f64> {
    let mut sums = vec![0.0; weights.len().div_ceil(CHUNK)];
    with_wide_simd!(widest(), s => sum_into(s, weights, &mut sums));
    sums
}

#[inline(always)]
fn sum_into<S: Simd<LANES>>(s: S, weights: &[f32], sums: &mut [f64]) {
    for (chunk, to) in weights.chunks(CHUNK).zip(sums) {
        *to = sum(s, chunk);
    }
}

/// Sum in f32 lanes, then of those in f64.
#[inline(always)]
fn sum<S: Simd<LANES>>(s: S, chunk: &[f32]) -> f64 {
    let (vectors, rest) = chunk.as_chunks();
    let mut all = s.splat(0.0);
    for x in vectors {
        all = s.add(all, s.load(x));
    }
    let mut lanes = [0.0; LANES];
    s.store(&mut lanes, all);
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    lanes.iter().map(|&x| f64::from(x)).sum()
}

/// `ln(sum(e^row))` of a row whose maximum is finite.
pub(super) fn log_sum_exp(row: &[f32], max: f32) -> f64 {
    f64::from(max) + weight_sums(row, max, 1.0).iter().sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_at_zero_and_close_elsewhere() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::NAN), 0.0);
        for i in 0..=87_000 {
            let x = -i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 2e-7, "{x}");
        }
    }

    #[test]
    fn the_first_maximum_is_found_across_parts_and_nan() {
        for len in [1, 31, 32, 33, 100] {
            for at in 0..len {
                let mut row = vec![-1.0; len];
                row[at] = 5.0;
                row[len - 1] = 5.0;
                if at > 0 {
                    row[0] = f32::NAN;
                }
                let expected = if at == 0 { 0 } else { at };
                assert_eq!(Peaks::of(&row).first_max(&row), expected);
            }
        }
        assert_eq!(Peaks::of(&[f32::NAN; 40]).first_max(&[f32::NAN; 40]), 0);
    }
}
