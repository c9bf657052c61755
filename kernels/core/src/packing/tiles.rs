//! Where the vectors of a page lie. A page of a group is units of one shape, a unit is tiles, a tile is vectors of some tokens
//! of one head. The orders are those of `ops/attention/cpu/layout.rs` and of the CUDA backend (`backend/cuda/kernels.rs`).

use super::{LANES, NUMBER, SCALE};
use crate::ops::attention::cpu::layout::{KvDType, RUN, padded};
use half::bf16;
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::ops::Range;

/// How a number is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F16,
    BF16,
    /// An integer of 16 bits, to be multiplied by its token's scale.
    Short,
}

/// The order of a tile's numbers; `side` of them lie side by side in a word.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// `[dims / side][16 tokens][side dims]`.
    Columns { side: usize },
    /// `[tokens / side][columns][side tokens]`, of which as many columns count as a head has.
    Rows { side: usize, columns: usize },
}

/// Vectors of some tokens of one head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    pub(super) element: Element,
    order: Order,
    pub(super) tokens: usize,
    dim: usize,
    /// Bytes from the start of the unit to the numbers.
    pub(super) at: usize,
    /// And to the scales of its tokens, if there are.
    pub(super) scales_at: Option<usize>,
}

/// What repeats in a page of a group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) units: usize,
    pub(super) unit_bytes: usize,
    pub(super) tiles: Vec<Tile>,
}

/// Numbers that follow each other, in whose every [`LANES`] the tokens repeat.
#[derive(Clone, Debug)]
pub(super) struct Stripe {
    pub(super) numbers: Range<usize>,
    pub(super) integers: Range<usize>,
    /// Of each lane.
    pub(super) tokens: [u16; LANES],
}

/// `LxHxD` of a group, as [`crate::program::ProgramInfo::page_layout`] writes it.
struct Shape {
    layers: usize,
    heads: usize,
    dim: usize,
}

impl Shape {
    fn of(group: &str) -> Option<Self> {
        let mut numbers = group.rsplit(':').next()?.split('x').map(|number| number.parse().ok());
        let shape = Self { layers: numbers.next()??, heads: numbers.next()??, dim: numbers.next()?? };
        numbers.next().is_none().then_some(shape)
    }
}

impl Group {
    /// The groups of a layout; `None` where its numbers have not 16 bits or it cannot be read.
    pub(super) fn all_of(layout: &str) -> Option<Vec<Self>> {
        let mut words = layout.split(' ');
        let (kv, block_size) = (words.next()?, words.next()?.parse::<usize>().ok()?);
        let shapes = words.map(Shape::of).collect::<Option<Vec<_>>>()?;
        let of = |shape: &Shape| match kv {
            "cpu/f16" => Some(Self::of_runs(KvDType::F16, shape, block_size)),
            "cpu/bf16" => Some(Self::of_runs(KvDType::BF16, shape, block_size)),
            "cpu/q16" => Some(Self::of_runs(KvDType::Q16, shape, block_size)),
            "cuda/f16" => Some(Self::of_heads(shape, block_size)),
            _ => None,
        };
        shapes.iter().map(of).collect()
    }

    /// The cpu backend's runs of 16 tokens, keys and values.
    fn of_runs(dtype: KvDType, &Shape { layers, heads, dim }: &Shape, block_size: usize) -> Self {
        let parts = dtype.parts(dim);
        let (element, side) = match dtype {
            KvDType::F16 => (Element::F16, 1),
            KvDType::BF16 => (Element::BF16, 2),
            KvDType::Q16 | KvDType::Q8 => (Element::Short, 2),
        };
        let scales_at = |at: usize| parts.scales.then_some(at);
        let tile = |order, at, scales_at| Tile { element, order, tokens: RUN, dim, at, scales_at };
        let keys = tile(Order::Columns { side }, 0, scales_at(parts.key_scales));
        let rows = Order::Rows { side, columns: padded(dim) };
        let values = tile(rows, parts.values, scales_at(parts.value_scales));
        let units = layers * heads * (block_size / RUN);
        Self { units, unit_bytes: parts.end, tiles: vec![keys, values] }
    }

    /// The CUDA backend's heads, keys and values alike.
    fn of_heads(&Shape { layers, heads, dim }: &Shape, block_size: usize) -> Self {
        let order = Order::Rows { side: 1, columns: dim };
        let tile = Tile { element: Element::F16, order, tokens: block_size, dim, at: 0, scales_at: None };
        Self { units: 2 * layers * heads, unit_bytes: block_size * dim * NUMBER, tiles: vec![tile] }
    }

    /// Bytes of a page that are units.
    pub(super) fn bytes(&self) -> usize {
        self.units * self.unit_bytes
    }

    pub(super) fn packed_unit_bytes(&self) -> usize {
        self.tiles.iter().map(Tile::packed_bytes).sum()
    }

    pub(super) fn packed_bytes(&self) -> usize {
        self.units * self.packed_unit_bytes()
    }
}

impl Tile {
    pub(super) fn packed_bytes(&self) -> usize {
        self.tokens * (SCALE + self.dim)
    }

    /// All its numbers.
    pub(super) fn stripes(&self) -> impl Iterator<Item = Stripe> {
        let Self { order, tokens, dim, .. } = *self;
        let count = match order {
            Order::Columns { .. } => 1,
            Order::Rows { side, .. } => tokens / side,
        };
        (0..count).map(move |i| match order {
            Order::Columns { side } => Stripe {
                numbers: 0..tokens * dim,
                integers: 0..tokens * dim,
                tokens: std::array::from_fn(|lane| (lane / side % tokens) as u16),
            },
            Order::Rows { side, columns } => Stripe {
                numbers: i * side * columns..i * side * columns + side * dim,
                integers: i * side * dim..(i + 1) * side * dim,
                tokens: std::array::from_fn(|lane| (i * side + lane % side) as u16),
            },
        })
    }
}

impl Element {
    /// Up to [`LANES`] numbers, and zeros.
    #[inline]
    pub(super) fn numbers(self, from: &[u8]) -> [f32; LANES] {
        let mut bits = [0; LANES];
        for (bits, from) in bits.iter_mut().zip(from.as_chunks::<NUMBER>().0) {
            *bits = u16::from_le_bytes(*from);
        }
        match self {
            Self::F16 => {
                let mut numbers = [0.0; LANES];
                bits.map(f16::from_bits).convert_to_f32_slice(&mut numbers);
                numbers
            }
            Self::BF16 => bits.map(|bits| bf16::from_bits(bits).to_f32()),
            Self::Short => bits.map(|bits| f32::from(bits as i16)),
        }
    }

    /// Writes as many numbers as there is room for: integers times their scales. Shorts leave their scale to the unit.
    #[inline]
    pub(super) fn put(self, integers: &[i8; LANES], scales: &[f32; LANES], to: &mut [u8]) {
        let numbers = || std::array::from_fn::<f32, LANES, _>(|i| f32::from(integers[i]) * scales[i]);
        let bits = match self {
            Self::F16 => {
                let mut halves = [f16::ZERO; LANES];
                halves.convert_from_f32_slice(&numbers());
                halves.map(f16::to_bits)
            }
            Self::BF16 => {
                let mut halves = [bf16::ZERO; LANES];
                halves.convert_from_f32_slice(&numbers());
                halves.map(bf16::to_bits)
            }
            Self::Short => integers.map(|integer| i16::from(integer) as u16),
        };
        for (to, bits) in to.as_chunks_mut::<NUMBER>().0.iter_mut().zip(bits) {
            *to = bits.to_le_bytes();
        }
    }
}
