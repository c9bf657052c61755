//! A compiled tape: checked, planned, its weights prepared. Running a step is one pass over the instructions.

mod spec;
#[cfg(test)]
mod tests;

pub(crate) use spec::limits;
pub use spec::{ProgramInfo, ProgramSpec, page_bytes_on};

use crate::arena::Arena;
use crate::backend::{self, Backend, BufferId, Instruction, Launch, Operand, Sampled, Tensor};
use crate::error::{Failure, Result};
use crate::op::{Op, Rows};
use crate::pages::Pages;
use crate::plan::{self, Plan};
use crate::profile::{Profile, Profiler};
use crate::seats::Seats;
use crate::shape::{Shapes, at};
use crate::step::{Limits, Step};
use crate::weights::Weights;
use spec::{AUTO, check_groups, check_sizes, describe, page_layout, without_tape};
use std::time::Duration;

/// A compiled tape with its memory.
pub struct Program {
    // Before `weights`: a backend may keep tensors, which point into the maps.
    backend: Box<dyn Backend>,
    instructions: Vec<Instruction>,
    activations: BufferId,
    arena: Arena,
    limits: Limits,
    info: ProgramInfo,
    description: String,
    /// Counts what ops cost, while somebody asks.
    profiler: Option<Profiler>,
    weights: Weights,
}

impl Program {
    /// Checks the tape, plans its memory and prepares its weights.
    ///
    /// # Errors
    /// `bad_model` and `unsupported` name the op's label; `out_of_memory` says what for; `internal` for limits of ours.
    pub fn compile(spec: &ProgramSpec) -> Result<Self> {
        let mut limits = limits(spec)?;
        let mut backend = backend::create(&spec.backend, &spec.isa, spec.threads as usize)?;
        backend.use_kv_dtype(spec.kv_cache_dtype.as_deref().unwrap_or(AUTO))?;
        backend.supports_block_size(limits.block_size)?;
        check_groups(&spec.groups, backend.as_ref())?;
        let bare;
        let spec = if backend.computes_ops() {
            let vocab_size = spec.vocab_size as usize;
            Shapes { values: &spec.values, groups: &spec.groups, vocab_size }.check_order(&spec.ops)?;
            spec
        } else {
            bare = without_tape(spec);
            &bare
        };
        let weights = Weights::open(&spec.files, &spec.tensors)?;
        let page_bytes = backend.page_bytes(&spec.groups, limits.block_size)?;
        check_sizes(spec, page_bytes)?;
        let plan = plan::plan(&spec.values, &spec.ops, limits.max_tokens, limits.max_samples);
        let instructions = prepare(spec, &weights, &plan, backend.as_mut())?;
        weights.release_pages();
        backend.reserve(&limits).map_err(|failure| named("steps", &failure))?;
        let activations = backend.alloc(plan.bytes).map_err(|failure| named("activations", &failure))?;
        let arena = Arena {
            pages: backend
                .alloc_pages(page_bytes, limits.num_blocks)
                .map_err(|failure| named("KV blocks", &failure))?,
            block_size: limits.block_size,
            element_bytes: backend.kv_element_bytes(),
            groups: spec.groups.clone(),
        };
        limits.num_blocks = arena.pages.num_pages();
        backend
            .start(&instructions, activations, &arena, &limits)
            .map_err(|failure| named("steps", &failure))?;
        let info = ProgramInfo {
            backend: backend.name(),
            threads: spec.threads,
            weight_bytes: backend.prepared_bytes() as i64,
            activation_bytes: plan.bytes as i64,
            kv_bytes: (page_bytes * arena.pages.num_pages()) as i64,
            kv_cache_dtype: backend.kv_dtype().into(),
            page_layout: page_layout(backend.as_ref(), spec),
            num_blocks: arena.pages.num_pages() as u32,
            page_bytes: page_bytes as i64,
        };
        let description = describe(spec, &plan);
        Ok(Self {
            backend,
            instructions,
            activations,
            arena,
            limits,
            info,
            description,
            profiler: None,
            weights,
        })
    }

    /// What came out of compiling.
    pub fn info(&self) -> &ProgramInfo {
        &self.info
    }

    /// The tape and the memory plan as text, one op a line.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// What steps are checked against.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The pages of KV, which live as long as who has them.
    pub fn pages(&self) -> &Pages {
        &self.arena.pages
    }

    /// Runs a step whose tokens are resolved; answers one entry a sampled position.
    ///
    /// # Errors
    /// `internal`: more sampled positions than planned, or what a kernel reports.
    pub fn run(&mut self, step: &Step, seats: &mut Seats) -> Result<Vec<Sampled>> {
        if step.samples.len() > self.limits.max_samples {
            let (samples, most) = (step.samples.len(), self.limits.max_samples);
            return Err(Failure::internal(format!(
                "step: {samples} sampled positions, allowed is 0 to {most}"
            )));
        }
        self.backend.copy_pages(&self.arena, &step.copies)?;
        let mut sampled = Vec::with_capacity(step.samples.len());
        let mut launch =
            Launch { step, activations: self.activations, arena: &self.arena, seats, sampled: &mut sampled };
        match (self.backend.whole_step(&mut launch, &self.limits), &mut self.profiler) {
            (Some(done), _) => done?,
            (None, None) => self.backend.run(&self.instructions, &mut launch)?,
            (None, Some(profiler)) => profiler.run(self.backend.as_mut(), &self.instructions, &mut launch)?,
        }
        self.backend.synchronize()?;
        if sampled.len() == step.samples.len() {
            Ok(sampled)
        } else {
            let (got, wanted) = (sampled.len(), step.samples.len());
            Err(Failure::internal(format!("step: {got} answers for {wanted} sampled positions")))
        }
    }

    /// What ops have cost since this was called last, where it was counted; `on`: whether it is from here on.
    ///
    /// # Errors
    /// `internal`, never for a program that was compiled.
    pub fn take_profile(&mut self, on: bool) -> Result<Profile> {
        let tensors = self.instructions.iter().map(|one| tensors_of(&one.op, &self.weights));
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        self.backend.count_waits(on);
        let next = on.then(|| Profiler::new(&tensors));
        Ok(std::mem::replace(&mut self.profiler, next).map_or_else(Profile::default, Profiler::profile))
    }

    /// For the profile: a step ran after a gap.
    pub(crate) fn count_step(&mut self, time: Duration, gap: Duration) {
        if let Some(profiler) = &mut self.profiler {
            profiler.step(time, gap);
        }
    }

    /// Logits of the sampled positions, `[samples, vocabulary]`; no seat advances. Any number of positions: what follows
    /// the gathering runs once for each `max_samples` of them.
    ///
    /// # Errors
    /// `unsupported` on a backend without logits; `internal`: what a kernel reports.
    pub fn logits(&mut self, step: &Step) -> Result<Vec<f32>> {
        if !self.backend.computes_ops() {
            return Err(Failure::unsupported(format!("backend {} has no logits", self.backend.name())));
        }
        self.backend.copy_pages(&self.arena, &step.copies)?;
        let (per_sample, per_token): (Vec<&Instruction>, Vec<&Instruction>) =
            self.instructions.iter().partition(|instruction| instruction.rows() == Rows::Samples);
        let per_token: Vec<Instruction> = per_token.into_iter().cloned().collect();
        let (last, per_sample) = per_sample
            .split_last()
            .ok_or_else(|| Failure::internal("the tape has no op over sampled positions"))?;
        let operand = last.inputs[0];
        let per_sample: Vec<Instruction> = per_sample.iter().copied().cloned().collect();
        let mut part = step.clone();
        part.samples.clear();
        self.run_unsampled(&per_token, &part)?;
        let mut logits = Vec::new();
        for samples in step.samples.chunks(self.limits.max_samples) {
            part.samples = samples.to_vec();
            self.run_unsampled(&per_sample, &part)?;
            self.read(operand, samples.len(), &mut logits)?;
        }
        self.backend.synchronize()?;
        Ok(logits)
    }

    fn run_unsampled(&mut self, instructions: &[Instruction], step: &Step) -> Result<()> {
        let mut launch = Launch {
            step,
            activations: self.activations,
            arena: &self.arena,
            seats: &mut Seats::default(),
            sampled: &mut Vec::new(),
        };
        self.backend.run(instructions, &mut launch)
    }

    fn read(&mut self, operand: Operand, rows: usize, to: &mut Vec<f32>) -> Result<()> {
        let mut bytes = vec![0; rows * operand.width * size_of::<f32>()];
        self.backend.download(self.activations, operand.offset, &mut bytes)?;
        to.extend(bytes.as_chunks().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)));
        Ok(())
    }
}

fn named(what: &str, Failure { code, message }: &Failure) -> Failure {
    Failure { code: *code, message: format!("{what}: {message}") }
}

/// Checks the tape's shapes and brings it into the backend's form.
fn prepare(
    spec: &ProgramSpec,
    weights: &Weights,
    plan: &Plan,
    backend: &mut dyn Backend,
) -> Result<Vec<Instruction>> {
    let shapes = Shapes { values: &spec.values, groups: &spec.groups, vocab_size: spec.vocab_size as usize };
    let tensors =
        spec.ops.iter().map(|op| tensors_of(op, weights)).collect::<Result<Vec<Vec<Tensor<'static>>>>>()?;
    for (op, tensors) in spec.ops.iter().zip(&tensors) {
        shapes.check(op, tensors)?;
        backend.supports(op, tensors).map_err(|failure| {
            let name = backend.name();
            Failure { message: at(op, format!("backend {name}: {}", failure.message)), ..failure }
        })?;
    }
    let mut instructions = Vec::with_capacity(spec.ops.len());
    for (op, tensors) in spec.ops.iter().zip(&tensors) {
        let prepared = backend
            .prepare(op, tensors)
            .map_err(|failure| Failure { message: at(op, &failure.message), ..failure })?;
        let operand = |id: u32| {
            let value = &spec.values[id as usize];
            Operand { offset: plan.offsets[id as usize], width: value.width as usize, rows: value.rows }
        };
        instructions.push(Instruction {
            inputs: op.inputs().into_iter().map(operand).collect(),
            outputs: op.outputs().into_iter().map(operand).collect(),
            op: op.clone(),
            prepared,
        });
    }
    Ok(instructions)
}

fn tensors_of(op: &Op, weights: &Weights) -> Result<Vec<Tensor<'static>>> {
    let find = |name: &str| {
        weights
            .get(name)
            .ok_or_else(|| Failure::bad_model(at(op, format!("weight {name} is not in the model"))))
    };
    op.weights().into_iter().map(find).collect()
}
