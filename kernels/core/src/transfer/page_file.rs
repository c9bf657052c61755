//! A file that pages are written to or read from, opened by the first page and closed with the flight.

use super::flight::FlightError;
use crate::disk::code_of;
use std::fs::{File, OpenOptions};
use std::io;
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
        let message = format!("{} cannot be {what}: {error}", self.path.display());
        FlightError { code: code_of(error), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<(), FlightError>) -> String {
        result.expect_err("failed").code.into_owned()
    }

    #[test]
    fn what_was_written_is_read_back_at_its_offset() {
        let path = std::env::temp_dir().join(format!("kvengine-page-file-{}", std::process::id()));
        let file = PageFile::new(path.clone());
        file.write(6, b"world").unwrap();
        file.write(0, b"hello,").unwrap();
        let file = PageFile::new(path.clone());
        let mut bytes = [0; 7];
        file.read(4, &mut bytes).unwrap();
        assert_eq!(&bytes, b"o,world");
        assert_eq!(code(file.read(5, &mut bytes)), "short_read");
        assert_eq!(code(file.read(1 << 40, &mut bytes)), "short_read");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_new_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("kvengine-page-mode-{}", std::process::id()));
        PageFile::new(path.clone()).write(0, b"x").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn errors_have_the_systems_names_and_name_the_file() {
        let missing = PageFile::new("/nonexistent/pages".into());
        let error = missing.read(0, &mut [0]).unwrap_err();
        assert_eq!(error.code, "ENOENT");
        assert!(error.message.starts_with("/nonexistent/pages cannot be opened: "), "{error}");
        assert_eq!(code(missing.write(0, b"x")), "ENOENT");
        // A device that has no space left, ever.
        assert_eq!(code(PageFile::new("/dev/full".into()).write(0, b"x")), "ENOSPC");
        assert_eq!(code(PageFile::new("/".into()).write(0, b"x")), "EISDIR");
    }
}
