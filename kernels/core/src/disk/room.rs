//! Where room comes from: files that are of no use, new segments up to the limit, what other models left, and last the pages that were
//! used the longest ago. And what is done from time to time: pins and pages whose time is over, records that have changed, syncs.

use super::error::DiskError;
use super::files::Listed;
use super::layout::Layout;
use super::record::Head;
use super::segment::Segment;
use super::store::{State, Store};
use super::writes::sync;
use std::io::ErrorKind;
use std::sync::{Arc, PoisonError};

/// The next thing to do for more slots.
enum Growth {
    Delete(Listed),
    Make(Head),
    /// The limit is reached.
    Over,
}

impl Store {
    /// Makes free slots for so many pages, as far as the limit allows.
    ///
    /// # Errors
    /// The system's, and `paused` for a while after: there may be slots all the same, of pages that can go.
    pub(super) fn make_room(&self, pages: usize) -> Result<(), DiskError> {
        if self.lock().index.num_free() >= pages {
            return Ok(());
        }
        let _one = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = self.now();
            let mut state = self.lock();
            if state.index.num_free() >= pages {
                return Ok(());
            }
            if let Some(pause) = state.growth.pause(now) {
                return Err(pause);
            }
            let growth = self.next_growth(&mut state);
            drop(state);
            let grown = match growth {
                Growth::Delete(file) => self.delete(file),
                Growth::Make(head) => self.make(head),
                Growth::Over => return Ok(()),
            };
            let mut state = self.lock();
            match grown {
                Ok(()) => state.growth.succeeded(now),
                Err(error) => {
                    state.growth.failed(error.clone(), now);
                    return Err(error);
                }
            }
        }
    }

    /// What is to be made counts from here on.
    fn next_growth(&self, state: &mut State) -> Growth {
        if let Some(file) = state.condemned.pop() {
            return Growth::Delete(file);
        }
        let room = self.spec.limit.saturating_sub(state.bytes);
        let wanted = self.spec.segment_bytes;
        if room < wanted && !state.stale.is_empty() {
            return Growth::Delete(state.stale.remove(0));
        }
        let Some(layout) = Layout::within(room.min(wanted), self.spec.page_bytes) else {
            return Growth::Over;
        };
        // A file may have any number that fits its name.
        let Some(id) = state.last_id.checked_add(1) else { return Growth::Over };
        state.last_id = id;
        state.bytes += layout.file_bytes();
        Growth::Make(Head { id, fingerprint: self.spec.fingerprint, layout })
    }

    fn make(&self, head: Head) -> Result<(), DiskError> {
        let bytes = head.layout.file_bytes();
        let made = self.folder.create(head.id, bytes).map_err(|error| (error, false)).and_then(|file| {
            let segment = Segment::new(head, file);
            segment.write_head().map(|()| segment).map_err(|error| (error, true))
        });
        let mut state = self.lock();
        match made {
            Ok(segment) => {
                state.index.add_segment(head.id, head.layout.slots);
                state.segments.insert(head.id, Arc::new(segment));
                Ok(())
            }
            Err((error, is_there)) => {
                if is_there {
                    state.condemned.push(Listed { id: head.id, bytes, modified_at: 0 });
                } else {
                    state.bytes -= bytes;
                }
                Err(DiskError::of("no segment can be made", &error))
            }
        }
    }

    fn delete(&self, file: Listed) -> Result<(), DiskError> {
        let removed = self.folder.remove(file.id);
        let mut state = self.lock();
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                state.condemned.push(file);
                Err(DiskError::of("a segment cannot be deleted", &error))
            }
            _ => {
                state.bytes -= file.bytes;
                Ok(())
            }
        }
    }

    /// Deletes what is to be deleted, as far as it can be.
    pub(super) fn delete_condemned(&self) {
        loop {
            let Some(file) = self.lock().condemned.pop() else { return };
            // What cannot be deleted now takes up room, and is tried again.
            if self.delete(file).is_err() {
                return;
            }
        }
    }

    /// What is to be done from time to time. When it has gone well, pages that were stored before it outlive a power cut.
    pub(super) fn upkeep(&self) {
        let _busy = self.busy.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        let mut state = self.lock();
        self.end_times(&mut state, now);
        let segments: Vec<Arc<Segment>> = state.segments.values().map(Arc::clone).collect();
        drop(state);
        if !self.is_read_only {
            self.delete_condemned();
        }
        for segment in segments {
            if segment.is_gone() {
                self.forget(&segment, now);
                continue;
            }
            if self.is_read_only {
                continue;
            }
            if self.lock().writes.pause(now).is_some() {
                return;
            }
            let kept = self.write_records(&segment);
            let kept = kept.and_then(|()| if segment.unsynced() == 0 { Ok(()) } else { sync(&segment) });
            if let Err(error) = kept {
                self.lock().writes.failed(error, now);
            }
        }
    }

    /// Lets writes under way end, keeps what there is, and gives the folder free.
    pub(super) fn end(&self) {
        self.lock().is_closed = true;
        drop(self.busy.write().unwrap_or_else(PoisonError::into_inner));
        self.upkeep();
        self.folder.close();
    }

    /// Ends pins, and removes pages that were not used for too long, those of other models too.
    fn end_times(&self, state: &mut State, now: u64) {
        state.index.end_pins(now, self.spec.pinnable());
        let Some(last) = now.checked_sub(self.spec.ttl).filter(|_| self.spec.ttl > 0) else { return };
        state.stats.expired += state.index.expire(last) as u64;
        let (old, stale) = state.stale.iter().partition(|file| file.modified_at <= last);
        let old: Vec<Listed> = old;
        state.stale = stale;
        state.condemned.extend(old);
    }

    /// Somebody has deleted the file of a segment: its pages are gone, and its room is free again.
    fn forget(&self, segment: &Segment, now: u64) {
        let id = segment.head.id;
        let mut state = self.lock();
        if state.segments.remove(&id).is_some() {
            state.index.drop_segment(id);
            state.bytes -= segment.head.layout.file_bytes();
            let error = DiskError::new("ENOENT", "files of the disk tier were deleted while it was in use");
            state.growth.failed(error, now);
        }
    }
}
