//! The order of the streams. One computes, one loads pages, one stores them, and each edge between two of them is an event that the
//! device waits for, not the host: who is about to touch pages follows the two others first.
//!
//! ```text
//! loads   follow steps    the blocks' former owner has been computed with
//! loads   follow stores   what was stored from the blocks has been read, what is loaded has been written
//! stores  follow steps    the blocks have been filled
//! stores  follow loads    the same, by a load
//! steps   follow loads    a step reads blocks that were loaded
//! steps   follow stores   a step writes blocks that were given away after they had been stored
//! ```
//!
//! What a stream follows is the newest work of the other that was reported to whoever decides what is done with blocks: nothing else
//! may be built on. So no step waits for a copy that is under way and no copy for a step, and both go on side by side.

use super::device::Device;
use crate::error::Result;
use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaEvent, CudaStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A stream with what others follow. Any thread may use it.
#[derive(Debug)]
pub(super) struct Lane {
    device: Arc<Device>,
    pub(super) stream: Arc<CudaStream>,
    /// Pieces of work that were put on the stream.
    count: Mutex<u64>,
    newest: Mutex<Newest>,
}

/// The newest work that was reported.
#[derive(Debug)]
struct Newest {
    /// Its place among all on the stream; 0 = none yet.
    number: u64,
    end: CudaEvent,
}

impl Lane {
    /// # Errors
    /// As [`Device::check`].
    pub(super) fn new(device: &Arc<Device>, stream: Arc<CudaStream>) -> Result<Self> {
        let end = device.check("an event cannot be created", device.context.new_event(None))?;
        Ok(Self {
            device: Arc::clone(device),
            stream,
            count: Mutex::new(0),
            newest: Mutex::new(Newest { number: 0, end }),
        })
    }

    /// Work that is put here from now on comes after what was reported there.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub(super) fn follow(&self, other: &Self) -> Result<()> {
        self.device.check("a stream cannot wait for an event", self.stream.wait(&lock(&other.newest).end))
    }

    /// All that was put here so far is reported now. For a lane with one user.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub(super) fn reported(&self) -> Result<()> {
        self.device.check("an event cannot be recorded", lock(&self.newest).end.record(&self.stream))
    }

    /// Lets `copies` put its work here and waits, asleep, until the device has done it; then it is reported.
    ///
    /// # Errors
    /// Those of `copies`; as [`Device::check`].
    pub(super) fn copied(&self, copies: impl FnOnce(&CudaStream) -> Result<()>) -> Result<()> {
        self.device.bind()?;
        let asleep = CUevent_flags::CU_EVENT_BLOCKING_SYNC;
        let end =
            self.device.check("an event cannot be created", self.device.context.new_event(Some(asleep)))?;
        let mut count = lock(&self.count);
        let put = copies(&self.stream);
        *count += 1;
        let number = *count;
        self.device.check("an event cannot be recorded", end.record(&self.stream))?;
        drop(count);
        self.device.check("pages did not arrive", end.synchronize())?;
        let mut newest = lock(&self.newest);
        // Of two threads the one that was later on the stream speaks for both.
        if number > newest.number {
            *newest = Newest { number, end };
        }
        drop(newest);
        put
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is done under a lock here leaves it half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
