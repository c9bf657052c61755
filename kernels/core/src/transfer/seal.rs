//! What is known of each host page's content: that there is any, and its checksum. A page is sealed when it has been filled and
//! the seal is compared when it is read, so that a page that was changed behind our back is a miss and never a wrong token.

use super::flight::FlightError;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use twox_hash::XxHash3_64;

/// The page holds nothing.
const EMPTY: u64 = 0;
/// The page is filled, and nobody took its checksum.
const UNCHECKED: u64 = 1;

/// What a page is closed with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seal(u64);

/// The seals of all host pages. Who reads or writes a page's seal has claimed the page (`claims.rs`).
#[derive(Debug)]
pub(super) struct Seals {
    seals: Vec<AtomicU64>,
    /// Seed of the checksums, drawn once: nobody outside can make a page that fits a seal. `None` = none are taken.
    key: Option<u64>,
}

impl Seals {
    pub(super) fn new(num_pages: usize, checksums: bool) -> Self {
        let seals = std::iter::repeat_with(|| AtomicU64::new(EMPTY)).take(num_pages).collect();
        Self { seals, key: checksums.then(|| RandomState::new().hash_one(num_pages)) }
    }

    /// Before a page is written.
    pub(super) fn open(&self, page: u32) {
        self.seals[page as usize].store(EMPTY, Ordering::Relaxed);
    }

    /// The seal of a page with these bytes.
    pub(super) fn of(&self, bytes: &[u8]) -> Seal {
        Seal(self.key.map_or(UNCHECKED, |key| checksum(key, bytes)))
    }

    /// The page holds what the seal was made of.
    pub(super) fn close(&self, page: u32, seal: Seal) {
        self.seals[page as usize].store(seal.0, Ordering::Relaxed);
    }

    /// Whether the page holds anything.
    ///
    /// # Errors
    /// `empty`.
    pub(super) fn filled(&self, page: u32) -> Result<(), FlightError> {
        if self.seals[page as usize].load(Ordering::Relaxed) == EMPTY {
            return Err(FlightError::new("empty", format!("host page {page} holds nothing")));
        }
        Ok(())
    }

    /// Compares a page's bytes with what it was sealed with.
    ///
    /// # Errors
    /// `checksum`.
    pub(super) fn check(&self, page: u32, bytes: &[u8]) -> Result<(), FlightError> {
        let seal = self.seals[page as usize].load(Ordering::Relaxed);
        match self.key {
            Some(key) if seal != checksum(key, bytes) => {
                let message = format!("host page {page} is not what was stored: its checksum differs");
                Err(FlightError::new("checksum", message))
            }
            _ => Ok(()),
        }
    }
}

fn checksum(key: u64, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(key, bytes).max(UNCHECKED + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<(), FlightError>) -> Option<String> {
        result.err().map(|error| error.code.into_owned())
    }

    #[test]
    fn a_page_is_empty_until_it_is_closed_and_after_it_was_opened() {
        for checksums in [true, false] {
            let seals = Seals::new(2, checksums);
            assert_eq!(code(seals.filled(1)).as_deref(), Some("empty"));
            seals.close(1, seals.of(b"x"));
            assert!(seals.filled(1).is_ok() && seals.filled(0).is_err());
            seals.open(1);
            assert!(seals.filled(1).is_err());
        }
    }

    #[test]
    fn every_changed_bit_breaks_the_seal() {
        let mut bytes = [7_u8; 192];
        let seals = Seals::new(1, true);
        seals.close(0, seals.of(&bytes));
        assert!(seals.check(0, &bytes).is_ok());
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(code(seals.check(0, &bytes)).as_deref(), Some("checksum"), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(seals.check(0, &bytes).is_ok());
    }

    #[test]
    fn without_checksums_any_content_passes() {
        let seals = Seals::new(1, false);
        seals.close(0, seals.of(b"a"));
        assert!(seals.check(0, b"b").is_ok());
    }

    #[test]
    fn each_process_has_a_key_of_its_own() {
        let (a, b) = (Seals::new(1, true), Seals::new(1, true));
        assert_ne!(a.key, b.key);
    }
}
