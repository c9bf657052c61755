//! Row-wise ops: everything that only reads and writes activations.
#![expect(unsafe_code, reason = "rows are written by different threads")]

use super::stored::rope_of;
use super::views::Views;
use super::{CpuBackend, Prepared};
use crate::backend::{Instruction, Launch};
use crate::dequant::dequantize;
use crate::error::{Failure, Result};
use crate::op::Op;
use crate::ops::rope::cpu as rope;
use crate::ops::{rms_norm, silu_mul};
use crate::pool::{Disjoint, Pool};
use crate::simd::{Isa, with_simd, with_wide_simd};

/// Below this many elements an op runs on the calling thread: waking others costs more.
const SERIAL: usize = 8192;

impl CpuBackend {
    /// Runs `f` over all rows, in parts of neighbours on several threads when there is enough to do.
    fn by_rows(pool: &mut Pool, rows: usize, width: usize, f: impl Fn(std::ops::Range<usize>) + Sync) {
        if rows * width <= SERIAL {
            f(0..rows);
            return;
        }
        let each = rows.div_ceil(4 * pool.threads());
        pool.run(rows.div_ceil(each), &|task, _| f(task * each..rows.min((task + 1) * each)));
    }

    /// Writes the sums of two values' rows to a third, which may be one of them; `then` gets each sum, all values and where
    /// the row begins in them.
    fn add_rows(
        isa: Isa,
        pool: &mut Pool,
        views: &mut Views<'_>,
        width: usize,
        [x, y]: [usize; 2],
        sum: usize,
        then: impl Fn(&[f32], &[Disjoint<'_, f32>], usize) + Sync,
    ) {
        let rows = views.len(sum) / width;
        let parts = views.shared();
        Self::by_rows(pool, rows, width, |rows| {
            let mut added = vec![0.0; width];
            for row in rows {
                // SAFETY: tasks have disjoint rows.
                unsafe { Self::add_row(isa, &parts, row, [x, y], sum, &mut added) };
                then(&added, &parts, row * width);
            }
        });
    }

    /// Writes the sum of two values' rows to a third, which may be one of them, and to `added`; values are places in `parts`.
    ///
    /// # Safety
    /// Nobody else reads or writes this row of theirs meanwhile.
    pub(super) unsafe fn add_row(
        isa: Isa,
        parts: &[Disjoint<'_, f32>],
        row: usize,
        [x, y]: [usize; 2],
        sum: usize,
        added: &mut [f32],
    ) {
        let width = added.len();
        // SAFETY: the row is the caller's; `parts` are disjoint, and one borrow ends before the next.
        let at = |place: usize| unsafe { parts[place].part(row * width, width) };
        added.copy_from_slice(at(x));
        let y = &*at(y);
        with_simd!(isa, _s => added.iter_mut().zip(y).for_each(|(sum, y)| *sum += y));
        at(sum).copy_from_slice(added);
    }

    /// Runs an op.
    pub(super) fn rows(&mut self, instruction: &Instruction, launch: &Launch<'_>) -> Result<()> {
        let (isa, step) = (self.isa, launch.step);
        let buffer = self.buffers[launch.activations.0].floats_mut();
        let mut views = Views::new(buffer, step, instruction)?;
        let pool = &mut self.pool;
        let prepared = &self.prepared[instruction.prepared.0];
        match (&instruction.op, prepared) {
            (Op::Embed { .. }, Prepared::Table(table)) => {
                let out = views.output(0);
                let shared = Disjoint::new(out);
                Self::by_rows(pool, step.tokens.len(), table.cols, |rows| {
                    // SAFETY: tasks have disjoint rows.
                    let out = unsafe { shared.part(rows.start * table.cols, rows.len() * table.cols) };
                    for (token, out) in step.tokens[rows].iter().zip(out.chunks_exact_mut(table.cols)) {
                        dequantize(table.dtype, table.row(*token as usize), out);
                    }
                });
            }
            (Op::RmsNorm { eps, .. }, Prepared::Vector(weight)) => {
                let width = weight.len();
                let (x, out) = views.one_to_one()?;
                let shared = Disjoint::new(out);
                Self::by_rows(pool, x.len() / width, width, |rows| {
                    // SAFETY: tasks have disjoint rows.
                    let out = unsafe { shared.part(rows.start * width, rows.len() * width) };
                    let x = &x[rows.start * width..rows.end * width];
                    rms_norm::cpu::rows(isa, x, weight, *eps as f32, out);
                });
            }
            (Op::AddRmsNorm { eps, .. }, Prepared::Vector(weight)) => {
                let ([x, residual], [sum, out]) = (views.inputs()?, views.outputs()?);
                let width = weight.len();
                Self::add_rows(isa, pool, &mut views, width, [x, residual], sum, |added, parts, at| {
                    // SAFETY: tasks have disjoint rows, and no other borrow of the slice is alive.
                    let out = unsafe { parts[out].part(at, width) };
                    with_simd!(isa, s => rms_norm::cpu::row(s, added, weight, *eps as f32, out));
                });
            }
            (Op::Add { .. }, _) => {
                let ([x, y], [out]) = (views.inputs()?, views.outputs()?);
                let width = instruction.outputs[0].width;
                Self::add_rows(isa, pool, &mut views, width, [x, y], out, |_, _, _| ());
            }
            (Op::SiluMul { .. }, _) => {
                let width = instruction.outputs[0].width;
                let (x, out) = views.one_to_one()?;
                let shared = Disjoint::new(out);
                Self::by_rows(pool, x.len() / (2 * width), 2 * width, |rows| {
                    // SAFETY: tasks have disjoint rows.
                    let out = unsafe { shared.part(rows.start * width, rows.len() * width) };
                    let x = &x[rows.start * 2 * width..rows.end * 2 * width];
                    for (x, out) in x.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
                        with_wide_simd!(isa, s => silu_mul::cpu::row(s, x, out));
                    }
                });
            }
            (Op::GatherSamples { .. }, _) => {
                let width = instruction.outputs[0].width;
                let (x, out) = views.one_to_one()?;
                for (&token, out) in step.samples.iter().zip(out.chunks_exact_mut(width)) {
                    out.copy_from_slice(&x[token as usize * width..][..width]);
                }
            }
            (op @ Op::Rope { .. }, prepared) => {
                let rope =
                    rope_of(op, prepared).ok_or_else(|| Failure::internal("this op rotates nothing"))?;
                let width = instruction.outputs[0].width;
                let angles = self.angles.of(&rope, &step.positions);
                let out = views.copied_in_place()?;
                let shared = Disjoint::new(out);
                Self::by_rows(pool, step.tokens.len(), width, |rows| {
                    // SAFETY: tasks have disjoint rows.
                    let out = unsafe { shared.part(rows.start * width, rows.len() * width) };
                    for (t, row) in rows.zip(out.chunks_exact_mut(width)) {
                        let angles = &angles[t * rope.dims..][..rope.dims];
                        with_simd!(isa, _s => rope::row(&rope, angles, row));
                    }
                });
            }
            (op, _) => return Err(Failure::internal(format!("{} was prepared as another op", op.name()))),
        }
        Ok(())
    }
}
