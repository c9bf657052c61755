//! The KV block arena: where each slot lies. A page holds one block's KV for the layers of one group, and all pages have
//! one size, so that a transfer is one copy a page and block ids are global across groups.
//! Order inside a page: `[layer of the group][K|V][head][tile]`; a tile holds `block_size * head_dim` elements of one head
//! in the backend's own order (the reference: `[token][dim]`). The cpu backend has an order of its own for all of it:
//! `ops/attention/cpu/layout.rs`.

use crate::error::{Failure, Result};
use crate::pages::Pages;

/// How much of a sequence a group's layers look back on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "napi", napi_derive::napi(string_enum = "lowercase"))]
pub enum GroupKind {
    /// All positions before.
    Full,
    /// The last [`KvGroup::window`] positions.
    Window,
    /// A running state: entry i of a table holds the state after the last computed token of block i. A token at
    /// position p reads entry p / blockSize, or at a block's first position the entry before, and writes p / blockSize.
    State,
}

/// Shape of the KV of one group of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "napi", napi_derive::napi(object))]
pub struct KvGroup {
    /// Layers whose KV share a page.
    pub layers: u32,
    /// KV heads of each layer.
    pub num_kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// How far back its layers look.
    pub kind: GroupKind,
    /// Positions that a token sees, its own included; 0 unless the kind is `window`.
    pub window: u32,
}

/// The pages on a device.
#[derive(Clone, Debug)]
pub struct Arena {
    /// One for each block, the null block (0) included; their size is a multiple of 64.
    pub pages: Pages,
    /// Tokens of a block.
    pub block_size: usize,
    /// Bytes of one element.
    pub element_bytes: usize,
    /// Groups, in the order of the block tables.
    pub groups: Vec<KvGroup>,
}

/// K or V.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrValue {
    /// Keys.
    Key,
    /// Values.
    Value,
}

impl Arena {
    /// Bytes of a page for these groups: the largest group's need, rounded up to 64.
    ///
    /// # Errors
    /// `out_of_memory` when the number itself is beyond memory.
    pub fn page_bytes_for(groups: &[KvGroup], block_size: usize, element_bytes: usize) -> Result<usize> {
        let need = |group: &KvGroup| {
            [group.num_kv_heads as usize, group.head_dim as usize, block_size]
                .iter()
                .try_fold(2 * group.layers as usize * element_bytes, |bytes, &n| bytes.checked_mul(n))
                .filter(|&bytes| bytes <= isize::MAX as usize / 2)
                .ok_or_else(|| {
                    Failure::out_of_memory(format!("a KV block of {group:?} is more than memory holds"))
                })
        };
        let most = groups.iter().map(need).try_fold(0, |most, bytes| bytes.map(|bytes| most.max(bytes)))?;
        Ok(most.next_multiple_of(64))
    }

    /// Place in the pages of the tile of (block, layer of its group, K or V, head).
    pub fn tile(&self, group: usize, block: usize, layer: usize, which: KeyOrValue, head: usize) -> usize {
        let g = &self.groups[group];
        debug_assert!(
            block < self.pages.num_pages() && layer < g.layers as usize && head < g.num_kv_heads as usize
        );
        let tile_bytes = self.block_size * g.head_dim as usize * self.element_bytes;
        let half = usize::from(which == KeyOrValue::Value);
        block * self.pages.page_bytes() + ((layer * 2 + half) * g.num_kv_heads as usize + head) * tile_bytes
    }
}
