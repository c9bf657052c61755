//! What a folder holds when a store is opened. Files are not trusted: a head must fit its file's name and length before anything is
//! allocated for it, the table of records is read in parts of a fixed size, and a record counts only with its checksum. Pages are
//! checked when they are loaded.

use super::files::{Folder, Listed};
use super::layout::Layout;
use super::record::{HEAD_BYTES, Head, Page, RECORD_BYTES};
use super::segment::Segment;
use super::store::Spec;
use std::io::{self, IoSliceMut};

/// Records of one read.
const PART: usize = 1024;

/// A segment of this model and its pages.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) segment: Segment,
    pub(super) pages: Vec<(u32, Page)>,
}

impl Recovered {
    /// When one of its pages was used last.
    fn used_at(&self) -> u64 {
        self.pages.iter().map(|(_, page)| page.used_at).max().unwrap_or(0)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) own: Vec<Recovered>,
    /// Segments of other models, of other versions, and those that cannot be read now; the oldest first.
    pub(super) stale: Vec<Listed>,
    /// Files that hold nothing anybody could use, or are beyond the limit.
    pub(super) condemned: Vec<Listed>,
    /// The highest number of any file.
    pub(super) last_id: u64,
}

/// Looks through the folder.
///
/// # Errors
/// The system's, where the folder cannot be listed.
pub(super) fn scan(folder: &dyn Folder, spec: &Spec, now: u64) -> io::Result<Found> {
    let mut found = Found::default();
    for file in folder.list()? {
        found.last_id = found.last_id.max(file.id);
        match look_at(folder, spec, file, now) {
            Ok(Look::Own(recovered)) => found.own.push(recovered),
            Ok(Look::Torn) => found.condemned.push(file),
            Ok(Look::Stale) | Err(_) => found.stale.push(file),
        }
    }
    found.stale.sort_by_key(|file| (file.modified_at, file.id));
    found.own.sort_by_key(|one| std::cmp::Reverse((one.used_at(), one.segment.head.id)));
    // What other models left goes first, then what was used the longest ago.
    let mut room = spec.limit.saturating_sub(super::lock::LOCK_BYTES);
    for one in std::mem::take(&mut found.own) {
        let head = one.segment.head;
        let bytes = head.layout.file_bytes();
        if bytes <= room {
            room -= bytes;
            found.own.push(one);
        } else {
            found.condemned.push(Listed { id: head.id, bytes, modified_at: 0 });
        }
    }
    while found.stale.iter().map(|file| file.bytes).sum::<u64>() > room {
        found.condemned.push(found.stale.remove(0));
    }
    Ok(found)
}

enum Look {
    Own(Recovered),
    Stale,
    /// No head: a power cut came before it was written.
    Torn,
}

fn look_at(folder: &dyn Folder, spec: &Spec, listed: Listed, now: u64) -> io::Result<Look> {
    let mut bytes = [0; HEAD_BYTES];
    if listed.bytes < HEAD_BYTES as u64 {
        return Ok(Look::Torn);
    }
    let file = folder.open(listed.id)?;
    file.read(0, &mut [IoSliceMut::new(&mut bytes)])?;
    let Some(head) = Head::decode(&bytes, listed.id, listed.bytes) else {
        return Ok(if Head::is_of_another_version(&bytes) { Look::Stale } else { Look::Torn });
    };
    if head.fingerprint != spec.fingerprint || head.layout.page_bytes != spec.page_bytes {
        return Ok(Look::Stale);
    }
    let mut pages = Vec::new();
    let mut part = vec![0; PART * RECORD_BYTES];
    for first in (0..head.layout.slots).step_by(PART) {
        let count = (head.layout.slots - first).min(PART as u32);
        let bytes = &mut part[..count as usize * RECORD_BYTES];
        file.read(Layout::record_at(first), &mut [IoSliceMut::new(bytes)])?;
        for (slot, record) in (first..).zip(bytes.as_chunks::<RECORD_BYTES>().0) {
            // What ends behind the file's end was cut off.
            let whole = head.layout.slot_at(slot + 1) <= listed.bytes;
            if let Some(page) = Page::decode(record, &head, slot).filter(|_| whole) {
                // A clock that was ahead does not keep pages for ever.
                pages.push((
                    slot,
                    Page { used_at: page.used_at.min(now), stored_at: page.stored_at.min(now), ..page },
                ));
            }
        }
    }
    Ok(Look::Own(Recovered { segment: Segment::new(head, file), pages }))
}
