//! What is done to rows of queries and to their running softmax. Everything inlines into one function a task.

use super::{CHUNK, RUN};
use crate::simd::{LANES, Simd, exp2};

/// Running softmax of some rows: `out / sum(sums)` is the result.
#[derive(Default)]
pub(super) struct State {
    pub(super) most: Vec<f32>,
    pub(super) sums: Vec<[f32; LANES]>,
    pub(super) out: Vec<f32>,
}

impl State {
    /// No key seen yet.
    pub(super) fn reset(&mut self, rows: usize, dim: usize) {
        self.most.clear();
        self.most.resize(rows, f32::NEG_INFINITY);
        self.sums.clear();
        self.sums.resize(rows, [0.0; LANES]);
        self.out.clear();
        self.out.resize(rows * dim, 0.0);
    }
}

/// A KV element in memory.
pub(super) trait Element: Copy {
    fn load<S: Simd>(s: S, from: &[Self; LANES]) -> S::V;
}

impl Element for u16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[Self; LANES]) -> S::V {
        s.load_half(from)
    }
}

impl Element for f32 {
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[Self; LANES]) -> S::V {
        s.load(from)
    }
}

/// Halves to floats.
#[inline(always)]
pub(super) fn widen_into<S: Simd>(s: S, from: &[u16], to: &mut [f32]) {
    for (from, to) in from.as_chunks::<LANES>().0.iter().zip(to.as_chunks_mut::<LANES>().0) {
        s.store(to, s.load_half(from));
    }
}

/// Scores of 16 keys for all rows; row r's go to `scores[r * CHUNK..][..16]`.
#[inline(always)]
pub(super) fn score_rows<S: Simd, E: Element>(
    s: S,
    keys: &[E],
    queries: &[f32],
    dim: usize,
    scores: &mut [f32],
) {
    let keys = keys.as_chunks::<RUN>().0;
    let rows = queries.len() / dim;
    let mut r = 0;
    while r < rows {
        let (queries, scores) = (&queries[r * dim..], &mut scores[r * CHUNK..]);
        r += match rows - r {
            1 => score::<S, E, 1>(s, keys, queries, scores),
            2 => score::<S, E, 2>(s, keys, queries, scores),
            3 => score::<S, E, 3>(s, keys, queries, scores),
            4 => score::<S, E, 4>(s, keys, queries, scores),
            5 => score::<S, E, 5>(s, keys, queries, scores),
            _ => score::<S, E, 6>(s, keys, queries, scores),
        };
    }
}

#[inline(always)]
fn score<S: Simd, E: Element, const R: usize>(
    s: S,
    keys: &[[E; RUN]],
    queries: &[f32],
    scores: &mut [f32],
) -> usize {
    let dim = keys.len();
    let queries: [&[f32]; R] = std::array::from_fn(|r| &queries[r * dim..][..dim]);
    let mut sums = [[s.splat(0.0); 2]; R];
    for (d, keys) in keys.iter().enumerate() {
        let (halves, _) = keys.as_chunks::<LANES>();
        let keys = [E::load(s, &halves[0]), E::load(s, &halves[1])];
        for r in 0..R {
            let q = s.splat(queries[r][d]);
            sums[r] = [s.fma(keys[0], q, sums[r][0]), s.fma(keys[1], q, sums[r][1])];
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        let to = scores[r * CHUNK..][..RUN].as_chunks_mut::<LANES>().0;
        s.store(&mut to[0], sums[0]);
        s.store(&mut to[1], sums[1]);
    }
    R
}

/// Turns a row's scores of a chunk into weights. Lanes outside `from..to` weigh nothing, whatever they hold.
#[inline(always)]
pub(super) fn soften<S: Simd>(
    s: S,
    scores: &mut [f32],
    from: i32,
    to: i32,
    most: &mut f32,
    sums: &mut [f32; LANES],
    out: &mut [f32],
) {
    let scores = scores.as_chunks_mut::<LANES>().0;
    let all = from <= 0 && to >= CHUNK as i32;
    if from >= to.min(CHUNK as i32) || to <= 0 {
        for scores in scores {
            s.store(scores, s.splat(0.0));
        }
        return;
    }
    let mut v: [S::V; CHUNK / LANES] = std::array::from_fn(|i| s.load(&scores[i]));
    let lanes = |i: usize| s.lanes(from - (i * LANES) as i32, to - (i * LANES) as i32);
    if !all {
        for (i, v) in v.iter_mut().enumerate() {
            *v = s.select(lanes(i), *v, s.splat(f32::NEG_INFINITY));
        }
    }
    let pairs = [s.max(v[0], v[1]), s.max(v[2], v[3]), s.max(v[4], v[5]), s.max(v[6], v[7])];
    let chunk_most = s.largest(s.max(s.max(pairs[0], pairs[1]), s.max(pairs[2], pairs[3])));
    if chunk_most > *most {
        if *most > f32::NEG_INFINITY {
            let by = exp2(s, s.splat(*most - chunk_most));
            s.store(sums, s.mul(s.load(sums), by));
            for out in out.as_chunks_mut::<LANES>().0 {
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
    let pairs = [s.add(v[0], v[1]), s.add(v[2], v[3]), s.add(v[4], v[5]), s.add(v[6], v[7])];
    let sum = s.add(s.add(pairs[0], pairs[1]), s.add(pairs[2], pairs[3]));
    s.store(sums, s.add(s.load(sums), sum));
}

/// `out[r] += weights[r] · values` over `count` keys, ascending.
#[inline(always)]
pub(super) fn weigh_rows<S: Simd, E: Element>(
    s: S,
    tiles: &[&[E]; CHUNK / RUN],
    count: usize,
    weights: &[f32],
    dim: usize,
    out: &mut [f32],
) {
    let rows = out.len() / dim;
    let mut r = 0;
    while r < rows {
        let (weights, out) = (&weights[r * CHUNK..], &mut out[r * dim..]);
        r += match rows - r {
            1 => weigh::<S, E, 1>(s, tiles, count, weights, dim, out),
            2 => weigh::<S, E, 2>(s, tiles, count, weights, dim, out),
            _ => weigh::<S, E, 3>(s, tiles, count, weights, dim, out),
        };
    }
}

#[inline(always)]
fn weigh<S: Simd, E: Element, const R: usize>(
    s: S,
    tiles: &[&[E]; CHUNK / RUN],
    count: usize,
    weights: &[f32],
    dim: usize,
    out: &mut [f32],
) -> usize {
    let mut first = 0;
    while first < dim {
        first += if dim - first >= 4 * LANES {
            weigh_columns::<S, E, R, 4>(s, tiles, count, weights, dim, first, out)
        } else {
            weigh_columns::<S, E, R, 1>(s, tiles, count, weights, dim, first, out)
        };
    }
    R
}

/// `C` vectors of columns from `first`.
#[inline(always)]
fn weigh_columns<S: Simd, E: Element, const R: usize, const C: usize>(
    s: S,
    tiles: &[&[E]; CHUNK / RUN],
    count: usize,
    weights: &[f32],
    dim: usize,
    first: usize,
    out: &mut [f32],
) -> usize {
    let column = first / LANES;
    let mut sums: [[S::V; C]; R] = std::array::from_fn(|r| {
        std::array::from_fn(|c| s.load(&out[r * dim..][..dim].as_chunks().0[column + c]))
    });
    for (tile, start) in tiles.iter().zip((0..count).step_by(RUN)) {
        let weights: [&[f32]; R] =
            std::array::from_fn(|r| &weights[r * CHUNK + start..][..RUN.min(count - start)]);
        for (key, values) in tile.chunks_exact(dim).take(weights[0].len()).enumerate() {
            let values = &values[first..][..C * LANES];
            let values: [S::V; C] = std::array::from_fn(|c| E::load(s, &values.as_chunks::<LANES>().0[c]));
            for r in 0..R {
                let weight = s.splat(weights[r][key]);
                for c in 0..C {
                    sums[r][c] = s.fma(weight, values[c], sums[r][c]);
                }
            }
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        let to = out[r * dim..][..dim].as_chunks_mut::<LANES>().0;
        for (c, sum) in sums.into_iter().enumerate() {
            s.store(&mut to[column + c], sum);
        }
    }
    C * LANES
}

/// Adds a split to the total of the splits before it.
#[inline(always)]
pub(super) fn merge<S: Simd>(s: S, dim: usize, total: &mut State, split: &State) {
    for r in 0..total.most.len() {
        let (out, other) = (&mut total.out[r * dim..][..dim], &split.out[r * dim..][..dim]);
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
        for (out, other) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(other.as_chunks::<LANES>().0) {
            s.store(out, s.fma(s.load(other), new, s.mul(s.load(out), old)));
        }
    }
}
