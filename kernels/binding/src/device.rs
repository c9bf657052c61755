//! What the machine offers, and pure helpers.
#![expect(clippy::needless_pass_by_value, reason = "what napi hands over is owned")]

use crate::error::to_js;
use kvengine_core::arena::KvGroup;
use kvengine_core::backend::cuda;
use kvengine_core::backend::cuda::driver::{self, CudaStatus};
use kvengine_core::cpu_features::CpuFeatures;
use kvengine_core::dtype::DType;
use kvengine_core::program::ProgramSpec;
use kvengine_core::{cpu_features, dequant, memory, program};
use napi::bindgen_prelude::Float32Array;
use napi_derive::napi;

/// Bytes of one KV block of these groups on a backend by name, kept like `kv_cache_dtype` (`auto` if not given).
///
/// # Errors
/// The core's, as JSON `{code, message}` in the message.
#[napi]
pub fn page_bytes(
    backend: String,
    groups: Vec<KvGroup>,
    block_size: u32,
    kv_cache_dtype: Option<String>,
) -> napi::Result<f64> {
    program::page_bytes_on(&backend, &groups, block_size, kv_cache_dtype.as_deref())
        .map(|bytes| bytes as f64)
        .map_err(to_js)
}

/// The NVIDIA driver and its GPUs, or why there is none to use. Takes no memory of a GPU.
#[napi]
pub fn cuda_status() -> CudaStatus {
    driver::status()
}

/// Memory of a GPU, in bytes.
#[napi(object)]
pub struct DeviceMemory {
    /// All.
    pub total_bytes: f64,
    /// Free now.
    pub free_bytes: f64,
}

/// Memory of the GPU that a backend's name (`cuda`, `cuda:1`) asks for.
///
/// # Errors
/// The core's, as JSON `{code, message}` in the message.
#[napi]
pub fn device_memory(backend: String) -> napi::Result<DeviceMemory> {
    let (free, total) = cuda::device_memory(&backend).map_err(to_js)?;
    Ok(DeviceMemory { total_bytes: total as f64, free_bytes: free as f64 })
}

/// Bytes of a GPU's memory that a program takes beside its KV blocks.
///
/// # Errors
/// The core's, as JSON `{code, message}` in the message.
#[napi]
pub fn device_bytes(spec: ProgramSpec) -> napi::Result<f64> {
    cuda::program_bytes(&spec).map(|bytes| bytes as f64).map_err(to_js)
}

/// What the processor can do.
#[napi]
pub fn cpu_features() -> CpuFeatures {
    cpu_features::detect()
}

/// Bytes of memory that this process may still take: the system's estimate or the control group's rest, the smaller.
///
/// # Errors
/// The core's, as JSON `{code, message}` in the message.
#[napi]
pub fn memory_available() -> napi::Result<f64> {
    memory::available().map(|bytes| bytes as f64).map_err(to_js)
}

/// Elements of whole blocks of weights as f32; for tests and `inspect`.
///
/// # Errors
/// The core's, as JSON `{code, message}` in the message.
#[napi]
pub fn dequantize(dtype: DType, bytes: &[u8]) -> napi::Result<Float32Array> {
    dequant::dequantize_all(dtype, bytes).map(Into::into).map_err(to_js)
}
