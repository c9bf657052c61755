//! When a copy may start and when it counts as done: the share of time that stores get, and a link slowed down to stand in for
//! a slow one. Knows no threads; the time is passed in.

use std::time::{Duration, Instant};

/// Stores go on until they owe so much time, and rest until it has passed: each rest ends in a wake-up, which takes a core
/// from whoever computes and lets the other cores wait for it.
const BURST: Duration = Duration::from_millis(4);

/// When a store may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Now,
    At(Instant),
    /// Not before the share is raised.
    Never,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    share: f64,
    /// When stores will have had no more than their share.
    owed_until: Instant,
    /// Earliest start of the next store.
    next_store: Instant,
    /// Bytes a second; 0 = as fast as it goes.
    link: f64,
    /// When the slowed link has carried all that was given to it.
    link_free: Instant,
}

impl Pace {
    pub(super) fn new(share: f64, link: f64, now: Instant) -> Self {
        Self { share, owed_until: now, next_store: now, link, link_free: now }
    }

    /// Takes effect at once: what earlier stores have used counts no more.
    pub(super) fn set_share(&mut self, share: f64, now: Instant) {
        self.share = share;
        self.owed_until = now;
        self.next_store = now;
    }

    pub(super) fn set_link(&mut self, bytes_per_second: f64, now: Instant) {
        self.link = bytes_per_second;
        self.link_free = now;
    }

    pub(super) fn store(&self, now: Instant) -> Start {
        if self.share <= 0.0 {
            Start::Never
        } else if self.next_store > now {
            Start::At(self.next_store)
        } else {
            Start::Now
        }
    }

    /// A store has copied from `start` for `took`: as much more time must pass as its share asks for. Stores side by side
    /// add up; time in which none was there to do is not saved up.
    pub(super) fn stored(&mut self, start: Instant, took: Duration) {
        if self.share > 0.0 && self.share < 1.0 {
            self.owed_until = self.owed_until.max(start) + took.div_f64(self.share);
            if self.owed_until.saturating_duration_since(start + took) > BURST {
                self.next_store = self.owed_until;
            }
        }
    }

    /// When the link will have carried bytes that were given to it at `start`.
    pub(super) fn carry(&mut self, start: Instant, bytes: u64) -> Instant {
        if self.link <= 0.0 {
            return start;
        }
        // Beyond a century nobody waits.
        let seconds = (bytes as f64 / self.link).min(3e9);
        self.link_free = self.link_free.max(start) + Duration::from_secs_f64(seconds);
        self.link_free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn stores_side_by_side_together_get_their_share() {
        let start = Instant::now();
        for (share, threads) in [(0.5, 1), (0.1, 1), (0.25, 2), (0.9, 3)] {
            let mut pace = Pace::new(share, 0.0, start);
            let (mut now, mut copied) = (start, Duration::ZERO);
            for _ in 0..100 {
                if let Start::At(next) = pace.store(now) {
                    now = next;
                }
                for _ in 0..threads {
                    pace.stored(now, 3 * MS);
                    copied += 3 * MS;
                }
                now += 3 * MS;
            }
            let end = if let Start::At(next) = pace.store(now) { next } else { now };
            let found = copied.as_secs_f64() / (end - start).as_secs_f64();
            assert!((found - share).abs() < 0.01 * share, "{share} by {threads}: {found}");
        }
    }

    #[test]
    fn a_share_of_1_never_waits_and_of_0_never_starts() {
        let now = Instant::now();
        let mut pace = Pace::new(1.0, 0.0, now);
        pace.stored(now, 1000 * MS);
        assert_eq!(pace.store(now), Start::Now);
        pace.set_share(0.0, now);
        assert_eq!(pace.store(now + 1000 * MS), Start::Never);
        pace.set_share(0.5, now);
        assert_eq!(pace.store(now), Start::Now);
        pace.stored(now, 5 * MS);
        assert_eq!(pace.store(now), Start::At(now + 10 * MS));
    }

    #[test]
    fn stores_rest_once_they_owe_a_burst_and_then_all_of_it() {
        let now = Instant::now();
        let mut pace = Pace::new(0.5, 0.0, now);
        for i in 0..4 {
            assert_eq!(pace.store(now + i * MS), Start::Now);
            pace.stored(now + i * MS, MS);
        }
        assert_eq!(pace.store(now + 4 * MS), Start::Now);
        pace.stored(now + 4 * MS, MS);
        for i in 5..10 {
            assert_eq!(pace.store(now + i * MS), Start::At(now + 10 * MS));
        }
        assert_eq!(pace.store(now + 10 * MS), Start::Now);
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let now = Instant::now();
        let mut pace = Pace::new(0.5, 0.0, now);
        let later = now + 1000 * MS;
        pace.stored(later, 10 * MS);
        assert_eq!(pace.store(later + 10 * MS), Start::At(later + 20 * MS));
    }

    #[test]
    fn the_link_carries_one_thing_after_the_other() {
        let now = Instant::now();
        let mut pace = Pace::new(1.0, 1000.0, now);
        assert_eq!(pace.carry(now, 5), now + 5 * MS);
        assert_eq!(pace.carry(now + MS, 5), now + 10 * MS);
        assert_eq!(pace.carry(now + 100 * MS, 5), now + 105 * MS);
        pace.set_link(0.0, now);
        assert_eq!(pace.carry(now, 1 << 40), now);
        pace.set_link(f64::MIN_POSITIVE, now);
        assert!(pace.carry(now, 1) > now);
    }
}
