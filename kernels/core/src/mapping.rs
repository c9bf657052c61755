//! Zeroed memory of the process's own, on 2 MiB pages where the system gives them. What is not touched takes no memory.
#![expect(unsafe_code, reason = "maps memory")]

use std::ops::Range;

use crate::error::{Failure, Result};

/// What a large page of the system holds.
pub const HUGE_PAGE: usize = 2 << 20;
/// The smallest page the system gives.
const SMALL_PAGE: usize = 4096;
/// A mapping starts at a multiple of this at least.
pub const ALIGNMENT: usize = 64;

/// What a mapping takes beside its bytes.
const ROOM: usize = if cfg!(test) { 4 * GUARD } else { 0 };
/// A multiple of every size of page in use.
const GUARD: usize = 64 << 10;

/// A number type.
///
/// # Safety
/// Any bytes are a value of it.
pub unsafe trait Plain: Copy {}
// SAFETY: an integer.
unsafe impl Plain for u8 {}
// SAFETY: an integer.
unsafe impl Plain for u16 {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: every pattern of bits is a float.
unsafe impl Plain for f32 {}

/// A mapping. Who may reach which part of it is its holder's business.
#[derive(Debug)]
pub struct Mapping {
    base: *mut libc::c_void,
    mapped: usize,
    start: *mut u8,
    len: usize,
}

// SAFETY: plain memory; whoever follows `start` answers for what other threads do there meanwhile.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `len` zero bytes, from a multiple of 2 MiB on if there are as many.
    ///
    /// # Errors
    /// `out_of_memory` with the size, where it is obviously more than the machine has.
    pub fn new(len: usize) -> Result<Self> {
        let failure = || Failure::out_of_memory(format!("{len} bytes of memory could not be mapped"));
        let align = if len < HUGE_PAGE { ALIGNMENT } else { HUGE_PAGE };
        let mapped = len.checked_add(align + ROOM).ok_or_else(failure)?;
        // SAFETY: a new private mapping touches nothing that exists.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(failure());
        }
        #[cfg(not(test))]
        let start = base.cast::<u8>().wrapping_add(base.addr().wrapping_neg() % align);
        #[cfg(test)]
        let start = guard::place(base, mapped, len, align);
        if len >= HUGE_PAGE {
            // SAFETY: the range lies in the mapping. The advice may be refused: then pages are small, nothing else.
            unsafe { libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE) };
        }
        Ok(Self { base, mapped, start, len })
    }

    /// Has the system give the memory of a range now, as a first touch would; what it holds stays, and others may use it meanwhile.
    /// False where the system does not: then it comes with the first touch.
    ///
    /// # Panics
    /// When the range is not inside the mapping.
    pub fn populate(&self, range: Range<usize>) -> bool {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} is outside 0..{}", self.len);
        // Whole pages: what lies beside the range in them is the mapping's too, or nobody's.
        let start = (self.start.addr() + range.start) / SMALL_PAGE * SMALL_PAGE;
        let end = self.start.addr() + range.end;
        let at = self.start.with_addr(start).cast();
        // SAFETY: pages of the mapping; the advice changes nothing that they hold.
        unsafe { libc::madvise(at, end - start, libc::MADV_POPULATE_WRITE) == 0 }
    }

    /// The first byte.
    pub fn start(&self) -> *mut u8 {
        self.start
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and whoever borrowed from it has ended.
        unsafe { libc::munmap(self.base, self.mapped) };
    }
}

/// In tests a mapping lies between pages that nobody may touch: whoever reads or writes beyond its bytes ends the process. A
/// guard is a whole number of pages, so only one side is exact: the end, and with `KVENGINE_TEST_GUARD=start` the start.
#[cfg(test)]
mod guard {
    use super::{ALIGNMENT, GUARD};

    pub(super) fn at_start() -> bool {
        std::env::var("KVENGINE_TEST_GUARD").is_ok_and(|side| side == "start")
    }

    /// Where the `len` bytes go in `base`, which has room for three [`GUARD`]s and `align` beside them. Less than `align` is
    /// kept where the length is no multiple of it: what ends at the guard is worth more.
    pub(super) fn place(base: *mut libc::c_void, mapped: usize, len: usize, align: usize) -> *mut u8 {
        let (begin, end) = (base.addr(), base.addr() + mapped);
        let align =
            if align == ALIGNMENT { align.min(1 << len.trailing_zeros().min(6)).max(4) } else { align };
        let start = if at_start() {
            (begin + GUARD).next_multiple_of(align.max(GUARD))
        } else {
            let last = (end - GUARD) / GUARD * GUARD;
            (last - len) / align * align
        };
        let before = start / GUARD * GUARD - begin;
        let behind = (start + len).next_multiple_of(GUARD);
        // SAFETY: both ranges lie in the mapping, which nobody knows of yet.
        let answers = unsafe {
            [
                libc::mprotect(base, before, libc::PROT_NONE),
                libc::mprotect(base.wrapping_byte_add(behind - begin), end - behind, libc::PROT_NONE),
            ]
        };
        assert_eq!(answers, [0, 0], "guards of {len} bytes");
        base.cast::<u8>().wrapping_add(start - begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a child process that reads a byte ends by that.
    fn is_guarded(at: *const u8) -> bool {
        // SAFETY: the child calls nothing but `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: reading may end this process, which is what it is for.
            unsafe {
                at.read_volatile();
                libc::_exit(0);
            }
        }
        let mut status = 0;
        // SAFETY: the child is ours.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(waited, child);
        status != 0
    }

    #[test]
    fn memory_that_is_asked_for_ahead_keeps_what_it_holds() {
        let len = 3 * HUGE_PAGE;
        let mapping = Mapping::new(len).expect("memory");
        let at = |i: usize| mapping.start().wrapping_add(i);
        let marks = [0, 5000, HUGE_PAGE - 1, HUGE_PAGE, len - 1];
        // SAFETY: inside the mapping, which is this test's alone.
        marks.iter().for_each(|&i| unsafe { at(i).write_volatile(7) });
        for range in [0..0, 0..1, 5000..5001, HUGE_PAGE - 1..HUGE_PAGE + 1, 0..len, len..len] {
            mapping.populate(range);
            // SAFETY: as above.
            assert!(marks.iter().all(|&i| unsafe { at(i).read_volatile() } == 7));
        }
        // SAFETY: as above.
        assert_eq!(unsafe { at(len / 2).read_volatile() }, 0);
    }

    #[test]
    fn in_tests_what_lies_beside_a_mapping_cannot_be_read() {
        for len in [4, 64, 68, 4096, 100 * 64, 3 * HUGE_PAGE] {
            let mapping = Mapping::new(len).expect("memory");
            let start = mapping.start().cast_const();
            assert!(!is_guarded(start) && !is_guarded(start.wrapping_add(len - 1)), "{len}");
            let exactly = if guard::at_start() { start.wrapping_sub(1) } else { start.wrapping_add(len) };
            let guarded = [exactly, start.wrapping_sub(GUARD), start.wrapping_add(len + GUARD - 1)];
            assert_eq!(guarded.map(is_guarded), [true; 3], "{len}");
        }
    }
}
