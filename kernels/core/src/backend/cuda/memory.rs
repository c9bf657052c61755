//! Memory of the device, and host memory that it reads and writes by itself. Freed when dropped.
#![expect(unsafe_code, reason = "calls the driver, and hands out slices of memory that it owns")]

use super::device::Device;
use crate::error::{Failure, Result};
use cudarc::driver::{CudaEvent, CudaStream, result};
use std::sync::Arc;

/// Parts of an allocation start at multiples of this, as allocations do.
pub(super) const ALIGNMENT: usize = 256;

/// Bytes on the device.
#[derive(Debug)]
pub(super) struct DeviceMemory {
    device: Arc<Device>,
    start: u64,
    len: usize,
}

impl DeviceMemory {
    /// Takes `len` bytes of any content.
    ///
    /// # Errors
    /// `out_of_memory` with the size and what is free.
    pub(super) fn take(device: &Arc<Device>, len: usize) -> Result<Self> {
        device.bind()?;
        // SAFETY: what the memory holds is read by nobody before it is written.
        let start = device.check(&format!("{len} bytes of device memory cannot be had"), unsafe {
            result::malloc_sync(len.max(1))
        });
        let start = start.map_err(|failure| match device.memory() {
            Ok((free, total)) => {
                Failure { message: format!("{} ({free} of {total} are free)", failure.message), ..failure }
            }
            Err(_) => failure,
        })?;
        Ok(Self { device: Arc::clone(device), start, len })
    }

    /// Takes `len` zero bytes.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn zeroed(device: &Arc<Device>, stream: &CudaStream, len: usize) -> Result<Self> {
        let memory = Self::take(device, len)?;
        memory.fill(stream, 0, len, 0)?;
        Ok(memory)
    }

    /// Takes as much memory as there are bytes, and puts them there before it returns.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn holding(device: &Arc<Device>, stream: &CudaStream, bytes: &[u8]) -> Result<Self> {
        let memory = Self::take(device, bytes.len())?;
        memory.write(stream, 0, bytes)?;
        Ok(memory)
    }

    /// Address of a byte.
    pub(super) fn at(&self, offset: usize) -> u64 {
        debug_assert!(offset <= self.len, "{offset} of {}", self.len);
        self.start + offset as u64
    }

    /// Bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Sets bytes, in the order of the stream.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub(super) fn fill(&self, stream: &CudaStream, offset: usize, len: usize, byte: u8) -> Result<()> {
        self.range(offset, len)?;
        if len == 0 {
            return Ok(());
        }
        // SAFETY: the range is this memory's own.
        let done = unsafe { result::memset_d8_async(self.at(offset), byte, len, stream.cu_stream()) };
        self.device.check("device memory cannot be set", done)
    }

    /// Puts bytes there, behind what the stream has to do; returns when they have arrived.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub(super) fn write(&self, stream: &CudaStream, offset: usize, bytes: &[u8]) -> Result<()> {
        self.range(offset, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the range is this memory's own, and `bytes` lives until the stream is through.
        let done = unsafe { result::memcpy_htod_async(self.at(offset), bytes, stream.cu_stream()) };
        self.device.check("bytes cannot be copied to the device", done)?;
        self.device.check("bytes did not arrive on the device", stream.synchronize())
    }

    /// Reads bytes, behind what the stream has to do; returns when they are there.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub(super) fn read(&self, stream: &CudaStream, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.range(offset, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the range is this memory's own, and `bytes` is borrowed until the stream is through.
        let done = unsafe { result::memcpy_dtoh_async(bytes, self.at(offset), stream.cu_stream()) };
        self.device.check("bytes cannot be copied from the device", done)?;
        self.device.check("bytes did not arrive from the device", stream.synchronize())
    }

    /// Copies bytes inside the memory, in the order of the stream.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub(super) fn copy(&self, stream: &CudaStream, from: usize, to: usize, len: usize) -> Result<()> {
        self.range(from, len)?;
        self.range(to, len)?;
        // SAFETY: both ranges are this memory's own; pages are the same or apart.
        let done = unsafe { result::memcpy_dtod_async(self.at(to), self.at(from), len, stream.cu_stream()) };
        self.device.check("device memory cannot be copied", done)
    }

    fn range(&self, offset: usize, len: usize) -> Result<()> {
        if offset <= self.len && len <= self.len - offset {
            return Ok(());
        }
        let end = self.len;
        Err(Failure::internal(format!("{len} bytes at {offset} lie outside a device buffer of {end}")))
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // With a context that is lost its memory is, too.
        if self.device.context.bind_to_thread().is_ok() {
            // SAFETY: taken by `take`, freed once; the driver waits for what still uses it.
            let _lost = unsafe { result::free_sync(self.start) };
        }
    }
}

/// Host memory that the device copies from and to by itself.
#[derive(Debug)]
pub(super) struct Pinned {
    device: Arc<Device>,
    start: *mut u8,
    len: usize,
    /// The newest copy that uses it.
    used: CudaEvent,
}

// SAFETY: plain memory, reached through `&self` and `&mut self` only.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Takes `len` zero bytes.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub(super) fn take(device: &Arc<Device>, len: usize) -> Result<Self> {
        device.bind()?;
        let used = device.check("an event cannot be created", device.context.new_event(None))?;
        let what = format!("{len} bytes of pinned host memory cannot be had");
        // SAFETY: filled below, before anybody reads it.
        let start = device.check(&what, unsafe { result::malloc_host(len.max(1), 0) })?.cast::<u8>();
        // SAFETY: the driver has just given the bytes.
        unsafe { start.write_bytes(0, len.max(1)) };
        Ok(Self { device: Arc::clone(device), start, len, used })
    }

    /// The bytes, once no copy uses them any more.
    ///
    /// # Errors
    /// What a copy reports late.
    pub(super) fn bytes(&mut self) -> Result<&mut [u8]> {
        self.device.check("a copy has failed", self.used.synchronize())?;
        // SAFETY: the memory is this value's own, and the device is through with it.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.start, self.len) })
    }

    /// What lies there now, whether a copy uses it or not.
    #[cfg(test)]
    pub(super) fn first_byte(&self) -> u8 {
        // SAFETY: the memory is this value's own.
        unsafe { self.start.read_volatile() }
    }

    /// As [`Self::bytes`], as floats.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub(super) fn floats(&mut self) -> Result<&[f32]> {
        self.bytes()?;
        // SAFETY: as there; the driver's memory starts at a page, and any bytes are floats.
        Ok(unsafe { std::slice::from_raw_parts(self.start.cast(), self.len / size_of::<f32>()) })
    }

    /// Copies the first bytes to the device, in the order of the stream.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub(super) fn send(&mut self, stream: &CudaStream, to: &DeviceMemory, len: usize) -> Result<()> {
        to.range(0, len.min(self.len))?;
        // SAFETY: inside both memories; nobody writes the bytes before the event (`bytes`).
        let done = unsafe {
            let bytes = std::slice::from_raw_parts(self.start, len.min(self.len));
            result::memcpy_htod_async(to.at(0), bytes, stream.cu_stream())
        };
        self.device.check("bytes cannot be copied to the device", done)?;
        self.device.check("an event cannot be recorded", self.used.record(stream))
    }

    /// Copies device bytes to the first ones here, in the order of the stream.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub(super) fn receive(
        &mut self,
        stream: &CudaStream,
        from: &DeviceMemory,
        offset: usize,
        len: usize,
    ) -> Result<()> {
        from.range(offset, len)?;
        if len > self.len {
            return Err(Failure::internal(format!("{len} bytes are more than a buffer of {}", self.len)));
        }
        // SAFETY: inside both memories; nobody reads the bytes before the event (`bytes`).
        let done = unsafe {
            let bytes = std::slice::from_raw_parts_mut(self.start, len);
            result::memcpy_dtoh_async(bytes, from.at(offset), stream.cu_stream())
        };
        self.device.check("bytes cannot be copied from the device", done)?;
        self.device.check("an event cannot be recorded", self.used.record(stream))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.device.context.bind_to_thread().is_ok() {
            // The driver frees the memory at once: a copy that is under way has to end first.
            let _lost = self.used.synchronize();
            // SAFETY: taken by `take`, freed once, used by nobody.
            let _lost = unsafe { result::free_host(self.start.cast()) };
        }
    }
}
