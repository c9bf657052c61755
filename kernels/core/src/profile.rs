//! What the ops of steps have cost and had to do: kept while somebody asks, op by op. The work is what an op cannot do
//! without, so that its share of the machine's limit is never too high: weights and KV that are read, multiplications of
//! matrices and of attention. Activations count for nothing: they stay in caches.

use crate::backend::{Backend, Instruction, Launch, Tensor};
use crate::dtype::DType;
use crate::error::Result;
use crate::op::Op;
use crate::ops::attention::seen;
use crate::step::Step;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// An op of the tape, or several that are done as one.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "napi", napi_derive::napi(object))]
pub struct OpProfile {
    /// Label of each op.
    pub labels: Vec<String>,
    /// Name of each op.
    pub ops: Vec<String>,
    /// How often it has run.
    pub calls: u32,
    /// Seconds in all.
    pub seconds: f64,
    /// Of these, seconds in which the calling thread waited for the other compute threads.
    pub waited: f64,
    /// Bytes of weights and KV that had to be read. KV that sequences share counts for each.
    pub bytes: f64,
    /// Multiply-accumulates with quantised weights.
    pub int8: f64,
    /// Multiply-accumulates with float weights and with KV.
    pub fp32: f64,
}

/// What steps have cost.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "napi", napi_derive::napi(object))]
pub struct Profile {
    /// How many.
    pub steps: u32,
    /// Seconds from the start of a step to its end, of all.
    pub seconds: f64,
    /// Seconds between the end of a step and the start of one that was queued behind it.
    pub gaps: f64,
    /// In the order of the tape; those that have run.
    pub ops: Vec<OpProfile>,
}

/// Weights of an op: bytes, and elements by what they are multiplied in.
#[derive(Clone, Copy, Debug, Default)]
struct Weights {
    bytes: usize,
    int8: usize,
    fp32: usize,
}

impl Weights {
    fn of(tensors: &[Tensor<'_>]) -> Self {
        tensors.iter().fold(Self::default(), |sum, tensor| {
            let count = tensor.rows * tensor.cols;
            let float = matches!(tensor.dtype, DType::F32 | DType::F16 | DType::BF16);
            Self {
                bytes: sum.bytes + tensor.bytes.len(),
                int8: sum.int8 + if float { 0 } else { count },
                fp32: sum.fp32 + if float { count } else { 0 },
            }
        })
    }
}

/// What some ops took in a step.
#[derive(Clone, Copy, Debug)]
struct Taken {
    time: Duration,
    waited: Duration,
}

/// Counts steps.
#[derive(Debug)]
pub(crate) struct Profiler {
    /// Of each instruction.
    weights: Vec<Weights>,
    /// By the first instruction of those that are done as one.
    ops: BTreeMap<usize, OpProfile>,
    steps: u32,
    time: Duration,
    gaps: Duration,
}

impl Profiler {
    /// `tensors`: those of each instruction.
    pub(crate) fn new(tensors: &[Vec<Tensor<'_>>]) -> Self {
        let weights = tensors.iter().map(|tensors| Weights::of(tensors)).collect();
        Self { weights, ops: BTreeMap::new(), steps: 0, time: Duration::ZERO, gaps: Duration::ZERO }
    }

    /// As [`Backend::run`], and counts each op. A device that works beside its host is waited for after each.
    pub(crate) fn run(
        &mut self,
        backend: &mut dyn Backend,
        instructions: &[Instruction],
        launch: &mut Launch<'_>,
    ) -> Result<()> {
        let mut first = 0;
        while first < instructions.len() {
            let count = backend.together(&instructions[first..]);
            let now = &instructions[first..first + count];
            if launch.step.rows_of(now[0].rows()) > 0 {
                let (begin, waited) = (Instant::now(), backend.waited());
                backend.run(now, launch)?;
                backend.synchronize()?;
                let taken = Taken { time: begin.elapsed(), waited: backend.waited().saturating_sub(waited) };
                self.add(first, now, launch, taken);
            }
            first += count;
        }
        Ok(())
    }

    /// Counts instructions that were done as one; `first` is the first one's index.
    fn add(&mut self, first: usize, instructions: &[Instruction], launch: &Launch<'_>, taken: Taken) {
        let Launch { step, arena, .. } = *launch;
        let profile = self.ops.entry(first).or_insert_with(|| OpProfile {
            labels: instructions.iter().map(|one| one.op.label().to_owned()).collect(),
            ops: instructions.iter().map(|one| one.op.name().to_owned()).collect(),
            ..OpProfile::default()
        });
        profile.calls += 1;
        profile.seconds += taken.time.as_secs_f64();
        profile.waited += taken.waited.as_secs_f64();
        for (instruction, weights) in instructions.iter().zip(&self.weights[first..]) {
            match &instruction.op {
                Op::Linear { .. } => {
                    let rows = step.rows_of(instruction.rows());
                    profile.bytes += weights.bytes as f64;
                    profile.int8 += (rows * weights.int8) as f64;
                    profile.fp32 += (rows * weights.fp32) as f64;
                }
                Op::Attention { num_heads, num_kv_heads, head_dim, window, .. } => {
                    let seen = Seen::of(step, *window);
                    let pair = 2 * *head_dim as usize;
                    profile.bytes += (seen.keys * *num_kv_heads as usize * pair * arena.element_bytes) as f64;
                    profile.fp32 += (seen.scores * *num_heads as usize * pair) as f64;
                }
                _ => {}
            }
        }
    }

    /// Counts a step that ran after a gap.
    pub(crate) fn step(&mut self, time: Duration, gap: Duration) {
        self.steps += 1;
        self.time += time;
        self.gaps += gap;
    }

    /// What was counted.
    pub(crate) fn profile(self) -> Profile {
        Profile {
            steps: self.steps,
            seconds: self.time.as_secs_f64(),
            gaps: self.gaps.as_secs_f64(),
            ops: self.ops.into_values().collect(),
        }
    }
}

/// What attention has to look at in a step.
struct Seen {
    /// Positions of all sequences that some token of theirs sees.
    keys: usize,
    /// Positions that each token sees, of all tokens.
    scores: usize,
}

impl Seen {
    fn of(step: &Step, window: Option<u32>) -> Self {
        step.rows.iter().fold(Self { keys: 0, scores: 0 }, |sum, row| {
            let end = row.start + row.len;
            Self {
                keys: sum.keys + end - seen(row.start, window).start,
                scores: sum.scores + (row.start..end).map(|p| seen(p, window).len()).sum::<usize>(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::dtype::DType;
    use crate::op::Op;
    use crate::program::Program;
    use crate::seats::{Seat, Seats};
    use crate::testing::{TinyModel, VOCABULARY, greedy, step_words};

    #[test]
    fn counts_the_work_of_the_steps_since_it_was_taken_last() {
        let model = TinyModel::new("cpu", DType::Q8_0);
        let mut program = Program::compile(&model.spec).unwrap();
        let mut seats = Seats::new(4);
        seats.open(1, Seat::new(greedy(), &[]));
        let step = step_words(0, &[(1, 0, &[5, 6, 7])], &[2]).parse(program.limits());
        program.run(&step, &mut seats).unwrap();
        assert_eq!(program.take_profile(true).unwrap().ops, []);
        program.run(&step, &mut seats).unwrap();
        program.run(&step, &mut seats).unwrap();
        let profile = program.take_profile(false).unwrap();
        assert!(profile.ops.iter().all(|op| op.calls == 2 && op.waited <= op.seconds && op.seconds > 0.0));

        let labels: Vec<&str> = profile.ops.iter().flat_map(|op| &op.labels).map(String::as_str).collect();
        let tape: Vec<&str> = model.spec.ops.iter().map(Op::label).collect();
        assert_eq!(labels, tape);

        let head = profile.ops.last().unwrap();
        let elements = |name: &str| {
            let tensor = model.spec.tensors.iter().find(|tensor| tensor.name == name).unwrap();
            f64::from(tensor.rows) * f64::from(tensor.cols)
        };
        assert_eq!(head.ops, ["linear", "sample"]);
        assert_eq!(head.int8 + head.fp32, 2.0 * elements("head.output"));
        assert_eq!(elements("head.output") % f64::from(VOCABULARY), 0.0);

        let attention = profile.ops.iter().find(|op| op.ops == ["attention"]).unwrap();
        // Each of three tokens sees those up to itself.
        assert_eq!(attention.fp32 % f64::from(2 * 2 * (1 + 2 + 3)), 0.0);
        assert!(attention.bytes > 0.0 && attention.int8 == 0.0);
        program.run(&step, &mut seats).unwrap();
        assert_eq!(program.take_profile(true).unwrap().ops, []);
    }
}
