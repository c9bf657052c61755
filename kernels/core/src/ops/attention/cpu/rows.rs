//! What is done to rows of queries. Everything inlines into one function a task.

use std::ops::Range;

use super::format::{KvFormat, Packed, Scales, Units, Vectors};
use super::layout::RUN;
use super::state::{Lanes, State, columns};
use crate::simd::Simd;

/// Keys between two updates of the running maximum.
pub(super) const CHUNK: usize = 64;
/// Runs of half a chunk.
const HALF: usize = CHUNK / RUN / 2;
/// Rows that are computed side by side.
const GROUP: usize = 6;
/// Words of a query in a turn of the loop over them.
pub(super) const PORTION: usize = 2;

/// [`GROUP`] where there are registers for it.
pub(super) const fn group<S: Simd<RUN>>() -> usize {
    if S::REGISTERS >= 8 { GROUP } else { 1 }
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
    /// Keys that a row sees, counted inside the chunk.
    #[inline(always)]
    fn seen(&self, row: &Row) -> Range<usize> {
        let inside = |position: i32| (position - self.start).clamp(0, CHUNK as i32) as usize;
        inside(row.seen.start)..inside(row.seen.end)
    }

    /// Keys that some of these rows see, counted inside the chunk.
    #[inline(always)]
    fn seen_by(&self, rows: &[Row]) -> Range<usize> {
        let seen = rows.iter().map(|row| self.seen(row));
        seen.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }
}

/// A row of queries, beside its words.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) packed: Packed,
    /// Positions that it sees.
    pub(super) seen: Range<i32>,
}

/// Weights of a chunk as words, for the rows of a group.
pub(super) struct Weights<W>([[W; CHUNK]; GROUP]);

impl<W: Copy + Default> Default for Weights<W> {
    fn default() -> Self {
        Self([[W::default(); CHUNK]; GROUP])
    }
}

/// Takes a chunk into the running softmax of all rows and asks for what is `ahead`. `queries` are words, of each [`group`] of
/// rows (the last may be smaller) `[portion][row][word of it]`.
#[inline(always)]
pub(super) fn attend<S: Simd<RUN>, F: KvFormat<S>>(
    s: S,
    chunk: &Chunk<'_, F::Key, F::Value>,
    mut ahead: Ahead<'_>,
    queries: &[u32],
    rows: &[Row],
    dim: usize,
    state: &mut State,
    Weights(weights): &mut Weights<F::Word>,
) {
    let group = group::<S>();
    let groups = queries
        .chunks(group * dim / F::DIMS)
        .zip(rows.chunks(group))
        .zip(state.most.chunks_mut(group))
        .zip(state.sums.chunks_mut(group))
        .zip(state.out.chunks_mut(group * columns(dim)));
    let units = F::units(s, scales_of(s, &chunk.here.value_scales));
    for ((((queries, rows), most), sums), out) in groups {
        if chunk.seen_by(rows).is_empty() {
            continue;
        }
        macro_rules! attend {
            ($r:literal) => {
                attend_group::<S, F, $r>(
                    s, chunk, &mut ahead, queries, rows, &units, most, sums, out, weights,
                )
            };
        }
        if S::REGISTERS < 8 {
            attend!(1);
        } else {
            match rows.len() {
                1 => attend!(1),
                2 => attend!(2),
                3 => attend!(3),
                4 => attend!(4),
                5 => attend!(5),
                _ => attend!(6),
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
    units: &Units<S::V>,
    most: &mut [f32],
    sums: &mut [Lanes],
    out: &mut [Lanes],
    weights: &mut [[F::Word; CHUNK]; GROUP],
) {
    let (Some(rows), Some(most), Some(sums), Some(weights)) =
        (rows.first_chunk(), most.first_chunk_mut(), sums.first_chunk_mut(), weights.first_chunk_mut())
    else {
        return;
    };
    let keys = chunk.seen_by(rows);
    let runs = keys.start / RUN..keys.end.div_ceil(RUN);
    let mut scores = [[s.splat(0.0); CHUNK / RUN]; R];
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
    let mut all = true;
    for row in rows {
        all &= chunk.seen(row) == (0..CHUNK);
    }
    let turns = if all {
        soften::<S, F, R, true>(s, chunk, rows, units, &mut scores, most, sums, weights)
    } else {
        soften::<S, F, R, false>(s, chunk, rows, units, &mut scores, most, sums, weights)
    };
    let columns = out.len() / R;
    let mut first = 0;
    while first < columns {
        first += if S::REGISTERS >= 32 && columns - first >= 4 {
            weigh::<S, F, R, 4>(s, chunk, ahead, &keys, weights, &turns, first, out)
        } else if R <= 3 && columns - first >= 2 {
            weigh::<S, F, R, 2>(s, chunk, ahead, &keys, weights, &turns, first, out)
        } else {
            weigh::<S, F, R, 1>(s, chunk, ahead, &keys, weights, &turns, first, out)
        };
    }
}

/// How a chunk is taken into the sums of a row: they times `old`, and the chunk's times `new`.
#[derive(Clone, Copy)]
struct Turn {
    old: f32,
    new: f32,
}

#[inline(always)]
fn scales_of<S: Simd<RUN>>(s: S, scales: &Scales<'_>) -> Vectors<S::V> {
    let mut v = [s.splat(0.0); CHUNK / RUN];
    for i in 0..v.len() {
        v[i] = s.load(scales[i]);
    }
    v
}

/// Numbers of the keys that are `seen`, and `other` for the rest of a chunk.
#[inline(always)]
fn masked<S: Simd<RUN>>(s: S, mut numbers: Vectors<S::V>, seen: &Range<usize>, other: f32) -> Vectors<S::V> {
    for (numbers, first) in numbers.iter_mut().zip((0..).step_by(RUN)) {
        let lanes = s.lanes(seen.start as i32 - first, seen.end as i32 - first);
        *numbers = s.select(lanes, *numbers, s.splat(other));
    }
    numbers
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
    rows: &[Row; R],
    scores: &mut [Vectors<S::V>; R],
) {
    let queries = queries.as_chunks::<PORTION>().0.as_chunks::<R>().0;
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
                let q = F::splat_query(s, queries[i][r][d]);
                for t in 0..T {
                    sums[r][t] = F::dot_keys(s, k[t], q, sums[r][t]);
                }
            }
        }
    }
    for r in 0..R {
        for t in 0..T {
            let scales = chunk.here.key_scales[first + t];
            scores[r][first + t] = F::scores(s, sums[r][t], rows[r].packed, scales);
        }
    }
}

/// Turns scores of a chunk into weights, of which the largest of a row is 1, and adds them to the row's. Some keys are seen, all by
/// all rows with `ALL`; the others weigh nothing, whatever their scores are. `units` are those of all keys.
#[inline(always)]
fn soften<S: Simd<RUN>, F: KvFormat<S>, const R: usize, const ALL: bool>(
    s: S,
    chunk: &Chunk<'_, F::Key, F::Value>,
    rows: &[Row; R],
    units: &Units<S::V>,
    scores: &mut [Vectors<S::V>; R],
    most: &mut [f32; R],
    sums: &mut [Lanes; R],
    weights: &mut [[F::Word; CHUNK]; R],
) -> [Turn; R] {
    let (mut before, mut here) = ([0.0; RUN], [0.0; RUN]);
    for r in 0..R {
        if !ALL {
            scores[r] = masked(s, scores[r], &chunk.seen(&rows[r]), f32::NEG_INFINITY);
        }
        let v = &scores[r];
        before[r] = most[r];
        here[r] = s.largest(s.max(s.max(v[0], v[1]), s.max(v[2], v[3])));
    }
    // What the smaller of both maxima is of the larger one, of all rows at once.
    let difference = s.sub(s.load(&here), s.load(&before));
    let mut by = [0.0; RUN];
    s.store(&mut by, F::exp2(s, s.min(difference, s.sub(s.splat(0.0), difference))));
    let mut turns = [Turn { old: 1.0, new: 0.0 }; R];
    let mut units = *units;
    for r in 0..R {
        let seen = chunk.seen(&rows[r]);
        if !ALL {
            if seen.is_empty() {
                weights[r] = [F::Word::default(); CHUNK];
                continue;
            }
            if r == 0 || seen != chunk.seen(&rows[r - 1]) {
                units = F::units(s, masked(s, scales_of(s, &chunk.here.value_scales), &seen, 0.0));
            }
        }
        let mut v = scores[r];
        for v in &mut v {
            *v = F::exp2(s, s.sub(*v, s.splat(here[r])));
        }
        if !ALL {
            v = masked(s, v, &seen, 0.0);
        }
        let larger = here[r] > before[r];
        let (old, new) = if larger { (by[r], 1.0) } else { (1.0, by[r]) };
        most[r] = if larger { here[r] } else { before[r] };
        let sum = F::keep(s, &v, &units, &mut weights[r]);
        let sum = s.fma(sum, s.splat(new), s.mul(s.load(&sums[r].0), s.splat(old)));
        s.store(&mut sums[r].0, sum);
        turns[r] = Turn { old, new: new * units.unit };
    }
    turns
}

/// Takes `weights[r] · values` of the chunk's keys, ascending, into `out[r]`: `C` columns from `first` on. Answers `C`.
#[inline(always)]
fn weigh<S: Simd<RUN>, F: KvFormat<S>, const R: usize, const C: usize>(
    s: S,
    chunk: &Chunk<'_, F::Key, F::Value>,
    ahead: &mut Ahead<'_>,
    keys: &Range<usize>,
    weights: &[[F::Word; CHUNK]; R],
    turns: &[Turn; R],
    first: usize,
    out: &mut [Lanes],
) -> usize {
    let columns = out.len() / R;
    let mut sums = [[F::start(s, Packed::default()); C]; R];
    let lines = ahead.part(2 * CHUNK / F::TOKENS);
    let values = |word: usize| {
        let each = RUN / F::TOKENS;
        let run: &[[F::Value; RUN]] = chunk.here.values[word / each].as_chunks().0;
        &run[word % each * columns + first..][..C]
    };
    // One loop with one way out: of several the compiler keeps the sums in memory.
    for word in keys.start / RUN * (RUN / F::TOKENS)..keys.end / F::TOKENS {
        ahead.ask(s, lines);
        let values = values(word);
        let mut v = [F::splat_query(s, 0); C];
        for c in 0..C {
            v[c] = F::load_values(s, &values[c]);
        }
        add_weighed::<S, F, R, C>(s, &v, weights, word, &mut sums);
    }
    if !keys.end.is_multiple_of(F::TOKENS) {
        // The neighbours of the last key are what others left there.
        let word = keys.end / F::TOKENS;
        let values = values(word);
        let mut v = [F::splat_query(s, 0); C];
        for c in 0..C {
            v[c] = F::load_first_values(s, &values[c]);
        }
        add_weighed::<S, F, R, C>(s, &v, weights, word, &mut sums);
    }
    for r in 0..R {
        for c in 0..C {
            let out = &mut out[r * columns + first + c].0;
            let Turn { old, new } = turns[r];
            let old = s.mul(s.load(out), s.splat(old));
            s.store(out, s.fma(F::floats(s, sums[r][c]), s.splat(new), old));
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
