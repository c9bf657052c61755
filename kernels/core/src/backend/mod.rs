//! A backend computes ops on one device. The op is data, so the trait stays small; each backend's `match` over [`Op`]
//! is the compiler's checklist.

use crate::arena::{Arena, GroupKind, KvGroup};
use crate::dtype::DType;
use crate::error::{Failure, Result};
use crate::op::{Op, Rows};
use crate::pages::Pages;
use crate::picks::Top;
use crate::seats::Seats;
use crate::shape::at;
use crate::step::{Limits, Step};
use std::time::Duration;

pub mod cpu;
pub mod cuda;
pub mod null;
pub mod reference;
pub mod weightless;
pub mod witness;

/// Handle of a buffer on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferId(pub usize);

/// Handle of weights in the form a backend wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreparedId(pub usize);

/// A checkpoint tensor: `rows` x `cols` elements of `dtype`, row after row. `bytes` has exactly
/// `rows * dtype.row_bytes(cols)` bytes (checked by `weights.rs`) and lives as long as the program (it is a mapped file).
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Name in the checkpoint.
    pub name: &'a str,
    /// Element type.
    pub dtype: DType,
    /// Outer dimension (1 for a vector).
    pub rows: usize,
    /// Inner, contiguous dimension.
    pub cols: usize,
    /// The elements.
    pub bytes: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// The bytes of a row.
    pub fn row(&self, row: usize) -> &'a [u8] {
        let len = self.dtype.row_bytes(self.cols);
        &self.bytes[row * len..(row + 1) * len]
    }
}

/// Where a value lies in the activation buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Bytes from the start of the buffer, a multiple of 64.
    pub offset: usize,
    /// Columns (f32); rows lie one after another without padding.
    pub width: usize,
    /// What the row count follows.
    pub rows: Rows,
}

/// An op with its places filled in. `inputs` and `outputs` are in the order of [`Op::inputs`] and [`Op::outputs`]. An
/// output may share memory with an input that dies at the op only for `Rope`, `Add` and `AddRmsNorm` (same offset then).
#[derive(Clone, Debug)]
pub struct Instruction {
    /// What to do.
    pub op: Op,
    /// Values read.
    pub inputs: Vec<Operand>,
    /// Values written.
    pub outputs: Vec<Operand>,
    /// Answer of [`Backend::prepare`].
    pub prepared: PreparedId,
}

impl Instruction {
    /// What the op's work follows: of what it writes, or of what it reads if it writes no value.
    pub fn rows(&self) -> Rows {
        self.outputs.first().or(self.inputs.first()).map_or(Rows::Tokens, |operand| operand.rows)
    }
}

/// What a launch may touch.
pub struct Launch<'a> {
    /// The step, tokens resolved.
    pub step: &'a Step,
    /// The activation buffer that operands lie in.
    pub activations: BufferId,
    /// KV pages.
    pub arena: &'a Arena,
    /// Sampler state of each sequence.
    pub seats: &'a mut Seats,
    /// What [`Op::Sample`] picked, one entry a sampled position, in order.
    pub sampled: &'a mut Vec<Sampled>,
}

/// What a sample came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The picked token, or -1 when none was: see [`crate::picks`].
    pub token: i32,
    /// Why the seat froze with this token: 0 not frozen, 1 a stop id, 2 `max_tokens`; without one: 3 its grammar gave up.
    pub finish: u8,
    /// Natural log of the probability of the token, or of the sample's target, under the model (before anything that acts
    /// on picks); 0 where the seat did not ask.
    pub logprob: f32,
    /// Place of that token by probability, from 1; 0 where the seat did not ask.
    pub rank: u32,
    /// The most probable tokens, as many as the seat asked for.
    pub top: Vec<Top>,
    /// Tokens behind the picked one of which the seat's grammar leaves no choice: worth drafting.
    pub forced: Vec<i32>,
}

/// A device that runs ops. Methods are called from one thread at a time.
pub trait Backend: Send {
    /// Short name, with the instruction set where there is a choice (`cpu/avx2`).
    fn name(&self) -> String;

    /// Whether the op can run with weights of these types and shapes; the error says what is supported.
    ///
    /// # Errors
    /// `unsupported`, without the label (the caller adds it).
    fn supports(&self, op: &Op, weights: &[Tensor<'_>]) -> Result<()>;

    /// Whether KV blocks may have this many tokens; the error says what is supported.
    ///
    /// # Errors
    /// `unsupported`.
    fn supports_block_size(&self, _block_size: usize) -> Result<()> {
        Ok(())
    }

    /// Brings the op's weights into the backend's own form (repacked, uploaded), once, at load.
    ///
    /// # Errors
    /// `out_of_memory`, `unsupported`.
    fn prepare(&mut self, op: &Op, weights: &[Tensor<'static>]) -> Result<PreparedId>;

    /// Bytes that [`Self::prepare`] has taken so far, mapped files not counted.
    fn prepared_bytes(&self) -> usize;

    /// A zeroed buffer, aligned to 64 bytes at least.
    ///
    /// # Errors
    /// `out_of_memory` with the size asked for.
    fn alloc(&mut self, bytes: usize) -> Result<BufferId>;

    /// Copies host bytes into a buffer.
    ///
    /// # Errors
    /// What an asynchronous device reports late.
    fn upload(&mut self, to: BufferId, offset: usize, bytes: &[u8]) -> Result<()>;

    /// Copies a buffer's bytes to the host; waits for launches before it.
    ///
    /// # Errors
    /// What an asynchronous device reports late.
    fn download(&mut self, from: BufferId, offset: usize, bytes: &mut [u8]) -> Result<()>;

    /// How KV elements are kept; empty where pages are not made of elements.
    fn kv_dtype(&self) -> &'static str;

    /// Names the order of bytes in a page: equal only where pages of equal groups and block size are alike.
    fn kv_layout(&self) -> String {
        let name = self.name();
        format!("{}/{}", name.split(['/', ':']).next().unwrap_or_default(), self.kv_dtype())
    }

    /// Keeps KV like this from now on: `auto` or a name. Called before anything that sizes follow from.
    ///
    /// # Errors
    /// `unsupported`, naming what is allowed.
    fn use_kv_dtype(&mut self, name: &str) -> Result<()> {
        only_kv_dtype(&self.name(), self.kv_dtype(), name)
    }

    /// Bytes of one KV element; 0 where pages are not made of elements ([`Self::page_bytes`]).
    fn kv_element_bytes(&self) -> usize;

    /// Bytes of a page that holds a block of any of these groups, a multiple of 64.
    ///
    /// # Errors
    /// `out_of_memory` when the number itself is beyond memory.
    fn page_bytes(&self, groups: &[KvGroup], block_size: usize) -> Result<usize> {
        Arena::page_bytes_for(groups, block_size, self.kv_element_bytes())
    }

    /// Zeroed memory for KV, which transfer threads may reach as well. A device may give fewer pages than asked for, at least
    /// two, where its memory holds no more.
    ///
    /// # Errors
    /// `out_of_memory` with the size asked for.
    fn alloc_pages(&mut self, page_bytes: usize, num_pages: usize) -> Result<Pages> {
        Pages::map(page_bytes, num_pages)
    }

    /// Copies whole pages, one pair (from, to) after the other.
    ///
    /// # Errors
    /// What an asynchronous device reports late.
    #[expect(unsafe_code, reason = "other threads may reach other pages")]
    fn copy_pages(&mut self, arena: &Arena, pairs: &[[i32; 2]]) -> Result<()> {
        let bytes = arena.pages.page_bytes();
        // SAFETY: pairs belong to the step under way; `pages.rs` says who keeps transfers off its blocks.
        let mut kv = unsafe { arena.pages.view() };
        for pair in pairs {
            let [from, to] = pair.map(|block| block as usize * bytes);
            kv.copy(from, to, bytes);
        }
        Ok(())
    }

    /// Whether it runs tapes. One that does not takes no weights and no ops and does steps whole.
    fn computes_ops(&self) -> bool {
        true
    }

    /// Whether there may be KV groups of this kind.
    fn supports_groups(&self, kind: GroupKind) -> bool {
        kind != GroupKind::State
    }

    /// Does a whole step without ops: `Some` exactly when [`Self::computes_ops`] is false.
    fn whole_step(&mut self, _launch: &mut Launch<'_>, _limits: &Limits) -> Option<Result<()>> {
        None
    }

    /// Takes what steps of these sizes need, once all ops are prepared: nothing is allocated in a step.
    ///
    /// # Errors
    /// `out_of_memory` with the size asked for.
    fn reserve(&mut self, _limits: &Limits) -> Result<()> {
        Ok(())
    }

    /// Called once, before the first step, with all that steps will be run with.
    ///
    /// # Errors
    /// `out_of_memory`, what a device reports.
    fn start(
        &mut self,
        _instructions: &[Instruction],
        _activations: BufferId,
        _arena: &Arena,
        _limits: &Limits,
    ) -> Result<()> {
        Ok(())
    }

    /// How many of these instructions, from the first on, are done as one; at least one.
    fn together(&self, _instructions: &[Instruction]) -> usize {
        1
    }

    /// Runs instructions over the step, in order; those that have no rows in it are nothing to do. A failure names the op's
    /// place in the model.
    ///
    /// # Errors
    /// As [`Self::launch`].
    fn run(&mut self, instructions: &[Instruction], launch: &mut Launch<'_>) -> Result<()> {
        let mut left = instructions;
        while let Some(first) = left.first() {
            let (now, after) = left.split_at(self.together(left));
            if launch.step.rows_of(first.rows()) > 0 {
                self.launch_together(now, launch)
                    .map_err(|failure| Failure { message: at(&first.op, &failure.message), ..failure })?;
            }
            left = after;
        }
        Ok(())
    }

    /// Runs what [`Self::together`] said is done as one.
    ///
    /// # Errors
    /// As [`Self::launch`].
    fn launch_together(&mut self, instructions: &[Instruction], launch: &mut Launch<'_>) -> Result<()> {
        instructions.iter().try_for_each(|instruction| self.launch(instruction, launch))
    }

    /// Runs one op over the step.
    ///
    /// # Errors
    /// `internal`: everything else was refused by [`Self::supports`]; `device_lost`.
    fn launch(&mut self, instruction: &Instruction, launch: &mut Launch<'_>) -> Result<()>;

    /// Begins or ends counting what [`Self::waited`] answers.
    fn count_waits(&mut self, _on: bool) {}

    /// How long the calling thread has waited for other compute threads since [`Self::count_waits`].
    fn waited(&self) -> Duration {
        Duration::ZERO
    }

    /// Waits until all launches have ended.
    ///
    /// # Errors
    /// What an asynchronous device reports late.
    fn synchronize(&mut self) -> Result<()>;
}

/// Refuses what is neither `auto` nor the one type that a backend has.
///
/// # Errors
/// `unsupported`, naming what is allowed.
pub fn only_kv_dtype(backend: &str, own: &str, name: &str) -> Result<()> {
    if name == "auto" || name == own {
        return Ok(());
    }
    let comma = if own.is_empty() { "" } else { ", " };
    Err(Failure::unsupported(format!("kv-cache-dtype {name}: backend {backend} allows auto{comma}{own}")))
}

/// Names that [`create`] knows.
pub const NAMES: [&str; 5] = ["cpu", "reference", "cuda", "null", "witness"];

/// A backend by name; `cuda:1` is the cuda backend on device 1, `cuda` on the first that can be used. `isa` chooses the instruction set where there is a choice (`auto` = the best of this machine).
///
/// # Errors
/// `unsupported`, naming what there is.
pub fn create(name: &str, isa: &str, threads: usize) -> Result<Box<dyn Backend>> {
    match name {
        "cpu" => Ok(Box::new(cpu::CpuBackend::new(isa, threads)?)),
        _ if cuda::is_name(name) => Ok(Box::new(cuda::CudaBackend::new(name, threads)?)),
        "reference" => Ok(Box::new(reference::ReferenceBackend::new(threads))),
        "null" => Ok(Box::new(null::NullBackend::default())),
        "witness" => Ok(Box::new(witness::WitnessBackend::default())),
        _ => Err(Failure::unsupported(format!(
            "backend {name}: there is none; there are {}",
            NAMES.join(", ")
        ))),
    }
}
