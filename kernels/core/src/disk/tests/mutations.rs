//! Files that somebody has changed: no panic, no wrong page, and the limit holds.

use super::simulated::SimulatedDisk;
use super::{PAGE, TestClock, open, read, spec, write};
use crate::disk::layout::Layout;
use crate::disk::record::{HEAD_BYTES, Head, Page, RECORD_BYTES};
use crate::disk::store::Spec;
use crate::disk::testing::key;
use crate::testing::Random;
use std::collections::BTreeMap;

type Files = BTreeMap<u64, Vec<u8>>;

const NUMBERS: std::ops::Range<u64> = 0..16;
const MUTATIONS: u64 = 10_000;

/// Two segments of this model and one of another.
fn folder(spec: &Spec) -> Files {
    let (disk, clock) = (SimulatedDisk::new(spec.limit), TestClock::new());
    let other = Spec { fingerprint: [2; 32], ..spec.clone() };
    for (spec, numbers) in [(&other, 0..3), (spec, 0..8)] {
        let store = open(&disk, spec, &clock);
        assert!(write(&store, &numbers.collect::<Vec<_>>()).iter().all(Result::is_ok));
        store.pin(&[key(1)], u64::MAX);
        store.end();
    }
    let files: Files = disk.lock().files.iter().map(|(&id, file)| (id, file.bytes.clone())).collect();
    assert_eq!(files.len(), 3);
    files
}

/// Somewhere, more often where tables are.
fn place(random: &mut Random, len: usize) -> usize {
    let near = [len, len, HEAD_BYTES, 4096 + 5 * RECORD_BYTES, 4096 + RECORD_BYTES][random.below(5)];
    random.below(near.min(len).max(1))
}

fn number(random: &mut Random) -> u64 {
    let some = random.next();
    [0, 1, 4096, u64::MAX, u64::MAX >> 1, 1 << 32, some, some >> 32, some >> 56][random.below(9)]
}

/// A head or a record whose checksums fit, with fields of any value.
fn forge(random: &mut Random, id: u64, bytes: &mut [u8]) {
    let Some((first, _)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return };
    let Some(head) = Head::decode(first, id, bytes.len() as u64) else { return };
    if random.below(3) == 0 {
        let layout = Layout {
            page_bytes: [PAGE, number(random) as usize][random.below(2)],
            slots: [head.layout.slots, number(random) as u32][random.below(2)],
        };
        bytes[..HEAD_BYTES].copy_from_slice(&Head { layout, ..head }.encode());
        return;
    }
    let slot = random.below(head.layout.slots as usize) as u32;
    let at = Layout::record_at(slot) as usize;
    let Some((record, _)) = bytes[at..].split_first_chunk::<RECORD_BYTES>() else { return };
    let from = random.below(16) as u64;
    let page = Page::decode(record, &head, slot);
    let page = page.unwrap_or(Page {
        key: key(from),
        checksum: 0,
        stored_at: 1,
        used_at: 1,
        pinned_until: 0,
        weight: 0,
    });
    let page = match random.below(4) {
        0 => Page { key: key(from), ..page },
        1 => Page { stored_at: number(random), ..page },
        2 => Page {
            used_at: number(random),
            pinned_until: number(random),
            weight: number(random) as u8,
            ..page
        },
        _ => Page { checksum: number(random), ..page },
    };
    bytes[at..at + RECORD_BYTES].copy_from_slice(&page.encode(&head, slot));
}

fn mutate(random: &mut Random, files: &mut Files) {
    let ids: Vec<u64> = files.keys().copied().collect();
    let id = ids[random.below(ids.len())];
    let other = files[&ids[random.below(ids.len())]].clone();
    let kind = random.below(11);
    match kind {
        0 => drop(files.remove(&id)),
        1 => drop(files.insert(number(random) >> 1, other.clone())),
        2 => drop(files.insert(id, other.clone())),
        _ => {}
    }
    let Some(bytes) = files.get_mut(&id).filter(|bytes| !bytes.is_empty()) else { return };
    let len = bytes.len();
    let (at, from) = (place(random, len), place(random, other.len()));
    let count = [1, 4, 8, RECORD_BYTES, 512, PAGE][random.below(6)].min(len - at);
    match kind {
        3 => bytes[at] ^= 1 << random.below(8),
        4 => bytes[at..at + count].fill([0, 0xff, random.next() as u8][random.below(3)]),
        5 => bytes[at..at + count].iter_mut().for_each(|byte| *byte = random.next() as u8),
        6 => {
            let count = count.min(other.len() - from);
            bytes[at..at + count].copy_from_slice(&other[from..from + count]);
        }
        7 => bytes.truncate(at),
        8 => bytes.resize(len + random.below(2 * len), random.next() as u8),
        9 => {
            let value = number(random).to_le_bytes();
            let at = at / 8 * 8;
            let end = len.min(at + 8);
            bytes[at..end].copy_from_slice(&value[..end - at]);
        }
        // Twice as often as the others: what passes the checksums gets further.
        _ => forge(random, id, bytes),
    }
    if random.below(4) == 0 {
        forge(random, id, bytes);
    }
}

#[test]
fn no_mutation_of_the_files_makes_a_panic_or_a_wrong_page() {
    let spec = spec(3, 5);
    let whole = folder(&spec);
    let (mut arrived, mut lost) = (0, 0);
    for seed in 0..MUTATIONS {
        let mut random = Random(seed);
        let mut files = whole.clone();
        for _ in 0..=random.below(3) {
            mutate(&mut random, &mut files);
        }
        let (disk, clock) = (SimulatedDisk::of(files, u64::MAX), TestClock::new());
        let store = open(&disk, &spec, &clock);
        assert!(disk.lock().total() <= spec.limit, "the limit, seed {seed}");
        disk.lock().limit = spec.limit;
        let numbers: Vec<u64> = NUMBERS.collect();
        let results = read(&store, &numbers);
        arrived += results.iter().filter(|result| result.is_ok()).count();
        lost += results[..8].iter().filter(|result| result.is_err()).count();
        write(&store, &numbers);
        store.upkeep();
        read(&store, &numbers);
        store.lock().index.check();
    }
    // The mutations reach what they are meant to reach, and mostly leave the rest.
    assert!(
        arrived > 5 * MUTATIONS as usize && lost > MUTATIONS as usize / 4,
        "{arrived} arrived, {lost} lost"
    );
}
