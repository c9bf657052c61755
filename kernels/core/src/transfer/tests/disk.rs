//! Flights between host pages and a disk store.

use super::{Lab, PAGE, options};
use crate::disk::testing::TestFolder;
use crate::disk::{DiskOptions, DiskStore, Key};
use crate::error::Result;
use crate::transfer::TransferOptions;
use std::sync::Arc;
use std::time::Duration;

/// A store of a folder of its own, for pages of the lab.
fn disk(name: &str, page_bytes: usize) -> (TestFolder, Arc<DiskStore>) {
    let folder = TestFolder::new(name);
    let options = DiskOptions {
        path: folder.path.clone(),
        size_bytes: 1 << 20,
        page_bytes,
        fingerprint: "lab".to_owned(),
        ttl_seconds: 0.0,
        pin_share: 0.5,
        direct_io: false,
        int8_layout: None,
    };
    let store = Arc::new(DiskStore::open(&options).unwrap());
    (folder, store)
}

/// Words of the keys of these numbers.
fn key_words(numbers: &[i32]) -> Vec<i32> {
    numbers.iter().flat_map(|&number| [number, 0, 0, 0, 0, 0, 0, 0, 1]).collect()
}

#[test]
fn pages_go_to_a_disk_store_and_come_back_by_key() {
    let (_folder, disk) = disk("flights", PAGE);
    let mut lab = Lab::new(8, &options(16));
    for block in 1..=5 {
        lab.fill(block, block as u8);
    }
    lab.transfers.store(1, &[1, 2, 3, 4, 5], &[0, 1, 2, 3, 4], -1).unwrap();
    assert!(lab.next().ok());
    lab.transfers.write_disk(2, &disk, &key_words(&[1, 2, 3, 4, 5]), &[0, 1, 2, 3, 4]).unwrap();
    let result = lab.next();
    assert!(result.ok() && result.bytes == 5 * PAGE as u64, "{result:?}");
    lab.transfers.read_disk(3, &disk, &key_words(&[4, 9, 1]), &[10, 11, 12]).unwrap();
    let result = lab.next();
    assert_eq!((result.failed, result.bytes), (vec![1], 2 * PAGE as u64));
    assert_eq!(result.error.unwrap().code, "missing");
    assert_eq!((lab.page(10), lab.page(12)), (4, 1));
    // What has arrived is sealed, what has not is empty.
    lab.transfers.load(4, &[10, 11, 12], &[6, 7, 1], -1).unwrap();
    let result = lab.next();
    assert_eq!((result.failed, result.error.unwrap().code.as_ref()), (vec![1], "empty"));
    assert_eq!((lab.block(6), lab.block(1)), (4, 1));
    let stats = lab.transfers.stats();
    assert_eq!(stats.kinds.map(|kind| kind.bytes / PAGE as u64), [2, 5, 2, 5]);
    assert_eq!((stats.copied_by_transfer_threads, stats.copied_by_other_threads), (14 * PAGE as u64, 0));
    assert!(lab.transfers.stop(Duration::MAX) && disk.close(Duration::MAX));
}

#[test]
fn a_page_that_was_changed_on_the_host_never_reaches_a_disk_store() {
    let (_folder, disk) = disk("changed", PAGE);
    let mut lab = Lab::new(4, &options(4));
    lab.transfers.store(1, &[1, 2], &[0, 1], -1).unwrap();
    assert!(lab.next().ok());
    lab.transfers.corrupt_page(1).unwrap();
    lab.transfers.write_disk(2, &disk, &key_words(&[1, 2, 3]), &[0, 1, 3]).unwrap();
    let result = lab.next();
    assert_eq!((result.failed, result.error.unwrap().code.as_ref()), (vec![1, 2], "checksum"));
    let keys = Key::all_of(&key_words(&[1, 2, 3])).unwrap();
    assert_eq!(disk.has(&keys), [true, false, false]);
    assert_eq!(lab.transfers.stats().wrong_checksums, 1);
}

/// Lets a manual flight go; answers what has failed.
fn run(lab: &mut Lab, id: i64, failed: &[i32]) -> Vec<u32> {
    assert!(lab.transfers.run(id, Some(failed)).unwrap());
    lab.next().failed
}

#[test]
fn flights_of_a_disk_store_can_be_cancelled_and_made_to_fail() {
    let (_folder, disk) = disk("manual", PAGE);
    let mut lab = Lab::new(4, &TransferOptions { manual: true, ..options(4) });
    lab.transfers.store(1, &[1, 2], &[0, 1], -1).unwrap();
    assert!(run(&mut lab, 1, &[]).is_empty());
    lab.transfers.write_disk(2, &disk, &key_words(&[1]), &[0]).unwrap();
    assert!(lab.transfers.cancel(2));
    assert!(lab.next().cancelled);
    let keys = Key::all_of(&key_words(&[1, 2])).unwrap();
    assert_eq!(disk.has(&keys), [false, false]);
    lab.transfers.write_disk(3, &disk, &key_words(&[1, 2]), &[0, 1]).unwrap();
    assert_eq!(run(&mut lab, 3, &[1]), [1]);
    assert_eq!(disk.has(&keys), [true, false]);
    lab.transfers.read_disk(4, &disk, &key_words(&[1, 1]), &[2, 3]).unwrap();
    assert_eq!(run(&mut lab, 4, &[0]), [0]);
}

#[test]
fn what_does_not_fit_a_disk_store_is_refused_by_name() {
    let lab = Lab::new(4, &options(3));
    let (_a, same) = disk("fits", PAGE);
    let (_b, other) = disk("other", PAGE + 1);
    let refused = |result: Result<()>| result.unwrap_err().message;
    let transfers = &lab.transfers;
    for (message, expected) in [
        (
            refused(transfers.read_disk(5, &other, &key_words(&[1]), &[0])),
            "flight 5: the disk store has pages of 1025",
        ),
        (
            refused(transfers.read_disk(5, &same, &key_words(&[1]), &[3])),
            "flight 5: host page 3, allowed is 0 to 2",
        ),
        (
            refused(transfers.read_disk(5, &same, &key_words(&[1]), &[0, 1])),
            "flight 5: 2 host pages and 1 places",
        ),
        (refused(transfers.write_disk(5, &same, &[1, 2], &[0])), "flight 5: 2 words are no whole keys"),
    ] {
        assert!(message.starts_with(expected), "{message}\n  lacks: {expected}");
    }
    assert_eq!(transfers.stats().pending, 0);
}
