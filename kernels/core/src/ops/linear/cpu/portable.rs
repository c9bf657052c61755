//! The definition of a linear, in plain Rust over panels of 16 rows. The vector kernels give the same bits.
#![expect(unsafe_code, reason = "a kernel gets its panel and its activations as pointers")]

use half::{bf16, f16};

use super::activations::SCALES;
use super::format::{BLOCK, Format, PACKINGS, Packing, SUPER};
use super::kernel::Call;

/// Lanes of a half panel.
pub(super) const LANES: usize = 8;
const HEIGHT: usize = 2 * LANES;
/// Most activation rows of a group.
pub(super) const MOST_ROWS: usize = 4;

/// # Safety
/// As [`super::kernel::Kernel`], for this format with 8 lanes, activations as bytes or floats.
pub(super) unsafe fn run(format: Format, call: &Call) {
    let mut tile = [[0.0; HEIGHT]; MOST_ROWS];
    let tile = &mut tile[..call.rows];
    match format {
        Format::Quantised(at) => {
            let (packing, blocks) = (PACKINGS[at], call.cols / BLOCK);
            // SAFETY: the caller hands over a panel and a group of bytes of these sizes.
            let (panel, numbers, scales) = unsafe {
                (
                    std::slice::from_raw_parts(call.weights, format.panel_bytes(HEIGHT, call.cols)),
                    std::slice::from_raw_parts(call.numbers.cast(), call.cols * call.rows),
                    std::slice::from_raw_parts(call.scales, SCALES * blocks * call.rows),
                )
            };
            let (head, blocks) = panel.split_at(packing.head_bytes(HEIGHT, call.cols));
            quantised(packing, head, blocks, numbers, scales, tile);
        }
        Format::F32 | Format::F16 | Format::BF16 => {
            // SAFETY: as above; floats, one a column and row.
            let (panel, x) = unsafe {
                (
                    std::slice::from_raw_parts(call.weights, format.panel_bytes(HEIGHT, call.cols)),
                    std::slice::from_raw_parts(call.numbers.cast(), call.cols * call.rows),
                )
            };
            floats(format, panel, x, tile);
        }
    }
    for (t, sums) in tile.iter().enumerate() {
        // SAFETY: the caller's duty; a row of the output has the sums of a panel.
        unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), call.out.add(t * call.apart), HEIGHT) };
    }
}

type Sums = [f32; HEIGHT];

fn quantised(
    packing: Packing,
    head: &[u8],
    blocks: &[u8],
    numbers: &[i8],
    scales: &[f32],
    tile: &mut [Sums],
) {
    let rows = tile.len();
    for (b, block) in blocks.chunks_exact(packing.block_bytes(HEIGHT)).enumerate() {
        let head =
            if packing.by_super { &head[b * BLOCK / SUPER * packing.half_bytes(HEIGHT)..] } else { head };
        for (t, sums) in tile.iter_mut().enumerate() {
            let x = &numbers[(b * rows + t) * BLOCK..][..BLOCK];
            let scale = |i: usize| scales[(b * SCALES + i) * rows + t];
            let (d, d_sum) = (scale(0), scale(1));
            for (r, out) in sums.iter_mut().enumerate() {
                let factor = |place: usize, of: usize| factor(packing, head, block, r, place, of);
                for part in 0..packing.parts() {
                    let columns = BLOCK / packing.parts();
                    let product = |k: usize| number(packing, block, r, k) * i32::from(x[k]);
                    let dot: i32 = (part * columns..(part + 1) * columns).map(product).sum();
                    let (place, times) = packing.start(part);
                    let dot = dot + times * scale(place).to_bits() as i32;
                    *out = (dot as f32 * factor(part, 0)).mul_add(d, *out);
                }
                if packing.minimum {
                    *out = factor(packing.parts(), 1).mul_add(d_sum, *out);
                }
            }
        }
    }
}

/// Factor `place` of a row; `of` says which half of a super-block it is times.
fn factor(packing: Packing, head: &[u8], block: &[u8], row: usize, place: usize, of: usize) -> f32 {
    let factors = &block[packing.number_bytes(HEIGHT)..];
    let half = |halves: &[u8], place: usize| {
        let at = (place * HEIGHT + row) * 2;
        f16::from_le_bytes([halves[at], halves[at + 1]]).to_f32()
    };
    if packing.by_super {
        half(head, of) * f32::from(factors[place * HEIGHT + row] as i8)
    } else {
        half(factors, place)
    }
}

fn number(packing: Packing, block: &[u8], row: usize, column: usize) -> i32 {
    let at = |quad: usize| block[((quad * 2 + row / LANES) * LANES + row % LANES) * 4 + column % 4];
    let quad = column / 4;
    match packing.bits {
        4 => i32::from(at(quad / 2) >> (quad % 2 * 4) & 15),
        6 => {
            let first = quad / 4 * 3;
            i32::from(match quad % 4 {
                3 => at(first) >> 6 | at(first + 1) >> 6 << 2 | at(first + 2) >> 6 << 4,
                i => at(first + i) & 63,
            })
        }
        _ => i32::from(at(quad) as i8),
    }
}

fn floats(format: Format, panel: &[u8], x: &[f32], tile: &mut [Sums]) {
    let rows = tile.len();
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
