//! KV pages on the device, and the streams that copy them from and to host memory: one for loads, one for stores, so that a
//! load never waits behind a store. `order.rs` keeps them and the steps in order.
#![expect(unsafe_code, reason = "calls the driver")]

use super::batch::{PageCopy, copy_all};
use super::device::Device;
use super::memory::DeviceMemory;
use super::order::Lane;
use crate::error::{Failure, Result};
use crate::pages::{Pin, RemotePages};
use cudarc::driver::CudaStream;
use cudarc::driver::sys;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(super) struct CudaPages {
    device: Arc<Device>,
    pub(super) memory: DeviceMemory,
    page_bytes: usize,
    steps: Lane,
    loads: Lane,
    stores: Lane,
}

impl CudaPages {
    /// Takes zeroed pages; `stream` is that of the steps.
    ///
    /// # Errors
    /// `out_of_memory` with the size asked for.
    pub(super) fn take(
        device: &Arc<Device>,
        stream: &Arc<CudaStream>,
        page_bytes: usize,
        num_pages: usize,
    ) -> Result<Self> {
        let bytes = page_bytes.checked_mul(num_pages).ok_or_else(|| {
            Failure::out_of_memory(format!(
                "{num_pages} pages of {page_bytes} bytes are more than memory holds"
            ))
        })?;
        let memory = DeviceMemory::zeroed(device, stream, bytes)?;
        let lane = |stream| Lane::new(device, stream);
        let steps = lane(Arc::clone(stream))?;
        // Copies follow the zeros, too.
        steps.reported()?;
        let (loads, stores) = (lane(device.stream()?)?, lane(device.stream()?)?);
        Ok(Self { device: Arc::clone(device), memory, page_bytes, steps, loads, stores })
    }

    /// Called before work is put on the stream of steps that touches pages.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub(super) fn step_begins(&self) -> Result<()> {
        self.steps.follow(&self.loads)?;
        self.steps.follow(&self.stores)
    }

    /// Called before it is told that a step has ended.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub(super) fn step_ends(&self) -> Result<()> {
        self.steps.reported()
    }

    /// Called before work is put on the stream of loads.
    fn load_begins(&self) -> Result<()> {
        self.loads.follow(&self.steps)?;
        self.loads.follow(&self.stores)
    }

    /// Where a page begins, for a copy of so many bytes.
    fn place(&self, page: usize, bytes: usize) -> Result<u64> {
        let place = page * self.page_bytes;
        if bytes == self.page_bytes && place + bytes <= self.memory.len() {
            return Ok(self.memory.at(place));
        }
        Err(Failure::internal(format!("a copy of {bytes} bytes for page {page} of {}", self.page_bytes)))
    }
}

impl RemotePages for CudaPages {
    fn load(&self, copies: &[(&[u8], usize)]) -> Result<()> {
        if copies.is_empty() {
            return Ok(());
        }
        let place = |(bytes, page): &(&[u8], usize)| {
            let to = self.place(*page, bytes.len())?;
            Ok(PageCopy { from: bytes.as_ptr() as u64, to, len: bytes.len() })
        };
        let places = copies.iter().map(place).collect::<Result<Vec<PageCopy>>>()?;
        self.loads.copied(|stream| {
            self.load_begins()?;
            // SAFETY: the pages are the caller's, and the bytes are borrowed until the copies have ended (`copied`).
            let done = unsafe { copy_all(&places, stream.cu_stream()) };
            self.device.check("pages cannot be copied to the device", done)
        })
    }

    fn store(&self, copies: &mut [(usize, &mut [u8])]) -> Result<()> {
        if copies.is_empty() {
            return Ok(());
        }
        let place = |(page, bytes): &mut (usize, &mut [u8])| {
            let from = self.place(*page, bytes.len())?;
            Ok(PageCopy { from, to: bytes.as_mut_ptr() as u64, len: bytes.len() })
        };
        let places = copies.iter_mut().map(place).collect::<Result<Vec<PageCopy>>>()?;
        self.stores.copied(|stream| {
            self.stores.follow(&self.steps)?;
            self.stores.follow(&self.loads)?;
            // SAFETY: nobody writes the pages, and the bytes are borrowed until the copies have ended (`copied`).
            let done = unsafe { copy_all(&places, stream.cu_stream()) };
            self.device.check("pages cannot be copied from the device", done)
        })
    }

    fn fill(&self, page: usize, byte: u8) -> Result<()> {
        self.loads.copied(|stream| {
            self.load_begins()?;
            self.memory.fill(stream, page * self.page_bytes, self.page_bytes, byte)
        })
    }

    fn pin(&self, start: *mut u8, len: usize) -> Result<Box<dyn Pin>> {
        self.device.bind()?;
        // SAFETY: the caller keeps the memory alive until the pin is dropped.
        let done = unsafe { sys::cuMemHostRegister_v2(start.cast(), len, sys::CU_MEMHOSTREGISTER_PORTABLE) };
        self.device.check(&format!("{len} bytes of host memory cannot be pinned"), done.result())?;
        Ok(Box::new(PinnedRange { device: Arc::clone(&self.device), start }))
    }
}

#[derive(Debug)]
struct PinnedRange {
    device: Arc<Device>,
    start: *mut u8,
}

// SAFETY: the address is given back to the driver, and nobody follows it.
unsafe impl Send for PinnedRange {}

impl Pin for PinnedRange {}

impl Drop for PinnedRange {
    fn drop(&mut self) {
        if self.device.context.bind_to_thread().is_ok() {
            // SAFETY: pinned by `pin`, let go once; its copies have ended, as they end before their calls return.
            let _lost = unsafe { sys::cuMemHostUnregister(self.start.cast()) };
        }
    }
}
