//! One process a folder. The lock is the system's and ends with the process, however it ends; the file only carries it and says
//! whose it is.

use crate::error::{Failure, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const NAME: &str = "lock";
/// Bytes of the limit that are set aside for the file: what it takes on a disk.
pub(super) const LOCK_BYTES: u64 = 4096;
/// Of a file that says more, the rest is not read.
const MOST_READ: u64 = 20;

/// A folder that is this process's alone as long as the value lives.
#[derive(Debug)]
pub(super) struct FolderLock {
    path: PathBuf,
    file: File,
}

impl FolderLock {
    /// Takes the lock, or says who has it. `None` where nothing can be written.
    ///
    /// # Errors
    /// `bad_config`, naming the folder and what to do.
    pub(super) fn take(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(NAME);
        let refused = |error: &dyn std::fmt::Display| {
            Failure::bad_config(format!("{} cannot be locked for the disk tier: {error}", folder.display()))
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
        let mut file = match file {
            Err(error)
                if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
            {
                return Ok(None);
            }
            file => file.map_err(|error| refused(&error))?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&file);
                return Err(Failure::bad_config(format!(
                    "{} is in use by another process{holder}: stop that one, or give this one a folder of its own",
                    folder.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(refused(&error)),
        }
        // Whose it is only helps people: a full disk is no reason not to read.
        let _said = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Some(Self { path, file }))
    }

    /// Whether the folder still carries this lock: false when it was deleted, whoever has made a new one.
    pub(super) fn holds(&self) -> bool {
        let (Ok(ours), Ok(there)) = (self.file.metadata(), std::fs::symlink_metadata(&self.path)) else {
            return false;
        };
        (ours.dev(), ours.ino()) == (there.dev(), there.ino())
    }
}

fn holder(file: &File) -> String {
    let mut text = String::new();
    match file.take(MOST_READ).read_to_string(&mut text).map(|_| text.trim().parse::<u32>()) {
        Ok(Ok(pid)) => format!(" (process {pid})"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::testing::TestFolder;
    use crate::error::Code;

    #[test]
    fn a_second_holder_is_told_who_has_it_and_what_to_do() {
        let test = TestFolder::new("lock");
        let lock = FolderLock::take(&test.path).unwrap().unwrap();
        assert!(lock.holds());
        // The system's lock is of the open file: a second one in this process is refused as another process is.
        let failure = FolderLock::take(&test.path).unwrap_err();
        assert_eq!(failure.code, Code::BadConfig);
        let folder = test.path.display();
        let expected = format!(
            "{folder} is in use by another process (process {}): stop that one, or give this one a folder of its own",
            std::process::id()
        );
        assert_eq!(failure.message, expected);
        drop(lock);
        assert!(FolderLock::take(&test.path).unwrap().is_some());
    }

    #[test]
    fn a_lock_that_was_deleted_holds_nothing() {
        let test = TestFolder::new("lock-gone");
        let lock = FolderLock::take(&test.path).unwrap().unwrap();
        std::fs::remove_file(test.path.join(NAME)).unwrap();
        assert!(!lock.holds());
        let _other = FolderLock::take(&test.path).unwrap();
        assert!(!lock.holds());
    }

    #[test]
    fn a_folder_that_cannot_be_locked_is_named() {
        let failure = FolderLock::take(Path::new("/proc/self/nothing")).unwrap_err();
        assert!(
            failure.message.starts_with("/proc/self/nothing cannot be locked for the disk tier: "),
            "{failure}"
        );
    }
}
