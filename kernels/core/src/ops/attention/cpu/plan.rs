//! How the attention of a step is cut into tasks. The cut never shows in the results: a split of a row is computed the
//! same way in every task, and splits are merged in ascending order.

use std::ops::Range;

use super::SPLIT;
use crate::ops::store_kv::KvPlace;
use crate::step::Step;

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

/// See the module.
#[derive(Default)]
pub(super) struct Plan {
    /// Tokens of the step, in the order of the tasks.
    pub(super) tokens: Vec<usize>,
    pub(super) tasks: Vec<Task>,
    /// Those of `tokens` whose splits lie in several tasks.
    pub(super) cut: Range<usize>,
    /// Of each of `cut`: where its splits begin among the splits of all of them; and the number of all.
    pub(super) first_split: Vec<usize>,
}

/// What a plan is made for.
pub(super) struct Cut<'a> {
    pub(super) step: &'a Step,
    pub(super) place: &'a KvPlace,
    pub(super) window: Option<u32>,
    pub(super) block_size: usize,
    /// Most tokens of a task.
    pub(super) tokens_each: usize,
    /// Whole tasks that keep all threads busy to the end.
    pub(super) enough: usize,
}

/// Splits that hold some of these positions.
pub(super) fn splits(span: &Range<usize>) -> Range<usize> {
    span.start / SPLIT..span.end.div_ceil(SPLIT)
}

impl Cut<'_> {
    /// Positions that a token sees.
    pub(super) fn seen(&self, token: usize) -> Range<usize> {
        let end = self.step.positions[token] as usize + 1;
        self.window.map_or(0, |window| end.saturating_sub(window as usize))..end
    }

    /// Prompts first, as long as they are many tasks: each with all its splits, late tokens, which see most, before early
    /// ones. What is left is cut into splits, so that threads end together.
    pub(super) fn plan(&self, plan: &mut Plan) {
        let Plan { tokens, tasks, cut, first_split } = plan;
        tokens.clear();
        tasks.clear();
        first_split.clear();
        let step = self.step;
        let (decodes, prompts): (Vec<usize>, Vec<usize>) =
            (0..step.rows.len()).partition(|&row| step.rows[row].len == 1);
        let pieces = prompts.iter().map(|&row| step.rows[row].len.div_ceil(self.tokens_each));
        let whole = pieces.sum::<usize>() * self.place.num_kv_heads >= self.enough;
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
        let from = if whole { tokens.len() } else { 0 };
        self.plan_decodes(decodes, tokens, tasks);
        *cut = from..tokens.len();
        let mut count = 0;
        for &token in &tokens[cut.clone()] {
            first_split.push(count);
            count += splits(&self.seen(token)).len();
        }
        first_split.push(count);
    }

    /// Rows of one token, those together that share the blocks of a split.
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
                    self.push(tasks, tokens, first + from..first + to, rows[from], split..split + 1, false);
                }
                from = to;
            }
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
