//! Pages that are kept as int8 (`packing`): packed on their way in, unpacked on their way out, by the threads that read and write.

use super::aligned::Aligned;
use super::error::DiskError;
use super::key::{KEY_WORDS, Key};
use super::store::Store;
use crate::packing::{Packing, Unpackable};

/// As [`Store::write`]. A page that cannot be packed has failed as `unpackable`.
pub(super) fn write(store: &Store, packing: &Packing, pages: &[(Key, &[u8])]) -> Vec<Result<(), DiskError>> {
    let mut packed = Aligned::new(pages.len() * packing.packed_bytes());
    let packed = packed.bytes().chunks_exact_mut(packing.packed_bytes());
    let (mut results, mut writes) = (Vec::with_capacity(pages.len()), Vec::with_capacity(pages.len()));
    for ((key, page), to) in pages.iter().zip(packed) {
        let result = packing.pack(group_of(key), page, to);
        results.push(result.map_err(|why| unpackable(key, why)));
        if result.is_ok() {
            writes.push((*key, &*to));
        }
    }
    let mut written = store.write(&writes).into_iter();
    for result in results.iter_mut().filter(|result| result.is_ok()) {
        *result = written.next().expect("a result for each page");
    }
    results
}

/// As [`Store::read`].
pub(super) fn read(
    store: &Store,
    packing: &Packing,
    pages: &mut [(Key, &mut [u8])],
) -> Vec<Result<(), DiskError>> {
    let mut packed = Aligned::new(pages.len() * packing.packed_bytes());
    let packed = packed.bytes().chunks_exact_mut(packing.packed_bytes());
    let mut reads: Vec<(Key, &mut [u8])> = pages.iter().map(|(key, _)| *key).zip(packed).collect();
    let mut results = store.read(&mut reads);
    for (result, ((key, from), (_, to))) in results.iter_mut().zip(reads.iter().zip(pages)) {
        if result.is_ok() {
            *result = packing.unpack(group_of(key), from, to).map_err(|why| unpackable(key, why));
        }
    }
    results
}

fn group_of(key: &Key) -> usize {
    usize::try_from(key.words()[KEY_WORDS - 1]).unwrap_or(usize::MAX)
}

fn unpackable(key: &Key, why: Unpackable) -> DiskError {
    DiskError::new("unpackable", format!("{key} cannot be kept as int8: {why}"))
}
