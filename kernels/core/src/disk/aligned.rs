//! Memory that direct I/O can have.

use super::layout::BLOCK;

/// Zeros at first, from a multiple of [`BLOCK`] on.
#[derive(Debug)]
pub(super) struct Aligned {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    pub(super) fn new(len: usize) -> Self {
        let memory = vec![0; len + BLOCK as usize];
        let start = memory.as_ptr().align_offset(BLOCK as usize);
        Self { memory, start, len }
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }
}
