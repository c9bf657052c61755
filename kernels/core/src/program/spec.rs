//! What a program is made from and what came out: checked before anything is computed with it.

use std::fmt::Write;

use crate::arena::{Arena, GroupKind, KvGroup};
use crate::backend::{self, Backend};
use crate::error::{Failure, Result};
use crate::op::{Op, Rows, ValueInfo};
use crate::plan::Plan;
use crate::step::Limits;
use crate::weights::TensorSource;

/// What leaves a choice to the backend.
pub(super) const AUTO: &str = "auto";

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

/// The backend's name without its instruction set, how it keeps KV, and what a page is for.
pub(super) fn page_layout(backend: &dyn Backend, spec: &ProgramSpec) -> String {
    let group = |KvGroup { layers, num_kv_heads, head_dim, kind, window }: &KvGroup| {
        format!("{kind:?}:{window}:{layers}x{num_kv_heads}x{head_dim}")
    };
    let groups: Vec<String> = spec.groups.iter().map(group).collect();
    format!("{} {} {}", backend.kv_layout(), spec.block_size, groups.join(" "))
}

/// For backends that do steps whole: nothing of a tape is read.
pub(super) fn without_tape(spec: &ProgramSpec) -> ProgramSpec {
    ProgramSpec { values: vec![], ops: vec![], files: vec![], tensors: vec![], ..spec.clone() }
}

/// A window belongs to groups of that kind; the backend knows the kinds.
pub(super) fn check_groups(groups: &[KvGroup], backend: &dyn Backend) -> Result<()> {
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
pub(super) fn check_sizes(spec: &ProgramSpec, page_bytes: usize) -> Result<()> {
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

pub(super) fn describe(spec: &ProgramSpec, plan: &Plan) -> String {
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
