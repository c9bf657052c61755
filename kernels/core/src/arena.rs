//! The KV block arena: where each slot lies. A page holds one block's KV for the layers of one group, and all pages have
//! one size, so that a transfer is one copy a page and block ids are global across groups.
//! Order inside a page: `[layer of the group][K|V][head][tile]`; a tile holds `block_size * head_dim` elements of one head
//! in the backend's own order (the reference: `[token][dim]`).

use crate::backend::BufferId;

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
    /// Memory of all pages.
    pub buffer: BufferId,
    /// Bytes of one page, a multiple of 64.
    pub page_bytes: usize,
    /// Tokens of a block.
    pub block_size: usize,
    /// Pages, the null block (0) included.
    pub num_blocks: usize,
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
    pub fn page_bytes_for(groups: &[KvGroup], block_size: usize, element_bytes: usize) -> usize {
        let most = groups
            .iter()
            .map(|g| g.layers as usize * 2 * g.num_kv_heads as usize * g.head_dim as usize)
            .max()
            .unwrap_or(0);
        (most * block_size * element_bytes).next_multiple_of(64)
    }

    /// Offset in the buffer of the tile of (block, layer of its group, K or V, head).
    pub fn tile(&self, group: usize, block: usize, layer: usize, which: KeyOrValue, head: usize) -> usize {
        let g = &self.groups[group];
        debug_assert!(block < self.num_blocks && layer < g.layers as usize && head < g.num_kv_heads as usize);
        let tile_bytes = self.block_size * g.head_dim as usize * self.element_bytes;
        let half = usize::from(which == KeyOrValue::Value);
        block * self.page_bytes + ((layer * 2 + half) * g.num_kv_heads as usize + head) * tile_bytes
    }
}
