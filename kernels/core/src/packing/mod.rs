//! Pages of 16-bit KV as int8, for what keeps many of them: half the bytes. Each vector, a key or a value of one token and head, becomes
//! integers of -127 to 127 and one scale, so a number comes back within half of a 127th of its vector's largest. What comes back is
//! a page like any other, of numbers that are a little different: an answer that is computed from it may differ.
//!
//! A packed page is, for each tile in the page's own order (`tiles.rs`), the scales of its tokens (f32), then its integers in the order
//! of its numbers, without padding.

mod tiles;

#[cfg(test)]
mod tests;

use crate::error::{Failure, Result};
use tiles::{Group, Tile};

/// Packed pages end at multiples of this, so that direct I/O can have them.
const BLOCK: usize = 4096;

/// How pages of one layout are packed.
#[derive(Clone, Debug)]
pub struct Packing {
    groups: Vec<Group>,
    page_bytes: usize,
    packed_bytes: usize,
}

/// Why a page is not packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpackable {
    /// There is no such group of layers.
    #[error("there is no group {0} of layers")]
    Group(usize),
    /// A number of it is infinite or none at all.
    #[error("a number of the page is not finite")]
    NotFinite,
}

impl Packing {
    /// For pages of a layout ([`crate::program::ProgramInfo::page_layout`]).
    ///
    /// # Errors
    /// `bad_config` for a layout whose KV is not kept in 16 bits.
    pub fn of(layout: &str, page_bytes: usize) -> Result<Self> {
        let refused = || {
            let kv = layout.split(' ').next().unwrap_or_default();
            Failure::bad_config(format!(
                "int8 on the disk is for KV of 16 bits (cpu/q16, cpu/f16, cpu/bf16, cuda/f16), this one's is {kv:?}"
            ))
        };
        let groups = Group::all_of(layout).ok_or_else(refused)?;
        if groups.iter().any(|group| group.bytes() > page_bytes) {
            return Err(Failure::internal(format!("pages of {page_bytes} bytes do not hold {layout}")));
        }
        let most = groups.iter().map(Group::packed_bytes).max().unwrap_or(0);
        Ok(Self { groups, page_bytes, packed_bytes: most.next_multiple_of(BLOCK) })
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Bytes of a packed page, a multiple of 4096.
    pub fn packed_bytes(&self) -> usize {
        self.packed_bytes
    }

    /// Packs a page of a group of layers.
    ///
    /// # Errors
    /// What cannot be packed; `to` is unspecified then.
    ///
    /// # Panics
    /// When one of both has another length.
    pub fn pack(&self, group: usize, page: &[u8], to: &mut [u8]) -> std::result::Result<(), Unpackable> {
        let parts = self.parts(group)?;
        assert_eq!((page.len(), to.len()), (self.page_bytes, self.packed_bytes), "bytes of a page");
        let used = parts.packed_bytes();
        let (packed, rest) = to.split_at_mut(used);
        rest.fill(0);
        let units =
            page.chunks_exact(parts.unit_bytes).zip(packed.chunks_exact_mut(parts.packed_unit_bytes()));
        for (unit, mut packed) in units.take(parts.units) {
            for tile in &parts.tiles {
                let (to, rest) = packed.split_at_mut(tile.packed_bytes());
                tile.pack(unit, to)?;
                packed = rest;
            }
        }
        Ok(())
    }

    /// Unpacks a page; bytes that hold no number are zero.
    ///
    /// # Errors
    /// For a group that is not there.
    ///
    /// # Panics
    /// When one of both has another length.
    pub fn unpack(&self, group: usize, packed: &[u8], to: &mut [u8]) -> std::result::Result<(), Unpackable> {
        let parts = self.parts(group)?;
        assert_eq!((to.len(), packed.len()), (self.page_bytes, self.packed_bytes), "bytes of a page");
        to.fill(0);
        let units = to.chunks_exact_mut(parts.unit_bytes).zip(packed.chunks_exact(parts.packed_unit_bytes()));
        for (unit, mut packed) in units.take(parts.units) {
            for tile in &parts.tiles {
                let (from, rest) = packed.split_at(tile.packed_bytes());
                tile.unpack(from, unit);
                packed = rest;
            }
        }
        Ok(())
    }

    fn parts(&self, group: usize) -> std::result::Result<&Group, Unpackable> {
        self.groups.get(group).ok_or(Unpackable::Group(group))
    }
}

/// Largest integer.
const MOST: f32 = 127.0;
/// Numbers that are packed at once; the tokens that they belong to repeat within it.
const LANES: usize = 32;
/// Bytes of a number.
const NUMBER: usize = 2;
/// Bytes of a scale.
const SCALE: usize = size_of::<f32>();
/// Added to a number of less than 2^22 it leaves the nearest integer in the low bits.
const ROUND: f32 = (3 << 22) as f32;

impl Tile {
    /// Packs the tile's part of a unit.
    fn pack(&self, unit: &[u8], to: &mut [u8]) -> std::result::Result<(), Unpackable> {
        let (scales, integers) = to.split_at_mut(self.tokens * SCALE);
        let numbers = &unit[self.at..];
        let mut by = self.largest(numbers);
        for (token, (by, to)) in by.iter_mut().zip(scales.as_chunks_mut::<SCALE>().0).enumerate() {
            let (largest, scale) = (*by, *by / MOST * self.own_scale(unit, token));
            if !largest.is_finite() || !scale.is_finite() {
                return Err(Unpackable::NotFinite);
            }
            // Of numbers so small that there is no factor zeros are left.
            let factor = MOST / largest;
            let (factor, scale) = if factor.is_finite() { (factor, scale) } else { (0.0, 0.0) };
            *by = factor;
            *to = scale.to_le_bytes();
        }
        for stripe in self.stripes() {
            let by = stripe.tokens.map(|token| by[usize::from(token)]);
            let from = &numbers[stripe.numbers.start * NUMBER..stripe.numbers.end * NUMBER];
            let to = &mut integers[stripe.integers.clone()];
            for (from, to) in from.chunks(LANES * NUMBER).zip(to.chunks_mut(LANES)) {
                let numbers = self.element.numbers(from);
                let integers: [u8; LANES] =
                    std::array::from_fn(|i| (numbers[i] * by[i] + ROUND).to_bits() as u8);
                to.copy_from_slice(&integers[..to.len()]);
            }
        }
        Ok(())
    }

    /// Fills the tile's part of a unit.
    fn unpack(&self, from: &[u8], unit: &mut [u8]) {
        let (scales, integers) = from.split_at(self.tokens * SCALE);
        let scales = scales.as_chunks::<SCALE>().0;
        for stripe in self.stripes() {
            let by = stripe.tokens.map(|token| f32::from_le_bytes(scales[usize::from(token)]));
            let to = &mut unit[self.at..][stripe.numbers.start * NUMBER..stripe.numbers.end * NUMBER];
            for (from, to) in
                integers[stripe.integers.clone()].chunks(LANES).zip(to.chunks_mut(LANES * NUMBER))
            {
                let mut integers = [0; LANES];
                integers[..from.len()].copy_from_slice(from);
                self.element.put(&integers.map(|integer| integer as i8), &by, to);
            }
        }
        if let Some(at) = self.scales_at {
            unit[at..at + self.tokens * SCALE].copy_from_slice(scales.as_flattened());
        }
    }

    /// The largest magnitude of each token, not finite where one is not.
    fn largest(&self, numbers: &[u8]) -> Vec<f32> {
        let mut largest = vec![0; self.tokens];
        for stripe in self.stripes() {
            let mut most = [0; LANES];
            let from = &numbers[stripe.numbers.start * NUMBER..stripe.numbers.end * NUMBER];
            for from in from.chunks(LANES * NUMBER) {
                // Bits of magnitudes are in the order of the magnitudes, and those of what is no number above all.
                for (most, number) in most.iter_mut().zip(self.element.numbers(from)) {
                    *most = number.abs().to_bits().max(*most);
                }
            }
            for (most, token) in most.into_iter().zip(stripe.tokens) {
                let largest = &mut largest[usize::from(token)];
                *largest = most.max(*largest);
            }
        }
        largest.into_iter().map(f32::from_bits).collect()
    }

    /// What the unit's numbers of a token are multiplied by.
    fn own_scale(&self, unit: &[u8], token: usize) -> f32 {
        let Some(at) = self.scales_at else { return 1.0 };
        let scales = unit[at..].as_chunks::<SCALE>().0;
        f32::from_le_bytes(scales[token])
    }
}
