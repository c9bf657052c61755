//! How a weight matrix is kept for the kernels: *panels* of rows, lane = row, so that a kernel needs no sum across lanes
//! and reads one stream of bytes from start to end.
//!
//! Panel = `2 * lanes` rows. Quantised formats go in blocks of 32 columns:
//!
//! ```text
//! 4 bit   for i in 0..4, half in 0..2, lane: 4 bytes; byte j = column 8i+j (low nibble), column 8i+4+j (high nibble)
//! 8 bit   for i in 0..8, half in 0..2, lane: 4 bytes; byte j = column 4i+j
//! then    scale of each row (two for formats with a scale each 16 columns: all rows' first, all rows' second),
//!         then the minimum of each row, for formats that have one
//! ```
//!
//! The value of a weight is `scale * (stored - zero) + minimum`. Float formats keep `[column][row of the panel]`.

use crate::dtype::DType;
pub(super) use crate::ops::linear::blocks::{BLOCK, Quantised};

/// What a panel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Integers with scales; activations become integers too.
    Quantised(Quantised),
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
}

impl Format {
    /// The panels of a checkpoint type.
    pub(super) fn of(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Self::F32,
            DType::F16 => Self::F16,
            DType::BF16 => Self::BF16,
            _ => Quantised::of(dtype).map_or(Self::F32, Self::Quantised),
        }
    }

    /// Bytes of a panel of `rows` rows and `cols` columns.
    pub(super) fn panel_bytes(self, rows: usize, cols: usize) -> usize {
        match self {
            Self::Quantised(q) => q.block_bytes(rows) * cols.div_ceil(BLOCK),
            Self::F32 => rows * cols * 4,
            Self::F16 | Self::BF16 => rows * cols * 2,
        }
    }
}

impl Quantised {
    /// Bytes of the numbers of a block of `rows` rows.
    pub(super) const fn number_bytes(self, rows: usize) -> usize {
        rows * BLOCK * self.bits / 8
    }

    /// Bytes of a block of `rows` rows.
    pub(super) const fn block_bytes(self, rows: usize) -> usize {
        let scales = 1 + self.minimum as usize + self.halves as usize;
        self.number_bytes(rows) + rows * scales * if self.wide { 4 } else { 2 }
    }
}
