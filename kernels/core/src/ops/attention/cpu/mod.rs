//! Attention over paged KV on the CPU. KV elements are IEEE halves. A key tile is kept in runs of 16 tokens,
//! `[run][dim][16 tokens]`, so that lanes are keys and a score needs no sum across lanes; a value tile is `[token][dim]`.
//!
//! One row (a query head of a token) is computed the same way whatever else is computed beside it: scores in ascending
//! dimensions, online softmax over chunks of 64 keys, chunks grouped in splits of 256 keys, splits merged in ascending
//! order. All boundaries are absolute positions, so neither the batch, the size of prompt chunks, the window nor the
//! number of threads moves them.

mod plan;
mod rows;

use std::ops::Range;

use crate::arena::{Arena, KeyOrValue};
use crate::ops::store_kv::KvPlace;
use crate::pages::PagesView;
use crate::pool::{Disjoint, Pool};
use crate::simd::{Isa, Simd, WIDE, with_wide_simd};
use crate::step::Step;
use plan::{Cut, Plan, Task, splits};
use rows::{State, Tiles, merge, padded, score_rows, soften, weigh_rows};

/// Tokens of a run of a key tile, one for each lane; a block has a multiple of it.
pub const RUN: usize = WIDE;
/// Keys between two updates of the running maximum.
const CHUNK: usize = 64;
/// Keys that one partial result covers.
const SPLIT: usize = 256;
/// Rows of a task: enough to use a loaded key often, few enough to stay in the first-level cache.
const ROWS: usize = 48;

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
    split: State,
    total: State,
}

/// Memory of all threads, kept between calls.
#[derive(Default)]
pub struct Scratch {
    plan: Plan,
    desks: Vec<Desk>,
    /// Results of single splits: `[split of a cut token][KV head][query head of it][maximum, sums, out]`.
    partial: Vec<f32>,
}

impl Attention<'_> {
    fn heads_each(&self) -> usize {
        self.place.num_heads / self.place.num_kv_heads
    }

    fn cut(&self, threads: usize) -> Cut<'_> {
        Cut {
            step: self.step,
            place: &self.place,
            window: self.window,
            block_size: self.arena.block_size,
            tokens_each: (ROWS / self.heads_each()).max(1),
            enough: 4 * threads,
        }
    }

    /// Writes `[tokens, num_heads * head_dim]`.
    #[expect(unsafe_code, reason = "heads of the output are written by different threads")]
    pub fn run(&self, isa: Isa, pool: &mut Pool, scratch: &mut Scratch, out: &mut [f32]) {
        let (dim, each, kv_heads) = (self.place.head_dim, self.heads_each(), self.place.num_kv_heads);
        let cut = self.cut(pool.threads());
        let Scratch { plan, desks, partial } = scratch;
        cut.plan(plan);
        desks.resize_with(pool.threads(), Desk::default);
        let desks = Disjoint::new(desks);
        let floats = each * (1 + RUN + padded(dim));
        partial.resize(plan.first_split.last().unwrap_or(&0) * kv_heads * floats, 0.0);
        let partial = Disjoint::new(partial);
        // SAFETY (of what it is called for): a split of a token and KV head belongs to one task of each job.
        let place = |token: usize, split: usize, kv_head: usize| {
            let first = plan.first_split[token - plan.cut.start];
            ((first + split - splits(&cut.seen(plan.tokens[token])).start) * kv_heads + kv_head) * floats
        };
        let out = Disjoint::new(out);
        let finish = |token: usize, kv_head: usize, row: usize, total: &State| {
            for r in 0..each {
                let head = plan.tokens[token] * self.place.num_heads + kv_head * each + r;
                // SAFETY: each head of each token belongs to one task.
                let out = unsafe { out.part(head * dim, dim) };
                with_wide_simd!(isa, s => total.finish(s, row + r, out));
            }
        };

        pool.run(plan.tasks.len(), &|index, worker| {
            let task = &plan.tasks[index];
            let tokens = &plan.tokens[task.tokens.clone()];
            // SAFETY: a worker runs one task at a time.
            let desk = unsafe { &mut desks.part(worker, 1)[0] };
            self.load_queries(task, tokens, desk);
            desk.total.reset(tokens.len() * each, dim);
            for split in task.splits.clone() {
                with_wide_simd!(isa, s => self.split(s, &cut, task, tokens, split, desk));
                for (t, &token) in tokens.iter().enumerate() {
                    if !splits(&cut.seen(token)).contains(&split) {
                        continue;
                    }
                    let rows = t * each..(t + 1) * each;
                    if task.whole {
                        with_wide_simd!(isa, s => merge(s, dim, &mut desk.total, &desk.split, rows));
                    } else {
                        let at = place(task.tokens.start + t, split, task.kv_head);
                        // SAFETY: see `place`.
                        desk.split.save(dim, rows, unsafe { partial.part(at, floats) });
                    }
                }
            }
            if task.whole {
                for t in 0..tokens.len() {
                    finish(task.tokens.start + t, task.kv_head, t * each, &desk.total);
                }
            }
        });
        pool.run(plan.cut.len() * kv_heads, &|index, worker| {
            let (token, kv_head) = (plan.cut.start + index / kv_heads, index % kv_heads);
            // SAFETY: a worker runs one task at a time.
            let desk = unsafe { &mut desks.part(worker, 1)[0] };
            desk.total.reset(each, dim);
            for split in splits(&cut.seen(plan.tokens[token])) {
                // SAFETY: the job that wrote it has ended.
                let from = unsafe { partial.part(place(token, split, kv_head), floats) };
                desk.split.restore(dim, each, from);
                with_wide_simd!(isa, s => merge(s, dim, &mut desk.total, &desk.split, 0..each));
            }
            finish(token, kv_head, 0, &desk.total);
        });
    }

    /// Queries times the scale, in units of log2.
    fn load_queries(&self, task: &Task, tokens: &[usize], desk: &mut Desk) {
        let (dim, each) = (self.place.head_dim, self.heads_each());
        desk.queries.resize(tokens.len() * each * dim, 0.0);
        desk.scores.resize(tokens.len() * each * CHUNK, 0.0);
        let by = self.scale * std::f32::consts::LOG2_E;
        for (&token, to) in tokens.iter().zip(desk.queries.chunks_exact_mut(each * dim)) {
            let from = &self.qkv[token * self.place.width() + task.kv_head * each * dim..];
            for (from, to) in from.iter().zip(to) {
                *to = from * by;
            }
        }
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

    /// Tiles of the runs that hold some of these keys of a chunk; the last one again where there are fewer.
    fn tiles(&self, task: &Task, which: KeyOrValue, keys: &Range<usize>) -> Tiles<'_> {
        let runs = keys.start / RUN..keys.end.div_ceil(RUN);
        std::array::from_fn(|i| self.elements(task, which, (runs.start + i).min(runs.end - 1) * RUN))
    }

    /// Fills `desk.split` with the keys of one split.
    #[inline(always)]
    fn split<S: Simd<RUN>>(
        &self,
        s: S,
        cut: &Cut<'_>,
        task: &Task,
        tokens: &[usize],
        split: usize,
        desk: &mut Desk,
    ) {
        let (dim, each) = (self.place.head_dim, self.heads_each());
        let width = padded(dim);
        desk.split.reset(tokens.len() * each, dim);
        let keys = |chunk: usize| chunk.max(task.span.start)..(chunk + CHUNK).min(task.span.end);
        for chunk in (split * SPLIT..(split + 1) * SPLIT).step_by(CHUNK) {
            let (here, next) = (keys(chunk), keys(chunk + CHUNK));
            if here.is_empty() {
                continue;
            }
            let first = here.start / RUN * RUN;
            let count = here.end - first;
            let values = self.tiles(task, KeyOrValue::Value, &here);
            let scores = &mut desk.scores[first - chunk..];
            let key_tiles = self.tiles(task, KeyOrValue::Key, &here);
            score_rows(s, &key_tiles, count.div_ceil(RUN), &values, &desk.queries, dim, scores);
            for (t, &token) in tokens.iter().enumerate() {
                let seen = cut.seen(token);
                let (from, to) = (seen.start as i32 - chunk as i32, seen.end as i32 - chunk as i32);
                for r in t * each..(t + 1) * each {
                    let scores = &mut desk.scores[r * CHUNK..][..CHUNK];
                    let (most, sums) = (&mut desk.split.most[r], &mut desk.split.sums[r]);
                    soften(s, scores, from, to, most, sums, &mut desk.split.out[r * width..][..width]);
                }
            }
            let ahead = self.tiles(task, KeyOrValue::Key, if next.is_empty() { &here } else { &next });
            weigh_rows(s, &values, count, &ahead, &desk.scores[first - chunk..], dim, &mut desk.split.out);
        }
    }
}
