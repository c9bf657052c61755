//! A segment that is open: pages and records on their way to and from its file.

use super::files::SegmentFile;
use super::layout::Layout;
use super::record::{Head, Page, RECORD_BYTES};
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What lies behind pages that do not fill their slot.
static ZEROS: [u8; super::layout::BLOCK as usize] = [0; super::layout::BLOCK as usize];

/// See the module.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) head: Head,
    file: Box<dyn SegmentFile>,
    /// Whoever writes records holds it and looks up what they are to be: the last one to write knows the latest.
    pub(super) records: Mutex<()>,
    /// Bytes that were written and may not outlive a power cut.
    unsynced: AtomicU64,
}

impl Segment {
    pub(super) fn new(head: Head, file: Box<dyn SegmentFile>) -> Self {
        Self { head, file, records: Mutex::new(()), unsynced: AtomicU64::new(0) }
    }

    /// Writes the head of a new segment.
    pub(super) fn write_head(&self) -> io::Result<()> {
        self.write(0, &[IoSlice::new(&self.head.encode())])
    }

    /// Writes pages into slots that follow each other.
    pub(super) fn write_pages(&self, first: u32, pages: &[&[u8]]) -> io::Result<()> {
        let Layout { page_bytes, .. } = self.head.layout;
        let padding = &ZEROS[..self.head.layout.padding()];
        let mut slices = Vec::with_capacity(2 * pages.len());
        for page in pages {
            assert_eq!(page.len(), page_bytes, "bytes of a page");
            slices.push(IoSlice::new(page));
            if !padding.is_empty() {
                slices.push(IoSlice::new(padding));
            }
        }
        self.write(self.head.layout.slot_at(first), &slices)
    }

    /// Reads pages from slots that follow each other.
    pub(super) fn read_pages(&self, first: u32, pages: &mut [&mut [u8]]) -> io::Result<()> {
        let padding = self.head.layout.padding();
        let mut unread = vec![0; padding * pages.len()];
        let mut unread = unread.chunks_mut(padding.max(1));
        let mut slices = Vec::with_capacity(2 * pages.len());
        let last = pages.len() - 1;
        for (i, page) in pages.iter_mut().enumerate() {
            assert_eq!(page.len(), self.head.layout.page_bytes, "bytes of a page");
            slices.push(IoSliceMut::new(page));
            if let Some(padding) = unread.next().filter(|_| i < last) {
                slices.push(IoSliceMut::new(padding));
            }
        }
        self.file.read(self.head.layout.slot_at(first), &mut slices)
    }

    /// Writes records in ascending order of slots; `None` = the slot holds nothing.
    pub(super) fn write_records(&self, records: &[(u32, Option<Page>)]) -> io::Result<()> {
        for run in records.chunk_by(|a, b| b.0 == a.0 + 1) {
            let mut bytes = Vec::with_capacity(run.len() * RECORD_BYTES);
            for (slot, page) in run {
                let record = page.as_ref().map_or([0; RECORD_BYTES], |page| page.encode(&self.head, *slot));
                bytes.extend_from_slice(&record);
            }
            self.write(Layout::record_at(run[0].0), &[IoSlice::new(&bytes)])?;
        }
        Ok(())
    }

    /// Bytes that a sync would write, at most.
    pub(super) fn unsynced(&self) -> u64 {
        self.unsynced.load(Ordering::Relaxed)
    }

    /// What was written before outlives a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        let unsynced = self.unsynced.swap(0, Ordering::Relaxed);
        self.file.sync().inspect_err(|_| {
            self.unsynced.fetch_add(unsynced, Ordering::Relaxed);
        })
    }

    /// Whether the file was deleted by somebody else.
    pub(super) fn is_gone(&self) -> bool {
        self.file.is_gone()
    }

    fn write(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        let written = self.file.write(offset, slices);
        // Behind the write: a sync that comes between is repeated. One that fails may have changed some of it.
        self.unsynced.fetch_add(bytes as u64, Ordering::Relaxed);
        written
    }
}
