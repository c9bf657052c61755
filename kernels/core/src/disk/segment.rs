//! A segment that is open: pages and records on their way to and from its file.

use super::aligned::Aligned;
use super::files::SegmentFile;
use super::layout::{BLOCK, Layout};
use super::record::{Head, Page, RECORD_BYTES};
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

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

    /// Writes pages into slots that follow each other. Where pages lie so that direct I/O can have them, it can have all that is written:
    /// what does not fill a block of a page is copied to one that zeros fill.
    pub(super) fn write_pages(&self, first: u32, pages: &[&[u8]]) -> io::Result<()> {
        let layout = self.head.layout;
        let mut ends = Aligned::new(pages.len() * layout.end_bytes());
        let mut ends = ends.bytes().chunks_exact_mut(BLOCK as usize);
        let mut slices = Vec::with_capacity(2 * pages.len());
        for page in pages {
            assert_eq!(page.len(), layout.page_bytes, "bytes of a page");
            let (body, rest) = page.split_at(layout.body_bytes());
            slices.push(IoSlice::new(body));
            if let Some(end) = ends.next() {
                end[..rest.len()].copy_from_slice(rest);
                slices.push(IoSlice::new(end));
            }
        }
        self.write(layout.slot_at(first), &slices)
    }

    /// Reads pages from slots that follow each other, as they are written.
    pub(super) fn read_pages(&self, first: u32, pages: &mut [&mut [u8]]) -> io::Result<()> {
        let layout = self.head.layout;
        let mut memory = Aligned::new(pages.len() * layout.end_bytes());
        let mut ends = memory.bytes().chunks_exact_mut(BLOCK as usize);
        let mut slices = Vec::with_capacity(2 * pages.len());
        let mut rests = Vec::with_capacity(pages.len());
        for page in pages {
            assert_eq!(page.len(), layout.page_bytes, "bytes of a page");
            let (body, rest) = page.split_at_mut(layout.body_bytes());
            slices.push(IoSliceMut::new(body));
            if let Some(end) = ends.next() {
                slices.push(IoSliceMut::new(end));
                rests.push(rest);
            }
        }
        self.file.read(layout.slot_at(first), &mut slices)?;
        for (rest, end) in rests.into_iter().zip(memory.bytes().chunks_exact(BLOCK as usize)) {
            rest.copy_from_slice(&end[..rest.len()]);
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::testing::content;

    /// A file in memory that takes what direct I/O could have.
    #[derive(Debug, Default)]
    struct Picky(Mutex<Vec<u8>>);

    fn assert_aligned(slice: &[u8]) {
        let fits = |n: usize| n.is_multiple_of(BLOCK as usize);
        assert!(slice.is_empty() || fits(slice.as_ptr().addr()) && fits(slice.len()));
    }

    impl SegmentFile for Picky {
        fn read(&self, offset: u64, slices: &mut [IoSliceMut<'_>]) -> io::Result<()> {
            let (bytes, mut at) = (self.0.lock().unwrap(), offset as usize);
            for slice in slices {
                assert_aligned(slice);
                let end = at + slice.len();
                slice.copy_from_slice(&bytes[at..end]);
                at = end;
            }
            Ok(())
        }
        fn write(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
            let mut bytes = self.0.lock().unwrap();
            bytes.resize(offset as usize, 0);
            for slice in slices {
                assert_aligned(slice);
                bytes.extend_from_slice(slice);
            }
            Ok(())
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
        fn is_gone(&self) -> bool {
            false
        }
    }

    #[test]
    fn of_pages_that_lie_well_direct_io_can_have_everything() {
        for page_bytes in [100, 4096, 5000, 8192, 8192 + 4095] {
            let layout = Layout { page_bytes, slots: 9 };
            let segment = Segment::new(Head { id: 1, fingerprint: [0; 32], layout }, Box::<Picky>::default());
            let pages: Vec<Vec<u8>> = (0..3).map(|number| content(number, page_bytes)).collect();
            let mut memory = Aligned::new(3 * layout.slot_bytes() as usize);
            let slots = memory.bytes().chunks_exact_mut(layout.slot_bytes() as usize);
            let mut lying: Vec<&mut [u8]> = slots.map(|slot| &mut slot[..page_bytes]).collect();
            for (to, page) in lying.iter_mut().zip(&pages) {
                to.copy_from_slice(page);
            }
            segment.write_pages(4, &lying.iter().map(|page| &**page).collect::<Vec<_>>()).unwrap();
            for page in &mut lying {
                page.fill(0);
            }
            segment.read_pages(4, &mut lying).unwrap();
            assert!(lying.iter().zip(&pages).all(|(read, page)| read == page), "{page_bytes} bytes");
            assert_eq!(segment.unsynced(), 3 * layout.slot_bytes());
        }
    }
}
