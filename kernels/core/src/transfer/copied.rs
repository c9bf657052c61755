//! How many bytes of pages were copied by transfer threads, and how many by others: none, and a test counts them.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static IS_TRANSFER_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Marks the calling thread as a transfer thread for good.
pub(super) fn mark_transfer_thread() {
    IS_TRANSFER_THREAD.set(true);
}

/// Bytes by the kind of thread.
#[derive(Debug, Default)]
pub(super) struct CopiedBytes {
    by_transfer_threads: AtomicU64,
    by_others: AtomicU64,
}

impl CopiedBytes {
    /// The calling thread has copied so many.
    pub(super) fn add(&self, bytes: usize) {
        let counter = if IS_TRANSFER_THREAD.get() { &self.by_transfer_threads } else { &self.by_others };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// By transfer threads, by others.
    pub(super) fn read(&self) -> (u64, u64) {
        (self.by_transfer_threads.load(Ordering::Relaxed), self.by_others.load(Ordering::Relaxed))
    }
}
