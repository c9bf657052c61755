//! The pages of host memory that blocks are kept in. The pool is mapped at once and grows in the background, ahead of its use: the
//! system gives memory when a page is first touched, which takes seconds for a large pool, and nothing for what nobody needs.
#![expect(unsafe_code, reason = "touches pages that nobody may use yet")]

use super::flight::FlightError;
use super::seal::Seals;
use crate::error::{Failure, Result};
use crate::give_way::give_way;
use crate::mapping::ALIGNMENT;
use crate::memory;
use crate::pages::{Pages, Pin, RemotePages};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Memory that a pool leaves to the rest of the machine.
const SPARE: u64 = 64 << 20;
/// Bytes touched between two looks at how much memory is left.
const ROUND: usize = 64 << 20;
/// Bytes that are ready beyond what is used, at least; the pool grows in steps of this.
const AHEAD: usize = 32 << 20;
/// Bytes touched before pages are counted as ready; also of the system's large pages.
const TOUCHED: usize = 2 << 20;
/// The same where they are pinned for a device, which costs a call of the driver each time.
const PINNED: usize = 16 << 20;
/// The smallest page the system gives.
const SMALL_PAGE: usize = 4096;
/// Of pages from this size on what is lost between two of them is little.
const LARGE: usize = 128 << 10;

/// Bytes from the start of one page to that of the next. Large ones begin where direct I/O can have them (`disk`).
fn stride(page_bytes: usize) -> usize {
    if page_bytes < LARGE { page_bytes } else { page_bytes.next_multiple_of(SMALL_PAGE) }
}

/// Pages that `available` bytes hold.
pub(super) fn pages_that_fit(page_bytes: usize, available: u64) -> u64 {
    available.saturating_sub(SPARE) / stride(page_bytes) as u64
}

/// See the module. Page ids are the caller's business.
#[derive(Debug)]
pub(super) struct HostPool {
    // Before `pages`: pins end before the memory goes.
    pins: Mutex<Vec<Box<dyn Pin>>>,
    pub(super) pages: Pages,
    pub(super) seals: Seals,
    ready: AtomicUsize,
    growing: AtomicBool,
    /// Pages below this are used, or were.
    used: Mutex<usize>,
    /// `used` or `growing` has changed.
    changed: Condvar,
    /// The device whose pages come and go, if they are not in memory: it reaches ready pages by itself.
    device: Option<Arc<dyn RemotePages>>,
}

impl HostPool {
    /// Maps the pool for pages like these of the device; no page is ready before [`Self::grow`].
    ///
    /// # Errors
    /// `out_of_memory` where `available` bytes do not hold it, with the number of pages that would fit.
    pub(super) fn beside(device: &Pages, num_pages: usize, checksums: bool, available: u64) -> Result<Self> {
        let pool = Self::map(device.page_bytes(), num_pages, checksums, available)?;
        Ok(Self { device: device.remote().cloned(), ..pool })
    }

    /// As [`Self::beside`], where the device's pages are in memory.
    ///
    /// # Errors
    /// As [`Self::beside`].
    pub(super) fn map(page_bytes: usize, num_pages: usize, checksums: bool, available: u64) -> Result<Self> {
        let fit = pages_that_fit(page_bytes, available);
        if num_pages as u64 > fit {
            return Err(Failure::out_of_memory(format!(
                "host pool: {num_pages} pages of {page_bytes} bytes are more than the {available} bytes of memory \
                 that are available beside the KV blocks; {fit} pages fit"
            )));
        }
        Ok(Self {
            pages: Pages::map_apart(page_bytes, stride(page_bytes), num_pages)?,
            seals: Seals::new(num_pages, checksums),
            ready: AtomicUsize::new(0),
            growing: AtomicBool::new(true),
            used: Mutex::new(0),
            changed: Condvar::new(),
            device: None,
            pins: Mutex::new(Vec::new()),
        })
    }

    /// Pages that may be used: those below this.
    pub(super) fn num_ready(&self) -> usize {
        self.ready.load(Ordering::Acquire)
    }

    /// Whether more will be ready.
    pub(super) fn is_growing(&self) -> bool {
        self.growing.load(Ordering::Relaxed)
    }

    /// The growing thread: gives way to those that serve.
    pub(super) fn work(&self) {
        give_way();
        self.grow(memory::available);
    }

    /// Pages are about to be used: those behind them will be ready soon.
    pub(super) fn use_pages(&self, pages: &[u32]) {
        let end = pages.iter().max().map_or(0, |&page| page as usize + 1);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if end > *used {
            *used = end;
            self.changed.notify_all();
        }
    }

    /// Waits until page `next` is to be made ready; false = no more ever will.
    fn wait_for_use(&self, next: usize) -> bool {
        let ahead = AHEAD.div_ceil(self.pages.page_bytes());
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while self.is_growing() && next >= (*used / ahead + 2) * ahead {
            used = self.changed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        self.is_growing()
    }

    /// Touches pages in order, as they come near to being used, until all are ready. Ends early where memory runs short or when told
    /// to stop.
    fn grow(&self, mut available: impl FnMut() -> Result<u64>) {
        let (page_bytes, num_pages) = (self.pages.page_bytes(), self.pages.num_pages());
        let mut left = 0;
        let step = match self.device {
            None => TOUCHED.div_ceil(page_bytes),
            Some(_) if stride(page_bytes).is_multiple_of(SMALL_PAGE) => PINNED.div_ceil(page_bytes),
            // So many pages begin and end where pages of the system do: each of those is pinned once.
            Some(_) => PINNED.div_ceil(page_bytes).next_multiple_of(SMALL_PAGE / ALIGNMENT),
        };
        for first in (0..num_pages).step_by(step) {
            if !self.wait_for_use(first) {
                return;
            }
            let end = num_pages.min(first + step);
            let bytes = (end - first) * stride(page_bytes);
            if left < bytes {
                // What the system does not say is no reason to stop.
                if available().is_ok_and(|available| available < SPARE + bytes as u64) {
                    break;
                }
                left = ROUND.max(bytes);
            }
            left -= bytes;
            for page in first..end {
                // SAFETY: nobody else has a page that is not ready.
                let page = unsafe { self.pages.page_mut(page) };
                page.iter_mut().step_by(SMALL_PAGE).for_each(|byte| *byte = std::hint::black_box(0));
                if let Some(last) = page.last_mut() {
                    *last = std::hint::black_box(0);
                }
            }
            if self.pin(first, bytes).is_err() {
                // As where memory runs short: what is ready is what there is.
                break;
            }
            self.ready.store(end, Ordering::Release);
        }
        self.growing.store(false, Ordering::Relaxed);
    }

    /// Lets the device reach pages from `first` on by itself.
    fn pin(&self, first: usize, bytes: usize) -> Result<()> {
        if let Some(device) = &self.device {
            // SAFETY: nobody else has a page that is not ready; its address is all that is taken.
            let start = unsafe { self.pages.page_mut(first) }.as_mut_ptr();
            let pin = device.pin(start, bytes)?;
            self.pins.lock().unwrap_or_else(PoisonError::into_inner).push(pin);
        }
        Ok(())
    }

    /// Copies a page that the caller has claimed.
    ///
    /// # Errors
    /// `empty`, `checksum`.
    pub(super) fn read(&self, page: u32, into: &mut [u8]) -> std::result::Result<(), FlightError> {
        self.seals.filled(page)?;
        // SAFETY: the page is ready, and claimed for reading.
        into.copy_from_slice(unsafe { self.pages.page(page as usize) });
        // Of what was copied: nobody changes it any more.
        self.seals.check(page, into)
    }

    /// Fills a page that the caller has claimed alone.
    pub(super) fn write(&self, page: u32, bytes: &[u8]) {
        self.seals.open(page);
        // SAFETY: the page is ready, and claimed for writing.
        unsafe { self.pages.page_mut(page as usize) }.copy_from_slice(bytes);
        self.seals.close(page, self.seals.of(bytes));
    }

    /// For tests: changes a byte of a page that is ready and in no flight; the caller sees to it that none begins meanwhile.
    pub(super) fn corrupt(&self, page: u32) {
        // SAFETY: the page is ready, and no flight has it.
        let bytes = unsafe { self.pages.page_mut(page as usize) };
        bytes[0] ^= 1;
    }

    /// Ends [`Self::grow`] soon.
    pub(super) fn stop_growing(&self) {
        // Under the lock: who is about to wait sees it, or is woken.
        let _used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.growing.store(false, Ordering::Relaxed);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    const PAGE: usize = 1 << 20;

    fn pool(num_pages: usize) -> HostPool {
        HostPool::map(PAGE, num_pages, true, 1 << 40).unwrap()
    }

    #[test]
    fn every_page_is_ready_in_the_end_and_the_number_never_falls() {
        for (page_bytes, num_pages) in [(64, 1), (192, 50_000), (3 << 20, 3), (PAGE, 0)] {
            let pool = HostPool::map(page_bytes, num_pages, true, 1 << 40).unwrap();
            assert_eq!(pool.num_ready(), 0);
            if let Some(last) = num_pages.checked_sub(1) {
                pool.use_pages(&[last as u32]);
            }
            let mut seen = 0;
            pool.grow(|| {
                assert!(pool.num_ready() >= seen);
                seen = pool.num_ready();
                Ok(1 << 40)
            });
            assert_eq!((pool.num_ready(), pool.is_growing()), (num_pages, false));
        }
    }

    #[test]
    fn large_pages_begin_where_direct_io_can_have_them() {
        for (page_bytes, expected) in [(LARGE - 64, LARGE - 64), (LARGE, LARGE), (380_224, 380_928)] {
            let pool = HostPool::map(page_bytes, 20, false, 1 << 40).unwrap();
            // SAFETY: their addresses are all that is taken.
            let [first, last] = [0, 19].map(|page| unsafe { pool.pages.page(page) }.as_ptr().addr());
            assert_eq!(last - first, 19 * expected);
            assert!(first.is_multiple_of(SMALL_PAGE));
        }
    }

    #[test]
    fn a_pool_beyond_memory_is_refused_with_what_fits() {
        let fits = |available: u64| HostPool::map(PAGE, 10, true, available);
        let enough = SPARE + 10 * PAGE as u64;
        assert!(fits(enough).is_ok());
        let failure = fits(enough - 1).unwrap_err();
        assert_eq!(failure.code, Code::OutOfMemory);
        assert!(failure.message.contains("10 pages of 1048576 bytes"), "{failure}");
        assert!(failure.message.ends_with("9 pages fit"), "{failure}");
        assert!(fits(0).unwrap_err().message.ends_with("0 pages fit"));
    }

    #[test]
    fn growing_ends_where_memory_runs_short() {
        let pool = pool(200);
        pool.use_pages(&[199]);
        let mut asked = 0;
        pool.grow(|| {
            asked += 1;
            Ok(if asked < 3 { 1 << 40 } else { SPARE })
        });
        assert_eq!((pool.num_ready(), pool.is_growing()), (2 * ROUND / PAGE, false));
    }

    #[test]
    fn only_pages_near_those_in_use_are_made_ready() {
        let step = AHEAD / PAGE;
        let pool = pool(10 * step);
        let until = |num_ready: usize| {
            while pool.num_ready() < num_ready {
                std::thread::yield_now();
            }
            assert_eq!(pool.num_ready(), num_ready);
        };
        std::thread::scope(|scope| {
            scope.spawn(|| pool.grow(|| Ok(1 << 40)));
            until(2 * step);
            pool.use_pages(&[3, step as u32 - 2]);
            until(2 * step);
            pool.use_pages(&[step as u32 - 1, 0]);
            until(3 * step);
            assert!(pool.is_growing());
            pool.stop_growing();
        });
        assert_eq!((pool.num_ready(), pool.is_growing()), (3 * step, false));
    }

    #[test]
    fn growing_ends_when_told() {
        let pool = pool(200);
        pool.use_pages(&[199]);
        pool.grow(|| {
            if pool.num_ready() > 0 {
                pool.stop_growing();
            }
            Ok(1 << 40)
        });
        assert!(pool.num_ready() < 200);
    }
}
