//! Zeroed memory on 2 MiB pages where the system gives them: weights are read once a step from end to end, and small
//! pages cost a quarter to a half of the bandwidth.
#![expect(unsafe_code, reason = "hands out parts of mappings")]

use std::sync::Arc;

use crate::error::Result;
use crate::mapping::{ALIGNMENT, HUGE_PAGE, Mapping, Plain};

/// Small regions share mappings of this size.
const CHUNK: usize = 64 << 20;

/// A part of a mapping with one owner, aligned to 64 bytes.
pub struct Region {
    chunk: Arc<Mapping>,
    offset: usize,
    len: usize,
}

impl Region {
    fn view<T: Plain>(&self) -> &[T] {
        // SAFETY: the region lies in the chunk, is zeroed or written, aligned to 64, and borrowed through its owner.
        unsafe {
            std::slice::from_raw_parts(self.chunk.start().add(self.offset).cast(), self.len / size_of::<T>())
        }
    }

    fn view_mut<T: Plain>(&mut self) -> &mut [T] {
        // SAFETY: as in `view`; regions do not overlap and this one is borrowed mutably.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.chunk.start().add(self.offset).cast(),
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

    /// The region as floats, to write.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        self.view_mut()
    }
}

/// Gives out regions; they are never taken back one by one.
pub struct Memory {
    open: Option<(Arc<Mapping>, usize)>,
    taken: usize,
    /// Regions share mappings.
    shared: bool,
}

impl Default for Memory {
    /// In tests each region has a mapping of its own, which has guards.
    fn default() -> Self {
        Self { open: None, taken: 0, shared: !cfg!(test) }
    }
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
        if !self.shared {
            return Ok(Region { chunk: Arc::new(Mapping::new(len)?), offset: 0, len });
        }
        if len > CHUNK / 4 {
            let chunk = Arc::new(Mapping::new(len.next_multiple_of(HUGE_PAGE))?);
            return Ok(Region { chunk, offset: 0, len });
        }
        let (chunk, used) = match self.open.take() {
            Some((chunk, used)) if used + len <= CHUNK => (chunk, used),
            _ => (Arc::new(Mapping::new(CHUNK)?), 0),
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
        let mut memory = Memory { shared: true, ..Memory::default() };
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
