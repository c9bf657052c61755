//! A norm and the linear that alone reads what it writes are done as one: rows become the input of the linear, in the form that
//! its kernels read, where they are computed.

use std::collections::HashSet;

use super::views::Views;
use super::{CpuBackend, Prepared, linear_of};
use crate::backend::Instruction;
use crate::error::{Failure, Result};
use crate::op::{Op, ValueId};
use crate::ops::linear::cpu::{Linear, Scratch};
use crate::ops::rms_norm::cpu as rms_norm;
use crate::pool::Pool;
use crate::simd::{Isa, with_simd};
use crate::step::Step;

/// A norm, with an addition before it or without, and the linear behind it.
pub(super) struct Normed<'a> {
    norm: &'a Instruction,
    weight: &'a [f32],
    linear: &'a Linear,
}

impl<'a> Normed<'a> {
    /// Those that these instructions begin with, if they do.
    pub(super) fn find(
        instructions: &'a [Instruction],
        prepared: &'a [Prepared],
        read_once: &HashSet<ValueId>,
    ) -> Option<Self> {
        let [norm, behind] = instructions.first_chunk::<2>()?;
        let (Op::RmsNorm { out, .. } | Op::AddRmsNorm { out, .. }) = &norm.op else { return None };
        let Op::Linear { x, .. } = &behind.op else { return None };
        let Prepared::Vector(weight) = &prepared[norm.prepared.0] else { return None };
        let linear = linear_of(behind, prepared)?;
        (x == out && read_once.contains(out) && linear.takes_made()).then_some(Self { norm, weight, linear })
    }

    /// Runs the norm, and the linear takes what comes of it; `buffer` is that of the activations.
    #[expect(unsafe_code, reason = "rows are written by different threads")]
    pub(super) fn take(
        &self,
        isa: Isa,
        pool: &mut Pool,
        scratch: &mut Scratch,
        buffer: &mut [f32],
        step: &Step,
    ) -> Result<()> {
        let (weight, width) = (self.weight, self.weight.len());
        let rows = step.rows_of(self.norm.rows());
        let mut views = Views::new(buffer, step, self.norm)?;
        match &self.norm.op {
            Op::RmsNorm { eps, .. } => {
                let x = views.input(0);
                self.linear.take_made(pool, scratch, rows, &|rows, out| {
                    let x = &x[rows.start * width..rows.end * width];
                    rms_norm::rows(isa, x, weight, *eps as f32, out);
                });
            }
            Op::AddRmsNorm { eps, .. } => {
                let ([x, residual], [sum, _]) = (views.inputs()?, views.outputs()?);
                let parts = views.shared();
                self.linear.take_made(pool, scratch, rows, &|rows, out| {
                    let mut added = vec![0.0; width];
                    for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
                        // SAFETY: each row is made once, by one thread.
                        unsafe { CpuBackend::add_row(isa, &parts, row, [x, residual], sum, &mut added) };
                        with_simd!(isa, s => rms_norm::row(s, &added, weight, *eps as f32, out));
                    }
                });
            }
            op => return Err(Failure::internal(format!("{} is no norm", op.name()))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::CpuBackend;
    use super::super::tests::run_instructions;
    use crate::backend::{Backend, Instruction, Operand, Tensor};
    use crate::dtype::DType;
    use crate::op::{Op, Rows};
    use crate::seats::Seats;
    use crate::simd::Isa;
    use crate::testing::{Random, limits, step_words};

    /// Wide enough for rows to be taken by several threads.
    const COLS: usize = 320;
    const MOST: usize = 40;

    /// What the buffer holds after a norm, with an addition or without, and a linear over `x` and `residual`: all of it but what the
    /// norm writes.
    fn run(
        isa: &str,
        added: bool,
        weights: &[Tensor<'static>],
        values: [&[f32]; 2],
        as_one: Option<usize>,
    ) -> [Vec<u8>; 2] {
        let mut backend = CpuBackend::new(isa, 3).unwrap();
        let (norm_weight, matrices) = weights.split_first().unwrap();
        let rows = values[0].len() / COLS;
        let width: usize = matrices.iter().map(|matrix| matrix.rows).sum();
        let activations = backend.alloc((3 * COLS + width) * 4 * MOST).unwrap();
        for (value, offset) in values.into_iter().zip([0, COLS * 4 * MOST]) {
            let bytes: Vec<u8> = value.iter().flat_map(|x| x.to_ne_bytes()).collect();
            backend.upload(activations, offset, &bytes).unwrap();
        }
        // The sum takes the place of the residual, as in a model.
        let at = |place: usize, width| Operand { offset: place * COLS * 4 * MOST, width, rows: Rows::Tokens };
        let (label, weight, eps) = (String::new(), "norm".to_owned(), 1e-5);
        let norm = if added {
            let op = Op::AddRmsNorm { label: label.clone(), x: 0, residual: 1, weight, eps, sum: 2, out: 3 };
            (op, vec![at(0, COLS), at(1, COLS)], vec![at(1, COLS), at(2, COLS)])
        } else {
            (
                Op::RmsNorm { label: label.clone(), x: 0, weight, eps, out: 3 },
                vec![at(0, COLS)],
                vec![at(2, COLS)],
            )
        };
        let names = matrices.iter().map(|matrix| matrix.name.to_owned()).collect();
        let linear = Op::Linear { label, x: 3, weights: names, biases: vec![], out: 4 };
        let linear = (linear, vec![at(2, COLS)], vec![at(3, width)]);
        let weights = [std::slice::from_ref(norm_weight), matrices];
        let mut weights = weights.into_iter();
        let instructions = [norm, linear].map(|(op, inputs, outputs)| Instruction {
            prepared: backend.prepare(&op, weights.next().unwrap()).unwrap(),
            op,
            inputs,
            outputs,
        });
        let tokens = [1; MOST];
        let step = step_words(0, &[(0, 0, &tokens[..rows])], &[]).parse(&limits());
        run_instructions(&mut backend, &instructions, activations, &step, &mut Seats::new(4), as_one);
        [(0, 2 * COLS * 4 * MOST), (3 * COLS * 4 * MOST, rows * width * 4)].map(|(from, len)| {
            let mut bytes = vec![0; len];
            backend.download(activations, from, &mut bytes).unwrap();
            bytes
        })
    }

    #[test]
    fn a_norm_and_the_linear_behind_it_are_as_one_what_they_are_one_after_the_other() {
        let mut random = Random(41);
        for types in
            [&[DType::Q4_0][..], &[DType::Q4_1, DType::Q8_0], &[DType::F16], &[DType::Q8_0, DType::F32]]
        {
            let mut weights = vec![random.tensor("norm", DType::F32, 1, COLS, 1.0)];
            weights.extend(types.iter().map(|&dtype| random.tensor("w", dtype, 70, COLS, 0.1)));
            for isa in Isa::all() {
                // Bytes and floats are two forms; on AVX2 weights of four and of eight bits are as well.
                let forms = match types {
                    [DType::Q8_0, DType::F32] => 2,
                    [_, DType::Q8_0] if isa.name() == "avx2" => 2,
                    _ => 1,
                };
                let count = if forms == 1 { 2 } else { 1 };
                for (rows, added) in [(1, true), (1, false), (7, true), (MOST, true), (MOST, false)] {
                    let mut x = random.normals(rows * COLS);
                    x[rows / 2 * COLS + 3] = f32::INFINITY;
                    let residual = random.normals(rows * COLS);
                    let values = [x.as_slice(), &residual];
                    let alone = run(isa.name(), added, &weights, values, None);
                    let as_one = run(isa.name(), added, &weights, values, Some(count));
                    assert!(alone == as_one, "{} {types:?} {rows} rows, added {added}", isa.name());
                }
            }
        }
    }
}
