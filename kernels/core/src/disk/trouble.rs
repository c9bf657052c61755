//! A disk that does not take what is written: nothing is written for a while, and twice as long after each further failure.

use super::error::DiskError;

/// The code of what was not tried.
pub(super) const PAUSED: &str = "paused";
/// Microseconds after the first failure.
const FIRST: u64 = 1_000_000;
/// And at most.
const MOST: u64 = 60_000_000;

/// What keeps pages from being stored.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// What the system said.
    pub error: DiskError,
    /// Since when, in microseconds since 1970.
    pub since: u64,
    /// When it is tried again.
    pub until: u64,
    /// Failures one after the other.
    pub failures: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    trouble: Option<Trouble>,
}

impl Backoff {
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Why nothing is written now.
    pub(super) fn pause(&self, now: u64) -> Option<DiskError> {
        let Trouble { error, until, .. } = self.trouble.as_ref().filter(|trouble| now < trouble.until)?;
        let seconds = (until - now).div_ceil(1_000_000);
        let message = format!("{error}; nothing is stored on this disk for {seconds} s");
        Some(DiskError::new(PAUSED, message))
    }

    /// A write failed. Those that were under way when the pause began change nothing.
    pub(super) fn failed(&mut self, error: DiskError, now: u64) {
        if self.pause(now).is_some() {
            return;
        }
        let failures = self.trouble.as_ref().map_or(0, |trouble| trouble.failures) + 1;
        let wait = FIRST.saturating_mul(1 << (failures - 1).min(16)).min(MOST);
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        self.trouble = Some(Trouble { error, since, until: now.saturating_add(wait), failures });
    }

    /// A write went well. One that was under way when the pause began changes nothing.
    pub(super) fn succeeded(&mut self, now: u64) {
        if self.pause(now).is_none() {
            self.trouble = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_end_with_a_write_that_goes_well() {
        let mut backoff = Backoff::default();
        let error = DiskError::new("ENOSPC", "/x is full");
        let mut now = 5;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            backoff.failed(error.clone(), now);
            backoff.failed(DiskError::new("EIO", "late"), now + 1);
            let pause = backoff.pause(now).unwrap();
            assert_eq!(pause.message, format!("/x is full; nothing is stored on this disk for {seconds} s"));
            now += seconds * 1_000_000;
            backoff.succeeded(now - 1);
            assert!(backoff.pause(now - 1).is_some() && backoff.pause(now).is_none());
        }
        assert_eq!(backoff.trouble().map(|trouble| (trouble.since, trouble.failures)), Some((5, 8)));
        backoff.succeeded(now);
        assert!(backoff.trouble().is_none());
    }
}
