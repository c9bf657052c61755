//! Checkpoint rows → panels. Every integer and every scale is kept exactly.

use half::f16;

use super::format::{BLOCK, Format, Quantised};
use crate::dtype::DType;

/// 32 columns of a row: stored numbers, one scale for each 16 columns, the minimum.
struct Block {
    numbers: [i8; BLOCK],
    scales: [f32; 2],
    minimum: f32,
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

/// Six-bit scale and minimum of sub-block `j` of a `Q4_K` or `Q5_K` super-block.
fn scale_and_minimum(scales: &[u8], j: usize) -> (f32, f32) {
    let (scale, minimum) = if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        ((scales[j + 4] & 15) | ((scales[j - 4] >> 6) << 4), (scales[j + 4] >> 4) | ((scales[j] >> 6) << 4))
    };
    (f32::from(scale), f32::from(minimum))
}

/// Block `index` of a row (ggml `dequantize_row_*` in `ggml-quants.c` is the source of the layouts).
fn read(dtype: DType, row: &[u8], index: usize) -> Block {
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
            let (scale, minimum) = scale_and_minimum(&bytes[4..16], part);
            let five = dtype == DType::Q5_K;
            let low = &bytes[if five { 48 } else { 16 } + part / 2 * 32..];
            let number = |i: usize| {
                let four = if part.is_multiple_of(2) { low[i] & 15 } else { low[i] >> 4 };
                let fifth = if five { (bytes[16 + i] >> part & 1) << 4 } else { 0 };
                (four | fifth) as i8
            };
            Block {
                numbers: all(&number),
                scales: [half_at(bytes, 0) * scale; 2],
                minimum: -(half_at(bytes, 2) * minimum),
            }
        }
        DType::Q6_K => {
            let (upper, quarter) = (part / 4, part % 4);
            let number = |i: usize| {
                let low = bytes[upper * 64 + quarter % 2 * 32 + i];
                let four = if quarter < 2 { low & 15 } else { low >> 4 };
                let two = bytes[128 + upper * 32 + i] >> (2 * quarter) & 3;
                (four | two << 4) as i8 - 32
            };
            let scale = |half: usize| {
                half_at(bytes, 208) * f32::from(bytes[192 + upper * 8 + quarter * 2 + half] as i8)
            };
            Block { numbers: all(&number), scales: [scale(0), scale(1)], minimum: 0.0 }
        }
        DType::F32 | DType::F16 | DType::BF16 => unreachable!("{dtype:?} has no blocks"),
    }
}

/// Fills the zeroed `panel` with rows of the checkpoint; `rows` yields at most `2 * lanes` rows, missing ones stay zero.
/// `bias` is added (exclusive or) to each 8-bit number: 0, or 0x80 for instruction sets whose weights are unsigned.
pub(super) fn pack_panel<'a>(
    dtype: DType,
    rows: impl Iterator<Item = &'a [u8]>,
    cols: usize,
    lanes: usize,
    bias: u8,
    panel: &mut [u8],
) {
    let height = 2 * lanes;
    match Format::of(dtype) {
        Format::Quantised(format) => {
            if bias != 0 && format.bits == 8 {
                for block in panel.chunks_exact_mut(format.block_bytes(height)) {
                    block[..format.number_bytes(height)].fill(bias); // missing rows hold zeros too
                }
            }
            for (r, row) in rows.enumerate() {
                for (index, block) in panel.chunks_exact_mut(format.block_bytes(height)).enumerate() {
                    put(format, &read(dtype, row, index), r, lanes, bias, block);
                }
            }
        }
        Format::F32 | Format::F16 | Format::BF16 => {
            let bytes = dtype.block_bytes();
            for (r, row) in rows.enumerate() {
                for (k, element) in row.chunks_exact(bytes).take(cols).enumerate() {
                    panel[(k * height + r) * bytes..][..bytes].copy_from_slice(element);
                }
            }
        }
    }
}

fn put(format: Quantised, from: &Block, row: usize, lanes: usize, bias: u8, to: &mut [u8]) {
    let height = 2 * lanes;
    let at = |i: usize| ((i * 2 + row / lanes) * lanes + row % lanes) * 4;
    if format.bits == 4 {
        for i in 0..4 {
            for j in 0..4 {
                to[at(i) + j] = from.numbers[8 * i + j] as u8 | (from.numbers[8 * i + 4 + j] as u8) << 4;
            }
        }
    } else {
        for (i, quad) in from.numbers.as_chunks::<4>().0.iter().enumerate() {
            for (j, &number) in quad.iter().enumerate() {
                to[at(i) + j] = number as u8 ^ bias;
            }
        }
    }
    let floats = &mut to[format.number_bytes(height)..];
    let mut put = |place: usize, x: f32| {
        let at = place * height + row;
        if format.wide {
            floats[at * 4..][..4].copy_from_slice(&x.to_le_bytes());
        } else {
            floats[at * 2..][..2].copy_from_slice(&f16::from_f32(x).to_le_bytes()); // came from f16: exact
        }
    };
    put(0, from.scales[0]);
    if format.halves {
        put(1, from.scales[1]);
    }
    if format.minimum {
        put(1 + usize::from(format.halves), from.minimum);
    }
}
