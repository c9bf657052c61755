//! The files of a store: a folder of segments, each a file with a number. Behind traits, so that tests can lose power.

use super::lock::FolderLock;
use crate::error::{Failure, Result};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, preadv, pwritev};
use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

/// Only the user who runs the server may read what it was told.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// Far more segments than a disk sees in its life.
const MOST_ID: u64 = u64::MAX >> 1;
/// Slices of one call: the system's limit.
const MOST_SLICES: usize = 1024;
/// Direct I/O wants memory, lengths and offsets at multiples of this.
const DIRECT_ALIGNMENT: usize = 4096;

/// A segment's file that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed {
    pub(super) id: u64,
    pub(super) bytes: u64,
    /// When it was written last, in microseconds since 1970.
    pub(super) modified_at: u64,
}

/// Where segments are.
pub(super) trait Folder: Debug + Send + Sync {
    /// All segments, in any order.
    fn list(&self) -> io::Result<Vec<Listed>>;
    /// A new segment of zeros, with its room reserved where the file system can; after a power cut it is still there.
    fn create(&self, id: u64, bytes: u64) -> io::Result<Box<dyn SegmentFile>>;
    /// A segment that is there.
    fn open(&self, id: u64) -> io::Result<Box<dyn SegmentFile>>;
    /// Deletes a segment; who has it open may go on with it.
    fn remove(&self, id: u64) -> io::Result<()>;
    /// Another process may have the folder from here on.
    fn close(&self);
    /// Whether segments can be read and none made, written or deleted.
    fn is_read_only(&self) -> bool;
}

/// A segment's file. Any thread may call.
pub(super) trait SegmentFile: Debug + Send + Sync {
    /// Fills all slices, one behind the other; `UnexpectedEof` where the file ends before.
    fn read(&self, offset: u64, slices: &mut [IoSliceMut<'_>]) -> io::Result<()>;
    /// Writes all slices, one behind the other.
    fn write(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()>;
    /// What was written before outlives a power cut.
    fn sync(&self) -> io::Result<()>;
    /// Whether the file was deleted by somebody else.
    fn is_gone(&self) -> bool;
}

/// A folder of the system's that this process alone uses, or that it only reads.
#[derive(Debug)]
pub(super) struct OsFolder {
    path: PathBuf,
    /// `None` once it is closed, and where it is only read.
    lock: Mutex<Option<FolderLock>>,
    is_read_only: bool,
    /// Whether slots are read and written past the page cache, where their memory allows it.
    direct: bool,
}

impl OsFolder {
    /// Creates the folder where there is none, and locks it. One that cannot be written needs no lock: whatever others do to it, a page
    /// counts only with its checksum.
    ///
    /// # Errors
    /// `bad_config`, naming the folder and what to do.
    pub(super) fn open(path: &Path, direct: bool) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path).map_err(|error| {
            Failure::bad_config(format!("{} cannot be made for the disk tier: {error}", path.display()))
        })?;
        let lock = FolderLock::take(path)?;
        let is_read_only = lock.is_none();
        Ok(Self { path: path.to_owned(), lock: Mutex::new(lock), is_read_only, direct })
    }

    fn lock(&self) -> MutexGuard<'_, Option<FolderLock>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the folder is there and nobody else's: one that was deleted may have been made anew by another process.
    fn is_ours(&self) -> bool {
        self.lock().as_ref().is_some_and(FolderLock::holds)
    }

    fn file(&self, id: u64) -> PathBuf {
        self.path.join(format!("{id:016x}.kvpages"))
    }

    fn opened(&self, id: u64, options: &mut OpenOptions) -> io::Result<OsFile> {
        let path = self.file(id);
        // No link, and no pipe that would wait for its other end.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let may_write = !self.is_read_only;
        let file = options.read(true).write(may_write).mode(FILE_MODE).custom_flags(flags).open(&path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
        }
        // Refused by some file systems: then there is only the other way.
        let direct = if self.direct {
            let flags = flags | libc::O_DIRECT;
            OpenOptions::new().read(true).write(may_write).custom_flags(flags).open(&path).ok()
        } else {
            None
        };
        Ok(OsFile { file, direct })
    }
}

impl Folder for OsFolder {
    fn list(&self) -> io::Result<Vec<Listed>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".kvpages")).and_then(id_of);
            let (Some(id), Ok(metadata)) = (id, entry.metadata()) else { continue };
            let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let modified_at = modified.map_or(0, |since| since.as_micros() as u64);
            found.push(Listed { id, bytes: metadata.len(), modified_at });
        }
        Ok(found)
    }

    fn create(&self, id: u64, bytes: u64) -> io::Result<Box<dyn SegmentFile>> {
        if !self.is_ours() {
            let message =
                format!("{} was deleted while it was in use; a restart makes it anew", self.path.display());
            return Err(io::Error::new(ErrorKind::NotFound, message));
        }
        let file = self.opened(id, OpenOptions::new().create_new(true))?;
        let reserve = || match fallocate(&file.file, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => file.file.set_len(bytes),
            reserved => reserved.map_err(io::Error::from),
        };
        if let Err(error) = reserve().and_then(|()| File::open(&self.path)?.sync_all()) {
            // What is left of it is no segment: it has no head.
            let _left = self.remove(id);
            return Err(error);
        }
        Ok(Box::new(file))
    }

    fn open(&self, id: u64) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(self.opened(id, &mut OpenOptions::new())?))
    }

    fn remove(&self, id: u64) -> io::Result<()> {
        if !self.is_ours() {
            return Err(ErrorKind::NotFound.into());
        }
        std::fs::remove_file(self.file(id))
    }

    fn close(&self) {
        *self.lock() = None;
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }
}

/// The number in a segment's name. Files with others are not this store's.
fn id_of(name: &str) -> Option<u64> {
    let id = u64::from_str_radix(name, 16).ok().filter(|id| *id <= MOST_ID)?;
    (format!("{id:016x}") == name).then_some(id)
}

#[derive(Debug)]
struct OsFile {
    file: File,
    /// The same file past the page cache.
    direct: Option<File>,
}

impl OsFile {
    /// The way to go for memory at these places.
    fn way(&self, offset: u64, mut slices: impl Iterator<Item = (usize, usize)>) -> &File {
        let fits = |n: usize| n.is_multiple_of(DIRECT_ALIGNMENT);
        match &self.direct {
            Some(direct) if fits(offset as usize) && slices.all(|(at, len)| fits(at) && fits(len)) => direct,
            _ => &self.file,
        }
    }
}

impl SegmentFile for OsFile {
    fn read(&self, mut offset: u64, mut slices: &mut [IoSliceMut<'_>]) -> io::Result<()> {
        let mut file = self.way(offset, slices.iter().map(|slice| (slice.as_ptr().addr(), slice.len())));
        while !slices.is_empty() {
            let most = slices.len().min(MOST_SLICES);
            match preadv(file, &mut slices[..most], offset) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    IoSliceMut::advance_slices(&mut slices, read);
                    offset += read as u64;
                }
                Err(Errno::INTR) => {}
                // A device may want more than this alignment.
                Err(Errno::INVAL) if !std::ptr::eq(file, &raw const self.file) => file = &self.file,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn write(&self, mut offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let mut file = self.way(offset, slices.iter().map(|slice| (slice.as_ptr().addr(), slice.len())));
        let mut slices = slices.to_vec();
        let mut slices = slices.as_mut_slice();
        while !slices.is_empty() {
            let most = slices.len().min(MOST_SLICES);
            match pwritev(file, &slices[..most], offset) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    IoSlice::advance_slices(&mut slices, written);
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                // A device may want more than this alignment.
                Err(Errno::INVAL) if !std::ptr::eq(file, &raw const self.file) => file = &self.file,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn is_gone(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::testing::TestFolder;
    use std::os::unix::fs::PermissionsExt;

    const BLOCK: usize = DIRECT_ALIGNMENT;

    #[test]
    fn what_was_written_in_slices_is_read_in_others() {
        let test = TestFolder::new("files");
        let folder = OsFolder::open(&test.path.join("a/b"), true).unwrap();
        let file = folder.create(0xab, 3 * 4096).unwrap();
        file.write(4000, &[IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b"two")]).unwrap();
        // Slices beyond what one call takes.
        let many = vec![IoSlice::new(b"x"); 2 * MOST_SLICES + 1];
        file.write(5000, &many).unwrap();
        let file = folder.open(0xab).unwrap();
        let (mut a, mut b) = ([0; 1], [0; 6]);
        file.read(3999, &mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)]).unwrap();
        assert_eq!((&a, &b), (b"\0", b"onetwo"));
        let mut bytes = vec![0; 2 * MOST_SLICES + 2];
        let mut slices: Vec<IoSliceMut<'_>> = bytes.chunks_mut(1).map(IoSliceMut::new).collect();
        file.read(5000, &mut slices).unwrap();
        let (last, written) = bytes.split_last().unwrap();
        assert!(written.iter().all(|&byte| byte == b'x') && *last == 0);
        let beyond = file.read(3 * 4096 - 1, &mut [IoSliceMut::new(&mut b)]).unwrap_err();
        assert_eq!(beyond.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn memory_at_any_place_goes_the_way_that_it_can() {
        let test = TestFolder::new("direct");
        let file = OsFolder::open(&test.path, true).unwrap().create(1, 8 * BLOCK as u64).unwrap();
        let memory: Vec<u8> = (0..4 * BLOCK).map(|i| (i % 251) as u8).collect();
        let aligned = memory.as_ptr().align_offset(BLOCK);
        for (offset, place) in [(BLOCK, aligned), (BLOCK + 1, aligned), (2 * BLOCK, aligned + 1)] {
            let page = &memory[place..place + 2 * BLOCK];
            file.write(offset as u64, &[IoSlice::new(page)]).unwrap();
            let mut read = vec![0; 4 * BLOCK];
            for at in [read.as_ptr().align_offset(BLOCK), read.as_ptr().align_offset(BLOCK) + 3] {
                let read = &mut read[at..at + 2 * BLOCK];
                file.read(offset as u64, &mut [IoSliceMut::new(read)]).unwrap();
                assert!(*read == *page, "memory {at} after {place}, at {offset} of the file");
            }
        }
    }

    #[test]
    fn nothing_is_made_or_deleted_in_a_folder_that_is_not_ours_any_more() {
        let test = TestFolder::new("not-ours");
        let path = test.path.join("folder");
        let folder = OsFolder::open(&path, false).unwrap();
        folder.create(1, 4096).unwrap();
        std::fs::remove_dir_all(&path).unwrap();
        assert_eq!(folder.create(2, 4096).unwrap_err().kind(), ErrorKind::NotFound);
        let other = OsFolder::open(&path, false).unwrap();
        other.create(1, 4096).unwrap();
        assert_eq!(folder.remove(1).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(folder.create(2, 4096).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(other.list().unwrap().len(), 1);
    }

    #[test]
    fn files_and_folder_are_their_owners_alone() {
        let test = TestFolder::new("modes");
        let path = test.path.join("new");
        OsFolder::open(&path, false).unwrap().create(1, 4096).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("0000000000000001.kvpages"))), (0o700, 0o600));
    }

    #[test]
    fn only_segments_are_listed_and_only_regular_files_opened() {
        let test = TestFolder::new("list");
        let folder = OsFolder::open(&test.path, false).unwrap();
        folder.create(0x1f, 5000).unwrap();
        assert_eq!(folder.create(0x1f, 5000).unwrap_err().kind(), ErrorKind::AlreadyExists);
        for other in ["1f.kvpages", "000000000000001F.kvpages", "notes.txt", "+00000000000001f.kvpages"] {
            std::fs::write(test.path.join(other), b"x").unwrap();
        }
        let listed = folder.list().unwrap();
        assert_eq!(listed.iter().map(|file| (file.id, file.bytes)).collect::<Vec<_>>(), [(0x1f, 5000)]);
        assert!(listed[0].modified_at > 1_600_000_000_000_000);
        let link = test.path.join("0000000000000002.kvpages");
        std::os::unix::fs::symlink(test.path.join("notes.txt"), link).unwrap();
        std::fs::create_dir(test.path.join("0000000000000003.kvpages")).unwrap();
        assert!(folder.open(2).is_err() && folder.open(3).is_err() && folder.open(4).is_err());
        let file = folder.open(0x1f).unwrap();
        assert!(!file.is_gone());
        folder.remove(0x1f).unwrap();
        assert!(file.is_gone());
    }
}
