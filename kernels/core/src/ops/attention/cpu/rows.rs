//! What is done to rows of queries and to their running softmax. Everything inlines into one function a task.

use std::ops::Range;

use super::format::{KvFormat, Packed, Scales, Units, Vectors};
use super::layout::{RUN, padded};
use crate::simd::{Simd, exp2};

/// Keys between two updates of the running maximum.
pub(super) const CHUNK: usize = 64;
/// Runs of half a chunk.
const HALF: usize = CHUNK / RUN / 2;
/// Rows that are computed side by side.
const GROUP: usize = 6;
/// Words of a query in a turn of the loop over them.
const PORTION: usize = 2;

/// [`GROUP`] where there are registers for it.
pub(super) const fn group<S: Simd<RUN>>() -> usize {
    if S::REGISTERS >= 8 { GROUP } else { 1 }
}

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
        for (out, value) in out.iter_mut().zip(row.iter().flat_map(|lanes| &lanes.0)) {
            *out = value * by;
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

/// The runs of a chunk; where one has no key to see it is one of the others again.
#[derive(Clone, Copy)]
pub(super) struct Runs<'a, K, V> {
    pub(super) keys: [&'a [K]; CHUNK / RUN],
    pub(super) values: [&'a [V]; CHUNK / RUN],
    pub(super) key_scales: Scales<'a>,
    pub(super) value_scales: Scales<'a>,
}

impl<K, V> Default for Runs<'_, K, V> {
    fn default() -> Self {
        let scales = [&[1.0; RUN]; CHUNK / RUN];
        let (keys, values) = ([&[][..]; CHUNK / RUN], [&[][..]; CHUNK / RUN]);
        Self { keys, values, key_scales: scales, value_scales: scales }
    }
}

/// A cache line.
pub(super) type Line = [u8; 64];

/// What is read after a chunk: one half is asked for beside the scores, the other beside the sums of values, evenly, since there
/// are few lines that a core waits for at a time.
pub(super) struct Ahead<'a> {
    runs: [&'a [Line]; CHUNK / RUN],
    /// The run that is asked for, and its lines that were.
    run: usize,
    lines: usize,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(runs: [&'a [Line]; CHUNK / RUN]) -> Self {
        Self { runs, run: 0, lines: 0 }
    }

    /// A part of all lines.
    #[inline(always)]
    fn part(&self, of: usize) -> usize {
        (self.runs[0].len() * self.runs.len()).div_ceil(of)
    }

    /// Asks for the next lines, no further than the end of a run.
    #[inline(always)]
    fn ask<S: Simd<RUN>>(&mut self, s: S, lines: usize) {
        let run = self.runs[self.run];
        let end = run.len().min(self.lines + lines);
        for line in &run[self.lines..end] {
            s.prefetch(line);
        }
        self.lines = end;
        if end == run.len() && self.run + 1 < self.runs.len() {
            (self.run, self.lines) = (self.run + 1, 0);
        }
    }

    /// Asks for what is left.
    #[inline(always)]
    pub(super) fn ask_rest<S: Simd<RUN>>(&mut self, s: S) {
        for _ in self.run..self.runs.len() {
            self.ask(s, usize::MAX / 2);
        }
    }
}

/// A chunk of keys.
pub(super) struct Chunk<'a, K, V> {
    pub(super) here: Runs<'a, K, V>,
    /// Its first position.
    pub(super) start: i32,
}

impl<K, V> Chunk<'_, K, V> {
    /// Keys that some of these rows see, counted inside the chunk.
    fn seen_by(&self, rows: &[Row]) -> Range<usize> {
        let seen = rows.iter().map(|row| row.seen.clone());
        let seen = seen.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0);
        let inside = |position: i32| (position - self.start).clamp(0, CHUNK as i32) as usize;
        inside(seen.start)..inside(seen.end)
    }
}

/// A row of queries, beside its words.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) packed: Packed,
    /// Positions that it sees.
    pub(super) seen: Range<i32>,
}

/// Takes a chunk into the running softmax of all rows and asks for what is `ahead`. `queries` are words, of each [`group`] of
/// rows (the last may be smaller) `[word][row]`.
#[inline(always)]
pub(super) fn attend<S: Simd<RUN>, F: KvFormat<S>>(
    s: S,
    chunk: &Chunk<'_, F::Key, F::Value>,
    mut ahead: Ahead<'_>,
    queries: &[u32],
    rows: &[Row],
    dim: usize,
    state: &mut State,
) {
    let group = group::<S>();
    let groups = queries
        .chunks(group * dim / F::DIMS)
        .zip(rows.chunks(group))
        .zip(state.most.chunks_mut(group))
        .zip(state.sums.chunks_mut(group))
        .zip(state.out.chunks_mut(group * columns(dim)));
    for ((((queries, rows), most), sums), out) in groups {
        if chunk.seen_by(rows).is_empty() {
            continue;
        }
        let ahead = &mut ahead;
        if S::REGISTERS < 8 {
            attend_group::<S, F, 1>(s, chunk, ahead, queries, rows, most, sums, out);
        } else {
            match rows.len() {
                1 => attend_group::<S, F, 1>(s, chunk, ahead, queries, rows, most, sums, out),
                2 => attend_group::<S, F, 2>(s, chunk, ahead, queries, rows, most, sums, out),
                3 => attend_group::<S, F, 3>(s, chunk, ahead, queries, rows, most, sums, out),
                4 => attend_group::<S, F, 4>(s, chunk, ahead, queries, rows, most, sums, out),
                5 => attend_group::<S, F, 5>(s, chunk, ahead, queries, rows, most, sums, out),
                _ => attend_group::<S, F, 6>(s, chunk, ahead, queries, rows, most, sums, out),
            }
        }
        ahead.ask_rest(s);
    }
}

#[inline(always)]
fn attend_group<S: Simd<RUN>, F: KvFormat<S>, const R: usize>(
    s: S,
    chunk: &Chunk<'_, F::Key, F::Value>,
    ahead: &mut Ahead<'_>,
    queries: &[u32],
    rows: &[Row],
    most: &mut [f32],
    sums: &mut [Lanes],
    out: &mut [Lanes],
) {
    let keys = chunk.seen_by(rows);
    let runs = keys.start / RUN..keys.end.div_ceil(RUN);
    let mut scores = [[Lanes([0.0; RUN]); CHUNK / RUN]; R];
    if S::REGISTERS < 32 {
        for run in runs {
            score::<S, F, R, 1>(s, chunk, ahead, run, queries, rows, &mut scores);
        }
    } else if runs.end <= HALF {
        // A loaded word of a query serves several runs.
        score::<S, F, R, HALF>(s, chunk, ahead, 0, queries, rows, &mut scores);
    } else if runs.start >= HALF {
        score::<S, F, R, HALF>(s, chunk, ahead, HALF, queries, rows, &mut scores);
    } else {
        score::<S, F, R, { CHUNK / RUN }>(s, chunk, ahead, 0, queries, rows, &mut scores);
    }
    let columns = out.len() / R;
    let units = F::units(s, scales_of(s, &chunk.here.value_scales));
    let mut weights = [[F::Word::default(); CHUNK]; R];
    let mut turns = [Turn { old: s.splat(1.0), new: s.splat(0.0) }; R];
    for r in 0..R {
        let seen = rows[r].seen.start - chunk.start..rows[r].seen.end - chunk.start;
        let end = CHUNK as i32;
        let (most, sums, weights) = (&mut most[r], &mut sums[r], &mut weights[r]);
        if seen.start <= 0 && seen.end >= end {
            turns[r] = soften::<S, F, true>(s, &scores[r], &seen, &units, most, sums, weights);
        } else if seen.start < seen.end.min(end) && seen.end > 0 {
            let mut scales = scales_of(s, &chunk.here.value_scales);
            for (scales, first) in scales.iter_mut().zip((0..).step_by(RUN)) {
                *scales = s.select(s.lanes(seen.start - first, seen.end - first), *scales, s.splat(0.0));
            }
            let units = F::units(s, scales);
            turns[r] = soften::<S, F, false>(s, &scores[r], &seen, &units, most, sums, weights);
        }
    }
    let mut first = 0;
    while first < columns {
        first += if S::REGISTERS >= 32 && columns - first >= 4 {
            weigh::<S, F, R, 4>(s, chunk, ahead, &keys, &weights, &turns, first, out)
        } else if R <= 3 && columns - first >= 2 {
            weigh::<S, F, R, 2>(s, chunk, ahead, &keys, &weights, &turns, first, out)
        } else {
            weigh::<S, F, R, 1>(s, chunk, ahead, &keys, &weights, &turns, first, out)
        };
    }
}

/// How a chunk is taken into the sums of a row: they times `old`, and the chunk's times `new`.
#[derive(Clone, Copy)]
struct Turn<V> {
    old: V,
    new: V,
}

#[inline(always)]
fn scales_of<S: Simd<RUN>>(s: S, scales: &Scales<'_>) -> Vectors<S::V> {
    let mut v = [s.splat(0.0); CHUNK / RUN];
    for i in 0..v.len() {
        v[i] = s.load(scales[i]);
    }
    v
}

// Loops, not `array::from_fn`, from here on: a closure that is not inlined loses the instruction set.
/// Scores of the keys of `T` runs from `first` on.
#[inline(always)]
fn score<S: Simd<RUN>, F: KvFormat<S>, const R: usize, const T: usize>(
    s: S,
    chunk: &Chunk<'_, F::Key, F::Value>,
    ahead: &mut Ahead<'_>,
    first: usize,
    queries: &[u32],
    rows: &[Row],
    scores: &mut [[Lanes; CHUNK / RUN]; R],
) {
    let queries = queries.as_chunks::<R>().0.as_chunks::<PORTION>().0;
    let mut keys: [&[[[F::Key; RUN]; PORTION]]; T] = [&[]; T];
    for (keys, run) in keys.iter_mut().zip(&chunk.here.keys[first..]) {
        *keys = &run.as_chunks().0.as_chunks().0[..queries.len()];
    }
    let lines = ahead.part(2 * queries.len());
    let mut sums = [[F::start(s, Packed::default()); T]; R];
    for r in 0..R {
        sums[r] = [F::start(s, rows[r].packed); T];
    }
    for i in 0..queries.len() {
        ahead.ask(s, lines);
        for d in 0..PORTION {
            let mut k = [F::splat_query(s, 0); T];
            for t in 0..T {
                k[t] = F::load_keys(s, &keys[t][i][d]);
            }
            for r in 0..R {
                let q = F::splat_query(s, queries[i][d][r]);
                for t in 0..T {
                    sums[r][t] = F::dot_keys(s, k[t], q, sums[r][t]);
                }
            }
        }
    }
    for r in 0..R {
        for t in 0..T {
            let scales = chunk.here.key_scales[first + t];
            s.store(&mut scores[r][first + t].0, F::scores(s, sums[r][t], rows[r].packed, scales));
        }
    }
}

/// Turns a row's scores of a chunk into weights, of which the largest is 1, and adds them to the row's. Some keys are `seen`, all
/// with `ALL`; the others weigh nothing, whatever their scores are.
#[inline(always)]
fn soften<S: Simd<RUN>, F: KvFormat<S>, const ALL: bool>(
    s: S,
    scores: &[Lanes; CHUNK / RUN],
    seen: &Range<i32>,
    units: &Units<S::V>,
    most: &mut f32,
    sums: &mut Lanes,
    weights: &mut [F::Word; CHUNK],
) -> Turn<S::V> {
    let mut v: Vectors<S::V> = [s.splat(0.0); CHUNK / RUN];
    for i in 0..v.len() {
        v[i] = s.load(&scores[i].0);
        if !ALL {
            let first = (i * RUN) as i32;
            v[i] = s.select(s.lanes(seen.start - first, seen.end - first), v[i], s.splat(f32::NEG_INFINITY));
        }
    }
    let chunk_most = s.largest(s.max(s.max(v[0], v[1]), s.max(v[2], v[3])));
    let base = s.splat(chunk_most);
    for (v, first) in v.iter_mut().zip((0..).step_by(RUN)) {
        *v = F::exp2(s, s.sub(*v, base));
        if !ALL {
            *v = s.select(s.lanes(seen.start - first, seen.end - first), *v, s.splat(0.0));
        }
    }
    // One of both stays as it is.
    let by = F::exp2(s, s.splat(-(chunk_most - *most).abs()));
    let one = s.splat(1.0);
    let (old, new) = if chunk_most > *most { (by, one) } else { (one, by) };
    *most = if chunk_most > *most { chunk_most } else { *most };
    let sum = F::keep(s, &v, units, weights);
    let sum = s.fma(sum, new, s.mul(s.load(&sums.0), old));
    s.store(&mut sums.0, sum);
    Turn { old, new: s.mul(new, s.splat(units.unit)) }
}

/// Takes `weights[r] · values` of the chunk's keys, ascending, into `out[r]`: `C` columns from `first` on. Answers `C`.
#[inline(always)]
fn weigh<S: Simd<RUN>, F: KvFormat<S>, const R: usize, const C: usize>(
    s: S,
    chunk: &Chunk<'_, F::Key, F::Value>,
    ahead: &mut Ahead<'_>,
    keys: &Range<usize>,
    weights: &[[F::Word; CHUNK]; R],
    turns: &[Turn<S::V>; R],
    first: usize,
    out: &mut [Lanes],
) -> usize {
    let columns = out.len() / R;
    let mut sums = [[F::start(s, Packed::default()); C]; R];
    let lines = ahead.part(2 * CHUNK / F::TOKENS);
    for run in keys.start / RUN..keys.end.div_ceil(RUN) {
        let count = RUN.min(keys.end - run * RUN);
        let at = run * RUN / F::TOKENS;
        let values: &[[F::Value; RUN]] = chunk.here.values[run].as_chunks().0;
        for i in 0..count / F::TOKENS {
            ahead.ask(s, lines);
            let Some(values) = values[i * columns + first..].first_chunk::<C>() else { break };
            let mut v = [F::splat_query(s, 0); C];
            for c in 0..C {
                v[c] = F::load_values(s, &values[c]);
            }
            add_weighed::<S, F, R, C>(s, &v, weights, at + i, &mut sums);
        }
        let last = count / F::TOKENS;
        if !count.is_multiple_of(F::TOKENS)
            && let Some(values) = values[last * columns + first..].first_chunk::<C>()
        {
            // The neighbours of the last key are what others left there.
            let mut v = [F::splat_query(s, 0); C];
            for c in 0..C {
                v[c] = F::load_first_values(s, &values[c]);
            }
            add_weighed::<S, F, R, C>(s, &v, weights, at + last, &mut sums);
        }
    }
    for r in 0..R {
        for c in 0..C {
            let out = &mut out[r * columns + first + c].0;
            let Turn { old, new } = turns[r];
            s.store(out, s.fma(F::floats(s, sums[r][c]), new, s.mul(s.load(out), old)));
        }
    }
    C
}

#[inline(always)]
fn add_weighed<S: Simd<RUN>, F: KvFormat<S>, const R: usize, const C: usize>(
    s: S,
    values: &[F::Vector; C],
    weights: &[[F::Word; CHUNK]; R],
    at: usize,
    sums: &mut [[F::Sum; C]; R],
) {
    for r in 0..R {
        let weight = F::splat_weight(s, weights[r][at]);
        for c in 0..C {
            sums[r][c] = F::dot_values(s, values[c], weight, sums[r][c]);
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
