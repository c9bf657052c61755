//! What a store counts and measures.

use super::error::DiskError;
use super::trouble::Trouble;
use std::collections::BTreeMap;
use std::time::Duration;

/// Counts since the store was opened, and how it stands.
#[derive(Clone, Debug, Default)]
pub struct DiskStats {
    /// Bytes that all files may take, those of other models included; never more than the limit.
    pub bytes: u64,
    /// The limit.
    pub limit_bytes: u64,
    /// Of `bytes`, those of other models.
    pub stale_bytes: u64,
    /// Pages that can be loaded.
    pub pages: u64,
    /// Of those, pinned ones.
    pub pinned_pages: u64,
    /// Pages that are pinned or have a weight.
    pub kept_pages: u64,
    /// Most pages that may be pinned; also of those kept, as many as are kept for it.
    pub pinnable_pages: u64,
    /// Pages that were asked for and arrived.
    pub hits: u64,
    /// Pages that were asked for and not there.
    pub misses: u64,
    /// Pages that were written.
    pub stored: u64,
    /// Pages that were given up for others.
    pub evicted: u64,
    /// Pages that were not used for so long that they went.
    pub expired: u64,
    /// Pages that failed to be stored or loaded, by the error's code.
    pub failures: BTreeMap<String, u64>,
    /// Bytes of pages that were read.
    pub read_bytes: u64,
    /// Bytes of pages that were written.
    pub written_bytes: u64,
    /// Time that threads have spent reading, checksums included.
    pub read_seconds: f64,
    /// Time that threads have spent writing, checksums, records and syncs included.
    pub write_seconds: f64,
    /// Whether the folder can be read and not written.
    pub is_read_only: bool,
    /// Why nothing is stored, or was not when it was last tried.
    pub trouble: Option<Trouble>,
}

impl DiskStats {
    pub(super) fn failed(&mut self, error: &DiskError) {
        *self.failures.entry(error.code.to_string()).or_default() += 1;
    }

    pub(super) fn read(&mut self, pages: usize, page_bytes: usize, took: Duration) {
        self.hits += pages as u64;
        self.read_bytes += (pages * page_bytes) as u64;
        self.read_seconds += took.as_secs_f64();
    }
}
