//! Attention over paged KV on the CPU. KV elements are IEEE halves. A key tile is kept in runs of 16 tokens,
//! `[run][dim][16 tokens]`, so that lanes are keys and a score needs no sum across lanes; a value tile is `[token][dim]`.
//!
//! One row (a query head of a token) is computed the same way whatever else is computed beside it: scores in ascending
//! dimensions, online softmax over chunks of 64 keys, chunks grouped in splits of 256 keys, splits merged in ascending
//! order. All boundaries are absolute positions, so neither the batch, the size of prompt chunks, the window nor the
//! number of threads moves them.

mod rows;

use std::ops::Range;

use crate::arena::{Arena, KeyOrValue};
use crate::ops::store_kv::KvPlace;
use crate::pages::PagesView;
use crate::pool::{Disjoint, Pool};
use crate::simd::{Isa, LANES, Simd, with_simd};
use crate::step::Step;
use rows::{State, merge, score_rows, soften, weigh_rows, widen_into};

/// Tokens of a run of a key tile; a block has a multiple of it.
pub const RUN: usize = 16;
/// Keys between two updates of the running maximum.
const CHUNK: usize = 64;
/// Keys that one partial result covers.
const SPLIT: usize = 256;
/// Rows of a task: enough to use a loaded key often, few enough to stay in the first-level cache.
const ROWS: usize = 48;
/// With more rows than this, keys and values are widened to f32 once for all of them.
const WIDEN: usize = 6;

/// What is the same for all tasks of a launch.
pub struct Attention<'a> {
    /// Which KV.
    pub place: KvPlace,
    /// Factor of the scores.
    pub scale: f32,
    /// Positions seen, if limited.
    pub window: Option<u32>,
    /// The step.
    pub step: &'a Step,
    /// Where pages are.
    pub arena: &'a Arena,
    /// The pages.
    pub kv: &'a PagesView<'a>,
    /// `[tokens, place.width()]`.
    pub qkv: &'a [f32],
}

/// Memory of one thread, kept between calls.
#[derive(Default)]
struct Desk {
    queries: Vec<f32>,
    scores: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    split: State,
    total: State,
}

/// Memory of all threads, kept between calls.
#[derive(Default)]
pub struct Scratch {
    desks: Vec<Desk>,
    partial: Vec<f32>,
}

/// The query heads of one KV head, of some tokens of one sequence.
struct Task {
    row: usize,
    tokens: Range<usize>,
    kv_head: usize,
}

impl Attention<'_> {
    fn heads_each(&self) -> usize {
        self.place.num_heads / self.place.num_kv_heads
    }

    /// Positions that a token sees.
    fn seen(&self, token: usize) -> Range<usize> {
        let end = self.step.positions[token] as usize + 1;
        self.window.map_or(0, |window| end.saturating_sub(window as usize))..end
    }

    /// Positions that any token of a task sees.
    fn span(&self, task: &Task) -> Range<usize> {
        self.seen(task.tokens.start).start..self.seen(task.tokens.end - 1).end
    }

    fn splits(&self, task: &Task) -> Range<usize> {
        let span = self.span(task);
        span.start / SPLIT..span.end.div_ceil(SPLIT)
    }

    fn rows(&self, task: &Task) -> usize {
        task.tokens.len() * self.heads_each()
    }

    fn tasks(&self) -> Vec<Task> {
        let tokens_each = (ROWS / self.heads_each()).max(1);
        let mut tasks = Vec::new();
        for (row, r) in self.step.rows.iter().enumerate() {
            // Late tokens see most: long tasks first, so that threads end together.
            for first in (r.first..r.first + r.len).step_by(tokens_each).rev() {
                let tokens = first..(r.first + r.len).min(first + tokens_each);
                tasks.extend((0..self.place.num_kv_heads).map(|kv_head| Task {
                    row,
                    tokens: tokens.clone(),
                    kv_head,
                }));
            }
        }
        tasks
    }

    /// Writes `[tokens, num_heads * head_dim]`.
    #[expect(unsafe_code, reason = "heads of the output are written by different threads")]
    pub fn run(&self, isa: Isa, pool: &mut Pool, scratch: &mut Scratch, out: &mut [f32]) {
        let dim = self.place.head_dim;
        let tasks = self.tasks();
        scratch.desks.resize_with(pool.threads(), Desk::default);
        let desks = Disjoint::new(&mut scratch.desks);
        let out = Disjoint::new(out);
        let finish = |task: &Task, total: &State| {
            for (r, (sums, values)) in total.sums.iter().zip(total.out.chunks_exact(dim)).enumerate() {
                let (token, head) = self.token_and_head(task, r);
                // SAFETY: each head of each token belongs to one task.
                let out = unsafe { out.part((token * self.place.num_heads + head) * dim, dim) };
                with_simd!(isa, s => {
                    let by = 1.0 / s.sum(s.load(sums));
                    for (out, value) in out.iter_mut().zip(values) {
                        *out = value * by;
                    }
                });
            }
        };

        let most_splits = tasks.iter().map(|task| self.splits(task).len()).max().unwrap_or(0);
        if tasks.len() >= 2 * pool.threads() || most_splits <= 1 || pool.threads() == 1 {
            pool.run(tasks.len(), &|index, worker| {
                let task = &tasks[index];
                // SAFETY: a worker runs one task at a time.
                let desk = unsafe { &mut desks.part(worker, 1)[0] };
                with_simd!(isa, s => self.whole(s, task, desk));
                finish(task, &desk.total);
            });
            return;
        }

        // Few tasks over long contexts: a task for each split, then the merges in the same order as above.
        let pieces: Vec<(usize, usize)> = tasks
            .iter()
            .enumerate()
            .flat_map(|(index, task)| self.splits(task).map(move |split| (index, split)))
            .collect();
        let row_floats = 1 + LANES + dim;
        let most_rows = tasks.iter().map(|task| self.rows(task)).max().unwrap_or(0);
        scratch.partial.resize(pieces.len() * most_rows * row_floats, 0.0);
        let partial = Disjoint::new(&mut scratch.partial);
        pool.run(pieces.len(), &|piece, worker| {
            let (index, split) = pieces[piece];
            // SAFETY: a worker runs one task at a time.
            let desk = unsafe { &mut desks.part(worker, 1)[0] };
            with_simd!(isa, s => {
                self.load_queries(s, &tasks[index], desk);
                self.split(s, &tasks[index], split, desk);
            });
            // SAFETY: each piece has its own part.
            let to = unsafe { partial.part(piece * most_rows * row_floats, most_rows * row_floats) };
            for (r, to) in to.chunks_exact_mut(row_floats).take(self.rows(&tasks[index])).enumerate() {
                to[0] = desk.split.most[r];
                to[1..=LANES].copy_from_slice(&desk.split.sums[r]);
                to[1 + LANES..].copy_from_slice(&desk.split.out[r * dim..][..dim]);
            }
        });
        // SAFETY: the job above has ended.
        let (desk, partial) =
            unsafe { (&mut desks.part(0, 1)[0], partial.part(0, pieces.len() * most_rows * row_floats)) };
        let mut pieces = pieces.iter().zip(partial.chunks_exact(most_rows * row_floats)).peekable();
        for (index, task) in tasks.iter().enumerate() {
            desk.total.reset(self.rows(task), dim);
            while let Some((_, from)) = pieces.next_if(|((of, _), _)| *of == index) {
                desk.split.reset(self.rows(task), dim);
                for (r, from) in from.chunks_exact(row_floats).take(self.rows(task)).enumerate() {
                    desk.split.most[r] = from[0];
                    desk.split.sums[r].copy_from_slice(&from[1..=LANES]);
                    desk.split.out[r * dim..][..dim].copy_from_slice(&from[1 + LANES..]);
                }
                with_simd!(isa, s => merge(s, dim, &mut desk.total, &desk.split));
            }
            finish(task, &desk.total);
        }
    }

    fn token_and_head(&self, task: &Task, row: usize) -> (usize, usize) {
        let each = self.heads_each();
        (task.tokens.start + row / each, task.kv_head * each + row % each)
    }

    #[inline(always)]
    fn whole<S: Simd>(&self, s: S, task: &Task, desk: &mut Desk) {
        self.load_queries(s, task, desk);
        desk.total.reset(self.rows(task), self.place.head_dim);
        for split in self.splits(task) {
            self.split(s, task, split, desk);
            merge(s, self.place.head_dim, &mut desk.total, &desk.split);
        }
    }

    /// Queries times the scale, in units of log2.
    #[inline(always)]
    fn load_queries<S: Simd>(&self, s: S, task: &Task, desk: &mut Desk) {
        let dim = self.place.head_dim;
        let rows = self.rows(task);
        desk.queries.resize(rows * dim, 0.0);
        let by = s.splat(self.scale * std::f32::consts::LOG2_E);
        for (r, to) in desk.queries.chunks_exact_mut(dim).enumerate() {
            let (token, head) = self.token_and_head(task, r);
            let from = &self.qkv[token * self.place.width() + head * dim..][..dim];
            for (from, to) in from.as_chunks::<LANES>().0.iter().zip(to.as_chunks_mut::<LANES>().0) {
                s.store(to, s.mul(s.load(from), by));
            }
        }
        desk.scores.resize(rows * CHUNK, 0.0);
    }

    /// Key or value elements of the 16 tokens from `position`.
    #[inline(always)]
    fn elements(&self, task: &Task, which: KeyOrValue, position: usize) -> &[u16] {
        let size = self.arena.block_size;
        let block = self.step.table(self.place.group, task.row)[position / size] as usize;
        let tile = self.arena.tile(self.place.group, block, self.place.layer, which, task.kv_head);
        let dim = self.place.head_dim;
        self.kv.read(tile + position % size * dim * size_of::<u16>(), RUN * dim)
    }

    /// Fills `desk.split` with the keys of one split.
    #[inline(always)]
    fn split<S: Simd>(&self, s: S, task: &Task, split: usize, desk: &mut Desk) {
        let dim = self.place.head_dim;
        let rows = self.rows(task);
        let widen = rows > WIDEN;
        desk.split.reset(rows, dim);
        if widen {
            desk.keys.resize(RUN * dim, 0.0);
            desk.values.resize(CHUNK * dim, 0.0);
        }
        let span = self.span(task);
        for chunk in (split * SPLIT..(split + 1) * SPLIT).step_by(CHUNK) {
            let keys = chunk.max(span.start)..(chunk + CHUNK).min(span.end);
            if keys.is_empty() {
                continue;
            }
            let runs = (keys.start - chunk) / RUN..(keys.end - chunk).div_ceil(RUN);
            for run in runs.clone() {
                let tile = self.elements(task, KeyOrValue::Key, chunk + run * RUN);
                let scores = &mut desk.scores[run * RUN..];
                if widen {
                    widen_into(s, tile, &mut desk.keys);
                    score_rows(s, &desk.keys, &desk.queries, dim, scores);
                } else {
                    score_rows(s, tile, &desk.queries, dim, scores);
                }
            }
            for r in 0..rows {
                let seen = self.seen(self.token_and_head(task, r).0);
                let from = seen.start as i32 - chunk as i32;
                let to = seen.end as i32 - chunk as i32;
                let scores = &mut desk.scores[r * CHUNK..][..CHUNK];
                let (most, sums) = (&mut desk.split.most[r], &mut desk.split.sums[r]);
                soften(s, scores, from, to, most, sums, &mut desk.split.out[r * dim..][..dim]);
            }
            let scores = &desk.scores[runs.start * RUN..];
            let count = keys.end - chunk - runs.start * RUN;
            let tiles: [&[u16]; CHUNK / RUN] = std::array::from_fn(|i| {
                let run = (runs.start + i).min(runs.end - 1);
                self.elements(task, KeyOrValue::Value, chunk + run * RUN)
            });
            if widen {
                for (tile, to) in tiles.iter().take(runs.len()).zip(desk.values.chunks_exact_mut(RUN * dim)) {
                    widen_into(s, tile, to);
                }
                let values = &desk.values;
                let tiles: [&[f32]; CHUNK / RUN] =
                    std::array::from_fn(|i| &values[i * RUN * dim..][..RUN * dim]);
                weigh_rows(s, &tiles, count, scores, dim, &mut desk.split.out);
            } else {
                weigh_rows(s, &tiles, count, scores, dim, &mut desk.split.out);
            }
        }
    }
}
