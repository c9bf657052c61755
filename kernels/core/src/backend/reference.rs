//! Plain Rust, fp32: slow, obvious, the definition that other backends are tested against. Weights are de-quantised row
//! by row where they are used and activations keep fp32. Each op reads copies of its inputs, so that nothing can alias.

use super::{Backend, BufferId, Instruction, Launch, Operand, PreparedId, Tensor};
use crate::dequant::dequantize;
use crate::error::{Failure, Result};
use crate::op::Op;
use crate::ops;
use crate::ops::rope::Rope;
use crate::ops::store_kv::KvPlace;
use crate::step::Step;

/// The reference.
pub struct ReferenceBackend {
    threads: usize,
    buffers: Vec<Vec<f32>>,
    weights: Vec<Vec<Tensor<'static>>>,
}

impl ReferenceBackend {
    /// `threads` share the columns of a matrix; results do not depend on it.
    pub fn new(threads: usize) -> Self {
        Self { threads: threads.max(1), buffers: Vec::new(), weights: Vec::new() }
    }

    fn read(&self, buffer: BufferId, operand: &Operand, step: &Step) -> Vec<f32> {
        let from = operand.offset / size_of::<f32>();
        self.buffers[buffer.0][from..from + step.rows_of(operand.rows) * operand.width].to_vec()
    }

    fn write(&mut self, buffer: BufferId, operand: &Operand, values: &[f32]) {
        let to = operand.offset / size_of::<f32>();
        self.buffers[buffer.0][to..to + values.len()].copy_from_slice(values);
    }
}

/// All elements of a tensor.
fn values(tensor: &Tensor<'_>) -> Vec<f32> {
    let mut values = vec![0.0; tensor.rows * tensor.cols];
    dequantize(tensor.dtype, tensor.bytes, &mut values);
    values
}

impl Backend for ReferenceBackend {
    fn name(&self) -> String {
        "reference".into()
    }

    fn supports(&self, _op: &Op, _weights: &[Tensor<'_>]) -> Result<()> {
        Ok(())
    }

    fn prepare(&mut self, _op: &Op, weights: &[Tensor<'static>]) -> Result<PreparedId> {
        self.weights.push(weights.to_vec());
        Ok(PreparedId(self.weights.len() - 1))
    }

    fn prepared_bytes(&self) -> usize {
        0
    }

    fn alloc(&mut self, bytes: usize) -> Result<BufferId> {
        let len = bytes.div_ceil(size_of::<f32>());
        let mut buffer = Vec::new();
        buffer
            .try_reserve_exact(len)
            .map_err(|_| Failure::out_of_memory(format!("{bytes} bytes could not be allocated")))?;
        buffer.resize(len, 0.0);
        self.buffers.push(buffer);
        Ok(BufferId(self.buffers.len() - 1))
    }

    fn upload(&mut self, to: BufferId, offset: usize, bytes: &[u8]) -> Result<()> {
        let from = offset / size_of::<f32>();
        dequantize(
            crate::dtype::DType::F32,
            bytes,
            &mut self.buffers[to.0][from..from + bytes.len() / size_of::<f32>()],
        );
        Ok(())
    }

    fn download(&mut self, from: BufferId, offset: usize, bytes: &mut [u8]) -> Result<()> {
        let start = offset / size_of::<f32>();
        for (bytes, value) in bytes.as_chunks_mut().0.iter_mut().zip(&self.buffers[from.0][start..]) {
            *bytes = value.to_le_bytes();
        }
        Ok(())
    }

    fn kv_dtype(&self) -> &'static str {
        "f32"
    }

    fn kv_element_bytes(&self) -> usize {
        size_of::<f32>()
    }

    #[expect(unsafe_code, reason = "other threads may reach other pages of KV")]
    fn launch(&mut self, instruction: &Instruction, launch: &mut Launch<'_>) -> Result<()> {
        let step = launch.step;
        // SAFETY: only blocks of the step's tables are touched; `pages.rs` says who keeps transfers off them.
        let mut kv = unsafe { launch.arena.pages.view() };
        let inputs: Vec<Vec<f32>> =
            instruction.inputs.iter().map(|x| self.read(launch.activations, x, step)).collect();
        let mut outputs: Vec<Vec<f32>> =
            instruction.outputs.iter().map(|x| vec![0.0; step.rows_of(x.rows) * x.width]).collect();
        let weights = self.weights[instruction.prepared.0].clone();
        let width = instruction.inputs.first().map_or(0, |x| x.width);
        match &instruction.op {
            Op::Embed { .. } => ops::embed::reference(&step.tokens, &weights[0], &mut outputs[0]),
            Op::RmsNorm { eps, .. } => {
                ops::rms_norm::reference(&inputs[0], &values(&weights[0]), *eps, &mut outputs[0]);
            }
            Op::AddRmsNorm { eps, .. } => {
                let [sum, out] = &mut outputs[..] else { return Err(wrong_arity(&instruction.op)) };
                ops::add::reference(&inputs[0], &inputs[1], sum);
                ops::rms_norm::reference(sum, &values(&weights[0]), *eps, out);
            }
            Op::Add { .. } => ops::add::reference(&inputs[0], &inputs[1], &mut outputs[0]),
            Op::Linear { weights: names, .. } => {
                let (weights, biases) = weights.split_at(names.len());
                self.linear(&inputs[0], weights, biases, &mut outputs[0]);
            }
            Op::Rope { num_heads, head_dim, dims, theta, style, .. } => {
                let factors = weights.first().map(values);
                let rope = Rope {
                    num_heads: *num_heads as usize,
                    head_dim: *head_dim as usize,
                    dims: *dims as usize,
                    theta: *theta,
                    style: *style,
                    factors: factors.as_deref(),
                };
                ops::rope::reference(&inputs[0], &step.positions, width, &rope, &mut outputs[0]);
            }
            Op::StoreKv { group, layer, num_heads, num_kv_heads, head_dim, .. } => {
                let place = place(*group, *layer, *num_heads, *num_kv_heads, *head_dim);
                ops::store_kv::reference(&inputs[0], &place, step, launch.arena, &mut kv);
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
                let place = place(*group, *layer, *num_heads, *num_kv_heads, *head_dim);
                let scale = *scale as f32;
                ops::attention::reference(
                    &inputs[0],
                    &place,
                    scale,
                    *window,
                    soft_cap.map(|cap| cap as f32),
                    step,
                    launch.arena,
                    &kv,
                    &mut outputs[0],
                );
            }
            Op::SiluMul { .. } => ops::silu_mul::reference(&inputs[0], width, &mut outputs[0]),
            Op::GatherSamples { .. } => {
                ops::gather_samples::reference(&inputs[0], &step.samples, width, &mut outputs[0]);
            }
            Op::Sample { .. } => {
                ops::sample::sample_rows(&inputs[0], width, step, launch.seats, launch.sampled);
            }
        }
        for (operand, values) in instruction.outputs.iter().zip(&outputs) {
            self.write(launch.activations, operand, values);
        }
        Ok(())
    }

    fn synchronize(&mut self) -> Result<()> {
        Ok(())
    }
}

fn wrong_arity(op: &Op) -> Failure {
    Failure::internal(format!("{}: {} has a wrong number of operands", op.label(), op.name()))
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

impl ReferenceBackend {
    /// The matrices' columns side by side.
    fn linear(&self, x: &[f32], weights: &[Tensor<'_>], biases: &[Tensor<'_>], out: &mut [f32]) {
        let width: usize = weights.iter().map(|weight| weight.rows).sum();
        let mut first = 0;
        for (i, weight) in weights.iter().enumerate() {
            let rows = x.len() / weight.cols;
            let bias = biases.get(i).map(values);
            let mut columns = vec![0.0; weight.rows * rows];
            ops::linear::reference(x, weight, bias.as_deref(), self.threads, &mut columns);
            for (j, column) in columns.chunks_exact(rows).enumerate() {
                for (row, value) in column.iter().enumerate() {
                    out[row * width + first + j] = *value;
                }
            }
            first += weight.rows;
        }
    }
}
