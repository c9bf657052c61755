//! A compiled tape: checked, planned, its weights prepared. Running a step is one pass over the instructions.

use crate::arena::{Arena, GroupKind, KvGroup};
use crate::backend::{self, Backend, BufferId, Instruction, Launch, Operand, Sampled, Tensor};
use crate::error::{Failure, Result};
use crate::op::{Op, Rows, ValueInfo};
use crate::pages::Pages;
use crate::plan::{self, Plan};
use crate::profile::{Profile, Profiler, Taken};
use crate::seats::Seats;
use crate::shape::{Shapes, at};
use crate::step::{Limits, Step};
use crate::weights::{TensorSource, Weights};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// What leaves a choice to the backend.
const AUTO: &str = "auto";

/// All that a program is made from.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "napi", napi_derive::napi(object))]
pub struct ProgramSpec {
    /// A name that `backend/mod.rs` knows.
    pub backend: String,
    /// Instruction set of the cpu backend: `auto`, `avx512`, `avx2`, `neon` or `portable`.
    pub isa: String,
    /// Compute threads, at least 1.
    pub threads: u32,
    /// Values of the tape.
    pub values: Vec<ValueInfo>,
    /// The tape.
    pub ops: Vec<Op>,
    /// Weight files; mapped read-only.
    pub files: Vec<String>,
    /// Where each tensor lies.
    pub tensors: Vec<TensorSource>,
    /// KV groups, in the order of the block tables.
    pub groups: Vec<KvGroup>,
    /// How KV is kept: `auto` (also if not given) or a type that the backend has.
    pub kv_cache_dtype: Option<String>,
    /// Tokens of a block.
    pub block_size: u32,
    /// Blocks of the arena, the null block 0 included.
    pub num_blocks: u32,
    /// Most tokens in a step.
    pub max_tokens: u32,
    /// Most rows in a step, and the number of seats.
    pub max_rows: u32,
    /// Most sampled positions in a step.
    pub max_samples: u32,
    /// Highest position + 1.
    pub max_model_len: u32,
    /// Token ids are below this.
    pub vocab_size: u32,
}

/// What came out of compiling.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "napi", napi_derive::napi(object))]
pub struct ProgramInfo {
    /// The backend, with its instruction set where there is a choice.
    pub backend: String,
    /// Compute threads.
    pub threads: u32,
    /// Bytes of prepared weights; mapped files not counted.
    pub weight_bytes: i64,
    /// Bytes of the activation buffer.
    pub activation_bytes: i64,
    /// Bytes of all KV pages.
    pub kv_bytes: i64,
    /// How KV is kept; empty where pages are not made of elements.
    pub kv_cache_dtype: String,
    /// How the bytes of a page are to be read: equal for programs whose pages are alike.
    pub page_layout: String,
    /// KV blocks, the null block included: as many as asked for, or what the device's memory holds.
    pub num_blocks: u32,
    /// Bytes of one page.
    pub page_bytes: i64,
}

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
            (None, Some(profiler)) => {
                run_profiled(self.backend.as_mut(), &self.instructions, &mut launch, profiler)?;
            }
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

/// As [`Backend::run`], and counts each op. A device that works beside its host is waited for after each.
fn run_profiled(
    backend: &mut dyn Backend,
    instructions: &[Instruction],
    launch: &mut Launch<'_>,
    profiler: &mut Profiler,
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
            profiler.add(first, now, launch.step, launch.arena, taken);
        }
        first += count;
    }
    Ok(())
}

/// The backend's name without its instruction set, how it keeps KV, and what a page is for.
fn page_layout(backend: &dyn Backend, spec: &ProgramSpec) -> String {
    let group = |KvGroup { layers, num_kv_heads, head_dim, kind, window }: &KvGroup| {
        format!("{kind:?}:{window}:{layers}x{num_kv_heads}x{head_dim}")
    };
    let groups: Vec<String> = spec.groups.iter().map(group).collect();
    format!("{} {} {}", backend.kv_layout(), spec.block_size, groups.join(" "))
}

fn named(what: &str, Failure { code, message }: &Failure) -> Failure {
    Failure { code: *code, message: format!("{what}: {message}") }
}

/// For backends that do steps whole: nothing of a tape is read.
fn without_tape(spec: &ProgramSpec) -> ProgramSpec {
    ProgramSpec { values: vec![], ops: vec![], files: vec![], tensors: vec![], ..spec.clone() }
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

/// A window belongs to groups of that kind; the backend knows the kinds.
fn check_groups(groups: &[KvGroup], backend: &dyn Backend) -> Result<()> {
    for (i, group) in groups.iter().enumerate() {
        if (group.kind == GroupKind::Window) != (group.window > 0) {
            let KvGroup { kind, window, .. } = group;
            let allowed = "1 or more for kind window, 0 for the others";
            return Err(Failure::internal(format!(
                "group {i}: window is {window} for kind {kind:?}, allowed is {allowed}"
            )));
        }
        if !backend.supports_groups(group.kind) {
            let (name, kind) = (backend.name(), group.kind);
            return Err(Failure::unsupported(format!(
                "group {i}: backend {name} has no groups of kind {kind:?}"
            )));
        }
    }
    Ok(())
}

fn tensors_of(op: &Op, weights: &Weights) -> Result<Vec<Tensor<'static>>> {
    let find = |name: &str| {
        weights
            .get(name)
            .ok_or_else(|| Failure::bad_model(at(op, format!("weight {name} is not in the model"))))
    };
    op.weights().into_iter().map(find).collect()
}

/// The sizes of steps, held to what an i32 counts.
///
/// # Errors
/// `internal`, naming the field and what is allowed.
pub(crate) fn limits(spec: &ProgramSpec) -> Result<Limits> {
    for (name, value, least) in [
        ("threads", spec.threads, 1),
        ("blockSize", spec.block_size, 1),
        ("numBlocks", spec.num_blocks, 2),
        ("maxTokens", spec.max_tokens, 1),
        ("maxRows", spec.max_rows, 1),
        ("maxSamples", spec.max_samples, 1),
        ("maxModelLen", spec.max_model_len, 1),
        ("vocabSize", spec.vocab_size, 1),
    ] {
        if value < least || value > i32::MAX as u32 {
            return Err(Failure::internal(format!("{name} is {value}, allowed is {least} to {}", i32::MAX)));
        }
    }
    Ok(Limits {
        max_tokens: spec.max_tokens as usize,
        max_rows: spec.max_rows as usize,
        max_samples: spec.max_samples as usize,
        max_model_len: spec.max_model_len as usize,
        block_size: spec.block_size as usize,
        groups: spec.groups.clone(),
        num_blocks: spec.num_blocks as usize,
        vocab_size: spec.vocab_size as usize,
    })
}

/// Refuses sizes beyond what memory can hold, before anything is computed with them.
///
/// # Errors
/// `out_of_memory`, naming what for.
fn check_sizes(spec: &ProgramSpec, page_bytes: usize) -> Result<()> {
    let rows = u128::from(spec.max_tokens.max(spec.max_samples));
    let activations: u128 = spec.values.iter().map(|value| u128::from(value.width) * rows * 4 + 64).sum();
    let kv = page_bytes as u128 * u128::from(spec.num_blocks);
    for (what, bytes) in [("activations", activations), ("KV blocks", kv)] {
        if bytes > isize::MAX as u128 {
            return Err(Failure::out_of_memory(format!("{what}: {bytes} bytes are more than memory holds")));
        }
    }
    Ok(())
}

/// Bytes of one block's page on a backend by name; `kv_cache_dtype` as in [`ProgramSpec`].
///
/// # Errors
/// As [`Backend::page_bytes`]; `unsupported` for a backend or a type that does not exist.
pub fn page_bytes_on(
    backend: &str,
    groups: &[KvGroup],
    block_size: u32,
    kv_cache_dtype: Option<&str>,
) -> Result<usize> {
    let kv_cache_dtype = kv_cache_dtype.unwrap_or(AUTO);
    if backend::cuda::is_name(backend) {
        // No device is opened for it.
        backend::only_kv_dtype(backend, backend::cuda::KV_DTYPE, kv_cache_dtype)?;
        return Arena::page_bytes_for(groups, block_size as usize, backend::cuda::KV_ELEMENT_BYTES);
    }
    let mut backend = backend::create(backend, AUTO, 1)?;
    backend.use_kv_dtype(kv_cache_dtype)?;
    backend.supports_block_size(block_size as usize)?;
    backend.page_bytes(groups, block_size as usize)
}

fn describe(spec: &ProgramSpec, plan: &Plan) -> String {
    let mut text = String::new();
    let values = |ids: Vec<u32>| {
        let value = |id: u32| {
            let ValueInfo { rows, width } = &spec.values[id as usize];
            format!(
                "%{id}:{}x{width}@{}",
                if *rows == Rows::Tokens { "T" } else { "S" },
                plan.offsets[id as usize]
            )
        };
        ids.into_iter().map(value).collect::<Vec<_>>().join(" ")
    };
    for op in &spec.ops {
        let (inputs, outputs, weights) = (values(op.inputs()), values(op.outputs()), op.weights().join(" "));
        // Writing to a String cannot fail.
        let _written = writeln!(text, "{}: {} [{inputs}] -> [{outputs}] {weights}", op.label(), op.name());
    }
    let _written = writeln!(text, "activations: {} bytes", plan.bytes);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::error::Code;
    use crate::seats::{Seat, SeatParams};
    use crate::step::PICK;
    use crate::testing::{TinyModel, VOCABULARY, computing, greedy, step_words};

    fn tokens(len: usize) -> Vec<i32> {
        (0..len).map(|i| ((i * 31 + 7) % VOCABULARY as usize) as i32).collect()
    }

    /// Logits of the last position of a prompt computed in chunks.
    fn chunked(program: &mut Program, tokens: &[i32], chunk: usize) -> Vec<f32> {
        let mut logits = Vec::new();
        for start in (0..tokens.len()).step_by(chunk) {
            let part = &tokens[start..(start + chunk).min(tokens.len())];
            let step = step_words(0, &[(1, start, part)], &[part.len() - 1]).parse(program.limits());
            logits = program.logits(&step).unwrap();
        }
        logits
    }

    const WEIGHT_TYPES: [DType; 3] = [DType::Q4_1, DType::F16, DType::F32];

    fn compiled(backend: &str, dtype: DType, threads: u32) -> Program {
        let mut model = TinyModel::new(backend, dtype);
        model.spec.threads = threads;
        Program::compile(&model.spec).unwrap()
    }

    #[test]
    fn chunks_of_any_size_give_the_same_bits() {
        let tokens = tokens(61);
        for backend in computing() {
            for dtype in WEIGHT_TYPES {
                let whole = chunked(&mut compiled(backend, dtype, 1), &tokens, tokens.len());
                assert!(whole.iter().all(|x| x.is_finite()) && whole.iter().any(|&x| x != whole[0]));
                for chunk in [1, 7, 16, 40] {
                    let found = chunked(&mut compiled(backend, dtype, 1), &tokens, chunk);
                    assert_eq!(found, whole, "{backend} {dtype:?} chunk {chunk}");
                }
            }
        }
    }

    #[test]
    fn other_rows_of_the_step_and_threads_change_no_bit() {
        let tokens = tokens(33);
        for backend in computing() {
            for dtype in WEIGHT_TYPES {
                let alone = chunked(&mut compiled(backend, dtype, 1), &tokens, tokens.len());
                let mut program = compiled(backend, dtype, 3);
                let rows = [(3, 0, &tokens[5..20]), (1, 0, &tokens[..]), (0, 0, &[4][..])];
                let step = step_words(0, &rows, &[14, 47, 48]).parse(program.limits());
                let logits = program.logits(&step).unwrap();
                let width = VOCABULARY as usize;
                assert_eq!(logits[width..2 * width], alone, "{backend} {dtype:?}");
            }
        }
    }

    /// Errors of single ops (`ops/suite.rs`) add up over two layers.
    #[test]
    fn the_whole_forward_agrees_with_the_reference() {
        let tokens = tokens(61);
        for (dtype, tolerance) in [(DType::F32, 5e-3), (DType::F16, 2e-2), (DType::Q4_1, 1e-1)] {
            let expected = chunked(&mut compiled("reference", dtype, 1), &tokens, 61);
            for backend in computing() {
                let found = chunked(&mut compiled(backend, dtype, 2), &tokens, 61);
                crate::ops::closeness::assert_close(
                    &format!("{backend} {dtype:?}"),
                    &found,
                    &expected,
                    tolerance,
                );
            }
        }
    }

    #[test]
    fn logits_of_more_positions_than_planned_are_those_of_each_alone() {
        let model = TinyModel::new("reference", DType::F32);
        let tokens = tokens(21);
        let mut program = Program::compile(&model.spec).unwrap();
        let samples: Vec<usize> = (0..tokens.len()).collect();
        let step = step_words(0, &[(0, 0, &tokens)], &samples).parse(program.limits());
        let all = program.logits(&step).unwrap();
        assert_eq!(all.len(), tokens.len() * VOCABULARY as usize);
        for at in [0, 3, 4, 20] {
            let step = step_words(0, &[(0, 0, &tokens)], &[at]).parse(program.limits());
            let one = program.logits(&step).unwrap();
            assert_eq!(one, all[at * one.len()..(at + 1) * one.len()], "position {at}");
        }
    }

    #[test]
    fn right_drafts_pick_what_single_steps_pick_and_their_scores_agree() {
        for backend in computing() {
            for temperature in [0.0, 1.0] {
                let seat = || Seat::new(SeatParams { temperature, top_logprobs: 2, ..greedy() }, &[]);
                let mut program = compiled(backend, DType::Q4_1, 2);
                let mut seats = Seats::new(4);
                let prompt = tokens(9);
                seats.open(1, seat());
                let step = step_words(0, &[(1, 0, &prompt)], &[8]).parse(program.limits());
                let mut picked = program.run(&step, &mut seats).unwrap();
                for position in 9..12 {
                    let last = [picked[picked.len() - 1].token];
                    let step = step_words(0, &[(1, position, &last)], &[0]).parse(program.limits());
                    picked.extend(program.run(&step, &mut seats).unwrap());
                }
                for wrong in [3, 2, 1] {
                    seats.open(2, seat());
                    let step = step_words(0, &[(2, 0, &prompt)], &[8]).parse(program.limits());
                    let mut drafted = program.run(&step, &mut seats).unwrap();
                    let mut row: Vec<i32> = picked[..3].iter().map(|pick| pick.token).collect();
                    if wrong < 3 {
                        row[wrong] = (row[wrong] + 1) % VOCABULARY as i32;
                    }
                    let mut words = step_words(0, &[(3, 0, &prompt[..4]), (2, 9, &row)], &[0, 4, 5, 6]);
                    words.targets = vec![prompt[1], PICK, PICK, PICK];
                    drafted.extend(program.run(&words.parse(program.limits()), &mut seats).unwrap());
                    let score = drafted.remove(1);
                    assert!(score.token == -1 && score.logprob < 0.0 && score.rank == 0);
                    let right = wrong + 1;
                    assert_eq!(drafted[..right], picked[..right], "{backend}");
                    assert!(drafted[right..].iter().all(|pick| *pick == Sampled::NONE), "{backend}");
                }
            }
        }
    }

    /// What sequences, each a seat and the length of its prompt, pick when they are computed together.
    fn decoded(program: &mut Program, sequences: &[(usize, usize)]) -> Vec<Vec<Sampled>> {
        let (mut seats, prompt) = (Seats::new(4), tokens(40));
        for &(seat, _) in sequences {
            seats.open(seat, Seat::new(greedy(), &[]));
        }
        let mut rows: Vec<(usize, usize, Vec<i32>)> =
            sequences.iter().map(|&(seat, len)| (seat, 0, prompt[..len].to_vec())).collect();
        let mut picked = vec![Vec::new(); rows.len()];
        for _ in 0..4 {
            let given: Vec<(usize, usize, &[i32])> =
                rows.iter().map(|(seat, start, tokens)| (*seat, *start, tokens.as_slice())).collect();
            let ends = given.iter().scan(0, |end, row| {
                *end += row.2.len();
                Some(*end)
            });
            let samples: Vec<usize> = ends.map(|end| end - 1).collect();
            let step = step_words(0, &given, &samples).parse(program.limits());
            let picks = program.run(&step, &mut seats).unwrap();
            for ((row, picked), pick) in rows.iter_mut().zip(&mut picked).zip(picks) {
                *row = (row.0, row.1 + row.2.len(), vec![pick.token]);
                picked.push(pick);
            }
        }
        picked
    }

    /// A device that keeps decode steps as graphs fills three sequences up to four rows; the fourth must leave no trace.
    #[test]
    fn sequences_that_decode_together_pick_what_each_picks_alone() {
        for backend in computing() {
            let mut program = compiled(backend, DType::Q4_1, 1);
            let sequences = [(3, 9), (0, 20), (2, 33)];
            let alone: Vec<_> = sequences.iter().flat_map(|&one| decoded(&mut program, &[one])).collect();
            assert_eq!(decoded(&mut program, &sequences), alone, "{backend}");
        }
    }

    #[test]
    fn pages_are_copied_before_the_step_in_the_order_given() {
        let tokens = tokens(40);
        for backend in computing() {
            let mut program = compiled(backend, DType::F16, 1);
            let own = step_words(0, &[(1, 0, &tokens)], &[39]);
            let expected = program.logits(&own.parse(program.limits())).unwrap();
            let mut fork = step_words(0, &[(2, 39, &tokens[39..])], &[0]);
            let tables = |words: &[i32], row_words: usize| words[words.len() - row_words..].to_vec();
            let from = tables(&own.words(), 3);
            let to = tables(&fork.words(), 3);
            // Through blocks of a third sequence, which the pairs fill and read in turn.
            let by = step_words(0, &[(3, 0, &tokens)], &[]).words();
            for ((from, to), by) in from.iter().zip(&to).zip(tables(&by, 3)) {
                fork.copies.extend([*from, by, by, *to]);
            }
            let found = program.logits(&fork.parse(program.limits())).unwrap();
            assert_eq!(found, expected, "{backend}");
        }
    }

    #[test]
    fn a_step_without_samples_only_fills_the_cache() {
        let model = TinyModel::new("reference", DType::F32);
        let mut program = Program::compile(&model.spec).unwrap();
        let mut seats = Seats::new(4);
        seats.open(0, Seat::new(greedy(), &[]));
        let step = step_words(0, &[(0, 0, &tokens(5))], &[]).parse(program.limits());
        assert_eq!(program.run(&step, &mut seats).unwrap(), []);
        let empty = step_words(1, &[], &[]).parse(program.limits());
        assert_eq!(program.run(&empty, &mut seats).unwrap(), []);
    }

    #[test]
    fn more_samples_than_planned_are_refused_when_seats_advance() {
        let model = TinyModel::new("reference", DType::F32);
        let mut program = Program::compile(&model.spec).unwrap();
        let step = step_words(0, &[(0, 0, &tokens(5))], &[0, 1, 2, 3, 4]).parse(program.limits());
        let failure = program.run(&step, &mut Seats::new(4)).unwrap_err();
        assert!(failure.message.contains("5 sampled positions, allowed is 0 to 4"), "{failure}");
    }

    #[test]
    fn info_tells_the_memory() {
        let model = TinyModel::new("reference", DType::F32);
        let program = Program::compile(&model.spec).unwrap();
        let info = program.info();
        assert_eq!(info.page_bytes, 2 * 2 * 2 * 16 * 16 * 4);
        assert_eq!(info.kv_bytes, info.page_bytes * i64::from(model.spec.num_blocks));
        assert!(info.activation_bytes > 0);
        assert!(program.description().contains("layers.1.attention: storeKv"), "{}", program.description());
    }

    /// Compiles a changed spec and gives the message.
    fn refused(change: impl FnOnce(&mut ProgramSpec)) -> String {
        let mut model = TinyModel::new("reference", DType::Q8_0);
        change(&mut model.spec);
        Program::compile(&model.spec).err().expect("refused").message
    }

    fn op_mut<'a>(spec: &'a mut ProgramSpec, label: &str, name: &str) -> &'a mut Op {
        spec.ops.iter_mut().find(|op| op.label() == label && op.name() == name).expect("op")
    }

    #[test]
    fn errors_of_the_tape_name_the_place_and_what_is_needed() {
        let cases: Vec<(String, &str)> = vec![
            (
                refused(|spec| spec.tensors.retain(|tensor| tensor.name != "layers.1.mlp.gates.up")),
                "layers.1.mlp.gates: linear: weight layers.1.mlp.gates.up is not in the model",
            ),
            (
                refused(|spec| spec.tensors[2].rows = 32),
                "tensor layers.0.attention.q: Q8_0 32 x 64 takes 2176 bytes, not 4352",
            ),
            (
                refused(|spec| spec.values[2].width = 96),
                "layers.0.attention: linear: weights have 128 rows in all, the output is 96 wide",
            ),
            (
                refused(|spec| {
                    if let Op::StoreKv { layer, .. } = op_mut(spec, "layers.1.attention", "storeKv") {
                        *layer = 2;
                    }
                }),
                "layers.1.attention: storeKv: layer 2: group 0 has 2",
            ),
            (
                refused(|spec| {
                    if let Op::Attention { group, .. } = op_mut(spec, "layers.0.attention", "attention") {
                        *group = 1;
                    }
                }),
                "layers.0.attention: attention: group 1: there are 1",
            ),
            (
                refused(|spec| {
                    if let Op::Attention { soft_cap, .. } = op_mut(spec, "layers.0.attention", "attention") {
                        *soft_cap = Some(0.0);
                    }
                }),
                "layers.0.attention: attention: softCap is 0, it must be above 0 and finite",
            ),
            (
                refused(|spec| {
                    if let Op::Rope { dims, .. } = op_mut(spec, "layers.0.attention", "rope") {
                        *dims = 18;
                    }
                }),
                "layers.0.attention: rope: rotates 18 columns, it must be even and at most headDim 16",
            ),
            (
                refused(|spec| {
                    if let Op::SiluMul { x, out, .. } = op_mut(spec, "layers.0.mlp", "siluMul") {
                        std::mem::swap(x, out);
                    }
                }),
                "layers.0.mlp: siluMul: reads value 9 before it is written",
            ),
            (
                refused(|spec| {
                    if let Op::GatherSamples { x, .. } = op_mut(spec, "head", "gatherSamples") {
                        *x = 999;
                    }
                }),
                "head: gatherSamples: value 999 is not declared",
            ),
            (
                refused(|spec| drop(spec.ops.pop())),
                "head: linear: sample must be the last op, and only the last",
            ),
            (refused(|spec| spec.ops.clear()), "the tape is empty"),
            (refused(|spec| spec.vocab_size = 95), "embed: embed: weight embed is [96, 64], needs [95, 64]"),
            (refused(|spec| spec.tensors[0].offset = -1), "tensor embed: 12288 bytes at -1 lie outside"),
            (
                refused(|spec| spec.tensors[0].offset = i64::MAX),
                "tensor embed: 12288 bytes at 9223372036854775807",
            ),
            (refused(|spec| spec.tensors[0].file = 1), "tensor embed: is in file 1, there are 1"),
            (refused(|spec| spec.tensors[2].cols = 65), "tensor layers.0.attention.q: has 65 columns"),
            (refused(|spec| spec.files[0].push('x')), "cannot be read"),
            (refused(|spec| spec.max_rows = 0), "maxRows is 0, allowed is 1 to"),
            (refused(|spec| spec.max_samples = 0), "maxSamples is 0, allowed is 1 to"),
            (refused(|spec| spec.groups[0].window = 4), "group 0: window is 4 for kind Full, allowed is"),
            (
                refused(|spec| spec.groups[0].kind = GroupKind::Window),
                "group 0: window is 0 for kind Window, allowed is 1 or more for kind window",
            ),
            (
                refused(|spec| spec.groups[0].kind = GroupKind::State),
                "group 0: backend reference has no groups of kind State",
            ),
            (
                refused(|spec| {
                    spec.groups[0].kind = GroupKind::Window;
                    spec.groups[0].window = 9;
                }),
                "layers.0.attention: attention: sees all positions, group 0 keeps 9",
            ),
            (refused(|spec| spec.num_blocks = 1), "numBlocks is 1, allowed is 2 to"),
            (
                refused(|spec| spec.backend = "tpu".into()),
                "backend tpu: there is none; there are cpu, reference",
            ),
            (
                // More than there are addresses: a system may give out more memory than it has.
                refused(|spec| {
                    spec.num_blocks = i32::MAX as u32;
                    spec.block_size = 4096;
                }),
                "KV blocks: ",
            ),
        ];
        for (message, expected) in cases {
            assert!(message.contains(expected), "{message}\n  lacks: {expected}");
        }
    }

    #[test]
    fn what_a_backend_lacks_is_told_at_load() {
        let message = refused(|spec| {
            spec.backend = "cpu".into();
            spec.block_size = 12;
        });
        assert!(message.contains("blockSize is 12, supported are multiples of"), "{message}");
        let message = refused(|spec| {
            spec.backend = "cpu".into();
            if let Op::Attention { soft_cap, .. } = op_mut(spec, "layers.1.attention", "attention") {
                *soft_cap = Some(50.0);
            }
        });
        assert!(message.contains("softCap is 50, supported is none"), "{message}");
        let message = refused(|spec| {
            spec.backend = "cpu".into();
            spec.isa = "mmx".into();
        });
        assert!(message.contains("isa mmx: allowed are auto"), "{message}");
    }

    #[test]
    fn kv_is_kept_as_asked_and_pages_of_types_are_never_alike() {
        let mut model = TinyModel::new("cpu", DType::F32);
        let mut seen = Vec::new();
        for (asked, kept) in [("auto", "f16"), ("f16", "f16"), ("bf16", "bf16"), ("q8", "q8")] {
            model.spec.kv_cache_dtype = Some(asked.into());
            let program = Program::compile(&model.spec).unwrap();
            let info = program.info();
            assert_eq!(info.kv_cache_dtype, kept);
            let bytes = page_bytes_on("cpu", &model.spec.groups, model.spec.block_size, Some(asked)).unwrap();
            assert_eq!(bytes, info.page_bytes as usize);
            seen.push(info.page_layout.clone());
        }
        assert_eq!(seen[0], seen[1]);
        model.spec.backend = "reference".into();
        model.spec.kv_cache_dtype = None;
        seen.push(Program::compile(&model.spec).unwrap().info().page_layout.clone());
        let distinct: std::collections::BTreeSet<&String> = seen.iter().collect();
        assert_eq!(distinct.len(), 4, "{seen:?}");
    }

    #[test]
    fn a_type_of_kv_that_the_backend_lacks_is_refused_with_those_it_has() {
        for (backend, asked, allowed) in [
            ("cpu", "f32", "auto, f16, bf16, q8"),
            ("reference", "bf16", "auto, f32"),
            ("null", "f16", "auto"),
            ("cuda", "bf16", "auto, f16"),
        ] {
            let failure = page_bytes_on(backend, &[], 16, Some(asked)).expect_err("refused");
            assert_eq!(failure.code, Code::Unsupported);
            assert!(failure.message.contains(&format!("kv-cache-dtype {asked}")), "{failure}");
            assert!(failure.message.ends_with(&format!("allows {allowed}")), "{failure}");
        }
    }

    #[test]
    fn a_page_beyond_memory_is_an_error() {
        let group = KvGroup {
            layers: u32::MAX,
            num_kv_heads: u32::MAX,
            head_dim: u32::MAX,
            kind: GroupKind::Full,
            window: 0,
        };
        for backend in ["reference", "cpu"] {
            assert!(page_bytes_on(backend, &[group], u32::MAX, None).is_err());
        }
    }
}
