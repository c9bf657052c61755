//! A file that pages are written to or read from, opened by the first page and closed with the flight. Behind each page is its label,
//! a checksum of 8 bytes, little-endian, that covers the page, its key and the fingerprint: a page that is another key's, another
//! model's, torn or changed does not pass.

use super::flight::FlightError;
use crate::disk::{Fingerprint, Key, checksum, code_of, fingerprint_of};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::OnceLock;

/// Only the user who runs the server may read what it was told.
const MODE: u32 = 0o600;

/// Bytes behind each page in a file.
pub const LABEL_BYTES: usize = 8;

/// See the module.
#[derive(Debug)]
pub struct PageFile {
    path: PathBuf,
    fingerprint: Fingerprint,
    file: OnceLock<Result<File, FlightError>>,
}

impl PageFile {
    /// Opens nothing yet. `fingerprint`: any text, equal where pages of one may be used by the other.
    pub fn new(path: PathBuf, fingerprint: &str) -> Self {
        Self { path, fingerprint: fingerprint_of(fingerprint), file: OnceLock::new() }
    }

    /// Fills `page` with the one that was written for `key` at `offset`.
    ///
    /// # Errors
    /// `short_read` where the file ends before, `checksum` where there is something else, and the system's.
    pub(super) fn read(&self, offset: u64, key: &Key, page: &mut [u8]) -> Result<(), FlightError> {
        let file = self.opened(|| File::open(&self.path))?;
        let mut label = [0; LABEL_BYTES];
        file.read_exact_at(page, offset)
            .and_then(|()| file.read_exact_at(&mut label, offset + page.len() as u64))
            .map_err(|error| self.failure("read", &error))?;
        if u64::from_le_bytes(label) == checksum(&self.fingerprint, key, page) {
            return Ok(());
        }
        let message = format!("{} holds at {offset} not what was written for {key}", self.path.display());
        Err(FlightError::new("checksum", message))
    }

    /// Writes `page` and its label at `offset`; the file is created if there is none.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn write(&self, offset: u64, key: &Key, page: &[u8]) -> Result<(), FlightError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(MODE);
        let file = self.opened(|| options.open(&self.path))?;
        let label = checksum(&self.fingerprint, key, page).to_le_bytes();
        file.write_all_at(page, offset)
            .and_then(|()| file.write_all_at(&label, offset + page.len() as u64))
            .map_err(|error| self.failure("written", &error))
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
    use crate::disk::KEY_BYTES;

    fn code(result: Result<(), FlightError>) -> String {
        result.expect_err("failed").code.into_owned()
    }

    const KEY: Key = Key([7; KEY_BYTES]);

    fn file(path: impl Into<PathBuf>) -> PageFile {
        PageFile::new(path.into(), "a model")
    }

    fn temporary(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("kvengine-page-{name}-{}", std::process::id()))
    }

    #[test]
    fn what_was_written_is_read_back_at_its_offset() {
        let path = temporary("file");
        let written = file(&path);
        let second = 5 + LABEL_BYTES as u64;
        written.write(second, &KEY, b"world").unwrap();
        written.write(0, &KEY, b"hello").unwrap();
        let (read, mut page) = (file(&path), [0; 5]);
        for (offset, expected) in [(0, b"hello"), (second, b"world")] {
            read.read(offset, &KEY, &mut page).unwrap();
            assert_eq!(&page, expected);
        }
        assert_eq!(code(read.read(second + 1, &KEY, &mut page)), "short_read");
        assert_eq!(code(read.read(1 << 40, &KEY, &mut page)), "short_read");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_page_of_another_key_place_or_model_and_one_that_was_changed_do_not_pass() {
        let path = temporary("label");
        let written = file(&path);
        written.write(0, &KEY, b"hello").unwrap();
        written.write(20, &KEY, b"world").unwrap();
        let mut page = [0; 5];
        assert_eq!(code(file(&path).read(0, &Key([8; KEY_BYTES]), &mut page)), "checksum");
        assert_eq!(code(file(&path).read(1, &KEY, &mut page)), "checksum");
        assert_eq!(code(PageFile::new(path.clone(), "another").read(0, &KEY, &mut page)), "checksum");
        for at in 0..5 + LABEL_BYTES {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(code(file(&path).read(0, &KEY, &mut page)), "checksum", "byte {at}");
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
        }
        file(&path).read(0, &KEY, &mut page).unwrap();
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_new_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let path = temporary("mode");
        file(&path).write(0, &KEY, b"x").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn errors_have_the_systems_names_and_name_the_file() {
        let missing = file("/nonexistent/pages");
        let error = missing.read(0, &KEY, &mut [0]).unwrap_err();
        assert_eq!(error.code, "ENOENT");
        assert!(error.message.starts_with("/nonexistent/pages cannot be opened: "), "{error}");
        assert_eq!(code(missing.write(0, &KEY, b"x")), "ENOENT");
        // A device that has no space left, ever.
        assert_eq!(code(file("/dev/full").write(0, &KEY, b"x")), "ENOSPC");
        assert_eq!(code(file("/").write(0, &KEY, b"x")), "EISDIR");
    }
}
