//! How a weight matrix is kept for the kernels: *panels* of rows, lane = row, so that a kernel needs no sum across lanes
//! and reads one stream of bytes from start to end, of as many as the checkpoint has.
//!
//! Panel = `2 * lanes` rows. Quantised formats go in blocks of 32 columns:
//!
//! ```text
//! 4 bit   for i in 0..4, half in 0..2, lane: 4 bytes; byte j = column 8i+j (low nibble), column 8i+4+j (high nibble)
//! 6 bit   for part in 0..2, i in 0..3, half in 0..2, lane: 4 bytes; byte j = column 16p+4i+j (low six bits) and bits
//!         2i and 2i+1 of column 16p+12+j
//! 8 bit   for i in 0..8, half in 0..2, lane: 4 bytes; byte j = column 4i+j
//! then    scale of each row (two for formats with a scale each 16 columns: all rows' first, all rows' second),
//!         then the minimum of each row, for formats that have one
//! ```
//!
//! Scales and minima are f16. Types with super-blocks of 256 columns have bytes instead, and before the first block, for each
//! super-block, the f16 of each row that its scales are times, then those of its minima. So blocks are all equally far from
//! each other, which is what processors expect of those who read in turn.
//!
//! The value of a weight is `scale * (stored - zero) + minimum`. Float formats keep `[column][row of the panel]`.

use super::activations::{HALVES_ZERO_UNIT, ZERO_UNIT};
use crate::dtype::DType;
pub(super) use crate::ops::linear::blocks::BLOCK;

/// Columns of a super-block.
pub(super) const SUPER: usize = 256;

/// What a panel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Integers with scales, as this one of [`PACKINGS`] says; activations become integers too.
    Quantised(usize),
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
}

impl Format {
    fn packing(self) -> Option<Packing> {
        match self {
            Self::Quantised(at) => Some(PACKINGS[at]),
            Self::F32 | Self::F16 | Self::BF16 => None,
        }
    }

    /// What has super-blocks.
    pub(super) fn with_supers(self) -> Option<Packing> {
        self.packing().filter(|packing| packing.by_super)
    }

    /// Whether kernels multiply integers; only those ask for anything.
    pub(super) fn is_quantised(self) -> bool {
        self.packing().is_some()
    }

    /// Whether groups of so many rows ask for the next panel.
    pub(super) fn asks(self, rows: usize) -> bool {
        self.packing().is_some_and(|packing| rows >= packing.asks_from)
    }

    /// [`Packing::near`].
    pub(super) fn near(self) -> Option<usize> {
        self.packing()?.near
    }

    /// The panels of a checkpoint type.
    pub(super) fn of(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Self::F32,
            DType::F16 => Self::F16,
            DType::BF16 => Self::BF16,
            _ => Self::Quantised(PACKINGS.iter().position(|p| p.dtype == dtype).unwrap_or_default()),
        }
    }

    /// Bytes of a panel of `rows` rows and `cols` columns.
    pub(super) fn panel_bytes(self, rows: usize, cols: usize) -> usize {
        match self {
            Self::Quantised(at) => {
                PACKINGS[at].head_bytes(rows, cols) + PACKINGS[at].block_bytes(rows) * (cols / BLOCK)
            }
            Self::F32 => rows * cols * 4,
            Self::F16 | Self::BF16 => rows * cols * 2,
        }
    }
}

/// How the blocks of a quantised type are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing {
    pub(super) dtype: DType,
    /// 4, 6 or 8 bits a weight.
    pub(super) bits: usize,
    /// What is taken off a stored number: a multiple of [`ZERO_UNIT`], with halves of [`HALVES_ZERO_UNIT`].
    pub(super) zero: i32,
    /// Has a minimum.
    pub(super) minimum: bool,
    /// A scale each 16 columns.
    pub(super) halves: bool,
    /// Has super-blocks.
    pub(super) by_super: bool,
    /// Rows of a group from which a panel takes longer to compute with than to read, so that asking for the next one pays. With
    /// fewer the processor's own guesses read faster, by up to a third (measured on Zen 4).
    pub(super) asks_from: usize,
    /// Bytes by which one row asks ahead of where it reads, where that reads faster than the processor's own guesses: by 5 to 15 %
    /// with 4 and 6 bits, but 8 % slower with 8. Distances of whole pages of 4 KiB bring less (measured on Zen 4). An instruction set
    /// may have its own, see [`super::isa::near`].
    pub(super) near: Option<usize>,
}

/// See [`Packing::near`].
const PAGE_AND_HALF: usize = 6144;

const PLAIN: Packing = Packing {
    dtype: DType::Q8_0,
    bits: 8,
    zero: 0,
    minimum: false,
    halves: false,
    by_super: false,
    asks_from: 5,
    near: None,
};
const FOUR: Packing =
    Packing { dtype: DType::Q4_1, bits: 4, minimum: true, asks_from: 3, near: Some(PAGE_AND_HALF), ..PLAIN };
const FIVE: Packing = Packing { dtype: DType::Q5_1, bits: 6, ..FOUR };
const SIX: Packing = Packing {
    dtype: DType::Q6_K,
    zero: 32,
    minimum: false,
    halves: true,
    by_super: true,
    asks_from: 2,
    ..FIVE
};

/// Every quantised type. Kernels take its place here as a constant.
pub(super) const PACKINGS: [Packing; 8] = [
    Packing { dtype: DType::Q4_0, zero: 8, minimum: false, ..FOUR },
    FOUR,
    Packing { dtype: DType::Q4_K, by_super: true, asks_from: 2, ..FOUR },
    Packing { dtype: DType::Q5_0, zero: 16, minimum: false, ..FIVE },
    FIVE,
    Packing { dtype: DType::Q5_K, by_super: true, asks_from: 2, ..FIVE },
    SIX,
    PLAIN,
];

impl Packing {
    /// Bytes of the numbers of a block of `rows` rows.
    pub(super) const fn number_bytes(self, rows: usize) -> usize {
        rows * BLOCK * self.bits / 8
    }

    /// Parts of a block that have a scale each.
    pub(super) const fn parts(self) -> usize {
        1 + self.halves as usize
    }

    /// Scales and minima of a block of a row.
    pub(super) const fn factors(self) -> usize {
        self.parts() + self.minimum as usize
    }

    /// Bytes of a block of `rows` rows.
    pub(super) const fn block_bytes(self, rows: usize) -> usize {
        self.number_bytes(rows) + rows * self.factors() * if self.by_super { 1 } else { 2 }
    }

    /// Bytes of the halves of a super-block of `rows` rows.
    pub(super) const fn half_bytes(self, rows: usize) -> usize {
        rows * (1 + self.minimum as usize) * 2
    }

    /// Bytes before the first block of a panel of `rows` rows and `cols` columns.
    pub(super) const fn head_bytes(self, rows: usize, cols: usize) -> usize {
        if self.by_super { self.half_bytes(rows) * (cols / SUPER) } else { 0 }
    }

    /// Which of the scales of activations is the start of a part's product of stored numbers, and what it is times.
    pub(super) const fn start(self, part: usize) -> (usize, i32) {
        if self.halves { (3 + part, self.zero / HALVES_ZERO_UNIT) } else { (2, self.zero / ZERO_UNIT) }
    }
}
