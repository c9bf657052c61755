//! The newest step that the device thread has finished, for flights that wait for one. The device thread pays an atomic write
//! and a read a step; it wakes somebody only when a flight waits for that very step.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Nobody waits.
const NOBODY: i32 = i32::MAX;

/// Who is told.
pub(crate) trait Waiter: Send + Sync {
    /// Called on the device thread when a step is finished that was awaited.
    fn step_finished(&self);
}

/// See the module. Step ids ascend; -1 is before the first.
pub(crate) struct StepGate {
    newest: AtomicI32,
    awaited: AtomicI32,
    waiter: Mutex<Option<Weak<dyn Waiter>>>,
}

impl Default for StepGate {
    fn default() -> Self {
        Self { newest: AtomicI32::new(-1), awaited: AtomicI32::new(NOBODY), waiter: Mutex::new(None) }
    }
}

impl StepGate {
    /// Whom to tell, in place of who was told before.
    pub(crate) fn set_waiter(&self, waiter: Weak<dyn Waiter>) {
        *self.waiter.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiter);
    }

    /// Called when a step has ended, well or not: what it has written is there for who sees the number.
    pub(crate) fn finish(&self, step: i32) {
        // This write and the read after it, and `wait_for`'s write and the read after that, are in one order with each
        // other (SeqCst): either the waiter sees the step, or the step sees the waiter.
        self.newest.fetch_max(step, Ordering::SeqCst);
        if self.awaited.load(Ordering::SeqCst) <= step {
            let waiter = self.waiter.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(waiter) = waiter.and_then(|waiter: Weak<dyn Waiter>| waiter.upgrade()) {
                Arc::as_ref(&waiter).step_finished();
            }
        }
    }

    /// The newest finished step.
    pub(crate) fn newest(&self) -> i32 {
        self.newest.load(Ordering::SeqCst)
    }

    /// Asks to be told of this step, the earliest that is waited for; answers the newest finished one, which may be it already.
    /// One caller at a time.
    pub(crate) fn wait_for(&self, step: Option<i32>) -> i32 {
        self.awaited.store(step.unwrap_or(NOBODY), Ordering::SeqCst);
        self.newest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Condvar;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Waiter for Counter {
        fn step_finished(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_waits_is_told_and_nobody_else() {
        let (gate, counter) = (StepGate::default(), Arc::new(Counter::default()));
        let told = || counter.0.swap(0, Ordering::SeqCst);
        gate.finish(0);
        gate.set_waiter(Arc::<Counter>::downgrade(&counter));
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
        gate.set_waiter(Arc::<Counter>::downgrade(&Arc::default()));
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
        fn step_finished(&self) {
            drop(self.bed.lock().unwrap());
            self.alarm.notify_all();
        }
    }

    #[test]
    fn no_wake_up_is_lost() {
        const STEPS: i32 = 20_000;
        let (gate, sleeper) = (Arc::new(StepGate::default()), Arc::new(Sleeper::default()));
        gate.set_waiter(Arc::<Sleeper>::downgrade(&sleeper));
        let device = {
            let gate = Arc::clone(&gate);
            std::thread::spawn(move || (0..STEPS).for_each(|step| gate.finish(step)))
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
