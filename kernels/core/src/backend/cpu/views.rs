//! An instruction's operands as slices of the activation buffer. Operands at one place share one slice.

use std::ops::Range;

use crate::backend::{Instruction, Operand};
use crate::error::{Failure, Result};
use crate::pool::Disjoint;
use crate::step::Step;

/// Operands of one instruction in one step.
pub(super) struct Views<'a> {
    slices: Vec<&'a mut [f32]>,
    /// Slice of each input, then of each output.
    inputs: Vec<usize>,
    outputs: Vec<usize>,
}

/// Where an operand lies, in floats.
pub(super) fn place(operand: &Operand, step: &Step) -> Range<usize> {
    let start = operand.offset / size_of::<f32>();
    start..start + step.rows_of(operand.rows) * operand.width
}

impl<'a> Views<'a> {
    /// Takes the operands out of the buffer.
    ///
    /// # Errors
    /// `internal` when places overlap without being the same or lie outside the buffer.
    pub(super) fn new(buffer: &'a mut [f32], step: &Step, instruction: &Instruction) -> Result<Self> {
        let operands = instruction.inputs.iter().chain(&instruction.outputs);
        let mut places: Vec<Range<usize>> = operands.clone().map(|o| place(o, step)).collect();
        places.sort_by_key(|p| (p.start, p.end));
        places.dedup();
        let mut slices = Vec::with_capacity(places.len());
        let (mut rest, mut at) = (buffer, 0);
        for p in &places {
            let fits = p.start >= at && p.end - at <= rest.len();
            if !fits {
                return Err(Failure::internal(format!(
                    "operand {p:?} overlaps another or leaves the buffer"
                )));
            }
            let (slice, after) = std::mem::take(&mut rest).split_at_mut(p.start - at).1.split_at_mut(p.len());
            slices.push(slice);
            (rest, at) = (after, p.end);
        }
        let index = |o: &Operand| {
            let p = place(o, step);
            places.partition_point(|q| (q.start, q.end) < (p.start, p.end))
        };
        Ok(Self {
            slices,
            inputs: instruction.inputs.iter().map(index).collect(),
            outputs: instruction.outputs.iter().map(index).collect(),
        })
    }

    /// An input.
    pub(super) fn input(&self, i: usize) -> &[f32] {
        self.slices[self.inputs[i]]
    }

    /// An output.
    pub(super) fn output(&mut self, i: usize) -> &mut [f32] {
        self.slices[self.outputs[i]]
    }

    /// The one input and the one output, at two places.
    ///
    /// # Errors
    /// `internal` when they share memory.
    pub(super) fn one_to_one(&mut self) -> Result<(&[f32], &mut [f32])> {
        let [x, out] = self
            .slices
            .get_disjoint_mut([self.inputs[0], self.outputs[0]])
            .map_err(|_| Failure::internal("this op cannot work in place"))?;
        Ok((x, out))
    }

    /// The output with the input's content.
    ///
    /// # Errors
    /// `internal`, never for an op with one input and one output.
    pub(super) fn copied_in_place(&mut self) -> Result<&mut [f32]> {
        if self.inputs[0] != self.outputs[0] {
            let (x, out) = self.one_to_one()?;
            out.copy_from_slice(x);
        }
        Ok(self.output(0))
    }

    /// The slices of all inputs, by number.
    ///
    /// # Errors
    /// `internal` when the op has another number of them.
    pub(super) fn inputs<const N: usize>(&self) -> Result<[usize; N]> {
        <[usize; N]>::try_from(self.inputs.as_slice())
            .map_err(|_| Failure::internal("unexpected number of inputs"))
    }

    /// The slices of all outputs, by number.
    ///
    /// # Errors
    /// `internal` when the op has another number of them.
    pub(super) fn outputs<const N: usize>(&self) -> Result<[usize; N]> {
        <[usize; N]>::try_from(self.outputs.as_slice())
            .map_err(|_| Failure::internal("unexpected number of outputs"))
    }

    /// Floats of a slice.
    pub(super) fn len(&self, slice: usize) -> usize {
        self.slices[slice].len()
    }

    /// All slices, for threads that write disjoint parts.
    pub(super) fn shared(&mut self) -> Vec<Disjoint<'_, f32>> {
        self.slices.iter_mut().map(|slice| Disjoint::new(slice)).collect()
    }
}
