//! Running softmax of rows.

use std::ops::Range;

use super::layout::{RUN, padded};
use crate::simd::{Simd, exp2};

/// Lanes of f32 in a cache line of their own.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Lanes(pub(super) [f32; RUN]);

/// Vectors of a row of sums.
pub(super) fn columns(dim: usize) -> usize {
    padded(dim) / RUN
}

/// Running softmax of some rows: `out / sum(sums)` is the result.
#[derive(Default)]
pub(super) struct State {
    pub(super) most: Vec<f32>,
    pub(super) sums: Vec<Lanes>,
    /// `[row][columns(dim)]`.
    pub(super) out: Vec<Lanes>,
}

impl State {
    /// No key seen yet.
    pub(super) fn reset(&mut self, rows: usize, dim: usize) {
        self.most.clear();
        self.most.resize(rows, f32::NEG_INFINITY);
        self.sums.clear();
        self.sums.resize(rows, Lanes([0.0; RUN]));
        self.out.clear();
        self.out.resize(rows * columns(dim), Lanes([0.0; RUN]));
    }

    /// Writes the result of a row.
    #[inline(always)]
    pub(super) fn finish<S: Simd<RUN>>(&self, s: S, row: usize, out: &mut [f32]) {
        let by = 1.0 / s.sum(s.load(&self.sums[row].0));
        let row = &self.out[row * columns(out.len())..];
        for (out, lanes) in out.chunks_mut(RUN).zip(row) {
            if let Some(out) = out.as_mut_array() {
                s.store(out, s.mul(s.load(&lanes.0), s.splat(by)));
            } else {
                out.iter_mut().zip(&lanes.0).for_each(|(out, value)| *out = value * by);
            }
        }
    }

    /// Copies rows to `[row][maximum, sums, out]`.
    pub(super) fn save(&self, dim: usize, rows: Range<usize>, to: &mut [f32]) {
        for (r, to) in rows.zip(to.chunks_exact_mut(1 + RUN + padded(dim))) {
            to[0] = self.most[r];
            let lanes = std::iter::once(&self.sums[r]).chain(&self.out[r * columns(dim)..]);
            for (to, lanes) in to[1..].as_chunks_mut().0.iter_mut().zip(lanes) {
                *to = lanes.0;
            }
        }
    }

    /// Takes back what [`Self::save`] has written.
    pub(super) fn restore(&mut self, dim: usize, rows: usize, from: &[f32]) {
        self.reset(rows, dim);
        for (r, from) in from.chunks_exact(1 + RUN + padded(dim)).enumerate() {
            self.most[r] = from[0];
            let lanes = std::iter::once(&mut self.sums[r]).chain(&mut self.out[r * columns(dim)..]);
            for (from, lanes) in from[1..].as_chunks().0.iter().zip(lanes) {
                lanes.0 = *from;
            }
        }
    }
}

/// Adds some rows of a split to the total of the splits before it.
#[inline(always)]
pub(super) fn merge<S: Simd<RUN>>(s: S, dim: usize, total: &mut State, split: &State, rows: Range<usize>) {
    let columns = columns(dim);
    for r in rows {
        let (out, other) = (&mut total.out[r * columns..][..columns], &split.out[r * columns..][..columns]);
        if total.most[r] == f32::NEG_INFINITY {
            total.most[r] = split.most[r];
            total.sums[r] = split.sums[r];
            out.copy_from_slice(other);
            continue;
        }
        let most = if split.most[r] > total.most[r] { split.most[r] } else { total.most[r] };
        let old = exp2(s, s.splat(total.most[r] - most));
        let new = exp2(s, s.splat(split.most[r] - most));
        let new = if split.most[r] == f32::NEG_INFINITY { s.splat(0.0) } else { new };
        total.most[r] = most;
        let sums = s.fma(s.load(&split.sums[r].0), new, s.mul(s.load(&total.sums[r].0), old));
        s.store(&mut total.sums[r].0, sums);
        for (Lanes(out), Lanes(other)) in out.iter_mut().zip(other) {
            s.store(out, s.fma(s.load(other), new, s.mul(s.load(out), old)));
        }
    }
}
