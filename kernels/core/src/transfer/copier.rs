//! Moves the pages of a piece. It knows neither order nor pace, and its pieces have been claimed.
#![expect(unsafe_code, reason = "reads and writes pages that it has been given")]

use super::copied::CopiedBytes;
use super::flight::{Far, FlightError, Plan};
use super::host_pool::HostPool;
use super::queue::Piece;
use super::stream_copy::stream_copy;
use crate::disk::{DiskStore, Key};
use crate::error::{Failure, panic_text};
use crate::pages::{Pages, RemotePages};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a page that fails on purpose is filled with, so that nobody can use it unnoticed.
const GARBAGE: u8 = 0xA5;

/// Entries of a piece that did not arrive, and why.
pub(super) type Failed = Vec<(u32, FlightError)>;

/// The two ends between which pages move.
#[derive(Debug)]
pub(super) struct Copier {
    pub(super) device: Pages,
    pub(super) host: HostPool,
    pub(super) copied: CopiedBytes,
}

impl Copier {
    /// Moves the pages of a piece; a panic is a failure of the whole piece.
    pub(super) fn run(&self, piece: &Piece) -> Failed {
        let device = self.device.remote().filter(|_| !piece.plan.blocks().is_empty());
        let run = || {
            if let Some(device) = device {
                return self.run_remote(device.as_ref(), piece);
            }
            if let Far::Disk(disk, keys) = &piece.plan.far {
                return self.run_disk(disk, keys, piece);
            }
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

    /// The host page of an entry, with its seal broken if it is to be filled.
    fn host_page(&self, piece: &Piece, i: usize) -> Result<Host<'_>, FlightError> {
        let Plan { kind, pages, .. } = &*piece.plan;
        if kind.fills_pages() {
            self.host.seals.open(pages[i]);
        } else {
            self.host.seals.filled(pages[i])?;
        }
        // SAFETY: the flight has claimed its page, alone if it fills it (`claims.rs`), until this piece has been reported;
        // pages that are not ready were refused with the flight.
        Ok(unsafe { Host::of(&self.host.pages, pages[i], kind.fills_pages()) })
    }

    /// Moves the pages of a piece between the host and a device that copies by itself: all of them in one go, seals are
    /// compared before and taken afterwards.
    fn run_remote(&self, device: &dyn RemotePages, piece: &Piece) -> Failed {
        let Plan { pages, .. } = &*piece.plan;
        let (seals, blocks) = (&self.host.seals, piece.plan.blocks());
        let (mut loads, mut stores, mut moved, mut failed) = (vec![], vec![], vec![], vec![]);
        for i in piece.entries.clone() {
            let injected = piece.injected.contains(&(i as u32));
            let block = blocks[i] as usize;
            let ready = self.host_page(piece, i).and_then(|host| match host {
                Host::Read(_) if injected => {
                    device.fill(block, GARBAGE).map_err(refused)?;
                    Err(injection())
                }
                Host::Read(page) => seals.check(pages[i], page).map(|()| loads.push((&*page, block))),
                Host::Write(page) if injected => Err(spoil(page)),
                Host::Write(page) => {
                    stores.push((block, page));
                    Ok(())
                }
            });
            match ready {
                Ok(()) => moved.push(i),
                Err(error) => failed.push((i as u32, error)),
            }
        }
        if let Err(error) = device.load(&loads).and_then(|()| device.store(&mut stores)) {
            failed.extend(moved.iter().map(|&i| (i as u32, refused(error.clone()))));
        } else {
            self.copied.add(moved.len() * self.device.page_bytes());
            // A piece loads or stores: its entries are those of one list.
            for (&i, (_, page)) in moved.iter().zip(&stores) {
                seals.close(pages[i], seals.of(page));
            }
        }
        failed.sort_by_key(|(entry, _)| *entry);
        failed
    }

    /// Moves the pages of a piece between the host and a disk store, all of them in one call.
    fn run_disk(&self, disk: &DiskStore, keys: &[Key], piece: &Piece) -> Failed {
        let Plan { pages, .. } = &*piece.plan;
        let seals = &self.host.seals;
        let (mut writes, mut reads, mut moved, mut failed) = (vec![], vec![], vec![], vec![]);
        for i in piece.entries.clone() {
            let injected = piece.injected.contains(&(i as u32));
            let ready = self.host_page(piece, i).and_then(|host| match host {
                Host::Write(page) if injected => Err(spoil(page)),
                Host::Read(_) if injected => Err(injection()),
                Host::Read(page) => seals.check(pages[i], page).map(|()| writes.push((keys[i], &*page))),
                Host::Write(page) => {
                    reads.push((keys[i], page));
                    Ok(())
                }
            });
            match ready {
                Ok(()) => moved.push(i),
                Err(error) => failed.push((i as u32, error)),
            }
        }
        // A piece reads or writes: its entries are those of one list.
        let results = if reads.is_empty() { disk.write(&writes) } else { disk.read(&mut reads) };
        let mut arrived = 0;
        for (entry, (&i, result)) in moved.iter().zip(results).enumerate() {
            match result {
                Ok(()) => {
                    arrived += 1;
                    if let Some((_, page)) = reads.get(entry) {
                        seals.close(pages[i], seals.of(page));
                    }
                }
                Err(error) => failed.push((i as u32, error.into())),
            }
        }
        self.copied.add(arrived * self.device.page_bytes());
        failed.sort_by_key(|(entry, _)| *entry);
        failed
    }

    fn entry(&self, piece: &Piece, i: usize) -> Result<(), FlightError> {
        let Plan { pages, far, .. } = &*piece.plan;
        let page = pages[i];
        let seals = &self.host.seals;
        let host = self.host_page(piece, i)?;
        let injected = piece.injected.contains(&(i as u32));
        match (host, far) {
            (Host::Read(page_bytes), Far::Blocks(blocks)) => {
                // SAFETY: the block is claimed for writing, and no step touches it (`pages.rs`).
                let block = unsafe { self.device.page_mut(blocks[i] as usize) };
                if injected {
                    return Err(spoil(block));
                }
                // First: it brings the page into the caches, and the copy goes past them.
                seals.check(page, page_bytes)?;
                self.copy(page_bytes, block);
                Ok(())
            }
            (Host::Write(page_bytes), Far::Blocks(blocks)) => {
                // SAFETY: the block is claimed for reading, and no step writes it (`pages.rs`).
                let block = unsafe { self.device.page(blocks[i] as usize) };
                if injected {
                    return Err(spoil(page_bytes));
                }
                // First, as above.
                let seal = seals.of(block);
                self.copy(block, page_bytes);
                seals.close(page, seal);
                Ok(())
            }
            (Host::Read(page_bytes), Far::File(file, places)) => {
                seals.check(page, page_bytes)?;
                if injected {
                    return Err(injection());
                }
                let (offset, key) = &places[i];
                file.write(*offset, key, page_bytes)?;
                self.copied.add(page_bytes.len());
                Ok(())
            }
            (Host::Write(page_bytes), Far::File(file, places)) => {
                if injected {
                    return Err(spoil(page_bytes));
                }
                let (offset, key) = &places[i];
                file.read(*offset, key, page_bytes)?;
                self.copied.add(page_bytes.len());
                seals.close(page, seals.of(page_bytes));
                Ok(())
            }
            (_, Far::Disk(..)) => unreachable!("pages of a disk store are moved in one call"),
        }
    }

    fn copy(&self, from: &[u8], to: &mut [u8]) {
        stream_copy(from, to);
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

/// What the device says of a copy.
fn refused(error: Failure) -> FlightError {
    FlightError::new(error.code.as_str(), error.message)
}

fn spoil(bytes: &mut [u8]) -> FlightError {
    bytes.fill(GARBAGE);
    injection()
}

fn injection() -> FlightError {
    FlightError::new("injected", "the page failed on purpose")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::KEY_BYTES;
    use crate::transfer::flight::Kind;
    use crate::transfer::page_file::PageFile;
    use std::sync::Arc;
    use std::time::Instant;

    const PAGE: usize = 192;

    fn copier() -> Copier {
        let host = HostPool::map(PAGE, 4, true, 1 << 40).unwrap();
        host.work();
        let device = Pages::map(PAGE, 4).unwrap();
        for block in 0..4 {
            // SAFETY: one thread, one slice at a time.
            unsafe { device.page_mut(block) }.fill(block as u8 + 1);
        }
        Copier { device, host, copied: CopiedBytes::default() }
    }

    fn piece(kind: Kind, pages: &[u32], far: Far, injected: &[u32]) -> Piece {
        let plan = Arc::new(Plan { id: 1, kind, pages: pages.to_vec(), far });
        Piece { entries: 0..plan.pages.len(), plan, injected: injected.into(), start: Instant::now() }
    }

    fn blocks(kind: Kind, pages: &[u32], blocks: &[u32], injected: &[u32]) -> Piece {
        piece(kind, pages, Far::Blocks(blocks.to_vec()), injected)
    }

    fn codes(failed: Failed) -> Vec<(u32, String)> {
        failed.into_iter().map(|(entry, error)| (entry, error.code.into_owned())).collect()
    }

    fn block(copier: &Copier, block: usize) -> Vec<u8> {
        // SAFETY: one thread.
        unsafe { copier.device.page(block) }.to_vec()
    }

    #[test]
    fn pages_go_there_and_back() {
        let copier = copier();
        assert!(copier.run(&blocks(Kind::Store, &[2, 0], &[1, 3], &[])).is_empty());
        assert!(copier.run(&blocks(Kind::Load, &[0, 2], &[1, 2], &[])).is_empty());
        let found: Vec<Vec<u8>> = (0..4).map(|b| block(&copier, b)).collect();
        assert_eq!(found, [[1; PAGE], [4; PAGE], [2; PAGE], [4; PAGE]]);
        assert_eq!(copier.copied.read(), (0, 4 * PAGE as u64));
    }

    #[test]
    fn a_page_that_holds_nothing_or_was_changed_fails_alone() {
        let copier = copier();
        assert!(copier.run(&blocks(Kind::Store, &[0, 1, 2], &[1, 2, 3], &[])).is_empty());
        copier.host.corrupt(1);
        let failed = copier.run(&blocks(Kind::Load, &[0, 1, 3, 2], &[3, 2, 1, 0], &[]));
        assert_eq!(codes(failed), [(1, "checksum".to_owned()), (2, "empty".to_owned())]);
        assert_eq!((block(&copier, 3), block(&copier, 0)), (vec![2; PAGE], vec![4; PAGE]));
    }

    #[test]
    fn what_fails_on_purpose_holds_garbage_and_cannot_be_loaded() {
        let copier = copier();
        let failed = copier.run(&blocks(Kind::Store, &[0, 1], &[1, 2], &[1]));
        assert_eq!(codes(failed), [(1, "injected".to_owned())]);
        let failed = copier.run(&blocks(Kind::Load, &[0, 1, 0], &[3, 2, 1], &[2]));
        assert_eq!(codes(failed), [(1, "empty".to_owned()), (2, "injected".to_owned())]);
        assert_eq!((block(&copier, 3), block(&copier, 1)), (vec![2; PAGE], vec![GARBAGE; PAGE]));
    }

    #[test]
    fn a_panic_is_a_failure_of_its_piece() {
        let copier = copier();
        let failed = copier.run(&blocks(Kind::Store, &[0, 1], &[1, 99], &[]));
        assert_eq!(failed.iter().map(|(entry, _)| *entry).collect::<Vec<_>>(), [0, 1]);
        assert!(failed.iter().all(|(_, error)| error.code == "panic"), "{failed:?}");
        assert_eq!(failed[0].1.message, "a copy panicked: page 99 of 4");
    }

    #[test]
    fn files_hold_pages_and_only_whole_ones() {
        let path = std::env::temp_dir().join(format!("kvengine-copier-{}", std::process::id()));
        let far = |offsets: &[u64]| {
            let key = Key([1; KEY_BYTES]);
            Far::File(PageFile::new(path.clone(), ""), offsets.iter().map(|&offset| (offset, key)).collect())
        };
        let (a, b) = (0, 5 * PAGE as u64);
        let copier = copier();
        assert!(copier.run(&blocks(Kind::Store, &[0, 1, 2], &[1, 2, 3], &[])).is_empty());
        copier.host.corrupt(2);
        let failed = copier.run(&piece(Kind::Write, &[0, 1, 2, 3], far(&[a, b, 9000, 8000]), &[]));
        assert_eq!(codes(failed), [(2, "checksum".to_owned()), (3, "empty".to_owned())]);
        let failed = copier.run(&piece(Kind::Read, &[3, 2, 0], far(&[a, b, b + 1]), &[]));
        assert_eq!(codes(failed), [(2, "short_read".to_owned())]);
        let failed = copier.run(&blocks(Kind::Load, &[3, 2, 0], &[1, 2, 3], &[]));
        assert_eq!(codes(failed), [(2, "empty".to_owned())]);
        assert_eq!((block(&copier, 1), block(&copier, 2)), (vec![2; PAGE], vec![3; PAGE]));
        std::fs::remove_file(path).unwrap();
    }
}
