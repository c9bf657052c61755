//! The pieces that flights are handed out in.

use crate::transfer::flight::{Far, Kind, Plan};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// Bytes of a piece, if its pages are smaller.
pub(super) const PIECE_BYTES: usize = 256 << 10;
/// The same where a device copies by itself: its copies are faster, and who waits for a piece sleeps.
pub(super) const DEVICE_PIECE_BYTES: usize = 4 << 20;
/// The same for a disk store, which moves neighbours in one call.
const DISK_READ_BYTES: usize = 2 << 20;
/// Nobody waits for a write, and each call writes a table, too.
const DISK_WRITE_BYTES: usize = 8 << 20;

/// Entries of a flight that a thread is to copy.
#[derive(Debug)]
pub(in crate::transfer) struct Piece {
    pub(in crate::transfer) plan: Arc<Plan>,
    pub(in crate::transfer) entries: Range<usize>,
    /// Entries that are to fail on purpose.
    pub(in crate::transfer) injected: Arc<[u32]>,
    pub(in crate::transfer) start: Instant,
}

/// Entries of the plan that make a piece, 1 at least; `piece_bytes` are those of a piece that goes to no disk store.
pub(super) fn most_entries(plan: &Plan, page_bytes: usize, piece_bytes: usize) -> usize {
    let bytes = match (&plan.far, plan.kind) {
        (Far::Disk(..), Kind::Write) => DISK_WRITE_BYTES,
        (Far::Disk(..), _) => DISK_READ_BYTES,
        _ => piece_bytes,
    };
    (bytes / page_bytes).max(1)
}
