//! KV pages on a disk, found again after a restart. A page is stored under a key (the hash of its tokens and of all before them, and
//! the group of layers) and is never changed: equal keys have equal content, as long as the model, its numbers and their layout are
//! the same, which the fingerprint names.
//!
//! # What is promised
//! - **No wrong page.** A page is given out only when its checksum fits, which covers its bytes, its key and the fingerprint. Files are
//!   hostile until then: every length is checked against the file before anything is allocated, nothing in a file makes the process
//!   panic or read beyond an end.
//! - **The limit holds** at every moment, tables and segments that are being made included: a segment counts in full before it is made,
//!   and until it is deleted.
//! - **A crash costs what was not finished.** A page that was reported as stored outlives the process, however it ends. It outlives a
//!   power cut once an upkeep (every [`UPKEEP_SECONDS`]) or [`DiskStore::close`] has synced it: no page waits for a sync, since losing one is a miss.
//! - **Trouble is a miss.** A disk that is full, slow, gone or broken fails pages, one by one; nothing waits for it but the threads
//!   that read and write. Where no segment can be made pages take the place of others. Where nothing can be written nothing is tried for a
//!   second, then two, up to a minute, and [`DiskStats::trouble`] says why.
//!
//! - **A folder that can be read and not written** serves what it holds, to any number of processes, and takes nothing.
//!
//! # Files
//! A folder holds `lock` (held with `flock` by the one process that uses it; another one is refused by name) and segments,
//! `0123456789abcdef.kvpages`, named by a number that grows. Modes are 0700 and 0600. Numbers are little-endian.
//!
//! | bytes | of a segment |
//! |---|---|
//! | 0..72 | head: checksum of the rest, `kvpages2`, number of the segment, fingerprint (32), bytes of a page, slots; 8 each |
//! | 4096 + 96 i | record of slot i, all zero when it is free |
//! | from the next multiple of 4096 | slots, each a page and zeros up to a multiple of 4096 |
//!
//! | bytes | of a record |
//! |---|---|
//! | 0..8 | checksum of the next 56 bytes, of the fingerprint, the segment and the slot |
//! | 8..12 | `page`: the slot is filled |
//! | 12..48 | key: hash (32), group (4) |
//! | 48..56 | checksum of the page, its key and the fingerprint |
//! | 56..64 | when it was stored, in microseconds since 1970 |
//! | 64..72 | checksum of the next 24 bytes and of the first one |
//! | 72..80 | when it was used last |
//! | 80..88 | until when it is pinned; 0 = not |
//! | 88..96 | its weight, 0 to 255 |
//!
//! Checksums are xxh3 of 64 bits. All pages have one size, so a page that goes leaves a slot that fits any other: there is nothing to
//! compact, and what goes is exactly what was used the longest ago.
//!
//! # Recovery
//! There is no journal and no order of writes to rely on. Storing writes the page, then its record. Whatever subset of both is on the
//! disk after a crash, in whatever parts, is one of: the old record with the old page, which is right; the new one with the new page;
//! any other mixture, whose checksums do not fit. A record that is rewritten because its page was used keeps its first 64 bytes, so a
//! torn one costs the page's place in the order, not the page. Opening reads heads and records, not pages; of two records of one key
//! the later one counts. A file without a head was cut off while it was made and is deleted.
//!
//! # Reading and writing
//! By the threads that call, with one `preadv` or `pwritev` for pages in neighbouring slots. Past the page cache, if so opened, a page costs about
//! half of the processor time (`tests/measure/disk.ts`). Two threads reach what a disk gives, and `io_uring` moves no more
//! for no less (`examples/disk_bench.rs`), so there is no ring of requests. Pages that begin at a multiple of 4096 in memory go that way, as
//! large pages of the host pool do; others go through the page cache.
//!
//! # Pages as int8
//! Where asked for, pages of 16-bit KV are packed before they are written and unpacked when they have been read (`packing`): half the
//! bytes, and numbers that are a little different. The fingerprint says so: packed pages and others are never taken for each other.
//!
//! # Whose turn it is to go
//! Segments of other models, layouts or versions first, the one that was written the longest ago; then pages of weight 0 by their last
//! use, then those of the next weight. Pinned pages stay until their time. Pins and weights hold for a share of the limit: no more is
//! pinned, and while more pages are pinned or have a weight, the least recently used of the lowest weight goes before a page of weight 0 that was
//! used later. So nothing that was stored once for an urgent request fills the disk for ever. With a TTL a page goes when it was not used
//! for that long, whatever it weighs.

mod aligned;
mod error;
mod files;
mod index;
mod key;
mod layout;
mod lock;
mod packed;
mod reads;
mod record;
mod recovery;
mod room;
mod segment;
mod stats;
mod store;
mod trouble;
mod writes;
mod writing;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use error::DiskError;
pub(crate) use error::code_of;
pub use key::{KEY_BYTES, KEY_WORDS, Key};
pub(crate) use record::{Fingerprint, checksum};
pub use stats::DiskStats;
pub use trouble::Trouble;

use crate::error::{Failure, Result};
use crate::give_way::give_way;
use crate::packing::Packing;
use files::OsFolder;
use layout::{Layout, MOST_PAGE_BYTES};
use lock::LOCK_BYTES;
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use store::{Spec, Store};

/// From one upkeep to the next.
pub const UPKEEP_SECONDS: u64 = 5;
/// More seconds than anything is kept.
const MOST_SECONDS: f64 = 1e10;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// The folder; made where there is none.
    pub path: PathBuf,
    /// Bytes that all its files may take.
    pub size_bytes: u64,
    /// Bytes of a page.
    pub page_bytes: usize,
    /// Names everything that a page's bytes depend on beside its key: weights, layout, types, backend and the version of its numbers.
    pub fingerprint: String,
    /// Seconds that a page is kept after its last use; 0 = as long as there is room.
    pub ttl_seconds: f64,
    /// Share of the limit that pinned pages may take, and up to which weights count, 0 to 1.
    pub pin_share: f64,
    /// Whether pages go past the system's page cache, where the file system allows it and they begin at a multiple of 4096 in memory.
    pub direct_io: bool,
    /// The layout of pages (`ProgramInfo::page_layout`) that are to be kept as int8; `None` = all pages as they are.
    pub int8_layout: Option<String>,
}

/// A page that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPage {
    /// Its key.
    pub key: Key,
    /// When it was stored, in microseconds since 1970.
    pub stored_at: u64,
    /// When it was stored or loaded last.
    pub used_at: u64,
    /// Until when it is pinned; 0 = not.
    pub pinned_until: u64,
    /// It goes behind those of a lower one.
    pub weight: u8,
}

/// How far the end of a store has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// An upkeep is due.
    Due,
    Closing,
    Closed,
}

struct Shared {
    store: Store,
    phase: Mutex<Phase>,
    changed: Condvar,
}

impl Shared {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: Phase) {
        *self.phase() = phase;
        self.changed.notify_all();
    }

    /// The upkeep's thread.
    fn work(&self) {
        give_way();
        loop {
            let phase = self.phase();
            let wait = Duration::from_secs(UPKEEP_SECONDS);
            let idle = |phase: &mut Phase| *phase == Phase::Open;
            let (mut phase, _) =
                self.changed.wait_timeout_while(phase, wait, idle).unwrap_or_else(PoisonError::into_inner);
            let is_last = *phase == Phase::Closing;
            if *phase == Phase::Due {
                *phase = Phase::Open;
            }
            drop(phase);
            if is_last {
                self.store.end();
                self.set(Phase::Closed);
                return;
            }
            self.store.upkeep();
        }
    }
}

/// Pages on a disk; see the module. What asks and what forgets never waits for the disk; [`Self::read`] and [`Self::write`] do. Any
/// thread may call.
pub struct DiskStore {
    shared: Arc<Shared>,
    page_bytes: usize,
    packing: Option<Packing>,
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore").field("page_bytes", &self.page_bytes).finish_non_exhaustive()
    }
}

impl DiskStore {
    /// Locks the folder and takes over what it holds. Reads all tables: it takes a while for a large store.
    ///
    /// # Errors
    /// `bad_config` for an option out of range, a folder that cannot be made or listed, one that another process uses, and a layout that
    /// is not of 16 bits.
    pub fn open(options: &DiskOptions) -> Result<Self> {
        let pack = |layout: &String| Packing::of(layout, options.page_bytes);
        let packing = options.int8_layout.as_ref().map(pack).transpose()?;
        let spec = spec_of(options, packing.as_ref())?;
        let folder = OsFolder::open(&options.path, options.direct_io)?;
        let clock = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            since.map_or(0, |since| since.as_micros() as u64)
        };
        let store = Store::open(Box::new(folder), spec, Box::new(clock)).map_err(|error| {
            Failure::bad_config(format!(
                "{} cannot be read for the disk tier: {error}",
                options.path.display()
            ))
        })?;
        let shared = Arc::new(Shared { store, phase: Mutex::new(Phase::Open), changed: Condvar::new() });
        let worker = Arc::clone(&shared);
        std::thread::Builder::new().name("kv-disk".to_owned()).spawn(move || worker.work()).map_err(
            |error| Failure::out_of_memory(format!("thread kv-disk could not be started: {error}")),
        )?;
        Ok(Self { shared, page_bytes: options.page_bytes, packing })
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Whether each page can be loaded: it is on the disk, or being written.
    pub fn has(&self, keys: &[Key]) -> Vec<bool> {
        self.shared.store.has(keys)
    }

    /// Stores pages that are not there yet; waits for the disk, and for those that another thread is writing. Each arrives or fails by
    /// itself; one that is there already has arrived.
    ///
    /// # Panics
    /// When a page has another size than the store's.
    pub fn write(&self, pages: &[(Key, &[u8])]) -> Vec<std::result::Result<(), DiskError>> {
        assert!(pages.iter().all(|(_, page)| page.len() == self.page_bytes), "bytes of a page");
        match &self.packing {
            None => self.shared.store.write(pages),
            Some(packing) => packed::write(&self.shared.store, packing, pages),
        }
    }

    /// Loads pages; waits for the disk. Each arrives or fails by itself; what a failed one's target holds is unspecified.
    ///
    /// # Panics
    /// When a page has another size than the store's.
    pub fn read(&self, pages: &mut [(Key, &mut [u8])]) -> Vec<std::result::Result<(), DiskError>> {
        assert!(pages.iter().all(|(_, page)| page.len() == self.page_bytes), "bytes of a page");
        match &self.packing {
            None => self.shared.store.read(pages),
            Some(packing) => packed::read(&self.shared.store, packing, pages),
        }
    }

    /// Forgets pages: none is given out from here on. A crash within an upkeep's time may bring one back, since its key still names its
    /// content; what it was lies in its slot until another page does. Answers how many there were.
    pub fn remove(&self, keys: &[Key]) -> usize {
        let removed = self.shared.store.remove(keys);
        self.wake();
        removed
    }

    /// Forgets everything, what other models have left too; the files are deleted soon after.
    pub fn clear(&self) {
        self.shared.store.clear();
        self.wake();
    }

    /// Keeps pages until a time (seconds since 1970), as many as the share for pins allows. Says of each whether it is pinned.
    pub fn pin(&self, keys: &[Key], until_seconds: f64) -> Vec<bool> {
        let pinned = self.shared.store.pin(keys, micros(until_seconds));
        self.wake();
        pinned
    }

    /// Ends pins. Answers how many there were.
    pub fn unpin(&self, keys: &[Key]) -> usize {
        let unpinned = self.shared.store.unpin(keys);
        self.wake();
        unpinned
    }

    /// Gives pages a weight (new ones have 0): they go behind those of a lower one, as the module says. Says of each whether it is there.
    pub fn weigh(&self, keys: &[Key], weight: u8) -> Vec<bool> {
        self.shared.store.weigh(keys, weight)
    }

    /// All pages: by weight, the least recently used of each first, and behind them those that are pinned.
    pub fn list(&self) -> Vec<StoredPage> {
        let page = |page: record::Page| StoredPage {
            key: page.key,
            stored_at: page.stored_at,
            used_at: page.used_at,
            pinned_until: page.pinned_until,
            weight: page.weight,
        };
        self.shared.store.list().into_iter().map(page).collect()
    }

    /// Counts and measurements.
    pub fn stats(&self) -> DiskStats {
        self.shared.store.stats()
    }

    /// Lets writes under way end, syncs everything and gives the folder free; pages that come later fail, as `closed`. False when that
    /// has not ended within the time: it goes on.
    pub fn close(&self, patience: Duration) -> bool {
        let deadline = Instant::now().checked_add(patience);
        let mut phase = self.shared.phase();
        if *phase != Phase::Closed {
            *phase = Phase::Closing;
            self.shared.changed.notify_all();
        }
        while *phase != Phase::Closed {
            let left = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            phase = self.shared.changed.wait_timeout(phase, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn wake(&self) {
        let mut phase = self.shared.phase();
        if *phase == Phase::Open {
            *phase = Phase::Due;
            self.shared.changed.notify_all();
        }
    }
}

impl Drop for DiskStore {
    /// Closes without waiting.
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}

fn spec_of(options: &DiskOptions, packing: Option<&Packing>) -> Result<Spec> {
    let DiskOptions { size_bytes, page_bytes, ttl_seconds, pin_share, .. } = *options;
    if !(1..=MOST_PAGE_BYTES).contains(&page_bytes) {
        return Err(Failure::internal(format!(
            "pageBytes is {page_bytes}, allowed is 1 to {MOST_PAGE_BYTES}"
        )));
    }
    let page_bytes = packing.map_or(page_bytes, Packing::packed_bytes);
    let least = LOCK_BYTES + Layout { page_bytes, slots: 1 }.file_bytes();
    if size_bytes < least {
        return Err(Failure::bad_config(format!(
            "the disk tier's size is {size_bytes} bytes, which holds not even one page: {least} do"
        )));
    }
    if !(0.0..=MOST_SECONDS).contains(&ttl_seconds) {
        return Err(Failure::bad_config(format!(
            "the disk tier's TTL is {ttl_seconds} seconds, allowed is 0 to {MOST_SECONDS}"
        )));
    }
    if !(0.0..=1.0).contains(&pin_share) {
        return Err(Failure::bad_config(format!(
            "the disk tier's share for pins is {pin_share}, allowed is 0 to 1"
        )));
    }
    Ok(Spec {
        limit: size_bytes,
        segment_bytes: Layout::target(size_bytes - LOCK_BYTES),
        page_bytes,
        fingerprint: match packing {
            None => fingerprint_of(&options.fingerprint),
            Some(_) => fingerprint_of(&format!("{} int8", options.fingerprint)),
        },
        ttl: micros(ttl_seconds),
        pin_share,
    })
}

fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

/// Of any text: equal where pages can be used.
pub(crate) fn fingerprint_of(text: &str) -> Fingerprint {
    Sha256::digest(text.as_bytes()).into()
}
