//! A step's arrays on the device. Each has one place for all steps, so that a graph may keep the addresses; they are put
//! together in pinned memory and go over in one copy. The layout of each array is in `kernels.rs`.

use super::device::Device;
use super::kernels::TILE_ROWS;
use super::memory::{DeviceMemory, Pinned};
use crate::arena::Arena;
use crate::error::{Failure, Result};
use crate::step::{Limits, Step};
use cudarc::driver::CudaStream;
use std::sync::Arc;

const WORD: usize = size_of::<i32>();
/// Words of a tile.
const TILE_WORDS: usize = 4;

/// See the module. Places count in words.
#[derive(Debug)]
pub(super) struct StepArrays {
    host: Pinned,
    device: DeviceMemory,
    max_tokens: usize,
    num_groups: usize,
    /// Tiles of each group in the step under way.
    num_tiles: Vec<usize>,
    blocks: usize,
    end: usize,
}

impl StepArrays {
    /// Where the block tables begin and end in steps of these sizes.
    fn blocks_in(limits: &Limits) -> (usize, usize) {
        let num_groups = limits.groups.len();
        let begin = limits.max_tokens * (3 + num_groups * (1 + TILE_WORDS));
        let table_len = limits.max_model_len.div_ceil(limits.block_size);
        (begin, begin + limits.max_rows * num_groups * table_len)
    }

    /// Bytes of device memory for steps of these sizes.
    pub(super) fn bytes(limits: &Limits) -> usize {
        Self::blocks_in(limits).1 * WORD
    }

    /// Takes memory for steps of these sizes.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub(super) fn take(device: &Arc<Device>, limits: &Limits) -> Result<Self> {
        let (max_tokens, num_groups) = (limits.max_tokens, limits.groups.len());
        let (blocks, end) = Self::blocks_in(limits);
        Ok(Self {
            host: Pinned::take(device, end * WORD)?,
            device: DeviceMemory::take(device, end * WORD)?,
            max_tokens,
            num_groups,
            num_tiles: vec![0; num_groups],
            blocks,
            end,
        })
    }

    pub(super) fn tokens(&self) -> u64 {
        self.device.at(0)
    }

    pub(super) fn positions(&self) -> u64 {
        self.device.at(self.max_tokens * WORD)
    }

    pub(super) fn samples(&self) -> u64 {
        self.device.at(2 * self.max_tokens * WORD)
    }

    pub(super) fn slots(&self, group: usize) -> u64 {
        self.device.at(self.slots_at(group) * WORD)
    }

    pub(super) fn tiles(&self, group: usize) -> u64 {
        self.device.at(self.tiles_at(group) * WORD)
    }

    /// Tiles of each group.
    pub(super) fn num_tiles(&self) -> &[usize] {
        &self.num_tiles
    }

    pub(super) fn blocks(&self) -> u64 {
        self.device.at(self.blocks * WORD)
    }

    fn slots_at(&self, group: usize) -> usize {
        (3 + group) * self.max_tokens
    }

    fn tiles_at(&self, group: usize) -> usize {
        (3 + self.num_groups + group * TILE_WORDS) * self.max_tokens
    }

    /// Puts a step's arrays on the device, in the order of the stream. `tile_tokens` is the most tokens of a tile, of each
    /// group. Rows of padding have token 0 at position 0, are written nowhere and attend to nothing.
    ///
    /// # Errors
    /// `internal` where the step is larger than planned; as [`Device::check`].
    pub(super) fn send(
        &mut self,
        stream: &CudaStream,
        step: &Step,
        arena: &Arena,
        tile_tokens: &[usize],
        padding: Padding,
    ) -> Result<()> {
        let (num_tokens, used) = (step.tokens.len(), self.blocks + step.blocks.len());
        if num_tokens.max(padding.rows) > self.max_tokens
            || step.samples.len() > self.max_tokens
            || used > self.end
        {
            let most = self.max_tokens;
            return Err(Failure::internal(format!(
                "step: {num_tokens} tokens and {} block-table entries are more than planned ({most} tokens)",
                step.blocks.len()
            )));
        }
        let places: Vec<(usize, usize)> =
            (0..self.num_groups).map(|group| (self.slots_at(group), self.tiles_at(group))).collect();
        let (words, _) = self.host.bytes()?.as_chunks_mut::<WORD>();
        let mut put = |at: usize, word: i32| words[at] = word.to_ne_bytes();
        for (t, (&token, &position)) in step.tokens.iter().zip(&step.positions).enumerate() {
            put(t, token);
            put(self.max_tokens + t, position as i32);
        }
        for (i, &sample) in step.samples.iter().enumerate() {
            put(2 * self.max_tokens + i, sample as i32);
        }
        for (i, &block) in step.blocks.iter().enumerate() {
            put(self.blocks + i, block);
        }
        for (group, &(slots, tiles)) in places.iter().enumerate() {
            let mut count = 0;
            for (r, row) in step.rows.iter().enumerate() {
                let table = step.table(group, r);
                for t in row.first..row.first + row.len {
                    let position = step.positions[t] as usize;
                    let slot = table[position / arena.block_size] as usize * arena.block_size
                        + position % arena.block_size;
                    put(slots + t, slot as i32);
                }
                let table_start = step.table_start(group, r) as i32;
                for first in (0..row.len).step_by(tile_tokens[group]) {
                    let len = tile_tokens[group].min(row.len - first);
                    let tile = [row.first + first, len, row.start + first].map(|word| word as i32);
                    for (i, word) in tile.into_iter().chain([table_start]).enumerate() {
                        put(tiles + count * TILE_WORDS + i, word);
                    }
                    count += 1;
                }
            }
            for t in num_tokens..padding.rows {
                put(slots + t, -1);
                (0..TILE_WORDS).for_each(|i| put(tiles + t * TILE_WORDS + i, 0));
            }
            self.num_tiles[group] = count;
        }
        for t in num_tokens..padding.rows {
            for array in [0, 1, 2] {
                put(array * self.max_tokens + t, 0);
            }
        }
        self.host.send(stream, &self.device, used * WORD)
    }
}

/// To how many rows a step in which each sequence has one token is filled up; 0 = it is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Padding {
    pub(super) rows: usize,
}

/// Most tokens of a tile where so many query heads share a KV head.
pub(super) fn tile_tokens(heads_each: usize) -> usize {
    (TILE_ROWS as usize / heads_each.max(1)).max(1)
}
