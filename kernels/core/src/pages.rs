//! Pages of KV, in the process's own memory or on a device ([`RemotePages`]). Those in memory are shared by threads: the device thread computes on some pages while transfer
//! threads copy others. So there is never a slice of all pages, only of parts that nobody else changes meanwhile.
//!
//! Who keeps threads apart: a step touches the blocks of its tables, a transfer those of its flight. The engine submits no
//! step that writes a block while a flight reads it, and none that touches one while a flight writes it (a store starts
//! when the step that filled its blocks has ended; a load's blocks are the flight's alone until it has ended). Flights
//! are kept apart from each other by `transfer/claims.rs`.
#![expect(unsafe_code, reason = "threads share memory, each its own parts")]

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::error::{Failure, Result};
use crate::mapping::{Mapping, Plain};

/// Pages that are not in the process's memory: the side of them that transfers use. Whoever calls keeps steps and other
/// transfers off the pages, as the module says. Any thread may call.
pub trait RemotePages: Debug + Send + Sync {
    /// Copies host pages to pages of the device; they have arrived when it returns.
    ///
    /// # Errors
    /// `device_lost`, `internal`: any of them may not have arrived.
    fn load(&self, copies: &[(&[u8], usize)]) -> Result<()>;

    /// Copies pages of the device to host pages; they have arrived when it returns.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn store(&self, copies: &mut [(usize, &mut [u8])]) -> Result<()>;

    /// Sets every byte of a page.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn fill(&self, page: usize, byte: u8) -> Result<()>;

    /// Lets the device reach host memory by itself, until the answer is dropped. The memory must live as long. Copies from and to
    /// other memory are correct too, and slow.
    ///
    /// # Errors
    /// `out_of_memory` where the system or the driver gives no more of it.
    fn pin(&self, start: *mut u8, len: usize) -> Result<Box<dyn Pin>>;
}

/// Host memory that a device reaches by itself; dropping it ends that.
pub trait Pin: Debug + Send {}

#[derive(Clone, Debug)]
enum Home {
    Memory(Arc<Mapping>),
    Remote(Arc<dyn RemotePages>),
}

/// Pages of one size, zeroed at first. Clones are the same memory, which lives as long as one of them.
#[derive(Clone, Debug)]
pub struct Pages {
    home: Home,
    page_bytes: usize,
    /// Bytes from the start of one page to that of the next.
    stride: usize,
    count: usize,
}

impl Pages {
    /// Maps them; what is not touched takes no memory.
    ///
    /// # Errors
    /// `out_of_memory` with the size.
    pub fn map(page_bytes: usize, num_pages: usize) -> Result<Self> {
        Self::map_apart(page_bytes, page_bytes, num_pages)
    }

    /// As [`Self::map`] with `stride` bytes, no fewer than a page's, from the start of one page to that of the next.
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn map_apart(page_bytes: usize, stride: usize, num_pages: usize) -> Result<Self> {
        let bytes = stride.max(page_bytes).checked_mul(num_pages).ok_or_else(|| {
            Failure::out_of_memory(format!(
                "{num_pages} pages of {page_bytes} bytes are more than memory holds"
            ))
        })?;
        Ok(Self { home: Home::Memory(Arc::new(Mapping::new(bytes)?)), page_bytes, stride, count: num_pages })
    }

    /// Pages of a device. What computes with them has its own way to them: nothing here gives out their bytes.
    pub fn on_device(device: Arc<dyn RemotePages>, page_bytes: usize, num_pages: usize) -> Self {
        Self { home: Home::Remote(device), page_bytes, stride: page_bytes, count: num_pages }
    }

    /// The copying side of pages that are not in memory.
    pub fn remote(&self) -> Option<&Arc<dyn RemotePages>> {
        match &self.home {
            Home::Memory(_) => None,
            Home::Remote(device) => Some(device),
        }
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Number of pages.
    pub fn num_pages(&self) -> usize {
        self.count
    }

    fn memory(&self) -> &Mapping {
        match &self.home {
            Home::Memory(memory) => memory,
            Home::Remote(device) => panic!("these pages are not in memory: {device:?}"),
        }
    }

    /// Access to parts of the pages.
    ///
    /// # Panics
    /// When they are on a device, as the other two below.
    ///
    /// # Safety
    /// As long as a slice that the view has given out lives, nobody outside the view writes what a shared slice covers, nor
    /// reads or writes what a mutable one covers.
    pub unsafe fn view(&self) -> PagesView<'_> {
        PagesView { start: self.memory().start(), len: self.memory().len(), owner: PhantomData }
    }

    /// Has the system give the memory of these bytes, counted from the first page, now; see [`Mapping::populate`].
    ///
    /// # Panics
    /// When they are not inside the pages, or those are on a device.
    pub fn populate(&self, bytes: std::ops::Range<usize>) -> bool {
        self.memory().populate(bytes)
    }

    /// The bytes of a page.
    ///
    /// # Safety
    /// Nobody writes the page as long as the slice lives.
    ///
    /// # Panics
    /// When there is no such page.
    pub unsafe fn page(&self, page: usize) -> &[u8] {
        // SAFETY: inside the memory; the rest is the caller's duty.
        unsafe { std::slice::from_raw_parts(self.start_of(page), self.page_bytes) }
    }

    /// The bytes of a page, to write.
    ///
    /// # Safety
    /// Nobody else reads or writes the page as long as the slice lives.
    ///
    /// # Panics
    /// When there is no such page.
    #[expect(clippy::mut_from_ref, reason = "that nobody else has the page is the caller's duty")]
    pub unsafe fn page_mut(&self, page: usize) -> &mut [u8] {
        // SAFETY: inside the memory; the rest is the caller's duty.
        unsafe { std::slice::from_raw_parts_mut(self.start_of(page), self.page_bytes) }
    }

    fn start_of(&self, page: usize) -> *mut u8 {
        assert!(page < self.count, "page {page} of {}", self.count);
        // SAFETY: inside the mapping, which holds all pages.
        unsafe { self.memory().start().add(page * self.stride) }
    }
}

/// What [`Pages::view`] gives. Places are bytes from the start of the first page.
#[derive(Debug)]
pub struct PagesView<'a> {
    start: *mut u8,
    len: usize,
    owner: PhantomData<&'a Pages>,
}

// SAFETY: a shared view only reads; parts that are written through it are disjoint by the contract of `part`.
unsafe impl Sync for PagesView<'_> {}

impl PagesView<'_> {
    /// The elements at `place`.
    ///
    /// # Panics
    /// When they are not inside the pages or not aligned.
    #[inline]
    pub fn read<T: Plain>(&self, place: usize, len: usize) -> &[T] {
        // SAFETY: checked by `at`; nobody outside the view writes them, and inside it a writer borrows it mutably.
        unsafe { std::slice::from_raw_parts(self.at(place, len), len) }
    }

    /// The elements at `place`, to write.
    ///
    /// # Panics
    /// As [`Self::read`].
    #[inline]
    pub fn write<T: Plain>(&mut self, place: usize, len: usize) -> &mut [T] {
        // SAFETY: checked by `at`; nobody outside the view touches them, and the view is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.at(place, len), len) }
    }

    /// The elements at `place`, to write beside other threads that share the view.
    ///
    /// # Safety
    /// No two parts that are alive at the same time overlap, and none overlaps a slice of [`Self::read`].
    ///
    /// # Panics
    /// As [`Self::read`].
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's duty")]
    pub unsafe fn part<T: Plain>(&self, place: usize, len: usize) -> &mut [T] {
        // SAFETY: checked by `at`; the rest is the caller's duty.
        unsafe { std::slice::from_raw_parts_mut(self.at(place, len), len) }
    }

    /// Copies bytes from one place to another.
    ///
    /// # Panics
    /// As [`Self::read`].
    pub fn copy(&mut self, from: usize, to: usize, len: usize) {
        let (from, to) = (self.at::<u8>(from, len), self.at::<u8>(to, len));
        // SAFETY: both are inside the pages and borrowed through the view; they may overlap.
        unsafe { std::ptr::copy(from, to, len) };
    }

    #[inline]
    fn at<T: Plain>(&self, place: usize, len: usize) -> *mut T {
        let bytes = len.saturating_mul(size_of::<T>());
        assert!(
            place <= self.len && bytes <= self.len - place && place.is_multiple_of(align_of::<T>()),
            "{len} elements at byte {place} of {}",
            self.len
        );
        // SAFETY: inside the memory.
        unsafe { self.start.add(place).cast() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zero_aligned_and_apart() {
        for (page_bytes, num_pages) in [(64, 5), (4096, 3), (192, 100_000), (3 << 20, 3)] {
            let pages = Pages::map(page_bytes, num_pages).unwrap();
            let copy = pages.clone();
            for page in [0, num_pages / 2, num_pages - 1] {
                // SAFETY: one thread, one slice at a time.
                let bytes = unsafe { pages.page_mut(page) };
                assert!(bytes.len() == page_bytes && bytes.as_ptr().addr() % 64 == 0);
                assert!(bytes.iter().all(|&byte| byte == 0));
                bytes.fill(page as u8 | 1);
            }
            for page in [0, num_pages / 2, num_pages - 1] {
                // SAFETY: as above.
                assert!(unsafe { copy.page(page) }.iter().all(|&byte| byte == page as u8 | 1));
            }
        }
    }

    #[test]
    fn a_view_reads_what_was_written_and_copied() {
        let pages = Pages::map(64, 4).unwrap();
        // SAFETY: nobody else has the pages.
        let mut view = unsafe { pages.view() };
        view.write(64, 16).copy_from_slice(&[7_u32; 16]);
        view.copy(64, 192, 64);
        assert_eq!(view.read::<u32>(192, 16), [7; 16]);
        // SAFETY: the two do not overlap, and nothing else is borrowed.
        let (a, b) = unsafe { (view.part::<u16>(0, 2), view.part::<u16>(4, 2)) };
        a.copy_from_slice(&[1, 2]);
        b.copy_from_slice(a);
        assert_eq!(view.read::<u8>(0, 8), [1, 0, 2, 0, 1, 0, 2, 0]);
    }

    #[test]
    fn what_lies_outside_is_refused() {
        let pages = Pages::map(64, 2).unwrap();
        // SAFETY: nobody else has the pages.
        let view = unsafe { pages.view() };
        for (place, len) in [(128, 1), (127, 2), (usize::MAX, 1), (0, 129)] {
            let outside = std::panic::AssertUnwindSafe(|| view.read::<u8>(place, len).len());
            assert!(std::panic::catch_unwind(outside).is_err(), "{len} at {place}");
        }
        let crooked = std::panic::AssertUnwindSafe(|| view.read::<u32>(2, 1).len());
        assert!(std::panic::catch_unwind(crooked).is_err());
        // SAFETY: no such page.
        let beyond = std::panic::AssertUnwindSafe(|| unsafe { pages.page(2) }.len());
        assert!(std::panic::catch_unwind(beyond).is_err());
        assert!(view.read::<u8>(128, 0).is_empty());
        assert!(Pages::map(usize::MAX / 2, 3).is_err());
    }
}
