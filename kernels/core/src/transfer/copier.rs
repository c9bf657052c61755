//! Moves the pages of a piece. It knows neither order nor pace, and its pieces have been claimed.
#![expect(unsafe_code, reason = "reads and writes pages that it has been given")]

use super::copied::CopiedBytes;
use super::flight::{Far, FlightError, Plan};
use super::host_pool::HostPool;
use super::queue::Piece;
use crate::error::panic_text;
use crate::pages::Pages;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What a page that fails on purpose is filled with, so that nobody can use it unnoticed.
const GARBAGE: u8 = 0xA5;

/// Entries of a piece that did not arrive, and why.
pub(super) type Failed = Vec<(u32, FlightError)>;

/// The two ends between which pages move.
#[derive(Debug)]
pub(super) struct Copier {
    pub(super) device: Pages,
    pub(super) host: Arc<HostPool>,
    pub(super) copied: CopiedBytes,
}

impl Copier {
    /// Moves the pages of a piece; a panic is a failure of the whole piece.
    pub(super) fn run(&self, piece: &Piece) -> Failed {
        let run = || {
            let entry = |i: usize| self.entry(piece, i).err().map(|error| (i as u32, error));
            piece.entries.clone().filter_map(entry).collect()
        };
        // What a panic leaves half done is the target of entries that are reported as failed.
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
            let error =
                FlightError::new("panic", format!("a copy panicked: {}", panic_text(payload.as_ref())));
            piece.entries.clone().map(|i| (i as u32, error.clone())).collect()
        })
    }

    fn entry(&self, piece: &Piece, i: usize) -> Result<(), FlightError> {
        let Plan { kind, pages, far, .. } = &*piece.plan;
        let page = pages[i];
        let seals = &self.host.seals;
        if kind.fills_pages() {
            seals.open(page);
        } else {
            seals.filled(page)?;
        }
        let injected = piece.injected.contains(&(i as u32));
        // SAFETY: the flight has claimed its page, alone if it fills it (`claims.rs`), until this piece has been reported;
        // pages that are not ready were refused with the flight.
        let host = unsafe { Host::of(&self.host.pages, page, kind.fills_pages()) };
        match (host, far) {
            (Host::Read(page_bytes), Far::Blocks(blocks)) => {
                // SAFETY: the block is claimed for writing, and no step touches it (`pages.rs`).
                let block = unsafe { self.device.page_mut(blocks[i] as usize) };
                if injected {
                    return Err(spoil(block));
                }
                self.copy(page_bytes, block);
                seals.check(page, block)
            }
            (Host::Write(page_bytes), Far::Blocks(blocks)) => {
                // SAFETY: the block is claimed for reading, and no step writes it (`pages.rs`).
                let block = unsafe { self.device.page(blocks[i] as usize) };
                if injected {
                    return Err(spoil(page_bytes));
                }
                self.copy(block, page_bytes);
                seals.seal(page, page_bytes);
                Ok(())
            }
            (Host::Read(page_bytes), Far::File(file, offsets)) => {
                seals.check(page, page_bytes)?;
                if injected {
                    return Err(injection());
                }
                self.copied.add(page_bytes.len());
                file.write(offsets[i], page_bytes)
            }
            (Host::Write(page_bytes), Far::File(file, offsets)) => {
                if injected {
                    return Err(spoil(page_bytes));
                }
                self.copied.add(page_bytes.len());
                file.read(offsets[i], page_bytes)?;
                seals.seal(page, page_bytes);
                Ok(())
            }
        }
    }

    fn copy(&self, from: &[u8], to: &mut [u8]) {
        to.copy_from_slice(from);
        self.copied.add(from.len());
    }
}

/// A host page as a flight uses it.
enum Host<'a> {
    Read(&'a [u8]),
    Write(&'a mut [u8]),
}

impl<'a> Host<'a> {
    /// # Safety
    /// As [`Pages::page`], or as [`Pages::page_mut`] to write.
    unsafe fn of(pages: &'a Pages, page: u32, write: bool) -> Self {
        // SAFETY: the caller's duty.
        unsafe {
            if write {
                Self::Write(pages.page_mut(page as usize))
            } else {
                Self::Read(pages.page(page as usize))
            }
        }
    }
}

fn spoil(bytes: &mut [u8]) -> FlightError {
    bytes.fill(GARBAGE);
    injection()
}

fn injection() -> FlightError {
    FlightError::new("injected", "the page failed on purpose")
}
