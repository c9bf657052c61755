//! Where the cpu backend keeps keys and values. A page is `[layer of the group][head][run]`: a run is 16 tokens of one head,
//! its keys and then its values, so that what is read together lies together.

use crate::arena::{Arena, KvGroup};
use crate::error::{Failure, Result};
use crate::ops::store_kv::KvPlace;
use crate::simd::WIDE;

/// Tokens of a run, one for each lane of keys; a block has a multiple of it.
pub const RUN: usize = WIDE;
/// Widest head.
pub const MOST_HEAD_DIM: usize = 256;
/// A page is an odd number of these: blocks at any regular distance then spread over all sets of a cache.
const LINE: usize = 64;

/// How an element of KV is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvDType {
    /// IEEE halves. A run is keys `[dim][16 tokens]`, then values `[token][padded dim]`.
    F16,
    /// bfloat16 in pairs. A run is keys `[pair of dims][16 tokens][2]`, then values `[pair of tokens][padded dim][2]`.
    BF16,
    /// 16-bit integers, and an f32 scale for each token. A run is as one of [`Self::BF16`], the scales behind the keys and behind the
    /// values.
    Q16,
    /// Bytes, and an f32 scale for each token. A run is keys plus 128 `[four dims][16 tokens][4]` and their scales, then values
    /// `[pair of tokens][padded dim][2]`, signed, and theirs.
    Q8,
}

/// Bytes from the start of a run to its parts; keys are first.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// Whether there are scales, `[16 tokens]` of keys and of values.
    pub scales: bool,
    /// Scales of keys.
    pub key_scales: usize,
    /// Values.
    pub values: usize,
    /// Scales of values.
    pub value_scales: usize,
    /// The end.
    pub end: usize,
}

impl KvDType {
    /// All, the one that `auto` means first: the fastest whose divergence from the fp32 reference is no more than 1.05 times
    /// llama.cpp's (`tests/measure/kl-divergence.ts`).
    pub const ALL: [Self; 4] = [Self::Q16, Self::F16, Self::BF16, Self::Q8];

    /// The name that `--kv-cache-dtype` knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Q16 => "q16",
            Self::Q8 => "q8",
        }
    }

    /// `auto` or a name.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        if name == "auto" { all.next() } else { all.find(|dtype| dtype.name() == name) }
    }

    /// Where the parts of a run of one head are: at multiples of 64.
    #[inline]
    pub fn parts(self, head_dim: usize) -> Parts {
        let scales = matches!(self, Self::Q16 | Self::Q8);
        let element = if self == Self::Q8 { size_of::<u8>() } else { size_of::<u16>() };
        let scale_bytes = if scales { RUN * size_of::<f32>() } else { 0 };
        let key_scales = RUN * head_dim * element;
        let values = key_scales + scale_bytes;
        let value_scales = values + RUN * padded(head_dim) * element;
        Parts { scales, key_scales, values, value_scales, end: value_scales + scale_bytes }
    }

    /// Bytes of a page: the largest group's need, padded.
    ///
    /// # Errors
    /// `out_of_memory` when the number itself is beyond memory.
    pub fn page_bytes(self, groups: &[KvGroup], block_size: usize) -> Result<usize> {
        let need = |group: &KvGroup| {
            [group.layers as usize, group.num_kv_heads as usize, block_size / RUN]
                .iter()
                .try_fold(self.parts(group.head_dim as usize).end, |bytes, &n| bytes.checked_mul(n))
                .filter(|&bytes| bytes <= isize::MAX as usize / 2)
                .ok_or_else(|| {
                    Failure::out_of_memory(format!("a KV block of {group:?} is more than memory holds"))
                })
        };
        let most = groups.iter().map(need).try_fold(0, |most, bytes| bytes.map(|bytes| most.max(bytes)))?;
        Ok(((most / LINE) | 1) * LINE)
    }

    /// Bytes of a layer of a block; they lie together.
    pub fn layer_bytes(self, arena: &Arena, place: &KvPlace) -> usize {
        place.num_kv_heads * (arena.block_size / RUN) * self.parts(place.head_dim).end
    }

    /// Place in the pages of a run of a head; `run` counts inside the block.
    pub fn run(self, arena: &Arena, place: &KvPlace, block: usize, head: usize, run: usize) -> usize {
        debug_assert!(block < arena.pages.num_pages() && head < place.num_kv_heads);
        let runs = arena.block_size / RUN;
        let index = (place.layer * place.num_kv_heads + head) * runs + run;
        block * arena.pages.page_bytes() + index * self.parts(place.head_dim).end
    }
}

/// Columns of a row of values: whole vectors.
pub fn padded(dim: usize) -> usize {
    dim.next_multiple_of(RUN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::Pages;
    use crate::testing::full_group;

    #[test]
    fn runs_of_a_page_do_not_overlap_and_pages_are_an_odd_number_of_lines() {
        for dtype in KvDType::ALL {
            for (dim, block_size) in [(64, 16), (8, 32), (72, 48)] {
                let groups = vec![full_group(2, 3, dim), full_group(1, 1, 8)];
                let page_bytes = dtype.page_bytes(&groups, block_size).unwrap();
                assert_eq!(page_bytes % 128, 64);
                let pages = Pages::map(page_bytes, 2).unwrap();
                let arena = Arena { pages, block_size, element_bytes: 2, groups };
                let dim = dim as usize;
                let place = |layer| KvPlace { group: 0, layer, num_heads: 3, num_kv_heads: 3, head_dim: dim };
                let all = (0..2).flat_map(|block| (0..2).map(move |layer| (block, layer)));
                let mut next = 0;
                for (block, layer) in all {
                    for (head, run) in (0..3).flat_map(|h| (0..block_size / RUN).map(move |r| (h, r))) {
                        let at = dtype.run(&arena, &place(layer), block, head, run);
                        assert!(at >= next && at % 64 == 0, "{dtype:?} {block} {layer} {head} {run}");
                        next = at + dtype.parts(dim).end;
                        assert!(next <= (block + 1) * page_bytes);
                    }
                }
            }
        }
    }

    #[test]
    fn auto_is_a_type_that_has_a_name() {
        assert_eq!(KvDType::named("auto"), Some(KvDType::ALL[0]));
        for dtype in KvDType::ALL {
            assert_eq!(KvDType::named(dtype.name()), Some(dtype));
        }
        assert_eq!(KvDType::named("f64"), None);
    }
}
