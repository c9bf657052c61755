//! The compute threads of the cpu backend. All of them do the same job and take its tasks from what they share, so a thread
//! that a neighbour slows down takes fewer. Which thread runs a task must never change a result: a task writes only what
//! no other task writes, and reads only what was there before the job.
//!
//! Threads wait for the next job spinning for some microseconds, because the ops of a step follow each other at once,
//! then sleep: an idle pool uses no processor time. A job does not wait for a sleeping thread: whoever comes late finds
//! the job closed.
#![expect(unsafe_code, reason = "a job borrowed by the caller is run by threads that outlive the call")]

mod runs;

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Failure, Result};
use runs::Runs;

/// How long a thread spins for the next job before it sleeps. Longer than the serial ops between two jobs of a step.
const SPIN: Duration = Duration::from_micros(20);
/// The gate's generation counts in units of this; the low half counts the threads inside the job.
const GENERATION: u64 = 1 << 32;

/// What one thread does, the worker of this number.
type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// Keeps what different threads write in different cache lines (and their prefetched neighbours).
#[repr(align(128))]
struct Apart<T>(T);

struct Shared {
    /// High half: generation, odd while a job is open. Low half: helper threads inside it.
    gate: Apart<AtomicU64>,
    /// Threads that sleep or are about to.
    sleepers: Apart<AtomicUsize>,
    /// The open job. Written only while the gate is closed and nobody is inside.
    job: UnsafeCell<Option<*const Job<'static>>>,
    panicked: AtomicBool,
    stopping: AtomicBool,
    bed: Mutex<()>,
    alarm: Condvar,
}

// SAFETY: `job` is written only by the pool's owner while the gate is closed with no thread inside, and read only by
// threads inside; the gate's acquire and release order the two. The pointee is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is followed only while the call that owns the pointee waits.
unsafe impl Send for Shared {}

impl Shared {
    /// Waits for an open job other than `seen`; answers its gate value, or `None` when the pool stops.
    fn wait(&self, seen: u64) -> Option<u64> {
        let fresh = |gate: u64| {
            let generation = gate / GENERATION;
            generation % 2 == 1 && generation != seen
        };
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                let gate = self.gate.0.load(Ordering::Acquire);
                if fresh(gate) {
                    return Some(gate);
                }
                std::hint::spin_loop();
            }
            if self.stopping.load(Ordering::Relaxed) {
                return None;
            }
            if start.elapsed() > SPIN {
                break;
            }
        }
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.0.fetch_add(1, Ordering::SeqCst);
        let gate = loop {
            let gate = self.gate.0.load(Ordering::SeqCst);
            if fresh(gate) {
                break Some(gate);
            }
            if self.stopping.load(Ordering::SeqCst) {
                break None;
            }
            bed = self.alarm.wait(bed).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.0.fetch_sub(1, Ordering::SeqCst);
        gate
    }

    fn helper(&self, worker: usize) {
        let mut seen = 0;
        while let Some(gate) = self.wait(seen) {
            if self.gate.0.compare_exchange(gate, gate + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue; // another thread came or went, or the job was closed: look again
            }
            seen = gate / GENERATION;
            // SAFETY: this thread is inside the open job, so the cell is not written and the caller of `each`, who owns
            // the pointee, waits in `Closing::drop`.
            let job = unsafe { &*(*self.job.get()).unwrap_unchecked() };
            if catch_unwind(AssertUnwindSafe(|| job(worker))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.gate.0.fetch_sub(1, Ordering::Release);
        }
    }

    fn wake(&self) {
        if self.sleepers.0.load(Ordering::SeqCst) > 0 {
            drop(self.bed.lock().unwrap_or_else(PoisonError::into_inner));
            self.alarm.notify_all();
        }
    }
}

/// Closes the job and waits until nobody is inside, also when the caller's own task panics.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let gate = &self.0.gate.0;
        gate.fetch_add(GENERATION, Ordering::AcqRel);
        let mut spins = 0_u32;
        while !gate.load(Ordering::Acquire).is_multiple_of(GENERATION) {
            std::hint::spin_loop();
            spins += 1;
            if spins > 10_000 {
                std::thread::yield_now(); // the other thread may be waiting for this very core
            }
        }
    }
}

/// A slice that the tasks of one job write in disjoint parts.
pub struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: the parts handed out are disjoint by the contract of `part`, so this is `&mut [T]` split among threads.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// Lends the slice to a job.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), owner: PhantomData }
    }

    /// Where `len` elements from `from` begin: for whoever writes some of them, by the rule of [`Self::part`].
    ///
    /// # Panics
    /// When they are not inside the slice.
    pub fn from(&self, from: usize, len: usize) -> *mut T {
        assert!(from <= self.len && len <= self.len - from, "{from}+{len} is outside 0..{}", self.len);
        self.start.wrapping_add(from)
    }

    /// `len` elements from `from`.
    ///
    /// # Safety
    /// No two parts that are alive at the same time overlap.
    ///
    /// # Panics
    /// When the part is not inside the slice.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's duty")]
    pub unsafe fn part(&self, from: usize, len: usize) -> &mut [T] {
        assert!(from <= self.len && len <= self.len - from, "{from}+{len} is outside 0..{}", self.len);
        // SAFETY: inside the slice that `new` borrowed mutably; the caller keeps parts disjoint.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }
}

/// A fixed number of compute threads, the calling one among them.
pub struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// Kept from one stream to the next.
    runs: Runs,
    /// How long the calling thread has waited for the others at the ends of jobs, while that is counted.
    waited: Option<Duration>,
}

/// The next units of `units`: a share of what is left, so that threads that start together end together, and one that is
/// held up holds up little.
fn take_share(next: &AtomicUsize, units: usize, threads: usize) -> Option<Range<usize>> {
    let mut from = next.load(Ordering::Relaxed);
    while from < units {
        let share = (units - from).div_ceil(2 * threads).min(units.div_ceil(4 * threads));
        let to = from + share;
        match next.compare_exchange_weak(from, to, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Some(from..to),
            Err(now) => from = now,
        }
    }
    None
}

impl Pool {
    /// Starts `threads - 1` helper threads.
    ///
    /// # Errors
    /// `unsupported` for 0 threads, `out_of_memory` when the system gives no thread.
    pub fn new(threads: usize) -> Result<Self> {
        if threads == 0 {
            return Err(Failure::unsupported("threads is 0, allowed is 1 or more"));
        }
        let shared = Arc::new(Shared {
            gate: Apart(AtomicU64::new(0)),
            sleepers: Apart(AtomicUsize::new(0)),
            job: UnsafeCell::new(None),
            panicked: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            bed: Mutex::new(()),
            alarm: Condvar::new(),
        });
        let helpers = Vec::with_capacity(threads - 1);
        let mut pool = Self { shared, helpers, runs: Runs::default(), waited: None };
        for worker in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let helper = std::thread::Builder::new()
                .name(format!("kv-compute-{worker}"))
                .spawn(move || shared.helper(worker))
                .map_err(|e| Failure::out_of_memory(format!("compute thread {worker} of {threads}: {e}")))?;
            pool.helpers.push(helper);
        }
        Ok(pool)
    }

    /// Compute threads in all.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Begins or ends counting what [`Self::waited`] answers.
    pub fn count_waits(&mut self, on: bool) {
        self.waited = on.then_some(Duration::ZERO);
    }

    /// How long the calling thread has waited for the others since [`Self::count_waits`].
    pub fn waited(&self) -> Duration {
        self.waited.unwrap_or_default()
    }

    /// Runs `job(task, worker)` once for each task of `0..tasks`, on any worker of `0..threads()`, in any order; returns
    /// when all have ended. A worker runs one task at a time.
    ///
    /// # Panics
    /// When a task panics, after the others have ended.
    pub fn run(&mut self, tasks: usize, job: &(dyn Fn(usize, usize) + Sync)) {
        if self.helpers.is_empty() || tasks <= 1 {
            return (0..tasks).for_each(|task| job(task, 0));
        }
        let next = Apart(AtomicUsize::new(0));
        self.each(&|worker| {
            loop {
                let task = next.0.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    return;
                }
                job(task, worker);
            }
        });
    }

    /// Runs `job(units, worker)` over all of `0..units` in runs of neighbours, long ones first. As [`Self::run`] else.
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn share(&mut self, units: usize, job: &(dyn Fn(Range<usize>, usize) + Sync)) {
        let threads = self.threads();
        if threads == 1 || units <= 1 {
            if units > 0 {
                job(0..units, 0);
            }
            return;
        }
        let next = Apart(AtomicUsize::new(0));
        self.each(&|worker| {
            while let Some(units) = take_share(&next.0, units, threads) {
                job(units, worker);
            }
        });
    }

    /// Runs `job(unit, worker)` once for each unit of `0..units`: each thread goes through neighbours from one to the next, as memory
    /// is read best, and one that is through takes the last ones of another. As [`Self::run`] else.
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn stream(&mut self, units: usize, job: &(dyn Fn(usize, usize) + Sync)) {
        if self.helpers.is_empty() || units <= 1 {
            return (0..units).for_each(|unit| job(unit, 0));
        }
        let mut runs = std::mem::take(&mut self.runs);
        runs.divide(self.threads(), units);
        self.each(&|worker| {
            while let Some(unit) = runs.take(worker) {
                job(unit, worker);
            }
        });
        self.runs = runs;
    }

    /// Runs `job(worker)` on the calling thread, which is worker 0, and on each other one that comes before it has ended; returns when
    /// all that came have ended.
    fn each(&mut self, job: &Job<'_>) {
        let shared = &*self.shared;
        #[expect(
            clippy::transmute_ptr_to_ptr,
            reason = "a cast cannot change the lifetime of a trait object"
        )]
        // SAFETY: only the lifetime changes; `Closing` keeps this call from returning while a thread uses the job.
        let job_static = unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(job) };
        // SAFETY: `&mut self` makes this the only caller; the gate is closed and the last job's threads have left.
        unsafe { *shared.job.get() = Some(job_static) };
        shared.panicked.store(false, Ordering::Relaxed);
        let closing = Closing(shared);
        shared.gate.0.fetch_add(GENERATION, Ordering::SeqCst);
        shared.wake();
        job(0);
        if let Some(waited) = &mut self.waited {
            let since = Instant::now();
            drop(closing);
            *waited += since.elapsed();
        } else {
            drop(closing);
        }
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a compute task panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        drop(self.shared.bed.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.alarm.notify_all();
        for helper in self.helpers.drain(..) {
            drop(helper.join()); // a helper catches its tasks' panics and cannot fail otherwise
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `run` says of each of so many units, once, that it was done and by which worker, on any number of threads.
    fn done_once(amounts: &[usize], run: impl Fn(&mut Pool, usize, &(dyn Fn(usize, usize) + Sync))) {
        for threads in [1, 2, 3, 5] {
            let mut pool = Pool::new(threads).expect("threads");
            for &units in amounts {
                let counts: Vec<AtomicUsize> = (0..units).map(|_| AtomicUsize::new(0)).collect();
                run(&mut pool, units, &|unit, worker| {
                    assert!(worker < threads);
                    counts[unit].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts.iter().all(|c| c.load(Ordering::Relaxed) == 1),
                    "{threads} threads, {units} units"
                );
            }
        }
    }

    #[test]
    fn runs_each_task_once_on_any_number_of_threads() {
        done_once(&[0, 1, 2, 7, 1000], |pool, tasks, done| pool.run(tasks, done));
    }

    #[test]
    fn shares_cover_each_unit_once_on_any_number_of_threads() {
        done_once(&[0, 1, 2, 7, 18, 1000], |pool, units, done| {
            pool.share(units, &|units, worker| {
                assert!(!units.is_empty());
                units.for_each(|unit| done(unit, worker));
            });
        });
    }

    #[test]
    fn streams_take_each_unit_once_on_any_number_of_threads() {
        done_once(&[0, 1, 2, 7, 18, 1000], |pool, units, done| pool.stream(units, done));
    }

    #[test]
    fn waits_are_counted_while_asked_for() {
        let mut pool = Pool::new(2).expect("threads");
        let job = |pool: &mut Pool| {
            let began = AtomicUsize::new(0);
            pool.run(2, &|_, _| {
                // Both threads are inside, so one of them ends first.
                began.fetch_add(1, Ordering::SeqCst);
                while began.load(Ordering::SeqCst) < 2 {
                    std::thread::yield_now();
                }
            });
        };
        job(&mut pool);
        assert_eq!(pool.waited(), Duration::ZERO);
        pool.count_waits(true);
        job(&mut pool);
        assert!(pool.waited() > Duration::ZERO);
        pool.count_waits(false);
        assert_eq!(pool.waited(), Duration::ZERO);
    }

    #[test]
    fn many_small_jobs_in_a_row_see_each_other() {
        let mut pool = Pool::new(3).expect("threads");
        let total = AtomicUsize::new(0);
        for round in 0..20_000 {
            assert_eq!(total.load(Ordering::Relaxed), round * 3);
            pool.run(3, &|_, _| {
                total.fetch_add(1, Ordering::Relaxed);
            });
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(2).expect("threads");
        let ran = AtomicUsize::new(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.run(64, &|task, _| {
                ran.fetch_add(1, Ordering::Relaxed);
                assert_ne!(task, 5, "on purpose");
            });
        }));
        assert!(outcome.is_err());
        let after = AtomicUsize::new(0);
        pool.run(64, &|_, _| {
            after.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(after.load(Ordering::Relaxed), 64);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.stream(64, &|unit, _| assert_ne!(unit, 5, "on purpose"));
        }));
        assert!(outcome.is_err());
        pool.stream(64, &|_, _| {
            after.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(after.load(Ordering::Relaxed), 128);
    }

    #[test]
    fn refuses_zero_threads() {
        assert!(Pool::new(0).is_err());
    }
}
