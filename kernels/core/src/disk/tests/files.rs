//! The store over the system's files: several threads, two holders, a folder that vanishes, direct I/O.

use crate::disk::testing::{TestFolder, content, key};
use crate::disk::{DiskError, DiskOptions, DiskStore};
use crate::error::Code;
use crate::testing::Random;
use std::path::Path;
use std::time::Duration;

const PAGE: usize = 8192;

pub(super) fn options(path: &Path) -> DiskOptions {
    DiskOptions {
        path: path.to_owned(),
        size_bytes: 1 << 20,
        page_bytes: PAGE,
        fingerprint: "test".to_owned(),
        ttl_seconds: 0.0,
        pin_share: 0.5,
        direct_io: false,
        int8_layout: None,
    }
}

fn folder_bytes(path: &Path) -> u64 {
    std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// Stores by a seed and loads; answers how many pages arrived.
fn load_and_store(store: &DiskStore, seed: u64, rounds: usize) -> usize {
    let (mut random, mut arrived) = (Random(seed), 0);
    // As pages of the host pool lie.
    let (page_bytes, stride) = (store.page_bytes(), store.page_bytes().next_multiple_of(4096));
    let mut memory = vec![0; 7 * stride];
    let aligned = memory.as_ptr().align_offset(4096);
    for _ in 0..rounds {
        let numbers: Vec<u64> = (0..=random.below(6)).map(|_| random.below(200) as u64).collect();
        let slots = memory[aligned..].chunks_exact_mut(stride);
        let mut pages: Vec<&mut [u8]> = slots.map(|slot| &mut slot[..page_bytes]).collect();
        for (page, &number) in pages.iter_mut().zip(&numbers) {
            page.copy_from_slice(&content(number, page_bytes));
        }
        match random.below(8) {
            0..4 => {
                let given: Vec<_> =
                    numbers.iter().zip(&pages).map(|(&number, page)| (key(number), &page[..])).collect();
                // Another thread has removed it while a third one was writing it.
                let removed = |error: DiskError| error.code == "missing";
                assert!(store.write(&given).into_iter().all(|result| result.err().is_none_or(removed)));
            }
            4 => drop(store.remove(&[key(numbers[0])])),
            _ => {
                for page in &mut pages {
                    page.fill(0);
                }
                let mut asked: Vec<_> =
                    numbers.iter().zip(&mut pages).map(|(&n, page)| (key(n), &mut page[..])).collect();
                let results = store.read(&mut asked);
                for ((number, page), result) in numbers.iter().zip(&pages).zip(results) {
                    match result {
                        Ok(()) => {
                            arrived += 1;
                            assert!(*page == content(*number, page_bytes), "page {number} is wrong");
                        }
                        Err(error) => assert_eq!(error.code, "missing", "{error}"),
                    }
                }
            }
        }
    }
    arrived
}

#[test]
fn threads_share_a_store_and_every_page_is_right_and_there_after_a_restart() {
    for (direct_io, page_bytes) in [(false, PAGE), (true, PAGE), (true, PAGE - 1000)] {
        let test = TestFolder::new("threads");
        let options = DiskOptions { page_bytes, direct_io, ..options(&test.path) };
        let store = DiskStore::open(&options).unwrap();
        let arrived: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|seed| {
                    scope.spawn({
                        let store = &store;
                        move || load_and_store(store, seed, 300)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(arrived > 100, "{arrived} pages arrived");
        let before = store.list();
        assert!(store.close(Duration::MAX));
        assert!(folder_bytes(&test.path) <= options.size_bytes);
        let store = DiskStore::open(&options).unwrap();
        assert_eq!(store.list(), before, "the pages, their order and their times");
        let mut page = vec![0; page_bytes];
        for stored in before {
            assert_eq!(store.read(&mut [(stored.key, &mut page)]), [Ok(())]);
        }
    }
}

#[test]
fn a_folder_has_one_process_until_it_is_closed() {
    let test = TestFolder::new("shared");
    let store = DiskStore::open(&options(&test.path)).unwrap();
    let failure = DiskStore::open(&options(&test.path)).unwrap_err();
    assert_eq!(failure.code, Code::BadConfig);
    assert!(failure.message.contains("is in use by another process"), "{failure}");
    assert!(store.close(Duration::MAX) && store.close(Duration::ZERO));
    let again = DiskStore::open(&options(&test.path)).unwrap();
    assert!(store.write(&[(key(1), &content(1, PAGE))]).iter().all(Result::is_err));
    drop(again);
}

#[test]
fn a_folder_that_vanishes_costs_pages_and_says_so() {
    let test = TestFolder::new("vanished");
    let options = options(&test.path.join("folder"));
    let store = DiskStore::open(&options).unwrap();
    let page = content(1, PAGE);
    assert_eq!(store.write(&[(key(1), &page)]), [Ok(())]);
    std::fs::remove_dir_all(&options.path).unwrap();
    store.shared.store.upkeep();
    assert_eq!(store.has(&[key(1)]), [false]);
    let refused = store.write(&[(key(1), &page)]).remove(0).unwrap_err();
    assert_eq!(refused.code, "paused");
    assert!(refused.message.contains("were deleted while it was in use"), "{refused}");
    let trouble = store.stats().trouble.unwrap();
    assert_eq!(trouble.error.code, "ENOENT");
    assert!(store.close(Duration::MAX));
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let test = TestFolder::new("options");
    let path = test.path.join("never-made");
    let options = options(&path);
    for (wrong, message) in [
        (DiskOptions { size_bytes: 20_479, ..options.clone() }, "the disk tier's size is 20479 bytes"),
        (DiskOptions { size_bytes: 0, ..options.clone() }, "the disk tier's size is 0 bytes"),
        (DiskOptions { ttl_seconds: -1.0, ..options.clone() }, "the disk tier's TTL is -1 seconds"),
        (DiskOptions { ttl_seconds: f64::NAN, ..options.clone() }, "the disk tier's TTL is NaN seconds"),
        (DiskOptions { pin_share: 1.5, ..options.clone() }, "the disk tier's share for pins is 1.5"),
        (DiskOptions { page_bytes: 0, ..options.clone() }, "pageBytes is 0, allowed is 1 to"),
    ] {
        let failure = DiskStore::open(&wrong).unwrap_err();
        assert!(failure.message.starts_with(message), "{failure}");
    }
    assert!(!path.exists(), "what is refused makes nothing");
    let least = DiskOptions { size_bytes: 20_480, ..options };
    let store = DiskStore::open(&least).unwrap();
    assert_eq!(store.write(&[(key(1), &content(1, PAGE))]), [Ok(())]);
    let failure = DiskStore::open(&DiskOptions { path: "/proc/nothing".into(), ..least }).unwrap_err();
    assert!(failure.message.starts_with("/proc/nothing cannot be made for the disk tier: "), "{failure}");
}
