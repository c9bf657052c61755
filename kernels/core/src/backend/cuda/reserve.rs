//! What steps need beside activations and KV, taken once when all ops are known.

use super::blocks_in;
use super::device::Device;
use super::kernels::SPLIT;
use super::memory::DeviceMemory;
use super::sample::Sampling;
use super::steps::{StepArrays, tile_tokens};
use crate::dtype::DType;
use crate::error::Result;
use crate::op::{Op, RopeStyle};
use crate::ops::linear::blocks::Quantised;
use crate::ops::rope::{Rope, frequencies};
use crate::step::Limits;
use cudarc::driver::CudaStream;
use std::sync::Arc;

/// Most bytes of attention's partial results. Where more would be needed, splits follow each other in one block.
const MOST_PARTIAL_BYTES: usize = 256 << 20;
const FLOAT: usize = size_of::<f32>();

/// A rotation's angles, the same for all layers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rotation {
    pub(super) dims: usize,
    pub(super) theta: f64,
    pub(super) factors: Option<Vec<f32>>,
}

/// What the prepared ops ask for.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Most columns of an input that becomes integers.
    quantised_cols: usize,
    rotations: Vec<Rotation>,
    /// Of each group: most query heads of a KV head.
    heads_each: Vec<usize>,
    /// Query heads and their size, of each shape of attention.
    heads: Vec<(usize, usize)>,
}

impl Needs {
    /// Number of a rotation; the same one has the same number.
    pub(super) fn rotation(&mut self, rotation: Rotation) -> usize {
        if let Some(known) = self.rotations.iter().position(|one| *one == rotation) {
            return known;
        }
        self.rotations.push(rotation);
        self.rotations.len() - 1
    }

    /// Takes in what an op asks for; `weight` tells the type and the columns of a weight.
    pub(super) fn op(&mut self, op: &Op, weight: impl Fn(&str) -> Option<(DType, usize)>) {
        match op {
            Op::Linear { weights, .. } => {
                for (dtype, cols) in weights.iter().filter_map(|name| weight(name)) {
                    if Quantised::of(dtype).is_some() {
                        self.quantised_cols = self.quantised_cols.max(cols);
                    }
                }
            }
            Op::Attention { group, num_heads, num_kv_heads, head_dim, .. } => {
                self.attention(*group as usize, *num_heads, *num_kv_heads, *head_dim);
            }
            Op::Rope { dims, theta, frequencies: None, .. } => {
                self.rotation(Rotation { dims: *dims as usize, theta: *theta, factors: None });
            }
            _ => (),
        }
    }

    /// An attention op of this shape.
    fn attention(&mut self, group: usize, num_heads: u32, num_kv_heads: u32, head_dim: u32) {
        if self.heads_each.len() <= group {
            self.heads_each.resize(group + 1, 1);
        }
        let each = (num_heads / num_kv_heads.max(1)) as usize;
        self.heads_each[group] = self.heads_each[group].max(each);
        let shape = (num_heads as usize, head_dim as usize);
        if !self.heads.contains(&shape) {
            self.heads.push(shape);
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reserve {
    pub(super) arrays: StepArrays,
    /// Most tokens of a tile of each group.
    pub(super) tile_tokens: Vec<usize>,
    /// Activations as integers, their scales and their sums.
    pub(super) numbers: DeviceMemory,
    pub(super) scales: DeviceMemory,
    pub(super) sums: DeviceMemory,
    /// Attention's partial results and their statistics.
    pub(super) partials: DeviceMemory,
    pub(super) statistics: DeviceMemory,
    /// Of each rotation: `[position][sine | cosine][dims / 2]`.
    pub(super) angles: Vec<DeviceMemory>,
    pub(super) sampling: Sampling,
}

/// Bytes of what depends on the ops.
struct Sizes {
    numbers: usize,
    /// Of the scales, and of the sums.
    factors: usize,
    partials: usize,
    statistics: usize,
}

impl Sizes {
    fn of(needs: &Needs, limits: &Limits) -> Self {
        let rows = limits.max_tokens.max(limits.max_samples);
        let (partials, statistics) = partial_bytes(needs, limits);
        Self {
            numbers: rows * needs.quantised_cols,
            factors: rows * blocks_in(needs.quantised_cols) * FLOAT,
            partials,
            statistics,
        }
    }
}

impl Reserve {
    /// Bytes of device memory.
    pub(super) fn bytes(needs: &Needs, limits: &Limits) -> usize {
        let Sizes { numbers, factors, partials, statistics, .. } = Sizes::of(needs, limits);
        let angles: usize = needs.rotations.iter().map(|one| limits.max_model_len * one.dims * FLOAT).sum();
        let arrays = StepArrays::bytes(limits) + Sampling::bytes(limits);
        arrays + numbers + 2 * factors + partials + statistics + angles
    }

    /// Takes it.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub(super) fn take(
        device: &Arc<Device>,
        stream: &CudaStream,
        needs: &Needs,
        limits: &Limits,
    ) -> Result<Self> {
        let sizes = Sizes::of(needs, limits);
        let take = |bytes: usize| DeviceMemory::take(device, bytes);
        let heads_each = |group: usize| needs.heads_each.get(group).copied().unwrap_or(1);
        let table = |rotation: &Rotation| {
            let bytes = angle_table(rotation, limits.max_model_len);
            DeviceMemory::holding(device, stream, &bytes)
        };
        Ok(Self {
            arrays: StepArrays::take(device, limits)?,
            tile_tokens: (0..limits.groups.len()).map(|group| tile_tokens(heads_each(group))).collect(),
            numbers: take(sizes.numbers)?,
            scales: take(sizes.factors)?,
            sums: take(sizes.factors)?,
            // Rows of padding are merged too, of which no split writes anything.
            partials: DeviceMemory::zeroed(device, stream, sizes.partials)?,
            statistics: DeviceMemory::zeroed(device, stream, sizes.statistics)?,
            angles: needs.rotations.iter().map(table).collect::<Result<_>>()?,
            sampling: Sampling::take(device, limits)?,
        })
    }
}

/// Bytes of partial results and statistics for a step in which every row decodes at the longest length, within the limit.
fn partial_bytes(needs: &Needs, limits: &Limits) -> (usize, usize) {
    let splits = limits.max_model_len.div_ceil(SPLIT as usize);
    let rows = limits.max_rows.min(limits.max_tokens);
    let of = |&(heads, head_dim): &(usize, usize)| {
        let most = MOST_PARTIAL_BYTES / (head_dim * FLOAT);
        let count = (rows * heads * splits).min(most);
        (count * head_dim * FLOAT, count * 2 * FLOAT)
    };
    needs.heads.iter().map(of).fold((0, 0), |most, bytes| (most.0.max(bytes.0), most.1.max(bytes.1)))
}

fn angle_table(rotation: &Rotation, positions: usize) -> Vec<u8> {
    let rope = Rope {
        num_heads: 0,
        head_dim: 0,
        dims: rotation.dims,
        theta: rotation.theta,
        style: RopeStyle::Halves,
        factors: rotation.factors.as_deref(),
    };
    let mut bytes = Vec::with_capacity(positions * rotation.dims * FLOAT);
    let frequencies = frequencies(&rope);
    for position in 0..positions {
        let angles: Vec<(f32, f32)> =
            frequencies.iter().map(|frequency| frequency.sin_cos(position as u32)).collect();
        bytes.extend(angles.iter().flat_map(|(sine, _)| sine.to_le_bytes()));
        bytes.extend(angles.iter().flat_map(|(_, cosine)| cosine.to_le_bytes()));
    }
    bytes
}
