//! Picks on the device: questions go over in one copy, answers come back in one. Where a device cannot be asked (`asked.rs`) the
//! logits come over, and the host picks.
#![expect(unsafe_code, reason = "launches kernels, and takes numbers as bytes")]

use super::CudaBackend;
use super::call::Call;
use super::device::Device;
use super::kernels::SAMPLE_THREADS;
use super::memory::{DeviceMemory, Pinned};
use crate::backend::{Instruction, Launch};
use crate::error::{Failure, Result};
use crate::ops::linear::cpu::largest::Largest;
use crate::ops::sample::asked::{Answer, Asked, Edit, Wish};
use crate::ops::sample::pooled::{self, Logits};
use crate::picks::take_all;
use crate::step::Limits;
use std::sync::Arc;

/// Most edits of a step: penalties have one for each token that a sequence has seen.
const MOST_EDITS: usize = 1 << 16;
/// Longest list of most probable tokens.
const MOST_TOP: usize = 32;
/// Columns that a sum is kept of (`ops/sample/kernel.cu`).
const CHUNK: usize = 256;
/// Bytes that blocks have for sorting; more blocks than they are enough for would wait for each other.
const SCRATCH_BYTES: usize = 96 << 20;
const FLOAT: usize = size_of::<f32>();
/// Bytes of an id with its logit.
const TOP: usize = size_of::<u32>() + FLOAT;
/// Words of a sample's cuts.
const CUTS: usize = 5;

/// What picks need on both sides.
#[derive(Debug)]
pub(super) struct Sampling {
    asked: Asked,
    /// Wishes, edits, cuts.
    questions: Pinned,
    questions_there: DeviceMemory,
    /// Answers, then lists.
    answers: Pinned,
    answers_there: DeviceMemory,
    adjusted: DeviceMemory,
    scratch: DeviceMemory,
    /// Blocks that there is scratch for.
    blocks: usize,
    /// Where the host picks.
    logits: Pinned,
    host: pooled::Scratch,
}

/// Bytes, by what they are for.
struct Sizes {
    questions: usize,
    answers: usize,
    logits: usize,
    /// Of a block: keys, sums and ids.
    block: [usize; 3],
    blocks: usize,
}

impl Sizes {
    fn of(limits: &Limits) -> Self {
        let (samples, width) = (limits.max_samples, limits.vocab_size);
        let block = [
            width.next_power_of_two() * size_of::<u64>(),
            width.div_ceil(CHUNK) * size_of::<f64>(),
            width * size_of::<u32>(),
        ];
        Self {
            questions: samples * (size_of::<Wish>() + CUTS * size_of::<i32>())
                + MOST_EDITS * size_of::<Edit>(),
            answers: samples * (size_of::<Answer>() + MOST_TOP * TOP),
            logits: samples * width * FLOAT,
            blocks: (SCRATCH_BYTES / block.iter().sum::<usize>()).clamp(1, samples),
            block,
        }
    }

    fn scratch(&self) -> usize {
        self.blocks * self.block.iter().sum::<usize>()
    }
}

impl Sampling {
    /// Bytes of device memory.
    pub(super) fn bytes(limits: &Limits) -> usize {
        let sizes = Sizes::of(limits);
        sizes.questions + sizes.answers + sizes.logits + sizes.scratch()
    }

    /// Takes what steps of these sizes need.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub(super) fn take(device: &Arc<Device>, limits: &Limits) -> Result<Self> {
        let sizes = Sizes::of(limits);
        Ok(Self {
            asked: Asked::default(),
            questions: Pinned::take(device, sizes.questions)?,
            questions_there: DeviceMemory::take(device, sizes.questions)?,
            answers: Pinned::take(device, sizes.answers)?,
            answers_there: DeviceMemory::take(device, sizes.answers)?,
            adjusted: DeviceMemory::take(device, sizes.logits)?,
            scratch: DeviceMemory::take(device, sizes.scratch())?,
            blocks: sizes.blocks,
            logits: Pinned::take(device, sizes.logits)?,
            host: pooled::Scratch::default(),
        })
    }
}

impl CudaBackend {
    /// Answers a step's samples from the logits that its launches leave behind.
    pub(super) fn sample(&mut self, instruction: &Instruction, launch: &mut Launch<'_>) -> Result<()> {
        let Some(reserve) = &mut self.reserve else { return Err(super::no_reserve()) };
        let sampling = &mut reserve.sampling;
        let asked = &mut sampling.asked;
        let can_be_asked = asked.read(launch.step, launch.seats)
            && asked.edits.len() <= MOST_EDITS
            && asked.most_top <= MOST_TOP;
        let (width, samples) = (instruction.inputs[0].width, launch.step.samples.len());
        let (buffer, offset) = (&self.buffers[launch.activations.0], instruction.inputs[0].offset);
        if !can_be_asked {
            sampling.logits.receive(&self.stream, buffer, offset, samples * width * FLOAT)?;
            let logits = Logits { rows: sampling.logits.floats()?, width, largest: &Largest::default() };
            let (pool, host) = (&mut self.pool, &mut sampling.host);
            pooled::sample_rows(pool, host, &logits, launch.step, launch.seats, launch.sampled);
            return Ok(());
        }
        if width.next_power_of_two() * size_of::<u64>() > sampling.scratch.len() {
            return Err(Failure::internal(format!("logits are {width} wide, more than was planned for")));
        }
        let most_top = asked.most_top;
        sampling.send_questions(&self.stream)?;
        sampling.launch(&self.device, &self.stream, buffer.at(offset), samples, width)?;
        let bytes = samples * (size_of::<Answer>() + most_top * TOP);
        sampling.answers.receive(&self.stream, &sampling.answers_there, 0, bytes)?;
        let (answers, lists) = sampling.answers.bytes()?.split_at(samples * size_of::<Answer>());
        let (answers, _) = answers.as_chunks();
        let mut tops = Vec::with_capacity(most_top);
        take_all(launch.step, launch.seats, launch.sampled, |i, want| {
            tops.clear();
            tops.extend(
                lists[i * most_top * TOP..][..most_top * TOP].as_chunks::<TOP>().0.iter().copied().map(pair),
            );
            Answer::read(&answers[i]).choice(want, &tops)
        });
        Ok(())
    }
}

/// An id and its logit.
fn pair([a, b, c, d, logit @ ..]: [u8; TOP]) -> (u32, f32) {
    (u32::from_le_bytes([a, b, c, d]), f32::from_le_bytes(logit))
}

impl Sampling {
    /// Where edits and cuts begin behind the wishes.
    fn places(&self) -> (usize, usize) {
        let edits = self.asked.wishes.len() * size_of::<Wish>();
        (edits, edits + self.asked.edits.len() * size_of::<Edit>())
    }

    fn send_questions(&mut self, stream: &cudarc::driver::CudaStream) -> Result<()> {
        let (edits, starts) = self.places();
        let end = starts + self.asked.starts.len() * size_of::<i32>();
        let to = self.questions.bytes()?;
        to[..edits].copy_from_slice(bytes_of(&self.asked.wishes));
        to[edits..starts].copy_from_slice(bytes_of(&self.asked.edits));
        to[starts..end].copy_from_slice(bytes_of(&self.asked.starts));
        self.questions.send(stream, &self.questions_there, end)
    }

    fn launch(
        &self,
        device: &Device,
        stream: &cudarc::driver::CudaStream,
        logits: u64,
        samples: usize,
        width: usize,
    ) -> Result<()> {
        let (edits, starts) = self.places();
        if !self.asked.edits.is_empty() {
            let call = Call::of(device, "sample_adjust_f32")?
                .pointer(self.adjusted.at(0))
                .pointer(logits)
                .pointer(self.questions_there.at(edits))
                .pointer(self.questions_there.at(starts))
                .int(width);
            // SAFETY: logits and rows have `samples` rows of `width`; ids are below it (`seats.rs`).
            unsafe { call.launch(stream, [samples, 1, 1], SAMPLE_THREADS, 0)? };
        }
        let blocks = self.blocks.min(samples);
        let keys = width.next_power_of_two() * size_of::<u64>() * blocks;
        let sums = width.div_ceil(CHUNK) * size_of::<f64>() * blocks;
        let call = Call::of(device, "sample_f32")?
            .pointer(self.answers_there.at(0))
            .pointer(self.answers_there.at(samples * size_of::<Answer>()))
            .pointer(self.scratch.at(0))
            .pointer(self.scratch.at(keys + sums))
            .pointer(self.scratch.at(keys))
            .pointer(logits)
            .pointer(self.adjusted.at(0))
            .pointer(self.questions_there.at(0))
            .int(samples)
            .int(width)
            .int(self.asked.most_top);
        // SAFETY: as above; there is scratch for so many blocks of rows of the vocabulary's width.
        unsafe { call.launch(stream, [blocks, 1, 1], SAMPLE_THREADS, 0) }
    }
}

/// Numbers without gaps between them.
trait Numbers: Copy {}
impl Numbers for Wish {}
impl Numbers for Edit {}
impl Numbers for i32 {}

fn bytes_of<T: Numbers>(numbers: &[T]) -> &[u8] {
    // SAFETY: the types have no gaps, so each byte is a number's.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}
