//! The newest step that the device thread has finished, for flights that wait for one. The device thread pays an atomic write
//! and a read a step; it wakes somebody only when a flight waits for that very step.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Nobody waits.
const NOBODY: i64 = i64::MAX;

/// Bits of a step's id that are in its words.
const WORD_BITS: u32 = 31;
const WORD_MASK: i64 = (1 << WORD_BITS) - 1;

/// Who is told.
pub(crate) trait Waiter: Send + Sync {
    /// Called on the device thread when a step is finished that was awaited.
    fn step_finished(&self);
}

/// See the module. Step ids ascend without end; -1 is before the first.
pub(crate) struct StepGate {
    newest: AtomicI64,
    awaited: AtomicI64,
    waiter: Mutex<Option<Weak<dyn Waiter>>>,
}

impl Default for StepGate {
    fn default() -> Self {
        Self { newest: AtomicI64::new(-1), awaited: AtomicI64::new(NOBODY), waiter: Mutex::new(None) }
    }
}

impl StepGate {
    /// Whom to tell, in place of who was told before.
    pub(crate) fn set_waiter(&self, waiter: Weak<dyn Waiter>) {
        *self.waiter.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiter);
    }

    /// Called when a step has ended, well or not: what it has written is there for who sees the number. `word` is the step's id as
    /// its words have it: the lowest 31 bits. A negative one is that of no step. One caller at a time.
    pub(crate) fn finish(&self, word: i32) {
        if word < 0 {
            return;
        }
        let newest = self.newest.load(Ordering::Relaxed);
        let step = newest + ((i64::from(word) - newest) & WORD_MASK);
        // This write and the read after it, and `wait_for`'s write and the read after that, are in one order with each
        // other (SeqCst): either the waiter sees the step, or the step sees the waiter.
        self.newest.store(step, Ordering::SeqCst);
        if self.awaited.load(Ordering::SeqCst) <= step {
            let waiter = self.waiter.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(waiter) = waiter.and_then(|waiter: Weak<dyn Waiter>| waiter.upgrade()) {
                Arc::as_ref(&waiter).step_finished();
            }
        }
    }

    /// The newest finished step.
    pub(crate) fn newest(&self) -> i64 {
        self.newest.load(Ordering::SeqCst)
    }

    /// Asks to be told of this step, the earliest that is waited for; answers the newest finished one, which may be it already.
    /// One caller at a time.
    pub(crate) fn wait_for(&self, step: Option<i64>) -> i64 {
        self.awaited.store(step.unwrap_or(NOBODY), Ordering::SeqCst);
        self.newest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Told(AtomicUsize);

    impl Waiter for Told {
        fn step_finished(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn step_ids_ascend_past_what_a_word_holds() {
        let (gate, told) = (StepGate::default(), Arc::new(Told::default()));
        gate.set_waiter(Arc::<Told>::downgrade(&told));
        let last = WORD_MASK;
        gate.finish((last - 1) as i32);
        assert_eq!(gate.newest(), last - 1);
        assert_eq!(gate.wait_for(Some(last + 2)), last - 1);
        for (step, is_told) in [(last, 0), (last + 1, 0), (last + 2, 1), (last + 3, 2)] {
            gate.finish((step & WORD_MASK) as i32);
            assert_eq!((gate.newest(), told.0.load(Ordering::Relaxed)), (step, is_told));
        }
    }

    #[test]
    fn words_without_a_step_finish_none() {
        let gate = StepGate::default();
        gate.finish(7);
        gate.finish(-1);
        assert_eq!(gate.newest(), 7);
    }
}
