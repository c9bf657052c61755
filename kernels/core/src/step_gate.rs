//! The newest step that the device thread has finished, for flights that wait for one, and for news that can wait for its end. The
//! device thread pays three atomic writes and two reads a step; it wakes somebody only when a flight waits for that very step.

use crate::error::Result;
use crate::step::{Limits, Step};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Nobody waits.
const NOBODY: i64 = i64::MAX;

/// Bits of a step's id that are in its words.
const WORD_BITS: u32 = 31;
const WORD_MASK: i64 = (1 << WORD_BITS) - 1;

/// Who is told.
pub(crate) trait Waiter: Send + Sync {
    /// Called on the device thread before a step, if asked for.
    ///
    /// # Errors
    /// The step must not run.
    fn step_begins(&self, step: &Step, limits: &Limits) -> Result<()>;

    /// Called on the device thread after a step, if asked for.
    fn step_ends(&self);

    /// Called on the device thread when a step is finished that was awaited.
    fn step_finished(&self);

    /// Called on the device thread behind a step's result when there may be news that waited for it ([`StepGate::defer_news`]).
    fn tell_news(&self);
}

/// See the module. Step ids ascend without end; -1 is before the first.
pub(crate) struct StepGate {
    newest: AtomicI64,
    awaited: AtomicI64,
    /// Steps that were submitted and are not finished.
    under_way: AtomicI64,
    /// There may be news to be told of at the end of a step.
    has_news: AtomicBool,
    /// Whether the waiter wants to know of every step.
    guarded: AtomicBool,
    waiter: Mutex<Option<Weak<dyn Waiter>>>,
}

impl Default for StepGate {
    fn default() -> Self {
        let guarded = AtomicBool::new(false);
        Self {
            newest: AtomicI64::new(-1),
            awaited: AtomicI64::new(NOBODY),
            under_way: AtomicI64::new(0),
            has_news: AtomicBool::new(false),
            guarded,
            waiter: Mutex::new(None),
        }
    }
}

impl StepGate {
    /// Whom to tell, in place of who was told before; of every step where it guards.
    pub(crate) fn set_waiter(&self, waiter: Weak<dyn Waiter>, guards: bool) {
        *self.waiter.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiter);
        self.guarded.store(guards, Ordering::Release);
    }

    fn waiter(&self) -> Option<Arc<dyn Waiter>> {
        self.waiter.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.upgrade()
    }

    /// Called when a step is submitted, before anybody can finish it.
    pub(crate) fn submitted(&self) {
        self.under_way.fetch_add(1, Ordering::SeqCst);
    }

    /// Called when a submitted step came to nothing.
    pub(crate) fn withdrawn(&self) {
        self.under_way.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether news can be told at the end of a step, when somebody is told of that anyway. If not, there is no step to wait for.
    pub(crate) fn defer_news(&self) -> bool {
        // This write and the read after it, and `finish`'s write and the read of `tell_news`, are in one order (SeqCst): either the step
        // that is seen here sees the news at its end, or its end is seen here.
        self.has_news.store(true, Ordering::SeqCst);
        self.under_way.load(Ordering::SeqCst) > 0
    }

    /// Called before a step.
    ///
    /// # Errors
    /// What the waiter has against it.
    pub(crate) fn begin(&self, step: &Step, limits: &Limits) -> Result<()> {
        if !self.guarded.load(Ordering::Acquire) {
            return Ok(());
        }
        self.waiter().map_or(Ok(()), |waiter| waiter.step_begins(step, limits))
    }

    /// Called when a step has ended, well or not: what it has written is there for who sees the number. `word` is the step's id as
    /// its words have it: the lowest 31 bits. A negative one is that of no step. One caller at a time.
    pub(crate) fn finish(&self, word: i32) {
        if self.guarded.load(Ordering::Relaxed)
            && let Some(waiter) = self.waiter()
        {
            waiter.step_ends();
        }
        if word >= 0 {
            self.count(word);
        }
        self.under_way.fetch_sub(1, Ordering::SeqCst);
    }

    /// Called after [`Self::finish`] when the step's result was given away.
    pub(crate) fn tell_news(&self) {
        if self.has_news.swap(false, Ordering::SeqCst)
            && let Some(waiter) = self.waiter()
        {
            waiter.tell_news();
        }
    }

    fn count(&self, word: i32) {
        let newest = self.newest.load(Ordering::Relaxed);
        let step = newest + ((i64::from(word) - newest) & WORD_MASK);
        // This write and the read after it, and `wait_for`'s write and the read after that, are in one order with each
        // other (SeqCst): either the waiter sees the step, or the step sees the waiter.
        self.newest.store(step, Ordering::SeqCst);
        if self.awaited.load(Ordering::SeqCst) <= step
            && let Some(waiter) = self.waiter()
        {
            waiter.step_finished();
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
    use std::sync::Condvar;
    use std::sync::atomic::AtomicUsize;

    /// Counts awaited steps, and the times that it was told of news.
    #[derive(Default)]
    struct Counter(AtomicUsize, AtomicUsize);

    impl Waiter for Counter {
        fn step_begins(&self, _step: &Step, _limits: &Limits) -> Result<()> {
            Ok(())
        }

        fn step_ends(&self) {}

        fn step_finished(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn tell_news(&self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn step_ids_ascend_past_what_a_word_holds() {
        let (gate, told) = (StepGate::default(), Arc::new(Counter::default()));
        gate.set_waiter(Arc::<Counter>::downgrade(&told), false);
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

    #[test]
    fn who_waits_is_told_and_nobody_else() {
        let (gate, counter) = (StepGate::default(), Arc::new(Counter::default()));
        let told = || counter.0.swap(0, Ordering::SeqCst);
        gate.finish(0);
        gate.set_waiter(Arc::<Counter>::downgrade(&counter), false);
        gate.finish(1);
        assert_eq!((told(), gate.newest()), (0, 1));
        assert_eq!(gate.wait_for(Some(3)), 1);
        gate.finish(2);
        assert_eq!(told(), 0);
        gate.finish(3);
        assert_eq!(told(), 1);
        assert_eq!(gate.wait_for(None), 3);
        gate.finish(4);
        assert_eq!(told(), 0);
        // A step without a number.
        gate.finish(-1);
        assert_eq!(gate.newest(), 4);
    }

    #[test]
    fn a_waiter_that_has_gone_is_no_trouble() {
        let gate = StepGate::default();
        gate.set_waiter(Arc::<Counter>::downgrade(&Arc::default()), false);
        gate.wait_for(Some(0));
        gate.finish(0);
        assert_eq!(gate.newest(), 0);
    }

    /// A thread that sleeps until a step, as transfer threads do.
    #[derive(Default)]
    struct Sleeper {
        bed: Mutex<()>,
        alarm: Condvar,
    }

    impl Waiter for Sleeper {
        fn step_begins(&self, _step: &Step, _limits: &Limits) -> Result<()> {
            Ok(())
        }

        fn step_ends(&self) {}

        fn step_finished(&self) {
            drop(self.bed.lock().unwrap());
            self.alarm.notify_all();
        }

        fn tell_news(&self) {}
    }

    #[test]
    fn news_wait_for_the_end_of_a_step_that_was_submitted_and_for_no_other() {
        let (gate, counter) = (StepGate::default(), Arc::new(Counter::default()));
        let told = || counter.1.swap(0, Ordering::SeqCst);
        gate.set_waiter(Arc::<Counter>::downgrade(&counter), false);
        gate.submitted();
        gate.submitted();
        gate.finish(0);
        gate.tell_news();
        assert_eq!(told(), 0);
        assert!(gate.defer_news());
        // Also of a step without a number.
        gate.finish(-1);
        gate.tell_news();
        assert_eq!(told(), 1);
        assert!(!gate.defer_news());
        gate.submitted();
        gate.withdrawn();
        assert!(!gate.defer_news());
    }

    #[test]
    fn no_wake_up_is_lost() {
        const STEPS: i64 = 20_000;
        let (gate, sleeper) = (Arc::new(StepGate::default()), Arc::new(Sleeper::default()));
        gate.set_waiter(Arc::<Sleeper>::downgrade(&sleeper), false);
        let device = {
            let gate = Arc::clone(&gate);
            std::thread::spawn(move || (0..STEPS).for_each(|step| gate.finish(step as i32)))
        };
        let mut awaited = 0;
        while awaited < STEPS {
            let mut bed = sleeper.bed.lock().unwrap();
            while gate.wait_for(Some(awaited)) < awaited {
                bed = sleeper.alarm.wait(bed).unwrap();
            }
            awaited = gate.newest() + 1;
        }
        device.join().unwrap();
    }
}
