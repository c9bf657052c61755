//! The gate of an MLP on the way between two linears: `silu(x · gateᵀ) * (x · upᵀ)` becomes the input of the linear behind
//! it, block by block, where it is computed. Nothing of it goes through memory, and the bits are those of the ops alone.

use super::activations::Form;
use super::format::BLOCK;
use super::largest::Largest;
use super::{Linear, MOST_HEIGHT, MOST_ROWS, Output, ROOM, Scratch, lanes};
use crate::ops::silu_mul::cpu as silu_mul;
use crate::pool::{Disjoint, Pool};
use crate::simd::with_wide_simd;

impl Linear {
    /// Whether this linear is a gate and what it gates, and `next` can take its input from [`Self::gate`].
    pub fn is_gate_of(&self, next: &Self) -> bool {
        let [gate, up] = self.matrices.as_slice() else { return false };
        gate.rows == up.rows
            && gate.rows == next.cols
            && next.cols.is_multiple_of(BLOCK)
            && self.bias.is_empty()
            && next.takes_made()
    }

    fn form(&self) -> Form {
        self.matrices[0].form
    }

    /// Leaves what becomes of the `rows` rows that were taken for [`Self::run_gated`] of `next`.
    #[expect(
        unsafe_code,
        reason = "calls kernels; blocks of the gated rows are written by different threads"
    )]
    pub fn gate(&self, next: &Self, pool: &mut Pool, scratch: &mut Scratch, rows: usize) {
        let [gate, up] = [&self.matrices[0], &self.matrices[1]];
        let Scratch { forms, gated, errand } = scratch;
        let gated = &mut gated[next.form() as usize];
        gated.begin(rows, next.cols);
        let height = 2 * lanes(self.isa);
        let each = BLOCK / height;
        gated.by_blocks(|to| {
            self.by_panels(pool, next.cols / BLOCK, rows, |block, groups| {
                ROOM.with_borrow_mut(|rooms| {
                    // Those of the gate, then those of what it gates: as many as a block of columns has.
                    let mut rooms = rooms.iter_mut();
                    let places = [(gate, 0), (gate, 1), (up, 0), (up, 1)];
                    let rows = to.to.group(groups.start).len;
                    let panels = places.map(|(matrix, panel)| {
                        let room = rooms.next().filter(|_| panel < each)?;
                        Some(self.panel(matrix, block * each + panel, [rows, groups.len()], errand, room))
                    });
                    let mut sums = [[[0.0; MOST_HEIGHT]; MOST_ROWS]; 2];
                    for (turn, index) in groups.enumerate() {
                        let group = to.to.group(index);
                        for (i, panel) in panels.iter().flatten().enumerate() {
                            let activations = &forms[panel.matrix.form as usize];
                            let out = sums[i / each].as_flattened_mut()[i % each * height..].as_mut_ptr();
                            // SAFETY: rows are as long as the panels of a matrix in this block together.
                            unsafe { self.sums(panel, activations, group, turn, (out, MOST_HEIGHT)) };
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
        });
    }

    /// `out = x · Wᵀ + bias` of the `rows` rows that [`Self::gate`] has left.
    pub fn run_gated(&self, pool: &mut Pool, scratch: &Scratch, rows: usize, out: &mut [f32]) {
        let to = Output { rows: Disjoint::new(out), largest: &Largest::default() };
        self.multiply(pool, &scratch.gated, &scratch.errand, rows, &to);
    }
}
