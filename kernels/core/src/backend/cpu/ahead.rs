//! KV pages get their memory ahead of their use, on a thread of low priority: the system gives it when it is first touched, which
//! can take longer than computing what goes there. New pages are used in ascending order (`block-pool.ts`), so those behind
//! the last one used come next; what nobody comes near to takes no memory.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::error::{Failure, Result};
use crate::give_way::give_way;
use crate::memory;
use crate::pages::Pages;

/// Bytes that have memory beyond what is used.
const AHEAD: usize = 64 << 20;
/// Bytes between two looks at what is asked for: a large page of the system.
const PIECE: usize = 2 << 20;
/// Memory that is left to the rest of the machine.
const SPARE: u64 = 256 << 20;

/// What the thread is told.
#[derive(Debug, Default)]
struct Told {
    /// Bytes that are used, or were: from the first page on.
    used: usize,
    stop: bool,
}

#[derive(Debug, Default)]
struct Shared {
    told: Mutex<Told>,
    changed: Condvar,
}

impl Shared {
    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until memory is wanted from `done` on; how far, or `None` when told to stop.
    fn wanted(&self, done: usize) -> Option<usize> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |told: &mut Told| !told.stop && told.used + AHEAD <= done;
        let told = self.changed.wait_while(told, idle).unwrap_or_else(PoisonError::into_inner);
        (!told.stop).then_some(told.used + AHEAD)
    }

    /// The thread: ends where all bytes have memory, where that runs short or when told to stop.
    fn work(
        &self,
        all: usize,
        mut available: impl FnMut() -> Result<u64>,
        mut populate: impl FnMut(Range<usize>) -> bool,
    ) {
        let mut done = 0;
        while done < all {
            let Some(wanted) = self.wanted(done) else { break };
            let end = all.min(wanted).min(done + PIECE);
            // What the system does not say is no reason to stop.
            if available().is_ok_and(|available| available < SPARE) || !populate(done..end) {
                break;
            }
            done = end;
        }
    }
}

/// See the module. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Ahead {
    shared: Arc<Shared>,
    used: usize,
    page_bytes: usize,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Begins with the first pages.
    ///
    /// # Errors
    /// `out_of_memory` when the system gives no thread.
    pub(super) fn of(pages: &Pages) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (page_bytes, theirs, pages) = (pages.page_bytes(), Arc::clone(&shared), pages.clone());
        let thread = std::thread::Builder::new()
            .name("kv-memory".into())
            .spawn(move || {
                give_way();
                let all = pages.page_bytes() * pages.num_pages();
                theirs.work(all, memory::available, |bytes| pages.populate(bytes));
            })
            .map_err(|e| Failure::out_of_memory(format!("thread for the memory of KV blocks: {e}")))?;
        Ok(Self { shared, used: 0, page_bytes, thread: Some(thread) })
    }

    /// These blocks are about to be used.
    pub(super) fn use_blocks(&mut self, blocks: &[i32]) {
        let end = blocks.iter().max().map_or(0, |&block| (block as usize + 1) * self.page_bytes);
        if end > self.used {
            self.used = end;
            self.shared.tell(|told| told.used = end);
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.shared.tell(|told| told.stop = true);
        if let Some(thread) = self.thread.take() {
            drop(thread.join()); // it does not panic
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 1 << 20;

    /// Bytes that have memory when the thread has ended; `available` is asked before each piece, with how many were before it.
    fn populated(shared: &Shared, all: usize, mut available: impl FnMut(usize) -> Result<u64>) -> usize {
        let (mut asked, mut done) = (0, 0);
        shared.work(
            all,
            || {
                asked += 1;
                available(asked - 1)
            },
            |bytes| {
                assert!(bytes.start == done && bytes.len() <= PIECE);
                done = bytes.end;
                true
            },
        );
        done
    }

    fn used(used: usize) -> Shared {
        Shared { told: Mutex::new(Told { used, stop: false }), ..Shared::default() }
    }

    #[test]
    fn pages_get_memory_as_far_as_use_has_come_and_a_little_further() {
        let shared = used(3 * PAGE);
        assert_eq!(shared.wanted(3 * PAGE + AHEAD - 1), Some(3 * PAGE + AHEAD));
        let done = populated(&shared, 4 * AHEAD, |pieces| {
            // Before what is wanted is done, more is; then no more.
            match (pieces + 1) * PIECE {
                AHEAD => shared.tell(|told| told.used = AHEAD),
                at if at == 2 * AHEAD => shared.tell(|told| told.stop = true),
                _ => {}
            }
            Ok(1 << 40)
        });
        assert_eq!(done, 2 * AHEAD);
    }

    #[test]
    fn all_pages_are_the_end_however_much_is_used() {
        for all in [0, 64, PIECE, 3 * PIECE + 192] {
            assert_eq!(populated(&used(1 << 40), all, |_| Ok(1 << 40)), all);
        }
    }

    #[test]
    fn memory_that_runs_short_is_left_to_others() {
        let short_from =
            |pieces: usize| move |before: usize| Ok(if before < pieces { SPARE } else { SPARE - 1 });
        assert_eq!(populated(&used(0), AHEAD, short_from(3)), 3 * PIECE);
        assert_eq!(populated(&used(0), AHEAD, short_from(0)), 0);
    }

    #[test]
    fn what_the_system_refuses_comes_with_the_first_touch() {
        used(0).work(
            AHEAD,
            || Ok(1 << 40),
            |bytes| {
                assert_eq!(bytes.start, 0);
                false
            },
        );
    }

    #[test]
    fn the_thread_ends_when_it_is_dropped_and_blocks_used_before_stay_used() {
        let pages = Pages::map(PAGE, 4 * AHEAD / PAGE).unwrap();
        let mut ahead = Ahead::of(&pages).unwrap();
        ahead.use_blocks(&[]);
        ahead.use_blocks(&[5, 2]);
        ahead.use_blocks(&[3]);
        assert_eq!(ahead.used, 6 * PAGE);
        assert_eq!(ahead.shared.told.lock().unwrap().used, 6 * PAGE);
    }
}
