//! Attention over paged KV on the CPU. KV elements are IEEE halves. A key tile is kept in runs of 16 tokens,
//! `[run][dim][16 tokens]`, so that lanes are keys and a score needs no sum across lanes; a value tile is `[token][dim]`.
//!
//! One row (a query head of a token) is computed the same way whatever else is computed beside it: scores in ascending
//! dimensions, online softmax over chunks of 64 keys, chunks grouped in splits of 256 keys, splits merged in ascending
//! order. All boundaries are absolute positions, so neither the batch, the size of prompt chunks, the window nor the
//! number of threads moves them. Sequences that share the blocks of a split read them once, together.

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
use rows::{State, Tiles, merge, pack_query, padded, score_rows, soften, weigh_rows};

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
        for (t, &token) in tokens.iter().enumerate() {
            let from = &self.qkv[token * self.place.width() + task.kv_head * each * dim..][..each * dim];
            for (r, from) in (t * each..).zip(from.chunks_exact(dim)) {
                pack_query(from, by, r, tokens.len() * each, &mut desk.queries);
            }
        }
    }

    /// Tiles of the runs that hold some of these keys of a chunk; the last one again where there are fewer.
    fn tiles(&self, task: &Task, which: KeyOrValue, keys: &Range<usize>) -> Tiles<'_> {
        let (size, elements) = (self.arena.block_size, RUN * self.place.head_dim);
        let table = self.step.table(self.place.group, task.row);
        let last = (keys.end - 1) / RUN;
        let mut tiles = Tiles::default();
        for (tile, run) in tiles.iter_mut().zip(keys.start / RUN..) {
            let position = run.min(last) * RUN;
            let block = table[position / size] as usize;
            let at = self.arena.tile(self.place.group, block, self.place.layer, which, task.kv_head);
            *tile = self.kv.read(at + position % size / RUN * elements * size_of::<u16>(), elements);
        }
        tiles
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
        // Another thread may take the next split, but not of a whole task.
        let end = if task.whole { task.span.end } else { task.span.end.min((split + 1) * SPLIT) };
        let keys = |chunk: usize| chunk.max(task.span.start)..(chunk + CHUNK).min(end);
        let mut ahead: Option<Tiles<'_>> = None;
        for chunk in (split * SPLIT..(split + 1) * SPLIT).step_by(CHUNK) {
            let (here, next) = (keys(chunk), keys(chunk + CHUNK));
            if here.is_empty() {
                continue;
            }
            let first = here.start / RUN * RUN;
            let keys = ahead.unwrap_or_else(|| self.tiles(task, KeyOrValue::Key, &here));
            let values = self.tiles(task, KeyOrValue::Value, &here);
            let runs = (here.end - first).div_ceil(RUN);
            score_rows(s, &keys, runs, &values, &desk.queries, dim, &mut desk.scores[first - chunk..]);
            for (t, &token) in tokens.iter().enumerate() {
                let seen = cut.seen(token);
                let (from, to) = (seen.start as i32 - chunk as i32, seen.end as i32 - chunk as i32);
                for r in t * each..(t + 1) * each {
                    let scores = &mut desk.scores[r * CHUNK..][..CHUNK];
                    let (most, sums) = (&mut desk.split.most[r], &mut desk.split.sums[r]);
                    soften(s, scores, from, to, most, sums, &mut desk.split.out[r * width..][..width]);
                }
            }
            let next = (!next.is_empty()).then(|| self.tiles(task, KeyOrValue::Key, &next));
            let here = first - chunk..here.end - chunk;
            let asked = next.unwrap_or_default();
            weigh_rows(s, &values, &here, &asked, &desk.scores, dim, &mut desk.split.out);
            ahead = next;
        }
    }
}
