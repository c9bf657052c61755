//! Attention over paged KV on the CPU. Lanes are the keys of a run, so that a score needs no sum across lanes, and then
//! the dims of its values: see [`layout`].
//!
//! One row (a query head of a token) is computed the same way whatever else is computed beside it: scores in ascending
//! dimensions, online softmax over chunks of 64 keys, chunks grouped in splits of 256 keys, splits merged in ascending
//! order. All boundaries are absolute positions, so neither the batch, the size of prompt chunks, the window nor the
//! number of threads moves them. Sequences that share the blocks of a split read them once, together.

mod format;
pub mod layout;
mod plan;
pub(crate) mod quantize;
mod rows;
mod state;

use crate::arena::Arena;
use crate::ops::store_kv::KvPlace;
use crate::pages::PagesView;
use crate::pool::{Disjoint, Pool};
use crate::simd::{Isa, Simd, with_pairs_simd, with_wide_simd};
use crate::step::Step;
use format::{Bytes, Halves, KvFormat, Pairs, Scaled, Shorts};
use layout::{KvDType, Parts, RUN, padded};
use plan::{Cut, Plan, Task, splits};
use rows::{Ahead, CHUNK, Chunk, Line, PORTION, Row, Runs, Weights, attend, group};
use state::{State, merge};

/// Keys that one partial result covers.
const SPLIT: usize = 256;
/// Rows of a task: enough to use a loaded key often, few enough to stay in the first-level cache.
const ROWS: usize = 48;

/// Of the runs of a chunk.
type Places = [usize; CHUNK / RUN];

/// What is the same for all tasks of a launch.
pub struct Attention<'a> {
    /// How KV is kept.
    pub dtype: KvDType,
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
    queries: Vec<u32>,
    words: Vec<u32>,
    rows: Vec<Row>,
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

/// What the tasks of a launch write.
struct Written<'a> {
    cut: &'a Cut<'a>,
    plan: &'a Plan,
    partial: Disjoint<'a, f32>,
    out: Disjoint<'a, f32>,
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
            threads,
        }
    }

    /// Writes `[tokens, num_heads * head_dim]`.
    #[expect(unsafe_code, reason = "a thread's desk")]
    pub fn run(&self, isa: Isa, pool: &mut Pool, scratch: &mut Scratch, out: &mut [f32]) {
        let cut = self.cut(pool.threads());
        let Scratch { plan, desks, partial } = scratch;
        cut.plan(plan);
        let plan = &*plan;
        desks.resize_with(pool.threads(), Desk::default);
        let desks = Disjoint::new(desks);
        partial.resize(plan.num_splits * self.place.num_kv_heads * self.partial_floats(), 0.0);
        let to = Written { cut: &cut, plan, partial: Disjoint::new(partial), out: Disjoint::new(out) };
        pool.share(plan.tasks.len(), &|tasks, worker| {
            // SAFETY: a worker runs one task at a time.
            let desk = unsafe { &mut desks.part(worker, 1)[0] };
            let tasks = &plan.tasks[tasks];
            match self.dtype {
                KvDType::F16 => with_wide_simd!(isa, s => self.attend_all::<_, Halves>(s, tasks, desk, &to)),
                KvDType::BF16 => with_pairs_simd!(isa, s => self.attend_all::<_, Pairs>(s, tasks, desk, &to)),
                KvDType::Q16 => {
                    with_wide_simd!(isa, s => self.attend_all::<_, Scaled<Shorts>>(s, tasks, desk, &to));
                }
                KvDType::Q8 => {
                    with_wide_simd!(isa, s => self.attend_all::<_, Scaled<Bytes>>(s, tasks, desk, &to));
                }
            }
        });
        let kv_heads = self.place.num_kv_heads;
        pool.run(plan.cut.len() * kv_heads, &|index, worker| {
            // SAFETY: a worker runs one task at a time.
            let desk = unsafe { &mut desks.part(worker, 1)[0] };
            let token = plan.cut[index / kv_heads];
            with_wide_simd!(isa, s => self.merge(s, token, index % kv_heads, desk, &to));
        });
    }

    /// Floats of the results of one split of a token and KV head.
    fn partial_floats(&self) -> usize {
        self.heads_each() * (1 + RUN + padded(self.place.head_dim))
    }

    /// Where they are; `token` is a place in the plan's.
    #[expect(unsafe_code, clippy::mut_from_ref, reason = "parts are written by different threads")]
    fn partial<'a>(&self, to: &'a Written<'_>, token: usize, split: usize, kv_head: usize) -> &'a mut [f32] {
        let Plan { first_split, tokens, .. } = to.plan;
        let index = first_split[token] + split - splits(&to.cut.seen(tokens[token])).start;
        let floats = self.partial_floats();
        // SAFETY: a split of a token and KV head belongs to one task of each job.
        unsafe { to.partial.part((index * self.place.num_kv_heads + kv_head) * floats, floats) }
    }

    /// Writes the results of the query heads of a token and KV head; they are rows from `first` on.
    #[inline(always)]
    #[expect(unsafe_code, reason = "heads of the output are written by different threads")]
    fn finish<S: Simd<RUN>>(
        &self,
        s: S,
        to: &Written<'_>,
        token: usize,
        kv_head: usize,
        first: usize,
        total: &State,
    ) {
        let (dim, each) = (self.place.head_dim, self.heads_each());
        for r in 0..each {
            let head = to.plan.tokens[token] * self.place.num_heads + kv_head * each + r;
            // SAFETY: each head of each token belongs to one task.
            total.finish(s, first + r, unsafe { to.out.part(head * dim, dim) });
        }
    }

    /// Merges the splits of a cut token and KV head.
    #[inline(always)]
    fn merge<S: Simd<RUN>>(&self, s: S, token: usize, kv_head: usize, desk: &mut Desk, to: &Written<'_>) {
        let (dim, each) = (self.place.head_dim, self.heads_each());
        desk.total.reset(each, dim);
        for split in splits(&to.cut.seen(to.plan.tokens[token])) {
            desk.split.restore(dim, each, self.partial(to, token, split, kv_head));
            merge(s, dim, &mut desk.total, &desk.split, 0..each);
        }
        self.finish(s, to, token, kv_head, 0, &desk.total);
    }

    /// Query heads of a token for a KV head.
    #[inline(always)]
    fn queries(&self, token: usize, kv_head: usize) -> &[f32] {
        let width = self.heads_each() * self.place.head_dim;
        &self.qkv[token * self.place.width() + kv_head * width..][..width]
    }

    /// Asks for the lines of a task's queries.
    #[inline(always)]
    fn ask_queries<S: Simd<RUN>>(&self, s: S, to: &Written<'_>, task: &Task) {
        for &token in &to.plan.tokens[task.tokens.clone()] {
            for line in self.queries(token, task.kv_head).chunks(size_of::<Line>() / size_of::<f32>()) {
                s.prefetch(&line[0]);
            }
        }
    }

    /// Queries of the task times the scale, in units of log2, and what each sees: `[token][query head]`.
    #[inline(always)]
    fn load_queries<S: Simd<RUN>, F: KvFormat<S>>(
        &self,
        s: S,
        to: &Written<'_>,
        task: &Task,
        desk: &mut Desk,
    ) {
        let (dim, each) = (self.place.head_dim, self.heads_each());
        let tokens = &to.plan.tokens[task.tokens.clone()];
        let words = dim / F::DIMS;
        let by = self.scale * std::f32::consts::LOG2_E;
        desk.words.resize(tokens.len() * each * words, 0);
        desk.rows.clear();
        let mut rows = desk.words.chunks_exact_mut(words);
        for &token in tokens {
            let seen = to.cut.seen(token);
            for (query, words) in self.queries(token, task.kv_head).chunks_exact(dim).zip(&mut rows) {
                let packed = F::pack(s, query, by, words);
                desk.rows.push(Row { packed, seen: seen.start as i32..seen.end as i32 });
            }
        }
        desk.queries.resize(desk.words.len(), 0);
        let group = group::<S>() * words;
        for (from, to) in desk.words.chunks(group).zip(desk.queries.chunks_mut(group)) {
            let (rows, to) = (from.len() / words, to.as_chunks_mut::<PORTION>().0);
            for (row, from) in from.chunks_exact(words).enumerate() {
                for (portion, to) in from.as_chunks().0.iter().zip(to.chunks_exact_mut(rows)) {
                    to[row] = *portion;
                }
            }
        }
    }

    /// Where the runs of the chunk of a task from `start` on lie; where nothing of one is seen, its neighbour.
    #[inline(always)]
    fn places(&self, task: &Task, start: usize) -> Places {
        let (keys, runs_each) = (task.keys(start), self.arena.block_size / RUN);
        let table = self.step.table(self.place.group, task.row);
        let mut places = [0; CHUNK / RUN];
        for (i, place) in places.iter_mut().enumerate() {
            let run = (start / RUN + i).clamp(keys.start / RUN, (keys.end - 1) / RUN);
            let block = table[run / runs_each] as usize;
            *place = self.dtype.run(self.arena, &self.place, block, task.kv_head, run % runs_each);
        }
        places
    }

    /// The runs of a chunk.
    #[inline(always)]
    fn runs<S: Simd<RUN>, F: KvFormat<S>>(
        &self,
        parts: &Parts,
        places: &Places,
    ) -> Runs<'_, F::Key, F::Value> {
        let dim = self.place.head_dim;
        let (keys_len, values_len) = (RUN * dim / F::DIMS, RUN * padded(dim) / F::TOKENS);
        let mut runs = Runs::default();
        for (i, &at) in places.iter().enumerate() {
            runs.keys[i] = self.kv.read(at, keys_len);
            runs.values[i] = self.kv.read(at + parts.values, values_len);
            if parts.scales {
                runs.key_scales[i] = self.scales(at + parts.key_scales);
                runs.value_scales[i] = self.scales(at + parts.value_scales);
            }
        }
        runs
    }

    /// Scales of the tokens of a run.
    #[inline(always)]
    fn scales(&self, at: usize) -> &[f32; RUN] {
        self.kv.read(at, RUN).first_chunk().unwrap_or(&[0.0; RUN])
    }

    /// The lines of a chunk, if there is one.
    #[inline(always)]
    fn ahead(&self, parts: &Parts, places: Option<&Places>) -> Ahead<'_> {
        let mut runs: [&[Line]; CHUNK / RUN] = [&[]; CHUNK / RUN];
        for (&at, run) in places.into_iter().flatten().zip(&mut runs) {
            *run = self.kv.read(at, parts.end).as_chunks().0;
        }
        Ahead::new(runs)
    }

    /// Runs tasks, one after the other: while one ends memory is asked for the next.
    #[inline(always)]
    fn attend_all<S: Simd<RUN>, F: KvFormat<S>>(
        &self,
        s: S,
        tasks: &[Task],
        desk: &mut Desk,
        to: &Written<'_>,
    ) {
        let parts = self.dtype.parts(self.place.head_dim);
        let first_chunk = |task: &Task| self.places(task, task.first_chunk());
        let mut weights = Weights::<F::Word>::default();
        self.ahead(&parts, tasks.first().map(first_chunk).as_ref()).ask_rest(s);
        for (i, task) in tasks.iter().enumerate() {
            self.load_queries::<S, F>(s, to, task, desk);
            let next = tasks.get(i + 1);
            if let Some(next) = next {
                self.ask_queries(s, to, next);
            }
            self.attend::<S, F>(s, &parts, task, next.map(first_chunk), desk, &mut weights, to);
        }
    }

    /// Runs a task, whose queries are on the desk; `then` is the chunk behind its last one.
    #[inline(always)]
    fn attend<S: Simd<RUN>, F: KvFormat<S>>(
        &self,
        s: S,
        parts: &Parts,
        task: &Task,
        then: Option<Places>,
        desk: &mut Desk,
        weights: &mut Weights<F::Word>,
        to: &Written<'_>,
    ) {
        let (dim, each) = (self.place.head_dim, self.heads_each());
        let tokens = &to.plan.tokens[task.tokens.clone()];
        let Desk { queries, rows, split: part, total, .. } = desk;
        let mut places = self.places(task, task.first_chunk());
        for split in task.splits.clone() {
            part.reset(rows.len(), dim);
            for start in task.chunks(split) {
                let behind = start + CHUNK;
                let next = if task.keys(behind).is_empty() { then } else { Some(self.places(task, behind)) };
                let here = self.runs::<S, F>(parts, &places);
                let ahead = self.ahead(parts, next.as_ref());
                let chunk = Chunk { here, start: start as i32 };
                attend::<S, F>(s, &chunk, ahead, queries, rows, dim, part, weights);
                places = next.unwrap_or(places);
            }
            if task.whole && split == task.splits.start {
                std::mem::swap(part, total);
                continue;
            }
            for (t, &token) in tokens.iter().enumerate() {
                if !splits(&to.cut.seen(token)).contains(&split) {
                    continue;
                }
                let rows = t * each..(t + 1) * each;
                if task.whole {
                    merge(s, dim, total, part, rows);
                } else {
                    part.save(dim, rows, self.partial(to, task.tokens.start + t, split, task.kv_head));
                }
            }
        }
        if task.whole {
            for t in 0..tokens.len() {
                self.finish(s, to, task.tokens.start + t, task.kv_head, t * each, total);
            }
        }
    }
}
