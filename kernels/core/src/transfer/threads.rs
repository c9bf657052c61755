//! The transfer threads. One lock guards the queue, and nothing is copied, waited for or called while it is held. A thread with
//! nothing to do sleeps until something changes or a store's time has come; nothing polls. Threads that store and write give way
//! to those that compute (`give_way.rs`).

use super::claims::StepBlocks;
use super::copied;
use super::copier::{Copier, Failed};
use super::flight::Kind;
use super::queue::{Next, Piece, Queue};
use crate::error::{Failure, Result};
use crate::give_way::give_way;
use crate::step::{Limits, Step};
use crate::step_gate::{StepGate, Waiter};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A deadline that the clock cannot hold.
const A_CENTURY: Duration = Duration::from_hours(24 * 365 * 100);

/// Called when flights have ended and [`super::Transfers::take_results`] has not been called since the last time. On any
/// thread, with no lock held.
pub type OnResults = Box<dyn Fn() + Send + Sync>;

/// What threads share under the lock.
pub(super) struct State {
    pub(super) queue: Queue,
    /// Threads that have not ended.
    pub(super) alive: usize,
    /// Counts changes of the link's speed, which end a wait for it.
    pub(super) link_changes: u64,
}

/// What threads share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// There may be something for threads of a kind.
    alarms: [Condvar; 4],
    /// The link's speed has changed, or the end is near.
    link: Condvar,
    /// The queue is over, or a thread has ended.
    pub(super) rest: Condvar,
    pub(super) steps: Arc<StepGate>,
    pub(super) copier: Copier,
    pub(super) on_results: Mutex<Option<Arc<OnResults>>>,
}

impl Shared {
    pub(super) fn new(queue: Queue, copier: Copier, steps: Arc<StepGate>, on_results: OnResults) -> Self {
        Self {
            state: Mutex::new(State { queue, alive: 0, link_changes: 0 }),
            alarms: std::array::from_fn(|_| Condvar::new()),
            link: Condvar::new(),
            rest: Condvar::new(),
            steps,
            copier,
            on_results: Mutex::new(Some(Arc::new(on_results))),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Copies run outside the lock and catch their panics; what is done under it leaves nothing half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue, wakes every thread that sleeps, and tells of results.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let answer = change(&mut state);
        self.wake_all();
        self.tell(state);
        answer
    }

    /// As [`Self::change`] for a flight of a kind, which ends none: only threads of the kind are woken.
    pub(super) fn change_kind<T>(&self, kind: Kind, change: impl FnOnce(&mut Queue) -> T) -> T {
        let answer = change(&mut self.lock().queue);
        self.alarm(kind).notify_all();
        answer
    }

    fn wake_all(&self) {
        self.alarms.iter().chain([&self.link]).for_each(Condvar::notify_all);
    }

    /// Waits until something is so, but not beyond a deadline; answers whether it is.
    pub(super) fn wait(&self, deadline: Option<Instant>, so: impl Fn(&State) -> bool) -> bool {
        let mut state = self.lock();
        while !so(&state) {
            let wait = deadline.map_or(A_CENTURY, |d| d.saturating_duration_since(Instant::now()));
            if wait.is_zero() {
                return false;
            }
            state = self.rest.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn alarm(&self, kind: Kind) -> &Condvar {
        &self.alarms[kind as usize]
    }

    /// Releases the lock and tells of results; of stores and writes alone only when the step under way ends, since whoever is told has to come for
    /// its result then: being told in between takes a core from the step. Where the queue is over, threads end.
    fn tell(&self, mut state: MutexGuard<'_, State>) {
        let queue = &mut state.queue;
        if queue.has_news() && queue.news_can_wait() && queue.is_open() && self.steps.defer_news() {
            queue.defer();
        } else if queue.has_news() || queue.is_over() {
            self.announce(state);
        }
    }

    /// As [`Self::tell`], at once.
    fn announce(&self, mut state: MutexGuard<'_, State>) {
        if state.queue.is_over() {
            self.wake_all();
            self.rest.notify_all();
        }
        let news = state.queue.announce();
        drop(state);
        if news {
            self.tell_now();
        }
    }

    /// Calls whoever waits for results, also where there are none.
    pub(super) fn tell_now(&self) {
        let on_results = self.on_results.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(on_results) = on_results {
            on_results();
        }
    }

    /// Starts a thread that counts as alive until it ends.
    ///
    /// # Errors
    /// `out_of_memory` when the system gives none.
    pub(super) fn spawn(
        self: &Arc<Self>,
        name: &str,
        work: impl FnOnce(&Self) + Send + 'static,
    ) -> Result<JoinHandle<()>> {
        self.lock().alive += 1;
        let alive = Alive(Arc::clone(self));
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&alive.0))
            .map_err(|error| Failure::out_of_memory(format!("thread {name} could not be started: {error}")))
    }

    /// Does what there is to do of a kind until the queue is over.
    pub(super) fn work(&self, kind: Kind) {
        copied::mark_transfer_thread();
        if kind.is_for_later() {
            give_way();
        }
        let alarm = self.alarm(kind);
        let mut state = self.lock();
        loop {
            if state.queue.is_over() {
                return;
            }
            let now = Instant::now();
            let newest = self.steps.wait_for(state.queue.awaited());
            state.queue.step_finished(newest, now);
            match state.queue.next(kind, now) {
                Next::Copy(piece) => {
                    self.tell(state);
                    let failed = self.copier.run(&piece);
                    self.finish(&piece, failed);
                    state = self.lock();
                }
                // Flights that could not start have ended.
                _ if state.queue.has_news() => {
                    self.tell(state);
                    state = self.lock();
                }
                Next::At(time) => {
                    let wait = time.saturating_duration_since(now);
                    state = alarm.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                }
                Next::Nothing => state = alarm.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Reports a piece when a slowed link would have carried it.
    fn finish(&self, piece: &Piece, failed: Failed) {
        let mut state = self.lock();
        let mut now = Instant::now();
        if piece.plan.kind.is_copy() {
            let bytes = piece.entries.len() * self.copier.host.pages.page_bytes();
            let until = state.queue.pace.carry(piece.start, bytes as u64);
            let changes = state.link_changes;
            while now < until && changes == state.link_changes && !state.queue.is_over() {
                state = self.link.wait_timeout(state, until - now).unwrap_or_else(PoisonError::into_inner).0;
                now = Instant::now();
            }
        }
        state.queue.done(piece, failed, now);
        self.tell(state);
    }
}

impl Waiter for Shared {
    fn step_begins(&self, step: &Step, limits: &Limits) -> Result<()> {
        let blocks = StepBlocks::of(step, limits);
        self.lock().queue.begin_step(blocks).map_err(|error| {
            Failure::internal(format!("step {} and a flight use one block: {error}", step.id))
        })
    }

    fn step_ends(&self) {
        self.lock().queue.end_step();
    }

    fn step_finished(&self) {
        // Whoever looked at the step before it ended sleeps by now, or has not taken the lock yet.
        drop(self.lock());
        self.alarm(Kind::Load).notify_all();
        self.alarm(Kind::Store).notify_all();
    }

    fn tell_news(&self) {
        self.announce(self.lock());
    }
}

/// A thread that has not ended.
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.lock().alive -= 1;
        self.0.rest.notify_all();
    }
}
