//! Why a page was not stored or not loaded. Each is a miss and nothing worse.

use std::borrow::Cow;
use std::io::{self, ErrorKind};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DiskError {
    /// For programs: `missing`, `checksum`, `full`, `paused`, `closed`, `read_only`, `unpackable`, `short_read`, or the system's name (`ENOSPC`, …).
    pub code: Cow<'static, str>,
    /// For people.
    pub message: String,
}

impl DiskError {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code: Cow::Borrowed(code), message: message.into() }
    }

    /// What the system says of something that was to be done.
    pub(super) fn of(what: &str, error: &io::Error) -> Self {
        Self { code: code_of(error), message: format!("{what}: {error}") }
    }
}

/// The name of an error of the file system.
pub(crate) fn code_of(error: &io::Error) -> Cow<'static, str> {
    if error.kind() == ErrorKind::UnexpectedEof {
        return Cow::Borrowed("short_read");
    }
    let Some(number) = error.raw_os_error() else { return Cow::Borrowed("EIO") };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_systems_names() {
        let code = |number: i32| code_of(&io::Error::from_raw_os_error(number));
        for (number, name) in [(libc::EROFS, "EROFS"), (libc::ENOSPC, "ENOSPC"), (9999, "errno 9999")] {
            assert_eq!(code(number), name);
        }
        assert_eq!(code_of(&io::Error::other("x")), "EIO");
        assert_eq!(code_of(&ErrorKind::UnexpectedEof.into()), "short_read");
    }
}
