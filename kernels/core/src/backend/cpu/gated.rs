//! Which ops are done as one: two matrices over one input, their gate, and the linear behind it. What lies between them is
//! never written where nobody else reads it.

use std::collections::{HashMap, HashSet};

use super::views::place;
use super::{Prepared, linear_of};
use crate::backend::Instruction;
use crate::op::{Op, ValueId};
use crate::ops::linear::cpu::{Linear, Scratch};
use crate::pool::Pool;
use crate::step::Step;

/// Values that are read by one op.
pub(super) fn read_once(instructions: &[Instruction]) -> HashSet<ValueId> {
    let mut reads: HashMap<ValueId, usize> = HashMap::new();
    for id in instructions.iter().flat_map(|instruction| instruction.op.inputs()) {
        *reads.entry(id).or_default() += 1;
    }
    reads.into_iter().filter(|&(_, count)| count == 1).map(|(id, _)| id).collect()
}

/// A linear of two matrices, its gate, and the linear behind it.
pub(super) struct Gated<'a> {
    ops: &'a [Instruction; 3],
    gate: &'a Linear,
    next: &'a Linear,
}

impl<'a> Gated<'a> {
    /// Those that these instructions begin with, if they do.
    pub(super) fn find(
        instructions: &'a [Instruction],
        prepared: &'a [Prepared],
        read_once: &HashSet<ValueId>,
    ) -> Option<Self> {
        let ops = instructions.first_chunk::<3>()?;
        let [
            Instruction { op: Op::Linear { out: wide, .. }, .. },
            Instruction { op: Op::SiluMul { x, out, .. }, .. },
            Instruction { op: Op::Linear { x: inner, .. }, .. },
        ] = ops
        else {
            return None;
        };
        let follow = x == wide && inner == out && read_once.contains(x) && read_once.contains(inner);
        let (gate, next) = (linear_of(&ops[0], prepared)?, linear_of(&ops[2], prepared)?);
        (follow && gate.is_gate_of(next)).then_some(Self { ops, gate, next })
    }

    /// How many instructions.
    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    /// Runs them over the rows that the first linear has taken; `buffer` is that of the activations.
    pub(super) fn run(&self, pool: &mut Pool, scratch: &mut Scratch, buffer: &mut [f32], step: &Step) {
        let rows = step.rows_of(self.ops[0].rows());
        self.gate.gate(self.next, pool, scratch, rows);
        self.next.run_gated(pool, scratch, rows, &mut buffer[place(&self.ops[2].outputs[0], step)]);
    }
}
