//! Linears ask the caches for the KV that attention behind them reads, of rows of one token: attention over those waits for memory,
//! linears over many rows do not.

use super::AttentionOp;
use crate::arena::Arena;
use crate::backend::{Instruction, Launch};
use crate::ops::attention::cpu::layout::KvDType;
use crate::ops::attention::seen;
use crate::ops::linear::cpu::errand::Errand;
use crate::step::Step;

/// See the module.
#[derive(Default)]
pub(super) struct Errands {
    /// The attention ops of the program.
    ops: Vec<AttentionOp>,
    /// Group and window whose blocks in the current step the errand has.
    filled: Option<(usize, Option<u32>)>,
    /// Of each block, whether it is among them.
    known: Vec<bool>,
}

impl Errands {
    pub(super) fn new(instructions: &[Instruction]) -> Self {
        let ops = instructions.iter().filter_map(|instruction| AttentionOp::of(&instruction.op)).collect();
        Self { ops, ..Self::default() }
    }

    /// A step begins.
    pub(super) fn first(&mut self, dtype: KvDType, launch: &Launch<'_>, errand: &mut Errand) {
        self.filled = None;
        self.begin(0, dtype, launch, errand);
    }

    /// Attention `op` has ended.
    pub(super) fn after(
        &mut self,
        op: &AttentionOp,
        dtype: KvDType,
        launch: &Launch<'_>,
        errand: &mut Errand,
    ) {
        let layer = |op: &AttentionOp| (op.place.group, op.place.layer);
        let next =
            self.ops.iter().position(|other| layer(other) == layer(op)).map_or(self.ops.len(), |at| at + 1);
        self.begin(next, dtype, launch, errand);
    }

    /// The errand is for attention op `index` from here on; behind the last one there is none.
    #[expect(unsafe_code, reason = "asks where pages are")]
    fn begin(&mut self, index: usize, dtype: KvDType, launch: &Launch<'_>, errand: &mut Errand) {
        errand.end();
        let Some(op) = self.ops.get(index) else { return };
        let arena = launch.arena;
        if self.filled != Some((op.place.group, op.window)) {
            self.filled = Some((op.place.group, op.window));
            let blocks = blocks(launch.step, op, arena, &mut self.known);
            errand.fill(
                dtype.layer_bytes(arena, &op.place),
                blocks.map(|block| block * arena.pages.page_bytes()),
            );
        }
        // SAFETY: nothing is read.
        let pages = unsafe { arena.pages.view() };
        errand.begin(pages.read::<u8>(dtype.run(arena, &op.place, 0, 0, 0), 0).as_ptr().addr());
    }
}

/// The blocks that rows of one token see, each once, in the order of the rows; `known` is for those that came.
fn blocks<'a>(
    step: &'a Step,
    op: &AttentionOp,
    arena: &Arena,
    known: &'a mut Vec<bool>,
) -> impl Iterator<Item = usize> + use<'a> {
    let (group, window, size) = (op.place.group, op.window, arena.block_size);
    known.clear();
    known.resize(arena.pages.num_pages(), false);
    let rows = step.rows.iter().enumerate().filter(|(_, row)| row.len == 1);
    let all = rows.flat_map(move |(index, row)| {
        let seen = seen(row.start, window);
        &step.table(group, index)[seen.start / size..seen.end.div_ceil(size)]
    });
    all.map(|&block| block as usize).filter(|&block| !std::mem::replace(&mut known[block], true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::Pages;
    use crate::step::Limits;
    use crate::testing::{StepWords, full_group, targets};

    const BLOCKS_EACH: usize = 8;

    fn arena() -> Arena {
        let pages = Pages::map(64, 1 + 4 * BLOCKS_EACH).unwrap();
        Arena { pages, block_size: 16, element_bytes: 2, groups: vec![full_group(1, 1, 8)] }
    }

    /// Rows of (start, tokens).
    fn step(rows: &[(usize, usize)]) -> Step {
        let tokens = vec![0; 64];
        let rows: Vec<_> =
            rows.iter().enumerate().map(|(seat, &(start, len))| (seat, start, &tokens[..len])).collect();
        let limits = Limits {
            max_tokens: 128,
            max_rows: 4,
            max_samples: 1,
            max_model_len: 16 * BLOCKS_EACH,
            block_size: 16,
            groups: arena().groups,
            num_blocks: arena().pages.num_pages(),
            vocab_size: 1,
        };
        let words = StepWords {
            id: 1,
            targets: targets(&rows, &[0]),
            samples: vec![0],
            rows,
            block_size: 16,
            blocks_per_seat: BLOCKS_EACH,
            windows: vec![0],
            copies: vec![],
        };
        words.parse(&limits)
    }

    fn seen(step: &Step, window: Option<u32>) -> Vec<usize> {
        let op = AttentionOp { place: super::super::place(0, 0, 1, 1, 8), scale: 1.0, window };
        let mut known = vec![true; 3];
        blocks(step, &op, &arena(), &mut known).collect()
    }

    fn table(step: &Step, row: usize, blocks: std::ops::Range<usize>) -> Vec<usize> {
        step.table(0, row)[blocks].iter().map(|&block| block as usize).collect()
    }

    #[test]
    fn blocks_are_those_that_rows_of_one_token_see() {
        // The last token of a block, the first of the next one, and a prompt between them.
        let step = step(&[(31, 1), (5, 40), (32, 1)]);
        assert_eq!(seen(&step, None), [table(&step, 0, 0..2), table(&step, 2, 0..3)].concat());
        assert!(seen(&self::step(&[(0, 2)]), None).is_empty());
    }

    #[test]
    fn blocks_left_of_a_window_are_not_among_them() {
        let step = step(&[(50, 1)]);
        for (window, first) in [(1, 3), (3, 3), (4, 2), (35, 1), (36, 0), (1000, 0)] {
            assert_eq!(seen(&step, Some(window)), table(&step, 0, first..4), "window {window}");
        }
    }

    #[test]
    fn blocks_that_rows_share_come_once() {
        let mut step = step(&[(40, 1), (40, 1)]);
        let (first, second) = (step.table_start(0, 0), step.table_start(0, 1));
        step.blocks.copy_within(first..first + 2, second);
        assert_eq!(seen(&step, None), [table(&step, 0, 0..3), table(&step, 1, 2..3)].concat());
    }
}
