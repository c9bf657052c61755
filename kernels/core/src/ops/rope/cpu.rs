//! Rotary embedding on the CPU. All layers of a step rotate by the same angles, so sines and cosines are kept for the
//! step's positions.

use super::{Rope, frequencies};
use crate::op::RopeStyle;

/// Sines and cosines of the positions seen last.
#[derive(Default)]
pub struct Angles {
    positions: Vec<u32>,
    key: Vec<u64>,
    /// `[position][sine | cosine][pair]`.
    table: Vec<f32>,
}

impl Angles {
    /// The table for these positions.
    pub fn of(&mut self, rope: &Rope<'_>, positions: &[u32]) -> &[f32] {
        let mut key = vec![rope.dims as u64, rope.theta.to_bits()];
        key.extend(rope.factors.unwrap_or_default().iter().map(|f| u64::from(f.to_bits())));
        if self.key != key || self.positions != positions {
            let frequencies = frequencies(rope);
            self.table.clear();
            self.table.resize(positions.len() * rope.dims, 0.0);
            for (&position, row) in positions.iter().zip(self.table.chunks_exact_mut(rope.dims)) {
                let (sin, cos) = row.split_at_mut(rope.dims / 2);
                for ((frequency, sin), cos) in frequencies.iter().zip(sin).zip(cos) {
                    (*sin, *cos) = frequency.sin_cos(position);
                }
            }
            self.key = key;
            self.positions.clear();
            self.positions.extend_from_slice(positions);
        }
        &self.table
    }
}

/// Rotates a row's first `rope.num_heads` heads in place; `angles` is the position's part of the table.
#[inline(always)]
pub fn row(rope: &Rope<'_>, angles: &[f32], row: &mut [f32]) {
    let pairs = rope.dims / 2;
    let (sin, cos) = angles.split_at(pairs);
    for head in row.chunks_exact_mut(rope.head_dim).take(rope.num_heads) {
        match rope.style {
            RopeStyle::Interleaved => {
                for ((pair, sin), cos) in head.as_chunks_mut::<2>().0.iter_mut().zip(sin).zip(cos) {
                    *pair = [pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos];
                }
            }
            RopeStyle::Halves => {
                let (low, high) = head[..rope.dims].split_at_mut(pairs);
                for (((a, b), sin), cos) in low.iter_mut().zip(high).zip(sin).zip(cos) {
                    (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
                }
            }
        }
    }
}
