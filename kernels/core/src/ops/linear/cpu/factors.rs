//! The factors of panels of types with super-blocks as kernels read them: each byte times its half, exact in f32, as
//! `[block][scales, minimum][row of the panel]`. A panel's are made once and used for all groups of rows.

use super::format::{BLOCK, Format, Packing, SUPER};
use crate::simd::{Isa, LANES, Simd, WIDE, with_simd, with_wide_simd};

/// Makes those of a panel of `height` rows and `cols` columns; nothing for formats without super-blocks.
pub(super) fn multiply(
    isa: Isa,
    format: Format,
    height: usize,
    cols: usize,
    panel: &[u8],
    to: &mut Vec<f32>,
) {
    let Some(packing) = format.with_supers() else { return };
    to.resize(cols / BLOCK * packing.factors() * height, 0.0);
    let (head, blocks) = panel.split_at(packing.head_bytes(height, cols));
    if height == 2 * WIDE {
        with_wide_simd!(isa, s => of_panel::<WIDE, _>(s, packing, head, blocks, to));
    } else {
        with_simd!(isa, s => of_panel::<LANES, _>(s, packing, head, blocks, to));
    }
}

/// A panel of `2 * N` rows.
#[inline(always)]
fn of_panel<const N: usize, S: Simd<N>>(s: S, packing: Packing, head: &[u8], blocks: &[u8], to: &mut [f32]) {
    let (each, bytes) = (SUPER / BLOCK, packing.block_bytes(2 * N));
    let to = to.as_chunks_mut::<N>().0.as_chunks_mut::<2>().0.chunks_exact_mut(each * packing.factors());
    let supers = head.chunks_exact(packing.half_bytes(2 * N)).zip(blocks.chunks_exact(each * bytes));
    for ((halves, blocks), to) in supers.zip(to) {
        let halves = halves.as_chunks::<2>().0.as_chunks::<N>().0;
        // Where there are minima, scales and minima take turns.
        let of_minimum = if packing.minimum { 2 } else { 0 };
        let of = [
            [half(s, &halves[0]), half(s, &halves[1])],
            [half(s, &halves[of_minimum]), half(s, &halves[of_minimum + 1])],
        ];
        for (block, to) in blocks.chunks_exact(bytes).zip(to.chunks_exact_mut(packing.factors())) {
            let factors = block[packing.number_bytes(2 * N)..].as_chunks::<N>().0.as_chunks::<2>().0;
            for (i, (factors, to)) in factors.iter().zip(to).enumerate() {
                for ((factors, to), &of) in factors.iter().zip(to).zip(&of[i % 2]) {
                    let mut floats = [0.0; N];
                    floats.iter_mut().zip(factors).for_each(|(float, byte)| *float = f32::from(*byte as i8));
                    s.store(to, s.mul(s.load(&floats), of));
                }
            }
        }
    }
}

#[inline(always)]
fn half<const N: usize, S: Simd<N>>(s: S, from: &[[u8; 2]; N]) -> S::V {
    let mut halves = [0; N];
    halves.iter_mut().zip(from).for_each(|(half, bytes)| *half = u16::from_le_bytes(*bytes));
    s.load_half(&halves)
}
