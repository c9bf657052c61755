//! Quantised weights as every backend's linear takes them: blocks of 32 columns, whose value is
//! `scale * (number - zero) + minimum`. Each integer and each scale of the checkpoint is kept exactly: a byte times a half
//! is an f32 to the last bit.

use half::f16;

use crate::dequant::k_scale_min;
use crate::dtype::DType;

/// Columns of a block.
pub(crate) const BLOCK: usize = 32;

/// How the blocks of a type are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantised {
    /// 4 or 8 bits a weight.
    pub(crate) bits: usize,
    /// What is taken off a stored 4-bit number: 0 or 8.
    pub(crate) zero: i32,
    /// Has a minimum.
    pub(crate) minimum: bool,
    /// Scales and minima are f32, else f16.
    pub(crate) wide: bool,
    /// A scale each 16 columns.
    pub(crate) halves: bool,
}

impl Quantised {
    /// The form of a checkpoint type; `None` for floats.
    pub(crate) fn of(dtype: DType) -> Option<Self> {
        let plain = Self { bits: 8, zero: 0, minimum: false, wide: false, halves: false };
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => None,
            DType::Q4_0 => Some(Self { bits: 4, zero: 8, ..plain }),
            DType::Q4_1 => Some(Self { bits: 4, minimum: true, ..plain }),
            DType::Q5_0 | DType::Q8_0 => Some(plain),
            DType::Q5_1 => Some(Self { minimum: true, ..plain }),
            DType::Q4_K => Some(Self { bits: 4, minimum: true, wide: true, ..plain }),
            DType::Q5_K => Some(Self { minimum: true, wide: true, ..plain }),
            DType::Q6_K => Some(Self { wide: true, halves: true, ..plain }),
        }
    }
}

/// 32 columns of a row: stored numbers, one scale for each 16 columns, the minimum.
pub(crate) struct Block {
    pub(crate) numbers: [i8; BLOCK],
    pub(crate) scales: [f32; 2],
    pub(crate) minimum: f32,
}

fn multiplied(numbers: [i8; BLOCK], factors: &Factors) -> Block {
    let scales = factors.scales.map(|scale| factors.of_scales.to_f32() * f32::from(scale));
    Block { numbers, scales, minimum: factors.of_minimum.to_f32() * f32::from(factors.minimum) }
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Number `i` of a block whose first 16 elements are the low nibbles and the others the high ones.
fn nibble(packed: &[u8], i: usize) -> i8 {
    (if i < 16 { packed[i] & 15 } else { packed[i - 16] >> 4 }) as i8
}

/// As [`nibble`], with bit `i` of the four bytes before as the fifth bit.
fn five_bits(high: &[u8], packed: &[u8], i: usize) -> i8 {
    nibble(packed, i) | (((high[i / 8] >> (i % 8)) & 1) << 4) as i8
}

/// What the scales and the minimum of a block are made of in types with super-blocks: bytes times a half of the super-block.
pub(crate) struct Factors {
    /// One for each 16 columns.
    pub(crate) scales: [i8; 2],
    pub(crate) minimum: i8,
    pub(crate) of_scales: f16,
    /// Already negative: what the checkpoint takes off is added here.
    pub(crate) of_minimum: f16,
}

/// [`Factors`] of block `index` of a row of a type with super-blocks.
pub(crate) fn factors(dtype: DType, row: &[u8], index: usize) -> Factors {
    let of_super = dtype.block_len() / BLOCK;
    let bytes = &row[index / of_super * dtype.block_bytes()..][..dtype.block_bytes()];
    let part = index % of_super;
    let half = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]);
    if dtype == DType::Q6_K {
        let scales = [0, 1].map(|half| bytes[192 + part * 2 + half] as i8);
        return Factors { scales, minimum: 0, of_scales: half(208), of_minimum: f16::ZERO };
    }
    let (scale, minimum) = k_scale_min(&bytes[4..16], part);
    Factors { scales: [scale as i8; 2], minimum: minimum as i8, of_scales: half(0), of_minimum: -half(2) }
}

/// Block `index` of a row (ggml `dequantize_row_*` in `ggml-quants.c` is the source of the layouts).
pub(crate) fn read(dtype: DType, row: &[u8], index: usize) -> Block {
    let of_super = dtype.block_len() / BLOCK;
    let bytes = &row[index / of_super * dtype.block_bytes()..][..dtype.block_bytes()];
    let part = index % of_super;
    let all = |f: &dyn Fn(usize) -> i8| std::array::from_fn::<i8, BLOCK, _>(f);
    match dtype {
        DType::Q4_0 => {
            Block { numbers: all(&|i| nibble(&bytes[2..], i)), scales: [half_at(bytes, 0); 2], minimum: 0.0 }
        }
        DType::Q4_1 => Block {
            numbers: all(&|i| nibble(&bytes[4..], i)),
            scales: [half_at(bytes, 0); 2],
            minimum: half_at(bytes, 2),
        },
        DType::Q5_0 => Block {
            numbers: all(&|i| five_bits(&bytes[2..], &bytes[6..], i) - 16),
            scales: [half_at(bytes, 0); 2],
            minimum: 0.0,
        },
        DType::Q5_1 => Block {
            numbers: all(&|i| five_bits(&bytes[4..], &bytes[8..], i)),
            scales: [half_at(bytes, 0); 2],
            minimum: half_at(bytes, 2),
        },
        DType::Q8_0 => {
            Block { numbers: all(&|i| bytes[2 + i] as i8), scales: [half_at(bytes, 0); 2], minimum: 0.0 }
        }
        DType::Q4_K | DType::Q5_K => {
            let five = dtype == DType::Q5_K;
            let low = &bytes[if five { 48 } else { 16 } + part / 2 * 32..];
            let number = |i: usize| {
                let four = if part.is_multiple_of(2) { low[i] & 15 } else { low[i] >> 4 };
                let fifth = if five { (bytes[16 + i] >> part & 1) << 4 } else { 0 };
                (four | fifth) as i8
            };
            multiplied(all(&number), &factors(dtype, row, index))
        }
        DType::Q6_K => {
            let (upper, quarter) = (part / 4, part % 4);
            let number = |i: usize| {
                let low = bytes[upper * 64 + quarter % 2 * 32 + i];
                let four = if quarter < 2 { low & 15 } else { low >> 4 };
                let two = bytes[128 + upper * 32 + i] >> (2 * quarter) & 3;
                (four | two << 4) as i8 - 32
            };
            multiplied(all(&number), &factors(dtype, row, index))
        }
        DType::F32 | DType::F16 | DType::BF16 => unreachable!("{dtype:?} has no blocks"),
    }
}
