//! What is written of a segment and of each of its slots. Numbers are little-endian. A checksum covers what is behind it and what it
//! belongs to: a record counts only in its own slot of its own segment.

use super::key::{KEY_BYTES, Key};
use super::layout::Layout;
use twox_hash::XxHash3_64;

/// Bytes of a segment's head.
pub(super) const HEAD_BYTES: usize = 72;
/// Bytes of a slot's record.
pub(super) const RECORD_BYTES: usize = 96;

/// Changes with everything that is laid out otherwise.
const MAGIC: [u8; 8] = *b"kvpages2";
/// What all versions begin with.
const FAMILY: &[u8] = b"kvpages";
/// A slot that holds a page.
const FILLED: [u8; 4] = *b"page";

/// Names what wrote pages: equal where pages can be used.
pub(crate) type Fingerprint = [u8; 32];

/// Head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) id: u64,
    pub(super) fingerprint: Fingerprint,
    pub(super) layout: Layout,
}

impl Head {
    /// Its bytes: checksum, magic, id, fingerprint, page bytes, slots.
    pub(super) fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let mut put = Put(&mut bytes[8..]);
        put.bytes(&MAGIC);
        put.u64(self.id);
        put.bytes(&self.fingerprint);
        put.u64(self.layout.page_bytes as u64);
        put.u64(u64::from(self.layout.slots));
        let checksum = XxHash3_64::oneshot(&bytes[8..]);
        bytes[..8].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Whether this is the whole head of a segment of another version, which all have a checksum of their first bytes.
    pub(super) fn is_of_another_version(bytes: &[u8; HEAD_BYTES]) -> bool {
        let mut take = Take(bytes);
        let intact = take.u64() == XxHash3_64::oneshot(&bytes[8..]);
        let magic: [u8; 8] = take.bytes();
        intact && magic.starts_with(FAMILY) && magic != MAGIC
    }

    /// The head of a file of this id and length; `None` when it is torn, damaged, another file's or of another version.
    pub(super) fn decode(bytes: &[u8; HEAD_BYTES], id: u64, file_bytes: u64) -> Option<Self> {
        let mut take = Take(bytes);
        let intact = take.u64() == XxHash3_64::oneshot(&bytes[8..]);
        let ours = take.bytes() == MAGIC && take.u64() == id;
        let fingerprint = take.bytes();
        let (page_bytes, slots) = (usize::try_from(take.u64()).ok()?, u32::try_from(take.u64()).ok()?);
        let layout = Layout { page_bytes, slots };
        (intact && ours && layout.fits(file_bytes)).then_some(Self { id, fingerprint, layout })
    }

    /// What records of a slot are checked with.
    fn seed(&self, slot: u32) -> u64 {
        let mut bytes = [0; 44];
        let mut put = Put(&mut bytes);
        put.bytes(&self.fingerprint);
        put.u64(self.id);
        put.u32(slot);
        XxHash3_64::oneshot(&bytes)
    }
}

/// What a slot holds. Times are microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) key: Key,
    /// See [`checksum`].
    pub(super) checksum: u64,
    /// When it was stored; no two pages of a store have the same.
    pub(super) stored_at: u64,
    /// When it was stored or loaded last.
    pub(super) used_at: u64,
    /// Not evicted before; 0 = not pinned.
    pub(super) pinned_until: u64,
    /// Evicted behind those of a lower one.
    pub(super) weight: u8,
}

impl Page {
    /// The record of a slot. Only its last third, which says how the page is used, changes while the page lies there: torn, it costs
    /// the page its place in the order, its pin and its weight, and never the page.
    pub(super) fn encode(&self, head: &Head, slot: u32) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let mut put = Put(&mut bytes[8..]);
        put.bytes(&FILLED);
        put.bytes(&self.key.0);
        put.u64(self.checksum);
        put.u64(self.stored_at);
        let checksum = XxHash3_64::oneshot_with_seed(head.seed(slot), &bytes[8..CONTENT_END]);
        bytes[..8].copy_from_slice(&checksum.to_le_bytes());
        let mut put = Put(&mut bytes[USE_START + 8..]);
        put.u64(self.used_at);
        put.u64(self.pinned_until);
        put.u64(u64::from(self.weight));
        let checksum = XxHash3_64::oneshot_with_seed(checksum, &bytes[USE_START + 8..USE_END]);
        bytes[USE_START..USE_START + 8].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// What a record says; `None` when the slot is free, or the record is torn, damaged or another slot's.
    pub(super) fn decode(bytes: &[u8; RECORD_BYTES], head: &Head, slot: u32) -> Option<Self> {
        let mut take = Take(bytes);
        let content = take.u64();
        if take.bytes() != FILLED
            || content != XxHash3_64::oneshot_with_seed(head.seed(slot), &bytes[8..CONTENT_END])
        {
            return None;
        }
        let (key, checksum, stored_at) = (Key(take.bytes()), take.u64(), take.u64());
        let mut take = Take(&bytes[USE_START..]);
        let intact = take.u64() == XxHash3_64::oneshot_with_seed(content, &bytes[USE_START + 8..USE_END]);
        let (used_at, pinned_until, weight) =
            if intact { (take.u64(), take.u64(), take.u64()) } else { (stored_at, 0, 0) };
        let weight = u8::try_from(weight).unwrap_or(u8::MAX);
        Some(Self { key, checksum, stored_at, used_at, pinned_until, weight })
    }
}

const CONTENT_END: usize = 8 + 4 + KEY_BYTES + 8 + 8;
const USE_START: usize = 64;
const USE_END: usize = RECORD_BYTES;

/// The checksum of a page's bytes; another key's or another model's page does not pass.
pub(crate) fn checksum(fingerprint: &Fingerprint, key: &Key, page: &[u8]) -> u64 {
    let mut bytes = [0; 32 + KEY_BYTES];
    bytes[..32].copy_from_slice(fingerprint);
    bytes[32..].copy_from_slice(&key.0);
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(&bytes), page)
}

/// Writes fields one behind the other.
struct Put<'a>(&'a mut [u8]);

impl Put<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        let (to, rest) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        to.copy_from_slice(bytes);
        self.0 = rest;
    }
    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }
    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }
}

/// Reads fields one behind the other out of a buffer of a known size.
struct Take<'a>(&'a [u8]);

impl Take<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (bytes, rest) = self.0.split_first_chunk::<N>().expect("the buffer holds all fields");
        self.0 = rest;
        *bytes
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }
}

/// For tests: a head as another version would have written it.
#[cfg(test)]
pub(super) fn of_version(head: &[u8; HEAD_BYTES], version: u8) -> [u8; HEAD_BYTES] {
    let mut bytes = *head;
    bytes[8 + FAMILY.len()] = version;
    let checksum = XxHash3_64::oneshot(&bytes[8..]);
    bytes[..8].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head { id: 7, fingerprint: [3; 32], layout: Layout { page_bytes: 5000, slots: 9 } }
    }

    fn page() -> Page {
        Page { key: Key([5; KEY_BYTES]), checksum: 1, stored_at: 2, used_at: 3, pinned_until: 4, weight: 5 }
    }

    #[test]
    fn a_head_counts_only_whole_and_in_its_own_file() {
        let head = head();
        let (bytes, file) = (head.encode(), head.layout.file_bytes());
        assert_eq!(Head::decode(&bytes, 7, file), Some(head));
        assert_eq!(Head::decode(&bytes, 8, file), None);
        assert_eq!(Head::decode(&bytes, 7, file + 1), None);
        assert_eq!(Head::decode(&bytes, 7, 4096), None);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&bytes, 7, file), None, "bit {bit}");
            assert!(!Head::is_of_another_version(&bytes), "bit {bit}");
        }
        let old = of_version(&bytes, b'1');
        assert!(Head::is_of_another_version(&old) && !Head::is_of_another_version(&bytes));
        assert_eq!(Head::decode(&old, 7, file), None);
        assert!(!Head::is_of_another_version(&[0; HEAD_BYTES]));
    }

    #[test]
    fn a_record_counts_only_in_its_own_slot_and_its_use_may_be_lost_alone() {
        let (head, page) = (head(), page());
        let bytes = page.encode(&head, 2);
        assert_eq!(Page::decode(&bytes, &head, 2), Some(page));
        assert_eq!(Page::decode(&bytes, &head, 3), None);
        assert_eq!(Page::decode(&bytes, &Head { id: 8, ..head }, 2), None);
        assert_eq!(Page::decode(&bytes, &Head { fingerprint: [4; 32], ..head }, 2), None);
        assert_eq!(Page::decode(&[0; RECORD_BYTES], &head, 2), None);
        for bit in 0..USE_END * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let expected =
                (bit >= USE_START * 8).then_some(Page { used_at: 2, pinned_until: 0, weight: 0, ..page });
            assert_eq!(Page::decode(&bytes, &head, 2), expected, "bit {bit}");
        }
    }

    #[test]
    fn a_page_passes_for_its_own_key_and_model_only() {
        let (a, b) = (Key([1; KEY_BYTES]), Key([2; KEY_BYTES]));
        let sum = checksum(&[0; 32], &a, &[7; 500]);
        assert_eq!(sum, checksum(&[0; 32], &a, &[7; 500]));
        assert_ne!(sum, checksum(&[0; 32], &b, &[7; 500]));
        assert_ne!(sum, checksum(&[1; 32], &a, &[7; 500]));
        assert_ne!(sum, checksum(&[0; 32], &a, &[7; 501]));
    }
}
