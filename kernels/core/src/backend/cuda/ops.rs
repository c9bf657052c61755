//! The launches of each op. What a kernel takes is in `kernels.rs`, in the order in which it is given here. Grids follow from
//! the shape of the step alone, so that the same launches can be kept as a graph.
#![expect(unsafe_code, reason = "launches kernels")]

use super::call::Call;
use super::kernels::{
    ATTENTION_THREADS, ELEMENT_THREADS, LINEAR_COLUMNS, LINEAR_MANY_COLUMNS, LINEAR_MANY_FROM,
    LINEAR_MANY_ROWS, LINEAR_ROWS, LINEAR_THREADS, ROW_THREADS,
};
use super::memory::DeviceMemory;
use super::pages::CudaPages;
use super::reserve::Reserve;
use super::{CudaBackend, KV_ELEMENT_BYTES, Part, Prepared, blocks_in, no_reserve, style_name};
use crate::backend::{BufferId, Instruction, Operand};
use crate::error::{Failure, Result};
use crate::op::{Op, Rows};
use std::sync::Arc;

/// Threads that take a block of activations together.
const QUANTIZE_LANES: usize = 8;

/// What launches follow from: a step's sizes, or a graph's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) activations: BufferId,
    pub(super) page_bytes: usize,
    pub(super) block_size: usize,
    pub(super) tokens: usize,
    pub(super) samples: usize,
    /// Tiles of each group.
    pub(super) tiles: Vec<usize>,
    /// Splits of the longest sequence.
    pub(super) splits: usize,
}

impl Shape {
    pub(super) fn rows_of(&self, rows: Rows) -> usize {
        match rows {
            Rows::Tokens => self.tokens,
            Rows::Samples => self.samples,
        }
    }
}

/// Activations as integers, which a linear takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Integers {
    /// Those of the op's input have been written by the op before.
    pub(super) there: bool,
    /// Those of its output are to be written.
    pub(super) wanted: bool,
}

/// The shape of an op over KV.
struct KvShape {
    group: usize,
    layer: usize,
    num_heads: usize,
    num_kv_heads: usize,
    head_dim: usize,
}

impl KvShape {
    /// Bytes of a page before the layer's keys.
    fn layer_offset(&self, block_size: usize) -> usize {
        2 * self.layer * self.num_kv_heads * block_size * self.head_dim * KV_ELEMENT_BYTES
    }
}

/// What becomes of queries and keys; 0 = no window, no cap.
struct Scores {
    scale: f32,
    window: usize,
    soft_cap: f32,
}

impl CudaBackend {
    pub(super) fn kv(&self) -> Result<&Arc<CudaPages>> {
        self.kv.as_ref().ok_or_else(|| Failure::internal("the cuda backend has no KV pages yet"))
    }

    fn reserved(&self) -> Result<&Reserve> {
        self.reserve.as_ref().ok_or_else(no_reserve)
    }

    /// Launches an op that computes on the device.
    pub(super) fn launch_op(
        &self,
        instruction: &Instruction,
        shape: &Shape,
        integers: Integers,
    ) -> Result<()> {
        match &instruction.op {
            Op::Linear { .. } => self.launch_linear(instruction, shape, integers.there),
            Op::StoreKv { group, layer, num_heads, num_kv_heads, head_dim, .. } => {
                let kv = kv_shape(*group, *layer, *num_heads, *num_kv_heads, *head_dim);
                self.store_kv(&kv, instruction, shape)
            }
            Op::Attention {
                group,
                layer,
                num_heads,
                num_kv_heads,
                head_dim,
                scale,
                window,
                soft_cap,
                ..
            } => {
                let kv = kv_shape(*group, *layer, *num_heads, *num_kv_heads, *head_dim);
                let scores = Scores {
                    scale: *scale as f32,
                    window: window.unwrap_or(0) as usize,
                    soft_cap: soft_cap.unwrap_or(0.0) as f32,
                };
                self.attend(&kv, &scores, instruction, shape)
            }
            _ => self.launch_rows(instruction, shape, integers.wanted),
        }
    }

    /// Whether `next` is a linear that takes what `instruction` writes as integers, and `instruction` can write them.
    pub(super) fn takes_integers_of(&self, instruction: &Instruction, next: &Instruction) -> bool {
        let writes =
            matches!(instruction.op, Op::RmsNorm { .. } | Op::AddRmsNorm { .. } | Op::SiluMul { .. });
        let takes = matches!(
            &self.prepared[next.prepared.0],
            Prepared::Linear(parts) if parts.iter().any(|part| part.matrix.is_quantised())
        );
        writes && takes && instruction.outputs.last() == next.inputs.first()
    }

    /// Where an operand lies on the device.
    fn place(&self, shape: &Shape, operand: &Operand) -> Result<u64> {
        let bytes = shape.rows_of(operand.rows) * operand.width * size_of::<f32>();
        let buffer = &self.buffers[shape.activations.0];
        if operand.offset + bytes > buffer.len() {
            return Err(Failure::internal(format!("operand {operand:?} leaves the activation buffer")));
        }
        Ok(buffer.at(operand.offset))
    }

    fn call(&self, kernel: &str) -> Result<Call<'_>> {
        Call::of(&self.device, kernel)
    }

    /// Ops that take row by row, or element by element.
    fn launch_rows(&self, instruction: &Instruction, shape: &Shape, quantise: bool) -> Result<()> {
        let rows = shape.rows_of(instruction.rows());
        let input = |i: usize| self.place(shape, &instruction.inputs[i]);
        let output = |i: usize| self.place(shape, &instruction.outputs[i]);
        let width = instruction.outputs[0].width;
        let reserve = self.reserved()?;
        let arrays = &reserve.arrays;
        let name = |op: &str| format!("{op}{}", if quantise { "_quantize_f32" } else { "_f32" });
        let by_elements = (rows * width).div_ceil(ELEMENT_THREADS as usize);
        let (call, grid, threads) = match (&instruction.op, &self.prepared[instruction.prepared.0]) {
            (Op::Embed { .. }, Prepared::Table(table)) => (
                self.call(&format!("embed_{}", table.format))?
                    .pointer(output(0)?)
                    .pointer(table.numbers())
                    .pointer(table.scales())
                    .pointer(table.minima())
                    .pointer(arrays.tokens())
                    .int(width),
                rows,
                ELEMENT_THREADS,
            ),
            (Op::RmsNorm { eps, .. }, Prepared::Vector(weight)) => (
                with_integers(self.call(&name("rms_norm"))?.pointer(output(0)?), reserve, quantise)
                    .pointer(input(0)?)
                    .pointer(weight.at(0))
                    .int(width)
                    .float(*eps as f32),
                rows,
                ROW_THREADS,
            ),
            (Op::AddRmsNorm { eps, .. }, Prepared::Vector(weight)) => (
                with_integers(
                    self.call(&name("add_rms_norm"))?.pointer(output(0)?).pointer(output(1)?),
                    reserve,
                    quantise,
                )
                .pointer(input(0)?)
                .pointer(input(1)?)
                .pointer(weight.at(0))
                .int(width)
                .float(*eps as f32),
                rows,
                ROW_THREADS,
            ),
            (Op::Add { .. }, _) => (
                self.call("add_f32")?
                    .pointer(output(0)?)
                    .pointer(input(0)?)
                    .pointer(input(1)?)
                    .int(rows * width),
                by_elements,
                ELEMENT_THREADS,
            ),
            (Op::SiluMul { .. }, _) => (
                with_integers(self.call(&name("silu_mul"))?.pointer(output(0)?), reserve, quantise)
                    .pointer(input(0)?)
                    .int(width)
                    .int(rows * width),
                by_elements,
                ELEMENT_THREADS,
            ),
            (Op::GatherSamples { .. }, _) => (
                self.call("gather_rows_f32")?
                    .pointer(output(0)?)
                    .pointer(input(0)?)
                    .pointer(arrays.samples())
                    .int(width),
                rows,
                ELEMENT_THREADS,
            ),
            (Op::Rope { num_heads, head_dim, dims, style, .. }, Prepared::Rope(rotation)) => (
                self.call(&format!("rope_{}_f32", style_name(*style)))?
                    .pointer(output(0)?)
                    .pointer(input(0)?)
                    .pointer(reserve.angles[*rotation].at(0))
                    .pointer(arrays.positions())
                    .int(*num_heads as usize)
                    .int(*head_dim as usize)
                    .int(*dims as usize)
                    .int(width),
                rows,
                ELEMENT_THREADS,
            ),
            (op, _) => return Err(Failure::internal(format!("{} was prepared as another op", op.name()))),
        };
        // SAFETY: operands lie in the activation buffer (`place`), weights have the op's shape (`shape.rs`), the arrays are
        // this step's.
        unsafe { call.launch(&self.stream, [grid, 1, 1], threads, 0) }
    }

    fn launch_linear(&self, instruction: &Instruction, shape: &Shape, is_quantised: bool) -> Result<()> {
        let Prepared::Linear(parts) = &self.prepared[instruction.prepared.0] else {
            return Err(Failure::internal("linear was prepared as another op"));
        };
        let (x, out) = (&instruction.inputs[0], &instruction.outputs[0]);
        let rows = shape.rows_of(x.rows);
        let reserve = self.reserved()?;
        let (x_place, out_place) = (self.place(shape, x)?, self.place(shape, out)?);
        if !is_quantised && parts.iter().any(|part| part.matrix.is_quantised()) {
            let blocks = rows * blocks_in(x.width);
            let call = self
                .call("quantize_f32")?
                .pointer(reserve.numbers.at(0))
                .pointer(reserve.scales.at(0))
                .pointer(reserve.sums.at(0))
                .pointer(x_place)
                .int(blocks);
            let grid = (blocks * QUANTIZE_LANES).div_ceil(ROW_THREADS as usize);
            // SAFETY: as above; the integers' memory holds the most rows and columns of any linear (`reserve.rs`).
            unsafe { call.launch(&self.stream, [grid, 1, 1], ROW_THREADS, 0)? };
        }
        for Part { matrix, bias, column } in parts {
            let is_many = matrix.is_quantised() && rows >= LINEAR_MANY_FROM as usize;
            let (family, columns, rows_each) = if is_many {
                ("linear_many", LINEAR_MANY_COLUMNS, LINEAR_MANY_ROWS)
            } else {
                ("linear", LINEAR_COLUMNS, LINEAR_ROWS)
            };
            let bias = bias.as_ref().map_or(0, |bias: &DeviceMemory| bias.at(0));
            let call = self
                .call(&format!("{family}_{}", matrix.format))?
                .pointer(out_place + (column * size_of::<f32>()) as u64);
            let call = if matrix.is_quantised() {
                call.pointer(reserve.numbers.at(0))
                    .pointer(reserve.scales.at(0))
                    .pointer(reserve.sums.at(0))
                    .pointer(matrix.numbers())
                    .pointer(matrix.scales())
                    .pointer(matrix.minima())
            } else {
                call.pointer(x_place).pointer(matrix.numbers())
            };
            let call = call.pointer(bias).int(rows).int(matrix.cols).int(matrix.rows).int(out.width);
            let grid = [matrix.rows.div_ceil(columns as usize), rows.div_ceil(rows_each as usize), 1];
            // SAFETY: as above.
            unsafe { call.launch(&self.stream, grid, LINEAR_THREADS, 0)? };
        }
        Ok(())
    }

    /// A rotation and the store of what it rotates, in one.
    pub(super) fn launch_rope_store(
        &self,
        rope: &Instruction,
        store: &Instruction,
        shape: &Shape,
    ) -> Result<()> {
        let (
            Op::Rope { dims, style, .. },
            Prepared::Rope(rotation),
            Op::StoreKv { group, layer, num_heads, num_kv_heads, head_dim, .. },
        ) = (&rope.op, &self.prepared[rope.prepared.0], &store.op)
        else {
            return Err(Failure::internal("rope was prepared as another op"));
        };
        let kv = kv_shape(*group, *layer, *num_heads, *num_kv_heads, *head_dim);
        let reserve = self.reserved()?;
        let call = self
            .call(&format!("rope_{}_store_f16", style_name(*style)))?
            .pointer(self.place(shape, &rope.outputs[0])?)
            .pointer(self.kv()?.memory.at(0))
            .pointer(self.place(shape, &rope.inputs[0])?)
            .pointer(reserve.angles[*rotation].at(0))
            .pointer(reserve.arrays.positions())
            .pointer(reserve.arrays.slots(kv.group))
            .int(shape.page_bytes)
            .int(kv.layer_offset(shape.block_size))
            .int(shape.block_size)
            .int(kv.num_heads)
            .int(kv.num_kv_heads)
            .int(kv.head_dim)
            .int(*dims as usize);
        // SAFETY: as in `launch_rows` and `store_kv`.
        unsafe { call.launch(&self.stream, [shape.rows_of(rope.rows()), 1, 1], ELEMENT_THREADS, 0) }
    }

    fn store_kv(&self, kv: &KvShape, instruction: &Instruction, shape: &Shape) -> Result<()> {
        let qkv = &instruction.inputs[0];
        let call = self
            .call("store_kv_f16")?
            .pointer(self.kv()?.memory.at(0))
            .pointer(self.place(shape, qkv)?)
            .pointer(self.reserved()?.arrays.slots(kv.group))
            .int(shape.page_bytes)
            .int(kv.layer_offset(shape.block_size))
            .int(shape.block_size)
            .int(kv.num_heads)
            .int(kv.num_kv_heads)
            .int(kv.head_dim);
        // SAFETY: slots are of blocks that the step fills (`step.rs`); `pages.rs` says who keeps everybody else off them.
        unsafe { call.launch(&self.stream, [shape.rows_of(qkv.rows), 1, 1], ELEMENT_THREADS, 0) }
    }

    /// Few rows over many keys are split and merged, so that the whole device has something to do; the bits are the same.
    fn attend(&self, kv: &KvShape, scores: &Scores, instruction: &Instruction, shape: &Shape) -> Result<()> {
        let &KvShape { group, num_heads, num_kv_heads, head_dim, .. } = kv;
        let (qkv, out) = (&instruction.inputs[0], self.place(shape, &instruction.outputs[0])?);
        let (reserve, tiles, splits) = (self.reserved()?, shape.tiles[group], shape.splits);
        let tokens = shape.rows_of(qkv.rows);
        let parts = tokens * num_heads * splits;
        let fits = parts * head_dim * size_of::<f32>() <= reserve.partials.len()
            && parts * 2 * size_of::<f32>() <= reserve.statistics.len();
        let is_split = splits > 1 && tiles * num_kv_heads < self.busy_blocks && fits;
        let call = if is_split {
            self.call(&format!("attention_split_hs{head_dim}"))?
                .pointer(reserve.partials.at(0))
                .pointer(reserve.statistics.at(0))
        } else {
            self.call(&format!("attention_hs{head_dim}"))?.pointer(out)
        };
        let call = call
            .pointer(self.place(shape, qkv)?)
            .pointer(self.kv()?.memory.at(0))
            .pointer(reserve.arrays.tiles(group))
            .pointer(reserve.arrays.blocks())
            .int(shape.page_bytes)
            .int(kv.layer_offset(shape.block_size))
            .int(shape.block_size)
            .int(num_heads)
            .int(num_kv_heads)
            .int(scores.window)
            .float(scores.scale)
            .float(scores.soft_cap);
        let grid = [tiles, num_kv_heads, if is_split { splits } else { 1 }];
        // SAFETY: only pages of the step's tables are read; `pages.rs` says who keeps writers off them. Partial results fit.
        unsafe { call.launch(&self.stream, grid, ATTENTION_THREADS, 0)? };
        if !is_split {
            return Ok(());
        }
        let call = self
            .call(&format!("attention_merge_hs{head_dim}"))?
            .pointer(out)
            .pointer(reserve.partials.at(0))
            .pointer(reserve.statistics.at(0))
            .pointer(reserve.arrays.positions())
            .int(num_heads)
            .int(scores.window)
            .int(splits);
        // SAFETY: as above.
        unsafe { call.launch(&self.stream, [tokens, num_heads, 1], head_dim.next_multiple_of(32) as u32, 0) }
    }
}

/// Adds where the output goes as integers, for the kernels that write them.
fn with_integers<'a>(call: Call<'a>, reserve: &Reserve, quantise: bool) -> Call<'a> {
    if !quantise {
        return call;
    }
    call.pointer(reserve.numbers.at(0)).pointer(reserve.scales.at(0)).pointer(reserve.sums.at(0))
}

fn kv_shape(group: u32, layer: u32, num_heads: u32, num_kv_heads: u32, head_dim: u32) -> KvShape {
    KvShape {
        group: group as usize,
        layer: layer as usize,
        num_heads: num_heads as usize,
        num_kv_heads: num_kv_heads as usize,
        head_dim: head_dim as usize,
    }
}
