//! Zeroed memory on 2 MiB pages where the system gives them: weights are read once a step from end to end, and small
//! pages cost a quarter to a half of the bandwidth.
#![expect(unsafe_code, reason = "maps memory")]

use std::sync::Arc;

use crate::error::{Failure, Result};

const HUGE_PAGE: usize = 2 << 20;
/// Small regions share chunks of this size; what is not touched takes no memory.
const CHUNK: usize = 64 << 20;
const ALIGNMENT: usize = 64;

/// A mapping of its own.
struct Chunk {
    mapping: *mut libc::c_void,
    mapped: usize,
    /// First multiple of 2 MiB inside.
    start: *mut u8,
}

// SAFETY: plain memory; regions are disjoint parts of it, and only their owners reach it.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// `len` must be a multiple of 2 MiB.
    fn map(len: usize) -> Result<Self> {
        let failure = || Failure::out_of_memory(format!("{len} bytes of memory could not be mapped"));
        let mapped = len.checked_add(HUGE_PAGE).ok_or_else(failure)?;
        // SAFETY: a new private mapping touches nothing that exists.
        let mapping = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if mapping == libc::MAP_FAILED {
            return Err(failure());
        }
        let start = mapping.cast::<u8>().wrapping_add(mapping.addr().wrapping_neg() % HUGE_PAGE);
        // SAFETY: the range lies in the mapping. The advice may be refused: then pages are small, nothing else.
        unsafe { libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE) };
        Ok(Self { mapping, mapped, start })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: the mapping is this chunk's own, and no region is left that holds the chunk.
        unsafe { libc::munmap(self.mapping, self.mapped) };
    }
}

/// A part of a chunk with one owner, aligned to 64 bytes.
pub struct Region {
    chunk: Arc<Chunk>,
    offset: usize,
    len: usize,
}

/// A number type that any bytes are a value of.
trait Plain {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for f32 {}

impl Region {
    fn view<T: Plain>(&self) -> &[T] {
        // SAFETY: the region lies in the chunk, is zeroed or written, aligned to 64, and borrowed through its owner.
        unsafe {
            std::slice::from_raw_parts(self.chunk.start.add(self.offset).cast(), self.len / size_of::<T>())
        }
    }

    fn view_mut<T: Plain>(&mut self) -> &mut [T] {
        // SAFETY: as in `view`; regions do not overlap and this one is borrowed mutably.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.chunk.start.add(self.offset).cast(),
                self.len / size_of::<T>(),
            )
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.view()
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.view_mut()
    }

    /// The region as IEEE halves.
    pub fn halves(&self) -> &[u16] {
        self.view()
    }

    /// The region as IEEE halves, to write.
    pub fn halves_mut(&mut self) -> &mut [u16] {
        self.view_mut()
    }

    /// The region as floats, to write.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        self.view_mut()
    }
}

/// Gives out regions; they are never taken back one by one.
#[derive(Default)]
pub struct Memory {
    open: Option<(Arc<Chunk>, usize)>,
    taken: usize,
}

impl Memory {
    /// Bytes given out.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// `len` zero bytes.
    ///
    /// # Errors
    /// `out_of_memory` with the size.
    pub fn take(&mut self, len: usize) -> Result<Region> {
        self.taken += len;
        if len > CHUNK / 4 {
            let chunk = Arc::new(Chunk::map(len.next_multiple_of(HUGE_PAGE))?);
            return Ok(Region { chunk, offset: 0, len });
        }
        let (chunk, used) = match self.open.take() {
            Some((chunk, used)) if used + len <= CHUNK => (chunk, used),
            _ => (Arc::new(Chunk::map(CHUNK)?), 0),
        };
        self.open = Some((Arc::clone(&chunk), (used + len).next_multiple_of(ALIGNMENT)));
        Ok(Region { chunk, offset: used, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_zero_aligned_and_do_not_overlap() {
        let mut memory = Memory::default();
        let mut regions: Vec<Region> =
            [1, 63, 64, 65, 0, 40 << 20, 1000].map(|len| memory.take(len).expect("memory")).into();
        for (i, region) in regions.iter_mut().enumerate() {
            assert_eq!(region.bytes().as_ptr().addr() % ALIGNMENT, 0);
            assert!(region.bytes().iter().all(|&b| b == 0));
            region.bytes_mut().fill(i as u8 + 1);
        }
        for (i, region) in regions.iter().enumerate() {
            assert!(region.bytes().iter().all(|&b| b == i as u8 + 1));
        }
        assert_eq!(memory.taken(), 1 + 63 + 64 + 65 + (40 << 20) + 1000);
    }

    #[test]
    fn an_absurd_size_is_an_error() {
        let failure = Memory::default().take(usize::MAX / 2).err().expect("refused");
        assert_eq!(failure.code, crate::error::Code::OutOfMemory);
    }
}
