//! Root-mean-square normalisation of a row, alone and after an addition.

use crate::simd::{Isa, LANES, Simd, with_simd};

/// Sums run side by side, so that one need not wait for the other.
const SUMS: usize = 4;

/// `out = x / sqrt(mean(x^2) + eps) * weight` for one row. Element `i` goes into lane `i % 32` of the sum of squares.
#[inline(always)]
pub fn row<S: Simd>(s: S, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let by = 1.0 / (squares(s, x) / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * by * weight;
    }
}

/// [`row`] for each of several rows.
pub fn rows(isa: Isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let width = weight.len();
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        with_simd!(isa, s => row(s, x, weight, eps, out));
    }
}

#[inline(always)]
fn squares<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut sums = [s.splat(0.0); SUMS];
    let (wide, rest) = x.as_chunks::<{ SUMS * LANES }>();
    for x in wide {
        for (sum, x) in sums.iter_mut().zip(x.as_chunks::<LANES>().0) {
            let x = s.load(x);
            *sum = s.fma(x, x, *sum);
        }
    }
    let sum = s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])));
    rest.iter().fold(sum, |sum, x| sum + x * x)
}
