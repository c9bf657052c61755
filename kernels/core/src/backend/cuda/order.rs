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
        let (put, number, end) = self.put(copies)?;
        self.device.check("pages did not arrive", end.synchronize())?;
        self.report(number, end);
        put
    }

    /// Lets `copies` put its work here: what it says of that, and the work's place and end.
    fn put(&self, copies: impl FnOnce(&CudaStream) -> Result<()>) -> Result<(Result<()>, u64, CudaEvent)> {
        self.device.bind()?;
        let asleep = CUevent_flags::CU_EVENT_BLOCKING_SYNC;
        let end =
            self.device.check("an event cannot be created", self.device.context.new_event(Some(asleep)))?;
        let mut count = lock(&self.count);
        let put = copies(&self.stream);
        *count += 1;
        self.device.check("an event cannot be recorded", end.record(&self.stream))?;
        Ok((put, *count, end))
    }

    fn report(&self, number: u64, end: CudaEvent) {
        let mut newest = lock(&self.newest);
        // Of two threads the one that was later on the stream speaks for both.
        if number > newest.number {
            *newest = Newest { number, end };
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is done under a lock here leaves it half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cuda::CudaBackend;
    use crate::backend::cuda::memory::{DeviceMemory, Pinned};
    use crate::testing::has_cuda;

    /// A device whose streams run when they are waited for, and not before: what was not waited for has not been done. Only
    /// the emulated driver has such an order.
    fn lazy_device() -> Option<Arc<Device>> {
        let is_lazy = std::env::var("CUDA_EMULATOR").is_ok_and(|settings| settings.contains("streams=lazy"));
        (has_cuda() && is_lazy).then(|| CudaBackend::device("cuda").unwrap())
    }

    #[test]
    fn steps_and_copies_that_are_under_way_hold_up_nobody() {
        let Some(device) = lazy_device() else { return };
        let lane = || Lane::new(&device, device.stream().unwrap()).unwrap();
        let (steps, stores) = (lane(), lane());
        let memory = DeviceMemory::zeroed(&device, &steps.stream, 1024).unwrap();
        memory.fill(&steps.stream, 0, 1024, 5).unwrap();
        steps.reported().unwrap();
        let mut hosts = [(); 2].map(|()| Pinned::take(&device, 256).unwrap());
        let [stored, computed] = &mut hosts;

        let store = stores.put(|stream| {
            stores.follow(&steps)?;
            stored.receive(stream, &memory, 0, 256)
        });
        steps.follow(&stores).unwrap();
        memory.fill(&steps.stream, 256, 256, 6).unwrap();
        steps.stream.synchronize().unwrap();
        assert_eq!(stored.first_byte(), 0, "a step has waited for a store that was not reported");

        let (put, number, end) = store.unwrap();
        put.unwrap();
        stores.report(number, end);
        steps.follow(&stores).unwrap();
        computed.receive(&steps.stream, &memory, 256, 256).unwrap();
        stores
            .copied(|stream| {
                stores.follow(&steps)?;
                memory.fill(stream, 512, 256, 7)
            })
            .unwrap();
        assert_eq!(stored.first_byte(), 5);
        assert_eq!(computed.first_byte(), 0, "a copy has waited for a step that was not reported");
        steps.stream.synchronize().unwrap();
        assert_eq!(computed.first_byte(), 6);
    }

    #[test]
    fn the_later_of_two_copies_speaks_for_both() {
        let Some(device) = lazy_device() else { return };
        let lane = Lane::new(&device, device.stream().unwrap()).unwrap();
        let [(_, first, early), (_, second, late)] = [(); 2].map(|()| lane.put(|_| Ok(())).unwrap());
        lane.report(second, late);
        lane.report(first, early);
        assert_eq!(lock(&lane.newest).number, second);
    }
}
