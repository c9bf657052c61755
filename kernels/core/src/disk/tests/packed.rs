//! Pages that are kept as int8.

use super::files::options;
use crate::disk::testing::{TestFolder, key};
use crate::disk::{DiskOptions, DiskStore, Key};
use crate::testing::Random;
use std::time::Duration;

const LAYOUT: &str = "cuda/f16 16 Full:0:2x2x64";
const PAGE: usize = 2 * 2 * 2 * 16 * 64 * 2;

/// Numbers of -127 to 127 of which each vector has the largest: they come back as they are.
fn exact(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let number = |i: usize, random: &mut Random| {
        if i.is_multiple_of(64) { 127 } else { random.below(255) as i32 - 127 }
    };
    (0..PAGE / 2).flat_map(|i| half::f16::from_f32(number(i, &mut random) as f32).to_le_bytes()).collect()
}

/// The key of this number, of the first group of layers.
fn first_group(number: u64) -> Key {
    let mut key = key(number);
    key.0[32..].fill(0);
    key
}

#[test]
fn pages_kept_as_int8_take_half_the_room_and_come_back() {
    for direct_io in [false, true] {
        let test = TestFolder::new("packed");
        let options = DiskOptions {
            page_bytes: PAGE,
            int8_layout: Some(LAYOUT.to_owned()),
            direct_io,
            ..options(&test.path)
        };
        let store = DiskStore::open(&options).unwrap();
        let pages: Vec<Vec<u8>> = (0..40).map(exact).collect();
        let mut odd = exact(99);
        odd[3] = 0x7c;
        let other_group = key(7);
        let mut writes: Vec<_> = (0..).map(first_group).zip(pages.iter().map(|page| &page[..])).collect();
        writes.insert(1, (first_group(99), &odd));
        writes.insert(3, (other_group, &pages[0]));
        let results = store.write(&writes);
        for (i, result) in results.iter().enumerate() {
            let code = result.as_ref().map_or_else(|error| &*error.code, |()| "ok");
            assert_eq!(code, if [1, 3].contains(&i) { "unpackable" } else { "ok" }, "{i}");
        }
        // More than there would be room for as they are.
        assert_eq!((store.stats().pages, store.has(&[first_group(99), other_group])), (40, vec![false; 2]));
        assert!(store.close(Duration::MAX));
        let store = DiskStore::open(&options).unwrap();
        let mut memory = vec![0; 41 * PAGE];
        let mut reads: Vec<_> = (0..).map(first_group).zip(memory.chunks_exact_mut(PAGE)).collect();
        let results = store.read(&mut reads);
        assert!(
            results[..40].iter().all(Result::is_ok) && results[40].as_ref().unwrap_err().code == "missing"
        );
        assert!(memory.chunks_exact(PAGE).zip(&pages).all(|(read, page)| read == page));
        assert!(store.close(Duration::MAX));
        // The same pages as they are, are another thing.
        let plain = DiskStore::open(&DiskOptions { int8_layout: None, ..options }).unwrap();
        assert_eq!(plain.has(&[first_group(0)]), [false]);
        assert!(plain.stats().stale_bytes > 0 && plain.close(Duration::MAX));
    }
}

#[test]
fn pages_of_other_numbers_than_16_bits_are_refused_before_anything_is_made() {
    let test = TestFolder::new("unpackable");
    let path = test.path.join("never-made");
    let int8_layout = Some("cpu/q8 16 Full:0:1x1x64".to_owned());
    let failure = DiskStore::open(&DiskOptions { int8_layout, ..options(&path) }).unwrap_err();
    assert!(failure.message.ends_with("this one's is \"cpu/q8\""), "{failure}");
    assert!(!path.exists());
}
