//! Where what lies in a segment file: the head, the table of records, the slots. Sizes only.

use super::record::RECORD_BYTES;

/// Slots and the table end at multiples of this, so that direct I/O can reach slots.
pub(super) const BLOCK: u64 = 4096;
/// A segment's usual size, unless the limit is so large that there would be more than [`MOST_SEGMENTS`].
const SEGMENT: u64 = 64 << 20;
const MOST_SEGMENTS: u64 = 64;
/// More slots than any segment has that was written here.
const MOST_SLOTS: u32 = 1 << 26;
/// More bytes than a page has. Sums of sizes stay far below 2^64.
pub(super) const MOST_PAGE_BYTES: usize = 1 << 32;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) page_bytes: usize,
    pub(super) slots: u32,
}

impl Layout {
    /// The most slots that fit into so many bytes; `None` = not even one.
    pub(super) fn within(bytes: u64, page_bytes: usize) -> Option<Self> {
        let of = |slots: u64| Self { page_bytes, slots: slots.min(u64::from(MOST_SLOTS)) as u32 };
        let slot = of(0).slot_bytes() + RECORD_BYTES as u64;
        let mut slots = bytes.saturating_sub(BLOCK) / slot;
        // The table is rounded up, which takes less than a slot.
        while slots > 0 && of(slots).file_bytes() > bytes {
            slots -= 1;
        }
        (slots > 0).then(|| of(slots))
    }

    /// What a new segment is to take of a limit: about equal parts of it.
    pub(super) fn target(limit: u64) -> u64 {
        let count = (limit / SEGMENT).clamp(1, MOST_SEGMENTS);
        limit / count / BLOCK * BLOCK
    }

    /// Whether a file of this length can have been laid out so, so that what is allocated for it is bounded by its length.
    pub(super) fn fits(self, file_bytes: u64) -> bool {
        (1..=MOST_SLOTS).contains(&self.slots)
            && (1..=MOST_PAGE_BYTES).contains(&self.page_bytes)
            && self.first_slot() <= file_bytes
            && file_bytes <= self.file_bytes()
    }

    /// From one slot to the next.
    pub(super) fn slot_bytes(self) -> u64 {
        (self.page_bytes as u64).next_multiple_of(BLOCK)
    }

    /// Bytes of the whole blocks of a page.
    pub(super) fn body_bytes(self) -> usize {
        self.page_bytes / BLOCK as usize * BLOCK as usize
    }

    /// Bytes of a slot behind those: a block, or nothing.
    pub(super) fn end_bytes(self) -> usize {
        self.slot_bytes() as usize - self.body_bytes()
    }

    /// Where the record of a slot is.
    pub(super) fn record_at(slot: u32) -> u64 {
        BLOCK + u64::from(slot) * RECORD_BYTES as u64
    }

    /// Where a slot is.
    pub(super) fn slot_at(self, slot: u32) -> u64 {
        self.first_slot() + u64::from(slot) * self.slot_bytes()
    }

    /// Bytes of the file.
    pub(super) fn file_bytes(self) -> u64 {
        self.slot_at(self.slots)
    }

    fn first_slot(self) -> u64 {
        Self::record_at(self.slots).next_multiple_of(BLOCK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_slots_as_fit_and_no_more() {
        for page_bytes in [1, 192, 4096, 4097, 360 << 10, 3 << 20] {
            assert_eq!(Layout::within(0, page_bytes), None);
            let one = Layout { page_bytes, slots: 1 }.file_bytes();
            assert_eq!(Layout::within(one - 1, page_bytes), None);
            for bytes in [one, one + 1, 2 * one, 64 << 20, (1 << 30) + 12345] {
                let layout = Layout::within(bytes, page_bytes).unwrap();
                let more = Layout { slots: layout.slots + 1, ..layout };
                assert!(layout.file_bytes() <= bytes && more.file_bytes() > bytes, "{layout:?} in {bytes}");
                assert!(layout.fits(layout.file_bytes()) && !layout.fits(layout.file_bytes() + 1));
                assert!(!layout.fits(layout.first_slot() - 1));
                assert_eq!(layout.slot_at(1) % BLOCK, 0);
            }
        }
    }

    #[test]
    fn segments_are_equal_parts_of_the_limit() {
        for limit in [1 << 20, 64 << 20, 100 << 20, 1 << 30, 100 << 30, 10 << 40] {
            let target = Layout::target(limit);
            let count = limit / target;
            assert!(
                (1..=MOST_SEGMENTS).contains(&count) && limit - count * target < count * BLOCK + target / 8
            );
            assert!(count == MOST_SEGMENTS || target < 2 * SEGMENT);
        }
    }
}
