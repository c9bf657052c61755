//! How the attention of a step is cut into tasks. The cut never shows in the results: a split of a row is computed the
//! same way in every task, and splits are merged in ascending order.

use std::ops::Range;

use super::SPLIT;
use super::rows::CHUNK;
use crate::ops::attention::seen;
use crate::ops::store_kv::KvPlace;
use crate::step::Step;

/// Tasks of prompts for each thread that are enough for all threads to end about together.
const PROMPT_TASKS: usize = 4;
/// Tasks of decodes for each thread that are enough for all threads to end about together.
const DECODE_TASKS: usize = 8;

/// The query heads of one KV head, of tokens that find these splits in the same blocks.
pub(super) struct Task {
    /// Of [`Plan::tokens`].
    pub(super) tokens: Range<usize>,
    /// The step's row whose block table is read.
    pub(super) row: usize,
    pub(super) kv_head: usize,
    pub(super) splits: Range<usize>,
    /// Positions that any of its tokens sees.
    pub(super) span: Range<usize>,
    /// Whether the splits are all that its tokens see; else other tasks hold the others.
    pub(super) whole: bool,
}

impl Task {
    /// Positions of the chunk from `start` on that some token sees; other tasks may have the splits behind.
    pub(super) fn keys(&self, start: usize) -> Range<usize> {
        let end = self.span.end.min(self.splits.end * SPLIT);
        start.max(self.span.start)..(start + CHUNK).min(end)
    }

    /// First positions of the chunks of a split that have such positions.
    pub(super) fn chunks(&self, split: usize) -> impl Iterator<Item = usize> {
        let chunks = (split * SPLIT..(split + 1) * SPLIT).step_by(CHUNK);
        chunks.filter(|&start| !self.keys(start).is_empty())
    }

    /// First position of the first of all chunks.
    pub(super) fn first_chunk(&self) -> usize {
        self.span.start.max(self.splits.start * SPLIT) / CHUNK * CHUNK
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Plan {
    /// Tokens of the step, in the order of the tasks.
    pub(super) tokens: Vec<usize>,
    pub(super) tasks: Vec<Task>,
    /// Places in `tokens` of those whose splits lie in several tasks.
    pub(super) cut: Vec<usize>,
    /// Of each of `tokens` that is cut: where its splits begin among the splits of all of them.
    pub(super) first_split: Vec<usize>,
    /// Splits of all that are cut.
    pub(super) num_splits: usize,
}

/// What a plan is made for.
pub(super) struct Cut<'a> {
    pub(super) step: &'a Step,
    pub(super) place: &'a KvPlace,
    pub(super) window: Option<u32>,
    pub(super) block_size: usize,
    /// Most tokens of a task.
    pub(super) tokens_each: usize,
    pub(super) threads: usize,
}

/// Splits that hold some of these positions.
pub(super) fn splits(span: &Range<usize>) -> Range<usize> {
    span.start / SPLIT..span.end.div_ceil(SPLIT)
}

impl Cut<'_> {
    /// Positions that a token sees.
    pub(super) fn seen(&self, token: usize) -> Range<usize> {
        seen(self.step.positions[token] as usize, self.window)
    }

    /// Prompts first, as long as they are many tasks: each with all its splits, late tokens, which see most, before early
    /// ones. What is left is cut into splits, so that threads end together.
    pub(super) fn plan(&self, plan: &mut Plan) {
        let Plan { tokens, tasks, cut, first_split, num_splits } = plan;
        tokens.clear();
        tasks.clear();
        cut.clear();
        first_split.clear();
        *num_splits = 0;
        let step = self.step;
        let (decodes, prompts): (Vec<usize>, Vec<usize>) =
            (0..step.rows.len()).partition(|&row| step.rows[row].len == 1);
        let pieces = prompts.iter().map(|&row| step.rows[row].len.div_ceil(self.tokens_each));
        let whole = pieces.sum::<usize>() * self.place.num_kv_heads >= PROMPT_TASKS * self.threads;
        for row in prompts {
            let (first, end) = (step.rows[row].first, step.rows[row].first + step.rows[row].len);
            for first in (first..end).step_by(self.tokens_each).rev() {
                let from = tokens.len();
                tokens.extend(first..end.min(first + self.tokens_each));
                let splits = splits(&self.span(&tokens[from..]));
                let each = if whole { splits.len() } else { 1 };
                for split in splits.clone().step_by(each) {
                    self.push(tasks, tokens, from..tokens.len(), row, split..split + each, whole);
                }
            }
        }
        let first_decode = tokens.len();
        self.plan_decodes(decodes, tokens, tasks);
        first_split.resize(tokens.len(), 0);
        let mut is_whole = vec![false; tokens.len()];
        for task in tasks.iter().filter(|task| task.whole) {
            is_whole[task.tokens.clone()].fill(true);
        }
        debug_assert!(is_whole[..first_decode].iter().all(|&one| one == whole));
        for (place, &token) in tokens.iter().enumerate().filter(|&(place, _)| !is_whole[place]) {
            cut.push(place);
            first_split[place] = *num_splits;
            *num_splits += splits(&self.seen(token)).len();
        }
    }

    /// Rows of one token, those together that share the blocks of a split. A task has several splits where there are
    /// enough of them.
    fn plan_decodes(&self, mut rows: Vec<usize>, tokens: &mut Vec<usize>, tasks: &mut Vec<Task>) {
        let step = self.step;
        let table = |row: usize| step.table(self.place.group, row);
        // Rows that share their first blocks become neighbours.
        rows.sort_by(|&a, &b| table(a).cmp(table(b)));
        let first = tokens.len();
        tokens.extend(rows.iter().map(|&row| step.rows[row].first));
        let seen: Vec<Range<usize>> =
            tokens[first..].iter().map(|&token| splits(&self.seen(token))).collect();
        let blocks = |row: usize, split: usize| {
            let (from, to) =
                (split * SPLIT / self.block_size, ((split + 1) * SPLIT).div_ceil(self.block_size));
            let table = table(row);
            &table[from.min(table.len())..to.min(table.len())]
        };
        let mut pieces: Vec<(Range<usize>, usize)> = Vec::new();
        for split in 0..seen.iter().map(|splits| splits.end).max().unwrap_or(0) {
            let mut from = 0;
            while from < rows.len() {
                let mut to = from + 1;
                if seen[from].contains(&split) {
                    while to < rows.len()
                        && to - from < self.tokens_each
                        && seen[to].contains(&split)
                        && blocks(rows[to], split) == blocks(rows[from], split)
                    {
                        to += 1;
                    }
                    pieces.push((from..to, split));
                }
                from = to;
            }
        }
        let each = (pieces.len() * self.place.num_kv_heads / (DECODE_TASKS * self.threads)).max(1);
        pieces.sort_by_key(|(rows, split)| (rows.start, rows.end, *split));
        let follow = |(a, s): &(Range<usize>, usize), (b, t): &(Range<usize>, usize)| a == b && s + 1 == *t;
        for group in pieces.chunk_by(follow).flat_map(|run| run.chunks(each)) {
            let (of, split) = &group[0];
            let splits = *split..split + group.len();
            let whole = of.clone().all(|row| seen[row] == splits);
            let tokens_of = first + of.start..first + of.end;
            self.push(tasks, tokens, tokens_of, rows[of.start], splits, whole);
        }
    }

    /// One task for each KV head.
    fn push(
        &self,
        tasks: &mut Vec<Task>,
        all: &[usize],
        tokens: Range<usize>,
        row: usize,
        splits: Range<usize>,
        whole: bool,
    ) {
        let span = self.span(&all[tokens.clone()]);
        tasks.extend((0..self.place.num_kv_heads).map(|kv_head| Task {
            tokens: tokens.clone(),
            row,
            kv_head,
            splits: splits.clone(),
            span: span.clone(),
            whole,
        }));
    }

    fn span(&self, tokens: &[usize]) -> Range<usize> {
        let seen = tokens.iter().map(|&token| self.seen(token));
        seen.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Limits;
    use crate::testing::{StepWords, full_group};

    const PLACE: KvPlace = KvPlace { group: 0, layer: 0, num_heads: 3, num_kv_heads: 1, head_dim: 8 };
    const BLOCKS_EACH: usize = 64;

    /// Rows of (start, tokens); the first `shared` blocks of all are the first row's.
    fn step(rows: &[(usize, usize)], shared: usize) -> Step {
        let tokens = vec![0; 1024];
        let limits = Limits {
            max_tokens: 1024,
            max_rows: 8,
            max_samples: 1,
            max_model_len: 1024,
            block_size: 16,
            groups: vec![full_group(1, 1, 8)],
            num_blocks: 1 + 8 * BLOCKS_EACH,
            vocab_size: 1,
        };
        let rows: Vec<_> =
            rows.iter().enumerate().map(|(seat, &(start, len))| (seat, start, &tokens[..len])).collect();
        let words = StepWords {
            id: 0,
            rows,
            samples: vec![],
            block_size: 16,
            blocks_per_seat: BLOCKS_EACH,
            windows: vec![0],
            targets: vec![],
            copies: vec![],
        };
        let mut step = words.parse(&limits);
        let first = step.table(0, 0).to_vec();
        let mut at = 0;
        for row in 0..step.rows.len() {
            let len = step.table(0, row).len();
            let shared = shared.min(len).min(first.len());
            step.blocks[at..at + shared].copy_from_slice(&first[..shared]);
            at += len;
        }
        step
    }

    fn plan(step: &Step) -> Plan {
        let mut plan = Plan::default();
        let (place, window) = (&PLACE, None);
        Cut { step, place, window, block_size: 16, tokens_each: 16, threads: 2 }.plan(&mut plan);
        plan
    }

    /// Each split that a token sees is in one task.
    fn complete(step: &Step, plan: &Plan) {
        for token in 0..step.tokens.len() {
            let mut found: Vec<usize> = plan
                .tasks
                .iter()
                .filter(|task| plan.tokens[task.tokens.clone()].contains(&token))
                .flat_map(|task| task.splits.clone())
                .collect();
            found.sort_unstable();
            let seen = 0..(step.positions[token] as usize + 1).div_ceil(SPLIT);
            assert!(seen.clone().eq(found.iter().copied().filter(|split| seen.contains(split))), "{found:?}");
        }
    }

    #[test]
    fn rows_that_share_blocks_share_the_tasks_of_whole_shared_splits() {
        for shared in [0, 15, 16, 31, 32, 33] {
            let step = step(&[(600, 1), (520, 1)], shared);
            let plan = plan(&step);
            complete(&step, &plan);
            let joint = plan.tasks.iter().filter(|task| task.tokens.len() == 2).count();
            assert_eq!(joint, shared / 16, "{shared} shared");
            assert_eq!(plan.tasks.len(), 6 - joint, "{shared} shared");
        }
    }

    #[test]
    fn prompts_of_many_tasks_are_whole_and_others_are_cut() {
        let many = step(&[(0, 300), (700, 1)], 0);
        let plan_of_many = plan(&many);
        complete(&many, &plan_of_many);
        assert_eq!(plan_of_many.tasks.iter().filter(|task| task.whole).count(), 300_usize.div_ceil(16));
        assert_eq!(plan_of_many.cut.len(), 1);
        let few = step(&[(600, 20), (700, 1)], 0);
        let plan_of_few = plan(&few);
        complete(&few, &plan_of_few);
        assert!(plan_of_few.tasks.iter().all(|task| !task.whole && task.splits.len() == 1));
        assert!(plan_of_few.cut.iter().copied().eq(0..21));
    }
}
