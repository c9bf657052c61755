//! Zeroed memory of the process's own, on 2 MiB pages where the system gives them. What is not touched takes no memory.
#![expect(unsafe_code, reason = "maps memory")]

use crate::error::{Failure, Result};

/// What a large page of the system holds.
pub const HUGE_PAGE: usize = 2 << 20;
/// A mapping starts at a multiple of this at least.
pub const ALIGNMENT: usize = 64;

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
        let mapped = len.checked_add(align).ok_or_else(failure)?;
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
        let start = base.cast::<u8>().wrapping_add(base.addr().wrapping_neg() % align);
        if len >= HUGE_PAGE {
            // SAFETY: the range lies in the mapping. The advice may be refused: then pages are small, nothing else.
            unsafe { libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE) };
        }
        Ok(Self { base, mapped, start, len })
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
