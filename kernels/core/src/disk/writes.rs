//! How pages come in: a slot each, the pages, then their records. What is cut off between leaves slots whose record does not fit their
//! page, which nobody is given.

use super::error::DiskError;
use super::index::{Found, Place};
use super::key::Key;
use super::record::{Page, checksum};
use super::segment::Segment;
use super::store::{State, Store};
use super::trouble::PAUSED;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// Bytes of a segment that are synced beside the writes, without waiting for the next upkeep.
const SYNC_BYTES: u64 = 32 << 20;

/// A page on its way.
#[derive(Debug)]
struct Write {
    /// Place in the caller's list.
    entry: usize,
    place: Place,
    segment: Arc<Segment>,
    stored_at: u64,
    checksum: u64,
    error: Option<DiskError>,
}

impl Store {
    /// Stores pages that are not there yet. Each arrives or fails by itself; for one that another thread is writing it waits.
    pub(super) fn write(&self, pages: &[(Key, &[u8])]) -> Vec<Result<(), DiskError>> {
        let start = Instant::now();
        let results = self.writing.during(pages, || self.write_new(pages));
        let mut state = self.lock();
        state.stats.write_seconds += start.elapsed().as_secs_f64();
        results.iter().filter_map(|result| result.as_ref().err()).for_each(|error| state.stats.failed(error));
        results
    }

    fn write_new(&self, pages: &[(Key, &[u8])]) -> Vec<Result<(), DiskError>> {
        let _busy = self.busy.read().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.may_write() {
            return vec![Err(error); pages.len()];
        }
        let room = self.make_room(pages.len());
        let mut results = vec![Ok(()); pages.len()];
        let (mut writes, others) = self.claim(pages, &room, &mut results);
        writes.sort_unstable_by_key(|write| write.place);
        for run in writes.chunk_by_mut(|a, b| a.place.is_before(b.place)) {
            self.write_run(pages, run);
        }
        self.publish(pages, &mut writes);
        self.count(&writes);
        for write in writes {
            results[write.entry] = write.error.map_or(Ok(()), Err);
        }
        // Only now: two threads that each wait for the other's page have written their own.
        for entry in others {
            results[entry] = self.wait_for(&pages[entry].0);
        }
        results
    }

    /// # Errors
    /// `closed`, `read_only`, `paused`.
    fn may_write(&self) -> Result<(), DiskError> {
        let state = self.lock();
        if state.is_closed {
            return Err(DiskError::new("closed", "the disk store is closed"));
        }
        if self.is_read_only {
            let message =
                "the disk tier's folder cannot be written: pages are loaded from it, and none is stored";
            return Err(DiskError::new("read_only", message));
        }
        state.writes.pause(self.now()).map_or(Ok(()), Err)
    }

    /// Gives each page that is not there a slot. Those that find none have failed; the places of those that others are writing are in
    /// the second list.
    fn claim(
        &self,
        pages: &[(Key, &[u8])],
        room: &Result<(), DiskError>,
        results: &mut [Result<(), DiskError>],
    ) -> (Vec<Write>, Vec<usize>) {
        let (now, most) = (self.now(), self.spec.pinnable());
        let mut state = self.lock();
        state.index.end_pins(now, most);
        let (mut writes, mut others) = (Vec::with_capacity(pages.len()), Vec::new());
        for (entry, (key, _)) in pages.iter().enumerate() {
            match state.look_up(key, now, self.spec.ttl) {
                Found::Page(place, _) => {
                    state.index.touch(place, now);
                    continue;
                }
                Found::BeingWritten => {
                    others.push(entry);
                    continue;
                }
                Found::Nothing => {}
            }
            // One that is over and not gone yet makes place for the new one.
            state.index.remove(key);
            let Some(place) = state.slot(most) else {
                results[entry] = Err(room.clone().err().unwrap_or_else(no_slot));
                continue;
            };
            let Some(segment) = state.segments.get(&place.segment).map(Arc::clone) else { continue };
            state.index.begin_write(place, *key);
            let stored_at = state.index.stamp(now);
            writes.push(Write { entry, place, segment, stored_at, checksum: 0, error: None });
        }
        // What keeps segments from being made keeps a pause of its own.
        if let (Err(error), true) = (room, results.iter().any(Result::is_err))
            && error.code != PAUSED
        {
            state.writes.failed(error.clone(), now);
        }
        (writes, others)
    }

    /// Writes pages into neighbouring slots.
    fn write_run(&self, pages: &[(Key, &[u8])], run: &mut [Write]) {
        let mut bytes = Vec::with_capacity(run.len());
        for write in &mut *run {
            let (key, page) = pages[write.entry];
            write.checksum = checksum(&self.spec.fingerprint, &key, page);
            bytes.push(page);
        }
        if let Err(error) = run[0].segment.write_pages(run[0].place.slot, &bytes) {
            let error = DiskError::of("pages cannot be written", &error);
            for write in run {
                write.error = Some(error.clone());
            }
        }
    }

    /// Writes the records of pages that were written, which lets the next process find them, then lets this one find them.
    fn publish(&self, pages: &[(Key, &[u8])], writes: &mut [Write]) {
        let mut state = self.lock();
        for write in writes.iter().filter(|write| write.error.is_none()) {
            let Write { checksum, stored_at, .. } = *write;
            let key = pages[write.entry].0;
            let page = Page { key, checksum, stored_at, used_at: stored_at, pinned_until: 0, weight: 0 };
            state.index.begin_record(write.place, page);
        }
        drop(state);
        for part in writes.chunk_by_mut(|a, b| a.place.segment == b.place.segment) {
            if let Err(error) = self.write_records(&part[0].segment) {
                for write in part {
                    write.error.get_or_insert_with(|| error.clone());
                }
            }
        }
        let mut state = self.lock();
        for write in writes {
            state.index.end_write(write.place, write.error.is_none());
        }
        self.settled.notify_all();
    }

    /// Waits for a page that another thread is writing.
    fn wait_for(&self, key: &Key) -> Result<(), DiskError> {
        let is_written = |state: &mut State| state.index.find(key) == Found::BeingWritten;
        let state = self.settled.wait_while(self.lock(), is_written).unwrap_or_else(PoisonError::into_inner);
        match state.index.find(key) {
            Found::Page(..) => Ok(()),
            _ => Err(DiskError::new(
                "missing",
                format!("{key} was not stored by the thread that was writing it"),
            )),
        }
    }

    fn count(&self, writes: &[Write]) {
        let mut state = self.lock();
        let now = self.now();
        match writes.iter().find_map(|write| write.error.as_ref()) {
            Some(error) => state.writes.failed(error.clone(), now),
            None if !writes.is_empty() => state.writes.succeeded(now),
            None => {}
        }
        let written = writes.iter().filter(|write| write.error.is_none()).count();
        state.stats.stored += written as u64;
        state.stats.written_bytes += (written * self.spec.page_bytes) as u64;
    }

    /// Writes the records of a segment that have changed, and syncs it when much has gathered.
    pub(super) fn write_records(&self, segment: &Segment) -> Result<(), DiskError> {
        let records = segment.records.lock().unwrap_or_else(PoisonError::into_inner);
        let id = segment.head.id;
        let changed = self.lock().index.take_changed(id);
        segment.write_records(&changed).map_err(|error| {
            self.lock().index.put_changed(id, changed.iter().map(|(slot, _)| *slot));
            DiskError::of("records of pages cannot be written", &error)
        })?;
        drop(records);
        if segment.unsynced() < SYNC_BYTES { Ok(()) } else { sync(segment) }
    }
}

/// # Errors
/// The system's.
pub(super) fn sync(segment: &Segment) -> Result<(), DiskError> {
    segment.sync().map_err(|error| DiskError::of("pages cannot be synced", &error))
}

fn no_slot() -> DiskError {
    DiskError::new("full", "every page on the disk is pinned or in use")
}
