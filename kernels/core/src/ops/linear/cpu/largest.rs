//! Of rows of an output of which only the largest element is wanted: it is taken from each panel's sums where they are
//! computed, and the row is never written. A greedy pick needs no more of the logits of 49 to 256 thousand words.

use std::sync::atomic::{AtomicU64, Ordering};

use super::MOST_HEIGHT;
use crate::simd::{Isa, Simd, largest_lanes, with_wide_simd};

/// Which rows of an output those are, and what has been found of them.
#[derive(Debug, Default)]
pub struct Largest {
    /// Of each such row the larger half is its largest element, ordered as integers are, the smaller one the complement of its
    /// column: of equals the lowest is the largest. 0 = no element is above minus infinity so far.
    rows: Vec<Option<AtomicU64>>,
}

impl Largest {
    /// Begins an output, with whether each row is such a row.
    pub fn begin(&mut self, rows: impl Iterator<Item = bool>) {
        self.rows.clear();
        self.rows.extend(rows.map(|wanted| wanted.then(AtomicU64::default)));
    }

    /// The lowest column of a row's largest element, NaN aside; 0 where no element is above minus infinity. `None`: the row
    /// was written.
    pub fn column(&self, row: usize) -> Option<usize> {
        let key = self.rows.get(row)?.as_ref()?.load(Ordering::Relaxed);
        Some(if key == 0 { 0 } else { !(key as u32) as usize })
    }

    /// Whether a row is not written.
    pub(super) fn has(&self, row: usize) -> bool {
        self.rows.get(row).is_some_and(Option::is_some)
    }

    /// Takes the sums of a panel of one row into account, of columns from `column` on; what is behind them is minus infinity.
    pub(super) fn take(&self, isa: Isa, row: usize, column: usize, sums: &[f32; MOST_HEIGHT]) {
        let Some(key) = &self.rows[row] else { return };
        let most = with_wide_simd!(isa, s => s.largest(largest_lanes(s, sums)));
        if most == f32::NEG_INFINITY || key_of(most, column) <= key.load(Ordering::Relaxed) {
            return;
        }
        let at = sums.iter().position(|&sum| sum == most).unwrap_or(0);
        key.fetch_max(key_of(most, column + at), Ordering::Relaxed);
    }
}

fn key_of(value: f32, column: usize) -> u64 {
    // There is one zero.
    let bits = (value + 0.0).to_bits();
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(ordered) << 32 | u64::from(!(column as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element() -> impl Strategy<Value = f32> {
        prop_oneof![
            8 => (-4_i32..4).prop_map(|x| x as f32 / 2.0),
            8 => -12.0_f32..12.0,
            1 => Just(f32::NAN),
            1 => Just(f32::NEG_INFINITY),
            1 => Just(f32::INFINITY),
            1 => Just(-0.0),
        ]
    }

    proptest! {
        #[test]
        fn the_lowest_column_of_the_largest_element_is_found_whatever_the_order_of_panels(
            row in proptest::collection::vec(element(), 1..200),
            backwards in any::<bool>(),
        ) {
            let isa = Isa::detect("auto").unwrap();
            let mut found = Largest::default();
            found.begin([false, true].into_iter());
            let mut panels: Vec<_> = row.chunks(MOST_HEIGHT).enumerate().collect();
            if backwards {
                panels.reverse();
            }
            for (panel, part) in panels {
                let mut sums = [f32::NEG_INFINITY; MOST_HEIGHT];
                sums[..part.len()].copy_from_slice(part);
                found.take(isa, 1, panel * MOST_HEIGHT, &sums);
            }
            let best = row.iter().copied().filter(|x| !x.is_nan()).fold(f32::NEG_INFINITY, f32::max);
            let expected = row.iter().position(|&x| x == best && x > f32::NEG_INFINITY).unwrap_or(0);
            prop_assert_eq!((found.column(0), found.column(1)), (None, Some(expected)));
        }
    }
}
