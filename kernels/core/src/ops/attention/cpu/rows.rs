//! What is done to rows of queries and to their running softmax. Everything inlines into one function a task.

use std::ops::Range;

use super::{CHUNK, RUN};
use crate::simd::{Simd, exp2};

/// Running softmax of some rows: `out / sum(sums)` is the result.
#[derive(Default)]
pub(super) struct State {
    pub(super) most: Vec<f32>,
    pub(super) sums: Vec<[f32; RUN]>,
    /// `[row][padded(dim)]`.
    pub(super) out: Vec<f32>,
}

/// Columns of a row of sums: whole vectors.
pub(super) fn padded(dim: usize) -> usize {
    dim.next_multiple_of(RUN)
}

impl State {
    /// No key seen yet.
    pub(super) fn reset(&mut self, rows: usize, dim: usize) {
        self.most.clear();
        self.most.resize(rows, f32::NEG_INFINITY);
        self.sums.clear();
        self.sums.resize(rows, [0.0; RUN]);
        self.out.clear();
        self.out.resize(rows * padded(dim), 0.0);
    }

    /// Writes the result of a row.
    #[inline(always)]
    pub(super) fn finish<S: Simd<RUN>>(&self, s: S, row: usize, out: &mut [f32]) {
        let by = 1.0 / s.sum(s.load(&self.sums[row]));
        let row = &self.out[row * padded(out.len())..];
        for (out, value) in out.iter_mut().zip(row) {
            *out = value * by;
        }
    }

    /// Copies rows to `[row][maximum, sums, out]`.
    pub(super) fn save(&self, dim: usize, rows: Range<usize>, to: &mut [f32]) {
        let width = padded(dim);
        for (r, to) in rows.zip(to.chunks_exact_mut(1 + RUN + width)) {
            to[0] = self.most[r];
            to[1..=RUN].copy_from_slice(&self.sums[r]);
            to[1 + RUN..].copy_from_slice(&self.out[r * width..][..width]);
        }
    }

    /// Takes back what [`Self::save`] has written.
    pub(super) fn restore(&mut self, dim: usize, rows: usize, from: &[f32]) {
        let width = padded(dim);
        self.reset(rows, dim);
        for (r, from) in from.chunks_exact(1 + RUN + width).enumerate() {
            self.most[r] = from[0];
            self.sums[r].copy_from_slice(&from[1..=RUN]);
            self.out[r * width..][..width].copy_from_slice(&from[1 + RUN..]);
        }
    }
}

/// Halves of a cache line.
const LINE: usize = 32;

/// The runs of a chunk: tiles of keys or of values.
pub(super) type Tiles<'a> = [&'a [u16]; CHUNK / RUN];

/// Tiles that are read next, to be asked for in small portions while others are computed with: many at once would keep
/// the loads waiting that are needed now.
#[derive(Clone, Copy)]
struct Ahead<'a> {
    lines: &'a [[u16; LINE]],
    portion: usize,
}

impl<'a> Ahead<'a> {
    #[inline(always)]
    fn new(tile: &'a [u16], portions: usize) -> Self {
        let lines = tile.as_chunks().0;
        Self { lines, portion: lines.len().div_ceil(portions) }
    }

    #[inline(always)]
    fn ask<S: Simd<RUN>>(&mut self, s: S) {
        let (now, later) = self.lines.split_at(self.portion.min(self.lines.len()));
        for line in now {
            s.prefetch(line);
        }
        self.lines = later;
    }
}

/// Scores of the keys of the first `runs` tiles for all rows; row r's go to `scores[r * CHUNK..]`. `ahead` is read next.
#[inline(always)]
pub(super) fn score_rows<S: Simd<RUN>>(
    s: S,
    tiles: &Tiles<'_>,
    runs: usize,
    ahead: &Tiles<'_>,
    queries: &[f32],
    dim: usize,
    scores: &mut [f32],
) {
    let rows = queries.len() / dim;
    let mut ahead = *ahead;
    let mut r = 0;
    while r < rows {
        let ahead = &std::mem::take(&mut ahead);
        let (queries, scores) = (&queries[r * dim..], &mut scores[r * CHUNK..]);
        r += match rows - r {
            1 => score_tiles::<S, 1>(s, tiles, runs, ahead, queries, dim, scores),
            2 => score_tiles::<S, 2>(s, tiles, runs, ahead, queries, dim, scores),
            3 => score_tiles::<S, 3>(s, tiles, runs, ahead, queries, dim, scores),
            4 => score_tiles::<S, 4>(s, tiles, runs, ahead, queries, dim, scores),
            5 => score_tiles::<S, 5>(s, tiles, runs, ahead, queries, dim, scores),
            _ => score_tiles::<S, 6>(s, tiles, runs, ahead, queries, dim, scores),
        };
    }
}

/// All runs side by side where registers allow it: a loaded query element then serves all of them.
#[inline(always)]
fn score_tiles<S: Simd<RUN>, const R: usize>(
    s: S,
    tiles: &Tiles<'_>,
    runs: usize,
    ahead: &Tiles<'_>,
    queries: &[f32],
    dim: usize,
    scores: &mut [f32],
) -> usize {
    if S::REGISTERS >= 6 * tiles.len() && runs == tiles.len() {
        score::<S, R, { CHUNK / RUN }>(s, tiles, ahead, queries, dim, scores);
    } else {
        for i in 0..runs {
            let ahead = &[ahead[i]; 1];
            score::<S, R, 1>(s, &[tiles[i]], ahead, queries, dim, &mut scores[i * RUN..]);
        }
    }
    R
}

#[inline(always)]
fn score<S: Simd<RUN>, const R: usize, const T: usize>(
    s: S,
    tiles: &[&[u16]; T],
    ahead: &[&[u16]; T],
    queries: &[f32],
    dim: usize,
    scores: &mut [f32],
) {
    // Loops, not `array::from_fn`: a closure that is not inlined loses the instruction set.
    let mut rows: [&[f32]; R] = [&[]; R];
    for r in 0..R {
        rows[r] = &queries[r * dim..][..dim];
    }
    let mut keys: [&[[u16; RUN]]; T] = [&[]; T];
    for t in 0..T {
        keys[t] = &tiles[t].as_chunks().0[..dim];
    }
    let mut sums = [[s.splat(0.0); T]; R];
    let portions = dim / T;
    for t in 0..T {
        let mut ahead = Ahead::new(ahead[t], portions);
        for d in t * portions..(t + 1) * portions {
            ahead.ask(s);
            let mut k = [s.splat(0.0); T];
            for t in 0..T {
                k[t] = s.load_half(&keys[t][d]);
            }
            for r in 0..R {
                let q = s.splat(rows[r][d]);
                for t in 0..T {
                    sums[r][t] = s.fma(k[t], q, sums[r][t]);
                }
            }
        }
    }
    for r in 0..R {
        let to = scores[r * CHUNK..][..T * RUN].as_chunks_mut().0;
        for t in 0..T {
            s.store(&mut to[t], sums[r][t]);
        }
    }
}

/// Turns a row's scores of a chunk into weights. Lanes outside `from..to` weigh nothing, whatever they hold.
#[inline(always)]
pub(super) fn soften<S: Simd<RUN>>(
    s: S,
    scores: &mut [f32],
    from: i32,
    to: i32,
    most: &mut f32,
    sums: &mut [f32; RUN],
    out: &mut [f32],
) {
    let scores = scores.as_chunks_mut().0;
    let all = from <= 0 && to >= CHUNK as i32;
    if from >= to.min(CHUNK as i32) || to <= 0 {
        for scores in scores {
            s.store(scores, s.splat(0.0));
        }
        return;
    }
    let mut v = [s.splat(0.0); CHUNK / RUN];
    for (v, scores) in v.iter_mut().zip(&*scores) {
        *v = s.load(scores);
    }
    let lanes = |i: usize| s.lanes(from - (i * RUN) as i32, to - (i * RUN) as i32);
    if !all {
        for (i, v) in v.iter_mut().enumerate() {
            *v = s.select(lanes(i), *v, s.splat(f32::NEG_INFINITY));
        }
    }
    let chunk_most = s.largest(s.max(s.max(v[0], v[1]), s.max(v[2], v[3])));
    if chunk_most > *most {
        if *most > f32::NEG_INFINITY {
            let by = exp2(s, s.splat(*most - chunk_most));
            s.store(sums, s.mul(s.load(sums), by));
            for out in out.as_chunks_mut().0 {
                s.store(out, s.mul(s.load(out), by));
            }
        }
        *most = chunk_most;
    }
    let base = s.splat(*most);
    for (i, v) in v.iter_mut().enumerate() {
        *v = exp2(s, s.sub(*v, base));
        if !all {
            *v = s.select(lanes(i), *v, s.splat(0.0));
        }
        s.store(&mut scores[i], *v);
    }
    let sum = s.add(s.add(v[0], v[1]), s.add(v[2], v[3]));
    s.store(sums, s.add(s.load(sums), sum));
}

/// `out[r] += weights[r] · values` over `count` keys, ascending. `ahead` is read next.
#[inline(always)]
pub(super) fn weigh_rows<S: Simd<RUN>>(
    s: S,
    tiles: &Tiles<'_>,
    count: usize,
    ahead: &Tiles<'_>,
    weights: &[f32],
    dim: usize,
    out: &mut [f32],
) {
    let width = padded(dim);
    let rows = out.len() / width;
    let most = if S::REGISTERS >= 32 { 6 } else { 3 };
    let mut ahead = *ahead;
    let mut r = 0;
    while r < rows {
        let ahead = &std::mem::take(&mut ahead);
        let (weights, out) = (&weights[r * CHUNK..], &mut out[r * width..]);
        r += match (rows - r).min(most) {
            1 => weigh::<S, 1>(s, tiles, count, ahead, weights, dim, out),
            2 => weigh::<S, 2>(s, tiles, count, ahead, weights, dim, out),
            3 => weigh::<S, 3>(s, tiles, count, ahead, weights, dim, out),
            4 => weigh::<S, 4>(s, tiles, count, ahead, weights, dim, out),
            5 => weigh::<S, 5>(s, tiles, count, ahead, weights, dim, out),
            _ => weigh::<S, 6>(s, tiles, count, ahead, weights, dim, out),
        };
    }
}

#[inline(always)]
fn weigh<S: Simd<RUN>, const R: usize>(
    s: S,
    tiles: &Tiles<'_>,
    count: usize,
    ahead: &Tiles<'_>,
    weights: &[f32],
    dim: usize,
    out: &mut [f32],
) -> usize {
    let mut first = 0;
    while first < dim {
        first += if S::REGISTERS >= 32 && dim - first >= 4 * RUN {
            weigh_columns::<S, R, 4>(s, tiles, count, ahead, weights, dim, first, out)
        } else if R <= 3 && dim - first >= 2 * RUN {
            weigh_columns::<S, R, 2>(s, tiles, count, ahead, weights, dim, first, out)
        } else {
            weigh_columns::<S, R, 1>(s, tiles, count, ahead, weights, dim, first, out)
        };
    }
    R
}

/// `C` vectors of columns from `first`; the last one may be half a vector.
#[inline(always)]
fn weigh_columns<S: Simd<RUN>, const R: usize, const C: usize>(
    s: S,
    tiles: &Tiles<'_>,
    count: usize,
    ahead: &Tiles<'_>,
    weights: &[f32],
    dim: usize,
    first: usize,
    out: &mut [f32],
) -> usize {
    let (width, column) = (padded(dim), first / RUN);
    let mut sums = [[s.splat(0.0); C]; R];
    for r in 0..R {
        let out = &out[r * width..][..width].as_chunks().0[column..][..C];
        for c in 0..C {
            sums[r][c] = s.load(&out[c]);
        }
    }
    for (t, start) in (0..count).step_by(RUN).enumerate() {
        let keys = RUN.min(count - start);
        let mut rows: [&[f32]; R] = [&[]; R];
        for r in 0..R {
            rows[r] = &weights[r * CHUNK + start..][..keys];
        }
        let mut ahead = Ahead::new(if first == 0 { ahead[t] } else { &[] }, RUN);
        for (key, values) in tiles[t].chunks_exact(dim).take(keys).enumerate() {
            ahead.ask(s);
            let mut v = [s.splat(0.0); C];
            if dim - first >= C * RUN {
                let values = &values[first..][..C * RUN].as_chunks().0;
                for c in 0..C {
                    v[c] = s.load_half(&values[c]);
                }
            } else {
                let mut part = [0; RUN];
                part[..dim - first].copy_from_slice(&values[first..]);
                v = [s.load_half(&part); C];
            }
            for r in 0..R {
                let weight = s.splat(rows[r][key]);
                for c in 0..C {
                    sums[r][c] = s.fma(weight, v[c], sums[r][c]);
                }
            }
        }
    }
    for r in 0..R {
        let to = &mut out[r * width..][..width].as_chunks_mut().0[column..][..C];
        for c in 0..C {
            s.store(&mut to[c], sums[r][c]);
        }
    }
    C * RUN
}

/// Adds some rows of a split to the total of the splits before it.
#[inline(always)]
pub(super) fn merge<S: Simd<RUN>>(s: S, dim: usize, total: &mut State, split: &State, rows: Range<usize>) {
    let width = padded(dim);
    for r in rows {
        let (out, other) = (&mut total.out[r * width..][..width], &split.out[r * width..][..width]);
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
        let sums = s.fma(s.load(&split.sums[r]), new, s.mul(s.load(&total.sums[r]), old));
        s.store(&mut total.sums[r], sums);
        for (out, other) in out.as_chunks_mut().0.iter_mut().zip(other.as_chunks().0) {
            s.store(out, s.fma(s.load(other), new, s.mul(s.load(out), old)));
        }
    }
}
