//! The cpu backend. Matrices are repacked at load for the instruction set; KV is IEEE halves, bfloat16 or bytes. Results
//! depend neither on the number of threads nor on what else is in the step.

mod ahead;
mod errands;
mod gated;
mod head;
pub mod memory;
mod normed;
mod rows;
mod stored;
mod views;

use crate::arena::{Arena, KvGroup};
use crate::backend::{Backend, BufferId, Instruction, Launch, PreparedId, Tensor};
use crate::dequant::dequantize;
use crate::dtype::DType;
use crate::error::{Failure, Result};
use crate::op::{Op, ValueId};
use crate::ops::attention::cpu::layout::{KvDType, MOST_HEAD_DIM, RUN};
use crate::ops::attention::cpu::{self as attention, Attention};
use crate::ops::linear::cpu as linear;
use crate::ops::linear::cpu::largest::Largest;
use crate::ops::rope::cpu as rope;
use crate::ops::sample;
use crate::ops::sample::pooled::Logits;
use crate::ops::store_kv::KvPlace;
use crate::pages::Pages;
use crate::pool::Pool;
use crate::simd::{Isa, LANES};
use crate::step::Limits;
use ahead::Ahead;
use errands::Errands;
use gated::Gated;
use head::Head;
use memory::{Memory, Region};
use normed::Normed;
use std::collections::HashSet;
use std::time::Duration;
use stored::rotated;
use views::Views;

/// An op's weights as the backend wants them.
enum Prepared {
    None,
    /// Read in place, row by row.
    Table(Tensor<'static>),
    /// A norm's weight, or the factors of rope's frequencies.
    Vector(Vec<f32>),
    Linear(linear::Linear),
}

/// See the module.
pub struct CpuBackend {
    isa: Isa,
    kv_dtype: KvDType,
    pool: Pool,
    memory: Memory,
    buffers: Vec<Region>,
    /// Of the KV pages, once there are some.
    ahead: Option<Ahead>,
    prepared: Vec<Prepared>,
    prepared_bytes: usize,
    /// Values of the tape that one op reads: they need not exist where that op is done with the one that writes them.
    read_once: HashSet<ValueId>,
    linear: linear::Scratch,
    attention: attention::Scratch,
    errands: Errands,
    angles: rope::Angles,
    sampler: sample::pooled::Scratch,
    /// Of rows of logits that are not written.
    largest: Largest,
}

impl CpuBackend {
    /// `isa` is `auto`, `avx512`, `avx2`, `neon` or `portable`; `threads` counts all compute threads, the calling one included.
    ///
    /// # Errors
    /// `unsupported` for what the CPU lacks and for 0 threads, `out_of_memory`.
    pub fn new(isa: &str, threads: usize) -> Result<Self> {
        let isa = Isa::detect(isa)?;
        Ok(Self {
            isa,
            kv_dtype: KvDType::ALL[0],
            pool: Pool::new(threads)?,
            memory: Memory::default(),
            buffers: Vec::new(),
            ahead: None,
            prepared: Vec::new(),
            prepared_bytes: 0,
            read_once: HashSet::new(),
            linear: linear::Scratch::new(isa),
            attention: attention::Scratch::default(),
            errands: Errands::default(),
            angles: rope::Angles::default(),
            sampler: sample::pooled::Scratch::default(),
            largest: Largest::default(),
        })
    }

    fn vector(tensor: &Tensor<'_>) -> Vec<f32> {
        let mut floats = vec![0.0; tensor.rows * tensor.cols];
        dequantize(tensor.dtype, tensor.bytes, &mut floats);
        floats
    }

    #[expect(unsafe_code, reason = "other threads may reach other pages")]
    fn attend(&mut self, op: &AttentionOp, instruction: &Instruction, launch: &Launch<'_>) -> Result<()> {
        let activations = self.buffers[launch.activations.0].floats_mut();
        let mut views = Views::new(activations, launch.step, instruction)?;
        let (qkv, out) = views.one_to_one()?;
        // SAFETY: only pages of the step's tables are read; `pages.rs` says who keeps writers off them.
        let kv = unsafe { launch.arena.pages.view() };
        let attention = Attention {
            dtype: self.kv_dtype,
            place: op.place,
            scale: op.scale,
            window: op.window,
            step: launch.step,
            arena: launch.arena,
            kv: &kv,
            qkv,
        };
        attention.run(self.isa, &mut self.pool, &mut self.attention, out);
        self.errands.after(op, self.kv_dtype, launch, &mut self.linear.errand);
        Ok(())
    }

    fn sample(&mut self, instruction: &Instruction, launch: &mut Launch<'_>) -> Result<()> {
        let width = instruction.inputs[0].width;
        let buffer = self.buffers[launch.activations.0].floats_mut();
        let views = Views::new(buffer, launch.step, instruction)?;
        sample::pooled::sample_rows(
            &mut self.pool,
            &mut self.sampler,
            &Logits { rows: views.input(0), width, largest: &Largest::default() },
            launch.step,
            launch.seats,
            launch.sampled,
        );
        Ok(())
    }
}

/// What an instruction was prepared as, if that is a linear.
fn linear_of<'a>(instruction: &Instruction, prepared: &'a [Prepared]) -> Option<&'a linear::Linear> {
    match &prepared[instruction.prepared.0] {
        Prepared::Linear(linear) => Some(linear),
        _ => None,
    }
}

fn no_linear() -> Failure {
    Failure::internal("linear was prepared as another op")
}

/// Fields of [`Op::Attention`].
struct AttentionOp {
    place: KvPlace,
    scale: f32,
    window: Option<u32>,
}

impl AttentionOp {
    fn of(op: &Op) -> Option<Self> {
        let Op::Attention { group, layer, num_heads, num_kv_heads, head_dim, scale, window, .. } = op else {
            return None;
        };
        let place = place(*group, *layer, *num_heads, *num_kv_heads, *head_dim);
        Some(Self { place, scale: *scale as f32, window: *window })
    }
}

fn place(group: u32, layer: u32, num_heads: u32, num_kv_heads: u32, head_dim: u32) -> KvPlace {
    KvPlace {
        group: group as usize,
        layer: layer as usize,
        num_heads: num_heads as usize,
        num_kv_heads: num_kv_heads as usize,
        head_dim: head_dim as usize,
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> String {
        format!("cpu/{}", self.isa.name())
    }

    fn supports(&self, op: &Op, weights: &[Tensor<'_>]) -> Result<()> {
        let head = |head_dim: u32| {
            if head_dim.is_multiple_of(LANES as u32) && (1..=MOST_HEAD_DIM as u32).contains(&head_dim) {
                Ok(())
            } else {
                Err(Failure::unsupported(format!(
                    "headDim is {head_dim}, supported are multiples of {LANES} to {MOST_HEAD_DIM}"
                )))
            }
        };
        match op {
            Op::Attention { soft_cap: Some(cap), .. } => {
                Err(Failure::unsupported(format!("softCap is {cap}, supported is none")))
            }
            Op::StoreKv { head_dim, .. } | Op::Attention { head_dim, .. } => head(*head_dim),
            Op::Linear { weights: names, .. } => {
                match weights[names.len()..].iter().find(|b| b.dtype != DType::F32) {
                    Some(bias) => Err(Failure::unsupported(format!(
                        "bias {} is {:?}, supported is F32",
                        bias.name, bias.dtype
                    ))),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn supports_block_size(&self, block_size: usize) -> Result<()> {
        if block_size.is_multiple_of(RUN) {
            return Ok(());
        }
        Err(Failure::unsupported(format!("blockSize is {block_size}, supported are multiples of {RUN}")))
    }

    fn prepare(&mut self, op: &Op, weights: &[Tensor<'static>]) -> Result<PreparedId> {
        let before = self.memory.taken();
        let prepared = match op {
            Op::Embed { .. } => Prepared::Table(weights[0]),
            Op::RmsNorm { .. } | Op::AddRmsNorm { .. } => Prepared::Vector(Self::vector(&weights[0])),
            Op::Rope { .. } => weights.first().map_or(Prepared::None, |w| Prepared::Vector(Self::vector(w))),
            Op::Linear { weights: names, .. } => {
                let (matrices, biases) = weights.split_at(names.len());
                let biases: Vec<Vec<f32>> = biases.iter().map(Self::vector).collect();
                Prepared::Linear(linear::Linear::pack(
                    self.isa,
                    &mut self.pool,
                    &mut self.memory,
                    matrices,
                    &biases,
                )?)
            }
            _ => Prepared::None,
        };
        self.prepared_bytes += self.memory.taken() - before;
        if let Prepared::Vector(floats) = &prepared {
            self.prepared_bytes += size_of_val(floats.as_slice());
        }
        self.prepared.push(prepared);
        Ok(PreparedId(self.prepared.len() - 1))
    }

    fn prepared_bytes(&self) -> usize {
        self.prepared_bytes
    }

    fn alloc(&mut self, bytes: usize) -> Result<BufferId> {
        self.buffers.push(self.memory.take(bytes)?);
        Ok(BufferId(self.buffers.len() - 1))
    }

    fn upload(&mut self, to: BufferId, offset: usize, bytes: &[u8]) -> Result<()> {
        self.buffers[to.0].bytes_mut()[offset..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn download(&mut self, from: BufferId, offset: usize, bytes: &mut [u8]) -> Result<()> {
        bytes.copy_from_slice(&self.buffers[from.0].bytes()[offset..][..bytes.len()]);
        Ok(())
    }

    fn alloc_pages(&mut self, page_bytes: usize, num_pages: usize) -> Result<Pages> {
        let pages = Pages::map(page_bytes, num_pages)?;
        self.ahead = Some(Ahead::of(&pages)?);
        Ok(pages)
    }

    fn kv_element_bytes(&self) -> usize {
        size_of::<u16>()
    }

    fn start(
        &mut self,
        instructions: &[Instruction],
        _activations: BufferId,
        _arena: &Arena,
        _limits: &Limits,
    ) -> Result<()> {
        self.read_once = gated::read_once(instructions);
        self.errands = Errands::new(instructions);
        Ok(())
    }

    fn together(&self, instructions: &[Instruction]) -> usize {
        if let Some(both) = rotated(instructions) {
            return both.len();
        }
        let norms = usize::from(Normed::find(instructions, &self.prepared, &self.read_once).is_some());
        let behind = &instructions[norms..];
        let gated = || Gated::find(behind, &self.prepared, &self.read_once).map(|gated| gated.len());
        let head = || Head::find(behind, &self.prepared, &self.read_once).map(|head| head.len());
        norms + gated().or_else(head).unwrap_or(1)
    }

    fn launch_together(&mut self, instructions: &[Instruction], launch: &mut Launch<'_>) -> Result<()> {
        if let Some([rotation, store]) = rotated(instructions) {
            return self.store(Some(rotation), store, launch);
        }
        let normed = Normed::find(instructions, &self.prepared, &self.read_once);
        let behind = &instructions[usize::from(normed.is_some())..];
        let gated = Gated::find(behind, &self.prepared, &self.read_once);
        let head = Head::find(behind, &self.prepared, &self.read_once);
        if normed.is_none() && gated.is_none() && head.is_none() {
            return instructions.iter().try_for_each(|instruction| self.launch(instruction, launch));
        }
        let (first, step) = (&behind[0], launch.step);
        let (input, output) = (views::place(&first.inputs[0], step), views::place(&first.outputs[0], step));
        let (pool, scratch) = (&mut self.pool, &mut self.linear);
        let buffer = self.buffers[launch.activations.0].floats_mut();
        let linear = linear_of(first, &self.prepared).ok_or_else(no_linear)?;
        match normed {
            Some(normed) => normed.take(self.isa, pool, scratch, buffer, step)?,
            None => linear.take(pool, scratch, &buffer[input]),
        }
        if let Some(gated) = gated {
            gated.run(pool, scratch, buffer, step);
        } else if let Some(head) = head {
            let logits = &mut buffer[output];
            head.run(pool, scratch, &mut self.sampler, &mut self.largest, logits, launch);
        } else {
            linear.run(pool, scratch, step.rows_of(first.rows()), &mut buffer[output]);
        }
        Ok(())
    }

    fn count_waits(&mut self, on: bool) {
        self.pool.count_waits(on);
    }

    fn waited(&self) -> Duration {
        self.pool.waited()
    }

    fn kv_dtype(&self) -> &'static str {
        self.kv_dtype.name()
    }

    fn use_kv_dtype(&mut self, name: &str) -> Result<()> {
        self.kv_dtype = KvDType::named(name).ok_or_else(|| {
            let names = KvDType::ALL.map(KvDType::name).join(", ");
            Failure::unsupported(format!("kv-cache-dtype {name}: the cpu backend allows auto, {names}"))
        })?;
        Ok(())
    }

    fn page_bytes(&self, groups: &[KvGroup], block_size: usize) -> Result<usize> {
        self.kv_dtype.page_bytes(groups, block_size)
    }

    fn launch(&mut self, instruction: &Instruction, launch: &mut Launch<'_>) -> Result<()> {
        match &instruction.op {
            Op::StoreKv { .. } => self.store(None, instruction, launch),
            Op::Attention { .. } => {
                let op = AttentionOp::of(&instruction.op)
                    .ok_or_else(|| Failure::internal("this op attends to nothing"))?;
                self.attend(&op, instruction, launch)
            }
            Op::Embed { .. } => {
                self.errands.first(self.kv_dtype, launch, &mut self.linear.errand);
                self.rows(instruction, launch)
            }
            Op::Linear { .. } => {
                let linear = linear_of(instruction, &self.prepared).ok_or_else(no_linear)?;
                let buffer = self.buffers[launch.activations.0].floats_mut();
                let mut views = Views::new(buffer, launch.step, instruction)?;
                let (x, out) = views.one_to_one()?;
                linear.take(&mut self.pool, &mut self.linear, x);
                linear.run(&mut self.pool, &self.linear, launch.step.rows_of(instruction.rows()), out);
                Ok(())
            }
            Op::Sample { .. } => self.sample(instruction, launch),
            _ => self.rows(instruction, launch),
        }
    }

    fn synchronize(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
