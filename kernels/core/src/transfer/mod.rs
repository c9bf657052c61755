//! Pages on the move: between the device and the host pool, and between the host pool and files or a disk store, by threads of their own. Which
//! pages and blocks hold what is the business of the TypeScript side, which names them and keeps those in flight
//! referenced; here every index is checked once, and each flight ends in exactly one result.
//!
//! `queue.rs` decides what is copied next (pieces before flights, not before their step), `threads.rs`
//! copies it (stores by threads that give way to loads and steps), `claims.rs` keeps flights apart, `pages.rs` says who keeps steps off them.

mod claims;
mod copied;
mod copier;
mod copies;
mod flight;
mod host_pool;
mod pace;
mod page_file;
mod queue;
mod seal;
mod stats;
mod stream_copy;
mod threads;

pub use copies::{STAMP_BYTES, Way};
pub use flight::{FlightError, FlightResult, Kind};
pub use page_file::{LABEL_BYTES, PageFile};
pub use stats::{KindStats, TransferStats};
pub use threads::OnResults;

use crate::disk::{DiskStore, Key};
use crate::error::{Failure, Result};
use crate::memory;
use crate::pages::Pages;
use crate::step_gate::StepGate;
use claims::Claims;
use copied::CopiedBytes;
use copier::Copier;
use copies::Stamps;
use flight::{Far, Plan};
use host_pool::HostPool;
use pace::Pace;
use queue::Queue;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use threads::{Shared, State};

/// How pages are moved.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "napi", napi_derive::napi(object))]
pub struct TransferOptions {
    /// Pages of the host pool, each as large as a page of the arena.
    pub host_pages: u32,
    /// Threads that copy from the host to the device, 1 to 64, and as many that copy back.
    pub threads: u32,
    /// Threads that read files, 1 to 64, and as many that write; started with the first such flight.
    pub file_threads: u32,
    /// Whether a page's checksum is taken when it is stored and compared when it is loaded.
    pub checksums: bool,
    /// Most of the wall time that stores may copy, 0 to 1.
    pub store_share: f64,
    /// Slows copies between device and host down; 0 = off.
    pub link_bytes_per_second: f64,
    /// For tests: flights wait until they are run one by one.
    pub manual: bool,
    /// For tests: a step that uses a block that a flight writes, or writes one that a flight reads, fails with the block's
    /// number, as does a flight that starts during such a step. Costs a look at every block of every step.
    pub guard_steps: bool,
}

const MOST_THREADS: u32 = 64;
/// Offsets in files are exact in a JavaScript number.
const MOST_OFFSET: f64 = (1_u64 << 53) as f64;

/// The threads, the host pool and the flights. Dropping it ends the threads without waiting.
pub struct Transfers {
    shared: Arc<Shared>,
    threads: Mutex<Threads>,
    file_threads: u32,
    stamps: Stamps,
}

struct Threads {
    handles: Vec<JoinHandle<()>>,
    files_started: bool,
}

impl Transfers {
    /// Maps the host pool and starts the threads that copy between it and the device's pages.
    ///
    /// # Errors
    /// `out_of_memory` where the pool is more than there is memory, with the number of pages that fit, or the system gives no
    /// thread; `internal` for an option out of range.
    pub(crate) fn open(
        device: Pages,
        steps: &Arc<StepGate>,
        options: &TransferOptions,
        on_results: OnResults,
    ) -> Result<Self> {
        let TransferOptions { host_pages, threads, file_threads, checksums, manual, .. } = *options;
        let (share, link) = (options.store_share, options.link_bytes_per_second);
        for (name, count) in [("threads", threads), ("fileThreads", file_threads)] {
            if !(1..=MOST_THREADS).contains(&count) {
                return Err(outside(name, count, &format!("1 to {MOST_THREADS}")));
            }
        }
        if host_pages > i32::MAX as u32 {
            return Err(outside("hostPages", host_pages, &format!("0 to {}", i32::MAX)));
        }
        check_share(share)?;
        check_link(link)?;
        let (page_bytes, num_blocks) = (device.page_bytes(), device.num_pages());
        let num_pages = host_pages as usize;
        let host = HostPool::beside(&device, num_pages, checksums, available_beside(&device)?)?;
        let pace = Pace::new(share, link, Instant::now());
        let queue = Queue::new(page_bytes, Claims::new(num_pages, num_blocks), pace, manual);
        let queue = if device.remote().is_some() { queue.of_device() } else { queue };
        let copier = Copier { device, host, copied: CopiedBytes::default() };
        let shared = Arc::new(Shared::new(queue, copier, Arc::clone(steps), on_results));
        let transfers = Self {
            shared: Arc::clone(&shared),
            threads: Mutex::new(Threads { handles: Vec::new(), files_started: false }),
            file_threads,
            stamps: Stamps::new(),
        };
        steps.set_waiter(Arc::<Shared>::downgrade(&shared), options.guard_steps);
        transfers.start(threads, "kv-load", |shared| shared.work(Kind::Load))?;
        transfers.start(threads, "kv-store", |shared| shared.work(Kind::Store))?;
        transfers.start(1, "kv-host-pool", |shared| {
            shared.copier.host.work();
            shared.tell_now();
        })?;
        Ok(transfers)
    }

    fn start(&self, count: u32, name: &str, work: fn(&Shared)) -> Result<()> {
        for i in 0..count {
            let handle = self.shared.spawn(&format!("{name}-{i}"), work)?;
            self.threads.lock().unwrap_or_else(PoisonError::into_inner).handles.push(handle);
        }
        Ok(())
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.shared.copier.host.pages.page_bytes()
    }

    /// Pages of the host pool.
    pub fn num_pages(&self) -> usize {
        self.shared.copier.host.pages.num_pages()
    }

    /// Host pages that may be used: those below this. Never falls.
    pub fn num_ready(&self) -> usize {
        self.shared.copier.host.num_ready()
    }

    /// Whether more host pages will be ready as pages come to be used: no more when all are, or when memory ran short.
    pub fn is_growing(&self) -> bool {
        self.shared.copier.host.is_growing()
    }

    /// Copies device blocks to host pages, not before step `after` has ended (-1 = at once). Until the result, no submitted step
    /// may write the blocks.
    ///
    /// # Errors
    /// `internal` for an id in use, an index out of range, lists of different lengths, and after [`Self::stop`].
    pub fn store(&self, id: i64, blocks: &[i32], pages: &[i32], after: i64) -> Result<()> {
        self.move_blocks(id, Kind::Store, blocks, pages, after)
    }

    /// Copies host pages to device blocks, before any store that waits, not before step `after` has ended (-1 = at once). Until
    /// the result, no submitted step may touch the blocks.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn load(&self, id: i64, pages: &[i32], blocks: &[i32], after: i64) -> Result<()> {
        self.move_blocks(id, Kind::Load, blocks, pages, after)
    }

    fn move_blocks(&self, id: i64, kind: Kind, blocks: &[i32], pages: &[i32], after: i64) -> Result<()> {
        // Block 0 is the null block: nobody's content.
        let blocks =
            indices(blocks, 1, self.shared.copier.device.num_pages(), "block").map_err(of_flight(id))?;
        let pages = indices(pages, 0, self.num_ready(), "host page").map_err(of_flight(id))?;
        self.submit(Plan { id, kind, pages, far: Far::Blocks(blocks) }, after)
    }

    /// Writes host pages with their labels into a file at byte offsets; the file is created if there is none. Keys are words, 9 each.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn write_pages(
        &self,
        id: i64,
        file: PageFile,
        offsets: &[f64],
        keys: &[i32],
        pages: &[i32],
    ) -> Result<()> {
        self.move_far(id, Kind::Write, keys, pages, |keys| places_in(file, offsets, keys))
    }

    /// Reads host pages from a file at byte offsets, where they were written for these keys.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn read_pages(
        &self,
        id: i64,
        file: PageFile,
        offsets: &[f64],
        keys: &[i32],
        pages: &[i32],
    ) -> Result<()> {
        self.move_far(id, Kind::Read, keys, pages, |keys| places_in(file, offsets, keys))
    }

    /// Stores host pages in a disk store under these keys; those that are there already count as arrived.
    ///
    /// # Errors
    /// As [`Self::store`], and for a store of other pages.
    pub fn write_disk(&self, id: i64, disk: &Arc<DiskStore>, keys: &[i32], pages: &[i32]) -> Result<()> {
        self.move_far(id, Kind::Write, keys, pages, |keys| self.slots_of(disk, keys))
    }

    /// Loads host pages from a disk store; a page that is not there has failed as `missing`.
    ///
    /// # Errors
    /// As [`Self::write_disk`].
    pub fn read_disk(&self, id: i64, disk: &Arc<DiskStore>, keys: &[i32], pages: &[i32]) -> Result<()> {
        self.move_far(id, Kind::Read, keys, pages, |keys| self.slots_of(disk, keys))
    }

    /// Starts a flight between host pages and what lies under keys.
    fn move_far(
        &self,
        id: i64,
        kind: Kind,
        keys: &[i32],
        pages: &[i32],
        far: impl FnOnce(Vec<Key>) -> Result<Far>,
    ) -> Result<()> {
        let pages = indices(pages, 0, self.num_ready(), "host page").map_err(of_flight(id))?;
        let far = Key::all_of(keys).and_then(far).map_err(of_flight(id))?;
        self.start_files()?;
        self.submit(Plan { id, kind, pages, far }, -1)
    }

    fn slots_of(&self, disk: &Arc<DiskStore>, keys: Vec<Key>) -> Result<Far> {
        let (theirs, ours) = (disk.page_bytes(), self.page_bytes());
        if theirs != ours {
            return Err(Failure::internal(format!(
                "the disk store has pages of {theirs} bytes, the host pool of {ours}"
            )));
        }
        Ok(Far::Disk(Arc::clone(disk), keys))
    }

    fn start_files(&self) -> Result<()> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let started = std::mem::replace(&mut threads.files_started, true);
        drop(threads);
        if started || !self.shared.lock().queue.is_open() {
            return Ok(());
        }
        let started = self
            .start(self.file_threads, "kv-read", |shared| shared.work(Kind::Read))
            .and_then(|()| self.start(self.file_threads, "kv-write", |shared| shared.work(Kind::Write)));
        if started.is_err() {
            // The next flight tries again.
            self.threads.lock().unwrap_or_else(PoisonError::into_inner).files_started = false;
        }
        started
    }

    fn submit(&self, plan: Plan, after: i64) -> Result<()> {
        let (id, num_pages, num_far) = (plan.id, plan.pages.len(), plan.far.len());
        if num_pages == 0 || num_far != num_pages {
            return Err(Failure::internal(format!(
                "flight {id}: {num_pages} host pages and {num_far} places, there must be as many, at least one"
            )));
        }
        self.shared.copier.host.use_pages(&plan.pages);
        let kind = plan.kind;
        let finished = self.shared.steps.newest();
        let taken = self.shared.change_kind(kind, |queue| {
            queue.is_open().then(|| queue.submit(plan, after, finished, Instant::now()))
        });
        match taken {
            Some(true) => Ok(()),
            Some(false) => Err(Failure::internal(format!("flight {id} has not ended: its id is in use"))),
            None => Err(Failure::internal("the transfers were stopped")),
        }
    }

    /// True when nothing of the flight had started: it ends as cancelled. False when it has started, has ended or is unknown.
    pub fn cancel(&self, id: i64) -> bool {
        self.shared.change(|state| state.queue.cancel(id, Instant::now()))
    }

    /// Somebody waits for what a store holds: it goes before other stores, also by threads that load. What has ended or is unknown is
    /// passed over.
    pub fn hurry(&self, id: i64) {
        self.shared.change_kind(Kind::Load, |queue| queue.hurry(id));
    }

    /// Most of the wall time that stores may copy; 0 = none starts.
    ///
    /// # Errors
    /// `internal` outside 0 to 1.
    pub fn set_store_share(&self, share: f64) -> Result<()> {
        check_share(share)?;
        self.shared.change(|state| state.queue.pace.set_share(share, Instant::now()));
        Ok(())
    }

    /// Slows copies between device and host down; 0 = as fast as it goes.
    ///
    /// # Errors
    /// `internal` below 0.
    pub fn set_link_bytes_per_second(&self, bytes: f64) -> Result<()> {
        check_link(bytes)?;
        self.shared.change(|State { queue, link_changes, .. }| {
            *link_changes += 1;
            queue.pace.set_link(bytes, Instant::now());
        });
        Ok(())
    }

    /// Counts and measurements.
    pub fn stats(&self) -> TransferStats {
        let (by_transfer_threads, by_others) = self.shared.copier.copied.read();
        TransferStats {
            copied_by_transfer_threads: by_transfer_threads,
            copied_by_other_threads: by_others,
            ..self.shared.lock().queue.stats()
        }
    }

    /// What has ended since the last call, in order.
    pub fn take_results(&self) -> Vec<FlightResult> {
        self.shared.lock().queue.take_ended()
    }

    /// Cancels what has not started, lets the rest end, and ends the threads; waits. False when some have not ended by the
    /// deadline: they are left alone, and their flights have failed. All results can be taken afterwards.
    pub fn stop(&self, patience: Duration) -> bool {
        let deadline = Instant::now().checked_add(patience);
        let shared = &*self.shared;
        shared.copier.host.stop_growing();
        shared.change(|state| state.queue.drain(Instant::now()));
        shared.wait(deadline, |state| state.queue.is_over());
        shared.change(|state| state.queue.close(Instant::now()));
        let ended = shared.wait(deadline, |state| state.alive == 0);
        if ended {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            for handle in threads.handles.drain(..) {
                // A copy's panic is a result; one outside a copy has nothing left to report to.
                drop(handle.join());
            }
        }
        *shared.on_results.lock().unwrap_or_else(PoisonError::into_inner) = None;
        ended
    }

    /// For tests: a manual flight counts as started, so that it cannot be cancelled. False when its step has not ended, or it
    /// has.
    pub fn begin(&self, id: i64) -> bool {
        let newest = self.shared.steps.newest();
        self.shared.change(|state| {
            let now = Instant::now();
            state.queue.step_finished(newest, now);
            state.queue.begin(id, now)
        })
    }

    /// For tests: lets a manual flight go, once its step has ended. Entries in `failed` are filled with garbage and fail, all where
    /// it is `None`. False when it was run before or has ended.
    ///
    /// # Errors
    /// `internal` for an entry that the flight does not have.
    pub fn run(&self, id: i64, failed: Option<&[i32]>) -> Result<bool> {
        self.shared.change(|state| {
            let Some(len) = state.queue.len_of(id) else { return Ok(false) };
            let failed = match failed {
                Some(failed) => indices(failed, 0, len, "entry").map_err(of_flight(id))?,
                None => (0..len as u32).collect(),
            };
            Ok(state.queue.run(id, &failed))
        })
    }

    /// For tests: changes a byte of a host page behind the back of its checksum.
    ///
    /// # Errors
    /// `internal` where a flight has the page, or there is none.
    pub fn corrupt_page(&self, page: i32) -> Result<()> {
        let page = indices(&[page], 0, self.num_ready(), "host page")?[0];
        // Under the lock no flight can claim it.
        let state = self.shared.lock();
        if state.queue.has_page(page) {
            return Err(Failure::internal(format!("host page {page} is in flight")));
        }
        self.shared.copier.host.corrupt(page);
        drop(state);
        Ok(())
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        self.shared.copier.host.stop_growing();
        self.shared.change(|state| state.queue.close(Instant::now()));
    }
}

/// Memory that is available, less what the device's pages may still take of it: if they are in memory they are mapped, and
/// touched by and by.
fn available_beside(device: &Pages) -> Result<u64> {
    let mapped = if device.remote().is_some() { 0 } else { device.page_bytes() * device.num_pages() };
    Ok(memory::available()?.saturating_sub(mapped as u64))
}

/// How many pages a host pool beside these pages could have now.
///
/// # Errors
/// `internal` when the system does not say how much memory there is.
pub(crate) fn host_pages_that_fit(device: &Pages) -> Result<u64> {
    Ok(host_pool::pages_that_fit(device.page_bytes(), available_beside(device)?))
}

/// Holds all indices to `from..end`.
fn indices(words: &[i32], from: usize, end: usize, what: &str) -> Result<Vec<u32>> {
    let index = |&word: &i32| {
        let index = usize::try_from(word).ok().filter(|index| (from..end).contains(index));
        index.map(|index| index as u32).ok_or_else(|| {
            let allowed =
                if from < end { format!("allowed is {from} to {}", end - 1) } else { "there is none".into() };
            Failure::internal(format!("{what} {word}, {allowed}"))
        })
    };
    words.iter().map(index).collect()
}

/// Bytes from the start of a file, for each key.
fn places_in(file: PageFile, offsets: &[f64], keys: Vec<Key>) -> Result<Far> {
    if offsets.len() != keys.len() {
        let (offsets, keys) = (offsets.len(), keys.len());
        return Err(Failure::internal(format!("{offsets} offsets and {keys} keys, there must be as many")));
    }
    let offset = |&offset: &f64| {
        let exact = (0.0..MOST_OFFSET).contains(&offset) && offset.fract() == 0.0;
        exact
            .then_some(offset as u64)
            .ok_or_else(|| outside("an offset", offset, "whole numbers from 0 to 2^53"))
    };
    let offsets = offsets.iter().map(offset).collect::<Result<Vec<u64>>>()?;
    Ok(Far::File(file, offsets.into_iter().zip(keys).collect()))
}

/// Names the flight in a failure.
fn of_flight(id: i64) -> impl Fn(Failure) -> Failure {
    move |failure| Failure { message: format!("flight {id}: {failure}"), ..failure }
}

fn outside(name: &str, value: impl std::fmt::Display, allowed: &str) -> Failure {
    Failure::internal(format!("{name} is {value}, allowed is {allowed}"))
}

fn check_share(share: f64) -> Result<()> {
    if (0.0..=1.0).contains(&share) { Ok(()) } else { Err(outside("storeShare", share, "0 to 1")) }
}

fn check_link(bytes: f64) -> Result<()> {
    if bytes >= 0.0 { Ok(()) } else { Err(outside("linkBytesPerSecond", bytes, "0 or more")) }
}

#[cfg(test)]
mod tests;
