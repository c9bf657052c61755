//! A step: its arrays to the device, its launches one by one or as a graph, its samples on the host.

use super::kernels::SPLIT;
use super::ops::{Integers, Shape};
use super::steps::Padding;
use super::{CudaBackend, no_reserve};
use crate::arena::Arena;
use crate::backend::{BufferId, Instruction, Launch};
use crate::error::{Code, Failure, Result};
use crate::op::Op;
use crate::shape::at;
use crate::step::{Limits, Step};
use cudarc::driver::CudaGraph;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use std::collections::{BTreeMap, HashSet};

/// Sizes of decode steps that are kept as graphs: powers of two up to this, then multiples of it.
const RUNG: usize = 32;
/// Larger decode steps are launched one by one: the device works longer at an op than the host at its launch.
const LARGEST: usize = 256;

/// Decode steps as graphs, by sequences and by splits of the longest one.
#[derive(Default)]
pub(super) struct Graphs {
    captured: BTreeMap<(usize, usize), CudaGraph>,
    max_rows: usize,
    max_splits: usize,
    /// Which tape they are of.
    num_instructions: usize,
}

#[expect(unsafe_code, reason = "the driver's graphs are used by one thread at a time")]
// SAFETY: a graph is launched and dropped through the backend, which has one owner.
unsafe impl Send for Graphs {}

impl Graphs {
    /// The graph's size that holds a step of so many sequences and splits; `None` where there is none.
    fn rung(&self, rows: usize, splits: usize) -> Option<(usize, usize)> {
        let rung = if rows <= RUNG { rows.next_power_of_two() } else { rows.next_multiple_of(RUNG) };
        let size = (rung.min(self.max_rows), splits.next_power_of_two().min(self.max_splits));
        (rows <= self.max_rows && splits <= self.max_splits).then_some(size)
    }

    /// All sizes.
    fn ladder(&self) -> Vec<(usize, usize)> {
        let mut sizes: Vec<(usize, usize)> = (1..=self.max_rows)
            .flat_map(|rows| (1..=self.max_splits).map(move |splits| (rows, splits)))
            .filter_map(|(rows, splits)| self.rung(rows, splits))
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }
}

impl CudaBackend {
    /// Runs instructions over a step.
    pub(super) fn run_step(&mut self, instructions: &[Instruction], launch: &mut Launch<'_>) -> Result<()> {
        let step = launch.step;
        if step.tokens.is_empty() {
            return Ok(());
        }
        let size = (instructions.len() == self.graphs.num_instructions && is_decode(step))
            .then(|| self.graphs.rung(step.rows.len(), splits_of(step)))
            .flatten();
        let Some(reserve) = &mut self.reserve else { return Err(no_reserve()) };
        let padding = Padding { rows: size.map_or(0, |(rows, _)| rows) };
        reserve.arrays.send(&self.stream, step, launch.arena, &reserve.tile_tokens, padding)?;
        self.kv()?.step_begins()?;
        match size.and_then(|size| self.graphs.captured.get(&size)) {
            Some(graph) => self.device.check("a step cannot be launched", graph.launch())?,
            None => self.launch_all(instructions, &self.shape_of(launch)?)?,
        }
        match instructions.last() {
            Some(last @ Instruction { op: Op::Sample { .. }, .. }) if !step.samples.is_empty() => {
                self.sample(last, launch)
            }
            _ => Ok(()),
        }
    }

    /// Launches every instruction that has rows and computes on the device. A rotation and the store behind it are one launch; what
    /// a linear takes as integers is written as such by the op before it, where that can.
    fn launch_all(&self, instructions: &[Instruction], shape: &Shape) -> Result<()> {
        let whole = read_whole(instructions);
        let mut left = instructions.iter().peekable();
        let mut integers = Integers::default();
        while let Some(instruction) = left.next() {
            if matches!(instruction.op, Op::Sample { .. }) || shape.rows_of(instruction.rows()) == 0 {
                continue;
            }
            integers.wanted = left.peek().is_some_and(|next| self.takes_integers_of(instruction, next));
            let launched = match left.next_if(|next| is_stored(instruction, next, &whole)) {
                Some(store) => self.launch_rope_store(instruction, store, shape),
                None => self.launch_op(instruction, shape, integers),
            };
            launched
                .map_err(|failure| Failure { message: at(&instruction.op, &failure.message), ..failure })?;
            integers.there = integers.wanted;
        }
        Ok(())
    }

    /// The shape of a step whose arrays have been sent.
    pub(super) fn shape_of(&self, launch: &Launch<'_>) -> Result<Shape> {
        let Some(reserve) = &self.reserve else { return Err(no_reserve()) };
        let Launch { step, activations, arena, .. } = launch;
        Ok(Shape {
            activations: *activations,
            page_bytes: arena.pages.page_bytes(),
            block_size: arena.block_size,
            tokens: step.tokens.len(),
            samples: step.samples.len(),
            tiles: reserve.arrays.num_tiles().to_vec(),
            splits: splits_of(step),
        })
    }

    /// Keeps decode steps as graphs, for a ladder of sizes, as far as the device's memory goes: what has no graph is launched one by
    /// one.
    pub(super) fn capture_graphs(
        &mut self,
        instructions: &[Instruction],
        activations: BufferId,
        arena: &Arena,
        limits: &Limits,
    ) -> Result<()> {
        let max_rows = limits.max_rows.min(limits.max_tokens).min(limits.max_samples).min(LARGEST);
        let max_splits = limits.max_model_len.div_ceil(SPLIT as usize);
        self.graphs = Graphs { captured: BTreeMap::new(), max_rows, max_splits, num_instructions: 0 };
        for (rows, splits) in self.graphs.ladder() {
            let shape = Shape {
                activations,
                page_bytes: arena.pages.page_bytes(),
                block_size: arena.block_size,
                tokens: rows,
                samples: rows,
                tiles: vec![rows; limits.groups.len()],
                splits,
            };
            match self.capture(instructions, &shape) {
                Ok(graph) => drop(self.graphs.captured.insert((rows, splits), graph)),
                Err(failure) if failure.code == Code::OutOfMemory => break,
                Err(failure) => return Err(failure),
            }
        }
        self.graphs.num_instructions = instructions.len();
        self.device.check("a graph cannot be uploaded", self.stream.synchronize())
    }

    fn capture(&self, instructions: &[Instruction], shape: &Shape) -> Result<CudaGraph> {
        let what = "a decode step cannot be kept as a graph";
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.device.check(what, self.stream.begin_capture(mode))?;
        let launched = self.launch_all(instructions, shape);
        // It allocates nothing; the driver's interface wants a flag.
        let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let captured = self.device.check(what, self.stream.end_capture(flags));
        launched?;
        let graph = captured?.ok_or_else(|| Failure::internal(format!("{what}: it is empty")))?;
        self.device.check(what, graph.upload())?;
        Ok(graph)
    }
}

/// Places and widths of values that somebody reads all columns of: attention takes keys and values from the pages.
fn read_whole(instructions: &[Instruction]) -> HashSet<(usize, usize)> {
    instructions
        .iter()
        .filter(|one| !matches!(one.op, Op::Rope { .. } | Op::StoreKv { .. } | Op::Attention { .. }))
        .flat_map(|one| one.inputs.iter().map(|input| (input.offset, input.width)))
        .collect()
}

/// Whether `store` stores what `rope` rotates, all of its heads but those of the values, and nobody else reads them.
fn is_stored(rope: &Instruction, store: &Instruction, whole: &HashSet<(usize, usize)>) -> bool {
    match (&rope.op, &store.op) {
        (
            Op::Rope { num_heads: rotated, head_dim, .. },
            Op::StoreKv { num_heads, num_kv_heads, head_dim: stored_dim, .. },
        ) => {
            let out = rope.outputs[0];
            rotated == &(num_heads + num_kv_heads)
                && head_dim == stored_dim
                && store.inputs[0] == out
                && out.width == ((num_heads + 2 * num_kv_heads) * head_dim) as usize
                && !whole.contains(&(out.offset, out.width))
        }
        _ => false,
    }
}

/// Whether each sequence computes one token and samples behind it.
fn is_decode(step: &Step) -> bool {
    step.rows.len() == step.tokens.len() && step.samples.len() == step.tokens.len()
}

/// Splits of the longest sequence.
fn splits_of(step: &Step) -> usize {
    step.rows.iter().map(|row| row.start + row.len).max().unwrap_or(0).div_ceil(SPLIT as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graphs(max_rows: usize, max_splits: usize) -> Graphs {
        Graphs { max_rows, max_splits, ..Graphs::default() }
    }

    #[test]
    fn each_decode_step_has_the_smallest_graph_that_holds_it() {
        let graphs = graphs(100, 5);
        for (step, size) in [
            ((1, 1), Some((1, 1))),
            ((3, 2), Some((4, 2))),
            ((32, 3), Some((32, 4))),
            ((33, 4), Some((64, 4))),
            ((97, 5), Some((100, 5))),
            ((100, 1), Some((100, 1))),
            ((101, 1), None),
            ((1, 6), None),
        ] {
            assert_eq!(graphs.rung(step.0, step.1), size, "{step:?}");
        }
    }

    #[test]
    fn the_ladder_has_every_size_that_a_step_may_need_and_no_other() {
        for (max_rows, max_splits) in [(1, 1), (5, 3), (32, 8), (100, 5)] {
            let graphs = graphs(max_rows, max_splits);
            let ladder = graphs.ladder();
            for &(rows, splits) in &ladder {
                assert_eq!(graphs.rung(rows, splits), Some((rows, splits)));
            }
            assert!(ladder.contains(&(max_rows, max_splits)));
        }
        assert_eq!(graphs(5, 3).ladder(), [1, 2, 4, 5].map(|rows| [1, 2, 3].map(|s| (rows, s))).concat());
    }
}
