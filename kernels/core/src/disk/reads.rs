//! How pages go out: neighbours in one call, each checked before anybody gets it. A page that fails is forgotten.

use super::error::DiskError;
use super::index::{Found, Place};
use super::key::Key;
use super::record::{Page, checksum};
use super::segment::Segment;
use super::store::Store;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// A page on its way.
struct Read<'a> {
    /// Place in the caller's list.
    entry: usize,
    place: Place,
    page: Page,
    segment: Arc<Segment>,
    to: &'a mut [u8],
    error: Option<DiskError>,
}

enum Source {
    Disk(Place, Page, Arc<Segment>),
    /// It was being written, and was copied.
    Memory,
    Nowhere,
}

impl Store {
    /// Loads pages. Each arrives or fails by itself; what a failed one's target holds is unspecified.
    pub(super) fn read(&self, pages: &mut [(Key, &mut [u8])]) -> Vec<Result<(), DiskError>> {
        let start = Instant::now();
        let mut results = vec![Ok(()); pages.len()];
        let mut reads = Vec::with_capacity(pages.len());
        for (entry, (key, to)) in pages.iter_mut().enumerate() {
            match self.find_source(key, to) {
                Source::Disk(place, page, segment) => {
                    reads.push(Read { entry, place, page, segment, to, error: None });
                }
                Source::Memory => {}
                Source::Nowhere => {
                    results[entry] = Err(DiskError::new("missing", format!("{key} is not on the disk")));
                }
            }
        }
        reads.sort_unstable_by_key(|read| read.place);
        for run in reads.chunk_by_mut(|a, b| a.place.is_before(b.place)) {
            self.read_run(run);
        }
        let mut state = self.lock();
        for Read { entry, place, error, .. } in reads {
            state.index.end_read(place, error.is_none());
            results[entry] = error.map_or(Ok(()), Err);
        }
        let hits = results.iter().filter(|result| result.is_ok()).count();
        state.stats.read(hits, self.spec.page_bytes, start.elapsed());
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            if error.code == "missing" {
                state.stats.misses += 1;
            } else {
                state.stats.failed(error);
            }
        }
        results
    }

    /// Where a page comes from; its slot stays as it is until the end of the read.
    fn find_source(&self, key: &Key, to: &mut [u8]) -> Source {
        // What has been written meanwhile is found the second time.
        for _ in 0..2 {
            let now = self.now();
            let mut state = self.lock();
            match state.look_up(key, now, self.spec.ttl) {
                Found::Page(place, page) => {
                    let Some(segment) = state.segments.get(&place.segment).map(Arc::clone) else { break };
                    state.index.begin_read(place, now);
                    return Source::Disk(place, page, segment);
                }
                Found::BeingWritten => {
                    drop(state);
                    if self.writing.copy(key, to) {
                        return Source::Memory;
                    }
                }
                Found::Nothing => break,
            }
        }
        Source::Nowhere
    }

    /// Reads and checks pages from neighbouring slots.
    fn read_run(&self, run: &mut [Read<'_>]) {
        if read_slots(run).is_err() {
            // One that cannot be read takes no other along.
            for read in &mut *run {
                if let Err(error) = read_slots(std::slice::from_mut(read)) {
                    read.error = Some(DiskError::of("a page cannot be read", &error));
                }
            }
        }
        for read in run.iter_mut().filter(|read| read.error.is_none()) {
            let Page { key, checksum: stored, .. } = read.page;
            if checksum(&self.spec.fingerprint, &key, read.to) != stored {
                let message = format!("{key} is not what was stored: its checksum differs");
                read.error = Some(DiskError::new("checksum", message));
            }
        }
    }
}

fn read_slots(run: &mut [Read<'_>]) -> io::Result<()> {
    let (first, segment) = (run[0].place.slot, Arc::clone(&run[0].segment));
    let mut pages: Vec<&mut [u8]> = run.iter_mut().map(|read| &mut *read.to).collect();
    segment.read_pages(first, &mut pages)
}
