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

/// Rows that are computed side by side.
pub(super) const GROUP: usize = 6;
/// Dimensions of a turn of the loop over them.
const PORTION: usize = 4;

/// Queries as [`score_rows`] takes them: of each [`GROUP`] of rows (the last may be smaller) `[dim][row]`.
pub(super) fn pack_query(from: &[f32], by: f32, row: usize, rows: usize, to: &mut [f32]) {
    let first = row / GROUP * GROUP;
    let rows = GROUP.min(rows - first);
    for (from, to) in from.iter().zip(to[first * from.len()..].chunks_exact_mut(rows)) {
        to[row - first] = from * by;
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
    let mut ahead = *ahead;
    for (queries, g) in queries.chunks(GROUP * dim).zip(0..) {
        let ahead = &std::mem::take(&mut ahead);
        let scores = &mut scores[g * GROUP * CHUNK..];
        match queries.len() / dim {
            1 => score_tiles::<S, 1>(s, tiles, runs, ahead, queries, scores),
            2 => score_tiles::<S, 2>(s, tiles, runs, ahead, queries, scores),
            3 => score_tiles::<S, 3>(s, tiles, runs, ahead, queries, scores),
            4 => score_tiles::<S, 4>(s, tiles, runs, ahead, queries, scores),
            5 => score_tiles::<S, 5>(s, tiles, runs, ahead, queries, scores),
            _ => score_tiles::<S, 6>(s, tiles, runs, ahead, queries, scores),
        }
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
    scores: &mut [f32],
) {
    if S::REGISTERS >= 32 && runs == tiles.len() {
        score::<S, R, { CHUNK / RUN }>(s, tiles, ahead, queries, scores);
    } else {
        for t in 0..runs {
            score::<S, R, 1>(s, &[tiles[t]], &[ahead[t]], queries, &mut scores[t * RUN..]);
        }
    }
}

// Loops, not `array::from_fn`, from here on: a closure that is not inlined loses the instruction set.
#[inline(always)]
fn score<S: Simd<RUN>, const R: usize, const T: usize>(
    s: S,
    tiles: &[&[u16]; T],
    ahead: &[&[u16]; T],
    queries: &[f32],
    scores: &mut [f32],
) {
    let queries = queries.as_chunks::<R>().0.as_chunks::<PORTION>().0;
    let mut keys: [&[[[u16; RUN]; PORTION]]; T] = [&[]; T];
    for t in 0..T {
        keys[t] = &tiles[t].as_chunks().0.as_chunks().0[..queries.len()];
    }
    let mut sums = [[s.splat(0.0); T]; R];
    let portions_each = queries.len().div_ceil(T);
    for (ahead, first) in ahead.iter().zip((0..queries.len()).step_by(portions_each)) {
        // Two lines a dimension.
        let mut lines = ahead.as_chunks::<LINE>().0.as_chunks::<2>().0.as_chunks::<PORTION>().0.iter();
        for i in first..queries.len().min(first + portions_each) {
            let lines = lines.next();
            for d in 0..PORTION {
                if let Some(lines) = lines {
                    s.prefetch(&lines[d][0]);
                    s.prefetch(&lines[d][1]);
                }
                let mut k = [s.splat(0.0); T];
                for t in 0..T {
                    k[t] = s.load_half(&keys[t][i][d]);
                }
                for r in 0..R {
                    let q = s.splat(queries[i][d][r]);
                    for t in 0..T {
                        sums[r][t] = s.fma(k[t], q, sums[r][t]);
                    }
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
    let scores = &mut scores.as_chunks_mut().0[..CHUNK / RUN];
    if from >= to.min(CHUNK as i32) || to <= 0 {
        for scores in scores {
            s.store(scores, s.splat(0.0));
        }
    } else if from <= 0 && to >= CHUNK as i32 {
        soften_seen::<S, true>(s, scores, from, to, most, sums, out);
    } else {
        soften_seen::<S, false>(s, scores, from, to, most, sums, out);
    }
}

/// As [`soften`], where some lanes are inside; `ALL` says that all are.
#[inline(always)]
fn soften_seen<S: Simd<RUN>, const ALL: bool>(
    s: S,
    scores: &mut [[f32; RUN]],
    from: i32,
    to: i32,
    most: &mut f32,
    sums: &mut [f32; RUN],
    out: &mut [f32],
) {
    let lanes = |i: usize| s.lanes(from - (i * RUN) as i32, to - (i * RUN) as i32);
    let mut v = [s.splat(0.0); CHUNK / RUN];
    for i in 0..v.len() {
        v[i] = s.load(&scores[i]);
        if !ALL {
            v[i] = s.select(lanes(i), v[i], s.splat(f32::NEG_INFINITY));
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
    for i in 0..v.len() {
        v[i] = exp2(s, s.sub(v[i], base));
        if !ALL {
            v[i] = s.select(lanes(i), v[i], s.splat(0.0));
        }
        s.store(&mut scores[i], v[i]);
    }
    let sum = s.add(s.add(v[0], v[1]), s.add(v[2], v[3]));
    s.store(sums, s.add(s.load(sums), sum));
}

/// `out[r] += weights[r] · values` over those keys of the chunk, ascending; the first tile holds the first of them, and
/// row r's weights are `weights[r * CHUNK..][..CHUNK]`. `ahead` is read next.
#[inline(always)]
pub(super) fn weigh_rows<S: Simd<RUN>>(
    s: S,
    tiles: &Tiles<'_>,
    keys: &Range<usize>,
    ahead: &Tiles<'_>,
    weights: &[f32],
    dim: usize,
    out: &mut [f32],
) {
    let group = if S::REGISTERS >= 32 { GROUP } else { GROUP / 2 };
    let mut ahead = *ahead;
    for (out, g) in out.chunks_mut(group * padded(dim)).zip(0..) {
        let ahead = &std::mem::take(&mut ahead);
        let weights = &weights[g * group * CHUNK..];
        match out.len() / padded(dim) {
            1 => weigh::<S, 1>(s, tiles, keys, ahead, weights, dim, out),
            2 => weigh::<S, 2>(s, tiles, keys, ahead, weights, dim, out),
            3 => weigh::<S, 3>(s, tiles, keys, ahead, weights, dim, out),
            4 => weigh::<S, 4>(s, tiles, keys, ahead, weights, dim, out),
            5 => weigh::<S, 5>(s, tiles, keys, ahead, weights, dim, out),
            _ => weigh::<S, 6>(s, tiles, keys, ahead, weights, dim, out),
        }
    }
}

#[inline(always)]
fn weigh<S: Simd<RUN>, const R: usize>(
    s: S,
    tiles: &Tiles<'_>,
    keys: &Range<usize>,
    ahead: &Tiles<'_>,
    weights: &[f32],
    dim: usize,
    out: &mut [f32],
) {
    let mut first = 0;
    let mut ahead = *ahead;
    while first < dim {
        let ahead = &std::mem::take(&mut ahead);
        first += if S::REGISTERS >= 32 && dim - first >= 4 * RUN {
            weigh_columns::<S, R, 4>(s, tiles, keys, ahead, weights, dim, first, out)
        } else if R <= 3 && dim - first >= 2 * RUN {
            weigh_columns::<S, R, 2>(s, tiles, keys, ahead, weights, dim, first, out)
        } else {
            weigh_columns::<S, R, 1>(s, tiles, keys, ahead, weights, dim, first, out)
        };
    }
}

/// `C` vectors of columns from `first`; a single one may be half there.
#[inline(always)]
fn weigh_columns<S: Simd<RUN>, const R: usize, const C: usize>(
    s: S,
    tiles: &Tiles<'_>,
    keys: &Range<usize>,
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
    let weights = &weights.as_chunks::<CHUNK>().0[..R];
    for (t, start) in keys.clone().step_by(RUN).enumerate() {
        let count = RUN.min(keys.end - start);
        let mut ahead = ahead[t].chunks_exact(dim);
        for (key, values) in tiles[t][..count * dim].chunks_exact(dim).enumerate() {
            for line in ahead.next().unwrap_or(&[]).chunks(LINE) {
                s.prefetch(&line[0]);
            }
            let mut v = [s.splat(0.0); C];
            if C > 1 || dim - first >= RUN {
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
                let weight = s.splat(weights[r][start + key]);
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
