//! The store without its threads: index and files together. One lock guards the index; nothing is read, written or waited for while
//! it is held, so that whoever only asks never waits for a disk. How pages come in is in `writes.rs`, how they go out in `reads.rs`,
//! where room comes from in `room.rs`.

use super::files::{Folder, Listed};
use super::index::{Found, Index, Place};
use super::key::Key;
use super::layout::Layout;
use super::lock::LOCK_BYTES;
use super::record::{Fingerprint, Page};
use super::recovery::{self, Recovered};
use super::segment::Segment;
use super::stats::DiskStats;
use super::trouble::Backoff;
use super::writing::Writing;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

/// Microseconds since 1970.
pub(super) type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// What a store is to be.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// Bytes that all files may take.
    pub(super) limit: u64,
    /// Bytes that a new segment is to take.
    pub(super) segment_bytes: u64,
    pub(super) page_bytes: usize,
    pub(super) fingerprint: Fingerprint,
    /// Microseconds that a page is kept after its last use; 0 = as long as there is room.
    pub(super) ttl: u64,
    /// Share of the limit that pinned pages may take, and up to which weights count, 0 to 1.
    pub(super) pin_share: f64,
}

impl Spec {
    /// Most pages that may be pinned, and of those that are pinned or have a weight, as many as are kept for it.
    pub(super) fn pinnable(&self) -> usize {
        let slot = Layout { page_bytes: self.page_bytes, slots: 1 }.slot_bytes();
        (self.limit as f64 * self.pin_share) as usize / slot as usize
    }
}

/// What is under the lock.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) index: Index,
    pub(super) segments: BTreeMap<u64, Arc<Segment>>,
    /// Segments of other models, the next to be deleted first.
    pub(super) stale: Vec<Listed>,
    /// Files that are to be deleted.
    pub(super) condemned: Vec<Listed>,
    /// Bytes of all files, of those included that are being made.
    pub(super) bytes: u64,
    pub(super) last_id: u64,
    /// Of writing at all.
    pub(super) writes: Backoff,
    /// Of making segments: while none can be made, pages go where others were.
    pub(super) growth: Backoff,
    pub(super) stats: DiskStats,
    pub(super) is_closed: bool,
}

impl State {
    /// What is known of a key; a page that was not used for longer than the TTL is nothing, unless it is pinned.
    pub(super) fn look_up(&self, key: &Key, now: u64, ttl: u64) -> Found {
        match self.index.find(key) {
            Found::Page(_, page) if is_over(&page, now, ttl) => Found::Nothing,
            found => found,
        }
    }

    /// A slot for a page, for which another one may have to go; `None` when all are pinned or in use. Weights count as long as no more than
    /// `most` pages are kept.
    pub(super) fn slot(&mut self, most: usize) -> Option<Place> {
        self.index.take_free().or_else(|| {
            let evicted = self.index.evict(most)?;
            self.stats.evicted += 1;
            Some(evicted)
        })
    }
}

fn is_over(page: &Page, now: u64, ttl: u64) -> bool {
    ttl > 0 && page.pinned_until <= now && page.used_at.saturating_add(ttl) <= now
}

/// See the module.
pub(super) struct Store {
    pub(super) folder: Box<dyn Folder>,
    pub(super) spec: Spec,
    pub(super) clock: Clock,
    /// Nothing can be made, written or deleted in the folder.
    pub(super) is_read_only: bool,
    state: Mutex<State>,
    /// One thread makes segments at a time.
    pub(super) growing: Mutex<()>,
    /// Held by whoever writes; the end waits for them.
    pub(super) busy: RwLock<()>,
    pub(super) writing: Writing,
    /// Pages that were being written are not any more.
    pub(super) settled: Condvar,
}

impl Store {
    /// Takes over what the folder holds.
    ///
    /// # Errors
    /// The system's, where the folder cannot be listed.
    pub(super) fn open(folder: Box<dyn Folder>, spec: Spec, clock: Clock) -> io::Result<Self> {
        let found = recovery::scan(folder.as_ref(), &spec, clock())?;
        let others = found.stale.iter().chain(&found.condemned).map(|file| file.bytes).sum::<u64>();
        let mut state = State {
            bytes: LOCK_BYTES + others,
            stale: found.stale,
            condemned: found.condemned,
            last_id: found.last_id,
            ..State::default()
        };
        for Recovered { segment, pages } in found.own {
            let id = segment.head.id;
            state.bytes += segment.head.layout.file_bytes();
            state.index.add_segment(id, segment.head.layout.slots);
            for (slot, page) in pages {
                state.index.adopt(Place { segment: id, slot }, page);
            }
            state.segments.insert(id, Arc::new(segment));
        }
        state.index.end_pins(0, spec.pinnable());
        let store = Self {
            is_read_only: folder.is_read_only(),
            folder,
            spec,
            clock,
            state: Mutex::new(state),
            growing: Mutex::default(),
            busy: RwLock::default(),
            writing: Writing::default(),
            settled: Condvar::new(),
        };
        if !store.is_read_only {
            store.delete_condemned();
        }
        Ok(store)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // What is done under it leaves nothing half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Whether each page can be loaded, from the disk or from what is being written.
    pub(super) fn has(&self, keys: &[Key]) -> Vec<bool> {
        let (state, now) = (self.lock(), self.now());
        keys.iter().map(|key| state.look_up(key, now, self.spec.ttl) != Found::Nothing).collect()
    }

    /// Forgets pages. Answers how many there were.
    pub(super) fn remove(&self, keys: &[Key]) -> usize {
        let mut state = self.lock();
        keys.iter().filter(|key| state.index.remove(key)).count()
    }

    /// Forgets all pages of all models; the files go with the next upkeep.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        while let Some((id, segment)) = state.segments.pop_first() {
            state.index.drop_segment(id);
            let bytes = segment.head.layout.file_bytes();
            state.condemned.push(Listed { id, bytes, modified_at: 0 });
        }
        let stale = std::mem::take(&mut state.stale);
        state.condemned.extend(stale);
    }

    /// Keeps pages until a time, as many as the share for pins allows: in order, those that are there. Says of each whether it is
    /// pinned.
    pub(super) fn pin(&self, keys: &[Key], until: u64) -> Vec<bool> {
        let (most, now) = (self.spec.pinnable(), self.now());
        let mut state = self.lock();
        state.index.end_pins(now, most);
        let mut pin = |key: &Key| {
            let Found::Page(place, page) = state.look_up(key, now, self.spec.ttl) else { return false };
            let may = until > now && (page.pinned_until > 0 || state.index.num_pinned() < most);
            if may {
                state.index.pin(place, until);
            }
            may
        };
        keys.iter().map(&mut pin).collect()
    }

    /// Ends pins. Answers how many there were.
    pub(super) fn unpin(&self, keys: &[Key]) -> usize {
        let mut state = self.lock();
        let mut unpin = |key: &Key| match state.index.find(key) {
            Found::Page(place, page) if page.pinned_until > 0 => {
                state.index.pin(place, 0);
                true
            }
            _ => false,
        };
        keys.iter().filter(|key| unpin(key)).count()
    }

    /// Gives pages a weight. Says of each whether it is there.
    pub(super) fn weigh(&self, keys: &[Key], weight: u8) -> Vec<bool> {
        let mut state = self.lock();
        let now = self.now();
        let mut weigh = |key: &Key| {
            let Found::Page(place, _) = state.look_up(key, now, self.spec.ttl) else { return false };
            state.index.weigh(place, weight);
            true
        };
        keys.iter().map(&mut weigh).collect()
    }

    /// All pages: by weight, the least recently used of each first, and behind them those that are pinned.
    pub(super) fn list(&self) -> Vec<Page> {
        let (state, now) = (self.lock(), self.now());
        state.index.pages().filter(|page| !is_over(page, now, self.spec.ttl)).collect()
    }

    pub(super) fn stats(&self) -> DiskStats {
        let state = self.lock();
        DiskStats {
            bytes: state.bytes,
            limit_bytes: self.spec.limit,
            stale_bytes: state.stale.iter().chain(&state.condemned).map(|file| file.bytes).sum(),
            pages: state.index.num_pages() as u64,
            pinned_pages: state.index.num_pinned() as u64,
            kept_pages: state.index.num_kept() as u64,
            pinnable_pages: self.spec.pinnable() as u64,
            is_read_only: self.is_read_only,
            trouble: state.writes.trouble().or(state.growth.trouble()).cloned(),
            ..state.stats.clone()
        }
    }
}
