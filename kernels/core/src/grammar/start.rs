//! A compiled grammar before any token.

use llguidance::Matcher;
use std::sync::{Mutex, PoisonError};

/// See the module.
pub(super) struct Start {
    matcher: Mutex<Matcher>,
}

impl Start {
    pub(super) fn new(matcher: Matcher) -> Self {
        Self { matcher: Mutex::new(matcher) }
    }

    /// One for a sequence alone. It shares no cache with others, so that what it answers (and where it gives up) depends on its
    /// own tokens only.
    pub(super) fn matcher(&self) -> Matcher {
        self.matcher.lock().unwrap_or_else(PoisonError::into_inner).deep_clone()
    }
}
