//! Copies of host pages for code that may do anything with them: a tier written in JavaScript. It never sees a page, and what it brings
//! back counts only if it is, byte for byte, what was handed out under the same name, by this process, in the same epoch.
//!
//! A copy is the page's bytes and behind them a stamp:
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | where the stamp is from: a number drawn for the process, plus the epoch |
//! | 16 | the first half of a SHA-256 over a key drawn for the process, the epoch, the name and the page |
//!
//! Unlike a seal, which is quick and stays in here, a stamp passes through the hands of those who might forge it.

use super::Transfers;
use super::flight::FlightError;
use crate::error::{self, Failure};
use sha2::{Digest, Sha256};
use std::hash::{BuildHasher, RandomState};

/// Bytes of a copy beyond its page.
pub const STAMP_BYTES: usize = ORIGIN_BYTES + TAG_BYTES;
const ORIGIN_BYTES: usize = 8;
const TAG_BYTES: usize = 16;

/// Makes stamps and knows its own.
#[derive(Debug)]
pub(super) struct Stamps {
    key: [u8; 32],
    run: u64,
}

/// What a stamp is for.
#[derive(Clone, Copy, Debug)]
struct Subject<'a> {
    name: &'a str,
    epoch: i64,
}

impl Stamps {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        let mut key = [0; 32];
        for (i, word) in key.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&random.hash_one(i).to_le_bytes());
        }
        Self { key, run: RandomState::new().hash_one("run") }
    }

    fn of(&self, subject: Subject<'_>, page: &[u8]) -> [u8; STAMP_BYTES] {
        let Subject { name, epoch } = subject;
        let digest = Sha256::new()
            .chain_update(self.key)
            .chain_update(epoch.to_le_bytes())
            .chain_update((name.len() as u64).to_le_bytes())
            .chain_update(name)
            .chain_update(page)
            .finalize();
        let mut stamp = [0; STAMP_BYTES];
        stamp[..ORIGIN_BYTES].copy_from_slice(&self.origin(epoch).to_le_bytes());
        stamp[ORIGIN_BYTES..].copy_from_slice(&digest[..TAG_BYTES]);
        stamp
    }

    fn origin(&self, epoch: i64) -> u64 {
        self.run.wrapping_add_signed(epoch)
    }

    fn check(&self, subject: Subject<'_>, page: &[u8], stamp: &[u8]) -> Result<(), FlightError> {
        let Subject { name, epoch } = subject;
        if stamp[..ORIGIN_BYTES] != self.origin(epoch).to_le_bytes() {
            let message = format!("the page of {name} is from an earlier run or from before a reset");
            return Err(FlightError::new("older", message));
        }
        if stamp != self.of(subject, page) {
            return Err(FlightError::new("checksum", format!("the page of {name} is not what was stored")));
        }
        Ok(())
    }
}

/// Which way pages are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From host pages to copies.
    Out,
    /// From copies to host pages.
    In,
}

impl Transfers {
    /// Copies one host page, which is its content's name in `epoch`. `copy` has the page's bytes and [`STAMP_BYTES`] more. Waits for
    /// nothing, and takes as long as a copy and a SHA-256 do: not for a thread that others wait for.
    ///
    /// # Errors
    /// `internal` for a page or a copy that is none. Otherwise what became of the page: `conflict` when a flight uses it, `empty`
    /// and `checksum` of a page, `older` and `checksum` of a copy; the target's content is unspecified then.
    pub fn copy_page(
        &self,
        way: Way,
        page: i32,
        name: &str,
        epoch: i64,
        copy: &mut [u8],
    ) -> error::Result<Result<(), FlightError>> {
        let page = super::indices(&[page], 0, self.num_ready(), "host page")?[0];
        let page_bytes = self.page_bytes();
        if copy.len() != page_bytes + STAMP_BYTES {
            let (is, allowed) = (copy.len(), page_bytes + STAMP_BYTES);
            return Err(Failure::internal(format!("a copy of {is} bytes; allowed is {allowed}")));
        }
        let host = &self.shared.copier.host;
        host.use_pages(&[page]);
        let claim = match Claim::take(self, page, way == Way::In) {
            Ok(claim) => claim,
            Err(refused) => return Ok(Err(refused)),
        };
        let (bytes, stamp) = copy.split_at_mut(page_bytes);
        let subject = Subject { name, epoch };
        let copied = match way {
            Way::Out => {
                host.read(page, bytes).map(|()| stamp.copy_from_slice(&self.stamps.of(subject, bytes)))
            }
            Way::In => self.stamps.check(subject, bytes, stamp).map(|()| host.write(page, bytes)),
        };
        drop(claim);
        Ok(copied)
    }
}

/// A host page that no flight may have meanwhile.
struct Claim<'a> {
    transfers: &'a Transfers,
    page: u32,
    alone: bool,
}

impl<'a> Claim<'a> {
    fn take(transfers: &'a Transfers, page: u32, alone: bool) -> Result<Self, FlightError> {
        transfers.shared.lock().queue.claims().take_page(page, alone)?;
        Ok(Self { transfers, page, alone })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.transfers.shared.lock().queue.claims().release_page(self.page, self.alone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<(), FlightError>) -> String {
        result.err().map(|error| error.code.into_owned()).unwrap_or_default()
    }

    const SUBJECT: Subject<'static> = Subject { name: "a:0", epoch: 3 };

    #[test]
    fn a_stamp_fits_its_page_its_name_and_its_epoch_alone() {
        let stamps = Stamps::new();
        let page = [7; 64];
        let stamp = stamps.of(SUBJECT, &page);
        assert_eq!(code(stamps.check(SUBJECT, &page, &stamp)), "");
        for bit in 0..64 * 8 {
            let mut other = page;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(code(stamps.check(SUBJECT, &other, &stamp)), "checksum", "bit {bit}");
        }
        for name in ["a:1", "a:", "", "b:0"] {
            assert_eq!(code(stamps.check(Subject { name, ..SUBJECT }, &page, &stamp)), "checksum", "{name}");
        }
        for epoch in [0, 2, 4, -3] {
            assert_eq!(code(stamps.check(Subject { epoch, ..SUBJECT }, &page, &stamp)), "older", "{epoch}");
        }
    }

    #[test]
    fn every_bit_of_a_stamp_counts() {
        let stamps = Stamps::new();
        let stamp = stamps.of(SUBJECT, &[7; 64]);
        for bit in 0..STAMP_BYTES * 8 {
            let mut other = stamp;
            other[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < ORIGIN_BYTES * 8 { "older" } else { "checksum" };
            assert_eq!(code(stamps.check(SUBJECT, &[7; 64], &other)), expected, "bit {bit}");
        }
    }

    #[test]
    fn a_page_of_another_run_is_older_even_where_its_origin_is_forged() {
        let (mine, other) = (Stamps::new(), Stamps::new());
        let mut stamp = other.of(SUBJECT, &[7; 64]);
        assert_eq!(code(mine.check(SUBJECT, &[7; 64], &stamp)), "older");
        stamp[..ORIGIN_BYTES].copy_from_slice(&mine.of(SUBJECT, &[7; 64])[..ORIGIN_BYTES]);
        assert_eq!(code(mine.check(SUBJECT, &[7; 64], &stamp)), "checksum");
    }
}
