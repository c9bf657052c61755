//! Transfers of pages: convert, call, convert.
#![expect(clippy::needless_pass_by_value, reason = "what napi hands over is owned")]

use crate::disk::DiskStore;
use crate::error::to_js;
use crate::runner::Runner;
use kvengine_core::transfer as core;
use napi::bindgen_prelude::{AsyncTask, Float64Array, Function, Int32Array};
use napi::threadsafe_function::{ThreadsafeCallContext, ThreadsafeFunctionCallMode};
use napi::{Env, Task};
use napi_derive::napi;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub use kvengine_core::transfer::TransferOptions;

/// Why pages of a flight failed.
#[napi(object)]
pub struct FlightError {
    /// See `engine/cache/page-transfers.ts`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// What a flight came to.
#[napi(object)]
pub struct FlightResult {
    /// The caller's number of it.
    pub id: i64,
    /// Every page arrived.
    pub ok: bool,
    /// Nothing of it had started.
    pub cancelled: bool,
    /// Ascending indices into the flight's lists.
    pub failed_pages: Int32Array,
    /// Bytes that arrived.
    pub bytes: f64,
    /// From the call to the first copy.
    pub queued_micros: f64,
    /// From the first copy to the end.
    pub copy_micros: f64,
    /// Of the first page that failed.
    pub error: Option<FlightError>,
}

/// Where pages are in a file.
#[napi(object)]
pub struct FilePlace {
    /// Of the file.
    pub path: String,
    /// Any text: equal where pages of one may be used by the other.
    pub fingerprint: String,
    /// Of each page, in bytes.
    pub offsets: Float64Array,
}

impl FilePlace {
    fn file(&self) -> core::PageFile {
        core::PageFile::new(PathBuf::from(&self.path), &self.fingerprint)
    }
}

/// Counts since the start, and what was measured; see `engine/cache/page-transfers.ts`.
#[napi(object)]
pub struct TransferStats {
    /// Bytes that arrived, by kind of flight.
    pub load_bytes: f64,
    /// See `loadBytes`.
    pub store_bytes: f64,
    /// See `loadBytes`.
    pub file_read_bytes: f64,
    /// See `loadBytes`.
    pub file_write_bytes: f64,
    /// Flights that ended with every page, by kind.
    pub loads: f64,
    /// See `loads`.
    pub stores: f64,
    /// See `loads`.
    pub file_reads: f64,
    /// See `loads`.
    pub file_writes: f64,
    /// Flights of any kind that ended with a failed page.
    pub failed: f64,
    /// Flights that were cancelled.
    pub cancelled: f64,
    /// Pages that failed.
    pub failed_pages: f64,
    /// Pages that failed by their checksum.
    pub wrong_checksums: f64,
    /// Flights that have not ended.
    pub pending: f64,
    /// Bytes of flights that have not ended and are not copied yet, by kind.
    pub pending_load_bytes: f64,
    /// See `pendingLoadBytes`.
    pub pending_store_bytes: f64,
    /// Of a thread while it copies, a slowed link included; a moving average, by kind.
    pub load_bytes_per_second: f64,
    /// See `loadBytesPerSecond`.
    pub store_bytes_per_second: f64,
    /// From when a flight may start to its first copy; a moving average, by kind.
    pub load_latency_micros: f64,
    /// See `loadLatencyMicros`.
    pub store_latency_micros: f64,
    /// Bytes of pages copied by transfer threads.
    pub copied_by_transfer_threads: f64,
    /// Bytes of pages copied by other threads.
    pub copied_by_other_threads: f64,
}

/// How the transfers ended.
#[napi(object)]
pub struct TransfersEnd {
    /// Whether all threads have ended by the deadline.
    pub ended: bool,
    /// Results that were not delivered before.
    pub results: Vec<FlightResult>,
}

/// Moves pages between the device, the host pool and files; contract: `engine/cache/page-transfers.ts`.
#[napi]
pub struct Transfers {
    pub(crate) core: Arc<core::Transfers>,
}

#[napi]
impl Runner {
    /// How many pages a host pool could have now.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn host_pages_that_fit(&self) -> napi::Result<f64> {
        self.core.host_pages_that_fit().map(|pages| pages as f64).map_err(to_js)
    }

    /// Opens a host pool and starts the threads that copy between it and this runner's KV blocks. `onResults` is called with
    /// what has ended since the last call, which may be nothing; it keeps the process alive until `stop`.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn open_transfers(
        &self,
        options: TransferOptions,
        #[napi(ts_arg_type = "(results: Array<FlightResult>) => void")] on_results: Function<
            '_,
            Vec<FlightResult>,
            (),
        >,
    ) -> napi::Result<Transfers> {
        let opened: Arc<OnceLock<std::sync::Weak<core::Transfers>>> = Arc::default();
        let transfers = Arc::clone(&opened);
        // Results are taken when JavaScript comes to it: what ends meanwhile goes with them.
        let take = move |_: ThreadsafeCallContext<()>| {
            let transfers = transfers.get().and_then(std::sync::Weak::upgrade);
            Ok(transfers.map_or_else(Vec::new, |transfers| results_to_js(transfers.take_results())))
        };
        let news = on_results.build_threadsafe_function::<()>().build_callback(take)?;
        let tell = move || {
            // Refused only when JavaScript is being torn down: nobody is left to tell.
            let _closing = news.call((), ThreadsafeFunctionCallMode::NonBlocking);
        };
        let core = self.core.open_transfers(&options, Box::new(tell)).map_err(to_js)?;
        let core = Arc::new(core);
        // Set once: nothing can have ended before there is a flight.
        let _set = opened.set(Arc::downgrade(&core));
        Ok(Transfers { core })
    }
}

#[napi]
impl Transfers {
    /// Bytes of a page.
    #[napi(getter)]
    pub fn page_bytes(&self) -> f64 {
        self.core.page_bytes() as f64
    }

    /// Pages of the host pool.
    #[napi(getter)]
    pub fn num_pages(&self) -> u32 {
        self.core.num_pages() as u32
    }

    /// Host pages that may be used.
    #[napi(getter)]
    pub fn num_ready(&self) -> u32 {
        self.core.num_ready() as u32
    }

    /// Whether more host pages will be ready.
    #[napi(getter)]
    pub fn is_growing(&self) -> bool {
        self.core.is_growing()
    }

    /// Copies blocks to pages, not before step `afterStep` has ended.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn store(&self, id: i64, blocks: &[i32], pages: &[i32], after_step: i64) -> napi::Result<()> {
        self.core.store(id, blocks, pages, after_step).map_err(to_js)
    }

    /// Copies pages to blocks, not before step `afterStep` has ended.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn load(&self, id: i64, pages: &[i32], blocks: &[i32], after_step: i64) -> napi::Result<()> {
        self.core.load(id, pages, blocks, after_step).map_err(to_js)
    }

    /// Writes pages with their labels into a file at byte offsets; keys are 9 words each.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn write_pages(&self, id: i64, place: FilePlace, keys: &[i32], pages: &[i32]) -> napi::Result<()> {
        self.core.write_pages(id, place.file(), &place.offsets, keys, pages).map_err(to_js)
    }

    /// Reads pages that were written for these keys from a file at byte offsets.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn read_pages(&self, id: i64, place: FilePlace, keys: &[i32], pages: &[i32]) -> napi::Result<()> {
        self.core.read_pages(id, place.file(), &place.offsets, keys, pages).map_err(to_js)
    }

    /// Stores pages in a disk store under these keys, 9 words each.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn write_disk(&self, id: i64, disk: &DiskStore, keys: &[i32], pages: &[i32]) -> napi::Result<()> {
        self.core.write_disk(id, &disk.core, keys, pages).map_err(to_js)
    }

    /// Loads pages from a disk store.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn read_disk(&self, id: i64, disk: &DiskStore, keys: &[i32], pages: &[i32]) -> napi::Result<()> {
        self.core.read_disk(id, &disk.core, keys, pages).map_err(to_js)
    }

    /// What has ended since results were given away last.
    #[napi]
    pub fn take_results(&self) -> Vec<FlightResult> {
        results_to_js(self.core.take_results())
    }

    /// True when nothing of the flight had started.
    #[napi]
    pub fn cancel(&self, id: i64) -> bool {
        self.core.cancel(id)
    }

    /// Somebody waits for what a store holds.
    #[napi]
    pub fn hurry(&self, id: i64) {
        self.core.hurry(id);
    }

    /// Most of the wall time that stores may copy, 0 to 1.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn set_store_share(&self, share: f64) -> napi::Result<()> {
        self.core.set_store_share(share).map_err(to_js)
    }

    /// Slows copies between device and host down; 0 = off.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn set_link_bytes_per_second(&self, bytes: f64) -> napi::Result<()> {
        self.core.set_link_bytes_per_second(bytes).map_err(to_js)
    }

    /// Counts and measurements.
    #[napi]
    pub fn stats(&self) -> TransferStats {
        stats_to_js(&self.core.stats())
    }

    /// Cancels what has not started and ends the threads.
    #[napi(ts_return_type = "Promise<TransfersEnd>")]
    pub fn stop(&self, deadline_ms: f64) -> AsyncTask<StopTransfers> {
        let patience = Duration::try_from_secs_f64(deadline_ms.max(0.0) / 1e3).unwrap_or(Duration::MAX);
        AsyncTask::new(StopTransfers { core: Arc::clone(&self.core), patience })
    }

    /// For tests: a flight counts as started.
    #[napi]
    pub fn begin(&self, id: i64) -> bool {
        self.core.begin(id)
    }

    /// For tests: lets a flight go; pages at the indices in `failed` fail, all when it is missing.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn run(&self, id: i64, failed: Option<Int32Array>) -> napi::Result<bool> {
        self.core.run(id, failed.as_deref()).map_err(to_js)
    }

    /// For tests: changes a byte of a host page.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn corrupt_page(&self, page: i32) -> napi::Result<()> {
        self.core.corrupt_page(page).map_err(to_js)
    }
}

/// Waits for the threads on a native thread.
pub struct StopTransfers {
    core: Arc<core::Transfers>,
    patience: Duration,
}

impl Task for StopTransfers {
    type Output = (bool, Vec<core::FlightResult>);
    type JsValue = TransfersEnd;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        let ended = self.core.stop(self.patience);
        Ok((ended, self.core.take_results()))
    }

    fn resolve(&mut self, _env: Env, (ended, results): Self::Output) -> napi::Result<Self::JsValue> {
        Ok(TransfersEnd { ended, results: results_to_js(results) })
    }
}

fn results_to_js(results: Vec<core::FlightResult>) -> Vec<FlightResult> {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let to_js = |result: core::FlightResult| FlightResult {
        id: result.id,
        ok: result.ok(),
        cancelled: result.cancelled,
        bytes: result.bytes as f64,
        queued_micros: micros(result.queued),
        copy_micros: micros(result.copying),
        failed_pages: result.failed.into_iter().map(|entry| entry as i32).collect::<Vec<_>>().into(),
        error: result
            .error
            .map(|error| FlightError { code: error.code.into_owned(), message: error.message }),
    };
    results.into_iter().map(to_js).collect()
}

fn stats_to_js(stats: &core::TransferStats) -> TransferStats {
    let [load, store, read, write] = stats.kinds;
    TransferStats {
        load_bytes: load.bytes as f64,
        store_bytes: store.bytes as f64,
        file_read_bytes: read.bytes as f64,
        file_write_bytes: write.bytes as f64,
        loads: load.flights as f64,
        stores: store.flights as f64,
        file_reads: read.flights as f64,
        file_writes: write.flights as f64,
        failed: stats.failed as f64,
        cancelled: stats.cancelled as f64,
        failed_pages: stats.failed_pages as f64,
        wrong_checksums: stats.wrong_checksums as f64,
        pending: stats.pending as f64,
        pending_load_bytes: load.pending_bytes as f64,
        pending_store_bytes: store.pending_bytes as f64,
        load_bytes_per_second: load.bytes_per_second,
        store_bytes_per_second: store.bytes_per_second,
        load_latency_micros: load.latency_micros,
        store_latency_micros: store.latency_micros,
        copied_by_transfer_threads: stats.copied_by_transfer_threads as f64,
        copied_by_other_threads: stats.copied_by_other_threads as f64,
    }
}
