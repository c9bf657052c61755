//! A disk in memory that loses power: what was written since a file's last sync may be gone in any part, and a write that the cut
//! falls into is torn. It can also fail, hold writes up and lose files.

use crate::disk::files::{Folder, Listed, SegmentFile};
use crate::testing::Random;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Parts of a write that reach a disk or do not.
const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct SimulatedFile {
    pub(super) bytes: Vec<u8>,
    synced: Vec<u8>,
    /// Since the last sync.
    writes: Vec<(usize, Vec<u8>)>,
    modified_at: u64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) files: BTreeMap<u64, SimulatedFile>,
    /// Deleted since the last time that the folder was synced.
    deleted: BTreeMap<u64, SimulatedFile>,
    /// Bytes written, and of that where writes began and ended.
    pub(super) written: u64,
    pub(super) boundaries: Vec<u64>,
    /// Bytes until the power goes.
    power: Option<u64>,
    is_dead: bool,
    /// What all files may take; held to at every moment.
    pub(super) limit: u64,
    pub(super) fail_create: Option<i32>,
    pub(super) fail_remove: Option<i32>,
    pub(super) fail_write: Option<i32>,
    pub(super) fail_sync: Option<i32>,
    /// Nothing may be made, written or deleted.
    pub(super) is_read_only: bool,
    /// Reads of this file that touch this byte fail.
    pub(super) bad_byte: Option<(u64, usize)>,
    /// Writes wait.
    pub(super) is_held: bool,
    /// Writes that wait.
    pub(super) waiting: usize,
    time: u64,
}

/// Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    changed: Arc<Condvar>,
}

impl SimulatedDisk {
    pub(super) fn new(limit: u64) -> Self {
        let disk = Self::default();
        disk.lock().limit = limit;
        disk
    }

    /// The same files on a disk of its own, all synced.
    pub(super) fn of(files: BTreeMap<u64, Vec<u8>>, limit: u64) -> Self {
        let disk = Self::new(limit);
        let file =
            |bytes: Vec<u8>| SimulatedFile { synced: bytes.clone(), bytes, ..SimulatedFile::default() };
        disk.lock().files = files.into_iter().map(|(id, bytes)| (id, file(bytes))).collect();
        disk
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The power goes when so many more bytes have been written.
    pub(super) fn cut_after(&self, bytes: u64) {
        self.lock().power = Some(bytes);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.lock().is_dead
    }

    /// What is there when the process has died and the system lives on: all that was written.
    pub(super) fn after_kill(&self) -> Self {
        let state = self.lock();
        Self::of(state.files.iter().map(|(&id, file)| (id, file.bytes.clone())).collect(), state.limit)
    }

    /// What is there when power comes back: of each write since the last sync all, nothing, or some sectors; of files that were deleted
    /// some.
    pub(super) fn after_power_cut(&self, random: &mut Random) -> Self {
        let state = self.lock();
        let mut files = BTreeMap::new();
        let back =
            state.deleted.iter().filter(|(id, _)| !state.files.contains_key(id) && random.below(2) == 0);
        let back: Vec<_> = back.collect();
        for (&id, file) in state.files.iter().chain(back) {
            let mut bytes = file.synced.clone();
            for (offset, write) in &file.writes {
                let (fate, mut at) = (random.below(3), *offset);
                let end = offset + write.len();
                while at < end {
                    let to = end.min((at / SECTOR + 1) * SECTOR);
                    if fate == 0 || (fate == 1 && random.below(2) == 0) {
                        bytes[at..to].copy_from_slice(&write[at - offset..to - offset]);
                    }
                    at = to;
                }
            }
            files.insert(id, bytes);
        }
        Self::of(files, state.limit)
    }

    /// Lets writes that are held go.
    pub(super) fn release(&self) {
        self.lock().is_held = false;
        self.changed.notify_all();
    }

    /// Waits until a write is held.
    pub(super) fn wait_for_writer(&self) {
        let _state = self.changed.wait_while(self.lock(), |state| state.waiting == 0).unwrap();
    }
}

fn dead() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

fn injected(error: Option<i32>) -> io::Result<()> {
    error.map_or(Ok(()), |number| Err(io::Error::from_raw_os_error(number)))
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.is_dead { Err(dead()) } else { Ok(()) }
    }

    pub(super) fn total(&self) -> u64 {
        self.files.values().map(|file| file.bytes.len() as u64).sum::<u64>() + 4096
    }
}

impl Folder for SimulatedDisk {
    fn list(&self) -> io::Result<Vec<Listed>> {
        let state = self.lock();
        state.alive()?;
        let listed = |(&id, file): (&u64, &SimulatedFile)| Listed {
            id,
            bytes: file.bytes.len() as u64,
            modified_at: file.modified_at,
        };
        Ok(state.files.iter().map(listed).collect())
    }

    fn create(&self, id: u64, bytes: u64) -> io::Result<Box<dyn SegmentFile>> {
        let mut state = self.lock();
        state.alive()?;
        injected(state.fail_create)?;
        assert!(!state.is_read_only, "a segment is made in a read-only folder");
        assert!(!state.files.contains_key(&id), "segment {id} is there");
        let zeros = vec![0; bytes as usize];
        state
            .files
            .insert(id, SimulatedFile { synced: zeros.clone(), bytes: zeros, ..SimulatedFile::default() });
        state.deleted.clear();
        assert!(state.total() <= state.limit, "{} bytes, the limit is {}", state.total(), state.limit);
        drop(state);
        self.open(id)
    }

    fn open(&self, id: u64) -> io::Result<Box<dyn SegmentFile>> {
        self.lock().alive()?;
        Ok(Box::new(OpenFile { disk: self.clone(), id }))
    }

    fn remove(&self, id: u64) -> io::Result<()> {
        let mut state = self.lock();
        state.alive()?;
        injected(state.fail_remove)?;
        assert!(!state.is_read_only, "a segment of a read-only folder is deleted");
        let file = state.files.remove(&id).ok_or(ErrorKind::NotFound)?;
        state.deleted.insert(id, file);
        Ok(())
    }

    fn close(&self) {}

    fn is_read_only(&self) -> bool {
        self.lock().is_read_only
    }
}

#[derive(Debug)]
struct OpenFile {
    disk: SimulatedDisk,
    id: u64,
}

impl SegmentFile for OpenFile {
    fn read(&self, offset: u64, slices: &mut [IoSliceMut<'_>]) -> io::Result<()> {
        let state = self.disk.lock();
        state.alive()?;
        let file = state.files.get(&self.id).ok_or(ErrorKind::UnexpectedEof)?;
        let mut at = offset as usize;
        for slice in slices {
            let end = at + slice.len();
            if state.bad_byte.is_some_and(|(id, byte)| id == self.id && (at..end).contains(&byte)) {
                return Err(dead());
            }
            slice.copy_from_slice(file.bytes.get(at..end).ok_or(ErrorKind::UnexpectedEof)?);
            at = end;
        }
        Ok(())
    }

    fn write(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let mut state = self.disk.lock();
        if state.is_held {
            state.waiting += 1;
            self.disk.changed.notify_all();
            state = self.disk.changed.wait_while(state, |state| state.is_held).unwrap();
            state.waiting -= 1;
        }
        let state = &mut *state;
        state.alive()?;
        injected(state.fail_write)?;
        assert!(!state.is_read_only, "a segment of a read-only folder is written");
        let mut bytes = &bytes[..];
        let start = state.written;
        if let Some(power) = &mut state.power {
            let left = bytes.len().min(*power as usize);
            state.is_dead = left < bytes.len();
            bytes = &bytes[..left];
            *power -= left as u64;
        }
        state.written += bytes.len() as u64;
        state.boundaries.extend([start, state.written]);
        state.time += 1;
        // Like a file that somebody has deleted: written, and gone.
        if let Some(file) = state.files.get_mut(&self.id) {
            let at = offset as usize;
            file.bytes.resize(file.bytes.len().max(at + bytes.len()), 0);
            file.synced.resize(file.bytes.len(), 0);
            file.bytes[at..at + bytes.len()].copy_from_slice(bytes);
            file.writes.push((at, bytes.to_vec()));
            file.modified_at = state.time;
        }
        state.alive()
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.alive()?;
        injected(state.fail_sync)?;
        if let Some(file) = state.files.get_mut(&self.id) {
            file.synced.clone_from(&file.bytes);
            file.writes.clear();
        }
        Ok(())
    }

    fn is_gone(&self) -> bool {
        !self.disk.lock().files.contains_key(&self.id)
    }
}
