//! Keys and values of a step's tokens into their KV slots.

pub mod cpu;

use crate::arena::{Arena, KeyOrValue};
use crate::pages::PagesView;
use crate::step::Step;

/// Which KV an op means; fields as in [`crate::op::Op::StoreKv`] and [`crate::op::Op::Attention`].
#[derive(Clone, Copy, Debug)]
pub struct KvPlace {
    /// Group of the layer.
    pub group: usize,
    /// Layer inside the group.
    pub layer: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key heads, and as many value heads.
    pub num_kv_heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
}

impl KvPlace {
    /// Columns of a `qkv` row.
    pub fn width(&self) -> usize {
        (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
    }
}

/// Copies K and V of each row of `qkv` to the token's slot; a tile is f32 `[token][dim]`.
pub fn reference(qkv: &[f32], place: &KvPlace, step: &Step, arena: &Arena, kv: &mut PagesView<'_>) {
    let dim = place.head_dim;
    for (t, row) in qkv.chunks_exact(place.width()).enumerate() {
        let position = step.positions[t] as usize;
        let table = step.table(place.group, step.row_of_token[t] as usize);
        let block = table[position / arena.block_size] as usize;
        for (which, first) in
            [(KeyOrValue::Key, place.num_heads), (KeyOrValue::Value, place.num_heads + place.num_kv_heads)]
        {
            for head in 0..place.num_kv_heads {
                let tile = arena.tile(place.group, block, place.layer, which, head);
                let to = tile + position % arena.block_size * dim * size_of::<f32>();
                let from = (first + head) * dim;
                kv.write(to, dim).copy_from_slice(&row[from..from + dim]);
            }
        }
    }
}
