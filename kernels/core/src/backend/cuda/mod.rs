//! The cuda backend: an NVIDIA device through the driver's own interface. KV is IEEE halves. Kernels are listed in
//! [`kernels`]; a step's launches go to one stream, its picks are the device's too, and the host advances the seats.

mod batch;
mod call;
mod device;
pub mod driver;
pub mod kernels;
mod memory;
mod ops;
mod order;
mod pages;
mod planned;
mod ptx;
mod reserve;
mod run;
mod sample;
mod steps;
mod weights;

use crate::arena::Arena;
use crate::backend::{Backend, BufferId, Instruction, Launch, PreparedId, Tensor};
use crate::dequant::dequantize;
use crate::dtype::DType;
use crate::error::{Code, Failure, Result};
use crate::op::{Op, RopeStyle};
use crate::ops::linear::blocks::{BLOCK, Quantised};
use crate::pages::Pages;
use crate::pool::Pool;
use crate::step::Limits;
use cudarc::driver::CudaStream;
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use device::Device;
use driver::Wanted;
use memory::DeviceMemory;
use ops::Integers;
use pages::CudaPages;
pub use planned::program_bytes;
use reserve::{Needs, Reserve, Rotation};
use run::Graphs;
use std::collections::BTreeSet;
use std::sync::Arc;
use weights::{Matrices, Matrix, format_of};

/// Bytes of an element of KV.
pub const KV_ELEMENT_BYTES: usize = 2;
/// Name of its type.
pub const KV_DTYPE: &str = "f16";
/// Of device memory, left to the driver when KV blocks take what there is.
const SPARE: usize = 64 << 20;
/// Tokens of a block are a multiple of this.
const BLOCK_TOKENS: usize = 16;

/// Whether a backend's name is one of this backend: `cuda` or `cuda:1`.
pub fn is_name(name: &str) -> bool {
    wanted_in(name).is_some()
}

/// What a backend's name asks for; `None` where it is another backend's.
fn wanted_in(name: &str) -> Option<Wanted> {
    match name.strip_prefix("cuda")? {
        "" => Some(Wanted::First),
        rest => rest.strip_prefix(':')?.parse().ok().map(Wanted::Number),
    }
}

/// The number of the device that a name asks for.
fn chosen(name: &str) -> Result<u32> {
    let wanted = wanted_in(name).ok_or_else(|| {
        Failure::unsupported(format!("{name} is no CUDA device; devices are cuda, cuda:0, cuda:1 and so on"))
    })?;
    driver::choose(wanted)
}

/// Bytes of device memory that are free while it is open, and all.
///
/// # Errors
/// `unsupported` where the device cannot be used; what the driver reports.
pub fn device_memory(name: &str) -> Result<(usize, usize)> {
    device::memory_of(chosen(name)?)
}

/// An op's weights on the device.
enum Prepared {
    None,
    /// A norm's weight.
    Vector(DeviceMemory),
    Table(Arc<Matrix>),
    Linear(Vec<Part>),
    /// Index of the rotation.
    Rope(usize),
}

/// Matrices of one format that stand side by side in a linear's output.
struct Part {
    matrix: Arc<Matrix>,
    bias: Option<DeviceMemory>,
    /// Their first column.
    column: usize,
}

/// See the module.
pub struct CudaBackend {
    // In the order in which they are dropped: graphs use the memory, and all of it is the device's.
    graphs: Graphs,
    prepared: Vec<Prepared>,
    matrices: Matrices,
    vector_bytes: usize,
    buffers: Vec<DeviceMemory>,
    kv: Option<Arc<CudaPages>>,
    needs: Needs,
    /// Kernels of the ops that were prepared.
    kernels: BTreeSet<String>,
    reserve: Option<Reserve>,
    pool: Pool,
    stream: Arc<CudaStream>,
    device: Arc<Device>,
    capability: String,
    /// Blocks that the device works on side by side, about.
    busy_blocks: usize,
}

impl CudaBackend {
    /// `name` is `cuda` or `cuda:N`; `threads` repack weights and sample.
    ///
    /// # Errors
    /// `unsupported` where there is no driver or no such device, or it is too old, in one line; `out_of_memory`.
    pub fn new(name: &str, threads: usize) -> Result<Self> {
        Self::on(Self::device(name)?, threads)
    }

    /// Opens the device of that name.
    pub(crate) fn device(name: &str) -> Result<Arc<Device>> {
        Device::open(chosen(name)?)
    }

    /// As [`Self::new`] on a device that is open.
    pub(crate) fn on(device: Arc<Device>, threads: usize) -> Result<Self> {
        device.bind()?;
        let attribute =
            |attribute| device.check("does not tell what it is", device.context.attribute(attribute));
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let processors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        Ok(Self {
            graphs: Graphs::default(),
            prepared: Vec::new(),
            matrices: Matrices::default(),
            vector_bytes: 0,
            buffers: Vec::new(),
            kv: None,
            needs: Needs::default(),
            kernels: BTreeSet::new(),
            reserve: None,
            pool: Pool::new(threads)?,
            stream: device.stream()?,
            device,
            capability: format!("{major}{minor}"),
            busy_blocks: 2 * processors as usize,
        })
    }

    /// All elements of tensors, one behind the other, as f32 on the device.
    fn vector(&mut self, tensors: &[Tensor<'_>]) -> Result<DeviceMemory> {
        let bytes: Vec<u8> = tensors.iter().flat_map(floats).flat_map(f32::to_le_bytes).collect();
        self.vector_bytes += bytes.len();
        DeviceMemory::holding(&self.device, &self.stream, &bytes)
    }

    /// Matrices of one format that are neighbours become one.
    fn linear(&mut self, matrices: &[Tensor<'static>], biases: &[Tensor<'static>]) -> Result<Vec<Part>> {
        let (mut parts, mut column, mut first) = (Vec::new(), 0, 0);
        while first < matrices.len() {
            let len =
                matrices[first..].iter().take_while(|tensor| tensor.dtype == matrices[first].dtype).count();
            let tensors = &matrices[first..first + len];
            let matrix = self.matrices.of(&self.device, &self.stream, &mut self.pool, tensors)?;
            let bias = match biases.get(first..first + len) {
                Some(biases) if !biases.is_empty() => Some(self.vector(biases)?),
                _ => None,
            };
            let rows = matrix.rows;
            parts.push(Part { matrix, bias, column });
            column += rows;
            first += len;
        }
        Ok(parts)
    }
}

fn floats(tensor: &Tensor<'_>) -> Vec<f32> {
    let mut floats = vec![0.0; tensor.rows * tensor.cols];
    dequantize(tensor.dtype, tensor.bytes, &mut floats);
    floats
}

/// Part of the name of the kernels that rotate so.
fn style_name(style: RopeStyle) -> &'static str {
    match style {
        RopeStyle::Interleaved => "interleaved",
        RopeStyle::Halves => "halves",
    }
}

/// Names of the kernels that an op needs.
fn kernels_of(op: &Op, weights: &[Tensor<'_>]) -> Vec<String> {
    let one = |name: &str| vec![name.to_owned()];
    // Alone, and with what a linear behind it takes.
    let both = |name: &str| vec![format!("{name}_f32"), format!("{name}_quantize_f32")];
    match op {
        Op::Embed { .. } => vec![format!("embed_{}", format_of(weights[0].dtype))],
        Op::RmsNorm { .. } => both("rms_norm"),
        Op::AddRmsNorm { .. } => both("add_rms_norm"),
        Op::Add { .. } => one("add_f32"),
        Op::Linear { weights: names, .. } => weights[..names.len()]
            .iter()
            .flat_map(|weight| {
                let format = format_of(weight.dtype);
                let quantised = ["quantize_f32".to_owned(), format!("linear_many_{format}")];
                let more = Quantised::of(weight.dtype).map(|_| quantised);
                std::iter::once(format!("linear_{format}")).chain(more.into_iter().flatten())
            })
            .collect(),
        Op::Rope { style, .. } => {
            ["f32", "store_f16"].map(|what| format!("rope_{}_{what}", style_name(*style))).into()
        }
        Op::StoreKv { .. } => one("store_kv_f16"),
        Op::Attention { head_dim, .. } => ["attention_hs", "attention_split_hs", "attention_merge_hs"]
            .map(|name| format!("{name}{head_dim}"))
            .into(),
        Op::SiluMul { .. } => both("silu_mul"),
        Op::GatherSamples { .. } => one("gather_rows_f32"),
        Op::Sample { .. } => vec!["sample_adjust_f32".to_owned(), "sample_f32".to_owned()],
    }
}

impl Backend for CudaBackend {
    fn name(&self) -> String {
        format!("cuda/sm_{}", self.capability)
    }

    fn supports(&self, op: &Op, weights: &[Tensor<'_>]) -> Result<()> {
        if let Op::Attention { head_dim, .. } = op
            && !kernels::HEAD_DIMS.contains(&head_dim.to_string().as_str())
        {
            let allowed = kernels::HEAD_DIMS.join(", ");
            return Err(Failure::unsupported(format!("headDim is {head_dim}, supported are {allowed}")));
        }
        if let Op::Linear { weights: names, .. } = op
            && let Some(bias) = weights[names.len()..].iter().find(|bias| bias.dtype != DType::F32)
        {
            let (name, dtype) = (bias.name, bias.dtype);
            return Err(Failure::unsupported(format!("bias {name} is {dtype:?}, supported is F32")));
        }
        kernels_of(op, weights).iter().try_for_each(|name| self.device.has(name))
    }

    fn supports_block_size(&self, block_size: usize) -> Result<()> {
        if block_size.is_multiple_of(BLOCK_TOKENS) {
            return Ok(());
        }
        Err(Failure::unsupported(format!(
            "blockSize is {block_size}, supported are multiples of {BLOCK_TOKENS}"
        )))
    }

    fn prepare(&mut self, op: &Op, weights: &[Tensor<'static>]) -> Result<PreparedId> {
        self.kernels.extend(kernels_of(op, weights));
        self.needs.op(op, |name| {
            let weight = weights.iter().find(|weight| weight.name == name);
            weight.map(|weight| (weight.dtype, weight.cols))
        });
        let prepared = match op {
            Op::Embed { .. } => {
                Prepared::Table(self.matrices.of(&self.device, &self.stream, &mut self.pool, weights)?)
            }
            Op::RmsNorm { .. } | Op::AddRmsNorm { .. } => Prepared::Vector(self.vector(weights)?),
            Op::Linear { weights: names, .. } => {
                let (matrices, biases) = weights.split_at(names.len());
                Prepared::Linear(self.linear(matrices, biases)?)
            }
            Op::Rope { dims, theta, .. } => {
                let factors = weights.first().map(floats);
                Prepared::Rope(self.needs.rotation(Rotation { dims: *dims as usize, theta: *theta, factors }))
            }
            _ => Prepared::None,
        };
        self.prepared.push(prepared);
        Ok(PreparedId(self.prepared.len() - 1))
    }

    fn prepared_bytes(&self) -> usize {
        self.matrices.bytes() + self.vector_bytes
    }

    fn alloc(&mut self, bytes: usize) -> Result<BufferId> {
        self.buffers.push(DeviceMemory::zeroed(&self.device, &self.stream, bytes)?);
        Ok(BufferId(self.buffers.len() - 1))
    }

    fn upload(&mut self, to: BufferId, offset: usize, bytes: &[u8]) -> Result<()> {
        self.device.bind()?;
        self.buffers[to.0].write(&self.stream, offset, bytes)
    }

    fn download(&mut self, from: BufferId, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.device.bind()?;
        self.buffers[from.0].read(&self.stream, offset, bytes)
    }

    fn kv_dtype(&self) -> &'static str {
        KV_DTYPE
    }

    fn kv_element_bytes(&self) -> usize {
        KV_ELEMENT_BYTES
    }

    fn alloc_pages(&mut self, page_bytes: usize, num_pages: usize) -> Result<Pages> {
        let taken = match CudaPages::take(&self.device, &self.stream, page_bytes, num_pages) {
            Err(failure) if failure.code == Code::OutOfMemory => {
                let (free, _) = self.device.memory()?;
                let fit = (free.saturating_sub(SPARE) / page_bytes.max(1)).min(num_pages);
                if fit < 2 {
                    return Err(failure);
                }
                (CudaPages::take(&self.device, &self.stream, page_bytes, fit)?, fit)
            }
            taken => (taken?, num_pages),
        };
        let (pages, count) = (Arc::new(taken.0), taken.1);
        self.kv = Some(Arc::clone(&pages));
        Ok(Pages::on_device(pages, page_bytes, count))
    }

    fn copy_pages(&mut self, arena: &Arena, pairs: &[[i32; 2]]) -> Result<()> {
        if pairs.is_empty() {
            return Ok(());
        }
        self.device.bind()?;
        let bytes = arena.pages.page_bytes();
        let kv = self.kv()?;
        kv.step_begins()?;
        for pair in pairs {
            let [from, to] = pair.map(|block| block as usize * bytes);
            kv.memory.copy(&self.stream, from, to, bytes)?;
        }
        kv.step_ends()
    }

    fn reserve(&mut self, limits: &Limits) -> Result<()> {
        self.device.load_all(self.kernels.iter().map(String::as_str))?;
        self.reserve = Some(Reserve::take(&self.device, &self.stream, &self.needs, limits)?);
        Ok(())
    }

    fn run(&mut self, instructions: &[Instruction], launch: &mut Launch<'_>) -> Result<()> {
        self.device.bind()?;
        let done = self.run_step(instructions, launch);
        if done.is_err() {
            // What was launched of it still uses its blocks.
            self.kv()?.step_ends()?;
        }
        done
    }

    fn start(
        &mut self,
        instructions: &[Instruction],
        activations: BufferId,
        arena: &Arena,
        limits: &Limits,
    ) -> Result<()> {
        self.device.bind()?;
        self.capture_graphs(instructions, activations, arena, limits)
    }

    fn launch(&mut self, instruction: &Instruction, launch: &mut Launch<'_>) -> Result<()> {
        match instruction.op {
            Op::Sample { .. } => self.sample(instruction, launch),
            _ => self.launch_op(instruction, &self.shape_of(launch)?, Integers::default()),
        }
    }

    /// The wait is for what a step took; copies come after it by `order.rs`.
    fn synchronize(&mut self) -> Result<()> {
        self.device.bind()?;
        self.device.check("a step has failed", self.stream.synchronize())?;
        self.kv()?.step_ends()
    }
}

fn no_reserve() -> Failure {
    Failure::internal("the cuda backend has no memory for steps yet")
}

/// Blocks of 32 in so many columns.
fn blocks_in(cols: usize) -> usize {
    cols / BLOCK
}

#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod tests;
