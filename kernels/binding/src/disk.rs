//! The disk store: convert, call, convert.

use crate::error::to_js;
use kvengine_core::disk as core;
use napi::bindgen_prelude::{AsyncTask, Float64Array, Int32Array, Uint8Array};
use napi::{Env, Task};
use napi_derive::napi;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How a store is opened; see `engine/cache/disk-store.ts`.
#[napi(object)]
pub struct DiskOptions {
    /// The folder; made where there is none.
    pub path: String,
    /// Bytes that all its files may take.
    pub size_bytes: f64,
    /// Bytes of a page.
    pub page_bytes: f64,
    /// Names everything that a page's bytes depend on beside its key.
    pub fingerprint: String,
    /// Seconds that a page is kept after its last use; 0 = as long as there is room.
    pub ttl_seconds: f64,
    /// Share of the size that pinned pages may take, 0 to 1.
    pub pin_share: f64,
    /// Whether pages go past the system's page cache.
    pub direct_io: bool,
    /// The layout of pages that are to be kept as int8.
    pub int8_layout: Option<String>,
}

/// Pages that failed for one reason.
#[napi(object)]
pub struct DiskFailures {
    /// The error's code.
    pub code: String,
    /// How many.
    pub pages: f64,
}

/// Why nothing is stored.
#[napi(object)]
pub struct DiskTrouble {
    /// The error's code.
    pub code: String,
    /// For people.
    pub message: String,
    /// Since when, in seconds since 1970.
    pub since_seconds: f64,
    /// When it is tried again.
    pub until_seconds: f64,
}

/// Counts and measurements; see `engine/cache/disk-store.ts`.
#[napi(object)]
pub struct DiskStats {
    /// Bytes that all files may take now.
    pub bytes: f64,
    /// The limit.
    pub limit_bytes: f64,
    /// Of `bytes`, those of other models.
    pub stale_bytes: f64,
    /// Pages that can be loaded.
    pub pages: f64,
    /// Of those, pinned ones.
    pub pinned_pages: f64,
    /// Pages that are pinned or have a weight.
    pub kept_pages: f64,
    /// Most pages that may be pinned, and are kept for their weight.
    pub pinnable_pages: f64,
    /// Pages that were asked for and arrived.
    pub hits: f64,
    /// Pages that were asked for and not there.
    pub misses: f64,
    /// Pages that were written.
    pub stored: f64,
    /// Pages that were given up for others.
    pub evicted: f64,
    /// Pages whose time was over.
    pub expired: f64,
    /// Pages that failed, by reason.
    pub failures: Vec<DiskFailures>,
    /// Bytes of pages that were read.
    pub read_bytes: f64,
    /// Bytes of pages that were written.
    pub written_bytes: f64,
    /// Time that threads have spent reading.
    pub read_seconds: f64,
    /// Time that threads have spent writing.
    pub write_seconds: f64,
    /// Whether the folder can be read and not written.
    pub is_read_only: bool,
    /// Why nothing is stored, if so.
    pub trouble: Option<DiskTrouble>,
}

/// Pages as lists that run in parallel.
#[napi(object)]
pub struct DiskPages {
    /// Nine words each.
    pub keys: Int32Array,
    /// Seconds since 1970.
    pub stored_seconds: Float64Array,
    /// Seconds since 1970.
    pub used_seconds: Float64Array,
    /// Seconds since 1970; 0 = not pinned.
    pub pinned_until_seconds: Float64Array,
    /// 0 to 255.
    pub weights: Uint8Array,
}

/// Pages on a disk; contract: `engine/cache/disk-store.ts`. Keys are 9 words each.
#[napi]
pub struct DiskStore {
    pub(crate) core: Arc<core::DiskStore>,
}

#[napi]
impl DiskStore {
    /// Locks the folder and takes over what it holds, on a native thread.
    #[napi(ts_return_type = "Promise<DiskStore>")]
    pub fn open(options: DiskOptions) -> AsyncTask<OpenDisk> {
        let options = core::DiskOptions {
            path: PathBuf::from(options.path),
            size_bytes: options.size_bytes as u64,
            page_bytes: options.page_bytes as usize,
            fingerprint: options.fingerprint,
            ttl_seconds: options.ttl_seconds,
            pin_share: options.pin_share,
            direct_io: options.direct_io,
            int8_layout: options.int8_layout,
        };
        AsyncTask::new(OpenDisk { options })
    }

    /// For each key 1 if its page can be loaded, else 0.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn has(&self, keys: &[i32]) -> napi::Result<Uint8Array> {
        Ok(bytes_of(self.core.has(&keys_of(keys)?)))
    }

    /// Forgets pages. Answers how many there were.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn remove(&self, keys: &[i32]) -> napi::Result<u32> {
        Ok(self.core.remove(&keys_of(keys)?) as u32)
    }

    /// Forgets everything.
    #[napi]
    pub fn clear(&self) {
        self.core.clear();
    }

    /// Keeps pages until a time. For each key 1 if its page is pinned, else 0.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn pin(&self, keys: &[i32], until_seconds: f64) -> napi::Result<Uint8Array> {
        Ok(bytes_of(self.core.pin(&keys_of(keys)?, until_seconds)))
    }

    /// Ends pins. Answers how many there were.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn unpin(&self, keys: &[i32]) -> napi::Result<u32> {
        Ok(self.core.unpin(&keys_of(keys)?) as u32)
    }

    /// Gives pages a weight, 0 to 255. For each key 1 if its page is there, else 0.
    ///
    /// # Errors
    /// The core's, as JSON `{code, message}` in the message.
    #[napi]
    pub fn weigh(&self, keys: &[i32], weight: u8) -> napi::Result<Uint8Array> {
        Ok(bytes_of(self.core.weigh(&keys_of(keys)?, weight)))
    }

    /// All pages: by weight, the least recently used of each first, and behind them those that are pinned.
    #[napi]
    pub fn list(&self) -> DiskPages {
        let pages = self.core.list();
        let times = |time: fn(&core::StoredPage) -> u64| -> Float64Array {
            pages.iter().map(|page| seconds(time(page))).collect::<Vec<f64>>().into()
        };
        DiskPages {
            keys: pages.iter().flat_map(|page| page.key.words()).collect::<Vec<i32>>().into(),
            stored_seconds: times(|page| page.stored_at),
            used_seconds: times(|page| page.used_at),
            pinned_until_seconds: times(|page| page.pinned_until),
            weights: pages.iter().map(|page| page.weight).collect::<Vec<u8>>().into(),
        }
    }

    /// Counts and measurements.
    #[napi]
    pub fn stats(&self) -> DiskStats {
        stats_to_js(self.core.stats())
    }

    /// Lets writes end, syncs, gives the folder free. False when that has not ended by the deadline.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn close(&self, deadline_ms: f64) -> AsyncTask<CloseDisk> {
        let patience = Duration::try_from_secs_f64(deadline_ms.max(0.0) / 1e3).unwrap_or(Duration::MAX);
        AsyncTask::new(CloseDisk { core: Arc::clone(&self.core), patience })
    }
}

/// Reads the tables on a native thread.
pub struct OpenDisk {
    options: core::DiskOptions,
}

impl Task for OpenDisk {
    type Output = core::DiskStore;
    type JsValue = DiskStore;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        core::DiskStore::open(&self.options).map_err(to_js)
    }

    fn resolve(&mut self, _env: Env, output: Self::Output) -> napi::Result<Self::JsValue> {
        Ok(DiskStore { core: Arc::new(output) })
    }
}

/// Waits for the disk on a native thread.
pub struct CloseDisk {
    core: Arc<core::DiskStore>,
    patience: Duration,
}

impl Task for CloseDisk {
    type Output = bool;
    type JsValue = bool;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        Ok(self.core.close(self.patience))
    }

    fn resolve(&mut self, _env: Env, output: Self::Output) -> napi::Result<Self::JsValue> {
        Ok(output)
    }
}

fn keys_of(words: &[i32]) -> napi::Result<Vec<core::Key>> {
    core::Key::all_of(words).map_err(to_js)
}

fn bytes_of(answers: Vec<bool>) -> Uint8Array {
    answers.into_iter().map(u8::from).collect::<Vec<u8>>().into()
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn stats_to_js(stats: core::DiskStats) -> DiskStats {
    DiskStats {
        bytes: stats.bytes as f64,
        limit_bytes: stats.limit_bytes as f64,
        stale_bytes: stats.stale_bytes as f64,
        pages: stats.pages as f64,
        pinned_pages: stats.pinned_pages as f64,
        kept_pages: stats.kept_pages as f64,
        pinnable_pages: stats.pinnable_pages as f64,
        hits: stats.hits as f64,
        misses: stats.misses as f64,
        stored: stats.stored as f64,
        evicted: stats.evicted as f64,
        expired: stats.expired as f64,
        failures: stats
            .failures
            .into_iter()
            .map(|(code, pages)| DiskFailures { code, pages: pages as f64 })
            .collect(),
        read_bytes: stats.read_bytes as f64,
        written_bytes: stats.written_bytes as f64,
        read_seconds: stats.read_seconds,
        write_seconds: stats.write_seconds,
        is_read_only: stats.is_read_only,
        trouble: stats.trouble.map(|trouble| DiskTrouble {
            code: trouble.error.code.into_owned(),
            message: trouble.error.message,
            since_seconds: seconds(trouble.since),
            until_seconds: seconds(trouble.until),
        }),
    }
}
