//! A flight: pages on their way between the host pool and the other end, which is the device, a file or a disk store. Entry i of one list
//! goes with entry i of the other.

use super::page_file::PageFile;
use crate::disk::{DiskError, DiskStore, Key};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// What a flight does. Each kind has threads of its own: who waits for a load waits now, a store is for later, and a slow disk holds up no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Host pages to device blocks.
    Load,
    /// Device blocks to host pages.
    Store,
    /// A file or a disk store to host pages.
    Read,
    /// Host pages to a file or a disk store.
    Write,
}

impl Kind {
    /// All, so that a kind's number is its place.
    pub const ALL: [Self; 4] = [Self::Load, Self::Store, Self::Read, Self::Write];

    /// Whether host pages are written.
    pub(super) fn fills_pages(self) -> bool {
        matches!(self, Self::Store | Self::Read)
    }

    /// Whether it is between host and device.
    pub(super) fn is_copy(self) -> bool {
        matches!(self, Self::Load | Self::Store)
    }

    /// Whether nobody waits for it while steps go on: its threads give way to those that compute.
    pub(super) fn is_for_later(self) -> bool {
        matches!(self, Self::Store | Self::Write)
    }
}

/// The other end of each page.
#[derive(Debug)]
pub(super) enum Far {
    /// Blocks of the device.
    Blocks(Vec<u32>),
    /// Bytes from the start of a file, and whose page is there.
    File(PageFile, Vec<(u64, Key)>),
    /// Keys of a disk store.
    Disk(Arc<DiskStore>, Vec<Key>),
}

impl Far {
    /// Number of places.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Blocks(blocks) => blocks.len(),
            Self::File(_, places) => places.len(),
            Self::Disk(_, keys) => keys.len(),
        }
    }
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// The caller's number of it, unique among flights that have not ended.
    pub(super) id: i64,
    /// Which way.
    pub(super) kind: Kind,
    /// Pages of the host pool, at least one.
    pub(super) pages: Vec<u32>,
    /// As many places.
    pub(super) far: Far,
}

impl Plan {
    /// The device blocks; none elsewhere.
    pub(super) fn blocks(&self) -> &[u32] {
        match &self.far {
            Far::Blocks(blocks) => blocks,
            Far::File(..) | Far::Disk(..) => &[],
        }
    }
}

/// Why a page failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FlightError {
    /// For programs: one of `engine/cache/page-transfers.ts`'s.
    pub code: Cow<'static, str>,
    /// For people.
    pub message: String,
}

impl FlightError {
    /// An error with a code of ours.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code: Cow::Borrowed(code), message: message.into() }
    }
}

impl From<DiskError> for FlightError {
    fn from(DiskError { code, message }: DiskError) -> Self {
        Self { code, message }
    }
}

/// What a flight came to; each has exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlightResult {
    /// The caller's number of it.
    pub id: i64,
    /// Nothing of it had started.
    pub cancelled: bool,
    /// Ascending indices of the entries that did not arrive; empty when it was cancelled.
    pub failed: Vec<u32>,
    /// Bytes that arrived.
    pub bytes: u64,
    /// From the call to the first copy, or to the end if there was none.
    pub queued: Duration,
    /// From the first copy to the end.
    pub copying: Duration,
    /// Of the first page that failed.
    pub error: Option<FlightError>,
}

impl FlightResult {
    /// Whether every page arrived.
    pub fn ok(&self) -> bool {
        !self.cancelled && self.failed.is_empty()
    }
}
