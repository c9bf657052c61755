//! KV pages on the device, and the streams that copy them from and to host memory: one for loads, one for stores, so that a
//! load never waits behind a store. Neither waits for steps, nor steps for them: that a step's blocks are filled before a
//! store and a load's before a step is seen to by the host, which waits for both (`step_gate.rs`).
#![expect(unsafe_code, reason = "calls the driver")]

use super::device::Device;
use super::memory::DeviceMemory;
use crate::error::{Failure, Result};
use crate::pages::{Pin, RemotePages};
use cudarc::driver::sys::{self, CUevent_flags};
use cudarc::driver::{CudaStream, result};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(super) struct CudaPages {
    device: Arc<Device>,
    pub(super) memory: DeviceMemory,
    page_bytes: usize,
    loads: Arc<CudaStream>,
    stores: Arc<CudaStream>,
}

impl CudaPages {
    /// Takes zeroed pages.
    ///
    /// # Errors
    /// `out_of_memory` with the size asked for.
    pub(super) fn take(
        device: &Arc<Device>,
        stream: &CudaStream,
        page_bytes: usize,
        num_pages: usize,
    ) -> Result<Self> {
        let bytes = page_bytes.checked_mul(num_pages).ok_or_else(|| {
            Failure::out_of_memory(format!(
                "{num_pages} pages of {page_bytes} bytes are more than memory holds"
            ))
        })?;
        let memory = DeviceMemory::zeroed(device, stream, bytes)?;
        // Other streams do not wait for this one.
        device.check("device memory cannot be set", stream.synchronize())?;
        let (loads, stores) = (device.stream()?, device.stream()?);
        Ok(Self { device: Arc::clone(device), memory, page_bytes, loads, stores })
    }

    /// Waits for what this thread has just put on the stream; asleep, because it may take long.
    fn wait(&self, stream: &CudaStream) -> Result<()> {
        let asleep = CUevent_flags::CU_EVENT_BLOCKING_SYNC;
        let event = self.device.check("an event cannot be recorded", stream.record_event(Some(asleep)))?;
        self.device.check("pages did not arrive", event.synchronize())
    }

    fn place(&self, page: usize, bytes: usize) -> Result<usize> {
        let place = page * self.page_bytes;
        if bytes == self.page_bytes && place + bytes <= self.memory.len() {
            return Ok(place);
        }
        Err(Failure::internal(format!("a copy of {bytes} bytes for page {page} of {}", self.page_bytes)))
    }
}

impl RemotePages for CudaPages {
    fn load(&self, copies: &[(&[u8], usize)]) -> Result<()> {
        if copies.is_empty() {
            return Ok(());
        }
        self.device.bind()?;
        let enqueue = || {
            for (bytes, page) in copies {
                let to = self.memory.at(self.place(*page, bytes.len())?);
                // SAFETY: the page is the caller's, and the bytes are borrowed until the copies have ended, below.
                let done = unsafe { result::memcpy_htod_async(to, bytes, self.loads.cu_stream()) };
                self.device.check("a page cannot be copied to the device", done)?;
            }
            Ok(())
        };
        let enqueued = enqueue();
        self.wait(&self.loads)?;
        enqueued
    }

    fn store(&self, copies: &mut [(usize, &mut [u8])]) -> Result<()> {
        if copies.is_empty() {
            return Ok(());
        }
        self.device.bind()?;
        let enqueue = || {
            for (page, bytes) in copies {
                let from = self.memory.at(self.place(*page, bytes.len())?);
                // SAFETY: nobody writes the page, and the bytes are borrowed until the copies have ended, below.
                let done = unsafe { result::memcpy_dtoh_async(bytes, from, self.stores.cu_stream()) };
                self.device.check("a page cannot be copied from the device", done)?;
            }
            Ok(())
        };
        let enqueued = enqueue();
        self.wait(&self.stores)?;
        enqueued
    }

    fn fill(&self, page: usize, byte: u8) -> Result<()> {
        self.device.bind()?;
        self.memory.fill(&self.loads, self.place(page, self.page_bytes)?, self.page_bytes, byte)?;
        self.wait(&self.loads)
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
