//! Checkpoint rows → panels. Every integer and every scale is kept exactly.

use half::f16;

use super::format::Format;
use crate::dtype::DType;
use crate::ops::linear::blocks::{Block, Quantised, read};

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
