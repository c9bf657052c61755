//! The gate of an MLP on the way between two linears: `silu(x · gateᵀ) * (x · upᵀ)` becomes the input of the linear behind
//! it, block by block, where it is computed. Nothing of it goes through memory, and the bits are those of the ops alone.

use super::activations::Form;
use super::format::BLOCK;
use super::{Linear, Scratch, Tile, lanes};
use crate::ops::silu_mul::cpu as silu_mul;
use crate::pool::Pool;
use crate::simd::with_wide_simd;

impl Linear {
    /// Whether this linear is a gate and what it gates, and `next` can take its input from [`Self::gate`].
    pub fn is_gate_of(&self, next: &Self) -> bool {
        let [gate, up] = self.matrices.as_slice() else { return false };
        gate.rows == up.rows
            && gate.rows == next.cols
            && next.cols.is_multiple_of(BLOCK)
            && self.bias.is_empty()
            && next.matrices.iter().all(|matrix| matrix.form == next.form())
    }

    fn form(&self) -> Form {
        self.matrices[0].form
    }

    /// Leaves the gated `x` for [`Self::run_gated`] of `next`.
    #[expect(unsafe_code, reason = "blocks of the gated rows are written by different threads")]
    pub fn gate(&self, next: &Self, pool: &mut Pool, scratch: &mut Scratch, x: &[f32]) {
        let (rows, [gate, up]) = (x.len() / self.cols, [&self.matrices[0], &self.matrices[1]]);
        let Scratch { forms, gated } = scratch;
        self.read(pool, forms, x);
        let gated = &mut gated[next.form() as usize];
        gated.begin(rows, next.cols);
        let height = 2 * lanes(self.isa);
        let each = BLOCK / height;
        gated.by_blocks(|to| {
            self.by_panels(pool, next.cols / BLOCK, rows, |block, groups| {
                let mut sums: [Tile; 2] = [[[0.0; 32]; 6]; 2];
                let mut half: Tile = [[0.0; 32]; 6];
                for group in groups {
                    let group = to.to.group(group);
                    for panel in 0..each {
                        for (matrix, sums) in [gate, up].into_iter().zip(&mut sums) {
                            let activations = &forms[matrix.form as usize];
                            self.sums(matrix, block * each + panel, activations, group, &mut half);
                            for (sums, half) in sums.iter_mut().zip(&half[..group.len]) {
                                sums[panel * height..][..height].copy_from_slice(&half[..height]);
                            }
                        }
                    }
                    let [gates, ups] = &mut sums;
                    for (gate, up) in gates.iter_mut().zip(ups).take(group.len) {
                        with_wide_simd!(self.isa, s => silu_mul::gate(s, gate, up));
                    }
                    // SAFETY: a block of a group belongs to one unit of the job.
                    unsafe { to.put(self.isa, group, block, gates) };
                }
            });
        });
    }

    /// `out = x · Wᵀ + bias` of the `rows` rows that [`Self::gate`] has left.
    pub fn run_gated(&self, pool: &mut Pool, scratch: &Scratch, rows: usize, out: &mut [f32]) {
        self.multiply(pool, &scratch.gated, rows, out);
    }
}
