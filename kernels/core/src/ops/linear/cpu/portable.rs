//! The definition of a linear, in plain Rust over panels of 16 rows. The vector kernels give the same bits.
#![expect(unsafe_code, reason = "a kernel gets its panel and its activations as pointers")]

use half::{bf16, f16};

use super::format::{BLOCK, Format, Quantised};
use super::{Call, Tile};

/// Lanes of a half panel.
pub(super) const LANES: usize = 8;
const HEIGHT: usize = 2 * LANES;
/// Most activation rows of a group.
pub(super) const MOST_ROWS: usize = 4;

/// # Safety
/// As [`super::Kernel`], for this format with 8 lanes, activations as bytes or floats.
pub(super) unsafe fn run(format: Format, call: &Call, tile: &mut Tile) {
    // SAFETY: the caller hands over a panel and a group of the sizes below.
    let (panel, scales) = unsafe {
        let blocks = call.cols / BLOCK * usize::from(matches!(format, Format::Quantised(_)));
        (
            std::slice::from_raw_parts(call.weights, format.panel_bytes(HEIGHT, call.cols)),
            std::slice::from_raw_parts(call.scales, 3 * blocks * call.rows),
        )
    };
    for row in &mut tile[..call.rows] {
        row[..HEIGHT].fill(0.0);
    }
    match format {
        Format::Quantised(format) => {
            // SAFETY: as above; bytes, one a column and row.
            let numbers = unsafe { std::slice::from_raw_parts(call.numbers.cast(), call.cols * call.rows) };
            quantised(format, panel, numbers, scales, call.rows, tile);
        }
        Format::F32 | Format::F16 | Format::BF16 => {
            // SAFETY: as above; floats, one a column and row.
            let x = unsafe { std::slice::from_raw_parts(call.numbers.cast(), call.cols * call.rows) };
            floats(format, panel, x, call.rows, tile);
        }
    }
}

fn quantised(format: Quantised, panel: &[u8], numbers: &[i8], scales: &[f32], rows: usize, tile: &mut Tile) {
    for (b, block) in panel.chunks_exact(format.block_bytes(HEIGHT)).enumerate() {
        let floats = &block[format.number_bytes(HEIGHT)..];
        let float = |place: usize, r: usize| {
            let at = place * HEIGHT + r;
            if format.wide {
                f32::from_le_bytes(std::array::from_fn(|i| floats[at * 4 + i]))
            } else {
                f16::from_le_bytes([floats[at * 2], floats[at * 2 + 1]]).to_f32()
            }
        };
        for t in 0..rows {
            let x = &numbers[(b * rows + t) * BLOCK..][..BLOCK];
            let scale = |i: usize| scales[(b * 3 + i) * rows + t];
            let (d, d_sum, sum) = (scale(0), scale(1), scale(2).to_bits() as i32);
            for (r, out) in tile[t][..HEIGHT].iter_mut().enumerate() {
                let dot = |columns: std::ops::Range<usize>| -> i32 {
                    columns.map(|k| i32::from(number(format, block, r, k)) * i32::from(x[k])).sum()
                };
                if format.halves {
                    *out = (dot(0..16) as f32 * float(0, r)).mul_add(d, *out);
                    *out = (dot(16..32) as f32 * float(1, r)).mul_add(d, *out);
                } else {
                    *out = ((dot(0..32) - format.zero * sum) as f32 * float(0, r)).mul_add(d, *out);
                }
                if format.minimum {
                    *out = float(1 + usize::from(format.halves), r).mul_add(d_sum, *out);
                }
            }
        }
    }
}

fn number(format: Quantised, block: &[u8], row: usize, column: usize) -> i8 {
    let at = |quad: usize| ((quad * 2 + row / LANES) * LANES + row % LANES) * 4 + column % 4;
    let quad = column / 4;
    if format.bits == 4 { (block[at(quad / 2)] >> (quad % 2 * 4) & 15) as i8 } else { block[at(quad)] as i8 }
}

fn floats(format: Format, panel: &[u8], x: &[f32], rows: usize, tile: &mut Tile) {
    for (k, x) in x.chunks_exact(rows).enumerate() {
        for (r, t) in (0..HEIGHT).flat_map(|r| (0..rows).map(move |t| (r, t))) {
            let at = k * HEIGHT + r;
            let two = |i: usize| [panel[i * 2], panel[i * 2 + 1]];
            let w = match format {
                Format::F16 => f16::from_le_bytes(two(at)).to_f32(),
                Format::BF16 => bf16::from_le_bytes(two(at)).to_f32(),
                Format::F32 | Format::Quantised(_) => {
                    f32::from_le_bytes(std::array::from_fn(|i| panel[at * 4 + i]))
                }
            };
            tile[t][r] = w.mul_add(x[t], tile[t][r]);
        }
    }
}
