//! A file that pages are written to or read from, opened by the first page and closed with the flight.

use super::flight::FlightError;
use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::OnceLock;

/// Only the user who runs the server may read what it was told.
const MODE: u32 = 0o600;

/// See the module.
#[derive(Debug)]
pub(super) struct PageFile {
    path: PathBuf,
    file: OnceLock<Result<File, FlightError>>,
}

impl PageFile {
    /// Opens nothing yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: OnceLock::new() }
    }

    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// `short_read` where the file ends before, and the system's.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), FlightError> {
        let file = self.opened(|| File::open(&self.path))?;
        file.read_exact_at(bytes, offset).map_err(|error| self.failure("read", &error))
    }

    /// Writes `bytes` at `offset`; the file is created if there is none.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), FlightError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(MODE);
        let file = self.opened(|| options.open(&self.path))?;
        file.write_all_at(bytes, offset).map_err(|error| self.failure("written", &error))
    }

    fn opened(&self, open: impl FnOnce() -> io::Result<File>) -> Result<&File, FlightError> {
        let opened = self.file.get_or_init(|| open().map_err(|error| self.failure("opened", &error)));
        opened.as_ref().map_err(Clone::clone)
    }

    fn failure(&self, what: &str, error: &io::Error) -> FlightError {
        let code = if error.kind() == ErrorKind::UnexpectedEof {
            Cow::Borrowed("short_read")
        } else {
            error.raw_os_error().map_or(Cow::Borrowed("EIO"), name_of)
        };
        FlightError { code, message: format!("{} cannot be {what}: {error}", self.path.display()) }
    }
}

/// The names of what a file system may answer.
fn name_of(number: i32) -> Cow<'static, str> {
    Cow::Borrowed(match number {
        libc::ENOENT => "ENOENT",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::EACCES => "EACCES",
        libc::EPERM => "EPERM",
        libc::EROFS => "EROFS",
        libc::ENOSPC => "ENOSPC",
        libc::EDQUOT => "EDQUOT",
        libc::EFBIG => "EFBIG",
        libc::EMFILE => "EMFILE",
        libc::ENFILE => "ENFILE",
        libc::ENAMETOOLONG => "ENAMETOOLONG",
        libc::ELOOP => "ELOOP",
        libc::EINVAL => "EINVAL",
        libc::ESTALE => "ESTALE",
        libc::ETIMEDOUT => "ETIMEDOUT",
        libc::EIO => "EIO",
        other => return Cow::Owned(format!("errno {other}")),
    })
}
