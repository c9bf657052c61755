//! Pages while they are written: whoever loads one meanwhile gets it from the memory that it is written from.
#![expect(unsafe_code, reason = "threads read memory that another one has borrowed")]

use super::key::Key;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The bytes of a page.
#[derive(Clone, Copy, Debug)]
struct Bytes {
    start: *const u8,
    len: usize,
}

// SAFETY: only read, and only as long as their borrower lets them be (`Writing::during`).
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

/// A page's bytes, `None` once they are nobody's to read any more.
type Shared = Arc<RwLock<Option<Bytes>>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Writing {
    pages: Mutex<HashMap<Key, Shared>>,
}

impl Writing {
    /// Lets others copy these pages while `work` runs. Of a key that is there already the first page stays.
    pub(super) fn during<T>(&self, pages: &[(Key, &[u8])], work: impl FnOnce() -> T) -> T {
        let mut lent = Lent { writing: self, pages: Vec::with_capacity(pages.len()) };
        let mut all = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        for &(key, page) in pages {
            let bytes = Bytes { start: page.as_ptr(), len: page.len() };
            all.entry(key).or_insert_with(|| {
                let shared: Shared = Arc::new(RwLock::new(Some(bytes)));
                lent.pages.push((key, Arc::clone(&shared)));
                shared
            });
        }
        drop(all);
        // Dropped when the work has ended or panicked, before the pages' borrow ends.
        let _lent = lent;
        work()
    }

    /// Copies a page that is being written. False when it is not, or has another length.
    pub(super) fn copy(&self, key: &Key, to: &mut [u8]) -> bool {
        let shared = self.pages.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        let Some(shared) = shared else { return false };
        let bytes = shared.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Bytes { start, len }) = bytes.filter(|bytes| bytes.len == to.len()) else { return false };
        // SAFETY: the bytes are borrowed until `Lent` has taken them back, which waits for the lock that is held here.
        to.copy_from_slice(unsafe { std::slice::from_raw_parts(start, len) });
        true
    }
}

/// Takes the pages back.
struct Lent<'a> {
    writing: &'a Writing,
    pages: Vec<(Key, Shared)>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut all = self.writing.pages.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _) in &self.pages {
            all.remove(key);
        }
        drop(all);
        for (_, shared) in &self.pages {
            *shared.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::key::KEY_BYTES;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn pages_can_be_copied_as_long_as_the_work_lasts() {
        let writing = Writing::default();
        let (a, b) = (Key([1; KEY_BYTES]), Key([2; KEY_BYTES]));
        let mut to = [0; 4];
        writing.during(&[(a, b"aaaa"), (b, b"bbb")], || {
            assert!(writing.copy(&a, &mut to) && !writing.copy(&b, &mut [0; 4]));
            // Another one of the same key neither takes its place nor takes it away.
            writing.during(&[(a, b"AAAA")], || assert!(writing.copy(&a, &mut [0; 4])));
            assert!(writing.copy(&a, &mut to));
        });
        assert_eq!(&to, b"aaaa");
        assert!(!writing.copy(&a, &mut to) && writing.pages.lock().unwrap().is_empty());
    }

    #[test]
    fn readers_never_see_memory_that_was_taken_back() {
        let (writing, done, key) = (Writing::default(), AtomicBool::new(false), Key([1; KEY_BYTES]));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut to = [0; 512];
                while !done.load(Ordering::Relaxed) {
                    if writing.copy(&key, &mut to) {
                        assert!(to.iter().all(|&byte| byte == to[0] && byte < 128), "{to:?}");
                    }
                }
            });
            for round in 0..2000 {
                let mut page = vec![round as u8 % 128; 512];
                writing.during(&[(key, &page)], std::thread::yield_now);
                page.fill(255);
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
