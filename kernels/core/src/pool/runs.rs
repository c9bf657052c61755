//! Neighbouring units of a job, so many for each thread. A thread goes through its own from the first on; one that is through
//! takes the last ones of another, the furthest from where that one is.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Apart;

/// What of each thread's units nobody has taken yet: the first one in the high half, the one behind the last in the low half.
#[derive(Default)]
pub(super) struct Runs(Vec<Apart<AtomicU64>>);

fn packed(units: Range<usize>) -> u64 {
    (units.start as u64) << 32 | units.end as u64
}

fn unpacked(units: u64) -> Range<usize> {
    (units >> 32) as usize..(units & u64::from(u32::MAX)) as usize
}

impl Runs {
    /// Gives each of so many threads its share of `0..units`, which are fewer than 2^32.
    pub(super) fn divide(&mut self, threads: usize, units: usize) {
        self.0.resize_with(threads, || Apart(AtomicU64::new(0)));
        for (thread, run) in self.0.iter_mut().enumerate() {
            *run.0.get_mut() = packed(units * thread / threads..units * (thread + 1) / threads);
        }
    }

    /// The next unit for `worker`, if any thread has one left.
    pub(super) fn take(&self, worker: usize) -> Option<usize> {
        let threads = self.0.len();
        let mut others = (1..threads).map(|after| (worker + after) % threads);
        let own = self.take_from(worker, Range::next);
        own.or_else(|| others.find_map(|other| self.take_from(other, Range::next_back)))
    }

    fn take_from(&self, thread: usize, take: fn(&mut Range<usize>) -> Option<usize>) -> Option<usize> {
        let run = &self.0[thread].0;
        let mut now = run.load(Ordering::Relaxed);
        loop {
            let mut left = unpacked(now);
            let unit = take(&mut left)?;
            match run.compare_exchange_weak(now, packed(left), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(unit),
                Err(other) => now = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(runs: &Runs, worker: usize, count: usize) -> Vec<usize> {
        std::iter::from_fn(|| runs.take(worker)).take(count).collect()
    }

    #[test]
    fn a_thread_goes_through_its_own_and_then_takes_the_last_ones_of_others() {
        let mut runs = Runs::default();
        runs.divide(3, 10);
        assert_eq!(taken(&runs, 1, 2), [3, 4]);
        assert_eq!(taken(&runs, 0, 4), [0, 1, 2, 5]);
        assert_eq!(taken(&runs, 2, 3), [6, 7, 8]);
        assert_eq!(taken(&runs, 1, 9), [9]);
        assert_eq!(runs.take(0), None);
    }

    #[test]
    fn every_unit_is_in_one_share_and_shares_differ_by_one_at_most() {
        let mut runs = Runs::default();
        for threads in [7, 1, 2, 3] {
            for units in [0, 1, 2, 7, 18, 1000, u32::MAX as usize] {
                runs.divide(threads, units);
                let shares: Vec<_> =
                    runs.0.iter().map(|run| unpacked(run.0.load(Ordering::Relaxed))).collect();
                assert!(shares[0].start == 0 && shares[threads - 1].end == units);
                assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert!(
                    shares
                        .iter()
                        .all(|share| (units / threads..=units.div_ceil(threads)).contains(&share.len()))
                );
            }
        }
    }

    #[test]
    fn threads_that_take_at_once_take_each_unit_once() {
        const UNITS: usize = 30_000;
        let mut runs = Runs::default();
        runs.divide(3, UNITS);
        let runs = &runs;
        let mut all: Vec<usize> = std::thread::scope(|scope| {
            let threads = [0, 1, 2].map(|worker| scope.spawn(move || taken(runs, worker, UNITS)));
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        all.sort_unstable();
        assert!(all.into_iter().eq(0..UNITS));
    }
}
