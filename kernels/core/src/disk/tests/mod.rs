//! The store as a whole, over a disk that loses power (`simulated.rs`) and over the system's files.

mod crash;
mod files;
mod killed;
mod model;
mod mutations;
mod packed;
mod read_only;
mod simulated;
mod trouble;

use super::error::DiskError;
use super::layout::Layout;
use super::lock::LOCK_BYTES;
use super::store::{Spec, Store};
use super::testing::{content, key};
use simulated::SimulatedDisk;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// No multiple of anything, so that slots have padding.
const PAGE: usize = 2500;
const SECOND: u64 = 1_000_000;

/// Time that tests move.
#[derive(Clone)]
struct TestClock(Arc<AtomicU64>);

impl TestClock {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_000_000 * SECOND)))
    }
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn advance(&self, micros: u64) {
        self.0.fetch_add(micros, Ordering::Relaxed);
    }
}

/// A store of `segments` segments of `slots` pages.
fn spec(segments: u64, slots: u32) -> Spec {
    let segment_bytes = Layout { page_bytes: PAGE, slots }.file_bytes();
    Spec {
        limit: LOCK_BYTES + segments * segment_bytes,
        segment_bytes,
        page_bytes: PAGE,
        fingerprint: [1; 32],
        ttl: 0,
        pin_share: 0.5,
    }
}

fn open(disk: &SimulatedDisk, spec: &Spec, clock: &TestClock) -> Store {
    let clock = clock.clone();
    Store::open(Box::new(disk.clone()), spec.clone(), Box::new(move || clock.now())).unwrap()
}

/// Stores the pages of these numbers.
fn write(store: &Store, numbers: &[u64]) -> Vec<Result<(), DiskError>> {
    let pages: Vec<Vec<u8>> = numbers.iter().map(|&number| content(number, PAGE)).collect();
    let pages: Vec<_> = numbers.iter().zip(&pages).map(|(&number, page)| (key(number), &page[..])).collect();
    store.write(&pages)
}

/// Loads pages, and holds what arrives to what it must be.
fn read(store: &Store, numbers: &[u64]) -> Vec<Result<(), DiskError>> {
    let mut pages = vec![vec![0; PAGE]; numbers.len()];
    let mut wanted: Vec<_> =
        numbers.iter().zip(&mut pages).map(|(&number, page)| (key(number), &mut page[..])).collect();
    let results = store.read(&mut wanted);
    for ((number, page), result) in numbers.iter().zip(&pages).zip(&results) {
        assert!(result.is_err() || *page == content(*number, PAGE), "page {number} is wrong");
    }
    results
}

/// The codes of what failed, by place.
fn codes(results: &[Result<(), DiskError>]) -> Vec<&str> {
    results.iter().map(|result| result.as_ref().map_or_else(|error| &*error.code, |()| "ok")).collect()
}

fn has(store: &Store, numbers: &[u64]) -> Vec<bool> {
    store.has(&numbers.iter().map(|&number| key(number)).collect::<Vec<_>>())
}
