//! Checkpoint rows → panels. Every integer and every scale is kept exactly.

use half::f16;

use super::format::{BLOCK, Format, PACKINGS, Packing, SUPER};
use crate::dtype::DType;
use crate::ops::linear::blocks::{Block, Factors, factors, read};

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
        Format::Quantised(at) => {
            let packing = PACKINGS[at];
            let bias = if packing.bits == 8 { bias } else { 0 };
            let (head, blocks) = panel.split_at_mut(packing.head_bytes(height, cols));
            if bias != 0 {
                for block in blocks.chunks_exact_mut(packing.block_bytes(height)) {
                    block[..packing.number_bytes(height)].fill(bias); // missing rows hold zeros too
                }
            }
            for (r, row) in rows.enumerate() {
                let place = Place { packing, row: r, lanes, bias };
                for (index, halves) in head.chunks_exact_mut(packing.half_bytes(height)).enumerate() {
                    place.put_halves(&factors(dtype, row, index * (SUPER / BLOCK)), halves);
                }
                for (index, block) in blocks.chunks_exact_mut(packing.block_bytes(height)).enumerate() {
                    place.put_block(row, index, block);
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

/// A row of a panel.
struct Place {
    packing: Packing,
    row: usize,
    lanes: usize,
    bias: u8,
}

impl Place {
    /// Those of a super-block.
    fn put_halves(&self, factors: &Factors, to: &mut [u8]) {
        self.put_half(to, 0, factors.of_scales);
        if self.packing.minimum {
            self.put_half(to, 1, factors.of_minimum);
        }
    }

    /// Block `index` of a row.
    fn put_block(&self, row: &[u8], index: usize, to: &mut [u8]) {
        let (packing, height) = (self.packing, 2 * self.lanes);
        let block = read(packing.dtype, row, index);
        let (numbers, to) = to.split_at_mut(packing.number_bytes(height));
        self.put_numbers(&block, numbers);
        if packing.by_super {
            let factors = factors(packing.dtype, row, index);
            for (part, &scale) in factors.scales[..packing.parts()].iter().enumerate() {
                to[part * height + self.row] = scale as u8;
            }
            if packing.minimum {
                to[packing.parts() * height + self.row] = factors.minimum as u8;
            }
        } else {
            // These came from f16: exact.
            self.put_half(to, 0, f16::from_f32(block.scales[0]));
            if packing.minimum {
                self.put_half(to, 1, f16::from_f32(block.minimum));
            }
        }
    }

    fn put_half(&self, to: &mut [u8], place: usize, half: f16) {
        to[(place * 2 * self.lanes + self.row) * 2..][..2].copy_from_slice(&half.to_le_bytes());
    }

    fn put_numbers(&self, block: &Block, to: &mut [u8]) {
        let at = |i: usize| ((i * 2 + self.row / self.lanes) * self.lanes + self.row % self.lanes) * 4;
        let stored = |column: usize| match self.packing.bits {
            // These may be below zero where there is one to take off.
            6 => (i32::from(block.numbers[column]) + self.packing.zero) as u8,
            _ => block.numbers[column] as u8 ^ self.bias,
        };
        match self.packing.bits {
            4 => (0..4).for_each(|i| {
                for j in 0..4 {
                    to[at(i) + j] = stored(8 * i + j) | stored(8 * i + 4 + j) << 4;
                }
            }),
            6 => (0..6).for_each(|i| {
                for j in 0..4 {
                    let (part, i_of_part) = (i / 3 * 16, i % 3);
                    let two = stored(part + 12 + j) >> (2 * i_of_part) & 3;
                    to[at(i) + j] = stored(part + 4 * i_of_part + j) | two << 6;
                }
            }),
            _ => (0..BLOCK).for_each(|column| to[at(column / 4) + column % 4] = stored(column)),
        }
    }
}
