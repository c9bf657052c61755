//! The last linear and the sampler are done as one: of rows whose picks need only the largest logit no logits are written.

use std::collections::HashSet;

use super::{Prepared, linear_of};
use crate::backend::{Instruction, Launch};
use crate::op::{Op, ValueId};
use crate::ops::linear::cpu::largest::Largest;
use crate::ops::linear::cpu::{self as linear, Linear};
use crate::ops::sample::pooled::{self, Logits};
use crate::pool::Pool;

/// A linear, and the sampler that alone reads what it writes.
pub(super) struct Head<'a> {
    ops: &'a [Instruction; 2],
    linear: &'a Linear,
}

impl<'a> Head<'a> {
    /// Those that these instructions begin with, if they do.
    pub(super) fn find(
        instructions: &'a [Instruction],
        prepared: &'a [Prepared],
        read_once: &HashSet<ValueId>,
    ) -> Option<Self> {
        let ops = instructions.first_chunk::<2>()?;
        let [
            Instruction { op: Op::Linear { out, .. }, .. },
            Instruction { op: Op::Sample { logits, .. }, .. },
        ] = ops
        else {
            return None;
        };
        let linear = linear_of(&ops[0], prepared)?;
        (out == logits && read_once.contains(out)).then_some(Self { ops, linear })
    }

    /// How many instructions.
    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    /// Runs them over the rows that the linear has taken.
    pub(super) fn run(
        &self,
        pool: &mut Pool,
        linear: &linear::Scratch,
        sampler: &mut pooled::Scratch,
        largest: &mut Largest,
        logits: &mut [f32],
        launch: &mut Launch<'_>,
    ) {
        let Launch { step, seats, sampled, .. } = launch;
        largest.begin(pooled::only_largest(step, seats));
        self.linear.run_with(pool, linear, step.samples.len(), largest, logits);
        let logits = Logits { rows: logits, width: self.ops[1].inputs[0].width, largest };
        pooled::sample_rows(pool, sampler, &logits, step, seats, sampled);
    }
}

#[cfg(test)]
mod tests {
    use super::super::CpuBackend;
    use super::super::tests::run_instructions;
    use crate::backend::{Backend, Instruction, Operand, Sampled, Tensor};
    use crate::dtype::DType;
    use crate::op::{Op, Rows};
    use crate::seats::{Seat, SeatParams, Seats};
    use crate::simd::Isa;
    use crate::step::{Limits, PICK, Step};
    use crate::testing::{Random, StepWords, full_group, greedy};

    const COLS: usize = 64;
    const SEATS: usize = 16;
    const FROZEN: usize = 14;
    const FREE: usize = 13;
    /// What the buffer holds where nothing was written.
    const UNTOUCHED: u32 = 0x7fc0_1234;

    /// Seats that ask for different things; of every second one the largest logit is enough.
    fn seats() -> Seats {
        let mut seats = Seats::new(SEATS);
        let asked = [
            SeatParams { temperature: 1.0, ..greedy() },
            SeatParams { top_logprobs: 0, ..greedy() },
            SeatParams { top_logprobs: 3, temperature: 0.8, top_k: 5, ..greedy() },
            SeatParams { presence_penalty: 1.0, ..greedy() },
            SeatParams { logit_bias_ids: vec![0], logit_biases: vec![3.0], ..greedy() },
            SeatParams { min_tokens: 2, stop_ids: vec![0], ..greedy() },
            SeatParams { allowed_ids: vec![0], ..greedy() },
            SeatParams { temperature: 1.0, ..greedy() },
        ];
        for (i, params) in asked.into_iter().enumerate() {
            seats.open(2 * i, Seat::new(SeatParams { seed_low: i as u32, ..params }, &[]));
            let cold = if i % 2 == 0 { 0.0 } else { 1e-300 };
            seats.open(2 * i + 1, Seat::new(SeatParams { temperature: cold, top_k: 3, ..greedy() }, &[]));
        }
        seats.get_mut(FROZEN).unwrap().frozen = true;
        seats.all_mut()[FREE] = None;
        seats
    }

    /// Rows of one to three tokens, each a sample; of many rows the first three samples report on a token.
    fn step(num_rows: usize, vocabulary: usize) -> Step {
        let tokens = [0; 3];
        let rows: Vec<_> = (0..num_rows).map(|seat| (seat, 0, &tokens[..=seat % 3])).collect();
        let count: usize = rows.iter().map(|row| row.2.len()).sum();
        let limits = Limits {
            max_tokens: 3 * SEATS,
            max_rows: SEATS,
            max_samples: 3 * SEATS,
            max_model_len: 16,
            block_size: 16,
            groups: vec![full_group(1, 1, 8)],
            num_blocks: 1 + SEATS,
            vocab_size: vocabulary,
        };
        let targets = (0..count).map(|i| if num_rows > 2 && i < 3 { 0 } else { PICK }).collect();
        let (samples, windows) = ((0..count).collect(), vec![0]);
        StepWords {
            id: 0,
            rows,
            samples,
            block_size: 16,
            blocks_per_seat: 1,
            windows,
            targets,
            copies: vec![],
        }
        .parse(&limits)
    }

    /// Picks, and what the buffer holds of each row of logits then.
    fn run(
        isa: &str,
        threads: usize,
        weights: &[Tensor<'static>],
        x: &[f32],
        step: &Step,
        as_one: bool,
    ) -> (Vec<Sampled>, Vec<Vec<u32>>) {
        let mut backend = CpuBackend::new(isa, threads).unwrap();
        let vocabulary = weights[0].rows;
        let mut bytes: Vec<u8> = x.iter().flat_map(|x| x.to_ne_bytes()).collect();
        let offset = bytes.len();
        bytes.extend(vec![UNTOUCHED; step.samples.len() * vocabulary].iter().flat_map(|x| x.to_ne_bytes()));
        let activations = backend.alloc(bytes.len()).unwrap();
        backend.upload(activations, 0, &bytes).unwrap();
        let biases = weights[1..].iter().map(|bias| bias.name.to_owned()).collect();
        let head = Op::Linear { label: "head".into(), x: 0, weights: vec!["w".into()], biases, out: 1 };
        let sample = Op::Sample { label: "sample".into(), logits: 1 };
        let input = Operand { offset: 0, width: COLS, rows: Rows::Samples };
        let logits = Operand { offset, width: vocabulary, rows: Rows::Samples };
        let instructions = [(head, weights, input, vec![logits]), (sample, &[], logits, vec![])];
        let instructions = instructions.map(|(op, weights, input, outputs)| Instruction {
            prepared: backend.prepare(&op, weights).unwrap(),
            op,
            inputs: vec![input],
            outputs,
        });
        let as_one = as_one.then_some(instructions.len());
        let sampled = run_instructions(&mut backend, &instructions, activations, step, &mut seats(), as_one);
        let mut left = vec![0; bytes.len() - offset];
        backend.download(activations, offset, &mut left).unwrap();
        let left: Vec<u32> = left.as_chunks().0.iter().map(|b| u32::from_ne_bytes(*b)).collect();
        (sampled, left.chunks(vocabulary).map(<[u32]>::to_vec).collect())
    }

    #[test]
    fn picks_are_those_of_written_logits_and_rows_of_which_the_largest_is_enough_are_not_written() {
        let mut random = Random(31);
        for (vocabulary, dtype, biased) in [
            (1, DType::Q8_0, false),
            (31, DType::Q4_1, true),
            (64, DType::Q8_0, false),
            (97, DType::F16, true),
            (333, DType::Q4_0, false),
        ] {
            let mut weights = vec![random.tensor("w", dtype, vocabulary, COLS, 1.0)];
            if biased {
                weights.push(random.tensor("b", DType::F32, 1, vocabulary, 1.0));
            }
            for num_rows in [1, 2, 7, SEATS] {
                let step = step(num_rows, vocabulary);
                let mut x = random.normals(step.samples.len() * COLS);
                // The last row is of no numbers.
                let last = x.len() - COLS;
                x[last..].fill(f32::NAN);
                for (isa, threads) in Isa::all().map(Isa::name).flat_map(|isa| [(isa, 1), (isa, 3)]) {
                    let (wanted, written) = run(isa, threads, &weights, &x, &step, false);
                    let (found, left) = run(isa, threads, &weights, &x, &step, true);
                    let case = format!("{isa} {threads} {vocabulary} {dtype:?} {num_rows}");
                    assert_eq!(found, wanted, "{case}");
                    for (i, (left, written)) in left.iter().zip(&written).enumerate() {
                        let seat = step.row_of_sample(i).seat;
                        let enough = step.targets[i] == PICK && (seat % 2 == 1 || seat == FROZEN);
                        let expected = if enough { &vec![UNTOUCHED; vocabulary] } else { written };
                        assert_eq!(left, expected, "{case} sample {i}");
                    }
                }
            }
        }
    }
}
